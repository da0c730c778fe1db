"""An index finds what an exact scan finds, after any order of changes. Run: pytest tests/test_index_index.py (a minute)."""

from __future__ import annotations

import inspect
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nestvec import files
from nestvec.errors import (
    DamagedIndexError,
    DataError,
    DimensionError,
    FilterError,
    IndexBusyError,
    OutputExistsError,
    PrecisionError,
    SearchIndexError,
    VectorError,
)
from nestvec.index import (
    Batch,
    Candidates,
    CodeSettings,
    Explanation,
    Index,
    SearchIndex,
    SearchSettings,
    export,
    find_damage,
    tuning,
)
from nestvec.index import settings as index_settings
from nestvec.index.embedded import changing, tuning_target
from nestvec.index.embedded.manifest import Manifest
from nestvec.plan import FirstStage, Plan, SecondStage
from nestvec.quantization import BITS_PER_DIMENSION, bytes_per_vector, fit_codes, fit_quantizer
from nestvec.vectors import normalize, truncate

DIM, COUNT = 32, 3000
Float32s = NDArray[np.float32]
SAID = {"lists": None, "lists_open": True, "probes": None, "margin": None, "shortlist": 100, "recall": 0.99}


def make(count: int, seed: int = 0, dim: int = DIM) -> Float32s:
    """Vectors in clusters, whose first numbers say most, as those of a nested model."""
    centers = np.random.default_rng(99).normal(size=(40, dim))  # the same for every seed
    generator = np.random.default_rng(seed)
    near = centers[generator.integers(40, size=count)] + 0.7 * generator.normal(size=(count, dim))
    return normalize((near / np.sqrt(np.arange(1, dim + 1))).astype(np.float32))


def ids_of(count: int, prefix: str = "d") -> list[str]:
    return [f"{prefix}{place}" for place in range(count)]


def exact(vectors: Float32s, ids: list[str], queries: Float32s, k: int) -> list[list[str]]:
    """The oracle: every cosine in float64."""
    scores = normalize(queries.astype(np.float64)) @ normalize(vectors.astype(np.float64)).T
    return [[ids[place] for place in np.argsort(-row, kind="stable")[:k]] for row in scores]


def recall(found: list[list[str]], expected: list[list[str]]) -> float:
    shares = [len(set(one) & set(other)) / len(other) for one, other in zip(found, expected, strict=True)]
    return float(np.mean(shares))


class OneVector:
    """An encoder that gives every text the same vector."""

    def __init__(self, vector: Float32s) -> None:
        self.vector = vector

    def encode_queries(self, texts: Sequence[str]) -> Float32s:
        return np.tile(self.vector, (len(texts), 1))


def by_words(index: Index, vector: Float32s, text: str, k: int, **given: Any) -> Explanation:
    """A hybrid search by a vector and the words of a text."""
    index.encoder = OneVector(vector)
    return index.explain(text, k, hybrid=True, **given)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[CodeSettings, Path]:
    """Indexes by their codes, that tests read and do not change."""
    folder = tmp_path_factory.mktemp("index")
    metadata = [{"n": place, "even": place % 2 == 0, "tags": [f"t{place % 7}"]} for place in range(COUNT)]
    texts = [f"text {place} about {'cats' if place % 3 == 0 else 'dogs'}" for place in range(COUNT)]
    paths = {}
    for codes in (
        CodeSettings(DIM, "pq5"),
        CodeSettings(DIM, "pq5", lists=16),
        CodeSettings(32, "binary"),
        CodeSettings(16, "int4"),
    ):
        paths[codes] = folder / f"{codes.precision}-{codes.lists}"
        Index.build(
            paths[codes], vectors=make(COUNT), ids=ids_of(COUNT), texts=texts, metadata=metadata, codes=codes
        ).close()
    return paths


@pytest.fixture
def built(made: dict[CodeSettings, Path]) -> Path:
    """The index of codebooks without lists."""
    return made[CodeSettings(DIM, "pq5")]


@pytest.mark.parametrize("second", [*BITS_PER_DIMENSION, "pq8"])
@pytest.mark.parametrize(
    "codes",
    [
        *(CodeSettings(20, name) for name in BITS_PER_DIMENSION),
        CodeSettings(20, "pq4x8"),
        CodeSettings(DIM, "pq4"),
        CodeSettings(DIM, "pq4", lists=8),
    ],
)
def test_with_the_whole_corpus_as_shortlist_every_pair_of_stages_is_the_exact_search_of_what_is_stored(
    tmp_path: Path, codes: CodeSettings, second: str
) -> None:
    vectors, queries = make(800), make(30, seed=1)
    index = Index.build(tmp_path / "i", vectors=vectors, ids=ids_of(800), codes=codes, precision=second, recall=None)
    stored = np.concatenate([block for _, block in index.rows()]).astype(np.float64)
    quantizer = fit_quantizer(vectors, second)
    decoded = normalize(quantizer.decode(quantizer.encode(vectors)))
    kept, possible = ((one * vectors).sum(axis=1).mean() for one in (stored, decoded))
    assert kept > possible - 1e-3
    scores = normalize(queries.astype(np.float64)) @ stored.T
    hits = index.search(queries, k=10, settings=index.search_with(shortlist=800))
    best = -np.sort(-scores, axis=1)[:, :10]
    np.testing.assert_allclose(hits.scores, best, atol=2e-6)
    for row, found in enumerate(hits.ids):
        np.testing.assert_allclose([scores[row, int(id_[1:])] for id_ in found], best[row], atol=2e-6)
    assert recall(index.search(queries, k=10, settings=index.search_with(shortlist=400)).ids, hits.ids) > 0.9
    assert index.verify() == []


def test_the_tuned_search_finds_what_it_was_asked_to(built: Path) -> None:
    with Index.open(built) as index:
        queries = make(300, seed=5)
        found = index.search(queries, k=10)
        assert recall(found.ids, exact(make(COUNT), ids_of(COUNT), queries, 10)) > 0.985
        assert index.tuned is not None
        assert index.tuned["low"] >= index.tuned["needed"] == pytest.approx(1 - 0.01 / 3)  # documents stand in
        assert index.search_settings.shortlist == index.tuned["shortlist"]
        assert recall(found.ids, index.exact(queries, 10).ids) > 0.985


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"shortlist": 40},
        {"shortlist": 40, "margin": 0.02},
        {"shortlist": 60, "dim": 8},
        {"shortlist": COUNT},
        {"probes": 2, "shortlist": 300},
        {"probe_ratio": 0.9, "shortlist": 300, "margin": 0.05},
        {"probes": 1, "shortlist": 5},
        {"probes": 1, "shortlist": 700, "k": 100},  # more than a list holds
        {"probes": 3, "shortlist": 700, "margin": 0.1, "k": 100},
        {"probe_ratio": 1.0, "complete": False, "shortlist": 700, "k": 100},
        {"shortlist": np.int64(40), "k": np.int64(30)},
        {"shortlist": 5, "k": 8},
        {"middle": (8, 20), "shortlist": 60},
    ],
)
@pytest.mark.parametrize("lists", [None, 64])
def test_a_batch_and_single_queries_and_threads_find_the_same(
    tmp_path: Path, lists: int | None, told: dict[str, Any]
) -> None:
    vectors, queries, told = make(COUNT), make(20, seed=3), dict(told)
    k, complete = told.pop("k", 5), told.pop("complete", True)
    with Index.build(
        tmp_path / "i", vectors=vectors, codes=CodeSettings(DIM, "pq5", lists=lists), recall=None
    ) as index:
        settings = index.search_with(**told, complete=complete)

        def search(some: Float32s, threads: int) -> Candidates:
            return index.candidates(some, k, replace(settings, threads=threads))

        together, ties = search(queries, 1), 0
        np.testing.assert_array_equal(search(queries, 2).rows, together.rows)
        for place, query in enumerate(queries):
            alone = search(query, 1)
            there = alone.rows[0] >= 0
            if lists is not None and set(alone.rows[0][there]) != set(together.rows[place][together.rows[place] >= 0]):
                ties += 1  # of the codes at the end of the shortlist, of which either may be left out
                continue
            np.testing.assert_array_equal(alone.rows[0][there], together.rows[place][together.rows[place] >= 0])
            for one, other in zip(alone[2:4], together[2:4], strict=True):
                np.testing.assert_allclose(one[0, there], other[place, : there.sum()], atol=1e-6)
        assert ties <= 3
        if complete:
            details = [index.explain(query, k, settings=settings).hits for query in queries]
            hits = index.search(queries, k, settings=settings)
            differing = [one for one, other in zip(details, hits.ids, strict=True) if [hit.id for hit in one] != other]
            assert len(differing) <= (0 if lists is None else 3)
            assert all(len(ids) == k for ids in hits.ids)


@pytest.mark.parametrize(
    ("condition", "meets"),
    [
        ("even = true", lambda n: n % 2 == 0),
        ("n < 40", lambda n: n < 40),
        ("n < 5", lambda n: n < 5),
        ('tags = "t3" and n >= 1000', lambda n: n % 7 == 3 and n >= 1000),
        ("not n < 2990", lambda n: n >= 2990),
        ("n > 5000", lambda _: False),
    ],
)
@pytest.mark.parametrize(
    "codes",
    [
        CodeSettings(DIM, "pq5"),
        CodeSettings(DIM, "pq5", lists=16),
        CodeSettings(32, "binary"),
        CodeSettings(16, "int4"),
    ],
    ids=str,
)
def test_filters_keep_recall(made: dict[CodeSettings, Path], codes: CodeSettings, condition: str, meets: Any) -> None:
    kept = [place for place in range(COUNT) if meets(place)]
    queries = make(100, seed=6)
    with Index.open(made[codes]) as index:
        found = index.search(queries, k=10, filter=condition)
        if not kept:
            assert found.ids == [[]] * 100
            assert np.isnan(found.scores).all()
            return
        expected = exact(make(COUNT)[kept], [f"d{place}" for place in kept], queries, 10)
        assert {int(id_[1:]) for ids in found.ids for id_ in ids} <= set(kept)
        assert recall(found.ids, expected) > 0.985
        assert [len(ids) for ids in found.ids] == [min(10, len(kept))] * 100


def test_a_filter_whose_documents_are_far_from_the_query_is_answered_whole(tmp_path: Path) -> None:
    vectors = make(4000)
    far = (vectors @ vectors[0]).argsort()[:600]  # 15%: too many to score all, none in a shortlist of all
    marked = set(far.tolist())
    index = Index.build(
        tmp_path / "i",
        vectors=vectors,
        ids=ids_of(4000),
        metadata=[{"far": place in marked} for place in range(4000)],
        codes=CodeSettings(DIM, "pq3", lists=16),
        recall=0.9,
    )
    found = index.search(vectors[:1], k=10, filter="far = true")
    kept = sorted(marked)
    expected = exact(vectors[kept], [f"d{place}" for place in kept], vectors[:1], 10)
    assert recall(found.ids, expected) >= 0.9


class Model:
    """What an index should hold, in a dictionary."""

    def __init__(self) -> None:
        self.documents: dict[str, tuple[Float32s, str | None, dict[str, Any] | None]] = {}

    def put(self, vectors: Float32s, ids: list[str], texts: list[str], metadata: list[dict[str, Any]]) -> None:
        for row in zip(ids, vectors, texts, metadata, strict=True):
            self.documents[row[0]] = row[1:]


@pytest.mark.parametrize(
    ("seed", "precision", "codes"),
    [
        (0, "float16", None),
        (1, "int8", None),
        (2, "float32", CodeSettings(DIM, "pq4")),
        (3, "float16", CodeSettings(DIM, "pq4", lists=8)),
        (4, "int8", CodeSettings(DIM, "pq5", lists=8)),
        (5, "float16", CodeSettings(32, "binary")),
        (6, "int4", CodeSettings(20, "int4")),
        (7, "binary", CodeSettings(32, "binary")),
    ],
)
def test_after_any_order_of_changes_an_index_holds_what_it_should(
    tmp_path: Path, seed: int, precision: str, codes: CodeSettings | None
) -> None:
    enough = {"float32": 0.995, "float16": 0.995, "int8": 0.95, "int4": 0.75, "binary": 0.3}[precision]
    generator = np.random.default_rng(seed)
    model = Model()

    def fresh(count: int, names: list[str]) -> tuple[Float32s, list[str], list[str], list[dict[str, Any]]]:
        vectors = make(count, seed=int(generator.integers(1e9)))
        return vectors, names, [f"about {name}" for name in names], [{"size": len(name)} for name in names]

    first = fresh(300, ids_of(300))
    model.put(*first)
    index = Index.build(
        tmp_path / "i",
        vectors=first[0],
        ids=first[1],
        texts=first[2],
        metadata=first[3],
        precision=precision,
        codes=codes,
        recall=0.9,
    )
    other = Index.open(tmp_path / "i")  # a reader that never reopens
    made = 300
    for _ in range(25):
        kind = generator.choice(["add", "upsert", "delete", "compact"], p=[0.4, 0.3, 0.25, 0.05])
        count = int(generator.choice([1, 3, 40, 400]))
        known = sorted(model.documents)
        if kind == "add":
            rows = fresh(count, [f"n{made + place}" for place in range(count)])
            made += count
            index.add(*rows)
            model.put(*rows)
        elif kind == "upsert":
            names = sorted({*generator.choice(known, min(count, len(known)), replace=False).tolist(), f"n{made}"})
            made += 1
            rows = fresh(len(names), names)
            assert index.upsert(*rows) == len(set(names) & set(known))
            model.put(*rows)
        elif kind == "delete":
            names = generator.choice(known, min(count, len(known) - 20), replace=False).tolist()
            assert index.delete([*names, "no such document"]) == len(names)
            for name in names:
                del model.documents[name]
        else:
            index.compact()
        assert len(index) == len(other) == len(model.documents)
    names = sorted(model.documents)
    held = np.stack([model.documents[name][0] for name in names])
    queries = make(50, seed=7)
    assert index.verify() == []
    for one in (index, other, Index.open(tmp_path / "i")):
        found = one.search(queries, k=10, settings=one.search_with(shortlist=len(names)))
        assert recall(found.ids, exact(held, names, queries, 10)) > enough
        assert recall(found.ids, one.exact(queries, 10).ids) > 0.995
        read = one.get(names)
        assert {name: (read[name].text, read[name].metadata) for name in names} == {
            name: model.documents[name][1:] for name in names
        }
        filtered = one.search(queries, k=10, filter="size <= 3", settings=one.search_with(shortlist=len(names)))
        small = [name for name in names if len(name) <= 3]
        rows = [names.index(name) for name in small]
        assert all(bool(ids) == bool(small) for ids in filtered.ids)
        if small:
            assert recall(filtered.ids, exact(held[rows], small, queries, 10)) > min(enough, 0.95)
    assert index.stats().segments <= 12
    index.compact()
    assert index.stats().deleted == 0
    assert index.stats().segments == 1
    found = other.search(queries, k=10, settings=other.search_with(shortlist=len(names)))
    assert recall(found.ids, exact(held, names, queries, 10)) > min(enough, 0.95)
    words = by_words(index, queries[0], names[0], 5).hits
    assert names[0] in [hit.id for hit in words]


def test_an_index_that_lost_all_documents_finds_none_and_takes_new_ones(tmp_path: Path) -> None:
    vectors = make(30)
    index = Index.build(tmp_path / "i", vectors=vectors, ids=ids_of(30), recall=None)
    index.delete(ids_of(30))
    assert len(index) == 0
    assert index.search(vectors[:2], k=3).ids == [[], []]
    assert index.exact(vectors[:2], k=3).ids == [[], []]
    index.compact()
    assert index.search(vectors[:2], k=3).ids == [[], []]
    index.add(vectors[:5], ids_of(5))
    assert index.search(vectors[:1], k=3).ids[0][0] == "d0"
    assert index.verify() == []


def test_k_beyond_the_corpus_returns_all(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=make(5), recall=None)
    hits = index.search(make(2, seed=1), k=8)
    assert [len(ids) for ids in hits.ids] == [5, 5]
    assert hits.scores.shape == (2, 5)
    for absurd in (10**6, 10**30):
        assert index.search(make(2, seed=1), k=absurd).ids == hits.ids
        assert index.exact(make(2, seed=1), k=absurd).scores.shape == (2, 5)
        assert [hit.id for hit in index.explain(make(1, seed=1)[0], absurd).hits] == hits.ids[0][:5]
    for wrong in (0, -1, 1.5, True, "3"):
        with pytest.raises(VectorError, match="k is a whole number of 1 or more"):
            index.search(make(1), k=wrong)  # type: ignore[arg-type]
    assert sorted(hits.ids[0]) == ["0", "1", "2", "3", "4"]


def test_what_was_built_whole_is_served_at_fewer_numbers(built: Path, tmp_path: Path) -> None:
    vectors, queries = make(COUNT), make(100, seed=8)
    expected = exact(truncate(vectors, 12), ids_of(COUNT), truncate(queries, 12), 10)
    with Index.open(built) as index:
        assert (
            recall(index.search(queries, k=10, settings=index.search_with(shortlist=500, dim=12)).ids, expected) > 0.98
        )
        assert recall(index.exact(queries, 10, dim=12).ids, expected) > 0.99
    cut = Index.build(tmp_path / "cut", vectors=vectors, ids=ids_of(COUNT))
    before = cut.stats()
    cut.compact(dim=12)
    assert recall(cut.search(queries, k=10, settings=cut.search_with(shortlist=200)).ids, expected) > 0.98
    assert cut.stats().vector_bytes_per_vector < 0.6 * before.vector_bytes_per_vector
    assert cut.settings.full_dim == DIM  # queries and documents still come whole
    cut.add(make(3, seed=9), ["x", "y", "z"])
    assert cut.search(make(3, seed=9), k=1).ids == [["x"], ["y"], ["z"]]
    assert cut.verify() == []


def test_an_index_that_is_cut_fits_its_codes_and_searches_to_what_is_left(tmp_path: Path) -> None:
    vectors, queries = make(COUNT), make(50, seed=8)
    index = Index.build(tmp_path / "i", vectors=vectors, ids=ids_of(COUNT), codes=CodeSettings(DIM, "pq4"))
    index.set_search(SearchSettings(300, dim=16, middle=(24, 100)))
    index.compact(dim=13)
    assert index.codes == CodeSettings(13, "pq4")
    assert index.search_settings == SearchSettings(300, dim=None, middle=(13, 100))
    assert index.tuned is None
    expected = exact(truncate(vectors, 13), ids_of(COUNT), truncate(queries, 13), 10)
    assert recall(index.search(queries, k=10).ids, expected) > 0.95


@pytest.mark.parametrize("dim", [None, 20])
@pytest.mark.parametrize("lists", [None, 16])
def test_an_index_that_shrinks_below_what_codes_are_learned_from_is_compacted(
    tmp_path: Path, lists: int | None, dim: int | None
) -> None:
    vectors = make(200)
    index = Index.build(
        tmp_path / "i", vectors=vectors, ids=ids_of(200), codes=CodeSettings(DIM, "pq4", lists=lists), recall=None
    )
    index.delete(ids_of(200)[7:])
    index.compact(dim=dim)
    assert index.verify() == []
    assert [line[0] for line in index.search(vectors[:7], k=3).ids] == ids_of(7)
    index.add(vectors[7:], ids_of(200)[7:])
    assert [line[0] for line in index.search(vectors, k=3).ids] == ids_of(200)
    with pytest.raises(SearchIndexError, match="16 vectors at least, and there are 12"):
        Index.build(tmp_path / "j", vectors=vectors[:12], codes=CodeSettings(DIM, "pq4"), recall=None)


@pytest.mark.parametrize("count", [1, 2, 11, 12])
def test_a_few_documents_are_an_index_too(tmp_path: Path, count: int) -> None:
    vectors = make(count)
    with Index.build(tmp_path / "i", vectors=vectors) as index:
        assert [line[0] for line in index.search(vectors).ids] == [str(row) for row in range(count)]


@pytest.mark.parametrize(
    "wrong",
    [{"recall": 1.5}, {"queries": make(3, dim=5)}, {"queries": np.full((1, DIM), np.nan, np.float32)}],
)
def test_what_cannot_be_tuned_is_not_built(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises((SearchIndexError, VectorError)):
        Index.build(tmp_path / "i", vectors=make(50), **wrong)
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_is_built_anew_is_seen_by_those_who_have_it_open(tmp_path: Path) -> None:
    path = tmp_path / "i"
    old = Index.build(path, vectors=make(100), ids=ids_of(100, "old"), metadata=[{"a": 1}] * 100, recall=None)
    assert len(old.search(make(1), filter="a = 1").ids[0]) == 10
    Index.build(
        path, vectors=make(60, seed=1), ids=ids_of(60, "new"), metadata=[{"a": 1}] * 60, recall=None, overwrite=True
    )
    for condition in (None, "a = 1"):
        assert all(name.startswith("new") for name in old.search(make(1), k=100, filter=condition).ids[0])
    old.add(make(5, seed=2), ids_of(5, "more"))
    with Index.open(path) as again:
        assert len(again) == len(old) == 65
        assert again.verify() == []


def test_what_a_killed_build_left_is_removed_and_what_it_moved_aside_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "i"
    Index.build(path, vectors=make(20), recall=None).close()
    path.rename(tmp_path / ".i.replaced-01234567")  # killed between the two renames
    (tmp_path / ".i.partial-01234567").mkdir()
    (tmp_path / ".j.partial-01234567").mkdir()  # of another index
    with pytest.raises(OutputExistsError):
        Index.build(path, vectors=make(20), recall=None)
    assert {one.name for one in tmp_path.iterdir()} == {"i", ".j.partial-01234567"}
    with Index.open(path) as index:
        assert len(index) == 20


def test_searches_of_an_empty_index_answer_every_query(tmp_path: Path) -> None:
    for name, codes in (("a", CodeSettings(DIM, "int8")), ("b", CodeSettings(16, "binary"))):
        index = Index.build(tmp_path / name, vectors=make(20), codes=codes, recall=None)
        index.delete([str(row) for row in range(20)])
        index.compact()
        index.set_search(SearchSettings(None if name == "b" else 10))
        assert index.search(make(3)).ids == [[], [], []]


def test_an_export_replaces_nothing_but_an_export(tmp_path: Path) -> None:
    path = tmp_path / "i"
    index = Index.build(path, vectors=make(30), recall=None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for out in (path, tmp_path, tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(OutputExistsError, match="more than an export"):
            export(index, out, "numpy", overwrite=True)
    assert index.verify() == []
    for kind in ("numpy", "beir"):
        export(index, tmp_path / "out", kind, overwrite=True)  # type: ignore[arg-type]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"corpus.jsonl", "documents.npy"}


def test_all_rows_are_those_of_one_moment(tmp_path: Path) -> None:
    vectors = make(100)
    index = Index.build(tmp_path / "i", vectors=vectors, ids=ids_of(100), texts=["old"] * 100, recall=None)
    rows = index.rows()
    index.upsert(make(50, seed=1), ids_of(50), ["new"] * 50)
    index.delete(["d60"])
    index.compact()
    assert len(rows) == 100
    ((documents, found),) = list(rows)
    assert {one.text for one in documents} == {"old"}
    np.testing.assert_allclose(found, vectors, atol=1e-3)


def test_filters_and_checks_see_one_state_while_another_process_writes(tmp_path: Path) -> None:
    path, count = tmp_path / "i", 40
    vectors = make(count)
    texts = ["word", *[None] * (count - 1)]
    Index.build(path, vectors=vectors, ids=ids_of(count), texts=texts, metadata=[{"a": 1}] * count, recall=None).close()
    script = (
        "import sys, numpy as np\n"
        "from nestvec.index import Index\n"
        f"index, vectors = Index.open({str(path)!r}), np.load({str(tmp_path / 'v.npy')!r})\n"
        "print('ready', flush=True)\n"
        "for turn in range(10**6):\n"
        "    row = turn % len(vectors)\n"
        "    index.upsert(vectors[row:row + 1], [f'd{row}'], [None if row else 'word'], [{'a': 1}])\n"
        "    if turn % 7 == 0: index.compact()\n"
    )  # d0 has the only text
    np.save(tmp_path / "v.npy", vectors)
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        with Index.open(path) as index:
            before = index._current().version
            for _ in range(60):
                assert len(index.search(vectors[0], count + 1, "a = 1").ids[0]) == count
                (hit, *_) = by_words(index, vectors[0], "word", count + 1).hits
                assert (hit.id, hit.details.words_rank, hit.details.cosine is None) == ("d0", 1, False)
                assert index.verify() == []
            assert index._current().version != before
    finally:
        writer.kill()
        writer.communicate()


def test_readers_in_several_processes_see_a_commit_without_opening_the_index_again(tmp_path: Path) -> None:
    path, vectors = tmp_path / "i", make(300)
    np.save(tmp_path / "v.npy", vectors[-1])
    script = (
        "import numpy as np\n"
        "from nestvec.index import Index\n"
        f"index, vector = Index.open({str(path)!r}), np.load({str(tmp_path / 'v.npy')!r})\n"
        "assert index.search(vector, k=1).ids[0] != ['new']\n"
        "print('ready', flush=True)\n"
        "while index.search(vector, k=1).ids[0] != ['new']: pass\n"
        "print(len(index), flush=True)\n"
    )
    with Index.build(path, vectors=vectors[:-1], recall=None) as index:
        readers = [
            subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)
        ]
        try:
            assert [one.stdout.readline() for one in readers if one.stdout] == ["ready\n"] * 3
            index.add(vectors[-1:], ["new"])
            assert [one.communicate()[0] for one in readers] == ["300\n"] * 3
        finally:
            for one in readers:
                one.kill()


@pytest.mark.parametrize("end", ["codec", "first", "second"])
def test_a_damaged_codec_is_found(tmp_path: Path, end: str) -> None:
    path = tmp_path / "i"
    codes = CodeSettings(DIM, "int8") if end == "first" else CodeSettings(DIM, "pq4")
    with Index.build(path, vectors=make(300), codes=codes, precision="int8", recall=None) as index:
        (file,) = path.glob(f"*.{end}")
        written = bytearray(file.read_bytes())
        written[-5] ^= 1
        file.write_bytes(written)
        (problem,) = index.verify()
        assert file.name in problem
        with pytest.raises(SearchIndexError, match=f"{file.name} does not hold what was written"):
            Index.open(path)


def test_documents_without_words_are_not_the_same_for_that(tmp_path: Path) -> None:
    vectors = make(50)
    index = Index.build(tmp_path / "i", vectors=vectors, ids=ids_of(50), texts=[""] * 50, recall=None)
    assert len(index.search(vectors[0], k=30, distinct=True).ids[0]) == 30


def test_fewer_numbers_are_compared_with_a_longer_shortlist(built: Path) -> None:
    with Index.open(built) as index:
        usual = index.search_settings.shortlist
        assert usual is not None
        assert index.search_with(dim=8).shortlist == 4 * usual
        assert index.search_with(dim=8, shortlist=7).shortlist == 7
        assert index.search_with(dim=DIM).shortlist == usual


def test_a_search_that_was_tuned_is_tuned_anew_for_other_codes(tmp_path: Path) -> None:
    vectors, queries = make(COUNT), make(300, seed=8)
    index = Index.build(tmp_path / "i", vectors=vectors, recall=0.9)
    before = index.tuned
    assert before is not None
    index.compact(dim=16)
    after = index.tuned
    assert after is not None
    assert (after["target"], after["k"]) == (0.9, 10)
    assert after["shortlist"] != before["shortlist"]
    assert index.search_settings.shortlist == after["shortlist"]
    found, exact_ones = index.search(queries).ids, index.exact(queries).ids
    assert recall(found, exact_ones) > 0.88


@pytest.mark.parametrize("lists", [None, 8])
def test_a_margin_leaves_out_what_codes_say_is_too_far(tmp_path: Path, lists: int | None) -> None:
    vectors, queries = make(COUNT), make(70, seed=4)
    index = Index.build(
        tmp_path / "i", vectors=vectors, ids=ids_of(COUNT), codes=CodeSettings(DIM, "pq5", lists=lists), recall=None
    )
    for step in range(4):  # one segment, then with deleted documents, then with another one, then with a small one
        if step == 1:
            index.delete(ids_of(COUNT)[::9])
        if step == 2:
            index.add(make(700, seed=5), ids_of(700, "n"))
        if step == 3:
            index.add(make(40, seed=6), ids_of(40, "s"))  # all of which are compared in full
        state = index._current()
        assert len(state.segments) == (1, 1, 2, 3)[step]
        whole = index.candidates(queries, 600, SearchSettings(600))
        names = [np.array(line) for line in state.ids(whole)]
        for margin, k in ((0.0, 10), (0.05, 10), (0.2, 10), (9.0, 10), (0.05, 1)):
            hits = index.search(queries, k=k, settings=index.search_with(shortlist=200, margin=margin))
            few = []
            for query in range(len(queries)):
                said, ranks = whole.prefix_scores[query], whole.shortlist_ranks[query]
                near = ~(said < np.sort(said[~np.isnan(said)])[-k] - np.float32(margin)) & (ranks <= 200)
                few.append(near.sum() - np.isnan(said).sum())
                assert hits.ids[query] == names[query][near][:k].tolist()  # candidates come in the order of the rerank
                assert index.search(
                    queries[query], k=k, settings=index.search_with(shortlist=200, margin=margin)
                ).ids == [hits.ids[query]]
            assert (np.mean(few) < 20) == (margin == 0 or k == 1)
            assert (np.mean(few) > 199) == (margin == 9)
        everything = index.search(queries, k=10, settings=index.search_with(shortlist=200))
        assert index.search(queries, k=10, settings=index.search_with(shortlist=200, margin=9.0)).ids == everything.ids
        assert index.search(queries, k=10, settings=index.search_with(shortlist=200, margin=0.0)).ids != everything.ids


def test_what_is_told_is_not_cut_short_by_what_was_tuned(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=make(500), codes=CodeSettings(DIM, "pq3", lists=8), recall=None)
    index.set_search(SearchSettings(100, margin=0.1, probe_ratio=0.5))
    assert Index.open(tmp_path / "i").search_settings == SearchSettings(100, margin=0.1, probe_ratio=0.5)
    assert index.search_with(shortlist=50) == SearchSettings(50, probe_ratio=0.5)
    assert index.search_with(shortlist=50, margin=0.2) == SearchSettings(50, margin=0.2, probe_ratio=0.5)
    assert index.search_with(probes=3) == SearchSettings(100, margin=0.1, probes=3)
    assert index.search_with(probes=3, probe_ratio=0.6) == SearchSettings(100, margin=0.1, probes=3, probe_ratio=0.6)
    assert index.search_with(dim=16) == SearchSettings(200, probe_ratio=0.5, dim=16)
    assert index.search_with() == index.search_settings


def test_where_there_are_lists_documents_stand_in_for_queries_that_lie_between_them(tmp_path: Path) -> None:
    vectors = make(4000)
    index = Index.build(tmp_path / "i", vectors=vectors, codes=CodeSettings(DIM, "pq5", lists=32), recall=0.95)
    assert index.tuned is not None
    assert index.tuned["measured_on"] == "documents"
    drawn = make(900, seed=21).reshape(3, 300, DIM)
    queries = normalize(drawn.sum(axis=0))  # with neighbours in many lists, as documents are not
    assert recall(index.search(queries).ids, index.exact(queries).ids) > 0.93
    alone = index.tune(recall=0.95, queries=vectors[:300])
    assert alone.reached
    assert recall(index.search(queries).ids, index.exact(queries).ids) < 0.93
    index.delete([str(row) for row in range(3998)])
    with pytest.raises(SearchIndexError, match="no queries"):  # two documents: nothing lies between three
        index.tune(recall=0.95, k=1)


@pytest.mark.parametrize("lists", [None, 16])
@pytest.mark.parametrize("more", [0, 300])
def test_a_trial_finds_as_much_as_a_search_with_its_settings(tmp_path: Path, lists: int | None, more: int) -> None:
    index = Index.build(
        tmp_path / "i", vectors=make(1500), ids=ids_of(1500), codes=CodeSettings(DIM, "pq3", lists=lists), recall=None
    )
    if more:
        index.add(make(more, seed=3), ids_of(more, "n"))  # fewer than the longest shortlist that is tried
        index.delete(ids_of(5))
    queries = make(200, seed=11)
    expected = index.exact(queries).ids
    for trial in index.tune(recall=0.9, queries=queries).trials:
        assert trial.shortlist < len(index)
        index.set_search(SearchSettings(trial.shortlist, margin=trial.margin, probe_ratio=trial.probe_ratio))
        found = recall(index.search(queries).ids, expected)
        # A search makes up for lists that hold too little.
        assert trial.recall - 0.01 <= found
        assert trial.probes in (1, 2) or found <= trial.recall + 0.01


@pytest.mark.parametrize("copies", [3, 120])  # of fewer and of more than tuning looks at beyond the best
def test_of_equally_near_documents_any_counts_as_found(tmp_path: Path, copies: int) -> None:
    generator = np.random.default_rng(1)
    vectors = np.repeat(make(3600 // copies, seed=4), copies, axis=0)[generator.permutation(3600)]
    index = Index.build(tmp_path / "i", vectors=vectors, codes=CodeSettings(DIM, "pq5"), recall=None)
    for queries in (None, make(150, seed=12)):
        tuned = index.tune(recall=0.98, k=2, queries=queries)
        assert tuned.reached
        asked = vectors[:150] if queries is None else queries
        exact = index.exact(asked, 2 + (queries is None)).scores[:, -1:]
        shares = (index.search(asked, k=2 + (queries is None)).scores >= exact - 1e-5).mean()
        assert shares > 0.97
        assert tuned.best.shortlist < 1000


def test_a_compaction_that_ends_before_it_has_tuned_says_so_and_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.build(tmp_path / "i", vectors=make(3000), recall=0.95)
    assert index.tuned is not None
    assert "stale" not in index.tuned
    with monkeypatch.context() as patched:
        patched.setattr(tuning_target, "tune", ended := Ended(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            index.compact(dim=16)
        assert index.tuned["stale"]
        patched.setattr(tuning_target, "tune", Ended(IndexBusyError))
        with pytest.raises(IndexBusyError, match="is compacted, but"):
            index.compact()
    assert ended.asked == {"recall": 0.95, "k": 10}
    assert index.tuned["stale"]
    index.compact()
    assert "stale" not in index.tuned
    assert index.tuned["target"] == 0.95


class Ended:
    """In place of tuning."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __call__(self, index: Index, *, recall: float, k: int, **_: Any) -> None:
        self.asked = {"recall": recall, "k": k}
        raise self.error


def test_an_index_with_fewer_documents_than_its_tuning_found_is_compacted(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=make(100), ids=ids_of(100), recall=None)
    index.tune(k=50)
    index.delete(ids_of(60))
    index.compact()
    assert len(index) == 40
    assert index.tuned is not None
    assert index.tuned["stale"]
    assert index.search_settings.margin is None
    assert index.search(make(1), k=50).ids[0][:1] == index.exact(make(1), 1).ids[0]


def test_documents_stay_in_the_order_that_they_were_written_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = np.eye(1, DIM, dtype=np.float32)  # whose products are exact
    monkeypatch.setattr(changing, "_MERGED_AT_MOST", 60)
    index = Index.build(tmp_path / "i", vectors=np.repeat(same, 200, axis=0), ids=ids_of(200, "a"), recall=None)
    for prefix, count in (("b", 10), ("c", 100), ("d", 5), ("e", 3)):  # c has more rows than are put together
        index.add(np.repeat(same, count, axis=0), ids_of(count, prefix))
    assert index.stats().segments > 2
    written = [*ids_of(200, "a"), *ids_of(10, "b"), *ids_of(100, "c"), *ids_of(5, "d"), *ids_of(3, "e")]
    assert [one.id for block, _ in index.rows() for one in block] == written
    assert index.search(same, k=318).ids == [written]


def test_of_settings_that_take_hardly_longer_the_simplest_is_chosen() -> None:
    def trial(mean_ms: float, shortlist: int = 50, margin: float | None = None) -> tuning.Trial:
        return tuning.Trial(shortlist, margin, None, None, 0.99, 0.99, mean_ms)

    plain, longer, slower = trial(1.02), trial(1.0, 100, 0.1), trial(1.5, 40)
    assert tuning._fastest([longer, plain, slower]) == plain
    assert tuning._fastest([trial(1.1), longer, slower]) == longer
    assert tuning._fastest([longer, trial(1.01, 80, 0.2)]).shortlist == 80


def test_no_shortlist_is_longer_than_those_that_were_measured(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=make(300), codes=CodeSettings(DIM, "pq1"), recall=None)
    tuned = index.tune(recall=0.95)
    assert tuned.best.shortlist < 300
    assert all(trial.shortlist < 300 for trial in tuned.trials)
    near = tuning._Neighbours(np.full((400, 10), 150.0), np.full((400, 10), 0.1))  # all of them far down
    assert [shortlist for shortlist, _ in near.shortest(0.9, 299)] == [150, 150, 225, 299]


def test_a_query_of_any_length_is_the_same_query(tmp_path: Path) -> None:
    with Index.build(tmp_path / "i", vectors=make(500), recall=None) as index:
        query = make(1, seed=1)
        for scale in (1e-18, 1.0, 1e20):  # whose squares leave the range of float32
            assert index.search(np.float32(scale) * query).ids == index.search(query).ids


def test_no_queries_have_no_hits(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=make(500), codes=CodeSettings(DIM, "pq3", lists=8), recall=None)
    for given in ({}, {"margin": 0.1}, {"probe_ratio": 0.5}, {"margin": 0.1, "probe_ratio": 0.5, "middle": (4, 9)}):
        hits = index.search(np.empty((0, DIM), np.float32), settings=index.search_with(shortlist=50, **given))
        assert (hits.ids, hits.scores.shape) == ([], (0, 10))
    index.delete(["7"])
    assert index.search(np.empty((0, DIM), np.float32), settings=index.search_with(probe_ratio=0.5)).ids == []


def test_a_middle_stage_hands_over_what_it_is_told_to(built: Path) -> None:
    queries = make(50, seed=10)
    with Index.open(built) as index:
        whole = index.search(queries, k=10, settings=index.search_with(shortlist=300))
        funnel = index.search(queries, k=10, settings=index.search_with(shortlist=300, middle=(16, 60)))
        assert 0.9 < recall(funnel.ids, whole.ids) <= 1
        assert index.search(queries, k=10, settings=index.search_with(shortlist=300, middle=(DIM, 10))).ids == whole.ids
        # Ten are left by their first four numbers alone: these are not the best ten.
        assert (
            recall(
                index.search(queries, k=10, settings=index.search_with(shortlist=300, middle=(4, 10))).ids, whole.ids
            )
            < 0.9
        )


@pytest.mark.parametrize("lists", [None, 16])
def test_an_index_whose_codes_were_called_product_is_read_and_changed(tmp_path: Path, lists: int | None) -> None:
    vectors, queries = make(600), make(30, seed=3)
    codes = CodeSettings(DIM, "pq5", lists)
    index = Index.build(tmp_path / "i", vectors=vectors, ids=ids_of(600), codes=codes, recall=None)
    expected = index.search(queries).ids
    quantizer = index._current().codec.first.quantizer
    index.close()
    # As an earlier version wrote it: 30 components in place of a name, and the quantizer in the codes alone.
    connection = sqlite3.connect(tmp_path / "i" / "manifest.sqlite")
    known = dict(connection.execute("SELECT name, value FROM settings"))
    codec, settings = json.loads(known["codec"]), json.loads(known["settings"])
    codec["codes"] = settings[3] = [30, "product", lists]
    (tmp_path / "i" / f"{codec['name']}.first").unlink()
    del codec["files"][f"{codec['name']}.first"]
    for name, value in (("codec", codec), ("settings", settings[:4])):
        connection.execute("UPDATE settings SET value = ? WHERE name = ?", (json.dumps(value), name))
    connection.commit()
    connection.close()
    with Index.open(tmp_path / "i") as older:
        assert older.codes == codes
        read = older._current().codec.first.quantizer
        np.testing.assert_array_equal(read.components, quantizer.components)
        np.testing.assert_array_equal(read.centroids, quantizer.centroids)
        assert older.search(queries).ids == expected
        older.add(make(5, seed=4), ids_of(5, "n"))
        assert [line[0] for line in older.search(make(5, seed=4), k=1).ids] == ids_of(5, "n")
        older.compact()
        assert older.codes == codes
        assert older.verify() == []


@pytest.mark.parametrize("precision", ["pq4", "pq8x8", "binary", "int4", "float16"])
def test_codes_that_are_all_there_is_stay_as_they_are_through_changes(tmp_path: Path, precision: str) -> None:
    plan = Plan(model="m", full_dim=DIM, first_stage=FirstStage(dim=24, precision=precision))
    vectors, queries = make(900), make(40, seed=2)
    index = Index.build(tmp_path / "i", vectors=vectors[:600], ids=ids_of(600), plan=plan, recall=None)
    quantizer = index._current().codec.first.quantizer
    assert not list((tmp_path / "i").glob("*.second"))
    index.add(vectors[600:], ids_of(900)[600:])
    index.delete(ids_of(900)[::3])
    index.compact()
    kept = [row for row in range(900) if row % 3]
    codes = np.concatenate([one.second.codes for one in index._current().segments])
    given = quantizer.encode(truncate(vectors[kept], 24))  # before they were drafted as float16
    assert (codes == given).mean() > 0.99
    best = -np.sort(-quantizer.score(truncate(queries, 24), codes), axis=1)[:, :10]
    hits = index.search(queries, settings=index.search_with(shortlist=600))
    np.testing.assert_allclose(hits.scores, best, atol=2e-6)
    tables = index._current().codec.first.table_bytes / 600
    assert index.stats().vector_bytes_per_vector < 2 * bytes_per_vector(24, precision) + 4 + tables + 4
    assert index.verify() == []
    index.compact(dim=12)
    assert index.settings.stored_dim == index.codes.dim == 12
    assert (
        recall(
            index.search(queries).ids,
            exact(truncate(vectors[kept], 12), [f"d{row}" for row in kept], truncate(queries, 12), 10),
        )
        > 0.3
    )


def test_a_plan_of_more_documents_has_lists_and_says_what_tuning_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_settings, "_MOST_TO_SCAN", 2000)
    plan = Plan(
        model="m",
        full_dim=DIM,
        first_stage=FirstStage(dim=DIM, precision="pq5"),
        second_stage=SecondStage(precision="int8", shortlist=300),
        recall=0.95,
    )
    index = Index.build(tmp_path / "i", vectors=make(COUNT), ids=ids_of(COUNT), plan=plan)
    assert index.codes == CodeSettings(DIM, "pq5", 256)
    assert index.search_settings.shortlist == 300
    assert index.tuned is not None
    assert index.tuned["plan"] == {**SAID, "shortlist": 300, "recall": 0.95}
    queries = make(200, seed=9)
    whole = index.search(queries, settings=SearchSettings(300)).ids
    assert recall(index.search(queries).ids, whole) > 0.93
    told = plan.model_copy(update={"first_stage": FirstStage(dim=DIM, precision="pq5", lists=16, probes=3)})
    again = Index.build(tmp_path / "j", vectors=make(COUNT), plan=told)
    assert again.codes.lists == 16
    assert again.tuned is not None
    assert again.tuned["plan"] == {**SAID, "lists": 16, "probes": 3, "shortlist": 300, "recall": 0.95}


def test_codebooks_may_be_learned_from_other_vectors(tmp_path: Path) -> None:
    vectors, others = make(500), make(2000, seed=7)
    codes = CodeSettings(DIM, "pq4")
    one = Index.build(tmp_path / "i", vectors=vectors, codes=codes, recall=None, learn_from=others)
    expected = fit_codes(others, DIM, "pq4").arrays()
    for name, array in one._current().codec.first.quantizer.arrays().items():
        np.testing.assert_array_equal(array, expected[name])
    with pytest.raises(VectorError, match="Vectors to learn from are"):
        Index.build(tmp_path / "j", vectors=vectors, codes=codes, recall=None, learn_from=others[:, :5])


def test_an_index_has_the_calls_of_every_engine() -> None:
    engine: type[SearchIndex] = Index  # mypy's part of this test
    assert callable(engine.build)
    assert callable(engine.open)
    for name in ("search_with", "search", "explain", "get", "add", "upsert", "delete", "tune", "stats", "close"):
        ours, theirs = (inspect.signature(getattr(one, name)).parameters for one in (Index, SearchIndex))
        assert list(theirs) == list(ours)[: len(theirs)] or set(theirs) <= set(ours), name
        for parameter in theirs.values():
            assert ours[parameter.name].kind == parameter.kind, (name, parameter)
            assert ours[parameter.name].default == parameter.default, (name, parameter)


@pytest.mark.parametrize("second", [SecondStage(precision="int8", shortlist=60), None])
def test_a_plan_says_what_is_stored_and_how_it_is_searched(tmp_path: Path, second: SecondStage | None) -> None:
    plan = Plan(model="m", full_dim=DIM, first_stage=FirstStage(dim=16, precision="int8"), second_stage=second)
    vectors, queries = make(500), make(40, seed=2)
    index = Index.build(tmp_path / "i", vectors=vectors, ids=ids_of(500), plan=plan)
    assert index.codes == CodeSettings(16, "int8")
    assert index.tuned is not None
    shortlist = 100 if second is None else 60
    said = {**SAID, "shortlist": shortlist}
    assert index.tuned["plan"] == said
    whole = index.search(queries, k=10, settings=SearchSettings(index.search_settings.shortlist))
    hits = index.search(queries, k=10)
    assert recall(hits.ids, whole.ids) > 0.98
    if second is None:
        assert index.search_settings.shortlist == 100
        assert recall(hits.ids, exact(truncate(vectors, 16), ids_of(500), truncate(queries, 16), 10)) > 0.9
        assert index.stats().vector_bytes_per_vector < 16 + 16 + 4 + 8  # numbers and codes of 16, lengths, a header
        index.add(make(20, seed=4), ids_of(20, "n"))
        assert index.search(make(20, seed=4), k=1).ids == [[id_] for id_ in ids_of(20, "n")]
        index.compact()
        assert index.search(make(20, seed=4), k=1).ids == [[id_] for id_ in ids_of(20, "n")]
    else:
        assert index.search_settings.shortlist == 60
        assert index.settings.precision == "int8"
        assert recall(hits.ids, exact(vectors, ids_of(500), queries, 10)) > 0.95
    with pytest.raises(DimensionError, match="plan is for vectors of 32"):
        Index.build(tmp_path / "j", vectors=make(5, dim=16), plan=plan)


def test_every_stage_is_explained(built: Path) -> None:
    vectors = make(COUNT)
    with Index.open(built) as index:
        found = by_words(index, vectors[9], "text 9 about cats", 5)
        assert found.hits[0].id == "d9"
        assert found.hits[0].details.vector_rank == 1
        assert found.hits[0].details.words_rank == 1
        assert found.hits[0].score == pytest.approx(2 / 61)
        assert found.hits[0].details.cosine == pytest.approx(1, abs=1e-3)
        assert found.hits[0].details.prefix_score == pytest.approx(1, abs=0.3)
        assert found.hits[0].details.shortlist_rank is not None
        assert set(found.seconds) == {"first stage", "second stage", "words", "encoding"}
        assert found.documents == COUNT
        assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)
        alone = index.explain(vectors[9], k=5, filter="even = false")
        assert alone.documents == COUNT // 2
        assert all(hit.details.words_rank is None and hit.score == hit.details.cosine for hit in alone.hits)
        words = by_words(index, -vectors[9], "9", 3, filter="even = false")
        assert "d9" in [hit.id for hit in words.hits]
        # What users type is no query language.
        for text in ('"', "AND OR NOT", "a* (b", "text:9", "\x00", "'; --", "-9", "^x"):
            assert len(by_words(index, vectors[9], text, 3).hits) == 3


def test_of_equal_scores_the_document_that_was_written_first_comes_first(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    vectors = np.zeros((40, DIM), np.float32)
    vectors[:, 0] = 0.6  # the cosine of every one with the query, whatever their codes say
    vectors[np.arange(40), 1 + generator.permutation(40) % (DIM - 1)] = 0.8
    query = np.eye(1, DIM, dtype=np.float32)
    for codes in (CodeSettings(DIM, "int4"), CodeSettings(DIM, "binary"), CodeSettings(DIM, "pq3")):
        index = Index.build(tmp_path / codes.precision, vectors=vectors, ids=ids_of(40), codes=codes, recall=None)
        found = index.search(query, k=30, settings=index.search_with(shortlist=39))
        assert len(set(found.scores[0].tolist())) == 1
        assert found.ids[0] == sorted(found.ids[0], key=lambda name: int(name[1:]))
        index.add(vectors[::-1], ids_of(40, "e"))
        both = index.search(query, k=60, settings=index.search_with(shortlist=79)).ids[0]
        assert both == sorted(both, key=[*ids_of(40), *ids_of(40, "e")].index)


@pytest.mark.parametrize(
    ("codes", "count"),
    [(CodeSettings(DIM, name), count) for name in BITS_PER_DIMENSION for count in (1, 20, 2500)]
    + [(CodeSettings(DIM, "pq5"), 30), (CodeSettings(DIM, "pq5"), 2500)],
)
def test_documents_that_are_all_the_same_are_found(tmp_path: Path, codes: CodeSettings, count: int) -> None:
    vectors = np.repeat(make(1), count, axis=0)
    index = Index.build(tmp_path / "i", vectors=vectors, codes=codes, recall=None)
    found = index.search(vectors[:1], k=5)
    rows = [int(name) for name in found.ids[0]]
    # Which of more equal codes than a shortlist holds are in it depends on the machine's vector instructions.
    assert rows == (sorted(set(rows)) if count > 1000 else list(range(min(5, count))))
    assert len(rows) == min(5, count)
    np.testing.assert_allclose(found.scores[0, : min(5, count)], 1, atol=1e-3)


@pytest.mark.parametrize("texts", [True, False])
def test_of_documents_that_are_the_same_the_first_is_found_alone(tmp_path: Path, *, texts: bool) -> None:
    vectors, copies = make(60), 5
    repeated = np.tile(vectors, (copies, 1))
    if texts:  # the same text in other batches may have been encoded a little differently
        repeated = repeated + 1e-4 * np.random.default_rng(3).normal(size=repeated.shape).astype(np.float32)
    names = [f"{place}-{copy}" for copy in range(copies) for place in range(60)]
    said = [f"text {name.split('-')[0]}" for name in names] if texts else None
    sides = [{"side": int(name.split("-")[1]) % 2} for name in names]
    index = Index.build(tmp_path / "i", vectors=repeated, ids=names, texts=said, metadata=sides, recall=None)
    queries = make(7, seed=4)
    for condition in (None, "side = 1"):
        expected = exact(vectors, ids_of(60, ""), queries, 20)
        found = index.search(queries, k=20, filter=condition, distinct=True)
        assert [[name.split("-")[0] for name in line] for line in found.ids] == expected
        assert not np.isnan(found.scores).any()
        assert (np.diff(found.scores, axis=1) <= 0).all()
    assert len({name.split("-")[0] for name in index.search(queries[0], k=20).ids[0]}) == 4
    everything = index.search(queries, k=100, distinct=True)
    assert [len(line) for line in everything.ids] == [60] * 7
    assert np.isnan(everything.scores[:, 60:]).all()
    explained = index.explain(queries[0], 3, distinct=True)
    assert [hit.id.split("-")[0] for hit in explained.hits] == expected[0][:3]
    for hit in explained.hits[:2]:
        place = hit.id.split("-")[0]
        assert {hit.id, *hit.copies} == {f"{place}-{copy}" for copy in range(copies)}


def test_copies_that_words_alone_have_found_are_left_out_too(tmp_path: Path) -> None:
    vectors = make(300)
    said = [f"word{row}" for row in range(300)]
    said[290:] = ["needle"] * 10
    index = Index.build(tmp_path / "i", vectors=vectors, ids=ids_of(300), texts=said, recall=None)
    query = vectors[0] - 0.2 * vectors[290:].sum(axis=0)  # far from all of them
    assert sum(int(hit.id[1:]) >= 290 for hit in by_words(index, query, "needle", 12).hits) > 1
    distinct = by_words(index, query, "needle", 12, distinct=True).hits
    (needle,) = [hit for hit in distinct if int(hit.id[1:]) >= 290]
    assert len(needle.copies) == 9
    assert len(distinct) == 12


def test_tuning_says_what_it_measured_and_what_it_cannot_reach(tmp_path: Path) -> None:
    index = Index.build(
        tmp_path / "i", vectors=make(COUNT), ids=ids_of(COUNT), codes=CodeSettings(DIM, "pq3", lists=16), recall=None
    )
    assert index.tuned is None
    tuned = index.tune(recall=0.95, queries=make(200, seed=11))
    assert tuned.reached
    assert tuned.best.low >= 0.95
    assert {trial.probes for trial in tuned.trials} == {1, 2, 3, 4, 6, 8, 12, None}
    assert index.search_settings.probe_ratio == tuned.best.probe_ratio
    queries = make(400, seed=12)
    assert recall(index.search(queries).ids, index.exact(queries).ids) > 0.94
    for low in (0, 1, 1.5):
        with pytest.raises(SearchIndexError, match="above 0 and below 1"):
            index.tune(recall=low)
    with pytest.raises(SearchIndexError, match="too few"):
        Index.build(tmp_path / "j", vectors=make(8), recall=None).tune()


def test_batches_are_built_as_they_come(tmp_path: Path) -> None:
    vectors = make(500)

    def batches() -> Any:
        for first in range(0, 500, 90):
            rows = range(first, min(500, first + 90))
            yield Batch(vectors[first : first + 90], [f"d{row}" for row in rows], [f"t {row}" for row in rows])

    for precision in ("float16", "int8"):
        index = Index.build(tmp_path / precision, vectors=batches(), precision=precision, recall=None)
        whole = Index.build(
            tmp_path / f"{precision}-whole", vectors=vectors, ids=ids_of(500), recall=None, precision=precision
        )
        queries = make(20, seed=1)
        assert index.search(queries).ids == whole.search(queries).ids
        assert index.get(["d499"])["d499"].text == "t 499"
        assert not list((tmp_path / precision).glob("draft"))
        assert index.verify() == []


@pytest.mark.parametrize("kind", ["numpy", "faiss", "parquet", "beir"])
def test_an_export_holds_every_document(tmp_path: Path, kind: Any) -> None:
    vectors = make(60)
    index = Index.build(
        tmp_path / "i", vectors=vectors, ids=ids_of(60), texts=["ä"] * 60, metadata=[{"n": 1}] * 60, precision="float32"
    )
    index.delete(["d3"])
    index.upsert(vectors[:1], ["d59"], ["new"], [{"n": 2}])
    out = tmp_path / "out"
    export(index, out, kind)
    if kind == "parquet":
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(out / "documents.parquet").to_pylist()
        ids, texts = [row["id"] for row in rows], [row["text"] for row in rows]
        found = np.array([row["vector"] for row in rows], np.float32)
        assert json.loads(rows[-1]["metadata"]) == {"n": 2}
    else:
        name = "corpus.jsonl" if kind == "beir" else "documents.jsonl"
        rows = [json.loads(line) for line in (out / name).read_text(encoding="utf-8").splitlines()]
        ids, texts = [row["_id"] for row in rows], [row["text"] for row in rows]
        assert rows[-1]["metadata"] == {"n": 2}
        if kind == "faiss":
            import faiss

            found = faiss.read_index(str(out / "vectors.faiss")).reconstruct_n(0, len(ids))
        else:
            found = np.load(out / ("documents.npy" if kind == "beir" else "vectors.npy"))
    assert ids == [*(f"d{place}" for place in range(59) if place != 3), "d59"]
    assert texts == ["ä"] * 58 + ["new"]
    np.testing.assert_allclose(found[:3], vectors[:3], atol=1e-6)
    np.testing.assert_allclose(found[-1], vectors[0], atol=1e-6)
    with pytest.raises(OutputExistsError):
        export(index, out, kind)


def test_statistics_say_what_files_and_memory_hold(built: Path) -> None:
    with Index.open(built) as index:
        stats = index.stats()
        assert stats.documents == COUNT
        assert stats.disk_bytes == sum(file.stat().st_size for file in built.rglob("*") if file.is_file())
        codes = sum(file.stat().st_size for file in built.glob("segments/*.codes"))
        # Ten codebooks of 16 centroids of four floats, and as many components of 32 dimensions: in the codes, and once
        # more to code what will be added; and as they were fitted, of three dimensions, with the target of codes.
        tables, fitted = 4 * (10 * 16 * 4 + 10 * 4 * 32), 4 * (10 * 16 * 3 + 10 * 3 * 32 + 1)
        assert stats.resident_bytes == codes + tables + fitted
        assert 5 * COUNT <= codes - tables < 5 * COUNT + 1000
        assert stats.resident_bytes_per_vector * COUNT == pytest.approx(stats.resident_bytes, rel=0.01)


def bad_batches() -> list[tuple[dict[str, Any], type[Exception], str]]:
    good = make(3)
    broken = good.copy()
    broken[1, 3] = np.nan
    zero = good.copy()
    zero[2] = 0
    return [
        ({"vectors": broken, "ids": ["a", "b", "c"]}, VectorError, "not finite, of the documents b"),
        ({"vectors": zero, "ids": ["a", "b", "c"]}, VectorError, "zero .* of the documents c"),
        ({"vectors": good[:, :5], "ids": ["a", "b", "c"]}, VectorError, r"\[n, 32\], not float32 \[3, 5\]"),
        ({"vectors": good.astype(int), "ids": ["a", "b", "c"]}, VectorError, "floating-point"),
        ({"vectors": good, "ids": ["a", "b"]}, DataError, "3 vectors and 2 ids"),
        ({"vectors": good, "ids": ["a", "b", "c"], "texts": ["x"]}, DataError, "3 vectors and 1 texts"),
        ({"vectors": good, "ids": ["a", "", "c"]}, DataError, "by row: 1"),
        ({"vectors": good, "ids": "abc"}, DataError, "not the one text|not a str"),
        ({"vectors": good, "ids": ["a", "b", "\ud800"]}, DataError, "by row: 2"),
        ({"vectors": good, "ids": ["a", "b", "c"], "texts": ["x", "y", "\udfff"]}, DataError, "text of document c"),
        ({"vectors": good, "ids": ["a", "b", "c"], "texts": ["x", 5, None]}, DataError, "text of document b"),
        (
            {"vectors": good, "ids": ["a", "b", "c"], "metadata": [{}, 5, None]},
            DataError,
            "document b are no JSON object",
        ),
        ({"vectors": good.tolist(), "ids": ["a", "b", "c"]}, VectorError, "re an array"),
        ({"vectors": good.astype(np.float64) * np.inf, "ids": ["a", "b", "c"]}, VectorError, "documents a, b, c"),
        ({"vectors": good, "ids": ["a", None, 3]}, DataError, "by row: 1, 2"),
        ({"vectors": good, "ids": ["a", "b", "a"]}, DataError, "repeated in one batch: a"),
        ({"vectors": good, "ids": ["a", "b", "c"], "metadata": [{}, {"x": {1, 2}}, {}]}, DataError, "document b"),
        ({"vectors": good, "ids": ["a", "b", "c"], "metadata": [{}, {"x": float("nan")}, {}]}, DataError, "no JSON"),
    ]


@pytest.mark.parametrize(("given", "error", "match"), bad_batches())
def test_bad_documents_change_nothing(
    tmp_path: Path, given: dict[str, Any], error: type[Exception], match: str
) -> None:
    index = Index.build(tmp_path / "i", vectors=make(20), ids=ids_of(20), recall=None)
    for change in (index.add, index.upsert):
        with pytest.raises(error, match=match):
            change(**given)
    assert len(index) == 20
    assert index.verify() == []
    if np.shape(given["vectors"])[1] == DIM:
        with pytest.raises(error, match=match):
            Index.build(tmp_path / "j", recall=None, **given)
        assert not (tmp_path / "j").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["i"]


def test_ids_that_are_there_are_refused_by_add_and_by_a_later_batch(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=make(20), ids=ids_of(20), recall=None)
    with pytest.raises(DataError, match="has already: d3, d7"):
        index.add(make(3), ["d7", "new", "d3"])
    assert len(index) == 20
    batches = [Batch(make(2), ["a", "b"]), Batch(make(2), ["c", "a"])]
    with pytest.raises(DataError, match="has already: a"):
        Index.build(tmp_path / "j", vectors=batches)


def test_bad_searches_are_refused(built: Path) -> None:
    with Index.open(built) as index:
        query = make(1)[0]
        for bad in (query[:5], np.zeros(DIM, np.float32), np.full(DIM, np.inf, np.float32), query.astype(int)):
            with pytest.raises(VectorError):
                index.search(bad)
        wrong: list[dict[str, Any]] = [{"k": 0}, {"k": 2.5}, {"shortlist": 0}, {"threads": 0}, {"middle": (5, 0)}]
        for given in wrong:
            with pytest.raises(VectorError, match="1 or more"):
                index.search(query, given.pop("k", 10), settings=index.search_with(**given))
        for far in ({"margin": -0.1}, {"margin": float("nan")}, {"probe_ratio": 1.1}, {"probe_ratio": float("nan")}):
            with pytest.raises(VectorError, match="margin is|ratio is"):
                index.search(query, settings=index.search_with(**far))
        nothing = index.search(np.empty((0, DIM), np.float32))
        assert (nothing.ids, nothing.scores.shape) == ([], (0, 10))
        with pytest.raises(DataError, match="not the one text"):
            index.delete("d1")
        assert len(index) == COUNT
        with pytest.raises(DimensionError, match="32 are stored"):
            index.search(query, dim=33)
        with pytest.raises(FilterError, match="did you mean even"):
            index.search(query, filter="evn = true")


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    for codes, error in (
        (CodeSettings(33, "pq5"), DimensionError),
        (CodeSettings(8, "int5"), PrecisionError),
        (CodeSettings(7, "pq4"), DimensionError),
        (CodeSettings(8, "int8", lists=4), PrecisionError),
        (CodeSettings(9, "pq2", lists=400), PrecisionError),
    ):
        with pytest.raises(error):
            Index.build(tmp_path / "i", vectors=make(300), codes=codes, recall=None)
        assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="no documents"):
        Index.build(tmp_path / "i", vectors=make(3)[:0])
    with pytest.raises(DataError, match="no documents"):
        Index.build(tmp_path / "i", vectors=iter([]))
    with pytest.raises(DataError, match="their own ids"):
        Index.build(tmp_path / "i", vectors=iter([Batch(make(2), ids_of(2))]), texts=["a", "b"])
    Index.build(tmp_path / "i", vectors=make(5), recall=None)
    with pytest.raises(OutputExistsError, match="overwrite"):
        Index.build(tmp_path / "i", vectors=make(5))
    assert len(Index.build(tmp_path / "i", vectors=make(6), recall=None, overwrite=True)) == 6
    (tmp_path / "other").mkdir()
    assert len(Index.build(tmp_path / "other", vectors=make(5), recall=None)) == 5  # an empty folder is free
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExistsError, match="another place"):
        Index.build(tmp_path / "taken", vectors=make(5), overwrite=True)
    assert (tmp_path / "taken" / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_one_process_at_a_time_may_change_an_index(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=make(20), ids=ids_of(20), recall=None)
    with sqlite3.connect(tmp_path / "i" / "manifest.sqlite", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        for change in (lambda: index.delete(["d1"]), index.compact, lambda: index.add(make(1), ["x"])):
            with pytest.raises(IndexBusyError, match="Another process"):
                change()
        assert index.search(make(1), k=1).ids[0]  # readers go on
        other.execute("ROLLBACK")
    other.close()
    assert index.delete(["d1"]) == 1


def test_of_two_processes_that_write_at_once_both_lose_nothing(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", vectors=make(20), ids=ids_of(20), recall=None).close()
    script = (
        "import sys, numpy as np\n"
        "from nestvec.errors import IndexBusyError\n"
        "from nestvec.index import Index\n"
        f"index, refused = Index.open({str(tmp_path / 'i')!r}), 0\n"
        "vectors = np.random.default_rng(0).normal(size=(60, 32)).astype('float32')\n"
        "print('ready', flush=True)\n"
        "input()\n"
        "for turn in range(60):\n"
        "    while True:\n"
        "        try:\n            index.add(vectors[turn:turn + 1], [f'{sys.argv[1]}{turn}'])\n"
        "        except IndexBusyError:\n            refused += 1\n"
        "        else:\n            break\n"
        "print(refused)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    writers = [subprocess.Popen([sys.executable, "-c", script, name], text=True, **pipes) for name in "xy"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n", writer.communicate()
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    answers = [writer.communicate(timeout=300) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], answers
    assert any(int(refused) for refused, _ in answers)
    with Index.open(tmp_path / "i") as index:
        assert (len(index), index.verify()) == (140, [])
        assert len(index.get([f"{name}{turn}" for name in "xy" for turn in range(60)])) == 120


def test_who_changes_an_index_while_it_is_built_anew_is_told_so_or_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "i"
    index = Index.build(path, vectors=make(20), ids=ids_of(20), recall=None)
    move, refused = files.move_into_place, []

    def move_while_others_write(source: Path, target: Path) -> None:
        if target == path:
            with pytest.raises(IndexBusyError, match="Another process"):
                index.add(make(1), ["x"])
            refused.append(True)
        move(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(files, "move_into_place", move_while_others_write)
        Index.build(path, vectors=make(30), ids=ids_of(30), recall=None, overwrite=True).close()
    assert refused
    index.add(make(1), ["x"])  # to the new one
    assert (len(index), index.verify()) == (31, [])

    events: list[str] = []
    waits, replacing = threading.Event(), Manifest.replacing

    def waiting(folder: Path, progress: Any) -> Any:
        waits.set()
        return replacing(folder, progress)

    def move_and_say_so(source: Path, target: Path) -> None:
        events.extend(["moved"] * (target == path))
        move(source, target)

    monkeypatch.setattr(Manifest, "replacing", waiting)
    monkeypatch.setattr(files, "move_into_place", move_and_say_so)
    with changing.changing(path, index._current) as change:
        builder = threading.Thread(
            target=lambda: Index.build(path, vectors=make(7), recall=None, overwrite=True).close(), daemon=True
        )
        builder.start()
        assert waits.wait(300)
        builder.join(1)  # time enough to do what it must not
        assert not events
        changing.delete_documents(change, ["x"])
    builder.join(300)
    assert events == ["moved"]
    assert (len(index), index.verify()) == (7, [])


def test_what_is_held_for_a_build_is_what_is_there_and_not_what_another_build_has_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, connect = tmp_path / "i", sqlite3.connect
    Index.build(path, vectors=make(20), ids=ids_of(20), recall=None).close()

    def connect_and_be_overtaken(*given: Any, **more: Any) -> sqlite3.Connection:
        connection = connect(*given, **more)
        monkeypatch.setattr(sqlite3, "connect", connect)
        Index.build(path, vectors=make(30), ids=ids_of(30), recall=None, overwrite=True).close()
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_be_overtaken)
    with Manifest.replacing(path), pytest.raises(IndexBusyError, match="Another process"):
        Index.open(path).delete(["d1"])
    with Index.open(path) as index:
        assert (index.delete(["d1"]), len(index), index.verify()) == (1, 29, [])


def test_an_index_that_was_made_meanwhile_is_not_replaced_unasked(tmp_path: Path) -> None:
    def batches() -> Iterator[Batch]:
        Index.build(tmp_path / "i", vectors=make(5), recall=None).close()
        yield Batch(make(2), ids_of(2))

    with pytest.raises(OutputExistsError, match="overwrite"):
        Index.build(tmp_path / "i", vectors=batches(), recall=None)
    with Index.open(tmp_path / "i") as index:
        assert len(index) == 5


def test_an_index_is_built_over_one_that_is_damaged(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", vectors=make(20), recall=None).close()
    (tmp_path / "i" / "manifest.sqlite").write_bytes(b"no database")
    assert len(Index.build(tmp_path / "i", vectors=make(7), recall=None, overwrite=True)) == 7


@pytest.mark.parametrize("name", ["codec", "settings", "search", "segments"])
@pytest.mark.parametrize("change", ["lost", "flipped"])
def test_damage_inside_the_manifest_is_named(tmp_path: Path, name: str, change: str) -> None:
    Index.build(tmp_path / "i", vectors=make(20), recall=None).close()
    table, column = ("segments", "files") if name == "segments" else ("settings", "value")
    where = "" if name == "segments" else f"WHERE name = '{name}'"
    with sqlite3.connect(tmp_path / "i" / "manifest.sqlite") as connection:
        if change == "flipped":
            connection.execute(f"UPDATE {table} SET {column} = '!' || {column} {where}")
        else:
            connection.execute("DROP TABLE segments" if name == "segments" else f"DELETE FROM settings {where}")
    connection.close()
    with pytest.raises(DamagedIndexError, match="is damaged"):
        Index.open(tmp_path / "i")
    (problem,) = find_damage(tmp_path / "i")
    assert name in problem


def test_a_change_that_begins_while_an_index_is_built_anew_leaves_the_new_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "i"
    index = Index.build(path, vectors=make(20), ids=ids_of(20), recall=None)
    writing = Manifest.writing

    def writing_late(manifest: Manifest) -> Any:
        monkeypatch.setattr(Manifest, "writing", writing)  # between opening the manifest and locking it
        Index.build(path, vectors=make(30), ids=ids_of(30), recall=None, overwrite=True).close()
        return manifest.writing()

    monkeypatch.setattr(Manifest, "writing", writing_late)
    with pytest.raises(IndexBusyError, match="built anew"):
        index.add(make(1), ["x"])
    assert (len(index), index.verify()) == (30, [])


def test_damage_is_found_and_named(tmp_path: Path) -> None:
    def fresh() -> Path:
        index = Index.build(tmp_path / "i", vectors=make(3000), ids=ids_of(3000), recall=None, overwrite=True)
        index.close()
        return next((tmp_path / "i" / "segments").glob("*.codes"))

    for end in ("codes", "vectors", "ids"):
        path = fresh().with_suffix(f".{end}")
        whole = path.read_bytes()
        path.write_bytes(whole[:-8])  # cut off
        with pytest.raises(SearchIndexError, match=f"{end} is damaged"):
            Index.open(tmp_path / "i")
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 16
        path.write_bytes(flipped)
        if end == "codes":
            with pytest.raises(SearchIndexError, match="damaged"):
                Index.open(tmp_path / "i")
        else:
            with Index.open(tmp_path / "i") as index:
                assert any(path.name in problem for problem in index.verify())
        path.unlink()
        with pytest.raises(SearchIndexError, match=f"{end}.* is not there"):
            Index.open(tmp_path / "i")
    fresh()
    manifest = tmp_path / "i" / "manifest.sqlite"
    for content in (b"", b"no database at all" * 100, manifest.read_bytes()[:5000]):
        manifest.write_bytes(content)
        with pytest.raises(SearchIndexError, match="damaged|no manifest"):
            Index.open(tmp_path / "i")
    with pytest.raises(SearchIndexError, match="is no index"):
        Index.open(tmp_path)


@pytest.mark.parametrize(("version", "advice"), [(99, "Update nestvec"), (1, "Build the index anew")])
def test_an_index_of_another_format_is_refused(tmp_path: Path, version: int, advice: str) -> None:
    Index.build(tmp_path / "i", vectors=make(20), recall=None).close()
    with sqlite3.connect(tmp_path / "i" / "manifest.sqlite") as connection:
        connection.execute("UPDATE settings SET value = ? WHERE name = 'format'", (str(version),))
    connection.close()
    with pytest.raises(SearchIndexError, match=f"format {version}, and this nestvec reads 2 to 4. {advice}"):
        Index.open(tmp_path / "i")
    Index.build(tmp_path / "i", vectors=make(20), recall=None, overwrite=True).close()


def test_a_document_without_vector_is_found_by_verify(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=make(20), ids=ids_of(20), recall=None)
    with sqlite3.connect(tmp_path / "i" / "manifest.sqlite") as connection:
        connection.execute("INSERT INTO documents VALUES (NULL, 'ghost', NULL, NULL)")
        connection.execute("DELETE FROM documents WHERE id = 'd4'")
    connection.close()
    problems = " ".join(index.verify())
    assert "without vectors: ghost" in problems
    assert "lacks: d4" in problems


@pytest.mark.skipif(os.getuid() != 0, reason="gives up its rights, and so needs some")
def test_a_read_only_folder_is_searched_and_not_changed() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Index.build(Path(folder) / "i", vectors=make(50), ids=ids_of(50), recall=None).close()
        script = (
            "import mmap, os, faiss, numkong, numpy as np\n"
            "from nestvec.errors import NestvecError\n"
            "from nestvec.index import Index\n"
            "os.setuid(65534)\n"
            f"index = Index.open({folder!r} + '/i')\n"
            "print(index.search(np.ones(32, np.float32), k=2).ids, index.verify())\n"
            "try:\n    index.delete(['d1'])\n"
            "except NestvecError as error:\n    print(type(error).__name__, error)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, refused = done.stdout.strip().split("\n")
    assert found.count("'d") == 2
    assert found.endswith("[]")
    assert refused.startswith("StorageError")


def test_a_full_disk_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", vectors=make(200), ids=ids_of(200), recall=None).close()
    np.save(tmp_path / "more.npy", make(20_000))
    script = (
        "import resource, signal\n"
        "import numpy as np\n"
        "from nestvec.errors import StorageError\n"
        "from nestvec.index import Index\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"index = Index.open({str(tmp_path / 'i')!r})\n"
        f"vectors = np.load({str(tmp_path / 'more.npy')!r})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "changes = [lambda: index.add(vectors, [f'x{n}' for n in range(20_000)]),\n"
        "           lambda: index.add(vectors[:3], ['a', 'b', 'c'], ['word ' * 100_000] * 3)]\n"
        "tight = [lambda: index.upsert(vectors[:1], ['d1']), lambda: index.delete(['d1']), index.compact,\n"
        "         lambda: index.set_search(index.search_settings),\n"
        f"         lambda: Index.build({str(tmp_path / 'new')!r}, vectors=vectors[:90], recall=None)]\n"
        "for change in changes + tight:\n"
        "    if change in tight:\n        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 300_000))\n"
        "    try:\n        change()\n"
        "    except StorageError as error:\n        print(error)\n"
        "print(len(index), index.verify())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *refused, last = done.stdout.strip().split("\n")
    assert len(refused) == 7, done.stdout
    assert not (tmp_path / "new").exists()
    assert last == "200 []"
    with Index.open(tmp_path / "i") as index:
        assert len(index) == 200
        index.add(make(3), ["x", "y", "z"])
        assert len(list((tmp_path / "i" / "segments").iterdir())) == 3 * index.stats().segments
        assert index.verify() == []


@pytest.mark.parametrize("scale", [1e-200, 1e-60, 1e60, 1e200, 1e300])
def test_float64_vectors_beyond_float32_count_by_their_direction(tmp_path: Path, scale: float) -> None:
    documents, queries = make(40).astype(np.float64), make(3, seed=1).astype(np.float64)
    plain = Index.build(tmp_path / "plain", vectors=documents, recall=None)
    scaled = Index.build(tmp_path / "scaled", vectors=documents * scale, recall=None)
    expected, found = plain.search(queries, k=5), scaled.search(queries * scale, k=5)
    assert found.ids == expected.ids
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_no_cosine_is_beyond_one(tmp_path: Path) -> None:
    vectors = np.concatenate([make(200, dim=33), -make(200, dim=33)])
    index = Index.build(tmp_path / "i", vectors=vectors, recall=None)
    for found in (
        index.search(vectors, k=400),
        index.exact(vectors, k=400),
        index.search(vectors, k=20, distinct=True),
    ):
        assert np.nanmax(np.abs(found.scores)) <= 1
    for hit in index.explain(vectors[0], 400).hits:
        assert all(
            -1 <= score <= 1 for score in (hit.score, hit.details.cosine, hit.details.prefix_score) if score is not None
        )


def test_wrong_arguments_are_no_damage_of_the_index(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=make(20), ids=ids_of(20), recall=None)
    for wrong, message in (
        ("d1", "not the one text 'd1'"),
        ([["d1"]], "texts with a character"),
        ([1], "texts with a"),
    ):
        with pytest.raises(DataError, match=message):
            index.get(wrong)
    with pytest.raises(DataError, match="texts with a character"):
        index.search(like=["d1"])
    for dim in (1.5, "8"):
        with pytest.raises(DimensionError, match="whole number of leading dimensions"):
            index.search(make(1), settings=SearchSettings(5, dim=dim))
    with pytest.raises(VectorError, match="of a batch are an array"):
        Index.build(tmp_path / "j", vectors=[Batch([[1.0, 2.0]], ["a"])])
    index.close()
    with pytest.raises(SearchIndexError, match="was closed"):
        index.get(["d1"])


def test_a_document_whose_stored_dimensions_are_zero_has_no_nearest(tmp_path: Path) -> None:
    vectors = make(20)
    vectors[3, : DIM // 2] = 0
    plan = Plan(model="m", full_dim=DIM, first_stage=FirstStage(dim=DIM // 2, precision="float32"))
    index = Index.build(tmp_path / "i", vectors=vectors, ids=ids_of(20), plan=plan)
    with pytest.raises(SearchIndexError, match="vector of document d3 is zero"):
        index.search(like="d3")
