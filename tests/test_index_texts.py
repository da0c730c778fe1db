"""Two lines from texts to a search, and the nearest of a stored document. Run: pytest tests/test_index_texts.py (seconds)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import nestvec
from builders import build_tiny_model
from conftest import RunNestvec
from nestvec.errors import DataError, DimensionError, OutputExistsError, SearchIndexError, VectorError
from nestvec.index.words import match_expression
from nestvec.jobs.index import build_index
from nestvec.jobs.plan import write_plan
from nestvec.plan import FirstStage, Plan

TEXTS = [f"the {subject} {verb} the {item}" for subject in ("river", "engine", "planet", "violin")
         for verb in ("crosses", "powers", "orbits") for item in ("stone", "water", "light")]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_tiny_model(tmp_path_factory.mktemp("model") / "tiny"))


def test_texts_are_searched_with_texts_and_ids_metadata_and_a_path_are_optional(model: str, tmp_path: Path) -> None:
    index = nestvec.Index.from_texts(TEXTS, model=model)
    folder = index.path
    hits = index.search([TEXTS[3], TEXTS[8]], k=3)
    assert [line[0] for line in hits.ids] == ["3", "8"]
    assert hits.scores.shape == (2, 3)
    first = hits.hits[1][0]
    assert (first.id, first.text, first.metadata, first.score_kind) == ("8", TEXTS[8], None, "cosine")
    assert first.score == pytest.approx(float(hits.scores[1, 0]))
    index.close()
    assert not folder.exists()
    kept = nestvec.Index.from_texts(
        TEXTS,
        model=model,
        ids=[f"t{n}" for n in range(36)],
        metadata=[{"n": n} for n in range(36)],
        path=tmp_path / "i",
    )
    assert kept.search(TEXTS[5], k=2, filter="n >= 5").hits[0][0].metadata == {"n": 5}
    kept.close()
    with nestvec.open_index(tmp_path / "i") as again:
        found = again.search(TEXTS[5], k=2, hybrid=True)
        assert found.ids[0][0] == "t5"
        assert (found.score_kind, found.hits[0][0].details.words_rank) == ("reciprocal rank fusion", 1)


def test_a_temporary_index_goes_with_the_last_who_uses_it(model: str) -> None:
    index = nestvec.Index.from_texts(TEXTS[:4], model=model)
    folder = index.path
    assert folder.exists()
    del index
    assert not folder.exists()


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("distinct", [False, True])
def test_what_is_like_a_document_is_near_it_and_not_itself(model: str, *, hybrid: bool, distinct: bool) -> None:
    texts = [*TEXTS, TEXTS[7]]
    with nestvec.Index.from_texts(texts, model=model) as index:
        hits = index.search(like="7", k=5, hybrid=hybrid, distinct=distinct)
        assert len(hits.ids[0]) == 5
        assert "7" not in hits.ids[0]
        if not hybrid and not distinct:
            assert [hit.details.vector_rank for hit in hits.hits[0]] == [1, 2, 3, 4, 5]
        if not distinct:
            assert hits.ids[0][0] == "36"  # its copy
        if not hybrid and not distinct:
            vector = index.encoder.encode_queries([TEXTS[7]])
            assert hits.ids[0] == [id_ for id_ in index.search(vector, k=6).ids[0] if id_ != "7"]
        with pytest.raises(DataError, match="no document 'x'"):
            index.search(like="x")
        for wrong in ({"query": "a", "like": "7"}, {}):
            with pytest.raises(VectorError, match="Give a query, or the id of a document"):
                index.search(**wrong)


def test_a_document_without_a_text_has_no_words_to_be_like(tmp_path: Path) -> None:
    with nestvec.Index.build(tmp_path / "i", vectors=np.eye(3, 8, dtype=np.float32)) as index:
        assert index.search(like="1", k=1).ids[0] in (["0"], ["2"])
        with pytest.raises(SearchIndexError, match="no text"):
            index.search(like="1", hybrid=True)
        assert index.search(np.eye(3, 8, dtype=np.float32)[:1], k=1).hits[0][0].text is None


def test_what_are_no_texts_is_refused(model: str) -> None:
    with pytest.raises(DataError, match="not the one text"):
        nestvec.Index.from_texts("a text", model=model)
    with pytest.raises(DataError, match="no texts"):
        nestvec.Index.from_texts([], model=model)
    with nestvec.Index.from_texts(TEXTS[:3], model=model) as index, pytest.raises(VectorError, match="or texts"):
        index.search([1, 2])  # type: ignore[list-item]


def test_the_command_finds_what_is_like_a_document(model: str, tmp_path: Path, nestvec: RunNestvec) -> None:
    import nestvec as library

    library.Index.from_texts(TEXTS, model=model, path=tmp_path / "i").close()
    done = nestvec("search", tmp_path / "i", "--like", "4", "-k", "3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["hits"]
    assert len(found) == 3
    assert "4" not in [hit["id"] for hit in found]
    for words in (["x", "--like", "4"], []):
        done = nestvec("search", tmp_path / "i", *words)
        assert done.returncode == 2
        assert "and not both" in done.stderr
    done = nestvec("search", tmp_path / "i", "--like", "nothing")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no document 'nothing'" in done.stderr


def test_copies_are_named_once_and_never_the_document_that_is_the_query(model: str) -> None:
    texts = [*TEXTS[:20], TEXTS[3], TEXTS[3], TEXTS[5]]
    with nestvec.Index.from_texts(texts, model=model) as index:
        (found,) = index.search(TEXTS[3], k=20, hybrid=True, distinct=True).hits
        assert (found[0].id, found[0].copies) == ("3", ("20", "21"))
        for like, others in (("3", {"20", "21"}), ("20", {"3", "21"})):
            for hybrid in (False, True):
                (hits,) = index.search(like=like, k=5, distinct=True, hybrid=hybrid).hits
                assert {hits[0].id, *hits[0].copies} == others
                assert all(like not in (hit.id, *hit.copies) for hit in hits)
        (hits,) = index.search(like="3", k=5, hybrid=True).hits
        best = [hit for hit in hits if hit.id in ("20", "21")]
        assert sorted((hit.details.vector_rank, hit.details.words_rank) for hit in best) == [(1, 1), (2, 2)]


def test_texts_and_metadata_of_hits_are_read_once(model: str) -> None:
    with nestvec.Index.from_texts(TEXTS, model=model) as index:
        hits = index.search([TEXTS[3], TEXTS[8]], k=3)
        before = hits.hits[0][0]
        index.delete(["3"])
        assert hits.hits[0][0] is before


def test_of_a_long_text_the_words_that_few_documents_have_are_searched_for(model: str) -> None:
    common = [f"common{place}" for place in range(60)]
    texts = [" ".join([*common[:40], f"rare{place}", "Straße"]) for place in range(30)] + ["Élan vital"]
    with nestvec.Index.from_texts(texts, model=model) as index:
        for query, expected in ((" ".join([*common, "rare17"]), "17"), (" ".join([*common, "élan"]), "30")):
            found = index.explain(query, 31, hybrid=True)
            assert next(hit.id for hit in found.hits if hit.details.words_rank == 1) == expected
        with index._current().manifest.reading() as view:
            asked = match_expression(" ".join([*common, "rare17"]), view._document_frequencies)
            assert asked.count(" OR ") == 31
            assert '"rare17"' in asked


def test_what_cannot_be_built_is_said_before_anything_is_encoded(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_: object, **__: object) -> None:
        pytest.fail("something was encoded")

    monkeypatch.setattr(nestvec.CachedEncoder, "encode_documents", encode)
    monkeypatch.setattr(nestvec.SentenceTransformerEncoder, "encode_documents", encode)
    plan = Plan(model=model, full_dim=128, first_stage=FirstStage(dim=128, precision="pq8"))
    other = plan.model_copy(update={"full_dim": 999})
    fitted = plan.model_copy(update={"fitted_on": "rows.jsonl"})
    for wrong, error, message in (
        ({"plan": other}, DimensionError, "vectors of 999 dimensions"),
        ({"plan": fitted}, SearchIndexError, "give its vectors in learn_from"),
        ({"plan": plan, "texts": TEXTS[:5]}, SearchIndexError, "learned from 16 vectors at least, and there are 5"),
        ({"recall": 1.5}, SearchIndexError, "above 0 and below 1"),
    ):
        with pytest.raises(error, match=message):
            nestvec.Index.from_texts(**{"texts": TEXTS, "model": model, **wrong})
    documents = tmp_path / "docs.jsonl"
    documents.write_text("".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(TEXTS)))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(OutputExistsError):
        build_index(tmp_path / "there", documents, model=model, fit_on=documents)
    write_plan(other, tmp_path / "plan.toml")
    with pytest.raises(DimensionError, match="vectors of 999"):
        build_index(tmp_path / "i", documents, model=model, plan=tmp_path / "plan.toml", fit_on=documents)
