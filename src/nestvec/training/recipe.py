"""A recipe: everything a training run depends on, as TOML that is checked before any work."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nestvec.data.records import COLUMN_ROLES
from nestvec.encoders.bases import PACKAGED_BASES
from nestvec.errors import NestvecError, RecipeError, SourceNotFoundError
from nestvec.quantization import check_trainable
from nestvec.training.schedules import Order
from nestvec.vectors import check_dims

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "PRESETS",
    "BeirData",
    "BenchmarkSettings",
    "DataSettings",
    "EvaluationSettings",
    "FileData",
    "HubData",
    "InstalledDocsData",
    "ModelSettings",
    "Recipe",
    "TrainingSettings",
    "dump_recipe",
    "load_recipe",
    "parse_recipe",
]

Columns: TypeAlias = dict[str, str | list[str]] | list[str]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Dims: TypeAlias = Annotated[list[int], Field(min_length=1)]
Start: TypeAlias = Literal["none", "centre", "rotate", "centre-rotate", "pairs"]
Finish: TypeAlias = Literal["none", "rotate", "pairs", "pca"]
Auto: TypeAlias = Literal["auto"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


class ModelSettings(_Section):
    """Which model is trained."""

    base: str
    """`minilm`, `static`, a local folder, or a hub id."""
    trust_remote_code: bool = False
    """Run code that comes with the base, where it needs some."""
    max_tokens: Count | None = None
    """Longer texts are cut, in training, measuring and in the saved model; None keeps the base's own limit."""
    query_prompt: str | None = None
    """Put before every query; None keeps the base's own."""
    document_prompt: str | None = None
    """Put before every document; None keeps the base's own."""


class _RowsData(_Section):
    limit: Count | None = None
    """Rows to use at most; None uses all."""


class _TableData(_RowsData):
    columns: Columns = {}
    """Which column holds which role, where the names are unusual; or all names in order, of a file without a header."""
    positives: Literal["all", "first"] = "all"
    """What a list of positives is: a row for each, or its first one."""
    strict: bool = False
    """Refuse rows that are otherwise left out, counted and said once."""

    @field_validator("columns")
    @classmethod
    def _known_roles(cls, columns: Columns) -> Columns:
        for role in columns if isinstance(columns, dict) else ():
            if role not in COLUMN_ROLES:
                raise ValueError(f"unknown role {role!r}; roles are {', '.join(COLUMN_ROLES)}")
        return columns


class InstalledDocsData(_RowsData):
    """The API documentation of the packages installed on this machine."""

    source: Literal["installed-docs"]
    site_packages: str | None = None
    """Folder with the packages; None is the one of the running interpreter."""
    modules_per_package: Count | None = None
    """Modules to read of each package at most; None reads all."""


class FileData(_TableData):
    """A JSON Lines, JSON, CSV, TSV or Parquet file, or a folder that `save_to_disk` has written."""

    source: Literal["file"]
    path: str


class HubData(_TableData):
    """A Hugging Face data set: a hub id, or a local folder with its configurations."""

    source: Literal["hub"]
    name: str
    config: str | None = None
    split: str = "train"
    streaming: bool = True
    shuffle_buffer: Count | None = None
    """Rows to shuffle within while streaming; None keeps the order."""


class BeirData(_RowsData):
    """A BEIR folder: a row for every relevant judgement of a split."""

    source: Literal["beir"]
    path: str
    split: str = "train"
    strict: bool = False
    """Refuse what published data sets have and is otherwise left out, counted and said once."""


DataSettings: TypeAlias = Annotated[
    InstalledDocsData | FileData | HubData | BeirData,
    Field(discriminator="source"),
]


class BenchmarkSettings(_Section):
    """What the model is measured on, before and after."""

    path: str | None = None
    """BEIR folder; None holds queries out of the training data."""
    split: str = "test"
    """Which qrels of that folder."""
    strict: bool = False
    """Refuse what published data sets have and is otherwise left out, counted and said once."""
    queries: Count = 500
    """Queries to hold out."""
    documents: Count = 2000
    """Size of the held-out corpus."""


PRESETS: dict[str, dict[str, Any]] = {
    "small": {"self_distillation": 0.5, "document_precisions": ["float32", "int4", "binary"]},
    "balanced": {},
    "full": {"document_precisions": ["float32", "int4", "binary"]},
}
"""Keys of `training` that a preset sets where the recipe does not."""


_OLDER_STARTS: dict[str, dict[str, Any]] = {
    "base": {"start": "none", "finish": "none"},
    "pca": {"start": "centre-rotate", "start_trained": True, "finish": "none"},
}
"""What starts are called in recipes that earlier versions have written."""


class TrainingSettings(_Section):
    """How the model is trained: InfoNCE with in-batch negatives, nested over the dims."""

    preset: Literal["small", "balanced", "full"] = "balanced"
    """Which sizes matter most; sets other keys where they are not written."""
    loss: Literal["nested-info-nce", "matryoshka-loss"] = "nested-info-nce"
    """`matryoshka-loss` is that of sentence-transformers, to compare with: the same gradient, slower."""
    dims: Dims | None = None
    """Sizes to train, in order; None is the full size and the powers of two below it down to 32."""
    weights: list[float] | None = None
    """One weight a dim; None weighs each 1."""
    final_weights: list[float] | None = None
    """One weight a dim, towards which `weights` move evenly until the last step; None keeps them."""
    order: Order = "together"
    """`large-first` and `small-first` let one size after another begin to count."""
    start: Start | Auto = "auto"
    """A map behind the base, fitted on its vectors of the rows: subtract their mean, rotate to principal components, or
    to the axes on which pairs agree.

    `auto` is `rotate` where the leading dimensions of the base do not matter more than the others yet.
    """
    start_trained: bool = False
    """Train that map too; else it stays as it was fitted."""
    start_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Of that map, where it is trained; None takes a hundredth of `learning_rate`."""
    finish: Finish | Auto = "auto"
    """Rotate the trained model where held-out rows gain: from the best start, the axes on which pairs agree, `pca`.

    `auto` is `rotate` where the leading dimensions of the base do not matter more than the others yet.
    """
    temperature: float = Field(default=0.05, gt=0)
    negatives: Annotated[int, Field(ge=0)] | None = None
    """Hard negatives a row; None takes 1 if any row has one."""
    epochs: float = Field(default=1.0, gt=0)
    max_steps: Count | None = None
    """Stop after this many steps, whatever `epochs` says; None for no limit."""
    symmetric: bool = False
    """Also rank the queries for each positive, and average both directions."""
    document_precisions: list[str] = Field(default=["float32"], min_length=1)
    """How documents are stored while the model learns; the loss is the mean over these."""
    shortest_code: Count = 32
    """Bytes of the shortest quantised code that counts there."""
    self_distillation: float = Field(default=0.0, ge=0)
    """Weight of keeping the similarities of every size near those of the largest."""
    neighbours: Annotated[int, Field(ge=2)] | None = None
    """Compare only so many nearest documents there; None compares all of a batch."""
    teacher: str | None = None
    """A model whose similarities every size learns to give: a name as `model.base` takes it; None for no teacher."""
    teacher_weight: float = Field(default=1.0, gt=0)
    """Weight of that."""
    spread: float = Field(default=0.0, ge=0)
    """Weight of keeping unrelated documents apart at every size."""
    batch_size: Count = 64
    mini_batch_size: Count | None = None
    """Rows to encode at a time, with a gradient cache: large batches in little memory. None encodes a batch at once."""
    gradient_accumulation: Count = 1
    """Batches before a step; each is its own set of in-batch negatives."""
    learning_rate: float = Field(default=2e-5, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the forward pass; weights stay float32."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Of every dropout layer; None keeps the base's. 0 is a fifth faster on a CPU, and short runs do not miss it."""
    freeze_token_embeddings: bool = False
    """Leave the table of token embeddings as it is: faster, and it protects rare words."""
    lora_rank: Count | None = None
    """Train low-rank updates of this rank in place of the transformer's own weights; None trains those."""
    averaged: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps, the last ones, whose weights are averaged; 0 takes the last."""
    checkpoints: Count = 10
    """Checkpoints over the whole run, at even distances; the last two are kept until the end."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_preset(cls, values: Any) -> Any:
        # What is wrong with the values, or the name, is said by the checks that follow.
        return {**PRESETS.get(str(values.get("preset")), {}), **values} if isinstance(values, dict) else values

    @model_validator(mode="before")
    @classmethod
    def _read_older_names(cls, values: Any) -> Any:
        older = _OLDER_STARTS.get(str(values.get("start"))) if isinstance(values, dict) else None
        return {**older, **values, "start": older["start"]} if older else values

    @field_validator("dims")
    @classmethod
    def _in_order(cls, dims: list[int] | None) -> list[int] | None:
        return None if dims is None else list(check_dims(dims))

    @field_validator("document_precisions")
    @classmethod
    def _known_precisions(cls, precisions: list[str]) -> list[str]:
        if len(set(precisions)) < len(precisions):
            raise ValueError(f"document_precisions are {precisions}; give each once")
        return [check_trainable(precision) for precision in precisions]

    @model_validator(mode="after")
    def _known_to_the_loss(self) -> TrainingSettings:
        if self.loss == "matryoshka-loss" and self.symmetric:
            raise ValueError("symmetric is for the nested loss; matryoshka-loss ranks documents for queries only")
        if self.loss == "matryoshka-loss" and self.mixes:
            raise ValueError("document_precisions, self_distillation, teacher and spread are for the nested loss")
        if self.loss == "matryoshka-loss" and (self.final_weights is not None or self.order != "together"):
            raise ValueError("final_weights and order are for the nested loss")
        if self.start_trained and self.start in ("auto", "none"):
            raise ValueError("start_trained belongs to start; say which map it puts behind the base")
        if self.start_learning_rate is not None and not self.start_trained:
            raise ValueError("start_learning_rate belongs to start_trained; else the map is not trained")
        if self.neighbours is not None and not self.self_distillation:
            raise ValueError("neighbours belong to self_distillation; give it a weight above 0")
        return self

    @property
    def mixes(self) -> bool:
        """Whether anything joins InfoNCE."""
        return self.document_precisions != ["float32"] or bool(self.self_distillation or self.teacher or self.spread)

    @model_validator(mode="after")
    def _one_weight_a_dim(self) -> TrainingSettings:
        for name, weights in (("weights", self.weights), ("final_weights", self.final_weights)):
            if weights is None:
                continue
            if self.dims is None or len(weights) != len(self.dims):
                raise ValueError(f"{name} has {len(weights)} values for dims = {self.dims}; give one weight a dim")
            if min(weights) < 0 or not any(weights):
                raise ValueError(f"{name} are {weights}; none may be negative, and one must be positive")
            if self.order != "together" and not all(weights):
                raise ValueError(f"{name} are {weights}; one size after another needs all of them above 0")
        return self


class EvaluationSettings(_Section):
    """How the model is measured."""

    dims: Dims | None = None
    """Sizes to measure besides the full one; None measures the trained ones."""
    metrics: list[str] = Field(default=["MRR@10", "Recall@10", "nDCG@10"], min_length=1)
    """The first is the headline, which retention refers to."""
    batch_size: Count = 64
    bootstrap_samples: int = Field(default=2000, ge=100)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    examples: int = Field(default=3, ge=0)
    """Benchmark queries to answer at the end, before and after."""

    @field_validator("dims")
    @classmethod
    def _in_order(cls, dims: list[int] | None) -> list[int] | None:
        return None if dims is None else list(check_dims(dims))


class Recipe(_Section):
    """A whole run.

    A saved recipe also has a table `provenance` (versions, git commit), which is read and changes nothing.
    """

    name: str = "nestvec"
    seed: int = Field(default=42, ge=0, lt=2**32)
    model: ModelSettings
    data: DataSettings
    benchmark: BenchmarkSettings = BenchmarkSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    provenance: dict[str, Any] | None = None


def load_recipe(path: str | Path, overrides: Sequence[str] = (), *, preset: str | None = None) -> Recipe:
    """Read and check a recipe.

    Paths in it are relative to its file; those that lead nowhere from there, and those of `overrides`, to the folder of
    this process. In what is returned they are absolute.

    Args:
        path: TOML file.
        overrides: `section.key=value` each, the value in TOML; a bare word counts as text.
        preset: One of `PRESETS`, whose keys then go before those of the file, though not before `overrides`; None
            leaves it to the file.

    Returns:
        The recipe with every default filled in.

    Raises:
        SourceNotFoundError: There is no such file.
        RecipeError: It is no TOML, or keys or values are wrong; all of them are named.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceNotFoundError(f"There is no recipe {path}. Give a TOML file.")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    if preset is not None:
        training = document.setdefault("training", {})
        if isinstance(training, dict):
            training |= {"preset": preset, **PRESETS.get(preset, {})}
    _find_files(document, path.absolute().parent)
    for override in overrides:
        _override(document, override)
    _find_files(document, Path.cwd())  # what the command line says, and what an older recipe meant
    return parse_recipe(document, source=str(path))


def parse_recipe(document: Mapping[str, Any], *, source: str = "recipe") -> Recipe:
    """Check a recipe that is already parsed.

    Args:
        document: Tables and values, as TOML gives them.
        source: What to call it in an error.

    Returns:
        The recipe with every default filled in.

    Raises:
        RecipeError: Keys or values are wrong; all of them are named.

    Example:
        >>> recipe = parse_recipe({"model": {"base": "minilm"}, "data": {"source": "file", "path": "rows.jsonl"}})
        >>> recipe.training.temperature
        0.05
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        explained = dict.fromkeys(_explain(details) for details in error.errors() if not _is_other_member(details))
        lines = "".join(f"\n  {line}" for line in explained)
        raise RecipeError(f"{source} cannot be used:{lines}") from None
    except NestvecError as error:
        raise RecipeError(f"{source} cannot be used: {error}") from error


def dump_recipe(recipe: Recipe, provenance: Mapping[str, Any] | None = None) -> str:
    """Write a recipe as TOML; reading it gives the same recipe. Values that are None are left out: TOML has no null.

    Args:
        recipe: What to write.
        provenance: Versions and commit, for the table `provenance`.

    Returns:
        TOML.
    """
    document = recipe.model_dump(exclude_none=True, exclude={"provenance"})
    if provenance:
        document["provenance"] = dict(provenance)
    return tomli_w.dumps(document)


def _find_files(document: dict[str, Any], folder: Path) -> None:
    """Make paths absolute that lead to something from a folder."""
    for section, key in _PATHS:
        table = document.get(section)
        value = table.get(key) if isinstance(table, dict) else None
        if isinstance(value, str) and value not in PACKAGED_BASES and value:
            path = Path(value).expanduser()
            if not path.is_absolute() and (folder / path).exists():
                table[key] = os.path.abspath(folder / path)  # type: ignore[index]  # noqa: PTH100  # a table: it has the value


def _override(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        raise RecipeError(f"Cannot read --set {override!r}. Write section.key=value, such as training.epochs=2.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word or path: quotes are lost in the shell
    table = document
    for part in keys[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RecipeError(f"Cannot read --set {override!r}: {part} is a value, not a section.")
    table[keys[-1]] = value


def _is_other_member(details: Any) -> bool:
    """Whether a value is only not the list that it could have been in place of a table."""
    return (
        str(details["loc"][-1]) == "list[str]"
        and details["loc"][-2] == "columns"
        and isinstance(details["input"], dict)
    )


def _explain(details: Any) -> str:
    """One pydantic problem in our words: where, what, and what to write."""
    location = [str(part) for part in details["loc"] if not str(part).startswith("dict[")]
    if location[:1] == ["data"] and len(location) > 1 and location[1] in _SOURCES:
        section: Any = _SOURCES[location.pop(1)]  # the tag of the union is no key of the file
    else:
        section = _SECTIONS.get(location[0], Recipe) if len(location) > 1 else Recipe
    if location[-1] in _UNION_MEMBERS:  # one line a value, not one a type it could have had
        location.pop()
        if location[-1] == "columns":
            return (
                f"{'.'.join(location)} is {details['input']!r}: write a table of role = column, or a list of all names"
            )
        return f"{'.'.join(location)} is {details['input']!r}: it must be a text or a list of texts"
    where = ".".join(location)
    kind, value = details["type"], details.get("input")
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(location[-1], section.model_fields, n=1)
        allowed = f"Did you mean {close[0]}?" if close else f"Keys there are: {', '.join(section.model_fields)}."
        return f"{where}: unknown key. {allowed}"
    if kind == "missing":
        return f"{where} is missing. {_HINTS.get(where, 'Write a value for it.')}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"{where}.source is missing or unknown. {_HINTS['data.source']}"
    if kind == "model_type":
        return f"{where} is {value!r}: it is a section, not a value. Write [{where}] with its keys."
    message = details["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(value, dict) else f" is {value!r}"  # of a whole section only the message helps
    return f"{where}{shown}: {message[:1].lower()}{message[1:]}"


_SOURCES: dict[str, Any] = {
    "installed-docs": InstalledDocsData,
    "file": FileData,
    "hub": HubData,
    "beir": BeirData,
}

_PATHS = (
    ("model", "base"),
    ("data", "path"),
    ("data", "name"),
    ("data", "site_packages"),
    ("benchmark", "path"),
    ("training", "teacher"),
)

_UNION_MEMBERS = ("str", "list[str]")

_SECTIONS: dict[str, Any] = {
    "model": ModelSettings,
    "benchmark": BenchmarkSettings,
    "training": TrainingSettings,
    "evaluation": EvaluationSettings,
}

_HINTS = {
    "model": 'Write a section [model] with base = "minilm".',
    "model.base": 'Write base = "minilm", "static", a folder or a hub id.',
    "data": 'Write a section [data] with source = "installed-docs".',
    "data.source": 'Write source = "installed-docs", "file", "hub" or "beir".',
    "data.path": 'Write path = "rows.jsonl", or a BEIR folder where source = "beir".',
    "data.name": 'Write name = "owner/data-set", or a local folder of Parquet files.',
}
