"""Maps that can be trained, in torch: from a map and back to one."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nestvec.adaptors.maps import HiddenLayer, Map, Towers

__all__ = ["TowersNetwork"]


class _MapNetwork(nn.Module):
    """The map, with its numbers as parameters."""

    def __init__(self, start: Map, hidden_width: int | None, generator: torch.Generator, *, orthogonal: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start.weight))
        if orthogonal:
            # Steps are taken among skew-symmetric matrices, whose Cayley transform turns the start.
            nn.utils.parametrizations.orthogonal(self, "weight", orthogonal_map="cayley")
        self.bias = None if start.bias is None else nn.Parameter(torch.tensor(start.bias))
        self.hidden = None
        if hidden_width is not None:
            # The output starts at zero: the first step is taken from the linear map itself. Inputs have unit length,
            # so that weights of variance 1 give the hidden layer one too.
            self.hidden = nn.ParameterList(
                [
                    torch.randn(start.input_dim, hidden_width, generator=generator),
                    torch.zeros(hidden_width),
                    torch.zeros(hidden_width, start.full_dim),
                ]
            )

    def forward(self, vectors: Tensor) -> Tensor:
        """Map unit vectors, [n, input_dim] -> [n, full_dim]; lengths are left as they come."""
        mapped = vectors @ self.weight
        if self.bias is not None:
            mapped = mapped + self.bias
        if self.hidden is not None:
            weight, bias, output = self.hidden
            mapped = mapped + torch.relu(vectors @ weight + bias) @ output
        return mapped

    def to_map(self) -> Map:
        """Copy the numbers as they are now."""
        hidden = None if self.hidden is None else HiddenLayer(*(_copy(parameter) for parameter in self.hidden))
        return Map(_copy(self.weight), None if self.bias is None else _copy(self.bias), hidden)


class TowersNetwork(nn.Module):
    """One map for both sides, or one for each."""

    def __init__(
        self, start: Map, *, two_towers: bool, hidden_width: int | None, seed: int, orthogonal: bool = False
    ) -> None:
        """Begin where another map is.

        Args:
            start: Where to begin.
            two_towers: Train one map a side; both begin alike.
            hidden_width: Numbers in the hidden layer; None for a linear map.
            seed: Of the hidden layer's first weights.
            orthogonal: Stay a rotation, as the start is one.
        """
        super().__init__()

        def build() -> _MapNetwork:
            return _MapNetwork(start, hidden_width, torch.Generator().manual_seed(seed), orthogonal=orthogonal)

        self.query = build()
        self.document = build() if two_towers else self.query

    def to_towers(self) -> Towers:
        """Copy the numbers as they are now."""
        query = self.query.to_map()
        return Towers(query, query if self.document is self.query else self.document.to_map())


def _copy(parameter: Tensor) -> NDArray[np.float32]:
    return np.array(parameter.detach().cpu().numpy(), dtype=np.float32)
