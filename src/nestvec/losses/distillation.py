"""Distillation at every nested size: towards the vectors of a teacher, or towards its similarities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nestvec.errors import LossInputError
from nestvec.losses.engine import tiled_loss
from nestvec.losses.pairs import pair_distance
from nestvec.losses.prefixes import (
    Distance,
    Prefix,
    check_distance,
    check_rows,
    check_temperature,
    check_vectors,
    chosen,
    nested_prefixes,
    widen,
)
from nestvec.vectors import normalize, truncate

__all__ = ["nested_embedding_distillation", "nested_similarity_distillation"]

_MASKED = -1e30  # finite, so that score * gradient stays 0 and not NaN


def nested_embedding_distillation(
    vectors: Tensor,
    targets: Tensor,
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    distance: Distance = "cosine",
) -> Tensor:
    """Mean distance between each prefix and the same prefix of the teacher, both at unit length, summed by weight.

    A target that is cut but not scaled again pulls short prefixes towards lengths below 1, which no search ever sees.

    Args:
        vectors: [batch, dim], floating point.
        targets: [batch, teacher_dim], the teacher's vectors; teacher_dim is at least the largest of `dims`.
        dims: Prefix sizes, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.
        distance: `cosine` (1 - cosine similarity, half the squared Euclidean distance), `euclidean` or `manhattan`.

    Returns:
        Scalar.

    Raises:
        LossInputError: Shapes, weights or distance do not fit, or a number is not finite.
        DimensionError: A dim is outside the vectors or the targets, repeated or out of order.

    Source:
        Kim et al. 2023, arXiv:2301.12005, applied to prefixes.

    Example:
        >>> vectors, targets = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> round(nested_embedding_distillation(vectors, targets, dims=[2, 1]).item(), 4)
        0.2929
    """
    full_dim = check_vectors(vectors=vectors)
    prefixes = nested_prefixes(dims, weights, min(full_dim, check_vectors(targets=targets)))
    if len(vectors) != len(targets):
        raise LossInputError(f"Got {len(vectors)} vectors and {len(targets)} targets. Give each vector one.")
    check_distance(distance)
    with torch.autocast(device_type=vectors.device.type, enabled=False):
        (vectors,) = widen(vectors)
        targets = targets.detach().to(vectors.dtype)
        total = vectors.new_zeros(())
        for prefix in prefixes:
            distances = pair_distance(truncate(vectors, prefix.dim), truncate(targets, prefix.dim), distance)
            total = total + prefix.weight * distances.mean()
    return total


def nested_similarity_distillation(
    queries: Tensor,
    documents: Tensor | None = None,
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    temperature: float | Sequence[float] = 0.05,
    teacher_queries: Tensor | None = None,
    teacher_documents: Tensor | None = None,
    teacher_temperature: float | None = None,
    top_k: int | None = None,
    rows: slice | None = None,
) -> Tensor:
    """Kullback-Leibler divergence from the teacher's similarities to those of each prefix, summed over dims by weight.

    Each query's similarities to all documents become probabilities; the prefix learns to give the same ones. Without
    a teacher the full vectors, held fixed, teach their own prefixes, and no labels are needed.

    Args:
        queries: [batch, dim], floating point.
        documents: [n_documents, dim]; None compares the queries with each other, each without itself.
        dims: Prefix sizes, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.
        temperature: What the prefix's cosine similarities are divided by, above 0; one for all, or one a dim. Short
            prefixes have similarities that are further apart, and learn more at a higher one.
        teacher_queries: [batch, teacher_dim]; None takes `queries`.
        teacher_documents: [n_documents, teacher_dim]; given if and only if both the teacher and documents are.
        teacher_temperature: What the teacher's similarities are divided by; None takes `temperature`, where it is one.
        top_k: Compare only the teacher's so many nearest documents of each query with each other; None compares all.
        rows: Which queries the loss is the mean of; None takes all. A process that has gathered the batches of all
            gives its own.

    Returns:
        Scalar: the mean over queries, in nats; 0, with a gradient of zero, for a single vector compared with none.

    Raises:
        LossInputError: Shapes, weights, temperatures, top_k or rows do not fit, or a number is not finite.
        DimensionError: A dim is outside the vector, repeated or out of order.

    Source:
        Similarity rows as targets: Tung and Mori 2019, arXiv:1907.09682; the full size as the teacher of its prefixes:
        Zhuang et al. 2024, arXiv:2410.13230; nearest neighbours only: Yoon et al. 2024, arXiv:2407.20243, who compare
        pairs of them where we compare their shares.

    Example:
        >>> vectors = torch.eye(3)
        >>> round(nested_similarity_distillation(vectors, dims=[3]).item(), 4)
        0.0
    """
    named = {"queries": queries} if documents is None else {"queries": queries, "documents": documents}
    prefixes = nested_prefixes(dims, weights, check_vectors(**named))
    scales = _scales(temperature, dims, prefixes)
    if teacher_temperature is None:
        if isinstance(temperature, Sequence):
            raise LossInputError("Got a temperature for each dim and none for the teacher. Give teacher_temperature.")
        teacher_temperature = temperature
    check_temperature(teacher_temperature)
    if documents is None and len(queries) < 2:
        return widen(queries)[0][:0].sum()
    if teacher_queries is None:
        if teacher_documents is not None:
            raise LossInputError("Got teacher_documents without teacher_queries. Give both, or neither.")
        teacher_queries, teacher_documents = queries, documents
    elif (documents is None) != (teacher_documents is None):
        raise LossInputError("Give teacher_documents with documents, and leave it out without them.")
    teachers = {"teacher_queries": teacher_queries}
    if teacher_documents is not None:
        teachers["teacher_documents"] = teacher_documents
    check_vectors(**teachers)
    for (name, student), teacher in zip(named.items(), teachers.values(), strict=True):
        if len(student) != len(teacher):
            raise LossInputError(f"Got {len(student)} {name}, but {len(teacher)} teacher_{name}. Give each one.")
    check_rows(rows, len(queries))
    others = len(queries) - 1 if documents is None else len(documents)
    if top_k is not None and not 2 <= top_k <= others:
        raise LossInputError(f"top_k is {top_k} and there are {others} to compare with. Choose from 2 to {others}.")
    own = chosen(torch.arange(len(queries), device=queries.device), rows)[:, None] if documents is None else None
    with torch.autocast(device_type=queries.device.type, enabled=False):
        queries, *rest = widen(*named.values())
        unit = [normalize(teacher.detach().to(queries.dtype)) for teacher in teachers.values()]
        tile_loss = _SameSimilarities(chosen(unit[0], rows), unit[-1], 1.0 / teacher_temperature, own, top_k)
    columns = rest[0] if rest else queries
    return tiled_loss(chosen(queries, rows), columns, prefixes, tile_loss, scale=scales.to(queries))


def _scales(temperature: float | Sequence[float], dims: Sequence[int], prefixes: Sequence[Prefix]) -> Tensor:
    """What similarities are multiplied by: one number, or one for each prefix that counts."""
    if not isinstance(temperature, Sequence):
        return torch.tensor(1.0 / check_temperature(temperature), dtype=torch.float64)
    if len(temperature) != len(dims):
        raise LossInputError(f"Got {len(temperature)} temperatures for {len(dims)} dims. Give one, or one a dim.")
    by_dim = {dim: 1.0 / check_temperature(one) for dim, one in zip(dims, temperature, strict=True)}
    return torch.tensor([by_dim[prefix.dim] for prefix in prefixes], dtype=torch.float64)


class _SameSimilarities:
    """The tile loss of similarity distillation."""

    def __init__(
        self, teacher_rows: Tensor, teacher_columns: Tensor, scale: float, own: Tensor | None, top_k: int | None
    ) -> None:
        self._rows, self._columns, self._scale = teacher_rows, teacher_columns, scale
        self._own, self._top_k = own, top_k

    def start(self, rows: slice) -> None:
        scores = (self._rows[rows] @ self._columns.T) * self._scale
        if self._own is not None:
            scores.scatter_(1, self._own[rows], -torch.inf)
        self._near = None if self._top_k is None else scores.topk(self._top_k, dim=1).indices  # [tile_rows, top_k]
        if self._near is not None:
            near = scores.gather(1, self._near)
            scores.fill_(-torch.inf).scatter_(1, self._near, near)
        self._targets = torch.softmax(scores, dim=1)  # [tile_rows, columns]
        self._negative_entropy = torch.xlogy(self._targets, self._targets).sum(dim=1)  # [tile_rows]

    def __call__(self, scores: Tensor, rows: slice, gradient: Tensor) -> Tensor:
        if self._near is not None:
            near = scores.gather(1, self._near)
            scores.fill_(_MASKED).scatter_(1, self._near, near)
        elif self._own is not None:
            scores.scatter_(1, self._own[rows], _MASKED)
        highest = scores.amax(dim=1)
        torch.softmax(scores, dim=1, out=gradient)
        log_total = highest - gradient.amax(dim=1).log()
        gradient.sub_(self._targets)
        divergence = self._negative_entropy - (self._targets * scores).sum(dim=1) + log_total
        return divergence.clamp(min=0.0)  # near 0 only rounding is left
