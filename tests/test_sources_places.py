"""Indexes, plans and recipes find their files from any folder. Run: pytest tests/test_sources_places.py (half a minute)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from builders import synthetic_rows, write_json_lines
from conftest import RunNestvec
from nestvec.index import Index
from nestvec.plan import read_plan
from nestvec.sources import absolute_source, find_source
from nestvec.training import load_recipe


def test_files_of_a_source_become_absolute_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model", "minilm", "vectors"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.safetensors").write_text("")
    monkeypatch.chdir(tmp_path)
    assert absolute_source("model") == str(tmp_path / "model")
    assert absolute_source("./model/../model") == str(tmp_path / "model")
    assert absolute_source("minilm") == "minilm"
    assert absolute_source("owner/name") == "owner/name"
    assert absolute_source("vectors:vectors") == f"vectors:{tmp_path / 'vectors'}"
    assert absolute_source("pca=model") == f"pca={tmp_path / 'model'}"
    assert absolute_source("a.safetensors=model") == f"{tmp_path / 'a.safetensors'}={tmp_path / 'model'}"
    assert absolute_source("a.safetensors=minilm") == f"{tmp_path / 'a.safetensors'}=minilm"
    monkeypatch.chdir("/")
    assert absolute_source("model", tmp_path) == str(tmp_path / "model")
    assert absolute_source("model") == "model"
    assert find_source("model", tmp_path) == str(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert find_source("model", tmp_path / "minilm") == str(tmp_path / "model")  # where an older version looked


def test_an_index_survives_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 24)).astype(np.float32)
    monkeypatch.chdir(tmp_path)
    index = Index.build("here", vectors=vectors[:200], recall=None)
    opened = Index.open("here")
    monkeypatch.chdir("/")
    Index.open(tmp_path / "here").add(vectors[200:], [f"n{row}" for row in range(100)])
    for one in (index, opened):
        assert len(one) == 300
        assert one.search(vectors[250:251], k=1).ids == [["n50"]]
        one.verify()
        one.upsert(vectors[:1], ["0"])
        assert len(list(one.rows())) > 0
    opened.compact()
    assert opened.search(vectors[:1], k=1).ids == [["0"]]


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with a model, documents, a benchmark and a recipe, all of which name each other by relative paths."""
    folder = tmp_path / "project"
    shutil.copytree(tiny_model, folder / "model")
    rows = synthetic_rows(120)
    write_json_lines(folder / "rows.jsonl", rows)
    write_json_lines(folder / "docs.jsonl", [{"id": str(n), "text": row["positive"]} for n, row in enumerate(rows)])
    (folder / "recipe.toml").write_text(
        '[model]\nbase = "model"\n[data]\nsource = "file"\npath = "rows.jsonl"\n'
        "[benchmark]\nqueries = 20\ndocuments = 40\n[training]\ndims = [128, 16]\nmax_steps = 2\n",
        encoding="utf-8",
    )
    return folder


def test_commands_find_models_and_files_from_other_folders(project: Path, nestvec: RunNestvec, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*words: object, cwd: Path) -> str:
        done = nestvec(*words, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("train", project / "recipe.toml", "--out", "run", cwd=elsewhere)
    assert load_recipe(elsewhere / "run" / "recipe.toml").data.path == str(project / "rows.jsonl")  # type: ignore[union-attr]
    run("train", elsewhere / "run" / "recipe.toml", "--out", "again", cwd=tmp_path)
    grid = ["evaluate", "model", "--benchmark", elsewhere / "run" / "benchmark", "--dims", "16", "--json", "grid.json"]
    run(*grid, "--no-latency", "--precisions", "float32,int8", "--html", "grid.html", cwd=project)
    assert json.loads((project / "grid.json").read_text())["models"] == {"project": "model"}
    assert str(project) not in (project / "grid.html").read_text(encoding="utf-8")
    run("plan", project / "grid.json", "--target", "retention>=0.1", "--out", "plan.toml", cwd=elsewhere)
    assert read_plan(elsewhere / "plan.toml").model == str(project / "model")
    run("index", "build", "index", "--docs", project / "docs.jsonl", "--plan", "plan.toml", cwd=elsewhere)
    run("index", "build", "index", "--docs", "docs.jsonl", "--model", "model", cwd=project)
    for folder, index in ((tmp_path, project / "index"), (Path("/"), elsewhere / "index")):
        hits = json.loads(run("search", os.path.relpath(index, folder), "the river", "--json", "-k", "2", cwd=folder))
        assert len(hits["hits"]) == 2


def test_paths_of_a_recipe_are_relative_to_it_and_those_of_the_command_line_to_the_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "rows.jsonl").write_text("", encoding="utf-8")
    (other / "b").mkdir()
    monkeypatch.chdir(other)
    read = load_recipe(project / "recipe.toml")
    assert (read.model.base, read.data.path) == (str(project / "model"), str(project / "rows.jsonl"))  # type: ignore[union-attr]
    changed = load_recipe(project / "recipe.toml", ["data.path=rows.jsonl", "benchmark.path=b", "model.base=minilm"])
    assert changed.data.path == str(other / "rows.jsonl")  # type: ignore[union-attr]
    assert (changed.benchmark.path, changed.model.base) == (str(other / "b"), "minilm")


def test_a_plan_written_by_hand_is_relative_to_its_file(project: Path, nestvec: RunNestvec, tmp_path: Path) -> None:
    (project / "plan.toml").write_text(
        'model = "model"\nfull_dim = 128\n[first_stage]\ndim = 64\nprecision = "int8"\n', encoding="utf-8"
    )
    done = nestvec(
        "index",
        "build",
        tmp_path / "i",
        "--docs",
        project / "docs.jsonl",
        "--plan",
        project / "plan.toml",
        cwd=Path("/"),
    )
    assert done.returncode == 0, done.stderr
    assert Index.open(tmp_path / "i").model["name"] == str(project / "model")  # type: ignore[index]
