"""A teacher's vectors of the training rows, encoded once before training begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nestvec.encoders import CachedEncoder, Encoder
from nestvec.progress import Progress, silent

__all__ = ["teach"]


def teach(
    teacher: Encoder, columns: Mapping[str, Sequence[str]], *, about: str, progress: Progress = silent
) -> NDArray[np.float32]:
    """Encode every text of the rows with the teacher, each once, through the vector cache.

    Args:
        teacher: What encodes.
        columns: Texts by column, as `to_columns` gives them.
        about: Name of the teacher, for the cache.
        progress: How to report progress.

    Returns:
        [rows, columns, teacher_dim], in memory.
    """
    encoder = CachedEncoder(teacher, about=about)
    by_column = [
        (encoder.encode_queries if name == "query" else encoder.encode_documents)(texts, progress=progress)
        for name, texts in columns.items()
    ]
    return np.stack(by_column, axis=1)
