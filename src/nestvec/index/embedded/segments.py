"""A segment: the files of vectors that were written together, and never change."""

from __future__ import annotations

import itertools
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DamagedIndexError
from nestvec.files import append, sync
from nestvec.index.embedded.first_stage import FirstStage
from nestvec.index.embedded.stored import ROWS_AT_A_TIME, Stored, StoredVectors
from nestvec.index.embedded.view import SegmentRecord
from nestvec.quantization import Quantizer

__all__ = [
    "FILES",
    "SEGMENTS",
    "Codec",
    "Identities",
    "Segment",
    "checksum",
    "draw_rows",
    "draw_vectors",
    "encode_stored",
    "file_problems",
    "finish_segment",
    "join_segments",
    "new_name",
    "open_segment",
    "remove_segment",
    "remove_unnamed",
    "segment_problems",
    "write_segment",
]

SEGMENTS = "segments"
"""Folder of their files in that of an index."""
FILES = ("codes", "vectors", "ids")
"""Ends of the names of a segment's files: the first stage, the second, and which documents the rows are."""
_BYTES_AT_A_TIME = 1 << 24

Float32s = NDArray[np.float32]
Numbers = NDArray[np.int64]


class Codec(NamedTuple):
    """What turns vectors into what is stored."""

    first: FirstStage
    """Without vectors, trained."""
    second: Quantizer

    @property
    def alone(self) -> bool:
        """Whether what the first stage encodes is all that is stored."""
        return self.second is self.first.quantizer


class Identities:
    """Which document each row of a segment is: its number and its id, in a memory-mapped file."""

    def __init__(self, path: Path, count: int) -> None:
        """Map a file.

        Args:
            path: A file of `write`.
            count: Rows in it.

        Raises:
            FileNotFoundError: It is not there.
            DamagedIndexError: It is of another length than it says itself.
        """
        mapped = np.frombuffer(np.memmap(path, np.uint8, mode="r"), np.uint8)
        text_bytes = len(mapped) - 8 * (2 * count + 1)
        if text_bytes < 0 or text_bytes % 8:
            raise DamagedIndexError(f"{path} has {len(mapped):,} bytes, which is not what it holds: it is damaged.")
        self._text = mapped[:text_bytes]
        self._ends = mapped[text_bytes : text_bytes + 8 * (count + 1)].view(np.int64)
        self.numbers: Numbers = mapped[text_bytes + 8 * (count + 1) :].view(np.int64)
        """Of the documents, ascending, [rows]."""

    @staticmethod
    def write(path: Path, documents: Iterable[tuple[int, str]]) -> int:
        """Write a file from numbers, which ascend, and ids; return how many."""
        count, end, documents = 0, 0, iter(documents)
        with path.open("xb") as file, TemporaryFile(dir=path.parent) as ends, TemporaryFile(dir=path.parent) as numbers:
            ends.write(bytes(8))
            while block := list(itertools.islice(documents, ROWS_AT_A_TIME)):
                ids = [id_.encode("utf-8", "surrogatepass") for _, id_ in block]
                file.write(b"".join(ids))
                ends.write((end + np.cumsum([len(id_) for id_ in ids], dtype=np.int64)).data)
                numbers.write(np.array([number for number, _ in block], np.int64).data)
                end += sum(map(len, ids))
                count += len(block)
            file.write(bytes(-end % 8))
            append(file, ends)
            append(file, numbers)
        return count

    def rows(self, numbers: Numbers) -> Numbers:
        """Return the rows of those of these documents that are here."""
        places: Numbers = np.searchsorted(self.numbers, numbers)
        places[places == len(self.numbers)] = 0
        found: Numbers = places[self.numbers[places] == numbers]
        return found

    def ids(self, rows: Numbers) -> list[str]:
        """Return the ids of rows."""
        starts, ends = self._ends.take(rows), self._ends.take(rows + 1)
        text = self._text.data
        return [
            str(text[start:end], "utf-8", "surrogatepass")
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]


class Segment(NamedTuple):
    """A segment that is open."""

    record: SegmentRecord
    first: FirstStage
    second: StoredVectors
    identities: Identities

    def __len__(self) -> int:
        """Rows, deleted ones included."""
        return self.record.documents


def write_segment(
    folder: Path, codec: Codec, documents: Iterable[tuple[int, str]], blocks: Iterable[Stored]
) -> SegmentRecord:
    """Write the files of a segment and flush them to disk; they count once a manifest names them.

    Args:
        folder: Where segments are.
        codec: What makes the codes.
        documents: Numbers, ascending, and ids.
        blocks: Their vectors, in order, as they are stored.

    Returns:
        What the manifest is to say of them.
    """
    name = new_name()
    StoredVectors.write(folder / f"{name}.vectors", blocks)
    return finish_segment(folder, name, codec, Identities.write(folder / f"{name}.ids", documents))


def finish_segment(
    folder: Path,
    name: str,
    codec: Codec,
    count: int,
    first: FirstStage | None = None,
) -> SegmentRecord:
    """Write the rest of a segment whose vectors and ids are: the codes of what is stored.

    Args:
        folder: Where segments are.
        name: Of the segment.
        codec: What makes the codes.
        count: Its documents.
        first: The codes of what is stored, where there are some already.

    Returns:
        What the manifest is to say of it.
    """
    paths = {end: folder / f"{name}.{end}" for end in FILES}
    if first is None:
        first = encode_stored(codec, StoredVectors.open(paths["vectors"], codec.second, count))
    first.save(paths["codes"])
    for path in paths.values():
        sync(path)
    sync(folder)
    return SegmentRecord(name, count, {end: checksum(path) for end, path in paths.items()})


def encode_stored(codec: Codec, stored: StoredVectors) -> FirstStage:
    """Return the first stage of vectors that are stored."""
    first = codec.first.empty()
    if codec.alone:
        for chunk in _chunks(len(stored)):
            first.add_codes(stored.codes[chunk])
    else:
        for block in stored.blocks():
            first.add(block)
    return first


def new_name() -> str:
    """Return a name that no segment has had: what readers hold open stays what it was."""
    return uuid.uuid4().hex[:16]


def open_segment(folder: Path, record: SegmentRecord, codec: Codec) -> Segment:
    """Open the files of a segment.

    Args:
        folder: Where segments are.
        record: What the manifest says of it.
        codec: What its codes were made by.

    Returns:
        The segment; its vectors stay on disk.

    Raises:
        FileNotFoundError: A file is not there.
        DamagedIndexError: A file is not as long as it was, or the codes are damaged.
    """
    for end, (size, crc) in record.files.items():
        path = folder / f"{record.name}.{end}"
        found = path.stat().st_size
        if found != size or (end == "codes" and checksum(path) != (size, crc)):
            raise DamagedIndexError(
                f"{path} is damaged: it has {found:,} bytes of {size:,}, or not those that were written. "
                "Restore it, or build the index anew."
            )
    path = folder / record.name
    first = FirstStage.load(path.with_suffix(".codes"), codec.first.settings, codec.first.quantizer)
    second = StoredVectors.open(path.with_suffix(".vectors"), codec.second, record.documents)
    return Segment(record, first, second, Identities(path.with_suffix(".ids"), record.documents))


def join_segments(
    parts: Sequence[tuple[Segment, NDArray[np.bool_] | None]],
) -> tuple[Iterator[tuple[int, str]], Iterator[Stored]]:
    """Put the rows of segments in the order of their documents.

    Args:
        parts: Segments, and which rows of each to keep; None keeps all.

    Returns:
        Numbers and ids, and vectors as they are stored, for `write_segment`.
    """
    kept = [np.arange(len(one)) if mask is None else np.flatnonzero(mask) for one, mask in parts]
    numbers = np.concatenate([one.identities.numbers[rows] for (one, _), rows in zip(parts, kept, strict=True)])
    places = np.repeat(np.arange(len(parts)), [len(rows) for rows in kept])
    order = np.argsort(numbers, kind="stable")
    numbers, places, rows = numbers[order], places[order], np.concatenate(kept)[order]

    def documents() -> Iterator[tuple[int, str]]:
        for chunk in _chunks(len(rows)):
            ids = [""] * len(rows[chunk])
            for place in np.unique(places[chunk]).tolist():
                there = np.flatnonzero(places[chunk] == place)
                found = parts[place][0].identities.ids(rows[chunk][there])
                for at, id_ in zip(there.tolist(), found, strict=True):
                    ids[at] = id_
            yield from zip(numbers[chunk].tolist(), ids, strict=True)

    def blocks() -> Iterator[Stored]:
        for chunk in _chunks(len(rows)):
            pieces, order = [], []
            for place in np.unique(places[chunk]).tolist():
                there = np.flatnonzero(places[chunk] == place)
                pieces.append(parts[place][0].second.take(rows[chunk][there]))
                order.append(there)
            back = np.argsort(np.concatenate(order))
            yield Stored(*(np.concatenate(arrays)[back] for arrays in zip(*pieces, strict=True)))

    return documents(), blocks()


def draw_vectors(parts: Sequence[tuple[Segment, NDArray[np.bool_] | None]], count: int, seed: int = 0) -> Float32s:
    """Draw some of the vectors of segments at random.

    Args:
        parts: Segments, and which rows of each count; None counts all.
        count: How many at most.
        seed: Of the draw.

    Returns:
        Unit vectors, [n, stored_dim], float32.
    """
    if not parts:
        return np.empty((0, 0), np.float32)
    kept = [np.arange(len(one)) if mask is None else np.flatnonzero(mask) for one, mask in parts]
    starts = np.cumsum([0, *map(len, kept)])
    drawn = draw_rows(int(starts[-1]), count, seed)
    found = [
        one.second.decode(rows[drawn[(drawn >= start) & (drawn < start + len(rows))] - start])
        for (one, _), rows, start in zip(parts, kept, starts[:-1], strict=True)
    ]
    return np.concatenate(found)


def draw_rows(count: int, wanted: int, seed: int) -> Numbers:
    """Return so many of `count` rows, or all that there are, drawn at random, ascending; few of many take no memory."""
    drawn = np.random.default_rng(seed).choice(count, min(count, wanted), replace=False, shuffle=False)
    return np.sort(drawn)


def _chunks(count: int) -> Iterator[slice]:
    for first in range(0, count, ROWS_AT_A_TIME):
        yield slice(first, first + ROWS_AT_A_TIME)


def segment_problems(folder: Path, record: SegmentRecord) -> list[str]:
    """Compare the files of a segment with what the manifest says of them, byte by byte.

    Args:
        folder: Where segments are.
        record: What the manifest says.

    Returns:
        What is wrong, a sentence a file.
    """
    return file_problems(folder, {f"{record.name}.{end}": written for end, written in record.files.items()})


def file_problems(folder: Path, files: Mapping[str, tuple[int, int]]) -> list[str]:
    """Compare files with their length and checksum as they were written; return what is wrong, a sentence a file."""
    problems = []
    for name, (size, crc) in files.items():
        path = folder / name
        try:
            found = checksum(path)
        except (FileNotFoundError, IsADirectoryError):
            problems.append(f"{path} is not there.")
            continue
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}.")
            continue
        if found[0] != size:
            problems.append(f"{path} has {found[0]:,} bytes in place of {size:,}.")
        elif found[1] != crc:
            problems.append(f"{path} does not hold what was written: its checksum differs.")
    return problems


def remove_segment(folder: Path, name: str) -> None:
    """Remove the files of a segment; those who have them open keep what they had."""
    for end in FILES:
        (folder / f"{name}.{end}").unlink(missing_ok=True)


def remove_unnamed(folder: Path, records: Iterable[SegmentRecord]) -> None:
    """Remove the files of segments that no manifest names: a killed writer's, or those of merged segments."""
    named = {f"{record.name}.{end}" for record in records for end in FILES}
    for path in folder.iterdir():
        if path.name not in named and path.suffix.removeprefix(".") in FILES:
            path.unlink(missing_ok=True)


def checksum(path: Path) -> tuple[int, int]:
    """Return the length of a file and the CRC-32 of what it holds."""
    crc = size = 0
    with path.open("rb") as file:
        while part := file.read(_BYTES_AT_A_TIME):
            crc = zlib.crc32(part, crc)
            size += len(part)
    return size, crc
