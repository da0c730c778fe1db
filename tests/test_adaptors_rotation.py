"""Rotations, on vectors whose best axes are known. Run: pytest tests/test_adaptors_rotation.py (seconds)."""

from __future__ import annotations

import numpy as np
import pytest

from nestvec.adaptors import AdaptorData, FitSettings, Map, Towers, fit_adaptor, fit_pair_rotation, is_nested
from nestvec.adaptors.rotation import nearest_rotation
from nestvec.adaptors.selection import Candidate, choose
from nestvec.errors import AdaptorError, VectorError
from nestvec.report import adaptor_outcome
from nestvec.vectors import normalize, truncate

DIM, SIGNAL = 24, 5


def pairs_of(n: int, seed: int, *, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Queries and documents that agree in a few hidden directions; what they differ by varies more."""
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(np.random.default_rng(9).normal(size=(DIM, DIM)))[0]
    signal = generator.normal(size=(n, SIGNAL)) @ basis[:SIGNAL]
    noise = [generator.normal(size=(n, DIM - SIGNAL)) @ basis[SIGNAL:] for _ in range(2)]
    return tuple((signal + 1.2 * part + shift).astype(np.float32) for part in noise)


def reciprocal_rank(queries: np.ndarray, documents: np.ndarray) -> float:
    similarities = queries @ documents.T
    return float(np.mean(1 / (1 + (similarities > np.diag(similarities)[:, None]).sum(axis=1))))


def test_axes_are_those_on_which_pairs_agree() -> None:
    queries, documents = pairs_of(3000, 0, shift=0.3)
    left, right = (normalize(side.astype(np.float64)) for side in (queries, documents))
    for weight in (0.0, 0.5, 2.0):
        found = fit_pair_rotation(queries, documents, noise_weight=weight).weight.astype(np.float64)
        values = []
        for axis in found.T:  # what each adds to the similarity of a pair, by the definition
            one, other = left @ axis, right @ axis
            values.append(2 * np.cov(one, other, bias=True)[0, 1] - weight * np.var(one - other))
        assert values == sorted(values, reverse=True)
        np.testing.assert_allclose(found.T @ found, np.eye(DIM), atol=1e-5)
        # No direction does better than the first: the sum of the first so many is the most there is.
        basis = np.linalg.qr(np.random.default_rng(9).normal(size=(DIM, DIM)))[0]
        captured = np.linalg.norm(basis[:SIGNAL] @ found[:, :SIGNAL]) ** 2
        assert captured > 0.98 * SIGNAL


def test_vectors_are_nested_where_leading_dimensions_rank_neighbours_higher_than_others() -> None:
    generator = np.random.default_rng(3)
    topics = np.repeat(generator.normal(size=(400, 96)), 2, axis=0) * 2 * np.exp(-np.arange(96) / 20)
    sorted_by_variance = normalize(topics + 0.2 * generator.normal(size=topics.shape))
    rotation = np.linalg.qr(generator.normal(size=(96, 96)))[0]
    assert is_nested(sorted_by_variance, [96, 32, 8])
    assert not is_nested(sorted_by_variance @ rotation, [96, 32, 8])
    assert not is_nested(sorted_by_variance, [96])  # never cut
    assert not is_nested(np.ones((50, 96)), [96, 8])


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, documents = pairs_of(500, 1)
    whole = fit_pair_rotation(queries, documents).weight
    monkeypatch.setattr("nestvec.adaptors.rotation._ROWS_AT_A_TIME", 7)
    np.testing.assert_allclose(np.abs(fit_pair_rotation(queries, documents).weight), np.abs(whole), atol=1e-4)


def test_an_adaptor_that_rotates_keeps_every_cosine_and_finds_with_fewer_dimensions() -> None:
    queries, documents = pairs_of(900, 2)
    data = AdaptorData(queries, documents, np.repeat(np.arange(900), 2).reshape(-1, 2))
    adaptor = fit_adaptor(data, [DIM, 8, SIGNAL], method="rotation")
    weight = adaptor.towers.query.weight
    assert adaptor.method == "rotation"
    assert adaptor.shared
    assert adaptor.towers.query.bias is None
    np.testing.assert_allclose(weight.T @ weight, np.eye(DIM), atol=1e-5)
    queries, documents = pairs_of(400, 3)
    turned = adaptor.transform(queries, "query"), adaptor.transform(documents)
    np.testing.assert_allclose(turned[0] @ turned[1].T, normalize(queries) @ normalize(documents).T, atol=1e-5)
    raw, rotated = (
        reciprocal_rank(truncate(one, SIGNAL), truncate(other, SIGNAL)) for one, other in ((queries, documents), turned)
    )
    components = fit_adaptor(data, [DIM, 8, SIGNAL], method="pca", settings=FitSettings(centered=False))
    by_variance = reciprocal_rank(
        components.transform(queries, "query", SIGNAL), components.transform(documents, dim=SIGNAL)
    )
    assert rotated > 3 * max(raw, by_variance)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_no_other_map_takes_the_place_of_a_rotation_at_the_full_size(shift: float) -> None:
    """Principal components about the mean would rank shifted vectors better, and change their cosines."""
    queries, documents = pairs_of(1500, 4, shift=shift)
    data = AdaptorData(queries, documents, np.repeat(np.arange(1500), 2).reshape(-1, 2))
    adaptor = fit_adaptor(data, [DIM, 4], method="rotation")
    left, right = adaptor.transform(queries, "query", dim=DIM), adaptor.transform(documents, dim=DIM)
    np.testing.assert_allclose(left @ right.T, normalize(queries) @ normalize(documents).T, atol=1e-5)
    assert DIM not in adaptor.replaced


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.1),
        ("precisions", ["float32", "binary"]),
        ("mined_negatives", 2),
        ("symmetric", True),
        ("distillation", 0.5),
        ("tie", 0.2),
    ],
)
def test_settings_of_other_losses_are_refused(name: str, value: object) -> None:
    queries, documents = pairs_of(100, 0)
    data = AdaptorData(queries, documents, np.repeat(np.arange(100), 2).reshape(-1, 2))
    with pytest.raises(AdaptorError, match=f"{name}: a rotation learns from the similarities"):
        fit_adaptor(data, method="rotation", settings=FitSettings(**{name: value}))  # type: ignore[arg-type]


def test_without_pairs_prefixes_keep_the_nearest_documents() -> None:
    generator = np.random.default_rng(0)
    turn = np.linalg.qr(generator.normal(size=(DIM, DIM)))[0]
    documents, new = (
        ((generator.normal(size=(n, DIM)) * np.linspace(2, 0.1, DIM)) @ turn).astype(np.float32) for n in (1500, 300)
    )
    adaptor = fit_adaptor(AdaptorData(documents[:0], documents), [DIM, 6], method="rotation")

    def nearest(vectors: np.ndarray) -> np.ndarray:
        similarities = vectors @ vectors.T
        np.fill_diagonal(similarities, -2)
        return similarities.argmax(axis=1)

    expected = nearest(normalize(new))
    assert adaptor.method == "rotation"
    np.testing.assert_array_equal(nearest(adaptor.transform(new)), expected)
    raw, rotated = (
        float(np.mean(nearest(vectors) == expected)) for vectors in (truncate(new, 6), adaptor.transform(new, dim=6))
    )
    assert rotated > 2 * raw


def test_without_pairs_vectors_that_are_nested_already_stay() -> None:
    """Sorted dimensions keep more than drawn ones: what keeps yet more of the neighbours may find less."""
    generator = np.random.default_rng(0)
    documents = (generator.normal(size=(1200, DIM)) * np.linspace(2, 0.1, DIM)).astype(np.float32)
    empty, dims = documents[:0], [DIM, 12, 6]
    kept = fit_adaptor(AdaptorData(empty, documents), dims, method="rotation")
    assert (kept.method, kept.settings["nested"]) == ("raw", True)
    assert "matter more than the others already" in adaptor_outcome(kept)
    shuffled = documents[:, generator.permutation(DIM)]
    turned = fit_adaptor(AdaptorData(empty, shuffled), dims, method="rotation")
    assert (turned.method, turned.settings["nested"]) == ("rotation", False)
    forced = fit_adaptor(AdaptorData(empty, documents), dims, method="rotation", settings=FitSettings(strength=1.0))
    assert forced.method == "rotation"


def test_where_no_rotation_gains_the_vectors_stay() -> None:
    queries, documents = pairs_of(600, 4)
    wrong = np.random.default_rng(5).permutation(600)
    data = AdaptorData(queries, documents[wrong], np.repeat(np.arange(600), 2).reshape(-1, 2))
    adaptor = fit_adaptor(data, [DIM, 8], method="rotation")
    assert adaptor.method == "raw"
    np.testing.assert_array_equal(adaptor.towers.query.weight, np.eye(DIM))


def test_fewer_rows_than_dimensions_give_a_rotation_all_the_same() -> None:
    queries, documents = pairs_of(12, 6)
    weight = fit_pair_rotation(queries, documents).weight
    np.testing.assert_allclose(weight.T @ weight, np.eye(DIM), atol=1e-5)
    data = AdaptorData(queries, documents, np.repeat(np.arange(12), 2).reshape(-1, 2))
    settings = FitSettings(held_out_share=0.3, strength=1.0)
    turned = fit_adaptor(data, [DIM, 8], method="rotation", settings=settings).towers.query.weight
    np.testing.assert_allclose(turned.T @ turned, np.eye(DIM), atol=1e-5)


@pytest.mark.parametrize(
    ("queries", "documents", "said"),
    [
        (np.ones((5, 4)), np.ones((5, 4)), "All 5 pairs have the same vectors"),
        (np.ones((1, 4)), np.ones((1, 4)), "two or more"),
        (np.ones((5, 4)), np.ones((5, 3)), "two or more"),
        (np.ones(5), np.ones(5), "two or more"),
    ],
)
def test_what_no_rotation_follows_from_is_refused(queries: np.ndarray, documents: np.ndarray, said: str) -> None:
    with pytest.raises(VectorError, match=said):
        fit_pair_rotation(queries, documents)


def test_only_pairs_say_what_they_agree_on() -> None:
    documents = pairs_of(200, 0)[1]
    with pytest.raises(AdaptorError, match="Only a rotation of vectors with pairs can start at pairs"):
        fit_adaptor(AdaptorData(documents[:0], documents), method="rotation", settings=FitSettings(start="pairs"))


def test_the_nearest_rotation_is_the_polar_factor() -> None:
    matrix = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    found = nearest_rotation(Map(matrix)).weight.astype(np.float64)
    np.testing.assert_allclose(found.T @ found, np.eye(6), atol=1e-5)
    stretch = found.T @ matrix
    np.testing.assert_allclose(stretch, stretch.T, atol=1e-4)  # what is left is symmetric and positive
    assert np.linalg.eigvalsh(stretch).min() > 0


def test_a_little_may_be_lost_where_that_is_allowed() -> None:
    same = Towers(Map(np.eye(2, dtype=np.float32)), Map(np.eye(2, dtype=np.float32)))
    raw = Candidate("raw", same, {2: np.full(9, 0.5), 1: np.full(9, 0.2)})
    other = replace_values(raw, {2: np.full(9, 0.499), 1: np.full(9, 0.3)})
    assert choose([other], raw, [1.0, 1.0]) is raw
    assert choose([other], raw, [1.0, 1.0], most_lost=0.002) is other
    assert (
        choose([replace_values(raw, {2: np.full(9, 0.497), 1: np.full(9, 0.3)})], raw, [1, 1], most_lost=0.002) is raw
    )


def test_a_rotation_goes_by_the_mean_of_what_it_gains() -> None:
    same = Towers(Map(np.eye(2, dtype=np.float32)), Map(np.eye(2, dtype=np.float32)))
    raw = Candidate("raw", same, {2: np.full(9, 0.5), 1: np.full(9, 0.2)})
    even = replace_values(raw, {2: np.full(9, 0.55), 1: np.full(9, 0.22)})
    steep = replace_values(raw, {2: np.full(9, 0.501), 1: np.full(9, 0.25)})
    assert choose([even, steep], raw, [1.0, 1.0]) is even
    assert choose([even, steep], raw, [1.0, 1.0], share_of_worst=0.0) is steep


def test_how_sure_a_gain_must_be_can_be_said() -> None:
    same = Towers(Map(np.eye(1, dtype=np.float32)), Map(np.eye(1, dtype=np.float32)))
    noise = np.tile([-1.0, 1.0], 50)  # a standard error of .1005
    raw = Candidate("raw", same, {1: np.full(100, 0.5)})
    unsure = replace_values(raw, {1: 0.5 + 0.15 + noise})
    assert choose([unsure], raw, [1.0]) is raw
    assert choose([unsure], raw, [1.0], clear=1.0) is unsure
    assert choose([unsure], raw, [1.0], clear=1.6) is raw
    queries, documents = pairs_of(300, 2)
    data = AdaptorData(queries, documents, np.repeat(np.arange(300), 2).reshape(-1, 2))
    methods = [
        fit_adaptor(data, [DIM, SIGNAL], method="rotation", settings=FitSettings(clear=clear)).method
        for clear in (1.0, 1e9)
    ]
    assert methods == ["rotation", "raw"]
    with pytest.raises(AdaptorError, match="clear is -1"):
        FitSettings(clear=-1)


def replace_values(one: Candidate, values: dict[int, np.ndarray]) -> Candidate:
    return one._replace(method="rotation", values=values)
