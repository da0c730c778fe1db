"""The nested sizes as a loss works through them, and the checks that every loss makes before any work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from nestvec.errors import LossInputError
from nestvec.vectors import check_dims

__all__ = [
    "Distance",
    "Prefix",
    "check_binary_labels",
    "check_class_labels",
    "check_distance",
    "check_margin",
    "check_rows",
    "check_temperature",
    "check_vectors",
    "chosen",
    "nested_prefixes",
    "resolve_weights",
    "widen",
]


_LEAST_TEMPERATURE = 1e-6  # below, scores leave the range in which masked ones are lowest

Distance: TypeAlias = Literal["cosine", "euclidean", "manhattan"]
"""Between unit vectors; `cosine` is 1 - cosine similarity."""


class Prefix(NamedTuple):
    """One nested size that counts."""

    start: int
    """Size of the next smaller one that counts; 0 for the smallest."""
    dim: int
    weight: float


def nested_prefixes(dims: Sequence[int], weights: Sequence[float] | None, full_dim: int) -> list[Prefix]:
    """Put the sizes in rising order and leave out those that weigh nothing.

    Args:
        dims: Sizes, strictly rising or falling, none larger than `full_dim`.
        weights: One weight a dim, in the order of `dims`; None weighs each 1.
        full_dim: Numbers in a vector.

    Returns:
        The sizes with a weight above 0, smallest first.

    Raises:
        DimensionError: A dim is outside the vector, repeated or out of order.
        LossInputError: Weights do not fit.

    Example:
        >>> nested_prefixes([8, 4, 2], [1.0, 0.0, 0.5], full_dim=8)
        [Prefix(start=0, dim=2, weight=0.5), Prefix(start=2, dim=8, weight=1.0)]
    """
    dims = check_dims(dims, full_dim)
    counting = sorted((dim, weight) for dim, weight in zip(dims, resolve_weights(dims, weights), strict=True) if weight)
    starts = [0, *(dim for dim, _ in counting)]
    return [Prefix(start, dim, weight) for start, (dim, weight) in zip(starts, counting, strict=False)]


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


def check_vectors(**named: Tensor) -> int:
    """Check embeddings that belong together.

    Args:
        named: Name, as the error should call it, and [rows, dim], floating point and finite.

    Returns:
        Their dim.

    Raises:
        LossInputError: One is no matrix of floating-point numbers, has no rows or holds a number that is not finite,
            or they have vectors of different sizes.
    """
    for name, vectors in named.items():
        if vectors.ndim != 2 or not vectors.is_floating_point():
            raise LossInputError(
                f"The {name} are {list(vectors.shape)}, {vectors.dtype}. Give floating-point numbers [rows, dim]."
            )
        if len(vectors) == 0:
            raise LossInputError(f"There are no {name}: the batch is empty. Give at least one row.")
        # One pass that copies nothing; only if squares leave the range of the type does it take a closer look.
        if not vectors.detach().norm().isfinite() and not vectors.isfinite().all():
            raise LossInputError(f"The {name} hold numbers that are not finite. Lower the learning rate.")
    sizes = {name: vectors.shape[1] for name, vectors in named.items()}
    if len(set(sizes.values())) > 1:
        raise LossInputError(f"Vectors differ in size: {sizes}. Give all of one batch the same.")
    return next(iter(sizes.values()))


def chosen(values: Tensor, rows: slice | None) -> Tensor:
    """Take some rows; None takes all, without the copy that even a full slice costs on the way back.

    Args:
        values: [batch, ...].
        rows: Which.

    Returns:
        [rows, ...].
    """
    return values if rows is None else values[rows]


def check_rows(rows: slice | None, batch: int) -> int:
    """Check which rows a loss is the mean of.

    Args:
        rows: Which; None for all.
        batch: Rows there are.

    Returns:
        How many they are.

    Raises:
        LossInputError: None of the rows.
    """
    count = len(range(*(slice(None) if rows is None else rows).indices(batch)))
    if not count:
        raise LossInputError(f"rows is {rows}, which is none of the {batch} rows. Choose at least one.")
    return count


def widen(*tensors: Tensor) -> list[Tensor]:
    """Bring tensors to the precision a loss is computed in.

    Done once, outside any hand-written gradient, so that gradients of a tensor that is used twice add up in that
    precision too.

    Args:
        tensors: Floating point.

    Returns:
        The same in the widest of their types, float32 at least.
    """
    working = torch.float32
    for tensor in tensors:
        working = torch.promote_types(working, tensor.dtype)
    return [tensor.to(working) for tensor in tensors]


def check_temperature(temperature: float | Tensor) -> float:
    """Check what similarities are divided by.

    Args:
        temperature: Finite, 1e-6 at least; a number, or a tensor of one.

    Returns:
        The number.

    Raises:
        LossInputError: It is not.
    """
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1:
            raise LossInputError(f"Temperature is a tensor {list(temperature.shape)}. Give one number.")
        temperature = float(temperature.detach())
    if not (math.isfinite(temperature) and temperature >= _LEAST_TEMPERATURE):
        raise LossInputError(f"Temperature is {temperature}. It must be above 0 (1e-6 at least); 0.05 is usual.")
    return temperature


def check_margin(margin: float) -> float:
    """Check how far apart a pair that does not belong together should be.

    Args:
        margin: Finite and above 0.

    Returns:
        The same.

    Raises:
        LossInputError: It is not.
    """
    if not (math.isfinite(margin) and margin > 0):
        raise LossInputError(f"Margin is {margin}. It must be above 0; 0.5 is usual.")
    return margin


def check_distance(distance: str) -> None:
    """Check the name of a distance.

    Args:
        distance: What was asked for.

    Raises:
        LossInputError: It is not known.
    """
    if distance not in get_args(Distance):
        raise LossInputError(f"Distance is {distance!r}. Choose one of {', '.join(get_args(Distance))}.")


def check_class_labels(labels: Tensor | None, batch: int, n_classes: int | None = None) -> Tensor:
    """Check one class a row.

    Args:
        labels: [batch], whole numbers, from 0 to n_classes - 1 where that is known.
        batch: Rows there are.
        n_classes: Classes there are; None allows any whole number.

    Returns:
        [batch], int64.

    Raises:
        LossInputError: Another shape, numbers that are not whole, or one outside the classes.
    """
    labels = _one_label_a_row(labels, batch, "a class (a whole number)")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise LossInputError(f"Labels are {labels.dtype}. Classes are whole numbers: give int64.")
    if n_classes is not None and not ((labels >= 0) & (labels < n_classes)).all():
        raise LossInputError(
            f"Labels run from {labels.min().item()} to {labels.max().item()}. "
            f"With {n_classes} classes they run from 0 to {n_classes - 1}."
        )
    return labels.long()


def check_binary_labels(labels: Tensor | None, batch: int) -> Tensor:
    """Check labels that say which pairs belong together.

    Args:
        labels: [batch], 1 for a pair that belongs together and 0 for one that does not, of any type.
        batch: Pairs there are.

    Returns:
        [batch], bool.

    Raises:
        LossInputError: Another shape, or a label that is neither 0 nor 1.
    """
    labels = _one_label_a_row(labels, batch, "0 or 1")
    if not ((labels == 0) | (labels == 1)).all():
        wrong = labels[(labels != 0) & (labels != 1)][0].item()
        raise LossInputError(f"A label is {wrong}. Label pairs 1 (they belong together) or 0 (they do not).")
    return labels == 1


def _one_label_a_row(labels: Tensor | None, batch: int, wanted: str) -> Tensor:
    if labels is None:
        raise LossInputError(f"There are no labels. Give each row {wanted} in a column named label.")
    if labels.numel() != batch:
        raise LossInputError(f"Got labels {list(labels.shape)} for {batch} rows. Give each row {wanted}.")
    return labels.reshape(batch)
