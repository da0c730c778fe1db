"""Triplet losses for the trainer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nestvec.losses.modules.base import Batch
from nestvec.losses.modules.margin import MarginLoss
from nestvec.losses.prefixes import check_class_labels
from nestvec.losses.triplets import nested_batch_hard_triplet, nested_triplet

__all__ = ["NestedBatchHardTriplet", "NestedTriplet"]


class NestedTriplet(MarginLoss):
    """Nested triplet loss in place of `MatryoshkaLoss(model, TripletLoss(model), dims)`.

    Columns are anchors, positives and at least one negative.

    Example:
        >>> NestedTriplet(torch.nn.Identity(), dims=[64, 32], distance="euclidean").distance
        'euclidean'
    """

    n_columns = (3, None)
    column_names = "anchors, positives and at least one negative"
    rows_meet = False

    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings."""
        return nested_triplet(
            columns[0],
            columns[1],
            torch.cat(columns[2:]),
            dims=dims,
            weights=weights,
            margin=self.margin,
            distance=self.distance,
        )


class NestedBatchHardTriplet(MarginLoss):
    """Nested triplet loss on the hardest rows of a batch, in place of `MatryoshkaLoss` with `BatchHardTripletLoss`.

    Columns are a text and its class; draw batches with several rows of a class (`BatchSamplers.GROUP_BY_LABEL`).

    Example:
        >>> NestedBatchHardTriplet(torch.nn.Identity(), dims=[64, 32]).margin
        0.5
    """

    n_columns = (1, 1)
    column_names = "one text a row, with its class as label"
    rows_meet = True

    def check_labels(self, labels: Tensor | None) -> None:
        """Check that there are classes."""
        check_class_labels(labels, 0 if labels is None else labels.numel())

    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings."""
        labels = batch.require_labels(self)
        self.count_idle(labels)
        return nested_batch_hard_triplet(
            columns[0],
            labels,
            dims=dims,
            weights=weights,
            margin=self.margin,
            distance=self.distance,
            rows=batch.rows,
        )
