"""How many threads searches and builds take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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


_lock = threading.Lock()
_users = 0
_limited = ExitStack()


@contextmanager
def one_thread_for_products() -> Iterator[None]:
    """Let numpy's matrix products use one thread meanwhile, in the whole process.

    Theirs wait for work by spinning, and take the processors from those of faiss: on two cores a batch of queries takes
    longer on two threads than on one without this. The last of several users at once sets back what the first found.

    Raises:
        MissingExtraError: threadpoolctl is not installed.
    """
    global _users  # the number of threads is one for the process
    with _lock:
        if not _users:
            _limited.enter_context(_products().limit(limits=1))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _limited.close()


@cache
def _products() -> Any:
    # Not those of faiss itself, whose number of threads is that of OpenMP.
    return require("threadpoolctl", extra="index").ThreadpoolController().select(threading_layer="pthreads")
