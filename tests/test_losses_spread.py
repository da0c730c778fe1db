"""Spread-out regularisation against all pairs in float64. Run: pytest tests/test_losses_spread.py (a second)."""

from __future__ import annotations

import pytest
import torch

from nestvec.errors import DimensionError, LossInputError
from nestvec.losses import nested_spread_out


def slowly(vectors: torch.Tensor, dims: list[int], weights: list[float]) -> torch.Tensor:
    total = vectors.new_zeros(())
    for dim, weight in zip(dims, weights, strict=True):
        cosines = []
        for i, left in enumerate(vectors):
            for j, right in enumerate(vectors):
                if i != j:
                    lengths = left[:dim].norm() * right[:dim].norm()
                    cosines.append(left[:dim] @ right[:dim] / lengths if lengths > 0 else lengths * 0)
        found = torch.stack(cosines)
        total = total + weight * (found.mean() ** 2 + (found.square().mean() - 1 / dim).clamp(min=0))
    return total


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_value_and_gradient_are_those_of_all_pairs(shift: float) -> None:
    start = torch.randn(9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + shift
    start[3, :2] = 0
    dims, weights = [6, 4, 2], [1.0, 0.5, 2.0]
    fast, slow = (start.clone().requires_grad_() for _ in range(2))
    found, expected = nested_spread_out(fast, dims=dims, weights=weights), slowly(slow, dims, weights)
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad(found, fast)[0], torch.autograd.grad(expected, slow)[0]
    nonzero = start.abs() > 0
    torch.testing.assert_close(gradients[0][nonzero], gradients[1].nan_to_num()[nonzero])


def test_training_by_it_pulls_a_narrow_cone_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = (torch.randn(64, 8, generator=generator) * 0.1 + 1).requires_grad_()
    before = nested_spread_out(vectors, dims=[8, 2]).item()
    optimizer = torch.optim.Adam([vectors], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        loss = nested_spread_out(vectors, dims=[8, 2])
        loss.backward()
        optimizer.step()
    assert before > 1.5
    assert loss.item() < 0.01


def test_what_cannot_be_spread_is_refused() -> None:
    with pytest.raises(LossInputError, match="not finite"):
        nested_spread_out(torch.full((2, 4), torch.nan), dims=[4])
    with pytest.raises(DimensionError):
        nested_spread_out(torch.ones(2, 4), dims=[5])
