"""Loss modules on tiny models of every kind, and what their gradients ought to be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Router, StaticEmbedding
from torch import Tensor

from builders import synthetic_rows
from loss_cases import LossCase, reference

DIMS, WEIGHTS = [16, 8, 4], [1.0, 0.5, 2.0]
ROWS = 12
SAME_LABELS = torch.arange(ROWS) % 7
IN_BATCH: dict[str, dict[str, object]] = {  # settings of InfoNCE that make the rows of all processes meet
    "symmetric, learned temperature": {"symmetric": True, "learn_temperature": True},
    "learned temperature, cached": {"learn_temperature": True, "mini_batch_size": 4},
    "masks": {"mask_same_text": True, "mask_same_label": True, "margin": -0.01, "symmetric": True},
}


def make_model(kind: str, folder: Path, other: Path) -> SentenceTransformer:
    """`transformer`, `static`, or `two_towers`, in float64 and without dropout, so that runs can be compared."""
    model = SentenceTransformer(str(folder), device="cpu")
    if kind == "static":
        model = SentenceTransformer(modules=[_static(model)], device="cpu")
    elif kind == "two_towers":
        document = SentenceTransformer(str(other), device="cpu")[0]
        towers = Router.for_query_document([model[0], Pooling(16)], [document, Pooling(16)])
        model = SentenceTransformer(modules=[towers], device="cpu")
    elif kind == "mixed_towers":
        towers = Router.for_query_document([_static(model)], [model[0], Pooling(16)])
        model = SentenceTransformer(modules=[towers], device="cpu")
    return model.double().eval()


def _static(model: SentenceTransformer) -> StaticEmbedding:
    tokenizer = model.tokenizer.backend_tokenizer
    torch.manual_seed(0)
    return StaticEmbedding(tokenizer, embedding_dim=16)


def texts_of(n_columns: int, rows: int = ROWS) -> list[list[str]]:
    drawn = synthetic_rows(rows * 2, seed=1)
    columns = [
        [row["query"] for row in drawn],
        [row["positive"] for row in drawn],
        [row["negatives"][0] for row in drawn],
    ]
    return [(column + columns[1][::-1])[:rows] if i < 3 else columns[1][rows : 2 * rows] for i, column in
            enumerate([*columns, []])][:n_columns]  # fmt: skip


def features_of(model: SentenceTransformer, texts: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Tokenised columns, as the trainer's collator makes them."""
    routed = isinstance(model[0], Router)
    features = []
    for index, column in enumerate(texts):
        task = {"task": "query" if index == 0 else "document"} if routed else {}
        features.append({**model.preprocess(list(column), **task), **task})
    return features


def expected_gradients(
    case: LossCase,
    model: SentenceTransformer,
    texts: Sequence[Sequence[str]],
    labels: Tensor | None,
    heads: dict[str, object],
    *,
    by_layer: Sequence[tuple[int, float]] = (),
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of the oracle, through an ordinary forward pass: at the last layer, and at others by weight."""
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for layer, weight in [(None, 1.0), *by_layer]:
        columns = [_embed(model, features, layer) for features in features_of(model, texts)]
        more = {"full": columns} if case.name == "self_distillation" else heads
        total = total + weight * reference(case, columns, labels, DIMS, WEIGHTS, **more)
    total.backward()
    return total.detach(), gradients_of(model)


def _embed(model: SentenceTransformer, features: dict[str, Any], layer: int | None) -> Tensor:
    if layer is None:
        return model(features)["sentence_embedding"]
    modules = list(model)
    if isinstance(modules[0], Router):
        modules = list(modules[0].sub_modules[features["task"]])
    encoder = modules[0].auto_model
    states = encoder(
        input_ids=features["input_ids"], attention_mask=features["attention_mask"], output_hidden_states=True
    ).hidden_states
    features = {**features, "token_embeddings": states[layer]}
    for module in modules[1:]:
        features = module(features)
    return features["sentence_embedding"]


def gradients_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert any(gradient.any() for gradient in wanted.values()), "the test has nothing to compare"
    scale = max(float(gradient.norm()) for gradient in wanted.values())
    for name in {*found, *wanted}:
        zero = torch.zeros(())
        difference = float((found.get(name, zero) - wanted.get(name, zero)).norm())
        assert difference < 1e-9 * scale, f"{name}: {difference} of {scale}"


def heads_of(case: LossCase, loss: torch.nn.Module) -> dict[str, object]:
    """The module's own heads, for the oracle."""
    if not case.head:
        return {}
    loss.double()
    if case.head == "shared":
        return {"heads": loss.heads[0], "biases": loss.biases[0]}
    return {"heads": list(loss.heads), "biases": list(loss.biases)}
