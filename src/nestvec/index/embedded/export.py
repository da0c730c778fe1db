"""From an index to the files of other tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import OutputExistsError
from nestvec.extras import require
from nestvec.files import atomic_folder
from nestvec.index.embedded.rows import DocumentRows
from nestvec.index.results import Document
from nestvec.progress import Advance, Progress, silent

__all__ = ["EXPORTS", "ExportFormat", "export"]

ExportFormat: TypeAlias = Literal["numpy", "faiss", "parquet", "beir"]
EXPORTS: tuple[str, ...] = get_args(ExportFormat)
"""What an index can be written as."""

Float32s = NDArray[np.float32]


class _Exported(Protocol):
    def rows(self) -> DocumentRows: ...


def export(
    index: _Exported, out: str | Path, kind: ExportFormat, *, overwrite: bool = False, progress: Progress = silent
) -> None:
    """Write all documents of an index as a folder that other tools read, block by block.

    Args:
        index: The index.
        out: Folder to make.
        kind: `numpy`: `vectors.npy`, float32, and `documents.jsonl`, row by row. `faiss`: a flat inner-product index
            `vectors.faiss`, and `documents.jsonl`. `parquet`: `documents.parquet` with id, text, metadata (JSON) and
            vector. `beir`: `corpus.jsonl`, and `documents.npy` in its order, as `vectors:` sources read it.
        overwrite: Replace an export that is there.
        progress: How to report progress, in documents.

    Raises:
        OutputExistsError: There is something at `out`, or what is to be replaced is no export.
        StorageError: The disk is full, or the folder cannot be written.
        MissingExtraError: pyarrow is not installed, for `parquet`.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} exists. Choose another folder, or pass --overwrite.")
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= _FILES):
        raise OutputExistsError(f"{out} holds more than an export, which would be lost. Choose another folder.")
    rows = index.rows()
    with atomic_folder(out) as folder, progress("writing", len(rows)) as advance:
        _WRITERS[kind](folder, _Source(len(rows), rows.dim, _counted(rows, advance)))


class _Source(NamedTuple):
    """What is written."""

    documents: int
    dim: int
    blocks: Iterator[tuple[list[Document], Float32s]]


def _counted(rows: DocumentRows, advance: Advance) -> Iterator[tuple[list[Document], Float32s]]:
    for documents, vectors in rows:
        yield documents, vectors
        advance(len(documents))


def _write_numpy(folder: Path, source: _Source) -> None:
    _write_rows(folder / "documents.jsonl", folder / "vectors.npy", source)


def _write_beir(folder: Path, source: _Source) -> None:
    _write_rows(folder / "corpus.jsonl", folder / "documents.npy", source)


def _write_rows(texts: Path, vectors: Path, source: _Source) -> None:
    shape = (source.documents, source.dim)
    mapped = np.lib.format.open_memmap(vectors, mode="w+", dtype=np.float32, shape=shape)
    first = 0
    with texts.open("w", encoding="utf-8") as file:
        for documents, block in source.blocks:
            mapped[first : first + len(block)] = block
            first += len(block)
            _write_documents(file, documents)
    mapped.flush()


def _write_documents(file: IO[str], documents: list[Document]) -> None:
    for one in documents:
        row = {"_id": one.id, "text": one.text or "", "metadata": one.metadata or {}}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_faiss(folder: Path, source: _Source) -> None:
    faiss = require("faiss", extra="index")
    flat = faiss.IndexFlatIP(source.dim)

    with (folder / "documents.jsonl").open("w", encoding="utf-8") as file:
        for documents, block in source.blocks:
            flat.add(block)
            _write_documents(file, documents)
    faiss.write_index(flat, str(folder / "vectors.faiss"))


def _write_parquet(folder: Path, source: _Source) -> None:
    pyarrow, parquet = require("pyarrow", extra="train"), require("pyarrow.parquet", extra="train")
    vector = pyarrow.list_(pyarrow.float32(), source.dim)
    text = pyarrow.string()
    schema = pyarrow.schema([("id", text), ("text", text), ("metadata", text), ("vector", vector)])
    with parquet.ParquetWriter(folder / "documents.parquet", schema) as file:
        for documents, block in source.blocks:
            columns = [
                pyarrow.array([one.id for one in documents], text),
                pyarrow.array([one.text for one in documents], text),
                pyarrow.array([None if one.metadata is None else json.dumps(one.metadata) for one in documents], text),
                pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(block.ravel()), source.dim),
            ]
            file.write_table(pyarrow.Table.from_arrays(columns, schema=schema))


_FILES = {"vectors.npy", "documents.jsonl", "vectors.faiss", "documents.parquet", "corpus.jsonl", "documents.npy"}
_WRITERS: dict[str, Callable[[Path, _Source], None]] = {
    "numpy": _write_numpy,
    "faiss": _write_faiss,
    "parquet": _write_parquet,
    "beir": _write_beir,
}
