"""What the terminal shows while work goes on."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nestvec.progress import Advance

_WIDTH_OF_FILES = 140

__all__ = ["console", "draw_progress", "quiet_libraries"]


def console() -> Console:
    """Return a console for results, on standard output.

    Its width follows the terminal, or COLUMNS; a file or pipe gets lines of 140.
    """
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_OF_FILES
    return Console(highlight=False, markup=False, width=wide)


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
    errors = Console(stderr=True, highlight=False, markup=False)
    started = time.perf_counter()
    columns = [TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn()]
    if total is None:
        columns = [SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
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
    for library in ("matplotlib", "transformers", "sentence_transformers", "datasets", "huggingface_hub", "torch"):
        logging.getLogger(library).setLevel(logging.ERROR)
