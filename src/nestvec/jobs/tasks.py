"""What a path holds to measure with: a BEIR folder, pairs with scores, texts with classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nestvec.data import (
    Columns,
    LabeledText,
    Record,
    RetrievalRow,
    ScoredPair,
    is_saved_data_set,
    read_benchmark,
    read_records,
)
from nestvec.errors import DataError, SourceNotFoundError
from nestvec.evaluation import (
    BitextMining,
    Classification,
    Clustering,
    FewShot,
    PairClassification,
    Reranking,
    Retrieval,
    SemanticSimilarity,
    Task,
)
from nestvec.progress import Progress, silent

__all__ = ["TASKS", "TaskSettings", "load_task"]

_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
_RecordT = TypeVar("_RecordT", bound=Record)


@dataclass(frozen=True)
class TaskSettings:
    """How to read and measure a task.

    Attributes:
        kind: A name in `TASKS`; None is what the data look like.
        split: Which qrels of a BEIR folder, and which file of a folder with `train` and `test` files.
        train: File of the texts to learn from, for classification and few-shot; None is the folder's `train` file.
        metrics: Metrics of retrieval and reranking, the headline first; None takes those of the task.
        shots: Examples of each class, for few-shot; None is 8.
        draws: Draws of examples to average over, for few-shot; None is 10.
        seed: Seed of draws and clusterings.
        columns: Which column of a file holds what, as `read_records` takes it.
        strict: Refuse what is otherwise left out, counted and said once.
    """

    kind: str | None = None
    split: str = "test"
    train: Path | None = None
    metrics: Sequence[str] | None = None
    shots: int | None = None
    draws: int | None = None
    seed: int = 0
    columns: Columns | None = None
    strict: bool = False


def load_task(path: str | Path, settings: TaskSettings | None = None, *, progress: Progress = silent) -> Task:
    """Read what models are measured with.

    Args:
        path: A BEIR folder; a folder with `train` and `test` files; or a file of records.
        settings: How to measure; by default what the data look like: BEIR folders are retrieval, scored pairs
            similarity, labelled texts classification where there are texts to learn from and clustering where not.
        progress: How to report progress.

    Returns:
        The task, named after the path.

    Raises:
        SourceNotFoundError: There is no such file or folder, or the folder holds nothing to measure with.
        DataError: Rows are bad, or do not fit the task; all bad rows are named.
        MetricError: A metric is not known, or the task has no choice of metrics.
    """
    settings = settings or TaskSettings()
    path = Path(path)
    if settings.kind is not None and settings.kind not in TASKS:
        raise DataError(f"Unknown task {settings.kind!r}. Tasks are: {', '.join(TASKS)}.")
    if (path / "qrels").is_dir():
        return _load_benchmark(path, settings, progress)
    if path.is_file() and settings.split != TaskSettings.split:
        raise DataError(
            f"{path} is one file, so there is no split {settings.split!r}. Give its folder, or leave it out."
        )
    saved = is_saved_data_set(path)
    file = _find(path, settings.split) if path.is_dir() and not saved else path
    if file is None:
        raise SourceNotFoundError(
            f"{path} holds nothing to measure with: no folder qrels, and no file {settings.split} with one of the "
            f"endings {', '.join(_SUFFIXES)}."
        )
    records = _read(file, settings, progress, split=settings.split if saved else "train")
    kind = settings.kind or _kind_of(records[0], settings.train or _find(path, "train"))
    _refuse_unused(kind, settings)
    name = path.resolve().name.partition(".")[0]
    return TASKS[kind](name, records, path, settings, progress)


def _read(file: Path, settings: TaskSettings, progress: Progress, *, split: str = "train") -> list[Record]:
    return read_records(file, columns=settings.columns, split=split, strict=settings.strict, progress=progress)


def _load_benchmark(path: Path, settings: TaskSettings, progress: Progress) -> Task:
    kinds = {"retrieval": Retrieval, "reranking": Reranking}
    kind = settings.kind or "retrieval"
    if kind not in kinds:
        raise DataError(f"{path} is a BEIR folder, to measure {' or '.join(kinds)} with, not {kind}.")
    _refuse_unused(kind, settings)
    if settings.columns is not None:
        raise DataError(f"{path} is a BEIR folder, whose files name their columns. Leave columns out.")
    benchmark = read_benchmark(path, split=settings.split, strict=settings.strict, progress=progress)
    options = {} if settings.metrics is None else {"metrics": settings.metrics}
    return kinds[kind](benchmark, **options)


def _refuse_unused(kind: str, settings: TaskSettings) -> None:
    """Say which settings a task does not take, rather than leave them aside."""
    if kind not in {"retrieval", "reranking"} and settings.metrics is not None:
        raise DataError(f"The metrics of {kind} are fixed. Leave them out.")
    if kind not in {"classification", "few-shot"} and settings.train is not None:
        raise DataError(f"Nothing is learnt in {kind}. Leave the file to learn from out.")
    if kind != "few-shot" and (settings.shots is not None or settings.draws is not None):
        raise DataError(f"No examples are drawn in {kind}. Leave shots and draws out, or choose the task few-shot.")


def _kind_of(record: Record, train: Path | None) -> str:
    if isinstance(record, ScoredPair):
        return "similarity"
    if isinstance(record, LabeledText):
        return "clustering" if train is None else "classification"
    raise DataError(
        "These rows are queries with their positives. Measure translations with the task bitext, or give a BEIR folder."
    )


def _of_kind(kind: type[_RecordT], records: Sequence[Record], task: str) -> list[_RecordT]:
    wrong = next((record for record in records if not isinstance(record, kind)), None)
    if wrong is not None:
        raise DataError(f"The task {task} needs rows of {kind.__name__}, and these are {type(wrong).__name__}.")
    return [record for record in records if isinstance(record, kind)]


def _similarity(name: str, records: Sequence[Record], *_: Any) -> Task:
    return SemanticSimilarity(_of_kind(ScoredPair, records, "similarity"), name=name)


def _pair_classification(name: str, records: Sequence[Record], *_: Any) -> Task:
    return PairClassification(_of_kind(ScoredPair, records, "pair-classification"), name=name)


def _clustering(name: str, records: Sequence[Record], path: Path, settings: TaskSettings, _: Progress) -> Task:
    del path
    return Clustering(_of_kind(LabeledText, records, "clustering"), seed=settings.seed, name=name)


def _bitext(name: str, records: Sequence[Record], *_: Any) -> Task:
    return BitextMining(_of_kind(RetrievalRow, records, "bitext"), name=name)


def _classification(
    name: str, records: Sequence[Record], path: Path, settings: TaskSettings, progress: Progress
) -> Task:
    test = _of_kind(LabeledText, records, "classification")
    return Classification(_read_train(path, settings, progress), test, name=name)


def _few_shot(name: str, records: Sequence[Record], path: Path, settings: TaskSettings, progress: Progress) -> Task:
    test = _of_kind(LabeledText, records, "few-shot")
    draw = {"shots": settings.shots, "draws": settings.draws}
    given = {option: value for option, value in draw.items() if value is not None}
    return FewShot(_read_train(path, settings, progress), test, seed=settings.seed, name=name, **given)


def _read_train(path: Path, settings: TaskSettings, progress: Progress) -> list[LabeledText]:
    file = settings.train or _find(path, "train")
    if file is None:
        raise DataError(f"There are no texts to learn from beside {path}. Give them with train, or measure clustering.")
    return _of_kind(LabeledText, _read(file, settings, progress), "classification")


def _find(folder: Path, name: str) -> Path | None:
    return next((folder / f"{name}{suffix}" for suffix in _SUFFIXES if (folder / f"{name}{suffix}").is_file()), None)


def _needs_a_folder(name: str, *_: Any) -> Task:
    raise DataError(f"{name} is no BEIR folder with corpus, queries and qrels, which this task needs.")


TASKS: dict[str, Callable[..., Task]] = {
    "retrieval": _needs_a_folder,
    "reranking": _needs_a_folder,
    "bitext": _bitext,
    "similarity": _similarity,
    "pair-classification": _pair_classification,
    "classification": _classification,
    "few-shot": _few_shot,
    "clustering": _clustering,
}
"""What makes each task out of the rows of a file."""
