"""Quantization in training: forward what codes stand for, backward as if nothing had been rounded."""

from __future__ import annotations

import torch
from torch import Tensor

from nestvec.losses.prefixes import check_vectors
from nestvec.quantization import fit_quantizer
from nestvec.vectors import normalize

__all__ = ["straight_through"]


def straight_through(vectors: Tensor, precision: str) -> Tensor:
    """Return what the codes of vectors stand for, with the gradient of the unit vectors themselves.

    Give the result to any loss in place of the documents, and the model learns vectors that survive their storage: a
    prefix of the result is what the codes of that prefix stand for. The quantizer is the one that stores vectors
    (`nestvec.quantization`), fitted on this batch, so that training and serving round alike.

    Args:
        vectors: [batch, dim], floating point. Need not be unit length.
        precision: A name in `BITS_PER_NUMBER`; float32 gives the unit vectors.

    Returns:
        [batch, dim], same type.

    Raises:
        PrecisionError: The precision is not known.
        LossInputError: A number is not finite.

    Source:
        Bengio et al. 2013, arXiv:1308.3432 (straight-through estimator).

    Example:
        >>> straight_through(torch.tensor([[3.0, 4.0], [-4.0, 3.0]]), "binary")
        tensor([[ 0.6000,  0.8000],
                [-0.8000,  0.6000]])
    """
    check_vectors(vectors=vectors)
    unit = normalize(vectors)
    plain = unit.detach().float().cpu().numpy()
    quantizer = fit_quantizer(plain, precision)
    stored = torch.from_numpy(quantizer.decode(quantizer.encode(plain))).to(unit)
    return unit + (stored - unit).detach()
