"""Metrics against trec_eval on random runs. Run: pytest tests/test_evaluation_metrics.py (seconds)."""

from __future__ import annotations

import random

import ir_measures
import numpy as np
import pytest

from nestvec.errors import DataError, MetricError
from nestvec.evaluation import measure_run, parse_metric

ORACLE = ir_measures.providers.registry["pytrec_eval"]


def random_case(seed: int) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Ties, graded and negative judgements, unjudged documents, missing queries, queries without relevant documents."""
    generator = random.Random(seed)
    documents = [f"d{i}" for i in range(40)]
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for number in range(12):
        query = f"q{number}"
        judged = generator.sample(documents, generator.randint(1, 25))
        qrels[query] = {document: generator.choice([-1, 0, 0, 1, 1, 2, 3]) for document in judged}
        if generator.random() < 0.8:  # else the query is missing from the run
            found = generator.sample(documents, generator.randint(1, 30))
            run[query] = {document: generator.choice([0.1, 0.2, 0.3, 0.5, generator.random()]) for document in found}
    qrels["nothing-relevant"] = {"d1": 0, "d2": 0}
    run["nothing-relevant"] = {"d1": 0.5}
    run["not-judged"] = {"d1": 0.5}
    return qrels, run


def oracle(qrels, run, metric: str) -> dict[str, float]:
    name, cutoff = metric.split("@")
    k = int(cutoff)
    if name == "MRR":
        # trec_eval has no cut-off for the reciprocal rank: one below 1/k lies behind it.
        found = ORACLE.iter_calc([ir_measures.RR], qrels, run)
        values = {one.query_id: one.value if one.value >= 1 / k else 0.0 for one in found}
    else:
        measure = {"Recall": ir_measures.R, "nDCG": ir_measures.nDCG, "MAP": ir_measures.AP}[name] @ k
        values = {one.query_id: one.value for one in ORACLE.iter_calc([measure], qrels, run)}
    return {query: values.get(query, 0.0) for query in qrels}


@pytest.mark.parametrize(
    "metric", ["MRR@10", "Recall@10", "nDCG@10", "MRR@1", "nDCG@3", "Recall@100", "nDCG@100", "MAP@5", "MAP@100"]
)
@pytest.mark.parametrize("seed", range(25))
def test_every_query_agrees_with_trec_eval(metric: str, seed: int) -> None:
    qrels, run = random_case(seed)
    found = measure_run(qrels, run, [metric])[metric]
    expected = oracle(qrels, run, metric)
    assert found.keys() == expected.keys()
    for query in expected:
        assert found[query] == pytest.approx(expected[query], abs=1e-9), query


def test_the_mean_agrees_with_ir_measures() -> None:
    qrels, run = random_case(99)
    found = measure_run(qrels, run, ["nDCG@10", "Recall@10"])
    expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.R @ 10], qrels, run)
    means = {str(metric).replace("R@", "Recall@"): value for metric, value in expected.items()}
    for metric, values in found.items():
        assert np.mean(list(values.values())) == pytest.approx(means[metric], abs=1e-9)


def test_scores_that_differ_only_beyond_float32_are_ties() -> None:
    qrels = {"q": {"a": 1}}
    run = {"q": {"a": 0.5 + 1e-12, "b": 0.5}}
    assert measure_run(qrels, run, ["MRR@10"])["MRR@10"] == {"q": 0.5} == oracle(qrels, run, "MRR@10")


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="score nan for document 'a'"):
        measure_run({"q": {"a": 1}}, {"q": {"b": 1.0, "a": float("nan")}}, ["MRR@10"])


def test_a_score_beyond_float32_is_the_largest() -> None:
    assert measure_run({"q": {"a": 1}}, {"q": {"b": 1.0, "a": 1e300}}, ["MRR@10"]) == {"MRR@10": {"q": 1.0}}


def test_a_metric_is_read_whatever_its_case() -> None:
    assert [str(parse_metric(name)) for name in ("mrr@10", "RECALL@5", "ndcg@1", "map@7")] == [
        "MRR@10",
        "Recall@5",
        "nDCG@1",
        "MAP@7",
    ]


@pytest.mark.parametrize("name", ["MRR", "MRR@0", "precision@10", "nDCG@x", ""])
def test_an_unknown_metric_lists_the_known_ones(name: str) -> None:
    with pytest.raises(MetricError, match="MRR@k, Recall@k, nDCG@k"):
        measure_run({"q": {"d": 1}}, {}, [name])
