"""What an index holds, in one SQLite file: documents, vector files and settings, changed in transactions."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import (
    DamagedIndexError,
    DataError,
    IndexBusyError,
    NestvecWarning,
    SearchIndexError,
    StorageError,
)
from nestvec.files import storage_errors
from nestvec.index.change_count import ChangeCount
from nestvec.index.fields import Kind, decode_keys, encode_keys, find_fields, is_plain
from nestvec.index.fields import Path as FieldPath
from nestvec.index.filters import Condition
from nestvec.index.words import TOKENIZER, has_unspaced, index_terms, match_expression
from nestvec.progress import Progress, silent

__all__ = ["MANIFEST", "Document", "Manifest", "SegmentRecord", "Version", "Writing", "listed"]

Version: TypeAlias = int | tuple[int, ...]
"""Of what a connection sees: another one after every commit of others."""

MANIFEST = "manifest.sqlite"
FORMAT = 3
_OLDER = 2  # had words of spaced scripts alone, and fields without kinds: read, and changed by the next write
_ROWS_AT_A_TIME = 10_000
_SECONDS_BETWEEN_LOOKS = 0.05
_SECONDS_OF_A_WAIT = 0.5  # in which an interrupt is not noticed
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


class Document(NamedTuple):
    """What the manifest knows of a document."""

    id: str
    text: str | None = None
    metadata: Mapping[str, Any] | None = None


class SegmentRecord(NamedTuple):
    """Files of vectors that were written together."""

    name: str
    documents: int
    """Deleted ones included."""
    files: dict[str, tuple[int, int]]
    """Bytes and CRC-32 of each, by the end of its name."""


class Manifest:
    """The SQLite file of an index: one connection, used by one thread at a time."""

    def __init__(self, folder: Path, *, writable: bool = False) -> None:
        """Open it.

        Args:
            folder: The index.
            writable: To change it; otherwise the file may be on a medium that is read-only.

        Raises:
            SearchIndexError: There is none, it is damaged, or of another format.
        """
        self.folder = folder
        self.lock = threading.RLock()
        path = folder / MANIFEST
        if not path.is_file():
            raise SearchIndexError(
                f"{folder} is no index: it has no {MANIFEST}. Make one: nestvec index build {folder}"
            )
        self._path = str(path)
        # Looked at before it is opened: where another one takes its place in between, that is noticed.
        found_at = os.stat(path)  # noqa: PTH116
        self._connection, self._frozen = self._connect(path, writable=writable)
        self._identity = self._identity_of(found_at)
        self._changes = ChangeCount(folder)
        self._scanned: tuple[Version, dict[FieldPath, Kind]] | None = None
        self._asked_at: bytes | None = None  # the number of changes when SQLite was asked last
        self._looked = 0.0  # when the place of the file was looked at last
        self._versions = self._connection.cursor()  # one for all queries: making one takes as long as asking
        try:
            self._counts = self._count() == self._count()
            found = self.setting("format")
        except (sqlite3.DatabaseError, DamagedIndexError) as error:
            self.close()
            raise DamagedIndexError(f"{path} is damaged, or no manifest of an index: {error}") from error
        if found not in (FORMAT, _OLDER):
            self.close()
            raise SearchIndexError(
                f"{folder} is an index of format {found}, and this nestvec reads {_OLDER} and {FORMAT}. "
                + ("Update nestvec." if isinstance(found, int) and found > FORMAT else "Build the index anew.")
            )

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Tell whether a folder has a manifest, whole or not."""
        return (folder / MANIFEST).is_file()

    @staticmethod
    def create(folder: Path, settings: Mapping[str, Any]) -> Manifest:
        """Make an empty one in a folder that has none.

        Args:
            folder: The folder.
            settings: What holds for the whole index, JSON values by name.

        Returns:
            It, writable.

        Raises:
            StorageError: The disk is full, or the folder cannot be written.
        """
        with (
            _storage_errors(folder),
            contextlib.closing(sqlite3.connect(folder / MANIFEST, isolation_level=None)) as connection,
        ):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN; {_SCHEMA}")
            values = {"format": FORMAT, **settings}
            connection.executemany(
                "INSERT INTO settings VALUES (?, ?)", [(k, json.dumps(v)) for k, v in values.items()]
            )
            connection.execute("COMMIT")
        ChangeCount.create(folder)
        return Manifest(folder, writable=True)

    @staticmethod
    def _connect(path: Path, *, writable: bool) -> tuple[sqlite3.Connection, bool]:
        """Return a connection, and whether it takes the file for one that nobody changes."""
        place = f"file:{quote(str(path.resolve()))}"
        modes = ["mode=rw"] if writable else ["mode=ro", "immutable=1"]
        for mode in modes:
            connection = sqlite3.connect(f"{place}?{mode}", uri=True, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.OperationalError as error:
                connection.close()
                # A read-only folder cannot take the shared memory of a log; without a log none is needed.
                log = path.with_name(f"{path.name}-wal")
                if log.exists() and log.stat().st_size:
                    raise SearchIndexError(
                        f"{path} cannot be opened: the folder is read-only, and changes of a process that is still "
                        f"open, or was killed, are in its write-ahead log {log.name}, which has to be merged first. "
                        f"Open it once where it can be written (nestvec index info {path.parent}), or copy the folder "
                        "to such a place."
                    ) from error
                if mode == modes[-1]:
                    raise SearchIndexError(f"{path} cannot be opened: {error}") from error
            except sqlite3.DatabaseError as error:
                connection.close()
                raise DamagedIndexError(f"{path} is damaged, or no manifest of an index: {error}") from error
            else:
                connection.execute("PRAGMA busy_timeout = 5000")
                return connection, "immutable" in mode
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        self._changes.close()

    def is_unchanged(self) -> bool:
        """Tell whether nothing was committed since `version` was asked, in a fraction of the time of asking it.

        An index that was removed and made anew by hand is noticed a twentieth of a second later.
        """
        asked_at = self._asked_at
        return (
            asked_at is not None
            and self._changes.now() == asked_at
            and time.monotonic() - self._looked < _SECONDS_BETWEEN_LOOKS
        )

    def version(self) -> Version:
        """Return what changes with every commit of another connection, and with nothing else."""
        if not self._counts:
            return self._dates()
        asked_at = self._changes.now()  # before SQLite is asked: what is committed meanwhile is seen the next time
        found = self._count()
        self._asked_at = asked_at
        return found

    def _count(self) -> int:
        version: int = self._versions.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _dates(self) -> tuple[int, ...]:
        """When the files changed last: who may not write the log's shared memory is told of a change every time."""
        found = []
        for path in (self._path, f"{self._path}-wal"):
            with contextlib.suppress(FileNotFoundError):
                stat = os.stat(path)  # noqa: PTH116
                found += [stat.st_mtime_ns, stat.st_size]
        return tuple(found)

    def is_replaced(self) -> bool:
        """Tell whether another file has its place, as when the index was built anew."""
        self._looked = time.monotonic()
        try:
            return self._identify() != self._identity
        except FileNotFoundError:
            return False  # what is gone is searched on as it was

    def _check_place(self) -> None:
        if self.is_replaced():
            raise IndexBusyError(f"{self.folder} was built anew at this moment. Do it again.")

    def _identify(self) -> tuple[int, ...]:
        return self._identity_of(os.stat(self._path))  # noqa: PTH116  # asked for every search: a Path takes longer

    def _identity_of(self, found: os.stat_result) -> tuple[int, ...]:
        """What the file is, and where it is taken for one that nobody changes, as of when."""
        return (found.st_ino, found.st_mtime_ns, found.st_size) if self._frozen else (found.st_ino,)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """See one state of the index meanwhile.

        Raises:
            DamagedIndexError: The file is damaged.
        """
        with self.lock, _damage(self._path):
            self._connection.execute("BEGIN")
            try:
                self._connection.execute("SELECT 1 FROM settings LIMIT 1").fetchone()  # from here on it stays
                yield
            finally:
                self._connection.execute("COMMIT")
                self._asked_at = None  # what SQLite said within is of when this began

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writing]:
        """Change the index: all of it happens, or nothing.

        Yields:
            What changes it.

        Raises:
            IndexBusyError: Another process is changing it.
            StorageError: The disk is full, or the folder cannot be written.
        """
        with self.lock, _storage_errors(self.folder):
            try:
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                raise IndexBusyError(f"Another process is changing {self.folder}. Wait for it.") from error
            finally:
                self._connection.execute("PRAGMA busy_timeout = 5000")
            try:
                self._check_place()
                with ChangeCount.raised(self.folder):
                    if self._is_older():
                        _migrate(self._connection)
                    yield Writing(self._connection)
                    self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @staticmethod
    @contextlib.contextmanager
    def replacing(folder: Path, progress: Progress = silent) -> Iterator[None]:
        """Let nobody change an index meanwhile, which another one is about to replace, and let readers look for that.

        Waits for who is changing it. What is no database that can be changed, nobody else can change either.

        Args:
            folder: The index.
            progress: How to report that it waits.
        """
        with contextlib.ExitStack() as held:
            if not _lock(folder / MANIFEST, held):
                with progress(f"waiting for who is changing {folder}", None):
                    while not _lock(folder / MANIFEST, held):
                        pass
            ChangeCount.mark(folder)
            yield

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

    def fields(self) -> dict[FieldPath, Kind]:
        """Return the paths of all fields of metadata, and the kinds of their values."""
        if self._is_older():
            return self._fields_of_documents()
        return {tuple(json.loads(path)): Kind(kinds) for path, kinds in self._rows("SELECT path, kinds FROM fields")}

    def _is_older(self) -> bool:
        return bool(self.setting("format") == _OLDER)

    def _fields_of_documents(self) -> dict[FieldPath, Kind]:
        """The fields of an index that does not list them, by looking at all documents, once a commit."""
        version = self.version()
        if self._scanned is None or self._scanned[0] != version:
            rows = self._rows("SELECT metadata FROM documents WHERE metadata IS NOT NULL")
            self._scanned = version, _kinds_of(json.loads(metadata) for (metadata,) in rows)
        found = self._scanned[1]
        # Keys that its file does not hold as paths need them are not found, and so refused.
        return {path: kinds for path, kinds in found.items() if is_plain(path)}

    def matching(self, condition: Condition, after: int) -> NDArray[np.int64]:
        """Return the numbers of documents that meet a condition and are higher than another, ascending."""
        query = f"SELECT number FROM documents WHERE number > ? AND {condition.sql} ORDER BY number"  # noqa: S608  # values are parameters
        return self._numbers(query, (after, *condition.parameters))

    def highest(self) -> int:
        """Return the highest number given so far."""
        return _highest(self._connection)

    def find(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the number of each document that there is."""
        return _find(self._connection, ids)

    def read(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return documents with texts and metadata, by id; those that there are."""
        found: dict[str, Document] = {}
        for part in _parts(ids):
            marks = ", ".join("?" * len(part))
            rows = self._rows(f"SELECT id, text, metadata FROM documents WHERE id IN ({marks})", part)  # noqa: S608  # marks only
            found.update({id_: Document(id_, text, _load(metadata)) for id_, text, metadata in rows})
        if self._is_older():
            return found
        return {id_: one._replace(metadata=decode_keys(one.metadata)) for id_, one in found.items()}

    def numbers_and_ids(self) -> Iterator[tuple[int, str]]:
        """Yield every document's number and id, by number."""
        with _damage(self._path):
            yield from self._connection.execute("SELECT number, id FROM documents ORDER BY number")

    def best_by_words(self, query: str, limit: int, condition: Condition | None = None) -> list[tuple[str, float]]:
        """Return the ids of documents that share words with a query, best by BM25 first, with their scores."""
        words = match_expression(query)
        if self._is_older() and has_unspaced(query):
            warnings.warn(
                f"{self.folder} was written by an older nestvec, which did not cut texts without spaces into words: "
                "they are not found by words until the index is changed, such as by nestvec index compact.",
                NestvecWarning,
                stacklevel=2,
            )
        if not words:
            return []
        met, parameters = ("", ()) if condition is None else (f" AND {condition.sql}", condition.parameters)
        sql = (
            "SELECT id, -bm25(words) FROM words JOIN documents ON number = words.rowid"  # noqa: S608  # values are parameters
            f" WHERE words MATCH ?{met} ORDER BY bm25(words), words.rowid LIMIT ?"
        )
        rows = self._rows(sql, (words, *parameters, limit))
        return [(id_, float(score)) for id_, score in rows]

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
        with _damage(self._path):
            return np.fromiter((row[0] for row in self._connection.execute(sql, parameters)), np.int64)

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with _damage(self._path):
            return self._connection.execute(sql, parameters).fetchall()


class Writing:
    """Changes to a manifest, within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Wrap the connection of a manifest that is in a transaction."""
        self._connection = connection

    def set(self, name: str, value: Any) -> None:
        """Keep a setting, a JSON value, in place of an older one."""
        self._connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))

    def add(self, documents: Sequence[Document]) -> NDArray[np.int64]:
        """Add documents, and return their numbers, ascending.

        Raises:
            DataError: There are documents of these ids already.
        """
        if known := _find(self._connection, [one.id for one in documents]):
            raise DataError(
                f"Ids that the index has already: {listed(sorted(known))}. Give each once, or replace them by upsert."
            )
        first = _highest(self._connection) + 1
        numbers = np.arange(first, first + len(documents), dtype=np.int64)
        rows = (
            (int(number), one.id, one.text, None if one.metadata is None else _dump(one))
            for number, one in zip(numbers, documents, strict=True)
        )
        self._connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?)", rows)
        _add_words(self._connection, zip(numbers.tolist(), (one.text for one in documents), strict=True))
        _add_fields(self._connection, _kinds_of(one.metadata for one in documents if one.metadata))
        return numbers

    def recount_fields(self) -> None:
        """Forget what no document holds any more, of fields of metadata and of kinds of their values."""
        self._connection.execute("DELETE FROM fields")
        rows = self._connection.execute("SELECT metadata FROM documents WHERE metadata IS NOT NULL")
        _add_fields(self._connection, _kinds_of(decode_keys(json.loads(metadata)) for (metadata,) in rows))

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


def _lock(path: Path, held: contextlib.ExitStack) -> bool:
    """Lock the manifest at a path until a stack is left, where there is one; False where another process has it."""
    with contextlib.suppress(sqlite3.DatabaseError, FileNotFoundError):
        before = path.stat().st_ino
        place = f"file:{quote(str(path.resolve()))}?mode=rw"
        connection = sqlite3.connect(place, uri=True, isolation_level=None, timeout=_SECONDS_OF_A_WAIT)
        try:
            connection.execute("BEGIN IMMEDIATE")
            if path.stat().st_ino != before:
                connection.close()
                return False  # what was locked is no longer there
        except sqlite3.OperationalError as error:
            connection.close()
            return "locked" not in str(error)
        except BaseException:
            connection.close()
            raise
        held.callback(connection.close)
    return True


def _highest(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'documents'").fetchone()
    return 0 if row is None else int(row[0])


def _find(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in _parts(ids):
        marks = ", ".join("?" * len(part))
        found.update(connection.execute(f"SELECT id, number FROM documents WHERE id IN ({marks})", part))  # noqa: S608  # marks only
    return found


def listed(items: Sequence[object]) -> str:
    """Return some of many items, for a message."""
    more = f" and {len(items) - _LISTED:,} more" if len(items) > _LISTED else ""
    return ", ".join(map(str, items[:_LISTED])) + more


def _add_words(connection: sqlite3.Connection, texts: Iterable[tuple[int, str | None]]) -> None:
    connection.executemany(
        "INSERT INTO words (rowid, terms) VALUES (?, ?)",
        ((number, index_terms(text)) for number, text in texts if text),
    )


def _kinds_of(metadata: Iterable[Mapping[str, Any]]) -> dict[FieldPath, Kind]:
    found: defaultdict[FieldPath, Kind] = defaultdict(lambda: Kind(0))
    for one in metadata:
        for path, kind in find_fields(one):
            found[path] |= kind
    return dict(found)


def _add_fields(connection: sqlite3.Connection, fields: Mapping[FieldPath, Kind]) -> None:
    connection.executemany(
        "INSERT INTO fields VALUES (?, ?) ON CONFLICT (path) DO UPDATE SET kinds = kinds | excluded.kinds",
        [(json.dumps(path, ensure_ascii=False), int(kinds)) for path, kinds in sorted(fields.items())],
    )


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring an older index to the format of today, within the transaction that changes it."""
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
        _add_fields(connection, _kinds_of(one for _, _, one in known))
        connection.executemany(
            "UPDATE documents SET metadata = ? WHERE number = ?",
            [(_dump(Document(id_, None, one)), number) for number, id_, one in known if one != encode_keys(one)],
        )
    connection.execute("UPDATE settings SET value = ? WHERE name = 'format'", (json.dumps(FORMAT),))


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


def _load(metadata: str | None) -> dict[str, Any] | None:
    return None if metadata is None else json.loads(metadata)


def _parts(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(items), _ROWS_AT_A_TIME):
        yield items[first : first + _ROWS_AT_A_TIME]


@contextlib.contextmanager
def _damage(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, (sqlite3.OperationalError, sqlite3.IntegrityError)) and "no such" not in str(error):
            raise
        raise DamagedIndexError(f"{path} is damaged: {error}. Build the index anew.") from error


@contextlib.contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    with storage_errors(folder):
        try:
            yield
        except sqlite3.OperationalError as error:
            if not any(text in str(error) for text in ("full", "readonly", "disk I/O", "unable to open")):
                raise
            raise StorageError(f"Cannot change {folder}: {error}. What was there before is still there.") from error
