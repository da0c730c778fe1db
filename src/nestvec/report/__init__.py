"""A grid to a page: terminal table, Markdown, JSON and plot."""

from nestvec.report.adaptor_table import adaptor_outcome, adaptor_table
from nestvec.report.document import Example, ExampleAnswer, FoundDocument, Report, Stage
from nestvec.report.grid_document import FittedOn, GridReport, SampleQuery, efficient_cells, read_grid
from nestvec.report.grid_page import html_grid
from nestvec.report.grid_plot import save_grid_plot
from nestvec.report.grid_table import (
    WIDTH_FOR_BOUNDS,
    csv_grid,
    draw_cells,
    markdown_grid,
    spell_bytes,
    terminal_grid,
)
from nestvec.report.page import markdown_report, model_card, rotated_card
from nestvec.report.plot import save_plot
from nestvec.report.spelling import spell, spell_percent, spell_signed
from nestvec.report.table import markdown_table, terminal_examples, terminal_table

__all__ = [
    "WIDTH_FOR_BOUNDS",
    "Example",
    "ExampleAnswer",
    "FittedOn",
    "FoundDocument",
    "GridReport",
    "Report",
    "SampleQuery",
    "Stage",
    "adaptor_outcome",
    "adaptor_table",
    "csv_grid",
    "draw_cells",
    "efficient_cells",
    "html_grid",
    "markdown_grid",
    "markdown_report",
    "markdown_table",
    "model_card",
    "read_grid",
    "rotated_card",
    "save_grid_plot",
    "save_plot",
    "spell",
    "spell_bytes",
    "spell_percent",
    "spell_signed",
    "terminal_examples",
    "terminal_grid",
    "terminal_table",
]
