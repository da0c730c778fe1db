"""From the name of a precision to its quantizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import PrecisionError
from nestvec.quantization.binary import BinaryQuantizer
from nestvec.quantization.floats import FloatQuantizer
from nestvec.quantization.precisions import check_precision, product_code
from nestvec.quantization.product import ProductQuantizer
from nestvec.quantization.quantizer import Float32s, Quantizer, check_vectors
from nestvec.quantization.rotations import RotatedQuantizer, itq_rotation, random_rotation
from nestvec.quantization.scalar import ScalarQuantizer
from nestvec.vectors import hash_factors, hash_rows, normalize, truncate

__all__ = [
    "ROTATED",
    "ROTATIONS",
    "Rotation",
    "choose_rotation",
    "fit_codes",
    "fit_quantizer",
    "in_fixed_order",
    "is_fitted_by_size",
    "quantizer_class",
]

Rotation: TypeAlias = Literal["none", "random", "itq", "best"]
ROTATIONS: tuple[Rotation, ...] = get_args(Rotation)
"""What may rotate vectors before they are stored."""
ROTATED = ("binary",)
"""Precisions whose first stages are rotated where that helps."""
_ROWS_TO_CHOOSE, _FEWEST_TO_CHOOSE, _WIDEST_ROTATED = 4_096, 50, 2_048
_CLEAR = 3.0  # standard errors
_ROWS_AT_A_TIME = 8_192

_QUANTIZERS: dict[str, type[FloatQuantizer | ScalarQuantizer | BinaryQuantizer]] = {
    "float32": FloatQuantizer,
    "float16": FloatQuantizer,
    "int8": ScalarQuantizer,
    "int4": ScalarQuantizer,
    "binary": BinaryQuantizer,
}


def is_fitted_by_size(precision: str) -> bool:
    """Tell whether codes of every size are fitted by themselves: those of the full size cannot be cut."""
    return precision in ROTATED or product_code(precision) is not None


def quantizer_class(precision: str) -> type[FloatQuantizer | ScalarQuantizer | BinaryQuantizer | ProductQuantizer]:
    """Return the class behind a precision.

    Raises:
        PrecisionError: The precision is not known.
    """
    check_precision(precision)
    return _QUANTIZERS.get(precision, ProductQuantizer)


def fit_quantizer(
    vectors: NDArray[np.floating[Any]],
    precision: str,
    *,
    rotation: Rotation = "none",
    rotated_dims: Sequence[int] | None = None,
    seed: int = 0,
    **options: Any,
) -> Quantizer:
    """Fit the quantizer of a precision to a sample of vectors.

    The order of the vectors does not matter: a grid and an index that learn from the same documents get the same codes.

    Args:
        vectors: A sample of what is to be stored, [n, full_dim]: full vectors, of unit length as they are compared.
        precision: A name in `BITS_PER_DIMENSION`, or `pq` and a number of bytes.
        rotation: What rotates vectors before they are stored: `none`, `random`, `itq` (iterative quantization), or
            `best`, which is `random` where a part of the sample ranks its nearest neighbours clearly better by it.
        rotated_dims: Sizes that codes can still be cut at behind a random rotation; None for the full one alone.
        seed: Of rotations.
        **options: What `fit` of that precision's class takes: `clipped_percent` for int8 and int4; `centered` for
            binary; `opq`, `components`, `score_aware` for pq, which takes `seed` too.

    Returns:
        The quantizer.

    Raises:
        PrecisionError: The precision is not known, or does not take one of the options; or there is no such rotation,
            or it does not go with `rotated_dims` or the precision.
        DimensionError: A rotated dim is outside the vectors, repeated or out of order; or these have too few dimensions
            for the precision.
        VectorError: The vectors are no finite vectors, or too few for codebooks.
        MissingExtraError: faiss, which learns codebooks, is not installed.

    Example:
        >>> vectors = np.eye(4, dtype=np.float32)
        >>> quantizer = fit_quantizer(vectors, "binary", centered=False)
        >>> codes = quantizer.encode(vectors)
        >>> codes.shape, quantizer.score(vectors[:1], codes).round(1)
        ((4, 1), array([[1., 0., 0., 0.]], dtype=float32))
    """
    quantizer = quantizer_class(precision)
    vectors = in_fixed_order(check_vectors(vectors), seed)
    if product_code(precision) is not None:
        if rotation != "none":
            raise PrecisionError(f"{precision} has a rotation of its own: leave rotation out, or pass opq=True.")
        options["seed"] = seed
    if rotation not in ROTATIONS:
        raise PrecisionError(f"There is no rotation {rotation!r}. Rotations are {', '.join(ROTATIONS)}.")
    if rotated_dims is not None and rotation != "random":
        raise PrecisionError(f"rotated_dims are for a random rotation, not for {rotation}. Leave them out.")
    if rotation == "best":
        rotation = choose_rotation(vectors, precision, seed=seed, **options)
    try:
        if rotation == "none":
            return quantizer.fit(vectors, precision, **options)
        full_dim = vectors.shape[1]
        matrix = (
            itq_rotation(vectors, seed=seed)
            if rotation == "itq"
            else random_rotation(full_dim, dims=rotated_dims, seed=seed)
        )
        return RotatedQuantizer(precision, full_dim, quantizer.fit(vectors @ matrix, precision, **options), matrix)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise PrecisionError(f"Precision {precision} does not take the options {', '.join(options)}.") from error


def fit_codes(
    vectors: NDArray[np.floating[Any]], dim: int, precision: str, *, score_aware: bool = True, seed: int = 0
) -> Quantizer:
    """Fit what stores the leading dimensions of vectors for a first stage, as an index does.

    Args:
        vectors: A sample of what is to be stored, [n, full_dim], floating point.
        dim: Dimensions to store, at unit length.
        precision: A name in `BITS_PER_DIMENSION`, or `pq` and a number of bytes; binary is rotated where that ranks
            neighbours better.
        score_aware: Whether product quantization assigns codes with a score-aware loss, which finds more of what is
            rescored by longer vectors; without these, nearest centroids are ranked better by cosine.
        seed: Of rotations.

    Returns:
        A quantizer of vectors of `dim` dimensions.

    Raises:
        PrecisionError: The precision is not known.
        DimensionError: `dim` is outside the vectors, or too few for the precision.
        VectorError: The vectors are no finite vectors, or too few for codebooks.
        MissingExtraError: faiss, which learns codebooks, is not installed.
    """
    rotation: Rotation = "best" if precision in ROTATED else "none"
    options: dict[str, Any] = {} if product_code(precision) is None else {"score_aware": score_aware}
    return fit_quantizer(truncate(vectors, dim), precision, rotation=rotation, seed=seed, **options)


def choose_rotation(vectors: NDArray[np.floating[Any]], precision: str, *, seed: int = 0, **options: Any) -> Rotation:
    """Choose whether a random rotation lets vectors that codes were not fitted to rank their neighbours better.

    Iterative quantization is no candidate: it suits documents, whose neighbours here are documents as well, and queries
    find less by it (see the log).

    Args:
        vectors: A sample, [n, full_dim], floating point; 4,096 rows at most are looked at.
        precision: How they are to be stored.
        seed: Of the rotation and of which rows are held out.
        **options: Of the precision.

    Returns:
        `random`, or `none` where that is not better by three standard errors, there are fewer than 200 rows, or more
        than 2,048 dimensions: a rotation of these costs more to store and to multiply with than it gives.

    Raises:
        PrecisionError: The precision is not known, or, from 200 rows on, does not take one of the options.
        VectorError: The vectors are no finite vectors.
    """
    check_precision(precision)
    sample = check_vectors(vectors)
    if sample.shape[1] > _WIDEST_ROTATED:
        return "none"
    sample = in_fixed_order(sample, seed)
    rows = np.random.default_rng(seed).permutation(len(sample))[:_ROWS_TO_CHOOSE]
    held_out, fitted = rows[: len(rows) // 4], rows[len(rows) // 4 :]
    if len(held_out) < _FEWEST_TO_CHOOSE:
        return "none"
    queries, documents = normalize(sample[held_out]), sample[rows]
    nearest = _without_self(queries @ normalize(documents).T).argmax(axis=1)

    def reciprocal_ranks(rotation: Rotation) -> NDArray[np.float64]:
        quantizer = fit_quantizer(sample[fitted], precision, rotation=rotation, seed=seed, **options)
        scores = _without_self(quantizer.score(queries, quantizer.encode(documents)))
        better = scores > np.take_along_axis(scores, nearest[:, None], axis=1)
        return np.asarray(1 / (1.0 + better.sum(axis=1)), np.float64)

    gain = reciprocal_ranks("random") - reciprocal_ranks("none")
    return "random" if gain.mean() > _CLEAR * gain.std(ddof=1) / np.sqrt(len(gain)) else "none"


def in_fixed_order(vectors: Float32s, seed: int = 0, most: int | None = None) -> Float32s:
    """Put vectors in an order that follows from their values alone, whatever order they come in.

    Args:
        vectors: [n, dim], float32.
        seed: Of the order, which is as good as random.
        most: Vectors to keep, which are then a random sample; None keeps all.

    Returns:
        [n, dim], float32, a copy.
    """
    factors = hash_factors(vectors.shape[1], seed)
    parts = [vectors[first : first + _ROWS_AT_A_TIME] for first in range(0, len(vectors), _ROWS_AT_A_TIME)]
    keys = np.concatenate([hash_rows(part, factors) for part in parts])
    found: Float32s = vectors[np.argsort(keys, kind="stable")[:most]]
    return found


def _without_self(scores: Float32s) -> Float32s:
    """Scores of the first rows against all, [n_rows, n], without those of each against itself."""
    places = np.arange(len(scores))
    scores[places, places] = -np.inf
    return scores
