"""Lines out of files in any encoding. Run: pytest tests/test_data_text_files.py (a second)."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestvec.data.problems import Problems
from nestvec.data.text_files import read_line_list, read_lines, sniff_encoding
from nestvec.errors import DataError, NestvecWarning, SourceNotFoundError

IDS = ["k0", "Zürich-7", "文書-9", "last"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_is_read_in_any_unicode_encoding(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(end.join([*IDS, "", "  "]).encode(encoding))
    assert read_line_list(path) == IDS
    with gzip.open(tmp_path / "ids.txt.gz", "wb") as file:
        file.write(path.read_bytes())
    assert read_line_list(tmp_path / "ids.txt.gz") == IDS


@pytest.mark.parametrize("encoding", [*ENCODINGS, "cp1252"])
def test_standard_input_is_read_in_any_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    ids = ["k0", "Zürich-7"]
    stream = SimpleNamespace(buffer=io.BytesIO("\n".join(ids).encode(encoding)))
    monkeypatch.setattr("nestvec.data.text_files.sys.stdin", stream)
    if encoding == "cp1252":
        with pytest.warns(NestvecWarning, match="standard input is not UTF-8; it is read as cp1252"):
            assert read_line_list("-") == ids
    else:
        assert read_line_list("-") == ids


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), min_size=1))
def test_every_list_in_utf_8_is_read_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_text("\n".join(texts), encoding="utf-8", newline="")
    expected = [text.strip().removeprefix("\ufeff") if not row else text.strip() for row, text in enumerate(texts)]
    assert read_line_list(path) == [text for text in expected if text]


def test_western_texts_of_one_byte_a_character_are_read_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes("Zürich\ncafé\n".encode("latin-1"))
    with pytest.warns(NestvecWarning, match="read as cp1252.*iconv"):
        assert read_line_list(tmp_path / "ids.txt") == ["Zürich", "café"]


def test_damaged_lines_of_a_unicode_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Zürich\nGröße\n".encode() + b"caf\xe9\n" + "Käse\n".encode())
    problems = Problems("a.txt")
    assert [text for _, text in read_lines(path, problems)] == ["Zürich\n", "Größe\n", "Käse\n"]
    with pytest.raises(DataError, match=r"line 3: not UTF-8 text \(byte 4\)"):
        problems.raise_if_any()


def test_a_file_longer_than_what_is_looked_at_is_read_whole(tmp_path: Path) -> None:
    lines = [f"line {number} größer" for number in range(40_000)]
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "a.txt").write_text("\n".join(lines), encoding=encoding)
        assert read_line_list(tmp_path / "a.txt") == lines


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(range(256)) * 3)
    with pytest.raises(DataError, match="is no text"):
        read_line_list(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_bytes("ids\n".encode("utf-16") + b"\x00\xd8")
    with pytest.raises(DataError, match="no text in utf-16"):
        read_line_list(tmp_path / "b.txt")
    with pytest.raises(SourceNotFoundError, match="does not exist"):
        read_line_list(tmp_path / "c.txt")


def test_a_sample_cut_within_a_character_is_still_utf_8() -> None:
    assert sniff_encoding("größe".encode()[:3], complete=False) == ("utf-8", 0)
