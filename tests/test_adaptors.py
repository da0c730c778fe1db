"""Maps, their file, the model they merge into and the encoder they stand behind, against slow computations.

Run: pytest tests/test_adaptors.py (half a minute).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from nestvec.adaptors import AdaptedEncoder, Adaptor, HiddenLayer, Map, Replacement, Towers, load, maps, merge, save
from nestvec.encoders import SentenceTransformerEncoder, load_model
from nestvec.errors import AdaptorError, DimensionError, SourceNotFoundError, VectorError

TEXTS = ["what does the river do", "the engine powers the paper every day", "silver", "", "the the the"]


def random_map(seed: int, input_dim: int = 6, full_dim: int = 6, *, bias: bool = False, hidden: bool = False) -> Map:
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    layer = HiddenLayer(draw(input_dim, 5), draw(5), draw(5, full_dim)) if hidden else None
    return Map(draw(input_dim, full_dim), draw(full_dim) if bias else None, layer)


def slowly(one: Map, vectors: np.ndarray) -> np.ndarray:
    """The map in float64, a vector at a time."""
    found = []
    for vector in vectors.astype(np.float64):
        unit = vector / np.linalg.norm(vector)
        mapped = unit @ one.weight.astype(np.float64)
        if one.bias is not None:
            mapped = mapped + one.bias
        if one.hidden is not None:
            inner = unit @ one.hidden.weight + one.hidden.bias
            mapped = mapped + np.where(inner > 0, inner, 0) @ one.hidden.output
        found.append(mapped / np.linalg.norm(mapped))
    return np.array(found)


def shared(one: Map, **options: object) -> Adaptor:
    return Adaptor(Towers(one, one), "linear", (one.full_dim, 2), **options)


@given(seed=st.integers(0, 1000), bias=st.booleans(), hidden=st.booleans(), wide=st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_map_does_what_it_says_and_a_size_of_it_is_its_prefix(
    seed: int, bias: bool, hidden: bool, wide: bool
) -> None:
    one = random_map(seed, full_dim=9 if wide else 4, bias=bias, hidden=hidden)
    vectors = np.random.default_rng(seed + 1).normal(size=(7, 6)) * 3
    exact = slowly(one, vectors)
    np.testing.assert_allclose(one.transform(vectors), exact, atol=1e-5)
    short = exact[:, :3] / np.linalg.norm(exact[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(one.transform(vectors.astype(np.float16), 3), short, atol=2e-2)
    np.testing.assert_allclose(one.transform(vectors, 3), short, atol=1e-5)


def test_blocks_change_nothing_and_a_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = random_map(0, bias=True, hidden=True)
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(50, 6)))
    vectors = np.load(tmp_path / "v.npy", mmap_mode="r")
    whole = one.transform(vectors)
    monkeypatch.setattr(maps, "_NUMBERS_AT_A_TIME", 40)
    np.testing.assert_allclose(one.transform(vectors), whole, atol=1e-6)


def test_vectors_that_do_not_fit_are_refused_and_the_row_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    adaptor = shared(random_map(0))
    vectors = np.ones((20, 6), np.float32)
    vectors[13, 2] = np.nan
    monkeypatch.setattr(maps, "_NUMBERS_AT_A_TIME", 40)
    with pytest.raises(VectorError, match="1 of 20 vectors are not finite, in rows 13"):
        adaptor.transform(vectors, "query")
    vectors[[2, 13]] = 0
    with pytest.raises(VectorError, match="2 of 20 vectors are zero, in rows 2, 13"):
        adaptor.transform(vectors)
    vectors[:] = 1
    with pytest.raises(DimensionError, match=r"takes vectors \[n, 6\], not \[20, 5\]"):
        adaptor.transform(vectors[:, :5])
    with pytest.raises(DimensionError, match="from 1 to 6"):
        adaptor.transform(vectors, dim=7)
    with pytest.raises(AdaptorError, match="query and document"):
        adaptor.transform(vectors, "passage")


def test_a_replaced_size_is_given_when_asked_for_and_the_nested_vectors_stay_nested() -> None:
    one, other = random_map(0), random_map(1)
    adaptor = shared(one, replaced={3: Replacement("pca", Towers(other, other))})
    vectors = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
    np.testing.assert_array_equal(adaptor.transform(vectors, dim=3), other.transform(vectors, 3))
    np.testing.assert_array_equal(adaptor.transform(vectors, dim=2), one.transform(vectors, 2))
    np.testing.assert_array_equal(adaptor.transform(vectors), one.transform(vectors))


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_file_gives_the_same_adaptor(tmp_path: Path, two: bool, hidden: bool) -> None:
    query = random_map(0, bias=True, hidden=hidden)
    towers = Towers(query, random_map(1, bias=True, hidden=hidden) if two else query)
    adaptor = Adaptor(
        *(towers, "mlp", (6, 3)),
        replaced={3: Replacement("raw", Towers(random_map(2), random_map(3)).cut(3))},
        encoder={"query": "a", "document": "b"},
        held_out={"raw": {"6": 0.5}},
        settings={"weights": None, "epochs": 6.0},
    )
    save(tmp_path / "deep" / "a.safetensors", adaptor)
    found = load(tmp_path / "deep" / "a.safetensors")
    vectors = np.random.default_rng(4).normal(size=(4, 6)).astype(np.float32)
    for side in ("query", "document"):
        for dim in (None, 3, 2):
            np.testing.assert_array_equal(
                found.transform(vectors, side, dim), adaptor.transform(vectors, side, dim), strict=True
            )
    assert found.shared is not two
    for name in ("method", "dims", "encoder", "held_out", "settings"):
        assert getattr(found, name) == getattr(adaptor, name)


def test_files_that_are_no_adaptor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(SourceNotFoundError):
        load(path)
    save(path, shared(random_map(0, bias=True)))
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    with pytest.raises(AdaptorError, match="damaged or no safetensors file"):
        load(path)
    path.write_bytes(content.replace(b"nestvec adaptor 1", b"nestvec adaptor 9"))
    with pytest.raises(AdaptorError, match="nestvec adaptor 9"):
        load(path)
    record = {"method": "linear", "dims": [6], "replaced": {}, "encoder": {}, "held_out": {}, "settings": {}}
    metadata = {"format": "nestvec adaptor 1", "adaptor": json.dumps(record)}
    square, other = np.eye(6, dtype=np.float32), np.zeros(5, np.float32)
    for arrays in (
        {"query.bias": other},
        {"query.weight": other},
        {"query.weight": square, "query.bias": other},
        {"query.weight": square, "document.weight": np.eye(5, dtype=np.float32)},
        {"query.weight": square.astype(np.float64)},
        {"query.weight": np.full((6, 6), np.nan, np.float32)},
        {"query.weight": square, "query.hidden.weight": square},
    ):
        safetensors.numpy.save_file(arrays, path, metadata=metadata)
        with pytest.raises(AdaptorError):
            load(path)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("two", [False, True])
def test_a_merged_model_gives_the_adapted_vectors_and_loads_as_any_other(
    tmp_path: Path, tiny_model: Path, hidden: bool, two: bool
) -> None:
    model = load_model(str(tiny_model))
    encoder = SentenceTransformerEncoder(model)
    query = random_map(0, 128, 128, bias=not two, hidden=hidden)
    document = random_map(1, 128, 128, hidden=hidden) if two else query
    identities = {side: encoder.identity(side) for side in ("query", "document")}
    adaptor = Adaptor(Towers(query, document), "linear", (128,), encoder=identities)
    adapted = AdaptedEncoder(encoder, adaptor)
    merge(adaptor, model).save(str(tmp_path / "merged"))
    merged = load_model(str(tmp_path / "merged"))
    np.testing.assert_allclose(merged.encode_query(TEXTS), adapted.encode_queries(TEXTS), atol=1e-5)
    np.testing.assert_allclose(merged.encode_document(TEXTS), adapted.encode_documents(TEXTS), atol=1e-5)
    np.testing.assert_allclose(
        adapted.encode_documents(TEXTS), document.transform(encoder.encode_documents(TEXTS)), atol=1e-6
    )
    kinds = {type(module).__module__.split(".")[0] for module in merged.children()}
    assert kinds == {"sentence_transformers"}
    assert merged.get_embedding_dimension() == adapted.full_dim == 128


def test_another_encoder_is_refused_unless_forced(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    encoder = SentenceTransformerEncoder(model)
    adaptor = shared(random_map(0, 128, 128), encoder={"query": "of another", "document": encoder.identity("document")})
    with pytest.raises(AdaptorError, match="fitted on query vectors of another encoder"):
        AdaptedEncoder(encoder, adaptor)
    with pytest.raises(AdaptorError, match="another encoder"):
        merge(adaptor, model)
    assert AdaptedEncoder(encoder, adaptor, force=True).full_dim == 128
    assert merge(adaptor, model, force=True).get_embedding_dimension() == 128
    short = shared(random_map(0))
    with pytest.raises(DimensionError, match="takes 6 dimensions and the encoder gives 128"):
        AdaptedEncoder(encoder, short)
    with pytest.raises(DimensionError, match="not truncated"):
        merge(short, model)
    with pytest.raises(DimensionError, match="gives 6, cut to 6"):  # its own modules still give 128
        merge(short, load_model(str(tiny_model), truncate_dim=6))


def test_the_identity_of_an_adapted_encoder_depends_on_both(tiny_model: Path) -> None:
    encoder = SentenceTransformerEncoder(load_model(str(tiny_model)))
    one, other = random_map(0, 128, 128), random_map(1, 128, 128)
    same = AdaptedEncoder(encoder, shared(one)).identity("query")
    assert AdaptedEncoder(encoder, shared(random_map(0, 128, 128))).identity("query") == same
    assert AdaptedEncoder(encoder, shared(other)).identity("query") != same
    half = AdaptedEncoder(encoder, Adaptor(Towers(one, other), "two-tower", (128,)))
    assert half.identity("query") == same
    assert half.identity("document") != AdaptedEncoder(encoder, shared(one)).identity("document")


def test_applying_an_adaptor_loads_no_torch(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", shared(random_map(0)))
    code = (
        "import sys, numpy as np; import nestvec.adaptors as a;"
        f"a.load({str(tmp_path / 'a.safetensors')!r}).transform(np.ones((3, 6), np.float32));"
        "assert 'torch' not in sys.modules and 'sentence_transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
