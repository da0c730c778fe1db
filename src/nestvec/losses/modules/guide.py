"""A second model whose opinion decides which negatives are false."""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses import CachedLossMixin
from torch import Tensor, nn

from nestvec.errors import LossInputError
from nestvec.losses.modules.layers import input_modules
from nestvec.losses.modules.texts import decode

__all__ = ["Guide"]


class Guide(CachedLossMixin):  # which cuts batches into mini-batches
    """A frozen model with an opinion on which texts belong together. No nn.Module, so that nobody trains it."""

    def __init__(self, guide: SentenceTransformer, model: nn.Module, mini_batch_size: int | None) -> None:
        """Check that the guide can read what the model reads.

        Args:
            guide: The model with the opinion.
            model: The model that is trained.
            mini_batch_size: Rows to encode at a time; None encodes a batch at once.

        Raises:
            LossInputError: The guide is the model itself, or the texts of a batch cannot be read.
        """
        if guide is model:
            raise LossInputError("The guide is the model that is trained. Leave the guide out to use its own opinion.")
        readers: list[Any] = list(input_modules(model))
        tokenizers: list[Any] = [getattr(reader, "tokenizer", None) for reader in readers]
        if not tokenizers or None in tokenizers:
            raise LossInputError("A guide needs a model with a tokenizer, to read the texts of the batch.")
        vocabulary = tokenizers[0].get_vocab()
        if any(tokenizer.get_vocab() != vocabulary for tokenizer in tokenizers[1:]):
            raise LossInputError("A guide needs towers that share a tokenizer, to read the texts of the batch.")
        self.model, self.mini_batch_size = guide, mini_batch_size or sys.maxsize
        self._tokenizer = tokenizers[0]
        longest = max(getattr(reader, "max_seq_length", None) or math.inf for reader in readers)
        longest_of_guide = guide.max_seq_length or math.inf
        self._reads_same_tokens = (
            all(type(reader) is type(guide[0]) for reader in readers)
            and longest <= longest_of_guide
            and guide.tokenizer.get_vocab() == vocabulary
        )

    @torch.no_grad()
    def embed(self, features: dict[str, Any]) -> Tensor:
        """Return [rows, guide_dim] for a tokenised column of the model that is trained."""
        device = features["input_ids"].device
        self.model.to(device).eval()
        if not self._reads_same_tokens:
            texts = decode(features, self._tokenizer)
            batch_size = min(self.mini_batch_size, len(texts))
            vectors = self.model.encode(texts, batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False)
            moved: Tensor = vectors.clone().to(device)
            return moved
        if self.mini_batch_size == sys.maxsize:
            embedded: Tensor = self.model(dict(features))["sentence_embedding"]
            return embedded
        parts = self.embed_minibatch_iter(features, with_grad=False, copy_random_state=False)
        return torch.cat([part for part, _ in parts])
