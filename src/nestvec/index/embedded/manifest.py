"""The SQLite file of an index: one state for as many readers as there are, changed in transactions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nestvec.errors import DamagedIndexError, IndexBusyError, SearchIndexError, StorageError
from nestvec.files import storage_errors
from nestvec.index.embedded.change_count import ChangeCount
from nestvec.index.embedded.connections import WAIT_MS, ConnectionPool
from nestvec.index.embedded.filter_cache import FilterCache
from nestvec.index.embedded.view import FORMAT, OLDEST_FORMAT, Version, View, damage_named
from nestvec.index.embedded.writing import Writing, create_schema, migrate
from nestvec.index.fields import Fields
from nestvec.progress import Progress, silent

__all__ = ["MANIFEST", "Manifest"]

MANIFEST = "manifest.sqlite"
_SECONDS_OF_A_WAIT = 0.5  # in which an interrupt is not noticed


class Manifest:
    """The SQLite file of an index, which any number of threads and processes may read while one changes it."""

    def __init__(self, folder: Path, *, writable: bool = False) -> None:
        """Open it.

        Args:
            folder: The index.
            writable: To change it; otherwise the file may be on a medium that is read-only.

        Raises:
            SearchIndexError: There is none, it is damaged, or of another format.
        """
        self.folder = folder
        self._path = folder / MANIFEST
        if not self._path.is_file():
            raise SearchIndexError(
                f"{folder} is no index: it has no {MANIFEST}. Make one: nestvec index build {folder}"
            )
        # Looked at before it is opened: where another one takes its place in between, that is noticed.
        found_at = self._path.stat()
        self._connections = ConnectionPool(self._path, found_at.st_ino, writable=writable)
        self._identity = self._identity_of(found_at)
        self._closing = weakref.finalize(self, self._connections.close)
        self._fields: dict[Version, Fields] = {}
        self.filters = FilterCache()
        self.changes = ChangeCount(folder)
        try:
            with self.reading() as view:
                found = view.setting("format")
        except (sqlite3.DatabaseError, DamagedIndexError) as error:
            self.close()
            raise DamagedIndexError(f"{self._path} is damaged, or no manifest of an index: {error}") from error
        if not (isinstance(found, int) and OLDEST_FORMAT <= found <= FORMAT):
            self.close()
            raise SearchIndexError(
                f"{folder} is an index of format {found}, and this nestvec reads {OLDEST_FORMAT} to {FORMAT}. "
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
            create_schema(connection, settings)
        ChangeCount.create(folder)
        return Manifest(folder, writable=True)

    def close(self) -> None:
        """Close the file; a thread that is reading ends first."""
        self._closing()  # and not again once nothing refers to it, where an interrupt would be lost

    def is_replaced(self) -> bool:
        """Tell whether another file has its place, as when the index was built anew."""
        try:
            return self._identity_of(os.stat(self._path)) != self._identity  # noqa: PTH116  # a Path takes longer
        except FileNotFoundError:
            return False  # what is gone is searched on as it was

    def _check_place(self) -> None:
        if self.is_replaced():
            raise IndexBusyError(f"{self.folder} was built anew at this moment. Do it again.")

    def _identity_of(self, found: os.stat_result) -> tuple[int, ...]:
        """What the file is, and where it is taken for one that nobody changes, as of when."""
        if self._connections.frozen:
            return (found.st_ino, found.st_mtime_ns, found.st_size)
        return (found.st_ino,)

    def _view(self, connection: sqlite3.Connection) -> View:
        count: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return View(connection, self._path, (*self._identity, count), self._fields)

    @contextlib.contextmanager
    def reading(self) -> Iterator[View]:
        """See one state of the index, while others read and change it.

        Raises:
            DamagedIndexError: The file is damaged.
        """
        with self._connections.taken() as connection, damage_named(self._path):
            connection.execute("BEGIN")
            try:
                connection.execute("SELECT 1 FROM settings LIMIT 1").fetchone()  # from here on it stays
                yield self._view(connection)
            finally:
                connection.execute("COMMIT")

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writing]:
        """Change the index: all of it happens, or nothing.

        Yields:
            What changes it.

        Raises:
            IndexBusyError: Another process is changing it.
            StorageError: The disk is full, or the folder cannot be written.
        """
        with _storage_errors(self.folder), self._connections.taken() as connection:
            try:
                connection.execute("PRAGMA busy_timeout = 0")
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                raise IndexBusyError(f"Another process is changing {self.folder}. Wait for it.") from error
            finally:
                connection.execute(f"PRAGMA busy_timeout = {WAIT_MS}")
            try:
                self._check_place()
                with ChangeCount.raised(self.folder):
                    before = self._view(connection)
                    if before.format < FORMAT:
                        migrate(connection, before)
                    yield Writing(connection, self._path, before.version, self._fields)
                    connection.execute(f"PRAGMA user_version = {before.version[-1] + 1}")  # part of the transaction
                    connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
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


@contextlib.contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    with storage_errors(folder):
        try:
            yield
        except sqlite3.OperationalError as error:
            if not any(text in str(error) for text in ("full", "readonly", "disk I/O", "unable to open")):
                raise
            raise StorageError(f"Cannot change {folder}: {error}. What was there before is still there.") from error
