"""How an adaptor is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from nestvec.errors import AdaptorError
from nestvec.quantization import check_precision

__all__ = ["METHODS", "FitSettings", "Method"]

Method: TypeAlias = Literal["linear", "two-tower", "mlp", "pca", "whitening"]
METHODS: tuple[str, ...] = get_args(Method)
"""Kinds of adaptors."""


@dataclass(frozen=True)
class FitSettings:
    """How an adaptor is fitted.

    Attributes:
        start: Where training begins: `identity`, the vectors as they are, or `pca`.
        epochs: Passes over the pairs, or without labels over the documents.
        batch_size: Pairs in a step; each is a negative of all others.
        learning_rate: Of Adam, at its highest.
        temperature: What similarities are divided by in the loss.
        weights: One weight a dim; None weighs each 1.
        symmetric: Also rank the queries for each document.
        precisions: How documents are stored in training; the loss is the mean over these. More than float32 trains
            vectors that survive quantization.
        mined_negatives: Documents near each query that join its negatives in a step, drawn from the nearest ones by the
            vectors as they were.
        pull: Weight of the squared distance to where training began; keeps few pairs from being learned by heart.
        distillation: Weight of keeping the neighbourhoods of the vectors as they were, beside the labels; 0 is off.
        distillation_temperature: What similarities are divided by there.
        hidden_width: Numbers in the hidden layer of `mlp`.
        held_out_share: Of the pairs, kept from training to measure on.
        held_out_limit: Pairs kept at most.
        evaluations: How often to measure during training, at even distances.
        patience: Stop after so many measurements without a better one; None never stops early.
        seed: Of every draw.
    """

    start: Literal["identity", "pca"] = "pca"
    epochs: float = 6.0
    batch_size: int = 2048
    learning_rate: float = 0.01
    temperature: float = 0.05
    weights: Sequence[float] | None = None
    symmetric: bool = False
    precisions: Sequence[str] = ("float32",)
    mined_negatives: int = 1
    pull: float = 0.01
    distillation: float = 0.0
    distillation_temperature: float = 0.05
    hidden_width: int = 1024
    held_out_share: float = 0.1
    held_out_limit: int = 2000
    evaluations: int = 6
    patience: int | None = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "epochs",
            "batch_size",
            "learning_rate",
            "temperature",
            "distillation_temperature",
            "hidden_width",
        ):
            if not getattr(self, name) > 0:
                raise AdaptorError(f"{name} is {getattr(self, name)}. It must be above 0.")
        if self.start not in ("identity", "pca"):
            raise AdaptorError(f"There is no start {self.start!r}. Begin at identity or pca.")
        if not self.precisions:
            raise AdaptorError("No precisions given. Give at least float32.")
        for precision in self.precisions:
            check_precision(precision)
        if not 0 < self.held_out_share < 1:
            raise AdaptorError(f"held_out_share is {self.held_out_share}. It must be between 0 and 1.")
        for name in ("distillation", "pull", "mined_negatives"):
            if not getattr(self, name) >= 0:
                raise AdaptorError(f"{name} is {getattr(self, name)}. It must be 0 or more.")
