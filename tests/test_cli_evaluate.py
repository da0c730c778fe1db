"""The commands evaluate and cache as a user types them. Run: pytest tests/test_cli_evaluate.py (half a minute)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import RunNestvec
from nestvec.data import write_benchmark
from test_evaluation_grid import random_benchmark
from test_jobs_evaluate import make_ready

CHEAP = ("--no-latency", "--precisions", "float32,binary,pq4")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NESTVEC_CACHE", str(tmp_path / "cache"))
    write_benchmark(random_benchmark(), tmp_path / "bench")
    return tmp_path / "bench"


def test_a_grid_is_printed_and_written_in_every_form(bench: Path, tiny_model: Path, nestvec: RunNestvec) -> None:
    files = {kind: bench.parent / f"out/grid.{kind}" for kind in ("json", "csv", "md", "png", "svg", "html")}
    done = nestvec(
        *("evaluate", tiny_model, "--benchmark", bench, "--dims", "128,16", "--precisions", "float32,int8"),
        *("--rerank", "none,float16:50", "--corpus-size", "10e6", "--name", "tiny one", "--reference", "pca"),
        *("--json", files["json"], "--csv", files["csv"], "--markdown", files["md"], "--plot", files["png"]),
        *("--html", files["html"]),
    )
    assert done.returncode == 0, done.stderr
    assert "MRR@10 of tiny one and pca on bench (40 queries, 60 documents" in done.stdout
    assert "float16:50" in done.stdout
    document = json.loads(files["json"].read_text())
    assert document["corpus_size"] == 10_000_000
    assert len(document["cells"]) == 2 * 2 * 2 * 2
    cell = document["cells"][1]
    assert {"model", "dim", "precision", "rerank", "bytes_per_vector", "metrics", "retention", "latency_ms"} <= set(
        cell
    )
    assert cell["latency_ms"] > 0
    assert files["csv"].read_text().count("\n") == 17
    assert files["md"].read_text().startswith("# MRR@10 of tiny one")
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert "<!doctype html>" in files["html"].read_text()[:20].lower()
    for kind, option in (("json", "json"), ("csv", "csv"), ("md", "markdown"), ("html", "html"), ("png", "plot")):
        precious = bench.parent / f"precious.{kind}"
        precious.write_text("precious")
        refused = nestvec("evaluate", "static", "--benchmark", bench, *CHEAP, f"--{option}", precious)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "is not from an earlier evaluation" in refused.stderr
        assert precious.read_text() == "precious"
    odd = bench.parent / "out" / "[v2] a[/b]"
    named = ["--json", files["json"], "--csv", odd / "grid.csv", "--html", files["html"], "--markdown", files["md"]]
    again = nestvec("evaluate", tiny_model, "--benchmark", bench, *CHEAP, "--plot", files["svg"], *named)
    assert f"{odd}/grid.csv" in again.stdout
    assert again.returncode == 0, again.stderr
    assert "encoding" not in again.stderr
    assert files["svg"].read_text().startswith("<?xml")
    for picture in ("png", "svg"):
        assert b"nestvec" in files[picture].read_bytes()[:4096]


def test_ready_vectors_need_no_model(tmp_path: Path, nestvec: RunNestvec) -> None:
    make_ready(tmp_path, random_benchmark())
    done = nestvec("evaluate", f"vectors:{tmp_path / 'vectors'}", "--benchmark", tmp_path / "bench", *CHEAP)
    assert done.returncode == 0, done.stderr
    assert "MRR@10 of vectors on bench" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dims", "many"], "'many' is no list of whole numbers"),
        (["--dims", "16,5,8"], "are out of order. Write them as [16, 8, 5]"),
        (["--dims", "500,16"], "Dim 500 is larger than the vectors, which have 16"),
        (["--precisions", "int8,int3"], "Unknown precision 'int3'"),
        (["--precisions", "int8,int8"], "name one twice"),
        (["--rerank", "int8"], "Cannot read the rerank 'int8'"),
        (["--rerank", "int8:3"], "shortlist of 3 cannot fill the 10 ranks"),
        (["--metrics", "accuracy"], "Unknown metric 'accuracy'"),
        (["--corpus-size", "lots"], "'lots' is no whole number"),
        (["--baseline", "other"], "'other' is neither pca nor NAME=MODEL"),
        (["--baseline", "mine=nowhere"], "There is no base 'nowhere'"),
        (["--baseline", "a=minilm", "--baseline", "a=static"], "'a' stands for two models"),
        (["--shots", "3"], "No examples are drawn in retrieval"),
        (["--csv", "a", "--markdown", "a"], "a is to hold two things"),
        (["--csv", __file__], "is not from an earlier evaluation"),
        (["--task", "sorting"], "Unknown task 'sorting'"),
        (["--task", "clustering"], "is a BEIR folder"),
        (["--plot", "grid.gif"], "ends neither in .png nor in .svg"),
        (["--split", "dev"], "has no qrels/dev.tsv"),
    ],
)
def test_a_wrong_option_is_one_clear_line(
    options: list[str], message: str, tmp_path: Path, nestvec: RunNestvec
) -> None:
    make_ready(tmp_path, random_benchmark())
    done = nestvec("evaluate", f"vectors:{tmp_path / 'vectors'}", "--benchmark", tmp_path / "bench", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_models_and_benchmarks_that_are_not_there_are_named(bench: Path, nestvec: RunNestvec) -> None:
    for model, benchmark, message in (
        ("minilm", bench.parent / "none", "none"),
        ("./none", bench, "There is no model folder ./none"),
        ("vectors:none", bench, "There is no none/documents.npy"),
        (str(bench), bench, "is no model folder"),
    ):
        done = nestvec("evaluate", model, "--benchmark", benchmark)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_an_interrupted_evaluation_goes_on_where_it_was(bench: Path, tiny_model: Path, nestvec: RunNestvec) -> None:
    script = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from nestvec.encoders import SentenceTransformerEncoder
real = SentenceTransformerEncoder._encode
def slow(self, texts, encode, description, progress):
    print("encoding", len(texts), description, flush=True, file=sys.stderr)
    if "queries" in description:
        time.sleep(600)
    return real(self, texts, encode, description, progress)
SentenceTransformerEncoder._encode = slow
sys.argv[0] = "nestvec"
from nestvec.cli.main import run
run()
"""
    arguments = ["evaluate", str(tiny_model), "--benchmark", str(bench), *CHEAP]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("encoding") and "queries" in line:
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    done = nestvec(*arguments)
    assert done.returncode == 0, done.stderr
    assert "encoding query texts 40" in done.stderr
    assert "encoding document texts" not in done.stderr


def test_the_cache_is_listed_and_cleared(bench: Path, tiny_model: Path, nestvec: RunNestvec) -> None:
    empty = nestvec("cache", "info")
    assert (empty.returncode, empty.stdout) == (0, f"{bench.parent / 'cache'}: 0 B\n")
    assert nestvec("evaluate", tiny_model, "--benchmark", bench, *CHEAP).returncode == 0
    listed = nestvec("cache", "info").stdout
    assert str(tiny_model) in listed
    assert " 90 " in listed  # distinct texts of both sides, which this model treats alike
    assert "Removed the vectors of 0 encoders" in nestvec("cache", "clear", "--unused-days", "1").stdout
    assert "Removed the vectors of 0 encoders" in nestvec("cache", "clear", "--encoder", "zz").stdout
    name = next(folder.name for folder in (bench.parent / "cache").iterdir())
    old = time.time() - 40 * 86_400
    os.utime(bench.parent / "cache" / name, (old, old))
    assert "Removed the vectors of 1 encoder: " in nestvec("cache", "clear", "--unused-days", "30").stdout
    assert nestvec("cache", "info").stdout == empty.stdout
