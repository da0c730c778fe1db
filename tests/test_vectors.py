"""Truncation, length and cosine, in numpy and torch. Run: pytest tests/test_vectors.py (a second)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nestvec.errors import DimensionError, VectorError
from nestvec.vectors import check_dims, cosine, find_unusable, normalize, truncate, unit_float32


def random_vectors(seed: int, n: int = 7, dim: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@given(seed=st.integers(0, 1000), dim=st.integers(1, 12))
@settings(deadline=None)
def test_a_truncated_vector_has_unit_length_and_the_direction_of_its_prefix(seed: int, dim: int) -> None:
    vectors = random_vectors(seed)
    cut = truncate(vectors, dim)
    assert cut.shape == (7, dim)
    assert cut.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(cut.astype(np.float64), axis=1), 1.0, atol=1e-6)
    expected = vectors[:, :dim].astype(np.float64)
    np.testing.assert_allclose(cut, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


@given(seed=st.integers(0, 1000), dim=st.integers(1, 12))
@settings(deadline=None)
def test_numpy_and_torch_truncate_alike(seed: int, dim: int) -> None:
    vectors = random_vectors(seed)
    np.testing.assert_allclose(truncate(torch.from_numpy(vectors), dim).numpy(), truncate(vectors, dim), atol=1e-6)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_a_zero_prefix_stays_zero(convert) -> None:
    cut = np.asarray(truncate(convert(np.array([[0.0, 0.0, 5.0]])), 2))
    assert (cut == 0).all()


def test_a_zero_prefix_gets_a_finite_gradient() -> None:
    vectors = torch.tensor([[0.0, 0.0, 5.0]], requires_grad=True)
    truncate(vectors, 2).sum().backward()
    assert torch.isfinite(vectors.grad).all()


def test_a_float32_vector_whose_length_leaves_its_type_still_gets_unit_length() -> None:
    huge = torch.full((2, 768), 1e38)
    torch.testing.assert_close(normalize(huge).norm(dim=1), torch.ones(2))
    assert normalize(huge).dtype == torch.float32


def test_a_zero_vector_gets_no_gradient() -> None:
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    (normalize(vectors) * torch.tensor([[1.0, 2.0], [1.0, 2.0]])).sum().backward()
    assert (vectors.grad[0] == 0).all()
    assert (vectors.grad[1] != 0).all()


def test_a_tiny_float32_vector_still_gets_unit_length() -> None:
    np.testing.assert_allclose(np.linalg.norm(normalize(np.full((1, 4), 1e-30, np.float32))), 1.0, rtol=1e-6)


def test_a_single_vector_is_cut_like_a_row_of_many() -> None:
    vectors = random_vectors(3)
    np.testing.assert_array_equal(truncate(vectors[0], 5), truncate(vectors, 5)[0])


def test_cosine_ignores_length() -> None:
    vectors = random_vectors(1)
    np.testing.assert_allclose(cosine(vectors * 3, vectors), cosine(vectors, vectors * 7), atol=1e-6)
    np.testing.assert_allclose(np.diag(cosine(vectors, vectors)), 1.0, atol=1e-6)


@pytest.mark.parametrize("dim", [0, -1, 13])
def test_a_dim_outside_the_vector_is_refused(dim: int) -> None:
    with pytest.raises(DimensionError, match=r"Choose a dim from 1 to 12"):
        truncate(random_vectors(0), dim)


@pytest.mark.parametrize("bad", [np.arange(4), torch.arange(4), [1.0, 2.0]])
def test_what_holds_no_floating_point_numbers_is_refused(bad) -> None:
    with pytest.raises(VectorError, match="floating-point"):
        normalize(bad)


def test_truncate_and_cosine_refuse_them_too() -> None:
    with pytest.raises(VectorError):
        truncate(np.arange(4), 2)
    with pytest.raises(VectorError):
        cosine(np.arange(4), np.arange(4))


@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 1e-30), ("float32", 1e30), ("float16", 6e4), ("float64", 1e-100)]
)
def test_numpy_and_torch_agree_on_very_small_and_large_numbers(dtype: str, size: float) -> None:
    vectors = np.full((1, 4), size, dtype=dtype)
    for found in (normalize(vectors), normalize(torch.from_numpy(vectors)).numpy()):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, 0.5, rtol=1e-3)


def test_a_single_number_is_no_vector() -> None:
    with pytest.raises(VectorError, match="single number"):
        normalize(np.array(1.0))


def test_cosine_of_different_sizes_is_refused() -> None:
    with pytest.raises(DimensionError, match="Queries have 12 dimensions and documents 6"):
        cosine(random_vectors(0), random_vectors(0)[:, :6])


def test_dims_may_rise_or_fall_and_keep_their_order() -> None:
    assert check_dims([16, 64, 128], 128) == (16, 64, 128)
    assert check_dims((128, 64)) == (128, 64)


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([], "No dims"),
        ([64, 0], "whole numbers from 1"),
        ([64, True], "whole numbers from 1"),
        ([64.5], "whole numbers from 1"),
        ([256, 64], "larger than the vectors, which have 128"),
        ([64, 64], "twice"),
        ([64, 128, 32], r"out of order. Write them as \[128, 64, 32\]"),
    ],
)
def test_dims_that_make_no_sense_are_refused(dims: list[int], message: str) -> None:
    with pytest.raises(DimensionError, match=message):
        check_dims(dims, 128)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_no_cosine_is_beyond_one_whatever_the_type(dtype: type) -> None:
    generator = np.random.default_rng(0)
    vectors = (generator.normal(size=(300, 37)) * 10.0 ** generator.integers(-3, 2, size=(300, 1))).astype(dtype)
    assert np.abs(cosine(vectors, np.concatenate([vectors, -vectors]))).max() <= 1
    tensors = torch.from_numpy(vectors)
    assert cosine(tensors, torch.cat([tensors, -tensors])).abs().max() <= 1


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-160, 1e-50, 1.0, 1e50, 1e160, 1e305])
def test_every_float64_vector_has_the_direction_that_it_has(scale: float) -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 7))
    vectors[3] = 0
    expected = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    tolerance = 1e-12 if scale > 1e-300 else 0.2  # below, float64 itself has few digits
    np.testing.assert_allclose(normalize(vectors * scale), expected, atol=tolerance)
    found = unit_float32(vectors * scale)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=max(tolerance, 1e-6))


def test_what_has_no_direction_is_found() -> None:
    vectors = np.ones((6, 3))
    vectors[1], vectors[2, 0], vectors[4, 2] = 0, np.nan, -np.inf
    vectors[5] = 1e-320
    assert {name: rows.tolist() for name, rows in find_unusable(vectors).items()} == {"not finite": [2, 4], "zero": [1]}
    assert np.isnan(normalize(vectors)[2]).any()


def test_half_precision_is_normalised_as_well_as_it_can_hold() -> None:
    vectors = normalize(np.random.default_rng(0).normal(size=(50, 64)))
    for length in (0.9985, 1.0015):
        scaled = normalize((length * vectors).astype(np.float16)).astype(np.float64)
        assert np.abs(np.linalg.norm(scaled, axis=1) - 1).max() < 0.0004
