"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nestvec.errors import NestvecError, OutputExistsError, StorageError

__all__ = [
    "DEEPEST",
    "append",
    "atomic_folder",
    "atomic_path",
    "exclusive",
    "is_unicode",
    "move_into_place",
    "remove_leftovers",
    "require_free_space",
    "storage_errors",
    "sync",
    "write_text",
]

_STORAGE_ERRNOS = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk quota is used up",
    errno.EFBIG: "The file grew past the size limit of this process",
    errno.EROFS: "The file system is read-only",
    errno.EACCES: "The folder cannot be written",
    errno.EPERM: "The folder cannot be written",
    errno.ENOTDIR: "A file stands where a folder is needed",
    errno.EEXIST: "A file stands where a folder is needed",
    errno.EIO: "The disk reported an input/output error",
}
# safetensors and torch.save report a failed write as an error of their own, with the cause only in its text.
_STORAGE_TEXTS = ("No space left", "File too large", "os error 28", "os error 27", "PytorchStreamWriter failed")
_BYTES_AT_A_TIME = 1 << 20
DEEPEST = 100
"""How deep JSON values may be nested that are stored."""
_SURROGATES = re.compile("[\ud800-\udfff]")


def is_unicode(text: str) -> bool:
    """Tell whether a file can hold a text: JSON may have half a surrogate pair, which UTF-8 has no bytes for."""
    return text.isascii() or not _SURROGATES.search(text)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what a full or unwritable disk raises into one clear error.

    Args:
        path: The file or folder being written, named in the message.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    try:
        yield
    except NestvecError:
        raise
    except OSError as error:
        cause = _STORAGE_ERRNOS.get(error.errno or 0)
        if cause is None:
            raise
        raise StorageError(_storage_message(cause, path)) from error
    except Exception as error:
        if not any(text in str(error) for text in _STORAGE_TEXTS):
            raise
        raise StorageError(_storage_message("The disk is full", path)) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name and give it its own name once it is complete and on disk.

    Args:
        path: Final path; its folder is made if missing, an older file is replaced in one step.

    Yields:
        The temporary path to write to, in the same folder. It is removed if anything fails.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    path = path.resolve()
    partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            move_into_place(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name and give it its own name once it is complete and on disk.

    An older folder of that name stays until the new one is complete.

    Args:
        path: Final path; its parent is made if missing.

    Yields:
        The temporary folder to fill, beside the final one. It is removed if anything fails.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    path = path.resolve()
    partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")
    with storage_errors(path):
        try:
            partial.mkdir(parents=True)
            with _held(partial):
                yield partial
                move_into_place(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def move_into_place(source: Path, target: Path) -> None:
    """Flush a finished file or folder to disk and give it its final name, in place of what has it.

    Two renames replace a folder. What a kill between them leaves is put right by `remove_leftovers`.

    Args:
        source: What is finished, on the same file system.
        target: Its final name.

    Raises:
        StorageError: The disk is full, or the folder cannot be written; the older content is still there.
    """
    with storage_errors(target):
        sync(source)
        if not target.is_dir():
            source.replace(target)
        else:
            replaced = target.with_name(f".{target.name}.replaced-{uuid.uuid4().hex[:8]}")
            target.replace(replaced)
            try:
                source.replace(target)
            except OSError:
                replaced.replace(target)
                raise
            shutil.rmtree(replaced, ignore_errors=True)
        _sync_one(target.parent)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what a killed process left half written, and put back what it had moved aside.

    A folder that a process is filling at the moment stays.

    Args:
        folder: Where results are written; may be missing.
        name: Of the one result in it to look at; None looks at all.

    Raises:
        StorageError: The folder cannot be written.
    """
    result = "*" if name is None else glob.escape(name)
    with storage_errors(folder):
        for replaced in folder.glob(f".{result}.replaced-????????"):
            original = folder / replaced.name.removeprefix(".").rpartition(".replaced-")[0]
            if original.exists():
                shutil.rmtree(replaced)
            else:
                replaced.replace(original)
        for partial in folder.glob(f".{result}.partial-????????"):
            if partial.is_dir():
                with contextlib.suppress(BlockingIOError), _held(partial):
                    shutil.rmtree(partial)
            else:
                partial.unlink()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder until it ends; another holder is a BlockingIOError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes from writing results into the same folder.

    Args:
        folder: Made if missing.

    Raises:
        OutputExistsError: Another process is at work there.
        StorageError: The folder cannot be written.
    """
    lock = folder / ".lock"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A holder that ends between our opening and locking removes the file: we would lock what nobody sees.
            held = lock.exists() and lock.stat().st_ino == os.fstat(file.fileno()).st_ino
        except BlockingIOError:
            held = False
        if not held:
            raise OutputExistsError(f"Another process is writing to {folder}. Wait for it, or choose another --out.")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8.

    Args:
        path: Final path.
        text: The whole content.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def require_free_space(folder: Path, needed_bytes: int) -> None:
    """Stop before long work whose result could not be stored.

    Args:
        folder: Where the result goes; made if missing.
        needed_bytes: What the result and its checkpoints take, in bytes.

    Raises:
        StorageError: Less than that is free, or the folder cannot be written.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{uuid.uuid4().hex[:8]}"
        probe.touch()
        probe.unlink()
        free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise StorageError(
            f"{folder} has {free_bytes / 1e6:,.0f} MB free and this run needs about {needed_bytes / 1e6:,.0f} MB "
            "for checkpoints and the model. Free some space or choose another --out."
        )


def append(file: IO[bytes], temporary: IO[bytes]) -> None:
    """Write all that a temporary file holds behind what another one holds."""
    temporary.seek(0)
    shutil.copyfileobj(temporary, file, _BYTES_AT_A_TIME)


def sync(path: Path) -> None:
    """Flush a file, or a folder with all it holds, to disk.

    Args:
        path: A file or folder.
    """
    if path.is_dir():
        for inner in path.rglob("*"):
            _sync_one(inner)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _storage_message(cause: str, path: Path) -> str:
    return f"{cause} while writing {path}. Nothing is left there half written; free space or choose another place."
