"""What an adaptor is fitted on, read from files or encoded: what `nestvec adapt` begins with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nestvec.adaptors import SIDES, Adaptor, AdaptorData, merge
from nestvec.data import (
    Benchmark,
    Columns,
    LabeledText,
    Positives,
    Record,
    ScoredPair,
    naming_places,
    read_integers,
    read_numbers,
    read_vectors,
)
from nestvec.encoders import Encoder, load_base
from nestvec.errors import AdaptorError, DataError
from nestvec.files import atomic_folder
from nestvec.jobs.training_data import read_source
from nestvec.progress import Progress, silent
from nestvec.training.export import save_model

__all__ = ["EncodedTexts", "encode_records", "encode_texts", "read_frozen_vectors", "save_adapted_model"]


class EncodedTexts(NamedTuple):
    """Texts as an encoder sees them, to fit an adaptor on."""

    data: AdaptorData
    encoder: dict[str, str]
    """Identity of the encoder by side."""


def read_frozen_vectors(
    queries: str | Path | None,
    documents: str | Path,
    *,
    pairs: str | Path | None = None,
    scores: str | Path | None = None,
    labeled: bool = True,
) -> AdaptorData:
    """Read vectors that are ready, and which of them belong together.

    Args:
        queries: File of vectors, as `read_vectors` takes it; None where there are none, without labels.
        documents: The same.
        pairs: npy file of whole numbers [n, 2 + negatives]: row of the query, of its document, of documents that are
            none. None pairs row i with row i.
        scores: File of [n] or [n, 1] numbers: how similar the two of each pair are.
        labeled: False leaves all labels out.

    Returns:
        Vectors and labels; arrays of npy files stay on disk.

    Raises:
        SourceNotFoundError: A file is not there.
        VectorError: A file cannot be read.
        AdaptorError: Without pairs, the two have different numbers of rows.
    """
    found = read_vectors(documents)
    data = AdaptorData(found[:0] if queries is None else read_vectors(queries), found)
    if not labeled:
        return data
    if pairs is not None:
        rows = read_integers(pairs)
    elif len(data.queries) == len(data.documents):
        rows = np.repeat(np.arange(len(data.queries)), 2).reshape(-1, 2)
    else:
        raise AdaptorError(
            f"There are {len(data.queries)} queries and {len(data.documents)} documents. Say which belong together, "
            "by pairs, or fit without labels."
        )
    known = None if scores is None else read_numbers(scores).reshape(-1)
    return AdaptorData(data.queries, data.documents, rows, known)


def encode_texts(
    source: str | Path,
    encoder: Encoder,
    *,
    split: str = "train",
    negatives: int = 0,
    labeled: bool = True,
    columns: Columns | None = None,
    positives: Positives = "all",
    strict: bool = False,
    progress: Progress = silent,
) -> EncodedTexts:
    """Encode texts, and keep which of them belong together.

    Args:
        source: A file of records, as `read_records` takes it, or a BEIR folder.
        encoder: What encodes them.
        split: Which qrels of a BEIR folder, or which split of a folder of `save_to_disk`.
        negatives: Hard negatives of a row to keep; rows must have as many.
        labeled: False leaves all labels out, and takes the texts of rows of any kind, and all of a BEIR folder.
        columns: Which column holds what, as `read_records` takes it.
        positives: What a list of positives is, likewise.
        strict: Refuse what is otherwise left out, counted and said once.
        progress: How to report progress.

    Returns:
        Each text once, as a query, as a document or as both, and pairs of them.

    Raises:
        SourceNotFoundError: The source is not there.
        DataError: It cannot be read, or rows have fewer negatives.
    """
    source = Path(source)
    found = read_source(source, columns=columns, split=split, positives=positives, strict=strict, progress=progress)
    identities = {side: encoder.identity(side) for side in SIDES}
    if not labeled:
        texts = _texts_alone(found)
        with naming_places(source, columns=columns):
            queries, documents = (
                encode(list(dict.fromkeys(text for text in part if text.strip())), progress=progress)
                for encode, part in zip((encoder.encode_queries, encoder.encode_documents), texts, strict=True)
            )
        return EncodedTexts(AdaptorData(queries, documents), identities)
    records = found.rows() if isinstance(found, Benchmark) else found
    with naming_places(source, columns=columns):
        data = encode_records(records, encoder, about=str(source), negatives=negatives, progress=progress)
    return EncodedTexts(data, identities)


def encode_records(
    records: Sequence[Record],
    encoder: Encoder,
    *,
    about: str = "the data",
    negatives: int = 0,
    progress: Progress = silent,
) -> AdaptorData:
    """Encode pairs of texts, each text once.

    Args:
        records: Queries with their documents, or scored pairs.
        encoder: What encodes them.
        about: Where they are from, for errors.
        negatives: Hard negatives of a row to keep; rows must have as many.
        progress: How to report progress.

    Returns:
        Vectors, and pairs of them in the order of the records.

    Raises:
        DataError: Rows have no pairs, or fewer negatives.
    """
    query_rows: dict[str, int] = {}
    document_rows: dict[str, int] = {}
    rows: list[list[int]] = []
    scores: list[float] = []
    for record in records:
        if isinstance(record, LabeledText):
            raise DataError(f"{about} has rows of a text and a label; an adaptor learns from pairs of texts.")
        if isinstance(record, ScoredPair):
            left, right = record.text1, [record.text2]
            scores.append(record.score)
        else:
            left, right = record.query, [record.positive, *record.negatives[:negatives]]
            if len(right) < 1 + negatives:
                raise DataError(f"{about} has a row with {len(right) - 1} negatives, fewer than {negatives}.")
        query = query_rows.setdefault(left, len(query_rows))
        rows.append([query, *(document_rows.setdefault(text, len(document_rows)) for text in right)])
    query_vectors = encoder.encode_queries(list(query_rows), progress=progress)
    document_vectors = encoder.encode_documents(list(document_rows), progress=progress)
    return AdaptorData(query_vectors, document_vectors, np.array(rows), np.array(scores) if scores else None)


def _texts_alone(found: Benchmark | Sequence[Record]) -> tuple[list[str], list[str]]:
    """Texts of queries and of documents, whatever belongs together; texts of no side count as documents."""
    if isinstance(found, Benchmark):
        return list(found.queries.values()), list(found.corpus.values())
    queries: list[str] = []
    documents: list[str] = []
    for record in found:
        if isinstance(record, LabeledText):
            documents.append(record.text)
        elif isinstance(record, ScoredPair):
            documents += [record.text1, record.text2]
        else:
            queries.append(record.query)
            documents += [record.positive, *record.negatives]
    return queries, documents


def save_adapted_model(adaptor: Adaptor, base: str, folder: Path, *, trust_remote_code: bool = False) -> None:
    """Write a base with an adaptor behind it as one sentence-transformers model.

    Args:
        adaptor: What to put behind it.
        base: What it was fitted on, as `load_base` takes it.
        folder: Where to write; an older folder is replaced.
        trust_remote_code: Run code that comes with the base, where it needs some.

    Raises:
        AdaptorError: It was fitted on another model.
        StorageError: The disk is full, or the folder cannot be written.
    """
    merged = merge(adaptor, load_base(base, trust_remote_code=trust_remote_code))
    with atomic_folder(folder) as partial:
        save_model(merged, partial, dims=adaptor.dims)
