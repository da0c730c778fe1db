"""How does the time of a search grow with the corpus, with IVF lists and without?

Builds indexes by one plan (pq with a byte for 12 dimensions, float16 behind it) of growing numbers of MiniLM vectors,
made as `search.py` makes them, tunes each for 99% of the exact best ten on queries, and times one query at a time on
one thread. `nestvec.planning.growth` has these curves: the time that does not grow with a corpus, and the time with
lists as a share of that without, which is drawn from the others by a line where it is not measured. Prints a table and
one JSON line last, and writes it to benchmarks/results.

    python benchmarks/growth.py --data ../shared/data --sizes 58000,250000,1000000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.index import CodeSettings, Index, default_lists
from nestvec.plan import FirstStage, Plan, SecondStage
from nestvec.threads import faiss_threads
from provenance import describe_run, write_result
from search import grown, read_vectors

TUNED, TIMED, ROUNDS = 1000, 300, 5


def main() -> None:
    """Build, tune, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    parser.add_argument("--sizes", default="58000,250000,1000000", help="Documents, rising.")
    parser.add_argument(
        "--longest-scan", type=int, default=1_000_000, help="Documents that are searched without lists."
    )
    arguments = parser.parse_args()
    real, queries = read_vectors(arguments.data)
    asked, timed = queries[:TUNED], queries[TUNED : TUNED + TIMED]
    full_dim = real.shape[1]
    precision = f"pq{full_dim // 12}"
    plan = Plan(
        model="vectors",
        full_dim=full_dim,
        first_stage=FirstStage(dim=full_dim, precision=precision),
        second_stage=SecondStage(precision="float16", shortlist=100),
    )
    rows: list[dict[str, Any]] = []
    for size in map(int, arguments.sizes.split(",")):
        vectors = np.concatenate(list(grown(real, size)))
        ways: dict[str, CodeSettings | None] = {}
        if size <= arguments.longest_scan:
            ways["scan"] = CodeSettings(full_dim, precision)
        if default_lists(precision, size) is not None:
            ways["lists"] = None
        for way, codes in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                index = Index.build(Path(folder) / "i", vectors=vectors, plan=plan, codes=codes, recall=None)
                built = time.perf_counter() - started
                tuned = index.tune(recall=0.99, queries=asked)
                spent = []
                with faiss_threads(1):
                    for turn in range(ROUNDS):
                        for query in timed[turn::ROUNDS]:
                            index.search(query[None])  # what it reads is in memory then
                            before = time.perf_counter()
                            index.search(query[None])
                            spent.append(1000 * (time.perf_counter() - before))
                row = {
                    "documents": size,
                    "way": way,
                    "lists": index.codes.lists,
                    "median_ms": round(float(np.median(spent)), 4),
                    "recall": tuned.best.recall,
                    "settings": tuned.settings.kept(),
                    "build_seconds": round(built, 1),
                }
                index.close()
            rows.append(row)
            print({name: row[name] for name in ("documents", "way", "lists", "median_ms", "recall")}, flush=True)
    scans: list[tuple[int, float]] = [(row["documents"], row["median_ms"]) for row in rows if row["way"] == "scan"]
    slope, fixed = np.polyfit(*zip(*scans, strict=True), 1) if len(scans) > 1 else (float("nan"), float("nan"))
    shares = {
        row["documents"]: round(row["median_ms"] / float(fixed + slope * row["documents"]), 4)
        for row in rows
        if row["way"] == "lists"
    }
    print(f"fixed: {fixed:.3f} ms, {1e6 * slope:.3f} ms for a million; with lists as a share of a scan: {shares}")
    write_result(
        "growth",
        {
            **describe_run("faiss-cpu", "numkong"),
            "precision": precision,
            "rows": rows,
            "fixed_ms": round(float(fixed), 4),
            "scan_ms_of_a_million": round(1e6 * float(slope), 4),
            "lists_share": shares,
        },
    )


if __name__ == "__main__":
    main()
