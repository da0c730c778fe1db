"""Errors about one text say where it stands. Run: pytest tests/test_data_places.py (a second)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nestvec.data import naming_places
from nestvec.data.places import find_text
from nestvec.errors import EndpointError, ModelError


def test_a_text_is_found_in_rows_lists_titles_and_benchmarks(tmp_path: Path) -> None:
    rows = [{"query": "a", "pos": ["b", "c"]}, {"query": "d", "positive": "e"}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert find_text(tmp_path / "r.jsonl", "c") == f"{tmp_path / 'r.jsonl'}, line 1"
    assert find_text(tmp_path / "r.jsonl", "e ") == f"{tmp_path / 'r.jsonl'}, line 2"
    assert find_text(tmp_path / "r.jsonl", "x") is None
    (tmp_path / "bare.tsv").write_text("a\tb\nc\td\n", encoding="utf-8")
    assert find_text(tmp_path / "bare.tsv", "b", header=["query", "positive"]) == f"{tmp_path / 'bare.tsv'}, line 1"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "corpus.jsonl").write_text('{"_id": "1", "title": "T", "text": "body"}\n', encoding="utf-8")
    (tmp_path / "b" / "queries.jsonl").write_text('{"_id": "1", "text": "asked"}\n', encoding="utf-8")
    assert find_text(tmp_path / "b", "T body") == f"{tmp_path / 'b' / 'corpus.jsonl'}, line 1"
    assert find_text(tmp_path / "b", "asked") == f"{tmp_path / 'b' / 'queries.jsonl'}, line 1"
    assert find_text(tmp_path / "none", "asked") is None
    (tmp_path / "t.jsonl").write_text('{"id": "1", "head": "H", "body": "of it"}\n', encoding="utf-8")
    assert find_text(tmp_path / "t.jsonl", "H of it") == f"{tmp_path / 't.jsonl'}, line 1"


@pytest.mark.parametrize("kind", [ModelError, EndpointError])
def test_only_errors_about_a_text_are_added_to(tmp_path: Path, kind: type[ModelError | EndpointError]) -> None:
    (tmp_path / "r.jsonl").write_text('{"query": "a", "positive": "b"}', encoding="utf-8")
    error = kind("No direction.")
    with pytest.raises(kind, match=r"^No direction\.$"), naming_places(tmp_path / "r.jsonl"):
        raise error
    error.text = "b"
    with (
        pytest.raises(kind, match=r"^No direction\. It stands in .*r.jsonl, line 1\.$"),
        naming_places(tmp_path / "r.jsonl"),
    ):
        raise error
