"""Nested InfoNCE together with what keeps short and quantised prefixes good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from nestvec.errors import LossInputError
from nestvec.losses.distillation import nested_similarity_distillation
from nestvec.losses.modules.base import Batch, ModuleOptions
from nestvec.losses.modules.distillation import teacher_columns
from nestvec.losses.modules.info_nce import NestedInfoNCE
from nestvec.losses.prefixes import check_temperature
from nestvec.losses.spread import nested_spread_out
from nestvec.losses.straight_through import check_codes, mean_over_precisions

__all__ = ["NestedMixture"]


class NestedMixture(NestedInfoNCE):
    """Nested InfoNCE, also through quantised documents, plus distillation and spread, from one set of embeddings.

    Columns are those of `NestedInfoNCE`; with a teacher, the label holds its vectors of a row's texts, [columns,
    teacher_dim]. With everything off it is `NestedInfoNCE`.

    Example:
        >>> NestedMixture(nn.Identity(), dims=[512, 64], precisions=["float32", "binary"]).precisions
        ('float32', 'binary')
    """

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        temperature: float = 0.05,
        symmetric: bool = False,
        *,
        precisions: Sequence[str] = ("float32",),
        shortest_code: int = 32,
        self_distillation: float = 0.0,
        neighbours: int | None = None,
        teacher: float = 0.0,
        spread: float = 0.0,
        **options: Unpack[ModuleOptions],
    ) -> None:
        """Bind the loss to a model.

        Args:
            model: A `SentenceTransformer`.
            dims: Prefix sizes, strictly rising or falling.
            weights: One weight a dim; None weighs each 1.
            temperature: What cosine similarities are divided by, above 0.
            symmetric: Also rank the queries for each positive, and average both directions.
            precisions: How documents are stored; InfoNCE is the mean over these (`straight_through`).
            shortest_code: Bytes of the shortest quantised code that counts. Of shorter ones the loss is large whatever
                the model does, and float32 suffers.
            self_distillation: Weight of the divergence between the similarities of every prefix and those of the
                largest of `dims`, which is held fixed.
            neighbours: Compare only so many nearest documents there; None compares all.
            teacher: Weight of the divergence between the similarities of every prefix and those of the teacher.
            spread: Weight of `nested_spread_out` of the documents.
            **options: See `NestedLoss`.

        Raises:
            DimensionError: A dim is outside the model's vectors, repeated or out of order.
            PrecisionError: A precision is not known.
            LossInputError: Weights, temperature or options do not fit.
        """
        super().__init__(model, dims, weights, temperature, symmetric, **options)
        self.precisions = check_codes(precisions, self.dims, shortest_code)
        self.shortest_code = shortest_code
        if min(self_distillation, teacher, spread) < 0:
            raise LossInputError(f"Weights are {self_distillation}, {teacher} and {spread}. They must be 0 or more.")
        if neighbours is not None and (neighbours < 2 or not self_distillation):
            raise LossInputError(
                f"neighbours is {neighbours}. Compare at least 2 of them, with self_distillation above 0."
            )
        self.self_distillation, self.neighbours = self_distillation, neighbours
        self.teacher, self.spread = teacher, spread

    def read(self, features: list[dict[str, Any]], labels: Tensor | None) -> Batch:
        """Take the teacher's vectors from a batch."""
        batch = super().read(features, labels)
        return batch._replace(labels=labels) if self.teacher else batch

    def check_labels(self, labels: Tensor | None) -> None:
        """Check that there is a teacher where one is wanted."""
        if self.teacher:
            Batch(labels).require_labels(self)

    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings."""
        queries, documents = columns[0], torch.cat(columns[1:])

        def rank(stored: Tensor, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
            return super(NestedMixture, self).compute([queries, stored], batch, dims, weights)

        loss = mean_over_precisions(
            rank,
            documents,
            dims=dims,
            weights=weights,
            precisions=self.precisions,
            shortest_code=self.shortest_code,
        )

        def distil(teacher_queries: Tensor, teacher_documents: Tensor, top_k: int | None = None) -> Tensor:
            return nested_similarity_distillation(
                queries,
                documents,
                dims=dims,
                weights=weights,
                temperature=check_temperature(self.temperature),
                teacher_queries=teacher_queries,
                teacher_documents=teacher_documents,
                top_k=top_k,
                rows=batch.rows,
            )

        if self.self_distillation:
            largest = max(self.dims)
            of_largest = distil(queries[:, :largest], documents[:, :largest], self._top_k(len(documents)))
            loss = loss + self.self_distillation * of_largest
        if self.teacher:
            taught, *teaching = teacher_columns(batch.require_labels(self), len(columns))
            loss = loss + self.teacher * distil(taught, torch.cat(teaching))
        if self.spread and len(documents) > 1:  # the last batch may hold a single row
            loss = loss + self.spread * nested_spread_out(documents, dims=dims, weights=weights)
        return loss

    def _top_k(self, n_documents: int) -> int | None:
        return None if self.neighbours is None or self.neighbours >= n_documents else self.neighbours

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings."""
        settings = super().get_config_dict()
        defaults = {
            "precisions": ("float32",),
            "self_distillation": 0.0,
            "neighbours": None,
            "teacher": 0.0,
            "spread": 0.0,
        }
        if self.precisions != defaults["precisions"]:
            settings["shortest_code"] = self.shortest_code
        return settings | {name: getattr(self, name) for name, off in defaults.items() if getattr(self, name) != off}
