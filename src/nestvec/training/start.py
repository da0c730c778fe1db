"""Where training begins: the base as it is, or with a map behind it that has put the best numbers first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nestvec.adaptors import AdaptorData, FitSettings, dense_modules, fit_adaptor
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder
from nestvec.progress import Progress, silent

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from nestvec.training.recipe import Start

__all__ = ["reorder"]

_ROWS = 20_000


def reorder(
    model: SentenceTransformer,
    columns: Mapping[str, Sequence[str]],
    start: Start,
    *,
    dims: Sequence[int],
    seed: int,
    progress: Progress = silent,
) -> None:
    """Put a linear map behind a model, fitted on its vectors of the training rows, so that short prefixes begin good.

    Args:
        model: The base; changed in place. The map is trained with it.
        columns: Texts by column, as `to_columns` gives them.
        start: `pca` for its principal components, `adaptor` for a linear adaptor; `base` changes nothing.
        dims: Sizes that count.
        seed: Of every draw.
        progress: How to report progress.

    Raises:
        AdaptorError: There are too few rows to fit one.
        VectorError: The base gives vectors that are zero or not finite.

    Source:
        Fitting what is new on frozen features before everything is trained: Kumar et al. 2022, arXiv:2202.10054.
    """
    if start == "base":
        return
    rows = np.sort(np.random.default_rng(seed).permutation(len(columns["query"]))[:_ROWS])
    encoder = CachedEncoder(SentenceTransformerEncoder(model), about="a base before training")
    queries, documents = (
        encode([columns[name][row] for row in rows], progress=progress)
        for name, encode in (("query", encoder.encode_queries), ("positive", encoder.encode_documents))
    )
    own = np.repeat(np.arange(len(rows)), 2).reshape(-1, 2)
    adaptor = fit_adaptor(
        AdaptorData(queries, documents, own),
        dims,
        method="pca" if start == "pca" else "linear",
        settings=FitSettings(seed=seed, start="pca"),
        progress=progress,
    )
    for module in dense_modules(adaptor):
        model.append(module.to(model.device))
