"""From an index to the files of other tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import OutputExistsError
from nestvec.extras import require
from nestvec.files import atomic_folder
from nestvec.index.manifest import Document
from nestvec.progress import Advance, Progress, silent

if TYPE_CHECKING:
    from nestvec.index.index import Index

__all__ = ["EXPORTS", "ExportFormat", "export"]

ExportFormat: TypeAlias = Literal["numpy", "faiss", "parquet", "beir"]
EXPORTS: tuple[str, ...] = get_args(ExportFormat)
"""What an index can be written as."""

Float32s = NDArray[np.float32]
Rows: TypeAlias = Iterator[tuple[list[Document], Float32s]]


def export(
    index: Index, out: str | Path, kind: ExportFormat, *, overwrite: bool = False, progress: Progress = silent
) -> None:
    """Write all documents of an index as a folder that other tools read, block by block.

    Args:
        index: The index.
        out: Folder to make.
        kind: `numpy`: `vectors.npy`, float32, and `documents.jsonl`, row by row. `faiss`: a flat inner-product index
            `vectors.faiss`, and `documents.jsonl`. `parquet`: `documents.parquet` with id, text, metadata (JSON) and
            vector. `beir`: `corpus.jsonl`, and `documents.npy` in its order, as `vectors:` sources read it.
        overwrite: Replace what is there.
        progress: How to report progress, in documents.

    Raises:
        OutputExistsError: There is something at `out`.
        StorageError: The disk is full, or the folder cannot be written.
        MissingExtraError: pyarrow is not installed, for `parquet`.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} exists. Choose another folder, or pass --overwrite.")
    with atomic_folder(out) as folder, progress("writing", len(index)) as advance:
        _WRITERS[kind](index, folder, _counted(index.rows(), advance))


def _counted(rows: Rows, advance: Advance) -> Rows:
    for documents, vectors in rows:
        yield documents, vectors
        advance(len(documents))


def _write_numpy(index: Index, folder: Path, rows: Rows) -> None:
    _write_rows(index, folder / "documents.jsonl", folder / "vectors.npy", rows)


def _write_beir(index: Index, folder: Path, rows: Rows) -> None:
    _write_rows(index, folder / "corpus.jsonl", folder / "documents.npy", rows)


def _write_rows(index: Index, texts: Path, vectors: Path, rows: Rows) -> None:
    shape = (len(index), index.settings.stored_dim)
    mapped = np.lib.format.open_memmap(vectors, mode="w+", dtype=np.float32, shape=shape)
    first = 0
    with texts.open("w", encoding="utf-8") as file:
        for documents, block in rows:
            mapped[first : first + len(block)] = block
            first += len(block)
            _write_documents(file, documents)
    mapped.flush()


def _write_documents(file: IO[str], documents: list[Document]) -> None:
    for one in documents:
        row = {"_id": one.id, "text": one.text or "", "metadata": one.metadata or {}}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_faiss(index: Index, folder: Path, rows: Rows) -> None:
    faiss = require("faiss", extra="index")
    flat = faiss.IndexFlatIP(index.settings.stored_dim)

    with (folder / "documents.jsonl").open("w", encoding="utf-8") as file:
        for documents, block in rows:
            flat.add(block)
            _write_documents(file, documents)
    faiss.write_index(flat, str(folder / "vectors.faiss"))


def _write_parquet(index: Index, folder: Path, rows: Rows) -> None:
    pyarrow, parquet = require("pyarrow", extra="train"), require("pyarrow.parquet", extra="train")
    vector = pyarrow.list_(pyarrow.float32(), index.settings.stored_dim)
    text = pyarrow.string()
    schema = pyarrow.schema([("id", text), ("text", text), ("metadata", text), ("vector", vector)])
    with parquet.ParquetWriter(folder / "documents.parquet", schema) as file:
        for documents, block in rows:
            columns = [
                pyarrow.array([one.id for one in documents], text),
                pyarrow.array([one.text for one in documents], text),
                pyarrow.array([None if one.metadata is None else json.dumps(one.metadata) for one in documents], text),
                pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(block.ravel()), index.settings.stored_dim),
            ]
            file.write_table(pyarrow.Table.from_arrays(columns, schema=schema))


_WRITERS: dict[str, Callable[[Index, Path, Rows], None]] = {
    "numpy": _write_numpy,
    "faiss": _write_faiss,
    "parquet": _write_parquet,
    "beir": _write_beir,
}
