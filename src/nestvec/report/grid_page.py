"""The grid as one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

import json
from importlib.resources import files

from nestvec.report.grid_document import GridReport, efficient_cells

__all__ = ["html_grid"]

_MARK = "__GRID__"


def html_grid(report: GridReport) -> str:
    """Write the grid as a page to forward: the front of quality against bytes, every cell, and sample searches.

    Args:
        report: What to show.

    Returns:
        HTML with its style, script and data inside; its security policy forbids every request.
    """
    front = {(model, cell.key) for model in report.models for cell in efficient_cells(report, model)}
    document = json.loads(report.to_json())
    for name in ("models", "folder"):  # where models lie on this machine is nobody else's business
        document.pop(name)
    document["model_names"] = list(report.models)
    document["precisions"] = report.precisions
    document["fitted_on"] = str(report.fitted_on)  # without the folder, either
    document["front"] = [place for place, cell in enumerate(report.cells) if (cell.model, cell.key) in front]
    # Nothing in a text may end the script element that holds it.
    data = json.dumps(document, ensure_ascii=False).replace("<", "\\u003c")
    template = files("nestvec.report").joinpath("grid_page.html").read_text(encoding="utf-8")
    before, after = template.split(_MARK)
    return before + data + after
