"""A model whose leading dimensions are made the ones that matter, without training it: what `nestvec rotate` does."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nestvec.adaptors import Adaptor, AdaptorData, FitSettings, fit_adaptor
from nestvec.data import (
    Benchmark,
    Columns,
    Positives,
    RetrievalRow,
    hold_out_queries,
    naming_places,
    read_documents,
    span_rows,
)
from nestvec.encoders import (
    SIMILARITY_NAMES,
    CachedEncoder,
    comparison_of_base,
    has_towers,
    load_base,
    model_of,
    refuse_truncating,
    rotated_modules,
    trained_dims,
)
from nestvec.errors import DataError, ModelError, OutputExistsError
from nestvec.evaluation import Retrieval, TaskVectors, encode_task, make_cells, measure_grid
from nestvec.extras import require
from nestvec.files import atomic_folder, write_text
from nestvec.jobs.adapt import encode_records
from nestvec.jobs.provenance import hardware, package_versions
from nestvec.jobs.training_data import read_source, retrieval_rows
from nestvec.jobs.verify import VERIFIED_TEXTS, verify_truncation
from nestvec.progress import Progress, about, silent
from nestvec.quantization import check_precision
from nestvec.report import GridReport, rotated_card
from nestvec.sources import make_encoder
from nestvec.training.export import save_model
from nestvec.vectors import check_dims, default_dims

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["RotateSettings", "Rotated", "rotate"]

_Item = TypeVar("_Item")

_METRICS = ("MRR@10", "Recall@10")
_LEAST_ROWS, _LEAST_TO_FIT = 30, 20
_SHORT_DIM = 64


@dataclass(frozen=True)
class RotateSettings:
    """What a rotation is fitted on and measured by.

    Attributes:
        dims: Sizes that shall be good; None takes those that the model was trained for, or the full size and the powers
            of two below it.
        rows: Rows or documents to use at most, drawn at random.
        queries: Queries to hold out and measure by at most; a quarter of the distinct ones where there are few.
        documents: Documents that these are searched among.
        precisions: How documents are stored in the grid.
        columns: Which column of the data holds what.
        split: Which qrels of a BEIR folder, or split of a data set.
        positives: What a list of positives is: a row for each, or its first one.
        strict: Refuse rows that are otherwise left out and counted.
        batch_size: Texts that the model encodes at a time.
        cache: Keep vectors on disk, and take them from there.
        trust_remote_code: Run code that comes with the model, where it needs some.
        seed: Of every draw.
    """

    dims: Sequence[int] | None = None
    rows: int = 4000
    queries: int = 500
    documents: int = 2000
    precisions: Sequence[str] = ("float32", "int8", "binary")
    columns: Columns | None = None
    split: str = "train"
    positives: Positives = "all"
    strict: bool = False
    batch_size: int = 64
    cache: bool = True
    trust_remote_code: bool = False
    seed: int = 0


class Rotated(NamedTuple):
    """What came of it."""

    adaptor: Adaptor
    """Its method is `raw` where nothing gained: then no model was written."""
    report: GridReport
    """The grid of the rotated model, and of the model as it was, on queries that were held out."""


def rotate(
    model: str,
    out: str | Path,
    *,
    data: str | Path | None = None,
    docs: str | Path | None = None,
    settings: RotateSettings | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Rotated:
    """Rotate the vectors of a model so that truncated ones retrieve better, and save it as an ordinary model.

    Cosines at the full size stay as they are. Some queries are held out, and what the model gives for them before and
    after is measured.

    Args:
        model: A model folder, a hub id, or the name of a packaged base.
        out: Folder to write.
        data: Rows of queries and documents, as `read_records` takes them, or a BEIR folder.
        docs: Documents, as `read_documents` takes them, in place of rows; spans of them are the queries that the model
            is measured by.
        settings: What to fit and to measure.
        overwrite: Replace what `out` is.
        progress: How to report progress.

    Returns:
        The rotation and its grid.

    Raises:
        OutputExistsError: `out` exists, and is not to be replaced.
        SourceNotFoundError: The model or the data are not there.
        ModelError: The model cannot be loaded, has a tower for each side, or gives vectors that are zero or not finite.
        DataError: The data cannot be used, or are too few.
        AdaptorError: What is left to fit on is too few, or too much alike, to hold a part of it out once more.
        DimensionError: A dim is outside the model, or the model truncates its vectors itself.
        PrecisionError: A precision is not known.
        VectorError: The model gives the same vector for all queries or all documents.
        VerificationError: The saved model gives other vectors than it should.
        StorageError: The disk is full, or the folder cannot be written.
        MissingExtraError: faiss is not installed, and there is more than float32 to measure.
    """
    settings = settings or RotateSettings()
    out = Path(out)
    if any(precision != "float32" for precision in settings.precisions):
        require("faiss", extra="index")  # sooner than after all the encoding
    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} exists. Choose another folder, or pass --overwrite.")
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    spans = None
    if data is not None and docs is None:
        source, rows = str(data), _read_rows(data, settings, progress)
    elif docs is not None and data is None:
        spans = _read_spans(docs, settings, progress)
        source, rows = str(docs), list(spans)
    else:
        raise DataError("A rotation is fitted on rows or on documents. Give data or docs, one of the two.")
    distinct = len({row.query for row in rows})
    if distinct < _LEAST_ROWS:
        raise DataError(
            f"{source} has {len(rows)} rows that can be used, with {distinct} queries. Give at least {_LEAST_ROWS}, "
            "better 2,000."
        )
    n_rows = len(rows)
    rows, benchmark = hold_out_queries(
        rows,
        queries=min(settings.queries, max(1, distinct // 4)),
        documents=settings.documents,
        seed=settings.seed,
        name=f"held-out queries of {source}",
        progress=progress,
    )
    if len(rows) < _LEAST_TO_FIT:
        raise DataError(
            f"{source} has {n_rows} rows, and of those {len(rows)} are left to fit on: the others are measured by, or "
            f"share a document with those. Give at least {_LEAST_TO_FIT} more, or measure by fewer queries (--queries)."
        )
    task = Retrieval(benchmark, metrics=_METRICS)
    seconds["data"] = time.perf_counter() - started
    with progress(f"loading {model}", None):
        loaded = load_base(model, trust_remote_code=settings.trust_remote_code)
    _refuse_towers(loaded, model)
    refuse_truncating(loaded)
    encoder = make_encoder(model, loaded, batch_size=settings.batch_size, unit_length=True)
    full_dim = encoder.full_dim
    dims = check_dims(settings.dims or trained_dims(model, loaded) or default_dims(full_dim), full_dim)
    for precision in settings.precisions:
        check_precision(precision)
    if settings.cache:
        encoder = CachedEncoder(encoder, about=model)
    started = time.perf_counter()
    with naming_places(source, columns=settings.columns):
        if spans is None:
            fitted = encode_records(rows, encoder, about=source, progress=progress)
        else:  # a span says little of what is asked: it stands beside its text, and nothing belongs together
            asked = encoder.encode_queries([row.query for row in rows], progress=progress)
            fitted = AdaptorData(asked, encoder.encode_documents([spans[row] for row in rows], progress=progress))
        before = encode_task(task, encoder, progress=progress)
    seconds["encode"] = time.perf_counter() - started
    started = time.perf_counter()
    fit_settings = FitSettings(seed=settings.seed)
    adaptor = fit_adaptor(fitted, dims, method="rotation", settings=fit_settings, progress=progress)
    seconds["fit"] = time.perf_counter() - started
    started = time.perf_counter()
    transform = adaptor.towers.document.transform
    vectors = {"rotated": TaskVectors(transform(before.queries), transform(before.documents)), "as it is": before}
    report = _measure(task, vectors, {"rotated": str(out), "as it is": model}, dims, settings, seconds, progress)
    seconds["measure"] = time.perf_counter() - started
    if adaptor.method == "rotation":
        with progress("saving and verifying", None):
            modules = rotated_modules(loaded.children(), adaptor.towers.document.weight)
            rotated = model_of(loaded, modules, similarity=SIMILARITY_NAMES.get(comparison_of_base(model)))
            with atomic_folder(out) as partial:
                save_model(rotated, partial, dims=dims)
                verify_truncation(
                    partial,
                    task.documents[:VERIFIED_TEXTS],
                    vectors["rotated"].documents[:VERIFIED_TEXTS],
                    min(_SHORT_DIM, full_dim),
                    trust_remote_code=settings.trust_remote_code,
                )
                write_text(partial / "README.md", rotated_card(report, model))
    return Rotated(adaptor, report)


def _read_rows(data: str | Path, settings: RotateSettings, progress: Progress) -> list[RetrievalRow]:
    found = read_source(
        data,
        columns=settings.columns,
        split=settings.split,
        positives=settings.positives,
        strict=settings.strict,
        progress=progress,
    )
    rows = found.rows() if isinstance(found, Benchmark) else retrieval_rows(found, str(data))
    return _draw(rows, settings.rows, settings.seed)


def _read_spans(docs: str | Path, settings: RotateSettings, progress: Progress) -> dict[RetrievalRow, str]:
    with progress(f"reading {Path(docs).name}", None):
        documents = read_documents(docs, columns=settings.columns, strict=settings.strict)
        texts = dict.fromkeys(_draw((document.text for document in documents), settings.rows, settings.seed))
    return span_rows(texts, seed=settings.seed)


def _draw(items: Iterable[_Item], count: int, seed: int) -> list[_Item]:
    """So many of them at random, in one pass, in their order: reservoir sampling (Vitter 1985)."""
    generator = random.Random(seed)
    kept: list[tuple[int, _Item]] = []
    for place, item in enumerate(items):
        if len(kept) < count:
            kept.append((place, item))
        elif (chosen := generator.randrange(place + 1)) < count:
            kept[chosen] = (place, item)
    return [item for _, item in sorted(kept, key=lambda one: one[0])]


def _refuse_towers(loaded: SentenceTransformer, model: str) -> None:
    if has_towers(loaded):
        raise ModelError(
            f"{model} has a tower for each side (a Router), and one rotation would have to suit both. Fit a map for "
            "each: nestvec adapt --method two-tower."
        )


def _measure(
    task: Retrieval,
    vectors: dict[str, TaskVectors],
    models: dict[str, str],
    dims: Sequence[int],
    settings: RotateSettings,
    seconds: dict[str, float],
    progress: Progress,
) -> GridReport:
    grids = {
        name: measure_grid(task, one, dims, precisions=settings.precisions, progress=about(name, progress))
        for name, one in vectors.items()
    }
    after, before = grids.values()
    with progress("resampling", None):
        cells: list[Any] = [
            *make_cells("rotated", after, before=before, seed=settings.seed),
            *make_cells("as it is", before, seed=settings.seed),
        ]
    return GridReport(
        headline=task.metrics[0],
        confidence=0.95,
        cells=cells,
        models=models,
        reference="as it is",
        benchmark={"name": task.name, "task": task.kind, "unit": task.unit, **task.counts()},
        corpus_size=len(task.documents),
        measured_size=len(task.documents),
        hardware=hardware(),
        seconds=seconds,
        versions=package_versions(),
        seed=settings.seed,
        folder=str(Path.cwd()),
    )
