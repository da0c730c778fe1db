"""Filters on metadata mean what a loop over the documents says. Run: pytest tests/test_index_filters.py (seconds)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nestvec.errors import DataError, FilterError
from nestvec.index import Index, parse_filter
from nestvec.index.embedded.filter_sql import compile_condition
from nestvec.index.fields import Kind, Path, encode_keys, find_fields, spell_path

DOCUMENTS: list[dict[str, Any] | None] = [
    {"lang": "de", "year": 2020, "tags": ["a", "b"], "author": {"name": "Ann"}, "open": True, "odd name": 1},
    {"lang": "en", "year": 2019.5, "tags": ["b"], "open": False},
    {"lang": "de", "year": "2020", "tags": [], "note": None},
    {"lang": 'say "hi"', "year": -3, "author": {"name": "Bob"}},
    {"year": 1, "open": 1},
    None,
]
FIELDS = {"lang", "year", "tags", "author", "author.name", "open", "odd name", "note"}


def fields_of(documents: Sequence[Mapping[str, Any] | None]) -> dict[Path, Kind]:
    found: dict[Path, Kind] = {}
    for one in documents:
        for path, kind in find_fields(one or {}):
            found[path] = found.get(path, Kind(0)) | kind
    return found


def matching(text: str, documents: Sequence[Mapping[str, Any] | None] = DOCUMENTS, fields: Any = None) -> list[int]:
    condition = compile_condition(parse_filter(text, fields or fields_of(documents)))
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE documents (number INTEGER PRIMARY KEY, metadata TEXT)")
    rows = [
        (place, None if one is None else json.dumps(encode_keys(one), ensure_ascii=False))
        for place, one in enumerate(documents)
    ]
    connection.executemany("INSERT INTO documents VALUES (?, ?)", rows)
    found = connection.execute(f"SELECT number FROM documents WHERE {condition.text}", condition.parameters)
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
@pytest.mark.parametrize("fields", [None, FIELDS])
def test_a_filter_finds_what_a_reader_would(text: str, expected: list[int], fields: set[str] | None) -> None:
    assert matching(text, fields=fields) == expected


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
    condition = compile_condition(parse_filter('lang = "\'; DROP TABLE documents"', FIELDS))
    assert "DROP" not in condition.text


def test_as_many_comparisons_and_values_as_are_allowed_run() -> None:
    assert matching(" or ".join(["year = 1"] * 500)) == [4]
    assert matching("(" * 24 + "year = 1" + ")" * 24) == [4]
    assert matching("not " * 24 + "year = 1") == [4]
    assert matching("(year = 1 or " * 12 + "not (year = 1 and year = 2)" + ")" * 12) == [0, 1, 2, 3, 4, 5]
    assert matching(f"year in ({', '.join(map(str, range(9_999)))})") == [0, 4]


def test_a_field_without_documents_is_said_to_be_one() -> None:
    with pytest.raises(FilterError, match="fields are: none"):
        parse_filter("a = 1", set())


ODD: list[dict[str, Any]] = [
    {"owner": {"name": "Ann", "city": "Ulm"}, "v.1": 7, 'say "hi"': "x", "back\\slash": 1, "mixed": {"a": 1}},
    {"owner": {"name": "Bob", "city": "Ann"}, "straße": "y", "ราคา": 5, "a`b": 2, "100%": 3, "mixed": "Ann"},
    {"": 1, "%41": 1, "A": 2, "tab\there": 1, "and": 4, "2024": {"05": 6}, "e\u0301": 8, "people": [{"name": "Ann"}]},
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`v.1` = 7", [0]),
        ("v.1 = 7", [0]),
        ('`say "hi"` = "x"', [0]),
        ("`back\\slash` = 1", [0]),
        ('straße = "y"', [1]),
        ("ราคา = 5", [1]),
        ("`a``b` = 2", [1]),
        ("`100%` = 3", [1]),
        ("`` = 1", [2]),
        ("`%41` = 1", [2]),
        ("A = 2", [2]),
        ("`tab\there` = 1", [2]),
        ("`and` = 4", [2]),
        ("`2024`.05 = 6", [2]),
        ("`2024`.`05` >= 6", [2]),
        ("\u00e9 = 8", [2]),  # the same letter, composed
        ('owner.name = "Ann"', [0]),
        ('mixed = "Ann"', [1]),  # the members of an object are not its values
        ("mixed.a = 1", [0]),
        ("mixed != null", [0, 1]),
        ("owner = null", [2]),
    ],
)
def test_any_key_can_be_named(text: str, expected: list[int]) -> None:
    assert matching(text, ODD) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('owner = "Ann"', r"owner is an object; compare a field inside it: owner.name, owner.city"),
        ('owner in ("Ann", "Bob")', "owner is an object"),
        ('people = "Ann"', "people is a list of objects or lists, or empty; filters do not reach into it"),
        ('v.1 = "7"', r"`v.1` holds numbers, and never texts; compare it with a number without quotes"),
        ("straße = 3", r'straße holds texts, and never numbers; compare it with a "text"'),
        ("straße != true", "straße holds texts, and never truth values"),
        ("owner.name < 3", "owner.name holds texts, and never numbers"),
        ("people.name = 'Ann'", "no document has the field people.name"),
        ("v.2 = 7", r"did you mean `v.1`\?"),
    ],
)
def test_a_comparison_that_can_never_be_true_is_refused(text: str, what: str) -> None:
    with pytest.raises(FilterError, match=what):
        matching(text, ODD)


def test_a_name_that_could_be_two_fields_is_refused_with_both_spellings() -> None:
    documents = [{"a.b": 1, "a": {"b": 2}}]
    with pytest.raises(FilterError, match=r"a.b could be two fields; write `a`.`b` or `a.b`"):
        matching("a.b = 1", documents)
    assert matching("`a.b` = 1", documents) == [0]
    assert matching("`a`.`b` = 2", documents) == [0]


@pytest.mark.parametrize(
    ("metadata", "what"),
    [
        ({1: "a"}, r"document k0 are no JSON: the key 1 is no text. Write it as '1'"),
        ({"a": {None: 1}}, "the key None is no text"),
        ({("a", "b"): 1}, "the key .* is no text"),
        ({"a": "x\0y"}, "a text in them holds a zero character"),
        ({"a": "\ud800"}, "half a surrogate pair"),
        ({"\ud800": 1}, "half a surrogate pair"),
        ({"a": float("nan")}, "are no JSON"),
        ({"a": object()}, "are no JSON"),
    ],
)
def test_metadata_that_filters_could_not_find_are_refused(tmp_path: Any, metadata: Any, what: str) -> None:
    vectors = np.eye(2, 8, dtype=np.float32)
    with pytest.raises(DataError, match=what):
        Index.build(tmp_path / "i", vectors=vectors, ids=["k0", "k1"], metadata=[metadata, None])


KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3) | st.sampled_from(["a", "b", "a.b", "b.a", "a b"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, -1.5, 2.0, 1e300])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)
    | st.sampled_from(["a", "b", "10", "2"])
)
VALUES = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=3), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
METADATA = st.lists(st.none() | st.dictionaries(KEYS, VALUES, max_size=4), min_size=1, max_size=6)


def written(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return json.dumps(value)


def value_at(metadata: Any, path: Path) -> Any:
    for key in path:
        metadata = metadata.get(key) if isinstance(metadata, Mapping) else None
    return metadata


def holds(metadata: Any, path: Path, operator: str, values: list[Any]) -> bool:
    """What a filter means, in plain Python."""
    found = value_at(metadata, path)
    elements = list(found) if isinstance(found, list) else [found]
    if operator in ("!=", "not in"):
        return not holds(metadata, path, {"!=": "=", "not in": "in"}[operator], values)

    def kind(one: Any) -> str:
        return type(one).__name__.replace("float", "int")

    def compare(one: Any, value: Any) -> bool:
        if kind(one) != kind(value) or isinstance(one, Mapping):
            return False
        return {"<": one < value, "<=": one <= value, ">": one > value, ">=": one >= value}[operator]

    if operator in ("=", "in"):
        return any(kind(one) == kind(value) and one == value for one in elements for value in values)
    return any(compare(one, values[0]) for one in elements)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(METADATA, st.data())
def test_filters_agree_with_plain_python_on_any_metadata(documents: list[dict[str, Any] | None], data: Any) -> None:
    fields = fields_of(documents)
    assume(fields)
    path = data.draw(st.sampled_from(sorted(fields)))
    present = [value_at(one or {}, path) for one in documents]
    present = [item for one in present for item in (one if isinstance(one, list) else [one])]
    scalars = [one for one in present if not isinstance(one, (dict, list))]
    value = st.sampled_from(scalars) if scalars else st.none()
    operator = data.draw(st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "in", "not in"]))
    values = data.draw(st.lists(value | SCALARS, min_size=1, max_size=3 if "in" in operator else 1))
    if operator[0] in "<>":
        assume(isinstance(values[0], (str, int, float)) and not isinstance(values[0], bool))
    operand = f"({', '.join(map(written, values))})" if "in" in operator else written(values[0])
    text = f"{spell_path(path)} {operator} {operand}"
    expected = [place for place, one in enumerate(documents) if holds(one or {}, path, operator, values)]
    try:
        found = matching(text, documents)
    except FilterError as error:
        ambiguous = "could be two fields" in str(error)
        never = expected in ([], list(range(len(documents))))  # `!=` of what is never there is always true
        assert ambiguous or never, text
    else:
        assert found == expected, text


def test_kinds_that_only_deleted_documents_had_are_forgotten_by_compacting(tmp_path: Any) -> None:
    metadata = [{"zip": 1, "old": {"a": 2}}, {"zip": "01", 'k"%': True}]
    index = Index.build(tmp_path / "i", vectors=np.eye(2, 8, dtype="f4"), ids=["n", "t"], metadata=metadata)
    index.delete(["n"])
    index.compact()
    for text in ("zip = 1", "old.a = 2"):
        with pytest.raises(FilterError):
            index.search(np.ones((1, 8), "f4"), filter=text)
    assert index.search(np.ones((1, 8), "f4"), filter='`k"%` = true').ids == [["t"]]
    index.close()


def test_metadata_without_end_are_refused(tmp_path: Any) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = {"a": [deep]}
    with pytest.raises(DataError, match="nested more than 100 deep"):
        Index.build(tmp_path / "i", vectors=np.eye(1, 8, dtype="f4"), metadata=[{"deep": deep}])


def test_a_backslash_stands_for_itself_but_before_quotes_and_backslashes() -> None:
    documents = [{"p": "C:\\temp"}, {"p": "a\nb"}, {"p": 'say "x"'}, {"p": "a\\nb"}, {"p": "it's"}]
    for text, place in ((r"C:\temp", 0), (r"C:\\temp", 0), ("a\nb", 1), (r"say \"x\"", 2), (r"a\nb", 3), ("it's", 4)):
        assert matching(f'p = "{text}"', documents) == [place]
    assert matching(r"p = 'it\'s'", documents) == [4]
