"""What does product quantization keep at each number of bytes, with codebooks of training rows alone?

Fits the default adaptor to frozen vectors of the training pairs of three sets with several seeds, and measures the grid
of the benchmarks without a rerank: every size at the precisions that store each dimension by itself, two bits a
dimension (four levels each, by k-means), and product quantization of 8 to 64 bytes at some sizes. All ranges, levels
and codebooks are learned from the training documents. Which cell is best within some bytes is chosen for each half of
the queries on the other half. Prints MRR@10 relative to the full float32 vector of a plainly fitted adaptor (InfoNCE at
the full size only), by set, and one JSON line last, and writes it to benchmarks/results.

    python benchmarks/product.py --data ../shared/data
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from adaptors import VARIANTS
from nestvec.adaptors import FitSettings, fit_adaptor
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base
from nestvec.evaluation import CellKey, MeanScore, Retrieval, TaskVectors, encode_task, measure_grid
from nestvec.jobs.adapt import encode_texts
from nestvec.quantization import BITS_PER_DIMENSION
from nestvec.vectors import truncate
from provenance import describe_run, write_result
from sizes import MEASURED, METRIC, SETS, TRAINED, Values, best_within, dims_of, join_seeds, read_task, transformed

Float32s = NDArray[np.float32]
WITHIN = (8, 16, 32, 64)
PRODUCT_SHARES = (1, 1 / 2, 1 / 3, 1 / 4, 1 / 6)
LEVELS = 4
WAYS: dict[str, Callable[[str], bool]] = {
    "each dimension by itself": lambda precision: precision in BITS_PER_DIMENSION,
    "two bits a dimension": lambda precision: precision == "int2",
    "product quantization": lambda precision: precision.startswith("pq"),
}


def main() -> None:
    """Fit, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    parser.add_argument("--base", default="minilm", help="What encodes, and stays as it is.")
    parser.add_argument("--queries", type=int, default=1500, help="Queries of each benchmark at most.")
    parser.add_argument("--seeds", type=int, default=3, help="Fits of each adaptor.")
    parser.add_argument("--sets", default=",".join(SETS))
    arguments = parser.parse_args()
    encoder = CachedEncoder(SentenceTransformerEncoder(load_base(arguments.base)), about=arguments.base)
    dims = dims_of(encoder.full_dim, TRAINED)
    rows: list[dict[str, Any]] = []
    print(f"{'share of plain, %':12s}{'':28s}" + "".join(f"{limit:>7d} B" for limit in WITHIN), flush=True)
    for name in arguments.sets.split(","):
        task = read_task(arguments.data, name, queries=arguments.queries)
        vectors = encode_task(task, encoder)
        pairs = encode_texts(arguments.data / name / "train.jsonl.gz", encoder).data
        plain, measured = [], []
        for seed in range(arguments.seeds):
            settings = {**VARIANTS["plain"].settings, "seed": seed, "patience": None}
            reference = fit_adaptor(pairs, dims[:1], method="linear", settings=FitSettings(**settings))
            plain.append(_score(task, transformed(vectors, reference)))
            adaptor = fit_adaptor(pairs, dims, settings=FitSettings(seed=seed, patience=None))
            sample = adaptor.transform(pairs.documents)
            measured.append(measure(task, transformed(vectors, adaptor), sample))
        values = join_seeds(measured)
        for way, belongs in WAYS.items():
            some = {key: value for key, value in values.items() if belongs(key.precision)}
            row: dict[str, Any] = {"set": name, "way": way, "within": {}}
            for limit in WITHIN:
                found, cells = best_within(some, limit, rerank=False)
                row["within"][limit] = {
                    METRIC: round(float(found.mean()), 4),
                    "by_seed": [round(float(score), 4) for score in found.mean(axis=1)],
                    "share": round(float(found.mean()) / float(np.mean(plain)), 4),
                    "cells": cells,
                }
            rows.append(row)
            _print(name, way, [row["within"][limit]["share"] for limit in WITHIN])
    means = {
        way: [float(np.mean([row["within"][limit]["share"] for row in rows if row["way"] == way])) for limit in WITHIN]
        for way in WAYS
    }
    for way, shares in means.items():
        _print("mean", way, shares)
    write_result(
        f"product-{arguments.base}",
        {
            **describe_run("faiss-cpu"),
            "base": arguments.base,
            "seeds": arguments.seeds,
            "means": {way: dict(zip(WITHIN, map(_rounded, shares), strict=True)) for way, shares in means.items()},
            "rows": rows,
        },
    )


def measure(task: Retrieval, vectors: TaskVectors, sample: Float32s) -> Values:
    """MRR@10 of every query in every cell, of one seed, [1, queries]."""
    full_dim = vectors.queries.shape[1]
    grids = [
        measure_grid(task, vectors, dims_of(full_dim, shares), precisions=precisions, sample=sample)
        for shares, precisions in (
            (MEASURED, list(BITS_PER_DIMENSION)),
            (PRODUCT_SHARES, [f"pq{limit}" for limit in WITHIN]),
        )
    ]
    found = {key: _values(scores[METRIC])[None] for grid in grids for key, scores in grid.scores.items()}
    for dim in dims_of(full_dim, MEASURED):
        queries, documents, learned = (
            truncate(one[:, :dim], dim) for one in (vectors.queries, vectors.documents, sample)
        )
        scores: Any = task.measure(queries, two_bits(learned, documents), [dim])
        found[CellKey(dim, "int2")] = _values(scores[dim][METRIC])[None]
    return found


def two_bits(sample: Float32s, vectors: Float32s) -> Float32s:
    """What two bits of each dimension stand for: the nearest of four levels, by k-means over a sample."""
    found = np.empty_like(vectors)
    for place in range(vectors.shape[1]):
        clustering = faiss.Kmeans(1, LEVELS, niter=25, seed=0, max_points_per_centroid=len(sample))
        clustering.train(np.ascontiguousarray(sample[:, place : place + 1]))
        levels = np.sort(clustering.centroids[:, 0])
        found[:, place] = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, vectors[:, place])]
    return found


def _score(task: Retrieval, vectors: TaskVectors) -> float:
    full_dim = vectors.queries.shape[1]
    scores: Any = task.measure(vectors.queries, vectors.documents, [full_dim])
    return float(_values(scores[full_dim][METRIC]).mean())


def _values(score: object) -> NDArray[np.float64]:
    assert isinstance(score, MeanScore)
    return score.values


def _rounded(share: float) -> float:
    return round(share, 4)


def _print(name: str, way: str, shares: Sequence[float]) -> None:
    print(f"{name:12s}{way:28s}" + "".join(f"{100 * share:9.1f}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
