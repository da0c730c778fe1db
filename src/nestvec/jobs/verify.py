"""Is a saved model the one that was measured?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nestvec.encoders import SentenceTransformerEncoder, load_model
from nestvec.errors import VerificationError
from nestvec.vectors import truncate

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["VERIFIED_TEXTS", "verify_truncation"]

VERIFIED_TEXTS = 64
"""Texts that are enough."""
_TOLERANCE = 1e-5


def verify_truncation(model: SentenceTransformer, folder: Path, texts: Sequence[str], dim: int) -> None:
    """Check that a saved model, told to truncate by itself, gives the vectors that cutting the full ones gives.

    Args:
        model: The model that was saved.
        folder: Where it was saved.
        texts: Some texts.
        dim: Size to check, at most that of the model.

    Raises:
        VerificationError: The vectors differ by more than rounding.
    """
    full = SentenceTransformerEncoder(model).encode_documents(texts)
    # The encoder restores unit length, which the model itself does not do after it truncates.
    reloaded = SentenceTransformerEncoder(load_model(str(folder), truncate_dim=dim)).encode_documents(texts)
    difference = float(np.abs(truncate(full, dim) - reloaded).max()) if reloaded.shape[1] == dim else math.inf
    if difference > _TOLERANCE:
        raise VerificationError(
            f"The saved model, reloaded at {dim} numbers, differs from the trained one by {difference:.2g}. "
            "Nothing was saved. Please report this with the recipe."
        )
