"""Changes to the SQLite file of an index, within a transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DataError
from nestvec.index.embedded.view import FORMAT, SegmentRecord, View, kinds_of
from nestvec.index.fields import Kind, decode_keys, encode_keys
from nestvec.index.fields import Path as FieldPath
from nestvec.index.results import Document
from nestvec.index.words import TOKENIZER, index_terms

__all__ = ["Writing", "create_schema", "listed", "migrate"]

_ROWS_AT_A_TIME = 10_000
_LISTED = 10
_DERIVED = (  # what follows from the documents
    "CREATE TABLE fields (path TEXT PRIMARY KEY, kinds INTEGER NOT NULL) WITHOUT ROWID",  # paths as JSON lists
    f"CREATE VIRTUAL TABLE words USING fts5(terms, content='', tokenize=\"{TOKENIZER}\")",
)
_SCHEMA = f"""
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- given once: what is written anew gets a new one
    id TEXT NOT NULL UNIQUE,
    text TEXT,
    metadata TEXT
);
CREATE TABLE segments (name TEXT PRIMARY KEY, documents INTEGER NOT NULL, files TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE deleted (number INTEGER PRIMARY KEY);  -- documents whose vectors are still in a segment
{";".join(_DERIVED)};
"""


def create_schema(connection: sqlite3.Connection, settings: Mapping[str, Any]) -> None:
    """Make an empty manifest.

    Args:
        connection: To a new file.
        settings: What holds for the whole index, JSON values by name.
    """
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(f"BEGIN; {_SCHEMA}")
    values = {"format": FORMAT, **settings}
    connection.executemany("INSERT INTO settings VALUES (?, ?)", [(k, json.dumps(v)) for k, v in values.items()])
    connection.execute("COMMIT")


class Writing(View):
    """What a transaction sees and changes, used by one thread."""

    def set(self, name: str, value: Any) -> None:
        """Keep a setting, a JSON value, in place of an older one."""
        self._connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))

    def add(self, documents: Sequence[Document]) -> NDArray[np.int64]:
        """Add documents, and return their numbers, ascending.

        Raises:
            DataError: There are documents of these ids already.
        """
        if known := self.find([one.id for one in documents]):
            raise DataError(
                f"Ids that the index has already: {listed(sorted(known))}. Give each once, or replace them by upsert."
            )
        first = self.highest() + 1
        numbers = np.arange(first, first + len(documents), dtype=np.int64)
        rows = (
            (int(number), one.id, one.text, None if one.metadata is None else _dump(one))
            for number, one in zip(numbers, documents, strict=True)
        )
        self._connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?)", rows)
        _add_words(self._connection, zip(numbers.tolist(), (one.text for one in documents), strict=True))
        _add_fields(self._connection, kinds_of(one.metadata for one in documents if one.metadata))
        return numbers

    def recount_fields(self) -> None:
        """Forget what no document holds any more, of fields of metadata and of kinds of their values."""
        self._connection.execute("DELETE FROM fields")
        rows = self._connection.execute("SELECT metadata FROM documents WHERE metadata IS NOT NULL")
        _add_fields(self._connection, kinds_of(decode_keys(json.loads(metadata)) for (metadata,) in rows))

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove documents, and note that their vectors count no longer."""
        rows = [(number,) for number in numbers]
        for (number,) in rows:
            for (text,) in self._connection.execute("SELECT text FROM documents WHERE number = ?", (number,)):
                if text:
                    self._connection.execute(
                        "INSERT INTO words (words, rowid, terms) VALUES ('delete', ?, ?)", (number, index_terms(text))
                    )
        self._connection.executemany("DELETE FROM documents WHERE number = ?", rows)
        self._connection.executemany("INSERT INTO deleted VALUES (?)", rows)

    def forget_deleted(self, numbers: NDArray[np.int64]) -> None:
        """Drop the notes of documents whose vectors are gone from all segments."""
        self._connection.executemany("DELETE FROM deleted WHERE number = ?", ((int(number),) for number in numbers))

    def put_segment(self, record: SegmentRecord) -> None:
        """Name a segment: from the commit on it is part of the index."""
        row = (record.name, record.documents, json.dumps(record.files))
        self._connection.execute("INSERT INTO segments VALUES (?, ?, ?)", row)

    def drop_segments(self, names: Iterable[str]) -> None:
        """Take segments out of the index; their files stay until it is certain that they are out."""
        self._connection.executemany("DELETE FROM segments WHERE name = ?", [(name,) for name in names])


def listed(items: Sequence[object]) -> str:
    """Return some of many items, for a message."""
    more = f" and {len(items) - _LISTED:,} more" if len(items) > _LISTED else ""
    return ", ".join(map(str, items[:_LISTED])) + more


def _add_words(connection: sqlite3.Connection, texts: Iterable[tuple[int, str | None]]) -> None:
    connection.executemany(
        "INSERT INTO words (rowid, terms) VALUES (?, ?)",
        ((number, index_terms(text)) for number, text in texts if text),
    )


def _add_fields(connection: sqlite3.Connection, fields: Mapping[FieldPath, Kind]) -> None:
    connection.executemany(
        "INSERT INTO fields VALUES (?, ?) ON CONFLICT (path) DO UPDATE SET kinds = kinds | excluded.kinds",
        [(json.dumps(path, ensure_ascii=False), int(kinds)) for path, kinds in sorted(fields.items())],
    )


def migrate(connection: sqlite3.Connection, before: View) -> None:
    """Bring an older index to the format of today, within the transaction that changes it."""
    if before.is_older:
        _derive_anew(connection)
    connection.execute("UPDATE settings SET value = ? WHERE name = 'format'", (json.dumps(FORMAT),))


def _derive_anew(connection: sqlite3.Connection) -> None:
    """Make the words and fields of today from the documents, in place of those of the oldest format."""
    connection.execute("DROP TABLE words")
    connection.execute("DROP TABLE fields")
    for statement in _DERIVED:
        connection.execute(statement)
    after = -1
    while rows := connection.execute(
        "SELECT number, id, text, metadata FROM documents WHERE number > ? ORDER BY number LIMIT ?",
        (after, _ROWS_AT_A_TIME),
    ).fetchall():
        after = rows[-1][0]
        _add_words(connection, ((number, text) for number, _, text, _ in rows))
        known = [(number, id_, json.loads(metadata)) for number, id_, _, metadata in rows if metadata is not None]
        _add_fields(connection, kinds_of(one for _, _, one in known))
        connection.executemany(
            "UPDATE documents SET metadata = ? WHERE number = ?",
            [(_dump(Document(id_, None, one)), number) for number, id_, one in known if one != encode_keys(one)],
        )


def _dump(document: Document) -> str:
    try:
        kept = json.dumps(
            encode_keys(document.metadata or {}), ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
        kept.encode("utf-8")
    except DataError as error:
        raise DataError(f"The metadata of document {document.id} are no JSON: {error}.") from error
    except UnicodeEncodeError as error:
        raise DataError(
            f"The metadata of document {document.id} hold half a surrogate pair, which is no character."
        ) from error
    except (TypeError, ValueError) as error:
        raise DataError(f"The metadata of document {document.id} are no JSON: {error}.") from error
    return kept
