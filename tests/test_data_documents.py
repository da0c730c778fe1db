"""Documents to search, as files hold them. Run: pytest tests/test_data_documents.py (a second)."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from nestvec.data import read_documents
from nestvec.errors import DataError


def test_cells_that_are_numbers_or_truth_values_can_be_filtered_as_such(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(
        "id,text,year,share,zip,flag,word\n7,a text,2020,-1.5e3,00501,true,yes\n8,12,,x,1.,False,\n", encoding="utf-8"
    )
    first, second = read_documents(tmp_path / "d.csv")
    assert first == ("7", "a text", {"year": 2020, "share": -1500.0, "zip": "00501", "flag": True, "word": "yes"})
    assert (second.id, second.text) == ("8", "12")
    assert {name: second.metadata.get(name) for name in ("share", "zip", "flag")} == {
        "share": "x",
        "zip": "1.",
        "flag": "False",
    }


def test_what_parquet_holds_beside_json_becomes_json_or_is_named(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
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
    with pytest.raises(DataError, match="(?s)metadata hold a bytes, which is no JSON"):
        list(read_documents(tmp_path / "e.parquet"))
