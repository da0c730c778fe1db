"""How an adaptor is fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

from nestvec.adaptors.selection import CLEAR
from nestvec.errors import AdaptorError

__all__ = ["METHODS", "PRESETS", "FitSettings", "Labels", "Method", "Preset", "ResolvedSettings"]

Method: TypeAlias = Literal["linear", "two-tower", "mlp", "rotation", "pca", "whitening"]
METHODS: tuple[str, ...] = get_args(Method)
"""Kinds of adaptors."""

Preset: TypeAlias = Literal["small", "balanced", "full"]
PRESETS: tuple[str, ...] = get_args(Preset)
"""Which sizes matter most."""

Labels: TypeAlias = Literal["pairs", "scores", "none"]
"""What is known of the vectors: which belong together, how similar the two of a pair are, or nothing."""

_BEST = {"epochs": 12.0, "learning_rate": 0.01, "temperature": 0.05, "pull": 0.01, "tie": 0.1, "distillation": 0.0}
_BY_LABELS: dict[Labels, dict[str, float]] = {
    "pairs": {"temperature": 0.06},
    "scores": {"epochs": 20.0, "temperature": 0.2, "pull": 0.0, "distillation": 0.3},
    "none": {"distillation": 1.0},
}
_LEARNING_RATE_DEEP = 0.001
_NOT_OF_ROTATIONS = ("temperature", "precisions", "mined_negatives", "symmetric", "distillation", "tie")
_ROTATION = {"epochs": 12.0, "learning_rate": 0.004, "pull": 0.0}
_PRESETS: dict[Preset, float] = {"small": -0.5, "balanced": 0.0, "full": 0.5}
"""The power of its size that a dim is weighed by."""


@dataclass(frozen=True)
class FitSettings:
    """How an adaptor is fitted.

    None means what has proved best for the labels that there are; `resolved` says what that is.

    Attributes:
        preset: Which sizes matter most: `small`, `full`, or all alike, `balanced`.
        start: Where training begins: `identity`, the vectors as they are, `pca`, or for a rotation by pairs `pairs`,
            what the two of a pair agree on. None tries all for pairs and for rotations, and keeps what is best on the
            held-out data; else it is `pca`.
        strength: Share of the way from there to the trained map that is kept, above 0 to 1; it stands for stronger L2
            penalties. None compares quarters on the held-out data, goes less far where their gain is not sure, and
            with labels keeps the vectors as they are where there is none.
        centered: Principal components are those about the mean; False keeps every cosine at the full size.
        epochs: Passes over the pairs, or without labels over the documents, of which 30,000 count at most.
        batch_size: Pairs in a step at most, each a negative of all others. An epoch has eight steps at least, as long
            as a step keeps 64 pairs: few pairs need them more than they need many negatives. Without labels, and for a
            rotation, a step has 1,024 rows where there are so many.
        learning_rate: Of Adam, at its highest.
        temperature: What similarities are divided by in the loss.
        weights: One weight a dim; None weighs each 1, a dim with the root of its size with preset `full`, and with one
            over it with `small`.
        symmetric: Also rank the queries for each document.
        precisions: How documents are stored in training; the loss is the mean over these. More than float32 trains
            vectors that survive quantization.
        shortest_code: Bytes of the shortest quantised code that counts there.
        mined_negatives: Documents near each query that join its negatives in a step, drawn from the nearest ones by the
            vectors as they were.
        pull: Weight of an L2 penalty towards where training began, which prevents overfitting.
        tie: Weight of the squared distance between the two towers of `two-tower`: what both sides need they learn
            together, and each learns apart only what pays.
        distillation: Weight of keeping the neighbourhoods of the vectors as they were, beside the labels; 0 is off.
        distillation_temperature: What similarities are divided by there.
        hidden_width: Numbers in the hidden layer of `mlp`.
        held_out_share: Of the pairs, kept from training to measure on.
        held_out_limit: Pairs kept at most.
        clear: Least mean gain on those, in standard errors, for a map to be kept where the strength is not given.
        evaluations: How often to measure during training, at even distances.
        patience: Stop after so many measurements without a better one; None never stops early.
        seed: Of every draw.
    """

    preset: Preset = "balanced"
    start: Literal["identity", "pca", "pairs"] | None = None
    strength: float | None = None
    centered: bool = True
    epochs: float | None = None
    batch_size: int = 2048
    learning_rate: float | None = None
    temperature: float | None = None
    weights: Sequence[float] | None = None
    symmetric: bool = False
    precisions: Sequence[str] = ("float32",)
    shortest_code: int = 32
    mined_negatives: int = 1
    pull: float | None = None
    tie: float | None = None
    distillation: float | None = None
    distillation_temperature: float = 0.05
    hidden_width: int = 1024
    held_out_share: float = 0.1
    held_out_limit: int = 2000
    clear: float = CLEAR
    evaluations: int = 6
    patience: int | None = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for names, least, whole in (
            (("epochs", "learning_rate", "temperature", "distillation_temperature"), None, False),
            (("distillation", "pull", "tie", "clear"), 0, False),
            (("batch_size", "held_out_limit"), 2, True),
            (("hidden_width", "shortest_code", "evaluations", "patience"), 1, True),
            (("mined_negatives", "seed"), 0, True),
        ):
            for name in names:
                _check_number(name, getattr(self, name), least, whole=whole)
        if self.preset not in PRESETS:
            raise AdaptorError(f"There is no preset {self.preset!r}. Presets are {', '.join(PRESETS)}.")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise AdaptorError(f"strength is {self.strength}. It must be above 0, and 1 at most.")
        if self.start not in ("identity", "pca", "pairs", None):
            raise AdaptorError(f"There is no start {self.start!r}. Begin at identity or pca, or a rotation at pairs.")
        if not 0 < self.held_out_share < 1:
            raise AdaptorError(f"held_out_share is {self.held_out_share}. It must be between 0 and 1.")

    def resolved(self, labels: Labels, method: str, dims: Sequence[int]) -> ResolvedSettings:
        """Fill in what depends on the labels, the method and the sizes.

        Args:
            labels: What is known of the vectors.
            method: Which kind of adaptor; a hidden layer takes smaller steps.
            dims: The sizes, in the order of the weights.

        Returns:
            The same settings with every such value.

        Raises:
            AdaptorError: There are not as many weights as sizes, or a rotation is given settings of other losses.
        """
        weights = self.weights
        if weights is None:
            powers = [float(dim ** _PRESETS[self.preset]) for dim in dims]
            weights = [power * len(dims) / sum(powers) for power in powers]
        elif len(weights) != len(dims):
            raise AdaptorError(f"Got {len(weights)} weights for {len(dims)} dims. Give each dim one.")
        best = _BEST | _BY_LABELS[labels]
        if method == "mlp":
            best["learning_rate"] = _LEARNING_RATE_DEEP
        if method == "rotation":
            best |= _ROTATION
        given = {field.name: getattr(self, field.name) for field in fields(self)} | {
            "precisions": tuple(self.precisions)
        }
        if method == "rotation" and (
            wrong := [name for name in _NOT_OF_ROTATIONS if given[name] != getattr(FitSettings, name)]
        ):
            raise AdaptorError(
                f"{', '.join(wrong)}: a rotation learns from the similarities of the full vectors, and these settings "
                "are of the other losses. Leave them out."
            )
        filled = {name: best[name] for name in best if given[name] is None}
        return ResolvedSettings(**{**given, **filled, "weights": tuple(weights)})


@dataclass(frozen=True, kw_only=True)
class ResolvedSettings(FitSettings):
    """How an adaptor is fitted, with every value."""

    epochs: float
    learning_rate: float
    temperature: float
    weights: Sequence[float]
    pull: float
    tie: float
    distillation: float


def _check_number(name: str, value: float | None, least: int | None, *, whole: bool) -> None:
    if value is None:
        return
    wrong = not math.isfinite(value) or (whole and value != int(value))
    if wrong or (value <= 0 if least is None else value < least):
        kind = "a whole number" if whole else "a number"
        bound = "above 0" if least is None else f"of {least} or more"
        raise AdaptorError(f"{name} is {value}. Give {kind} {bound}.")
