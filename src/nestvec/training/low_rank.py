"""Low-rank adaptation (LoRA): few numbers are trained, and end up in the weights they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import peft

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["add_low_rank", "merge_low_rank"]


def add_low_rank(model: SentenceTransformer, rank: int) -> Any:
    """Freeze the transformer of a model and put a low-rank update beside every linear layer of it.

    Args:
        model: A model that begins with a transformer; changed in place.
        rank: Of the updates, whose scale is twice as large over it.

    Returns:
        What `merge_low_rank` needs.

    Source:
        Hu et al. 2021, arXiv:2106.09685; every linear layer and twice the rank as in Dettmers et al. 2023,
        arXiv:2305.14314.
    """
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", bias="none")
    transformer: Any = model[0].auto_model
    return peft.LoraModel(transformer, {"default": config}, "default")  # changes the layers in place


def merge_low_rank(wrapper: Any) -> None:
    """Add the updates to the weights they stand beside, so that an ordinary model is left.

    Args:
        wrapper: What `add_low_rank` gave.
    """
    wrapper.merge_and_unload()
