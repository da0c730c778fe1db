"""What does `nestvec rotate` give a model that exists, and in what time?

Rotates a base by some documents alone, and by rows of queries and documents, and measures the grid on the benchmark of
each set, whose queries the rotation does not see. Prints MRR@10 relative to the full vector of the base by size, mean
over the seeds, and one JSON line last, and writes it to benchmarks/results.

    python benchmarks/rotate.py --data ../shared/data --base minilm
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.data import read_records
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base
from nestvec.evaluation import Retrieval, encode_task
from nestvec.jobs.rotate import RotateSettings, rotate
from provenance import describe_run, write_result
from sizes import METRIC, SETS, SIZES, read_task, scores_by_size, transformed

RAW = "as it is"


def main() -> None:
    """Rotate, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    parser.add_argument("--base", default="minilm", help="What is rotated.")
    parser.add_argument("--rows", type=int, default=2000, help="Documents, or rows, to rotate by.")
    parser.add_argument("--queries", type=int, default=1500, help="Queries of each benchmark at most.")
    parser.add_argument("--corpus", type=int, default=4000, help="Documents of each benchmark at most.")
    parser.add_argument("--seeds", type=int, default=3, help="Draws of the documents, and of the rows.")
    arguments = parser.parse_args()
    model = load_base(arguments.base)
    encoder = CachedEncoder(SentenceTransformerEncoder(model), about=arguments.base)
    dims = [dim for dim in SIZES if dim <= encoder.full_dim]
    results: dict[str, Any] = {}
    print(f"{'MRR@10, % of the full vector':32s}" + "".join(f"{dim:>7d}" for dim in dims) + "   fit", flush=True)
    for name in SETS:
        task = read_task(arguments.data, name, queries=arguments.queries, documents=arguments.corpus)
        before = encode_task(task, encoder)
        raw = scores_by_size(task, before, dims)
        results[name] = {RAW: raw}
        print(f"{name + ', ' + RAW:32s}" + "".join(f"{100 * score / raw[0]:7.1f}" for score in raw), flush=True)
        for how in ("docs", "data"):
            runs: list[dict[str, Any]] = []
            for seed in range(arguments.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    source = Path(folder) / "source.jsonl"
                    source.write_text(draw(task, arguments, name, how, seed), encoding="utf-8")
                    timed = seed == 0  # all of it, encoding too
                    settings = RotateSettings(dims=power_dims(dims), rows=arguments.rows, seed=seed, cache=not timed)
                    started = time.perf_counter()
                    sources: dict[str, Any] = {how: source}
                    found = rotate(arguments.base, Path(folder) / "out", settings=settings, **sources)
                    total = time.perf_counter() - started
                runs.append(
                    {
                        "seed": seed,
                        METRIC: scores_by_size(task, transformed(before, found.adaptor), dims),
                        "kept": {key: found.adaptor.settings[key] for key in ("start", "strength", "nested")},
                        "method": found.adaptor.method,
                        "seconds": {**found.report.seconds, "total": total} if timed else {},
                    }
                )
            results[name][how] = runs
            mean = np.mean([run[METRIC] for run in runs], axis=0)
            spent = runs[0]["seconds"]
            cells = "".join(f"{100 * score / raw[0]:7.1f}" for score in mean)
            print(
                f"{name + ', rotated by ' + how:32s}{cells}  {spent['fit']:.0f} s, {spent['total']:.0f} s in all",
                flush=True,
            )
    write_result(
        f"rotate-{arguments.base}",
        {**describe_run(), "base": arguments.base, "rows": arguments.rows, "dims": dims, "sets": results},
    )


def power_dims(dims: list[int]) -> list[int]:
    """What the rotation is fitted for: the full size and the powers of two."""
    return [dims[0], *(dim for dim in (256, 128, 64, 32, 16) if dim < dims[0])]


def draw(task: Retrieval, arguments: argparse.Namespace, name: str, how: str, seed: int) -> str:
    """Documents of the benchmark, or training rows, drawn at random, as lines of JSON."""
    generator = np.random.default_rng(seed)
    lines: list[dict[str, Any]]
    if how == "docs":
        lines = [{"id": key, "text": text} for key, text in task.benchmark.corpus.items()]
    else:
        records: Any = read_records(arguments.data / name / "train.jsonl.gz")
        lines = [{"query": record.query, "positive": record.positive} for record in records]
    chosen = np.sort(generator.permutation(len(lines))[: arguments.rows])
    return "".join(json.dumps(lines[place]) + "\n" for place in chosen)


if __name__ == "__main__":
    main()
