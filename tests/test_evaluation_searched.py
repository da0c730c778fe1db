"""What a grid says of a plan, an index that is built by it finds. Run: pytest tests/test_evaluation_searched.py (a minute)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from builders import SUBJECTS, VERBS, build_tiny_model, synthetic_rows, write_json_lines
from nestvec.data import Benchmark, read_benchmark
from nestvec.errors import DimensionError, GridError, SearchIndexError
from nestvec.evaluation import CellKey, Rerank, Retrieval, TaskVectors, measure_grid, measure_run
from nestvec.index import Index
from nestvec.jobs.evaluate import GridSettings, evaluate
from nestvec.jobs.index import DocumentFile, build_index, encoder_of
from nestvec.jobs.plan import make_plan, write_plan
from nestvec.plan import FirstStage, Plan, SecondStage
from nestvec.quantization import ProductQuantizer, fit_codes, load_codes
from nestvec.vectors import normalize

DIM, DOCUMENTS, QUERIES = 48, 2500, 1500
RERANKS = [None, Rerank("int8", 100), Rerank("float16", 40), Rerank("pq24", 60)]


@pytest.fixture(scope="module")
def made() -> tuple[Retrieval, TaskVectors]:
    """A task whose queries lie near their documents, some of them documents themselves."""
    generator = np.random.default_rng(0)
    spread = 1 / np.sqrt(np.arange(1, DIM + 1))
    documents = normalize((generator.normal(size=(DOCUMENTS, DIM)) * spread).astype(np.float32))
    documents[100:120] = documents[:20]  # copies
    rows = generator.choice(np.arange(200, DOCUMENTS), QUERIES, replace=False)
    queries = normalize((documents[rows] + 0.2 * generator.normal(size=(QUERIES, DIM))).astype(np.float32))
    names = [f"d{row:05d}" for row in range(DOCUMENTS)]
    corpus = {name: f"text {name}" for name in names}
    asked = {f"q{place:05d}": f"query {place}" for place in range(QUERIES)}
    qrels = {f"q{place:05d}": {names[row]: 1} for place, row in enumerate(rows)}
    for place in range(5):  # a query that stands in the corpus under its own id is no answer to itself
        asked[names[place]] = corpus[names[place]]
        qrels[names[place]] = {names[100 + place]: 1}
    task = Retrieval(Benchmark(asked, corpus, qrels), metrics=["MRR@10"])
    vectors = {**dict(zip(asked, queries, strict=False)), **{names[place]: documents[place] for place in range(5)}}
    return task, TaskVectors(
        np.stack([vectors[key] for key in task.query_ids]),
        documents[[int(key[1:]) for key in task.document_ids]],
    )


def indexed(task: Retrieval, vectors: TaskVectors, plan: Plan, folder: Path) -> float:
    """MRR@10 of an index that is built by a plan, of documents in another order."""
    order = np.random.default_rng(1).permutation(DOCUMENTS)
    ids = [task.document_ids[row] for row in order]
    with Index.build(folder, vectors=vectors.documents[order], ids=ids, plan=plan) as index:
        found = index.search(vectors.queries, k=task.search_depth)
    run = {
        query: {
            one: float(score)
            for one, score in zip(line, scores, strict=False)
            if one != task.benchmark.own_document(query)
        }
        for query, line, scores in zip(task.query_ids, found.ids, found.scores, strict=True)
    }
    return float(np.mean(list(measure_run(task.benchmark.qrels, run, ["MRR@10"])["MRR@10"].values())))


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "int4", "binary", "pq16", "pq8", "pq4", "pq8x8"])
def test_an_index_finds_what_the_grid_says_of_its_plan(
    made: tuple[Retrieval, TaskVectors], precision: str, tmp_path: Path
) -> None:
    task, vectors = made
    grid = measure_grid(task, vectors, [DIM, 32], precisions=[precision], reranks=RERANKS)
    assert len(grid.scores) == 8 + (precision != "float32")
    values = []
    for place, (key, scores) in enumerate(grid.scores.items()):
        plan = Plan(
            model="here",
            full_dim=DIM,
            first_stage=FirstStage(dim=key.dim, precision=key.precision),
            second_stage=None if key.rerank is None else SecondStage(**key.rerank._asdict()),
        )
        values.append(scores["MRR@10"].value)
        assert indexed(task, vectors, plan, tmp_path / str(place)) == pytest.approx(values[-1], abs=0.002), key
    assert max(values) - min(values) > 0.02  # cells differ by more


def test_documents_that_hardly_differ_are_measured_as_an_index_rounds_them(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    apart = 0.003 / np.sqrt(DIM)  # a few steps of float16
    middle = normalize(generator.normal(size=(1, DIM)))
    documents = normalize(middle + apart * generator.normal(size=(DOCUMENTS, DIM))).astype(np.float32)
    rows = generator.choice(DOCUMENTS, 600, replace=False)
    queries = documents[rows] - documents.mean(axis=0) + apart / 2 * generator.normal(size=(600, DIM))
    names = [f"d{row:05d}" for row in range(DOCUMENTS)]
    asked = [f"q{place:05d}" for place in range(600)]
    qrels = {query: {names[row]: 1} for query, row in zip(asked, rows, strict=True)}
    task = Retrieval(Benchmark(dict.fromkeys(asked, "q"), dict.fromkeys(names, "d"), qrels), metrics=["MRR@10"])
    vectors = TaskVectors(
        normalize(queries).astype(np.float32)[[int(key[1:]) for key in task.query_ids]],
        documents[[int(key[1:]) for key in task.document_ids]],
    )
    measured = measure_grid(task, vectors, [DIM], precisions=["pq16"]).scores[CellKey(DIM, "pq16")]["MRR@10"].value
    plan = Plan(model="here", full_dim=DIM, first_stage=FirstStage(dim=DIM, precision="pq16"))
    assert 0.1 < measured < 0.3
    assert indexed(task, vectors, plan, tmp_path / "index") == pytest.approx(measured, abs=0.002)


def test_codes_that_nothing_rescores_are_the_nearest_centroids_and_others_score_aware(
    made: tuple[Retrieval, TaskVectors], tmp_path: Path
) -> None:
    _, vectors = made
    for name, second in (("alone", None), ("behind", SecondStage(precision="float16", shortlist=40))):
        plan = Plan(model="h", full_dim=DIM, first_stage=FirstStage(dim=DIM, precision="pq8"), second_stage=second)
        Index.build(tmp_path / name, vectors=vectors.documents, plan=plan).close()
        (file,) = (tmp_path / name).glob("**/*.first")
        quantizer = load_codes(file).quantizer
        assert isinstance(quantizer, ProductQuantizer)
        assert (quantizer.target is None) == (second is None)
        codes = quantizer.encode(vectors.documents)
        assert np.array_equal(codes, quantizer.nearest().encode(vectors.documents)) == (second is None)


def test_what_quantizers_are_fitted_on_is_what_is_given(made: tuple[Retrieval, TaskVectors]) -> None:
    task, vectors = made
    sample = normalize(np.random.default_rng(3).normal(size=(900, DIM)).astype(np.float32))
    own = measure_grid(task, vectors, [DIM], precisions=["pq8"])
    other = measure_grid(task, vectors, [DIM], precisions=["pq8"], sample=sample)
    key = CellKey(DIM, "pq8")
    assert own.scores[key]["MRR@10"].value > other.scores[key]["MRR@10"].value + 0.02
    quantizer = fit_codes(sample, DIM, "pq8", score_aware=False)
    stored = quantizer.score(vectors.queries, quantizer.encode(vectors.documents))
    row = {key: place for place, key in enumerate(task.document_ids)}
    right = np.array([row[next(iter(task.benchmark.qrels[query]))] for query in task.query_ids])
    some = np.array([task.benchmark.own_document(query) is None for query in task.query_ids])
    ranks = 1 + (stored > np.take_along_axis(stored, right[:, None], axis=1)).sum(axis=1)
    expected = np.where(ranks <= 10, 1 / ranks, 0)[some]
    found = other.scores[key]["MRR@10"].values[some]  # type: ignore[union-attr]
    assert np.mean(np.abs(found - expected) > 1e-6) < 0.02  # but for those that a scan left out of its best 100
    with pytest.raises(DimensionError, match="fitted on vectors of 48"):
        measure_grid(task, vectors, [DIM], precisions=["pq8"], sample=sample[:, :9])


def test_cells_that_are_not_possible_are_named_and_others_measured(made: tuple[Retrieval, TaskVectors]) -> None:
    task, vectors = made
    grid = measure_grid(task, vectors, [DIM, 8], precisions=["pq8", "int8"], reranks=[None, Rerank("int8", 50)])
    assert [key[:2] for key in grid.scores] == [
        (DIM, "float32"), (DIM, "pq8"), (DIM, "pq8"), (DIM, "int8"), (DIM, "int8"), (8, "int8"), (8, "int8"),
    ]  # fmt: skip
    assert list(grid.impossible) == [(8, "pq8")]
    assert "16 codebooks, and vectors of 8 dimensions" in grid.impossible[8, "pq8"]
    second = measure_grid(task, vectors, [DIM, 8], precisions=["int8", "pq8"], reranks=[Rerank("pq8", 50)])
    assert [key for key in second.scores if key.rerank] == [
        CellKey(DIM, "int8", Rerank("pq8", 50)),
        CellKey(DIM, "pq8", Rerank("pq8", 50)),
        CellKey(8, "int8", Rerank("pq8", 50)),
    ]
    with pytest.raises(GridError, match="No cell is possible. pq8 has 16 codebooks"):
        measure_grid(task, vectors, [8], precisions=["pq8"])
    few = measure_grid(task, vectors, [DIM], precisions=["pq8", "int8"], sample=vectors.documents[:10])
    assert few.impossible[DIM, "pq8"] == "pq8 is learned from 16 vectors at least, and there are 10."


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a benchmark of made-up facts, and rows of others."""
    folder = tmp_path_factory.mktemp("texts")
    build_tiny_model(folder / "model")
    rows = synthetic_rows(600)
    (folder / "bench" / "qrels").mkdir(parents=True)
    write_json_lines(
        folder / "bench" / "corpus.jsonl",
        [{"_id": f"d{n:03d}", "text": row["positive"]} for n, row in enumerate(rows[:300])],
    )
    write_json_lines(
        folder / "bench" / "queries.jsonl",
        [{"_id": f"q{n:03d}", "text": row["query"]} for n, row in enumerate(rows[:300])],
    )
    lines = [f"q{n:03d}\td{n:03d}\t1" for n in range(300)]
    (folder / "bench" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
    write_json_lines(folder / "rows.jsonl", rows[300:])
    words = [f"the {subject} {verb} it" for subject in SUBJECTS for verb in VERBS]
    write_json_lines(folder / "documents.jsonl", [{"_id": str(n), "text": text} for n, text in enumerate(words)])
    return folder


@pytest.mark.parametrize("source", ["rows.jsonl", "documents.jsonl", "bench"])
def test_codebooks_of_training_rows_go_from_the_grid_through_the_plan_to_the_index(
    texts: Path, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NESTVEC_CACHE", str(texts / "cache"))
    settings = GridSettings(
        dims=[128], precisions=["pq32"], reranks=[None], fit_on=texts / source, latency=False, samples=100
    )
    report = evaluate(str(texts / "model"), texts / "bench", settings=settings)
    assert report.fitted_on.source == str(texts / source)
    assert report.fitted_on.texts == {"rows.jsonl": 300, "documents.jsonl": 100, "bench": 300}[source]
    (tmp_path / "grid.json").write_text(report.to_json())
    assert json.loads(report.to_json())["fitted_on"]["source"] == str(texts / source)
    made = make_plan(tmp_path / "grid.json", budgets=["bytes<=32"])
    write_plan(made.plan, tmp_path / "plan.toml")
    with build_index(tmp_path / "i", texts / "bench", plan=tmp_path / "plan.toml") as index:
        quantizer = index._current().codec.first.quantizer
        assert isinstance(quantizer, ProductQuantizer)
        benchmark = read_benchmark(texts / "bench")
        asked = encoder_of(index).encode_queries(list(benchmark.queries.values()))
        found = index.search(asked, settings=index.search_with(shortlist=100))  # all that is rescored without tuning
    run = {
        query: dict(zip(ids, scores.tolist(), strict=True))
        for query, ids, scores in zip(benchmark.queries, found.ids, found.scores, strict=True)
    }
    score = np.mean(list(measure_run(benchmark.qrels, run, ["MRR@10"])["MRR@10"].values()))
    assert score == pytest.approx(made.choice.cell.metrics["MRR@10"].value, abs=2e-4)
    documents = DocumentFile(write_vectors(tmp_path / "v.jsonl"), vectors="v")
    with pytest.raises(SearchIndexError, match="what encodes the texts of"):
        build_index(tmp_path / "j", documents, fit_on=texts / source)


def write_vectors(path: Path) -> Path:
    return write_json_lines(path, [{"_id": str(n), "text": "x", "v": [1.0, float(n)]} for n in range(20)])
