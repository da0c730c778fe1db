"""Vectors on disk by the digest of their text: appended to by any number of processes, read by memory map."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.encoders.protocol import Float32Vectors
from nestvec.errors import ModelError
from nestvec.files import storage_errors, write_text

__all__ = ["Found", "VectorStore", "text_key"]

_FORMAT = 1
_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("checksum", "<u4")])


class Found(NamedTuple):
    """What a store has of the texts that were asked for."""

    vectors: Float32Vectors
    """[n_texts, dim]; rows that are not there are undefined."""
    there: NDArray[np.bool_]
    """Which rows are, [n_texts]."""
    damaged: int
    """Rows that failed their checksum, and count as not there."""


def text_key(text: str) -> bytes:
    """Return the 16 bytes that stand for a text in a store."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class VectorStore:
    """Vectors of one encoder in a folder.

    `vectors.f32` holds rows of float32 and `keys.bin` one record a row: the digest of the text and a checksum of the
    vector. A row counts from the moment its record is complete, which is written after the vector; what a killed
    process leaves beyond is cut off by the next one that appends. A later row of the same text replaces an earlier one.
    """

    def __init__(self, folder: Path, dim: int, about: str = "") -> None:
        """Name a store; nothing is written before the first vectors come.

        Args:
            folder: Where it is, or will be.
            dim: Numbers in a vector.
            about: What the vectors are of, for whoever looks into the folder.

        Raises:
            ModelError: The folder holds vectors of another size, or of a newer format.
        """
        self.folder = folder
        self.dim = dim
        self.about = about
        description = self.read_description(folder)
        if description and (description["dim"] != dim or description["format"] != _FORMAT):
            raise ModelError(
                f"{folder} holds vectors of {description['dim']} dimensions in format {description['format']}, not "
                f"{dim} in format {_FORMAT}. Clear it: nestvec cache clear"
            )

    @staticmethod
    def read_description(folder: Path) -> dict[str, Any] | None:
        """Return what a folder says that it holds; None where it is no store, or its description is damaged."""
        try:
            description = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return description if isinstance(description, dict) and {"dim", "format", "about"} <= set(description) else None

    @staticmethod
    def is_store(folder: Path) -> bool:
        """Tell whether a folder holds vectors, of whatever format, and damaged or not."""
        return any((folder / name).is_file() for name in ("keys.bin", "vectors.f32"))

    @staticmethod
    def count_vectors(folder: Path) -> int:
        """Return how many vectors a folder holds, replaced ones included."""
        return _size(folder / "keys.bin") // _RECORD.itemsize

    @staticmethod
    def remove(folder: Path) -> None:
        """Remove a folder of vectors, when no process is writing to it.

        Args:
            folder: The folder.

        Raises:
            StorageError: It cannot be written.
        """
        # Out of the way first: whoever waits for the lock then makes the folder anew.
        removed = folder.with_name(f".{folder.name}.removed-{uuid.uuid4().hex[:8]}")
        with storage_errors(folder):
            with _locked(folder):
                folder.rename(removed)
            shutil.rmtree(removed)

    def mark_used(self) -> None:
        """Note that the vectors were of use, where the folder may be written."""
        with contextlib.suppress(OSError):
            os.utime(self.folder)

    def __len__(self) -> int:
        """Rows that are complete, replaced ones included."""
        return min(self.count_vectors(self.folder), _size(self.folder / "vectors.f32") // self._row_bytes)

    @property
    def _row_bytes(self) -> int:
        return 4 * self.dim

    def find(self, keys: Sequence[bytes]) -> Found:
        """Look texts up.

        Args:
            keys: Their keys, from `text_key`.

        Returns:
            The vectors that are there and whole.
        """
        found = Found(np.empty((len(keys), self.dim), np.float32), np.zeros(len(keys), np.bool_), 0)
        n_rows = len(self)
        if not (n_rows and keys):
            return found
        try:
            records = np.memmap(self.folder / "keys.bin", dtype=_RECORD, mode="r", shape=(n_rows,))
            vectors = np.memmap(self.folder / "vectors.f32", dtype="<f4", mode="r", shape=(n_rows, self.dim))
        except (FileNotFoundError, ValueError):  # removed, or shorter, since their size was asked
            return found
        rows = _latest_rows(records, np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2))
        damaged = 0
        for place in np.flatnonzero(rows >= 0):
            row = vectors[rows[place]]
            if zlib.crc32(row.tobytes()) == records["checksum"][rows[place]]:
                found.vectors[place] = row
                found.there[place] = True
            else:
                damaged += 1
        return found._replace(damaged=damaged)

    def append(self, keys: Sequence[bytes], vectors: Float32Vectors) -> None:
        """Add vectors; they are there for every process once this returns.

        Args:
            keys: Keys of the texts.
            vectors: [n_texts, dim], float32.

        Raises:
            StorageError: The disk is full, or the folder cannot be written; what was there before stays.
        """
        records = np.empty(len(keys), _RECORD)
        halves = np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2)
        records["high"], records["low"] = halves[:, 0], halves[:, 1]
        rows = np.ascontiguousarray(vectors, dtype="<f4")
        records["checksum"] = [zlib.crc32(row.tobytes()) for row in rows]
        with storage_errors(self.folder), self._writing():
            n_rows = len(self)
            _write_at(self.folder / "vectors.f32", n_rows * self._row_bytes, rows.tobytes())
            _write_at(self.folder / "keys.bin", n_rows * _RECORD.itemsize, records.tobytes())

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Let one process at a time append."""
        with _locked(self.folder):
            if self.read_description(self.folder) is None:
                description = {"format": _FORMAT, "dim": self.dim, "about": self.about}
                write_text(self.folder / "store.json", json.dumps(description, indent=2) + "\n")
            yield


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be the only process that changes a folder, which is made if missing."""
    with _take_lock(folder):
        yield


def _take_lock(folder: Path) -> IO[str]:
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if os.path.lexists(folder) and not folder.is_dir():
                raise
            continue  # it was there, and another process has removed it since
        with contextlib.suppress(FileNotFoundError):  # removed by another process since
            lock = (folder / "lock").open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if (folder / "lock").stat().st_ino == os.fstat(lock.fileno()).st_ino:
                    return lock
            lock.close()


def _latest_rows(records: Any, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Last row of each key, -1 where there is none, [n_keys]."""
    high, low = np.array(records["high"]), np.array(records["low"])
    order = np.argsort(high, kind="stable")  # rows of one key keep their order: the last is the newest
    first = np.searchsorted(high[order], keys[:, 0], side="left")
    end = np.searchsorted(high[order], keys[:, 0], side="right")
    rows = np.full(len(keys), -1, np.int64)
    for place in np.flatnonzero(end > first):
        same = order[first[place] : end[place]]
        same = same[low[same] == keys[place, 1]]
        if len(same):
            rows[place] = same[-1]
    return rows


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _write_at(path: Path, offset: int, content: bytes) -> None:
    """Write from an offset to the end of a file, over whatever a killed process left there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.ftruncate(descriptor, offset)
        view = memoryview(content)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
    finally:
        os.close(descriptor)
