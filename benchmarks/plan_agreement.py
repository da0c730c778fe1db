"""Does an index find what the grid said of its plan?

Measures the grid of frozen MiniLM vectors on the benchmarks of three sets, builds an index by the plan of every cell
with its documents in another order, tuned as `nestvec index build --plan` does, and scores what it finds for the same
queries. Prints the largest differences of MRR@10 by precision and rerank, and one JSON line last, and writes it to
benchmarks/results.

    python benchmarks/plan_agreement.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base
from nestvec.evaluation import Rerank, encode_task, measure_grid, measure_run
from nestvec.index import Index
from nestvec.plan import FirstStage, Plan, SecondStage
from nestvec.quantization import PRECISIONS
from provenance import describe_run, write_result
from sizes import METRIC, SETS, read_task

DIMS = (384, 96)
RERANKS = (None, Rerank("int8", 100), Rerank("float16", 100), Rerank("int8", 400))


def main() -> None:
    """Measure, build, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--queries", type=int, default=1500, help="Queries of each benchmark at most.")
    parser.add_argument("--sets", default=",".join(SETS))
    arguments = parser.parse_args()
    encoder = CachedEncoder(SentenceTransformerEncoder(load_base(arguments.base)), about=arguments.base)
    rows: list[dict[str, Any]] = []
    for name in arguments.sets.split(","):
        task = read_task(arguments.data, name, queries=arguments.queries)
        vectors = encode_task(task, encoder)
        dims = [dim for dim in DIMS if dim <= encoder.full_dim]
        grid = measure_grid(task, vectors, dims, precisions=PRECISIONS, reranks=RERANKS)
        order = np.random.default_rng(0).permutation(len(task.document_ids))
        for key, scores in grid.scores.items():
            plan = Plan(
                model="here",
                full_dim=encoder.full_dim,
                first_stage=FirstStage(dim=key.dim, precision=key.precision),
                second_stage=None if key.rerank is None else SecondStage(**key.rerank._asdict()),
            )
            with tempfile.TemporaryDirectory() as folder:
                ids = [task.document_ids[row] for row in order]
                with Index.build(Path(folder) / "i", vectors=vectors.documents[order], ids=ids, plan=plan) as index:
                    found = index.search(vectors.queries, k=task.search_depth)
                    tuned = index.tuned or {}
            run = {}
            for query, line, values in zip(task.query_ids, found.ids, found.scores, strict=True):
                own = task.benchmark.own_document(query)
                run[query] = {one: float(value) for one, value in zip(line, values, strict=False) if one != own}
            indexed = float(np.mean(list(measure_run(task.benchmark.qrels, run, [METRIC])[METRIC].values())))
            measured = float(scores[METRIC].value)
            rows.append(
                {
                    "set": name,
                    "dim": key.dim,
                    "precision": key.precision,
                    "rerank": None if key.rerank is None else str(key.rerank),
                    "grid": round(measured, 5),
                    "index": round(indexed, 5),
                    "difference": round(indexed - measured, 5),
                    "margin": tuned.get("margin"),
                    "recall": tuned.get("recall"),
                }
            )
    print(f"{'precision':10s}{'rerank':14s}{'cells':>6s}{'mean':>10s}{'largest':>10s}")
    for precision in PRECISIONS:
        for rerank in RERANKS:
            label = None if rerank is None else str(rerank)
            some = [row["difference"] for row in rows if (row["precision"], row["rerank"]) == (precision, label)]
            worst = max(some, key=abs)
            print(f"{precision:10s}{label or 'none':14s}{len(some):6d}{np.mean(some):10.5f}{worst:10.5f}")
    largest = max(rows, key=lambda row: abs(row["difference"]))
    print("largest:", largest)
    write_result(f"plan-agreement-{arguments.base}", {**describe_run("faiss-cpu"), "largest": largest, "rows": rows})


if __name__ == "__main__":
    main()
