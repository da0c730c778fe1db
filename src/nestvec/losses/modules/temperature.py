"""What losses with a temperature share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nestvec.errors import LossInputError
from nestvec.losses.modules.base import ModuleOptions, NestedLoss
from nestvec.losses.prefixes import check_temperature

__all__ = ["TemperatureLoss"]


_LEAST_LEARNED = 0.01  # as in CLIP


class TemperatureLoss(NestedLoss):
    """A loss with a temperature, fixed or learned."""

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None,
        temperature: float,
        learn_temperature: bool,
        options: ModuleOptions,
    ) -> None:
        """Bind the loss to a model.

        Args:
            model: A `SentenceTransformer`.
            dims: Prefix sizes, strictly rising or falling.
            weights: One weight a dim; None weighs each 1.
            temperature: What similarities are divided by, above 0.
            learn_temperature: Train it too.
            options: See `NestedLoss`.

        Raises:
            DimensionError: A dim is outside the model's vectors, repeated or out of order.
            LossInputError: Weights, temperature or options do not fit.
        """
        super().__init__(model, dims, weights, **options)
        self._start_temperature = check_temperature(temperature)
        if learn_temperature and temperature < _LEAST_LEARNED:
            raise LossInputError(f"A learned temperature never falls below {_LEAST_LEARNED}. Start at least there.")
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature))) if learn_temperature else None

    @property
    def temperature(self) -> float | Tensor:
        """What similarities are divided by; a learned one never falls below 0.01, as in CLIP."""
        if self.log_temperature is None:
            return self._start_temperature
        with torch.no_grad():  # held in place rather than cut, so that it can rise again
            self.log_temperature.clamp_(min=math.log(_LEAST_LEARNED))
        return self.shared(self.log_temperature).exp()

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings."""
        learned = self.log_temperature is not None
        return {
            **super().get_config_dict(),
            "temperature": round(check_temperature(self.temperature), 6),
            **({"learn_temperature": True} if learned else {}),
        }
