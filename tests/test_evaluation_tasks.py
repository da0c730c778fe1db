"""Tasks against scikit-learn, scipy and slow loops. Run: pytest tests/test_evaluation_tasks.py (seconds)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from nestvec.data import Benchmark, LabeledText, RetrievalRow, ScoredPair
from nestvec.errors import BenchmarkError, DataError, GridError
from nestvec.evaluation import (
    BitextMining,
    CellKey,
    Classification,
    Clustering,
    FewShot,
    PairClassification,
    Rerank,
    Reranking,
    Retrieval,
    SemanticSimilarity,
    Task,
    TaskVectors,
    encode_task,
    measure_grid,
    measure_run,
)
from nestvec.quantization import ROTATED, fit_codes, fit_quantizer
from nestvec.vectors import truncate
from test_evaluation_grid import DIM, TableEncoder

EMPTY = np.empty((0, DIM), np.float32)


def stored(documents: np.ndarray, precision: str, dim: int) -> np.ndarray:
    quantizer = fit_quantizer(documents, precision)
    if precision in ROTATED:  # each size has codes of its own
        quantizer, documents = fit_codes(documents, dim, precision), truncate(documents, dim)
    return truncate(quantizer.decode(quantizer.encode(documents)).astype(np.float64), dim)


def pairs(n: int = 60) -> list[ScoredPair]:
    generator = np.random.default_rng(0)
    return [
        ScoredPair(f"text {generator.integers(40)}", f"text {generator.integers(40)}", float(i % 4)) for i in range(n)
    ]


def labelled(n: int, n_classes: int = 3, start: int = 0) -> list[LabeledText]:
    return [LabeledText(f"text {start + i}", f"class {i % n_classes}") for i in range(n)]


def class_vectors(task: Task, n_classes: int = 3, noise: float = 0.6) -> TaskVectors:
    generator = np.random.default_rng(1)
    centres = generator.normal(size=(n_classes, DIM))
    rows = centres[task.labels] + noise * generator.normal(size=(len(task.documents), DIM)) * np.sqrt(DIM) / 2
    return TaskVectors(EMPTY, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))


@pytest.mark.parametrize("precision", ["float32", "int4", "binary"])
def test_similarity_is_the_correlation_of_cosines_with_labels(precision: str) -> None:
    task = SemanticSimilarity(pairs())
    vectors = encode_task(task, TableEncoder())
    grid = measure_grid(task, vectors, [8, 3], precisions=[precision])
    for dim in (8, 3):
        rows = dict(zip(task.documents, stored(vectors.documents, precision, dim), strict=True))
        cosines = [round(float(rows[pair.text1] @ rows[pair.text2]), 6) for pair in pairs()]
        labels = [pair.score for pair in pairs()]
        scores = grid.scores[CellKey(dim, precision)]
        assert scores["Pearson"].value == pytest.approx(stats.pearsonr(cosines, labels).statistic, abs=1e-5)
        assert scores["Spearman"].value == pytest.approx(stats.spearmanr(cosines, labels).statistic, abs=1e-3)
    assert task.counts() == {"pairs": 60, "texts": len(task.documents)}


def test_pair_classification_is_average_precision() -> None:
    labelled_pairs = [pair._replace(score=float(pair.score > 1)) for pair in pairs()]
    task = PairClassification(labelled_pairs)
    vectors = encode_task(task, TableEncoder())
    rows = dict(zip(task.documents, vectors.documents.astype(np.float64), strict=True))
    cosines = [rows[pair.text1] @ rows[pair.text2] for pair in labelled_pairs]
    expected = average_precision_score([pair.score for pair in labelled_pairs], cosines)
    assert measure_grid(task, vectors, [DIM]).scores[CellKey(DIM)]["AP"].value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_classification_is_a_logistic_probe_and_neighbours(precision: str) -> None:
    task = Classification(labelled(90), labelled(45, start=90))
    vectors = class_vectors(task)
    scores = measure_grid(task, vectors, [8], precisions=[precision]).scores[CellKey(8, precision)]
    rows = stored(vectors.documents, precision, 8)
    train, test = (rows[:90], task.labels[:90]), (rows[90:], task.labels[90:])
    probe = LogisticRegression(C=10.0, max_iter=1000).fit(*train)
    assert scores["Accuracy"].value == pytest.approx(probe.score(*test), abs=0.03)
    assert 0.5 < scores["Accuracy"].value < 1
    neighbours = KNeighborsClassifier(5, metric="cosine", weights="uniform").fit(*train).kneighbors(test[0])[1]
    right = []
    for row, expected in zip(train[1][neighbours], test[1], strict=True):
        votes = np.bincount(row, minlength=3)
        best = {label for label in range(3) if votes[label] == votes.max()}
        right.append(next(label for label in row if label in best) == expected)
    np.testing.assert_array_equal(scores["kNN accuracy"].values, right)
    assert task.counts() == {"train": 90, "test": 45, "classes": 3}
    assert task.n_units == 45


def test_a_probe_learns_many_classes_from_small_numbers() -> None:
    n_classes = 120
    task = Classification(labelled(6 * n_classes, n_classes), labelled(n_classes, n_classes, start=6 * n_classes))
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(n_classes, 256))[task.labels] + generator.normal(size=(7 * n_classes, 256))
    vectors = TaskVectors(EMPTY, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    scores = measure_grid(task, vectors, [256], precisions=["float32", "binary"]).scores
    assert all(score["Accuracy"].value > 0.9 for score in scores.values())


def test_few_shots_are_averaged_over_draws_that_every_cell_shares() -> None:
    task = FewShot(labelled(90), labelled(45, start=90), shots=4, draws=6, seed=3)
    assert all(np.bincount(task.labels[rows]).tolist() == [4, 4, 4] for rows in task._draws)
    vectors = class_vectors(task)
    scores = measure_grid(task, vectors, [8, 4], precisions=["float32", "binary"]).scores
    values = scores[CellKey(8)]["Accuracy, 4 shots"].values
    assert set(np.unique(values * 6).round(9)) <= set(range(7))
    expected = np.mean(
        [
            LogisticRegression(C=10.0, max_iter=1000)
            .fit(rows[draw], task.labels[draw])
            .score(rows[90:], task.labels[90:])
            for rows in [truncate(vectors.documents, 8)]
            for draw in task._draws
        ]
    )
    assert values.mean() == pytest.approx(expected, abs=0.03)
    again = FewShot(labelled(90), labelled(45, start=90), shots=4, draws=6, seed=3)
    for one, other in zip(task._draws, again._draws, strict=True):
        np.testing.assert_array_equal(one, other)


def test_clusters_that_lie_apart_are_found_and_noise_is_not() -> None:
    task = Clustering(labelled(90))
    apart, mixed = class_vectors(task, noise=0.05), class_vectors(task, noise=9.0)
    assert measure_grid(task, apart, [DIM]).scores[CellKey(DIM)]["V-measure"].value == pytest.approx(1.0)
    assert measure_grid(task, mixed, [DIM]).scores[CellKey(DIM)]["V-measure"].value < 0.3
    one_bit = measure_grid(task, mixed, [1], precisions=["binary"])  # two distinct vectors, three clusters
    assert 0 <= one_bit.scores[CellKey(1, "binary")]["V-measure"].value < 0.5


def test_reranking_orders_the_judged_documents_alone() -> None:
    generator = np.random.default_rng(0)
    corpus = {f"d{i}": f"document {i % 25}" for i in range(40)}
    qrels = {
        f"q{i}": {f"d{j}": int(j % 3 == 0) for j in generator.choice(40, generator.integers(3, 12), replace=False)}
        for i in range(20)
    }
    benchmark = Benchmark({f"q{i}": f"query {i}" for i in range(20)}, corpus, qrels)
    task = Reranking(benchmark)
    vectors = encode_task(task, TableEncoder())
    grid = measure_grid(task, vectors, [5], precisions=["int8"])
    rows = dict(zip(task.document_ids, stored(vectors.documents, "int8", 5), strict=True))
    run = {
        query: {key: round(float(truncate(vector, 5) @ rows[key]), 9) for key in qrels[query]}
        for query, vector in zip(task.query_ids, vectors.queries.astype(np.float64), strict=True)
    }
    for metric, expected in measure_run(qrels, run, task.metrics).items():
        np.testing.assert_allclose(grid.scores[CellKey(5, "int8")][metric].values, list(expected.values()), atol=1e-9)
    with pytest.raises(GridError, match="no shortlist to rerank in reranking"):
        measure_grid(task, vectors, [5], reranks=[Rerank("int8", 2000)])


def test_bitext_mining_finds_the_translation_among_all() -> None:
    rows = [RetrievalRow(f"satz {i}", f"sentence {i % 12}", ("distractor",) if i == 0 else ()) for i in range(14)]
    task = BitextMining(rows)
    vectors = encode_task(task, TableEncoder())
    nearest = (vectors.queries @ vectors.documents.T).argmax(axis=1)
    targets = list(task.documents)
    expected = [targets[place] == row.positive for place, row in zip(nearest, rows, strict=True)]
    scores = measure_grid(task, vectors, [4], reranks=[None, Rerank("float32", 13)]).scores
    np.testing.assert_array_equal(scores[CellKey(DIM)]["Accuracy"].values, expected)
    np.testing.assert_array_equal(scores[CellKey(4, "float32", Rerank("float32", 13))]["Accuracy"].values, expected)
    assert len(task.documents) == 13
    assert task.metrics == ("Accuracy",)


def test_data_that_cannot_be_measured_is_refused() -> None:
    with pytest.raises(DataError, match="has no pairs"):
        SemanticSimilarity([])
    with pytest.raises(DataError, match="no order to find"):
        SemanticSimilarity([ScoredPair("a", "b", 1.0)])
    with pytest.raises(DataError, match="labels 1 and 0"):
        PairClassification(pairs())
    with pytest.raises(DataError, match="1 class"):
        Clustering(labelled(5, n_classes=1))
    with pytest.raises(DataError, match="no texts to test"):
        Classification(labelled(9), [])
    with pytest.raises(DataError, match="learn the class 'class 2' from"):
        Classification(labelled(9, n_classes=2), labelled(9))
    with pytest.raises(DataError, match="has 3 texts to learn from and 4 are to be drawn"):
        FewShot(labelled(9), labelled(9), shots=4)
    with pytest.raises(DataError, match="0 draws of examples cannot be averaged"):
        FewShot(labelled(9), labelled(9), shots=1, draws=0)
    with pytest.raises(BenchmarkError, match="relevant documents only"):
        Reranking(Benchmark({"q": "a"}, {"d": "b"}, {"q": {"d": 1}}))
    with pytest.raises(DataError, match="no sentence pairs"):
        BitextMining([])


def odd_benchmark(n: int = 30) -> Benchmark:
    """Queries that stand in the corpus, documents without text, and judgements of documents that are not there."""
    queries = {f"q{i}": f"query {i}" for i in range(8)}
    corpus = {f"d{i:02d}": "" if i % 7 == 0 else f"text {i}" for i in range(n)}
    corpus |= {f"q{i}": f"query {i}" for i in range(0, 8, 2)}
    qrels = {f"q{i}": {f"d{i:02d}": 1, f"d{i + 9:02d}": 2, "gone": 1, f"d{i + 1:02d}": 0} for i in range(8)}
    qrels["q4"]["q4"] = 1  # judged: it stays
    return Benchmark(queries, corpus, qrels, name="odd")


@pytest.mark.parametrize("kind", [Retrieval, Reranking])
def test_what_is_not_there_is_never_found_and_a_query_is_no_document_of_its_own(kind: type[Retrieval]) -> None:
    benchmark = odd_benchmark()
    task = kind(benchmark, metrics=["MRR@10", "Recall@10", "nDCG@10", "MAP@1000"])
    vectors = encode_task(task, TableEncoder())
    assert all(text.strip() for text in task.documents)
    run: dict[str, dict[str, float]] = {}
    for row, query in enumerate(task.query_ids):
        scores = truncate(vectors.documents, 5) @ truncate(vectors.queries[row], 5)
        searched = set(benchmark.qrels[query]) if kind is Reranking else set(benchmark.corpus)
        run[query] = {
            document: round(float(score), 6)
            for document, score in zip(task.document_ids, scores, strict=True)
            if document in searched and (document != query or query == "q4")
        }
    expected = measure_run(benchmark.qrels, run, list(task.metrics))
    reranks = [None, Rerank("float32", 12)] if kind is Retrieval else [None]
    metrics = ["MRR@10", "Recall@10", "nDCG@10"] if kind is Retrieval else task.metrics
    measured = measure_grid(kind(benchmark, metrics=metrics), vectors, [5], reranks=reranks)
    for metric in metrics:
        values = measured.scores[CellKey(5)][metric].values
        np.testing.assert_allclose(values, list(expected[metric].values()), atol=1e-6)
    if kind is Retrieval:
        deep = kind(benchmark, metrics=["MAP@1000"])  # deeper than the corpus
        found = deep.measure(vectors.queries, vectors.documents, [5])[5]["MAP@1000"].values
        np.testing.assert_allclose(found, list(expected["MAP@1000"].values()), atol=1e-6)


def test_a_shortlist_never_holds_the_query_itself() -> None:
    task = Retrieval(odd_benchmark(), metrics=["Recall@40"])
    vectors = encode_task(task, TableEncoder())
    shortlist = task.search(vectors.queries, vectors.documents, [DIM], depth=len(task.documents))[DIM].indices
    own = {query: task.document_ids.index(query) for query in ("q0", "q2", "q6")}
    for query, row in own.items():
        place = task.query_ids.index(query)
        assert row not in shortlist[place]
        assert shortlist[place, -1] == -1
        some = task.search(vectors.queries[[place]], vectors.documents, [DIM], depth=3, rows=[place])[DIM].indices
        np.testing.assert_array_equal(some[0], shortlist[place, :3])
    reranked = measure_grid(task, vectors, [DIM], reranks=[Rerank("float32", 40)])
    expected = task.score(task.search(vectors.queries, vectors.documents, [DIM], depth=40)[DIM])["Recall@40"].values
    np.testing.assert_allclose(
        reranked.scores[CellKey(DIM, "float32", Rerank("float32", 40))]["Recall@40"].values, expected
    )
