"""The losses as modules for the sentence-transformers trainer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nestvec.errors import LossInputError
from nestvec.losses.info_nce import check_temperature, nested_info_nce, resolve_weights
from nestvec.vectors import check_dims

__all__ = ["NestedInfoNCE"]


class NestedInfoNCE(nn.Module):
    """Nested InfoNCE in place of `MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), dims)`.

    Columns of the data set are the query, its positive, and any number of hard negatives.

    Example:
        >>> NestedInfoNCE(torch.nn.Identity(), dims=[64, 32]).dims
        (64, 32)
    """

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        temperature: float = 0.05,
        symmetric: bool = False,
    ) -> None:
        """Bind the loss to a model.

        Args:
            model: A `SentenceTransformer`.
            dims: Prefix sizes, strictly rising or falling.
            weights: One weight a dim; None weighs each 1.
            temperature: What cosine similarities are divided by, above 0.
            symmetric: Also rank the queries for each positive.

        Raises:
            DimensionError: A dim is outside the model's vectors, repeated or out of order.
            LossInputError: Weights or temperature do not fit.
        """
        super().__init__()
        full_dim = getattr(model, "get_embedding_dimension", lambda: None)()
        self.model = model
        self.dims = check_dims(dims, full_dim)
        self.weights = resolve_weights(self.dims, weights)
        self.temperature = check_temperature(temperature)
        self.symmetric = symmetric

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Embed each column and compute the loss.

        Args:
            sentence_features: Tokenised columns: queries, positives, negatives.
            labels: Not used.

        Returns:
            Scalar loss, in nats.

        Raises:
            LossInputError: There is no positive column, or an embedding is not finite.
        """
        columns = [self.model(features)["sentence_embedding"] for features in sentence_features]
        if len(columns) < 2:
            raise LossInputError("A batch has queries but no positives. Give a (query, positive, ...) data set.")
        return nested_info_nce(
            columns[0],
            torch.cat(columns[1:]),
            dims=self.dims,
            weights=self.weights,
            temperature=self.temperature,
            symmetric=self.symmetric,
        )

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings, for the model cards of sentence-transformers."""
        return {
            "dims": list(self.dims),
            "weights": list(self.weights),
            "temperature": self.temperature,
            "symmetric": self.symmetric,
        }
