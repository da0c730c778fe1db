"""Codes and what decodes them, in one safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from nestvec.errors import VectorError
from nestvec.quantization.fitting import quantizer_class
from nestvec.quantization.precisions import check_precision
from nestvec.quantization.quantizer import Codes, Quantizer
from nestvec.quantization.rotations import RotatedQuantizer
from nestvec.tensor_files import read_tensors, write_tensors

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
    quantizer.check_codes(codes)
    metadata = {"format": _FORMAT, "precision": quantizer.precision, "full_dim": str(quantizer.full_dim)}
    write_tensors(path, {"codes": codes, **quantizer.arrays()}, metadata)


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
    metadata, arrays = read_tensors(path, _FORMAT, "codes")
    codes, rotation = arrays.pop("codes", None), arrays.pop("rotation", None)
    if codes is None:
        raise VectorError(f"{path} holds no codes.")
    try:
        precision, full_dim = check_precision(metadata["precision"]), int(metadata["full_dim"])
        quantizer: Quantizer = quantizer_class(precision).from_arrays(precision, full_dim, arrays)
        quantizer.check_codes(codes)
        if rotation is not None:
            quantizer = RotatedQuantizer(precision, full_dim, quantizer, rotation)
    except (KeyError, TypeError, ValueError) as error:
        raise VectorError(f"{path} holds no codes that this version reads: {error}") from error
    return StoredCodes(quantizer, codes)
