"""Vectors that somebody else made, in the order of a benchmark's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.data import read_query_ids, read_vectors
from nestvec.errors import SourceNotFoundError, VectorError
from nestvec.evaluation import Retrieval, Task, TaskVectors, check_task_vectors
from nestvec.vectors import unit_float32

__all__ = ["read_task_vectors"]


def read_task_vectors(folder: str | Path, task: Task, benchmark: str | Path) -> TaskVectors:
    """Read the vectors of a task's texts.

    Args:
        folder: Holds `documents.npy` and, where the task has queries, `queries.npy`: [n, dim], floating point, row i
            being the i-th text of the benchmark. For retrieval that is the order of `corpus.jsonl` and of
            `queries.jsonl`, with or without the queries that are not judged; for other tasks that of
            `task.listed_documents`.
        task: What they are of.
        benchmark: Where the task was read from.

    Returns:
        Unit vectors in the order in which the task wants them.

    Raises:
        SourceNotFoundError: A file is missing.
        VectorError: A file is damaged, or its rows are not those of the benchmark.
        BenchmarkError: The queries of the benchmark cannot be read again.
    """
    folder = Path(folder).expanduser()
    documents = _read_side(folder, "documents")
    queries: NDArray[np.floating[Any]] = np.empty((0, documents.shape[-1]), np.float32)
    if task.queries:
        queries = _read_side(folder, "queries")
        listed = task.listed_queries
        if isinstance(task, Retrieval) and len(queries) != len(listed) and Path(benchmark).is_dir():
            every = read_query_ids(benchmark)
            listed = every if len(every) == len(queries) else listed
        queries = _arrange(queries, listed, task.query_keys, folder / "queries.npy", benchmark)
    documents = _arrange(documents, task.listed_documents, task.document_keys, folder / "documents.npy", benchmark)
    return check_task_vectors(task, TaskVectors(queries, documents))


def _read_side(folder: Path, side: str) -> NDArray[np.floating[Any]]:
    path = folder / f"{side}.npy"
    if not path.is_file():
        raise SourceNotFoundError(f"There is no {path}. Ready vectors are queries.npy and documents.npy in one folder.")
    return read_vectors(path)


def _arrange(
    vectors: NDArray[np.floating[Any]], listed: Sequence[str], wanted: Sequence[str], path: Path, benchmark: str | Path
) -> NDArray[np.float32]:
    """Rows of the wanted keys; where a key is listed more than once, its rows must agree."""
    if len(vectors) != len(listed):
        raise VectorError(f"{path} has {len(vectors):,} rows and {benchmark} {len(listed):,} texts for it.")
    row_of: dict[str, int] = {}
    for row, key in enumerate(listed):
        first = row_of.setdefault(key, row)
        if first != row and not np.allclose(vectors[first], vectors[row], rtol=1e-3, atol=1e-6):
            raise VectorError(f"Rows {first} and {row} of {path} are of the same text, and differ.")
    return unit_float32(np.asarray(vectors[[row_of[key] for key in wanted]]))
