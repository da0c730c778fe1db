"""Is a saved model the one that was measured?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.encoders import SentenceTransformerEncoder, load_model
from nestvec.errors import VerificationError
from nestvec.vectors import truncate

__all__ = ["VERIFIED_TEXTS", "verify_truncation"]

VERIFIED_TEXTS = 64
"""Texts that are enough."""
_TOLERANCE = 1e-5
_TOLERANCE_OF_HALF_PRECISION = 5e-3


def verify_truncation(
    folder: Path,
    texts: Sequence[str],
    vectors: NDArray[np.floating[Any]],
    dim: int,
    *,
    trust_remote_code: bool = False,
) -> None:
    """Check that a saved model, told to truncate by itself, gives the vectors that cutting the full ones gives.

    Args:
        folder: Where it was saved.
        texts: Some texts.
        vectors: What it gave for them before, [n, full_dim], unit length.
        dim: Size to check, at most that of the model.
        trust_remote_code: Run code that comes with the model, where it needs some.

    Raises:
        VerificationError: The vectors differ by more than rounding.
    """
    loaded = load_model(str(folder), truncate_dim=dim, trust_remote_code=trust_remote_code)
    # The encoder restores unit length, which the model itself does not do after it truncates.
    reloaded = SentenceTransformerEncoder(loaded).encode_documents(texts)
    difference = float(np.abs(truncate(vectors, dim) - reloaded).max()) if reloaded.shape[1] == dim else math.inf
    whole = all(parameter.dtype.itemsize >= 4 for parameter in loaded.parameters())
    if not difference <= (_TOLERANCE if whole else _TOLERANCE_OF_HALF_PRECISION):
        raise VerificationError(
            f"The saved model, reloaded at {dim} dimensions, differs from the one that was measured by "
            f"{difference:.2g}. Nothing was saved. Please report this with the recipe."
        )
