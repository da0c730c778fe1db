"""The before/after table, once as plain cells, then for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nestvec.evaluation import Interval
from nestvec.report.document import Example, Report, size_rows

__all__ = ["markdown_table", "table_cells", "terminal_examples", "terminal_table"]

_WIDTH_FOR_INTERVALS = 100


def table_cells(report: Report, *, intervals: bool = True) -> tuple[list[str], list[list[str]]]:
    """Lay the headline metric out as a table.

    Args:
        report: What to show.
        intervals: Spell the bounds out beside every value.

    Returns:
        The column titles, and one row of texts a size.
    """
    metric = report.headline
    titles = ["dim", "bytes", f"{metric} before", f"{metric} after", "gain", "kept before", "kept after"]
    rows = [
        [
            str(row.dim),
            f"{row.after.bytes_per_vector:,}",
            _number(row.before.metrics[metric], intervals),
            _number(row.after.metrics[metric], intervals),
            _gain(row.after.gain, intervals),
            _share(row.before.retention, intervals),
            _share(row.after.retention, intervals),
        ]
        for row in size_rows(report)
    ]
    return titles, rows


def terminal_table(report: Report, *, width: int) -> RenderableType:
    """Draw the table for a terminal.

    Args:
        report: What to show.
        width: Columns of the terminal; the bounds are left out of a narrow one.

    Returns:
        Something rich can print.
    """
    intervals = width >= _WIDTH_FOR_INTERVALS
    titles, rows = table_cells(report, intervals=intervals)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title.replace(" ", "\n", 1) if width < _WIDTH_FOR_INTERVALS else title, justify="right")
    for row in rows:
        table.add_row(*row)
    return Group(
        Text(_title(report), style="bold"),
        Text(),
        table,
        Text(),
        Text(_legend(report, intervals=intervals), style="dim"),
    )


def terminal_examples(examples: Sequence[Example]) -> RenderableType:
    """Draw the example queries with the answers of both models.

    Args:
        examples: What to show; may be empty.

    Returns:
        Something rich can print.
    """
    blocks: list[RenderableType] = []
    for example in examples:
        blocks.append(Text.assemble((f'"{example.query}"', "bold"), (f"  at {example.dim} numbers", "dim")))
        for answer in example.answers:
            blocks.append(Text(f"  {answer.model}: right answer at rank {answer.rank}", style="cyan"))
            for rank, document in enumerate(answer.documents, start=1):
                right = document in example.relevant
                line = f"    {'*' if right else ' '} {rank}. {document}"
                blocks.append(Text(line, style="green" if right else "", no_wrap=True, overflow="ellipsis"))
        blocks.append(Text())
    return Group(*blocks)


def markdown_table(report: Report) -> str:
    """Write the table as Markdown, with its title and legend.

    Args:
        report: What to show.

    Returns:
        Markdown, ending in a newline.
    """
    titles, rows = table_cells(report)
    lines = [
        f"{_title(report)}:",
        "",
        f"| {' | '.join(titles)} |",
        "|" + "---:|" * len(titles),
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        _legend(report, intervals=True),
    ]
    return "\n".join(lines) + "\n"


def _title(report: Report) -> str:
    counts = report.benchmark
    return (
        f"{report.headline} of {report.base} before and after training, on {counts['queries']:,} queries "
        f"against {counts['documents']:,} documents"
    )


def _legend(report: Report, *, intervals: bool) -> str:
    legend = (
        f"Vectors are cut to dim float32 numbers and re-normalised; bytes are per vector. Kept: {report.headline} "
        "relative to the full size of the same model."
    )
    if intervals:
        share = f"{report.confidence:.0%}"
        legend += f" Brackets: {share} bootstrap intervals over the queries; those of the gain are paired."
    return legend


def _number(value: Interval, intervals: bool) -> str:
    bounds = f" [{_short(value.low)}, {_short(value.high)}]" if intervals else ""
    return f"{_short(value.value)}{bounds}"


def _gain(value: Interval | None, intervals: bool) -> str:
    if value is None:
        return "-"
    bounds = f" [{_signed(value.low)}, {_signed(value.high)}]" if intervals else ""
    return f"{_signed(value.value)}{bounds}"


def _share(value: Interval | None, intervals: bool) -> str:
    if value is None:
        return "-"
    bounds = f" [{value.low:.0%}, {value.high:.0%}]" if intervals else ""
    return f"{value.value:.1%}{bounds}"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if 0 <= value < 1 else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("0.", ".", 1)
