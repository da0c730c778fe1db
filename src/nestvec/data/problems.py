"""What is wrong with a source: reported together, with places, or counted and said once where it can be tolerated."""

from __future__ import annotations

import warnings
from typing import NamedTuple

from nestvec.errors import DataError, NestvecWarning

__all__ = ["Problems", "first_line", "shorten"]


class _Tolerated(NamedTuple):
    times: int
    first: str


class Problems:
    """Collects what is wrong with a source, so that all of it is reported together."""

    def __init__(self, source: str, *, strict: bool = False, shown: int = 20, quiet: bool = False) -> None:
        """Start with none.

        Args:
            source: Name of the file or data set, for the message.
            strict: Whether what could be tolerated is refused.
            shown: How many are spelled out; the rest is counted.
            quiet: Whether nothing is said, since the source is read again.
        """
        self.source = source
        self.count = 0
        self.strict = strict
        self.quiet = quiet
        self._shown = shown
        self._lines: list[str] = []
        self._tolerated: dict[str, _Tolerated] = {}
        self._notes: list[str] = []

    def add(self, place: str, message: str) -> None:
        """Note one problem.

        Args:
            place: Where, such as `line 12`.
            message: What is wrong there.
        """
        self.count += 1
        if len(self._lines) < self._shown:
            self._lines.append(f"{place}: {message}")

    def tolerate(self, place: str, message: str, kind: str) -> None:
        """Note what published data often have: it is counted and said once, or with `strict` a problem.

        Args:
            place: Where, such as `line 12`.
            message: What is wrong there.
            kind: What such places have in common and what becomes of them, to follow a count and a colon.
        """
        if self.strict:
            self.add(place, message)
            return
        known = self._tolerated.get(kind)
        self._tolerated[kind] = _Tolerated(1, place) if known is None else known._replace(times=known.times + 1)

    def note(self, sentence: str) -> None:
        """Keep what the user should know of the source as a whole, to be said with what was tolerated."""
        self._notes.append(sentence)

    @property
    def tolerated(self) -> dict[str, int]:
        """How often each kind was tolerated."""
        return {kind: found.times for kind, found in self._tolerated.items()}

    def raise_if_any(self, error: type[DataError] = DataError) -> None:
        """Raise one error that lists every problem noted.

        Args:
            error: Which error to raise.

        Raises:
            DataError: At least one problem was noted.
        """
        if not self.count:
            return
        more = f"\n  and {self.count - len(self._lines)} more" if self.count > len(self._lines) else ""
        noun = "problem" if self.count == 1 else "problems"
        listing = "".join(f"\n  {line}" for line in self._lines)
        raise error(f"{self.source} has {self.count} {noun}:{listing}{more}")

    def warn_if_any(self) -> None:
        """Say once what was tolerated, and how often; a second call says nothing."""
        parts = [f"{kind}: {found.times:,} (the first: {found.first})" for kind, found in self._tolerated.items()]
        parts += self._notes
        self._tolerated, self._notes = {}, []
        if parts and not self.quiet:
            warnings.warn(f"{self.source}: {'; '.join(parts)}.", NestvecWarning, stacklevel=3)

    def finish(self, error: type[DataError] = DataError) -> None:
        """Raise what is wrong, or else say what was tolerated.

        Args:
            error: Which error to raise.

        Raises:
            DataError: At least one problem was noted.
        """
        self.raise_if_any(error)
        self.warn_if_any()


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shorten(value: object, length: int = 40) -> str:
    """Return a value as a message shows it, cut to a length."""
    shown = repr(value)
    return shown if len(shown) <= length else shown[: length - 3] + "..."
