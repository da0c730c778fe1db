"""Documents to search: an id, a text, and whatever else is known of each."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.data.columns import as_vector, cell_types, find_vector_columns
from nestvec.data.problems import Problems
from nestvec.data.readers import has_cells, is_saved_data_set, read_rows
from nestvec.data.records import Columns, RawRow, header_and_roles
from nestvec.errors import DataError, SourceNotFoundError
from nestvec.files import DEEPEST, is_unicode

__all__ = ["DOCUMENT_ROLES", "TextDocument", "read_documents"]

DOCUMENT_ROLES: dict[str, tuple[str, ...]] = {
    "id": ("_id", "id", "doc_id"),
    "text": ("text", "contents", "body"),
    "title": ("title",),
    "metadata": ("metadata",),
}
"""The columns a document is made of, and the names each is known by."""

_ROWS_THAT_SHOW_THE_SHAPE = 100


class TextDocument(NamedTuple):
    """A document to be searched."""

    id: str
    text: str
    metadata: dict[str, Any]
    """What else its row holds, JSON values by name."""
    vector: NDArray[np.floating[Any]] | None = None
    """Its vector, where the file holds vectors that are to be used."""


def read_documents(
    path: str | Path, *, columns: Columns | None = None, vectors: str | None = None, strict: bool = False
) -> Iterator[TextDocument]:
    """Read documents one by one.

    A row needs an id (`_id`, `id` or `doc_id`) and a text (`text`, `contents` or `body`); a `title` goes before the
    text, as in BEIR. An object `metadata` and all other columns are its metadata, but for columns of vectors. A column
    of a CSV or TSV file holds numbers, or truth values, where every cell is one and is spelled as it is written.

    Args:
        path: JSON Lines, a JSON array, CSV, TSV (each also `.gz`) or Parquet; a folder of `save_to_disk`; or a BEIR
            folder, whose `corpus.jsonl` is read.
        columns: Which column holds which of id, text, title and metadata, where the names are unusual; or the names of
            all columns in order, of a CSV or TSV file without a header.
        vectors: Column of vectors to use in place of encoding the texts, which may then be empty.
        strict: Refuse documents whose text is empty, which are otherwise left out, counted and said once.

    Yields:
        Documents whose rows can be used, in file order.

    Raises:
        SourceNotFoundError: There is no such file.
        DataError: The format is unknown, or there is no column of ids or texts; or, after the last document, rows
            cannot be used: all of them are named.
    """
    path = Path(path)
    if path.is_dir() and not is_saved_data_set(path):
        found = next((file for file in (path / "corpus.jsonl", path / "corpus.jsonl.gz") if file.is_file()), None)
        if found is None:
            raise SourceNotFoundError(f"{path} is a folder without corpus.jsonl. Give a file, or a BEIR folder.")
        path = found
    problems = Problems(str(path), strict=strict)
    header, roles = header_and_roles(columns)
    types = {}
    if has_cells(path) and path.is_file():
        types = cell_types(read_rows(path, problems=Problems(str(path), quiet=True), header=header))
    rows = read_rows(path, problems=problems, header=header)
    first = list(itertools.islice(rows, _ROWS_THAT_SHOW_THE_SHAPE))
    shape = _shape_of(first, roles, vectors, types, str(path)) if first else None
    seen: set[str] = set()
    for row in itertools.chain(first, rows):
        document = None if shape is None else _read(row, shape, problems)
        if document is None:
            continue
        if document.id in seen:
            problems.add(row.place, f"id {document.id!r} stands twice")
            continue
        seen.add(document.id)
        yield document
    if shape is not None and vectors is None:
        for name, width in shape.left_out.items():
            problems.note(f"column {name!r} holds vectors of {width} and is left out; --vectors {name} uses them")
    if shape is not None:
        for name, width in shape.left_out_inside.items():
            problems.note(f"{name!r} of the metadata holds vectors of {width} and is left out")
    problems.finish()


@dataclass(frozen=True)
class _Shape:
    """Which column holds what."""

    roles: Mapping[str, str]
    types: Mapping[str, Callable[[str], Any]]
    vectors: str | None
    width: int | None
    left_out: dict[str, int]
    """Columns of vectors that are not used, and how many numbers each has."""
    decided: set[str]
    """Columns that had a value, or a role."""
    left_out_inside: dict[str, int]
    """The same in the object of metadata."""
    decided_inside: set[str]


def _shape_of(
    first: Sequence[RawRow],
    roles: Mapping[str, str | Sequence[str]],
    vectors: str | None,
    types: Mapping[str, Callable[[str], Any]],
    source: str,
) -> _Shape:
    seen = list(dict.fromkeys(name for row in first for name in row.values))
    found: dict[str, str] = {}
    for role, name in roles.items():
        if role not in DOCUMENT_ROLES:
            raise DataError(f"Unknown column role {role!r}. Roles of documents are: {', '.join(DOCUMENT_ROLES)}.")
        if not isinstance(name, str):
            raise DataError(f"Column role {role!r} is mapped to {list(name)}. Map it to one column.")
        found[role] = name
    for role, names in DOCUMENT_ROLES.items():
        matching = next((name for name in names if name in seen), None)
        if role not in found and matching is not None:
            found[role] = matching
    late = {role: DOCUMENT_ROLES[role][0] for role in ("title", "metadata") if role not in found}
    of_vectors = find_vector_columns(first, vectors)
    needed = ["id"] if vectors is not None else ["id", "text"]
    missing = [role for role in needed if role not in found and not (role == "text" and "title" in found)]
    unknown = [name for name in [*found.values(), *([vectors] if vectors else [])] if name not in seen]
    if missing or unknown:
        nothing_of = " and none of ".join(f"{role}s" for role in missing)
        what = f"no column {unknown[0]!r}" if unknown else f"no column of {nothing_of}"
        usual = "; ".join(f"{role}: {', '.join(DOCUMENT_ROLES[role])}" for role in missing)
        known = "" if unknown else f" Usual names are {usual}."
        raise DataError(
            f"{source} has {what}. Its columns are: {', '.join(map(repr, seen))}.{known} Say which is which, such as "
            "--columns id=KEY,text=BODY, or name all columns of a file without a header: --columns id,text,year."
        )
    if vectors is not None and vectors not in of_vectors:
        raise DataError(
            f"Column {vectors!r} of {source} holds no vectors: lists of numbers, all of one length. "
            f"Columns that do are: {', '.join(of_vectors) or 'none'}."
        )
    used = {name: width for name, width in of_vectors.items() if name not in found.values() and name != vectors}
    found |= late  # which later rows may have
    inside = [RawRow(row.place, _object(row.values.get(found.get("metadata", ""))) or {}) for row in first]
    width = None if vectors is None else of_vectors[vectors]
    return _Shape(
        found,
        types,
        vectors,
        width,
        used,
        {*found.values(), *types, *([vectors] if vectors else []), *_with_values(first)},
        find_vector_columns(inside),
        _with_values(inside),
    )


def _with_values(rows: Sequence[RawRow]) -> set[str]:
    return {name for row in rows for name, value in row.values.items() if value is not None}


def _decide(values: Mapping[str, Any], decided: set[str], left_out: dict[str, int]) -> None:
    """Tell of columns that have their first value here whether they hold vectors."""
    new = {name: value for name, value in values.items() if name not in decided and value is not None}
    if new:
        decided.update(new)
        left_out.update(find_vector_columns([RawRow("", new)]))


def _read(row: RawRow, shape: _Shape, problems: Problems) -> TextDocument | None:
    _decide(row.values, shape.decided, shape.left_out)
    values = {name: value for name, value in row.values.items() if name not in shape.left_out}
    vector = None
    if shape.vectors is not None:
        vector = as_vector(values.pop(shape.vectors, None))
        if vector is not None and not np.issubdtype(vector.dtype, np.floating):  # such as those stored as int8
            vector = vector.astype(np.float64)
    key, text, title, metadata = (
        values.pop(name) if (name := shape.roles.get(role)) in values else None
        for role in ("id", "text", "title", "metadata")
    )
    title = "" if title is None else title
    if isinstance(key, float) and key.is_integer():  # as tools write whole numbers where some are missing
        key = int(key)
    if isinstance(key, bool) or not isinstance(key, (str, int)) or str(key) == "":
        names = ", ".join(DOCUMENT_ROLES["id"])
        problems.add(row.place, f"an id is needed ({names}), and is missing, empty or no text")
    elif not isinstance(text, (str, type(None))) or not isinstance(title, str):
        problems.add(row.place, "text or title is no text")
    elif not all(map(is_unicode, (str(key), title, text or ""))):
        problems.add(row.place, "it holds half a surrogate pair, which is no character")
    elif shape.vectors is not None and (vector is None or len(vector) != shape.width):
        problems.add(row.place, f"{shape.vectors} holds no vector of {shape.width} dimensions")
    elif shape.vectors is None and not (title + (text or "")).strip():
        problems.tolerate(row.place, "its text is empty", "documents without text, left out")
    else:
        facts = _facts(values, metadata, shape, row, problems)
        if facts is not None:
            return TextDocument(str(key), f"{title} {text or ''}".strip(), facts, vector)
    return None


def _facts(
    values: Mapping[str, Any], metadata: Any, shape: _Shape, row: RawRow, problems: Problems
) -> dict[str, Any] | None:
    """The metadata of a row; None where they are none."""
    inside = _object(metadata)
    if inside is None:
        problems.add(row.place, "metadata is no JSON object")
        return None
    _decide(inside, shape.decided_inside, shape.left_out_inside)
    facts: dict[str, Any] = {}
    try:
        for name, value in values.items():
            if name not in shape.types:
                _put(facts, name, value, row, problems)
            elif value != "":
                facts[name] = shape.types[name](value)
        for name, value in inside.items():
            if name in facts and facts[name] != value:
                kind = f"columns {name!r} beside another {name!r} in the metadata, which counts"
                problems.tolerate(row.place, f"{name!r} is a column, and has another value in the metadata", kind)
            if name not in shape.left_out_inside:
                _put(facts, name, value, row, problems)
    except DataError as error:
        problems.add(row.place, str(error))
        return None
    return facts


def _put(facts: dict[str, Any], name: str, value: Any, row: RawRow, problems: Problems) -> None:
    """Add a value as JSON has it, or say that it has none."""
    try:
        _check_text(name)
        facts[name] = _as_json(value)
    except _NoJsonError as error:
        problems.tolerate(row.place, f"{name!r} is of type {error}", f"values of {name!r} of type {error}, left out")


def _object(metadata: Any) -> Mapping[str, Any] | None:
    """An object of metadata, or its JSON as Parquet and CSV hold it; None where it is none."""
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata) if metadata.strip() else None
        except (ValueError, RecursionError):
            return None
    metadata = {} if metadata is None else metadata
    return metadata if isinstance(metadata, Mapping) else None


def _check_text(text: str) -> str:
    if not is_unicode(text):
        raise DataError("metadata hold half a surrogate pair, which is no character")
    if "\0" in text:
        raise DataError("metadata hold a zero character, which an index cannot store")
    return text


class _NoJsonError(TypeError):
    """A value that JSON cannot hold; its text says what that is."""


def _as_json(value: Any, depth: int = 1) -> Any:
    """A value as JSON has it: dates as ISO 8601, and no number where there is none."""
    if isinstance(value, (str, int, type(None))):
        return _check_text(value) if isinstance(value, str) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (Mapping, list, tuple, np.ndarray)) and depth >= DEEPEST:
        raise DataError(f"metadata are nested more than {DEEPEST} deep")
    if isinstance(value, Mapping):
        return {_check_text(str(name)): _as_json(one, depth + 1) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(one, depth + 1) for one in value]
    if isinstance(value, np.ndarray):
        return _as_json(value.tolist(), depth)
    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    raise _NoJsonError(f"{type(value).__name__}, which JSON does not have")
