"""What the columns of a table hold: one type a column, and which of them are vectors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nestvec.data.records import RawRow

__all__ = ["as_vector", "cell_types", "find_vector_columns"]

_WHOLE = re.compile(r"-?[1-9][0-9]{0,18}|0")
_LARGEST_WHOLE = 2**63
_TRUTH = {"true": True, "false": False}
_SHORTEST_VECTOR = 8  # shorter lists of numbers are facts, such as coordinates
_NAMES_OF_VECTORS = {"vector", "vectors", "embedding", "embeddings"}


def cell_types(rows: Iterable[RawRow]) -> dict[str, Callable[[str], Any]]:
    """Decide once for each column of a CSV or TSV file what its cells are.

    A column holds numbers only where each of its cells is one and is spelled as that number is written: `1.10`,
    `00501`, `12e3` and `1e999` make their column text, and filters find what the file says. Truth values are `true`
    and `false`. Empty cells are no values.

    Args:
        rows: All rows of the file.

    Returns:
        What reads a cell, by column; a column that is not in it is text.

    Example:
        >>> rows = [RawRow("line 2", {"year": "1999", "zip": "00501"}), RawRow("line 3", {"year": "", "zip": "12345"})]
        >>> list(cell_types(rows))
        ['year']
    """
    numbers: dict[str, bool] = {}
    truths: dict[str, bool] = {}
    for row in rows:
        for name, cell in row.values.items():
            if cell == "":
                continue
            if numbers.get(name, True):
                numbers[name] = _is_number(cell)
            if truths.get(name, True):
                truths[name] = cell in _TRUTH
    found: dict[str, Callable[[str], Any]] = {name: _number for name, whole in numbers.items() if whole}
    return found | {name: _TRUTH.__getitem__ for name, whole in truths.items() if whole}


def _is_number(cell: str) -> bool:
    if _WHOLE.fullmatch(cell):
        return -_LARGEST_WHOLE <= int(cell) < _LARGEST_WHOLE
    try:
        number = float(cell)
    except ValueError:
        return False
    return math.isfinite(number) and repr(number) == cell


def _number(cell: str) -> int | float:
    return int(cell) if _WHOLE.fullmatch(cell) else float(cell)


def find_vector_columns(rows: Sequence[RawRow]) -> dict[str, int]:
    """Tell which columns hold vectors, which are no facts to show or filter by.

    Args:
        rows: Some rows, from the beginning.

    Returns:
        Numbers in each vector, by column: those where every row that has a value has a list of floating-point numbers,
        all of one length, at least 8 unless the column is called vector or embedding.
    """
    found: dict[str, int] = {}
    for name in dict.fromkeys(name for row in rows for name in row.values):
        values = [row.values[name] for row in rows if row.values.get(name) is not None]
        widths = {len(value) if _is_vector(value) else 0 for value in values}
        width = widths.pop() if len(widths) == 1 else 0
        if width >= (2 if name.lower() in _NAMES_OF_VECTORS else _SHORTEST_VECTOR):
            found[name] = width
    return found


def _is_vector(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and np.issubdtype(value.dtype, np.floating)
    # JSON writes 0.0 as 0 at times: one that is no whole number is enough.
    return (
        isinstance(value, (list, tuple))
        and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value)
        and any(isinstance(item, float) for item in value)
    )


def as_vector(values: Mapping[str, Any], name: str) -> np.ndarray[Any, Any] | None:
    """Return the vector in a column of a row; None where there is none."""
    value = values.get(name)
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(value, np.float64) if _is_vector(value) else None
