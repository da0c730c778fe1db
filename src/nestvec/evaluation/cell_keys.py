"""Which cell of a grid is meant, and the vectors that grids are measured from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import GridError
from nestvec.quantization import check_precision

__all__ = ["CellKey", "Rerank", "TaskVectors", "parse_rerank"]

Float32s = NDArray[np.float32]


class Rerank(NamedTuple):
    """A second stage: order a shortlist anew by longer vectors."""

    precision: str
    """How the full vectors of the second stage are stored."""
    shortlist: int
    """Documents that the first stage hands over."""

    def __str__(self) -> str:
        """Write it as the command line does: `int8:100`."""
        return f"{self.precision}:{self.shortlist}"


class CellKey(NamedTuple):
    """Which cell of a grid."""

    dim: int
    precision: str = "float32"
    rerank: Rerank | None = None


class TaskVectors(NamedTuple):
    """A task as one model sees it: encoded once, measured in every cell."""

    queries: Float32s
    """Unit vectors of the task's queries, [n_queries, full_dim]."""
    documents: Float32s
    """Unit vectors of the task's documents, [n_documents, full_dim]."""


def parse_rerank(text: str) -> Rerank | None:
    """Read a second stage from its name.

    Args:
        text: `none`, or a precision and the length of the shortlist, such as `int8:100`.

    Returns:
        The second stage; None for none.

    Raises:
        GridError: It is neither.
        PrecisionError: The precision is not known.

    Example:
        >>> parse_rerank("int8:100")
        Rerank(precision='int8', shortlist=100)
    """
    if text == "none":
        return None
    precision, _, shortlist = text.partition(":")
    if not shortlist.isdecimal() or int(shortlist) < 1:
        raise GridError(f"Cannot read the rerank {text!r}. Write none, or a precision and a length, such as int8:100.")
    return Rerank(check_precision(precision), int(shortlist))
