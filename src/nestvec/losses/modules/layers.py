"""Embeddings at chosen layers of an encoder, from one forward pass: the depth half of 2D Matryoshka."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Router, Transformer
from torch import Tensor, nn

from nestvec.errors import LossInputError

__all__ = ["check_layers", "input_modules", "layers_by_row", "unwrap", "with_layers"]

# What encoders call the normalisation behind their last layer; states of earlier layers come without it.
_FINAL_NORMS = ("final_norm", "norm", "ln_f", "final_layer_norm")


def unwrap(model: nn.Module) -> nn.Module:
    """Take a model out of the wrappers of torch (data parallel, compiled).

    Args:
        model: Perhaps wrapped.

    Returns:
        The `SentenceTransformer` inside, or the module itself if there is none.
    """
    inner = model
    while not isinstance(inner, SentenceTransformer):
        wrapped = getattr(inner, "module", None) or getattr(inner, "_orig_mod", None)
        if not isinstance(wrapped, nn.Module):
            return model
        inner = wrapped
    return inner


def input_modules(model: nn.Module) -> list[nn.Module]:
    """Find the modules that read the input.

    Args:
        model: A `SentenceTransformer`, perhaps wrapped.

    Returns:
        The first module, or that of every route of a `Router`; none for a module of another kind.
    """
    model = unwrap(model)
    if not isinstance(model, SentenceTransformer):
        return []
    first = model[0]
    if isinstance(first, Router):
        return [route[0] for route in first.sub_modules.values()]  # type: ignore[index]  # a Sequential
    return [first]


def check_layers(model: nn.Module, layers: Sequence[int]) -> tuple[int, ...]:
    """Check that every encoder of a model has these layers.

    Args:
        model: A `SentenceTransformer`.
        layers: Layers below the last, counted from 1.

    Returns:
        The same.

    Raises:
        LossInputError: The model has no layers, or not these, or one is named twice.
    """
    if not layers:
        return ()
    encoders = input_modules(model)
    if not encoders or not all(isinstance(encoder, Transformer) for encoder in encoders):
        kinds = ", ".join(type(encoder).__name__ for encoder in encoders) or type(model).__name__
        raise LossInputError(f"layers needs a transformer, but the model reads its input with {kinds}. Leave it out.")
    depth = min(int(encoder.model.config.num_hidden_layers) for encoder in encoders)  # type: ignore[union-attr,arg-type]
    if depth < 2:
        raise LossInputError(f"The encoder has {depth} layer, so there is none below the last. Leave layers out.")
    for layer in layers:
        if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer < depth:
            raise LossInputError(f"Layer {layer!r} is not below the last. Choose from 1 to {depth - 1}.")
    if len(set(layers)) < len(layers):
        raise LossInputError(f"Layers {list(layers)} name one twice. Name each once.")
    return tuple(layers)


@contextmanager
def with_layers(model: nn.Module, layers: Sequence[int]) -> Iterator[None]:
    """Within the block, let the model embed every row at these layers as well.

    The states of the layers pass the encoder's final normalisation, if it has one, and the rest of the model
    (pooling, dense, normalisation) as additional rows: as a model cut to that layer would embed them. One call embeds
    all, also behind a router, a data-parallel wrapper or a gradient cache.

    Args:
        model: A `SentenceTransformer`, perhaps wrapped.
        layers: Layers below the last, counted from 1; none leaves the model as it is.
    """
    if not layers:
        yield
        return

    def add_layers(encoder: Any, _arguments: Any, features: dict[str, Any]) -> dict[str, Any]:
        return _stack_layers(features, layers, _final_norm(encoder.model))

    encoders: list[Any] = input_modules(model)
    configs = [encoder.model.config for encoder in encoders]
    settings = [config.output_hidden_states for config in configs]
    hooks = [encoder.register_forward_hook(add_layers) for encoder in encoders]
    try:
        for config in configs:
            config.output_hidden_states = True
        yield
    finally:
        for config, setting in zip(configs, settings, strict=True):
            config.output_hidden_states = setting
        for hook in hooks:
            hook.remove()


def layers_by_row(embeddings: Tensor, n_layers: int) -> Tensor:
    """Put the embeddings of a row side by side.

    Args:
        embeddings: [(1 + n_layers) * rows, dim], all rows of the last layer first, as they come from `with_layers`.
        n_layers: Layers besides the last.

    Returns:
        [rows, (1 + n_layers) * dim].
    """
    by_layer = embeddings.reshape(1 + n_layers, -1, embeddings.shape[1])
    return by_layer.transpose(0, 1).flatten(1)


def _final_norm(encoder: nn.Module) -> nn.Module | None:
    norms = (getattr(encoder, name, None) for name in _FINAL_NORMS)
    return next((norm for norm in norms if isinstance(norm, nn.Module)), None)


def _stack_layers(features: dict[str, Any], layers: Sequence[int], norm: nn.Module | None) -> dict[str, Any]:
    if "cu_seq_lens_q" in features:
        raise LossInputError("layers cannot be trained on batches packed into one sequence. Use the usual collator.")
    last = features["token_embeddings"]  # [rows, tokens, hidden]
    states = features.pop("all_layer_embeddings")
    stacked = dict(features)
    for name, value in features.items():
        if isinstance(value, Tensor) and value.ndim and len(value) == len(last):
            stacked[name] = value.repeat(1 + len(layers), *(1,) * (value.ndim - 1))
    earlier = [states[layer] if norm is None else norm(states[layer]) for layer in layers]
    stacked["token_embeddings"] = torch.cat([last, *earlier])
    return stacked
