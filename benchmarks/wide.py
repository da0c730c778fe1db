"""Do vectors as wide as today's largest models give them keep the speed of a search, and what does a build take?

Documents lie in 200 clouds whose dimensions hold less and less, as those of text embeddings do; queries lie near
documents. An index by default and one of a plan (pq192, and 100 candidates compared at float16) are built, and asked
one query at a time on one thread, as is faiss's exact scan of float32. Recall is the share of what the scan finds.
Prints a line each, and one JSON line last, and writes it to benchmarks/results.

    python benchmarks/wide.py --sizes 4096x20000,8192x10000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from nestvec.index import Index
from nestvec.plan import FirstStage, Plan, SecondStage
from nestvec.threads import faiss_threads
from nestvec.vectors import normalize
from provenance import describe_run, write_result

Float32s = NDArray[np.float32]
CLOUDS, QUERIES, K, ROUNDS = 200, 500, 10, 3
NOISE = 0.3  # of a query, beside the spread of its document's cloud


def main() -> None:
    """Build, ask, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="4096x20000,8192x10000", help="Dimensions x documents, commas between.")
    arguments = parser.parse_args()
    rows = [measure(*map(int, size.split("x"))) for size in arguments.sizes.split(",")]
    write_result("wide", {**describe_run("faiss-cpu"), "rows": rows})


def measure(full_dim: int, count: int) -> dict[str, Any]:
    """What indexes of so many vectors take, and the exact scan."""
    documents, queries = made(full_dim, count)
    plan = Plan(
        model="vectors",
        full_dim=full_dim,
        first_stage=FirstStage(dim=full_dim, precision="pq192"),
        second_stage=SecondStage(precision="float16", shortlist=100),
    )
    scan = faiss.IndexFlatIP(full_dim)
    scan.add(documents)
    exact = scan.search(queries, K)[1]
    row: dict[str, Any] = {"dim": full_dim, "documents": count, "indexes": {}}
    with tempfile.TemporaryDirectory() as folder, faiss_threads(1):
        asked: dict[str, Callable[[Float32s], Any]] = {"exact scan": lambda query: scan.search(query, K)}
        for name, given in (("default", None), ("plan", plan)):
            started = time.perf_counter()
            index = Index.build(Path(folder) / name, vectors=documents, plan=given)
            seconds = time.perf_counter() - started
            stats, settings = index.stats(), index.search_with(threads=1)
            ids = index.search(queries, K).ids
            shares = [len({*map(int, one)} & {*other.tolist()}) / K for one, other in zip(ids, exact, strict=True)]
            row["indexes"][name] = {
                "codes": index.codes.precision,
                "build_s": round(seconds, 1),
                "recall": round(float(np.mean(shares)), 4),
                "resident_bytes_per_vector": stats.resident_bytes_per_vector,
            }
            asked[name] = partial(index.search, k=K, settings=settings)
        times: dict[str, list[float]] = {name: [] for name in asked}
        for _ in range(ROUNDS):
            for name, ask in asked.items():
                for query in queries[:100]:
                    started = time.perf_counter()
                    ask(query[None])
                    times[name].append(1000 * (time.perf_counter() - started))
    for name, spent in times.items():
        row["indexes"].setdefault(name, {})["median_ms"] = round(float(np.median(spent)), 3)
        print(f"{full_dim:6d} x {count:<8d}{name:12s}{row['indexes'][name]}", flush=True)
    return row


def made(full_dim: int, count: int) -> tuple[Float32s, Float32s]:
    """Documents, [count, full_dim], and queries."""
    generator = np.random.default_rng(0)
    spread = 1 / np.sqrt(np.arange(1, full_dim + 1, dtype=np.float32))

    def draw(n: int) -> Float32s:
        found: Float32s = generator.standard_normal((n, full_dim), dtype=np.float32) * spread
        return found

    clouds = draw(CLOUDS)
    documents = clouds[generator.integers(CLOUDS, size=count)] + draw(count)
    queries = documents[generator.permutation(count)[:QUERIES]] + NOISE * draw(QUERIES)
    return normalize(documents), normalize(queries)


if __name__ == "__main__":
    main()
