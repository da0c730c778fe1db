"""Cells: what is told of every size, precision and rerank, with intervals and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import GridError
from nestvec.evaluation.bootstrap import Interval, interval, resample
from nestvec.evaluation.cell_keys import CellKey, Rerank, parse_rerank
from nestvec.evaluation.grid import GridScores
from nestvec.evaluation.latency import Latency
from nestvec.evaluation.scores import Score
from nestvec.evaluation.significance import Difference, difference
from nestvec.quantization import bytes_per_vector, check_precision

__all__ = ["Cell", "make_cells"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One entry of the grid.

    Attributes:
        model: Which model: `before` or `after` training, or its name.
        dim: Leading dimensions kept.
        precision: How each is stored.
        rerank: The second stage; None without.
        bytes_per_vector: What one vector costs where the first stage searches it.
        rerank_bytes_per_vector: What it costs the second stage besides, 0 without.
        metrics: Value and bounds by metric name.
        retention: Headline metric relative to the full float32 vector of the same model, with bounds; None where that
            is not above 0.
        reference_retention: The same relative to the full float32 vector of a reference model; None without one.
        gain: Headline metric minus that of the same cell before training, or of the reference model, paired; None
            where there is nothing to compare with.
        latency: How fast it is searched; None where that was not measured.
    """

    model: str
    dim: int
    precision: str
    rerank: Rerank | None
    bytes_per_vector: int
    rerank_bytes_per_vector: int
    metrics: Mapping[str, Interval]
    retention: Interval | None
    reference_retention: Interval | None = None
    gain: Difference | None = None
    latency: Latency | None = None

    @property
    def key(self) -> CellKey:
        """Which cell of the grid it is."""
        return CellKey(self.dim, self.precision, self.rerank)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Cell:
        """Read a cell in the shape of `as_json`.

        Args:
            document: The cell; keys that `as_json` did not write in earlier versions may be missing.

        Returns:
            The cell.

        Raises:
            GridError: It is no cell.
        """
        try:
            rerank = document.get("rerank")
            median_ms = document.get("latency_ms")
            return cls(
                model=str(document["model"]),
                dim=int(document["dim"]),
                precision=check_precision(document["precision"]),
                rerank=None if rerank is None else parse_rerank(rerank),
                bytes_per_vector=int(document["bytes_per_vector"]),
                rerank_bytes_per_vector=int(document.get("rerank_bytes_per_vector", 0)),
                metrics={name: Interval(**value) for name, value in document["metrics"].items()},
                retention=_from_json(Interval, document["retention_interval"]),
                reference_retention=_from_json(Interval, document.get("reference_retention")),
                gain=_from_json(Difference, document.get("gain")),
                latency=None
                if median_ms is None
                else Latency(median_ms, document["p95_ms"], document["queries_per_second"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise GridError(f"This is no cell of a grid ({type(error).__name__}: {error}): {document}") from error

    def as_json(self) -> dict[str, Any]:
        """Return the cell in the shape that every report keeps."""
        return {
            "model": self.model,
            "dim": self.dim,
            "precision": self.precision,
            "rerank": None if self.rerank is None else str(self.rerank),
            "bytes_per_vector": self.bytes_per_vector,
            "rerank_bytes_per_vector": self.rerank_bytes_per_vector,
            "metrics": {name: _as_json(value) for name, value in self.metrics.items()},
            "retention": None if self.retention is None else self.retention.value,
            "retention_interval": _as_json(self.retention),
            "reference_retention": _as_json(self.reference_retention),
            "gain": _as_json(self.gain),
            "latency_ms": None if self.latency is None else self.latency.median_ms,
            "p95_ms": None if self.latency is None else self.latency.p95_ms,
            "queries_per_second": None if self.latency is None else self.latency.queries_per_second,
        }


def make_cells(
    model: str,
    scores: GridScores,
    *,
    before: GridScores | None = None,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Cell]:
    """Turn scores into cells with bootstrap intervals.

    The first metric is the headline: retention and gain are of it. Every interval of one grid comes from the same
    resamples.

    Args:
        model: What to call the model in the report.
        scores: Its scores.
        before: Scores of the model it is compared with, on the same task; cells that it lacks have no gain. None for
            no comparison.
        samples: Bootstrap resamples.
        confidence: Confidence of the intervals, between 0 and 1.
        seed: Seed of the resampling.

    Returns:
        One cell for each of `scores`, in their order.

    Raises:
        GridError: `before` was measured on other units.
    """
    resampled = _resample(scores, before, samples, seed)
    headline = next(iter(scores.scores[scores.full]))
    return [
        _make_cell(model, key, scores, before, resampled, headline, confidence, seed, scores.latencies.get(key))
        for key in scores.scores
    ]


class _Resampled(NamedTuple):
    """Every score on the same resamples, [samples] by cell and metric."""

    own: Mapping[tuple[CellKey, str], Floats]
    before: Mapping[tuple[CellKey, str], Floats]


def _resample(scores: GridScores, before: GridScores | None, samples: int, seed: int) -> _Resampled:
    own = {(key, name): score for key, metrics in scores.scores.items() for name, score in metrics.items()}
    other: dict[tuple[CellKey, str], Score] = {}
    if before is not None:
        headline = next(iter(scores.scores[scores.full]))
        other = {(key, headline): metrics[headline] for key, metrics in before.scores.items()}
    units = {score.n_units for score in [*own.values(), *other.values()]}
    if len(units) > 1:
        raise GridError(f"Cannot compare scores of {sorted(units)} units. Measure both models on the same data.")
    resampled = resample([*own.values(), *other.values()], samples=samples, seed=seed)
    rows = dict(zip(own, resampled, strict=False)), dict(zip(other, resampled[len(own) :], strict=True))
    return _Resampled(*rows)


def _make_cell(
    model: str,
    key: CellKey,
    scores: GridScores,
    before: GridScores | None,
    resampled: _Resampled,
    headline: str,
    confidence: float,
    seed: int,
    latency: Latency | None,
) -> Cell:
    metrics = scores.scores[key]
    own = metrics[headline], resampled.own[key, headline]
    full = scores.scores[scores.full][headline], resampled.own[scores.full, headline]
    gain = reference_retention = None
    if before is not None:
        base_full = before.scores[before.full][headline], resampled.before[before.full, headline]
        reference_retention = _ratio(own, base_full, confidence)
        if key in before.scores:
            base = before.scores[key][headline]
            gain = difference(own[0], base, own[1], resampled.before[key, headline], confidence=confidence, seed=seed)
    stage = key.rerank
    return Cell(
        model=model,
        dim=key.dim,
        precision=key.precision,
        rerank=stage,
        bytes_per_vector=bytes_per_vector(key.dim, key.precision),
        rerank_bytes_per_vector=0 if stage is None else bytes_per_vector(scores.full_dim, stage.precision),
        metrics={
            name: interval(score.value, resampled.own[key, name], confidence=confidence)
            for name, score in metrics.items()
        },
        retention=_ratio(own, full, confidence),
        reference_retention=reference_retention,
        gain=gain,
        latency=latency,
    )


def _ratio(score: tuple[Score, Floats], full: tuple[Score, Floats], confidence: float) -> Interval | None:
    if not full[0].value > 0:
        return None
    # A resample of a few units may hold none that the full vector gets right.
    ratios = np.divide(score[1], full[1], out=np.full_like(full[1], np.nan), where=full[1] > 0)
    return interval(score[0].value / full[0].value, ratios, confidence=confidence)


def _from_json(kind: Callable[..., Any], document: Mapping[str, float] | None) -> Any:
    return None if document is None else kind(**document)


def _as_json(value: Interval | Difference | None) -> dict[str, float] | None:
    return None if value is None else value._asdict()
