"""Models that compare by dot product, as vectors whose cosine orders documents in the same way."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from nestvec.encoders.protocol import Float32Vectors
from nestvec.encoders.sentence_transformer import SentenceTransformerEncoder
from nestvec.errors import NestvecWarning
from nestvec.progress import Progress, silent
from nestvec.vectors import normalize

__all__ = ["DotProductEncoder"]

_PROBES = (
    "river",
    "How do I read a file line by line?",
    "The library opens at nine and closes in the evening, except on Sundays.",
    "Chalk cliffs crumble into the sea, year after year, and the houses on top of them have to be given up. " * 8,
)
_ROOM = 2.0  # times as long as the longest probe may a vector be
_VERSION = "dot product 1"


class DotProductEncoder:
    """Adds one dimension for the length of documents, so that cosine at the full size orders as the dot product does.

    A document d becomes (d, sqrt(M^2 - |d|^2)) / M with a bound M on the lengths, a query q becomes (q, 0) / |q|: the
    cosine is q.d / (|q| M), in the order of the dot products. Truncated, without that dimension, both compare by
    cosine, as the prefixes of any model do.

    Source:
        Bachrach et al. 2014, "Speeding up the Xbox recommender system using a Euclidean transformation for
        inner-product spaces", RecSys.
    """

    def __init__(self, encoder: SentenceTransformerEncoder) -> None:
        """Wrap the encoder of such a model."""
        self.encoder = encoder

    @property
    def batch_size(self) -> int:
        """Texts in one forward pass."""
        return self.encoder.batch_size

    @property
    def full_dim(self) -> int:
        """Dimensions of the model, and one for the length."""
        return self.encoder.full_dim + 1

    def identity(self, side: str) -> str:
        """Return a digest of all that the vectors of a side (`query` or `document`) depend on beside the text."""
        return hashlib.blake2b(f"{self.encoder.identity(side)} {_VERSION} {side}".encode(), digest_size=32).hexdigest()

    def encode_queries(self, texts: Sequence[str], *, progress: Progress = silent) -> Float32Vectors:
        """Return unit vectors whose last dimension is 0, [n_texts, full_dim], in the order of `texts`."""
        vectors = self.encoder.encode_queries(texts, progress=progress)
        return np.pad(vectors, [(0, 0), (0, 1)])

    def encode_documents(self, texts: Sequence[str], *, progress: Progress = silent) -> Float32Vectors:
        """Return unit vectors whose last dimension stands for the length, [n_texts, full_dim], in that order."""
        vectors = self.encoder.encode_raw(texts, "document", progress=progress).astype(np.float64) / self._bound
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)  # [n_texts, 1]
        beyond = int((lengths > 1).sum())
        if beyond:
            warnings.warn(
                f"{beyond:,} of {len(texts):,} texts have vectors longer than {self._bound:g}, and count in dot "
                "products as if they had that length.",
                NestvecWarning,
                stacklevel=2,
            )
            vectors = np.where(lengths > 1, vectors / np.maximum(lengths, 1e-30), vectors)
        rest = np.sqrt(np.maximum(0.0, 1.0 - np.minimum(lengths, 1.0) ** 2))
        return normalize(np.concatenate([vectors, rest], axis=1).astype(np.float32))

    @cached_property
    def _bound(self) -> float:
        """M, in two digits, so that it is the same on machines that round differently."""
        longest = float(np.linalg.norm(self.encoder.encode_raw(_PROBES, "document"), axis=1).max())
        return float(f"{_ROOM * longest:.1e}")
