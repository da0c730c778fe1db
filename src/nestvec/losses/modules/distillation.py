"""Distillation for the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from nestvec.errors import LossInputError
from nestvec.losses.distillation import nested_embedding_distillation, nested_similarity_distillation
from nestvec.losses.modules.base import Batch, ModuleOptions, NestedLoss
from nestvec.losses.prefixes import Distance, check_distance, check_temperature

__all__ = ["NestedEmbeddingDistillation", "NestedSimilarityDistillation", "teacher_columns"]


class NestedEmbeddingDistillation(NestedLoss):
    """Nested distillation of a teacher's vectors, cut and scaled like the student's.

    `MatryoshkaLoss` around `EmbedDistillLoss` cuts them without scaling. Columns are any number of texts; the label is
    the teacher's vector [dim] for all of them, or one for each [columns, dim].

    Example:
        >>> NestedEmbeddingDistillation(nn.Identity(), dims=[64, 32]).distance
        'cosine'
    """

    n_columns = (1, None)
    column_names = "any number of texts, with the teacher's vectors as label"
    rows_meet = False

    def check_labels(self, labels: Tensor | None) -> None:
        """Check that there is a teacher."""
        if labels is None:
            raise LossInputError("There are no labels. Give the teacher's vectors in a column named label.")

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        distance: Distance = "cosine",
        **options: Unpack[ModuleOptions],
    ) -> None:
        """Bind the loss to a model.

        Args:
            model: A `SentenceTransformer`.
            dims: Prefix sizes, strictly rising or falling.
            weights: One weight a dim; None weighs each 1.
            distance: `cosine` (1 - cosine similarity), `euclidean` or `manhattan`, between unit vectors.
            **options: See `NestedLoss`.

        Raises:
            DimensionError: A dim is outside the model's vectors, repeated or out of order.
            LossInputError: Weights, distance or options do not fit.
        """
        super().__init__(model, dims, weights, **options)
        check_distance(distance)
        self.distance = distance

    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings."""
        targets = teacher_columns(batch.require_labels(self), len(columns))
        return nested_embedding_distillation(
            torch.cat(columns), torch.cat(targets), dims=dims, weights=weights, distance=self.distance
        )

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings."""
        return super().get_config_dict() | {"distance": self.distance}


class NestedSimilarityDistillation(NestedLoss):
    """Nested distillation of similarities: of a teacher's, or without labels of the model's own full size.

    Columns are one text, compared with the others of the batch, or queries and any number of document columns. The
    label, if there is one, holds the teacher's vectors, [columns, teacher_dim].

    Example:
        >>> NestedSimilarityDistillation(nn.Identity(), dims=[64, 32]).temperature
        0.05
    """

    n_columns = (1, None)
    column_names = "one text a row, or queries and documents"
    rows_meet = True

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        temperature: float = 0.05,
        teacher_temperature: float | None = None,
        *,
        top_k: int | None = None,
        **options: Unpack[ModuleOptions],
    ) -> None:
        """Bind the loss to a model.

        Args:
            model: A `SentenceTransformer`.
            dims: Prefix sizes, strictly rising or falling.
            weights: One weight a dim; None weighs each 1.
            temperature: What the prefixes' cosine similarities are divided by, above 0.
            teacher_temperature: What the teacher's are divided by; None takes `temperature`.
            top_k: Compare only the teacher's so many nearest documents of each query with each other; None compares
                all. A smaller batch compares all that it has.
            **options: See `NestedLoss`.

        Raises:
            DimensionError: A dim is outside the model's vectors, repeated or out of order.
            LossInputError: Weights, a temperature or options do not fit.
        """
        super().__init__(model, dims, weights, **options)
        self.temperature = check_temperature(temperature)
        self.teacher_temperature = None if teacher_temperature is None else check_temperature(teacher_temperature)
        if top_k is not None and top_k < 2:
            raise LossInputError(f"top_k is {top_k}. Compare at least 2 neighbours with each other.")
        self.top_k = top_k

    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings."""
        teacher = None if batch.labels is None else teacher_columns(batch.labels, len(columns))
        others = len(columns[0]) * (len(columns) - 1) or len(columns[0]) - 1
        top_k = None if self.top_k is None or self.top_k >= others else self.top_k
        return nested_similarity_distillation(
            columns[0],
            torch.cat(columns[1:]) if len(columns) > 1 else None,
            dims=dims,
            weights=weights,
            temperature=self.temperature,
            teacher_queries=teacher[0] if teacher else None,
            teacher_documents=torch.cat(teacher[1:]) if teacher and len(columns) > 1 else None,
            teacher_temperature=self.teacher_temperature,
            top_k=top_k,
            rows=batch.rows,
        )

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings."""
        return super().get_config_dict() | {
            "temperature": self.temperature,
            "teacher_temperature": self.teacher_temperature or self.temperature,
            **({} if self.top_k is None else {"top_k": self.top_k}),
        }


def teacher_columns(labels: Tensor, n_columns: int) -> list[Tensor]:
    """Give each text column its teacher's vectors.

    Args:
        labels: [rows, columns, dim], or [rows, dim] where all columns of a row have the same.
        n_columns: Text columns of the data set.

    Returns:
        [rows, dim] for each column.

    Raises:
        LossInputError: They are for another number of columns.
    """
    if labels.ndim == 2:
        return [labels] * n_columns
    if labels.ndim != 3 or labels.shape[1] != n_columns:
        raise LossInputError(
            f"Labels are {list(labels.shape)}. For {n_columns} text columns the teacher's vectors are "
            f"[rows, {n_columns}, dim], or [rows, dim] for all columns alike."
        )
    return list(labels.unbind(dim=1))
