"""How often an index was changed: a number in a file, which tells a reader in no time that nothing has happened."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["ChangeCount"]

_FILE = "changes"
_BYTES = 8


class ChangeCount:
    """The number, as a reader sees it.

    Every change makes it odd before it begins, and even and higher after it has ended. As long as it is even and the
    same, nothing was committed. While it is odd SQLite must be asked, also after a change that was killed, until the
    next one. SQLite alone would do, but takes as long to answer as a tenth of a search.
    """

    def __init__(self, folder: Path) -> None:
        """Map the file of an index; without one, which an older or a copied index may lack, SQLite is always asked."""
        self._mapped: mmap.mmap | None = None
        with suppress(OSError, ValueError), (folder / _FILE).open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), _BYTES, access=mmap.ACCESS_READ)

    def now(self) -> bytes | None:
        """Return the number as it is stored, or None where it says nothing."""
        if self._mapped is None:
            return None
        found = self._mapped[:]
        return None if found[0] & 1 else found

    def close(self) -> None:
        """Give the file back."""
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None

    @staticmethod
    def create(folder: Path) -> None:
        """Write the file of a new index."""
        (folder / _FILE).write_bytes(bytes(_BYTES))

    @staticmethod
    def mark(folder: Path) -> None:
        """Make the number odd for good, for an index that another one is about to replace."""
        with suppress(FileNotFoundError):
            _write(folder, _read(folder) | 1)

    @staticmethod
    @contextmanager
    def raised(folder: Path) -> Iterator[None]:
        """Keep the number odd meanwhile, and raise it at the end; only who holds the lock of the manifest may."""
        try:
            before = _read(folder) | 1
        except FileNotFoundError:
            ChangeCount.create(folder)
            before = 1
        _write(folder, before)
        try:
            yield
        finally:
            _write(folder, before + 1)


def _read(folder: Path) -> int:
    return int.from_bytes((folder / _FILE).read_bytes(), "little")


def _write(folder: Path, number: int) -> None:
    # In place and at once: those who have mapped the file see the old number or the new one.
    file = os.open(folder / _FILE, os.O_WRONLY)
    try:
        os.pwrite(file, number.to_bytes(_BYTES, "little"), 0)
    finally:
        os.close(file)
