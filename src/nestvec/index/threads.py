"""How many threads a search takes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from nestvec.extras import require

__all__ = ["faiss_threads", "one_thread_for_products"]


class faiss_threads:  # noqa: N801  # used as a function is; a generator would take four times as long
    """Let faiss use so many threads meanwhile."""

    __slots__ = ("_before", "_count", "_faiss")

    def __init__(self, count: int | None) -> None:
        """Say how many.

        Args:
            count: Threads; None leaves them as they are.

        Raises:
            MissingExtraError: faiss is not installed.
        """
        self._faiss = require("faiss", extra="index")
        self._before = self._faiss.omp_get_max_threads()
        self._count = count or self._before

    def __enter__(self) -> None:
        """Set it."""
        if self._count != self._before:
            self._faiss.omp_set_num_threads(self._count)

    def __exit__(self, *_: object) -> None:
        """Set it back."""
        if self._count != self._before:
            self._faiss.omp_set_num_threads(self._before)


def one_thread_for_products() -> AbstractContextManager[Any]:
    """Let numpy's matrix products use one thread meanwhile.

    Theirs wait for work by spinning, and take the processors from those of faiss: on two cores a batch of queries takes
    twice as long on two threads as it takes with this.
    """
    found: AbstractContextManager[Any] = _products().limit(limits=1)
    return found


@cache
def _products() -> Any:
    # Not those of faiss itself, whose number of threads is that of OpenMP.
    return require("threadpoolctl", extra="index").ThreadpoolController().select(threading_layer="pthreads")
