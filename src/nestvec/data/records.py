"""What one row of training data is, and how a row of any file becomes one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from nestvec.errors import DataError

__all__ = [
    "COLUMN_ROLES",
    "LabeledText",
    "Problems",
    "RawRow",
    "Record",
    "RetrievalRow",
    "ScoredPair",
    "is_unicode",
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


class RawRow(NamedTuple):
    """A row as a reader found it: where it stands (`line 12`), and its values by column."""

    place: str
    values: Mapping[str, Any]


class Problems:
    """Collects what is wrong with a source, so that all of it is reported together."""

    def __init__(self, source: str, *, shown: int = 20) -> None:
        """Start with none.

        Args:
            source: Name of the file or data set, for the message.
            shown: How many are spelled out; the rest is counted.
        """
        self.source = source
        self.count = 0
        self._shown = shown
        self._lines: list[str] = []

    def add(self, place: str, message: str) -> None:
        """Note one problem.

        Args:
            place: Where, such as `line 12`.
            message: What is wrong there.
        """
        self.count += 1
        if len(self._lines) < self._shown:
            self._lines.append(f"{place}: {message}")

    def raise_if_any(self, error: type[DataError] = DataError) -> None:
        """Raise one error that lists every problem noted.

        Args:
            error: Which error to raise.

        Raises:
            DataError: At least one problem was noted.
        """
        if not self.count:
            return
        more = f"\n  and {self.count - len(self._lines)} more" if self.count > len(self._lines) else ""
        noun = "problem" if self.count == 1 else "problems"
        listing = "".join(f"\n  {line}" for line in self._lines)
        raise error(f"{self.source} has {self.count} {noun}:{listing}{more}")


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
) -> list[Record]:
    """Turn raw rows into records of one shape, and report every bad row together.

    The shape follows from the columns of the first rows: (query, positive), with negative columns
    (`negative`, `negative_1`, ...) or one list column (`negatives`); (text1, text2, score); (text, label).

    Args:
        rows: Rows as a reader yields them.
        problems: Where bad rows are noted; problems that the reader noted are reported as well.
        columns: Which column holds which role, where the names differ: `{"query": "q", "negatives": ["n1", "n2"]}`.
            Roles that are left out are found by their usual names.

    Returns:
        One record a row, in order.

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
    for row in itertools.chain(first, iterator):
        _parse_row(row, mapping, records, problems)
    problems.raise_if_any()
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


def _parse_row(row: RawRow, mapping: Mapping[str, list[str]], records: list[Record], problems: Problems) -> None:
    before = problems.count

    def text(role: str) -> str:
        return _as_text(row.values.get(mapping[role][0]), mapping[role][0], row.place, problems)

    record: Record
    if "query" in mapping:
        record = RetrievalRow(text("query"), text("positive"), _negatives(row, mapping, problems))
    elif "score" in mapping:
        record = ScoredPair(text("text1"), text("text2"), _score(row, mapping["score"][0], problems))
    else:
        record = LabeledText(text("text"), _label(row, mapping["label"][0], problems))
    if problems.count == before:
        records.append(record)


def _as_text(value: object, column: str, place: str, problems: Problems) -> str:
    if value is None:
        problems.add(place, f"{column} is missing")
    elif not isinstance(value, str):
        problems.add(place, f"{column} is {_shorten(value)}, not a text")
    elif not value.strip():
        problems.add(place, f"{column} is empty")
    elif not value.isascii() and not is_unicode(value):
        problems.add(place, f"{column} holds half a surrogate pair, which is no character")
    else:
        return value
    return ""


def is_unicode(text: str) -> bool:
    """Tell whether a text can be written as UTF-8: JSON may hold half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _negatives(row: RawRow, mapping: Mapping[str, list[str]], problems: Problems) -> tuple[str, ...]:
    texts: list[str] = []
    columns = mapping.get("negatives") or [column for column in row.values if _is_negative_column(column)]
    for column in columns:
        value = row.values.get(column)
        if value is None or value == "":  # rows of one file may have fewer negatives than others
            continue
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        texts.extend(_as_text(item, column, row.place, problems) for item in items)
    return tuple(texts)


def _score(row: RawRow, column: str, problems: Problems) -> float:
    value = row.values.get(column)
    try:
        score = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # TypeError is caught
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        problems.add(row.place, f"{column} is {_shorten(value)}, not a finite number")
    return score


def _label(row: RawRow, column: str, problems: Problems) -> int | str:
    value = row.values.get(column)
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    problems.add(row.place, f"{column} is {_shorten(value)}, not a label (a whole number or a text)")
    return 0


def _shorten(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."
