"""Records and a loss to a model: one training run, with checkpoints that survive a kill."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer import losses
from torch.utils.data import Sampler
from transformers import PrinterCallback, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from nestvec.adaptors import Adaptor, Map
from nestvec.data import RetrievalRow
from nestvec.encoders import SentenceTransformerEncoder, has_towers, load_base, refuse_truncating
from nestvec.errors import AdaptorError, NestvecWarning, RecipeError, ResumeError, VectorError, VerificationError
from nestvec.files import require_free_space, storage_errors, sync, write_text
from nestvec.losses import NestedMixture
from nestvec.progress import Advance, Progress, silent
from nestvec.tensor_files import read_tensors, write_tensors
from nestvec.training.averaging import WeightAverage
from nestvec.training.batches import BatchPlan, plan_batches
from nestvec.training.columns import fingerprint, to_columns
from nestvec.training.low_rank import add_low_rank, merge_low_rank
from nestvec.training.recipe import Finish, Start, TrainingSettings
from nestvec.training.schedules import weights_at
from nestvec.training.start_and_finish import apply_finish, apply_start, replace_modules, resolve_stages
from nestvec.training.teacher import teach

__all__ = ["PreparedRun", "TrainingOutcome", "prepare", "train"]

_COMPLETE = "complete"  # written into a checkpoint after everything else in it
_RUN_FILE = "run.json"
_WEIGHTS, _WEIGHTS_FORMAT = "weights.safetensors", "nestvec-checkpoint/1"
_CHECKPOINTS_KEPT = 2
_LOSSES_LOGGED = 20
_SHARE_BEHIND = 0.01  # of the learning rate, for a map behind the base: it is fitted already


class TrainingOutcome(NamedTuple):
    """What a run did."""

    steps: int
    resumed_at_step: int
    loss: list[tuple[int, float]]
    """Step and mean loss since the step before, in nats."""
    start: Map | None
    """The map that was put behind the base before the first step."""
    finish: Adaptor | None
    """The rotation after the last step, its method `raw` where it was left out; None where none was asked for, or could
    be fitted."""


class PreparedRun(NamedTuple):
    """A run whose data, settings and checkpoints fit together: what is left to do is to train."""

    model: SentenceTransformer
    columns: dict[str, list[str]]
    unseen: dict[str, list[str]] | None
    """The same of rows that are not trained on, by which a finish is judged."""
    loss: torch.nn.Module
    settings: TrainingSettings
    start: Start
    """That of the settings, or what `auto` came to."""
    finish: Finish
    """The same of the finish."""
    dims: tuple[int, ...]
    teacher: SentenceTransformerEncoder | None
    seed: int
    work: Path
    checkpoint: Path | None
    """The complete checkpoint to continue from; None starts from the base."""
    batches: BatchPlan
    total_steps: int


def prepare(
    model: SentenceTransformer,
    rows: Sequence[RetrievalRow],
    settings: TrainingSettings,
    *,
    dims: Sequence[int],
    seed: int,
    work: Path,
    resume: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> PreparedRun:
    """Check everything a run needs before any long work, and make its folder.

    Args:
        model: The model that will be changed.
        rows: Queries with their positive and negatives.
        settings: The recipe's section `training`.
        dims: Sizes to train.
        seed: Seed of data order, dropout and drawn negatives.
        work: Folder for checkpoints; the caller removes it when the result is safe.
        resume: Continue from the last complete checkpoint in `work`, or start if there is none yet.
        trust_remote_code: Run code that comes with the teacher, where it needs some.
        progress: How to report progress.

    Returns:
        What `train` needs.

    Raises:
        DataError: Rows do not suffice, or no batch of them has anything to compare.
        RecipeError: float16 without a GPU, what only a transformer has of another base, or too few rows for a start or
            a finish.
        ModelError: The teacher cannot be loaded, or the base gives vectors that are zero or not finite.
        DimensionError: A dim is outside the model, or the base cuts its own vectors.
        LossInputError: Weights do not fit the dims, or a static table is to be encoded in mini-batches.
        ResumeError: The checkpoints in `work` belong to another run.
        StorageError: Checkpoints do not fit on the disk.
    """
    if settings.precision == "float16" and not torch.cuda.is_available():
        raise RecipeError('training.precision is "float16", which needs a GPU. Use "bfloat16" or "float32".')
    if has_towers(model):
        raise RecipeError(
            "The base has a tower for each side (a Router), and training takes one. Give what it was made from."
        )
    refuse_truncating(model)
    model.float()  # a base in half precision would lose small steps
    loss = _make_loss(model, settings, dims)
    if settings.freeze_token_embeddings:
        transformer = _transformer(model, "training.freeze_token_embeddings is on")
        transformer.get_input_embeddings().requires_grad_(False)
    if settings.lora_rank is not None:
        _transformer(model, "training.lora_rank is set")  # what cannot work is known before any work
    teacher = (
        None
        if settings.teacher is None
        else SentenceTransformerEncoder(load_base(settings.teacher, trust_remote_code=trust_remote_code))
    )
    stages = resolve_stages(model, rows, settings.start, settings.finish, dims=dims, seed=seed, progress=progress)
    unseen = to_columns(stages.held_out, negatives=0, seed=seed) if stages.held_out else None
    columns = to_columns(stages.rows, negatives=settings.negatives, seed=seed)
    accumulated = settings.gradient_accumulation
    batches = plan_batches(
        columns,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        limit=None if settings.max_steps is None else settings.max_steps * accumulated,
        seed=seed,
    )
    if batches.skipped:
        warnings.warn(
            f"{batches.skipped:,} of {len(stages.rows):,} training rows would be alone in their batch, since they "
            "share their query or positive with too many others: nothing could be learned from them, and they are "
            "left out.",
            NestvecWarning,
            stacklevel=2,
        )
    if settings.dropout is not None:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = settings.dropout
    identity = {
        "base": _describe_base(model),
        "data": fingerprint(columns),
        "training": {**settings.model_dump(mode="json"), "start": stages.start, "finish": stages.finish},
        "seed": seed,
        "dims": list(dims),
        "teacher": None if teacher is None else [teacher.identity(side) for side in ("query", "document")],
    }
    checkpoint = _prepare_folder(work, identity, resume)
    _require_space_for_checkpoints(model, work, averaged=settings.averaged > 0)
    total_steps = math.ceil(len(batches.batches) / accumulated)
    return PreparedRun(
        model=model,
        columns=columns,
        unseen=unseen,
        loss=loss,
        settings=settings,
        start=stages.start,
        finish=stages.finish,
        dims=tuple(dims),
        teacher=teacher,
        seed=seed,
        work=work,
        checkpoint=checkpoint,
        batches=batches,
        total_steps=total_steps,
    )


def _make_loss(model: SentenceTransformer, settings: TrainingSettings, dims: Sequence[int]) -> torch.nn.Module:
    if settings.loss == "nested-info-nce":
        return NestedMixture(
            model,
            dims=dims,
            weights=settings.weights,
            temperature=settings.temperature,
            symmetric=settings.symmetric,
            precisions=settings.document_precisions,
            shortest_code=settings.shortest_code,
            self_distillation=settings.self_distillation,
            neighbours=settings.neighbours,
            teacher=settings.teacher_weight if settings.teacher else 0.0,
            spread=settings.spread,
            mini_batch_size=settings.mini_batch_size,
        )
    scale = 1 / settings.temperature
    loss: torch.nn.Module = losses.MultipleNegativesRankingLoss(model, scale=scale)
    if settings.mini_batch_size is not None:
        loss = losses.CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=settings.mini_batch_size)
    return losses.MatryoshkaLoss(model, loss, list(dims), matryoshka_weights=settings.weights)


def train(run: PreparedRun, *, progress: Progress = silent) -> TrainingOutcome:
    """Fine-tune the model in place.

    Call it inside `deterministic(seed)`: then the same rows, settings and seed give the same weights, also when a
    run was killed and resumed.

    Args:
        run: As `prepare` gives it.
        progress: How to report progress, in steps.

    Returns:
        Steps and losses.

    Raises:
        ModelError: The model gives vectors that are zero or not finite.
        VectorError: The base gives the same vector for all texts, so that no start can be fitted.
        StorageError: A checkpoint does not fit on the disk.
        VerificationError: Training diverged.
        LossInputError: An embedding is not finite any more.
    """
    model, settings, checkpoint = run.model, run.settings, run.checkpoint
    n_modules = len(model)
    start = apply_start(model, run.columns, run.start, trained=settings.start_trained, seed=run.seed, progress=progress)
    rates = {}
    if settings.start_trained:
        behind = "|".join(map(str, range(n_modules, len(model))))
        of_the_base = settings.learning_rate * _SHARE_BEHIND
        rates[rf"^model\.({behind})\."] = settings.start_learning_rate or of_the_base
    columns: dict[str, Any] = dict(run.columns)
    if run.teacher is not None:
        columns["label"] = teach(run.teacher, run.columns, about=str(settings.teacher), progress=progress)
    low_rank = None if settings.lora_rank is None else add_low_rank(model, settings.lora_rank)
    average = WeightAverage(model, first_step=run.total_steps - math.ceil(settings.averaged * run.total_steps) + 1)
    if checkpoint:
        average.resume(checkpoint)
    resumed_at = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    with progress("training", run.total_steps) as advance, storage_errors(run.work):
        trainer = _Trainer(
            model=model,
            args=_arguments(run, rates),
            train_dataset=Dataset.from_dict(columns),
            loss=run.loss,
            callbacks=[_Schedule(run), _Report(advance), average, _MarkComplete()],  # the mark comes last
        )
        trainer.remove_callback(PrinterCallback)
        advance(resumed_at)
        if checkpoint and resumed_at >= run.total_steps:
            # Killed after the last step: the trainer would take one more before it notices.
            trainer._load_from_checkpoint(str(checkpoint))
            trainer.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    # accelerate leaves its mixed-precision wrapper on model.forward: without this, what is measured next would
    # not be the model that is saved.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    average.apply()
    if low_rank is not None:
        merge_low_rank(low_rank)
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise VerificationError(f"Training diverged: {name} is not finite. Lower training.learning_rate.")
        parameter.requires_grad_(True)
    model.eval()
    if start is not None:
        replace_modules(model, model.children())
    end = None
    if run.unseen is not None:
        try:
            end = apply_finish(
                model, run.columns, run.unseen, run.finish, dims=run.dims, seed=run.seed, progress=progress
            )
        except (AdaptorError, VectorError) as error:  # what was trained is worth more than its rotation
            warnings.warn(f"No rotation after training: {error}", NestvecWarning, stacklevel=2)
    history = [(int(entry["step"]), float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry]
    return TrainingOutcome(trainer.state.global_step, resumed_at, history, start, end)


def _arguments(run: PreparedRun, rates: dict[str, float]) -> SentenceTransformerTrainingArguments:
    model, settings, total_steps = run.model, run.settings, run.total_steps
    return SentenceTransformerTrainingArguments(
        output_dir=str(run.work),
        max_steps=total_steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        learning_rate_mapping=rates,  # by the names of parameters
        warmup_steps=math.ceil(settings.warmup_ratio * total_steps),
        lr_scheduler_type="linear",
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        batch_sampler=lambda *_, **__: _Batches(run.batches),  # type: ignore[arg-type]  # any sampler will do
        prompts=_column_prompts(model, list(run.columns)) or None,
        save_strategy="steps",
        save_steps=max(1, total_steps // settings.checkpoints),
        save_total_limit=_CHECKPOINTS_KEPT,
        logging_strategy="steps",
        logging_steps=max(1, total_steps // _LOSSES_LOGGED),
        use_cpu=model.device.type == "cpu",
        disable_tqdm=True,
        report_to="none",
        seed=run.seed,
        data_seed=run.seed,
        dataloader_pin_memory=model.device.type == "cuda",
    )


class _Batches(Sampler[list[int]]):
    """The batches of all epochs as those of one, so that the trainer takes every one of them."""

    def __init__(self, plan: BatchPlan) -> None:
        self._plan = plan

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self._plan.batches)

    def __len__(self) -> int:
        return len(self._plan.batches)


class _Trainer(SentenceTransformerTrainer):
    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Leave it out: the model card is ours, and this one would ask the hub about the base."""

    # A checkpoint holds the numbers alone: a folder to load by itself would lack what is trained beside the weights.
    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        arrays = {name: tensor.cpu().numpy() for name, tensor in self.model.state_dict().items()}
        write_tensors(Path(str(output_dir)) / _WEIGHTS, arrays, {"format": _WEIGHTS_FORMAT})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        found = read_tensors(Path(resume_from_checkpoint) / _WEIGHTS, _WEIGHTS_FORMAT, "weights of a checkpoint")
        self.model.load_state_dict({name: torch.from_numpy(array) for name, array in found.arrays.items()})


class _Schedule(TrainerCallback):
    def __init__(self, run: PreparedRun) -> None:
        self._run, self._weights = run, getattr(run.loss, "weights", ())

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        run, settings = self._run, self._run.settings
        if settings.final_weights is not None or settings.order != "together":
            done = state.global_step / run.total_steps
            run.loss.set_weights(  # type: ignore[operator]  # a NestedLoss; the recipe allows a schedule to no other
                weights_at(done, run.dims, self._weights, settings.final_weights, settings.order)
            )


class _Report(TrainerCallback):
    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._advance(1)


class _MarkComplete(TrainerCallback):
    """Marks a checkpoint once all its files are written: a kill in the middle leaves one without the mark."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        sync(checkpoint)  # the mark must not reach the disk before what it vouches for
        write_text(checkpoint / _COMPLETE, "")


def _prepare_folder(work: Path, identity: dict[str, Any], resume: bool) -> Path | None:
    """Make the folder fit for this run, and return the checkpoint to continue from."""
    described = json.dumps(identity, sort_keys=True)
    run_file = work / _RUN_FILE
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    elif run_file.is_file() and run_file.read_text(encoding="utf-8") != described:
        earlier = json.loads(run_file.read_text(encoding="utf-8"))
        changed = [key for key in identity if earlier.get(key) != identity[key]]
        raise ResumeError(
            f"The run in {work} had another {' and another '.join(changed)}. Resume with the same recipe and data, "
            "or start anew with --overwrite."
        )
    checkpoints = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    complete = [path for path in checkpoints if (path / _COMPLETE).is_file()]
    for path in set(checkpoints) - set(complete):
        shutil.rmtree(path)
    write_text(run_file, described)
    return complete[-1] if complete else None


def _describe_base(model: SentenceTransformer) -> str:
    """Tell one starting point from another: names, shapes and the first numbers of every tensor, and how it reads."""
    digest = hashlib.sha256(repr((model.max_seq_length, sorted(model.prompts.items()))).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().flatten()[:4096].double().cpu().numpy().tobytes())
    return digest.hexdigest()


def _require_space_for_checkpoints(model: SentenceTransformer, work: Path, *, averaged: bool) -> None:
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(parameter.numel() * 4 for parameter in model.parameters() if parameter.requires_grad)
    # Weights, two moments of Adam, perhaps a mean; one more checkpoint is written before the oldest goes.
    require_free_space(work, (_CHECKPOINTS_KEPT + 1) * (weights + (3 if averaged else 2) * trained) + weights)


def _transformer(model: SentenceTransformer, wish: str) -> Any:
    transformer = getattr(model[0], "auto_model", None)
    if transformer is None:
        raise RecipeError(f"{wish}, but the base does not begin with a transformer. Leave it out.")
    return transformer


def _column_prompts(model: SentenceTransformer, columns: Sequence[str]) -> dict[str, str]:
    prompts = {}
    for column in columns:
        prompt = model.prompts.get("query" if column == "query" else "document")
        if prompt:
            prompts[column] = prompt
    return prompts
