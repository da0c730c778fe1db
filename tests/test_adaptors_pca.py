"""Principal components against scikit-learn. Run: pytest tests/test_adaptors_pca.py (a second)."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from nestvec.adaptors import fit_pca
from nestvec.errors import DimensionError, VectorError
from nestvec.vectors import normalize


def sample(n: int = 300, dim: int = 12) -> np.ndarray:
    generator = np.random.default_rng(0)
    return (generator.normal(size=(n, dim)) @ generator.normal(size=(dim, dim)) + 1).astype(np.float32)


@pytest.mark.parametrize("whitened", [False, True])
def test_the_components_are_those_of_scikit_learn(whitened: bool) -> None:
    vectors = normalize(sample())
    expected = PCA(whiten=whitened).fit(vectors).transform(vectors)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = fit_pca(vectors, whitened=whitened).transform(vectors)
    signs = np.sign((expected * found).sum(axis=0))  # either direction of an axis is right
    np.testing.assert_allclose(found * signs, expected, atol=1e-3)


def test_lengths_of_the_vectors_change_nothing() -> None:
    vectors = normalize(sample())
    scaled = vectors * np.random.default_rng(1).uniform(0.1, 9, size=(len(vectors), 1)).astype(np.float32)
    np.testing.assert_allclose(fit_pca(scaled).transform(scaled), fit_pca(vectors).transform(vectors), atol=1e-4)


def test_a_rotation_keeps_distances_from_the_mean_even_with_few_rows() -> None:
    vectors = normalize(sample(5))
    pca = fit_pca(vectors)
    np.testing.assert_allclose(pca.weight.T @ pca.weight, np.eye(12), atol=1e-5)
    np.testing.assert_allclose(
        pca.transform(vectors) @ pca.transform(vectors).T,
        normalize(vectors - vectors.mean(axis=0)) @ normalize(vectors - vectors.mean(axis=0)).T,
        atol=1e-4,
    )


def test_without_the_mean_every_cosine_stays() -> None:
    vectors = normalize(sample())
    found = fit_pca(vectors, centered=False).transform(vectors)
    np.testing.assert_allclose(found @ found.T, vectors @ vectors.T, atol=1e-5)


def test_what_has_no_components_is_refused() -> None:
    with pytest.raises(VectorError, match="two or more finite vectors"):
        fit_pca(sample(1))
    with pytest.raises(VectorError):
        fit_pca(np.full((3, 2), np.nan))
    with pytest.raises(DimensionError, match=r"\[n, 12\], not \[300, 8\]"):
        fit_pca(sample()).transform(sample()[:, :8])
