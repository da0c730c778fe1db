"""What one row of training data is, and how a row of any file becomes one."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from nestvec.data.problems import Problems, shorten
from nestvec.errors import DataError
from nestvec.files import is_unicode

__all__ = [
    "COLUMN_ROLES",
    "Columns",
    "LabeledText",
    "Positives",
    "RawRow",
    "Record",
    "RetrievalRow",
    "ScoredPair",
    "header_and_roles",
    "parse_records",
]


class RetrievalRow(NamedTuple):
    """A query, the document that answers it, and documents that do not."""

    query: str
    positive: str
    negatives: tuple[str, ...] = ()


class ScoredPair(NamedTuple):
    """Two texts and how similar they are."""

    text1: str
    text2: str
    score: float


class LabeledText(NamedTuple):
    """A text and the class it belongs to."""

    text: str
    label: int | str


Record: TypeAlias = RetrievalRow | ScoredPair | LabeledText

Columns: TypeAlias = Mapping[str, str | Sequence[str]] | Sequence[str]
"""Which column holds which role; or the names of all columns in order, where a file has no header."""

Positives: TypeAlias = Literal["all", "first"]
"""What a list of positives is: a row for each, or its first one."""


def header_and_roles(
    columns: Columns | None,
) -> tuple[Sequence[str] | None, Mapping[str, str | Sequence[str]]]:
    """Tell the names of all columns, of a file without a header, from which column holds which role."""
    if columns is None or isinstance(columns, Mapping):
        return None, columns or {}
    return list(columns), {}


class RawRow(NamedTuple):
    """A row as a reader found it: where it stands (`line 12`), and its values by column."""

    place: str
    values: Mapping[str, Any]


COLUMN_ROLES: dict[str, tuple[str, ...]] = {
    "query": ("query", "anchor", "question"),
    "positive": ("positive", "pos", "answer", "passage", "document"),
    "negatives": ("negatives", "negative", "neg"),
    "text1": ("text1", "sentence1", "sentence_1"),
    "text2": ("text2", "sentence2", "sentence_2"),
    "score": ("score", "similarity", "similarity_score"),
    "text": ("text", "sentence"),
    "label": ("label", "class", "intent"),
}
"""The columns a record is made of, and the names each is known by in published data sets."""

_ROWS_THAT_SHOW_THE_SHAPE = 100
_SHAPES = (("query", "positive"), ("text1", "text2", "score"), ("text", "label"))


def parse_records(
    rows: Iterable[RawRow],
    *,
    problems: Problems,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    positives: Positives = "all",
) -> list[Record]:
    """Turn raw rows into records of one shape, and report every bad row together.

    The shape follows from the columns of the first rows: (query, positive), with negative columns
    (`negative`, `negative_1`, ...) or one list column (`negatives`); (text1, text2, score); (text, label). A positive
    may be a list as well. Negatives that are null, empty or known to answer their query are left out and counted.

    Args:
        rows: Rows as a reader yields them.
        problems: Where bad rows are noted; problems that the reader noted are reported as well.
        columns: Which column holds which role, where the names differ: `{"query": "q", "negatives": ["n1", "n2"]}`.
            Roles that are left out are found by their usual names.
        positives: What a list of positives is: a row for each (`all`), or its first one.

    Returns:
        One record a row and positive, in order.

    Raises:
        DataError: A role or column is unknown, no shape fits, a text is empty or no text, a score is no
            finite number, a row has no positive, or there are no rows.

    Example:
        >>> rows = [RawRow("line 1", {"anchor": "capital of France?", "positive": "Paris"})]
        >>> parse_records(rows, problems=Problems("example"))
        [RetrievalRow(query='capital of France?', positive='Paris', negatives=())]
    """
    for role in columns or {}:
        if role not in COLUMN_ROLES:
            raise DataError(f"Unknown column role {role!r}. Roles are: {', '.join(COLUMN_ROLES)}.")
    iterator = iter(rows)
    first = list(itertools.islice(iterator, _ROWS_THAT_SHOW_THE_SHAPE))
    if not first:
        problems.raise_if_any()
        raise DataError(f"{problems.source} has no rows. Check the path, the split and the limit.")
    seen = list(dict.fromkeys(column for row in first for column in row.values))
    mapping = _resolve_columns(seen, columns or {}, problems.source)
    records: list[Record] = []
    places: list[str] = []
    for row in itertools.chain(first, iterator):
        parsed = list(_parse_row(row, mapping, problems, positives))
        records += parsed
        places += [row.place] * len(parsed)
    if "query" in mapping:
        records = _without_answers(records, places, problems)
    problems.finish()
    return records


def _resolve_columns(
    seen: Sequence[str], columns: Mapping[str, str | Sequence[str]], source: str
) -> dict[str, list[str]]:
    """Decide once which columns are read for which role; negatives that are not mapped are found row by row."""
    found: dict[str, list[str]] = {}
    for role, names in columns.items():
        found[role] = [names] if isinstance(names, str) else list(names)
        if not found[role] or (len(found[role]) > 1 and role != "negatives"):
            raise DataError(f"Column role {role!r} is mapped to {found[role]}. Map it to one column.")
        for name in found[role]:
            if name not in seen:
                raise DataError(
                    f"{source} has no column {name!r} (mapped to {role}). Its columns are: {', '.join(seen)}."
                )
    for role, names in COLUMN_ROLES.items():
        matching = [name for name in names if name in seen][:1]
        if role not in found and role != "negatives" and matching:
            found[role] = matching
    for shape in _SHAPES:
        if all(role in found for role in shape):
            roles = (*shape, "negatives") if shape[0] == "query" else shape
            return {role: found[role] for role in roles if role in found}
    shapes = "; ".join(f"({', '.join(shape)})" for shape in _SHAPES)
    raise DataError(
        f"{source} has the columns {', '.join(seen) or '(none)'}, which fit none of the shapes {shapes}. "
        'Map them, for example columns = { query = "your_column", positive = "another" }.'
    )


def _is_negative_column(column: str) -> bool:
    stem, _, number = column.rpartition("_")
    return column in COLUMN_ROLES["negatives"] or (number.isdigit() and stem in COLUMN_ROLES["negatives"])


def _parse_row(
    row: RawRow, mapping: Mapping[str, list[str]], problems: Problems, positives: Positives
) -> Iterator[Record]:
    before = problems.count

    def text(role: str) -> str:
        return _as_text(row.values.get(mapping[role][0]), mapping[role][0], row.place, problems)

    found: list[Record]
    if "query" in mapping:
        query, answers = text("query"), _positives(row, mapping["positive"][0], problems, positives)
        negatives = _negatives(row, mapping, problems)
        found = [RetrievalRow(query, answer, negatives) for answer in answers]
    elif "score" in mapping:
        found = [ScoredPair(text("text1"), text("text2"), _score(row, mapping["score"][0], problems))]
    else:
        found = [LabeledText(text("text"), _label(row, mapping["label"][0], problems))]
    if problems.count == before:
        yield from found


def _positives(row: RawRow, column: str, problems: Problems, positives: Positives) -> list[str]:
    value = row.values.get(column)
    if not isinstance(value, (list, tuple)):
        return [_as_text(value, column, row.place, problems)]
    items = [item for item in value if item is not None]
    if not items:
        problems.add(row.place, f"{column} is a list without a text")
    kept = items[:1] if positives == "first" else items
    return list(dict.fromkeys(_as_text(item, column, row.place, problems) for item in kept))


def _without_answers(records: Sequence[Record], places: Sequence[str], problems: Problems) -> list[Record]:
    """Take out of the negatives what the rows themselves say answers the query."""
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        if isinstance(record, RetrievalRow):
            answers[record.query.strip()].add(record.positive.strip())
    kept: list[Record] = []
    for record, place in zip(records, places, strict=True):
        if isinstance(record, RetrievalRow) and record.negatives:
            known = answers[record.query.strip()]
            negatives = tuple(text for text in record.negatives if text.strip() not in known)
            for _ in range(len(record.negatives) - len(negatives)):
                problems.tolerate(
                    place,
                    "a negative is a positive of its query",
                    "negatives that are a positive of their query, left out",
                )
            record = record._replace(negatives=negatives)
        kept.append(record)
    return kept


def _as_text(value: object, column: str, place: str, problems: Problems) -> str:
    if value is None:
        problems.add(place, f"{column} is missing")
    elif not isinstance(value, str):
        problems.add(place, f"{column} is {shorten(value)}, not a text")
    elif not value.strip():
        problems.add(place, f"{column} is empty")
    elif not is_unicode(value):
        problems.add(place, f"{column} holds half a surrogate pair, which is no character")
    else:
        return value
    return ""


def _negatives(row: RawRow, mapping: Mapping[str, list[str]], problems: Problems) -> tuple[str, ...]:
    texts: list[str] = []
    columns = mapping.get("negatives") or [column for column in row.values if _is_negative_column(column)]
    for column in columns:
        value = row.values.get(column)
        if value is None or value == "":  # rows of one file may have fewer negatives than others
            continue
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        for item in items:
            if item is None or (isinstance(item, str) and not item.strip()):
                kind = "negatives that are null or empty, left out"
                problems.tolerate(row.place, f"{column} holds a negative that is null or empty", kind)
            else:
                texts.append(_as_text(item, column, row.place, problems))
    return tuple(texts)


def _score(row: RawRow, column: str, problems: Problems) -> float:
    value = row.values.get(column)
    try:
        score = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # TypeError is caught
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        problems.add(row.place, f"{column} is {shorten(value)}, not a finite number")
    return score


def _label(row: RawRow, column: str, problems: Problems) -> int | str:
    value = row.values.get(column)
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    problems.add(row.place, f"{column} is {shorten(value)}, not a label (a whole number or a text)")
    return 0
