"""Everything a report tells, and its JSON form, which other tools rely on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nestvec.evaluation import Cell

__all__ = ["Example", "ExampleAnswer", "FoundDocument", "Report", "SizeRow", "Stage", "size_rows"]


class FoundDocument(NamedTuple):
    """A document that was found, by its id and the beginning of its text."""

    id: str
    text: str

    def line(self) -> str:
        """Return both on one line; the id alone is not repeated where the text begins with it."""
        text = " ".join(self.text.split())
        return text if text.startswith(self.id) else f"{self.id}: {text}"


class ExampleAnswer(NamedTuple):
    """What one model answered to an example query."""

    model: str
    """`before` or `after`."""
    rank: int
    """Rank of the best relevant document, from 1."""
    documents: list[FoundDocument]
    """The first documents, best first."""


class Example(NamedTuple):
    """A benchmark query, its right answer, and what each model answered."""

    query: str
    dim: int
    relevant: list[str]
    """Ids of the relevant documents."""
    answers: list[ExampleAnswer]


class SizeRow(NamedTuple):
    """One size before and after training, as a table shows it."""

    dim: int
    before: Cell
    after: Cell


class Stage(NamedTuple):
    """What the model scored after one stage of a run."""

    name: str
    """Such as `base`, `start (rotate)`, `training` or `finish (pairs)`."""
    scores: dict[int, float]
    """The headline metric by dim."""


@dataclass(frozen=True)
class Report:
    """One run of the main job.

    Attributes:
        name: Name of the recipe.
        base: The base model.
        headline: Metric that retention and gain are of.
        confidence: Confidence of every interval.
        cells: The grid, before and after.
        benchmark: Name and counts of queries, documents and relevant judgements.
        training: Rows, steps, dims, losses.
        stages: What a start, training and a finish gave one after another; empty where there was training alone.
        examples: A few answered queries.
        seconds: Wall time of each part.
        versions: Of Python and the packages that matter.
        seed: Seed of the run.
    """

    name: str
    base: str
    headline: str
    confidence: float
    cells: Sequence[Cell]
    benchmark: Mapping[str, Any]
    training: Mapping[str, Any]
    examples: Sequence[Example]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    seed: int
    stages: Sequence[Stage] = ()

    def to_json(self) -> str:
        """Return the report as JSON, indented."""
        document = {
            "name": self.name,
            "base": self.base,
            "headline": self.headline,
            "confidence": self.confidence,
            "cells": [cell.as_json() for cell in self.cells],
            "benchmark": dict(self.benchmark),
            "training": dict(self.training),
            "stages": [
                {"name": stage.name, "scores": {str(dim): score for dim, score in stage.scores.items()}}
                for stage in self.stages
            ],
            "examples": [
                {**example._asdict(), "answers": [_answer_as_json(answer) for answer in example.answers]}
                for example in self.examples
            ],
            "seconds": {part: round(seconds, 2) for part, seconds in self.seconds.items()},
            "versions": dict(self.versions),
            "seed": self.seed,
        }
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _answer_as_json(answer: ExampleAnswer) -> dict[str, Any]:
    return {**answer._asdict(), "documents": [document._asdict() for document in answer.documents]}


def size_rows(report: Report) -> list[SizeRow]:
    """Pair the cells before and after training.

    Args:
        report: A report whose cells were measured at the same dims before and after.

    Returns:
        One row a size, largest first.
    """
    before = {cell.dim: cell for cell in report.cells if cell.model == "before"}
    after = {cell.dim: cell for cell in report.cells if cell.model == "after"}
    return [SizeRow(dim, before[dim], after[dim]) for dim in sorted(after, reverse=True)]
