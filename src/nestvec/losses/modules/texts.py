"""What the tokens of a batch say: which texts are the same, and what they read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nestvec.errors import LossInputError

__all__ = ["decode", "text_ids"]

_MULTIPLIER = 6364136223846793005  # of Knuth's 64-bit generator: odd, with well-mixed bits


def text_ids(features: dict[str, Any]) -> Tensor:
    """Give equal texts equal numbers.

    Args:
        features: A tokenised column, padded or flat.

    Returns:
        [rows], int64: a polynomial hash of the tokens that the model sees, after cutting long texts. Two different
        texts share a number with a chance of less than 1 in 2^50.

    Raises:
        LossInputError: The features hold no tokens.
    """
    tokens, row_of_token, n_rows = _flatten(features)
    first = torch.ones_like(row_of_token, dtype=torch.bool)
    first[1:] = row_of_token[1:] != row_of_token[:-1]
    index = torch.arange(len(tokens), device=tokens.device)
    start = torch.where(first, index, 0).cummax(dim=0).values if len(tokens) else index
    position = index - start
    longest = int(position.max()) + 1 if len(tokens) else 1
    powers = torch.full((longest,), _MULTIPLIER, device=tokens.device).cumprod(dim=0)  # wraps around, as it should
    mixed = (tokens + 1) * _MULTIPLIER
    mixed = (mixed ^ (mixed >> 29)) * powers[position]
    return torch.zeros(n_rows, dtype=torch.long, device=tokens.device).index_add(0, row_of_token, mixed)


def decode(features: dict[str, Any], tokenizer: Any) -> list[str]:
    """Turn tokens back into texts.

    Args:
        features: A tokenised column, padded or flat.
        tokenizer: The tokenizer that made it, of transformers or of tokenizers.

    Returns:
        One text a row, without special tokens; what the vocabulary does not know is lost.

    Raises:
        LossInputError: The features hold no tokens.
    """
    tokens, row_of_token, n_rows = _flatten(features)
    counts = torch.bincount(row_of_token, minlength=n_rows).tolist()
    return [tokenizer.decode(ids.tolist(), skip_special_tokens=True) for ids in torch.split(tokens, counts)]


def _flatten(features: dict[str, Any]) -> tuple[Tensor, Tensor, int]:
    """Tokens [tokens], the row of each [tokens], and how many rows there are."""
    tokens = features.get("input_ids")
    if tokens is None:
        raise LossInputError(f"The batch has no tokens, only {', '.join(features)}: texts cannot be compared.")
    if "offsets" in features:  # StaticEmbedding: one flat sequence
        offsets = features["offsets"]
        index = torch.arange(len(tokens), device=tokens.device)
        return tokens, torch.searchsorted(offsets, index, right=True) - 1, len(offsets)
    if "cu_seq_lens_q" in features:
        raise LossInputError("Texts of batches packed into one sequence cannot be compared. Use the usual collator.")
    mask = features["attention_mask"].bool()
    rows = torch.arange(len(tokens), device=tokens.device)[:, None].expand_as(tokens)
    return tokens[mask], rows[mask], len(tokens)
