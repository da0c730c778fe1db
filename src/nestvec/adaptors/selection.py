"""Which of several maps to keep, by how they do on held-out data at their worst size and on the mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors.maps import HiddenLayer, Map, Towers

__all__ = ["CLEAR", "STRENGTHS", "Candidate", "blend", "choose", "clearly_better", "merit", "share", "shrinkage"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the way from the start to the trained map that are compared."""
_LEAST_SCORE = 0.01  # that gains are relative to
_SHARE_OF_MEAN = 0.5
CLEAR = 2.0
"""Standard errors of a gain that is one at all."""
_SURE = 12.0  # of one that nothing is taken off


class Candidate(NamedTuple):
    """Maps, and how good they are on held-out data."""

    method: str
    """`raw`, `pca`, `whitening`, `linear`, `two-tower`, `mlp` or `rotation`."""
    towers: Towers
    values: Mapping[int, Floats]
    """What each held-out query, pair or document says of them, by dim; their mean is the score."""
    start: str | None = None
    """Where training began."""
    end: Towers | None = None
    """Where it ended."""
    strength: float | None = None
    """Share of the way between that is kept."""

    @property
    def scores(self) -> dict[int, float]:
        """Score by dim; higher is better."""
        return {dim: float(values.mean()) for dim, values in self.values.items()}


def blend(start: Towers, trained: Towers, strength: float) -> Towers:
    """Go a share of the way from one map to another.

    This stands for L2 penalties towards the start of any strength, without fitting anew for each.

    Args:
        start: Where training began.
        trained: Where it ended.
        strength: 0 is the start, 1 the trained map.

    Returns:
        Maps whose outputs, before they are scaled to unit length, lie that far between those of both.

    Source:
        Wortsman et al. 2022, arXiv:2109.01903, who put weights between those before and after fine-tuning.
    """
    if strength == 1.0:
        return trained
    query = _blend(start.query, trained.query, strength)
    shared = trained.document is trained.query and start.document is start.query
    return Towers(query, query if shared else _blend(start.document, trained.document, strength))


def _blend(start: Map, trained: Map, strength: float) -> Map:
    def between(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(left + np.float32(strength) * (right - left), np.float32)

    bias = trained.bias
    if bias is not None:
        bias = between(np.zeros_like(bias) if start.bias is None else start.bias, bias)
    hidden = trained.hidden
    if hidden is not None:  # that of the start gives nothing
        hidden = HiddenLayer(hidden.weight, hidden.bias, (np.float32(strength) * hidden.output).astype(np.float32))
    return Map(between(start.weight, trained.weight), bias, hidden)


def share(towers: Towers) -> Towers:
    """Put one map in the place of two linear ones: their mean."""
    query = _blend(towers.query, towers.document, 0.5)
    return Towers(query, query)


def choose(
    candidates: Iterable[Candidate],
    raw: Candidate,
    weights: Sequence[float],
    *,
    clear: float = CLEAR,
    most_lost: float = 0.0,
    share_of_worst: float = 1.0,
) -> Candidate:
    """Choose maps that gain at every size, by their worst size and half the mean, relative to the vectors as they are.

    A mean alone would let much gained at short prefixes hide what is lost at others; the worst size alone, which is
    mostly the full one, says little of the others. Rotations, which leave the full one as it is, can go by the mean
    alone. Where nothing gains at every size, or the gain on the whole is `clear` standard errors at most,
    the vectors stay as they are: few pairs with a strong base end at the base.

    Args:
        candidates: Maps, measured on the same held-out data.
        raw: The vectors as they are.
        weights: One weight a dim, in the order of the dims; a size that weighs nothing does not count.
        clear: Standard errors that the gain on the whole must be, at least.
        most_lost: What the score of a size may lose in the worst case.
        share_of_worst: How much the worst size counts.

    Returns:
        One of the candidates, or `raw`.

    Example:
        >>> same = Towers(Map(np.eye(1, dtype=np.float32)), Map(np.eye(1, dtype=np.float32)))
        >>> raw, worse = (Candidate(name, same, {2: np.full(9, score)}) for name, score in (("raw", 0.5), ("pca", 0.4)))
        >>> choose([worse], raw, [1.0]).method
        'raw'
    """
    best, best_gain = raw, 0.0
    counted = np.asarray(weights) > 0
    for candidate in candidates:
        gains = np.array([values - raw.values[dim] for dim, values in candidate.values.items()])  # [n_dims, n_units]
        relative = gains.mean(axis=1) / np.maximum(list(raw.scores.values()), _LEAST_SCORE)
        worst, mean = relative[counted].min(), np.average(relative, weights=weights)
        gain = float(share_of_worst * worst + _SHARE_OF_MEAN * mean)
        kept = gains.mean(axis=1)[counted].min() > -most_lost
        if kept and gain > best_gain and _errors(np.average(gains, axis=0, weights=weights)) > clear:
            best, best_gain = candidate, gain
    return best


def shrinkage(chosen: Candidate, raw: Candidate, weights: Sequence[float]) -> float:
    """Return the share of a chosen strength that is kept, by how sure its gain is.

    Held-out pairs come from the same source as those that were trained on, and a gain on them flatters what other texts
    will see: a gain of a few standard errors may be a loss there, one of many is none. Shrinking what is not sure is
    the idea of James and Stein; the number of errors was chosen on three sets, see the log.

    Args:
        chosen: Maps, from `choose`.
        raw: The vectors as they are.
        weights: One weight a dim.

    Returns:
        Above 0, 1 at most.
    """
    gains = np.array([values - raw.values[dim] for dim, values in chosen.values.items()])
    return min(1.0, _errors(np.average(gains, axis=0, weights=weights)) / _SURE)


def clearly_better(one: Candidate, other: Candidate, dim: int, groups: Rows | None = None) -> bool:
    """Tell whether maps are better than others at a size by two standard errors of the difference.

    Args:
        one: Maps.
        other: The others, measured on the same held-out data.
        dim: The size.
        groups: What belongs together, such as the queries of one document, [n_units]; None where each is alone.
    """
    gain = one.values[dim] - other.values[dim]
    return _errors(gain if groups is None else _sums(gain, groups)) > CLEAR


def _sums(gain: Floats, groups: Rows) -> Floats:
    """The gain of each group, [n_groups]."""
    return np.bincount(np.unique(groups, return_inverse=True)[1].reshape(-1), gain).astype(np.float64)


def _errors(gain: Floats) -> float:
    """How many standard errors the mean of a gain is above 0, [n_units]."""
    if len(gain) < 2 or gain.mean() <= 0:
        return 0.0
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    return float(gain.mean()) / error if error > 0 else np.inf


def merit(one: Candidate, others: Iterable[Candidate]) -> float:
    """What counts in a state of training: the mean over the sizes; what another map does better at one counts twice."""
    references = [other.scores for other in others]
    merits = []
    for dim, score in one.scores.items():
        best = max(reference[dim] for reference in references)
        merits.append(score - max(0.0, best - score))
    return float(np.mean(merits))
