"""Documents to search, as files hold them. Run: pytest tests/test_data_documents.py (a second)."""

from __future__ import annotations

import csv
import datetime
import json
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from builders import write_json_lines
from nestvec.data import read_documents
from nestvec.errors import DataError, NestvecWarning


def facts(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [document.metadata for document in read_documents(path, **options)]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["2020", "1999", "-5", "0"], [2020, 1999, -5, 0]),
        (["1", "2.5", "1e+16"], [1, 2.5, 1e16]),
        (["7", "", "9"], [7, None, 9]),
        (["true", "false", ""], [True, False, None]),
        (["12e3", "12E3", "12000"], ["12e3", "12E3", "12000"]),
        (["00501", "12345"], ["00501", "12345"]),
        (["1.10", "1.1"], ["1.10", "1.1"]),
        (["1e999", "123"], ["1e999", "123"]),
        (["1_000", "5"], ["1_000", "5"]),
        (["9223372036854775808", "5"], ["9223372036854775808", "5"]),
        (["-0", "5"], ["-0", "5"]),
        (["nan", "inf"], ["nan", "inf"]),
        (["true", "1"], ["true", "1"]),
        (["\u0663", "3"], ["\u0663", "3"]),
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_a_column_of_cells_has_one_type(tmp_path: Path, cells: list[str], values: list[object], quoted: bool) -> None:
    with (tmp_path / "d.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
        writer.writerows([["id", "text", "x"], *([str(row), "some", cell] for row, cell in enumerate(cells))])
    found = [one.get("x") for one in facts(tmp_path / "d.csv")]
    assert found == values
    assert [type(one) for one in found] == [type(one) for one in values]


@pytest.mark.parametrize("separator", [";", "|", "\t", ","])
def test_the_separator_of_a_table_is_found_out(tmp_path: Path, separator: str) -> None:
    rows = [["id", "text", "lang"], ["a", "Der Reiher; er wartet, lange", "de"], ["b", "zwei\nZeilen", "de"]]
    with (tmp_path / "d.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    assert [tuple(one)[:3] for one in read_documents(tmp_path / "d.csv")] == [
        (key, text, {"lang": lang}) for key, text, lang in rows[1:]
    ]


def test_a_line_that_states_the_separator_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("sep=;\nid;text\na;x\n", encoding="utf-8")
    assert [one.text for one in read_documents(tmp_path / "d.csv")] == ["x"]


def test_columns_of_documents_can_be_mapped_or_named_where_there_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "mapped.csv").write_text("key,body_html,head\na,x,T\n", encoding="utf-8")
    mapped = {"id": "key", "text": "body_html", "title": "head"}
    assert [tuple(one)[:3] for one in read_documents(tmp_path / "mapped.csv", columns=mapped)] == [("a", "T x", {})]
    (tmp_path / "bare.tsv").write_text("7\tsome text\tnothing\t1999\n", encoding="utf-8")
    named = ["id", "text", "_", "year"]
    expected = [("7", "some text", {"year": 1999})]
    assert [tuple(one)[:3] for one in read_documents(tmp_path / "bare.tsv", columns=named)] == expected
    (tmp_path / "headed.tsv").write_text("id\ttext\n7\tx\n", encoding="utf-8")
    assert [one.id for one in read_documents(tmp_path / "headed.tsv", columns=["id", "text"])] == ["7"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, r"no column of ids and none of texts. Its columns are: 'key', 'words'. .*--columns id=KEY,text=BODY"),
        ({"id": "nope"}, "no column 'nope'. Its columns are: 'key', 'words'"),
        ({"di": "key"}, "Unknown column role 'di'. Roles of documents are: id, text, title, metadata"),
        (["id", "text", "more"], r"line 1: 2 cells where so many columns are named: 3"),
    ],
)
def test_columns_that_do_not_fit_say_what_there_is_and_what_to_write(
    tmp_path: Path, columns: Any, message: str
) -> None:
    (tmp_path / "d.csv").write_text("key,words\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        list(read_documents(tmp_path / "d.csv", columns=columns))


def test_documents_without_text_are_left_out_and_counted_and_strict_refuses_them(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"id": 1, "text": "x"}\n{"id": 2, "text": ""}\n', encoding="utf-8")
    with pytest.warns(NestvecWarning, match=r"documents without text, left out: 1 \(the first: line 2\)"):
        assert [one.id for one in read_documents(tmp_path / "d.jsonl")] == ["1"]
    with pytest.raises(DataError, match="line 2: its text is empty"):
        list(read_documents(tmp_path / "d.jsonl", strict=True))


@pytest.mark.parametrize("name", ["d.parquet", "d.jsonl"])
def test_a_column_of_vectors_is_no_metadata_and_can_be_used(tmp_path: Path, name: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
    rows = [
        {"id": f"d{row}", "text": "" if row == 1 else "some", "place": [48.1, 11.5], "embedding": vector.tolist()}
        for row, vector in enumerate(vectors)
    ]
    if name == "d.parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
    else:
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.warns(NestvecWarning, match="column 'embedding' holds vectors of 12 and is left out; --vectors"):
        assert facts(tmp_path / name) == [{"place": [48.1, 11.5]}] * 2
    found = list(read_documents(tmp_path / name, vectors="embedding"))
    assert [one.id for one in found] == ["d0", "d1", "d2"]  # what has a vector needs no text
    np.testing.assert_allclose(np.stack([one.vector for one in found]), vectors, rtol=1e-6)
    assert found[0].metadata == {"place": [48.1, 11.5]}
    with pytest.raises(DataError, match="Column 'id' of .* holds no vectors.*: embedding"):
        list(read_documents(tmp_path / name, vectors="id"))


def test_metadata_as_a_text_of_json_is_read(tmp_path: Path) -> None:
    table = pyarrow.table({"id": ["a", "b"], "text": ["x", "y"], "metadata": ['{"lang": "de"}', None]})
    parquet.write_table(table, tmp_path / "d.parquet")
    assert facts(tmp_path / "d.parquet") == [{"lang": "de"}, {}]
    (tmp_path / "d.jsonl").write_text('{"id": "a", "text": "x", "metadata": "{oops"}', encoding="utf-8")
    with pytest.raises(DataError, match="line 1: metadata is no JSON object"):
        list(read_documents(tmp_path / "d.jsonl"))


def test_folders_of_saved_data_sets_and_json_arrays_are_read(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "x", "year": 1999}, {"id": "b", "text": "y", "year": 2001}]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    (tmp_path / "d.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    for path in (tmp_path / "saved", tmp_path / "d.json"):
        assert [tuple(one)[:3] for one in read_documents(path)] == [
            ("a", "x", {"year": 1999}),
            ("b", "y", {"year": 2001}),
        ]


def test_what_parquet_holds_beside_json_becomes_json_or_is_named(tmp_path: Path) -> None:
    day, moment = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 30)  # as Parquet has it
    columns = {
        "id": ["a", "b"],
        "text": ["one", "two"],
        "day": [day, None],
        "moment": [moment, moment],
        "score": [float("nan"), 0.5],
        "price": [Decimal("1.50"), Decimal("2.25")],
        "tags": [["x", "y"], []],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "d.parquet")
    first, second = read_documents(tmp_path / "d.parquet")
    assert first.metadata == {
        "day": "2024-02-29",
        "moment": "2024-02-29T12:30:00",
        "score": None,
        "price": 1.5,
        "tags": ["x", "y"],
    }
    assert second.metadata["day"] is None
    parquet.write_table(pyarrow.table({**columns, "raw": [b"\x00", b"\x01"]}), tmp_path / "e.parquet")
    with pytest.warns(NestvecWarning, match=r"values of 'raw' of type bytes, which JSON does not have, left out: 2"):
        assert next(iter(facts(tmp_path / "e.parquet"))) == first.metadata
    with pytest.raises(DataError, match="row 1: 'raw' is of type bytes"):
        list(read_documents(tmp_path / "e.parquet", strict=True))


def test_vectors_are_known_in_whatever_form_they_come(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(130, 8)).round(2)
    texts = {"id": [str(row) for row in range(130)], "text": ["x"] * 130}
    late = [None] * 120 + vectors[120:].tolist()
    parquet.write_table(pyarrow.table({**texts, "late": late}), tmp_path / "late.parquet")
    codes = pyarrow.array((vectors * 10).astype("int8").tolist(), pyarrow.list_(pyarrow.int8()))
    parquet.write_table(pyarrow.table({**texts, "vector": codes}), tmp_path / "codes.parquet")
    rows = [{"id": str(row), "text": "x", "v": vector.tolist()} for row, vector in enumerate(vectors)]
    rows[3]["v"] = [0, 1, 0, 0, 0, 0, 0, 0]  # as JavaScript writes a vector of ones and zeros
    write_json_lines(tmp_path / "whole.jsonl", rows)
    inside = [{"id": row["id"], "text": "x", "metadata": {"v": row["v"], "n": 1}} for row in rows]
    write_json_lines(tmp_path / "inside.jsonl", inside)
    lines = [f'{row},x,"{vector.tolist()}"' for row, vector in enumerate(vectors)]
    (tmp_path / "cells.csv").write_text("\n".join(["id,text,v", *lines]), encoding="utf-8")
    names = {
        "late.parquet": "late",
        "codes.parquet": "vector",
        "whole.jsonl": "v",
        "inside.jsonl": None,
        "cells.csv": "v",
    }
    for name, column in names.items():
        with pytest.warns(NestvecWarning, match="holds vectors of 8 and is left out"):
            found = facts(tmp_path / name)
        assert all(set(one) <= {"n"} | ({"late"} if one.get("late", 0) is None else set()) for one in found), name
        if column not in (None, "late"):
            used = list(read_documents(tmp_path / name, vectors=column))
            assert len(used) == 130
            assert np.asarray(used[3].vector).shape == (8,)


def test_lists_of_numbers_that_are_no_vectors_stay_metadata(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": "x", "prices": [0.5] * (8 + n), "tags": list(range(9))} for n in range(3)]
    found = facts(write_json_lines(tmp_path / "d.jsonl", rows))
    assert found[1] == {"prices": [0.5] * 9, "tags": list(range(9))}


def test_a_column_beside_metadata_of_its_name_is_said(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "d.jsonl", [{"id": "a", "text": "x", "year": 1999, "metadata": {"year": 2001}}])
    with pytest.warns(NestvecWarning, match="columns 'year' beside another 'year' in the metadata, which counts: 1"):
        assert facts(path) == [{"year": 2001}]


def test_metadata_without_end_are_named(tmp_path: Path) -> None:
    deep: object = 1
    for _ in range(400):
        deep = {"a": deep}
    path = write_json_lines(tmp_path / "d.jsonl", [{"id": "a", "text": "x", "deep": deep}])
    with pytest.raises(DataError, match="line 1: metadata are nested more than 100 deep"):
        list(read_documents(path))


def test_ids_that_a_tool_wrote_as_floats_are_whole(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"id": [1.0, 2.0], "text": ["x", "y"]}), tmp_path / "d.parquet")
    assert [one.id for one in read_documents(tmp_path / "d.parquet")] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id;text;price, EUR\na;x;1\nb;y;2\n", {"price, EUR": 1}),
        ('id;text;"price, EUR"\na;x;1\nb;y;2\n', {"price, EUR": 1}),
        ("id\ttext\ta, b\na\tx\t1\nb\ty\t2\n", {"a, b": 1}),
        ("id, text, year\na,x,1999\n", {"year": 1999}),
        ("id,text,year,,\na,x,1999,,\n", {"year": 1999}),
        ("id,text,year\ra,x,1999\r", {"year": 1999}),
    ],
)
def test_headers_of_other_tools_are_read(tmp_path: Path, text: str, expected: dict[str, object]) -> None:
    (tmp_path / "d.csv").write_text(text, encoding="utf-8", newline="")
    assert facts(tmp_path / "d.csv")[0] == expected


def test_columns_that_are_named_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.tsv").write_text("a\tx\ty\n", encoding="utf-8")
    with pytest.raises(DataError, match="columns are named twice: text"):
        list(read_documents(tmp_path / "d.tsv", columns=["id", "text", "text"]))
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 3, names=["id", "text", "text"])
    parquet.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(DataError, match="columns are named twice: text"):
        list(read_documents(tmp_path / "d.parquet"))


def test_vectors_that_come_late_or_as_whole_numbers_are_vectors(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": str(row), "text": "t"} for row in range(150)]
    rows += [{"id": "late", "text": "t", "embedding": [0.5] * 12, "metadata": {"inner": [0.5] * 12, "year": 1}}]
    write_json_lines(tmp_path / "late.jsonl", rows)
    with pytest.warns(NestvecWarning, match="column 'embedding' holds vectors of 12 and is left out"):
        assert facts(tmp_path / "late.jsonl")[-1] == {"year": 1}
    table = pyarrow.table(
        {"id": ["a", "b"], "text": ["x", "y"], "v": pyarrow.array([[1, 0, -3]] * 2, pyarrow.list_(pyarrow.int8()))}
    )
    parquet.write_table(table, tmp_path / "v.parquet")
    vectors = [one.vector for one in read_documents(tmp_path / "v.parquet", vectors="v")]
    assert all(one is not None and one.dtype == np.float64 and one.tolist() == [1.0, 0.0, -3.0] for one in vectors)


def test_metadata_that_cannot_be_stored_are_named_together(tmp_path: Path) -> None:
    rows = [{"id": "1", "text": "t", "k": "a\0b"}, {"id": "2", "text": "t", "\ud800": 1}, {"id": "3", "text": "t"}]
    write_json_lines(tmp_path / "d.jsonl", [*rows, {"id": "4", "text": "t", "k": {"a\0": 1}}])
    with pytest.raises(DataError) as caught:
        list(read_documents(tmp_path / "d.jsonl"))
    assert "line 1: metadata hold a zero character" in str(caught.value)
    assert "line 2: metadata hold half a surrogate pair" in str(caught.value)
    assert "line 4: metadata hold a zero character" in str(caught.value)


def test_an_encoding_that_is_guessed_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes("id,text\n1,Größe\n2,über\n".encode("cp1252"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert len(list(read_documents(tmp_path / "d.csv"))) == 2
    assert [one for one in said if "read as cp1252" in str(one.message)] == said
    assert len(said) == 1
