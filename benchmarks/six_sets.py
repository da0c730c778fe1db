"""What does every byte cost on six sets, with MiniLM as it is and after nested training?

Trains a nested model from MiniLM on equal parts of the training rows of squad, tldr and wordnet, and measures the grid
of both models on these three benchmarks, on stsb, banking77 and clinc150. Of the benchmarks that are searched it builds
an index by the plan for 99% and for 95% of the full vector, and scores what that finds. Writes a JSON file and a plot
for each set to benchmarks/results, without texts of the sets, and prints a summary and one JSON line last.

    python benchmarks/six_sets.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import gzip
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.data import read_benchmark
from nestvec.evaluation import Cell, Rerank, Retrieval, measure_run
from nestvec.jobs.evaluate import GridSettings, evaluate
from nestvec.jobs.index import build_index, encoder_of
from nestvec.jobs.plan import make_plan, write_plan
from nestvec.jobs.tasks import TaskSettings
from nestvec.jobs.train_and_measure import train_and_measure
from nestvec.report import GridReport, save_grid_plot
from nestvec.training import parse_recipe
from provenance import RESULTS, describe_run

TIMED = 300
TRAINED_ON = ("squad", "tldr", "wordnet")
DIMS = (384, 256, 128, 64, 32)
KEPT = (0.99, 0.95)
SETS: dict[str, tuple[str, TaskSettings]] = {
    "squad": ("squad/benchmark", TaskSettings()),
    "tldr": ("tldr/benchmark", TaskSettings()),
    "wordnet": ("wordnet/benchmark", TaskSettings()),
    "stsb": ("stsb", TaskSettings()),
    "banking77": ("banking77", TaskSettings()),
    "clinc150": ("clinc150", TaskSettings()),
}


def train(data: Path, rows: int, folder: Path) -> Path:
    """Train the nested model with the settings of the quickstart; return its folder."""
    drawn: list[str] = []
    for name in TRAINED_ON:
        with gzip.open(data / name / "train.jsonl.gz", "rt", encoding="utf-8") as file:
            drawn += random.Random(0).sample(file.readlines(), rows // len(TRAINED_ON))
    random.Random(1).shuffle(drawn)
    (folder / "rows.jsonl").write_text("".join(drawn), encoding="utf-8")
    recipe = parse_recipe(
        {
            "name": "three sets",
            "seed": 0,
            "model": {"base": "minilm", "max_tokens": 64},
            "data": {"source": "file", "path": str(folder / "rows.jsonl")},
            "benchmark": {"queries": 200, "documents": 1000},
            "training": {
                "dims": list(DIMS),
                "batch_size": 48,
                "learning_rate": 1.5e-4,
                "negatives": 1,
                "dropout": 0.0,
                "freeze_token_embeddings": True,
            },
        }
    )
    train_and_measure(recipe, folder / "run")
    return folder / "run" / "model"


def build_by_plan(grid: Path, benchmark: Path, kept: float) -> dict[str, Any]:
    """Make a plan that surely keeps so much, build an index by it, and score what that finds."""
    made = make_plan(grid, target=f"retention>={kept}")
    plan = grid.with_name("plan.toml")
    write_plan(made.plan, plan, overwrite=True)
    task = Retrieval(read_benchmark(benchmark))
    with build_index(grid.with_name(f"index-{kept}"), benchmark, plan=plan) as index:
        encoder = encoder_of(index, cache=True)
        queries = encoder.encode_queries(list(task.queries))
        found = index.search(queries, k=task.search_depth)
        times = []
        for query in queries[:TIMED]:
            started = time.perf_counter()
            index.search(query)
            times.append(1000 * (time.perf_counter() - started))
        stats, tuned = index.stats(), index.tuned or {}
    run = {
        key: {
            id_: float(score)
            for id_, score in zip(ids, scores, strict=False)
            if id_ != task.benchmark.own_document(key)
        }
        for key, ids, scores in zip(task.query_ids, found.ids, found.scores, strict=True)
    }
    headline = made.report.headline
    score = float(np.mean(list(measure_run(task.benchmark.qrels, run, [headline])[headline].values())))
    full = made.choice.full.metrics[headline].value
    return {
        "kept": kept,
        "first_stage": made.plan.first_stage.model_dump(),
        "second_stage": None if made.plan.second_stage is None else made.plan.second_stage.model_dump(),
        "grid": round(made.choice.cell.metrics[headline].value, 5),
        "index": round(score, 5),
        "retention": round(score / full, 5),
        "median_ms": round(float(np.median(times)), 4),
        "resident_bytes_per_vector": stats.resident_bytes_per_vector,
        "tuned": {name: tuned.get(name) for name in ("margin", "probes", "recall")},
    }


def main() -> None:
    """Train, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the six sets.")
    parser.add_argument("--rows", type=int, default=4_500, help="Training rows, a third of each set.")
    parser.add_argument("--model", type=Path, help="Nested model that is trained already.")
    arguments = parser.parse_args()
    date, provenance = datetime.date.today().isoformat(), describe_run()
    summary = {}
    with tempfile.TemporaryDirectory() as folder:
        nested = arguments.model or train(arguments.data, arguments.rows, Path(folder))
        for name, (path, task) in SETS.items():
            report = evaluate(
                str(nested),
                arguments.data / path,
                name="nested",
                reference="minilm",
                task_settings=task,
                settings=GridSettings(
                    dims=DIMS,
                    reranks=[None, Rerank("int8", 100)] if name in TRAINED_ON else None,
                    corpus_size=10_000_000,
                ),
            )
            plans = []
            if name in TRAINED_ON:
                grid = Path(folder) / "grid.json"
                grid.write_text(report.to_json(), encoding="utf-8")
                plans = [build_by_plan(grid, arguments.data / path, kept) for kept in KEPT]
            # What is measured may be published, the texts of the sets may not.
            report = dataclasses.replace(
                report, samples=[], documents={}, models={"nested": "trained here", "minilm": "minilm"}
            )
            document = {
                **json.loads(report.to_json()),
                "plans": plans,
                "provenance": provenance,
                "rows": arguments.rows,
            }
            (RESULTS / f"{date}-grid-{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            save_grid_plot(report, RESULTS / f"{date}-grid-{name}.png")
            summary[name] = summarise(report)
            print(f"\n{name}: {report.headline}")
            for line in summary[name]:
                print("  ", line)
    print(json.dumps(summary))


def summarise(report: GridReport) -> list[dict[str, Any]]:
    """The float32 sizes, and the smallest cell of each model that surely keeps 95% and 99%."""
    lines = []
    for model in report.models:
        own = [cell for cell in report.cells if cell.model == model]
        plain = [cell for cell in own if cell.precision == "float32" and cell.rerank is None]
        lines += [_line(report, cell) for cell in plain]
        for kept in reversed(KEPT):
            enough = [cell for cell in own if cell.retention is not None and cell.retention.low >= kept]
            for label, cells in (("", enough), (" without rerank", [cell for cell in enough if cell.rerank is None])):
                if cells:
                    smallest = min(
                        cells,
                        key=lambda cell: (
                            cell.bytes_per_vector,
                            cell.rerank_bytes_per_vector,
                            -cell.metrics[report.headline].value,
                        ),
                    )
                    lines.append({"keeps": f"{kept:.0%}{label}", **_line(report, smallest)})
    return lines


def _line(report: GridReport, cell: Cell) -> dict[str, Any]:
    return {
        "model": cell.model,
        "dim": cell.dim,
        "precision": cell.precision,
        "rerank": None if cell.rerank is None else str(cell.rerank),
        "bytes": cell.bytes_per_vector,
        report.headline: round(cell.metrics[report.headline].value, 4),
        "kept": None if cell.retention is None else round(cell.retention.value, 4),
        "of_minilm": None if cell.reference_retention is None else round(cell.reference_retention.value, 4),
    }


if __name__ == "__main__":
    main()
