"""What does an index of ten million vectors take to build, open and search on one machine?

Documents are made from real ones as in `search.py`, block by block, so that nothing holds them all. One process builds
the index and tunes it for 99% of the exact best ten; another opens and searches it. Memory is what each process has
allocated itself (RssAnon), sampled; files that are mapped are the kernel's to keep or to drop. Prints a table and one
JSON line last, and writes it to benchmarks/results.

    python benchmarks/search_large.py --data ../shared/data --documents 10000000 --work /tmp
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.index import Batch, Index
from provenance import describe_run, write_result
from search import grown, read_vectors
from search_tools import K

TUNING, TIMED = 1000, 500
MIB = 1 << 20


@contextmanager
def measured(facts: dict[str, Any], name: str) -> Iterator[None]:
    """Note seconds, and memory at its highest beyond that at the start."""

    def allocated() -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(re.search(r"RssAnon:\s+(\d+)", status)[1])  # type: ignore[index]

    start, started, ended = allocated(), time.perf_counter(), threading.Event()
    highest = [start]

    def watch() -> None:
        while not ended.wait(0.05):
            highest[0] = max(highest[0], allocated())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        facts[f"{name}_seconds"] = round(time.perf_counter() - started, 3)
        ended.set()
        watcher.join()
        facts[f"{name}_memory_mib"] = round((max(highest[0], allocated()) - start) / MIB)


def build(work: Path, count: int) -> dict[str, Any]:
    """Build and tune."""
    real, queries = np.load(work / "real.npy"), np.load(work / "queries.npy")
    facts: dict[str, Any] = {}

    def batches() -> Iterator[Batch]:
        first = 0
        for block in grown(real, count):
            yield Batch(block, list(map(str, range(first, first + len(block)))))
            first += len(block)

    with measured(facts, "build"):
        index = Index.build(work / "index", vectors=batches(), recall=None)
    with measured(facts, "tune"):
        tuned = index.tune(recall=0.99, queries=queries[:TUNING])
    stats = index.stats()
    return {
        **facts,
        "tuned": tuned.best._asdict(),
        "codes": index.codes._asdict(),
        "resident_bytes_per_vector": stats.resident_bytes_per_vector,
        "disk_bytes_per_vector": stats.disk_bytes_per_vector,
    }


def search(work: Path) -> dict[str, Any]:
    """Open, search one by one, and compare with the exact scan."""
    queries = np.load(work / "queries.npy")[TUNING : TUNING + TIMED]
    facts: dict[str, Any] = {}
    with measured(facts, "open"):
        index = Index.open(work / "index")
    exact = index.exact(queries, K)
    hits = index.search(queries, K)
    index.search(queries[:1], K)
    spent = []
    for query in queries:
        started = time.perf_counter()
        index.search(query, K)
        spent.append(1000 * (time.perf_counter() - started))
    right = hits.scores >= exact.scores[:, -1:] - 1e-6
    facts["recall"] = round(float(right.mean()), 4)
    facts["p50_ms"], facts["p99_ms"] = (round(float(value), 3) for value in np.quantile(spent, [0.5, 0.99]))
    return facts


def main() -> None:
    """Build, search, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    parser.add_argument("--documents", type=int, default=10_000_000)
    parser.add_argument(
        "--work", type=Path, help="Folder for the index: 800 bytes a document, and as many while it is built."
    )
    arguments = parser.parse_args()
    processes = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        work = Path(folder)
        real, queries = read_vectors(arguments.data)
        np.save(work / "real.npy", real)
        np.save(work / "queries.npy", queries)
        facts: dict[str, Any] = {}
        for job, given in ((build, (work, arguments.documents)), (search, (work,))):
            with processes.Pool(1) as pool:
                facts |= pool.apply(job, given)
    for name, value in facts.items():
        print(f"{name:28s} {value}")
    write_result(
        f"search-{arguments.documents}",
        {**describe_run("faiss-cpu", "numkong"), "documents": arguments.documents, "queries": TIMED, **facts},
    )


if __name__ == "__main__":
    main()
