"""Linear modules that become one, against the modules one after another.

Run: pytest tests/test_encoders_linear_modules.py (seconds).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from nestvec.encoders import fold_linear, linear_module, load_model, rotated_modules

TEXTS = ["the river runs to the sea", "silver engine", "the the the", "paper"]
DIM = 12


def table() -> StaticEmbedding:
    words = sorted({word for text in TEXTS for word in text.split()})
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = Whitespace()
    weights = np.random.default_rng(3).normal(size=(len(words), DIM)).astype(np.float32)
    return StaticEmbedding(tokenizer, embedding_weights=weights)


def matrix(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rotation(seed: int, dim: int = DIM) -> np.ndarray:
    return np.linalg.qr(matrix(seed, dim, dim))[0]


def encode(modules: list[Any]) -> np.ndarray:
    return np.asarray(SentenceTransformer(modules=modules, device="cpu").encode(TEXTS))


def kinds(modules: list[Any]) -> list[str]:
    return [type(module).__name__ for module in modules]


def tanh() -> Dense:
    torch.manual_seed(0)
    return Dense(DIM, DIM)


def residual() -> Dense:
    torch.manual_seed(0)
    return Dense(DIM, DIM, activation_function=torch.nn.Identity(), use_residual=True)


PLAIN, BIASED = linear_module(matrix(1, DIM, DIM)), linear_module(matrix(2, DIM, 7), matrix(3, 7))
TURN, OTHER, THIRD = (linear_module(rotation(seed)) for seed in (4, 6, 7))
NARROW = linear_module(matrix(5, 7, 5))


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        ([PLAIN], ["StaticEmbedding"]),
        ([Normalize(), PLAIN, Normalize()], ["StaticEmbedding", "Normalize"]),
        ([Normalize(), PLAIN], ["StaticEmbedding", "Normalize", "Dense"]),  # the length would be another
        ([BIASED, NARROW], ["StaticEmbedding", "Dense"]),
        ([BIASED, Normalize(), NARROW, Normalize()], ["StaticEmbedding", "Dense", "Normalize"]),
        ([TURN, Normalize(), BIASED, Normalize()], ["StaticEmbedding", "Normalize", "Dense", "Normalize"]),
        ([PLAIN, Normalize(), BIASED, Normalize()], ["StaticEmbedding", "Normalize", "Dense", "Normalize"]),
        ([tanh(), TURN], ["StaticEmbedding", "Dense", "Dense"]),
        ([residual(), TURN], ["StaticEmbedding", "Dense", "Dense"]),
        ([tanh(), TURN, Normalize(), BIASED], ["StaticEmbedding", "Dense", "Normalize", "Dense"]),
        ([tanh(), PLAIN, Normalize(), BIASED], ["StaticEmbedding", "Dense", "Dense", "Normalize", "Dense"]),
        ([Normalize(), TURN, Normalize(), OTHER, Normalize(), THIRD, Normalize()], ["StaticEmbedding", "Normalize"]),
        ([Normalize(), BIASED, Normalize(), Normalize()], ["StaticEmbedding", "Normalize", "Dense", "Normalize"]),
    ],
)
def test_what_is_folded_gives_the_same_vectors(behind: list[Any], expected: list[str]) -> None:
    modules = [table(), *behind]
    before = encode(modules)
    weights = [parameter.detach().clone() for module in modules for parameter in module.parameters()]
    folded = fold_linear(modules)
    assert kinds(folded) == expected
    np.testing.assert_allclose(encode(folded), before, atol=1e-4)
    after = [parameter for module in modules for parameter in module.parameters()]
    assert all(torch.equal(*pair) for pair in zip(weights, after, strict=True))


@pytest.mark.parametrize("times", [1, 2])
def test_a_model_that_is_rotated_again_has_one_linear_module(tiny_model: Path, tmp_path: Path, times: int) -> None:
    model = load_model(str(tiny_model))
    before = np.asarray(model.encode(TEXTS))
    modules, whole = list(model.children()), np.eye(before.shape[1])
    for seed in range(times):
        once = rotation(seed, before.shape[1])
        modules, whole = rotated_modules(modules, once), whole @ once
    assert kinds(modules) == ["Transformer", "Pooling", "Dense", "Normalize"]
    SentenceTransformer(modules=modules).save(str(tmp_path / "rotated"))
    np.testing.assert_allclose(load_model(str(tmp_path / "rotated")).encode(TEXTS), before @ whole, atol=1e-5)


def test_lengths_stay_as_they_are_where_a_model_has_them() -> None:
    once = rotation(0)
    np.testing.assert_allclose(encode(rotated_modules([table()], once)), encode([table()]) @ once, atol=1e-5)


def test_a_folded_module_keeps_its_precision() -> None:
    (folded,) = rotated_modules([table().half()], rotation(0))
    assert folded.embedding.weight.dtype == torch.float16
