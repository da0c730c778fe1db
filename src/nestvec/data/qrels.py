"""Relevance judgements (qrels) as they are published: BEIR's three columns, TREC's four, with or without a header."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import NamedTuple

from nestvec.data.problems import Problems
from nestvec.data.text_files import read_lines

__all__ = ["read_qrels"]

_QUERY_NAMES = {"query-id", "query_id", "queryid", "qid", "query"}
_DOCUMENT_NAMES = {"corpus-id", "corpus_id", "doc-id", "doc_id", "docid", "document-id", "pid", "docno", "document"}
_GRADE_NAMES = {"score", "relevance", "rel", "grade", "label"}
_TREC_ITERATIONS = {"0", "q0", "iter"}


class _Columns(NamedTuple):
    query: int
    document: int
    grade: int

    @property
    def needed(self) -> int:
        """How many cells a line has at least."""
        return max(self) + 1


_BEIR, _TREC = _Columns(0, 1, 2), _Columns(0, 2, 3)


def read_qrels(path: Path, *, documents: Container[str] = (), strict: bool = False) -> dict[str, dict[str, int]]:
    """Read qrels.

    Args:
        path: Lines of query, document and grade between tabs or spaces, with a header or without; TREC's four columns
            (query, iteration, document, grade); further columns do not count. Also `.gz`.
        documents: Ids of the documents that there are, which tell the second column from the third where there is no
            header.
        strict: Refuse a judgement that is made again with another grade; otherwise the last one counts.

    Returns:
        Grade by query id and document id.

    Raises:
        DataError: Lines cannot be read; all of them are named.
    """
    problems = Problems(str(path), strict=strict)
    qrels: dict[str, dict[str, int]] = {}
    lines = [(place, _split(line)) for place, line in read_lines(path, problems)]
    lines = [(place, cells) for place, cells in lines if any(cells)]
    columns = _named_columns(lines[0][1]) if lines else None
    if columns is not None:
        lines = lines[1:]
    else:
        if lines and _is_header(lines[0][1], documents):
            lines = lines[1:]
        columns = _columns_of([cells for _, cells in lines], documents)
    for place, cells in lines:
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
    return [_unquoted(cell.strip()) for cell in text.split("\t")] if "\t" in text else text.split()


def _unquoted(cell: str) -> str:
    """A cell as BEIR reads it, by the rules of CSV: quotes around it are none of its own, and doubled inside."""
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"'
    return cell[1:-1].replace('""', '"') if quoted else cell


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
    # Of other names, but for that of the grade.
    if len(names) > 2 and places[2] is not None and not _is_grade(cells[places[2]]):
        return _TREC if places[2] == _TREC.grade else _BEIR
    return None


def _is_header(cells: Sequence[str], documents: Container[str]) -> bool:
    """Whether a first line names columns by names of its own: it has no grade, and names no document."""
    return len(cells) > 2 and not any(_is_grade(cell) or cell in documents for cell in cells)


def _columns_of(rows: Sequence[Sequence[str]], documents: Container[str]) -> _Columns:
    """Tell TREC's columns from BEIR's with others behind them, by all lines of a file without a header."""
    if not all(len(cells) > _TREC.grade and _is_grade(cells[_TREC.grade]) for cells in rows):
        return _BEIR
    second, third = ([cells[place] for cells in rows] for place in (_BEIR.document, _TREC.document))
    known_second, known_third = (sum(cell in documents for cell in cells) for cells in (second, third))
    if known_second != known_third:
        return _TREC if known_third > known_second else _BEIR
    if not all(map(_is_grade, third)) or {cell.lower() for cell in second} <= _TREC_ITERATIONS:
        return _TREC
    return _TREC if len(set(second)) == 1 < len(set(third)) else _BEIR


def _is_grade(cell: str) -> bool:
    try:
        return float(cell).is_integer()
    except (ValueError, OverflowError):
        return False
