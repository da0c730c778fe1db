"""Measure the grid of one or more models on one task: what `nestvec evaluate` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors import SIDES, fit_pca, load
from nestvec.data import naming_places
from nestvec.encoders import CachedEncoder, load_base, trained_dims
from nestvec.errors import DimensionError, GridError, VectorError
from nestvec.evaluation import (
    Cell,
    Rerank,
    Task,
    TaskVectors,
    check_cells,
    check_task_vectors,
    encode_task,
    make_cells,
    measure_grid,
    searches,
)
from nestvec.extras import require
from nestvec.jobs.fitted_on import encode_sample
from nestvec.jobs.provenance import hardware, package_versions
from nestvec.jobs.ready_vectors import read_task_vectors
from nestvec.jobs.tasks import TaskSettings, load_task
from nestvec.progress import Progress, about, silent
from nestvec.quantization import PRECISIONS
from nestvec.report import FittedOn, GridReport, SampleQuery
from nestvec.sources import make_encoder, split_adaptor
from nestvec.vectors import check_dims, default_dims, unit_float32

__all__ = ["PCA_PREFIX", "GridSettings", "evaluate"]

_SAMPLES = 8
_SAMPLE_DEPTH = 10
_TEXT_CHARACTERS = 160
_VECTORS = "vectors:"
_PCA = "pca"
PCA_PREFIX = f"{_PCA}="
"""What a source begins with that is the principal components of another."""
_SHORTLIST = Rerank("int8", 100)


_Transform = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class _Encoded(NamedTuple):
    """A task as one source sees it."""

    vectors: TaskVectors
    trained: Sequence[int] | None = None
    """Sizes that the source says it was trained for."""
    identities: Mapping[str, str] = MappingProxyType({})
    """Identity of the encoder by side, where it is known."""
    sample: NDArray[np.float32] | None = None
    """Unit vectors that quantizers are fitted on; None for the documents."""


@dataclass(frozen=True)
class GridSettings:
    """Which cells to measure, and how.

    Attributes:
        dims: Sizes; None takes those that the model was trained for, or the full size and powers of two below it.
        precisions: Names in `BITS_PER_DIMENSION`, or `pq` and a number of bytes.
        fit_on: File of texts or rows that ranges and codebooks are learned from, whose documents count; None learns
            them from the documents that are measured.
        reranks: Second stages, None for none; None in their place is `none` and, for retrieval, `int8:100`.
        latency: Time the search of each cell, where the task searches.
        cache: Keep vectors on disk, and take them from there.
        force: Accept an adaptor that was fitted on another encoder.
        trust_remote_code: Run code that comes with a model, where it needs some.
        batch_size: Texts that the model encodes at a time.
        corpus_size: Vectors that total bytes are stated for; None is as many as were measured.
        samples: Bootstrap resamples.
        confidence: Confidence of the intervals, between 0 and 1.
        seed: Seed of resampling.
    """

    dims: Sequence[int] | None = None
    precisions: Sequence[str] = PRECISIONS
    fit_on: str | Path | None = None
    reranks: Sequence[Rerank | None] | None = None
    latency: bool = True
    cache: bool = True
    force: bool = False
    trust_remote_code: bool = False
    batch_size: int = 64
    corpus_size: int | None = None
    samples: int = 2000
    confidence: float = 0.95
    seed: int = 0


def evaluate(
    model: str,
    benchmark: str | Path,
    *,
    name: str | None = None,
    reference: str | None = None,
    baselines: Mapping[str, str] | None = None,
    task_settings: TaskSettings | None = None,
    settings: GridSettings | None = None,
    progress: Progress = silent,
) -> GridReport:
    """Measure a model, and what it is compared with, in every cell of dims x precisions x reranks.

    Args:
        model: A model folder, a hub id, the name of a packaged base, or `vectors:` and a folder of ready vectors. The
            file of an adaptor and `=` before any of these puts the adaptor behind it.
        benchmark: What to measure with, as `load_task` takes it.
        name: What to call the model; None is its folder's name or its id.
        reference: Another model, as `model`: gains, and a second retention, are relative to it. `pca`, or `pca=` and a
            model, is the principal components of a model's document vectors, by default those of `model`.
        baselines: More models by the name to give them; they are measured and reported beside the others.
        task_settings: How to read the task.
        settings: Which cells to measure.
        progress: How to report progress.

    Returns:
        The grid of every model.

    Raises:
        SourceNotFoundError: A model or benchmark is not there.
        ModelError: A model cannot be loaded.
        AdaptorError: An adaptor cannot be loaded, or was fitted on another encoder.
        VectorError: Ready vectors do not fit the task, or a model gives every text the same vector.
        DataError: The benchmark cannot be used.
        MetricError: A metric is not known.
        DimensionError: A dim is outside the vectors of `model`.
        PrecisionError: A precision is not known.
        GridError: No grid follows from these settings, or a name stands for two models.
        MissingExtraError: faiss, for latencies, or what loads the model is not installed.
    """
    settings = settings or GridSettings()
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    task = load_task(benchmark, task_settings, progress=progress)
    models = _name_models(model, name, reference, baselines or {})
    seconds["data"] = time.perf_counter() - started
    own = next(iter(models))
    named_reference = None if reference is None else list(models)[1]

    reranks = _choose_reranks(task, settings)
    check_cells(task, settings.precisions, reranks)
    timed = settings.latency and searches(task)
    if timed:
        require("faiss", extra="index")  # sooner than after all the encoding

    vectors: dict[str, TaskVectors] = {}
    samples_of: dict[str, NDArray[np.float32] | None] = {}
    encoded: dict[str, _Encoded] = {}
    dims: Sequence[int] = ()
    for label, source in models.items():
        started = time.perf_counter()
        known = _encode_source(source, task, benchmark, encoded, settings, progress)
        vectors[label], trained = known.vectors, known.trained
        samples_of[label] = known.sample
        seconds["encode"] = seconds.get("encode", 0.0) + time.perf_counter() - started
        if label == own:
            full_dim = vectors[label].documents.shape[1]
            dims = check_dims(settings.dims or trained or default_dims(full_dim), full_dim)

    started = time.perf_counter()
    scores = {}
    for label, one in vectors.items():
        sizes = [dim for dim in dims if dim <= one.documents.shape[1]]  # of a shorter model those that it has
        if not sizes:
            raise DimensionError(f"None of the dims {list(dims)} is within the {one.documents.shape[1]} of {label}.")
        scores[label] = measure_grid(
            task,
            one,
            sizes,
            precisions=settings.precisions,
            reranks=reranks,
            sample=samples_of[label],
            timed=timed,
            progress=about(label, progress),
        )
    seconds["measure"] = time.perf_counter() - started
    started = time.perf_counter()
    cells: list[Cell] = []
    with progress("resampling", None):
        for label, measured in scores.items():
            before = None if named_reference in {None, label} else scores[named_reference or label]
            cells += make_cells(
                label,
                measured,
                before=before,
                samples=settings.samples,
                confidence=settings.confidence,
                seed=settings.seed,
            )
    seconds["resample"] = time.perf_counter() - started
    samples, shown = _answer_samples(task, vectors, dims, settings.seed)
    return GridReport(
        headline=task.metrics[0],
        confidence=settings.confidence,
        cells=cells,
        models=models,
        reference=named_reference,
        benchmark={"name": task.name, "task": task.kind, "unit": task.unit, **task.counts()},
        fitted_on=_fitted_on(settings, samples_of[own], task),
        impossible=[f"{dim} x {precision}: {why}" for (dim, precision), why in scores[own].impossible.items()],
        corpus_size=settings.corpus_size or len(task.documents),
        measured_size=len(task.documents),
        samples=samples,
        documents=shown,
        hardware=hardware(),
        seconds=seconds,
        versions=package_versions(),
        seed=settings.seed,
        folder=str(Path.cwd()),
    )


def _fitted_on(settings: GridSettings, sample: NDArray[np.float32] | None, task: Task) -> FittedOn:
    if settings.fit_on is None or sample is None:
        return FittedOn("documents", len(task.documents))
    return FittedOn(str(Path(settings.fit_on).absolute()), len(sample))


def _name_models(model: str, name: str | None, reference: str | None, baselines: Mapping[str, str]) -> dict[str, str]:
    """Sources by name: the model, then the reference, then the baselines."""
    named = [(name or _short_name(model), model)]
    if reference is not None:
        named.append((_short_name(reference), reference))
    named += baselines.items()
    # pca alone is that of the model
    sources = [(label, f"{PCA_PREFIX}{model}" if source == _PCA else source) for label, source in named]
    names = [label for label, _ in sources]
    twice = next((label for label in names if names.count(label) > 1), None)
    if twice is not None:
        raise GridError(f"Two models are called {twice!r}. Give one another name: --name, or --baseline NAME=MODEL.")
    return dict(sources)


def _short_name(source: str) -> str:
    adaptor_file, _ = split_adaptor(source)
    if adaptor_file is not None:
        return Path(adaptor_file).stem
    kind, separator, rest = source.partition("=") if source.startswith(PCA_PREFIX) else ("", "", source)
    path = Path(rest.removeprefix(_VECTORS))
    short = path.name if path.exists() else rest
    if path.exists() and short == "model":  # the folder of a training run says more
        short = path.resolve().parent.name
    return f"{kind}{separator}{short}"


def _encode_source(
    source: str,
    task: Task,
    benchmark: str | Path,
    encoded: dict[str, _Encoded],
    settings: GridSettings,
    progress: Progress,
    *,
    behind_adaptor: bool = False,
) -> _Encoded:
    """The vectors of a source, each of which is encoded once."""
    if source in encoded and not behind_adaptor:
        return encoded[source]
    adaptor_file, behind = split_adaptor(source)
    if source.startswith(PCA_PREFIX):
        plain = _encode_source(source.removeprefix(PCA_PREFIX), task, benchmark, encoded, settings, progress)
        pca = fit_pca(plain.vectors.documents)
        vectors = check_task_vectors(task, _map(plain.vectors, pca.transform, pca.transform))
        sample = None if plain.sample is None else unit_float32(pca.transform(plain.sample))
        encoded[source] = _Encoded(vectors, sample=sample)
    elif adaptor_file is not None:
        adaptor = load(adaptor_file)
        frozen = _encode_source(behind, task, benchmark, encoded, settings, progress, behind_adaptor=True)
        adaptor.check_encoder(frozen.identities, force=settings.force)
        tower = adaptor.towers
        vectors = check_task_vectors(task, _map(frozen.vectors, tower.query.transform, tower.document.transform))
        sample = None if frozen.sample is None else unit_float32(tower.document.transform(frozen.sample))
        encoded[source] = _Encoded(vectors, adaptor.dims, sample=sample)
    elif source.startswith(_VECTORS):
        if settings.fit_on is not None:
            raise VectorError(
                f"{source} has vectors of the benchmark alone, and none of {settings.fit_on}. Leave --fit-on out."
            )
        encoded[source] = _Encoded(read_task_vectors(source.removeprefix(_VECTORS), task, benchmark))
    else:
        with progress(f"loading {source}", None):
            model = load_base(source, trust_remote_code=settings.trust_remote_code)
        # Adaptors map vectors of unit length, and a dot product of two documents is no cosine of two vectors.
        unit_length = behind_adaptor or not searches(task)
        encoder = make_encoder(source, model, batch_size=settings.batch_size, unit_length=unit_length)
        if settings.cache:
            encoder = CachedEncoder(encoder, about=source)
        identities = {side: encoder.identity(side) for side in SIDES}
        with naming_places(benchmark):
            vectors = encode_task(task, encoder, progress=progress)
        sample = None
        if settings.fit_on is not None:
            sample = encode_sample(settings.fit_on, encoder, progress=progress)
        encoded[source] = _Encoded(vectors, trained_dims(source, model), identities, sample)
    return encoded[source]


def _map(vectors: TaskVectors, map_queries: _Transform, map_documents: _Transform) -> TaskVectors:
    queries = map_queries(vectors.queries) if len(vectors.queries) else vectors.queries
    return TaskVectors(queries, map_documents(vectors.documents))


def _choose_reranks(task: Task, settings: GridSettings) -> Sequence[Rerank | None]:
    if settings.reranks is not None:
        return settings.reranks
    return [None, _SHORTLIST] if searches(task) and task.depth <= _SHORTLIST.shortlist else [None]


def _answer_samples(
    task: Task, vectors: Mapping[str, TaskVectors], dims: Sequence[int], seed: int
) -> tuple[list[SampleQuery], dict[str, str]]:
    """A few queries, drawn at random, with what every model finds at every size."""
    if not searches(task):
        return [], {}
    benchmark = task.benchmark
    judged = [
        row for row, key in enumerate(task.query_ids) if any(grade > 0 for grade in benchmark.qrels[key].values())
    ]
    rows = np.random.default_rng(seed).permutation(judged)[:_SAMPLES]
    answers: list[dict[str, dict[int, list[str]]]] = [{} for _ in rows]
    shown: dict[str, str] = {}
    for label, own in vectors.items():
        full_dim = own.documents.shape[1]  # what the others are compared with
        sizes = sorted({full_dim, *(dim for dim in dims if dim <= full_dim)}, reverse=True)
        found = task.search(own.queries[rows], own.documents, sizes, depth=_SAMPLE_DEPTH, rows=rows.tolist())
        for dim, top in found.items():
            for place, indices in enumerate(top.indices):
                ids = [task.document_ids[row] for row in indices if row >= 0]
                answers[place].setdefault(label, {})[dim] = ids
                shown.update({key: " ".join(benchmark.corpus[key].split())[:_TEXT_CHARACTERS] for key in ids})
    samples = []
    for row, answered in zip(rows, answers, strict=True):
        key = task.query_ids[row]
        relevant = [one for one, grade in benchmark.qrels[key].items() if grade > 0 and one in benchmark.corpus]
        samples.append(SampleQuery(benchmark.queries[key], relevant, answered))
    return samples, shown
