"""What a model folder is, and how it compares. Run: pytest tests/test_encoders_kinds.py (half a minute)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, WhisperConfig, WhisperModel

from builders import build_tiny_model, write_json_lines
from conftest import RunNestvec
from nestvec.adaptors import AdaptorData, fit_adaptor, save
from nestvec.encoders import (
    DotProductEncoder,
    SentenceTransformerEncoder,
    comparison_of_base,
    load_base,
    load_model,
)
from nestvec.encoders.folder_kinds import check_kind, needs_own_code
from nestvec.errors import ModelError, NestvecWarning
from nestvec.index import Index
from nestvec.jobs.evaluate import GridSettings, evaluate
from nestvec.sources import load_encoder, make_encoder
from nestvec.vectors import cosine, truncate

TEXTS = ["the river crosses stone", "the engine powers paper every day", "what does the planet do", "silver"]


def settings_of(folder: Path, **settings: object) -> Path:
    path = folder / "config_sentence_transformers.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**known, **settings}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bare(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The transformer of a model without the rest of its folder."""
    folder = tmp_path_factory.mktemp("bare") / "bert"
    model = SentenceTransformer(str(tiny_model))
    model[0].auto_model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def test_real_folders_of_other_kinds_are_refused_by_name(bare: Path, tmp_path: Path) -> None:
    MultiVectorEncoder(str(bare)).save_pretrained(str(tmp_path / "multi"))
    BertForSequenceClassification(BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                             intermediate_size=16)).save_pretrained(tmp_path / "cross")  # fmt: skip
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bare / name, tmp_path / "cross" / name)
    CrossEncoder(str(tmp_path / "cross")).save_pretrained(str(tmp_path / "cross-saved"))
    WhisperModel(
        WhisperConfig(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                      decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=60,
                      pad_token_id=1, bos_token_id=1, eos_token_id=1, decoder_start_token_id=1,
                      suppress_tokens=None, begin_suppress_tokens=None)
    ).save_pretrained(tmp_path / "whisper")  # fmt: skip
    BertForMaskedLM(BertConfig.from_pretrained(bare)).save_pretrained(tmp_path / "masked")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bare / name, tmp_path / "masked" / name)
    SparseEncoder(str(tmp_path / "masked")).save_pretrained(str(tmp_path / "sparse"))
    for name, what in {
        "sparse": "a sparse encoder",
        "multi": "a late interaction model",
        "cross": r"a cross-encoder or classifier.*\(BertForSequenceClassification\)",
        "cross-saved": "a cross-encoder",
        "whisper": r"images or sounds \(WhisperModel\)",
    }.items():
        with pytest.raises(ModelError, match=f"{name} is .*{what}"):
            load_base(str(tmp_path / name))
    assert load_base(str(bare)).get_embedding_dimension() == 128  # a text encoder gets a pooling


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"config_sentence_transformers.json": {"model_type": "SparseEncoder"}}, "a sparse encoder"),
        ({"config_sentence_transformers.json": {"model_type": "ColBERT"}}, "a late interaction model"),
        ({"config_sentence_transformers.json": {"model_type": "SomethingNew"}}, "a SomethingNew"),
        ({"modules.json": [{"type": "sentence_transformers.models.CLIPModel"}]}, "an image-text model"),
        ({"modules.json": [{"type": "sentence_transformers.sparse_encoder.models.SpladePooling"}]}, "a sparse encoder"),
        ({"config.json": {"model_type": "clip", "architectures": ["CLIPModel"]}}, r"images or sounds \(CLIPModel\)"),
        ({"config.json": {"model_type": "vit", "architectures": ["ViTModel"]}}, r"images or sounds \(ViTModel\)"),
        ({"config.json": {"model_type": "wav2vec2"}}, r"images or sounds \(wav2vec2\)"),
        ({"config.json": {"model_type": "bert", "architectures": ["BertForTokenClassification"]}}, "labels tokens"),
        ({"config.json": {"model_type": "new", "vision_config": {}}}, "images or sounds"),
        ({"config.json": {"model_type": "bert", "architectures": ["HF_ColBERT"]}}, "late interaction"),
        ({"config.json": {"model_type": "bert", "architectures": ["BertForMultipleChoice"]}}, "chooses among answers"),
        ({"config.json": {"model_type": "dpr", "architectures": ["DPRReader"]}}, "marks answers"),
        ({"config.json": {"model_type": "bert"}, "artifact.metadata": {}}, "late interaction"),
        (
            {"config.json": {"model_type": "clip_text_model", "architectures": ["CLIPTextModelWithProjection"]}},
            "one tower of an image-text model, whose projection would be lost",
        ),
        ({"modules.json": [{"type": "pylate.models.Dense.Dense"}]}, "late interaction"),
        ({"config_sentence_transformers.json": {"similarity_fn_name": "MaxSim"}}, "late interaction"),
    ],
)
def test_what_files_say_is_enough_to_refuse(tmp_path: Path, files: dict[str, object], what: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match=what):
        check_kind(str(tmp_path))


def test_a_projection_of_tokens_is_never_lost(bare: Path, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(bare, tmp_path / "colbert")
    weights = load_file(tmp_path / "colbert" / "model.safetensors")
    save_file({**weights, "linear.weight": torch.zeros(16, 128)}, tmp_path / "colbert" / "model.safetensors")
    with pytest.raises(ModelError, match="late interaction model, whose projection would be lost"):
        load_base(str(tmp_path / "colbert"))
    SentenceTransformer(modules=[SentenceTransformer(str(tiny_model))[0]]).save(str(tmp_path / "tokens"))
    with pytest.raises(ModelError, match="a vector for every token and none for a text: it has no Pooling"):
        load_base(str(tmp_path / "tokens"))


@pytest.mark.parametrize("files", [{"modules.json": ["x"]}, {"config.json": {"model_type": ["x"]}}, {"config.json": 3}])
def test_folders_of_nonsense_are_said_to_be_no_models(tmp_path: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match="Cannot load a model"):
        load_base(str(tmp_path))


def test_text_models_are_accepted(tmp_path: Path, tiny_model: Path, bare: Path) -> None:
    for folder in (tiny_model, bare):
        check_kind(str(folder))
        assert not needs_own_code(str(folder))
    for config in ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, {"model_type": "qwen2"}, {}):
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        check_kind(str(tmp_path))


MODULE = """
import torch

class Doubling(torch.nn.Module):
    def forward(self, features):
        features["sentence_embedding"] = 2 * features["sentence_embedding"]
        return features

    def save(self, folder, *args, **kwargs):
        pass

    @classmethod
    def load(cls, *args, **kwargs):
        return cls()
"""


@pytest.fixture
def with_code(tiny_model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "with-code"
    shutil.copytree(tiny_model, folder)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules.append({"idx": len(modules), "name": "last", "path": "", "type": "doubling.Doubling"})
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "doubling.py").write_text(MODULE, encoding="utf-8")
    return folder


def test_code_of_a_model_is_run_where_it_is_trusted_alone(with_code: Path, nestvec: RunNestvec, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"code of its own.*--trust-remote-code, or trust_remote_code = true"):
        load_base(str(with_code))
    vectors = load_base(str(with_code), trust_remote_code=True).encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 2, atol=1e-5)
    rows = [{"id": str(place), "text": text} for place, text in enumerate(TEXTS)]
    docs = write_json_lines(tmp_path / "d.jsonl", rows)
    words = ["index", "build", tmp_path / "i", "--model", with_code, "--docs", docs, "--no-cache"]
    refused = nestvec(*words)
    assert refused.returncode == 2
    assert "--trust-remote-code" in refused.stderr
    assert nestvec(*words, "--trust-remote-code").returncode == 0
    assert nestvec("search", tmp_path / "i", "silver").returncode == 2
    found = nestvec("search", tmp_path / "i", "silver", "--trust-remote-code", "-k", "1", "--json")
    assert json.loads(found.stdout)["hits"][0]["id"] == "3"


@pytest.mark.parametrize(
    ("name", "settings", "card", "normalized", "expected"),
    [
        ("m", {"similarity_fn_name": "dot"}, "", False, True),
        ("m", {"similarity_fn_name": "dot"}, "", True, False),
        ("m", {"similarity_fn_name": "cosine"}, "Suitable score functions: dot-product", False, False),
        ("m", {}, "| Suitable score functions | dot-product (e.g. `util.dot_score`) |", False, True),
        ("m", {}, "Suitable score functions: dot-product, cosine-similarity, or euclidean distance", False, False),
        ("msmarco-distilbert-dot-v5", {}, "", False, True),
        ("my-dotprod", {}, "", False, True),
        ("m", {}, "- **Similarity Function:** Dot Product", False, True),
        ("m", {}, "- **Similarity Function:** Cosine Similarity", False, False),
        ("dots-of-text", {}, "", False, False),
    ],
)
def test_how_a_model_compares_is_what_it_says(
    tmp_path: Path, name: str, settings: dict[str, object], card: str, normalized: bool, expected: bool
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    types = ["Transformer", "Pooling", *(["Normalize"] if normalized else [])]
    modules = [{"type": f"sentence_transformers.models.{one}"} for one in types]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")
    settings_of(folder, **settings)
    assert (comparison_of_base(str(folder)) == "dot product") is expected


@pytest.fixture(scope="module")
def by_dot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without Normalize, whose vectors have very different lengths."""
    folder = tmp_path_factory.mktemp("dot") / "some-dot-v5"
    model = SentenceTransformer(str(build_tiny_model(tmp_path_factory.mktemp("base") / "b")))
    made = SentenceTransformer(modules=list(model.children())[:2])
    with torch.no_grad():
        for parameter in made[0].auto_model.encoder.layer[-1].output.LayerNorm.parameters():
            parameter.mul_(3.0).add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    made.save_pretrained(str(folder))
    return settings_of(folder, similarity_fn_name="dot")


def many_texts() -> list[str]:
    from builders import synthetic_rows

    return [str(row["positive"]) for row in synthetic_rows(150)] + TEXTS


def test_full_vectors_are_ordered_as_by_dot_product_and_truncated_ones_by_cosine(by_dot: Path) -> None:
    model = load_model(str(by_dot))
    with pytest.warns(NestvecWarning, match="compares by dot product. Its full vectors have 129 dimensions"):
        encoder = make_encoder(str(by_dot), model)
    assert isinstance(encoder, DotProductEncoder)
    texts = many_texts()
    raw_queries, raw_documents = model.encode_query(TEXTS), model.encode_document(texts)
    dots = raw_queries @ raw_documents.T
    queries, documents = encoder.encode_queries(TEXTS), encoder.encode_documents(texts)
    assert encoder.full_dim == queries.shape[1] == documents.shape[1] == 129
    np.testing.assert_allclose(np.linalg.norm(documents, axis=1), 1, atol=1e-6)
    found = queries @ documents.T
    for row in range(len(TEXTS)):
        assert np.corrcoef(found[row], dots[row])[0, 1] > 0.99999
    assert (np.argsort(-found, axis=1)[:, :5] == np.argsort(-dots, axis=1)[:, :5]).all()
    assert (np.argsort(-dots, axis=1)[:, :5] != np.argsort(-cosine(raw_queries, raw_documents), axis=1)[:, :5]).any()
    np.testing.assert_allclose(
        truncate(queries, 32) @ truncate(documents, 32).T, cosine(raw_queries[:, :32], raw_documents[:, :32]), atol=1e-5
    )
    assert encoder.identity("document") != SentenceTransformerEncoder(model).identity("document")


def test_an_index_of_such_a_model_searches_by_dot_product(by_dot: Path, tmp_path: Path) -> None:
    with pytest.warns(NestvecWarning):
        encoder = load_encoder(str(by_dot), cache=False)
    texts = many_texts()
    index = Index.build(tmp_path / "i", vectors=encoder.encode_documents(texts), recall=None)
    model = load_model(str(by_dot))
    dots = model.encode_query(TEXTS) @ model.encode_document(texts).T
    hits = index.search(encoder.encode_queries(TEXTS), k=3)
    assert [ids[0] for ids in hits.ids] == [str(row) for row in dots.argmax(axis=1)]


def test_pairs_of_such_a_model_are_compared_by_cosine(by_dot: Path, tmp_path: Path) -> None:
    texts = many_texts()[:60]
    vectors = load_model(str(by_dot)).encode_document(texts)
    gold = cosine(vectors[:30], vectors[30:]).diagonal()
    rows = [
        {"sentence1": one, "sentence2": other, "score": float(score)}
        for one, other, score in zip(texts[:30], texts[30:], gold, strict=True)
    ]
    path = write_json_lines(tmp_path / "pairs.jsonl", rows)
    settings = GridSettings(dims=[128], precisions=["float32"], cache=False)
    with pytest.warns(NestvecWarning, match="compares by dot product. Here its vectors are compared by cosine"):
        report = evaluate(str(by_dot), path, settings=settings)
    assert {cell.dim for cell in report.cells} == {128}
    assert report.cells[0].metrics["Spearman"].value == pytest.approx(1.0, abs=1e-3)


def test_longer_vectors_than_expected_are_counted(by_dot: Path) -> None:
    encoder = DotProductEncoder(SentenceTransformerEncoder(load_model(str(by_dot))))
    encoder.__dict__["_bound"] = 1.0
    with pytest.warns(NestvecWarning, match="4 of 4 texts have vectors longer than 1"):
        vectors = encoder.encode_documents(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_distances_are_said_to_be_compared_by_cosine(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "by-distance"
    made = SentenceTransformer(modules=list(SentenceTransformer(str(tiny_model)).children())[:2])
    made.save_pretrained(str(folder))
    settings_of(folder, similarity_fn_name="euclidean")
    with pytest.warns(NestvecWarning, match="compares by Euclidean distance. Here its vectors are compared by cosine"):
        assert isinstance(make_encoder(str(folder), load_model(str(folder))), SentenceTransformerEncoder)


def in_hub_cache(cache: Path, name: str, folder: Path) -> None:
    """What a model downloaded from a hub looks like, without its card."""
    repo = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repo / "snapshots" / ("0" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40, encoding="utf-8")


def fresh_nestvec(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a new process: the hub's variables are read when its library is imported."""
    command = [sys.executable, "-m", "nestvec", *map(str, words)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_a_model_of_the_hub_compares_as_its_downloaded_files_say(by_dot: Path, tmp_path: Path) -> None:
    in_hub_cache(tmp_path / "hub", "someone/some-model", by_dot)
    docs = write_json_lines(tmp_path / "d.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(TEXTS)])
    words = ["index", "build", tmp_path / "i", "--model", "someone/some-model", "--docs", docs, "--no-cache"]
    built = fresh_nestvec(*words, HF_HUB_CACHE=str(tmp_path / "hub"))
    assert built.returncode == 0, built.stderr
    assert "someone/some-model compares by dot product" in built.stderr


@pytest.mark.parametrize("model", ["static", None])
def test_no_hub_is_asked_about_packaged_bases_and_folders(model: str | None, tiny_model: Path, tmp_path: Path) -> None:
    docs = write_json_lines(tmp_path / "d.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(TEXTS)])
    words = ["index", "build", tmp_path / "i", "--model", model or tiny_model, "--docs", docs, "--no-cache"]
    built = fresh_nestvec(*words, HF_HUB_OFFLINE="0", HF_ENDPOINT="http://127.0.0.1:9")  # where nothing listens
    assert built.returncode == 0, built.stderr
    assert "127.0.0.1" not in built.stderr


def test_behind_an_adaptor_a_model_compares_by_cosine_and_that_is_said(by_dot: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 128)).astype("f4")
    save(tmp_path / "a.safetensors", fit_adaptor(AdaptorData(vectors[:0], vectors), [128, 32], method="pca"))
    with pytest.warns(NestvecWarning, match="compares by dot product. Here its vectors are compared by cosine"):
        encoder = load_encoder(f"{tmp_path / 'a.safetensors'}={by_dot}", cache=False)
    assert encoder.full_dim == 128
