"""What losses with a margin share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from typing_extensions import Unpack

from nestvec.losses.modules.base import ModuleOptions, NestedLoss
from nestvec.losses.prefixes import Distance, check_distance, check_margin

__all__ = ["MarginLoss"]


class MarginLoss(NestedLoss):
    """A loss with a margin between distances."""

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        margin: float = 0.5,
        distance: Distance = "cosine",
        **options: Unpack[ModuleOptions],
    ) -> None:
        """Bind the loss to a model.

        Args:
            model: A `SentenceTransformer`.
            dims: Prefix sizes, strictly rising or falling.
            weights: One weight a dim; None weighs each 1.
            margin: How far apart, or how much further, what does not belong together should be; above 0.
            distance: `cosine` (1 - cosine similarity), `euclidean` or `manhattan`, between unit vectors.
            **options: See `NestedLoss`.

        Raises:
            DimensionError: A dim is outside the model's vectors, repeated or out of order.
            LossInputError: Weights, margin, distance or options do not fit.
        """
        super().__init__(model, dims, weights, **options)
        self.margin = check_margin(margin)
        check_distance(distance)
        self.distance = distance

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings."""
        return super().get_config_dict() | {"margin": self.margin, "distance": self.distance}
