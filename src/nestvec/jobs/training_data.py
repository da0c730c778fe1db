"""What a recipe asks to train on and to measure with, read and split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nestvec.data import (
    Benchmark,
    Columns,
    Positives,
    Record,
    RetrievalRow,
    hold_out_queries,
    is_saved_data_set,
    read_benchmark,
    read_hub_records,
    read_records,
    scan_installed_docs,
    split_by_package,
    without_leaks,
)
from nestvec.errors import DataError
from nestvec.progress import Progress, silent
from nestvec.training.recipe import BeirData, FileData, HubData, InstalledDocsData, Recipe

__all__ = ["TrainingData", "load_training_data", "read_source", "retrieval_rows"]


class TrainingData(NamedTuple):
    """Rows to train on, and a benchmark that shares neither queries nor answers with them."""

    rows: list[RetrievalRow]
    benchmark: Benchmark
    source: str
    """Where the rows come from, in a few words."""


def load_training_data(recipe: Recipe, *, progress: Progress = silent) -> TrainingData:
    """Read the training rows of a recipe, and its benchmark or one held out of them.

    Args:
        recipe: What to read.
        progress: How to report progress.

    Returns:
        Rows and benchmark.

    Raises:
        SourceNotFoundError: A file, folder or data set is not there.
        DataError: Rows cannot be used, or have a shape that is not (query, positive).
        BenchmarkError: The benchmark is bad, or cannot be held out.
    """
    data, benchmark = recipe.data, recipe.benchmark
    given = None
    if benchmark.path:
        given = read_benchmark(benchmark.path, split=benchmark.split, strict=benchmark.strict, progress=progress)
    if isinstance(data, InstalledDocsData):
        docs = scan_installed_docs(
            data.site_packages, modules_per_package=data.modules_per_package, seed=recipe.seed, progress=progress
        )
        rows, held_out = split_by_package(
            docs,
            queries=benchmark.queries,
            documents=benchmark.documents,
            seed=recipe.seed,
            limit=data.limit,
            progress=progress,
        )
        if given is not None:
            rows = without_leaks(rows, given, progress=progress)
        return TrainingData(rows, given or held_out, "documentation of installed packages")
    rows, source = _read_rows(data, recipe.seed, progress)
    if given is not None:
        return TrainingData(without_leaks(rows, given, progress=progress), given, source)
    rows, held_out = hold_out_queries(
        rows,
        queries=benchmark.queries,
        documents=benchmark.documents,
        seed=recipe.seed,
        name=f"held-out queries of {source}",
        progress=progress,
    )
    return TrainingData(rows, held_out, source)


def _read_rows(data: FileData | HubData | BeirData, seed: int, progress: Progress) -> tuple[list[RetrievalRow], str]:
    if isinstance(data, BeirData):
        read = read_benchmark(data.path, split=data.split, strict=data.strict, progress=progress)
        return read.rows()[: data.limit], data.path
    parsing: dict[str, Any] = {
        "columns": data.columns or None,
        "positives": data.positives,
        "strict": data.strict,
        "limit": data.limit,
    }
    if isinstance(data, HubData):
        records = read_hub_records(
            data.name,
            config=data.config,
            split=data.split,
            streaming=data.streaming,
            shuffle_buffer=data.shuffle_buffer,
            seed=seed,
            **parsing,
            progress=progress,
        )
        return retrieval_rows(records, data.name), f"{data.name}{f' ({data.config})' if data.config else ''}"
    records = read_records(data.path, **parsing, progress=progress)
    return retrieval_rows(records, data.path), data.path


def read_source(
    source: str | Path,
    *,
    columns: Columns | None = None,
    split: str = "train",
    positives: Positives = "all",
    strict: bool = False,
    progress: Progress = silent,
) -> Benchmark | Sequence[Record]:
    """Read what a command line names as its data: a BEIR folder, or anything that `read_records` takes.

    Args:
        source: File or folder.
        columns: Which column holds what.
        split: Which qrels of a BEIR folder, or which split of a folder of `save_to_disk`.
        positives: What a list of positives is.
        strict: Refuse what is otherwise left out, counted and said once.
        progress: How to report progress.

    Returns:
        The benchmark of a BEIR folder, else records.

    Raises:
        SourceNotFoundError: The source is not there.
        DataError: It cannot be read, or columns are named of a BEIR folder.
    """
    source = Path(source)
    if not source.is_dir() or is_saved_data_set(source):
        return read_records(source, columns=columns, split=split, positives=positives, strict=strict, progress=progress)
    if columns is not None:
        raise DataError(f"{source} is a BEIR folder, whose files name their columns. Leave columns out.")
    return read_benchmark(source, split=split, strict=strict, progress=progress)


def retrieval_rows(records: Sequence[Record], source: str) -> list[RetrievalRow]:
    """Return the rows of a source that must all be queries with their documents.

    Args:
        records: What was read.
        source: Where from, for the error.

    Returns:
        The same rows.

    Raises:
        DataError: Some have another shape.
    """
    rows = [record for record in records if isinstance(record, RetrievalRow)]
    if len(rows) < len(records):
        shape = ", ".join(records[0]._fields)
        raise DataError(
            f"{source} has rows of ({shape}), and rows of (query, positive), with or without negatives, are needed. "
            "Name the columns: --columns query=...,positive=...; in a recipe "
            'columns = { query = "...", positive = "..." }.'
        )
    return rows
