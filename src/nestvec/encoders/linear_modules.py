"""Linear modules at the end of a model: how one is made, and how several become one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DimensionError
from nestvec.extras import require

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

__all__ = ["fold_linear", "has_towers", "linear_module", "model_of", "refuse_truncating", "rotated_modules"]

_KEY = "sentence_embedding"
_ROUNDING = 1e-4  # by which a rotation in float32 may miss being one


def linear_module(weight: NDArray[np.floating[Any]], bias: NDArray[np.floating[Any]] | None = None) -> Any:
    """Write a linear map as a module.

    Args:
        weight: [input_dim, full_dim]; vectors are multiplied with it from the left.
        bias: [full_dim]; None is none.

    Returns:
        A `Dense` of sentence-transformers without activation, float32.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
    """
    torch, modules = _torch(), _modules()
    return modules.Dense(
        *weight.shape,
        bias=bias is not None,
        activation_function=torch.nn.Identity(),
        init_weight=torch.tensor(np.ascontiguousarray(weight.T, np.float32)),
        init_bias=None if bias is None else torch.tensor(np.asarray(bias, np.float32)),
    )


def model_of(model: SentenceTransformer, modules: Iterable[Any], *, similarity: str | None) -> SentenceTransformer:
    """Make a model of modules, linear ones folded, that reads texts as another does.

    Args:
        model: Whose device and prompts it has.
        modules: In their order.
        similarity: How its vectors are compared, as sentence-transformers names it; None leaves it open.

    Returns:
        The model.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
    """
    made: SentenceTransformer = require("sentence_transformers", extra="train").SentenceTransformer(
        modules=fold_linear(modules),
        device=str(model.device),
        prompts=dict(model.prompts),
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=similarity,
    )
    return made


def has_towers(model: SentenceTransformer) -> bool:
    """Tell whether a model has a tower for each side: a Router."""
    return any(type(module).__name__ == "Router" for module in model)


def refuse_truncating(model: SentenceTransformer) -> None:
    """Refuse a model that truncates its own vectors, behind which no linear module fits.

    Args:
        model: To be trained or rotated.

    Raises:
        DimensionError: It has a `truncate_dim`.
    """
    if model.truncate_dim is not None:
        raise DimensionError(
            f"The model truncates its vectors to {model.truncate_dim} dimensions, and all of them are needed. Remove "
            "truncate_dim from its config_sentence_transformers.json."
        )


def rotated_modules(modules: Iterable[Any], rotation: NDArray[np.floating[Any]]) -> list[Any]:
    """Put a rotation behind a model, within the linear module or token table that it ends in where there is one.

    Args:
        modules: Those of the model; they are not changed.
        rotation: [dim, dim], orthogonal: lengths and dot products stay as they are.

    Returns:
        Modules whose vectors are those of the model times the rotation, up to rounding.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
    """
    body = list(modules)
    ends_at_unit_length = bool(body) and _is_normalize(body[-1])
    behind = [linear_module(rotation)] + ([_modules().Normalize()] if ends_at_unit_length else [])
    return fold_linear([*body, *behind])


def fold_linear(modules: Iterable[Any]) -> list[Any]:
    """Write linear modules that follow each other as one, wherever the vectors stay the same up to rounding.

    Two matrices are multiplied; a token table takes in the matrix behind it. A `Normalize` in between is dropped before
    a map without bias whose result is normalized anyway, and moved before a rotation, which keeps lengths.

    Args:
        modules: Those of a model; they are not changed.

    Returns:
        As many modules or fewer; those that nothing is folded into are the same objects.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
    """
    found = list(modules)
    while (shorter := _fold_once(found)) is not None:
        found = shorter
    return found


def _fold_once(modules: list[Any]) -> list[Any] | None:
    for place in range(1, len(modules)):
        before, here = modules[place - 1], modules[place]
        if _is_normalize(before) and _is_normalize(here):
            return modules[:place] + modules[place + 1 :]
        if not _is_linear(here):
            continue
        scaled = place + 1 < len(modules) and _is_normalize(modules[place + 1])
        if _is_normalize(before) and scaled and here.linear.bias is None:
            return modules[: place - 1] + modules[place:]
        if _is_linear(before):
            return [*modules[: place - 1], _product(before, here), *modules[place + 1 :]]
        if _is_table(before) and here.linear.bias is None:
            return [*modules[: place - 1], _table(before, here), *modules[place + 1 :]]
        earlier = modules[place - 2] if place > 1 else None
        if _is_normalize(before) and _is_linear(earlier) and _is_rotation(earlier):
            return [*modules[: place - 2], before, _product(earlier, here), *modules[place + 1 :]]
    return None


def _product(first: Any, second: Any) -> Any:
    left, right = _weight(first), _weight(second)
    bias = _bias(second)
    if (inner := _bias(first)) is not None:
        bias = inner @ right + (0.0 if bias is None else bias)
    return _like(first, linear_module(left @ right, bias))


def _table(table: Any, linear: Any) -> Any:
    torch = _torch()
    weights = _array(table.embedding.weight) @ _weight(linear)
    found = _modules().StaticEmbedding(
        table.tokenizer, embedding_weights=torch.tensor(weights.astype(np.float32)), base_model=table.base_model
    )
    return _like(table, found)


def _like(model: Any, made: Any) -> Any:
    """Put what was made where the other is: on its device, in its precision."""
    parameter = next(model.parameters())
    return made.to(device=parameter.device, dtype=parameter.dtype)


def _is_normalize(module: Any) -> bool:
    return type(module).__name__ == "Normalize"


def _is_table(module: Any) -> bool:
    return type(module).__name__ == "StaticEmbedding"


def _is_linear(module: Any) -> bool:
    return (
        type(module).__name__ == "Dense"
        and isinstance(module.activation_function, _torch().nn.Identity)
        and module.module_input_name == module.module_output_name == _KEY
        and not module.use_residual
    )


def _is_rotation(linear: Any) -> bool:
    weight = _weight(linear)
    square = weight.shape[0] == weight.shape[1] and linear.linear.bias is None
    return square and bool(np.abs(weight.T @ weight - np.eye(len(weight))).max() < _ROUNDING)


def _weight(linear: Any) -> NDArray[np.float64]:
    weight: NDArray[np.float64] = _array(linear.linear.weight).T
    return weight


def _bias(linear: Any) -> NDArray[np.float64] | None:
    return None if linear.linear.bias is None else _array(linear.linear.bias)


def _array(parameter: torch.Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = parameter.detach().double().cpu().numpy()
    return found


def _torch() -> Any:
    return require("torch", extra="train")


def _modules() -> Any:
    return require("sentence_transformers.sentence_transformer.modules", extra="train")
