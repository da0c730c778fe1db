"""Nested InfoNCE for the trainer, with every way to spare false negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from typing_extensions import Unpack

from nestvec.errors import LossInputError
from nestvec.losses.false_negatives import FalseNegatives
from nestvec.losses.info_nce import nested_info_nce
from nestvec.losses.modules.base import Batch, ModuleOptions
from nestvec.losses.modules.guide import Guide
from nestvec.losses.modules.temperature import TemperatureLoss
from nestvec.losses.modules.texts import text_ids

__all__ = ["NestedInfoNCE"]


class NestedInfoNCE(TemperatureLoss):
    """Nested InfoNCE in place of `MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), dims)`.

    Columns of the data set are the query, its positive, and any number of hard negatives. With `mini_batch_size` it
    takes the place of `CachedMultipleNegativesRankingLoss`, with a `guide` that of `GISTEmbedLoss`.

    Example:
        >>> NestedInfoNCE(nn.Identity(), dims=[64, 32]).dims
        (64, 32)
    """

    n_columns = (2, None)
    column_names = "queries, positives and any number of negatives"
    rows_meet = True

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        temperature: float = 0.05,
        symmetric: bool = False,
        *,
        learn_temperature: bool = False,
        mask_same_text: bool = False,
        mask_same_label: bool = False,
        margin: float | None = None,
        relative_margin: bool = False,
        guide: SentenceTransformer | None = None,
        **options: Unpack[ModuleOptions],
    ) -> None:
        """Bind the loss to a model.

        Args:
            model: A `SentenceTransformer`.
            dims: Prefix sizes, strictly rising or falling.
            weights: One weight a dim; None weighs each 1.
            temperature: What cosine similarities are divided by, above 0.
            symmetric: Also rank the queries for each positive, and average both directions (CLIP).
            learn_temperature: Train the temperature too, starting from `temperature`.
            mask_same_text: Do not count a copy of the positive, or the positive of a copy of the query, as a negative.
            mask_same_label: The label column holds an id; rows with the same id are no negatives of each other.
            margin: Do not count documents more similar to the query than the positive less this margin; None counts
                all. See `FalseNegatives`.
            relative_margin: The margin is a share of the positive's similarity.
            guide: A model whose similarities decide about the margin, instead of those being trained; it is not
                trained. The default margin is then 0.
            **options: See `NestedLoss`.

        Raises:
            DimensionError: A dim is outside the model's vectors, repeated or out of order.
            LossInputError: Weights, temperature, margin or options do not fit.
        """
        super().__init__(model, dims, weights, temperature, learn_temperature, options)
        self.symmetric = symmetric
        self.mask_same_text, self.mask_same_label = mask_same_text, mask_same_label
        self.margin = 0.0 if margin is None and guide is not None else margin
        self.relative_margin = relative_margin
        if relative_margin and self.margin is None:
            raise LossInputError("relative_margin says how to read a margin, and there is none. Give a margin.")
        FalseNegatives(margin=self.margin)  # raises what is wrong with it now
        self._guide = Guide(guide, model, self.mini_batch_size) if guide is not None else None

    def read(self, features: list[dict[str, Any]], labels: Tensor | None) -> Batch:
        """Take the ids and the guide's opinion from a batch."""
        ids, document_ids = [], None
        if self.mask_same_label:
            if labels is None or labels.ndim != 1 or labels.is_floating_point():
                raise LossInputError("mask_same_label needs a column named label with one whole number a row.")
            ids.append(labels.long())
        if self.mask_same_text:
            ids.append(text_ids(features[0]))
            document_ids = torch.stack([text_ids(column) for column in features[1:]], dim=1)
        query_ids = torch.stack(ids, dim=1) if ids else None
        guide = () if self._guide is None else tuple(self._guide.embed(column) for column in features)
        return Batch(None, query_ids=query_ids, document_ids=document_ids, guide=guide)

    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings."""
        return nested_info_nce(
            columns[0],
            torch.cat(columns[1:]),
            dims=dims,
            weights=weights,
            temperature=self.temperature,
            symmetric=self.symmetric,
            false_negatives=self._false_negatives(batch),
            rows=batch.rows,
        )

    def _false_negatives(self, batch: Batch) -> FalseNegatives | None:
        if batch.query_ids is None and self.margin is None:
            return None
        queries, documents = (batch.guide[0], torch.cat(batch.guide[1:])) if batch.guide else (None, None)
        return FalseNegatives(
            query_ids=batch.query_ids,
            document_ids=None if batch.document_ids is None else batch.document_ids.T.flatten(),
            margin=self.margin,
            relative=self.relative_margin,
            guide_queries=queries,
            guide_documents=documents,
        )

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings."""
        settings = super().get_config_dict() | {"symmetric": self.symmetric}
        for name in ("mask_same_text", "mask_same_label", "relative_margin"):
            if getattr(self, name):
                settings[name] = True
        if self.margin is not None:
            settings["margin"] = self.margin
        if self._guide is not None:
            settings["guide"] = True
        return settings
