"""An index obeys the plan that it was built by, also later on. Run: pytest tests/test_index_plans.py (seconds)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import build_tiny_model
from nestvec.errors import DataError, DimensionError, OutputExistsError, PrecisionError, SearchIndexError, VectorError
from nestvec.index import Batch, CodeSettings, Index, SearchSettings
from nestvec.index.embedded import building
from nestvec.plan import FirstStage, Plan, SecondStage
from nestvec.quantization import ProductQuantizer, fit_codes

DIM, COUNT = 48, 2500
_generator = np.random.default_rng(0)
VECTORS = _generator.normal(size=(30, DIM))[_generator.integers(0, 30, COUNT)].astype(np.float32)
VECTORS += 0.8 * _generator.normal(size=(COUNT, DIM)).astype(np.float32)


SAID = {"lists": None, "lists_open": True, "probes": None, "margin": None, "shortlist": 100, "recall": 0.99}


def ids_of(count: int) -> list[str]:
    return [f"d{place}" for place in range(count)]


def plan_of(
    shortlist: int | None = 40, *, margin: float | None = None, fitted_on: str = "documents", **first: Any
) -> Plan:
    second = None if shortlist is None else SecondStage(precision="float16", shortlist=shortlist, margin=margin)
    first_stage = FirstStage(**{"dim": DIM, "precision": "pq4", **first})
    return Plan(model="m", full_dim=DIM, first_stage=first_stage, second_stage=second, fitted_on=fitted_on)


def test_compacting_and_tuning_again_keep_to_the_plan(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=VECTORS, plan=plan_of())
    said = {**SAID, "shortlist": 40}
    for change in (lambda: None, lambda: index.delete(["5"]), lambda: index.compact(), lambda: index.tune()):
        change()
        assert index.search_settings.shortlist == 40
        assert index.tuned is not None
        assert index.tuned["plan"] == said
        assert "stale" not in index.tuned
    index.tune(recall=0.95)  # of the exact best: no longer what the plan says
    assert index.tuned is not None
    assert "plan" not in index.tuned
    assert index.tuned["target"] == 0.95
    index.tune()
    assert index.tuned["target"] == 0.95


def test_margin_and_probes_of_a_plan_hold_where_nothing_is_tuned(tmp_path: Path) -> None:
    plan = plan_of(margin=0.01, lists=16, probes=2)
    index = Index.build(tmp_path / "i", vectors=VECTORS, plan=plan, recall=None)
    assert index.search_settings == SearchSettings(40, margin=0.01, probes=2)
    tuned = Index.build(tmp_path / "j", vectors=VECTORS, plan=plan)
    assert tuned.tuned is not None
    assert (tuned.tuned["plan"]["margin"], tuned.tuned["plan"]["probes"]) == (0.01, 2)
    assert tuned.search_settings.probes is None  # but a ratio, if any
    few = Index.build(tmp_path / "k", vectors=VECTORS[:100], plan=plan_of(None, lists=32, probes=2))
    assert few.codes.lists is few.search_settings.probes is None


@pytest.mark.parametrize(("lists", "expected"), [(4096, None), (16, 16)])
def test_lists_that_a_corpus_is_too_small_for_are_left_out(tmp_path: Path, lists: int, expected: int | None) -> None:
    index = Index.build(tmp_path / "i", vectors=VECTORS, plan=plan_of(precision="pq8", lists=lists))
    assert index.codes == CodeSettings(DIM, "pq8", expected)
    assert index.tuned is not None
    assert index.tuned["plan"]["lists"] == lists
    index.compact()
    assert index.codes.lists == expected
    with pytest.raises(
        SearchIndexError, match="pq8 in 4,096 IVF lists is learned from 4,096 vectors"
    ):  # what is said by hand is not changed
        Index.build(tmp_path / "j", vectors=VECTORS, codes=CodeSettings(DIM, "pq8", 4096))


def test_a_shortlist_longer_than_a_corpus_is_kept_for_when_it_grows(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=VECTORS[:100], plan=plan_of(400))
    assert index.search_settings.shortlist == 400
    index.add(VECTORS[100:], [f"n{place}" for place in range(COUNT - 100)])
    assert index.search_settings.shortlist == 400


def test_the_length_of_codes_that_tuning_chose_is_kept_when_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(building, "_is_better", lambda one, other: True)
        index = Index.build(tmp_path / "i", vectors=VECTORS)
    assert index.codes.precision == "pq12"
    index.compact()
    assert index.codes.precision == "pq12"


def test_codebooks_of_other_vectors_are_kept_when_compacted(tmp_path: Path) -> None:
    others = np.random.default_rng(5).normal(size=(500, DIM)).astype(np.float32)
    expected = fit_codes(others, DIM, "pq4").arrays()
    index = Index.build(
        tmp_path / "i", vectors=VECTORS, plan=plan_of(lists=16, fitted_on="rows.jsonl"), learn_from=others
    )
    for change in (lambda: None, lambda: index.delete(["7"]), lambda: index.compact()):
        change()
        quantizer = index._current().codec.first.quantizer
        assert isinstance(quantizer, ProductQuantizer)
        for name, array in quantizer.arrays().items():
            np.testing.assert_array_equal(array, expected[name])
    assert index.search(VECTORS[3]).ids[0][0] == "3"
    index.compact(dim=24)  # for which there are no codebooks of the others
    assert index.search(VECTORS[3]).ids[0][0] == "3"


def test_a_plan_that_learns_from_a_file_needs_its_vectors(tmp_path: Path) -> None:
    with pytest.raises(SearchIndexError, match=r"learned from rows.jsonl: give its vectors in learn_from"):
        Index.build(tmp_path / "i", vectors=VECTORS, plan=plan_of(fitted_on="rows.jsonl"))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"codes": CodeSettings(DIM, "pq64")}, DimensionError, "pq64 has 128 codebooks"),
        ({"codes": CodeSettings(DIM + 1, "int8")}, DimensionError, "Cannot encode 49 dimensions"),
        ({"codes": CodeSettings(DIM, "int8", 16)}, PrecisionError, "Leave lists out"),
        ({"codes": CodeSettings(DIM, "int3")}, PrecisionError, "int3"),
        ({"precision": "pq99"}, DimensionError, "pq99 has 198 codebooks"),
        ({"precision": "int3"}, PrecisionError, "int3"),
        ({"plan": plan_of(dim=8, precision="pq8")}, DimensionError, "pq8 has 16 codebooks"),
        ({"learn_from": VECTORS[:30, :40]}, VectorError, r"Vectors to learn from are .* \[n, 48\]"),
        ({"learn_from": np.zeros((9, DIM), np.float32)}, VectorError, "9 of them are not, the first in row 0"),
    ],
)
def test_what_cannot_be_built_is_said_before_a_document_is_read(
    tmp_path: Path, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    read = []

    def batches() -> Iterator[Batch]:
        for place in range(3):
            read.append(place)
            yield Batch(VECTORS[place : place + 1], [str(place)])

    with pytest.raises(error, match=message):
        Index.build(tmp_path / "i", vectors=batches(), **given)
    assert len(read) == 1  # the first, whose width says what vectors there are
    assert not (tmp_path / "i").exists()


def test_texts_are_encoded_by_the_model_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NESTVEC_CACHE", str(tmp_path / "cache"))
    model = build_tiny_model(tmp_path / "model")
    from nestvec.sources import load_encoder

    full_dim = load_encoder(str(model)).full_dim
    plan = Plan(model=str(model), full_dim=full_dim, first_stage=FirstStage(dim=full_dim, precision="int8"))
    with Index.from_texts(["tea is hot", "snow is cold"], plan=plan) as index:
        assert index.model is not None
        assert index.model["name"] == str(model)
        assert index.search("tea is hot").ids[0][0] == "0"


def test_what_cannot_become_an_index_is_said_before_anything_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Index.build(tmp_path / "there", vectors=VECTORS[:20]).close()
    model = "no-model"  # which is not looked for
    for given, message in (
        ({"texts": ["a", None]}, "Texts are strings, and the one at 1 is None"),
        ({"texts": [1, "b"]}, "Texts are strings, and the one at 0 is 1"),
        ({"texts": ["a", "b"], "ids": ["x", "x"]}, "repeated in one batch: x"),
        ({"texts": ["a", "b"], "ids": ["x"]}, "2 vectors and 1 ids"),
        ({"texts": ["a"], "metadata": [3]}, "no JSON object"),
        ({"texts": "a"}, "a list of texts, not the one text"),
        ({"texts": []}, "There are no texts"),
    ):
        with pytest.raises(DataError, match=message):
            Index.from_texts(model=model, **given)  # type: ignore[arg-type]
    with pytest.raises(OutputExistsError):
        Index.from_texts(["a"], model=model, path=tmp_path / "there")
    build_tiny_model(tmp_path / "model")
    monkeypatch.setenv("NESTVEC_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="surrogate"):
        Index.from_texts(["a"], model=str(tmp_path / "model"), metadata=[{"a": "\ud800"}])
    assert not list(tmp_path.glob("nestvec-*"))


def test_a_plan_is_kept_where_there_were_too_few_documents_to_tune(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "i", vectors=VECTORS[:10], ids=ids_of(10), plan=plan_of(precision="int8"))
    assert index.tuned is None
    index.add(VECTORS[10:], ids_of(COUNT)[10:])
    index.tune()
    assert index.tuned is not None
    assert index.tuned["plan"] == {**SAID, "shortlist": 40}
    index.delete(ids_of(COUNT)[5:])
    index.compact()
    assert index.tuned["stale"]
    assert index.search_settings == SearchSettings(40)
    index.add(VECTORS[5:], ids_of(COUNT)[5:])
    index.tune()
    assert index.search_settings.shortlist == 40
    index.set_search(SearchSettings(7))
    index.tune()
    assert index.search_settings.shortlist == 40


@pytest.mark.parametrize("second", [40, None])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_ivf_lists_follow_the_number_of_documents_whatever_codebooks_learned_from(
    tmp_path: Path, second: int | None, *, elsewhere: bool
) -> None:
    plan = plan_of(second, precision="pq8", lists=16, fitted_on="rows.jsonl" if elsewhere else "documents")
    others = np.random.default_rng(5).normal(size=(500, DIM)).astype(np.float32) if elsewhere else None
    index = Index.build(tmp_path / "i", vectors=VECTORS[:100], ids=ids_of(100), plan=plan, learn_from=others)
    assert index.codes.lists is None
    index.add(VECTORS[100:], ids_of(COUNT)[100:])
    index.compact()
    assert index.codes.lists == 16
    assert index.verify() == []
    found = index.search(VECTORS[:50], k=1, settings=index.search_with(probes=16))
    assert np.mean([line[0] == f"d{row}" for row, line in enumerate(found.ids)]) > 0.8
    index.delete(ids_of(COUNT)[100:])
    index.compact()
    assert index.codes.lists is None
    assert index.verify() == []
