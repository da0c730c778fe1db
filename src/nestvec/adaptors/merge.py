"""An adaptor and the model it was fitted on, as one ordinary sentence-transformers model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nestvec.adaptors.adaptor import SIDES, Adaptor
from nestvec.adaptors.maps import Map
from nestvec.encoders import SentenceTransformerEncoder, linear_module, model_of
from nestvec.errors import DimensionError
from nestvec.extras import require

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["dense_modules", "merge"]


def merge(adaptor: Adaptor, model: SentenceTransformer, *, force: bool = False) -> SentenceTransformer:
    """Put an adaptor behind a model.

    A linear map becomes one `Dense` module, or without bias a part of the one, or of the token table, that the model
    ends in. One with a hidden layer becomes two: the first gives `relu` of the hidden layer, of the vector and of the
    vector's opposite, from which the second adds everything up. Two towers become a `Router`.

    Args:
        adaptor: What to append. The sizes in `adaptor.replaced` lose their own maps: a model has one.
        model: What it was fitted on; it is not changed, but its modules are shared.
        force: Accept a model other than the one it was fitted on.

    Returns:
        A model whose vectors are those of `adaptor.transform`, up to rounding.

    Raises:
        AdaptorError: It was fitted on another model.
        DimensionError: The model's vectors have another size.
        MissingExtraError: sentence-transformers is not installed.
    """
    encoder = SentenceTransformerEncoder(model)
    if encoder.full_dim != adaptor.input_dim or model.truncate_dim is not None:
        cut = "" if model.truncate_dim is None else f", cut to {model.truncate_dim}"
        raise DimensionError(
            f"This adaptor takes {adaptor.input_dim} dimensions and the model gives {encoder.full_dim}{cut}. "
            "Use the model that it was fitted on, not truncated."
        )
    adaptor.check_encoder({side: encoder.identity(side) for side in SIDES}, force=force)
    return model_of(model, [*model.children(), *dense_modules(adaptor)], similarity="cosine")


def dense_modules(adaptor: Adaptor) -> list[Any]:
    """Write an adaptor as modules to put behind a model.

    Args:
        adaptor: What to write.

    Returns:
        Modules of sentence-transformers, first and last of which restore unit length.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
    """
    modules = require("sentence_transformers.sentence_transformer.modules", extra="train")
    towers = [_tower_modules(tower) for tower in adaptor.towers]
    behind = towers[0]
    if not adaptor.shared:
        behind = [modules.Router.for_query_document(*towers, default_route="document")]
    return [modules.Normalize(), *behind, modules.Normalize()]


def _tower_modules(tower: Map) -> list[Any]:
    if tower.hidden is None:
        return [linear_module(tower.weight, tower.bias)]
    same = np.eye(tower.input_dim, dtype=np.float32)
    first = linear_module(
        np.hstack([same, -same, tower.hidden.weight]),
        np.concatenate([np.zeros(2 * tower.input_dim, np.float32), tower.hidden.bias]),
    )
    first.activation_function = require("torch", extra="train").nn.ReLU()
    return [first, linear_module(np.vstack([tower.weight, -tower.weight, tower.hidden.output]), tower.bias)]
