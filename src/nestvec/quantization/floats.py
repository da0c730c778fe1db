"""float32 as it is, and float16: nothing is fitted, the codes are the numbers themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import VectorError
from nestvec.quantization.quantizer import Codes, Float32s, Quantizer, check_vectors

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["FloatQuantizer"]


@dataclass(frozen=True)
class FloatQuantizer(Quantizer):
    """Stores numbers as float32 or float16."""

    @classmethod
    def fit(cls, vectors: NDArray[np.floating[Any]], precision: str) -> Self:
        """Take note of the size; nothing else is fitted.

        Args:
            vectors: [n, full_dim].
            precision: `float32` or `float16`.

        Returns:
            The quantizer.

        Raises:
            VectorError: The vectors are no finite vectors.
        """
        return cls(precision, check_vectors(vectors).shape[1])

    @property
    def code_type(self) -> np.dtype[Any]:
        """float32 or float16."""
        return np.dtype(self.precision)

    def _encode(self, vectors: Float32s) -> Codes:
        with np.errstate(over="ignore"):
            codes = vectors.astype(self.code_type)
        if self.precision == "float16" and not np.isfinite(codes).all():
            raise VectorError("A number is too large for float16, which ends at 65,504. Normalise the vectors first.")
        return codes

    def _decode(self, codes: Codes, dim: int) -> Float32s:
        return codes[:, :dim].astype(np.float32, copy=False)
