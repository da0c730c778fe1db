"""Every format gives the same records; broken files say where. Run: pytest tests/test_data_readers.py (seconds)."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from nestvec.data import RetrievalRow, read_hub_records, read_records
from nestvec.errors import DataError, MissingExtraError, NestvecWarning, SourceNotFoundError

ROWS = [
    {
        "query": "what is a monad",
        "positive": "a monoid in the category of endofunctors",
        "negative": "a kind of burrito",
    },
    {"query": '"quotes" and, commas', "positive": '"two words', "negative": "ümlaut 💡"},
    {"query": "third", "positive": "three", "negative": "four"},
]
EXPECTED = [RetrievalRow(row["query"], row["positive"], (row["negative"],)) for row in ROWS]


def write(path: Path) -> Path:
    text_suffix = path.suffixes[-2] if path.suffix == ".gz" else path.suffix
    if text_suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        return path
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        if text_suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in ROWS)
        elif text_suffix == ".csv":
            writer = csv.DictWriter(file, ROWS[0])
            writer.writeheader()
            writer.writerows(ROWS)
        else:  # TSV has no quoting
            file.writelines("\t".join(row) + "\n" for row in [ROWS[0].keys(), *(row.values() for row in ROWS)])
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.tsv", "a.TSV", "a.parquet"])
def test_every_format_gives_the_same_records(tmp_path: Path, name: str) -> None:
    assert read_records(write(tmp_path / name)) == EXPECTED


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_limit_reads_only_the_first_rows(tmp_path: Path, name: str) -> None:
    assert read_records(write(tmp_path / name), limit=2) == EXPECTED[:2]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_local_folder_of_parquet_files_reads_like_a_hub_data_set(tmp_path: Path, streaming: bool) -> None:
    write(tmp_path / "train-00000-of-00001.parquet")
    assert read_hub_records(str(tmp_path), streaming=streaming, limit=2) == EXPECTED[:2]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_local_folder_has_the_configurations_that_its_readme_names(tmp_path: Path, streaming: bool) -> None:
    for name in ("plain", "hard"):
        (tmp_path / name).mkdir()
        rows = [{"query": f"{name} {row}", "positive": "p"} for row in range(2)]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name / "train-0.parquet")
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n"
        + "".join(
            f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train-*\n"
            for name in ("plain", "hard")
        )
        + "---\n",
        encoding="utf-8",
    )
    for name in ("plain", "hard"):
        found = read_hub_records(str(tmp_path), config=name, streaming=streaming)
        assert found == [RetrievalRow(f"{name} {row}", "p") for row in range(2)]
    with pytest.raises(SourceNotFoundError, match="no configuration 'nope'. Its configurations are: plain, hard"):
        read_hub_records(str(tmp_path), config="nope", streaming=streaming)
    with pytest.raises(SourceNotFoundError, match="several configurations: plain, hard. Say which: config = 'plain'"):
        read_hub_records(str(tmp_path), streaming=streaming)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    marked = card.replace("- config_name: hard\n", "- config_name: hard\n  default: true\n")
    (tmp_path / "README.md").write_text(marked, encoding="utf-8")
    assert read_hub_records(str(tmp_path), streaming=streaming)[0] == RetrievalRow("hard 0", "p")


def test_what_save_to_disk_has_written_is_read_with_its_splits(tmp_path: Path) -> None:
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": whole, "dev": whole.select([2])}).save_to_disk(tmp_path / "split")
    for name in ("one", "split"):
        assert read_hub_records(str(tmp_path / name)) == EXPECTED
        assert read_records(tmp_path / name, limit=1) == EXPECTED[:1]
    assert read_hub_records(str(tmp_path / "split"), split="dev") == EXPECTED[2:]
    assert read_records(tmp_path / "split", split="dev") == EXPECTED[2:]
    assert sorted(read_hub_records(str(tmp_path / "one"), shuffle_buffer=10)) == sorted(EXPECTED)
    with pytest.raises(SourceNotFoundError, match="no split 'test'. Its splits are: train, dev; each is a folder"):
        read_hub_records(str(tmp_path / "split"), split="test")
    with pytest.raises(SourceNotFoundError, match="keeps no configurations"):
        read_hub_records(str(tmp_path / "one"), config="hard")
    (tmp_path / "one" / "data-00000-of-00001.arrow").write_bytes(b"damaged")
    with pytest.raises(DataError, match="looks like a saved data set and cannot be read"):
        read_hub_records(str(tmp_path / "one"))


@pytest.mark.parametrize("streaming", [True, False])
def test_shards_of_other_columns_are_refused_with_the_whole_cause(tmp_path: Path, streaming: bool) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "train-0.parquet")
    odd = [{"query": "q", "positive": "p", "wrong_column": 1}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(odd), tmp_path / "train-1.parquet")
    with pytest.raises(
        (DataError, SourceNotFoundError), match=r"train-1.parquet has the columns query, positive, wrong_column; most"
    ):
        read_hub_records(str(tmp_path), streaming=streaming)


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        *(
            (name, encoding)
            for name in ("a.jsonl", "a.csv", "a.tsv")
            for encoding in ("utf-16", "utf-16-le", "utf-16-be")
        ),
        *(
            (name, encoding)
            for name in ("a.jsonl", "a.csv", "a.tsv")
            for encoding in ("utf-8-sig", "utf-32", "utf-32-be")
        ),
    ],
)
def test_unicode_files_are_read_whatever_their_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes().decode("utf-8").encode(encoding))
    assert read_records(path) == EXPECTED


def test_a_table_that_is_no_unicode_is_read_as_what_it_looks_like_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("query,positive\nGröße,Käse für 5 €\n".encode("cp1252"))
    with pytest.warns(NestvecWarning, match="is not UTF-8; it is read as cp1252"):
        assert read_records(tmp_path / "a.csv") == [RetrievalRow("Größe", "Käse für 5 €")]
    text = "query,positive\n" + "図書館はどこですか,駅の前にあります。そこで本を読むことができます\n" * 5
    (tmp_path / "b.csv").write_bytes(text.encode("shift_jis"))
    with pytest.warns(NestvecWarning, match="is not UTF-8; it is read as"):
        assert read_records(tmp_path / "b.csv")[0].query == "図書館はどこですか"


def test_a_shuffled_stream_depends_on_the_seed_only(tmp_path: Path) -> None:
    rows = [{"query": f"q{i}", "positive": f"p{i}"} for i in range(50)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    one, same, other = (read_hub_records(str(tmp_path), shuffle_buffer=20, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert sorted(one) == sorted(other)


def test_a_data_set_that_cannot_be_had_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="Cannot load the data set nobody/nothing, split 'train'"):
        read_hub_records("nobody/nothing")
    write(tmp_path / "train.parquet")
    with pytest.raises(SourceNotFoundError, match="split 'validation'"):
        read_hub_records(str(tmp_path), split="validation")


def test_a_damaged_shard_says_after_which_row(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet")
    (tmp_path / "train-1.parquet").write_bytes((tmp_path / "train-0.parquet").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"broke off after row 3|Cannot load"):
        read_hub_records(str(tmp_path))


def test_a_missing_extra_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"nestvec\[train\]"):
        read_hub_records("nobody/nothing")


def test_all_invalid_lines_are_reported_together(tmp_path: Path) -> None:
    good = json.dumps(ROWS[0]).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([good, b"{oops", b"[1]", b"\xff\xfe", b"", good, b'{"query": "x"}']))
    with pytest.raises(DataError) as caught:
        read_records(tmp_path / "a.jsonl")
    message = str(caught.value)
    for expected in (
        "4 problems",
        "line 2: not valid JSON",
        "line 3: a JSON object is needed, this is a list",
        "line 4: not UTF-8",
        "line 7: positive is missing",
    ):
        assert expected in message


def test_json_that_python_cannot_hold_is_a_problem_of_its_line(tmp_path: Path) -> None:
    lines = ['{"query": ' + "9" * 5000 + "}", "[" * 100_000, '{"query": "\\ud800", "positive": "x"}', "{}"]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_records(tmp_path / "a.jsonl", columns={"query": "query", "positive": "positive"})
    for expected in (
        "line 1: not usable JSON",
        "line 2: not usable JSON",
        "line 3: query holds half a surrogate",
        "line 4: query is missing",
    ):
        assert expected in str(caught.value)


def test_a_csv_cell_may_hold_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('query,positive\na,"two\nlines"\n', encoding="utf-8")
    assert read_records(tmp_path / "a.csv") == [RetrievalRow("a", "two\nlines")]


def test_a_separator_is_found_behind_a_cell_of_many_lines(tmp_path: Path) -> None:
    long = "\n".join(f"line {number}, of many" for number in range(120))
    (tmp_path / "a.csv").write_text(f'query;positive\n"{long}";b\nc;d\n', encoding="utf-8")
    assert read_records(tmp_path / "a.csv") == [RetrievalRow(long, "b"), RetrievalRow("c", "d")]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfquery,positive\na,b\n")
    assert read_records(tmp_path / "a.csv") == [RetrievalRow("a", "b")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query,positive\na,b\na\na,b,c\n", "line 3: 1 cells where the header has 2"),
        ("query,query\na,b\n", "the header names query twice"),
        ('query,positive\na,"b\n', "not valid CSV"),
        ("query,positive\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_a_broken_table_says_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_records(tmp_path / "a.csv")


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "a.parquet"):
        (tmp_path / name).write_bytes(b"neither")
        with pytest.raises(DataError, match=r"cannot be read|not a readable"):
            read_records(tmp_path / name)


def test_a_truncated_download_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.jsonl.gz").read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) - 20])
    with pytest.raises(DataError, match="Copy or download it again"):
        read_records(tmp_path / "a.jsonl.gz")


@pytest.mark.parametrize(("name", "message"), [("missing.jsonl", "does not exist"), (".", "is a folder")])
def test_a_missing_file_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(SourceNotFoundError, match=message):
        read_records(tmp_path / name)


def test_an_unknown_format_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("")
    with pytest.raises(DataError, match=r"'.xlsx'. Formats are: .jsonl, .csv, .tsv, .ndjson, .json, .parquet"):
        read_records(tmp_path / "a.xlsx")
