"""What an encoder is to the rest of nestvec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nestvec.progress import Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Vectors = NDArray[np.float32]
else:
    Float32Vectors = Any

__all__ = ["Encoder", "Float32Vectors"]


class Encoder(Protocol):
    """Turns texts into vectors of one size; queries and documents may be treated differently."""

    @property
    def full_dim(self) -> int:
        """Numbers in a vector as the encoder gives it."""
        ...

    def identity(self, side: str) -> str:
        """Return a digest of all that the vectors of a side (`query` or `document`) depend on beside the text."""
        ...

    def encode_queries(self, texts: Sequence[str], *, progress: Progress = silent) -> Float32Vectors:
        """Return unit vectors, [n_texts, full_dim], in the order of `texts`."""
        ...

    def encode_documents(self, texts: Sequence[str], *, progress: Progress = silent) -> Float32Vectors:
        """Return unit vectors, [n_texts, full_dim], in the order of `texts`."""
        ...
