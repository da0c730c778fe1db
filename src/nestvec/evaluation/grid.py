"""The grid: every cell of a model's sizes, measured from one encoding of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.data.benchmarks import Benchmark
from nestvec.encoders.protocol import Encoder
from nestvec.errors import DimensionError, MetricError, VectorError
from nestvec.evaluation.bootstrap import Interval, interval, resampled_means
from nestvec.evaluation.metrics import DEFAULT_METRICS, judge, parse_metric, score_queries
from nestvec.evaluation.search import search_prefixes
from nestvec.progress import Progress, silent
from nestvec.quantization import bytes_per_vector
from nestvec.vectors import check_dims

__all__ = ["BenchmarkVectors", "Cell", "QueryScores", "encode_benchmark", "make_cells", "measure_sizes"]


@dataclass(frozen=True)
class BenchmarkVectors:
    """A benchmark as one model sees it: encoded once, measured at every size.

    Attributes:
        benchmark: What was encoded.
        queries: Unit vectors of the judged queries, in the order of the qrels, [n_queries, full_dim].
        documents: Unit vectors of the corpus, [n_documents, full_dim].
        document_ids: Id of each row of `documents`: ordered last first, so that among equal scores the earlier row
            is the one that trec_eval ranks first.
    """

    benchmark: Benchmark
    queries: NDArray[np.float32]
    documents: NDArray[np.float32]
    document_ids: tuple[str, ...]


@dataclass(frozen=True)
class QueryScores:
    """Per-query values at each size: what cells, intervals and paired comparisons are made from.

    Attributes:
        full_dim: Size of the full vector; it is always measured.
        values: Per-query values by dim and metric name, [n_queries] each.
    """

    full_dim: int
    values: Mapping[int, Mapping[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class Cell:
    """One entry of the grid.

    Attributes:
        model: Which model: `before` or `after` training.
        dim: Leading numbers kept.
        precision: How each is stored.
        bytes_per_vector: What one vector costs.
        metrics: Value and bounds by metric name.
        retention: Headline metric relative to the full float32 vector of the same model, with bounds; None where that
            is 0.
        gain: Headline metric minus that of the same cell before training, with paired bounds; None where there
            is nothing to compare with.
    """

    model: str
    dim: int
    precision: str
    bytes_per_vector: int
    metrics: Mapping[str, Interval]
    retention: Interval | None
    gain: Interval | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the cell in the shape that every report keeps."""
        document: dict[str, Any] = {
            "model": self.model,
            "dim": self.dim,
            "precision": self.precision,
            "bytes_per_vector": self.bytes_per_vector,
            "metrics": {name: value._asdict() for name, value in self.metrics.items()},
            "retention": None if self.retention is None else self.retention.value,
            "retention_interval": None if self.retention is None else self.retention._asdict(),
        }
        if self.gain is not None:
            document["gain"] = self.gain._asdict()
        return document


def encode_benchmark(benchmark: Benchmark, encoder: Encoder, *, progress: Progress = silent) -> BenchmarkVectors:
    """Encode the judged queries and the whole corpus, once.

    Args:
        benchmark: What to encode.
        encoder: What encodes it.
        progress: How to report progress.

    Returns:
        The vectors, in a fixed order.

    Raises:
        ModelError: The model gave a vector that is not finite.
        VectorError: Every document got the same vector, so that nothing can be told apart.
    """
    document_ids = tuple(sorted(benchmark.corpus, reverse=True))
    documents = encoder.encode_documents([benchmark.corpus[key] for key in document_ids], progress=progress)
    queries = encoder.encode_queries([benchmark.queries[key] for key in benchmark.qrels], progress=progress)
    if len(documents) > 1 and (documents == documents[0]).all():
        raise VectorError(
            f"The model gives all {len(documents)} documents of {benchmark.name} the same vector. "
            "Its weights are damaged, or every text is cut to nothing: check the base and model.max_tokens."
        )
    return BenchmarkVectors(benchmark, queries, documents, document_ids)


def measure_sizes(
    vectors: BenchmarkVectors,
    dims: Sequence[int],
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    progress: Progress = silent,
) -> QueryScores:
    """Score every query at every size, from vectors truncated and re-normalised.

    Args:
        vectors: An encoded benchmark.
        dims: Sizes to measure; the full size is measured as well.
        metrics: Names such as `nDCG@10`.
        progress: How to report progress, in queries.

    Returns:
        Per-query values, largest dim first.

    Raises:
        DimensionError: A dim is outside the vectors, repeated or out of order.
        MetricError: A metric is not known, or there is none.
    """
    full_dim = vectors.queries.shape[1]
    measured = tuple(sorted({full_dim, *check_dims(dims, full_dim)}, reverse=True))
    parsed = [parse_metric(name) for name in metrics]
    if not parsed:
        raise MetricError("No metrics given. Give at least one, such as MRR@10.")
    depth = min(max(metric.cutoff for metric in parsed), len(vectors.documents))
    qrels = vectors.benchmark.qrels
    values: dict[int, dict[str, NDArray[np.float64]]] = {}
    found = search_prefixes(vectors.queries, vectors.documents, dims=measured, k=depth, progress=progress)
    for dim, top in found.items():
        rankings = {
            query: [vectors.document_ids[row] for row in rows] for query, rows in zip(qrels, top.indices, strict=True)
        }
        judged = judge(qrels, rankings, depth)
        values[dim] = {str(metric): score_queries(metric, judged) for metric in parsed}
    return QueryScores(full_dim, values)


def make_cells(
    model: str,
    scores: QueryScores,
    *,
    before: QueryScores | None = None,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Cell]:
    """Turn per-query values into cells with bootstrap intervals.

    The first metric is the headline: retention and gain are of it. Every interval of one grid comes from the same
    resamples of the queries.

    Args:
        model: What to call the model in the report.
        scores: Its per-query values.
        before: Per-query values of the model it is compared with, on the same benchmark; None for no comparison.
        samples: Bootstrap resamples.
        confidence: Confidence of the intervals, between 0 and 1.
        seed: Seed of the resampling.

    Returns:
        One float32 cell a dim, largest first.

    Raises:
        DimensionError: `before` was not measured at the same dims.
    """
    if before is not None and before.values.keys() != scores.values.keys():
        raise DimensionError(
            f"Cannot compare sizes {list(scores.values)} with {list(before.values)}. Measure both at the same dims."
        )
    dims = list(scores.values)
    names = list(scores.values[scores.full_dim])
    headline = names[0]
    series = [scores.values[dim][name] for dim in dims for name in names]
    if before is not None:
        series += [before.values[dim][headline] for dim in dims]
    resampled = resampled_means(series, samples=samples, seed=seed)  # [n_series, samples]
    means = [float(one.mean()) for one in series]
    place = {(dim, name): row for row, (dim, name) in enumerate((dim, name) for dim in dims for name in names)}
    full = place[scores.full_dim, headline]

    cells = []
    for position, dim in enumerate(dims):
        own = place[dim, headline]
        gain = None
        if before is not None:
            base = len(place) + position
            gain = interval(means[own] - means[base], resampled[own] - resampled[base], confidence=confidence)
        cells.append(
            Cell(
                model=model,
                dim=dim,
                precision="float32",
                bytes_per_vector=bytes_per_vector(dim, "float32"),
                metrics={
                    name: interval(means[place[dim, name]], resampled[place[dim, name]], confidence=confidence)
                    for name in names
                },
                retention=_retention(means[own], means[full], resampled[own], resampled[full], confidence),
                gain=gain,
            )
        )
    return cells


def _retention(
    score: float, full: float, resampled: NDArray[np.float64], resampled_full: NDArray[np.float64], confidence: float
) -> Interval | None:
    usable = resampled_full > 0  # a resample of a few queries may hold none that the full vector answers
    if full <= 0 or not usable.any():
        return None
    return interval(score / full, resampled[usable] / resampled_full[usable], confidence=confidence)
