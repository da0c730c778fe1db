"""Product quantization against slow loops and its own promises. Run: pytest tests/test_quantization_product.py (seconds)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from nestvec.errors import DimensionError, PrecisionError, VectorError
from nestvec.quantization import (
    ProductQuantizer,
    bytes_per_vector,
    fit_codes,
    fit_quantizer,
    in_fixed_order,
    load_codes,
    product_code,
    save_codes,
    why_impossible,
)
from nestvec.vectors import normalize, truncate

NAMES = ["pq4", "pq6", "pq12", "pq5x8", "pq12x8"]


def vectors(count: int, dim: int = 48, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    lengths = 1 / np.sqrt(np.arange(1, dim + 1))
    return normalize((generator.normal(size=(count, dim)) * lengths + 0.05).astype(np.float32))


def fitted(precision: str, **options: object) -> ProductQuantizer:
    found = fit_quantizer(vectors(1500), precision, **options)  # type: ignore[arg-type]
    assert isinstance(found, ProductQuantizer)
    return found


@pytest.mark.parametrize("precision", NAMES)
def test_codes_take_the_bytes_of_their_name_and_come_back_from_disk(precision: str, tmp_path: Path) -> None:
    quantizer = fitted(precision)
    codes = quantizer.encode(vectors(200, seed=1))
    assert codes.nbytes == 200 * bytes_per_vector(48, precision) == 200 * int(precision[2:].split("x")[0])
    save_codes(tmp_path / "codes", quantizer, codes)
    stored = load_codes(tmp_path / "codes")
    np.testing.assert_array_equal(stored.codes, codes)
    np.testing.assert_array_equal(stored.quantizer.decode(stored.codes), quantizer.decode(codes))
    np.testing.assert_array_equal(stored.quantizer.encode(vectors(200, seed=1)), codes)


@pytest.mark.parametrize("precision", NAMES)
def test_the_nearest_codes_are_those_of_a_slow_loop_in_float64(precision: str) -> None:
    quantizer = dataclasses.replace(fitted(precision), target=None)
    documents = vectors(40, seed=2)
    parts = (documents.astype(np.float64) @ quantizer.components).reshape(40, len(quantizer.centroids), -1)
    found = quantizer.unpack(quantizer.encode(documents))
    for row in range(40):
        for place, centroids in enumerate(quantizer.centroids.astype(np.float64)):
            distances = ((centroids - parts[row, place]) ** 2).sum(axis=1)
            assert distances[found[row, place]] <= distances.min() + 1e-4
    expected = np.concatenate(
        [quantizer.centroids[place][found[:, place]] for place in range(len(quantizer.centroids))], axis=1
    )
    np.testing.assert_allclose(
        quantizer.decode(quantizer.encode(documents)), expected @ quantizer.components.T, atol=1e-6
    )


@pytest.mark.parametrize("precision", NAMES)
def test_the_score_is_the_cosine_of_what_the_codes_stand_for_also_of_fewer_dimensions(precision: str) -> None:
    quantizer = fitted(precision)
    codes, queries = quantizer.encode(vectors(30, seed=3)), vectors(5, seed=4)
    decoded = quantizer.decode(codes).astype(np.float64)
    for dim in (48, 7):
        expected = normalize(queries[:, :dim].astype(np.float64)) @ normalize(decoded[:, :dim]).T
        np.testing.assert_allclose(quantizer.score(queries[:, :dim], codes), expected, atol=2e-6)
        np.testing.assert_allclose(quantizer.decode(codes, dim), decoded[:, :dim], atol=1e-6)


@pytest.mark.parametrize("precision", NAMES)
def test_dot_products_by_tables_are_those_of_what_is_decoded(precision: str) -> None:
    quantizer, queries = fitted(precision), vectors(6, seed=8)
    codes = quantizer.encode(vectors(6 * 9, seed=7)).reshape(6, 9, -1)
    expected = [quantizer.decode(some).astype(np.float64) @ query for query, some in zip(queries, codes, strict=True)]
    np.testing.assert_allclose(quantizer.products(queries, codes), expected, atol=1e-6)


def test_more_bytes_and_a_learned_rotation_mean_less_error() -> None:
    documents = vectors(600, seed=5)

    def error(precision: str, **options: object) -> float:
        quantizer = fitted(precision, score_aware=False, **options)
        return float(np.square(quantizer.decode(quantizer.encode(documents)) - documents).sum(axis=1).mean())

    errors = [error(precision) for precision in ("pq2", "pq4", "pq8", "pq16", "pq24")]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05
    for precision in ("pq4", "pq8"):
        assert error(precision, components=48) < 0.97 * error(precision, components=48, opq=False)


def test_score_aware_codes_say_as_much_of_every_vector_at_hardly_more_error() -> None:
    documents = vectors(600, seed=6)
    for precision in ("pq4", "pq12", "pq24"):
        aware = fitted(precision)
        plain = dataclasses.replace(aware, target=None)
        along, errors = [], []
        for quantizer in (aware, plain):
            decoded = quantizer.decode(quantizer.encode(documents))
            along.append(np.einsum("ij,ij->i", decoded, documents))
            errors.append(np.square(decoded - documents).sum(axis=1).mean())
        assert along[0].std() < 0.75 * along[1].std()
        assert along[0].mean() == pytest.approx(aware.target, abs=0.02)
        assert errors[0] < 1.25 * errors[1]


@pytest.mark.parametrize("precision", ["float16", "int8", "int4", "binary", "pq4", "pq12", "pq5x8"])
def test_what_is_fitted_does_not_depend_on_the_order_of_rows(precision: str) -> None:
    documents = vectors(3000)
    shuffled = documents[np.random.default_rng(9).permutation(3000)]
    for one, other in zip(
        fit_codes(documents, 40, precision).arrays().values(),
        fit_codes(shuffled, 40, precision).arrays().values(),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_fixed_order_is_a_random_sample_of_all_rows() -> None:
    documents = vectors(5000)
    kept = in_fixed_order(documents, most=500)
    rows = [int(np.flatnonzero((documents == row).all(axis=1))[0]) for row in kept]
    assert len(set(rows)) == 500
    assert abs(np.mean(rows) / 5000 - 0.5) < 0.05  # from everywhere, and the same whatever comes first
    np.testing.assert_array_equal(in_fixed_order(documents[::-1], most=500), kept)
    assert not np.array_equal(in_fixed_order(documents, seed=1, most=500), kept)


def test_few_vectors_are_learned_from_without_a_learned_rotation() -> None:
    for count in (16, 40, 90):
        quantizer = fit_quantizer(vectors(count), "pq16")
        assert isinstance(quantizer, ProductQuantizer)
        np.testing.assert_allclose(quantizer.components.T @ quantizer.components, np.eye(32), atol=1e-5)
    with pytest.raises(VectorError, match="16 centroids, and there are 15 vectors"):
        fit_quantizer(vectors(15), "pq16")
    with pytest.raises(VectorError, match="256 centroids, and there are 200 vectors"):
        fit_quantizer(vectors(200), "pq4x8")


@pytest.mark.parametrize("dim", [4096, 8192])
def test_components_of_large_vectors_are_the_leading_ones(dim: int) -> None:
    generator = np.random.default_rng(0)
    basis = np.linalg.qr(generator.normal(size=(dim, 24)))[0]
    documents = normalize(
        (generator.normal(size=(600, 24)) @ basis.T + 0.002 * generator.normal(size=(600, dim))).astype(np.float32)
    )
    quantizer = fit_quantizer(documents, "pq8", opq=False, components=32, score_aware=False)
    assert isinstance(quantizer, ProductQuantizer)
    assert quantizer.components.shape == (dim, 32)
    kept = np.linalg.norm(quantizer.project(documents), axis=1)
    assert kept.min() > 0.97  # of length 1, of which the noise has .2 at most
    np.testing.assert_allclose(quantizer.components.T @ quantizer.components, np.eye(32), atol=1e-4)


def test_what_is_not_possible_is_said() -> None:
    assert why_impossible(64, "pq32") is None
    assert product_code("pq16x8") == (16, 8)
    assert [product_code(name) for name in ("pq", "pq0", "pq8x4", "Pq8", "pq 8", "pq10000")] == [None] * 6
    with pytest.raises(DimensionError, match="pq32 has 64 codebooks, and vectors of 63 .* Choose pq31 or less"):
        fit_quantizer(vectors(200, 63), "pq32")
    with pytest.raises(DimensionError, match="Choose pq32"):
        bytes_per_vector(32, "pq33x8") if why_impossible(32, "pq33x8") is None else fit_quantizer(
            vectors(300, 32), "pq33x8"
        )
    with pytest.raises(DimensionError, match="30 components of 48 dimensions in 8 codebooks"):
        fit_quantizer(vectors(200), "pq4", components=30)
    with pytest.raises(PrecisionError, match="a rotation of its own"):
        fit_quantizer(vectors(200), "pq4", rotation="random")
    with pytest.raises(PrecisionError, match="does not take the options centered"):
        fit_quantizer(vectors(200), "pq4", centered=True)
    with pytest.raises(PrecisionError, match="such as pq16"):
        ProductQuantizer.fit(vectors(200), "int8")
    quantizer = fitted("pq4")
    codes = quantizer.encode(vectors(3))
    with pytest.raises(DimensionError, match="cannot be cut to 20. Decode them"):
        quantizer.cut(codes, 20)
    with pytest.raises(DimensionError, match="whole ones, not 20"):
        quantizer.encode(truncate(vectors(3), 20))
    with pytest.raises(DimensionError, match="have 4 columns, not 3"):
        quantizer.decode(codes[:, :3])
    with pytest.raises(DimensionError, match="does not go with"):
        dataclasses.replace(quantizer, centroids=quantizer.centroids[:, :8])


def test_opq_of_many_dimensions_works_within_principal_components() -> None:
    generator = np.random.default_rng(0)
    spread = 1 / np.arange(1, 1201, dtype=np.float32)
    vectors = normalize((generator.normal(size=(2100, 1200)) * spread).astype(np.float32))
    errors = {}
    for opq in (None, False):
        quantizer = ProductQuantizer.fit(vectors, "pq8", opq=opq, score_aware=False)
        errors[opq] = ((vectors - quantizer.decode(quantizer.encode(vectors))) ** 2).sum()
        identity = quantizer.components.T @ quantizer.components
        np.testing.assert_allclose(identity, np.eye(len(identity)), atol=1e-4)
    assert errors[None] < 0.97 * errors[False]
