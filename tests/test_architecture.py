"""Imports point down the layers, and nothing loads what it does not need. Run: pytest tests/test_architecture.py."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nestvec

PACKAGE = Path(nestvec.__file__).parent
LAYERS = [
    {"errors"},
    {"vectors", "extras", "plan", "files", "progress"},
    {"tensor_files", "threads"},
    {"data", "quantization", "exact_search"},
    {"losses", "encoders"},
    {"adaptors"},
    {"sources"},
    {"index"},
    {"evaluation", "training"},
    {"planning", "report", "serving", "scale"},
    {"jobs"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
TORCH_MAY_BE_IMPORTED_IN = {"losses", "training", "adaptors", "encoders", "sources", "jobs", "scale"}


def modules() -> list[tuple[str, Path]]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [(file.relative_to(PACKAGE).parts[0].removesuffix(".py"), file) for file in files]


def imported(file: Path) -> set[str]:
    """Dotted names that a file imports, also inside functions and for type checking."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names.add(node.module or "")
    return names


def targets(file: Path) -> set[str]:
    """Modules that a file imports, also inside functions and for type checking; what is imported may be one or in one."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            # A name of a folder comes from the folder's own list of names, unless it is a module.
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if is_module(name) else str(node.module) for name in inner}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_every_folder_has_a_layer() -> None:
    assert {part for part, _ in modules()} - {"__init__", "__main__", "recipes"} <= set(LEVEL)


def test_imports_point_strictly_down_and_never_to_a_sibling() -> None:
    wrong = []
    for part, file in modules():
        if part in ("__init__", "__main__"):
            continue
        for name in imported(file):
            pieces = name.split(".")
            if pieces[0] != "nestvec" or len(pieces) < 2 or pieces[1] == part:
                continue
            if LEVEL[pieces[1]] >= LEVEL[part]:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {".".join(["nestvec", *file.relative_to(PACKAGE).with_suffix("").parts]): file for _, file in modules()}
    names = {name.removesuffix(".__init__"): file for name, file in names.items()}
    graph = {name: targets(file) & set(names) - {name} for name, file in names.items()}
    graph.pop("nestvec")  # whose names are loaded when they are first used
    while leaves := {name for name, needed in graph.items() if not needed & set(graph)}:
        for name in leaves:
            del graph[name]
    assert not graph, f"in circles, or above one: {sorted(graph)}"


def test_torch_stays_in_the_folders_that_need_it() -> None:
    wrong = [
        str(file.relative_to(PACKAGE))
        for part, file in modules()
        for name in imported(file)
        if name.split(".")[0] in ("torch", "sentence_transformers", "transformers", "datasets")
        and part not in TORCH_MAY_BE_IMPORTED_IN
        and file.name != "vectors.py"  # for type checking only; the test below sees to it
        and part != "__init__"
    ]
    assert not wrong


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_nestvec_loads_neither_torch_nor_numpy() -> None:
    assert loaded_after("import nestvec").isdisjoint({"torch", "numpy", "pydantic", "rich"})


def test_reading_searching_and_measuring_never_load_torch() -> None:
    loaded = loaded_after(
        "import nestvec, nestvec.data, nestvec.evaluation, nestvec.encoders, nestvec.report, nestvec.training\n"
        "import nestvec.quantization, nestvec.cli.main\n"
        "import numpy as np\n"
        "vectors = np.eye(8, dtype=np.float32)\n"
        "nestvec.search_prefixes(vectors, vectors, dims=[8, 4], k=3)\n"
        "nestvec.measure_run({'q': {'d': 1}}, {'q': {'d': 1.0}}, ['nDCG@10'])\n"
    )
    assert loaded.isdisjoint({"torch", "transformers", "sentence_transformers", "datasets"})


def test_the_command_line_answers_help_without_loading_what_it_does_not_need() -> None:
    loaded = loaded_after(
        "from nestvec.cli.main import cli\n"
        "from click.testing import CliRunner\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
    )
    assert loaded.isdisjoint({"torch", "numpy", "pydantic", "matplotlib"})
