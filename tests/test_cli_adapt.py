"""The commands adapt and transform as a user types them. Run: pytest tests/test_cli_adapt.py (a minute)."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest

from builders import build_tiny_model, synthetic_rows, write_json_lines
from conftest import RunNestvec
from nestvec.adaptors import METHODS, PRESETS, load
from nestvec.cli.adapt import adapt
from nestvec.encoders import SentenceTransformerEncoder, load_model
from nestvec.vectors import truncate
from test_adaptors_fitting import DIM, topics

QUICK = ("--epochs", "4", "--batch-size", "128", "--dims", "24,8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NESTVEC_CACHE", str(tmp_path / "cache"))
    for name, vectors in zip(("q", "d"), topics(900, 0), strict=True):
        np.save(tmp_path / f"{name}.npy", vectors)
    return tmp_path


def test_vectors_in_files_are_adapted_and_transformed(folder: Path, nestvec: RunNestvec) -> None:
    out = folder / "a.safetensors"
    files = ("--queries", folder / "q.npy", "--documents", folder / "d.npy")
    done = nestvec("adapt", *files, *QUICK, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "MRR@10 on held-out data" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[1:4]] == ["dim", "24", "8"]
    adaptor = load(out)
    assert f"Kept: {adaptor.method}, {adaptor.settings['strength']:.0%} of the way from " in done.stdout
    assert adaptor.dims == (24, 8)
    assert adaptor.encoder == {}
    queries = np.load(folder / "q.npy")
    written = nestvec("transform", out, folder / "q.npy", "--side", "query", "--dim", "8", "--out", folder / "q8.npy")
    assert written.returncode == 0, written.stderr
    assert "900 vectors of 8" in written.stdout
    np.testing.assert_array_equal(np.load(folder / "q8.npy"), adaptor.transform(queries, "query", 8))
    again = nestvec("adapt", *files, *QUICK, "--out", out, "--method", "pca")
    assert again.returncode == 0, again.stderr
    assert load(out).method == "pca"


def test_vectors_that_no_map_betters_stay_as_they_are(folder: Path, nestvec: RunNestvec) -> None:
    documents = np.repeat(np.random.default_rng(0).normal(size=(150, 16)), 3, axis=0).astype(np.float32)
    np.save(folder / "d.npy", documents)  # three queries a document, each beside it
    np.save(folder / "q.npy", documents + 0.01 * np.random.default_rng(1).normal(size=documents.shape).astype("f4"))
    files = ("--queries", folder / "q.npy", "--documents", folder / "d.npy", "--dims", "16,8")
    done = nestvec("adapt", *files, "--out", folder / "a.safetensors")
    assert done.returncode == 0, done.stderr
    assert "the vectors stay as they are" in done.stdout
    assert load(folder / "a.safetensors").method == "raw"
    np.testing.assert_allclose(load(folder / "a.safetensors").held_out["raw"]["16"], 1.0)


def test_pairs_scores_and_no_labels(folder: Path, nestvec: RunNestvec) -> None:
    out = folder / "a.safetensors"
    files = ("--queries", folder / "q.npy", "--documents", folder / "d.npy")
    rows = np.arange(500)
    np.save(folder / "pairs.npy", np.column_stack([rows, rows, (rows + 7) % 900]))
    whole = ("--method", "two-tower", "--strength", "1")
    done = nestvec("adapt", *files, *QUICK, "--pairs", folder / "pairs.npy", "--out", out, *whole)
    assert done.returncode == 0, done.stderr
    assert load(out).settings["pairs"] == 500
    assert not load(out).shared
    np.save(folder / "pairs.npy", np.column_stack([rows, (rows * 7) % 900]))
    np.save(folder / "scores.npy", np.linspace(0, 1, 500))
    labels = ("--pairs", folder / "pairs.npy", "--scores", folder / "scores.npy")
    done = nestvec("adapt", *files, *QUICK, *labels, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "Spearman on held-out data" in done.stdout
    done = nestvec("adapt", *files, *QUICK, "--unsupervised", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "MRR@10 of the nearest neighbour on held-out data" in done.stdout
    outside = nestvec("adapt", *files, *QUICK, "--pairs", folder / "q.npy", "--out", out)
    assert outside.returncode == 2
    assert "not whole numbers" in outside.stderr


def test_texts_are_encoded_and_the_adapted_model_is_one_model(
    folder: Path, tiny_model: Path, nestvec: RunNestvec
) -> None:
    rows = write_json_lines(folder / "rows.jsonl", synthetic_rows(400))
    out, model = folder / "a.safetensors", folder / "adapted"
    done = nestvec(
        *("adapt", "--model", tiny_model, "--data", rows, "--dims", "128,16", "--epochs", "4", "--batch-size", "64"),
        *("--negatives", "1", "--out", out, "--save-model", model),
    )
    assert done.returncode == 0, done.stderr
    adaptor = load(out)
    encoder = SentenceTransformerEncoder(load_model(str(tiny_model)))
    assert adaptor.encoder == {side: encoder.identity(side) for side in ("query", "document")}
    texts = [row["query"] for row in synthetic_rows(5, seed=3)]
    np.testing.assert_allclose(
        truncate(load_model(str(model)).encode_query(texts), 16),
        truncate(adaptor.transform(encoder.encode_queries(texts), "query"), 16),
        atol=1e-5,
    )
    config = json.loads((model / "config.json").read_text())
    assert config["matryoshka_dimensions"] == [128, 16]
    refused = nestvec("adapt", "--model", tiny_model, "--data", rows, "--out", out, "--save-model", model)
    assert refused.returncode == 2
    assert "exists" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give --queries and --documents, or --model and --data"),
        (("--queries", "q.npy", "--model", "minilm"), "--queries is for ready vectors and --model for texts"),
        (("--queries", "q.npy", "--documents", "d.npy", "--save-model", "m"), "needs a local --model"),
        (("--queries", "q.npy", "--documents", "d.npy", "--pairs", "p", "--unsupervised"), "uses no labels"),
        (("--queries", "q.npy", "--documents", "d.npy", "--negatives", "2"), "--negatives is for texts"),
        (("--documents", "d.npy", "--unsupervised", "--method", "two-tower"), "Give pairs, or fit linear"),
        (("--queries", "no.npy", "--documents", "d.npy"), "There is no file of vectors no.npy"),
        (("--queries", "q.npy", "--documents", "d.npy", "--dims", "24,99"), "99"),
        (("--queries", "q.npy", "--documents", "d.npy", "--scores", "no.npy"), "There is no file of vectors no.npy"),
        (("--queries", "q.npy", "--documents", "few.npy"), "900 queries and 600 documents"),
    ],
)
def test_wrong_options_are_explained(
    folder: Path, nestvec: RunNestvec, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    np.save(folder / "few.npy", topics(600, 0)[1])
    done = nestvec("adapt", *arguments, "--out", folder / "a.safetensors", cwd=folder)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert not (folder / "a.safetensors").exists()


def test_what_is_no_adaptor_is_not_replaced(folder: Path, nestvec: RunNestvec) -> None:
    precious = folder / "precious.safetensors"
    precious.write_text("precious")
    files = ("--queries", folder / "q.npy", "--documents", folder / "d.npy", "--method", "pca")
    refused = nestvec("adapt", *files, "--out", precious)
    assert (refused.returncode, precious.read_text()) == (2, "precious")
    assert "is no adaptor" in refused.stderr
    assert nestvec("adapt", *files, "--out", precious, "--overwrite").returncode == 0
    taken = nestvec("transform", precious, folder / "q.npy", "--out", folder / "q.npy")
    assert taken.returncode == 2
    assert "pass --overwrite" in taken.stderr
    itself = nestvec("transform", precious, folder / "q.npy", "--out", precious)
    assert itself.returncode == 2
    assert load(precious).method == "pca"
    narrow = folder / "narrow.npy"
    np.save(narrow, np.ones((3, DIM - 1), np.float32))
    wrong = nestvec("transform", precious, narrow, "--out", folder / "x.npy")
    assert wrong.returncode == 2
    assert "takes vectors [n, 24], not [3, 23]" in wrong.stderr


def test_an_adaptor_knows_whose_vectors_it_takes(folder: Path, tiny_model: Path, nestvec: RunNestvec) -> None:
    encoder = SentenceTransformerEncoder(load_model(str(tiny_model)))
    texts = [str(row["positive"]) for row in synthetic_rows(300)]
    np.save(folder / "t.npy", encoder.encode_documents(texts))
    out = folder / "a.safetensors"
    fitted = nestvec(
        *("adapt", "--documents", folder / "t.npy", "--unsupervised", "--encoder", tiny_model, "--dims", "128,16"),
        *("--epochs", "1", "--out", out),
    )
    assert fitted.returncode == 0, fitted.stderr
    assert load(out).encoder == {side: encoder.identity(side) for side in ("query", "document")}
    other = build_tiny_model(folder / "other", seed=1)
    moved = ("transform", out, folder / "t.npy", "--dim", "16", "--out", folder / "t16.npy")
    assert nestvec(*moved, "--encoder", tiny_model).returncode == 0
    np.testing.assert_array_equal(
        np.load(folder / "t16.npy"), load(out).transform(np.load(folder / "t.npy"), "document", 16)
    )
    refused = nestvec(*moved, "--encoder", other, "--overwrite")
    assert refused.returncode == 2
    assert "of another encoder" in refused.stderr
    assert nestvec(*moved, "--encoder", other, "--overwrite", "--force").returncode == 0


def test_texts_of_any_kind_are_enough_without_labels(folder: Path, tiny_model: Path, nestvec: RunNestvec) -> None:
    texts = [str(row["positive"]) for row in synthetic_rows(300)]
    rows = write_json_lines(folder / "rows.jsonl", [{"text": text, "label": 0} for text in texts])
    done = nestvec(
        *("adapt", "--model", tiny_model, "--data", rows, "--unsupervised", "--dims", "128,16", "--epochs", "1"),
        *("--out", folder / "a.safetensors"),
    )
    assert done.returncode == 0, done.stderr
    assert "MRR@10 of the nearest neighbour" in done.stdout


def test_the_command_offers_every_method_and_preset() -> None:
    method = next(option for option in adapt.params if option.name == "method")
    assert isinstance(method.type, click.Choice)
    assert tuple(method.type.choices) == METHODS
    preset = next(option for option in adapt.params if option.name == "preset")
    assert isinstance(preset.type, click.Choice)
    assert tuple(preset.type.choices) == PRESETS
