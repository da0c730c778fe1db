"""Rows out of files, folders and hub data sets, one reader a format."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from nestvec.data.records import Problems, RawRow, Record, parse_records
from nestvec.errors import DataError, SourceNotFoundError
from nestvec.extras import require
from nestvec.progress import Advance, Progress, silent

__all__ = ["read_hub_records", "read_json_lines", "read_lines", "read_records", "read_rows"]


def read_records(
    path: str | Path,
    *,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> list[Record]:
    """Read training records from a file.

    Args:
        path: JSON Lines (`.jsonl`, `.jsonl.gz`), CSV or TSV (also `.gz`) or Parquet.
        columns: Which column holds which role, where the names are unusual; see `parse_records`.
        limit: Rows to read at most; None reads all.
        progress: How to report progress, in rows.

    Returns:
        One record a row, in file order.

    Raises:
        SourceNotFoundError: There is no such file.
        DataError: The format is unknown, or rows are bad; all of them are named with their places.
    """
    problems = Problems(str(path))
    rows = read_rows(path, problems=problems, limit=limit)
    with progress(f"reading {Path(path).name}", limit) as advance:
        return parse_records(_counted(rows, advance), problems=problems, columns=columns)


def read_rows(path: str | Path, *, problems: Problems, limit: int | None = None) -> Iterator[RawRow]:
    """Read the rows of a file as they are, without deciding what they mean.

    Args:
        path: JSON Lines, CSV, TSV (each also `.gz`) or Parquet.
        problems: Where rows that cannot be read are noted.
        limit: Rows to read at most; None reads all.

    Returns:
        An iterator over the rows that could be read.

    Raises:
        SourceNotFoundError: There is no such file.
        DataError: The format is unknown.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise SourceNotFoundError(f"{path} {kind}. Give a .jsonl, .csv, .tsv (also .gz) or .parquet file.")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else (suffixes or [""])[-1]
    reader = _READERS.get(suffix)
    if reader is None:
        raise DataError(f"{path} has an unknown format {suffix!r}. Formats are: {', '.join(_READERS)} (text also .gz).")
    return itertools.islice(reader(path, problems), limit)


def read_hub_records(
    name: str,
    *,
    config: str | None = None,
    split: str = "train",
    streaming: bool = True,
    limit: int | None = None,
    shuffle_buffer: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    progress: Progress = silent,
) -> list[Record]:
    """Read training records from a Hugging Face data set: a hub id, or a local folder of Parquet files.

    Args:
        name: Hub id such as `sentence-transformers/all-nli`, or a folder that `datasets` can load.
        config: Configuration of the data set, where it has several.
        split: Split to read.
        streaming: Read rows as they arrive, without storing the data set.
        limit: Rows to read at most; None reads all.
        shuffle_buffer: Rows to shuffle within while streaming; None keeps the order.
        seed: Seed of that shuffle.
        columns: Which column holds which role, where the names are unusual.
        progress: How to report progress, in rows.

    Returns:
        One record a row, in the order read.

    Raises:
        MissingExtraError: `datasets` is not installed.
        SourceNotFoundError: The data set, configuration or split cannot be had.
        DataError: Rows are bad; all of them are named.
    """
    problems = Problems(name)
    with progress(f"reading {name}", limit) as advance:
        rows = _load_hub_rows(name, config=config, split=split, streaming=streaming)
        if shuffle_buffer is not None:
            rows = rows.shuffle(seed=seed, buffer_size=shuffle_buffer) if streaming else rows.shuffle(seed=seed)
        limited = itertools.islice(_numbered(rows, name), limit)
        return parse_records(_counted(limited, advance), problems=problems, columns=columns)


def read_json_lines(path: Path, problems: Problems) -> Iterator[RawRow]:
    """Read a JSON Lines file, one object a line; blank lines are passed over.

    Args:
        path: The file, gzipped if its name ends in `.gz`.
        problems: Where lines that are no JSON object are noted.

    Yields:
        One row a line, placed as `line N`.
    """
    for place, text in read_lines(path, problems):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            problems.add(place, f"not valid JSON: {error.msg} at column {error.colno}")
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, nesting without end
            problems.add(place, f"not usable JSON: {_first_line(error)}")
        else:
            if isinstance(values, dict):
                yield RawRow(place, values)
            else:
                problems.add(place, f"a JSON object is needed, this is a {type(values).__name__}")


def _load_hub_rows(name: str, *, config: str | None, split: str, streaming: bool) -> Any:
    datasets = require("datasets", extra="train")
    try:
        # A local folder has no configurations: `datasets` would look for a sub-folder of that name.
        config = None if Path(name).is_dir() else config
        return datasets.load_dataset(name, config, split=split, streaming=streaming)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        wanted = f"{name}{f' ({config})' if config else ''}, split {split!r}"
        raise SourceNotFoundError(
            f"Cannot load the data set {wanted}: {_first_line(error)} Check the name, or give a local folder or file."
        ) from error


def _numbered(rows: Iterable[Mapping[str, Any]], name: str) -> Iterator[RawRow]:
    number = 0
    try:
        for number, values in enumerate(rows, start=1):
            yield RawRow(f"row {number}", values)
    except (OSError, ValueError, RuntimeError) as error:  # a lost connection, a damaged shard
        raise DataError(f"{name} broke off after row {number}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _read_separated(delimiter: str) -> Callable[[Path, Problems], Iterator[RawRow]]:
    def read(path: Path, problems: Problems) -> Iterator[RawRow]:
        csv.field_size_limit(sys.maxsize)
        # TSV has no quoting: a quote is a character there, also at the beginning of a cell.
        quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        lines = (text for _, text in read_lines(path, problems))
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
        header: list[str] | None = None
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problems.add(f"line {reader.line_num}", f"not valid CSV: {error}")
                return  # quoting is broken from here on: later rows would be guesses
            place = f"line {reader.line_num}"
            if not cells:
                continue
            if header is None:
                header = cells
                repeated = {name for name in header if header.count(name) > 1}
                if repeated:
                    problems.add(place, f"the header names {', '.join(sorted(repeated))} twice")
                    return
            elif len(cells) != len(header):
                problems.add(place, f"{len(cells)} cells where the header has {len(header)}")
            else:
                yield RawRow(place, dict(zip(header, cells, strict=True)))

    return read


def _read_parquet(path: Path, _problems: Problems) -> Iterator[RawRow]:
    parquet = require("pyarrow.parquet", extra="train")
    pyarrow = require("pyarrow", extra="train")
    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=4096):
                for values in batch.to_pylist():
                    number += 1
                    yield RawRow(f"row {number}", values)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {_first_line(error)}") from error


_READERS: dict[str, Callable[[Path, Problems], Iterator[RawRow]]] = {
    ".jsonl": read_json_lines,
    ".csv": _read_separated(","),
    ".tsv": _read_separated("\t"),
    ".parquet": _read_parquet,
}


def _counted(rows: Iterator[RawRow], advance: Advance) -> Iterator[RawRow]:
    for row in rows:
        yield row
        advance(1)


def read_lines(path: Path, problems: Problems) -> Iterator[tuple[str, str]]:
    """Read the lines of a text file in UTF-8.

    Args:
        path: The file, gzipped if its name ends in `.gz`.
        problems: Where lines that are no UTF-8 are noted.

    Yields:
        The place, `line N`, and the text without its line end.

    Raises:
        DataError: The file ends early, or is no gzip.
    """
    with _open(path) as raw:
        for number, line in enumerate(_guarded(raw, path), start=1):
            place = f"line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                problems.add(place, f"not UTF-8 text (byte {error.start + 1})")
            else:
                yield place, text


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _guarded(lines: IO[bytes], path: Path) -> Iterator[bytes]:
    """Lines of a file; one that ends early, or is no gzip, gives one of our errors."""
    try:
        yield from lines
    except (gzip.BadGzipFile, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read to its end: {error}. Copy or download it again.") from error
