"""Relevance judgements (qrels) as they are published: BEIR's three columns, TREC's four, with or without a header."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nestvec.data.problems import Problems
from nestvec.data.text_files import read_lines

__all__ = ["read_qrels"]

_QUERY_NAMES = {"query-id", "query_id", "queryid", "qid", "query"}
_DOCUMENT_NAMES = {"corpus-id", "corpus_id", "doc-id", "doc_id", "docid", "document-id", "pid", "docno", "document"}
_GRADE_NAMES = {"score", "relevance", "rel", "grade", "label"}
_TREC_ITERATIONS = {"0", "Q0"}


class _Columns(NamedTuple):
    query: int
    document: int
    grade: int

    @property
    def needed(self) -> int:
        """How many cells a line has at least."""
        return max(self) + 1


_BEIR, _TREC = _Columns(0, 1, 2), _Columns(0, 2, 3)


def read_qrels(path: Path, *, strict: bool = False) -> dict[str, dict[str, int]]:
    """Read qrels.

    Args:
        path: Lines of query, document and grade between tabs or spaces, with a header or without; TREC's four columns
            (query, 0 or Q0, document, grade); further columns do not count. Also `.gz`.
        strict: Refuse a judgement that is made again with another grade; otherwise the last one counts.

    Returns:
        Grade by query id and document id.

    Raises:
        DataError: Lines cannot be read; all of them are named.
    """
    problems = Problems(str(path), strict=strict)
    qrels: dict[str, dict[str, int]] = {}
    columns: _Columns | None = None
    for place, line in read_lines(path, problems):
        cells = _split(line)
        if not any(cells):
            continue
        if columns is None:
            named = _named_columns(cells)
            if named is not None:
                columns = named
                continue
            columns = _TREC if len(cells) > 3 and cells[1] in _TREC_ITERATIONS else _BEIR
        if len(cells) < columns.needed or not _is_grade(cells[columns.grade]):
            problems.add(place, "needs a query id, a document id and a whole-number grade")
            continue
        query, document, grade = cells[columns.query], cells[columns.document], int(float(cells[columns.grade]))
        known = qrels.setdefault(query, {})
        if known.get(document, grade) != grade:
            problems.tolerate(
                place,
                f"{document!r} has another grade for {query!r} already",
                "judgements made twice with different grades, of which the last counts",
            )
        known[document] = grade
    problems.finish()
    return qrels


def _split(line: str) -> list[str]:
    text = line.rstrip("\r\n")
    return [cell.strip() for cell in text.split("\t")] if "\t" in text else text.split()


def _named_columns(cells: Sequence[str]) -> _Columns | None:
    """Where the columns of a header stand; None for a line that is no header."""
    names = [cell.lower() for cell in cells]
    places = [
        next((place for place, name in enumerate(names) if name in known), None)
        for known in (_QUERY_NAMES, _DOCUMENT_NAMES, _GRADE_NAMES)
    ]
    found = [place for place in places if place is not None]
    if len(found) == len(places):
        return _Columns(*found)
    # A header of other names: a first line whose grade is a known name.
    if len(names) > 2 and places[2] is not None and not _is_grade(cells[places[2]]):
        return _TREC if places[2] == _TREC.grade else _BEIR
    return None


def _is_grade(cell: str) -> bool:
    try:
        return float(cell).is_integer()
    except (ValueError, OverflowError):
        return False
