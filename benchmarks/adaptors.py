"""What does each trick of fitting an adaptor give, at every size and byte count?

Fits adaptors to frozen MiniLM vectors of the training pairs of three sets, each trick against the plain nested loss
at equal steps and several seeds, and measures the grid on the benchmarks of the sets. The score of a query is its mean
over the seeds. Prints MRR@10 relative to the full float32 vector of a plainly fitted adaptor (InfoNCE at the full size
only), mean over the sets, and one JSON line last, and writes it to benchmarks/results.

    python benchmarks/adaptors.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors import AdaptorData, FitSettings, Method, fit_adaptor
from nestvec.data import read_benchmark
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base
from nestvec.evaluation import (
    CellKey,
    MeanScore,
    Rerank,
    Retrieval,
    TaskVectors,
    compare,
    encode_task,
    measure_grid,
)
from nestvec.jobs.adapt import encode_texts
from nestvec.quantization import BITS_PER_NUMBER, bytes_per_vector
from provenance import describe_run, write_result

SETS = ("squad", "tldr", "wordnet")
DIMS = (384, 192, 96, 48, 32, 16)
MEASURED = (384, 256, 192, 128, 96, 64, 48, 32, 16)
BYTES = (8, 16, 32, 64, 128, 256, 512, 768, 1536)
RERANK = Rerank("int8", 100)
METRIC = "MRR@10"

Values = dict[CellKey, NDArray[np.float64]]
"""MRR@10 of every query, by cell."""


@dataclass(frozen=True)
class Variant:
    """One way to fit."""

    method: Method = "linear"
    dims: Sequence[int] = DIMS
    settings: Mapping[str, Any] = field(default_factory=dict)


OFF = {"start": "identity", "mined_negatives": 0, "pull": 0.0}
VARIANTS = {
    "plain": Variant(dims=(384,), settings=OFF),
    "nested": Variant(settings=OFF),
    "nested, start pca": Variant(settings={**OFF, "start": "pca"}),
    "nested, symmetric": Variant(settings={**OFF, "symmetric": True}),
    "nested, weights 1 1 1 2 3 4": Variant(settings={**OFF, "weights": (1, 1, 1, 2, 3, 4)}),
    "nested, temperature 0.1": Variant(settings={**OFF, "temperature": 0.1}),
    "nested, neighbourhoods": Variant(settings={**OFF, "distillation": 1.0}),
    "nested, pull": Variant(settings={**OFF, "pull": 0.01}),
    "nested, mined negatives": Variant(settings={**OFF, "mined_negatives": 1}),
    "nested, through bits": Variant(settings={**OFF, "precisions": ("float32", "binary")}),
    "nested, through int4 and bits": Variant(settings={**OFF, "precisions": ("float32", "int4", "binary")}),
    "nested, two towers": Variant("two-tower", settings=OFF),
    "nested, hidden layer": Variant("mlp", settings={**OFF, "learning_rate": 0.001}),
    "default": Variant(),
    "default, start identity": Variant(settings={"start": "identity"}),
    "default, two towers": Variant("two-tower"),
    "default, two towers, pull 0.03": Variant("two-tower", settings={"pull": 0.03}),
}


def read_set(data: Path, name: str, encoder: CachedEncoder) -> tuple[AdaptorData, Retrieval, TaskVectors]:
    """Training pairs and the benchmark of a set, encoded."""
    task = Retrieval(read_benchmark(data / name / "benchmark"), metrics=[METRIC])
    pairs = encode_texts(data / name / "train.jsonl.gz", encoder).data
    return pairs, task, encode_task(task, encoder)


def measure(task: Retrieval, vectors: TaskVectors) -> Values:
    """MRR@10 of every query in every cell, and of the full size behind a shortlist."""
    grid = measure_grid(task, vectors, MEASURED, precisions=list(BITS_PER_NUMBER), reranks=[None, RERANK])
    found: Values = {}
    for key, scores in grid.scores.items():
        score = scores[METRIC]
        assert isinstance(score, MeanScore)
        found[key] = score.values
    return found


def best_within(values: Mapping[CellKey, float], limit: int, *, rerank: bool) -> tuple[CellKey, float]:
    """The best cell of at most so many bytes in memory."""
    cells = {
        key: value
        for key, value in values.items()
        if bytes_per_vector(key.dim, key.precision) <= limit and (key.rerank is not None) == rerank
    }
    best = max(cells, key=lambda key: cells[key])
    return best, cells[best]


def describe(key: CellKey) -> str:
    """Name a cell."""
    return f"{key.dim} x {key.precision}" + (f" + {key.rerank}" if key.rerank else "")


def summarize(values: Mapping[str, Values], nested: Mapping[str, Values], plain: Mapping[str, Values]) -> Any:
    """One variant on one set after another: scores, shares of the plain adaptor, and differences to the nested loss."""
    summary: dict[str, Any] = {}
    for set_name, cells in values.items():
        means = {key: float(one.mean()) for key, one in cells.items()}
        reference = float(plain[set_name][CellKey(384)].mean())
        within = {}
        for limit in BYTES:
            for rerank in (False, True):
                if rerank and limit > 64:
                    continue
                key, score = best_within(means, limit, rerank=rerank)
                before = {one: float(other.mean()) for one, other in nested[set_name].items()}
                other, _ = best_within(before, limit, rerank=rerank)
                found = compare(MeanScore(cells[key]), MeanScore(nested[set_name][other]))
                within[f"{limit}{' + rerank' if rerank else ''}"] = {
                    "cell": describe(key),
                    METRIC: round(score, 4),
                    "share": round(score / reference, 4),
                    "to_nested": [round(part, 4) for part in (found.value, found.low, found.high)],
                    "p_value": round(found.p_value, 4),
                }
        dims = {}
        for dim in MEASURED:
            found = compare(MeanScore(cells[CellKey(dim)]), MeanScore(nested[set_name][CellKey(dim)]))
            dims[str(dim)] = {
                METRIC: round(means[CellKey(dim)], 4),
                "share": round(means[CellKey(dim)] / reference, 4),
                "to_nested": [round(part, 4) for part in (found.value, found.low, found.high)],
                "p_value": round(found.p_value, 4),
            }
        summary[set_name] = {"dims": dims, "bytes": within}
    return summary


def print_row(name: str, summary: Mapping[str, Any], seconds: float) -> None:
    """Shares of the plain adaptor at the full size, mean over the sets."""

    def share(kind: str, at: str) -> float:
        return 100 * float(np.mean([one[kind][at]["share"] for one in summary.values()]))

    columns = [share("dims", at) for at in ("384", "96", "32")]
    columns += [share("bytes", at) for at in ("64", "32", "16", "32 + rerank")]
    print(f"{name:32s}" + "".join(f"{column:10.1f}" for column in columns) + f"{seconds:8.0f} s", flush=True)


def main() -> None:
    """Fit, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    parser.add_argument("--base", default="minilm", help="What encodes, and stays as it is.")
    parser.add_argument("--seeds", type=int, default=3, help="Fits of each variant.")
    parser.add_argument("--variants", help="Names with ; between them, beside plain and nested.  [default: all]")
    arguments = parser.parse_args()
    chosen = set(VARIANTS) if arguments.variants is None else {"plain", "nested", *arguments.variants.split(";")}
    encoder = CachedEncoder(SentenceTransformerEncoder(load_base(arguments.base)), about=arguments.base)
    sets = {name: read_set(arguments.data, name, encoder) for name in SETS}
    raw = {name: measure(task, vectors) for name, (_, task, vectors) in sets.items()}
    values: dict[str, dict[str, Values]] = {}
    seconds: dict[str, float] = {}
    titles = ("384", "96", "32", "64 B", "32 B", "16 B", "32 B + r.", "fit")
    print(f"{'share of plain, %':32s}" + "".join(f"{title:>10s}" for title in titles))
    results = {}
    for variant_name, variant in VARIANTS.items():
        if variant_name not in chosen:
            continue
        seconds[variant_name] = 0.0
        values[variant_name] = {}
        for set_name, (pairs, task, vectors) in sets.items():
            runs = []
            for seed in range(arguments.seeds):
                started = time.perf_counter()
                settings = FitSettings(**{**variant.settings, "seed": seed, "patience": None})
                adaptor = fit_adaptor(pairs, variant.dims, method=variant.method, settings=settings)
                seconds[variant_name] += time.perf_counter() - started
                mapped = [
                    adaptor.transform(side, name) for side, name in zip(vectors, ("query", "document"), strict=True)
                ]
                runs.append(measure(task, TaskVectors(*mapped)))
            values[variant_name][set_name] = {key: np.mean([run[key] for run in runs], axis=0) for key in runs[0]}
        seconds[variant_name] /= arguments.seeds
        if "nested" in values:
            for waiting in [name for name in values if name not in results]:
                results[waiting] = summarize(values[waiting], values["nested"], values["plain"])
                print_row(waiting, results[waiting], seconds[waiting])
    results["raw"] = summarize(raw, values["nested"], values["plain"])
    print_row("raw", results["raw"], 0.0)
    write_result(
        "adaptors",
        {
            **describe_run(),
            "base": arguments.base,
            "seeds": arguments.seeds,
            "pairs": {name: len(pairs.pairs) for name, (pairs, _, _) in sets.items() if pairs.pairs is not None},
            "fit_seconds": {name: round(value, 1) for name, value in seconds.items()},
            "variants": results,
        },
    )


if __name__ == "__main__":
    main()
