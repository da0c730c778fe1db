"""Everything that one evaluation tells, and its JSON form, which `nestvec plan` and other tools read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nestvec.errors import GridError, SourceNotFoundError
from nestvec.evaluation import Cell
from nestvec.quantization import BITS_PER_DIMENSION

__all__ = ["FittedOn", "GridReport", "SampleQuery", "efficient_cells", "read_grid"]


class SampleQuery(NamedTuple):
    """A benchmark query, and what each model finds for it at every size."""

    query: str
    relevant: list[str]
    """Ids of the relevant documents."""
    answers: dict[str, dict[int, list[str]]]
    """Ids of the first documents, best first, by model and dim, from float32 vectors."""


class FittedOn(NamedTuple):
    """What ranges and codebooks of quantizers were learned from."""

    source: str = "documents"
    """`documents` for those that were measured, or a file of texts or rows."""
    texts: int | None = None
    """How many; None where it is not known."""

    def __str__(self) -> str:
        """Say it in words."""
        count = "" if self.texts is None else f"{self.texts:,} "
        if self.source == "documents":
            return f"the {count}documents that were measured"
        return f"{count}texts of {Path(self.source).name}"


@dataclass(frozen=True)
class GridReport:
    """One evaluation of one or more models on one task.

    Attributes:
        headline: Metric that retention and gain are of.
        confidence: Confidence of every interval.
        cells: The grid of each model, one after another.
        models: Where each model comes from, by the name that its cells carry; the first is the one evaluated.
        reference: Name of the model that gains are relative to; None without one.
        benchmark: Name, task, unit and counts of what was measured with.
        fitted_on: What ranges and codebooks were learned from.
        impossible: Cells that there cannot be, a sentence each.
        corpus_size: Vectors that total bytes are stated for.
        measured_size: Vectors that were measured and timed.
        samples: A few queries with what is found for them; empty where the task has none.
        documents: Beginnings of the documents that the samples show, by id.
        hardware: What latencies were measured on.
        seconds: Wall time of each part.
        versions: Of Python and the packages that matter.
        seed: Seed of resampling and draws.
        folder: What relative paths of `models` are relative to; empty where it is not known.
    """

    headline: str
    confidence: float
    cells: Sequence[Cell]
    models: Mapping[str, str]
    reference: str | None
    benchmark: Mapping[str, Any]
    corpus_size: int
    measured_size: int
    fitted_on: FittedOn = field(default_factory=FittedOn)
    impossible: Sequence[str] = ()
    samples: Sequence[SampleQuery] = ()
    documents: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    folder: str = ""

    @property
    def precisions(self) -> list[str]:
        """Precisions of the cells, product quantization last, longest first."""
        used = {cell.precision: cell.bytes_per_vector for cell in self.cells}
        product = sorted((one for one in used if one not in BITS_PER_DIMENSION), key=lambda one: -used[one])
        return [*(one for one in BITS_PER_DIMENSION if one in used), *product]

    def total_bytes(self, cell: Cell) -> int:
        """Return what `corpus_size` vectors of a cell cost, its second stage included, in bytes."""
        return self.corpus_size * (cell.bytes_per_vector + cell.rerank_bytes_per_vector)

    def to_json(self) -> str:
        """Return the evaluation as JSON, indented."""
        document = {
            "headline": self.headline,
            "confidence": self.confidence,
            "cells": [{**cell.as_json(), "total_bytes": self.total_bytes(cell)} for cell in self.cells],
            "models": dict(self.models),
            "folder": self.folder,
            "reference": self.reference,
            "benchmark": dict(self.benchmark),
            "fitted_on": self.fitted_on._asdict(),
            "impossible": list(self.impossible),
            "corpus_size": self.corpus_size,
            "measured_size": self.measured_size,
            "samples": [sample._asdict() for sample in self.samples],
            "documents": dict(self.documents),
            "hardware": dict(self.hardware),
            "seconds": {part: round(seconds, 2) for part, seconds in self.seconds.items()},
            "versions": dict(self.versions),
            "seed": self.seed,
        }
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_grid(path: str | Path) -> GridReport:
    """Read an evaluation, or the report of a training run, from its JSON.

    Args:
        path: A file of `nestvec evaluate --json`, or the `report.json` of `nestvec train`.

    Returns:
        The evaluation.

    Raises:
        SourceNotFoundError: There is no such file.
        GridError: It holds no grid.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceNotFoundError(
            f"There is no grid {path}. Write one: nestvec evaluate MODEL --benchmark DIR --json {path}"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        cells = [Cell.from_json(cell) for cell in document["cells"]]
        benchmark = document["benchmark"]
        # In the report of a training run the trained model, whose folder is beside it, comes last.
        models = document.get("models") or {
            cell.model: str(path.parent / "model") if cell.model == "after" else document["base"]
            for cell in reversed(cells)
        }
        samples = [
            SampleQuery(
                sample["query"],
                sample["relevant"],
                {
                    model: {int(dim): found for dim, found in answers.items()}
                    for model, answers in sample["answers"].items()
                },
            )
            for sample in document.get("samples", [])
        ]
        report = GridReport(
            headline=document["headline"],
            confidence=document["confidence"],
            cells=cells,
            models=models,
            folder=document.get("folder") or "",
            reference=document.get("reference"),
            benchmark=benchmark,
            fitted_on=FittedOn(**document.get("fitted_on", {})),
            impossible=document.get("impossible", []),
            corpus_size=document.get("corpus_size") or benchmark["documents"],
            measured_size=document.get("measured_size") or benchmark["documents"],
            samples=samples,
            documents=document.get("documents", {}),
            hardware=document.get("hardware", {}),
            seconds=document.get("seconds", {}),
            versions=document.get("versions", {}),
            seed=document["seed"],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GridError(f"{path} holds no grid ({error}). Write one with nestvec evaluate --json.") from error
    if not cells:
        raise GridError(f"{path} holds a grid without cells.")
    return report


def efficient_cells(report: GridReport, model: str) -> list[Cell]:
    """Return the cells that no other cell of the model beats in memory, disk and headline metric at once.

    Args:
        report: An evaluation.
        model: Name of the model.

    Returns:
        The Pareto front, that of least memory first. In memory are the codes of the first stage, on disk those of both.
    """
    own = [cell for cell in report.cells if cell.model == model]

    def merits(cell: Cell) -> tuple[float, float, float]:
        disk = cell.bytes_per_vector + cell.rerank_bytes_per_vector
        return -cell.bytes_per_vector, -disk, cell.metrics[report.headline].value

    all_merits = [merits(cell) for cell in own]
    front = [
        cell
        for cell, mine in zip(own, all_merits, strict=True)
        if not any(other != mine and all(x >= y for x, y in zip(other, mine, strict=True)) for other in all_merits)
    ]
    return sorted(front, key=merits, reverse=True)
