"""Documents to search: an id, a text, and whatever else is known of each."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from nestvec.data.readers import read_rows
from nestvec.data.records import Problems, RawRow, is_unicode
from nestvec.errors import SourceNotFoundError

__all__ = ["TextDocument", "read_documents"]

_IDS = ("_id", "id", "doc_id")
_TEXTS = ("text", "contents", "body")
_OF_CELLS = (".csv", ".tsv")
_NUMBER_OR_TRUTH = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?|true|false")


class TextDocument(NamedTuple):
    """A document to be searched."""

    id: str
    text: str
    metadata: dict[str, Any]
    """What else its row holds, JSON values by name."""


def read_documents(path: str | Path) -> Iterator[TextDocument]:
    """Read documents one by one.

    A row needs an id (`_id`, `id` or `doc_id`) and a text (`text`, `contents` or `body`); a `title` goes before the
    text, as in BEIR. An object `metadata` and all other columns are its metadata; in CSV and TSV, cells that are
    numbers, `true` or `false` are that.

    Args:
        path: JSON Lines, CSV, TSV (each also `.gz`) or Parquet; or a BEIR folder, whose `corpus.jsonl` is read.

    Yields:
        Documents whose rows can be used, in file order.

    Raises:
        SourceNotFoundError: There is no such file.
        DataError: The format is unknown; or, after the last document, rows cannot be used: all of them are named.
    """
    path = Path(path)
    if path.is_dir():
        found = next((file for file in (path / "corpus.jsonl", path / "corpus.jsonl.gz") if file.is_file()), None)
        if found is None:
            raise SourceNotFoundError(f"{path} is a folder without corpus.jsonl. Give a file, or a BEIR folder.")
        path = found
    problems = Problems(str(path))
    seen: set[str] = set()
    of_cells = any(suffix in _OF_CELLS for suffix in path.suffixes)
    for row in read_rows(path, problems=problems):
        document = _read(row, problems, of_cells=of_cells)
        if document is None:
            continue
        if document.id in seen:
            problems.add(row.place, f"id {document.id!r} stands twice")
            continue
        seen.add(document.id)
        yield document
    problems.raise_if_any()


def _read(row: RawRow, problems: Problems, *, of_cells: bool) -> TextDocument | None:
    values = dict(row.values)
    key = next((values.pop(name) for name in _IDS if name in values), None)
    text = next((values.pop(name) for name in _TEXTS if name in values), None)
    title = values.pop("title", None) or ""
    if isinstance(key, bool) or not isinstance(key, (str, int)) or str(key) == "":
        problems.add(row.place, f"an id is needed ({', '.join(_IDS)}), and is missing, empty or no text")
    elif not isinstance(text, (str, type(None))) or not isinstance(title, str):
        problems.add(row.place, "text or title is no text")
    elif not (title + (text or "")).strip():
        problems.add(row.place, f"a text is needed ({', '.join(_TEXTS)}), and is missing or empty")
    elif not all(map(is_unicode, (str(key), title, text or ""))):
        problems.add(row.place, "it holds half a surrogate pair, which is no character")
    else:
        metadata = values.pop("metadata", None)
        if metadata is not None and not isinstance(metadata, Mapping):
            problems.add(row.place, "metadata is no JSON object")
            return None
        try:
            facts = {name: _as_json(_of_cell(value) if of_cells else value) for name, value in values.items()}
            facts |= _as_json(metadata or {})
        except TypeError as error:
            problems.add(row.place, str(error))
            return None
        return TextDocument(str(key), f"{title} {text or ''}".strip(), facts)
    return None


def _of_cell(value: Any) -> Any:
    """What a cell of text says: numbers and truth values are written there as text."""
    if isinstance(value, str) and _NUMBER_OR_TRUTH.fullmatch(value):
        return json.loads(value)
    return value


def _as_json(value: Any) -> Any:
    """A value as JSON has it: dates as ISO 8601, and no number where there is none.

    Raises:
        TypeError: It is none that JSON could hold.
    """
    if isinstance(value, Mapping):
        return {str(name): _as_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (str, int, type(None))):
        if isinstance(value, str) and not is_unicode(value):
            raise TypeError("metadata hold half a surrogate pair, which is no character")
        return value
    raise TypeError(f"metadata hold a {type(value).__name__}, which is no JSON")
