"""The main job: measure a base model at every size, train it nested, measure it again, save and verify it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sentence_transformers import SentenceTransformer

from nestvec.data import write_benchmark
from nestvec.encoders import DOT_PRODUCT, SentenceTransformerEncoder, comparison_of_base, load_base
from nestvec.errors import NestvecWarning, RecipeError
from nestvec.evaluation import (
    CellKey,
    GridScores,
    Retrieval,
    TaskVectors,
    encode_task,
    make_cells,
    measure_grid,
    parse_metric,
)
from nestvec.files import write_text
from nestvec.jobs.examples import answer_examples
from nestvec.jobs.outputs import claim_output, staged_results
from nestvec.jobs.provenance import git_commit, package_versions
from nestvec.jobs.training_data import TrainingData, load_training_data
from nestvec.jobs.verify import VERIFIED_TEXTS, verify_truncation
from nestvec.progress import Progress, silent
from nestvec.report import Report, Stage, markdown_report, model_card, save_plot
from nestvec.training.determinism import deterministic
from nestvec.training.export import save_model
from nestvec.training.recipe import Recipe, dump_recipe
from nestvec.training.run import PreparedRun, TrainingOutcome, prepare, train
from nestvec.vectors import check_dims, default_dims

__all__ = ["train_and_measure"]

_SHORT_DIM = 64  # at which the saved model is verified and examples are answered


def train_and_measure(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Report:
    """Run a recipe from end to end.

    Writes `model/`, `benchmark/`, `recipe.toml`, `plot.png`, `report.md` and `report.json` into `out`, all at the end;
    while the job runs, `work/` holds its checkpoints.

    Args:
        recipe: What to do.
        out: Folder for the results.
        resume: Continue a run that was interrupted from its last checkpoint, or start where there is none yet.
        overwrite: Replace the results, or the unfinished run, that `out` holds.
        progress: How to report progress.

    Returns:
        The report that was written.

    Raises:
        OutputExistsError: `out` holds results or an unfinished run and neither flag was given, or another process
            is at work there.
        ResumeError: The run is already finished, or its recipe or data changed since.
        DimensionError: A dim is larger than the model.
        MetricError: A metric is not known.
        RecipeError: A value does not fit the base.
        ModelError: The base cannot be loaded.
        DataError: The data or benchmark cannot be used.
        StorageError: The disk is full, or `out` cannot be written.
        VerificationError: Training diverged, or the saved model gives other vectors than the trained one.
    """
    out = Path(out)
    started = time.perf_counter()
    seconds: dict[str, float] = {}
    settings = recipe.evaluation
    metrics = [str(parse_metric(metric)) for metric in settings.metrics]  # a wrong name costs no work
    with claim_output(out, resume=resume, overwrite=overwrite) as work, deterministic(recipe.seed):
        with _timed(seconds, "load"), progress(f"loading {recipe.model.base}", None):
            model = load_base(recipe.model.base, trust_remote_code=recipe.model.trust_remote_code)
            _apply_model_settings(model, recipe)
        comparison = comparison_of_base(recipe.model.base)
        if comparison != "cosine":
            by_dot = " nestvec evaluate measures the base by dot product at its full size."
            warnings.warn(
                f"{recipe.model.base} compares by {comparison}. Training and its report compare by cosine, and so will "
                f"the trained model.{by_dot if comparison == DOT_PRODUCT else ''}",
                NestvecWarning,
                stacklevel=2,
            )
        encoder = SentenceTransformerEncoder(model, batch_size=settings.batch_size)
        full_dim = encoder.full_dim
        dims = check_dims(recipe.training.dims or default_dims(full_dim), full_dim)
        measured = check_dims(settings.dims or dims, full_dim)
        with _timed(seconds, "data"):
            data = load_training_data(recipe, progress=progress)
            task = Retrieval(data.benchmark, metrics=metrics)
            run = prepare(
                model,
                data.rows,
                recipe.training,
                dims=dims,
                seed=recipe.seed,
                work=work / "checkpoints",
                resume=resume,
                trust_remote_code=recipe.model.trust_remote_code,
                progress=progress,
            )

        with _timed(seconds, "encode"):
            vectors_before = encode_task(task, encoder, progress=progress)
            before = measure_grid(task, vectors_before, measured, progress=progress)
        with _timed(seconds, "train"):
            outcome = train(run, progress=progress)
        with _timed(seconds, "encode"):
            vectors_after = encode_task(task, encoder, progress=progress)
            after = measure_grid(task, vectors_after, measured, progress=progress)

        with progress("resampling", None):
            samples, confidence, seed = settings.bootstrap_samples, settings.confidence, recipe.seed
            cells = [
                *make_cells("before", before, samples=samples, confidence=confidence, seed=seed),
                *make_cells("after", after, before=before, samples=samples, confidence=confidence, seed=seed),
            ]
        short_dim = min(_SHORT_DIM, full_dim)
        report = Report(
            name=recipe.name,
            base=recipe.model.base,
            headline=metrics[0],
            confidence=confidence,
            cells=cells,
            benchmark={"name": data.benchmark.name, **data.benchmark.counts()},
            training=_describe_training(data, run, outcome, model),
            stages=_stages(
                task,
                {"before": vectors_before, "after": vectors_after},
                {"before": before, "after": after},
                run,
                outcome,
                measured,
            ),
            examples=answer_examples(
                task,
                {"before": vectors_before, "after": vectors_after},
                dim=short_dim,
                count=settings.examples,
                seed=seed,
            ),
            seconds=seconds,
            versions=package_versions(),
            seed=seed,
        )
        resolved = _resolve(recipe, run, measured)
        with staged_results(out, work) as staging:
            with _timed(seconds, "save"), progress("saving and verifying", None):
                (staging / "model").mkdir()
                model.similarity_fn_name = "cosine"  # that it was trained for
                save_model(model, staging / "model", dims=dims)
                texts = list(data.benchmark.corpus.values())[:VERIFIED_TEXTS]
                verify_truncation(
                    staging / "model",
                    texts,
                    SentenceTransformerEncoder(model).encode_documents(texts),
                    short_dim,
                    trust_remote_code=recipe.model.trust_remote_code,
                )
                write_text(staging / "model" / "README.md", model_card(report, recipe=dump_recipe(resolved)))
                write_benchmark(data.benchmark, staging / "benchmark")
                write_text(staging / "recipe.toml", dump_recipe(resolved, _provenance(report)))
                save_plot(report, staging / "plot.png")
            seconds["total"] = time.perf_counter() - started
            write_text(staging / "report.md", markdown_report(report, plot="plot.png"))
            write_text(staging / "report.json", report.to_json())
    return report


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


def _resolve(recipe: Recipe, run: PreparedRun, measured: Sequence[int]) -> Recipe:
    """The recipe with what followed from the base spelled out."""
    settled = {"dims": list(run.dims), "start": run.start, "finish": run.finish}
    training = recipe.training.model_copy(update=settled)
    evaluation = recipe.evaluation.model_copy(update={"dims": list(measured)})
    return recipe.model_copy(update={"training": training, "evaluation": evaluation})


def _describe_training(
    data: TrainingData, run: PreparedRun, outcome: TrainingOutcome, model: SentenceTransformer
) -> dict[str, object]:
    limit = model.max_seq_length  # infinite for a static table
    return {
        "source": data.source,
        "rows": len(run.columns["query"]),
        "rows_held_out": 0 if run.unseen is None else len(run.unseen["query"]),  # to judge the finish by
        "dims": list(run.dims),
        "start": run.start,
        "finish": "none" if outcome.finish is None else run.finish,
        "max_tokens": int(limit) if limit is not None and math.isfinite(limit) else None,
        "steps": outcome.steps,
        "resumed_at_step": outcome.resumed_at_step,
        "loss": [[step, round(loss, 4)] for step, loss in outcome.loss],
    }


def _stages(
    task: Retrieval,
    vectors: Mapping[str, TaskVectors],
    grids: Mapping[str, GridScores],
    run: PreparedRun,
    outcome: TrainingOutcome,
    dims: Sequence[int],
) -> list[Stage]:
    """Scores after each stage; those between the first and the last from their vectors: what lies between is linear."""
    start, finish = outcome.start, outcome.finish
    if start is None and run.finish == "none":
        return []
    metric = task.metrics[0]

    def stage(name: str, grid: GridScores) -> Stage:
        return Stage(name, {dim: grid.scores[CellKey(dim)][metric].value for dim in dims})

    stages = [stage("base", grids["before"])]
    if start is not None:
        queries, documents = vectors["before"]
        started = TaskVectors(start.transform(queries), start.transform(documents))
        stages.append(stage(f"start ({run.start})", measure_grid(task, started, dims)))
    if finish is None or finish.method == "raw":
        stages.append(stage("training", grids["after"]))
    if finish is None and run.finish != "none":
        stages.append(stage(f"finish ({run.finish}: could not be fitted, left out)", grids["after"]))
    elif finish is not None and finish.method == "raw":
        stages.append(stage(f"finish ({run.finish}: no rotation gains enough, left out)", grids["after"]))
    elif finish is not None:
        queries, documents = vectors["after"]
        back = finish.towers.document.weight.T
        stages.append(stage("training", measure_grid(task, TaskVectors(queries @ back, documents @ back), dims)))
        where = finish.settings["start"] if run.finish == "rotate" else run.finish
        strength = f"{finish.settings['strength']:.0%} of the way"
        stages.append(stage(f"finish (rotation from {where}, {strength})", grids["after"]))
    return stages


def _provenance(report: Report) -> dict[str, object]:
    commit = git_commit(Path.cwd())
    return {"versions": dict(report.versions), **({"git_commit": commit} if commit else {})}


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - started
