"""Commands on files from the wild, and what they print of them. Run: pytest tests/test_cli_files.py (half a minute)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from builders import build_tiny_model, synthetic_rows, write_json_lines
from conftest import RunNestvec
from nestvec.cli.console import visible

ROWS = [{"id": f"k{n}", "text": str(row["positive"]), "year": 2000 + n} for n, row in enumerate(synthetic_rows(30))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("m") / "tiny", dim=32)


@pytest.fixture
def index(tmp_path: Path, model: Path, nestvec: RunNestvec) -> Path:
    docs = write_json_lines(tmp_path / "docs.jsonl", ROWS)
    assert nestvec("index", "build", tmp_path / "index", "--model", model, "--docs", docs).returncode == 0
    return tmp_path / "index"


def documents(index: Path, nestvec: RunNestvec) -> int:
    return int(json.loads(nestvec("index", "info", index, "--json").stdout)["documents"])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_ids_and_queries_come_in_any_encoding(tmp_path: Path, index: Path, nestvec: RunNestvec, encoding: str) -> None:
    words = ["k0", "k1", "Größe"] if encoding == "cp1252" else ["k0", "k1", "文書"]
    (tmp_path / "ids.txt").write_bytes("\r\n".join(words).encode(encoding))
    done = nestvec("index", "delete", index, "--file", tmp_path / "ids.txt")
    assert "2 deleted, 1 were not there; 28 documents are left" in done.stdout
    assert done.stderr.count("read as cp1252") == (encoding == "cp1252")
    (tmp_path / "q.txt").write_bytes("the river\nthe engine\n".encode(encoding))
    assert nestvec("index", "tune", index, "--queries", tmp_path / "q.txt").returncode == 0


def test_the_file_of_standard_input_is_read(index: Path) -> None:
    command = [sys.executable, "-m", "nestvec", "index", "delete", str(index), "--file", "-"]
    done = subprocess.run(command, input="k0\nk1\n".encode("utf-16"), capture_output=True, check=False)
    assert b"2 deleted" in done.stdout


def test_control_characters_of_texts_are_shown_and_not_obeyed(
    tmp_path: Path, index: Path, model: Path, nestvec: RunNestvec
) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07the river \x9b31m feeds \u202e bread"
    rows = [{"id": "evil\x1b[31m", "text": evil, "tag": "\x1b[5mblink"}]
    docs = write_json_lines(tmp_path / "evil.jsonl", rows)
    assert nestvec("index", "add", index, "--docs", docs).returncode == 0
    for options in ([], ["--full"], ["--table"], ["--explain"], ["--hybrid"], ["--json"]):
        shown = nestvec("search", index, "the river feeds bread", "-k", "40", *options).stdout
        assert not set("\x1b\x07\x9b\u202e") & set(shown), options
        assert ("\\u001b" if options == ["--json"] else "\\x1b[") in shown
    hits = json.loads(nestvec("search", index, "the river", "-k", "40", "--json").stdout)["hits"]
    assert evil in [hit["text"] for hit in hits]  # JSON keeps what it was
    bad = nestvec("search", index, "x", "--filter", "\x1b[31m = 1")
    assert bad.returncode == 2
    assert "\x1b" not in bad.stderr


def test_bells_in_texts_are_shown(tmp_path: Path, index: Path, nestvec: RunNestvec) -> None:
    docs = write_json_lines(tmp_path / "more.jsonl", [{"id": "b\x07", "text": "ring\x07 the river", "a\x08": "\x0b"}])
    assert nestvec("index", "add", index, "--docs", docs).returncode == 0
    shown = nestvec("search", index, "ring the river", "-k", "1").stdout
    for spelled in ("b\\x07", "ring\\x07", "a\\x08=", "\\x0b"):
        assert spelled in shown


def test_words_typed_where_the_terminal_is_not_utf_8_are_those_words(index: Path) -> None:
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    for query, status in (("gr\u00f6\u00dfe".encode(), 0), (b"\xff\xfe bad", 2)):
        command = [os.fsencode(sys.executable), b"-m", b"nestvec", b"search", os.fsencode(index), query, b"--json"]
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert done.returncode == status, done.stderr
        assert b"Traceback" not in done.stderr
    assert b"no text in UTF-8" in done.stderr


def test_visible_leaves_texts_of_any_language_alone() -> None:
    for text in ("Größe\tund\nZeilen", "図書館", "ห้องสมุด", "emoji 💡", "שלום"):
        assert visible(text) == text


def test_a_terminal_that_is_not_utf_8_shows_what_it_cannot_spell(
    tmp_path: Path, index: Path, nestvec: RunNestvec
) -> None:
    docs = write_json_lines(tmp_path / "more.jsonl", [{"id": "größe", "text": "the river 図書館 feeds bread"}])
    assert nestvec("index", "add", index, "--docs", docs).returncode == 0
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "COLUMNS": "80"}
    for options in ([], ["--table"], ["--json"]):
        command = [sys.executable, "-m", "nestvec", "search", str(index), "the river", "-k", "40", *options]
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        shown = done.stdout.decode("ascii")
        if options == ["--json"]:
            assert "größe" in [hit["id"] for hit in json.loads(shown)["hits"]]
        else:
            assert "gr\\xf6\\xdfe" in shown


def test_warnings_are_lines_and_are_said_once(tmp_path: Path, model: Path, nestvec: RunNestvec) -> None:
    docs = write_json_lines(tmp_path / "d.jsonl", [*ROWS, {"id": "none", "text": ""}, {"id": "null", "text": None}])
    words = ["index", "build", tmp_path / "i", "--model", model, "--docs", docs]
    refused = nestvec(*words, "--strict")
    assert refused.returncode == 2
    assert "2 problems" in refused.stderr
    done = nestvec(*words)
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if "documents without text, left out: 2" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"Warning: {docs}: ")


def test_exports_are_read_back_and_columns_of_vectors_are_used(
    tmp_path: Path, index: Path, model: Path, nestvec: RunNestvec
) -> None:
    assert nestvec("index", "export", index, "--format", "parquet", "--out", tmp_path / "out").returncode == 0
    exported = tmp_path / "out" / "documents.parquet"
    assert parquet.read_schema(exported).names == ["id", "text", "metadata", "vector"]
    again = nestvec("index", "build", tmp_path / "again", "--model", model, "--docs", exported)
    assert again.returncode == 0, again.stderr
    assert "column 'vector' holds vectors of 32 and is left out; --vectors vector uses them" in again.stderr
    used = nestvec("index", "build", tmp_path / "used", "--model", model, "--docs", exported, "--vectors", "vector")
    assert used.returncode == 0, used.stderr
    assert "encoding document" not in used.stderr
    found = [
        nestvec("search", folder, "the river feeds bread", "--json", "--filter", "year >= 2010").stdout
        for folder in (index, tmp_path / "again", tmp_path / "used")
    ]
    ids = [[hit["id"] for hit in json.loads(one)["hits"]] for one in found]
    assert ids[0] == ids[1] == ids[2]
    assert "vector" not in json.loads(found[1])["hits"][0]["metadata"]
    alone = nestvec("index", "build", tmp_path / "alone", "--docs", exported, "--vectors", "vector")
    assert alone.returncode == 0, alone.stderr
    assert "Say what encodes queries: --model" in nestvec("search", tmp_path / "alone", "x").stderr
    assert nestvec("search", tmp_path / "alone", "x", "--model", model).returncode == 0
    assert nestvec("index", "upsert", index, "--docs", exported, "--vectors", "vector").returncode == 0
    wrong = nestvec("index", "build", tmp_path / "w", "--model", "static", "--docs", exported, "--vectors", "vector")
    assert "have 32 dimensions, and those of the model 256" in wrong.stderr
    assert documents(index, nestvec) == 30


def test_tables_without_a_header_and_with_other_names_are_read(
    tmp_path: Path, model: Path, nestvec: RunNestvec
) -> None:
    (tmp_path / "bare.tsv").write_text("".join(f"{row['id']}\t{row['text']}\n" for row in ROWS), encoding="utf-8")
    words = ["index", "build", tmp_path / "i", "--model", model, "--docs", tmp_path / "bare.tsv"]
    assert "Its columns are: 'k0'" in nestvec(*words).stderr
    assert nestvec(*words, "--columns", "id,text").returncode == 0
    assert documents(tmp_path / "i", nestvec) == 30
    (tmp_path / "named.csv").write_text(
        "key;body\n" + "".join(f"x{n};some words\n" for n in range(3)), encoding="utf-8"
    )
    more = ["index", "add", tmp_path / "i", "--docs", tmp_path / "named.csv"]
    assert nestvec(*more, "--columns", "id=key,text=body").returncode == 0
    for columns, message in (
        ("id=key,text", "no role=column"),
        ("id,,text", "empty name"),
        ("id=nope", "no column 'nope'"),
    ):
        assert message in nestvec(*more, "--columns", columns).stderr


def test_pairs_come_as_lists_of_bge_and_as_bare_tables(tmp_path: Path, model: Path, nestvec: RunNestvec) -> None:
    rows = synthetic_rows(60)
    bge = [{"query": row["query"], "pos": [row["positive"]], "neg": [*row["negatives"], None]} for row in rows]
    write_json_lines(tmp_path / "bge.jsonl", bge)
    lines = [f"{row['query']}\t{row['positive']}\t{row['negatives'][0]}\n" for row in rows]
    (tmp_path / "triples.tsv").write_text("".join(lines), encoding="utf-8")
    words = ["adapt", "--model", model, "--dims", "32,8", "--epochs", "1"]
    done = nestvec(*words, "--data", tmp_path / "bge.jsonl", "--out", tmp_path / "a.safetensors", "--negatives", "1")
    assert done.returncode == 0, done.stderr
    assert "null or empty, left out: 60" in done.stderr
    columns = ["--columns", "query,positive,negative"]
    done = nestvec(*words, "--data", tmp_path / "triples.tsv", *columns, "--out", tmp_path / "b.safetensors")
    assert done.returncode == 0, done.stderr
    refused = nestvec(*words, "--strict", "--data", tmp_path / "bge.jsonl", "--out", tmp_path / "c.safetensors")
    assert refused.returncode == 2
    assert "60 problems" in refused.stderr


def test_an_absurd_count_finds_all_there_is(index: Path, nestvec: RunNestvec) -> None:
    for options in ([], ["--hybrid"], ["--distinct"]):
        done = nestvec("search", index, "the river", "-k", 10**15, "--json", *options)
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["hits"]) == 30


def test_a_benchmark_as_it_is_published_is_measured_and_strict_refuses_it(
    tmp_path: Path, model: Path, nestvec: RunNestvec
) -> None:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    write_json_lines(folder / "corpus.jsonl", [{"_id": r["id"], "title": None, "text": r["text"]} for r in ROWS])
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"_id": "none", "title": "", "text": ""}\n{"_id": "q0", "text": "the river"}\n')
    write_json_lines(folder / "queries.jsonl", [{"_id": f"q{n}", "text": ROWS[n]["text"]} for n in range(5)])
    lines = ["query-id\tcorpus-id\tscore\tby"] + [f"q{n}\tk{n}\t1\tAnn" for n in range(5)] + ["q1\tgone\t1\tBob"]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines), encoding="utf-8")
    words = ["evaluate", model, "--benchmark", folder, "--no-latency", "--dims", "32", "--precisions", "float32"]
    done = nestvec(*words, "--json", tmp_path / "g.json", "--plot", tmp_path / "g.png")
    assert done.returncode == 0, done.stderr
    for said in ("documents without text, found by nothing: 1", "never found: 1", "under their own id"):
        assert done.stderr.count(said) == 1
    report = json.loads((tmp_path / "g.json").read_text())
    assert report["benchmark"]["documents"] == 32
    assert report["cells"][0]["metrics"]["MRR@10"]["value"] == pytest.approx(1.0)
    assert nestvec(*words, "--strict").returncode == 2
