"""A grid to a page: terminal table, Markdown, JSON and plot."""

from nestvec.report.document import Example, ExampleAnswer, FoundDocument, Report
from nestvec.report.page import markdown_report, model_card
from nestvec.report.plot import save_plot
from nestvec.report.table import markdown_table, terminal_examples, terminal_table

__all__ = [
    "Example",
    "ExampleAnswer",
    "FoundDocument",
    "Report",
    "markdown_report",
    "markdown_table",
    "model_card",
    "save_plot",
    "terminal_examples",
    "terminal_table",
]
