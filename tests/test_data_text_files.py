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


LEGACY_TEXTS = {
    "cp1252": "größe\n",
    "latin-1": "Ñandú\nété\nâgé\n",
    "cp1254": "İstanbul güneşi\nşeker\nçiğ\n",
    "cp1250": "Zażółć gęślą jaźń\nświęta\n",
    "iso8859-2": "Zażółć gęślą jaźń\nświęta\n",
    "cp1251": "Привет мир\nкак дела\n",
    "koi8-r": "Привет мир\nкак дела\n",
    "cp1253": "Καλημέρα κόσμε\nτι κάνεις\n",
    "cp932": "図書館で本を読む\n日本語\n",
    "euc-jp": "図書館で本を読む\n日本語\n",
    "gb18030": "文档一\n文档二\n检索系统\n",
    "big5": "圖書館\n檢索系統\n",
    "cp949": "도서관에서 책을 읽다\n한국어\n",
    "cp1255": "איפה הספרייה\nשלום עולם\nתודה רבה\n",
    "cp1256": "أين المكتبة\nمرحبا بالعالم\n",
    "cp1257": "kur ir bibliotēka\nšūna un ģimene\n",
    "cp866": "где библиотека\nкак открыть файл\n",
    "iso8859-5": "где библиотека\nкак открыть файл\n",
    "koi8-u": "де бібліотека\nїжак у Києві\n",
    "mac-roman": "Größe\nüber die Straße\n",
    "cp850": "Größe\nüber die Straße\n",
    "cp874": "ห้องสมุดอยู่ที่ไหน\nสวัสดีชาวโลก\n",
}


@pytest.mark.parametrize("encoding", LEGACY_TEXTS)
@pytest.mark.parametrize("ascii_lines", [0, 60_000])  # the latter are more than what is looked at first
def test_short_lists_in_older_encodings_are_read_with_a_word(tmp_path: Path, encoding: str, ascii_lines: int) -> None:
    text = "plain\n" * ascii_lines + LEGACY_TEXTS[encoding]
    (tmp_path / "ids.txt").write_bytes(text.encode(encoding))
    with pytest.warns(NestvecWarning, match="is not UTF-8; it is read as"):
        assert read_line_list(tmp_path / "ids.txt") == text.splitlines()


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1251", ["Москва", "Тула", "Казань"]),
        ("cp1251", ["МОСКВА", "ГДЕ БИБЛИОТЕКА", "СССР"]),
        ("cp1250", ["árvíztűrő tükörfúrógép", "őszi eső"]),
        ("iso8859-2", ["příliš žluťoučký kůň", "úpěl ďábelské ódy"]),
        ("cp1253", ["Κόκκινο", "Μπλε βραστήρα", "Πάτρα"]),
        ("cp1252", ["10 \u00d7 20 cm", "100 €", "20°C", "It\u2019s \u201cblue\u201d"]),
        ("cp1252", ["São Paulo", "Ångström", "Zoë", "Łódź".encode("cp1250").decode("cp1252")]),
        ("gb18030", ["红色水壶", "蓝色水壶"]),
    ],
)
@pytest.mark.parametrize("cells", ["{}", "a{}{},{},de", "k{}{};{};3,50", '{}{},"{}",x'])
def test_tables_in_older_encodings_are_read_as_their_words(
    tmp_path: Path, encoding: str, words: list[str], cells: str
) -> None:
    lines = [word if cells == "{}" else cells.format("row", row, word) for row, word in enumerate(words)]
    (tmp_path / "t.csv").write_bytes("\n".join(lines).encode(encoding))
    with pytest.warns(NestvecWarning, match="it is read as"):
        assert [line.rstrip() for _, line in read_lines(tmp_path / "t.csv", Problems("t"))] == lines


def test_what_is_no_text_in_any_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes(bytes(range(128, 256)) * 4)
    with pytest.raises(DataError, match="in which encoding it is cannot be told.*iconv"):
        read_line_list(tmp_path / "ids.txt")


def test_a_long_table_is_not_cut_within_a_character(tmp_path: Path) -> None:
    text = "".join(f"{number},混合检索系统很有用\n" for number in range(20_000))
    for cut in range(3):
        (tmp_path / "a.csv").write_bytes(("x" * cut + text).encode("gbk"))
        with pytest.warns(NestvecWarning, match="read as gb18030"):
            assert "".join(line for _, line in read_lines(tmp_path / "a.csv", Problems("a.csv"))) == "x" * cut + text


def test_zero_bytes_make_no_file_wide(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,a\0b\n2,c\n")
    assert [line for _, line in read_lines(tmp_path / "a.csv", Problems("a"))] == ["id,text\n", "1,a\0b\n", "2,c\n"]
    (tmp_path / "ids.txt").write_bytes(b"k1\n" * 100 + b"a\0b\n")
    with pytest.raises(DataError, match="holds zero bytes"):
        read_line_list(tmp_path / "ids.txt")


@pytest.mark.parametrize("text", ["ключ", "Ключ и замок", "文档一\n文档二"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_and_without_ascii(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "ids.txt").write_bytes(text.encode(encoding))
    assert read_line_list(tmp_path / "ids.txt") == text.split("\n")


def test_lines_end_as_old_macs_ended_them_where_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ids.txt").write_bytes(b"a\rb\rc\r")
    assert read_line_list(tmp_path / "ids.txt") == ["a", "b", "c"]
    content = "a\u2028b\nc\x85d\n".encode()  # line ends of str.splitlines, and of no text file
    (tmp_path / "ids.txt").write_bytes(content)
    monkeypatch.setattr("nestvec.data.text_files.sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert read_line_list(tmp_path / "ids.txt") == read_line_list("-") == ["a\u2028b", "c\x85d"]


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
