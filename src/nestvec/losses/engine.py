"""The engine: losses on the similarities of every row with every column, at all nested sizes in one pass of tiles.

With prefixes d_1 < ... < d_K, the products of prefix k are those of prefix k - 1 plus one block product, so that all
K losses cost one full-size matrix product. A tile holds a few rows against all columns. As soon as the K scores of a
tile are there, its losses and their gradients are too: the gradient reaches the vectors as suffix sums over the
prefixes, by one block product an operand, and the tile is forgotten. Nothing of size [rows, columns] ever exists, and
the backward pass of autograd only multiplies the finished gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nestvec.losses.prefixes import Distance, Prefix
from nestvec.vectors import truncate

__all__ = ["TileLoss", "nearest_and_furthest", "tiled_loss"]

# Measured on two cores: larger tiles leave the cache, lower ones starve the matrix product. A GPU wants more at once.
_TILE_SCORES, _LEAST_TILE_ROWS = 2**20, 256
_TILE_SCORES_GPU, _LEAST_TILE_ROWS_GPU = 2**25, 1024
_SHORT = 1e-12  # squares of numbers between this and its inverse keep all their digits in float32


class TileLoss(Protocol):
    """What each row of a tile of scores costs."""

    def start(self, rows: slice) -> None:
        """Prepare what the prefixes of a tile share.

        Args:
            rows: Which rows the tile holds.
        """

    def __call__(self, scores: Tensor, rows: slice, gradient: Tensor) -> Tensor:
        """Compute the loss of each row, and its gradient.

        Args:
            scores: [tile_rows, columns], scale * similarity at one prefix. May be changed, to finite numbers, where
                the gradient is 0.
            rows: Which rows these are.
            gradient: [tile_rows, columns], not initialised: is filled with the gradient of each row's loss.

        Returns:
            [tile_rows], in nats where the loss is one of probabilities.
        """


def tiled_loss(
    rows: Tensor,
    columns: Tensor,
    prefixes: Sequence[Prefix],
    tile_loss: TileLoss,
    *,
    scale: float | Tensor = 1.0,
    row_weights: Tensor | None = None,
    bias: Tensor | None = None,
    cosine_rows: bool = True,
    cosine_columns: bool = True,
) -> Tensor:
    """Sum a loss over the rows and, by weight, over the prefixes.

    Args:
        rows: [rows, dim], float32 or float64, finite.
        columns: [columns, dim], same type, finite.
        prefixes: Sizes to compute, smallest first.
        tile_loss: The loss of one tile.
        scale: What similarities are multiplied by; a tensor of one number, or of one a prefix, receives a gradient.
        row_weights: [rows], what each row's loss is multiplied by; None takes the mean.
        bias: [columns], added to every row of scores.
        cosine_rows: Whether each prefix of a row is scaled to unit length.
        cosine_columns: The same for columns.

    Returns:
        Scalar, same type, differentiable once with respect to rows, columns, scale and bias.
    """
    if row_weights is None:
        row_weights = rows.new_full((len(rows),), 1.0 / len(rows))
    scale = torch.as_tensor(scale, dtype=rows.dtype, device=rows.device)
    job = _Job(tuple(prefixes), tile_loss, row_weights, cosine_rows, cosine_columns)
    loss: Tensor = _TiledLoss.apply(rows, columns, scale, bias, job)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def nearest_and_furthest(
    vectors: Tensor, labels: Tensor, anchors: Tensor, prefixes: Sequence[Prefix], distance: Distance
) -> tuple[Tensor, Tensor]:
    """Find each anchor's furthest row of its own class and its nearest row of another, at every prefix, in tiles.

    Args:
        vectors: [batch, dim], float32 or float64.
        labels: [batch], the class of each row.
        anchors: [n_anchors], rows that have both.
        prefixes: Sizes, smallest first.
        distance: Between unit vectors.

    Returns:
        Rows of the furthest [prefixes, n_anchors] and of the nearest [prefixes, n_anchors].
    """
    operand = _Operand(vectors, prefixes, cosine=True)
    height = _tile_rows(vectors, len(vectors))
    furthest, nearest = (labels.new_empty(len(prefixes), len(anchors)) for _ in range(2))
    for start in range(0, len(anchors), height):
        tile = anchors[start : start + height]  # [tile_rows]
        fellows = labels[tile, None] == labels[None, :]  # [tile_rows, batch]
        strangers = ~fellows
        fellows[torch.arange(len(tile)), tile] = False
        products = vectors.new_zeros(len(tile), len(vectors))
        for k, prefix in enumerate(prefixes):
            if distance == "manhattan":
                unit = truncate(vectors, prefix.dim)
                distances = torch.cdist(unit[tile], unit, p=1.0)
            else:
                products.addmm_(operand.blocks[k][tile], operand.blocks[k].T)
                lengths = operand.inverse_lengths[k]
                cosines = products * lengths[tile, None] * lengths
                # Squared Euclidean distance of unit vectors, less what a row shares; a zero vector has length 0.
                distances = (lengths != 0).to(vectors.dtype) - 2.0 * cosines if distance == "euclidean" else -cosines
            furthest[k, start : start + height] = distances.masked_fill(~fellows, -torch.inf).argmax(dim=1)
            nearest[k, start : start + height] = distances.masked_fill(~strangers, torch.inf).argmin(dim=1)
    return furthest, nearest


class _Job(NamedTuple):
    prefixes: tuple[Prefix, ...]
    tile_loss: TileLoss
    row_weights: Tensor
    cosine_rows: bool
    cosine_columns: bool


class _TiledLoss(torch.autograd.Function):
    """Computes the gradients together with the value, while each tile is in the cache."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, scale: Tensor, bias: Tensor | None, job: _Job) -> Tensor:
        wanted = ctx.needs_input_grad[:4]
        with torch.autocast(device_type=rows.device.type, enabled=False):
            sweep = _Sweep(rows, columns, scale, bias, job, wanted)
            value = sweep.run()
            gradients = sweep.gradients() if any(wanted) else (None,) * 4
        ctx.save_for_backward(
            *(gradient if needed else None for gradient, needed in zip(gradients, wanted, strict=True))
        )
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if gradient is None else gradient * grad_output for gradient in ctx.saved_tensors), None)


class _Operand:
    """Rows or columns: the vectors in working precision, and 1 / length of every prefix."""

    def __init__(self, vectors: Tensor, prefixes: Sequence[Prefix], *, cosine: bool) -> None:
        full = vectors[:, : prefixes[-1].dim]
        self.shape = vectors.shape
        # The largest prefix gets unit length first, so that squares of very short or long vectors stay in range. The
        # losses do not depend on length: their gradient is that of the unit vector, divided by the length.
        self.inverse_length = _inverse(_lengths(full)[0]) if cosine else None
        self.vectors = full if self.inverse_length is None else (full * self.inverse_length[:, None]).to(full.dtype)
        self.blocks = [self.vectors[:, prefix.start : prefix.dim] for prefix in prefixes]  # each [n, block]
        if cosine:
            lengths = _lengths(*self.blocks).square().cumsum(dim=0).sqrt()  # [K, n]
            # A prefix this much shorter than its vector counts as zero: its inverse square would leave the type.
            negligible = torch.finfo(vectors.dtype).tiny ** 0.4  # 6e-16 in float32
            self.inverse_lengths = _inverse(lengths.where(lengths > negligible, 0.0)).to(vectors.dtype)  # [K, n]
        else:
            self.inverse_lengths = full.new_ones(len(prefixes), len(vectors))

    def finish(self, gradient: Tensor, radial: Tensor, prefixes: Sequence[Prefix]) -> Tensor:
        """Take out of the gradient what only changes lengths, and fill up to the full size.

        Args:
            gradient: [n, largest prefix], of the scores with lengths held fixed; is overwritten.
            radial: [K, n], gradient times score, summed over the other operand.
            prefixes: The sizes.
        """
        if self.inverse_length is not None:
            # A prefix pulls along every shorter one: suffix sums over k.
            pull = (radial * self.inverse_lengths.square()).flip(0).cumsum(0).flip(0)  # [K, n]
            for k, prefix in enumerate(prefixes):
                gradient[:, prefix.start : prefix.dim].addcmul_(self.blocks[k], pull[k][:, None], value=-1)
            gradient.mul_(self.inverse_length[:, None])
        missing = self.shape[1] - gradient.shape[1]
        if not missing:
            return gradient
        return torch.cat([gradient, gradient.new_zeros(len(gradient), missing)], dim=1)


def _tile_rows(like: Tensor, n_columns: int) -> int:
    scores, least = (_TILE_SCORES_GPU, _LEAST_TILE_ROWS_GPU) if like.is_cuda else (_TILE_SCORES, _LEAST_TILE_ROWS)
    return max(least, scores // n_columns)


def _lengths(*blocks: Tensor) -> Tensor:
    """[blocks, n]; in float64 where squares in float32 could leave its range."""
    lengths = torch.stack([torch.linalg.vector_norm(block, dim=1) for block in blocks])
    if lengths.dtype == torch.float32:
        shortest, longest = lengths.aminmax()
        if not (shortest > _SHORT and longest < 1 / _SHORT):
            return torch.stack([torch.linalg.vector_norm(block, dim=1, dtype=torch.float64) for block in blocks])
    return lengths


def _inverse(lengths: Tensor) -> Tensor:
    """1 / length, and 0 for a zero vector, which then is similar to nothing and gets no gradient."""
    return torch.where(lengths == 0, 0.0, lengths.reciprocal())


class _Sweep:
    """One pass over the tiles, with what it gathers on the way."""

    def __init__(
        self,
        rows: Tensor,
        columns: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        job: _Job,
        wanted: tuple[bool, bool, bool, bool],
    ) -> None:
        self.job, self.scale = job, scale
        self.rows = _Operand(rows, job.prefixes, cosine=job.cosine_rows)
        self.columns = (
            self.rows
            if columns is rows and job.cosine_rows == job.cosine_columns
            else _Operand(columns, job.prefixes, cosine=job.cosine_columns)
        )
        self.bias = bias
        self.row_scale = self.rows.inverse_lengths * scale.reshape(-1, 1)  # [K, rows]
        self.any_gradient = any(wanted)
        like, n_prefixes = self.rows.vectors, len(job.prefixes)
        self.grad_rows = torch.empty_like(self.rows.vectors) if wanted[0] else None
        self.grad_columns = torch.empty_like(self.columns.vectors) if wanted[1] else None
        self.grad_bias = like.new_zeros(len(columns)) if wanted[3] else None
        self.row_radial = like.new_zeros(n_prefixes, len(rows))
        self.column_radial = like.new_zeros(n_prefixes, len(columns))

    def run(self) -> Tensor:
        """Go through the tiles; return the value."""
        like, n_rows, n_columns = self.rows.vectors, self.rows.shape[0], self.columns.shape[0]
        height = min(n_rows, _tile_rows(like, n_columns))
        products, scores = (like.new_empty(height, n_columns) for _ in range(2))
        # Without gradients one buffer does: nothing of a prefix is needed after it.
        kept = like.new_empty(len(self.job.prefixes) if self.any_gradient else 1, height, n_columns)
        value = like.new_zeros(())
        for start in range(0, n_rows, height):
            tile = slice(start, min(start + height, n_rows))
            n = tile.stop - start
            self.job.tile_loss.start(tile)
            value += self._forward(tile, products[:n], scores[:n], kept[:, :n])
            if self.any_gradient:
                self._backward(tile, kept[:, :n], products[:n])
        return value

    def _forward(self, tile: slice, products: Tensor, scores: Tensor, kept: Tensor) -> Tensor:
        value = products.new_zeros(())
        for k, prefix in enumerate(self.job.prefixes):
            row_block, column_block = self.rows.blocks[k][tile], self.columns.blocks[k].T
            if k == 0:
                torch.mm(row_block, column_block, out=products)
            else:
                torch.addmm(products, row_block, column_block, out=products)
            row_scale = self.row_scale[k, tile, None]  # [tile_rows, 1]
            torch.mul(products, self.columns.inverse_lengths[k], out=scores)
            scores.mul_(row_scale)
            if self.bias is not None:
                scores.add_(self.bias)
            weights = self.job.row_weights[tile] * prefix.weight  # [tile_rows]
            gradient = kept[k if self.any_gradient else 0]
            value += self.job.tile_loss(scores, tile, gradient) @ weights
            if not self.any_gradient:
                continue
            if self.grad_bias is not None:
                self.grad_bias.addmv_(gradient.T, weights)
            if self.bias is not None:
                scores.sub_(self.bias)
            radial = scores.mul_(gradient)
            torch.sum(radial, dim=1, out=self.row_radial[k, tile]).mul_(weights)
            self.column_radial[k].addmv_(radial.T, weights)
            gradient.mul_(row_scale * weights[:, None])
        return value

    def _backward(self, tile: slice, kept: Tensor, suffix: Tensor) -> None:
        """Send the gradients of a tile's products, summed over this and all longer prefixes, to the blocks."""
        for k in reversed(range(len(self.job.prefixes))):
            prefix = self.job.prefixes[k]
            if k == len(self.job.prefixes) - 1:
                torch.mul(kept[k], self.columns.inverse_lengths[k], out=suffix)
            else:
                suffix.addcmul_(kept[k], self.columns.inverse_lengths[k])
            if self.grad_rows is not None:
                torch.mm(suffix, self.columns.blocks[k], out=self.grad_rows[tile, prefix.start : prefix.dim])
            if self.grad_columns is not None:
                add = 1 if tile.start else 0  # the first tile overwrites what is not initialised
                self.grad_columns[:, prefix.start : prefix.dim].addmm_(suffix.T, self.rows.blocks[k][tile], beta=add)

    def gradients(self) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]:
        """Return the gradients of rows, columns, scale and bias."""
        grad_rows, grad_columns = self.grad_rows, self.grad_columns
        if grad_rows is not None:
            grad_rows = self.rows.finish(grad_rows, self.row_radial, self.job.prefixes)
        if grad_columns is not None:
            grad_columns = self.columns.finish(grad_columns, self.column_radial, self.job.prefixes)
        by_prefix = self.row_radial.sum(dim=1)
        grad_scale = (by_prefix.sum() if self.scale.numel() == 1 else by_prefix) / self.scale
        return grad_rows, grad_columns, grad_scale, self.grad_bias
