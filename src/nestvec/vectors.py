"""What a vector is cut and compared with: numpy and torch alike, torch never imported here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nestvec.errors import DimensionError, VectorError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Vectors = TypeVar("Vectors", NDArray[np.floating[Any]], torch.Tensor)
else:
    Vectors = TypeVar("Vectors")

__all__ = [
    "check_dims",
    "cosine",
    "default_dims",
    "find_unusable",
    "hash_factors",
    "hash_rows",
    "normalize",
    "truncate",
    "unit_float32",
]

_SMALLEST_DEFAULT_DIM = 32
_ROUNDING = 4  # units in the last place by which the squared length of a unit vector may be off
_SMALLEST, _LARGEST = 1e-280, 1e280  # of a square that float64 holds with all its digits


def truncate(vectors: Vectors, dim: int) -> Vectors:
    """Keep the first `dim` dimensions of each vector and restore unit length.

    Without the second step cosine and dot product disagree on the result.

    Args:
        vectors: [..., full_dim], floating point. Need not be unit length.
        dim: Dimensions to keep, 1 <= dim <= full_dim.

    Returns:
        [..., dim], same type and dtype. A zero prefix stays zero.

    Raises:
        DimensionError: `dim` is outside 1..full_dim.
        VectorError: `vectors` is not a floating-point array or tensor.

    Source:
        Kusupati et al. 2022, arXiv:2205.13147.

    Example:
        >>> truncate(np.array([[3.0, 4.0, 12.0]]), dim=2)
        array([[0.6, 0.8]])
    """
    _require_floating(vectors)
    full_dim = vectors.shape[-1]
    if not 1 <= dim <= full_dim:
        raise DimensionError(
            f"Cannot keep {dim} dimensions of vectors that have {full_dim}. Choose a dim from 1 to {full_dim}."
        )
    return normalize(vectors[..., :dim])


def normalize(vectors: Vectors) -> Vectors:
    """Scale each vector to unit length.

    Args:
        vectors: [..., dim], floating point.

    Returns:
        [..., dim], same type and dtype. A zero vector stays zero, and so does its gradient; an array of unit length
        is returned bit for bit, but for half precision.

    Raises:
        VectorError: `vectors` is not a floating-point array or tensor.

    Example:
        >>> normalize(np.array([[0.0, 2.0], [0.0, 0.0]]))
        array([[0., 1.],
               [0., 0.]])
    """
    _require_floating(vectors)
    if isinstance(vectors, np.ndarray):
        if vectors.dtype.itemsize > 8:  # extended precision
            return _normalize_wide(vectors)
        # Squares are summed in float64: those of a tiny float32 vector, or of a large float16 one, do not fit.
        squares = np.einsum("...i,...i->...", vectors, vectors, dtype=np.float64)[..., None]  # [..., 1]
        if vectors.dtype.itemsize > 4 and squares.size and not (_SMALLEST < squares.min() <= squares.max() < _LARGEST):
            return _normalize_wide(vectors)
        lengths = np.sqrt(squares)
        # What is of unit length up to rounding stays bit for bit, however often it is normalised.
        lengths[lengths == 0.0] = 1.0
        if vectors.dtype.itemsize > 2:  # half precision rounds by more than a length may be off
            lengths[np.abs(squares - 1.0) <= _ROUNDING * np.finfo(vectors.dtype).eps] = 1.0
        scaled: Vectors = np.divide(vectors, lengths, out=np.empty_like(vectors), casting="same_kind")
        return scaled
    # Half precision cannot hold the length of a large vector, nor float32 that of a huge one; dividing by infinity
    # keeps a zero vector, and its gradient, at zero.
    wide = vectors if vectors.dtype.itemsize >= 4 else vectors.float()
    float64 = vectors.new_empty(0).double().dtype  # torch.float64, without importing torch
    norms: torch.Tensor = wide.norm(dim=-1, keepdim=True, dtype=float64)  # [..., 1]
    if not norms.to(wide.dtype).isfinite().all():
        wide = vectors.double()
    return (wide / norms.masked_fill(norms == 0, float("inf")).to(wide.dtype)).to(vectors.dtype)


def _normalize_wide(vectors: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The same for numpy's float64 vectors, some of whose squares no float64 holds: each is scaled by its largest."""
    peaks = np.abs(vectors).max(axis=-1, keepdims=True, initial=0.0)  # [..., 1]
    usable = np.isfinite(peaks) & (peaks > 0)
    scaled = np.divide(vectors, peaks, out=np.array(vectors, copy=True), where=usable)
    lengths = np.sqrt(np.einsum("...i,...i->...", scaled, scaled))[..., None]
    found: NDArray[np.floating[Any]] = np.divide(scaled, lengths, out=scaled, where=usable)
    return found


def unit_float32(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return vectors of any precision at unit length in float32: a direction that float64 holds, float32 holds.

    Args:
        vectors: [..., dim], floating point.

    Returns:
        [..., dim], float32. A zero vector stays zero.

    Raises:
        VectorError: `vectors` is not a floating-point array.

    Example:
        >>> unit_float32(np.array([[3e60, 4e60]]))
        array([[0.6, 0.8]], dtype=float32)
    """
    wide = vectors.dtype.itemsize > 4 if np.issubdtype(vectors.dtype, np.floating) else False
    return np.asarray(normalize(vectors if wide else vectors.astype(np.float32, copy=False)), np.float32)


def find_unusable(vectors: NDArray[np.floating[Any]]) -> dict[str, NDArray[np.int64]]:
    """Find rows that have no direction.

    Args:
        vectors: [n, dim], floating point.

    Returns:
        Rows that are `not finite` and rows that are `zero`, in rising order.
    """
    finite = np.isfinite(vectors).all(axis=1)
    return {
        "not finite": np.flatnonzero(~finite),
        "zero": np.flatnonzero(finite & ~vectors.any(axis=1)),
    }


def hash_factors(dim: int, seed: int = 0) -> NDArray[np.uint64]:
    """Return what `hash_rows` multiplies each of so many dimensions with, [dim]."""
    factors: NDArray[np.uint64] = np.random.default_rng(seed).integers(0, 2**64, size=dim, dtype=np.uint64)
    factors |= np.uint64(1)
    return factors


def hash_rows(vectors: NDArray[np.float32], factors: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash each row by its values.

    Args:
        vectors: [n, dim], float32, or some columns of them.
        factors: Of these columns, [dim], from `hash_factors`.

    Returns:
        A number for each row, the same for rows that hold the same, [n]; sums over columns hash the whole row.
    """
    bits = (vectors + np.float32(0)).view(np.uint32)  # adding 0 turns -0 into 0
    mixed = (bits ^ (bits >> 15)).astype(np.uint64) * factors
    hashes: NDArray[np.uint64] = (mixed ^ (mixed >> np.uint64(29))).sum(axis=1, dtype=np.uint64)
    return hashes


def cosine(queries: Vectors, documents: Vectors) -> Vectors:
    """Cosine similarity of every query with every document.

    Args:
        queries: [n_queries, dim], floating point.
        documents: [n_documents, dim], same type and dtype.

    Returns:
        [n_queries, n_documents], from -1 to 1; 0 where either vector is zero.

    Raises:
        DimensionError: The two have vectors of different sizes.
        VectorError: Either is not a floating-point array or tensor.

    Example:
        >>> cosine(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 5.0]]))
        array([[1., 0.]])
    """
    _require_floating(queries)
    _require_floating(documents)
    if queries.shape[-1] != documents.shape[-1]:
        raise DimensionError(
            f"Queries have {queries.shape[-1]} dimensions and documents {documents.shape[-1]}. "
            "Truncate both to the same dim."
        )
    similarities: Vectors = normalize(queries) @ normalize(documents).T
    return similarities.clip(-1, 1)  # rounding may leave it a little outside


def check_dims(dims: Sequence[int], full_dim: int | None = None) -> tuple[int, ...]:
    """Check a list of nested sizes.

    Args:
        dims: Sizes in strictly rising or strictly falling order, each at least 1.
        full_dim: Size of the full vector; None where it is not known yet.

    Returns:
        The same sizes, in the same order, as a tuple of ints.

    Raises:
        DimensionError: No dims, one that is not a whole number or outside 1..full_dim, a repeated one, or
            dims out of order.

    Example:
        >>> check_dims([384, 64], full_dim=384)
        (384, 64)
    """
    checked = tuple(dims)
    if not checked:
        raise DimensionError("No dims given. Give at least one, such as 64.")
    for dim in checked:
        if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)) or dim < 1:
            raise DimensionError(f"A dim is {dim!r}. Dims are whole numbers from 1.")
        if full_dim is not None and dim > full_dim:
            raise DimensionError(f"Dim {dim} is larger than the vectors, which have {full_dim}. Leave it out.")
    if len(set(checked)) < len(checked):
        raise DimensionError(f"Dims {list(checked)} name a size twice. Name each size once.")
    if list(checked) not in (sorted(checked), sorted(checked, reverse=True)):
        in_order = sorted(checked, reverse=True)
        raise DimensionError(f"Dims {list(checked)} are out of order. Write them as {in_order}.")
    return tuple(int(dim) for dim in checked)


def default_dims(full_dim: int) -> tuple[int, ...]:
    """Return the full size and the powers of two below it, down to 32.

    Args:
        full_dim: Dimensions of a full vector.

    Returns:
        Sizes, largest first.

    Example:
        >>> default_dims(384)
        (384, 256, 128, 64, 32)
    """
    powers = [2**exponent for exponent in range(full_dim.bit_length(), 0, -1)]
    return (full_dim, *(power for power in powers if _SMALLEST_DEFAULT_DIM <= power < full_dim))


def _require_floating(vectors: Any) -> None:
    is_floating = (
        np.issubdtype(vectors.dtype, np.floating)
        if isinstance(vectors, np.ndarray)
        else hasattr(vectors, "is_floating_point") and vectors.is_floating_point()
    )
    if not is_floating:
        kind = getattr(vectors, "dtype", type(vectors).__name__)
        raise VectorError(f"Vectors are {kind}. Give a floating-point numpy array or torch tensor.")
    if vectors.ndim == 0:
        raise VectorError("Vectors have no dimension: got a single number. Give an array of shape [..., dim].")
