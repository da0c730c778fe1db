"""Losses on labelled pairs for the trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from typing_extensions import Unpack

from nestvec.losses.modules.base import Batch, ModuleOptions, NestedLoss
from nestvec.losses.modules.margin import MarginLoss
from nestvec.losses.pairs import (
    check_even,
    check_scores,
    nested_angle,
    nested_contrastive,
    nested_cosent,
    nested_cosine_regression,
    nested_online_contrastive,
)
from nestvec.losses.prefixes import check_binary_labels, check_temperature

__all__ = ["NestedAnglE", "NestedCoSENT", "NestedContrastive", "NestedCosineRegression", "NestedOnlineContrastive"]


class _PairLoss(NestedLoss):
    n_columns = (2, 2)
    column_names = "two texts a row, with a label"

    def check_labels(self, labels: Tensor | None) -> None:
        """Check that there are scores."""
        check_scores(labels, _count(labels))


class NestedCosineRegression(_PairLoss):
    """Nested cosine regression in place of `MatryoshkaLoss(model, CosineSimilarityLoss(model), dims)`.

    Columns are two texts, and a label from -1 to 1. Options as in `NestedLoss`.

    Example:
        >>> NestedCosineRegression(nn.Identity(), dims=[64, 32]).dims
        (64, 32)
    """

    rows_meet = False

    def check_labels(self, labels: Tensor | None) -> None:
        """Check that there are scores a cosine can reach."""
        check_scores(labels, _count(labels), lowest=-1.0, highest=1.0)

    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings."""
        return nested_cosine_regression(columns[0], columns[1], batch.require_labels(self), dims=dims, weights=weights)


class NestedCoSENT(_PairLoss):
    """Nested CoSENT in place of `MatryoshkaLoss(model, CoSENTLoss(model), dims)`.

    Columns are two texts, and a label whose order counts.

    Example:
        >>> NestedCoSENT(nn.Identity(), dims=[64, 32]).temperature
        0.05
    """

    rows_meet = True
    _function = staticmethod(nested_cosent)

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        temperature: float = 0.05,
        **options: Unpack[ModuleOptions],
    ) -> None:
        """Bind the loss to a model.

        Args:
            model: A `SentenceTransformer`.
            dims: Prefix sizes, strictly rising or falling.
            weights: One weight a dim; None weighs each 1.
            temperature: What similarities are divided by, above 0; 0.05 is the usual scale of 20.
            **options: See `NestedLoss`.

        Raises:
            DimensionError: A dim is outside the model's vectors, repeated or out of order.
            LossInputError: Weights, temperature or options do not fit.
        """
        super().__init__(model, dims, weights, **options)
        self.temperature = check_temperature(temperature)

    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings."""
        return self._function(
            columns[0], columns[1], batch.require_labels(self), dims=dims, weights=weights, temperature=self.temperature
        )

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings."""
        return super().get_config_dict() | {"temperature": self.temperature}


class NestedAnglE(NestedCoSENT):
    """Nested AnglE in place of `MatryoshkaLoss(model, AnglELoss(model), dims)`.

    Columns are two texts, and a label whose order counts. Dims must be even.

    Example:
        >>> NestedAnglE(nn.Identity(), dims=[64, 32]).dims
        (64, 32)
    """

    _function = staticmethod(nested_angle)

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        temperature: float = 0.05,
        **options: Unpack[ModuleOptions],
    ) -> None:
        """Bind the loss to a model; arguments as in `NestedCoSENT`.

        Raises:
            DimensionError: A dim is odd, outside the model's vectors, repeated or out of order.
            LossInputError: Weights, temperature or options do not fit.
        """
        super().__init__(model, dims, weights, temperature, **options)
        check_even(self.dims)


class _LabelledPairLoss(MarginLoss, _PairLoss):
    """A loss on pairs that belong together or not."""

    _function: Callable[..., Tensor]

    def check_labels(self, labels: Tensor | None) -> None:
        """Check that there are labels, each 0 or 1."""
        check_binary_labels(labels, _count(labels))

    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings."""
        return self._function(
            columns[0],
            columns[1],
            batch.require_labels(self),
            dims=dims,
            weights=weights,
            margin=self.margin,
            distance=self.distance,
        )


class NestedContrastive(_LabelledPairLoss):
    """Nested contrastive loss in place of `MatryoshkaLoss(model, ContrastiveLoss(model), dims)`.

    Columns are two texts, and a label 1 where they belong together or 0 where they do not.

    Example:
        >>> NestedContrastive(nn.Identity(), dims=[64, 32]).margin
        0.5
    """

    rows_meet = False
    _function = staticmethod(nested_contrastive)


class NestedOnlineContrastive(_LabelledPairLoss):
    """Nested contrastive loss on hard pairs in place of `MatryoshkaLoss(model, OnlineContrastiveLoss(model), dims)`.

    Columns are two texts, and a label 1 where they belong together or 0 where they do not.

    Example:
        >>> NestedOnlineContrastive(nn.Identity(), dims=[64, 32]).distance
        'cosine'
    """

    rows_meet = True
    _function = staticmethod(nested_online_contrastive)


def _count(labels: Tensor | None) -> int:
    return 0 if labels is None else labels.numel()
