"""What a variant of training keeps at every size and byte count: measured, compared, printed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors import Adaptor
from nestvec.data import Benchmark, read_benchmark
from nestvec.evaluation import CellKey, MeanScore, Rerank, Retrieval, TaskVectors, compare, measure_grid
from nestvec.quantization import BITS_PER_DIMENSION, bytes_per_vector

SETS = ("squad", "tldr", "wordnet")
TRAINED = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 12, 1 / 24)
MEASURED = (1, 2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 8, 1 / 12, 1 / 24)
"""Shares of the full size."""
SIZES = (384, 256, 192, 128, 96, 64, 48, 32, 16)
"""Dimensions, of a base that has so many, where only these are looked at."""
BYTES = (4, 8, 16, 32, 64, 128, 256, 512, 768, 1536)
RERANK = Rerank("int8", 100)
METRIC = "MRR@10"

Values = dict[CellKey, NDArray[np.float64]]
"""MRR@10 by cell, [seeds, queries]."""


def dims_of(full_dim: int, shares: Sequence[float]) -> list[int]:
    """Sizes that are so large a share of the full one."""
    return [int(full_dim * share) for share in shares]


def read_task(data: Path, name: str, *, queries: int, documents: int | None = None) -> Retrieval:
    """The benchmark of a set: some queries, drawn at random, with what is relevant to them and other documents."""
    whole = read_benchmark(data / name / "benchmark")
    generator = np.random.default_rng(0)
    chosen = _draw(generator, sorted(whole.qrels), queries)
    kept = {document for query in chosen for document in whole.qrels[query]}
    others = sorted(set(whole.corpus) - kept)
    kept |= set(others if documents is None else _draw(generator, others, max(0, documents - len(kept))))
    part = Benchmark(
        {query: whole.queries[query] for query in chosen},
        {document: text for document, text in whole.corpus.items() if document in kept},
        {query: whole.qrels[query] for query in chosen},
        name,
    )
    return Retrieval(part, metrics=[METRIC])


def _draw(generator: np.random.Generator, names: Sequence[str], count: int) -> list[str]:
    return [names[place] for place in sorted(generator.permutation(len(names))[:count])]


def measure(task: Retrieval, vectors: TaskVectors) -> Values:
    """MRR@10 of every query in every cell, and of the full size behind a shortlist, of one seed."""
    dims = dims_of(vectors.queries.shape[1], MEASURED)
    grid = measure_grid(task, vectors, dims, precisions=list(BITS_PER_DIMENSION), reranks=[None, RERANK])
    found: Values = {}
    for key, scores in grid.scores.items():
        score = scores[METRIC]
        assert isinstance(score, MeanScore)
        found[key] = score.values[None]
    return found


def scores_by_size(task: Retrieval, vectors: TaskVectors, dims: Sequence[int]) -> list[float]:
    """MRR@10 of float32 by size, without the rest of the grid."""
    found: Any = task.measure(vectors.queries, vectors.documents, dims)
    return [float(np.mean(found[dim][METRIC].values)) for dim in dims]


def transformed(vectors: TaskVectors, adaptor: Adaptor) -> TaskVectors:
    """Both sides as an adaptor maps them."""
    return TaskVectors(adaptor.transform(vectors.queries, "query"), adaptor.transform(vectors.documents))


def join_seeds(runs: Sequence[Values]) -> Values:
    """The runs of several seeds as one."""
    return {key: np.concatenate([run[key] for run in runs]) for key in runs[0]}


def summarize(
    values: Mapping[str, Values], nested: Mapping[str, Values], plain: Mapping[str, Values]
) -> dict[str, Any]:
    """One variant, set by set: scores, shares of the plain model at its full size, differences to the nested loss.

    Intervals are those of drawing the queries again, with the mean over seeds as the score of each; `by_seed` shows
    what the seeds differ by.
    """
    summary: dict[str, Any] = {}
    for set_name, cells in values.items():
        full_dim = max(key.dim for key in cells)
        reference = float(plain[set_name][CellKey(full_dim)].mean())

        def describe(
            found: NDArray[np.float64], other: NDArray[np.float64], reference: float = reference
        ) -> dict[str, Any]:
            difference = compare(MeanScore(found.mean(axis=0)), MeanScore(other.mean(axis=0)))
            return {
                METRIC: round(float(found.mean()), 4),
                "by_seed": [round(float(score), 4) for score in found.mean(axis=1)],
                "share": round(float(found.mean()) / reference, 4),
                "to_nested": [round(part, 4) for part in (difference.value, difference.low, difference.high)],
                "p_value": round(difference.p_value, 4),
            }

        within = {}
        for limit in BYTES:
            for rerank in (False, True) if limit <= 64 else (False,):
                best, names = best_within(cells, limit, rerank=rerank)
                other, _ = best_within(nested[set_name], limit, rerank=rerank)
                within[f"{limit}{' + rerank' if rerank else ''}"] = {"cells": names, **describe(best, other)}
        dims = {
            f"{dim / full_dim:.3f}": {"dim": dim, **describe(cells[CellKey(dim)], nested[set_name][CellKey(dim)])}
            for dim in dims_of(full_dim, MEASURED)
        }
        summary[set_name] = {"dims": dims, "bytes": within}
    return summary


class Trained(NamedTuple):
    """What one run of a variant gave."""

    vectors: TaskVectors
    seconds: float


def compare_variants(
    names: Sequence[str],
    tasks: Mapping[str, Retrieval],
    untrained: Mapping[str, TaskVectors],
    run: Callable[[str, str, int], Trained],
    *,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Run every variant on every set with several seeds, and print a row for each as it comes.

    Args:
        names: Variants, `plain` and `nested` first.
        tasks: Benchmarks by set.
        untrained: Their vectors as they are without training.
        run: From a variant, a set and a seed to what was trained.
        seeds: Every variant runs once with each.

    Returns:
        Seconds of training and the summary by variant, `untrained` among them.
    """
    values: dict[str, dict[str, Values]] = {}
    seconds: dict[str, float] = {}
    results: dict[str, Any] = {}

    def report(name: str) -> None:
        results[name] = summarize(values[name], values["nested"], values["plain"])
        print_row(name, results[name], seconds[name])

    print_header()
    for name in names:
        seconds[name], values[name] = 0.0, {}
        for set_name, task in tasks.items():
            measured = []
            for seed in seeds:
                trained = run(name, set_name, seed)
                seconds[name] += trained.seconds / len(seeds)
                measured.append(measure(task, trained.vectors))
            values[name][set_name] = join_seeds(measured)
        if name == "nested":
            report("plain")
        if name != "plain":
            report(name)
    values["untrained"] = {name: measure(task, untrained[name]) for name, task in tasks.items()}
    seconds["untrained"] = 0.0
    report("untrained")
    return {
        "seeds": list(seeds),
        "benchmarks": {name: task.benchmark.counts() for name, task in tasks.items()},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "variants": results,
    }


def print_header() -> None:
    """What the columns of `print_row` are."""
    titles = ("full", "1/4", "1/12", "64 B", "32 B", "16 B", "32 B + r.", "time")
    print(f"{'share of plain, %':32s}" + "".join(f"{title:>10s}" for title in titles), flush=True)


def choose_variants(parser: argparse.ArgumentParser, known: Sequence[str], wanted: str | None) -> list[str]:
    """Names with ; between them, beside plain and nested, in the order of those known; None is all."""
    if wanted is None:
        return list(known)
    chosen = {"plain", "nested", *wanted.split(";")}
    if unknown := chosen - set(known):
        parser.error(f"There is no variant {', '.join(sorted(unknown))}. Variants are {'; '.join(known)}.")
    return [name for name in known if name in chosen]


def print_row(name: str, summary: Mapping[str, Any], seconds: float) -> None:
    """Shares of the plain model at its full size, mean over the sets."""

    def share(kind: str, at: str) -> float:
        return 100 * float(np.mean([one[kind][at]["share"] for one in summary.values()]))

    columns = [share("dims", f"{part:.3f}") for part in _printed_shares(summary)]
    columns += [share("bytes", at) for at in ("64", "32", "16", "32 + rerank")]
    print(f"{name:32s}" + "".join(f"{column:10.1f}" for column in columns) + f"{seconds:8.0f} s", flush=True)


def _printed_shares(summary: Mapping[str, Any]) -> list[float]:
    measured = [float(share) for share in next(iter(summary.values()))["dims"]]
    return [min(measured, key=lambda one: abs(one - wanted)) for wanted in (1, 1 / 4, 1 / 12)]


def best_within(values: Values, limit: int, *, rerank: bool) -> tuple[NDArray[np.float64], list[str]]:
    """The best cell of at most so many bytes in memory, chosen for each half of the queries on the other half."""
    cells = [key for key in values if _bytes(key) <= limit and (key.rerank is not None) == rerank]
    found, names = np.empty_like(values[cells[0]]), []
    for half in (0, 1):
        best = max(cells, key=lambda key: values[key][:, 1 - half :: 2].mean())
        found[:, half::2] = values[best][:, half::2]
        names.append(_describe(best))
    return found, list(dict.fromkeys(names))


def _bytes(key: CellKey) -> float:
    return key.dim / 4 if key.precision == "int2" else bytes_per_vector(key.dim, key.precision)


def _describe(key: CellKey) -> str:
    return f"{key.dim} x {key.precision}" + (f" + {key.rerank}" if key.rerank else "")
