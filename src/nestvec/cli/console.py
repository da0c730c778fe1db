"""What the terminal shows while work goes on."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from nestvec.errors import NestvecWarning
from nestvec.progress import Advance

_WIDTH_OF_FILES = 140
# What a terminal obeys rather than shows: control characters but line ends and tabs, and marks that turn the direction
# of what follows.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

__all__ = ["console", "draw_progress", "prepare_streams", "print_json", "quiet_libraries", "say", "visible"]
_SAID: set[str] = set()  # warnings of this process


def console() -> Console:
    """Return a console for results, on standard output; what is printed to it is shown, never obeyed.

    Its width follows the terminal, or COLUMNS; a file or pipe gets lines of 140.
    """
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_OF_FILES
    return _Console(highlight=False, markup=False, width=wide)


class _Console(Console):
    def render_str(self, text: str, **options: Any) -> Text:
        """The same before a text is laid out, so that there is room for what is shown."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Show control characters of texts; what rich itself sends to the terminal are segments of another kind."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def visible(text: str) -> str:
    """Write what a terminal would obey, such as the beginning of an escape sequence, as Python does: `\\x1b`."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def say(text: str) -> None:
    """Print a line on standard error, with control characters shown."""
    sys.stderr.write(visible(text) + "\n")


def print_json(value: Any) -> None:
    """Print JSON on standard output, in which a terminal finds nothing to obey."""
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(value, indent=2, ensure_ascii=plain)
    sys.stdout.write(_OBEYED.sub(_json_escape, text) + "\n")


def _json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def prepare_streams() -> None:
    """Let output name characters that its encoding lacks, in place of failing, and show our warnings as lines."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("always", category=NestvecWarning)
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    if issubclass(category, NestvecWarning):
        # Python's own filter forgets what was said whenever a library changes the filters.
        if str(message) not in _SAID:
            _SAID.add(str(message))
            say(f"Warning: {message}")
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


@contextlib.contextmanager
def draw_progress(description: str, total: int | None) -> Iterator[Advance]:
    """Draw a bar on standard error, and leave one line with the time that the work took.

    Where standard error is no terminal, only that line is written.

    Args:
        description: What is being done.
        total: Units of work, or None where the end is not known.

    Yields:
        A function that takes the number of units just finished.
    """
    errors = _Console(stderr=True, highlight=False, markup=False)
    started = time.perf_counter()
    spinner = "dots" if errors.encoding.startswith("utf") else "line"
    columns = [TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn()]
    if total is None:
        columns = [SpinnerColumn(spinner), TextColumn("{task.description}"), TimeElapsedColumn()]
    finished = 0
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
        task = bars.add_task(description, total=total)

        def advance(units: int) -> None:
            nonlocal finished
            finished += units
            bars.advance(task, units)

        yield advance
    count = f" {finished:,}" if finished else ""
    errors.print(f"{description}{count}: {time.perf_counter() - started:.1f} s", style="dim")


def quiet_libraries() -> None:
    """Keep the warnings and bars of the libraries below from tearing up ours; their errors still show."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for variable in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(variable, "1")
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("always", category=NestvecWarning)
    for library in ("matplotlib", "transformers", "sentence_transformers", "datasets", "huggingface_hub", "torch"):
        logging.getLogger(library).setLevel(logging.ERROR)
