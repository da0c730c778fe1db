"""Values with their bounds as short texts, the same in every table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nestvec.evaluation import Difference, Interval

__all__ = ["Spelled", "spell", "spell_percent", "spell_signed"]


class Spelled(NamedTuple):
    """A value as text, and its bounds where it has any."""

    value: str
    bounds: tuple[str, str] | None

    def spelled_bounds(self, *, compact: bool = False) -> str:
        """Return both bounds; nothing where the value is exact, such as the retention of the full size."""
        if self.bounds is None:
            return ""
        low, high = self.bounds
        return f"{low}{',' if low[0] in '+-' else '-'}{high}" if compact else f"({low}, {high})"

    def line(self, *, bounds: bool) -> str:
        """Return the value, and its bounds if wanted, on one line."""
        return f"{self.value} {self.spelled_bounds()}".strip() if bounds else self.value


def spell(value: Interval | Difference | None) -> Spelled:
    """Write a score: `.624 (.590, .659)`."""
    return _spell(value, _short, _short)


def spell_percent(value: Interval | None) -> Spelled:
    """Write a share: `96.2% (94%, 98%)`."""
    return _spell(value, "{:.1%}".format, "{:.0%}".format)


def spell_signed(value: Interval | Difference | None) -> Spelled:
    """Write a difference: `+.070 (+.043, +.100)`."""
    return _spell(value, _signed, _signed)


def _spell(
    value: Interval | Difference | None, write: Callable[[float], str], write_bound: Callable[[float], str]
) -> Spelled:
    if value is None:
        return Spelled("-", None)
    exact = value.low == value.value == value.high
    return Spelled(write(value.value), None if exact else (write_bound(value.low), write_bound(value.high)))


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("0.", ".", 1)
