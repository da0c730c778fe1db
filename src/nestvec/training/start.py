"""Where training begins: the base as it is, or with a map behind it that has put the best numbers first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

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

    A static table is moved so that the mean of the texts is zero, and takes a map without bias in: the mean of mapped
    rows is the mapped mean.

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
    texts = [[columns[name][row] for row in rows] for name in ("query", "positive")]
    table = _static_table(model)
    if table is not None:
        with torch.no_grad():
            means = [model.encode(part, convert_to_tensor=True).mean(dim=0) for part in texts]
            table -= torch.stack(means).mean(dim=0).to(table)
    encoder = CachedEncoder(SentenceTransformerEncoder(model), about="a base before training")
    queries = encoder.encode_queries(texts[0], progress=progress)
    documents = encoder.encode_documents(texts[1], progress=progress)
    own = np.repeat(np.arange(len(rows)), 2).reshape(-1, 2)
    adaptor = fit_adaptor(
        AdaptorData(queries, documents, own),
        dims,
        method="pca" if start == "pca" else "linear",
        settings=FitSettings(seed=seed, centered=table is None),
        progress=progress,
    )
    if table is not None:
        with torch.no_grad():
            table.copy_(table @ torch.from_numpy(adaptor.towers.query.weight).to(table))
        return
    for module in dense_modules(adaptor):
        model.append(module.to(model.device))


def _static_table(model: SentenceTransformer) -> torch.Tensor | None:
    """The table of a model that is nothing else."""
    first, *rest = model.children()
    if rest or not isinstance(first, StaticEmbedding):
        return None
    table: Any = first.embedding
    weight: torch.Tensor = table.weight
    return weight
