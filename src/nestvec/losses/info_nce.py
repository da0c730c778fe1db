"""InfoNCE over nested sizes: every truncated prefix learns to find its positive among the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nestvec.errors import LossInputError
from nestvec.vectors import check_dims

__all__ = ["check_temperature", "nested_info_nce", "resolve_weights"]


def nested_info_nce(
    queries: Tensor,
    documents: Tensor,
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    temperature: float = 0.05,
    symmetric: bool = False,
) -> Tensor:
    """Weighted sum over dims of InfoNCE on truncated, re-normalised vectors.

    Exact for `sum_k w_k * InfoNCE(truncate(queries, d_k), truncate(documents, d_k))`, but computed in one pass:
    the un-normalised similarity of a prefix is that of the next shorter one plus one block product, so all dims
    together cost one full-size matrix product. The backward pass keeps one [batch, n_documents] matrix a dim.

    Args:
        queries: [batch, dim], floating point. Need not be unit length. Similarities accumulate in float32 at least.
        documents: [batch * (1 + negatives), dim]. Row i is the positive of query i; every other row is a negative.
        dims: Prefix sizes, strictly rising or strictly falling, none larger than dim.
        weights: One non-negative weight a dim, in the order of `dims`; None weighs each 1.
        temperature: What cosine similarities are divided by, above 0.
        symmetric: Also rank the queries for each positive, and average both directions (CLIP).

    Returns:
        Scalar: the mean over queries, in nats, summed over dims by weight.

    Raises:
        LossInputError: Shapes, weights or temperature do not fit, the batch is empty, or an embedding is not finite.
        DimensionError: A dim is outside the vector, repeated or out of order.

    Source:
        van den Oord et al. 2018, arXiv:1807.03748; in-batch negatives: Henderson et al. 2017, arXiv:1705.00652;
        nested over prefixes: Kusupati et al. 2022, arXiv:2205.13147.

    Example:
        >>> queries, documents = torch.eye(2, 4), torch.eye(2, 4)
        >>> round(nested_info_nce(queries, documents, dims=[4, 2], temperature=1.0).item(), 4)
        0.6265
    """
    dims = check_dims(dims, _check_inputs(queries, documents, temperature))
    weights = resolve_weights(dims, weights)
    working = torch.promote_types(queries.dtype, torch.float32)
    batch = queries.shape[0]
    targets = torch.arange(batch, device=queries.device)
    loss = torch.zeros((), dtype=working, device=queries.device)

    with torch.autocast(device_type=queries.device.type, enabled=False):
        queries, documents = queries.to(working), documents.to(working)
        # Un-normalised similarities and squared lengths of the prefix so far.
        products = queries.new_zeros(batch, documents.shape[0])
        query_squares = queries.new_zeros(batch, 1)
        document_squares = queries.new_zeros(1, documents.shape[0])
        start = 0
        for dim, weight in sorted(zip(dims, weights, strict=True)):
            query_block, document_block = queries[:, start:dim], documents[:, start:dim]
            products = products + query_block @ document_block.T
            query_squares = query_squares + query_block.square().sum(dim=1, keepdim=True)
            document_squares = document_squares + document_block.square().sum(dim=1)[None, :]
            start = dim
            if weight == 0.0:
                continue
            logits = (
                products * (_inverse_lengths(query_squares) * (1.0 / temperature)) * _inverse_lengths(document_squares)
            )
            value = torch.nn.functional.cross_entropy(logits, targets)
            if symmetric:
                value = (value + torch.nn.functional.cross_entropy(logits[:, :batch].T, targets)) / 2
            loss = loss + weight * value
    return loss


def resolve_weights(dims: Sequence[int], weights: Sequence[float] | None) -> tuple[float, ...]:
    """Check one weight a dim.

    Args:
        dims: The prefix sizes.
        weights: One weight each, finite and not negative, not all zero; None weighs each 1.

    Returns:
        The weights, in the order of `dims`.

    Raises:
        LossInputError: Another number of weights than dims, a negative or non-finite weight, or only zeros.

    Example:
        >>> resolve_weights([128, 64], None)
        (1.0, 1.0)
    """
    if weights is None:
        return (1.0,) * len(dims)
    if len(weights) != len(dims):
        raise LossInputError(f"Got {len(weights)} weights for {len(dims)} dims. Give one weight a dim.")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise LossInputError(f"Weights are {list(weights)}. They must be finite and not negative.")
    if not any(weights):
        raise LossInputError("Every weight is 0, so there is nothing to train. Give at least one a positive weight.")
    return tuple(float(weight) for weight in weights)


def check_temperature(temperature: float) -> float:
    """Check what similarities are divided by.

    Args:
        temperature: Finite and above 0.

    Returns:
        The same.

    Raises:
        LossInputError: It is not.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise LossInputError(f"Temperature is {temperature}. It must be above 0; 0.05 is usual.")
    return temperature


def _check_inputs(queries: Tensor, documents: Tensor, temperature: float) -> int:
    if queries.ndim != 2 or documents.ndim != 2 or queries.shape[1] != documents.shape[1]:
        raise LossInputError(
            f"Queries are {list(queries.shape)} and documents {list(documents.shape)}. "
            "Give [batch, dim] and [batch * (1 + negatives), dim]."
        )
    batch, n_documents = queries.shape[0], documents.shape[0]
    if batch == 0 or n_documents == 0 or n_documents % batch:
        raise LossInputError(
            f"Got {batch} queries and {n_documents} documents. Each query needs one positive and as many negatives "
            "as every other."
        )
    check_temperature(temperature)
    for name, vectors in (("Query", queries), ("Document", documents)):
        if not torch.isfinite(vectors).all():
            raise LossInputError(f"{name} embeddings hold numbers that are not finite. Lower the learning rate.")
    return int(queries.shape[1])


def _inverse_lengths(squares: Tensor) -> Tensor:
    """1 / length, and 0 for a zero prefix, which then is similar to nothing."""
    is_zero = squares == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squares).rsqrt())
