"""Vectors in files of other tools: npy, npz, Parquet, Arrow."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import SourceNotFoundError, VectorError
from nestvec.extras import require

__all__ = ["read_integers", "read_numbers", "read_vectors"]

Vectors = NDArray[np.floating[Any]]

_FORMATS = ".npy, .npz, .parquet, .arrow or .feather"


def read_vectors(source: str | Path) -> Vectors:
    """Read vectors from a file.

    Args:
        source: `.npy` (memory-mapped), `.npz`, `.parquet`, `.arrow` or `.feather` (IPC file or stream). Where a file
            has more than one array or more than one column of vectors, its name follows a colon: `docs.parquet:vector`.

    Returns:
        [n, dim], floating point, as it is in the file.

    Raises:
        SourceNotFoundError: There is no such file.
        VectorError: It cannot be read, holds no vectors, or which of several is meant is not said.
        MissingExtraError: pyarrow is not installed.
    """
    vectors: Vectors = _read(source)
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise VectorError(f"{source} holds {vectors.dtype} {list(vectors.shape)}, not floating-point vectors [n, dim].")
    return vectors


def read_integers(path: str | Path) -> NDArray[np.int64]:
    """Read whole numbers, such as which rows belong together, from an npy file.

    Args:
        path: `.npy`.

    Returns:
        The array, of any shape.

    Raises:
        SourceNotFoundError: There is no such file.
        VectorError: It is no npy file, or holds other numbers.
    """
    found = read_numbers(path)
    if not np.issubdtype(found.dtype, np.integer):
        raise VectorError(f"{path} holds {found.dtype} {list(found.shape)}, not whole numbers.")
    return found.astype(np.int64)


def read_numbers(path: str | Path) -> NDArray[Any]:
    """Read numbers of any kind, such as scores, from an npy file.

    Args:
        path: `.npy`.

    Returns:
        The array, of any shape.

    Raises:
        SourceNotFoundError: There is no such file.
        VectorError: It is no npy file, or holds no numbers.
    """
    found = _read_npy(_existing(Path(path)))
    if not np.issubdtype(found.dtype, np.number):
        raise VectorError(f"{path} holds {found.dtype} {list(found.shape)}, not numbers.")
    return found


def _read(source: str | Path) -> Any:
    path, name = Path(source).expanduser(), None
    if not path.exists() and ":" in path.name:
        text, _, name = str(path).rpartition(":")
        path = Path(text)
    suffix = _existing(path).suffix.lower()
    if suffix == ".npy" and name is None:
        return _read_npy(path)
    if suffix == ".npz":
        return _read_npz(path, name)
    if suffix in {".parquet", ".arrow", ".feather"}:
        return _read_table(path, name)
    raise VectorError(f"{source} is in no format that holds vectors. Give {_FORMATS}.")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise SourceNotFoundError(f"There is no file of vectors {path}.")
    return path


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise VectorError(f"{path} is no readable npy file: {error}") from error
    return found


def _read_npz(path: Path, name: str | None) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found: NDArray[Any] = arrays[_choose(path, "arrays", list(arrays.files), name)]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, VectorError):
            raise
        raise VectorError(f"{path} is no readable npz file: {error}") from error
    return found


def _read_table(path: Path, name: str | None) -> NDArray[Any]:
    pyarrow = require("pyarrow", extra="train")
    try:
        if path.suffix.lower() == ".parquet":
            parquet = require("pyarrow.parquet", extra="train")
            name = _choose(path, "columns of vectors", _list_columns(parquet.read_schema(path)), name)
            column = parquet.read_table(path, columns=[name]).column(name)
        else:
            with pyarrow.memory_map(str(path)) as file:
                table = _open_arrow(file).read_all()
            name = _choose(path, "columns of vectors", _list_columns(table.schema), name)
            column = table.column(name)
        return _column_to_array(column, f"{path}:{name}")
    except (OSError, pyarrow.ArrowException) as error:
        raise VectorError(f"{path} cannot be read: {error}") from error


def _open_arrow(file: Any) -> Any:
    pyarrow, ipc = require("pyarrow", extra="train"), require("pyarrow.ipc", extra="train")
    try:
        return ipc.open_file(file)
    except pyarrow.ArrowInvalid:  # as `datasets` writes it: a stream
        file.seek(0)
        return ipc.open_stream(file)


def _list_columns(schema: Any) -> list[str]:
    types = require("pyarrow", extra="train").types

    def is_vector(kind: Any) -> bool:
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(is_list and types.is_floating(kind.value_type))

    return [field.name for field in schema if is_vector(field.type)]


def _column_to_array(column: Any, source: str) -> NDArray[Any]:
    if column.null_count:
        raise VectorError(f"{column.null_count} of {len(column)} rows of {source} have no vector.")
    lengths = require("pyarrow.compute", extra="train").list_value_length(column).unique().to_pylist()
    if not lengths:
        raise VectorError(f"{source} has no rows.")
    if len(lengths) != 1:
        raise VectorError(f"{source} has vectors of {len(lengths)} different lengths. They must be of one model.")
    numbers: NDArray[Any] = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    return numbers.reshape(len(column), lengths[0])


def _choose(path: Path, what: str, names: list[str], wanted: str | None) -> str:
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted in names and wanted is not None:
        return wanted
    if not names:
        raise VectorError(f"{path} has no {what}.")
    missing = "says not which" if wanted is None else f"has none called {wanted!r}"
    raise VectorError(f"{path} {missing}: its {what} are {', '.join(names)}. Write {path}:{names[0]}.")
