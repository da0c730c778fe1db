"""The losses as modules for the sentence-transformers trainer, one a function of the folder above."""

from nestvec.losses.modules.base import NestedLoss
from nestvec.losses.modules.classes import NestedSoftmax, NestedSupervisedContrastive
from nestvec.losses.modules.distillation import NestedEmbeddingDistillation, NestedSimilarityDistillation
from nestvec.losses.modules.info_nce import NestedInfoNCE
from nestvec.losses.modules.mixture import NestedMixture
from nestvec.losses.modules.pairs import (
    NestedAnglE,
    NestedContrastive,
    NestedCoSENT,
    NestedCosineRegression,
    NestedOnlineContrastive,
)
from nestvec.losses.modules.triplets import NestedBatchHardTriplet, NestedTriplet

__all__ = [
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
]
