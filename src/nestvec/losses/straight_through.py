"""Quantization in training: forward what codes stand for, backward as if nothing had been rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nestvec.errors import LossInputError
from nestvec.losses.prefixes import check_vectors
from nestvec.quantization import bytes_per_vector, check_trainable, fit_quantizer
from nestvec.vectors import normalize

__all__ = ["check_codes", "mean_over_precisions", "straight_through"]


def straight_through(vectors: Tensor, precision: str) -> Tensor:
    """Return what the codes of vectors stand for, with the gradient of the unit vectors themselves.

    Give the result to any loss in place of the documents, and the model learns vectors that survive their storage: a
    prefix of the result is what the codes of that prefix stand for. The quantizer is the one that stores vectors
    (`nestvec.quantization`), fitted on this batch, so that training and serving round alike.

    Args:
        vectors: [batch, dim], floating point. Need not be unit length.
        precision: A name in `BITS_PER_DIMENSION`; float32 gives the unit vectors.

    Returns:
        [batch, dim], same type.

    Raises:
        PrecisionError: The precision is not known, or is product quantization.
        LossInputError: A number is not finite.

    Source:
        Bengio et al. 2013, arXiv:1308.3432 (straight-through estimator).

    Example:
        >>> straight_through(torch.tensor([[3.0, 4.0], [-4.0, 3.0]]), "binary")
        tensor([[ 0.6000,  0.8000],
                [-0.8000,  0.6000]])
    """
    check_vectors(vectors=vectors)
    check_trainable(precision)
    unit = normalize(vectors)
    plain = unit.detach().float().cpu().numpy()
    quantizer = fit_quantizer(plain, precision)
    stored = torch.from_numpy(quantizer.decode(quantizer.encode(plain))).to(unit)
    return unit + (stored - unit).detach()


def check_codes(precisions: Sequence[str], dims: Sequence[int], shortest_code: int) -> tuple[str, ...]:
    """Check how documents are to be stored in training.

    Args:
        precisions: Names in `BITS_PER_DIMENSION`.
        dims: Prefix sizes.
        shortest_code: Bytes of the shortest code that counts; float32 always does.

    Returns:
        The precisions.

    Raises:
        PrecisionError: A precision is not known, or is product quantization.
        LossInputError: There are none, one is given twice, one has no code that is long enough, or a size has none.
    """
    if not precisions or len(set(precisions)) < len(precisions):
        raise LossInputError(f"precisions are {list(precisions)}. Give at least one, each once.")
    for precision in precisions:
        check_trainable(precision)
        if not any(_counts(dim, precision, shortest_code) for dim in dims):
            raise LossInputError(
                f"No code of {precision} has {shortest_code} bytes at sizes {list(dims)}. Leave it out, or lower "
                "shortest_code."
            )
    for dim in dims:
        if not any(_counts(dim, precision, shortest_code) for precision in precisions):
            raise LossInputError(
                f"At {dim} dimensions no code of {' or '.join(precisions)} has {shortest_code} bytes, so that nothing "
                "would train this size. Add float32, or lower shortest_code."
            )
    return tuple(precisions)


def mean_over_precisions(
    loss: Callable[[Tensor, Sequence[int], Sequence[float]], Tensor],
    documents: Tensor,
    *,
    dims: Sequence[int],
    weights: Sequence[float],
    precisions: Sequence[str],
    shortest_code: int,
) -> Tensor:
    """Mean of a loss at each size over the ways to store documents whose codes are long enough there.

    Of short codes the loss is large whatever the vectors are, and what is learned from it costs the longer ones.

    Args:
        loss: From documents as they are stored, and the dims that count and their weights, to a scalar.
        documents: [batch, dim], floating point.
        dims: Prefix sizes.
        weights: One weight a dim.
        precisions: As `check_codes` takes them.
        shortest_code: Bytes of the shortest code that counts; float32 always does.

    Returns:
        Scalar.

    Example:
        >>> weigh = lambda stored, dims, weights: torch.tensor(sum(weights))
        >>> sizes = {"dims": [64, 16], "weights": [1.0, 1.0]}
        >>> mean_over_precisions(weigh, torch.eye(64), **sizes, precisions=["float32", "int8"], shortest_code=32)
        tensor(2.)
    """
    ways = {dim: sum(_counts(dim, precision, shortest_code) for precision in precisions) for dim in dims}
    total = documents.new_zeros(())
    for precision in precisions:
        counting = [
            (dim, weight / ways[dim])
            for dim, weight in zip(dims, weights, strict=True)
            if weight and _counts(dim, precision, shortest_code)
        ]
        if counting:
            stored = documents if precision == "float32" else straight_through(documents, precision)
            total = total + loss(stored, [dim for dim, _ in counting], [weight for _, weight in counting])
    return total


def _counts(dim: int, precision: str, shortest_code: int) -> bool:
    return precision == "float32" or bytes_per_vector(dim, precision) >= shortest_code
