"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nestvec.errors import NestvecError, StorageError

__all__ = ["atomic_folder", "atomic_path", "require_free_space", "storage_errors", "write_text"]

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
    partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            _sync(partial)
            partial.replace(path)
            _sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name and give it its own name once it is complete and on disk.

    An older folder of that name stays until the new one is complete, and is then moved aside and removed.

    Args:
        path: Final path; its parent is made if missing.

    Yields:
        The temporary folder to fill, beside the final one. It is removed if anything fails.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    tag = uuid.uuid4().hex[:8]
    partial = path.with_name(f".{path.name}.partial-{tag}")
    replaced = path.with_name(f".{path.name}.replaced-{tag}")
    with storage_errors(path):
        try:
            partial.mkdir(parents=True)
            yield partial
            for file in sorted(partial.rglob("*")):
                _sync(file)
            if path.exists():
                path.replace(replaced)
            partial.replace(path)
            _sync(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)


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


def _storage_message(cause: str, path: Path) -> str:
    return f"{cause} while writing {path}. Nothing was left under that name; free space or choose another place."


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
