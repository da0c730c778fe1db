"""An encoder whose vectors go through an adaptor."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors.adaptor import SIDES, Adaptor
from nestvec.encoders import Encoder
from nestvec.errors import DimensionError
from nestvec.progress import Progress, silent

__all__ = ["AdaptedEncoder"]


class AdaptedEncoder:
    """Encodes texts, and maps their vectors: to be measured, indexed or served as any encoder."""

    def __init__(self, encoder: Encoder, adaptor: Adaptor, *, force: bool = False) -> None:
        """Put an adaptor behind an encoder.

        Args:
            encoder: What the adaptor was fitted on.
            adaptor: What to apply.
            force: Accept another encoder than the one it was fitted on.

        Raises:
            AdaptorError: It was fitted on another encoder.
            DimensionError: The encoder's vectors have another size.
        """
        if encoder.full_dim != adaptor.input_dim:
            raise DimensionError(
                f"This adaptor takes {adaptor.input_dim} dimensions and the encoder gives {encoder.full_dim}."
            )
        if adaptor.encoder and not force:
            adaptor.check_encoder({side: encoder.identity(side) for side in SIDES})
        self.encoder = encoder
        self.adaptor = adaptor

    @property
    def full_dim(self) -> int:
        """Numbers in a vector as the adaptor gives it."""
        return self.adaptor.full_dim

    def identity(self, side: str) -> str:
        """Return a digest of all that the vectors of a side (`query` or `document`) depend on beside the text."""
        return hashlib.blake2b(
            f"{self.encoder.identity(side)} {getattr(self.adaptor.towers, side).digest()}".encode(), digest_size=32
        ).hexdigest()

    def encode_queries(self, texts: Sequence[str], *, progress: Progress = silent) -> NDArray[np.float32]:
        """Return unit vectors, [n_texts, full_dim], in the order of `texts`."""
        return self.adaptor.transform(self.encoder.encode_queries(texts, progress=progress), "query")

    def encode_documents(self, texts: Sequence[str], *, progress: Progress = silent) -> NDArray[np.float32]:
        """Return unit vectors, [n_texts, full_dim], in the order of `texts`."""
        return self.adaptor.transform(self.encoder.encode_documents(texts, progress=progress), "document")
