"""Shared by every test: no network, and tiny models and data built here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builders import build_tiny_model, synthetic_rows, write_json_lines

# A shell that runs tests in the background has them ignore Ctrl-C, and so would the commands that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has a processor of its own: with more threads they wait for one another, and all take twice as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_json_lines(tmp_path_factory.mktemp("rows") / "rows.jsonl", synthetic_rows(200))


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_model: Path, rows_file: Path) -> Path:
    """A whole recipe that trains in seconds, and only trains: no map before it, no rotation after it."""
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""
name = "tiny"
seed = 7
[model]
base = "{tiny_model}"
[data]
source = "file"
path = "{rows_file}"
[benchmark]
queries = 30
documents = 80
[training]
dims = [128, 64, 16]
batch_size = 16
learning_rate = 1e-3
epochs = 2.0
checkpoints = 5
start = "none"
finish = "none"
""",
        encoding="utf-8",
    )
    return path


RunNestvec = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def nestvec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunNestvec]:
    """Run the command line in a process of its own."""
    output, errors = (tmp_path_factory.mktemp("commands") / name for name in ("output", "errors"))
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("warm_process.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as warm:
        assert warm.stdin is not None
        assert warm.stdout is not None

        def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
            words = list(map(str, arguments))
            command = {
                "arguments": words,
                "environment": {**os.environ, "COLUMNS": "120"},
                "folder": str(cwd or Path.cwd()),
                "output": str(output),
                "errors": str(errors),
            }
            print(json.dumps(command), file=warm.stdin, flush=True)
            status = int(warm.stdout.readline())
            return subprocess.CompletedProcess(words, status, output.read_text(), errors.read_text())

        yield run
        warm.stdin.close()
