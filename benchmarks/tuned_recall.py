"""Does a tuned search find on real queries what it was asked to find?

Indexes the benchmarks of three sets as `nestvec index build` does, tuned for 95% and 99% of the exact best ten: on
their own documents, as where there are no queries yet, and on half of the queries. Measures recall on the other half,
at the full size and at shares of it, each against the exact scan of as many numbers, with the shortlist that a search
takes by itself. Prints a table and one JSON line last, and writes it to benchmarks/results.

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
from nestvec.index import Index
from provenance import describe_run, write_result
from search import TIED
from search_tools import K
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
        f"{'base':10s}{'set':10s}{'documents':>10s}{'tuned on':>12s}{'asked':>7s}{'shortlist':>11s}"
        f"{'recall':>9s}{'at 1/2':>9s}{'1/4':>9s}{'1/8':>9s}"
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
                shares = (1, 1 / 2, 1 / 4, 1 / 8)
                dims = [int(documents.shape[1] * share) for share in shares]
                least = [index.exact(held_out, K, dim=dim).scores[:, -1:] for dim in dims]
                for tuned_on, given in (("documents", None), ("queries", ours)):
                    for target in TARGETS:
                        best = index.tune(recall=target, queries=given).best
                        found = [index.search(held_out, K, dim=dim).scores for dim in dims]
                        recalls = [
                            float((ours >= theirs - TIED).mean()) for ours, theirs in zip(found, least, strict=True)
                        ]
                        row = {
                            "base": base,
                            "set": name,
                            "documents": len(documents),
                            "tuned_on": tuned_on,
                            "asked": target,
                            "shortlist": best.shortlist,
                            "recall_by_dim": {str(dim): round(one, 4) for dim, one in zip(dims, recalls, strict=True)},
                            "resident_bytes_per_vector": index.stats().resident_bytes_per_vector,
                        }
                        rows.append(row)
                        print(
                            f"{base:10s}{name:10s}{len(documents):10,}{tuned_on:>12s}{target:7.2f}{best.shortlist:11,}"
                            + "".join(f"{recall:9.4f}" for recall in recalls),
                            flush=True,
                        )
    write_result("tuned-recall", {**describe_run("faiss-cpu", "numkong"), "rows": rows})


if __name__ == "__main__":
    main()
