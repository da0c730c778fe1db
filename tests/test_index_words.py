"""Search by words in scripts with and without spaces. Run: pytest tests/test_index_words.py (seconds)."""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestvec.errors import NestvecWarning
from nestvec.index import Index
from nestvec.index.embedded.manifest import Manifest
from nestvec.index.embedded.view import FORMAT
from nestvec.index.words import index_terms, match_expression
from older_index import downgrade

TEXTS = [
    "混合检索很有用也很快",
    "図書館で本を読むのが好きです",
    "도서관에서 책을 읽었다",
    "ห้องสมุดเปิดทุกวันจันทร์",
    "the library is open on Mondays",
    "iPhone用ケースを買った",
    "पुस्तकालय खुला है",
]


def build(folder: Path, texts: list[str]) -> Path:
    vectors = np.random.default_rng(0).normal(size=(len(texts), 8)).astype(np.float32)
    Index.build(folder, vectors=vectors, texts=texts).close()
    return folder


def found(folder: Path, words: str, k: int = 10) -> list[int]:
    return [int(id_) for id_, _ in ranked(folder, words, k)]


def ranked(folder: Path, words: str, k: int) -> list[tuple[str, float]]:
    manifest = Manifest(folder)
    try:
        with manifest.reading() as view:
            return view.best_by_words(words, k)
    finally:
        manifest.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("words") / "index", TEXTS)


@pytest.mark.parametrize(
    ("words", "best"),
    [
        ("检索", 0),
        ("混合检索", 0),
        ("快", 0),  # the last character of a run
        ("図書館", 1),
        ("本", 1),
        ("読む", 1),
        ("す", 1),
        ("도서관", 2),
        ("책", 2),
        ("읽", 2),
        ("ห้องสมุด", 3),
        ("จันทร์", 3),
        ("ท", 3),
        ("library", 4),
        ("MONDAYS", 4),
        ("ケース", 5),
        ("ｹｰｽ", 5),  # half-width
        ("iphone", 5),
        ("iPhone用", 5),
        ("पुस्तकालय", 6),
    ],
)
def test_a_word_finds_its_document_in_every_script(folder: Path, words: str, best: int) -> None:
    assert found(folder, words)[0] == best


@pytest.mark.parametrize("words", ["书店", "犬", "학교", "โรง", "libraries", "पुस्तक", "", " \0 ", '"'])
def test_what_no_document_has_finds_none(folder: Path, words: str) -> None:
    assert found(folder, words) == []


def test_hangul_of_single_letters_is_found_as_syllables(folder: Path) -> None:
    assert found(folder, unicodedata.normalize("NFD", "도서관"))[0] == 2


def test_bm25_ranks_the_document_that_has_more_of_the_query(tmp_path: Path) -> None:
    texts = ["図書館の本", "本屋", "図書館", "図書館で本を読む。図書館は静かだ", "駅前の店"]
    ranked = found(build(tmp_path / "i", texts), "図書館で本を読む")
    assert ranked[0] == 3
    assert 4 not in ranked


LETTERS = st.text(st.sampled_from("検索図書館本あいアイー가나다ก้ขัค"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(LETTERS, min_size=1, max_size=6), st.data())
def test_every_part_of_a_text_finds_it(texts: list[str], data: st.DataObject) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5(terms, tokenize=\"unicode61 categories 'L* N* M* Co'\")")
    connection.executemany("INSERT INTO words (terms) VALUES (?)", [(index_terms(text),) for text in texts])
    row = data.draw(st.integers(0, len(texts) - 1))
    start = data.draw(st.integers(0, len(texts[row]) - 1))
    end = data.draw(st.integers(start + 1, len(texts[row])))
    expression = match_expression(texts[row][start:end])
    matches = connection.execute("SELECT rowid FROM words WHERE words MATCH ?", (expression,)).fetchall()
    assert (row + 1,) in matches


def test_words_of_what_was_deleted_or_replaced_find_nothing(tmp_path: Path) -> None:
    index = Index.open(build(tmp_path / "i", TEXTS))
    index.delete(["0"])
    vector = np.ones((1, 8), np.float32)
    index.upsert(vector, ["1"], texts=["別の文書"])
    index.close()
    assert found(tmp_path / "i", "检索") == []
    assert found(tmp_path / "i", "図書館") == []
    assert found(tmp_path / "i", "文書") == [1]
    assert Index.open(tmp_path / "i").verify() == []


def test_a_long_query_without_spaces_is_answered(folder: Path) -> None:
    assert found(folder, "図書館で本を読む" * 2000)[0] == 1


def test_an_older_index_is_read_says_what_it_lacks_and_is_brought_up_to_date_by_a_write(tmp_path: Path) -> None:
    folder = tmp_path / "i"
    vectors = np.random.default_rng(0).normal(size=(len(TEXTS), 8)).astype(np.float32)
    metadata = [{"v.1": place, 'say "hi"': "x", "100%": True, "owner": {"name": "Ann"}} for place in range(len(TEXTS))]
    Index.build(folder, vectors=vectors, texts=TEXTS, metadata=metadata).close()
    downgrade(folder)
    with Index.open(folder) as index:
        assert index.search(vectors[:1], k=9, filter="v.1 = 3").ids == [["3"]]
        assert index.search(vectors[:1], k=9, filter='owner.name = "Ann" and v.1 < 2').ids[0] == ["0", "1"]
        assert index.get(["1"])["1"].metadata == metadata[1]
        assert found(folder, "library") == [4]
        with pytest.warns(NestvecWarning, match="written by an older nestvec.*nestvec index compact"):
            assert found(folder, "图书馆") == []
        index.add(np.ones((1, 8), np.float32), ["new"], texts=["检索系统"], metadata=[{"back\\slash": 1}])
        assert set(index.search(vectors[:1], k=9, filter='`say "hi"` = "x" and `100%` = true').ids[0]) == set("0123456")
        assert index.search(vectors[:1], filter="`back\\slash` = 1").ids == [["new"]]
        assert index.get(["1"])["1"].metadata == metadata[1]
        assert index.verify() == []
    connection = sqlite3.connect(folder / "manifest.sqlite")
    assert json.loads(connection.execute("SELECT value FROM settings WHERE name = 'format'").fetchone()[0]) == FORMAT
    connection.close()
    assert {id_ for id_, _ in ranked(folder, "检索", 9)} == {"0", "new"}
    assert ranked(folder, "図書館", 9)[0][0] == "1"


@pytest.mark.parametrize(
    ("text", "words"),
    [("葛\U000e0100城市", "葛城"), ("葛城市", "葛\U000e0100城"), ("ㄅㄆㄇ", "ㄆ"), ("ㄅㄆㄇ", "ㄆㄇ")],
)
def test_variants_of_characters_and_bopomofo_are_found(tmp_path: Path, text: str, words: str) -> None:
    Index.build(tmp_path / "i", vectors=np.eye(2, 8, dtype="f4"), texts=["other", text]).close()
    assert found(tmp_path / "i", words) == [1]
