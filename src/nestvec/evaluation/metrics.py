"""Retrieval metrics, by the names of the papers: MRR@10, Recall@10, nDCG@10, MAP@10.

Every query with qrels counts: one that finds nothing, or has no relevant document, is worth 0. Documents with equal
scores are ordered by document id, last first, as trec_eval does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DataError, MetricError

__all__ = ["DEFAULT_METRICS", "Judged", "Metric", "judge", "measure_run", "parse_metric", "score_queries"]

DEFAULT_METRICS = ("MRR@10", "Recall@10", "nDCG@10")

Floats = NDArray[np.float64]
_MAP_ALONE = "MAP@1000"


class Metric(NamedTuple):
    """One measure at one cut-off."""

    name: str
    """`MRR`, `Recall`, `nDCG` or `MAP`."""
    cutoff: int
    """Ranks that count, from 1."""

    def __str__(self) -> str:
        """Write it as papers do: `nDCG@10`."""
        return f"{self.name}@{self.cutoff}"


class Judged(NamedTuple):
    """Rankings in terms of relevance, which is all that a metric needs to know."""

    grades: Floats
    """Grade of the document at each rank, 0 where it is not judged, [n_queries, depth]."""
    ideal: Floats
    """The best grades a ranking could have, falling, [n_queries, depth]."""
    relevant: Floats
    """Relevant documents of each query, [n_queries]."""


def parse_metric(text: str) -> Metric:
    """Read a metric from its name.

    Args:
        text: `MRR@k`, `Recall@k`, `nDCG@k` or `MAP@k`, with case not counting; `MAP` alone is `MAP@1000`, as in
            trec_eval.

    Returns:
        The metric.

    Raises:
        MetricError: The name is not known, or the cut-off is no whole number from 1.

    Example:
        >>> str(parse_metric("ndcg@5"))
        'nDCG@5'
    """
    spelled = _MAP_ALONE if text.strip().upper() == "MAP" else text.strip()
    match = re.fullmatch(r"([A-Za-z]+)@([1-9]\d*)", spelled)
    names = {name.lower(): name for name in _MEASURES}
    if match is None or match[1].lower() not in names:
        known = ", ".join(f"{name}@k" for name in _MEASURES)
        raise MetricError(f"Unknown metric {text!r}. Metrics are {known}, with k from 1, such as MRR@10.")
    return Metric(names[match[1].lower()], int(match[2]))


def score_queries(metric: Metric, judged: Judged) -> Floats:
    """Score every query by one metric.

    Args:
        metric: What to compute.
        judged: Rankings at least as deep as the metric's cut-off, or as deep as the corpus.

    Returns:
        One value from 0 to 1 a query, [n_queries].
    """
    cut = Judged(judged.grades[:, : metric.cutoff], judged.ideal[:, : metric.cutoff], judged.relevant)
    return _MEASURES[metric.name](cut)


def measure_run(
    qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]], metrics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Score a run of any search engine.

    Args:
        qrels: Grade by query id and document id.
        run: Score by query id and document id, higher is better; compared as float32, as trec_eval does.
        metrics: Names such as `nDCG@10`.

    Returns:
        For each metric, the value of every query in `qrels`. Queries that are only in the run do not count.

    Raises:
        MetricError: A metric is not known.
        DataError: A score is not a number.

    Source:
        Oracle: trec_eval, through pytrec_eval.

    Example:
        >>> measure_run({"q": {"a": 1}}, {"q": {"b": 0.9, "a": 0.8}}, ["MRR@10"])
        {'MRR@10': {'q': 0.5}}
    """
    parsed = [parse_metric(name) for name in metrics]
    depth = max((metric.cutoff for metric in parsed), default=1)
    rankings = {}
    for query in qrels:
        for document, score in run.get(query, {}).items():
            if math.isnan(score):
                raise DataError(f"The run has score nan for document {document!r} of query {query!r}. Leave it out.")
        scored = [(_as_float32(score), document) for document, score in run.get(query, {}).items()]
        rankings[query] = [document for _, document in sorted(scored, reverse=True)[:depth]]
    judged = judge(qrels, rankings, depth)
    return {str(metric): dict(zip(qrels, score_queries(metric, judged).tolist(), strict=True)) for metric in parsed}


def _as_float32(score: float) -> float:
    with np.errstate(over="ignore"):  # beyond float32 is infinity, as in trec_eval
        return float(np.float32(score))


def judge(qrels: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]], depth: int) -> Judged:
    """Look up what was found.

    Args:
        qrels: Grade by query id and document id.
        rankings: Document ids by query id, best first; a query that is missing found nothing.
        depth: Ranks to keep.

    Returns:
        The rankings in terms of relevance, one row a query of `qrels`, in its order.
    """
    grades, ideal = np.zeros((2, len(qrels), depth))
    relevant = np.zeros(len(qrels))
    for row, (query, judgements) in enumerate(qrels.items()):
        positive = sorted((grade for grade in judgements.values() if grade > 0), reverse=True)
        relevant[row] = len(positive)
        ideal[row, : len(positive)] = positive[:depth]
        found = [max(0, judgements.get(document, 0)) for document in rankings.get(query, ())[:depth]]
        grades[row, : len(found)] = found
    return Judged(grades, ideal, relevant)


def _mean_reciprocal_rank(judged: Judged) -> Floats:
    """1 / rank of the first relevant document (Voorhees 1999)."""
    ranks = np.arange(1, judged.grades.shape[1] + 1)
    best: Floats = ((judged.grades > 0) / ranks).max(axis=1, initial=0.0)
    return best


def _recall(judged: Judged) -> Floats:
    """Relevant documents found / relevant documents."""
    return _ratio((judged.grades > 0).sum(axis=1).astype(np.float64), judged.relevant)


def _normalized_discounted_cumulative_gain(judged: Judged) -> Floats:
    """Gain grade, discount log2(rank + 1), over the best possible (Jarvelin and Kekalainen 2002)."""
    discounts = 1.0 / np.log2(np.arange(2, judged.grades.shape[1] + 2))
    return _ratio(judged.grades @ discounts, judged.ideal @ discounts)


def _mean_average_precision(judged: Judged) -> Floats:
    """Precision at each relevant document that is found, summed, / relevant documents (Buckley and Voorhees 2000)."""
    relevant = judged.grades > 0
    precision = relevant.cumsum(axis=1) / np.arange(1, relevant.shape[1] + 1)
    return _ratio((precision * relevant).sum(axis=1), judged.relevant)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


_MEASURES: dict[str, Callable[[Judged], Floats]] = {
    "MRR": _mean_reciprocal_rank,
    "Recall": _recall,
    "nDCG": _normalized_discounted_cumulative_gain,
    "MAP": _mean_average_precision,
}
