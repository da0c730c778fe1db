"""How long work reports that it is moving: libraries stay silent, the command line draws a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Advance", "Progress", "about", "silent"]

Advance = Callable[[int], None]
"""Called with the number of units just finished."""


class Progress(Protocol):
    """Opens one bar for one piece of work; `total` is None where the end is not known."""

    def __call__(self, description: str, total: int | None) -> AbstractContextManager[Advance]:
        """Return a context manager whose value is called with the number of units just finished."""
        ...


@contextmanager
def silent(description: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG001  # the protocol names them
    """Report nothing: what every function uses unless its caller passes something else.

    Args:
        description: What is being done, in a few words.
        total: Units of work, or None where the end is not known.

    Yields:
        A function that takes the number of units just finished, and ignores it.
    """
    yield lambda _finished: None


def about(subject: str, progress: Progress) -> Progress:
    """Say in every description what the work is about: `searching` becomes `searching int8`.

    Args:
        subject: In a word or two.
        progress: How progress is reported.

    Returns:
        The same, with the subject after every description.
    """
    return lambda description, total: progress(f"{description} {subject}", total)
