"""Vectors to a scalar: pure functions on prefixes of tensors, and thin modules for the trainer.

The modules are loaded when first used, because sentence-transformers takes seconds to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nestvec.losses.classes import nested_softmax, nested_supervised_contrastive
from nestvec.losses.distillation import nested_embedding_distillation, nested_similarity_distillation
from nestvec.losses.false_negatives import FalseNegatives
from nestvec.losses.info_nce import nested_info_nce
from nestvec.losses.pairs import (
    nested_angle,
    nested_contrastive,
    nested_cosent,
    nested_cosine_regression,
    nested_online_contrastive,
)
from nestvec.losses.spread import nested_spread_out
from nestvec.losses.straight_through import check_codes, mean_over_precisions, straight_through
from nestvec.losses.triplets import nested_batch_hard_triplet, nested_triplet

if TYPE_CHECKING:
    from nestvec.losses.modules import (
        NestedAnglE,
        NestedBatchHardTriplet,
        NestedContrastive,
        NestedCoSENT,
        NestedCosineRegression,
        NestedEmbeddingDistillation,
        NestedInfoNCE,
        NestedLoss,
        NestedMixture,
        NestedOnlineContrastive,
        NestedSimilarityDistillation,
        NestedSoftmax,
        NestedSupervisedContrastive,
        NestedTriplet,
    )

__all__ = [
    "FalseNegatives",
    "NestedAnglE",
    "NestedBatchHardTriplet",
    "NestedCoSENT",
    "NestedContrastive",
    "NestedCosineRegression",
    "NestedEmbeddingDistillation",
    "NestedInfoNCE",
    "NestedLoss",
    "NestedMixture",
    "NestedOnlineContrastive",
    "NestedSimilarityDistillation",
    "NestedSoftmax",
    "NestedSupervisedContrastive",
    "NestedTriplet",
    "check_codes",
    "mean_over_precisions",
    "nested_angle",
    "nested_batch_hard_triplet",
    "nested_contrastive",
    "nested_cosent",
    "nested_cosine_regression",
    "nested_embedding_distillation",
    "nested_info_nce",
    "nested_online_contrastive",
    "nested_similarity_distillation",
    "nested_softmax",
    "nested_spread_out",
    "nested_supervised_contrastive",
    "nested_triplet",
    "straight_through",
]


def __getattr__(name: str) -> Any:
    """Import a module's class from where it lives."""
    if name not in __all__:
        raise AttributeError(f"module 'nestvec.losses' has no attribute {name!r}")
    return getattr(importlib.import_module("nestvec.losses.modules"), name)
