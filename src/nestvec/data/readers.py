"""Rows out of files, folders and hub data sets, one reader a format."""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from nestvec.data.problems import Problems, first_line
from nestvec.data.records import Columns, Positives, RawRow, Record, header_and_roles, parse_records
from nestvec.data.text_files import read_lines
from nestvec.errors import DataError, SourceNotFoundError
from nestvec.extras import require
from nestvec.progress import Advance, Progress, silent

__all__ = ["has_cells", "is_saved_data_set", "read_hub_records", "read_json_lines", "read_records", "read_rows"]

_SEPARATORS = (",", ";", "\t", "|")
_LINES_THAT_TELL = 50
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # what Excel writes before the header
_MOST_CHARACTERS = 1500  # of what other libraries say
_STATE, _SPLITS = "state.json", "dataset_dict.json"  # of a folder that `save_to_disk` has written


def read_records(
    path: str | Path,
    *,
    columns: Columns | None = None,
    limit: int | None = None,
    split: str = "train",
    positives: Positives = "all",
    strict: bool = False,
    progress: Progress = silent,
) -> list[Record]:
    """Read training records from a file.

    Args:
        path: JSON Lines (`.jsonl`, `.ndjson`), a JSON array (`.json`), CSV or TSV (each also `.gz`), Parquet, or a
            folder that `save_to_disk` of Hugging Face datasets has written.
        columns: Which column holds which role, where the names are unusual, see `parse_records`; or the names of all
            columns in order, of a CSV or TSV file without a header.
        limit: Rows to read at most; None reads all.
        split: Which split of such a folder.
        positives: What a list of positives is: a row for each (`all`), or its first one.
        strict: Refuse what is otherwise left out, counted and said once: negatives that are the positive, or nothing.
        progress: How to report progress, in rows.

    Returns:
        One record a row and positive, in file order.

    Raises:
        SourceNotFoundError: There is no such file.
        DataError: The format is unknown, or rows are bad; all of them are named with their places.
    """
    problems = Problems(str(path), strict=strict)
    header, roles = header_and_roles(columns)
    rows = read_rows(path, problems=problems, limit=limit, header=header, split=split)
    with progress(f"reading {Path(path).name}", limit) as advance:
        return parse_records(_counted(rows, advance), problems=problems, columns=roles, positives=positives)


def read_rows(
    path: str | Path,
    *,
    problems: Problems,
    limit: int | None = None,
    header: Sequence[str] | None = None,
    split: str = "train",
) -> Iterator[RawRow]:
    """Read the rows of a file as they are, without deciding what they mean.

    Args:
        path: JSON Lines, a JSON array, CSV, TSV (each also `.gz`), Parquet, or a folder of `save_to_disk`.
        problems: Where rows that cannot be read are noted.
        limit: Rows to read at most; None reads all.
        header: Names of the columns of a CSV or TSV file that has no header; `_` leaves one out.
        split: Which split of a folder.

    Returns:
        An iterator over the rows that could be read. Vectors of a Parquet file, lists of one length of floating-point
        numbers, are numpy arrays.

    Raises:
        SourceNotFoundError: There is no such file.
        DataError: The format is unknown, or it has a header and one is given.
    """
    path = Path(path)
    if is_saved_data_set(path):
        return itertools.islice(_numbered(_load_saved(path, split), str(path)), limit)
    if not path.is_file():
        kind = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise SourceNotFoundError(f"{path} {kind}. Give a .jsonl, .csv, .tsv (also .gz) or .parquet file.")
    suffix = _suffix(path)
    reader = _READERS.get(suffix)
    if header is not None and suffix not in _OF_CELLS:
        raise DataError(f"{path} names its columns itself. Names of columns are for .csv and .tsv; map its own ones.")
    if suffix in _OF_CELLS:
        return itertools.islice(_read_separated(path, problems, header), limit)
    if reader is None:
        known = ", ".join([".jsonl", *_OF_CELLS, *(name for name in _READERS if name != ".jsonl")])
        raise DataError(f"{path} has an unknown format {suffix!r}. Formats are: {known} (text also .gz).")
    return itertools.islice(reader(path, problems), limit)


def has_cells(path: str | Path) -> bool:
    """Tell whether a file is CSV or TSV, in which all values are text."""
    return _suffix(Path(path)) in _OF_CELLS


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else (suffixes or [""])[-1]


def is_saved_data_set(path: str | Path) -> bool:
    """Tell whether a folder is one that `save_to_disk` of Hugging Face datasets has written."""
    return any((Path(path) / name).is_file() for name in (_STATE, _SPLITS))


def read_hub_records(
    name: str,
    *,
    config: str | None = None,
    split: str = "train",
    streaming: bool = True,
    limit: int | None = None,
    shuffle_buffer: int | None = None,
    seed: int = 0,
    columns: Columns | None = None,
    positives: Positives = "all",
    strict: bool = False,
    progress: Progress = silent,
) -> list[Record]:
    """Read training records from a Hugging Face data set: a hub id, or a local folder.

    Args:
        name: Hub id such as `sentence-transformers/all-nli`; a folder that `datasets` can load, with the configurations
            that its README names; or one that `save_to_disk` has written.
        config: Configuration of the data set, where it has several.
        split: Split to read.
        streaming: Read rows as they arrive, without storing the data set.
        limit: Rows to read at most; None reads all.
        shuffle_buffer: Rows to shuffle within while streaming; None keeps the order.
        seed: Seed of that shuffle.
        columns: Which column holds which role, where the names are unusual.
        positives: What a list of positives is: a row for each (`all`), or its first one.
        strict: Refuse what is otherwise left out, counted and said once.
        progress: How to report progress, in rows.

    Returns:
        One record a row and positive, in the order read.

    Raises:
        MissingExtraError: `datasets` is not installed.
        SourceNotFoundError: The data set, configuration or split cannot be had.
        DataError: Rows are bad; all of them are named.
    """
    problems = Problems(name, strict=strict)
    if columns is not None and not isinstance(columns, Mapping):
        raise DataError(f"{name} names its columns itself. Map them: columns = {{ query = ... }}.")
    with progress(f"reading {name}", limit) as advance:
        rows = _load_hub_rows(name, config=config, split=split, streaming=streaming)
        if shuffle_buffer is not None:
            rows = rows.shuffle(seed=seed, buffer_size=shuffle_buffer) if _is_stream(rows) else rows.shuffle(seed=seed)
        limited = itertools.islice(_numbered(rows, name), limit)
        return parse_records(_counted(limited, advance), problems=problems, columns=columns, positives=positives)


def read_json_lines(path: Path, problems: Problems) -> Iterator[RawRow]:
    """Read a JSON Lines file, one object a line; blank lines are passed over.

    Args:
        path: The file, gzipped if its name ends in `.gz`.
        problems: Where lines that are no JSON object are noted.

    Yields:
        One row a line, placed as `line N`.
    """
    for place, text in read_lines(path, problems, legacy=False):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            problems.add(place, f"not valid JSON: {error.msg} at column {error.colno}")
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, nesting without end
            problems.add(place, f"not usable JSON: {first_line(error)}")
        else:
            if isinstance(values, dict):
                yield RawRow(place, values)
            else:
                problems.add(place, f"a JSON object is needed, this is a {type(values).__name__}")


def _read_json(path: Path, problems: Problems) -> Iterator[RawRow]:
    """A JSON array of objects; or JSON Lines under another name."""
    opening = next((text.lstrip() for _, text in read_lines(path, Problems(""), legacy=False) if text.strip()), "")
    if not opening.startswith("["):
        yield from read_json_lines(path, problems)
        return
    text = "".join(line for _, line in read_lines(path, problems, legacy=False))
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.add("the file", f"not usable JSON: {first_line(error)}")
        return
    for number, values in enumerate(found, start=1):
        if isinstance(values, dict):
            yield RawRow(f"row {number}", values)
        else:
            problems.add(f"row {number}", f"a JSON object is needed, this is a {type(values).__name__}")


def _load_hub_rows(name: str, *, config: str | None, split: str, streaming: bool) -> Any:
    datasets = require("datasets", extra="train")
    if is_saved_data_set(name):
        if config is not None:
            raise SourceNotFoundError(
                f"{name} was written by save_to_disk, which keeps no configurations. Leave {config!r} out."
            )
        return _load_saved(Path(name), split)
    wanted = f"{name}{f' ({config})' if config else ''}, split {split!r}"
    try:
        if Path(name).is_dir():
            known = datasets.get_dataset_config_names(name)
            config = datasets.get_dataset_default_config_name(name) if config is None else config
            if config is None and len(known) > 1:
                raise SourceNotFoundError(
                    f"{name} has several configurations: {', '.join(known)}. Say which: config = {known[0]!r}."
                )
            if config is not None and config not in known:
                raise SourceNotFoundError(
                    f"{name} has no configuration {config!r}. Its configurations are: {', '.join(known)}."
                )
        return datasets.load_dataset(name, config, split=split, streaming=streaming)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, SourceNotFoundError):
            raise
        raise SourceNotFoundError(
            f"Cannot load the data set {wanted}: {_whole_cause(error)}{_odd_shards(name)} Check the name, or give a "
            "local folder or file."
        ) from error


def _load_saved(folder: Path, split: str) -> Any:
    """What `save_to_disk` has written, one data set or one a split; read from disk as it is needed."""
    datasets = require("datasets", extra="train")
    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{folder} looks like a saved data set and cannot be read: {_whole_cause(error)}") from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise SourceNotFoundError(
                f"{folder} has no split {split!r}. Its splits are: {', '.join(found)}; each is a folder in it that can "
                f"be given, such as {folder / next(iter(found))}."
            )
        return found[split]
    own = "without a name" if found.split is None else repr(str(found.split))
    if own != repr(split) and split != "train":
        raise SourceNotFoundError(f"{folder} has no split {split!r}: it is one split, {own}.")
    return found


def _is_stream(rows: Any) -> bool:
    return isinstance(rows, require("datasets", extra="train").IterableDataset)


def _numbered(rows: Iterable[Mapping[str, Any]], name: str) -> Iterator[RawRow]:
    number = 0
    try:
        for number, values in enumerate(rows, start=1):
            yield RawRow(f"row {number}", values)
    except (OSError, ValueError, RuntimeError, TypeError) as error:  # a lost connection, shards of other columns
        cause = f"{_whole_cause(error)}{_odd_shards(name)}"
        raise DataError(f"{name} broke off after row {number}: {cause}") from error


def _odd_shards(name: str) -> str:
    """Which Parquet files of a folder have other columns than most, as a sentence; nothing where none have."""
    parquet = require("pyarrow.parquet", extra="train")
    columns: dict[Path, tuple[str, ...]] = {}
    for path in sorted(Path(name).rglob("*.parquet")) if Path(name).is_dir() else ():
        try:
            columns[path] = tuple(parquet.read_schema(path).names)
        except (OSError, ValueError):
            continue
    if len(set(columns.values())) < 2:
        return ""
    usual = Counter(columns.values()).most_common(1)[0][0]
    odd, found = next((path, names) for path, names in columns.items() if names != usual)
    return f" {odd} has the columns {', '.join(found)}; most others have {', '.join(usual)}."


def _whole_cause(error: BaseException) -> str:
    """What an error and those behind it say, each once, on one line: the first line alone may not name the cause."""
    said: list[str] = []
    link: BaseException | None = error
    while link is not None:
        text = " ".join(str(link).split()) or type(link).__name__
        if not any(text in other for other in said):
            said.append(text)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    whole = " Because: ".join(text.rstrip(".") + "." for text in said)
    return whole if len(whole) <= _MOST_CHARACTERS else f"{whole[:_MOST_CHARACTERS]} ..."


def _read_separated(path: Path, problems: Problems, header: Sequence[str] | None) -> Iterator[RawRow]:
    csv.field_size_limit(sys.maxsize)
    is_tsv = _suffix(path) == ".tsv"
    # TSV has no quoting: a quote is a character there, also at the beginning of a cell.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if is_tsv else csv.QUOTE_MINIMAL
    numbered = read_lines(path, problems)
    opening = list(itertools.islice(numbered, _LINES_THAT_TELL))
    skipped = 0
    stated = _SEPARATOR_LINE.fullmatch(opening[0][1]) if opening else None
    if stated is not None:
        skipped, opening = 1, opening[1:]
    texts = [text for _, text in opening]
    delimiter = stated[1] if stated is not None else _sniff_separator(texts, "\t" if is_tsv else ",", quoting)
    lines = itertools.chain(texts, (text for _, text in numbered))
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    names = None if header is None else [name.strip() for name in header]
    if names is not None:
        _refuse_repeated(names, path)
    whose = "the header has" if header is None else "so many columns are named:"
    first = True
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(f"line {reader.line_num + skipped}", f"not valid CSV: {error}")
            return  # quoting is broken from here on: later rows would be guesses
        place = f"line {reader.line_num + skipped}"
        if not cells:
            continue
        if first and (names is None or [cell.strip() for cell in cells] == names):
            names = [cell.strip() or "_" for cell in cells]
            repeated = _repeated(names)
            if repeated:
                problems.add(place, f"the header names {', '.join(repeated)} twice")
                return
        elif names is None or len(cells) != len(names):
            problems.add(place, f"{len(cells)} cells where {whose} {len(names or ())}")
        else:
            yield RawRow(place, {name: cell for name, cell in zip(names, cells, strict=True) if name != "_"})
        first = False


def _sniff_separator(lines: Sequence[str], usual: str, quoting: Literal[0, 3]) -> str:
    """What separates the cells: the usual separator, unless another one alone cuts all rows into as many cells."""
    shapes: dict[str, tuple[int, bool]] = {}
    for separator in dict.fromkeys([usual, *_SEPARATORS]):
        try:
            rows = [row for row in csv.reader(lines, delimiter=separator, quoting=quoting) if row]
        except csv.Error:
            continue
        # Where there are further lines, the last row may be cut within a cell that holds line ends.
        widths = {len(row) for row in (rows[:-1] if len(lines) >= _LINES_THAT_TELL - 1 else rows)}
        shapes[separator] = (max((len(row) for row in rows[:1]), default=0), len(widths) == 1)
    cells, is_even = shapes.get(usual, (2, True))
    others = [name for name, (n_cells, even) in shapes.items() if name != usual and n_cells > 1 and even]
    if (cells > 1 and is_even) or not others:
        return usual
    return max(others, key=lambda name: shapes[name][0])


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if name != "_" and names.count(name) > 1})


def _refuse_repeated(names: Sequence[str], path: Path) -> None:
    repeated = _repeated(names)
    if repeated:
        raise DataError(f"{path}: columns are named twice: {', '.join(repeated)}. Give each a name of its own.")


def _read_parquet(path: Path, _problems: Problems) -> Iterator[RawRow]:
    parquet = require("pyarrow.parquet", extra="train")
    pyarrow = require("pyarrow", extra="train")
    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            _refuse_repeated(file.schema_arrow.names, path)
            for batch in file.iter_batches(batch_size=4096):
                columns = [_values(column) for column in batch.columns]
                for values in zip(*columns, strict=True) if columns else ():
                    number += 1
                    yield RawRow(f"row {number}", dict(zip(batch.schema.names, values, strict=True)))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {first_line(error)}") from error


def _values(column: Any) -> Sequence[Any]:
    """The values of a column; vectors, lists of one length of floating-point numbers, as rows of one array."""
    types = require("pyarrow", extra="train").types
    kind = column.type
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if is_list and types.is_floating(kind.value_type) and len(column) and not column.null_count:
        lengths = require("pyarrow.compute", extra="train").list_value_length(column)
        flat = column.flatten()
        if len(lengths.unique()) == 1 and not flat.null_count and lengths[0].as_py():
            rows: Sequence[Any] = flat.to_numpy(zero_copy_only=False).reshape(len(column), -1)
            return rows
    values: Sequence[Any] = column.to_pylist()
    return values


_OF_CELLS = (".csv", ".tsv")
_READERS: dict[str, Callable[[Path, Problems], Iterator[RawRow]]] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": _read_json,
    ".parquet": _read_parquet,
}


def _counted(rows: Iterator[RawRow], advance: Advance) -> Iterator[RawRow]:
    for row in rows:
        yield row
        advance(1)
