"""A sentence-transformers model as an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nestvec.encoders.identity import model_identity
from nestvec.encoders.protocol import Float32Vectors
from nestvec.encoders.unusable import refuse_unusable
from nestvec.errors import ModelError
from nestvec.progress import Progress, silent
from nestvec.vectors import normalize

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["SentenceTransformerEncoder"]


class SentenceTransformerEncoder:
    """Encodes with a sentence-transformers model, using its query and document prompts where it has them."""

    def __init__(self, model: SentenceTransformer, *, batch_size: int = 64) -> None:
        """Wrap a loaded model.

        Args:
            model: The model; it is not changed.
            batch_size: Texts in one forward pass.
        """
        self.model = model
        self.batch_size = batch_size

    @property
    def full_dim(self) -> int:
        """Numbers in a vector as the encoder gives it."""
        return int(self.model.get_embedding_dimension() or 0)

    def identity(self, side: str) -> str:
        """Digest all that the vectors depend on beside the text.

        Args:
            side: `query` or `document`; where the model treats both alike, they have one identity.

        Returns:
            64 hexadecimal digits; another after the model was changed.
        """
        prompts = self.model.prompts
        names = ("query",) if side == "query" else ("document", "passage", "corpus")
        name = next((name for name in names if name in prompts), self.model.default_prompt_name)
        return model_identity(self.model, prompt=prompts.get(name or "") or "", task=side)

    def encode_queries(self, texts: Sequence[str], *, progress: Progress = silent) -> Float32Vectors:
        """Encode queries.

        Args:
            texts: The queries.
            progress: How to report progress, in texts.

        Returns:
            Unit vectors, [n_texts, full_dim], float32, in the order of `texts`.

        Raises:
            ModelError: The model gave a vector that is zero or not finite; its text is named.
        """
        return self._encode(texts, self.model.encode_query, "encoding queries", progress)

    def encode_documents(self, texts: Sequence[str], *, progress: Progress = silent) -> Float32Vectors:
        """Encode documents.

        Args:
            texts: The documents.
            progress: How to report progress, in texts.

        Returns:
            Unit vectors, [n_texts, full_dim], float32, in the order of `texts`.

        Raises:
            ModelError: The model gave a vector that is zero or not finite; its text is named.
        """
        return self._encode(texts, self.model.encode_document, "encoding documents", progress)

    def encode_raw(self, texts: Sequence[str], side: str, *, progress: Progress = silent) -> Float32Vectors:
        """Encode texts of a side (`query` or `document`), and leave the lengths as the model gives them.

        Args:
            texts: The texts.
            side: Whose prompt and tower they take.
            progress: How to report progress, in texts.

        Returns:
            [n_texts, full_dim], float32, in the order of `texts`.

        Raises:
            ModelError: The model gave a vector that is zero or not finite; its text is named.
        """
        encode = self.model.encode_query if side == "query" else self.model.encode_document
        return self._encode_raw(texts, encode, f"encoding {side} texts", progress)

    def _encode(
        self, texts: Sequence[str], encode: Callable[..., Any], description: str, progress: Progress
    ) -> Float32Vectors:
        return normalize(self._encode_raw(texts, encode, description, progress))

    def _encode_raw(
        self, texts: Sequence[str], encode: Callable[..., Any], description: str, progress: Progress
    ) -> Float32Vectors:
        # Texts of one length share a batch, so that little is spent on padding; longest first, so that
        # a batch too large for memory fails at once.
        order = sorted(range(len(texts)), key=lambda index: (-len(texts[index]), index))
        vectors = np.empty((len(texts), self.full_dim), dtype=np.float32)
        with progress(description, len(texts)) as advance:
            for start in range(0, len(texts), self.batch_size):
                batch = order[start : start + self.batch_size]
                vectors[batch] = encode(
                    [texts[index] for index in batch], batch_size=self.batch_size, show_progress_bar=False
                )
                advance(len(batch))
        advice = "Leave it out; where it is more than a few, weights are damaged, or training diverged."
        refuse_unusable(vectors, texts, ModelError, "The model", advice)
        return vectors
