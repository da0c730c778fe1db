"""An encoder at one size and precision as a model of MTEB, the Massive Text Embedding Benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.encoders.protocol import Encoder
from nestvec.errors import PrecisionError
from nestvec.extras import require
from nestvec.quantization import Quantizer, check_precision, fit_codes, fit_quantizer, is_fitted_by_size
from nestvec.vectors import cosine, default_dims, truncate

__all__ = ["MTEBModel"]

Float32s = NDArray[np.float32]


class MTEBModel:
    """What MTEB runs in place of a model: vectors as a cell of the grid stores them.

    Texts that MTEB calls queries are cut and stay as they are; all others are stored, so they come back as what their
    codes stand for. Give it to `mteb.evaluate(model, tasks)`.

    Source: Muennighoff et al. 2022, arXiv:2210.07316; the encoder protocol of mteb 2.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        dim: int | None = None,
        precision: str = "float32",
        quantizer: Quantizer | None = None,
        name: str = "nestvec/model",
    ) -> None:
        """Choose a cell.

        Args:
            encoder: What encodes.
            dim: Leading dimensions to keep; None keeps all.
            precision: How stored vectors are stored.
            quantizer: Fitted on full vectors; None fits one on the first batch of stored texts of each task, split and
                language, which for corpora of up to 50,000 documents is all of them.
            name: What MTEB files results under, as `owner/model`.

        Raises:
            PrecisionError: The precision is not known, or not that of the quantizer.
            DimensionError: `dim` is outside the vectors of the encoder.
        """
        self.encoder = encoder
        self.dim = encoder.full_dim if dim is None else dim
        truncate(np.zeros((1, encoder.full_dim), np.float32), self.dim)  # checks the dim
        self.precision = check_precision(precision)
        if quantizer is not None and quantizer.precision != precision:
            raise PrecisionError(
                f"The quantizer is of {quantizer.precision} and the model of {precision}. Give one of both."
            )
        self.name = name
        self._given = quantizer
        self._fitted: dict[tuple[str, str, str], Quantizer] = {}

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **options: Any,
    ) -> Float32s:
        """Encode batches of MTEB.

        Args:
            inputs: Batches, each with its texts under `text`.
            task_metadata: Of the task; its name tells quantizers apart.
            hf_split: Split of the task.
            hf_subset: Subset, usually the language.
            prompt_type: `query` or `document`; None where the task makes no difference.
            **options: What MTEB passes on to sentence-transformers; not used.

        Returns:
            Unit vectors, [n_texts, dim], float32.

        Raises:
            ModelError: The model gave a vector that is not finite.
        """
        del options
        texts = [text for batch in inputs for text in batch["text"]]
        side = getattr(prompt_type, "value", prompt_type)
        if side == "query":
            return truncate(self.encoder.encode_queries(texts), self.dim)
        vectors = self.encoder.encode_documents(texts)
        if self.precision != "float32":
            key = (str(task_metadata.name), hf_split, hf_subset)
            quantizer = self._given or self._fitted.get(key) or self._fit(vectors)
            self._fitted[key] = quantizer
            vectors = truncate(vectors, quantizer.full_dim)
            vectors = quantizer.decode(quantizer.encode(vectors))
        return truncate(vectors, self.dim)

    def _fit(self, vectors: Float32s) -> Quantizer:
        """As a grid does: codes of a size of their own where they are rotated, else those of all sizes."""
        if is_fitted_by_size(self.precision):
            return fit_codes(vectors, self.dim, self.precision, score_aware=False)
        return fit_quantizer(vectors, self.precision)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Float32s:
        """Compare every vector with every other by cosine, [n_1, n_2]."""
        return cosine(*(_as_rows(side) for side in (embeddings1, embeddings2)))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Float32s:
        """Compare vectors pair by pair by cosine, [n]."""
        left, right = (_as_rows(side) for side in (embeddings1, embeddings2))
        similarities: Float32s = np.einsum("ij,ij->i", truncate(left, left.shape[1]), truncate(right, right.shape[1]))
        return np.clip(similarities, -1, 1)

    @property
    def mteb_model_meta(self) -> Any:
        """What MTEB writes beside the results.

        Raises:
            MissingExtraError: mteb is not installed.
        """
        meta = require("mteb.models", extra="mteb").ModelMeta
        settings = {"dim": self.dim, "precision": self.precision}
        known = {
            "name": self.name,
            "revision": self.encoder.identity("document")[:40],
            "embed_dim": list(default_dims(self.encoder.full_dim)),
            "experiment_kwargs": settings,
        }
        return meta.create_empty(overwrites=known)


def _as_rows(vectors: Any) -> Float32s:
    return np.atleast_2d(np.asarray(vectors, dtype=np.float32))
