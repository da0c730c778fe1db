"""The commands index and search as a user types them. Run: pytest tests/test_cli_index.py (two minutes)."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from rich.text import Text

from builders import build_tiny_model, synthetic_rows, write_json_lines
from conftest import RunNestvec
from nestvec.cli import search
from nestvec.cli.index import index as index_group
from nestvec.data import read_documents
from nestvec.encoders import cache_entries
from nestvec.errors import DataError, SearchIndexError, SourceNotFoundError
from nestvec.index import EXPORTS, CodeSettings, Index
from nestvec.jobs.index import open_index
from nestvec.plan import FirstStage, Plan, SecondStage, dump_plan

index_commands = index_group.commands


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, nestvec: RunNestvec) -> Path:
    """Documents, and an index of them, that tests copy."""
    folder = tmp_path_factory.mktemp("made")
    rows = [
        {"_id": f"d{place}", "text": row["positive"], "lang": "de" if place % 2 else "en", "year": 2000 + place % 20}
        for place, row in enumerate(synthetic_rows(120))
    ]
    write_json_lines(folder / "docs.jsonl", rows)
    words = ("index", "build", folder / "index", "--model", tiny_model, "--docs", folder / "docs.jsonl", "--no-cache")
    done = nestvec(*words)
    assert done.returncode == 0, done.stderr
    assert "120" in done.stdout
    assert "of the exact 10 best for its own documents" in " ".join(done.stdout.split())
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NESTVEC_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture
def built(folder: Path) -> Path:
    return folder / "index"


def test_documents_are_built_found_changed_and_verified(built: Path, folder: Path, nestvec: RunNestvec) -> None:
    text = json.loads((folder / "docs.jsonl").read_text().splitlines()[7])["text"]
    found = json.loads(nestvec("search", built, text, "-k", 3, "--json").stdout)
    assert found["hits"][0]["id"] == "d7"
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert found["hits"][0]["metadata"] == {"lang": "de", "year": 2007}
    shown = nestvec("search", built, text, "--explain", "--hybrid", "--filter", 'lang = "de" and year < 2010')
    assert shown.returncode == 0, shown.stderr
    assert "d7" in shown.stdout.splitlines()[0]
    assert "lang=de" in shown.stdout
    assert "lang=en" not in shown.stdout
    assert "shortlist" in shown.stdout
    assert "words" in shown.stdout.splitlines()[0]
    assert "30 documents" in shown.stdout.splitlines()[-1]

    write_json_lines(folder / "more.jsonl", [{"id": "new", "text": text, "lang": "fr"}])
    assert "1 added; 121 documents" in nestvec("index", "add", built, "--docs", folder / "more.jsonl").stdout
    again = nestvec("index", "add", built, "--docs", folder / "more.jsonl")
    assert (again.returncode, "has already: new" in again.stderr) == (2, True)
    upserted = nestvec("index", "upsert", built, "--docs", folder / "more.jsonl")
    assert "0 added, 1 replaced; 121 documents" in upserted.stdout
    both = json.loads(nestvec("search", built, text, "--count", 2, "--json").stdout)["hits"]
    assert {hit["id"] for hit in both} == {"d7", "new"}
    once = json.loads(nestvec("search", built, text, "--count", 2, "--distinct", "--json").stdout)["hits"]
    assert {once[0]["id"], *once[0]["copies"]} == {"d7", "new"}
    assert once[1]["id"] not in ("d7", "new")
    assert "and 1 with the same text" in nestvec("search", built, text, "--distinct").stdout
    lines = nestvec("search", built, text, "--count", 3, "--table", "--middle", "32,20").stdout.splitlines()
    assert lines[0].split() == ["score", "id", "lang", "year", "text"]
    assert len(lines) == 4
    assert "1.0000" in lines[1]
    kept = cache_entries()
    with open_index(built) as index:
        assert index.search([text, "nothing of the kind"], k=2).ids[0][0] in ("d7", "new")
        words = index.search(text, k=3, hybrid=True, filter='lang = "de"')
        assert words.ids[0][0] == "d7"
        assert words.scores.shape == (1, 3)
        with pytest.raises(SearchIndexError, match="Give texts"):
            index.search(np.ones((1, 128), np.float32), hybrid=True)
    assert cache_entries() == kept  # searches leave no texts behind
    with Index.open(built) as index, pytest.raises(SearchIndexError, match="has no encoder"):
        index.search("a text")

    assert "1 deleted, 1 were not there; 120" in nestvec("index", "delete", built, "d7", "none").stdout
    (folder / "ids.txt").write_text("d8\nd9\n\n")
    assert "2 deleted; 118" in nestvec("index", "delete", built, "--file", folder / "ids.txt").stdout
    assert "118 documents, all files" in nestvec("index", "verify", built).stdout
    facts = json.loads(nestvec("index", "info", built, "--json").stdout)
    assert (facts["documents"], facts["deleted"]) == (118, 3)
    assert "not compacted" in nestvec("index", "info", built).stdout
    assert nestvec("index", "compact", built, "--dim", 64).returncode == 0
    facts = json.loads(nestvec("index", "info", built, "--json").stdout)
    assert (facts["documents"], facts["deleted"], facts["segments"], facts["stored_dim"]) == (118, 0, 1, 64)
    (folder / "queries.txt").write_text("\n".join(f"{row['query']}" for row in synthetic_rows(60)))
    tuned = nestvec("index", "tune", built, "--recall", "0.9", "--queries", folder / "queries.txt")
    assert tuned.returncode == 0, tuned.stderr
    assert json.loads(nestvec("index", "info", built, "--json").stdout)["tuned"]["low"] >= 0.9
    exported = nestvec("index", "export", built, "--out", folder / "out", "--format", "beir")
    assert exported.returncode == 0, exported.stderr
    assert len((folder / "out" / "corpus.jsonl").read_text().splitlines()) == 118

    victims = [next(built.rglob(f"*.{end}")) for end in ("vectors", "ids", "codes", "codec")]
    # From the second on more than one is named, and from the third on the index cannot be opened.
    for victim in victims:
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
        damaged = nestvec("index", "verify", built)
        named = [one.name in damaged.stderr for one in victims]
        assert (damaged.returncode, sum(named), "Traceback" in damaged.stderr) == (1, victims.index(victim) + 1, False)
    victim.unlink()
    assert nestvec("index", "verify", built).returncode == 1
    (built / "manifest.sqlite").write_bytes(b"nothing of the kind")
    assert nestvec("index", "verify", built).returncode == 1
    assert nestvec("index", "verify", folder).returncode == 2  # no index at all


def test_a_plan_is_obeyed(folder: Path, tiny_model: Path, nestvec: RunNestvec) -> None:
    plan = Plan(
        model=str(tiny_model),
        full_dim=128,
        first_stage=FirstStage(dim=32, precision="int4"),
        second_stage=SecondStage(precision="int8", shortlist=40),
    )
    (folder / "plan.toml").write_text(dump_plan(plan))
    done = nestvec("index", "build", folder / "i", "--docs", folder / "docs.jsonl", "--plan", folder / "plan.toml")
    assert done.returncode == 0, done.stderr
    with Index.open(folder / "i") as index:
        assert index.codes == CodeSettings(32, "int4")
        assert index.settings.precision == "int8"
        assert index.search_settings.shortlist == 40


def test_another_model_is_refused_unless_forced(built: Path, folder: Path, nestvec: RunNestvec) -> None:
    other = build_tiny_model(folder / "other", seed=5)
    for words in (("search", built, "text"), ("index", "add", built, "--docs", folder / "docs.jsonl")):
        done = nestvec(*words, "--model", other)
        assert done.returncode == 2
        assert "does not give the vectors" in done.stderr
    assert nestvec("search", built, "text", "--model", other, "--force").returncode == 0
    moved = folder / "moved"
    with Index.open(built) as index:
        assert index.model is not None
        shutil.copytree(index.model["name"], moved)
    assert nestvec("search", built, "text", "--model", moved).returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["search", "{index}", " "], 2, "query is empty"),
        (["search", "{index}", "x", "--filter", "lang = "], 2, "      ^"),
        (["search", "{index}", "x", "--filter", "lng = 1"], 2, "did you mean lang"),
        (["search", "{index}", "x", "--dim", "999"], 2, "128 are stored"),
        (["search", "{index}/nothing", "x"], 2, "is no index"),
        (["search", "{index}", "x", "--table", "--explain"], 2, "--table shows a line"),
        (["search", "{index}", "x", "--json", "--full"], 2, "whole texts already"),
        (["index", "info", "{folder}"], 2, "Make one: nestvec index build"),
        (["index", "build", "{index}", "--model", "static", "--docs", "{folder}/docs.jsonl"], 2, "exists"),
        (["index", "build", "{folder}/n", "--docs", "{folder}/docs.jsonl"], 2, "--model"),
        (["index", "build", "{folder}/n", "--model", "x", "--docs", "d", "--lists", "8"], 2, "--codes"),
        (["index", "build", "{folder}/n", "--model", "static", "--docs", "{folder}/none.jsonl"], 2, "does not exist"),
        (["index", "delete", "{index}"], 2, "Name the documents"),
        (["index", "compact", "{index}", "--dim", "500"], 2, "500"),
        (["index", "tune", "{index}", "--recall", "1.5"], 2, "recall"),
        (["index", "add", "{index}", "--docs", "{folder}/bad.jsonl"], 2, "2 problems"),
    ],
)
def test_mistakes_are_one_line(
    built: Path, folder: Path, nestvec: RunNestvec, words: list[str], code: int, message: str
) -> None:
    (folder / "bad.jsonl").write_text('{"text": "no id"}\n{"_id": "a", "text": ""}\nnot json\n')
    done = nestvec(*(word.format(index=built, folder=folder) for word in words))
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_offers_what_the_library_has() -> None:
    def choices(command: click.Command, name: str) -> tuple[str, ...]:
        option = next(one for one in command.params if one.name == name)
        assert isinstance(option.type, click.Choice)
        return tuple(option.type.choices)

    assert choices(index_commands["export"], "kind") == EXPORTS


def test_the_words_of_a_query_are_marked_in_the_part_of_a_text_that_has_most_of_them() -> None:
    def marked(text: Text) -> list[str]:
        return [text.plain[span.start : span.end] for span in text.spans]

    short = search._highlighted("Read the Table\nof a file, tables too", "table, of FILE", full=False)
    assert short.plain == "Read the Table of a file, tables too"
    assert marked(short) == ["Table", "file"]  # whole words of three letters or more, in any case
    filler = " ".join(f"filler{n}" for n in range(200))
    long = f"a table here {filler} a table from some file {filler}"
    cut = search._highlighted(long, "table file", full=False)
    assert marked(cut) == ["table", "file"]
    assert cut.plain.startswith("... ")
    assert cut.plain.endswith(" ...")
    assert set(cut.plain.split()) <= {*long.split(), "..."}  # no word is cut in two
    assert marked(search._highlighted(long, "table file", full=True)) == ["table", "table", "file"]
    assert search._highlighted(filler, "a (b", full=False).spans == []
    assert search._highlighted("x" * 2000, "", full=False).plain.startswith("xxx")


def test_documents_are_read_from_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text,lang\n1,"one, two",de\n2,three,en\n')
    assert list(read_documents(tmp_path / "a.csv")) == [
        ("1", "one, two", {"lang": "de"}, None),
        ("2", "three", {"lang": "en"}, None),
    ]
    with gzip.open(tmp_path / "corpus.jsonl.gz", "wt") as file:
        file.write('{"_id": 7, "title": "T", "text": "body", "metadata": {"a": 1}, "b": [2]}\n\n')
    assert list(read_documents(tmp_path)) == [("7", "T body", {"b": [2], "a": 1}, None)]
    write_json_lines(
        tmp_path / "bad.jsonl",
        [
            {"id": "ok", "text": "t"},
            {"text": "t"},
            {"id": "", "text": "t"},
            {"id": True, "text": "t"},
            {"id": "b", "text": 3},
            {"id": "ok", "text": "again"},
            {"id": "c", "text": "t", "metadata": 3},
        ],
    )
    read = read_documents(tmp_path / "bad.jsonl")
    assert next(read).id == "ok"
    with pytest.raises(DataError) as caught:
        list(read)
    for line in range(2, 8):
        assert f"line {line}:" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceNotFoundError, match="without corpus.jsonl"):
        next(read_documents(tmp_path / "empty"))


def test_an_interrupted_build_leaves_nothing(folder: Path, tiny_model: Path) -> None:
    rows = [{"id": str(place), "text": f"text number {place} " * 20} for place in range(20_000)]
    write_json_lines(folder / "many.jsonl", rows)
    words = ["index", "build", folder / "i", "--model", tiny_model, "--docs", folder / "many.jsonl", "--no-cache"]
    command = [sys.executable, "-m", "nestvec", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(folder.glob(".i.partial-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Interrupted" in errors
    assert not (folder / "i").exists()
    assert not list(folder.glob(".i.*"))
