"""The error tree is what its docstring draws. Run: pytest tests/test_errors.py (a second)."""

from __future__ import annotations

import builtins
import inspect
import re

from nestvec import errors


def defined() -> dict[str, type[BaseException]]:
    return {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__ and not issubclass(kind, Warning)
    }


def test_the_docstring_draws_every_error_with_its_builtin() -> None:
    drawn = dict(re.findall(r"[|`]-- (\w+)(?: \((\w+)\))?", errors.__doc__ or ""))
    assert set(drawn) == set(defined()) - {"NestvecError"}
    for name, builtin in drawn.items():
        assert not builtin or issubclass(defined()[name], getattr(builtins, builtin))


def test_every_error_has_the_one_root_and_is_exported() -> None:
    assert all(issubclass(kind, errors.NestvecError) for kind in defined().values())
    assert sorted(errors.__all__) == sorted([*defined(), "NestvecWarning"])


def test_every_error_prints_as_its_sentence() -> None:
    assert {str(kind("One sentence.")) for kind in defined().values()} == {"One sentence."}
