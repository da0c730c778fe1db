"""From documents and a model to an index: what `nestvec index` and `nestvec search` begin with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nestvec.data import Columns, TextDocument, naming_places, read_documents
from nestvec.encoders import Encoder
from nestvec.errors import DataError, SearchIndexError, VectorError
from nestvec.index import Batch, CodeSettings, Index, check_buildable, check_free
from nestvec.jobs.fitted_on import encode_sample
from nestvec.plan import Plan, read_plan
from nestvec.progress import Progress, silent
from nestvec.sources import absolute_source, find_source, load_encoder

__all__ = ["DocumentFile", "Encoded", "add_documents", "build_index", "encoder_of", "open_index"]

_DOCUMENTS_AT_A_TIME = 8192
_LISTED = 5


@dataclass(frozen=True)
class DocumentFile:
    """A file of documents, and how to read it; see `read_documents`."""

    path: str | Path
    columns: Columns | None = None
    """Which column holds what."""
    vectors: str | None = None
    """Column of vectors to use in place of encoding the texts."""
    strict: bool = False
    """Refuse documents without text, which are otherwise left out and counted."""

    def read(self) -> Iterator[TextDocument]:
        """Yield the documents."""
        return read_documents(self.path, columns=self.columns, vectors=self.vectors, strict=self.strict)


class Encoded(NamedTuple):
    """How a first stage encodes vectors whose size is known once there is an encoder."""

    precision: str
    """Such as pq32."""
    dim: int | None = None
    """Leading dimensions; None encodes all."""
    lists: int | None = None
    """IVF lists; None scans all codes."""


def build_index(
    path: str | Path,
    documents: DocumentFile | str | Path,
    *,
    model: str | None = None,
    plan: str | Path | None = None,
    recall: float = 0.99,
    codes: Encoded | None = None,
    precision: str | None = None,
    queries: Sequence[str] | None = None,
    fit_on: str | Path | None = None,
    overwrite: bool = False,
    cache: bool = True,
    trust_remote_code: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Index:
    """Encode documents and make an index of them.

    Args:
        path: Folder to make.
        documents: File of documents, as `read_documents` takes it.
        model: What encodes: see `load_encoder`. None takes the plan's. Where the file holds the vectors that are used,
            it encodes queries alone, and None leaves open what does.
        plan: File of a plan; None stores and searches as suits most vectors.
        recall: Share of the exact best 10 that a search is to find, where there is no plan.
        codes: The first stage, in place of the plan's or the default.
        precision: Of the second stage, likewise.
        queries: Texts of queries to measure recall on; None uses documents.
        fit_on: File of rows or texts that ranges and codebooks are learned from; None takes the plan's, or the
            documents.
        overwrite: Replace an index that is there.
        cache: Keep vectors in the cache of encoded texts.
        trust_remote_code: Run code that comes with the model, where it needs some.
        seed: Of every draw.
        progress: How to report progress.

    Returns:
        The index.

    Raises:
        SearchIndexError: There is neither a model nor a plan that names one.
        DataError: Documents cannot be used; all bad rows are named.
        NestvecError: What loading a model, reading a plan and `Index.build` raise.
    """
    found: Plan | None = None if plan is None else read_plan(plan)
    file = documents if isinstance(documents, DocumentFile) else DocumentFile(documents)
    source = model
    if source is None and found is not None and plan is not None:
        source = find_source(found.model, Path(plan).parent)
    source = None if source is not None and source.startswith("vectors:") else source
    if source is None and (file.vectors is None or queries is not None):
        what = "documents" if file.vectors is None else "queries"
        raise SearchIndexError(f"Say what encodes the {what}: --model, or a plan that names a model.")
    check_free(Path(path), overwrite=overwrite)
    width = _check(file, progress)
    encoder = None
    if source is not None:
        encoder = load_encoder(source, cache=cache, trust_remote_code=trust_remote_code, progress=progress)
    _check_width(encoder, width, file)
    learned = fit_on
    if learned is None and found is not None and plan is not None and found.fitted_on != "documents":
        learned = Path(plan).parent / found.fitted_on
    if learned is not None and encoder is None:
        raise SearchIndexError(f"Say what encodes the texts of {learned}: --model.")
    full_dim = width if width is not None or encoder is None else encoder.full_dim
    settings = None if codes is None else _code_settings(codes, full_dim)
    if full_dim is not None:
        check_buildable(
            full_dim, plan=found, codes=settings, precision=precision, recall=recall, learned=learned is not None
        )
    encoded = None
    if queries is not None and encoder is not None:
        encoded = encoder.encode_queries(queries, progress=progress)
    return Index.build(
        path,
        vectors=_batches(file, encoder, progress),
        plan=found,
        model=None if source is None or encoder is None else _describe(source, encoder, file),
        codes=settings,
        precision=precision,
        recall=recall,
        queries=encoded,
        learn_from=None if learned is None or encoder is None else encode_sample(learned, encoder, progress=progress),
        overwrite=overwrite,
        seed=seed,
        progress=progress,
    )


def _code_settings(codes: Encoded, full_dim: int | None) -> CodeSettings:
    dim = full_dim if codes.dim is None else codes.dim
    if dim is None:
        raise SearchIndexError("There is neither an encoder nor a column of vectors, so nothing to encode.")
    return CodeSettings(dim, codes.precision, codes.lists)


def _describe(source: str, encoder: Encoder, file: DocumentFile) -> dict[str, str]:
    """What an index keeps of its encoder; what gave the vectors of a file is not known."""
    sides = ("query", "document") if file.vectors is None else ("query",)
    return {"name": absolute_source(source), **{side: encoder.identity(side) for side in sides}}


def _check_width(encoder: Encoder | None, width: int | None, file: DocumentFile) -> None:
    if encoder is not None and width is not None and encoder.full_dim != width:
        raise VectorError(
            f"The vectors in column {file.vectors!r} of {file.path} have {width} dimensions, and those of the model "
            f"{encoder.full_dim}. Name the model that gave them."
        )


def add_documents(
    index: Index,
    documents: DocumentFile | str | Path,
    encoder: Encoder | None,
    *,
    replacing: bool = False,
    progress: Progress = silent,
) -> tuple[int, int]:
    """Encode documents and add them; every 8,192 are committed together.

    Args:
        index: The index.
        documents: File of documents, as `read_documents` takes it.
        encoder: What encoded those that are there; None where the file holds the vectors that are used.
        replacing: Replace documents that have the same ids; otherwise they are refused.
        progress: How to report progress.

    Returns:
        How many were written, and how many of these replaced others.

    Raises:
        DataError: Documents cannot be used; all bad rows are named, and nothing is added.
        NestvecError: What `Index.add` raises.
    """
    file = documents if isinstance(documents, DocumentFile) else DocumentFile(documents)
    _check(file, progress, None if replacing else index)
    written = replaced = 0
    for batch in _batches(file, encoder, progress):
        if replacing:
            replaced += index.upsert(*batch)
        else:
            index.add(*batch)
        written += len(batch.ids)
    return written, replaced


def encoder_of(
    index: Index,
    model: str | None = None,
    *,
    force: bool = False,
    cache: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Encoder:
    """Load the encoder of an index, and check that it is the same that encoded its documents.

    Args:
        index: The index.
        model: What encodes, where the model has moved; None takes what the index names.
        force: Accept another one.
        cache: Keep vectors in the cache of encoded texts; a lookup takes longer than most searches.
        trust_remote_code: Run code that comes with the model, where it needs some.
        progress: How to report progress.

    Returns:
        The encoder.

    Raises:
        SearchIndexError: The index names no model, or the model gives other vectors.
        NestvecError: What loading a model raises.
    """
    known: Mapping[str, Any] = index.model or {}
    source = model or (find_source(known["name"], index.path.parent) if known.get("name") else None)
    if source is None:
        raise SearchIndexError(f"{index.path} was built from ready vectors. Say what encodes queries: --model.")
    encoder = load_encoder(source, cache=cache, force=force, trust_remote_code=trust_remote_code, progress=progress)
    wrong = [side for side in ("query", "document") if side in known and encoder.identity(side) != known[side]]
    if wrong and not force:
        raise SearchIndexError(
            f"{source} does not give the vectors that {index.path} was built with, of {known['name']}: its weights, "
            "pooling, prompts or text length are others. Give the same model, or pass --force."
        )
    return encoder


def open_index(
    path: str | Path,
    *,
    model: str | None = None,
    force: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Index:
    """Open an index with the encoder of its documents, to be searched for texts.

    Args:
        path: Its folder.
        model: What encodes, where the model has moved; None takes what the index names.
        force: Accept another one.
        trust_remote_code: Run code that comes with the model, where it needs some.
        progress: How to report progress.

    Returns:
        The index.

    Raises:
        SearchIndexError: There is no index, it names no model, or the model gives other vectors.
        NestvecError: What loading a model raises.
    """
    index = Index.open(path)
    try:
        index.encoder = encoder_of(index, model, force=force, trust_remote_code=trust_remote_code, progress=progress)
    except BaseException:
        index.close()
        raise
    return index


def _check(documents: DocumentFile, progress: Progress, index: Index | None = None) -> int | None:
    """Read all documents once, so that bad rows, and ids that an index has, are known before any is encoded.

    Returns the width of their vectors, where the file holds some that are used.
    """
    rows = documents.read()
    known: list[str] = []
    width: int | None = None
    with progress("checking documents", None) as advance:
        while part := list(islice(rows, _DOCUMENTS_AT_A_TIME)):
            known += [] if index is None else index.get([one.id for one in part])
            width = None if part[0].vector is None else len(part[0].vector)
            advance(len(part))
    if known:
        more = f" and {len(known) - _LISTED:,} more" if len(known) > _LISTED else ""
        raise DataError(
            f"Ids that the index has already: {', '.join(known[:_LISTED])}{more}. Nothing was added; upsert replaces "
            "documents."
        )
    return width


def _batches(documents: DocumentFile, encoder: Encoder | None, progress: Progress) -> Iterator[Batch]:
    rows = documents.read()
    while part := list(islice(rows, _DOCUMENTS_AT_A_TIME)):
        yield _encode(part, documents, encoder, progress)


def _encode(
    part: Sequence[TextDocument], documents: DocumentFile, encoder: Encoder | None, progress: Progress
) -> Batch:
    texts = [one.text for one in part]
    given = [one.vector for one in part if one.vector is not None]
    if given:
        vectors = np.stack(given)
    elif encoder is None:
        raise SearchIndexError("Say what encodes the documents, or which column holds their vectors.")
    else:
        with naming_places(documents.path, columns=documents.columns):
            vectors = encoder.encode_documents(texts, progress=progress)
    return Batch(vectors, [one.id for one in part], texts, [one.metadata or None for one in part])
