"""The grid: every cell of size x precision x rerank, measured from one encoding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nestvec.encoders.protocol import Encoder
from nestvec.errors import DimensionError, GridError, VectorError
from nestvec.evaluation.cell_keys import CellKey, Rerank, TaskVectors
from nestvec.evaluation.latency import Latency
from nestvec.evaluation.searched import measure_searches
from nestvec.evaluation.tasks import Scores, Task, searches
from nestvec.extras import require
from nestvec.index import CodeSettings, rows_to_train
from nestvec.progress import Progress, about, silent
from nestvec.quantization import (
    Quantizer,
    check_precision,
    fit_codes,
    fit_quantizer,
    in_fixed_order,
    is_fitted_by_size,
    why_impossible,
)
from nestvec.vectors import check_dims, truncate, unit_float32

__all__ = ["GridScores", "check_cells", "check_task_vectors", "encode_task", "measure_grid"]

Float32s = NDArray[np.float32]
_ROWS_AT_A_TIME = 16_384
_NO_DIFFERENCE = 1e-6


@dataclass(frozen=True)
class GridScores:
    """Scores of every cell, before they are summed up: what cells, intervals and comparisons are made from.

    Attributes:
        full_dim: Size of the full vector; it is always measured, at float32.
        scores: Scores by cell, largest size first within each precision and rerank.
        latencies: How fast cells are searched, where that was measured.
        impossible: Why there is no cell, by size and precision.
    """

    full_dim: int
    scores: Mapping[CellKey, Scores]
    latencies: Mapping[CellKey, Latency] = field(default_factory=dict)
    impossible: Mapping[tuple[int, str], str] = field(default_factory=dict)

    @property
    def full(self) -> CellKey:
        """The cell that retention is relative to: the full float32 vector."""
        return CellKey(self.full_dim)


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
            f"Queries have {vectors.queries.shape[1]} dimensions and documents {vectors.documents.shape[1]}. "
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
    sample: Float32s | None = None,
    timed: bool = False,
    progress: Progress = silent,
) -> GridScores:
    """Measure every cell of dims x precisions x reranks that is possible.

    A task that searches is searched as an index of the same plan searches it: codes are scanned, and the best 100, or
    the shortlist of a rerank, are rescored by cosine with what is stored. float32 without a rerank is exact, and takes
    one pass over the dimensions for all sizes. Other tasks compare what the codes stand for.

    Args:
        task: What to measure.
        vectors: Its texts as the model sees them.
        dims: Sizes, strictly rising or falling.
        precisions: Names in `BITS_PER_DIMENSION`, or `pq` and a number of bytes.
        reranks: Second stages for every size and precision; None measures without. They store full vectors.
        sample: What quantizers are fitted on, [n, full_dim], floating point; None fits them on the documents.
        timed: Measure how long a search takes too; only of tasks that search.
        progress: How to report progress.

    Returns:
        Scores of every cell, and of the full float32 vector.

    Raises:
        DimensionError: A dim is outside the vectors, repeated or out of order; or the sample has other dimensions.
        PrecisionError: A precision is not known.
        GridError: There are less than two units, nothing is to be measured, something is given twice, the task has no
            shortlists to rerank, a shortlist is shorter than the ranks that the metrics look at, or no cell is
            possible.
        MissingExtraError: faiss is not installed, and there is more than float32 to search.
    """
    full_dim = vectors.documents.shape[1]
    checked = tuple(sorted(check_dims(dims, full_dim), reverse=True))
    check_cells(task, precisions, reranks)
    if sample is not None and sample.shape[1:] != (full_dim,):
        raise DimensionError(f"Quantizers are fitted on vectors of {full_dim} dimensions, not {list(sample.shape)}.")
    fitted_on = vectors.documents if sample is None else unit_float32(sample)
    if sample is None and len(fitted_on) > rows_to_train(full_dim):
        fitted_on = in_fixed_order(fitted_on, most=rows_to_train(full_dim))  # as many as an index learns from
    wanted = [CellKey(*key) for key in itertools.product(checked, precisions, reranks)]
    stages = dict.fromkeys(stage for key in wanted for stage in _stages(key, full_dim))
    impossible = {stage: reason for stage in stages if (reason := _why_impossible(*stage, fitted_on))}
    wanted = [key for key in wanted if impossible.keys().isdisjoint(_stages(key, full_dim))]
    if not wanted:
        raise GridError(f"No cell is possible. {next(iter(impossible.values()))}")
    measured: dict[CellKey, Scores] = {}
    latencies: dict[CellKey, Latency] = {}
    exact = sorted({full_dim, *(key.dim for key in wanted if key == CellKey(key.dim))}, reverse=True)
    plain = task.measure(vectors.queries, vectors.documents, exact, progress=about("float32", progress))
    measured.update({CellKey(dim): scores for dim, scores in plain.items()})
    full = CellKey(full_dim)
    if searches(task):
        for reranked, firsts in _by_reranks([key for key in wanted if timed or key not in measured]).items():
            cells = measure_searches(task, vectors, firsts, reranked, sample=fitted_on, timed=timed, progress=progress)
            for cell in cells:
                measured.setdefault(cell.key, cell.scores)
                if cell.latency is not None:
                    latencies[cell.key] = cell.latency
    else:
        for precision, keys in itertools.groupby(sorted(wanted, key=_precision), key=_precision):
            if precision == full.precision:
                continue
            sizes = sorted({key.dim for key in keys}, reverse=True)
            for some, documents in _by_size(vectors.documents, fitted_on, precision, sizes):
                queries = np.ascontiguousarray(vectors.queries[:, : documents.shape[1]])
                found = task.measure(queries, documents, some, progress=about(precision, progress))
                measured.update({CellKey(dim, precision): scores for dim, scores in found.items()})
    return GridScores(full_dim, {key: measured[key] for key in dict.fromkeys([full, *wanted])}, latencies, impossible)


def _stages(key: CellKey, full_dim: int) -> list[tuple[int, str]]:
    """Dimensions and precision of what a cell stores: of its first stage, and of its second, if it has one."""
    return [(key.dim, key.precision), *([] if key.rerank is None else [(full_dim, key.rerank.precision)])]


def _precision(key: CellKey) -> str:
    return key.precision


def _why_impossible(dim: int, precision: str, sample: Float32s) -> str | None:
    """Say why vectors cannot be stored so: they have too few dimensions, or there are too few to learn from."""
    return why_impossible(dim, precision) or CodeSettings(dim, precision).why_too_few(len(sample))


def _by_reranks(keys: Sequence[CellKey]) -> dict[tuple[Rerank | None, ...], list[tuple[int, str]]]:
    """First stages by the second ones that are measured behind them, so that each is built once."""
    behind: dict[tuple[int, str], list[Rerank | None]] = {}
    for key in keys:
        behind.setdefault((key.dim, key.precision), []).append(key.rerank)
    found: dict[tuple[Rerank | None, ...], list[tuple[int, str]]] = {}
    for first, stages in behind.items():
        found.setdefault(tuple(stages), []).append(first)
    return found


def _by_size(
    documents: Float32s, sample: Float32s, precision: str, dims: Sequence[int]
) -> Iterator[tuple[Sequence[int], Float32s]]:
    """Sizes, with what documents are worth at them: all at once, or one by one where each has codes of its own."""
    if not is_fitted_by_size(precision):
        yield dims, _restored(fit_quantizer(sample, precision), documents)
        return
    for dim in dims:
        yield (dim,), _restored(fit_codes(sample, dim, precision, score_aware=False), truncate(documents, dim))


def _restored(quantizer: Quantizer, vectors: Float32s) -> Float32s:
    """What vectors are worth once they are stored, [n, full_dim]."""
    decoded = np.empty_like(vectors)
    for first in range(0, len(vectors), _ROWS_AT_A_TIME):
        rows = slice(first, first + _ROWS_AT_A_TIME)
        decoded[rows] = quantizer.decode(quantizer.encode(vectors[rows]))
    return decoded


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
        MissingExtraError: faiss is not installed, and there is more than float32 to search.
    """
    if searches(task) and (any(one != "float32" for one in precisions) or any(reranks)):
        require("faiss", extra="index")
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
