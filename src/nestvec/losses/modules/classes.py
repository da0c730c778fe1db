"""Losses on class labels for the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from typing_extensions import Unpack

from nestvec.errors import LossInputError
from nestvec.losses.classes import nested_softmax, nested_supervised_contrastive
from nestvec.losses.modules.base import Batch, ModuleOptions, NestedLoss
from nestvec.losses.modules.temperature import TemperatureLoss
from nestvec.losses.prefixes import check_class_labels

__all__ = ["NestedSoftmax", "NestedSupervisedContrastive"]


class NestedSoftmax(NestedLoss):
    """Softmax classifiers on every prefix, trained with the model: MRL, or MRL-E with `share_head`.

    Columns are a text and its class, from 0.

    Example:
        >>> head = NestedSoftmax(nn.Linear(8, 8), dims=[8, 4], n_classes=3)
        >>> [tuple(weight.shape) for weight in head.heads]
        [(3, 8), (3, 4)]
    """

    n_columns = (1, 1)
    column_names = "one text a row, with its class as label"
    rows_meet = False

    def check_labels(self, labels: Tensor | None) -> None:
        """Check that there are classes."""
        check_class_labels(labels, 0 if labels is None else labels.numel(), self.n_classes)

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        *,
        n_classes: int,
        share_head: bool = False,
        bias: bool = True,
        unit_length: bool = True,
        **options: Unpack[ModuleOptions],
    ) -> None:
        """Bind the loss to a model, with new heads drawn from torch's random generator.

        Args:
            model: A `SentenceTransformer`.
            dims: Prefix sizes, strictly rising or falling.
            weights: One weight a dim; None weighs each 1.
            n_classes: Classes, at least 2.
            share_head: One head whose first numbers serve each prefix (MRL-E), instead of one a size (MRL).
            bias: Whether heads have a bias.
            unit_length: Whether prefixes are scaled to unit length first; False is the paper's classifier.
            **options: See `NestedLoss`.

        Raises:
            DimensionError: A dim is outside the model's vectors, repeated or out of order.
            LossInputError: Weights, classes or options do not fit.
        """
        super().__init__(model, dims, weights, **options)
        if isinstance(n_classes, bool) or not isinstance(n_classes, int) or n_classes < 2:
            raise LossInputError(f"n_classes is {n_classes!r}. There are at least 2.")
        self.n_classes, self.share_head, self.unit_length = n_classes, share_head, unit_length
        sizes = [max(self.dims)] if share_head else list(self.dims)
        heads = [nn.Linear(size, n_classes, bias=bias) for size in sizes]
        self.heads = nn.ParameterList(head.weight for head in heads)
        self.biases = nn.ParameterList(head.bias for head in heads) if bias else None

    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings."""
        chosen = [0] if self.share_head else [self.dims.index(dim) for dim in dims]
        heads = [self.shared(self.heads[index]) for index in chosen]
        biases = None if self.biases is None else [self.shared(self.biases[index]) for index in chosen]
        vectors = columns[0][:, : max(self.dims)]
        return nested_softmax(
            vectors,
            batch.require_labels(self),
            heads[0] if self.share_head else heads,
            dims=dims,
            weights=weights,
            biases=biases[0] if biases and self.share_head else biases,
            unit_length=self.unit_length,
        )

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings."""
        return super().get_config_dict() | {
            "n_classes": self.n_classes,
            "share_head": self.share_head,
            "bias": self.biases is not None,
            "unit_length": self.unit_length,
        }


class NestedSupervisedContrastive(TemperatureLoss):
    """Nested supervised contrastive loss: rows of one class attract each other.

    Columns are a text and its class; draw batches with several rows of a class (`BatchSamplers.GROUP_BY_LABEL`).

    Example:
        >>> NestedSupervisedContrastive(nn.Identity(), dims=[64, 32]).temperature
        0.05
    """

    n_columns = (1, 1)
    column_names = "one text a row, with its class as label"
    rows_meet = True

    def check_labels(self, labels: Tensor | None) -> None:
        """Check that there are classes."""
        check_class_labels(labels, 0 if labels is None else labels.numel())

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        temperature: float = 0.05,
        *,
        learn_temperature: bool = False,
        **options: Unpack[ModuleOptions],
    ) -> None:
        """Bind the loss to a model.

        Args:
            model: A `SentenceTransformer`.
            dims: Prefix sizes, strictly rising or falling.
            weights: One weight a dim; None weighs each 1.
            temperature: What cosine similarities are divided by, above 0.
            learn_temperature: Train the temperature too, starting from `temperature`.
            **options: See `NestedLoss`.

        Raises:
            DimensionError: A dim is outside the model's vectors, repeated or out of order.
            LossInputError: Weights, temperature or options do not fit.
        """
        super().__init__(model, dims, weights, temperature, learn_temperature, options)

    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings."""
        labels = batch.require_labels(self)
        self.count_idle(labels)
        return nested_supervised_contrastive(
            columns[0],
            labels,
            dims=dims,
            weights=weights,
            temperature=self.temperature,
            rows=batch.rows,
        )
