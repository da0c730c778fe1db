"""Where training begins, and what is made of its end: linear maps behind a model, fitted on its own vectors."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors import Adaptor, AdaptorData, FitSettings, Map, fit_adaptor, fit_pair_rotation, fit_pca, is_nested
from nestvec.data import RetrievalRow, hold_out_queries
from nestvec.encoders import SentenceTransformerEncoder, fold_linear, linear_module, rotated_modules
from nestvec.errors import BenchmarkError, NestvecWarning, RecipeError, VectorError
from nestvec.extras import require
from nestvec.progress import Progress, silent

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from nestvec.training.recipe import Auto, Finish, Start

__all__ = [
    "Stages",
    "apply_finish",
    "apply_start",
    "finish_vectors",
    "fit_finish",
    "replace_modules",
    "resolve_stages",
]

Sides: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Vectors of queries and of their documents, [n, dim] each."""

_STARTS: dict[str, Literal["pairs", "pca"]] = {"pairs": "pairs", "pca": "pca"}
_ROWS_TO_START, _ROWS_TO_FINISH, _ROWS_TO_CHOOSE = 2_000, 1_500, 1_000
_SHARE_HELD_OUT, _LEAST_HELD_OUT, _MOST_HELD_OUT = 0.1, 10, 500  # of the queries, to judge a finish by
_CLEAR = 1.0  # standard errors that a finish must gain there; two leave out many that gain on benchmarks
_MOST_GONE = 0.15  # of the rows, with those that share a document with them
_ALIKE = 1e-6  # what rounding leaves of vectors that are all alike
_NEED_ROWS = ("rotate", "centre-rotate", "pairs")


class Stages(NamedTuple):
    """What comes before training and after it, and the rows that this leaves."""

    start: Start
    finish: Finish
    rows: Sequence[RetrievalRow]
    """To train on."""
    held_out: Sequence[RetrievalRow]
    """What the finish is judged by; none without a finish."""


def resolve_stages(
    model: SentenceTransformer,
    rows: Sequence[RetrievalRow],
    start: Start | Auto,
    finish: Finish | Auto,
    *,
    dims: Sequence[int],
    seed: int,
    progress: Progress = silent,
) -> Stages:
    """Resolve what `auto` means for a base, and hold rows out for a finish.

    A base whose leading dimensions matter no more than the others is rotated before training and after it; one that was
    trained or rotated to be cut would lose by it, and one that is never cut would gain nothing.

    Args:
        model: The base.
        rows: What it is trained on.
        start: As in `apply_start`, or `auto`.
        finish: As in `apply_finish`, or `auto`.
        dims: Sizes that count.
        seed: Of which documents are encoded, and which rows are held out.
        progress: How to report progress.

    Returns:
        Both, neither of them `auto`: `none` also where there are too few rows. For a finish a tenth of the queries, 500
        at most, are held out, and with them the rows that share their positives; fewer where that is more than 15% of
        the rows.

    Raises:
        RecipeError: There are too few rows for what is not left to `auto`.
        ModelError: The base gives vectors that are zero or not finite.
    """
    full_dim = SentenceTransformerEncoder(model).full_dim
    left_to_us = "auto" in (start, finish)
    rotate = left_to_us and min(dims) < full_dim and not _is_nested(model, rows, dims, seed, progress)
    to_judge = min(_MOST_HELD_OUT, int(_SHARE_HELD_OUT * len({row.query for row in rows})))
    wanted: Finish = finish if finish != "auto" else "rotate" if rotate and to_judge >= _LEAST_HELD_OUT else "none"
    left, held_out = (rows, ()) if wanted == "none" else _hold_out(rows, to_judge, seed)
    if finish == "auto" and start in _NEED_ROWS and len(left) < full_dim <= len(rows):
        wanted, left, held_out = "none", rows, ()  # what was asked for comes before what was left to us
    if wanted != "none" and not held_out:
        if finish != "auto":
            few = f"have {to_judge}" if to_judge < _LEAST_HELD_OUT else "share their documents too much for that"
            raise RecipeError(
                f"training.finish is judged by a tenth of the queries, at least {_LEAST_HELD_OUT}; {len(rows)} rows "
                f"{few}. Leave it out, or give more rows."
            )
        wanted = "none"
        warnings.warn(
            f"No rotation after training: the {len(rows):,} rows share their documents, so that fewer than "
            f"{_LEAST_HELD_OUT} queries can be held out to judge it by.",
            NestvecWarning,
            stacklevel=2,
        )
    if start == "auto":
        start = "rotate" if rotate and len(left) >= full_dim else "none"
    elif start in _NEED_ROWS and len(left) < full_dim:
        raise RecipeError(
            f'training.start is "{start}", which needs as many rows as the base has dimensions, {full_dim}; '
            f"there are {len(left)}{f' beside {len(held_out)} held out for the finish' if held_out else ''}. "
            "Leave it out."
        )
    return Stages(start, wanted, left, held_out)


def _hold_out(
    rows: Sequence[RetrievalRow], queries: int, seed: int
) -> tuple[Sequence[RetrievalRow], Sequence[RetrievalRow]]:
    """Rows to train on and rows to judge by; none of the latter where too many others share their positives."""
    while queries >= _LEAST_HELD_OUT:
        try:
            left, benchmark = hold_out_queries(rows, queries=queries, documents=1, seed=seed)
            gone = 1 - len(left) / len(rows)
            if gone <= _MOST_GONE:
                return left, benchmark.rows()
        except BenchmarkError:  # every row shares a document with those: fewer may leave some
            gone = 1.0
        queries = int(queries * _SHARE_HELD_OUT / gone)
    return rows, ()


def _is_nested(
    model: SentenceTransformer, rows: Sequence[RetrievalRow], dims: Sequence[int], seed: int, progress: Progress
) -> bool:
    texts = list(dict.fromkeys(row.positive for row in rows))
    chosen = [texts[place] for place in _draw(len(texts), _ROWS_TO_CHOOSE, seed)]
    vectors = SentenceTransformerEncoder(model).encode_documents(chosen, progress=progress)
    return is_nested(vectors, dims, seed=seed)


def apply_start(
    model: SentenceTransformer,
    columns: Mapping[str, Sequence[str]],
    start: Start,
    *,
    trained: bool,
    seed: int,
    progress: Progress = silent,
) -> Map | None:
    """Put a linear map behind a model, fitted on its vectors of the training rows.

    Args:
        model: The base; changed in place.
        columns: Texts by column, as `to_columns` gives them.
        start: `centre` subtracts the mean of the vectors; `rotate` rotates them to their principal components;
            `centre-rotate` does both; `pairs` rotates them to the axes on which queries and their positives agree;
            `none` changes nothing.
        trained: Leave the map to be trained; else it is frozen.
        seed: Of which rows are encoded.
        progress: How to report progress.

    Returns:
        The map; None where there is none.

    Raises:
        ModelError: The base gives vectors that are zero or not finite.
        VectorError: All of them are alike.

    Source:
        Removing the mean: Mu and Viswanath 2018, arXiv:1702.01417. Fitting what is new on frozen features before
        everything is trained: Kumar et al. 2022, arXiv:2202.10054.
    """
    if start == "none":
        return None
    modules = require("sentence_transformers.sentence_transformer.modules", extra="train")
    least = SentenceTransformerEncoder(model).full_dim
    rows = _draw(len(columns["query"]), max(_ROWS_TO_START, least), seed)
    sides = _encode(model, columns["query"], columns["positive"], rows, progress)
    vectors = np.concatenate(sides)
    if np.ptp(vectors, axis=0).max() < _ALIKE:
        raise VectorError(
            f"The base gives the same vector for all {len(vectors)} texts: no start can be fitted. Check the base."
        )
    if start == "pairs":
        found = fit_pair_rotation(*sides)
    elif start == "centre":
        found = Map(np.eye(vectors.shape[1], dtype=np.float32), -vectors.mean(axis=0))
    else:
        pca = fit_pca(vectors)
        found = pca if start == "centre-rotate" else Map(pca.weight)
    dense = linear_module(found.weight, found.bias)
    dense.requires_grad_(trained)
    for module in (modules.Normalize(), dense, modules.Normalize()):
        model.append(module.to(model.device))
    return found


def apply_finish(
    model: SentenceTransformer,
    columns: Mapping[str, Sequence[str]],
    held_out: Mapping[str, Sequence[str]],
    how: Finish,
    *,
    dims: Sequence[int],
    seed: int,
    progress: Progress = silent,
) -> Adaptor:
    """Rotate a trained model so that its prefixes serve, where rows that training did not see gain by it.

    Args:
        model: The trained model; changed in place, by folding the rotation into its last linear module.
        columns: Texts of the training rows by column; the rotation is fitted on some of them.
        held_out: The same of rows that training did not see; they decide.
        how: `rotate` takes the best start, `pairs` the axes on which pairs agree, `pca` the principal components.
        dims: Sizes that count.
        seed: Of every draw.
        progress: How to report progress.

    Returns:
        What was fitted; its method is `raw` where the model was left as it is.

    Raises:
        ModelError: The model gives vectors that are zero or not finite.
        VectorError: All of them are alike.
        AdaptorError: There are too few rows.
    """
    seen, unseen = finish_vectors(model, columns, held_out, seed=seed, progress=progress)
    adaptor = fit_finish(seen, unseen, how, dims=dims, seed=seed, progress=progress)
    if adaptor.method == "rotation":
        replace_modules(model, rotated_modules(model.children(), adaptor.towers.document.weight))
    return adaptor


def finish_vectors(
    model: SentenceTransformer,
    columns: Mapping[str, Sequence[str]],
    held_out: Mapping[str, Sequence[str]],
    *,
    seed: int,
    progress: Progress = silent,
) -> tuple[Sides, Sides]:
    """Encode what a finish is fitted on, and what it is judged by.

    Args:
        model: The trained model.
        columns: Texts of the training rows by column; some of them are drawn.
        held_out: The same of rows that training did not see.
        seed: Of the draw.
        progress: How to report progress.

    Returns:
        Vectors of queries and of their documents, [n, dim] each: of rows that were trained on, and of the others.
    """
    rows = _draw(len(columns["query"]), _ROWS_TO_FINISH, seed)
    unseen = np.arange(len(held_out["query"]))
    seen = _encode(model, columns["query"], columns["positive"], rows, progress)
    return seen, _encode(model, held_out["query"], held_out["positive"], unseen, progress)


def fit_finish(
    seen: Sides, unseen: Sides, how: Finish, *, dims: Sequence[int], seed: int, progress: Progress = silent
) -> Adaptor:
    """Fit the rotation of a finish to vectors, as `finish_vectors` gives them.

    Args:
        seen: Queries and documents that training saw, [n, dim] each.
        unseen: The same that it did not see: they decide.
        how: Where the rotation begins, as in `apply_finish`.
        dims: Sizes that count.
        seed: Of every draw.
        progress: How to report progress.

    Returns:
        The rotation; its method is `raw` where none gains.
    """
    queries, documents = (np.concatenate(parts) for parts in zip(seen, unseen, strict=True))
    return fit_adaptor(
        AdaptorData(queries, documents, np.repeat(np.arange(len(queries)), 2).reshape(-1, 2)),
        dims,
        method="rotation",
        settings=FitSettings(seed=seed, start=_STARTS.get(how), clear=_CLEAR),
        held_out=np.arange(len(seen[0]), len(queries)),
        progress=progress,
    )


def replace_modules(model: SentenceTransformer, modules: Iterable[Any]) -> None:
    """Let a model consist of other modules, linear ones that follow each other as one.

    Args:
        model: Changed in place.
        modules: In their order.
    """
    folded = fold_linear(modules)
    for name in list(model._modules):
        del model._modules[name]
    for place, module in enumerate(folded):
        model.add_module(str(place), module)


def _draw(count: int, limit: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def _encode(
    model: SentenceTransformer,
    queries: Sequence[str],
    documents: Sequence[str],
    rows: NDArray[np.int64],
    progress: Progress,
) -> Sides:
    encoder = SentenceTransformerEncoder(model)
    return (
        encoder.encode_queries([queries[row] for row in rows], progress=progress),
        encoder.encode_documents([documents[row] for row in rows], progress=progress),
    )
