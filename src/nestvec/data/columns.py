"""What the columns of a table hold: one type a column, and which of them are vectors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nestvec.data.records import RawRow

__all__ = ["as_vector", "cell_types", "find_vector_columns", "is_blank"]

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


def find_vector_columns(rows: Sequence[RawRow], stated: str | None = None) -> dict[str, int]:
    """Tell which columns hold vectors, which are no facts to show or filter by.

    Args:
        rows: Some rows, from the beginning.
        stated: A column that is said to hold vectors.

    Returns:
        Dimensions of the vectors, by column: those where every row that has a value has a list of numbers, all of one
        length, or its JSON. Other columns than the stated one, and those called vector or embedding, need 8 dimensions
        at least, some of them with a fraction.
    """
    found: dict[str, int] = {}
    for name in dict.fromkeys(name for row in rows for name in row.values):
        values = [value for row in rows if (value := row.values.get(name)) is not None and not is_blank(value)]
        vectors = [as_vector(value) for value in values]
        widths = {0 if vector is None else len(vector) for vector in vectors}
        width = widths.pop() if len(widths) == 1 else 0
        is_named = name == stated or name.lower() in _NAMES_OF_VECTORS
        floating = any(vector is not None and np.issubdtype(vector.dtype, np.floating) for vector in vectors)
        if width >= (2 if is_named else _SHORTEST_VECTOR) and (is_named or floating):
            found[name] = width
    return found


def is_blank(value: object) -> bool:
    """Tell whether a cell is empty."""
    return isinstance(value, str) and not value.strip()


def as_vector(value: object) -> np.ndarray[Any, Any] | None:
    """Return a list of numbers, or the JSON of one, as a vector of whole or floating-point numbers.

    Args:
        value: What a row holds.

    Returns:
        [n]; None where it is no such list.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, np.ndarray):
        is_number = np.issubdtype(value.dtype, np.floating) or np.issubdtype(value.dtype, np.integer)
        return value if value.ndim == 1 and is_number else None
    if not isinstance(value, (list, tuple)):
        return None
    if not value or not all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value):
        return None
    is_whole = all(isinstance(item, int) for item in value)
    return np.asarray(value, np.float64).astype(np.int64 if is_whole and max(map(abs, value)) < 2**53 else np.float64)
