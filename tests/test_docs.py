"""The documentation is true: links, commands, keys, code and tables. Run: pytest tests/test_docs.py (half a minute)."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import pytest
from pydantic_core import PydanticUndefined

from builders import synthetic_rows, write_json_lines
from conftest import RunNestvec
from nestvec.cli.main import cli
from nestvec.data import INSTALLED_DOCS_FILES
from nestvec.plan import parse_plan
from nestvec.training import load_recipe
from nestvec.training.recipe import BeirData, FileData, HubData, InstalledDocsData, Recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(language: str) -> list[tuple[str, str]]:
    blocks = []
    for page in PAGES:
        found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        blocks += [(f"{page.name} {number}", block) for number, block in enumerate(found, start=1)]
    return blocks


def commands() -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []

    def walk(path: str, command: click.Command) -> None:
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                walk(f"{path} {name}", inner)
        else:
            found.append((path, command))

    walk("nestvec", cli)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize(("path", "command"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_and_option_is_documented(path: str, command: click.Command) -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert f"## {path}\n" in text
    section = text.split(f"## {path}\n")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(--[a-z-]+)` \|", section, re.MULTILINE))
    options = {
        option
        for one in command.params
        if isinstance(one, click.Option)
        for option in one.opts
        if option.startswith("--")
    }
    assert documented == options
    assert command.help, path
    assert "Example:" in command.help, path


def test_every_command_in_the_documentation_can_be_given() -> None:
    lines = [line for _, block in code_blocks("bash") for line in block.splitlines() if line.startswith("nestvec ")]
    assert len(lines) >= 5
    for line in lines:
        command: click.Command = cli
        words = shlex.split(line)[1:]
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        context = command.make_context(line, words)
        if "overrides" in context.params and not str(context.params["recipe"]).endswith(".toml"):
            load_recipe(ROOT / "recipes" / f"{context.params['recipe']}.toml", context.params["overrides"])


def test_every_evaluation_plan_adaptor_and_index_in_the_documentation_runs(
    workplace: Path, nestvec: RunNestvec, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line for _, block in code_blocks("bash") for line in block.splitlines()]
    runnable = tuple(f"nestvec {command} " for command in ("adapt", "evaluate", "plan", "transform", "index", "search"))
    wanted = list(dict.fromkeys(line for line in lines if line.startswith(runnable)))
    assert len(wanted) >= 7
    monkeypatch.setenv("NESTVEC_CACHE", str(workplace / "cache"))
    for line in sorted(wanted, key=_order):  # what makes a model, a grid or an index comes before what needs it
        words = shlex.split(line)[1:]
        if words[0] == "plan":
            words[words.index("--target") + 1] = "retention>=0.1"  # of a model that has learnt nothing
            words = [word for word in words if word not in {"--budget", "bytes<=64"}]
        if words[0] in ("adapt", "evaluate", "plan", "transform") or words[:2] in (
            ["index", "build"],
            ["index", "export"],
        ):
            words.append("--overwrite")
        done = nestvec(*words, cwd=workplace)
        assert done.returncode == 0, (line, done.stderr)


def _order(line: str) -> tuple[int, str]:
    words = shlex.split(line)
    name = " ".join(words[1:3]) if words[1] == "index" else words[1]
    order = ("adapt", "transform", "evaluate", "plan", "index build", "search", "index add", "index upsert")
    return (order.index(name) if name in order else len(order)), line


def test_every_make_target_in_the_documentation_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = [line for _, block in code_blocks("bash") for line in block.splitlines() if line.startswith("make ")]
    assert {line.split()[1] for line in lines} == {"quickstart", "test", "check"}
    for line in lines:
        assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE)


def recipe_keys() -> dict[str, Any]:
    """Every key with its default; the same key of several data sources has the same default."""
    keys: dict[str, Any] = {}
    sections = {name: field for name, field in Recipe.model_fields.items() if name not in ("data", "provenance")}
    for name, field in sections.items():
        inner = field.annotation
        if hasattr(inner, "model_fields"):
            for key, one in inner.model_fields.items():
                keys[f"{name}.{key}"] = one.default
        else:
            keys[name] = field.default
    for source in (InstalledDocsData, FileData, HubData, BeirData):
        for key, one in source.model_fields.items():
            keys.setdefault(f"data.{key}", one.default)
            assert keys[f"data.{key}"] == one.default
    return keys


def test_every_key_of_a_recipe_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `([a-z_.]+)` \| ([^|]+) \|", text, re.MULTILINE))
    keys = recipe_keys()
    assert documented.keys() == keys.keys()
    for key, default in keys.items():
        shown = "-" if default is PydanticUndefined else "none" if default is None else f"`{json.dumps(default)}`"
        assert documented[key].strip() == shown, key


def test_every_data_source_is_documented() -> None:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for source in (InstalledDocsData, FileData, HubData, BeirData):
        assert f'source = "{get_args(source.model_fields["source"].annotation)[0]}"' in text


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, rows_file: Path) -> Path:
    """A folder in which the quickstart has run, with a small model."""
    from nestvec.jobs.train_and_measure import train_and_measure
    from nestvec.training import parse_recipe

    folder = tmp_path_factory.mktemp("workplace")
    recipe = parse_recipe(
        {
            "model": {"base": str(tiny_model)},
            "data": {"source": "file", "path": str(rows_file)},
            "benchmark": {"queries": 20, "documents": 50},
            "training": {"max_steps": 2},
        }
    )
    train_and_measure(recipe, folder / "runs" / "quickstart")
    _, train_file, benchmark = INSTALLED_DOCS_FILES
    (folder / "data" / "docs").mkdir(parents=True)
    for path in (folder / "data" / "docs" / train_file, folder / "rows.jsonl"):
        write_json_lines(path, synthetic_rows(450))  # more rows than numbers in a vector
    shutil.copytree(folder / "runs" / "quickstart" / "benchmark", folder / "data" / "docs" / benchmark)
    for name in ("more", "changed"):
        write_json_lines(folder / f"{name}.jsonl", [{"id": name, "text": "reads a file", "lang": "en"}])
    np.save(folder / "vectors.npy", np.random.default_rng(0).normal(size=(9, 256)))
    return folder


@pytest.mark.parametrize(("name", "code"), code_blocks("python"), ids=lambda value: value if " " in value[:20] else "")
def test_every_python_block_runs(name: str, code: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    exec(compile(code, name, "exec"), {})


def test_every_recipe_and_plan_in_the_documentation_is_valid(tmp_path: Path) -> None:
    blocks = code_blocks("toml")
    assert blocks
    for name, block in blocks:
        if "[first_stage]" in block:
            assert parse_plan(block, source=name).second_stage is not None
            continue
        (tmp_path / "recipe.toml").write_text(block, encoding="utf-8")
        assert load_recipe(tmp_path / "recipe.toml").training.dims, name


def test_the_readme_lists_every_file_with_a_comment() -> None:
    tree = README.split("```\nsrc/nestvec/\n")[1].split("```")[0]
    listed: set[str] = set()
    folders: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        name, comment = line.split(maxsplit=1)
        assert comment
        if name.endswith("/"):
            folders[depth:] = [name]
        else:
            listed.add("".join(folders[:depth]) + name)
    source = ROOT / "src" / "nestvec"
    files = {str(file.relative_to(source)) for file in source.rglob("*.py")}
    assert listed == {file for file in files if "/" not in file or not file.endswith("__init__.py")}


def test_every_benchmark_can_be_started() -> None:
    folder = ROOT / "benchmarks"
    names = [path.stem for path in sorted(folder.glob("*.py"))]
    assert names
    loading = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", loading, *names], cwd=folder, check=True)


def test_the_table_of_the_readme_is_that_of_the_newest_results() -> None:
    newest = max((ROOT / "benchmarks" / "results").glob("*-quickstart.json"))
    run = next(run for run in json.loads(newest.read_text())["runs"] if run["base"] == "minilm")
    cells = {(cell["model"], cell["dim"]): cell for cell in run["cells"]}
    expected = []
    for dim in (384, 256, 128, 64, 32):
        before, after = cells["before", dim], cells["after", dim]
        scores = [f"{cell['metrics']['MRR@10']['value']:.3f}".lstrip("0") for cell in (before, after)]
        kept = [f"{cell['retention']:.1%}" for cell in (before, after)]
        expected.append(" | ".join([f"| {dim}", f"{after['bytes_per_vector']:,}", *scores, *kept]) + " |")
    table = README.split("<!-- table: quickstart minilm -->")[1].split("<!-- end -->")[0]
    assert table.strip().splitlines()[2:] == expected
    assert (run["benchmark"]["queries"], run["benchmark"]["documents"]) == (500, 2000)
    assert run["process_seconds"] < 360


@pytest.mark.parametrize(("question", "title"), [("loss_step", "loss step"), ("loss_step-gpu", "loss step on a GPU")])
def test_the_tables_of_the_losses_are_those_of_the_newest_results(question: str, title: str) -> None:
    newest = max((ROOT / "benchmarks" / "results").glob(f"*-{question}.json"))
    cells = {(cell["variant"], cell["batch"]): cell for cell in json.loads(newest.read_text())["cells"]}
    expected = []
    for batch in sorted({batch for _, batch in cells}):
        row = [f"| {batch:,}"]
        for variant in ("plain", "st", "st-cached", "nestvec"):
            cell = cells[variant, batch]
            row.append("-" if "skipped" in cell else f"{cell['ms']:,.0f} ms, {cell['extra_mib']:,.0f} MiB")
        expected.append(" | ".join(row) + " |")
    text = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    table = text.split(f"<!-- table: {title} -->")[1].split("<!-- end -->")[0]
    assert table.strip().splitlines()[2:] == expected


def test_the_table_of_the_search_is_that_of_the_newest_results() -> None:
    cells: dict[tuple[str, int], dict[str, Any]] = {}
    ran: set[tuple[str, int]] = set()
    for count in (58_000, 1_000_000):
        newest = max((ROOT / "benchmarks" / "results").glob(f"*-search-{count}.json"))
        found = json.loads(newest.read_text(encoding="utf-8"))["cells"]
        ran |= {(cell["tool"], count) for cell in found}
        cells |= {(cell["tool"], count): cell for cell in found if cell["target"] == 0.99}
    lines = []
    for tool in dict.fromkeys(name for name, _ in cells):
        row = [tool]
        for count in (58_000, 1_000_000):
            cell = cells.get((tool, count))
            if cell is None:
                row += ["never 99%" if (tool, count) in ran else "", "", ""]
                continue
            memory = cell["resident_bytes_per_vector"]
            row += [
                f"{cell['p50_ms']:.2f}",
                f"{cell['times_exact']:.1f}",
                "not said" if memory is None else f"{memory:,.0f}",
            ]
        lines.append(f"| {' | '.join(row)} |")
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert "\n".join(lines) in text, "\n".join(lines)


def test_the_table_of_the_sets_is_that_of_the_newest_results() -> None:
    expected = []
    for name in ("squad", "tldr", "wordnet", "stsb", "banking77", "clinc150"):
        newest = max((ROOT / "benchmarks" / "results").glob(f"*-grid-{name}.json"))
        report = json.loads(newest.read_text(encoding="utf-8"))
        own = [cell for cell in report["cells"] if cell["model"] == "nested"]
        full = next(
            cell for cell in own if cell["dim"] == 384 and cell["precision"] == "float32" and not cell["rerank"]
        )
        columns = [
            name,
            report["headline"],
            f"1,536 B: {full['metrics'][report['headline']]['value']:.3f}".replace("0.", "."),
        ]
        plans = {plan["kept"]: plan for plan in report.get("plans", [])}
        for kept in (0.99, 0.95):
            enough = [cell for cell in own if cell["retention_interval"]["low"] >= kept]
            least = min(
                enough,
                key=lambda cell: (
                    cell["bytes_per_vector"],
                    cell["rerank_bytes_per_vector"],
                    -cell["metrics"][report["headline"]]["value"],
                ),
            )
            second = f" + {least['rerank_bytes_per_vector']} B" if least["rerank"] else ""
            found = (
                plans[kept]["retention"] if kept in plans else least["retention"]
            )  # of the index, where there is one
            if kept in plans:
                stage = plans[kept]["first_stage"]
                assert (stage["dim"], stage["precision"]) == (least["dim"], least["precision"])
            columns.append(f"{least['bytes_per_vector']} B{second}: {least['dim']} x {least['precision']}, {found:.1%}")
        expected.append(f"| {' | '.join(columns)} |")
    table = README.split("<!-- table: sets -->")[1].split("<!-- end -->")[0]
    assert table.strip().splitlines()[2:] == expected
