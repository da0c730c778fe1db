"""From documents to the folder of an index: batch by batch, whole or not at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DamagedIndexError, DataError, DimensionError, VectorError
from nestvec.files import is_unicode, sync
from nestvec.index.embedded.first_stage import PRODUCT, CodeSettings, FirstStage, codebook_numbers, default_codes
from nestvec.index.embedded.manifest import Manifest
from nestvec.index.embedded.segments import Codec, checksum, draw_rows, file_problems, finish_segment, new_name
from nestvec.index.embedded.stored import ROWS_AT_A_TIME, Stored, StoredVectors, encode
from nestvec.index.embedded.view import View
from nestvec.index.embedded.writing import Writing, listed
from nestvec.index.protocol import Batch
from nestvec.index.results import Document
from nestvec.index.settings import SearchSettings
from nestvec.plan import Plan
from nestvec.progress import Progress, silent
from nestvec.quantization import Quantizer, fit_quantizer, load_codes, save_codes
from nestvec.vectors import find_unusable, truncate, unit_float32

__all__ = [
    "DEFAULT_SHORTLIST",
    "SEGMENTS",
    "IndexSettings",
    "as_batches",
    "check_batch",
    "check_ids",
    "check_queries",
    "fill",
    "load_codec",
    "load_settings",
    "remove_old_codecs",
    "save_codec",
    "settings_of",
    "unit_vectors",
]

Float32s = NDArray[np.float32]

SEGMENTS = "segments"
DEFAULT_SHORTLIST = 100
"""Documents that are reranked until it is tuned."""
_CODEC_FILES = (".codec", ".first", ".second")
_TINY = 1e-20  # squared lengths down to here have all digits of float32


class IndexSettings(NamedTuple):
    """What is stored of each vector."""

    full_dim: int
    """Numbers of the vectors that are given, as documents and as queries."""
    stored_dim: int
    """Leading numbers that the second stage stores."""
    precision: str
    """How it stores each."""
    codes: CodeSettings | None = None
    """The first stage; None is what suits so many vectors of this size, chosen anew when they are compacted."""

    def codes_for(self, count: int) -> CodeSettings:
        """Return the first stage for so many documents."""
        return default_codes(self.stored_dim, count) if self.codes is None else self.codes

    def cut(self, dim: int, count: int) -> IndexSettings:
        """Return what is stored of so many vectors that are cut to their first numbers."""
        codes = self.codes
        if codes is not None and codes.dim > dim:
            codes = codes._replace(dim=codebook_numbers(dim) if codes.precision == PRODUCT else dim)
        if codes is not None and (not codes.dim or codes.fewest_to_train > count):
            codes = None
        return self._replace(stored_dim=dim, codes=codes)


def check_batch(batch: Batch, full_dim: int) -> list[Document]:
    """Check documents before anything is written.

    Args:
        batch: The documents.
        full_dim: Numbers that their vectors must have.

    Returns:
        The documents without vectors.

    Raises:
        VectorError: Vectors are of another width, not finite, or zero; every bad one is named by its id.
        DataError: An id is missing, no text or repeated, or lists are of different lengths, or metadata are no JSON.
    """
    vectors = batch.vectors
    if not isinstance(vectors, np.ndarray):
        raise VectorError(f"Vectors are an array of floating-point numbers, not a {type(vectors).__name__}.")
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating) or vectors.shape[1] != full_dim:
        raise VectorError(
            f"Vectors are floating-point numbers [n, {full_dim}], not {vectors.dtype} {list(vectors.shape)}."
        )
    _check_lengths(len(vectors), batch.ids, batch.texts, batch.metadata)
    check_ids(batch.ids)
    if len(set(batch.ids)) < len(batch.ids):
        seen: set[str] = set()
        twice = [id_ for id_ in batch.ids if id_ in seen or seen.add(id_)]  # type: ignore[func-returns-value]
        raise DataError(f"Ids that are repeated in one batch: {listed(sorted(set(twice)))}. Give each document once.")
    wrong = _unusable_rows(vectors)
    if len(wrong):
        raise VectorError(
            f"{len(wrong):,} vectors are zero or hold numbers that are not finite, of the documents "
            f"{listed([batch.ids[row] for row in wrong.tolist()])}."
        )
    texts = [None] * len(vectors) if batch.texts is None else batch.texts
    metadata = [None] * len(vectors) if batch.metadata is None else batch.metadata
    found = []
    for id_, text, facts in zip(batch.ids, texts, metadata, strict=True):
        if not (text is None or (isinstance(text, str) and is_unicode(text))):
            raise DataError(f"The text of document {id_} is no text of whole characters.")
        if not (facts is None or isinstance(facts, Mapping)):
            raise DataError(f"The metadata of document {id_} are no JSON object, but a {type(facts).__name__}.")
        found.append(Document(str(id_), None if text is None else str(text), None if facts is None else dict(facts)))
    return found


def check_ids(ids: Sequence[str]) -> None:
    """Check ids.

    Raises:
        DataError: They are one text in place of a list, or some are no texts with a character at least.
    """
    if isinstance(ids, str):
        raise DataError(f"Ids are a list of texts, not the one text {ids!r}.")
    bad = [row for row, id_ in enumerate(ids) if not isinstance(id_, str) or not id_ or not is_unicode(id_)]
    if bad:
        raise DataError(f"Ids are texts with a character at least. These are not, by row: {listed(bad)}.")


def unit_vectors(vectors: NDArray[Any], settings: IndexSettings) -> Float32s:
    """Return what the second stage stores of vectors, before it is encoded: unit length, [n, stored_dim], float32."""
    return truncate(unit_float32(np.asarray(vectors)), settings.stored_dim)


def settings_of(
    full_dim: int, plan: Plan | None, codes: CodeSettings | None, precision: str | None
) -> tuple[IndexSettings, SearchSettings]:
    """Return what to store and how to search: of a plan, or what suits most vectors.

    Args:
        full_dim: Numbers of the vectors.
        plan: None for no plan.
        codes: The first stage, in place of the plan's.
        precision: Of the second stage, likewise.

    Raises:
        DimensionError: The plan is for vectors of another width.
    """
    if plan is None:
        return IndexSettings(full_dim, full_dim, precision or "float16", codes), SearchSettings(DEFAULT_SHORTLIST)
    if plan.full_dim != full_dim:
        raise DimensionError(f"The plan is for vectors of {plan.full_dim} numbers, and these have {full_dim}.")
    first, second = plan.first_stage, plan.second_stage
    scanned = codes or CodeSettings(first.dim, first.precision)
    if second is None:
        # Nothing reranks: what is kept on disk is what is scanned, so that segments can be put together.
        return IndexSettings(full_dim, first.dim, precision or first.precision, scanned), SearchSettings(None)
    return IndexSettings(full_dim, full_dim, precision or second.precision, scanned), SearchSettings(second.shortlist)


def fill(
    folder: Path,
    manifest: Manifest,
    settings: IndexSettings,
    batches: Iterable[Batch],
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> None:
    """Put documents into an index that has none; memory holds the codes and a batch.

    Args:
        folder: The index.
        manifest: Its manifest.
        settings: What to store.
        batches: The documents.
        seed: Of every draw.
        progress: How to report progress, in documents.

    Raises:
        DataError: There are no documents, or an id is missing or repeated.
        VectorError: Vectors cannot be stored.
    """
    segments, name = folder / SEGMENTS, new_name()
    # What needs no fitting is stored as it comes; else as float16 first, until a sample of all can be drawn.
    fitted = settings.precision not in ("float32", "float16")
    draft = folder / "draft" if fitted else segments / f"{name}.vectors"
    as_it_comes = fit_quantizer(
        np.eye(1, settings.stored_dim, dtype=np.float32), "float16" if fitted else settings.precision
    )
    with manifest.writing() as writing:
        count = StoredVectors.write(draft, _receive(writing, settings, batches, as_it_comes, progress))
        if not count:
            raise DataError("There are no documents. An index needs one at least; more can be added later.")
        stored = StoredVectors.open(draft, as_it_comes, count)
        codes = settings.codes_for(count)
        rows = draw_rows(count, codes.rows_to_train, seed)
        sample = stored.decode(rows)
        second = fit_quantizer(sample, settings.precision) if fitted else as_it_comes
        codec = Codec(FirstStage.train(sample, codes, seed=seed), second)
        if fitted:
            blocks = (encode(second, block) for block in stored.blocks())
            StoredVectors.write(segments / f"{name}.vectors", blocks)
            draft.unlink()
        save_codec(folder, codec, writing)
        writing.set("settings", settings)
        writing.put_segment(finish_segment(segments, name, codec, writing.numbers_and_ids()))


def _receive(
    writing: Writing, settings: IndexSettings, batches: Iterable[Batch], quantizer: Quantizer, progress: Progress
) -> Iterator[Stored]:
    with progress("storing", None) as advance:
        for batch in batches:
            writing.add(check_batch(batch, settings.full_dim))
            yield encode(quantizer, unit_vectors(batch.vectors, settings))
            advance(len(batch.ids))


def save_codec(folder: Path, codec: Codec, writing: Writing) -> None:
    """Write a codec, and say in the manifest that it is the one in use."""
    name = new_name()
    codec.first.save(folder / f"{name}.codec")
    sync(folder / f"{name}.codec")
    for part, quantizer in (("first", codec.first.quantizer), ("second", codec.second)):
        if quantizer is not None:
            nothing = quantizer.encode(np.ones((1, quantizer.full_dim), np.float32))[:0]
            save_codes(folder / f"{name}.{part}", quantizer, nothing)
    files = {path.name: checksum(path) for path in folder.glob(f"{name}.*")}
    writing.set("codec", {"name": name, "codes": codec.first.settings, "files": files})


def remove_old_codecs(folder: Path, name: str) -> None:
    """Remove the files of codecs but the one in use."""
    for path in folder.iterdir():
        if path.suffix in _CODEC_FILES and path.stem != name:
            path.unlink(missing_ok=True)


def load_settings(view: View) -> IndexSettings:
    """Return what an index stores of each vector."""
    full_dim, stored_dim, precision, codes = view.needed("settings")
    return IndexSettings(full_dim, stored_dim, precision, None if codes is None else CodeSettings(*codes))


def load_codec(folder: Path, named: Mapping[str, Any]) -> Codec:
    """Read a codec.

    Args:
        folder: The index.
        named: What `save_codec` put into the manifest.

    Returns:
        The codec.

    Raises:
        FileNotFoundError: A file is not there.
        DamagedIndexError: A file is damaged.
    """
    for file in named["files"]:
        (folder / file).stat()  # one that is not there has been replaced, or lost
    if problems := file_problems(folder, named["files"]):
        raise DamagedIndexError(f"{folder} is damaged: {problems[0]}")
    name, codes = named["name"], CodeSettings(*named["codes"])
    try:
        first = None if codes.precision == PRODUCT else load_codes(folder / f"{name}.first").quantizer
        second = load_codes(folder / f"{name}.second").quantizer
    except VectorError as error:
        raise DamagedIndexError(f"{folder} is damaged: {error}") from error
    return Codec(FirstStage.load(folder / f"{name}.codec", codes, first), second)


def check_queries(vectors: NDArray[Any], settings: IndexSettings) -> Float32s:
    """Check queries before anything is searched.

    Args:
        vectors: [n, full_dim] or [full_dim], floating point.
        settings: Of the index.

    Returns:
        Queries as segments are asked, [n, stored_dim], float32, of unit length.

    Raises:
        VectorError: They are of another width, zero, or not finite.
    """
    queries = np.asarray(vectors)
    queries = queries[None] if queries.ndim == 1 else queries
    if queries.dtype == np.float32 and queries.shape[1:] == (settings.full_dim,) == (settings.stored_dim,):
        # What nearly all queries are: looked at and scaled in a third of the time that all checks take.
        squares = np.einsum("ij,ij->i", queries, queries)
        if all(_TINY < square < 1 / _TINY for square in squares.tolist()):
            unit: Float32s = queries / np.sqrt(squares)[:, None]
            return unit
    if queries.ndim != 2 or not np.issubdtype(queries.dtype, np.floating) or queries.shape[1] != settings.full_dim:
        raise VectorError(
            f"Queries are floating-point numbers [n, {settings.full_dim}], not {queries.dtype} {list(queries.shape)}. "
            "Encode them with the model that encoded the documents."
        )
    bad = _unusable_rows(queries)
    if len(bad):
        raise VectorError(
            f"{len(bad)} queries are zero or hold numbers that are not finite, the first in row {bad[0]}."
        )
    return unit_vectors(queries, settings)


def as_batches(
    vectors: NDArray[Any] | Iterable[Batch],
    ids: Sequence[str] | None,
    texts: Sequence[str | None] | None,
    metadata: Sequence[Mapping[str, Any] | None] | None,
) -> tuple[Iterable[Batch], int]:
    """Return documents as batches, and the numbers of their vectors; see `Index.build` for the arguments.

    Raises:
        DataError: There are no documents, or lists are of different lengths, or given together with batches.
        VectorError: The vectors are no [n, dim].
    """
    if not isinstance(vectors, np.ndarray):
        batches = iter(vectors)
        first = next(batches, None)
        if first is None:
            raise DataError("There are no documents. An index needs one at least; more can be added later.")
        if not isinstance(first, Batch):
            raise VectorError(f"Vectors are an array [n, dim], or batches, and not a list of {type(first).__name__}.")
        if not (ids is None and texts is None and metadata is None):
            raise DataError("Batches come with their own ids, texts and metadata: give them there.")
        return itertools.chain([first], batches), first.vectors.shape[-1]
    if vectors.ndim != 2:
        raise VectorError(f"Vectors are floating-point numbers [n, dim], not {vectors.dtype} {list(vectors.shape)}.")
    _check_lengths(len(vectors), ids, texts, metadata)

    def cut() -> Iterator[Batch]:
        for first in range(0, len(vectors), ROWS_AT_A_TIME):
            rows = slice(first, first + ROWS_AT_A_TIME)
            named = list(map(str, range(*rows.indices(len(vectors))))) if ids is None else ids[rows]
            yield Batch(
                vectors[rows],
                named,
                None if texts is None else texts[rows],
                None if metadata is None else metadata[rows],
            )

    return cut(), vectors.shape[1]


def _check_lengths(
    count: int, ids: Sequence[object] | None, texts: Sequence[object] | None, metadata: Sequence[object] | None
) -> None:
    for name, given in (("ids", ids), ("texts", texts), ("metadata", metadata)):
        if isinstance(given, (str, Mapping)):
            raise DataError(f"{name} are a list, one for each vector, not a {type(given).__name__}.")
        if given is not None and len(given) != count:
            raise DataError(f"There are {count:,} vectors and {len(given):,} {name}. Give one for each vector.")


def _unusable_rows(vectors: NDArray[Any]) -> NDArray[np.int64]:
    """Rows that are zero, or hold numbers that are not finite."""
    return np.sort(np.concatenate(list(find_unusable(vectors).values())))
