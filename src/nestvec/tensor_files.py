"""Arrays, and what they mean, in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from nestvec.errors import SourceNotFoundError, VectorError
from nestvec.files import atomic_path

__all__ = ["TensorFile", "read_tensors", "write_tensors"]

Arrays = dict[str, NDArray[Any]]


class TensorFile(NamedTuple):
    """What a file holds."""

    metadata: dict[str, str]
    arrays: Arrays


def write_tensors(path: str | Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write arrays, atomically.

    Args:
        path: File to write; an older one is replaced.
        arrays: By name.
        metadata: What they mean; `format` says of which kind the file is.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    with atomic_path(Path(path)) as partial:
        # safetensors writes the bytes of an array as they lie in memory
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        partial.touch()
        mode = partial.stat().st_mode
        safetensors.numpy.save_file(contiguous, partial, metadata=dict(metadata))
        partial.chmod(mode)  # safetensors lets the owner alone read what it writes


def read_tensors(path: str | Path, wanted: str, what: str, *, error: type[Exception] = VectorError) -> TensorFile:
    """Read arrays.

    Args:
        path: A file of `write_tensors`.
        wanted: The format that the file must say.
        what: What such a file holds, for messages.
        error: What to raise about a file that cannot be used.

    Returns:
        Metadata and arrays.

    Raises:
        SourceNotFoundError: There is no such file.
        VectorError: Or `error`: it is damaged, of another kind, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceNotFoundError(f"There is no file of {what} {path}.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except safetensors.SafetensorError as cause:
        raise error(f"{path} is damaged or no safetensors file: {cause}. Make it again.") from cause
    if metadata.get("format") != wanted:
        found = metadata.get("format", "no format")
        raise error(f"{path} holds no {what} that this version reads: it says {found!r}, not {wanted!r}.")
    return TensorFile(metadata, arrays)
