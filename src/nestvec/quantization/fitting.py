"""From the name of a precision to its quantizer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import PrecisionError
from nestvec.quantization.binary import BinaryQuantizer
from nestvec.quantization.floats import FloatQuantizer
from nestvec.quantization.precisions import check_precision
from nestvec.quantization.quantizer import Quantizer
from nestvec.quantization.scalar import ScalarQuantizer

__all__ = ["QUANTIZERS", "fit_quantizer"]

QUANTIZERS: dict[str, type[Quantizer]] = {
    "float32": FloatQuantizer,
    "float16": FloatQuantizer,
    "int8": ScalarQuantizer,
    "int4": ScalarQuantizer,
    "binary": BinaryQuantizer,
}
"""The class behind each precision."""


def fit_quantizer(vectors: NDArray[np.floating[Any]], precision: str, **options: Any) -> Quantizer:
    """Fit the quantizer of a precision to a sample of vectors.

    Args:
        vectors: A sample of what is to be stored, [n, full_dim]: full vectors, of unit length as they are compared.
        precision: A name in `BITS_PER_NUMBER`.
        **options: What `fit` of that precision's class takes: `clipped_percent` for int8 and int4; `centered`,
            `rotated_dims` and `seed` for binary.

    Returns:
        The quantizer.

    Raises:
        PrecisionError: The precision is not known, or does not take one of the options.
        VectorError: The vectors are no finite vectors.

    Example:
        >>> vectors = np.eye(4, dtype=np.float32)
        >>> quantizer = fit_quantizer(vectors, "binary", centered=False)
        >>> codes = quantizer.encode(vectors)
        >>> codes.shape, quantizer.score(vectors[:1], codes).round(1)
        ((4, 1), array([[1., 0., 0., 0.]], dtype=float32))
    """
    check_precision(precision)
    quantizer = QUANTIZERS[precision]
    try:
        return quantizer.fit(vectors, precision, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise PrecisionError(f"Precision {precision} does not take the options {', '.join(options)}.") from error
