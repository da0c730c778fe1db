"""Values of options that more than one command reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

__all__ = ["read_count", "separated"]

_Value = TypeVar("_Value")


def separated(read: Callable[[str], _Value]) -> Callable[..., tuple[_Value, ...] | None]:
    """Return a callback that reads an option which lists values with commas between them.

    Args:
        read: Reads one value; its ValueError becomes the error of the option.
    """

    def callback(context: click.Context, option: click.Parameter, value: str | None) -> tuple[_Value, ...] | None:
        if value is None:
            return None
        try:
            return tuple(read(part.strip()) for part in value.split(","))
        except ValueError as error:
            message = str(error) if "invalid literal" not in str(error) else f"{value!r} is no list of whole numbers."
            raise click.BadParameter(message, context, option) from error

    return callback


def read_count(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Read a whole number from 1 that may be written as 10e6."""
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not (1 <= number < 1e18 and number.is_integer()):
        raise click.BadParameter(f"{value!r} is no whole number from 1, such as 1000000 or 10e6.", context, option)
    return int(number)
