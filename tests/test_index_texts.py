"""Two lines from texts to a search, and the nearest of a stored document. Run: pytest tests/test_index_texts.py (seconds)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import nestvec
from builders import build_tiny_model
from conftest import RunNestvec
from nestvec.errors import DataError, SearchIndexError, VectorError

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
