"""The grid: every cell of size x precision x rerank, measured from one encoding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.encoders.protocol import Encoder
from nestvec.errors import GridError, VectorError
from nestvec.evaluation.tasks import Retrieval, Scores, Task, searches
from nestvec.progress import Progress, about, silent
from nestvec.quantization import ROTATED, Quantizer, check_precision, fit_codes, fit_quantizer
from nestvec.vectors import check_dims, truncate, unit_float32

__all__ = [
    "CellKey",
    "GridScores",
    "Rerank",
    "TaskVectors",
    "check_cells",
    "check_task_vectors",
    "encode_task",
    "measure_grid",
    "parse_rerank",
    "stored_vectors",
]

Float32s = NDArray[np.float32]
_ROWS_AT_A_TIME = 16_384
_NO_DIFFERENCE = 1e-6


class Rerank(NamedTuple):
    """A second stage: order a shortlist anew by longer vectors."""

    precision: str
    """How the full vectors of the second stage are stored."""
    shortlist: int
    """Documents that the first stage hands over."""

    def __str__(self) -> str:
        """Write it as the command line does: `int8:100`."""
        return f"{self.precision}:{self.shortlist}"


class CellKey(NamedTuple):
    """Which cell of a grid."""

    dim: int
    precision: str = "float32"
    rerank: Rerank | None = None


class TaskVectors(NamedTuple):
    """A task as one model sees it: encoded once, measured in every cell."""

    queries: Float32s
    """Unit vectors of the task's queries, [n_queries, full_dim]."""
    documents: Float32s
    """Unit vectors of the task's documents, [n_documents, full_dim]."""


@dataclass(frozen=True)
class GridScores:
    """Scores of every cell, before they are summed up: what cells, intervals and comparisons are made from.

    Attributes:
        full_dim: Size of the full vector; it is always measured, at float32.
        scores: Scores by cell, largest size first within each precision and rerank.
    """

    full_dim: int
    scores: Mapping[CellKey, Scores]

    @property
    def full(self) -> CellKey:
        """The cell that retention is relative to: the full float32 vector."""
        return CellKey(self.full_dim)


def parse_rerank(text: str) -> Rerank | None:
    """Read a second stage from its name.

    Args:
        text: `none`, or a precision and the length of the shortlist, such as `int8:100`.

    Returns:
        The second stage; None for none.

    Raises:
        GridError: It is neither.
        PrecisionError: The precision is not known.

    Example:
        >>> parse_rerank("int8:100")
        Rerank(precision='int8', shortlist=100)
    """
    if text == "none":
        return None
    precision, _, shortlist = text.partition(":")
    if not shortlist.isdecimal() or int(shortlist) < 1:
        raise GridError(f"Cannot read the rerank {text!r}. Write none, or a precision and a length, such as int8:100.")
    return Rerank(check_precision(precision), int(shortlist))


def encode_task(task: Task, encoder: Encoder, *, progress: Progress = silent) -> TaskVectors:
    """Encode the texts of a task, once.

    Args:
        task: What to encode.
        encoder: What encodes it.
        progress: How to report progress.

    Returns:
        The vectors, in the task's order.

    Raises:
        ModelError: The model gave a vector that is not finite.
        VectorError: All texts of a side got the same vector, so that nothing can be told apart.
    """
    documents = encoder.encode_documents(list(task.documents), progress=progress)
    queries = np.empty((0, documents.shape[1]), np.float32)
    if task.queries:
        queries = encoder.encode_queries(list(task.queries), progress=progress)
    return check_task_vectors(task, TaskVectors(queries, documents))


def check_task_vectors(task: Task, vectors: TaskVectors) -> TaskVectors:
    """Check that vectors fit a task, wherever they come from, and scale them to unit length.

    Args:
        task: What they are of.
        vectors: One row a query and one a document, in the task's order.

    Returns:
        The vectors as unit vectors of float32.

    Raises:
        VectorError: Their number or size is wrong, one is not finite, or all of a side point the same way.
    """
    sides = (("queries", vectors.queries, task.queries), ("documents", vectors.documents, task.documents))
    for side, rows, texts in sides:
        if rows.ndim != 2 or len(rows) != len(texts):
            raise VectorError(f"{task.name} has {len(texts):,} {side} and the vectors are {list(rows.shape)}.")
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise VectorError(f"{len(bad)} vectors of {side} are not finite, the first in row {bad[0]}.")
    if len(vectors.queries) and vectors.queries.shape[1] != vectors.documents.shape[1]:
        raise VectorError(
            f"Queries have {vectors.queries.shape[1]} numbers and documents {vectors.documents.shape[1]}. "
            "They must come from one model."
        )
    unit = TaskVectors(*(unit_float32(side) for side in vectors))
    for side, rows in unit._asdict().items():
        if len(rows) > 1 and np.abs(rows - rows[0]).max() < _NO_DIFFERENCE:
            raise VectorError(
                f"The model gives all {len(rows)} {side} of {task.name} the same vector. "
                "Its weights are damaged, or every text is cut to nothing: check the base and model.max_tokens."
            )
    return unit


def measure_grid(
    task: Task,
    vectors: TaskVectors,
    dims: Sequence[int],
    *,
    precisions: Sequence[str] = ("float32",),
    reranks: Sequence[Rerank | None] = (None,),
    progress: Progress = silent,
) -> GridScores:
    """Measure every cell of dims x precisions x reranks.

    A document is stored at a precision and cut to a dim, both of which a search can undo only in part: a cell compares
    the query, truncated and otherwise as it is, with what the codes of the document stand for. Quantizers are fitted
    on the documents. All sizes of one precision come from one pass over the numbers. Memory beyond the vectors: those
    of the documents once more, about 300 MiB, and with reranks 4 bytes for each query, size, precision and document of
    the longest shortlist.

    Args:
        task: What to measure.
        vectors: Its texts as the model sees them.
        dims: Sizes, strictly rising or falling.
        precisions: Names in `BITS_PER_DIMENSION`.
        reranks: Second stages for every size and precision; None measures without. They store full vectors.
        progress: How to report progress.

    Returns:
        Scores of every cell, and of the full float32 vector.

    Raises:
        DimensionError: A dim is outside the vectors, repeated or out of order.
        PrecisionError: A precision is not known.
        GridError: There are less than two units, nothing is to be measured, something is given twice, the task has no
            shortlists to rerank, or a shortlist is shorter than the ranks that the metrics look at.
    """
    full_dim = vectors.documents.shape[1]
    checked = tuple(sorted(check_dims(dims, full_dim), reverse=True))
    check_cells(task, precisions, reranks)
    depths = [stage.shortlist for stage in reranks if stage is not None]
    measured: dict[CellKey, Scores] = {}
    shortlists: dict[CellKey, NDArray[np.int32]] = {}
    stored = [*precisions, *(["float32"] if "float32" not in precisions else [])]
    for precision in stored:
        sizes = checked if precision in precisions else ()
        if precision == "float32":
            sizes = tuple(sorted({full_dim, *sizes}, reverse=True))
        for some, queries, documents in _by_size(vectors, precision, sizes):
            shown = about(precision, progress)
            if not (depths and searches(task)):
                found = task.measure(queries, documents, some, progress=shown)
                measured.update({CellKey(dim, precision): scores for dim, scores in found.items()})
                continue
            depth = max(task.depth, *depths)
            found_at = task.search(queries, documents, some, depth=depth, progress=shown)
            for dim, top in found_at.items():
                measured[CellKey(dim, precision)] = task.score(top)
                if precision in precisions and dim in checked:
                    shortlists[CellKey(dim, precision)] = top.indices.astype(np.int32)
    if searches(task):
        second = _rerank_all(task, vectors, [stage for stage in reranks if stage], shortlists, progress)
        measured.update(second)
    wanted = [CellKey(*key) for key in itertools.product(checked, precisions, reranks)]
    full = CellKey(full_dim)
    return GridScores(full_dim, {key: measured[key] for key in dict.fromkeys([full, *wanted])})


def _by_size(
    vectors: TaskVectors, precision: str, dims: Sequence[int]
) -> Iterator[tuple[Sequence[int], Float32s, Float32s]]:
    """Sizes, with queries and what documents are worth at them: all at once, or one by one where each has its codes."""
    if precision not in ROTATED:
        yield dims, vectors.queries, stored_vectors(vectors.documents, precision)
        return
    for dim in dims:
        quantizer = fit_codes(vectors.documents, dim, precision)
        prefixes = truncate(vectors.documents, dim)
        yield (dim,), np.ascontiguousarray(vectors.queries[:, :dim]), _restored(quantizer, prefixes)


def stored_vectors(vectors: Float32s, precision: str) -> Float32s:
    """Return what vectors are worth once they are stored at a precision.

    Args:
        vectors: [n, full_dim], float32; the quantizer is fitted on them.
        precision: A name in `BITS_PER_DIMENSION`.

    Returns:
        What their codes stand for, [n, full_dim], float32; the same array for float32.

    Raises:
        PrecisionError: The precision is not known.
        VectorError: The vectors are no finite vectors.
    """
    if precision == "float32":
        return vectors
    return _restored(fit_quantizer(vectors, precision), vectors)


def _restored(quantizer: Quantizer, vectors: Float32s) -> Float32s:
    decoded = np.empty_like(vectors)
    for first in range(0, len(vectors), _ROWS_AT_A_TIME):
        rows = slice(first, first + _ROWS_AT_A_TIME)
        decoded[rows] = quantizer.decode(quantizer.encode(vectors[rows]))
    return decoded


def _rerank_all(
    task: Retrieval,
    vectors: TaskVectors,
    stages: Sequence[Rerank],
    shortlists: Mapping[CellKey, NDArray[np.int32]],
    progress: Progress,
) -> Iterator[tuple[CellKey, Scores]]:
    """Scores of every first stage with every second one; each precision of the second is computed once."""
    for precision in dict.fromkeys(stage.precision for stage in stages):
        cells = [
            (CellKey(first.dim, first.precision, stage), rows[:, : stage.shortlist])
            for first, rows in shortlists.items()
            for stage in stages
            if stage.precision == precision
        ]
        documents = stored_vectors(vectors.documents, precision)
        rows_of_cells = [rows for _, rows in cells]
        scores = task.rerank(vectors.queries, documents, rows_of_cells, progress=about(precision, progress))
        yield from zip((key for key, _ in cells), scores, strict=True)


def check_cells(task: Task, precisions: Sequence[str], reranks: Sequence[Rerank | None]) -> None:
    """Refuse cells that cannot be measured, before anything is encoded.

    Args:
        task: What to measure.
        precisions: Names of precisions.
        reranks: Second stages, None for none.

    Raises:
        PrecisionError: A precision is not known.
        GridError: There are less than two units, nothing is to be measured, something is given twice, the task has no
            shortlists to rerank, or a shortlist is shorter than the ranks that the metrics look at.
    """
    if task.n_units < 2:
        raise GridError(f"{task.name} has {task.n_units} of the {task.unit}: no interval follows from one. Give more.")
    for name, given in (("precisions", [check_precision(one) for one in precisions]), ("reranks", list(reranks))):
        if not given:
            raise GridError(f"No {name} given. Give at least one.")
        if len(set(given)) < len(given):
            raise GridError(f"The {name} {', '.join(map(str, given))} name one twice.")
    for stage in reranks:
        if stage is None:
            continue
        if not searches(task):
            raise GridError(f"There is no shortlist to rerank in {task.kind}. Leave the rerank {stage} out.")
        if stage.shortlist < task.depth:
            raise GridError(
                f"A shortlist of {stage.shortlist} cannot fill the {task.depth} ranks that {', '.join(task.metrics)} "
                "look at. Choose a longer one."
            )
