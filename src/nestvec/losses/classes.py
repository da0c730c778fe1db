"""Losses on class labels at every nested size: softmax heads, and rows of one class attracting each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nestvec.errors import LossInputError
from nestvec.losses.engine import tiled_loss
from nestvec.losses.info_nce import CrossEntropy
from nestvec.losses.prefixes import (
    Prefix,
    check_class_labels,
    check_rows,
    check_temperature,
    check_vectors,
    chosen,
    nested_prefixes,
    resolve_weights,
    widen,
)

__all__ = ["nested_softmax", "nested_supervised_contrastive"]


def nested_softmax(
    vectors: Tensor,
    labels: Tensor,
    heads: Tensor | Sequence[Tensor],
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    biases: Tensor | Sequence[Tensor] | None = None,
    unit_length: bool = True,
) -> Tensor:
    """Cross-entropy of a linear classifier on each prefix, summed over dims by weight.

    With a list of heads each size has a classifier of its own (MRL). With one matrix all share it: a prefix uses its
    first numbers (MRL-E), and one pass serves all sizes. Classes are worked through in tiles of rows, so that many
    classes need no [batch, classes] matrix a size.

    Args:
        vectors: [batch, dim], floating point.
        labels: [batch], whole numbers from 0.
        heads: [classes, dim] shared by all sizes, or a list with [classes, d] for each of `dims`, in their order.
        dims: Prefix sizes, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.
        biases: [classes] shared, or a list of them; None adds none.
        unit_length: Whether prefixes are scaled to unit length, as they are wherever nestvec uses a prefix. False is
            the paper's classifier, on the bare numbers.

    Returns:
        Scalar: the mean over rows, in nats.

    Raises:
        LossInputError: Shapes or weights do not fit, a label is no class, or a number is not finite.
        DimensionError: A dim is outside the vector, repeated or out of order.

    Source:
        Kusupati et al. 2022, arXiv:2205.13147, section 3.

    Example:
        >>> vectors, labels = torch.eye(2, 4), torch.tensor([0, 1])
        >>> round(nested_softmax(vectors, labels, torch.eye(2, 4), dims=[4, 2]).item(), 4)
        0.6265
    """
    full_dim = check_vectors(vectors=vectors)
    prefixes = nested_prefixes(dims, weights, full_dim)
    if isinstance(heads, Tensor):
        _check_head(heads, full_dim)
        shared_bias = _check_bias(biases, len(heads))
        vectors, heads = widen(vectors, heads)
        targets = CrossEntropy(check_class_labels(labels, len(vectors), len(heads)))
        return tiled_loss(
            vectors, heads, prefixes, targets, bias=shared_bias, cosine_rows=unit_length, cosine_columns=False
        )
    if len(heads) != len(dims):
        raise LossInputError(f"Got {len(heads)} heads for {len(dims)} dims. Give one a dim, or one matrix for all.")
    each_bias = [None] * len(dims) if biases is None else list(biases)
    if len(each_bias) != len(dims):
        raise LossInputError(f"Got {len(each_bias)} biases for {len(dims)} dims. Give one a dim.")
    checked = []
    for dim, weight, head, bias in zip(dims, resolve_weights(dims, weights), heads, each_bias, strict=True):
        _check_head(head, dim)
        targets = CrossEntropy(check_class_labels(labels, len(vectors), len(head)))
        if weight:
            checked.append((Prefix(0, dim, weight), head, _check_bias(bias, len(head)), targets))
    (vectors,) = widen(vectors)
    total = vectors.new_zeros(())
    for prefix, head, bias, targets in checked:
        wide_vectors, wide_head = widen(vectors, head)
        total = total + tiled_loss(
            wide_vectors, wide_head, [prefix], targets, bias=bias, cosine_rows=unit_length, cosine_columns=False
        )
    return total


def nested_supervised_contrastive(
    vectors: Tensor,
    labels: Tensor,
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    temperature: float | Tensor = 0.05,
    rows: slice | None = None,
) -> Tensor:
    """Supervised contrastive loss: every other row of the same class is a positive, all others are negatives.

    Mean over rows of the mean over their positives of -log softmax, the row itself left out, summed over dims by
    weight.

    Args:
        vectors: [batch, dim], floating point.
        labels: [batch], the class of each row, whole numbers.
        dims: Prefix sizes, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.
        temperature: What cosine similarities are divided by, above 0. A tensor of one number can be learned.
        rows: Which rows are anchors; None takes all. A process that has gathered the batches of all gives its own.

    Returns:
        Scalar, in nats: the mean over rows that have a positive; 0, with a gradient of zero, where none has, or no
            row is of another class: then there is nothing to compare.

    Raises:
        LossInputError: Shapes, weights, temperature or rows do not fit, or an embedding is not finite.
        DimensionError: A dim is outside the vector, repeated or out of order.

    Source:
        Khosla et al. 2020, arXiv:2004.11362, equation 2.

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> round(nested_supervised_contrastive(vectors, torch.tensor([0, 0, 1]), dims=[2], temperature=1.0).item(), 4)
        0.3133
    """
    prefixes = nested_prefixes(dims, weights, check_vectors(vectors=vectors))
    labels = check_class_labels(labels, len(vectors))
    check_temperature(temperature)
    _, kinds, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    n_positives = sizes[kinds] - 1  # [batch]
    has_positive = n_positives > 0
    (vectors,) = widen(vectors)
    if not has_positive.any() or len(sizes) == 1:
        return vectors[:0].sum()
    n_rows = check_rows(rows, len(vectors))
    # Mean over the anchors of all slices, so that slices of equal size average to the whole batch.
    row_weights = has_positive.to(vectors.dtype) / has_positive.sum() * (len(vectors) / n_rows)
    tile_loss = _SameClass(labels, n_positives, rows)
    return tiled_loss(
        chosen(vectors, rows),
        vectors,
        prefixes,
        tile_loss,
        scale=1.0 / temperature,
        row_weights=chosen(row_weights, rows),
    )


class _SameClass:
    """The tile loss of supervised contrastive learning."""

    def __init__(self, labels: Tensor, n_positives: Tensor, rows: slice | None) -> None:
        self._labels = labels
        self._own = chosen(torch.arange(len(labels), device=labels.device), rows)[:, None]  # [rows, 1]
        self._n_positives = chosen(n_positives, rows)[:, None].clamp(min=1)

    def start(self, rows: slice) -> None:
        own = self._own[rows]
        self._same = self._labels[own] == self._labels[None, :]  # [tile_rows, batch]
        self._same.scatter_(1, own, False)

    def __call__(self, scores: Tensor, rows: slice, gradient: Tensor) -> Tensor:
        own, n_positives = self._own[rows], self._n_positives[rows]
        scores.scatter_(1, own, -1e30)  # finite, so that score * gradient stays 0 and not NaN
        highest = scores.amax(dim=1, keepdim=True)
        torch.softmax(scores, dim=1, out=gradient)
        log_total = highest - gradient.amax(dim=1, keepdim=True).log()
        positives = scores.masked_fill(~self._same, 0.0).sum(dim=1, keepdim=True)
        gradient.sub_(self._same.to(gradient.dtype).div_(n_positives))
        return (log_total - positives / n_positives)[:, 0]


def _check_head(head: Tensor, dim: int) -> None:
    if check_vectors(heads=head) != dim:
        raise LossInputError(f"A head is {list(head.shape)}. For {dim} dimensions it is [classes, {dim}].")


def _check_bias(bias: Tensor | Sequence[Tensor] | None, n_classes: int) -> Tensor | None:
    if bias is None:
        return None
    if not isinstance(bias, Tensor) or bias.shape != (n_classes,):
        shape = list(bias.shape) if isinstance(bias, Tensor) else f"a list of {len(bias)}"
        raise LossInputError(f"A bias is {shape}. For {n_classes} classes it is [{n_classes}].")
    if not bias.isfinite().all():
        raise LossInputError("A bias holds numbers that are not finite. Lower the learning rate.")
    return bias
