"""Does a tuned search find on real queries what it was asked to find?

Indexes the benchmarks of three sets as `nestvec index build` does, tuned for 95% and 99% of the exact best ten: on
their own documents, as where there are no queries yet, and on half of the queries. Measures recall on the other half.
Prints a table and one JSON line last, and writes it to benchmarks/results.

    python benchmarks/tuned_recall.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.data import read_benchmark
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base
from nestvec.index import Index, tune
from provenance import describe_run, write_result
from search import TIED, K
from sizes import SETS

TARGETS = (0.95, 0.99)


def main() -> None:
    """Index, tune, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    parser.add_argument("--bases", default="minilm,static", help="What encodes, with commas between.")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(
        f"{'base':10s}{'set':10s}{'documents':>10s}{'tuned on':>12s}{'asked':>7s}{'recall':>8s}"
        f"{'shortlist':>11s}{'RAM B':>7s}"
    )
    for base in arguments.bases.split(","):
        encoder = CachedEncoder(SentenceTransformerEncoder(load_base(base)), about=base)
        for name in SETS:
            benchmark = read_benchmark(arguments.data / name / "benchmark")
            documents = encoder.encode_documents(list(benchmark.corpus.values()))
            queries = encoder.encode_queries([benchmark.queries[query] for query in sorted(benchmark.qrels)])
            queries = queries[np.random.default_rng(0).permutation(len(queries))]
            ours, held_out = queries[: len(queries) // 2], queries[len(queries) // 2 :][:1000]
            with tempfile.TemporaryDirectory() as folder:
                index = Index.build(Path(folder) / "index", vectors=documents, ids=list(benchmark.corpus), recall=None)
                least = index.exact(held_out, K).scores[:, -1:]
                for tuned_on, given in (("documents", None), ("queries", ours)):
                    for target in TARGETS:
                        best = tune(index, recall=target, queries=given).best
                        recall = float((index.search(held_out, K).scores >= least - TIED).mean())
                        row = {
                            "base": base,
                            "set": name,
                            "documents": len(documents),
                            "tuned_on": tuned_on,
                            "asked": target,
                            "recall": round(recall, 4),
                            "shortlist": best.shortlist,
                            "resident_bytes_per_vector": index.stats().resident_bytes_per_vector,
                        }
                        rows.append(row)
                        print(
                            f"{base:10s}{name:10s}{len(documents):10,}{tuned_on:>12s}{target:7.2f}{recall:8.4f}"
                            f"{best.shortlist:11,}{row['resident_bytes_per_vector']:7.1f}",
                            flush=True,
                        )
    write_result("tuned-recall", {**describe_run(), "rows": rows})


if __name__ == "__main__":
    main()
