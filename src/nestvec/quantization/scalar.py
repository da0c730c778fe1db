"""int8 and int4: every dimension has its own range, cut into 256 or 16 equal steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import PrecisionError
from nestvec.quantization.precisions import BITS_PER_DIMENSION
from nestvec.quantization.quantizer import Codes, Float32s, Quantizer, check_vectors

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ScalarQuantizer"]

# Percent of the values of a dimension that may fall outside its range, half on each side.
_CLIPPED_PERCENTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_ROWS_TO_FIT = 8192
_SMALLEST_STEP = 1e-37  # below it the inverse is no float32


@dataclass(frozen=True)
class ScalarQuantizer(Quantizer):
    """Rounds every number to one of 256 (int8) or 16 (int4) values of its dimension.

    Attributes:
        low: Value of code 0 in each dimension, [full_dim].
        step: Distance of neighbouring values, [full_dim]; 0 where a dimension never varies.
    """

    low: Float32s
    step: Float32s

    parameters = ("low", "step")

    @classmethod
    def fit(cls, vectors: NDArray[np.floating[Any]], precision: str, *, clipped_percent: float | None = None) -> Self:
        """Choose the range of every dimension.

        Extreme values stretch a range and make every step coarser. Unless told otherwise, each dimension is clipped
        at the percentiles that give it the least squared error on the sample.

        Args:
            vectors: A sample, [n, full_dim]; at most 8,192 rows, evenly spread, are looked at.
            precision: `int8` or `int4`.
            clipped_percent: Percent of values to leave outside, half on each side, 0 <= p < 100; 0 takes the smallest
                and the largest value of the sample. None chooses for each dimension.

        Returns:
            The quantizer.

        Raises:
            PrecisionError: `clipped_percent` is outside its range, or the precision another.
            VectorError: The vectors are no finite vectors.

        Source:
            Jacob et al. 2018, arXiv:1712.05877 (affine quantization); clipping for the least error: Banner et al.
            2019, arXiv:1810.05723, who derive the bound where it is searched for here.
        """
        checked = check_vectors(vectors)
        if precision not in ("int8", "int4"):
            raise PrecisionError(f"Scalar codes are int8 or int4, not {precision}.")
        if clipped_percent is not None and not 0 <= clipped_percent < 100:
            raise PrecisionError(f"Cannot clip {clipped_percent} percent of the values. Choose 0 to below 100.")
        stride = -(-len(checked) // _ROWS_TO_FIT)
        sample = np.ascontiguousarray(checked[::stride])
        steps = 2 ** BITS_PER_DIMENSION[precision] - 1
        candidates = _CLIPPED_PERCENTS if clipped_percent is None else (clipped_percent,)
        low, step = _best_ranges(sample, candidates, steps)
        return cls(precision, sample.shape[1], low=low, step=step)

    @property
    def code_type(self) -> np.dtype[Any]:
        """int8, or uint8 with two numbers a byte, the first in the higher half."""
        return np.dtype(np.int8 if self.precision == "int8" else np.uint8)

    def _encode(self, vectors: Float32s) -> Codes:
        dim = vectors.shape[1]
        steps = 2 ** BITS_PER_DIMENSION[self.precision] - 1
        levels = _levels(vectors, self.low[:dim], self.step[:dim], steps)
        if self.precision == "int8":
            return (levels - 128).astype(np.int8)
        codes = np.zeros((len(levels), self.width(dim)), np.uint8)
        codes[:] = levels[:, 0::2].astype(np.uint8) << 4
        codes[:, : dim // 2] |= levels[:, 1::2].astype(np.uint8)
        return codes

    def _decode(self, codes: Codes, dim: int) -> Float32s:
        levels = np.empty((len(codes), dim), np.float32)
        if self.precision == "int8":
            np.add(codes[:, :dim], np.float32(128), out=levels)
        else:
            levels[:, 0::2] = codes >> 4
            levels[:, 1::2] = (codes & 15)[:, : dim // 2]
        levels *= self.step[:dim]
        levels += self.low[:dim]
        return levels

    def _clear_padding(self, codes: Codes, dim: int) -> Codes:
        if self.precision == "int8" or dim % 2 == 0:
            return codes
        cut: Codes = codes.copy()
        cut[:, -1] &= 0xF0
        return cut


def _best_ranges(sample: Float32s, clipped_percents: Sequence[float], steps: int) -> tuple[Float32s, Float32s]:
    """Range of each dimension with the least squared error: low and step, [full_dim] each."""
    tails = [percent / 2 for percent in clipped_percents]
    bounds = np.percentile(sample, [*tails, *(100 - tail for tail in tails)], axis=0).astype(np.float32)
    lows, highs = bounds[: len(tails)], bounds[len(tails) :]  # [n_candidates, full_dim]
    best_low, best_step = lows[0], (highs[0] - lows[0]) / np.float32(steps)
    if len(tails) == 1:
        return best_low, best_step
    least = np.full(sample.shape[1], np.inf)
    for low, high in zip(lows, highs, strict=True):
        step = (high - low) / np.float32(steps)
        error = sample - (low + step * _levels(sample, low, step, steps))
        squared = np.einsum("ij,ij->j", error, error)
        better = squared < least
        least = np.where(better, squared, least)
        best_low, best_step = np.where(better, low, best_low), np.where(better, step, best_step)
    return best_low, best_step


def _levels(vectors: Float32s, low: Float32s, step: Float32s, steps: int) -> Float32s:
    """Nearest level of every number, whole numbers from 0 to `steps`, [n, dim]."""
    levels = vectors - low
    levels *= np.divide(1, step, out=np.zeros_like(step), where=step > _SMALLEST_STEP)
    np.rint(levels, out=levels)
    return np.clip(levels, 0, steps, out=levels)
