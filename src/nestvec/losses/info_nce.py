"""InfoNCE over nested sizes: every truncated prefix learns to find its positive among the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nestvec.errors import LossInputError
from nestvec.losses.engine import tiled_loss
from nestvec.losses.false_negatives import FalseNegativeMask, FalseNegatives
from nestvec.losses.prefixes import check_rows, check_temperature, check_vectors, chosen, nested_prefixes, widen

__all__ = ["CrossEntropy", "nested_info_nce"]


def nested_info_nce(
    queries: Tensor,
    documents: Tensor,
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    temperature: float | Tensor = 0.05,
    symmetric: bool = False,
    false_negatives: FalseNegatives | None = None,
    rows: slice | None = None,
) -> Tensor:
    """Weighted sum over dims of InfoNCE on truncated, re-normalised vectors.

    Exact for `sum_k w_k * InfoNCE(truncate(queries, d_k), truncate(documents, d_k))`, at about the cost of the
    largest size alone, with memory that grows with the batch and not with its square.

    Args:
        queries: [batch, dim], floating point. Need not be unit length. Similarities accumulate in float32 at least.
        documents: [batch * (1 + negatives), dim]. Row i is the positive of query i; every other row is a negative.
        dims: Prefix sizes, strictly rising or strictly falling, none larger than dim.
        weights: One non-negative weight a dim, in the order of `dims`; None weighs each 1.
        temperature: What cosine similarities are divided by, above 0. A tensor of one number can be learned.
        symmetric: Also rank the queries for each positive, and average both directions (CLIP).
        false_negatives: Documents that are not to count as negatives; None counts all.
        rows: Which queries (and positives) the loss is the mean of; the others only serve as negatives. A process
            that has gathered the batches of all gives its own. None takes all.

    Returns:
        Scalar: the mean over queries, in nats, summed over dims by weight.

    Raises:
        LossInputError: Shapes, weights, temperature or rows do not fit, the batch is empty, or an embedding is not
            finite.
        DimensionError: A dim is outside the vector, repeated or out of order.

    Source:
        van den Oord et al. 2018, arXiv:1807.03748; in-batch negatives: Henderson et al. 2017, arXiv:1705.00652;
        symmetric: Radford et al. 2021, arXiv:2103.00020; nested over prefixes: Kusupati et al. 2022,
        arXiv:2205.13147. The memory-saving order of work follows Gao et al. 2021, arXiv:2101.06983, and goes further:
        the score matrix is never whole.

    Example:
        >>> queries, documents = torch.eye(2, 4), torch.eye(2, 4)
        >>> round(nested_info_nce(queries, documents, dims=[4, 2], temperature=1.0).item(), 4)
        0.6265
    """
    prefixes = nested_prefixes(dims, weights, check_vectors(queries=queries, documents=documents))
    batch, n_documents = len(queries), len(documents)
    if n_documents % batch:
        raise LossInputError(
            f"Got {batch} queries and {n_documents} documents. Each query needs one positive and as many negatives "
            "as every other."
        )
    scale = 1.0 / check_temperature(temperature)
    check_rows(rows, batch)
    if false_negatives is not None:
        false_negatives.check(batch, n_documents)
    queries, documents = widen(queries, documents)
    targets = chosen(torch.arange(batch, device=queries.device), rows)
    mask = None if false_negatives is None else false_negatives.of_documents(rows, batch, scale)
    loss = tiled_loss(chosen(queries, rows), documents, prefixes, CrossEntropy(targets, mask), scale=1.0 / temperature)
    if symmetric:
        positives = documents if n_documents == batch else documents[:batch]
        mask = None if false_negatives is None else false_negatives.of_queries(rows, batch, scale)
        back = tiled_loss(
            chosen(positives, rows), queries, prefixes, CrossEntropy(targets, mask), scale=1.0 / temperature
        )
        loss = (loss + back) / 2
    return loss


class CrossEntropy:
    """The tile loss that each row's target gets the highest score."""

    def __init__(self, targets: Tensor, false_negatives: FalseNegativeMask | None = None) -> None:
        """Bind the targets.

        Args:
            targets: [rows], which column each row should find.
            false_negatives: Which columns do not count for a row.
        """
        self._targets = targets[:, None]
        self._false_negatives = false_negatives

    def start(self, rows: slice) -> None:
        """Compute what the prefixes of a tile share."""
        if self._false_negatives is not None:
            self._false_negatives.start(rows, self._targets[rows])

    def __call__(self, scores: Tensor, rows: slice, gradient: Tensor) -> Tensor:
        """Return -log softmax at the target, and fill in its gradient."""
        targets = self._targets[rows]  # [tile_rows, 1]
        if self._false_negatives is not None:
            self._false_negatives.apply(scores, targets)
        target_scores = scores.gather(1, targets)
        highest = scores.amax(dim=1, keepdim=True)
        torch.softmax(scores, dim=1, out=gradient)
        log_total = highest - gradient.amax(dim=1, keepdim=True).log()
        gradient.scatter_(1, targets, 0.0)
        others = gradient.sum(dim=1, keepdim=True)
        # What the others hold is 1 - the target's share, without the cancellation when that share is near 1.
        gradient.scatter_(1, targets, -others)
        # log(1 + others / target), which keeps the digits of a small loss.
        return torch.nn.functional.softplus(others.log() + log_total - target_scores, threshold=50.0)[:, 0]
