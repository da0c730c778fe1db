"""Whole evaluations: what they read, measure and write. Run: pytest tests/test_jobs_evaluate.py (half a minute)."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import write_json_lines
from nestvec.adaptors import Adaptor, Map, Towers, save
from nestvec.data import Benchmark, write_benchmark
from nestvec.encoders import SentenceTransformerEncoder, load_base
from nestvec.errors import (
    AdaptorError,
    DataError,
    DimensionError,
    GridError,
    MetricError,
    MissingExtraError,
    PrecisionError,
    SourceNotFoundError,
    VectorError,
)
from nestvec.evaluation import Cell, CellKey, Rerank, Retrieval, encode_task, make_cells, measure_grid
from nestvec.jobs.evaluate import GridSettings, evaluate
from nestvec.jobs.ready_vectors import read_task_vectors
from nestvec.jobs.tasks import TASKS, TaskSettings, load_task
from nestvec.quantization import PRECISIONS
from nestvec.report import csv_grid, efficient_cells, markdown_grid, read_grid, terminal_grid
from test_evaluation_grid import TableEncoder, made_up, random_benchmark

QUICK = GridSettings(dims=[16, 4], precisions=["float32", "binary"], latency=False, samples=50)


def make_ready(folder: Path, benchmark: Benchmark, seed: int = 0) -> TableEncoder:
    """A BEIR folder and vectors of it, as another tool would write them."""
    write_benchmark(benchmark, folder / "bench")
    encoder = TableEncoder(seed)
    task = Retrieval(benchmark)
    encode_task(task, encoder)
    (folder / "vectors").mkdir()
    np.save(folder / "vectors" / "queries.npy", encoder.encode_queries(list(benchmark.queries.values())))
    np.save(folder / "vectors" / "documents.npy", encoder.encode_documents(list(benchmark.corpus.values())) * 7)
    return encoder


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    make_ready(tmp_path, random_benchmark())
    return tmp_path


def test_ready_vectors_are_measured_in_the_order_of_the_benchmark(ready: Path) -> None:
    report = evaluate(f"vectors:{ready / 'vectors'}", ready / "bench", settings=QUICK)
    task = Retrieval(random_benchmark())
    scores = measure_grid(
        task,
        encode_task(task, TableEncoder()),
        [16, 4],
        precisions=["float32", "binary"],
        reranks=[None, Rerank("int8", 100)],
    )
    expected = make_cells("vectors", scores, samples=50)
    assert [cell.as_json() for cell in report.cells] == [cell.as_json() for cell in expected]
    assert report.models == {"vectors": f"vectors:{ready / 'vectors'}"}
    assert report.benchmark == {"name": "bench", "task": "retrieval", "unit": "queries", **task.counts()}


def test_documents_of_one_text_keep_their_own_vectors(tmp_path: Path) -> None:
    corpus = {"d1": "same", "d2": "same", "d3": "other"}
    write_benchmark(
        Benchmark({"q1": "one", "q2": "two"}, corpus, {"q1": {"d1": 1}, "q2": {"d2": 1}}), tmp_path / "bench"
    )
    rows = np.eye(3, 4, dtype=np.float32)
    np.save(tmp_path / "queries.npy", rows[:2])
    np.save(tmp_path / "documents.npy", rows)
    settings = GridSettings(dims=[4], precisions=["float32"], reranks=[None], latency=False, samples=100)
    report = evaluate(f"vectors:{tmp_path}", tmp_path / "bench", settings=settings)
    assert report.cells[0].metrics["MRR@10"].value == 1.0


def test_a_model_is_encoded_once_whatever_it_is_compared_with(
    tiny_model: Path, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nestvec.encoders import SentenceTransformerEncoder

    real, counted = SentenceTransformerEncoder._encode, []

    def count(self: SentenceTransformerEncoder, texts: list[str], *rest: Any) -> Any:
        counted.append(len(texts))
        return real(self, texts, *rest)

    monkeypatch.setattr(SentenceTransformerEncoder, "_encode", count)
    settings = GridSettings(dims=[16], precisions=["int8"], latency=False, cache=False, samples=50)
    evaluate(
        str(tiny_model),
        ready / "bench",
        reference="pca",
        baselines={"raw": str(tiny_model)},
        settings=settings,
        name="it",
    )
    assert counted == [60, 40]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (GridSettings(precisions=["int3"]), PrecisionError),
        (GridSettings(reranks=[Rerank("int8", 2)]), GridError),
        (GridSettings(precisions=["int8", "int8"]), GridError),
    ],
)
def test_cells_that_there_are_not_are_refused_before_a_model_is_loaded(
    ready: Path, settings: GridSettings, error: type[Exception]
) -> None:
    with pytest.raises(error):
        evaluate("./no-such-model", ready / "bench", settings=settings)


def test_without_faiss_the_pip_command_comes_before_the_work(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nestvec\[index\]'"):
        evaluate("./no-such-model", ready / "bench")


def test_queries_that_are_not_judged_may_have_vectors_too(ready: Path) -> None:
    before = evaluate(f"vectors:{ready / 'vectors'}", ready / "bench", settings=QUICK)
    lines = (ready / "bench" / "queries.jsonl").read_text().splitlines()
    lines.insert(3, json.dumps({"_id": "unjudged", "text": "nobody asked"}))
    (ready / "bench" / "queries.jsonl").write_text("\n".join(lines) + "\n")
    same = evaluate(f"vectors:{ready / 'vectors'}", ready / "bench", settings=QUICK)  # vectors of the judged ones alone
    assert same.cells == before.cells
    queries = np.load(ready / "vectors" / "queries.npy")
    np.save(ready / "vectors" / "queries.npy", np.insert(queries, 3, np.ones(16), axis=0))
    assert evaluate(f"vectors:{ready / 'vectors'}", ready / "bench", settings=QUICK).cells == before.cells


def test_ready_vectors_that_do_not_fit_are_refused(ready: Path) -> None:
    model, vectors = f"vectors:{ready / 'vectors'}", ready / "vectors"
    documents = np.load(vectors / "documents.npy")
    np.save(vectors / "documents.npy", documents[1:])
    with pytest.raises(VectorError, match=r"documents.npy has 59 rows and .*bench 60 texts"):
        evaluate(model, ready / "bench", settings=QUICK)
    np.save(vectors / "documents.npy", np.ones_like(documents))
    with pytest.raises(VectorError, match="the same vector"):
        evaluate(model, ready / "bench", settings=QUICK)
    np.save(vectors / "documents.npy", documents.astype(int))
    with pytest.raises(VectorError, match="not floating-point"):
        evaluate(model, ready / "bench", settings=QUICK)
    (vectors / "documents.npy").write_bytes(b"no array")
    with pytest.raises(VectorError, match="no readable npy file"):
        evaluate(model, ready / "bench", settings=QUICK)
    np.save(vectors / "documents.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(VectorError, match="no readable npy file"):
        evaluate(model, ready / "bench", settings=QUICK)
    (vectors / "documents.npy").unlink()
    with pytest.raises(SourceNotFoundError, match=r"no .*documents.npy"):
        evaluate(model, ready / "bench", settings=QUICK)


def test_a_model_is_compared_with_a_reference_and_baselines(ready: Path, tmp_path: Path) -> None:
    make_ready(tmp_path / "other", random_benchmark(), seed=5) if (tmp_path / "other").mkdir() is None else None
    report = evaluate(
        f"vectors:{ready / 'vectors'}",
        ready / "bench",
        name="mine",
        reference="pca",
        baselines={"other": f"vectors:{tmp_path / 'other' / 'vectors'}"},
        settings=QUICK,
    )
    assert list(report.models) == ["mine", report.reference, "other"]
    assert report.models[report.reference] == f"pca=vectors:{ready / 'vectors'}"
    by_model = {name: [cell for cell in report.cells if cell.model == name] for name in report.models}
    assert all(cell.gain is not None and cell.reference_retention is not None for cell in by_model["mine"])
    assert all(cell.gain is None for cell in by_model[report.reference])
    mine, pca = (
        {cell.key: cell.metrics["MRR@10"].value for cell in by_model[name]} for name in ("mine", report.reference)
    )
    for cell in by_model["mine"]:
        assert cell.gain.value == pytest.approx(mine[cell.key] - pca[cell.key], abs=1e-12)
        assert cell.reference_retention.value == pytest.approx(mine[cell.key] / pca[CellKey(16)])
    with pytest.raises(GridError, match="Two models are called 'vectors'"):
        evaluate(f"vectors:{ready / 'vectors'}", ready / "bench", baselines={"vectors": "minilm"}, settings=QUICK)


def test_an_adaptor_is_measured_behind_its_model_and_behind_no_other(ready: Path, tiny_model: Path) -> None:
    source = f"vectors:{ready / 'vectors'}"
    generator = np.random.default_rng(0)
    towers = Towers(*(Map(generator.normal(size=(16, 16)).astype(np.float32)) for _ in range(2)))
    save(ready / "mine.safetensors", Adaptor(towers, "two-tower", (16, 4)))
    report = evaluate(
        f"{ready / 'mine.safetensors'}={source}", ready / "bench", baselines={"raw": source}, settings=QUICK
    )
    assert list(report.models) == ["mine", "raw"]
    (ready / "mapped").mkdir()
    for name, tower in zip(("queries", "documents"), towers, strict=True):
        np.save(ready / "mapped" / f"{name}.npy", tower.transform(np.load(ready / "vectors" / f"{name}.npy")))
    expected = evaluate(f"vectors:{ready / 'mapped'}", ready / "bench", settings=QUICK)
    found = {cell.key: cell.metrics["MRR@10"].value for cell in report.cells if cell.model == "mine"}
    assert found == {cell.key: cell.metrics["MRR@10"].value for cell in expected.cells}
    model = load_base(str(tiny_model))
    map_128 = Map(np.eye(128, dtype=np.float32))
    save(ready / "other.safetensors", Adaptor(Towers(map_128, map_128), "linear", (128, 32), encoder={"query": "x"}))
    with pytest.raises(AdaptorError, match="another encoder"):
        evaluate(f"{ready / 'other.safetensors'}={tiny_model}", ready / "bench", settings=QUICK)
    identity = SentenceTransformerEncoder(model).identity("query")
    save(ready / "own.safetensors", Adaptor(Towers(map_128, map_128), "linear", (128, 32), encoder={"query": identity}))
    report = evaluate(
        f"{ready / 'own.safetensors'}={tiny_model}", ready / "bench", settings=GridSettings(latency=False, samples=50)
    )
    assert {cell.dim for cell in report.cells} == {128, 32}  # sizes that the adaptor was fitted for


def test_a_real_model_is_encoded_once_for_all_runs(
    tiny_model: Path, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nestvec.encoders import SentenceTransformerEncoder

    monkeypatch.setenv("NESTVEC_CACHE", str(ready / "cache"))
    settings = GridSettings(latency=False, samples=50)
    first = evaluate(str(tiny_model), ready / "bench", settings=settings)
    assert {cell.dim for cell in first.cells} == {128, 64, 32}  # sizes that follow from the model
    assert len(first.cells) == 3 * len(PRECISIONS) * 2 - 2 * len(first.impossible)
    assert [one.split(":")[0] for one in first.impossible] == ["64 x pq64", "32 x pq64", "32 x pq32"]
    assert str(first.fitted_on).endswith("documents that were measured")

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(SentenceTransformerEncoder, "_encode", fail)
    assert evaluate(str(tiny_model), ready / "bench", settings=settings).cells == first.cells
    with pytest.raises(AssertionError, match="encoded again"):
        evaluate(str(tiny_model), ready / "bench", settings=GridSettings(latency=False, cache=False))


def test_the_sizes_a_model_was_trained_for_are_measured(tiny_model: Path, ready: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "nested"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "matryoshka_dimensions": [24, 96]}))
    settings = GridSettings(precisions=["int8"], reranks=[None], latency=False, cache=False, samples=50)
    report = evaluate(str(folder), ready / "bench", settings=settings)
    assert [(cell.dim, cell.precision) for cell in report.cells] == [(128, "float32"), (96, "int8"), (24, "int8")]


def test_an_evaluation_survives_its_json(ready: Path) -> None:
    report = evaluate(
        f"vectors:{ready / 'vectors'}",
        ready / "bench",
        reference="pca",
        settings=GridSettings(dims=[16, 4], samples=50),
    )
    path = ready / "grid.json"
    path.write_text(report.to_json())
    again = read_grid(path)
    assert again.to_json() == report.to_json()
    assert again.cells == report.cells
    assert all(cell.latency is not None for cell in report.cells)
    assert len(report.samples) == 8
    for sample in report.samples:
        for by_dim in sample.answers.values():
            assert list(by_dim) == [16, 4]
            assert all(set(ids) <= set(report.documents) and len(ids) == 10 for ids in by_dim.values())


def test_samples_show_what_a_search_finds(ready: Path) -> None:
    report = evaluate(f"vectors:{ready / 'vectors'}", ready / "bench", settings=QUICK)
    task = Retrieval(random_benchmark())
    vectors = encode_task(task, TableEncoder())
    sample = report.samples[0]
    row = [task.benchmark.queries[key] for key in task.query_ids].index(sample.query)
    scores = vectors.documents[:, :4] @ vectors.queries[row, :4] / np.linalg.norm(vectors.documents[:, :4], axis=1)
    assert sample.answers["vectors"][4][0] == task.document_ids[int(np.argmax(scores.round(6)))]
    assert set(sample.relevant) == {
        key for key, grade in task.benchmark.qrels[task.query_ids[row]].items() if grade > 0
    }


def test_tables_tell_every_cell(ready: Path) -> None:
    from rich.console import Console

    report = evaluate(
        f"vectors:{ready / 'vectors'}",
        ready / "bench",
        settings=GridSettings(dims=[16, 4], corpus_size=10_000_000, samples=50),
    )
    rows = list(csv.DictReader(io.StringIO(csv_grid(report))))
    assert len(rows) == len(report.cells)
    for row, cell in zip(rows, report.cells, strict=True):
        assert (int(row["dim"]), row["precision"], row["rerank"]) == (cell.dim, cell.precision, str(cell.rerank or ""))
        assert float(row["MRR@10"]) == cell.metrics["MRR@10"].value
        assert float(row["retention_low"]) == cell.retention.low
        assert int(row["total_bytes"]) == 10_000_000 * (cell.bytes_per_vector + cell.rerank_bytes_per_vector)
        assert float(row["p95_ms"]) == cell.latency.p95_ms
    markdown = markdown_grid(report)
    assert markdown.count("| binary |") == markdown.count("| float16 |") == 4
    for width in (56, 80, 160):
        text = io.StringIO()
        Console(file=text, width=width).print(terminal_grid(report, width=width))
        assert all(len(line) <= width for line in text.getvalue().splitlines())
        assert all(word in text.getvalue() for word in ("binary", "int8:100", "100.0%"))
        assert "\N{HORIZONTAL ELLIPSIS}" not in text.getvalue()


def test_efficient_cells_are_those_that_nothing_beats(ready: Path) -> None:
    report = evaluate(
        f"vectors:{ready / 'vectors'}",
        ready / "bench",
        settings=GridSettings(dims=[16, 8, 4], latency=False, samples=20),
    )
    front = [cell.key for cell in efficient_cells(report, "vectors")]
    assert 0 < len(front) < len(report.cells)

    def beats(one: Cell, other: Cell) -> bool:
        memory = one.bytes_per_vector - other.bytes_per_vector
        disk = memory + one.rerank_bytes_per_vector - other.rerank_bytes_per_vector
        better = one.metrics["MRR@10"].value - other.metrics["MRR@10"].value
        return memory <= 0 and disk <= 0 and better >= 0 and (memory, disk, better) != (0, 0, 0)

    for cell in report.cells:
        assert (cell.key in front) == (not any(beats(other, cell) for other in report.cells))


PAIRS = [{"text1": made_up(i), "text2": made_up(i * 7 % 30), "score": i % 5} for i in range(40)]
BINARY = [{**row, "score": row["score"] % 2} for row in PAIRS]
CLASSES = [{"text": made_up(i), "label": f"class {i % 3}"} for i in range(60)]
BITEXT = [{"query": f"what {made_up(i)}", "positive": made_up(i)} for i in range(20)]


@pytest.mark.parametrize(
    ("kind", "rows", "metric"),
    [
        ("similarity", PAIRS, "Spearman"),
        ("pair-classification", BINARY, "AP"),
        ("classification", CLASSES, "Accuracy"),
        ("few-shot", CLASSES, "Accuracy, 4 shots"),
        ("clustering", CLASSES, "V-measure"),
        ("bitext", BITEXT, "Accuracy"),
    ],
)
def test_every_task_is_read_from_a_file_and_measured(
    kind: str, rows: list[object], metric: str, tiny_model: Path, tmp_path: Path
) -> None:
    write_json_lines(tmp_path / "test.jsonl", rows)
    write_json_lines(tmp_path / "train.jsonl", rows)
    settings = GridSettings(dims=[64, 16], latency=False, cache=False, samples=50)
    report = evaluate(
        str(tiny_model),
        tmp_path,
        task_settings=TaskSettings(kind=kind, **({"shots": 4, "draws": 3} if kind == "few-shot" else {})),
        settings=settings,
    )
    assert report.headline == metric
    assert report.benchmark["task"] == kind
    assert len(report.cells) >= 11
    assert all(-1 <= cell.metrics[metric].low <= cell.metrics[metric].high <= 1 for cell in report.cells)


def test_the_task_follows_from_the_data(tmp_path: Path, ready: Path) -> None:
    assert load_task(ready / "bench").kind == "retrieval"
    assert load_task(write_json_lines(tmp_path / "pairs.jsonl", PAIRS)).kind == "similarity"
    alone = write_json_lines(tmp_path / "classes.jsonl", CLASSES)
    assert load_task(alone).kind == "clustering"
    assert load_task(alone, TaskSettings(train=alone)).kind == "classification"
    write_json_lines(tmp_path / "test.jsonl", CLASSES)
    assert load_task(tmp_path).kind == "clustering"
    write_json_lines(tmp_path / "train.jsonl", CLASSES)
    assert load_task(tmp_path).kind == "classification"
    assert load_task(tmp_path, TaskSettings(split="train")).counts()["test"] == 60
    assert load_task(ready / "bench", TaskSettings(kind="reranking", metrics=["nDCG@3"])).metrics == ("nDCG@3",)


def test_ready_vectors_of_other_tasks_follow_the_order_of_their_rows(tmp_path: Path) -> None:
    encoder = TableEncoder()
    task = load_task(write_json_lines(tmp_path / "pairs.jsonl", PAIRS))
    np.save(
        tmp_path / "documents.npy",
        encoder.encode_documents([row[side] for row in PAIRS for side in ("text1", "text2")]),
    )
    vectors = read_task_vectors(tmp_path, task, tmp_path / "pairs.jsonl")
    np.testing.assert_allclose(vectors.documents, encoder.encode_documents(list(task.documents)), atol=1e-6)
    bitext = load_task(write_json_lines(tmp_path / "bitext.jsonl", BITEXT), TaskSettings(kind="bitext"))
    for side, name in (("query", "queries"), ("positive", "documents")):
        np.save(tmp_path / f"{name}.npy", encoder.encode_documents([row[side] for row in BITEXT]))
    vectors = read_task_vectors(tmp_path, bitext, tmp_path / "bitext.jsonl")
    np.testing.assert_allclose(vectors.queries, encoder.encode_queries(list(bitext.queries)), atol=1e-6)
    swapped = np.load(tmp_path / "documents.npy")
    np.save(tmp_path / "documents.npy", np.concatenate([swapped, swapped, swapped, swapped])[: 2 * len(PAIRS)][::-1])
    with pytest.raises(VectorError, match="are of the same text, and differ"):
        read_task_vectors(tmp_path, task, tmp_path / "pairs.jsonl")
    np.save(tmp_path / "documents.npy", encoder.encode_documents([row["text"] for row in CLASSES]))
    classes = load_task(write_json_lines(tmp_path / "classes.jsonl", CLASSES))
    vectors = read_task_vectors(tmp_path, classes, tmp_path / "classes.jsonl")
    np.testing.assert_allclose(vectors.documents, encoder.encode_documents(list(classes.documents)), atol=1e-6)


def test_data_that_fit_no_task_are_refused(tmp_path: Path, ready: Path) -> None:
    pairs = write_json_lines(tmp_path / "pairs.jsonl", PAIRS)
    rows = write_json_lines(tmp_path / "rows.jsonl", BITEXT)
    cases = [
        (tmp_path / "none", None, SourceNotFoundError, "none"),
        (tmp_path, None, SourceNotFoundError, "holds nothing to measure with"),
        (rows, None, DataError, "task bitext, or give a BEIR folder"),
        (pairs, TaskSettings(kind="clustering"), DataError, "needs rows of LabeledText, and these are ScoredPair"),
        (pairs, TaskSettings(kind="retrieval"), DataError, "no BEIR folder"),
        (pairs, TaskSettings(kind="sorting"), DataError, "Unknown task 'sorting'. Tasks are: retrieval, reranking"),
        (pairs, TaskSettings(metrics=["MRR@10"]), DataError, "metrics of similarity are fixed"),
        (pairs, TaskSettings(split="dev"), DataError, "is one file, so there is no split 'dev'"),
        (pairs, TaskSettings(shots=3), DataError, "No examples are drawn in similarity"),
        (ready / "bench", TaskSettings(train=pairs), DataError, "Nothing is learnt in retrieval"),
        (ready / "bench", TaskSettings(kind="similarity"), DataError, "retrieval or reranking with, not similarity"),
        (ready / "bench", TaskSettings(metrics=["accuracy"]), MetricError, "Unknown metric"),
        (
            write_json_lines(tmp_path / "c.jsonl", CLASSES),
            TaskSettings(kind="few-shot"),
            DataError,
            "no texts to learn",
        ),
    ]
    for path, settings, error, message in cases:
        with pytest.raises(error, match=message):
            load_task(path, settings)
    assert len(TASKS) == 8


def test_settings_that_give_no_grid_are_refused(ready: Path) -> None:
    model = f"vectors:{ready / 'vectors'}"
    with pytest.raises(DimensionError, match="Dim 32 is larger"):
        evaluate(model, ready / "bench", settings=GridSettings(dims=[32]))
    (ready / "grid.json").write_text('{"cells": []}')
    with pytest.raises(GridError, match="holds no grid"):
        read_grid(ready / "grid.json")
    (ready / "grid.json").write_text("no json")
    with pytest.raises(GridError, match="holds no grid"):
        read_grid(ready / "grid.json")
    with pytest.raises(SourceNotFoundError, match="no grid"):
        read_grid(ready / "missing.json")
