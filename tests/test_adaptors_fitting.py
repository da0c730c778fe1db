"""Fitting adaptors, on vectors whose best map is known. Run: pytest tests/test_adaptors_fitting.py (half a minute)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import nestvec.adaptors.fitting as fitting
from nestvec.adaptors import METHODS, AdaptorData, FitSettings, Map, Towers, fit_adaptor
from nestvec.adaptors.held_out import make_held_out
from nestvec.adaptors.networks import TowersNetwork
from nestvec.adaptors.objectives import make_objective, mine_negatives
from nestvec.adaptors.selection import Candidate, blend, choose, clearly_better, merit, share, shrinkage
from nestvec.adaptors.training_data import Split, copies
from nestvec.errors import AdaptorError, DimensionError, LossInputError, VectorError
from nestvec.vectors import normalize, truncate

DIM, SIGNAL = 24, 5
QUICK = FitSettings(epochs=12, batch_size=128, learning_rate=0.02)
TRAINED = [method for method in METHODS if method not in ("rotation", "pca", "whitening")]


def topics(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries and documents that agree in a few hidden directions, under noise that is stronger than they are."""
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(np.random.default_rng(99).normal(size=(DIM, DIM)))[0]
    signal = generator.normal(size=(n, SIGNAL)) @ basis[:SIGNAL]
    noise = [generator.normal(size=(n, DIM - SIGNAL)) @ basis[SIGNAL:] for _ in range(2)]
    return tuple((signal + 0.1 * generator.normal(size=(n, DIM)) + 1.2 * part).astype(np.float32) for part in noise)


def paired(n: int = 900, seed: int = 0) -> AdaptorData:
    queries, documents = topics(n, seed)
    return AdaptorData(queries, documents, np.repeat(np.arange(n), 2).reshape(-1, 2))


def mean_reciprocal_rank(queries: np.ndarray, documents: np.ndarray) -> float:
    similarities = queries @ documents.T
    return float((1 / (1 + (similarities > np.diag(similarities)[:, None]).sum(axis=1))).mean())


@pytest.mark.parametrize("method", TRAINED)
def test_a_fitted_map_finds_on_new_data_what_raw_prefixes_and_components_do_not(method: str) -> None:
    adaptor = fit_adaptor(paired(), [DIM, 8, SIGNAL], method=method, settings=replace(QUICK, strength=1.0))
    queries, documents = topics(400, seed=1)
    for dim in adaptor.dims:
        adapted = mean_reciprocal_rank(adaptor.transform(queries, "query", dim), adaptor.transform(documents, dim=dim))
        raw = mean_reciprocal_rank(truncate(queries, dim), truncate(documents, dim))
        assert adapted > 1.5 * raw
        assert adaptor.held_out[method][str(dim)] > adaptor.held_out["pca"][str(dim)]
    assert not adaptor.replaced
    assert adaptor.shared is (method != "two-tower")
    nested = adaptor.transform(documents)
    np.testing.assert_allclose(truncate(nested, 8), adaptor.transform(documents, dim=8), atol=1e-5)


@pytest.mark.parametrize("method", ["pca", "whitening"])
def test_components_are_fitted_without_training(method: str) -> None:
    adaptor = fit_adaptor(paired(), [DIM, 4], method=method)
    assert set(adaptor.held_out) == {"raw", "pca", method}
    assert adaptor.method == method


def test_without_labels_prefixes_learn_the_neighbours_of_the_whole_vectors() -> None:
    # Neighbours depend on directions that the first numbers do not hold.
    generator = np.random.default_rng(0)
    scales = np.linspace(0.2, 2, DIM) ** 2
    documents, new = ((generator.normal(size=(n, DIM)) * scales).astype(np.float32) for n in (1500, 500))
    adaptor = fit_adaptor(AdaptorData(documents, documents), [DIM, 6], settings=QUICK)

    def found_again(mapped: np.ndarray) -> float:
        def nearest(vectors: np.ndarray) -> np.ndarray:
            similarities = vectors @ vectors.T
            np.fill_diagonal(similarities, -2)
            return np.argsort(-similarities, axis=1)[:, :10]

        pairs = zip(nearest(normalize(new)), nearest(mapped), strict=True)
        return float(np.mean([len(set(a) & set(b)) / 10 for a, b in pairs]))

    assert adaptor.settings["metric"] == "MRR@10 of the nearest neighbour"
    assert found_again(adaptor.transform(new, dim=6)) > 2 * found_again(truncate(normalize(new), 6))
    assert found_again(adaptor.transform(new, dim=DIM)) > 0.98  # nothing beats the vectors themselves


def test_pairs_with_scores_learn_their_order() -> None:
    queries, documents = topics(4000, 0)
    basis = np.linalg.qr(np.random.default_rng(99).normal(size=(DIM, DIM)))[0][:SIGNAL]
    generator = np.random.default_rng(3)
    pairs = np.column_stack([np.arange(4000), generator.permutation(4000)])

    def truth(q: np.ndarray, d: np.ndarray) -> np.ndarray:
        return (normalize(q @ basis.T) * normalize(d @ basis.T)).sum(axis=1)

    data = AdaptorData(queries, documents, pairs, truth(queries, documents[pairs[:, 1]]))
    adaptor = fit_adaptor(data, [DIM, SIGNAL], settings=replace(QUICK, epochs=30))
    new_queries, new_documents = topics(300, 5)[0], topics(300, 6)[1]
    expected = truth(new_queries, new_documents)

    def correlation(q: np.ndarray, d: np.ndarray) -> float:
        return float(stats.spearmanr((q * d).sum(axis=1), expected).statistic)

    adapted = correlation(
        adaptor.transform(new_queries, "query", SIGNAL), adaptor.transform(new_documents, "document", SIGNAL)
    )
    assert adapted > correlation(truncate(new_queries, SIGNAL), truncate(new_documents, SIGNAL)) + 0.3
    assert adaptor.settings["metric"] == "Spearman"


def test_wrong_labels_never_make_a_size_worse_than_it_was() -> None:
    queries, documents = topics(600, 0)
    documents = documents + queries  # found well as they are
    rows = np.arange(600)
    wrong = np.column_stack([rows, np.roll(rows, 300)])
    data = AdaptorData(queries, documents, np.concatenate([np.column_stack([rows, rows]), *[wrong] * 8]))
    adaptor = fit_adaptor(data, [DIM, 6], settings=FitSettings(epochs=30, batch_size=64, learning_rate=0.1))
    for dim in adaptor.dims:
        assert adaptor.held_out[adaptor.method][str(dim)] >= adaptor.held_out["raw"][str(dim)]
    assert adaptor.method == "raw"
    np.testing.assert_allclose(adaptor.transform(documents), normalize(documents), atol=1e-6)


def test_a_size_at_which_another_map_is_better_keeps_that_map() -> None:
    generator = np.random.default_rng(0)
    documents = generator.normal(size=(2000, DIM)) * np.geomspace(1, 0.01, DIM)
    queries = documents + 0.05 * generator.normal(size=documents.shape)  # whitening blows this noise up
    rows = np.arange(2000)
    data = AdaptorData(queries, documents, np.column_stack([rows, rows]))
    adaptor = fit_adaptor(data, [DIM, 6], method="whitening")
    assert DIM in adaptor.replaced
    for dim, replacement in adaptor.replaced.items():
        assert replacement.towers.query.full_dim == dim
        better = adaptor.held_out[replacement.method][str(dim)]
        assert better == max(scores[str(dim)] for scores in adaptor.held_out.values())
        assert better > adaptor.held_out["whitening"][str(dim)]
    assert adaptor.replaced[DIM].method in ("raw", "pca")
    if adaptor.replaced[DIM].method == "raw":
        np.testing.assert_allclose(adaptor.transform(documents, dim=DIM), normalize(documents), atol=1e-6)


def test_labels_and_neighbourhoods_can_be_mixed() -> None:
    data = paired(600)
    plain, mixed = (
        fit_adaptor(data, [DIM, 6], settings=FitSettings(epochs=5, batch_size=128, distillation=weight, strength=1.0))
        for weight in (0.0, 5.0)
    )
    documents = normalize(data.documents)
    original = documents @ documents.T

    def distance(adaptor: object) -> float:
        mapped = adaptor.transform(documents, dim=6)  # type: ignore[attr-defined]
        return float(np.abs(mapped @ mapped.T - original).mean())

    assert distance(mixed) < distance(plain)


def test_the_same_seed_gives_the_same_adaptor() -> None:
    settings = FitSettings(epochs=2, batch_size=64)
    first, again = (fit_adaptor(paired(300), [DIM, 6], method="mlp", settings=settings) for _ in range(2))
    other = fit_adaptor(paired(300), [DIM, 6], method="mlp", settings=FitSettings(epochs=2, batch_size=64, seed=1))
    assert first.towers.query.digest() == again.towers.query.digest()
    assert first.towers.query.digest() != other.towers.query.digest()


def test_training_stops_when_it_gets_no_better_and_the_best_state_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(patience: int | None) -> FitSettings:
        return FitSettings(epochs=40, batch_size=64, learning_rate=0.3, evaluations=40, patience=patience)

    steps: list[int] = []

    @contextmanager
    def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
        steps.append(0)

        def advance(count: int) -> None:
            steps[-1] += count

        yield advance

    fit_adaptor(paired(300), [DIM, 6], settings=settings(3), progress=progress)
    fit_adaptor(paired(300), [DIM, 6], settings=settings(None), progress=progress)
    assert steps[0] < steps[-1]
    seen: list[Candidate] = []

    def prefer_the_fourth(one: Candidate, others: object) -> float:
        if one.method == "state" and not any(one is before for before in seen):
            seen.append(one)
        return float(len(seen) > 3 and one is seen[3])

    monkeypatch.setattr(fitting, "merit", prefer_the_fourth)
    chosen = replace(settings(None), strength=1.0, start="pca")
    kept = fit_adaptor(paired(300), [DIM, 6], method="two-tower", settings=chosen)
    assert len(seen) > 10
    assert kept.method == "two-tower"
    assert kept.towers is seen[3].towers


def test_training_that_diverges_says_so() -> None:
    with pytest.raises(AdaptorError, match="Training diverged: .* not finite"):
        fit_adaptor(paired(300), [DIM, 6], settings=FitSettings(learning_rate=3e37, batch_size=64))


def test_nothing_of_what_is_held_out_is_trained_on() -> None:
    queries, documents = topics(300, 0)
    documents = np.concatenate([documents, documents * 2, documents[:50]])  # copies, of another length too
    pairs = np.column_stack([np.tile(np.arange(300), 3)[:650], np.arange(650), np.roll(np.arange(650), 7)])
    data = AdaptorData(queries, documents, pairs)
    train, held_out = data.split(0.2, 100, seed=0)
    assert not set(train) & set(held_out)
    assert 50 <= len(held_out) <= 100
    groups = copies(documents)
    asked = set(pairs[held_out, 0].tolist())
    answers = {int(groups[document]) for query, document, _ in pairs if int(query) in asked}
    assert not asked & set(pairs[train, 0].tolist())
    assert not answers & set(groups[pairs[train, 1:]].ravel().tolist())  # neither as answers nor as negatives
    assert len(set(groups.tolist())) == 300


def test_near_documents_are_held_out_together() -> None:
    generator = np.random.default_rng(0)
    centres = 4 * generator.normal(size=(40, DIM))
    documents = np.repeat(centres, 30, axis=0) + generator.normal(size=(1200, DIM))
    rows = np.column_stack([np.arange(1200), np.arange(1200)])
    _, held_out = AdaptorData(documents, documents, rows).split(0.1, 2000, seed=0)
    topics_of = held_out // 30
    assert len(held_out) >= 60
    assert len(np.unique(topics_of)) <= len(held_out) / 10  # at random it would be nearly all 40


def test_held_out_ranks_are_those_of_a_slow_search() -> None:
    generator = np.random.default_rng(0)
    queries, documents = generator.normal(size=(12, 6)), generator.normal(size=(40, 6))
    documents[30:] = 3 * documents[:10]  # copies count as one document
    pairs = np.column_stack([generator.integers(0, 12, 30), generator.integers(0, 40, 30)])
    one = Map(generator.normal(size=(6, 6)).astype(np.float32))
    held_out = np.arange(20)
    found = make_held_out(AdaptorData(queries, documents, pairs), Split(np.arange(20, 30), held_out), 0).measure(
        Towers(one, one), [6, 2]
    )
    for dim, values in found.items():
        q, d = one.transform(queries, dim).astype(np.float64), one.transform(documents[:30], dim).astype(np.float64)
        reciprocal = []
        for query in np.unique(pairs[held_out, 0]):
            order = np.argsort(-(q[query] @ d.T))[:10].tolist()
            answers = {row - 30 if row >= 30 else row for row in pairs[pairs[:, 0] == query, 1]}  # all that are known
            ranks = [order.index(row) for row in answers if row in order]
            reciprocal.append(1 / (1 + min(ranks)) if ranks else 0.0)
        np.testing.assert_allclose(np.sort(values), np.sort(reciprocal), atol=1e-9)


@pytest.mark.parametrize("noise", [0.0, 1e-7, 1e-6])
def test_copies_of_the_right_document_are_no_mistakes(noise: float) -> None:
    generator = np.random.default_rng(0)
    documents = np.repeat(generator.normal(size=(200, 16)), 2, axis=0)
    queries = documents + 0.01 * generator.normal(size=documents.shape)
    documents += noise * generator.normal(size=documents.shape)  # as in another batch
    adaptor = fit_adaptor(AdaptorData(queries, documents, np.repeat(np.arange(400), 2).reshape(-1, 2)), [16, 8])
    assert adaptor.held_out["raw"] == {"16": 1.0, "8": 1.0}
    assert adaptor.method == "raw"


@pytest.mark.parametrize(("pairs", "questions"), [(120, 1), (360, 6), (20, 1)])
def test_few_pairs_with_a_strong_base_end_at_the_base(pairs: int, questions: int) -> None:
    generator = np.random.default_rng(0)
    documents = generator.normal(size=(pairs // questions, DIM))
    answers = np.arange(pairs) // questions
    queries = documents[answers] + 0.6 * generator.normal(size=(pairs, DIM))
    new = generator.normal(size=(1500, DIM))
    asked = new + 0.6 * generator.normal(size=new.shape)
    for seed in range(4):
        data = AdaptorData(queries, documents, np.column_stack([np.arange(pairs), answers]))
        adaptor = fit_adaptor(data, [DIM, 12], settings=FitSettings(seed=seed))
        for dim in (DIM, 12):
            before = mean_reciprocal_rank(truncate(asked, dim), truncate(new, dim))
            whole = [truncate(adaptor.transform(one, side), dim) for one, side in ((asked, "query"), (new, "document"))]
            own = [adaptor.transform(one, side, dim) for one, side in ((asked, "query"), (new, "document"))]
            assert mean_reciprocal_rank(*whole) >= before - 0.002
            assert mean_reciprocal_rank(*own) >= before - 0.002


def test_near_rows_are_copies_and_others_are_not() -> None:
    generator = np.random.default_rng(0)
    rows = normalize(generator.normal(size=(300, 384)))
    noisy = rows + 1e-6 * generator.normal(size=rows.shape)
    found = copies(rows, noisy[::-1], rows + 1e-3 * generator.normal(size=rows.shape))
    assert found[:300].tolist() == list(range(300))
    assert (found[300:600] == found[:300][::-1]).all()
    assert len(np.unique(found[600:])) == 300
    assert not np.isin(found[600:], found[:300]).any()
    many = rows[0] + 1e-6 * generator.normal(size=(3000, 384))
    assert len(np.unique(copies(many, -many))) == 2


def test_a_correlation_is_the_mean_of_what_its_pairs_say() -> None:
    left, right = topics(200, 0)
    scores = np.random.default_rng(0).normal(size=200).round(1)
    pairs = np.repeat(np.arange(200), 2).reshape(-1, 2)
    identity = Map(np.eye(DIM, dtype=np.float32))
    split = Split(np.arange(0), np.arange(200))
    values = make_held_out(AdaptorData(left, right, pairs, scores), split, 0).measure(Towers(identity, identity), [6])[
        6
    ]
    cosines = (truncate(normalize(left), 6) * truncate(normalize(right), 6)).sum(axis=1)
    assert values.mean() == pytest.approx(stats.spearmanr(cosines, scores).statistic, abs=1e-6)


def candidate(name: str, *scores: float, n: int = 400, spread: float = 0.0, **more: Any) -> Candidate:
    same = Map(np.eye(2, dtype=np.float32))
    noise = spread * np.tile([-1.0, 1.0], n // 2)
    values = {2 ** (len(scores) - place): score + noise for place, score in enumerate(scores)}
    return Candidate(name, Towers(same, same), values, **more)


def test_the_worst_size_and_half_the_mean_choose_and_the_vectors_stay_where_nothing_gains_clearly() -> None:
    raw = candidate("raw", 0.5, 0.2)
    short, even, loses = candidate("a", 0.505, 0.26), candidate("b", 0.55, 0.25), candidate("c", 0.49, 0.6)
    assert choose([short, even, loses], raw, [1, 1]) is even
    nearly = candidate("g", 0.54, 0.3)  # at the worst size a little less, at the other twice as much
    assert choose([short, even, loses, nearly], raw, [1, 1]) is nearly
    assert choose([even, nearly], raw, [1, 0]) is even
    assert choose([loses], raw, [1, 1]) is raw
    assert choose([loses], raw, [0, 1]) is loses  # a size that weighs nothing does not count
    noisy = candidate("d", 0.55, 0.25, spread=0.6)
    assert choose([noisy], raw, [1, 1]) is raw
    assert shrinkage(candidate("e", 0.55, 0.25, spread=0.2), raw, [1, 1]) == pytest.approx(5.0 / 12.0, abs=0.02)
    assert shrinkage(even, raw, [1, 1]) == 1.0
    assert clearly_better(even, raw, 4)
    sure = candidate("f", 0.55, 0.25, spread=0.3)  # by three standard errors, where each query counts as one
    assert clearly_better(sure, raw, 4)
    assert clearly_better(sure, raw, 4, groups=np.arange(400))
    assert not clearly_better(sure, raw, 4, groups=np.argsort(np.argsort(sure.values[4], kind="stable")) // 20)
    assert not clearly_better(raw, even, 4)


def test_what_shrinking_leaves_is_compared_with_the_vectors_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    # Principal components follow the noise: near them, short prefixes are worse than they were.
    settings = replace(QUICK, start="pca")
    whole = fit_adaptor(paired(), [DIM, SIGNAL], method="linear", settings=settings)
    assert whole.method == "linear"
    assert (
        whole.held_out["pca"][str(SIGNAL)] < whole.held_out["raw"][str(SIGNAL)] < whole.held_out["linear"][str(SIGNAL)]
    )
    monkeypatch.setattr(fitting, "shrinkage", lambda *_: 1e-3)
    shrunk = fit_adaptor(paired(), [DIM, SIGNAL], method="linear", settings=settings)
    assert shrunk.method == "raw"
    assert shrunk.settings["strength"] is None


def test_the_other_start_counts_where_nothing_near_the_first_one_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def first_vanishes(chosen: Candidate, *_: object) -> float:
        seen.append(chosen.start)
        return 1e-4 if len(seen) == 1 else 1.0

    monkeypatch.setattr(fitting, "shrinkage", first_vanishes)
    adaptor = fit_adaptor(paired(), [DIM, SIGNAL], method="linear", settings=QUICK)
    assert set(seen) == {"pca", "identity"}
    assert adaptor.method == "linear"
    assert adaptor.settings["start"] == seen[1]


@pytest.mark.parametrize("method", ["linear", "two-tower", "mlp"])
def test_a_strength_goes_a_share_of_the_way(method: str) -> None:
    generator = np.random.default_rng(0)
    start = Map(np.eye(6, dtype=np.float32), np.full(6, 0.1, np.float32))
    network = TowersNetwork(
        start, two_towers=method == "two-tower", hidden_width=5 if method == "mlp" else None, seed=0
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    trained = network.to_towers()
    begun = Towers(start, start)
    vectors = normalize(generator.normal(size=(9, 6)).astype(np.float32))

    def output(towers: Towers, side: str) -> np.ndarray:
        one = getattr(towers, side)
        linear = vectors @ one.weight + one.bias
        if one.hidden is not None:
            linear += np.maximum(vectors @ one.hidden.weight + one.hidden.bias, 0) @ one.hidden.output
        return linear

    for strength in (0.25, 0.5, 1.0):
        mixed = blend(begun, trained, strength)
        assert (mixed.query is mixed.document) == (method != "two-tower")
        for side in ("query", "document"):
            expected = (1 - strength) * output(begun, side) + strength * output(trained, side)
            np.testing.assert_allclose(output(mixed, side), expected, atol=1e-5)
    if method == "two-tower":
        middle = share(trained)
        assert middle.query is middle.document
        expected = (output(trained, "query") + output(trained, "document")) / 2
        np.testing.assert_allclose(output(middle, "query"), expected, atol=1e-5)


def test_a_network_begins_as_the_map_it_starts_from() -> None:
    start = Map(np.eye(6, dtype=np.float32), np.full(6, 0.1, np.float32))
    network = TowersNetwork(start, two_towers=True, hidden_width=8, seed=0)
    vectors = normalize(np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32))
    for side, tower in zip(("query", "document"), network.to_towers(), strict=True):
        np.testing.assert_allclose(tower.transform(vectors), start.transform(vectors), atol=1e-6)
        mapped = getattr(network, side)(torch.from_numpy(vectors)).detach().numpy()
        np.testing.assert_allclose(normalize(mapped), tower.transform(vectors), atol=1e-6)


def test_copies_and_other_answers_are_no_negatives() -> None:
    # Two pairs that are copies of each other: if one counted as the other's negative, its loss could not be near zero.
    vectors = np.eye(8, dtype=np.float32)
    queries, documents = vectors[[0, 0, 1]], vectors[[2, 2, 3]]
    weight = np.zeros((8, 8), np.float32)
    weight[[0, 2], 0] = weight[[1, 3], 1] = 1
    network = TowersNetwork(Map(weight), two_towers=False, hidden_width=None, seed=0)
    data = AdaptorData(queries, documents, np.array([[0, 0], [1, 1], [2, 2]]))
    objective = make_objective(
        data, Split(np.arange(3), np.arange(0)), [8], FitSettings().resolved("pairs", "linear", [8])
    )
    assert objective(network, np.arange(3), np.random.default_rng(0)).item() < 1e-6
    data = AdaptorData(
        vectors[[0, 1]], vectors[[2, 2, 3]] + 0.01 * vectors[[4, 5, 6]], np.array([[0, 0], [0, 1], [1, 2]])
    )
    objective = make_objective(
        data, Split(np.arange(3), np.arange(0)), [8], FitSettings().resolved("pairs", "linear", [8])
    )
    assert objective(network, np.arange(3), np.random.default_rng(0)).item() < 1e-6


def bad(vectors: np.ndarray, row: int, value: float) -> np.ndarray:
    vectors = vectors.copy()
    vectors[row] = value
    return vectors


def test_what_cannot_be_fitted_on_is_refused() -> None:
    queries, documents = topics(300, 0)
    rows = np.column_stack([np.arange(300), np.arange(300)])
    scores = np.linspace(0, 1, 300)
    refused: list[tuple[AdaptorData, type[Exception], str]] = [
        (
            AdaptorData(bad(queries, 17, np.nan), documents, rows),
            VectorError,
            "1 of 300 queries are not finite, in rows 17",
        ),
        (AdaptorData(queries, bad(documents, 3, 0), rows), VectorError, "1 of 300 documents are zero, in rows 3"),
        (AdaptorData(queries, documents[:, :8], rows), DimensionError, "24 dimensions and documents 8"),
        (AdaptorData(queries[:0], documents, rows[:0]), VectorError, "There are no queries"),
        (AdaptorData(queries, bad(documents.astype(float), 3, np.inf), rows), VectorError, "not finite, in rows 3"),
        (AdaptorData(queries, documents[0], rows), VectorError, "not floating-point vectors"),
        (AdaptorData(queries, documents.astype(int), rows), VectorError, "not floating-point vectors"),
        (AdaptorData(queries, documents, rows + 5), AdaptorError, r"5 of 300 pairs point outside the 300 queries"),
        (
            AdaptorData(queries, documents[:200], rows),
            AdaptorError,
            r"outside the 200 documents, the first in row 200: 200",
        ),
        (AdaptorData(queries, documents, rows - 1), AdaptorError, "the first in row 0: -1"),
        (AdaptorData(queries, documents, rows[:, :1]), AdaptorError, r"int64 \[300, 1\]"),
        (AdaptorData(queries, documents, rows.astype(float)), AdaptorError, "whole numbers"),
        (AdaptorData(queries, documents, rows, scores[:9]), AdaptorError, r"\[9\] for 300 pairs"),
        (AdaptorData(queries, documents, rows, scores * 0), AdaptorError, "nothing to tell apart"),
        (AdaptorData(queries, documents, None, scores), AdaptorError, "Scores need pairs"),
        (AdaptorData(queries, documents, rows[:, [0, 1, 1]], scores), AdaptorError, "take no negatives"),
        (
            AdaptorData(queries, documents, rows[:3]),
            AdaptorError,
            "3 pairs of 3 different queries and 3 different documents are",
        ),
        (
            AdaptorData(queries, documents, rows * [0, 1]),
            AdaptorError,
            "300 pairs of 1 different queries and 300 different documents are too few",
        ),
    ]
    for data, error, message in refused:
        with pytest.raises(error, match=message):
            fit_adaptor(data, [DIM, 6])
    data = AdaptorData(queries, documents, rows)
    with pytest.raises(DimensionError):
        fit_adaptor(data, [DIM + 1])
    with pytest.raises(VectorError, match="22 rows are too few to whiten 24 dimensions"):
        few = AdaptorData(queries[:12], documents[:12])
        fit_adaptor(few, [DIM], method="whitening", settings=FitSettings(held_out_share=0.2))
    with pytest.raises(AdaptorError, match="no method 'lda'"):
        fit_adaptor(data, [DIM], method="lda")  # type: ignore[arg-type]
    with pytest.raises(AdaptorError, match="2 weights for 1 dims"):
        fit_adaptor(data, [DIM], settings=FitSettings(weights=[1.0, 2.0]))
    for name, value in (
        ("epochs", 0),
        ("epochs", float("inf")),
        ("held_out_share", 1.0),
        ("distillation", -1.0),
        ("temperature", float("nan")),
        ("evaluations", 0),
        ("patience", 0),
        ("batch_size", 0.5),
        ("hidden_width", 1.5),
        ("held_out_limit", 0),
        ("strength", 0.0),
        ("strength", 1.1),
    ):
        with pytest.raises(AdaptorError, match=name):
            FitSettings(**{name: value})


def test_a_tie_keeps_two_towers_alike() -> None:
    apart = {}
    for tie in (0.0, 10.0):
        settings = replace(QUICK, tie=tie, strength=1.0)
        towers = fit_adaptor(paired(), [DIM, 6], method="two-tower", settings=settings).towers
        apart[tie] = np.linalg.norm(towers.query.weight - towers.document.weight)
    assert 0 < apart[10.0] < 0.1 * apart[0.0]


def test_few_pairs_get_many_steps() -> None:
    steps = {}
    for n in (900, 120):
        done: list[int] = []

        @contextmanager
        def count(description: str, total: int | None, done: list[int] = done) -> Iterator[Callable[[int], None]]:
            yield done.append

        fit_adaptor(paired(n), [DIM], settings=FitSettings(epochs=3, patience=None, start="pca"), progress=count)
        steps[n] = len(done)
    assert steps == {900: 24, 120: 5}  # eight an epoch, but of 64 pairs at least


def test_what_is_not_said_follows_from_the_labels() -> None:
    pairs = paired(400)
    scored = replace(pairs, scores=np.random.default_rng(0).random(400))
    bare = replace(pairs, pairs=None)
    found = {
        name: fit_adaptor(data, [DIM], settings=FitSettings(epochs=1, strength=1.0, **given))
        for name, data, given in (
            ("pairs", pairs, {}),
            ("scores", scored, {}),
            ("none", bare, {}),
            ("said", scored, {"temperature": 0.07, "distillation": 0.0}),
        )
    }
    kept = {
        name: (one.method, *(one.settings[key] for key in ("temperature", "distillation", "pull", "epochs")))
        for name, one in found.items()
    }
    assert kept == {
        "pairs": (found["pairs"].method, 0.06, 0.0, 0.01, 1),
        "scores": ("linear", 0.2, 0.3, 0.0, 1),
        "none": ("linear", 0.05, 1.0, 0.01, 1),
        "said": ("linear", 0.07, 0.0, 0.0, 1),
    }
    assert FitSettings().resolved("pairs", "mlp", [8]).learning_rate == 0.001
    assert FitSettings(learning_rate=0.1).resolved("pairs", "mlp", [8]).learning_rate == 0.1


def test_a_state_that_loses_a_little_and_gains_much_is_kept() -> None:
    others = [candidate("raw", 0.8, 0.4), candidate("pca", 0.7, 0.5)]
    begun = merit(candidate("x", 0.8, 0.5), others)
    assert merit(candidate("x", 0.78, 0.6), others) > begun
    assert merit(candidate("x", 0.74, 0.6), others) < begun  # at its own sizes the mean is higher
    assert begun == pytest.approx(0.65)


def test_codes_too_short_to_learn_are_left_out_or_refused() -> None:
    with pytest.raises(LossInputError, match="No code of binary has 32 bytes"):
        fit_adaptor(paired(200), [DIM, 6], settings=FitSettings(precisions=("float32", "binary")))
    fitted = [
        fit_adaptor(
            paired(400),
            [DIM, 6],
            settings=FitSettings(epochs=3, strength=1.0, precisions=precisions, shortest_code=shortest),
        )
        for precisions, shortest in ((("float32",), 32), (("float32", "binary"), 3), (("float32", "binary"), 1))
    ]
    weights = [one.towers.query.weight for one in fitted]
    assert not np.allclose(weights[0], weights[1], atol=1e-6)
    assert not np.allclose(weights[1], weights[2], atol=1e-6)


def test_each_weight_stays_with_its_size() -> None:
    falling, rising = (
        fit_adaptor(paired(300), dims, settings=FitSettings(epochs=1, strength=1.0, weights=weights))
        for dims, weights in (([DIM, 6], [0.0, 1.0]), ([6, DIM], [1.0, 0.0]))
    )
    assert falling.dims == rising.dims == (DIM, 6)
    assert falling.towers.query.digest() == rising.towers.query.digest()
    swapped = fit_adaptor(
        paired(300), np.array([6, DIM]), settings=FitSettings(epochs=1, strength=1.0, weights=[0.0, 1.0])
    )
    assert swapped.towers.query.digest() != falling.towers.query.digest()


def test_what_belongs_to_a_query_is_never_mined_as_its_negative() -> None:
    queries, _ = topics(100, 0)
    near = queries[np.repeat(np.arange(100), 3)] + 0.01 * np.random.default_rng(0).normal(size=(300, DIM))
    queries = np.concatenate([queries, queries[:10]])  # copies of queries, with no pair of their own but one
    pairs = np.column_stack([np.repeat(np.arange(100), 3), np.arange(300)])
    pairs = np.concatenate([pairs, np.column_stack([np.arange(100, 110), np.arange(0, 30, 3)])])
    data = AdaptorData(queries, near.astype(np.float32), pairs)
    rows, mined = mine_negatives(data, pairs, np.arange(len(pairs)), seed=0)
    assert rows.tolist() == list(range(110))
    similarities = normalize(queries) @ normalize(near).T
    for query, documents in zip(rows, mined, strict=True):
        original = query if query < 100 else query - 100
        own = {3 * original, 3 * original + 1, 3 * original + 2}
        assert not own & set(documents.tolist())
        others = [one for one in np.argsort(-similarities[query]) if one not in own]
        assert set(documents[:5].tolist()) == set(others[:5])


def test_nothing_of_what_is_held_out_is_seen_without_labels() -> None:
    documents = topics(300, 0)[1]
    data = AdaptorData(documents[:200], np.concatenate([documents, 2 * documents[:100]]))
    train, held_out = data.split(0.2, 100, seed=0)
    groups = copies(data.documents)
    assert not set(groups[train]) & set(groups[held_out])
    queries, rest = data.unseen(held_out)
    theirs = {tuple(one) for one in normalize(data.documents[held_out]).round(4)}
    assert len(queries) < 200
    assert not theirs & {tuple(one) for one in normalize(data.queries[queries]).round(4)}
    assert not theirs & {tuple(one) for one in normalize(data.documents[rest]).round(4)}


def test_scored_pairs_share_no_text_with_those_held_out() -> None:
    texts = topics(150, 0)[0]
    generator = np.random.default_rng(0)
    pairs = generator.integers(0, 150, (200, 2))  # one list of texts on both sides
    data = AdaptorData(texts, texts, pairs, generator.random(200))
    train, held_out = data.split(0.1, 100, seed=0)
    assert len(train) > 100
    assert not set(pairs[train].ravel().tolist()) & set(pairs[held_out].ravel().tolist())


def test_few_documents_with_many_pairs_each_can_be_held_out() -> None:
    queries, documents = topics(200, 0)
    train, held_out = AdaptorData(queries, documents, np.column_stack([np.arange(200), np.arange(200) % 5])).split(
        0.1, 2000, seed=0
    )
    assert (len(train), len(held_out)) == (160, 40)
    with pytest.raises(AdaptorError, match="200 different queries and 1 different documents are too few"):
        AdaptorData(queries, documents, np.column_stack([np.arange(200), np.zeros(200, int)])).split(0.1, 2000, 0)


def test_scores_without_an_order_are_refused_or_count_as_none() -> None:
    queries, documents = topics(300, 0)
    pairs = np.column_stack([np.arange(300), np.arange(300)])
    rare = np.zeros(300)
    rare[:2] = 1.0
    with pytest.raises(AdaptorError, match="there is nothing to measure by"):
        for seed in range(20):
            fit_adaptor(AdaptorData(queries, documents, pairs, rare), [DIM], settings=FitSettings(epochs=1, seed=seed))
    adaptor = fit_adaptor(
        AdaptorData(np.abs(queries), np.abs(documents), pairs, np.linspace(0, 1, 300)),
        [DIM, 1],
        settings=FitSettings(epochs=1),
    )
    assert adaptor.held_out["raw"]["1"] == 0.0
    assert np.isfinite([score for scores in adaptor.held_out.values() for score in scores.values()]).all()


def test_documents_alone_are_enough_without_labels() -> None:
    documents = topics(400, 0)[1]
    adaptor = fit_adaptor(AdaptorData(documents[:0], documents), [DIM, 6], settings=FitSettings(epochs=2))
    assert adaptor.settings["metric"] == "MRR@10 of the nearest neighbour"
    assert adaptor.transform(documents, dim=6).shape == (400, 6)


def test_components_about_the_origin_keep_every_cosine() -> None:
    data = paired(300)
    adaptor = fit_adaptor(data, [DIM, 6], method="pca", settings=FitSettings(centered=False))
    assert adaptor.towers.query.bias is None
    mapped, unit = adaptor.transform(data.documents), normalize(data.documents)
    np.testing.assert_allclose(mapped @ mapped.T, unit @ unit.T, atol=1e-5)
    trained = fit_adaptor(data, [DIM, 6], settings=FitSettings(centered=False, epochs=1))
    assert trained.towers.query.bias is None


def test_a_preset_weighs_the_sizes() -> None:
    def weights(**settings: Any) -> list[float]:
        return list(FitSettings(**settings).resolved("pairs", "two-tower", [64, 16, 4]).weights)

    assert weights() == [1, 1, 1]
    np.testing.assert_allclose(weights(preset="small"), np.array([1, 2, 4]) * 3 / 7)
    np.testing.assert_allclose(weights(preset="full"), np.array([4, 2, 1]) * 3 / 7)
    assert weights(preset="full", weights=(1, 2, 3)) == [1, 2, 3]
    with pytest.raises(AdaptorError, match="no preset 'tiny'. Presets are small, balanced, full"):
        FitSettings(preset="tiny")  # type: ignore[arg-type]


def test_without_labels_the_rank_of_the_nearest_document_counts() -> None:
    generator = np.random.default_rng(4)
    documents = generator.normal(size=(60, DIM)).astype(np.float32)
    documents[7] = 3 * documents[30]  # a copy is searched once, and is not its own neighbour
    data = AdaptorData(documents[:0], documents)
    split = Split(np.arange(20, 60), np.arange(20))
    held_out = make_held_out(data, split, 0)
    towers = Towers(*[Map(np.linalg.qr(generator.normal(size=(DIM, DIM)))[0].astype(np.float32))] * 2)
    unit = normalize(np.delete(documents, 30, axis=0))
    mapped = towers.document.transform(unit)[:, :6]
    mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
    expected = []
    for row in range(20):
        others = [other for other in range(len(unit)) if other != row]
        nearest = max(others, key=lambda other: unit[row] @ unit[other])  # used at once
        found = sorted(others, key=lambda other: -(mapped[row] @ mapped[other]))
        rank = found.index(nearest) + 1
        expected.append(1 / rank if rank <= 10 else 0.0)
    values = held_out.measure(towers, [DIM, 6])
    assert sorted(values[6]) == pytest.approx(sorted(expected))
    assert values[DIM].min() == 1.0  # a rotation changes nothing at the full size
