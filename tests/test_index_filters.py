"""Filters on metadata mean what a loop over the documents says. Run: pytest tests/test_index_filters.py (seconds)."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest

from nestvec.errors import FilterError
from nestvec.index import parse_filter

DOCUMENTS: list[dict[str, Any] | None] = [
    {"lang": "de", "year": 2020, "tags": ["a", "b"], "author": {"name": "Ann"}, "open": True, "odd name": 1},
    {"lang": "en", "year": 2019.5, "tags": ["b"], "open": False},
    {"lang": "de", "year": "2020", "tags": [], "note": None},
    {"lang": 'say "hi"', "year": -3, "author": {"name": "Bob"}},
    {"year": 1, "open": 1},
    None,
]
FIELDS = {"lang", "year", "tags", "author", "author.name", "open", "odd name", "note"}


def matching(text: str) -> list[int]:
    condition = parse_filter(text, FIELDS)
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE documents (number INTEGER PRIMARY KEY, metadata TEXT)")
    rows = [(place, None if one is None else json.dumps(one)) for place, one in enumerate(DOCUMENTS)]
    connection.executemany("INSERT INTO documents VALUES (?, ?)", rows)
    found = connection.execute(f"SELECT number FROM documents WHERE {condition.sql}", condition.parameters)
    return sorted(number for (number,) in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('lang = "de"', [0, 2]),
        ("lang == 'de'", [0, 2]),
        ('lang != "de"', [1, 3, 4, 5]),
        (r'lang = "say \"hi\""', [3]),
        ("year >= 2020", [0]),  # the text "2020" is no number
        ("year > 2019 and year < 2020", [1]),
        ("year = -3 or year = 1e0", [3, 4]),
        ('year < "3"', [2]),
        ('tags = "b"', [0, 1]),
        ('tags in ("a", "z")', [0]),
        ('tags not in ("a", "z")', [1, 2, 3, 4, 5]),
        ('author.name = "Ann"', [0]),
        ("open = true", [0]),
        ("open = 1", [4]),
        ("open in (true, false)", [0, 1]),
        ("note = null", [0, 1, 2, 3, 4, 5]),
        ("lang != null", [0, 1, 2, 3]),
        ("`odd name` = 1", [0]),
        ('not (lang = "de" or lang = "en") and year > 0', [4]),
        ('lang = "de" or lang = "en" and year > 3000', [0, 2]),  # and binds first
        ("lang in ('en', 1, null, true)", [1, 4, 5]),
        ("NOT open = TRUE AND year < 5", [3, 4]),
    ],
)
def test_a_filter_finds_what_a_reader_would(text: str, expected: list[int]) -> None:
    assert matching(text) == expected


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", 1, "nothing in it"),
        ("lang =", 7, "expected a value"),
        ('lang = "de" and > 2020', 17, "expected a field"),
        ("lang = de", 8, "quotes"),
        ('colour = "red"', 1, "no document has the field colour"),
        ('langs = "de"', 1, "did you mean lang"),
        ('(lang = "de"', 13, 'expected "\\)"'),
        ('lang = "de" year = 1', 13, '"and", "or"'),
        ("lang = 'de", 8, "make sense"),
        ("year in ()", 10, "expected a value"),
        ("year in (1 2)", 12, "expected"),
        ("year in 1", 9, "expected"),
        ("year < null", 8, "neither less nor more"),
        ("year not = 1", 12, "expected"),
        ("year ~ 1", 6, "make sense"),
        ("year = 1; drop table documents", 9, "make sense"),
        ("(" * 200 + "year = 1" + ")" * 200, 26, "nested"),
        ("not " * 200 + "year = 1", 101, "nested"),
        (" or ".join(["year = 1"] * 600), 6001, "more than 500"),
    ],
)
def test_a_filter_that_cannot_be_used_is_refused_with_the_place_marked(text: str, place: int, what: str) -> None:
    with pytest.raises(FilterError, match=what) as caught:
        parse_filter(text, FIELDS)
    message, line, mark = str(caught.value).split("\n")
    assert f"at character {place}:" in message
    assert line == f"  {text}"
    assert mark == " " * (place + 1) + "^"


def test_values_never_become_sql() -> None:
    assert matching('lang = "x\' OR 1=1 --"') == []
    condition = parse_filter('lang = "\'; DROP TABLE documents"', FIELDS)
    assert "DROP" not in condition.sql


def test_as_many_comparisons_and_values_as_are_allowed_run() -> None:
    assert matching(" or ".join(["year = 1"] * 500)) == [4]
    assert matching("(" * 24 + "year = 1" + ")" * 24) == [4]
    assert matching("not " * 24 + "year = 1") == [4]
    assert matching("(year = 1 or " * 12 + "not (year = 1 and year = 2)" + ")" * 12) == [0, 1, 2, 3, 4, 5]
    assert matching(f"year in ({', '.join(map(str, range(9_999)))})") == [0, 4]


def test_a_field_without_documents_is_said_to_be_one() -> None:
    with pytest.raises(FilterError, match="fields are: none"):
        parse_filter("a = 1", set())
