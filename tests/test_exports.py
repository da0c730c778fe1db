"""The public names are one namespace, all documented. Run: pytest tests/test_exports.py (seconds: loads torch)."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import nestvec

MODULES = [name for _, name, _ in pkgutil.walk_packages(nestvec.__path__, "nestvec.") if name != "nestvec.__main__"]


def test_every_public_name_can_be_had_from_the_package() -> None:
    assert set(nestvec.__all__) - {"__version__"} == set(nestvec._HOMES)
    for name in nestvec.__all__:
        assert getattr(nestvec, name) is not None
    assert dir(nestvec) == nestvec.__all__


def test_names_for_type_checkers_are_those_at_run_time() -> None:
    tree = ast.parse(Path(nestvec.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == nestvec._HOMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nestvec.nothing  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_a_module_exports_what_it_defines_and_documents_it(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    exported = getattr(module, "__all__", None)
    if exported is None:
        assert not [one for one in vars(module) if not one.startswith("_") and inspect.isfunction(getattr(module, one))]
        return
    assert exported == sorted(exported, key=lambda one: (not one.isupper(), not one[0].isupper(), one))
    for one in exported:
        value = getattr(module, one)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{one} has no docstring"
