"""Does one open index answer many threads while another process writes and compacts it?

Threads search one index in every way (vectors, filters, BM25, copies left out, like a document) while a process
replaces, deletes and adds documents and compacts now and then. Every text says which version of its document it is, and
from that follow its vector and metadata: each hit is compared with what it must be. Prints counts and one JSON line
last.

    python benchmarks/index_soak.py --threads 16 --seconds 60
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.index import CodeSettings, Hit, Index
from nestvec.vectors import normalize

Float32s = NDArray[np.float32]
DIM, CHANGING, LASTING = 32, 300, 2100
TOLERANCE = 3e-3  # what float16 leaves of a cosine


def vector_of(name: str, version: int) -> Float32s:
    """The vector of a version of a document, [DIM]."""
    place = int(name[1:]) + (0 if name[0] == "c" else CHANGING)
    base = np.random.default_rng(place).normal(size=DIM)
    other = np.random.default_rng((place, version)).normal(size=DIM)
    found: Float32s = normalize((base + 0.5 * other).astype(np.float32))
    return found


def text_of(name: str, version: int) -> str:
    """A text that says which document it is of, in which version."""
    return f"{name} version {version} word{version % 7}"


def documents(names: list[str], version: int) -> dict[str, Any]:
    """What `Index.upsert` takes."""
    return {
        "vectors": np.stack([vector_of(name, version) for name in names]),
        "ids": names,
        "texts": [text_of(name, version) for name in names],
        "metadata": [{"version": version, "even": version % 2 == 0} for _ in names],
    }


def build(folder: Path, lists: int | None) -> None:
    """Make the index."""
    names = [f"c{place}" for place in range(CHANGING)] + [f"l{place}" for place in range(LASTING)]
    codes = None if lists is None else CodeSettings(DIM, "pq4", lists)
    Index.build(folder, **documents(names, 0), codes=codes, recall=None).close()


def write(folder: Path, changes: int | None) -> int:
    """Change the index so many times, or until standard input ends; return how often."""
    stopped = threading.Event()
    if changes is None:
        threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
    generator, done = np.random.default_rng(0), 0
    with Index.open(folder) as index:
        while not stopped.is_set() and (changes is None or done < changes):
            done += 1
            names = [f"c{place}" for place in generator.choice(CHANGING, 20, replace=False)]
            index.upsert(**documents(names, done))
            index.delete(names[:5])
            if done % 25 == 0:
                index.compact()
            index.upsert(**documents(names[:5], done))
            if done == 1:
                print("writing", flush=True)
    return done


class Reader:
    """One thread's searches, and what was wrong with their answers."""

    def __init__(self, index: Index, seed: int) -> None:
        """Begin."""
        self.index, self.generator = index, np.random.default_rng(seed)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def encode_queries(self, texts: list[str]) -> Float32s:
        """Vectors of texts, as an encoder gives them."""
        return np.stack([vector_of(text.split()[0], int(text.split()[2])) for text in texts])

    def read_once(self) -> None:
        """Search once, in some way, and check the answer."""
        kind = str(self.generator.choice(["plain", "batch", "filter", "hybrid", "distinct", "like", "get"]))
        self.counts[kind] += 1
        name = f"l{self.generator.integers(LASTING)}"
        query = vector_of(name, 0)
        condition = None
        if kind == "get":
            known = self.index.get([name])[name]
            self.expect(known.text == text_of(name, 0), f"{name} is {known}")
            return
        if kind == "like":
            hits = self.index.search(like=name, k=5).hits[0]
            self.expect(name not in [hit.id for hit in hits], f"{name} is like itself")
        elif kind == "batch":
            names = [f"l{place}" for place in self.generator.integers(LASTING, size=8)]
            found = self.index.search(np.stack([vector_of(one, 0) for one in names]), k=10)
            for one, line in zip(names, found.hits, strict=True):
                self.expect(line[0].id == one, f"{one} is not the nearest to itself: {line[0]}")
                self.check(vector_of(one, 0), line)
            return
        elif kind == "hybrid":
            hits = self.index.explain(text_of(name, 0), 10, hybrid=True).hits
            self.expect(hits[0].id == name, f"{name} is not found by its words: {hits[0]}")
        elif kind == "distinct":
            hits = self.index.search(query, k=10, distinct=True).hits[0]
            self.expect(len({hit.text for hit in hits}) == len(hits), "the same text twice")
        else:
            condition = "even = true" if kind == "filter" else None
            hits = self.index.search(query, k=10, filter=condition).hits[0]
            self.expect(hits[0].id == name, f"{name} is not the nearest to itself: {hits[0]}")
        if condition is not None:
            self.expect(all(hit.metadata is None or hit.metadata["even"] for hit in hits), "a filter was not met")
        self.check(query, hits)

    def check(self, query: Float32s, hits: list[Hit]) -> None:
        """Compare hits with what their texts say they are."""
        self.expect(len({hit.id for hit in hits}) == len(hits), "a document twice")
        scores = [hit.score for hit in hits]
        self.expect(scores == sorted(scores, reverse=True), f"scores do not fall: {scores}")
        for hit in hits:
            if hit.text is None:  # replaced since it was found
                continue
            name, _, version, *_ = hit.text.split()
            self.expect(name == hit.id and hit.metadata is not None, f"{hit.id} has the text of another")
            expected = float(query @ vector_of(hit.id, int(version)))
            cosine = hit.details.cosine
            if cosine is not None:
                self.expect(abs(cosine - expected) < TOLERANCE, f"{hit} has a cosine of {expected:.4f}")

    def expect(self, right: bool, problem: str) -> None:
        """Note a problem."""
        if not right:
            self.problems.append(problem)


def read(folder: Path, threads: int, seconds: float | None, searches: int | None) -> dict[str, Any]:
    """Search with many threads on one index, for so long or so many times each."""
    with Index.open(folder) as index:
        readers = [Reader(index, seed) for seed in range(threads)]
        index.encoder = readers[0]
        ends = None if seconds is None else time.monotonic() + seconds

        def work(reader: Reader) -> None:
            done = 0
            while (searches is None or done < searches) and (ends is None or time.monotonic() < ends):
                done += 1
                try:
                    reader.read_once()
                except Exception as error:  # noqa: BLE001  # whatever it is, it is counted
                    reader.problems.append(f"{type(error).__name__}: {error}")

        running = [threading.Thread(target=work, args=(reader,)) for reader in readers]
        for one in running:
            one.start()
        for one in running:
            one.join()
        left = index.verify()
    counts: Counter[str] = sum((reader.counts for reader in readers), Counter())
    return {"searches": dict(counts), "problems": [*left, *(one for reader in readers for one in reader.problems)]}


def soak(
    folder: Path,
    *,
    threads: int,
    lists: int | None = None,
    seconds: float | None = None,
    searches: int | None = None,
) -> dict[str, Any]:
    """Build, write in another process, read in threads.

    Returns:
        Counts of searches and changes, and all problems.
    """
    build(folder, lists)
    writer = subprocess.Popen(
        [sys.executable, __file__, "--write", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    try:
        found = read(folder, threads, seconds, searches)
    finally:
        written, _ = writer.communicate("")
    return {**found, "changes": int(written or 0)}


def main() -> None:
    """Run it, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--write", type=Path, help="Be the process that changes this index.")
    arguments = parser.parse_args()
    if arguments.write is not None:
        print(write(arguments.write, None))
        return
    from provenance import describe_run, write_result

    runs = []
    for lists in (None, 16):
        with tempfile.TemporaryDirectory() as folder:
            found = soak(Path(folder) / "index", threads=arguments.threads, lists=lists, seconds=arguments.seconds)
        runs.append({"lists": lists, **found})
        print(f"lists {lists}:", json.dumps(found["searches"]), f"changes {found['changes']:,}", end=", ")
        print(f"problems {len(found['problems']):,}", *found["problems"][:20], sep="\n  ")
    write_result(
        "index-soak",
        {
            **describe_run("faiss-cpu", "numkong"),
            "threads": arguments.threads,
            "seconds": arguments.seconds,
            "runs": runs,
        },
    )


if __name__ == "__main__":
    main()
