"""The before/after table, once as plain cells, then for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nestvec.report.document import Example, Report, size_rows
from nestvec.report.spelling import Spelled, spell, spell_percent, spell_signed

__all__ = ["markdown_table", "terminal_examples", "terminal_table"]

_WIDTH_FOR_ONE_LINE = 115


def _table_cells(report: Report) -> tuple[list[str], list[list[Spelled]]]:
    """Lay the headline metric out: the column titles, and one row a size."""
    metric = report.headline
    titles = ["dim", "bytes", f"{metric} before", f"{metric} after", "gain", "kept before", "kept after"]
    rows = [
        [
            Spelled(str(row.dim), None),
            Spelled(f"{row.after.bytes_per_vector:,}", None),
            spell(row.before.metrics[metric]),
            spell(row.after.metrics[metric]),
            spell_signed(row.after.gain),
            spell_percent(row.before.retention),
            spell_percent(row.after.retention),
        ]
        for row in size_rows(report)
    ]
    return titles, rows


def terminal_table(report: Report, *, width: int) -> RenderableType:
    """Draw the table for a terminal.

    Args:
        report: What to show.
        width: Columns of the terminal; in a narrow one the bounds go below their value.

    Returns:
        Something rich can print.
    """
    one_line = width >= _WIDTH_FOR_ONE_LINE
    titles, rows = _table_cells(report)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title if one_line else title.replace(" ", "\n", 1), justify="right")
    for row in rows:
        table.add_row(*(_terminal_cell(cell, one_line=one_line) for cell in row))
    return Group(Text(_title(report), style="bold"), Text(), table, Text(), Text(_legend(report), style="dim"))


def terminal_examples(examples: Sequence[Example]) -> RenderableType:
    """Draw the example queries with the answers of both models.

    Args:
        examples: What to show; may be empty.

    Returns:
        Something rich can print.
    """
    blocks: list[RenderableType] = []
    for example in examples:
        blocks.append(Text.assemble((f'"{example.query}"', "bold"), (f"  at {example.dim} dimensions", "dim")))
        for answer in example.answers:
            blocks.append(Text(f"  {answer.model}: right answer at rank {answer.rank}", style="cyan"))
            for rank, document in enumerate(answer.documents, start=1):
                right = document.id in example.relevant
                line = f"    {'*' if right else ' '} {rank}. {document.line()}"
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
    titles, rows = _table_cells(report)
    lines = [
        f"{_title(report)}:",
        "",
        f"| {' | '.join(titles)} |",
        "|" + "---:|" * len(titles),
        *(f"| {' | '.join(cell.line(bounds=True) for cell in row)} |" for row in rows),
        "",
        _legend(report),
    ]
    return "\n".join(lines) + "\n"


def _title(report: Report) -> str:
    counts = report.benchmark
    return (
        f"{report.headline} of {report.base} before and after training, on {counts['queries']:,} queries "
        f"against {counts['documents']:,} documents"
    )


def _legend(report: Report) -> str:
    return (
        f"Vectors are cut to dim float32 dimensions and re-normalised; bytes are per vector. Kept: {report.headline} "
        f"relative to the full size of the same model. Ranges: {report.confidence:.0%} bootstrap intervals over the "
        "queries; those of the gain are paired."
    )


def _terminal_cell(cell: Spelled, *, one_line: bool) -> Text:
    bounds = cell.spelled_bounds(compact=not one_line)
    gap = " " if one_line else "\n"
    return Text.assemble(cell.value, (gap + bounds if bounds else "", "dim"))
