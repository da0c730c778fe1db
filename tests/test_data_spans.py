"""Queries cut out of documents. Run: pytest tests/test_data_spans.py (a second)."""

from __future__ import annotations

import pytest

from nestvec.data import span_rows

LONG = "the river runs down to the sea and takes the silver with it every day of the year"


def test_a_span_and_its_rest_are_the_words_of_the_text() -> None:
    for seed in range(30):
        ((row, text),) = span_rows([LONG], seed=seed).items()
        assert text == LONG
        words = row.query.split()
        assert len(words) == 8
        assert row.query in LONG
        before, after = LONG.split(row.query)
        assert row.positive.split() == before.split() + after.split()
    assert len({next(iter(span_rows([LONG], seed=seed))).query for seed in range(30)}) > 5


@pytest.mark.parametrize("text", ["one two", "one two three", "a\tb\n c d"])
def test_a_short_text_gives_half_of_itself_at_most(text: str) -> None:
    (row,) = span_rows([text])
    assert 1 <= len(row.query.split()) <= len(text.split()) / 2
    assert sorted([*row.query.split(), *row.positive.split()]) == sorted(text.split())


@pytest.mark.parametrize("text", ["検索エンジンは文書を探すための道具である", "การค้นหาเอกสารด้วยความหมาย"])
def test_a_text_without_spaces_is_cut_between_characters(text: str) -> None:
    (row,) = span_rows([text])
    assert 4 <= len(row.query) <= 12
    assert row.query in text
    assert len(row.query) + len(row.positive) == len(text)


@pytest.mark.parametrize("text", ["", "  ", "word", "語"])
def test_texts_too_short_to_leave_anything_are_left_out(text: str) -> None:
    assert span_rows([text, LONG]) == span_rows([LONG]) or len(span_rows([text, LONG])) == 1


def test_the_seed_decides() -> None:
    assert span_rows([LONG] * 3, seed=4) == span_rows([LONG] * 3, seed=4)
    assert span_rows([LONG] * 3, seed=4) != span_rows([LONG] * 3, seed=5)
