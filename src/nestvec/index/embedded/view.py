"""What one transaction sees of the SQLite file of an index: documents, vector files and settings."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DamagedIndexError, NestvecWarning
from nestvec.index.embedded.filter_sql import compile_condition
from nestvec.index.fields import Fields, Kind, decode_keys, find_fields, is_plain
from nestvec.index.fields import Path as FieldPath
from nestvec.index.filters import Condition
from nestvec.index.results import Document
from nestvec.index.words import has_unspaced, match_expression

__all__ = [
    "FORMAT",
    "OLDEST_FORMAT",
    "SegmentRecord",
    "Version",
    "View",
    "damage_named",
    "kinds_of",
]

FORMAT = 4
OLDEST_FORMAT = 2
"""Had words of spaced scripts alone, and fields without kinds; 3 left the quantizer of the first stage to faiss.

Both are read, and brought up to date by the next change.
"""
Version: TypeAlias = tuple[int, ...]
"""Which file was read, and as of which commit."""

_ROWS_AT_A_TIME = 10_000
_Item = TypeVar("_Item")


class SegmentRecord(NamedTuple):
    """Files of vectors that were written together."""

    name: str
    documents: int
    """Deleted ones included."""
    files: dict[str, tuple[int, int]]
    """Bytes and CRC-32 of each, by the end of its name."""


class View:
    """What a connection sees within a transaction, used by one thread."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, version: Version, scanned: dict[Version, Fields]
    ) -> None:
        """Wrap a connection that is in a transaction.

        Args:
            connection: The connection.
            path: The file, for messages.
            version: What is seen.
            scanned: Fields of an older index by version, which takes long to find out: filled here, kept by the caller.
        """
        self._connection = connection
        self._path = path
        self._scanned = scanned
        self.version = version

    def setting(self, name: str) -> Any:
        """Return a setting; None where there is none of that name."""
        found = self._rows("SELECT value FROM settings WHERE name = ?", (name,))
        return self._loaded(found[0][0], name) if found else None

    def needed(self, name: str) -> Any:
        """Return a setting that every index has.

        Raises:
            DamagedIndexError: There is none.
        """
        found = self.setting(name)
        if found is None:
            raise DamagedIndexError(f"{self._path} is damaged: it lacks {name}. Build the index anew.")
        return found

    def segments(self) -> list[SegmentRecord]:
        """Return all segments, by name."""
        rows = self._rows("SELECT name, documents, files FROM segments ORDER BY name")
        return [
            SegmentRecord(
                name,
                count,
                {end: (size, crc) for end, (size, crc) in self._loaded(files, f"segments ({name})").items()},
            )
            for name, count, files in rows
        ]

    def deleted(self) -> NDArray[np.int64]:
        """Return the numbers of documents whose vectors count no longer, ascending."""
        return self._numbers("SELECT number FROM deleted ORDER BY number")

    @property
    def format(self) -> int:
        """Of the version that wrote it, or changed it last."""
        return int(self.needed("format"))

    @property
    def is_older(self) -> bool:
        """Whether its words and fields are those of the oldest format."""
        return self.format == OLDEST_FORMAT

    def fields(self) -> Fields:
        """Return the paths of all fields of metadata, and the kinds of their values."""
        if self.is_older:
            return self._fields_of_documents()
        return {tuple(json.loads(path)): Kind(kinds) for path, kinds in self._rows("SELECT path, kinds FROM fields")}

    def _fields_of_documents(self) -> Fields:
        """The fields of an index that does not list them, by looking at all documents, once a commit."""
        found = self._scanned.get(self.version)
        if found is None:
            rows = self._rows("SELECT metadata FROM documents WHERE metadata IS NOT NULL")
            found = kinds_of(json.loads(metadata) for (metadata,) in rows)
            self._scanned.clear()
            self._scanned[self.version] = found
        # Keys that its file does not hold as paths need them are not found, and so refused.
        return {path: kinds for path, kinds in found.items() if is_plain(path)}

    def matching(self, condition: Condition, after: int) -> NDArray[np.int64]:
        """Return the numbers of documents that meet a condition and are higher than another, ascending."""
        met = compile_condition(condition)
        query = f"SELECT number FROM documents WHERE number > ? AND {met.text} ORDER BY number"  # noqa: S608  # values are parameters
        return self._numbers(query, (after, *met.parameters))

    def highest(self) -> int:
        """Return the highest number given so far."""
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'documents'")
        return int(rows[0][0]) if rows else 0

    def find(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the number of each document that there is."""
        found: dict[str, int] = {}
        for part in _parts(ids):
            marks = ", ".join("?" * len(part))
            found.update(self._rows(f"SELECT id, number FROM documents WHERE id IN ({marks})", part))  # noqa: S608  # marks only
        return found

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return documents with texts and metadata, by id; those that there are."""
        return {one.id: one for _, one in self._documents("id", ids)}

    def at(self, numbers: Sequence[int]) -> dict[int, Document]:
        """Return documents with texts and metadata, by number; those that there are."""
        return dict(self._documents("number", numbers))

    def _documents(self, column: str, values: Sequence[str] | Sequence[int]) -> Iterator[tuple[int, Document]]:
        older = self.is_older
        for part in _parts(values):
            marks = ", ".join("?" * len(part))
            sql = f"SELECT number, id, text, metadata FROM documents WHERE {column} IN ({marks})"  # noqa: S608  # marks only
            for number, id_, text, metadata in self._rows(sql, part):
                known = _load(metadata)
                yield number, Document(id_, text, known if older else decode_keys(known))

    def numbers_and_ids(self) -> Iterator[tuple[int, str]]:
        """Yield every document's number and id, by number."""
        with damage_named(self._path):
            yield from self._connection.execute("SELECT number, id FROM documents ORDER BY number")

    def best_by_words(self, query: str, limit: int, condition: Condition | None = None) -> list[tuple[str, float]]:
        """Return the ids of documents that share words with a query, best by BM25 first, with their scores."""
        words = match_expression(query, self._document_frequencies)
        if self.is_older and has_unspaced(query):
            warnings.warn(
                f"{self._path.parent} was written by an older nestvec, which did not cut texts without spaces into "
                "words: they are not found by words until the index is changed, such as by nestvec index compact.",
                NestvecWarning,
                stacklevel=2,
            )
        if not words:
            return []
        met = None if condition is None else compile_condition(condition)
        sql = (
            "SELECT id, -bm25(words) FROM words JOIN documents ON number = words.rowid"  # noqa: S608  # values are parameters
            f" WHERE words MATCH ?{'' if met is None else f' AND {met.text}'} ORDER BY bm25(words), words.rowid LIMIT ?"
        )
        rows = self._rows(sql, (words, *(() if met is None else met.parameters), limit))
        return [(id_, float(score)) for id_, score in rows]

    def _document_frequencies(self, words: Sequence[str]) -> tuple[int, dict[str, int]]:
        """How many documents there are, and how many have each word; those that one has."""
        self._rows("CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab('main', 'words', 'row')")
        found: dict[str, int] = {}
        for part in _parts(words):
            marks = ", ".join("?" * len(part))
            found.update(self._rows(f"SELECT term, doc FROM temp.vocabulary WHERE term IN ({marks})", part))  # noqa: S608  # marks only
        return self._rows("SELECT count(*) FROM documents")[0][0], found

    def problems(self) -> list[str]:
        """Return what SQLite finds wrong with the file."""
        return [text for (text,) in self._rows("PRAGMA integrity_check") if text != "ok"]

    def _loaded(self, text: str, name: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise DamagedIndexError(
                f"{self._path} is damaged: what it says of {name} cannot be read. Build the index anew."
            ) from error

    def _numbers(self, sql: str, parameters: Sequence[Any] = ()) -> NDArray[np.int64]:
        with damage_named(self._path):
            return np.fromiter((row[0] for row in self._connection.execute(sql, parameters)), np.int64)

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with damage_named(self._path):
            return self._connection.execute(sql, parameters).fetchall()


def kinds_of(metadata: Iterable[Mapping[str, Any]]) -> dict[FieldPath, Kind]:
    """Return the kinds of values that each field of some metadata has."""
    found: defaultdict[FieldPath, Kind] = defaultdict(lambda: Kind(0))
    for one in metadata:
        for path, kind in find_fields(one):
            found[path] |= kind
    return dict(found)


def _load(metadata: str | None) -> dict[str, Any] | None:
    return None if metadata is None else json.loads(metadata)


def _parts(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for first in range(0, len(items), _ROWS_AT_A_TIME):
        yield items[first : first + _ROWS_AT_A_TIME]


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Name the file in what SQLite says of damage."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        named = isinstance(error, sqlite3.OperationalError) and "no such" in str(error)
        if not named and type(error) is not sqlite3.DatabaseError:
            raise
        raise DamagedIndexError(f"{path} is damaged: {error}. Build the index anew.") from error
