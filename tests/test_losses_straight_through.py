"""Quantization with a gradient. Run: pytest tests/test_losses_straight_through.py (a second)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nestvec.errors import LossInputError, PrecisionError
from nestvec.losses import nested_info_nce, straight_through
from nestvec.quantization import BITS_PER_DIMENSION, fit_quantizer
from nestvec.vectors import normalize


@pytest.mark.parametrize("precision", BITS_PER_DIMENSION)
def test_forward_is_what_codes_stand_for_and_backward_is_that_of_the_unit_vectors(precision: str) -> None:
    vectors = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)) * 3
    weights = torch.randn(40, 12, generator=torch.Generator().manual_seed(1))
    through, plain = vectors.clone().requires_grad_(), vectors.clone().requires_grad_()
    stored = straight_through(through, precision)
    unit = normalize(vectors.numpy())
    quantizer = fit_quantizer(unit, precision)
    np.testing.assert_allclose(stored.detach().numpy(), quantizer.decode(quantizer.encode(unit)), atol=1e-6)
    (stored * weights).sum().backward()
    (normalize(plain) * weights).sum().backward()
    torch.testing.assert_close(through.grad, plain.grad)


def test_training_through_bits_makes_bits_tell_more() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(256, 16, generator=generator)
    vectors[:, 0] += 4  # most of the length says nothing
    noisy = vectors + 0.5 * torch.randn(256, 16, generator=generator)

    def fitted(precision: str) -> torch.Tensor:
        weight = torch.eye(16, requires_grad=True)
        optimizer = torch.optim.Adam([weight], lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            nested_info_nce(noisy @ weight, straight_through(vectors @ weight, precision), dims=[16]).backward()
            optimizer.step()
        return weight.detach()

    def loss_with_bits(weight: torch.Tensor) -> float:
        return nested_info_nce(noisy @ weight, straight_through(vectors @ weight, "binary"), dims=[16]).item()

    assert loss_with_bits(fitted("binary")) < 0.9 * loss_with_bits(fitted("float32"))


def test_what_cannot_be_stored_is_refused() -> None:
    with pytest.raises(PrecisionError, match="int3"):
        straight_through(torch.eye(3), "int3")
    with pytest.raises(LossInputError, match="not finite"):
        straight_through(torch.full((2, 2), torch.nan), "int8")
