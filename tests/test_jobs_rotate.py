"""Rotating a model that exists, in Python and as a command. Run: pytest tests/test_jobs_rotate.py (a minute)."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Router

from builders import build_tiny_model, synthetic_rows, write_json_lines
from conftest import RunNestvec
from nestvec.encoders import linear_module, load_model, rotated_modules
from nestvec.errors import (
    DataError,
    DimensionError,
    ModelError,
    NestvecWarning,
    OutputExistsError,
    PrecisionError,
    VectorError,
    VerificationError,
)
from nestvec.jobs.rotate import RotateSettings, _draw, rotate

DIMS = (128, 32, 8)
QUICK = RotateSettings(dims=DIMS, queries=100, cache=False, precisions=("float32",))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_json_lines(tmp_path_factory.mktemp("rows") / "rows.jsonl", synthetic_rows(900))


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [f"{row['query']} {row['positive']}" for row in synthetic_rows(900)]
    documents = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    return write_json_lines(tmp_path_factory.mktemp("docs") / "docs.jsonl", documents)


def test_a_rotated_model_ranks_as_before_and_better_when_it_is_cut(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    found = rotate(str(tiny_model), tmp_path / "rotated", data=rows, settings=QUICK)
    assert found.adaptor.method == "rotation"
    base, rotated = load_model(str(tiny_model)), load_model(str(tmp_path / "rotated"))
    assert [type(module).__name__ for module in rotated] == ["Transformer", "Pooling", "Dense", "Normalize"]
    texts = [str(row["query"]) for row in synthetic_rows(50)]
    before, after = (np.asarray(model.encode(texts)) for model in (base, rotated))
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)
    assert not np.allclose(after, before, atol=0.01)
    config = json.loads((tmp_path / "rotated" / "config.json").read_text())
    assert config["matryoshka_dimensions"] == list(DIMS)
    gains = {cell.dim: cell.gain for cell in found.report.cells if cell.model == "rotated"}
    assert gains[128] is not None
    assert gains[128].value == pytest.approx(0, abs=1e-9)
    assert gains[8] is not None
    assert gains[8].low > 0
    assert "cut to 32, 8" in (tmp_path / "rotated" / "README.md").read_text()


def test_a_model_that_was_rotated_is_rotated_again_in_place(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    """A bad rotation is undone, and there is still one linear module."""
    base = load_model(str(tiny_model))
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(128, 128)))[0]
    SentenceTransformer(modules=rotated_modules(base.children(), rotation)).save(str(tmp_path / "bad"))
    found = rotate(str(tmp_path / "bad"), tmp_path / "good", data=rows, settings=QUICK)
    assert found.adaptor.method == "rotation"
    modules = load_model(str(tmp_path / "good"))
    assert [type(module).__name__ for module in modules] == ["Transformer", "Pooling", "Dense", "Normalize"]


def test_the_command_writes_a_model_and_its_grid(
    tiny_model: Path, rows: Path, tmp_path: Path, nestvec: RunNestvec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NESTVEC_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "rotated"
    options = ("--data", rows, "--out", out, "--dims", "128,8", "--queries", "100", "--precisions", "float32")
    done = nestvec("rotate", tiny_model, *options)
    assert done.returncode == 0, done.stderr
    assert "MRR@10 of rotated and as it is on held-out queries" in done.stdout
    assert "Kept: rotation" in done.stdout
    assert f"Written: {out}" in done.stdout
    assert load_model(str(out)).get_embedding_dimension() == 128
    again = nestvec("rotate", tiny_model, *options)
    assert again.returncode == 2
    assert "exists. Choose another folder, or pass --overwrite." in again.stderr
    assert nestvec("rotate", tiny_model, *options, "--overwrite").returncode == 0


def test_documents_alone_make_a_better_model_and_their_spans_measure_it(
    tiny_model: Path, docs: Path, tmp_path: Path
) -> None:
    found = rotate(str(tiny_model), tmp_path / "rotated", docs=docs, settings=QUICK)
    assert found.adaptor.method == "rotation"
    assert found.adaptor.settings["metric"] == "MRR@10 of the nearest neighbour"
    assert load_model(str(tmp_path / "rotated")).get_embedding_dimension() == 128
    kept = found.adaptor.held_out
    assert kept["rotation"]["8"] > 1.2 * kept["raw"]["8"]
    assert {cell.model for cell in found.report.cells} == {"rotated", "as it is"}
    assert {cell.dim for cell in found.report.cells} == set(DIMS)


def test_documents_alone_do_not_rotate_what_is_nested_already(
    tiny_model: Path, docs: Path, rows: Path, tmp_path: Path, nestvec: RunNestvec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run must not undo what training, or rows, put into the leading dimensions."""
    monkeypatch.setenv("NESTVEC_CACHE", str(tmp_path / "cache"))
    once = rotate(str(tiny_model), tmp_path / "once", data=rows, settings=QUICK)
    assert once.adaptor.method == "rotation"
    done = nestvec("rotate", tmp_path / "once", "--docs", docs, "--out", tmp_path / "twice", "--dims", "128,32,8")
    assert done.returncode == 1, done.stderr
    assert "matter more than the others already" in " ".join(done.stdout.split())
    assert not (tmp_path / "twice").exists()


def test_where_nothing_gains_nothing_is_written(
    tiny_model: Path, tmp_path: Path, nestvec: RunNestvec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NESTVEC_CACHE", str(tmp_path / "cache"))
    rows = synthetic_rows(200)
    shuffled = np.random.default_rng(0).permutation(200)
    unrelated = [
        {"query": row["query"], "positive": rows[other]["positive"]} for row, other in zip(rows, shuffled, strict=True)
    ]
    file = write_json_lines(tmp_path / "rows.jsonl", unrelated)
    out = tmp_path / "rotated"
    done = nestvec("rotate", tiny_model, "--data", file, "--out", out, "--dims", "128,64", "--no-cache")
    assert done.returncode == 1, done.stderr
    assert "Nothing was written. No rotation gains clearly" in " ".join(done.stdout.split())
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Give --data"),
        (("--data", "a", "--docs", "b"), "Give --data"),
        (("--docs", "b", "--split", "test"), "--split goes with --data"),
    ],
)
def test_wrong_options_are_explained(options: tuple[str, ...], said: str, tmp_path: Path, nestvec: RunNestvec) -> None:
    done = nestvec("rotate", "minilm", *options, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert said in done.stderr


def test_what_cannot_be_rotated_is_refused(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Give data or docs"):
        rotate(str(tiny_model), tmp_path / "out")
    few = write_json_lines(tmp_path / "few.jsonl", synthetic_rows(12))
    with pytest.raises(DataError, match="has 12 rows that can be used, with 12 queries. Give at least 30"):
        rotate(str(tiny_model), tmp_path / "out", data=few, settings=QUICK)
    with pytest.raises(DataError, match="is a BEIR folder, whose files name their columns"):
        folder = tmp_path / "beir"
        (folder / "qrels").mkdir(parents=True)
        named = RotateSettings(columns={"query": "q"})
        rotate(str(tiny_model), tmp_path / "out", data=folder, settings=named)
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputExistsError, match="there exists"):
        rotate(str(tiny_model), tmp_path / "there", data=rows, settings=QUICK)
    towers = [list(load_model(str(build_tiny_model(tmp_path / name))).children()) for name in ("q", "d")]
    router = Router.for_query_document(*towers, default_route="document")
    SentenceTransformer(modules=[router]).save(str(tmp_path / "towers"))
    with pytest.raises(ModelError, match="tower for each side"):
        rotate(str(tmp_path / "towers"), tmp_path / "out", data=rows, settings=QUICK)
    load_model(str(tiny_model), truncate_dim=64).save(str(tmp_path / "short"))
    with pytest.raises(DimensionError, match="truncates its vectors to 64 dimensions"):
        rotate(str(tmp_path / "short"), tmp_path / "out", data=rows, settings=QUICK)
    with pytest.raises(DimensionError, match="256"):
        rotate(str(tiny_model), tmp_path / "out", data=rows, settings=replace(QUICK, dims=(256, 8)))
    constant = load_model(str(tiny_model))
    constant.append(linear_module(np.zeros((128, 128)), np.ones(128)))
    constant.save(str(tmp_path / "constant"))
    with pytest.raises(VectorError, match="the same vector"):
        rotate(str(tmp_path / "constant"), tmp_path / "out", data=rows, settings=QUICK)
    assert not (tmp_path / "out").exists()


def test_a_rotation_folded_wrongly_is_not_saved(
    tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nestvec.jobs.rotate.rotated_modules", lambda modules, _: list(modules))
    with pytest.raises(VerificationError, match="differs from the one that was measured"):
        rotate(str(tiny_model), tmp_path / "out", data=rows, settings=QUICK)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("stated", "kept"), [("dot", "dot"), (None, "dot"), ("cosine", "cosine")])
def test_a_rotated_model_compares_as_it_did(
    tiny_model: Path, rows: Path, tmp_path: Path, stated: str | None, kept: str
) -> None:
    base = load_model(str(tiny_model))
    model = SentenceTransformer(modules=list(base.children())[:2])  # not normalized: dot products differ from cosines
    model.save(str(tmp_path / "base-dot-v1"))
    file = tmp_path / "base-dot-v1" / "config_sentence_transformers.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "similarity_fn_name": stated}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NestvecWarning)  # that its grid compares by cosine
        rotate(str(tmp_path / "base-dot-v1"), tmp_path / "out", data=rows, settings=QUICK)
    assert load_model(str(tmp_path / "out")).similarity_fn_name == kept


def test_too_few_rows_to_fit_on_are_said_with_what_to_give(tiny_model: Path, tmp_path: Path) -> None:
    rows = synthetic_rows(60)
    shared = [{"query": row["query"], "positive": rows[place // 6]["positive"]} for place, row in enumerate(rows)]
    file = write_json_lines(tmp_path / "shared.jsonl", shared)
    with pytest.raises(DataError, match=r"has 60 rows, and of those \d+ are left to fit on: .*--queries"):
        rotate(str(tiny_model), tmp_path / "out", data=file, settings=QUICK)
    fewest = write_json_lines(tmp_path / "fewest.jsonl", synthetic_rows(30))  # as many as it says are needed
    found = rotate(str(tiny_model), tmp_path / "out", data=fewest, settings=QUICK)
    assert found.adaptor.settings["pairs"] >= 20


def test_a_precision_that_is_not_known_costs_no_work(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(PrecisionError, match="int5"):
        rotate(str(tiny_model), tmp_path / "out", data=rows, settings=replace(QUICK, precisions=("int5",)))


def test_a_draw_keeps_the_order_and_each_item_with_equal_chance() -> None:
    assert _draw(range(5), 9, 0) == [0, 1, 2, 3, 4]
    counts = np.zeros(20)
    for seed in range(2000):
        drawn = _draw(iter(range(20)), 5, seed)
        assert drawn == sorted(drawn)
        counts[drawn] += 1
    assert counts.min() > 400
    assert counts.max() < 600
