"""The main job: measure a base model at every size, train it nested, measure it again, save and verify it."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from nestvec.data import Benchmark, write_benchmark
from nestvec.encoders import SentenceTransformerEncoder, load_base, load_model
from nestvec.errors import OutputExistsError, RecipeError, ResumeError, VerificationError
from nestvec.evaluation import BenchmarkVectors, encode_benchmark, make_cells, measure_sizes, parse_metric
from nestvec.files import atomic_folder, require_free_space, storage_errors, write_text
from nestvec.jobs.provenance import git_commit, package_versions
from nestvec.jobs.training_data import TrainingData, load_training_data
from nestvec.losses.info_nce import resolve_weights
from nestvec.progress import Progress, silent
from nestvec.report import Example, ExampleAnswer, FoundDocument, Report, markdown_report, model_card, save_plot
from nestvec.training.determinism import deterministic
from nestvec.training.export import save_model
from nestvec.training.recipe import Recipe, dump_recipe
from nestvec.training.run import TrainingOutcome, default_dims, train
from nestvec.vectors import check_dims, truncate

__all__ = ["train_and_measure", "verify_truncation"]

_EXAMPLE_DIM = 64
_EXAMPLE_DEPTH = 3
_EXAMPLE_TEXT = 200  # characters of a document
_VERIFIED_TEXTS = 64
_VERIFIED_TOLERANCE = 1e-5


def train_and_measure(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Report:
    """Run a recipe from end to end.

    Writes `model/`, `benchmark/`, `recipe.toml`, `plot.png`, `report.md` and, last, `report.json` into `out`. Each
    appears whole or not at all; while the job runs, `work/` holds its checkpoints.

    Args:
        recipe: What to do.
        out: Folder for the results.
        resume: Continue a run that was interrupted from its last checkpoint, or start where there is none yet.
        overwrite: Replace the results, or the unfinished run, that `out` holds.
        progress: How to report progress.

    Returns:
        The report that was written.

    Raises:
        OutputExistsError: `out` holds results or an unfinished run, and neither flag was given.
        ResumeError: The run is already finished, or its recipe or data changed since.
        DimensionError: A dim is larger than the model.
        RecipeError: A value does not fit the base.
        ModelError: The base cannot be loaded.
        DataError: The data or benchmark cannot be used.
        StorageError: The disk is full, or `out` cannot be written.
        VerificationError: Training diverged, or the saved model gives other vectors than the trained one.
    """
    out = Path(out)
    started = time.perf_counter()
    seconds: dict[str, float] = {}
    work = _prepare_output(out, resume=resume, overwrite=overwrite)
    with deterministic(recipe.seed):
        with _timed(seconds, "load"), progress(f"loading {recipe.model.base}", None):
            model = load_base(recipe.model.base)
            _apply_model_settings(model, recipe)
        encoder = SentenceTransformerEncoder(model, batch_size=recipe.evaluation.batch_size)
        dims, measured = _resolve_dims(recipe, encoder.full_dim)
        with _timed(seconds, "data"):
            data = load_training_data(recipe, progress=progress)

        with _timed(seconds, "encode"):
            vectors_before = encode_benchmark(data.benchmark, encoder, progress=progress)
            before = measure_sizes(vectors_before, measured, metrics=recipe.evaluation.metrics, progress=progress)
        with _timed(seconds, "train"):
            outcome = train(
                model,
                data.rows,
                recipe.training,
                dims=dims,
                seed=recipe.seed,
                work=work / "checkpoints",
                resume=resume,
                progress=progress,
            )
        with _timed(seconds, "encode"):
            vectors_after = encode_benchmark(data.benchmark, encoder, progress=progress)
            after = measure_sizes(vectors_after, measured, metrics=recipe.evaluation.metrics, progress=progress)

        settings = recipe.evaluation
        bootstrap = {"samples": settings.bootstrap_samples, "confidence": settings.confidence, "seed": recipe.seed}
        cells = [
            *make_cells("before", before, **bootstrap),  # type: ignore[arg-type]
            *make_cells("after", after, before=before, **bootstrap),  # type: ignore[arg-type]
        ]
        example_dim = _EXAMPLE_DIM if encoder.full_dim >= _EXAMPLE_DIM else min(measured)
        report = Report(
            name=recipe.name,
            base=recipe.model.base,
            headline=str(parse_metric(settings.metrics[0])),
            confidence=settings.confidence,
            cells=cells,
            benchmark={"name": data.benchmark.name, **data.benchmark.counts()},
            training=_describe_training(data, outcome, dims),
            examples=answer_examples(
                data.benchmark,
                {"before": vectors_before, "after": vectors_after},
                example_dim,
                settings.examples,
                recipe.seed,
            ),
            seconds=seconds,
            versions=package_versions(),
            seed=recipe.seed,
        )
        _publish(out, model, recipe, data.benchmark, report, dims, seconds, started, progress)
    with storage_errors(work):
        shutil.rmtree(work)
    return report


def verify_truncation(model: SentenceTransformer, folder: Path, texts: Sequence[str], dim: int) -> None:
    """Check that a saved model, told to truncate by itself, gives the vectors that cutting the full ones gives.

    Args:
        model: The model that was saved.
        folder: Where it was saved.
        texts: Some texts.
        dim: Size to check, at most that of the model.

    Raises:
        VerificationError: The vectors differ by more than rounding.
    """
    full = SentenceTransformerEncoder(model).encode_documents(texts)
    # The encoder restores unit length, which the model itself does not do after it truncates.
    reloaded = SentenceTransformerEncoder(load_model(str(folder), truncate_dim=dim)).encode_documents(texts)
    difference = float(np.abs(truncate(full, dim) - reloaded).max()) if reloaded.shape[1] == dim else float("inf")
    if difference > _VERIFIED_TOLERANCE:
        raise VerificationError(
            f"The saved model, reloaded at {dim} numbers, differs from the trained one by {difference:.2g}. "
            "Nothing was saved. Please report this with the recipe."
        )


def answer_examples(
    benchmark: Benchmark, vectors: dict[str, BenchmarkVectors], dim: int, count: int, seed: int
) -> list[Example]:
    """Answer a few benchmark queries, drawn at random, with every model.

    Args:
        benchmark: Where the queries come from.
        vectors: The benchmark as each model sees it, by the model's name.
        dim: Numbers to search with.
        count: Queries to draw.
        seed: Seed of the draw.

    Returns:
        The queries with the first documents of each model.
    """
    answerable = [query for query, grades in benchmark.qrels.items() if any(grade > 0 for grade in grades.values())]
    drawn = random.Random(seed).sample(answerable, min(count, len(answerable)))
    rows = [list(benchmark.qrels).index(query) for query in drawn]
    answers: dict[str, list[ExampleAnswer]] = {query: [] for query in drawn}
    for name, own in vectors.items():
        chosen = BenchmarkVectors(benchmark, own.queries[rows], own.documents, own.document_ids, 0.0)
        for query, found in zip(drawn, chosen.search([dim], len(own.document_ids))[dim].indices, strict=True):
            ranking = [own.document_ids[row] for row in found]
            rank = next(i for i, document in enumerate(ranking, 1) if benchmark.qrels[query].get(document, 0) > 0)
            shown = [FoundDocument(key, benchmark.corpus[key][:_EXAMPLE_TEXT]) for key in ranking[:_EXAMPLE_DEPTH]]
            answers[query].append(ExampleAnswer(name, rank, shown))
    return [
        Example(
            query=benchmark.queries[query],
            dim=dim,
            relevant=[document for document, grade in benchmark.qrels[query].items() if grade > 0],
            answers=answers[query],
        )
        for query in drawn
    ]


def _prepare_output(out: Path, *, resume: bool, overwrite: bool) -> Path:
    """Decide what to do with what is there; returns the folder for unfinished work."""
    work = out / "work"
    unfinished = work.is_dir()
    finished = not unfinished and ((out / "report.json").exists() or (out / "model").exists())
    if finished and resume:
        raise ResumeError(f"There is nothing to resume in {out}: its run is already finished.")
    if finished and not overwrite:
        raise OutputExistsError(f"{out} already holds a model. Choose another --out, or pass --overwrite.")
    if unfinished and not (resume or overwrite):
        raise OutputExistsError(f"{out} holds an unfinished run. Pass --resume to continue it, or --overwrite.")
    if overwrite and not resume:
        shutil.rmtree(work, ignore_errors=True)
    require_free_space(out, 0)
    with storage_errors(out):
        for leftover in out.glob(".*.partial-*"):  # of a process that was killed while it wrote
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink()
    return work


def _apply_model_settings(model: SentenceTransformer, recipe: Recipe) -> None:
    settings = recipe.model
    if settings.max_tokens is not None:
        transformer = getattr(model[0], "auto_model", None)
        if transformer is None:
            raise RecipeError(
                f"model.max_tokens is {settings.max_tokens}, but {settings.base} has no limit to set. Leave it out."
            )
        limit = getattr(transformer.config, "max_position_embeddings", None)
        if limit is not None and settings.max_tokens > limit:
            raise RecipeError(f"model.max_tokens is {settings.max_tokens}, but {settings.base} reads {limit} at most.")
        model.max_seq_length = settings.max_tokens
    for side, prompt in (("query", settings.query_prompt), ("document", settings.document_prompt)):
        if prompt is not None:
            model.prompts[side] = prompt


def _resolve_dims(recipe: Recipe, full_dim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Dims to train and dims to measure, checked against the model before any data is read."""
    dims = check_dims(recipe.training.dims or default_dims(full_dim), full_dim)
    resolve_weights(dims, recipe.training.weights)
    for metric in recipe.evaluation.metrics:
        parse_metric(metric)
    return dims, check_dims(recipe.evaluation.dims or dims, full_dim)


def _describe_training(data: TrainingData, outcome: TrainingOutcome, dims: Sequence[int]) -> dict[str, object]:
    return {
        "source": data.source,
        "rows": len(data.rows),
        "dims": list(dims),
        "steps": outcome.steps,
        "resumed_at_step": outcome.resumed_at_step,
        "loss": [[step, round(loss, 4)] for step, loss in outcome.loss],
    }


def _publish(
    out: Path,
    model: SentenceTransformer,
    recipe: Recipe,
    benchmark: Benchmark,
    report: Report,
    dims: Sequence[int],
    seconds: dict[str, float],
    started: float,
    progress: Progress,
) -> None:
    """Write every result, the report last, so that a report always speaks of the model beside it."""
    provenance: dict[str, object] = {"versions": dict(report.versions)}
    commit = git_commit(Path.cwd())
    if commit:
        provenance["git_commit"] = commit
    saved_recipe = dump_recipe(recipe, provenance)
    with _timed(seconds, "save"), progress("saving and verifying", None):
        with storage_errors(out):
            (out / "report.json").unlink(missing_ok=True)
        with atomic_folder(out / "model") as partial:
            save_model(model, partial, dims=dims)
            dim = min(_EXAMPLE_DIM, max(cell.dim for cell in report.cells))
            verify_truncation(model, partial, list(benchmark.corpus.values())[:_VERIFIED_TEXTS], dim)
            (partial / "README.md").write_text(model_card(report, recipe=dump_recipe(recipe)), encoding="utf-8")
        write_benchmark(benchmark, out / "benchmark")
        write_text(out / "recipe.toml", saved_recipe)
        save_plot(report, out / "plot.png")
    seconds["total"] = time.perf_counter() - started
    write_text(out / "report.md", markdown_report(report, plot="plot.png"))
    write_text(out / "report.json", report.to_json())


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - started
