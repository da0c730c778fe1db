"""The grid as a table: once as plain rows, then for the terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nestvec.evaluation import Cell
from nestvec.report.grid_document import GridReport, efficient_cells
from nestvec.report.spelling import spell, spell_percent, spell_signed

__all__ = ["WIDTH_FOR_BOUNDS", "csv_grid", "draw_cells", "markdown_grid", "spell_bytes", "terminal_grid"]

WIDTH_FOR_BOUNDS = 110
"""Columns of a terminal that has room for intervals."""
_WIDTH_FOR_TOTALS = 78


def terminal_grid(report: GridReport, *, width: int) -> RenderableType:
    """Draw the grid for a terminal, dearest cells first; those that nothing beats are marked.

    Args:
        report: What to show.
        width: Columns of the terminal; a narrow one gets no bounds, a very narrow one no more than cell, bytes and
            scores.

    Returns:
        Something rich can print.
    """
    blocks: list[RenderableType] = [Text(_title(report), style="bold"), Text()]
    titles = _titles(report)
    if width < _WIDTH_FOR_TOTALS:
        titles = [title for title in titles if title not in {"total", "gain", "ms", "p95 ms", "queries/s"}]
    for model in report.models:
        front = {cell.key for cell in efficient_cells(report, model)}
        rows = []
        for cell in _cells_of(report, model):
            best = cell.key in front
            rows.append((_row(report, cell, bounds=width >= WIDTH_FOR_BOUNDS, best=best), best))
        table = draw_cells(titles, rows, gap=2 if width >= _WIDTH_FOR_TOTALS else 1)
        if len(report.models) > 1:
            blocks.append(Text(_model_title(report, model), style="bold cyan"))
        blocks += [table, Text()]
    blocks.append(Text(_legend(report), style="dim"))
    return Group(*blocks)


def draw_cells(titles: Sequence[str], rows: Iterable[tuple[Mapping[str, str], bool]], *, gap: int) -> Table:
    """Draw cells of a grid for a terminal, one a line.

    Args:
        titles: Columns, from left to right.
        rows: What stands in them by title, and whether a cell stands out.
        gap: Spaces between columns.

    Returns:
        The table.
    """
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, gap, 0, 0))
    for title in titles:
        left = title in {"", "precision", "rerank"}
        table.add_column(title, justify="left" if left else "right", overflow="fold")
    for row, stands_out in rows:
        table.add_row(*(row[title] for title in titles), style="" if stands_out else "dim")
    return table


def markdown_grid(report: GridReport) -> str:
    """Write the grid as Markdown, with its title and legend.

    Args:
        report: What to show.

    Returns:
        Markdown, ending in a newline.
    """
    titles = _titles(report)
    lines = [f"# {_title(report)}", ""]
    for model in report.models:
        if len(report.models) > 1:
            lines += [f"## {_model_title(report, model)}", ""]
        front = {cell.key for cell in efficient_cells(report, model)}
        lines += [f"| {' | '.join(titles)} |", "|" + "---:|" * len(titles)]
        for cell in _cells_of(report, model):
            row = _row(report, cell, bounds=True, best=cell.key in front)
            lines.append(f"| {' | '.join(row[title] for title in titles)} |")
        lines.append("")
    return "\n".join([*lines, _legend(report)]) + "\n"


def csv_grid(report: GridReport) -> str:
    """Write every cell as a line of CSV, with every metric and bound.

    Args:
        report: What to show.

    Returns:
        CSV with a header; what was not measured is empty.
    """
    names = list(report.cells[0].metrics)
    plain = ["model", "dim", "precision", "rerank", "bytes_per_vector", "rerank_bytes_per_vector", "total_bytes"]
    intervals = [*names, "retention", "reference_retention", "gain"]
    bounds = [f"{name}{suffix}" for name in intervals for suffix in ("", "_low", "_high")]
    times = ["gain_p_value", "latency_ms", "p95_ms", "queries_per_second"]
    fitted_on = "documents" if report.fitted_on.source == "documents" else Path(report.fitted_on.source).name
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*plain, *bounds, *times, "fitted_on"])
    for cell in report.cells:
        document = {**cell.as_json(), "total_bytes": report.total_bytes(cell)}
        values = [*cell.metrics.values(), cell.retention, cell.reference_retention, cell.gain]
        writer.writerow(
            [
                *(document[name] for name in plain),
                *(number for value in values for number in (("", "", "") if value is None else value[:3])),
                "" if cell.gain is None else cell.gain.p_value,
                *(document[name] for name in times[1:]),
                fitted_on,
            ]
        )
    return text.getvalue()


def spell_bytes(count: float) -> str:
    """Write a number of bytes in the unit that fits, 1 GB being 10^9.

    Example:
        >>> spell_bytes(3_840), spell_bytes(15_360_000_000)
        ('3.8 kB', '15.4 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _cells_of(report: GridReport, model: str) -> list[Cell]:
    """The cells of a model, dearest first."""
    own = [cell for cell in report.cells if cell.model == model]
    return sorted(own, key=lambda cell: (-cell.bytes_per_vector, -cell.dim, cell.rerank_bytes_per_vector))


def _has(report: GridReport, name: str) -> bool:
    return any(getattr(cell, name) is not None for cell in report.cells)


def _titles(report: GridReport) -> list[str]:
    titles = ["", "dim", "precision", *(["rerank"] if _has(report, "rerank") else []), "bytes", "total"]
    titles += [report.headline, "kept"]
    if _has(report, "gain"):
        titles.append("gain")
    return [*titles, *(["ms", "p95 ms", "queries/s"] if _has(report, "latency") else [])]


def _row(report: GridReport, cell: Cell, *, bounds: bool, best: bool) -> dict[str, str]:
    """Every column of a cell, by its title."""
    second = f" + {cell.rerank_bytes_per_vector:,}" if cell.rerank_bytes_per_vector else ""
    row = {
        "": "*" if best else "",
        "dim": str(cell.dim),
        "precision": cell.precision,
        "rerank": "" if cell.rerank is None else str(cell.rerank),
        "bytes": f"{cell.bytes_per_vector:,}{second}",
        "total": spell_bytes(report.total_bytes(cell)),
        report.headline: spell(cell.metrics[report.headline]).line(bounds=bounds),
        "kept": spell_percent(cell.retention).line(bounds=bounds),
        "gain": spell_signed(cell.gain).line(bounds=bounds),
    }
    if cell.latency is None:
        return {**row, "ms": "", "p95 ms": "", "queries/s": ""}
    times = cell.latency
    per_second = f"{times.queries_per_second:,.0f}"
    return {**row, "ms": f"{times.median_ms:.2f}", "p95 ms": f"{times.p95_ms:.2f}", "queries/s": per_second}


def _title(report: GridReport) -> str:
    counts = ", ".join(
        f"{count:,} {name}" for name, count in report.benchmark.items() if isinstance(count, int) and count != 1
    )
    models = " and ".join(report.models)
    return f"{report.headline} of {models} on {report.benchmark['name']} ({counts})"


def _model_title(report: GridReport, model: str) -> str:
    source = report.models[model]
    return model if source == model else f"{model} ({source})"


def _legend(report: GridReport) -> str:
    parts = [
        "* no other cell is smaller in memory, no larger on disk, and as good.",
        "Documents are cut to dim dimensions and stored at the precision; bytes are per vector.",
        f"Ranges and codebooks are learned from {report.fitted_on}.",
        f"The total is for {report.corpus_size:,} vectors.",
    ]
    rerank = next((cell.rerank for cell in report.cells if cell.rerank is not None), None)
    if rerank is not None:
        parts.append(
            f"Rerank {rerank}: the best {rerank.shortlist} are rescored with full {rerank.precision} vectors, whose "
            "bytes come after +."
        )
    parts.append(
        f"Kept: {report.headline} relative to the full float32 vector of the same model. Ranges: "
        f"{report.confidence:.0%} bootstrap intervals over the {report.benchmark.get('unit', 'queries')}."
    )
    if _has(report, "gain"):
        parts.append(f"Gain: over the same cell of {report.reference or 'the model before training'}, paired.")
    if _has(report, "latency"):
        parts.append(
            f"ms: search of {report.measured_size:,} vectors for one query on one thread "
            f"({report.hardware.get('cpu', 'this machine')}), median and 95th percentile, encoding not included; "
            "queries/s: many at once on all threads."
        )
    if report.impossible:
        parts.append(f"Not possible: {' '.join(report.impossible)}")
    return " ".join(parts)
