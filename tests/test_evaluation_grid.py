"""Every cell of the grid against slow float64 loops. Run: pytest tests/test_evaluation_grid.py (seconds)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from builders import OBJECTS, SUBJECTS, VERBS
from nestvec.data import Benchmark
from nestvec.errors import DimensionError, GridError, MetricError, ModelError, PrecisionError, VectorError
from nestvec.evaluation import (
    CellKey,
    Rerank,
    Retrieval,
    TaskVectors,
    check_task_vectors,
    encode_task,
    measure_grid,
    measure_run,
    parse_rerank,
)
from nestvec.quantization import BITS_PER_DIMENSION, RotatedQuantizer, fit_codes, fit_quantizer
from nestvec.vectors import normalize, truncate

DIM = 16


class TableEncoder:
    """Looks vectors up: what a text means is known exactly."""

    full_dim = DIM

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        self.table: dict[str, np.ndarray] = {}

    def identity(self, side: str) -> str:
        return f"table-{side}"

    def _encode(self, texts: Sequence[str], **_: object) -> np.ndarray:
        for text in texts:
            if text not in self.table:
                vector = self.generator.normal(size=DIM)
                self.table[text] = (vector / np.linalg.norm(vector)).astype(np.float32)
        return np.stack([self.table[text] for text in texts])

    encode_queries = encode_documents = _encode


def made_up(number: int) -> str:
    """A text of words that the tiny model knows; another for every number below 1,000."""
    return f"the {SUBJECTS[number % 10]} {VERBS[number // 10 % 10]} the {OBJECTS[number // 100]}"


def random_benchmark(seed: int = 0, n_queries: int = 40, n_documents: int = 60) -> Benchmark:
    """Graded judgements; every fifth document repeats the text of another."""
    generator = np.random.default_rng(seed)
    corpus = {f"d{i}": made_up(i - 7 if i % 5 == 0 and i > 7 else i) for i in range(n_documents)}
    qrels = {
        f"q{i}": {f"d{j}": int(generator.integers(0, 3)) for j in generator.choice(n_documents, 6, replace=False)}
        for i in range(n_queries)
    }
    qrels["q0"]["d0"] = 1
    return Benchmark({f"q{i}": f"what does it do {made_up(i)}" for i in range(n_queries)}, corpus, qrels)


METRICS = ("MRR@10", "Recall@10", "nDCG@5", "MAP@10")


def slow_scores(task: Retrieval, vectors: TaskVectors, key: CellKey) -> tuple[dict[str, list[float]], list[bool]]:
    """Decode, compare one by one in float64, sort, and score as a run of a search engine.

    Also which queries have a shortlist that ends between equal documents, of which a scan may keep either.
    """

    def kept(precision: str) -> np.ndarray:
        # Until a quantizer can be fitted to all documents, an index keeps them as float16.
        if precision in ("float32", "float16"):
            return vectors.documents
        return normalize(vectors.documents.astype(np.float16).astype(np.float32))

    def stored(precision: str, dim: int) -> np.ndarray:
        quantizer = fit_codes(truncate(vectors.documents, dim), dim, precision)
        return quantizer.decode(quantizer.encode(truncate(kept(precision), dim))).astype(np.float64)

    def similarities(documents: np.ndarray, *, cosine: bool) -> list[dict[str, float]]:
        dim = documents.shape[1]
        return [
            {
                name: round(float(truncate(query, dim) @ (normalize(row[None])[0] if cosine else row)), 6)
                for name, row in zip(task.document_ids, documents, strict=True)
            }
            for query in vectors.queries.astype(np.float64)
        ]

    # A scan orders by dot products, which choose the shortlist; its end is ordered by cosine.
    run = similarities(stored(key.precision, key.dim), cosine=key.rerank is None)
    tied = [False] * len(run)
    if key.rerank is not None:
        quantizer = fit_quantizer(vectors.documents, key.rerank.precision)
        second = quantizer.decode(quantizer.encode(kept(key.rerank.precision))).astype(np.float64)
        again = similarities(second, cosine=True)
        for place, scores in enumerate(run):
            ranked = sorted(scores, key=lambda name: (scores[name], name), reverse=True)
            last, *after = [scores[name] for name in ranked[key.rerank.shortlist - 1 : key.rerank.shortlist + 1]] or [0]
            tied[place] = any(last - one < 1e-4 for one in after)
            run[place] = {name: again[place][name] for name in ranked[: key.rerank.shortlist]}
    found = measure_run(task.benchmark.qrels, dict(zip(task.query_ids, run, strict=True)), METRICS)
    return {metric: list(values.values()) for metric, values in found.items()}, tied


@pytest.mark.parametrize("seed", range(3))
def test_every_cell_equals_a_slow_computation_ties_included(seed: int) -> None:
    task = Retrieval(random_benchmark(seed), metrics=METRICS)
    vectors = encode_task(task, TableEncoder(seed))
    reranks = [None, Rerank("int8", 10), Rerank("float32", 20), Rerank("float16", 60), Rerank("int8", 200)]
    grid = measure_grid(task, vectors, [DIM, 5, 2, 1], precisions=list(BITS_PER_DIMENSION), reranks=reranks)
    assert len(grid.scores) == 4 * 5 * 5
    for key, scores in grid.scores.items():
        if key.precision == "binary" and key.rerank is not None and key.rerank.shortlist < 60:
            continue  # faiss rounds the tables of its fast scan, so that the end of a shortlist may be another one
        expected, tied = slow_scores(task, vectors, key)
        sure = ~np.array(tied)
        assert sure.sum() > 15 or key.dim < 5  # of few dimensions most documents are equal
        for metric in METRICS:
            np.testing.assert_allclose(
                scores[metric].values[sure], np.array(expected[metric])[sure], atol=1e-9, err_msg=f"{key} {metric}"
            )


def test_bits_are_measured_as_they_are_stored_rotated_where_that_helps() -> None:
    generator = np.random.default_rng(0)
    scales = np.linspace(2, 0.05, 32) ** 2
    documents = normalize(generator.normal(size=(900, 32)) * scales).astype(np.float32)
    rows = generator.integers(0, 900, 200)
    queries = normalize(documents[rows] + 0.1 * generator.normal(size=(200, 32)) * scales).astype(np.float32)
    benchmark = Benchmark(
        {f"q{place}": f"query {place}" for place in range(200)},
        {f"d{row}": f"document {row}" for row in range(900)},
        {f"q{place}": {f"d{row}": 1} for place, row in enumerate(rows)},
    )
    task = Retrieval(benchmark, metrics=["MRR@10"])
    asked, given = ([int(key[1:]) for key in keys] for keys in (task.query_ids, task.document_ids))
    queries, documents, rows = queries[asked], documents[given], np.argsort(given)[rows[asked]]
    grid = measure_grid(task, TaskVectors(queries, documents), [32, 16], precisions=["binary"])
    for dim in (32, 16):
        quantizer = fit_codes(documents, dim, "binary")
        assert isinstance(quantizer, RotatedQuantizer) == (dim == 32)
        stored = quantizer.score(queries[:, :dim], quantizer.encode(truncate(documents, dim)))
        ranks = 1 + (stored > stored[np.arange(200), rows][:, None]).sum(axis=1)
        expected = np.where(ranks <= 10, 1 / ranks, 0.0).mean()
        assert grid.scores[CellKey(dim, "binary")]["MRR@10"].value == pytest.approx(expected, abs=0.01)
        plain = fit_quantizer(truncate(documents, dim), "binary")
        unturned = plain.score(queries[:, :dim], plain.encode(truncate(documents, dim)))
        worse = 1 + (unturned > unturned[np.arange(200), rows][:, None]).sum(axis=1)
        assert dim == 16 or expected > np.where(worse <= 10, 1 / worse, 0.0).mean() + 0.02


def test_the_full_float32_vector_is_always_measured_and_nothing_else_unasked() -> None:
    task = Retrieval(random_benchmark())
    grid = measure_grid(task, encode_task(task, TableEncoder()), [4], precisions=["int8", "binary"])
    assert list(grid.scores) == [CellKey(DIM), CellKey(4, "int8"), CellKey(4, "binary")]


def test_a_shortlist_of_everything_is_the_second_stage_alone() -> None:
    task = Retrieval(random_benchmark())
    vectors = encode_task(task, TableEncoder())
    grid = measure_grid(task, vectors, [2], precisions=["binary"], reranks=[Rerank("float32", 60)])
    np.testing.assert_array_equal(
        grid.scores[CellKey(2, "binary", Rerank("float32", 60))]["MRR@10"].values,
        grid.scores[CellKey(DIM)]["MRR@10"].values,
    )


def test_equal_vectors_are_ordered_as_trec_eval_orders_them() -> None:
    encoder = TableEncoder()
    benchmark = Benchmark(
        {"q": "x", "r": "y"}, {"a": "same", "b": "same", "c": "other"}, {"q": {"a": 1}, "r": {"b": 1}}
    )
    encoder.table = {
        "x": np.eye(DIM, dtype=np.float32)[0],
        "y": np.eye(DIM, dtype=np.float32)[0] + 0.1 * np.eye(DIM, dtype=np.float32)[2],
        "same": np.eye(DIM, dtype=np.float32)[0],
        "other": np.eye(DIM, dtype=np.float32)[1],
    }
    task = Retrieval(benchmark)
    scores = measure_grid(task, encode_task(task, encoder), [DIM])
    assert scores.scores[scores.full]["MRR@10"].values.tolist() == [0.5, 1.0]  # b is before a


def test_blocks_of_any_size_give_the_same_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Retrieval(random_benchmark())
    vectors = encode_task(task, TableEncoder())
    options = {"precisions": ["float16", "int4"], "reranks": [None, Rerank("int8", 12)]}
    whole = measure_grid(task, vectors, [8, 3], **options)
    monkeypatch.setattr("nestvec.exact_search._SCORES_IN_MEMORY", 130)
    monkeypatch.setattr("nestvec.exact_search._NUMBERS_IN_MEMORY", 40)
    monkeypatch.setattr("nestvec.exact_search._GROUPING", 1)
    monkeypatch.setattr("nestvec.evaluation.grid._ROWS_AT_A_TIME", 7)
    parts = measure_grid(task, vectors, [8, 3], **options)
    for key, scores in whole.scores.items():
        for metric, score in scores.items():
            np.testing.assert_array_equal(parts.scores[key][metric].values, score.values)


def test_a_rerank_is_read_from_its_name() -> None:
    assert parse_rerank("none") is None
    assert parse_rerank("float16:400") == Rerank("float16", 400)
    assert str(Rerank("int8", 100)) == "int8:100"
    for wrong in ("int8", "int8:", "int8:0", "int8:-3", "int8:1e2", "100"):
        with pytest.raises(GridError, match="Cannot read the rerank"):
            parse_rerank(wrong)
    with pytest.raises(PrecisionError):
        parse_rerank("int7:100")


def test_what_cannot_be_measured_is_refused() -> None:
    task = Retrieval(random_benchmark())
    vectors = encode_task(task, TableEncoder())
    with pytest.raises(DimensionError):
        measure_grid(task, vectors, [32])
    with pytest.raises(PrecisionError):
        measure_grid(task, vectors, [4], precisions=["int2"])
    with pytest.raises(GridError, match="No precisions given"):
        measure_grid(task, vectors, [4], precisions=[])
    with pytest.raises(GridError, match="name one twice"):
        measure_grid(task, vectors, [4], precisions=["int8", "int8"])
    with pytest.raises(GridError, match="shortlist of 5 cannot fill the 10 ranks"):
        measure_grid(task, vectors, [4], reranks=[Rerank("int8", 5)])
    with pytest.raises(MetricError):
        Retrieval(random_benchmark(), metrics=["accuracy"])
    with pytest.raises(MetricError, match="No metrics given"):
        Retrieval(random_benchmark(), metrics=[])
    lonely = Retrieval(random_benchmark(n_queries=1))
    with pytest.raises(GridError, match="no interval follows from one"):
        measure_grid(lonely, encode_task(lonely, TableEncoder()), [4])


def test_vectors_that_do_not_fit_the_task_are_refused() -> None:
    task = Retrieval(random_benchmark())
    queries, documents = encode_task(task, TableEncoder())
    with pytest.raises(VectorError, match=r"60 documents and the vectors are \[59, 16\]"):
        check_task_vectors(task, TaskVectors(queries, documents[1:]))
    with pytest.raises(VectorError, match="40 queries"):
        check_task_vectors(task, TaskVectors(queries[0], documents))
    with pytest.raises(VectorError, match="Queries have 8 dimensions and documents 16"):
        check_task_vectors(task, TaskVectors(queries[:, :8], documents))
    with pytest.raises(VectorError, match="all 60 documents of benchmark the same vector"):
        check_task_vectors(task, TaskVectors(queries, np.outer(np.arange(1, 61), documents[0])))
    broken = documents.copy()
    broken[4, 2] = np.inf
    with pytest.raises(VectorError, match="the first in row 4"):
        check_task_vectors(task, TaskVectors(queries, broken))
    scaled = check_task_vectors(task, TaskVectors(queries.astype(np.float64) * 3, documents * 5))
    np.testing.assert_allclose(scaled.documents, documents, atol=1e-6)
    assert scaled.queries.dtype == np.float32


def test_a_model_that_gives_every_text_the_same_vector_is_refused() -> None:
    encoder = TableEncoder()
    encoder.encode_documents = lambda texts, **_: np.ones((len(texts), DIM), np.float32)
    with pytest.raises(VectorError, match="the same vector"):
        encode_task(Retrieval(random_benchmark()), encoder)


def test_a_model_error_passes_through() -> None:
    encoder = TableEncoder()

    def fail(texts: Sequence[str], **_: object) -> np.ndarray:
        raise ModelError("broken")

    encoder.encode_queries = fail
    with pytest.raises(ModelError, match="broken"):
        encode_task(Retrieval(random_benchmark()), encoder)
