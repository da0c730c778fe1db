"""Codes and what decodes them, in one safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from nestvec.errors import SourceNotFoundError, VectorError
from nestvec.files import atomic_path
from nestvec.quantization.fitting import QUANTIZERS
from nestvec.quantization.quantizer import Codes, Quantizer

__all__ = ["StoredCodes", "load_codes", "save_codes"]

_FORMAT = "nestvec codes 1"


class StoredCodes(NamedTuple):
    """What a file of codes holds."""

    quantizer: Quantizer
    codes: Codes
    """[n, width]."""


def save_codes(path: str | Path, quantizer: Quantizer, codes: Codes) -> None:
    """Write codes with the quantizer that made them, atomically.

    Args:
        path: File to write, by custom `.safetensors`; an older one is replaced.
        quantizer: What made the codes.
        codes: [n, width]; they may have been cut.

    Raises:
        VectorError: The codes are not of this quantizer's type.
        DimensionError: They have no column.
        StorageError: The disk is full, or the folder cannot be written.
    """
    quantizer.cut(codes, 1)  # checks their type
    metadata = {"format": _FORMAT, "precision": quantizer.precision, "full_dim": str(quantizer.full_dim)}
    with atomic_path(Path(path)) as partial:
        # safetensors writes the bytes of an array as they lie in memory
        arrays = {name: np.ascontiguousarray(array) for name, array in {"codes": codes, **quantizer.arrays()}.items()}
        safetensors.numpy.save_file(arrays, partial, metadata=metadata)


def load_codes(path: str | Path) -> StoredCodes:
    """Read codes and their quantizer.

    Args:
        path: A file of `save_codes`.

    Returns:
        Both.

    Raises:
        SourceNotFoundError: There is no such file.
        VectorError: It is damaged, of another kind, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceNotFoundError(f"There is no file of codes {path}.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except safetensors.SafetensorError as error:
        raise VectorError(f"{path} is damaged or no safetensors file: {error}. Write it again.") from error
    if metadata.get("format") != _FORMAT or metadata.get("precision") not in QUANTIZERS or "codes" not in arrays:
        found = metadata.get("format", "no format")
        raise VectorError(f"{path} holds no codes that this version reads: it says {found!r}, not {_FORMAT!r}.")
    codes = arrays.pop("codes")
    try:
        quantizer = QUANTIZERS[metadata["precision"]](metadata["precision"], int(metadata["full_dim"]), **arrays)
        quantizer.cut(codes, 1)  # checks their type
    except (KeyError, TypeError, ValueError) as error:
        raise VectorError(f"{path} lacks a part of what codes need, or has another: {error}") from error
    if any(array.shape[0] != quantizer.full_dim for array in arrays.values()):
        raise VectorError(f"{path} says {quantizer.full_dim} numbers, and its arrays have others.")
    return StoredCodes(quantizer, codes)
