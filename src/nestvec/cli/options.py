"""Values of options that more than one command reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nestvec.files import is_unicode

if TYPE_CHECKING:
    from nestvec.data import Columns

__all__ = ["PRECISION", "TYPED_TEXT", "read_columns", "read_count", "rows_options", "separated", "trust_option"]

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


class _TypedText(click.ParamType[str]):
    """A text as it was typed: where the terminal is not UTF-8, Python passes on bytes that it could not decode."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return os.fsencode(value).decode("utf-8") if not is_unicode(value) else str(value)
        except UnicodeError:
            self.fail("it is no text in UTF-8. Check the encoding of your terminal.", param, ctx)


TYPED_TEXT = _TypedText()
"""Type of texts to search for or to put before others."""


class _Precision(click.ParamType[str]):
    """A precision by its name."""

    name = "precision"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from nestvec.quantization import check_precision

        try:
            return check_precision(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


PRECISION = _Precision()
"""Type of precisions: float32, float16, int8, int4, binary, or pq and a number of bytes."""


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


def trust_option(command: Callable[..., _Value]) -> Callable[..., _Value]:
    """Give a command that loads a model the option to run code that comes with it."""
    return click.option(
        "--trust-remote-code", is_flag=True, help="Run code that comes with a model; read that code before."
    )(command)


def read_columns(context: click.Context, option: click.Parameter, value: str | None) -> Columns | None:
    """Read which column holds what, `query=q,positive=a`; or the names of all columns of a file without a header."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not any("=" in part for part in parts):
        if not all(parts):
            raise click.BadParameter(f"{value!r} has an empty name. Write _ to leave a column out.", context, option)
        return parts
    roles: dict[str, list[str]] = {}
    for part in parts:
        role, separator, column = part.partition("=")
        if not (role and separator and column):
            raise click.BadParameter(
                f"{part!r} is no role=column. Write role=column for each, or names alone for a file without a header.",
                context,
                option,
            )
        roles.setdefault(role.strip(), []).append(column.strip())
    return {role: columns[0] if len(columns) == 1 else columns for role, columns in roles.items()}


def rows_options(command: Callable[..., _Value]) -> Callable[..., _Value]:
    """Give a command that reads rows of queries and documents the options that say how."""
    options = (
        click.option(
            "--split", default="train", show_default=True, help="Which qrels of a BEIR folder, or split of a folder."
        ),
        click.option(
            "--columns",
            callback=read_columns,
            help="Such as query=q,positive=a; or all names, for CSV and TSV without header.",
        ),
        click.option(
            "--positives",
            type=click.Choice(["all", "first"]),
            default="all",
            show_default=True,
            help="Of a list of positives: a row for each, or the first.",
        ),
        click.option("--strict", is_flag=True, help="Refuse rows that are otherwise left out and counted."),
    )
    for option in reversed(options):
        command = option(command)
    return command
