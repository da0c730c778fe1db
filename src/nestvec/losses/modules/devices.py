"""The batches of all processes as one: gathered with gradients, and gradients of shared parameters averaged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed
import torch.distributed.nn.functional
from torch import Tensor

from nestvec.errors import LossInputError

__all__ = ["average_gradient", "check_equal_batches", "gather", "is_distributed", "local_rows", "same_everywhere"]


def check_equal_batches(rows: int, device: torch.device) -> None:
    """Check, before anything is gathered, that it fits together.

    Args:
        rows: Of this process's batch.
        device: Where the batch is.

    Raises:
        LossInputError: Processes have batches of different sizes.
    """
    if not is_distributed():
        return
    own = torch.tensor([rows], device=device)
    sizes = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(sizes, own)
    if len({int(size) for size in sizes}) > 1:
        raise LossInputError(
            f"Processes have batches of {[int(size) for size in sizes]} rows. Gathering needs equal ones: drop the "
            "last, incomplete one (dataloader_drop_last=True)."
        )


def gather(vectors: Tensor) -> Tensor:
    """Put together the rows of all processes, in the order of their ranks.

    The gradient of every process reaches the rows of all others, summed: with a gradient average over processes, as
    DistributedDataParallel takes it, a mean over each process's own rows trains like one large batch.

    Args:
        vectors: [rows, ...], the same shape in every process.

    Returns:
        [processes * rows, ...]; the same as given where there is one process.
    """
    if not is_distributed():
        return vectors
    if vectors.is_floating_point() and vectors.requires_grad:
        return torch.cat(torch.distributed.nn.functional.all_gather(vectors))  # type: ignore[no-untyped-call]
    gathered = [torch.empty_like(vectors) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(gathered, vectors.contiguous())
    return torch.cat(gathered)


def local_rows(batch: int) -> slice | None:
    """Say which of the gathered rows are this process's own.

    Args:
        batch: Rows of each process.

    Returns:
        Their place; None where there is one process.
    """
    if not is_distributed():
        return None
    start = torch.distributed.get_rank() * batch
    return slice(start, start + batch)


def average_gradient(parameter: Tensor) -> Tensor:
    """Let a parameter of the loss learn the same in every process: DistributedDataParallel only sees the model's.

    Args:
        parameter: Any shape.

    Returns:
        The same; its gradient is averaged over the processes on its way back.
    """
    averaged: Tensor = _AverageGradient.apply(parameter) if is_distributed() else parameter  # type: ignore[no-untyped-call]
    return averaged


@torch.no_grad()
def same_everywhere(parameters: Iterable[Tensor]) -> None:
    """Give all processes the parameters of the first: each may have drawn its own.

    Args:
        parameters: Of the loss, the same shapes everywhere; are overwritten.
    """
    if is_distributed():
        for parameter in parameters:
            torch.distributed.broadcast(parameter.detach(), src=0)


class _AverageGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor) -> Tensor:
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        gradient = grad_output.contiguous().clone()
        torch.distributed.all_reduce(gradient)
        return gradient / torch.distributed.get_world_size()


def is_distributed() -> bool:
    """Say whether several processes train together."""
    return (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    )
