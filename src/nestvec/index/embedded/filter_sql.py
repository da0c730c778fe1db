"""Filters as SQLite runs them, on a table with a column `metadata` of JSON."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from nestvec.index.fields import Kind, json_path
from nestvec.index.filters import And, AnyOf, Condition, Not, Or, Ordered

__all__ = ["Sql", "compile_condition"]


class Sql(NamedTuple):
    """An expression and its parameters: values never become part of the text."""

    text: str
    parameters: tuple[str | int | float, ...]


def compile_condition(condition: Condition) -> Sql:
    """Return a filter as an expression of SQLite.

    Args:
        condition: Its syntax tree.

    Returns:
        The expression, true for documents that meet it.

    Example:
        >>> from nestvec.index.filters import parse_filter
        >>> compile_condition(parse_filter("year >= 2020", {"year"})).parameters
        ('$."year"', 2020)
    """
    if isinstance(condition, (And, Or)):
        return _join([compile_condition(part) for part in condition.parts], type(condition).__name__.upper())
    if isinstance(condition, Not):
        part = compile_condition(condition.part)
        return Sql(f"NOT {part.text}", part.parameters)
    if isinstance(condition, Ordered):
        kinds = "'text'" if isinstance(condition.value, str) else "'integer', 'real'"
        return _exists(condition, f"type IN ({kinds}) AND value {condition.operator} ?", condition.value)
    return _any_of(condition)


def _any_of(condition: AnyOf) -> Sql:
    ways: list[Sql] = []
    values = condition.values
    if None in values:
        ways.append(Sql("coalesce(json_type(metadata, ?), 'null') = 'null'", (json_path(condition.path),)))
        ways.append(_exists(condition, "type = 'null'"))
    constants = [f"'{str(value).lower()}'" for value in values if isinstance(value, bool)]
    if constants:
        ways.append(_exists(condition, f"type IN ({', '.join(constants)})"))
    texts = [value for value in values if isinstance(value, str)]
    if texts:
        ways.append(_exists(condition, f"type = 'text' AND value IN ({_marks(texts)})", *texts))
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if numbers:
        ways.append(_exists(condition, f"type IN ('integer', 'real') AND value IN ({_marks(numbers)})", *numbers))
    return _join(ways, "OR")


def _exists(field: AnyOf | Ordered, test: str, *values: str | int | float) -> Sql:
    """True for a value of which a test is, or an element of a list; the members of an object are none."""
    path = json_path(field.path)
    text = f"EXISTS (SELECT 1 FROM json_each(metadata, ?) WHERE {test})"  # noqa: S608  # values are parameters
    if Kind.OBJECT in field.kinds:
        return Sql(f"(json_type(metadata, ?) != 'object' AND {text})", (path, path, *values))
    return Sql(text, (path, *values))


def _join(parts: Sequence[Sql], word: str) -> Sql:
    if len(parts) == 1:
        return parts[0]
    # Side by side: SQLite's parser has no room for a hundred parentheses within each other.
    return Sql(
        f"({f' {word} '.join(part.text for part in parts)})",
        tuple(itertools.chain(*(part.parameters for part in parts))),
    )


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
