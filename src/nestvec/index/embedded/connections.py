"""Connections to the SQLite file of an index: as many as there are threads that read it at once."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from nestvec.errors import DamagedIndexError, SearchIndexError

__all__ = ["WAIT_MS", "ConnectionPool"]

_KEPT = 16  # idle connections
_SECONDS_OF_A_WAIT = 0.5
WAIT_MS = 5000
"""For who is checkpointing."""


class ConnectionPool:
    """Connections that are used by one thread at a time each, and kept when they are given back."""

    def __init__(self, path: Path, inode: int, *, writable: bool) -> None:
        """Open the first one.

        Args:
            path: The SQLite file.
            inode: Which file it is: once another one has its place, there are no more connections than there are.
            writable: To change it; otherwise the file may be on a medium that is read-only.

        Raises:
            SearchIndexError: It cannot be opened.
            DamagedIndexError: It is no SQLite file.
        """
        self._path = path
        self._inode = inode
        self._writable = writable
        first, self.frozen = _connect(path, writable=writable)
        self._given_back = threading.Condition()
        self._idle = [first]
        self._closed = False

    @contextlib.contextmanager
    def taken(self) -> Iterator[sqlite3.Connection]:
        """Use a connection that nobody else uses meanwhile."""
        connection = self._take()
        try:
            yield connection
        finally:
            with self._given_back:
                kept = not self._closed and len(self._idle) < _KEPT
                if kept:
                    self._idle.append(connection)
                    self._given_back.notify()
            if not kept:
                connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._given_back:
            self._check_open()
            if self._idle:
                return self._idle.pop()
        another = self._open_another()
        if another is not None:
            return another
        with self._given_back:
            while not self._idle:  # of those in use one at least is kept, unless all are closed
                self._check_open()
                self._given_back.wait(_SECONDS_OF_A_WAIT)
            return self._idle.pop()

    def _check_open(self) -> None:
        if self._closed:
            raise SearchIndexError(f"{self._path.parent} was closed. Open it again: nestvec.open_index(path).")

    def _open_another(self) -> sqlite3.Connection | None:
        """One more connection to the same file; None where that has lost its place."""
        try:
            connection, _ = _connect(self._path, writable=self._writable)
            same = self._path.stat().st_ino == self._inode
        except (SearchIndexError, FileNotFoundError):
            if self._path.is_file():
                raise
            return None
        if same:
            return connection
        connection.close()
        return None

    def close(self) -> None:
        """Close the idle connections, and those in use when they are given back."""
        with self._given_back:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _connect(path: Path, *, writable: bool) -> tuple[sqlite3.Connection, bool]:
    """Open a connection.

    Args:
        path: The SQLite file.
        writable: To change it.

    Returns:
        The connection, and whether it takes the file for one that nobody changes.

    Raises:
        SearchIndexError: It cannot be opened.
        DamagedIndexError: It is no SQLite file.
    """
    place = f"file:{quote(str(path.resolve()))}"
    modes = ["mode=rw"] if writable else ["mode=ro", "immutable=1"]
    for mode in modes:
        try:
            connection = sqlite3.connect(f"{place}?{mode}", uri=True, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as error:
            if mode == modes[-1]:
                raise SearchIndexError(f"{path} cannot be opened: {error}") from error
            continue
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
            connection.execute(f"PRAGMA busy_timeout = {WAIT_MS}")
            return connection, "immutable" in mode
    raise AssertionError("unreachable")
