"""The index: documents and their vectors in a folder, searched in two stages."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DataError, DimensionError, OutputExistsError, SearchIndexError, VectorError
from nestvec.files import atomic_folder
from nestvec.index.building import (
    ROWS_TO_FIT,
    SEGMENTS,
    Batch,
    IndexSettings,
    check_batch,
    fill,
    load_codec,
    load_settings,
    remove_old_codecs,
    save_codec,
    unit_vectors,
)
from nestvec.index.codes import CodeSettings, FirstStage, faiss_threads
from nestvec.index.filters import parse_filter
from nestvec.index.manifest import Document, Manifest, SegmentRecord, Writing, listed
from nestvec.index.segments import (
    FILES,
    Codec,
    Segment,
    draw_vectors,
    join_segments,
    open_segment,
    remove_segment,
    remove_unnamed,
    segment_problems,
    write_segment,
)
from nestvec.index.stored import Stored, encode
from nestvec.index.two_stages import Candidates, SearchSettings, Stages, search_exact, search_stages
from nestvec.plan import Plan
from nestvec.progress import Advance, Progress, silent
from nestvec.quantization import fit_quantizer
from nestvec.vectors import check_dims, truncate

__all__ = ["Explanation", "HitDetails", "Hits", "Index", "Statistics"]

Float32s = NDArray[np.float32]
Numbers = NDArray[np.int64]

_SHORTLIST = 100  # until it is tuned
_ROWS_AT_A_TIME = 8192
_MERGED_AT_MOST = 250_000  # rows of segments that adding puts together
_MERGED_SHARE = 4  # how many times as large a segment may be as what joins it
_FUSION = 60  # added to ranks in reciprocal rank fusion
_FILTERS_KEPT = 64
_KEPT_SETTINGS = ("shortlist", "probes", "dim", "middle")
_ATTEMPTS = 20  # to open files that a writer may be replacing


class Hits(NamedTuple):
    """The best documents of every query, best first."""

    ids: list[list[str]]
    """[n_queries][up to k]."""
    scores: Float32s
    """Cosine similarity, [n_queries, k]; nan beyond the documents that there are."""


class HitDetails(NamedTuple):
    """A document that was found, and why it stands where it does."""

    id: str
    score: float
    """What it is ordered by: its cosine, or in a search by words as well, what its two ranks add up to."""
    cosine: float | None
    """What the second stage says, or the codes where there is none; None if only its words brought it here."""
    prefix_score: float | None
    """What the first stage says of the cosine; None where it was not asked."""
    shortlist_rank: int | None
    """Its place in the first stage's shortlist, from 1."""
    vector_rank: int | None
    """Its place by cosine, from 1."""
    words_rank: int | None
    """Its place by BM25, from 1; None where no word of the query is in it, or words were not asked."""
    words_score: float | None
    """BM25, higher is better."""


class Explanation(NamedTuple):
    """What a search found, and what each stage did."""

    hits: list[HitDetails]
    seconds: dict[str, float]
    """Time of each stage."""
    documents: int
    """How many were searched: those that the filter left."""
    settings: SearchSettings


class Statistics(NamedTuple):
    """What an index holds, and what it costs."""

    documents: int
    deleted: int
    """Documents that are gone and whose vectors still take space, until the index is compacted."""
    segments: int
    full_dim: int
    resident_bytes: int
    """Codes that a search keeps in memory."""
    resident_bytes_per_vector: float
    disk_bytes: int
    """All files."""
    disk_bytes_per_vector: float
    vector_bytes_per_vector: float
    """Of these, the files of vectors, without texts and metadata."""


@dataclass(frozen=True)
class _State:
    """What one commit made of the index."""

    version: int
    segments: list[Segment]
    alive: list[NDArray[np.bool_] | None]
    """Which rows of each segment are not deleted; None where all are."""
    settings: IndexSettings
    codec: Codec
    search: SearchSettings


class _Change:
    """A change that is being made."""

    def __init__(self, manifest: Manifest, writing: Writing, state: _State) -> None:
        self.manifest = manifest
        self.writing = writing
        self.state = state
        self.added: list[str] = []
        self.dropped: list[str] = []

    def add(self, record: SegmentRecord) -> None:
        self.added.append(record.name)
        self.writing.put_segment(record)

    def drop(self, segment: Segment, kept: NDArray[np.bool_] | None) -> None:
        """Take a segment out, whose kept rows go into another."""
        self.writing.drop_segments([segment.record.name])
        self.dropped.append(segment.record.name)
        if kept is not None:
            self.writing.forget_deleted(segment.identities.numbers[~kept])

    def take_small_segments(
        self, count: int, deleted: Iterable[int]
    ) -> tuple[Iterable[tuple[int, str]], Iterable[Stored]]:
        """Take out the segments that are no longer worth files of their own, beside so many new rows."""
        gone, parts, rows = np.fromiter(deleted, np.int64), [], count
        for segment, alive in sorted(
            zip(self.state.segments, self.state.alive, strict=True), key=lambda one: len(one[0])
        ):
            if len(segment) > _MERGED_SHARE * rows or rows + len(segment) > _MERGED_AT_MOST:
                break
            kept = _alive(segment, gone)
            kept = kept if alive is None else alive if kept is None else kept & alive
            self.drop(segment, kept)
            rows += len(segment)
            parts.append((segment, kept))
        return join_segments(parts) if parts else ((), ())


class Index:
    """Documents and their vectors in a folder.

    Any number of processes may read it while one changes it; readers see a change once it is committed. An object is
    used by one thread at a time.
    """

    def __init__(self, path: str | Path) -> None:
        """Open an index; see `build` for making one, and `open`.

        Args:
            path: Its folder.

        Raises:
            SearchIndexError: There is none, it is damaged, or of a newer format.
        """
        self.path = Path(path)
        self._manifest = Manifest(self.path)
        self._filters: dict[str, tuple[int, Numbers]] = {}
        self._state = self._load()

    @staticmethod
    def open(path: str | Path) -> Index:
        """Open an index.

        Args:
            path: Its folder.

        Returns:
            The index.

        Raises:
            SearchIndexError: There is none, it is damaged, or of a newer format.
        """
        return Index(path)

    @staticmethod
    def build(
        path: str | Path,
        *,
        vectors: NDArray[Any] | Iterable[Batch],
        ids: Sequence[str] | None = None,
        texts: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        plan: Plan | None = None,
        model: Mapping[str, str] | None = None,
        codes: CodeSettings | None = None,
        precision: str | None = None,
        recall: float | None = 0.99,
        queries: Float32s | None = None,
        overwrite: bool = False,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Index:
        """Make an index.

        Args:
            path: Folder to make; whole, or not at all.
            vectors: [n, full_dim], floating point, a memory map as well; or batches, which come with their own ids,
                texts and metadata. Need not be of unit length: documents are compared by cosine.
            ids: [n]; None numbers the documents from 0.
            texts: [n], for search by words and to be shown; None keeps none.
            metadata: [n], JSON objects to filter by; None keeps none.
            plan: What to store and how to search, from `nestvec plan`; None stores what suits most vectors.
            model: The encoder of the vectors: its `name`, and its identity as `query` and as `document`, for whoever
                encodes queries; None leaves it open.
            codes: The first stage, in place of the plan's or the default.
            precision: Of the second stage, in place of the plan's or float16.
            recall: Share of the exact best 10 that a search is to find: the shortlist is made as long as that needs.
                None, or a plan, leaves the shortlist as it is.
            queries: Vectors of queries to measure that on, [n, full_dim]; None uses documents.
            overwrite: Replace an index that is there.
            seed: Of every draw.
            progress: How to report progress, in documents.

        Returns:
            The index, open.

        Raises:
            OutputExistsError: There is something at `path`.
            DataError: There are no documents; ids are missing, empty or repeated; lists are of different lengths.
            VectorError: Vectors are of different widths, zero or not finite.
            DimensionError: The plan is for vectors of another width.
            StorageError: The disk is full, or the folder cannot be written.
        """
        path = Path(path)
        if path.exists() and not (overwrite and Manifest.is_one(path)):
            hint = "pass overwrite=True" if Manifest.is_one(path) else "choose another place"
            raise OutputExistsError(f"{path} exists. Add to it, or {hint}.")
        batches, full_dim = _as_batches(vectors, ids, texts, metadata)
        settings, search = _settings(full_dim, plan, codes, precision)
        with atomic_folder(path) as folder:
            (folder / SEGMENTS).mkdir()
            manifest = Manifest.create(
                folder, {"model": None if model is None else dict(model), "search": _as_json(search)}
            )
            try:
                fill(folder, manifest, settings, batches, seed=seed, progress=progress)
            finally:
                manifest.close()
        index = Index(path)
        if recall is not None and plan is None:
            from nestvec.index.tuning import tune

            tune(index, recall=recall, queries=queries, seed=seed, progress=progress)
        return index

    def close(self) -> None:
        """Close the manifest; nothing else is open that a process would have to give back."""
        self._manifest.close()

    def __enter__(self) -> Index:
        """Return the index, to be closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __len__(self) -> int:
        """Documents in it."""
        state = self._current()
        return sum(
            len(segment) if alive is None else int(alive.sum())
            for segment, alive in zip(state.segments, state.alive, strict=True)
        )

    @property
    def settings(self) -> IndexSettings:
        """What is stored of each vector."""
        return self._current().settings

    @property
    def search_settings(self) -> SearchSettings:
        """How a search is done that is not told otherwise."""
        return self._current().search

    @property
    def model(self) -> dict[str, str] | None:
        """The encoder of the vectors: its name and identities; None where it is not known."""
        with self._manifest.lock:
            found: dict[str, str] | None = self._manifest.setting("model")
        return found

    @property
    def tuned(self) -> dict[str, Any] | None:
        """What the search settings were measured to do; None where they were not measured."""
        with self._manifest.lock:
            found: dict[str, Any] | None = self._manifest.setting("tuned")
        return found

    def search(
        self,
        vectors: NDArray[Any],
        k: int = 10,
        *,
        filter: str | None = None,  # noqa: A002  # the field's word
        shortlist: int | None = None,
        probes: int | None = None,
        dim: int | None = None,
        middle: tuple[int, int] | None = None,
        threads: int = 1,
    ) -> Hits:
        """Find the documents nearest to queries.

        Args:
            vectors: [n_queries, full_dim] or [full_dim], floating point.
            k: Documents to find for each.
            filter: Condition on metadata, such as `lang = "de" and year >= 2020`; see `parse_filter`.
            shortlist: Documents that the first stage hands over, in place of what the index says.
            probes: Lists of an inverted file to scan, likewise.
            dim: Leading numbers to compare: what was built at 512 numbers answers as if it held 128.
            middle: Numbers and documents of a stage between the two: (64, 50) compares 64 numbers of the shortlist and
                hands over the best 50.
            threads: Threads, for many queries.

        Returns:
            The documents, of equal scores the one written first.

        Raises:
            VectorError: The queries are of another width, zero, or not finite; or k or a setting is below 1.
            DimensionError: `dim` is outside what is stored.
            FilterError: The filter cannot be read, or names a field that no document has.
        """
        state = self._current()
        settings = state.search.replaced(shortlist=shortlist, probes=probes, dim=dim, middle=middle, threads=threads)
        found = self._candidates(state, vectors, k, filter, settings)
        return Hits(self._ids(state, found), _scores_of(found, k))

    def read(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return documents with their texts and metadata, by id; those that there are."""
        with self._manifest.lock:
            return self._manifest.read(ids)

    def rows(self) -> Iterator[tuple[list[Document], Float32s]]:
        """Yield all documents and their vectors, of unit length, block by block, in the order they were written."""
        state = self._current()
        for segment, alive in zip(state.segments, state.alive, strict=True):
            kept = np.arange(len(segment)) if alive is None else np.flatnonzero(alive)
            for first in range(0, len(kept), _ROWS_AT_A_TIME):
                rows = kept[first : first + _ROWS_AT_A_TIME]
                ids = segment.identities.ids(rows)
                known = self.read(ids)
                # What was deleted since the state was read has no text any more.
                yield [known.get(id_, Document(id_)) for id_ in ids], segment.second.decode(rows)

    def add(
        self,
        vectors: NDArray[Any],
        ids: Sequence[str],
        texts: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Add documents whose ids are new; all of them, or none.

        Args:
            vectors: [n, full_dim], floating point.
            ids: [n].
            texts: [n]; None keeps none.
            metadata: [n], JSON objects; None keeps none.

        Raises:
            DataError: Ids are missing, empty, repeated, or in the index already, or lists are of different lengths.
            VectorError: Vectors are of another width, zero or not finite.
            IndexBusyError: Another process is changing the index.
            StorageError: The disk is full, or the folder cannot be written.
        """
        self._put(Batch(vectors, ids, texts, metadata), replacing=False)

    def upsert(
        self,
        vectors: NDArray[Any],
        ids: Sequence[str],
        texts: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> int:
        """Add documents, in place of those that have their ids; all of them, or none.

        Args:
            vectors: [n, full_dim], floating point.
            ids: [n].
            texts: [n]; None keeps none.
            metadata: [n], JSON objects; None keeps none.

        Returns:
            How many were replaced.

        Raises:
            DataError: Ids are missing, empty or repeated, or lists are of different lengths.
            VectorError: Vectors are of another width, zero or not finite.
            IndexBusyError: Another process is changing the index.
            StorageError: The disk is full, or the folder cannot be written.
        """
        return self._put(Batch(vectors, ids, texts, metadata), replacing=True)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents; all that there are of these, at once.

        Args:
            ids: Their ids; those that are not in the index change nothing.

        Returns:
            How many there were.

        Raises:
            IndexBusyError: Another process is changing the index.
            StorageError: The disk is full, or the folder cannot be written.
        """
        with self._changing() as change:
            found = change.manifest.find(list(dict.fromkeys(ids)))
            change.writing.remove(found.values())
        return len(found)

    def compact(self, *, dim: int | None = None, progress: Progress = silent) -> None:
        """Put all segments into one, without what was deleted, and fit the codes to what there is.

        Args:
            dim: Leading numbers to keep from here on; None keeps all that are stored.
            progress: How to report progress, in documents.

        Raises:
            DimensionError: `dim` is outside what is stored.
            IndexBusyError: Another process is changing the index.
            StorageError: The disk is full, or the folder cannot be written; the index is as it was.
        """
        with self._changing() as change:
            state = change.state
            check_dims([state.settings.stored_dim if dim is None else dim], state.settings.stored_dim)
            parts = list(zip(state.segments, state.alive, strict=True))
            for segment, alive in parts:
                change.drop(segment, alive)
            if not len(self):
                return
            sample = draw_vectors(parts, ROWS_TO_FIT)
            settings, second = state.settings, state.codec.second
            documents, blocks = join_segments(parts)
            if dim is not None and dim < settings.stored_dim:
                sample = truncate(sample, dim)
                settings = settings._replace(stored_dim=dim)
                cut = fit_quantizer(sample, settings.precision)
                blocks = (encode(cut, truncate(second.decode(block.codes), dim)) for block in blocks)
                second = cut
            codec = Codec(FirstStage.train(sample, settings.codes_for(len(self))), second)
            save_codec(self.path, codec, change.writing)
            change.writing.set("settings", settings)
            with progress("storing", len(self)) as advance:
                change.add(write_segment(self.path / SEGMENTS, codec, documents, _counted(blocks, advance)))

    def verify(self) -> list[str]:
        """Compare every file with what was written, and the documents with their vectors.

        Returns:
            What is wrong, a sentence each; empty where all is well.
        """
        state = self._current()
        with self._manifest.reading():
            problems = self._manifest.problems()
            known = dict(self._manifest.numbers_and_ids())
        for segment, alive in zip(state.segments, state.alive, strict=True):
            problems += segment_problems(self.path / SEGMENTS, segment.record)
            rows = np.arange(len(segment)) if alive is None else np.flatnonzero(alive)
            numbers = segment.identities.numbers[rows].tolist()
            wrong = [
                id_
                for number, id_ in zip(numbers, segment.identities.ids(rows), strict=True)
                if known.pop(number, None) != id_
            ]
            problems += [
                f"Documents of segment {segment.record.name} that the manifest lacks: {listed(wrong)}."
            ] * bool(wrong)
        if known:
            problems.append(f"Documents without vectors: {listed(list(known.values()))}.")
        return problems

    def stats(self) -> Statistics:
        """Return what the index holds, and what it costs."""
        state, count = self._current(), len(self)
        sizes = {end: sum(one.record.files[end][0] for one in state.segments) for end in FILES}
        masks = sum(0 if alive is None else len(alive) for alive in state.alive)
        disk = sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())
        resident, per = sizes["codes"] + masks, max(1, count)
        return Statistics(
            documents=count,
            deleted=sum(len(one) for one in state.segments) - count,
            segments=len(state.segments),
            full_dim=state.settings.full_dim,
            resident_bytes=resident,
            resident_bytes_per_vector=round(resident / per, 2),
            disk_bytes=disk,
            disk_bytes_per_vector=round(disk / per, 2),
            vector_bytes_per_vector=round((sizes["codes"] + sizes["vectors"]) / per, 2),
        )

    def _put(self, batch: Batch, *, replacing: bool) -> int:
        with self._changing() as change:
            settings = change.state.settings
            documents = check_batch(batch, settings.full_dim)
            replaced = change.manifest.find(batch.ids) if replacing else {}
            change.writing.remove(replaced.values())
            numbers = change.writing.add(documents)
            if not len(numbers):
                return 0
            new = encode(change.state.codec.second, unit_vectors(batch.vectors, settings))
            old_documents, old_blocks = change.take_small_segments(len(numbers), replaced.values())
            change.add(
                write_segment(
                    self.path / SEGMENTS,
                    change.state.codec,
                    itertools.chain(old_documents, zip(numbers.tolist(), batch.ids, strict=True)),
                    itertools.chain(old_blocks, [new]),
                )
            )
        return len(replaced)

    @contextmanager
    def _changing(self) -> Iterator[_Change]:
        """Be the one that changes the index: all that is done within is committed at the end, or none of it."""
        manifest = Manifest(self.path, writable=True)
        change = None
        try:
            with manifest.writing() as writing:
                records, codec = manifest.segments(), manifest.setting("codec")["name"]
                remove_unnamed(self.path / SEGMENTS, records)
                remove_old_codecs(self.path, codec)
                change = _Change(manifest, writing, self._current())
                yield change
        except BaseException:
            for name in change.added if change is not None else ():
                remove_segment(self.path / SEGMENTS, name)
            raise
        else:
            for name in change.dropped if change is not None else ():
                remove_segment(self.path / SEGMENTS, name)
        finally:
            manifest.close()

    def exact(self, vectors: NDArray[Any], k: int = 10, *, dim: int | None = None) -> Hits:
        """Find the nearest of all stored vectors by comparing every one: what recall is measured against.

        Args:
            vectors: [n_queries, full_dim], floating point.
            k: Documents to find for each.
            dim: Leading numbers to compare; None compares all that are stored.

        Returns:
            Ids and cosines.

        Raises:
            VectorError: The queries are of another width, zero, or not finite.
        """
        state = self._current()
        found = search_exact(self._open(state, state.alive), _check_queries(vectors, state.settings), k, dim)
        return Hits(self._ids(state, found), _scores_of(found, k))

    def draw(self, count: int, seed: int = 0) -> Float32s:
        """Return so many of the stored vectors, drawn at random, [n, stored_dim], at the width that queries have."""
        state = self._current()
        found = draw_vectors(list(zip(state.segments, state.alive, strict=True)), count, seed)
        return np.pad(found, [(0, 0), (0, state.settings.full_dim - found.shape[1])])

    @property
    def codes(self) -> CodeSettings:
        """What the first stage looks at."""
        return self._current().codec.first.settings

    def set_search(self, settings: SearchSettings, measured: Mapping[str, Any] | None = None) -> None:
        """Make settings those of every search that is not told otherwise.

        Args:
            settings: How to search; threads are not kept.
            measured: What they were measured to do, JSON values.

        Raises:
            IndexBusyError: Another process is changing the index.
        """
        with self._changing() as change:
            change.writing.set("search", _as_json(settings))
            change.writing.set("tuned", None if measured is None else dict(measured))

    def candidates(
        self,
        vectors: NDArray[Any],
        k: int,
        settings: SearchSettings,
        *,
        filter: str | None = None,  # noqa: A002  # the field's word
    ) -> Candidates:
        """Search and return what each stage said of what was found; see `search` for the arguments."""
        return self._candidates(self._current(), vectors, k, filter, settings)

    def explain(
        self,
        vector: NDArray[Any],
        k: int = 10,
        *,
        text: str | None = None,
        filter: str | None = None,  # noqa: A002  # the field's word
        settings: SearchSettings | None = None,
    ) -> Explanation:
        """Find the documents nearest to one query, with what every stage said of them.

        Args:
            vector: [full_dim], floating point.
            k: Documents to find.
            text: Words of the query: documents that share words with it are found by BM25 too, and ordered by what
                1 / (60 + rank) of both rankings add up to. None leaves words out.
            filter: Condition on metadata; see `parse_filter`.
            settings: How to search; None as the index says.

        Returns:
            What was found.

        Raises:
            VectorError: The query is of another width, zero, or not finite.
            FilterError: The filter cannot be read, or names a field that no document has.

        Source:
            Reciprocal rank fusion: Cormack, Clarke, Buettcher 2009.
        """
        state = self._current()
        chosen = state.search if settings is None else settings
        depth = k if text is None else max(k, chosen.shortlist or k, _SHORTLIST)
        found = self._candidates(state, vector, depth, filter, chosen)
        ids = self._ids(state, found)[0]
        columns = (found.scores, found.prefix_scores, found.shortlist_ranks)
        by_id = {
            id_: HitDetails(id_, cosine, cosine, _known(prefix), _known_rank(rank, prefix), place, None, None)
            for place, (id_, cosine, prefix, rank) in enumerate(
                zip(ids, *(column[0, : len(ids)].tolist() for column in columns), strict=True), start=1
            )
        }
        seconds = dict(found.seconds)
        if text is not None:
            started = time.perf_counter()
            with self._manifest.lock:
                condition = None if filter is None else parse_filter(filter, self._manifest.fields())
                words = self._manifest.best_by_words(text, depth, condition)
            for place, (id_, score) in enumerate(words, start=1):
                known = by_id.get(id_, HitDetails(id_, 0, None, None, None, None, None, None))
                by_id[id_] = known._replace(words_rank=place, words_score=score)
            by_id = {id_: one._replace(score=_fused(one)) for id_, one in by_id.items()}
            seconds["words"] = time.perf_counter() - started
        hits = sorted(by_id.values(), key=lambda one: -one.score)[:k]
        masks = state.alive if filter is None else self._matching(state, filter)
        return Explanation(hits, seconds, sum(one.remaining for one in self._open(state, masks)), chosen)

    def _candidates(
        self, state: _State, vectors: NDArray[Any], k: int, condition: str | None, settings: SearchSettings
    ) -> Candidates:
        if k < 1 or any(value is not None and value < 1 for value in (settings.shortlist, settings.probes)):
            raise VectorError("k, shortlist and probes are 1 or more.")
        if settings.dim is not None and not 1 <= settings.dim <= state.settings.stored_dim:
            raise DimensionError(f"Cannot compare {settings.dim} numbers: {state.settings.stored_dim} are stored.")
        queries = _check_queries(vectors, state.settings)
        masks = state.alive if condition is None else self._matching(state, condition)
        opened = self._open(state, masks)
        with faiss_threads(settings.threads):
            return search_stages(opened, queries, min(k, max(1, sum(one.remaining for one in opened))), settings)

    @staticmethod
    def _open(state: _State, masks: Sequence[NDArray[np.bool_] | None]) -> list[Stages]:
        return [
            Stages(segment.first, segment.second, mask) for segment, mask in zip(state.segments, masks, strict=True)
        ]

    @staticmethod
    def _ids(state: _State, found: Candidates) -> list[list[str]]:
        """Ids of what was found, for every query."""
        there = found.rows >= 0
        places, rows = found.places[there], found.rows[there]
        ids = [""] * len(rows)
        for place in range(len(state.segments)) if len(state.segments) > 1 else ():
            here = np.flatnonzero(places == place)
            for at, id_ in zip(here.tolist(), state.segments[place].identities.ids(rows[here]), strict=True):
                ids[at] = id_
        if len(state.segments) == 1:
            ids = state.segments[0].identities.ids(rows)
        ends = np.cumsum(there.sum(axis=1)).tolist()
        return [ids[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _matching(self, state: _State, condition: str) -> list[NDArray[np.bool_] | None]:
        """Which rows meet a filter and are not deleted; metadata of a number never change, so answers are kept."""
        parsed = parse_filter(condition, self._manifest.fields())
        upto, numbers = self._filters.get(condition, (0, np.empty(0, np.int64)))
        with self._manifest.reading():
            highest = self._manifest.highest()
            if highest > upto:
                numbers = np.concatenate([numbers, self._manifest.matching(parsed, upto)])
                self._filters[condition] = (highest, numbers)
                if len(self._filters) > _FILTERS_KEPT:
                    del self._filters[next(iter(self._filters))]
        masks: list[NDArray[np.bool_] | None] = []
        for segment, alive in zip(state.segments, state.alive, strict=True):
            mask = np.zeros(len(segment), np.bool_)
            mask[segment.identities.rows(numbers)] = True
            masks.append(mask if alive is None else mask & alive)
        return masks

    def _current(self) -> _State:
        """The index as of the last commit."""
        with self._manifest.lock:
            if self._manifest.version() != self._state.version:
                self._state = self._load(self._state)
            return self._state

    def _load(self, before: _State | None = None) -> _State:
        for attempt in range(_ATTEMPTS):
            try:
                with self._manifest.reading():
                    return self._read_state(before)
            except FileNotFoundError as error:
                # A writer has merged these files away since we read their names; once more, with the new ones.
                if attempt == _ATTEMPTS - 1:
                    raise SearchIndexError(f"{self.path} is damaged: {error.filename} is not there.") from error
        raise AssertionError("unreachable")

    def _read_state(self, before: _State | None) -> _State:
        settings, named = load_settings(self._manifest), self._manifest.setting("codec")
        codec = load_codec(self.path, named["name"], CodeSettings(*named["codes"]))
        records, version = self._manifest.segments(), self._manifest.version()
        known = {} if before is None else {one.record.name: one for one in before.segments}
        folder = self.path / SEGMENTS
        segments = [known.get(one.name) or open_segment(folder, one, codec) for one in records]
        segments.sort(key=lambda one: int(one.identities.numbers[0]) if len(one) else 0)
        deleted = self._manifest.deleted()
        return _State(
            version,
            segments,
            [_alive(segment, deleted) for segment in segments],
            settings,
            codec,
            SearchSettings(**_tuples(self._manifest.setting("search"))),
        )


def _alive(segment: Segment, deleted: Numbers) -> NDArray[np.bool_] | None:
    """Which rows are none of the deleted documents; None where all are."""
    gone = segment.identities.rows(deleted)
    if not len(gone):
        return None
    alive = np.ones(len(segment), np.bool_)
    alive[gone] = False
    return alive


def _as_json(search: SearchSettings) -> dict[str, Any]:
    return {name: value for name, value in asdict(search).items() if name in _KEPT_SETTINGS}


def _scores_of(found: Candidates, k: int) -> Float32s:
    scores = np.full((len(found.rows), k), np.nan, np.float32)
    scores[:, : found.rows.shape[1]] = np.where(found.rows >= 0, found.scores, np.nan)
    return scores


def _counted(blocks: Iterable[Stored], advance: Advance) -> Iterator[Stored]:
    for block in blocks:
        yield block
        advance(len(block.lengths))


def _known(score: float) -> float | None:
    return None if math.isnan(score) else score


def _known_rank(rank: int, prefix_score: float) -> int | None:
    return None if math.isnan(prefix_score) else rank


def _fused(hit: HitDetails) -> float:
    return sum(1 / (_FUSION + rank) for rank in (hit.vector_rank, hit.words_rank) if rank is not None)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back, lists for tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _check_queries(vectors: NDArray[Any], settings: IndexSettings) -> Float32s:
    """Queries as the segments are asked, [n, stored_dim], float32, of unit length."""
    queries = np.asarray(vectors)
    queries = queries[None] if queries.ndim == 1 else queries
    if queries.ndim != 2 or not np.issubdtype(queries.dtype, np.floating) or queries.shape[1] != settings.full_dim:
        raise VectorError(
            f"Queries are floating-point numbers [n, {settings.full_dim}], not {queries.dtype} {list(queries.shape)}. "
            "Encode them with the model that encoded the documents."
        )
    squares = np.einsum("ij,ij->i", queries, queries, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(squares) | (squares == 0))
    if len(bad):
        raise VectorError(
            f"{len(bad)} queries are zero or hold numbers that are not finite, the first in row {bad[0]}."
        )
    return unit_vectors(queries, settings)


def _settings(
    full_dim: int, plan: Plan | None, codes: CodeSettings | None, precision: str | None
) -> tuple[IndexSettings, SearchSettings]:
    """What to store and how to search: of a plan, or what suits most vectors."""
    if plan is None:
        return IndexSettings(full_dim, full_dim, precision or "float16", codes), SearchSettings(_SHORTLIST)
    if plan.full_dim != full_dim:
        raise DimensionError(f"The plan is for vectors of {plan.full_dim} numbers, and these have {full_dim}.")
    first, second = plan.first_stage, plan.second_stage
    scanned = codes or CodeSettings(first.dim, first.precision)
    if second is None:
        # Nothing reranks: what is kept on disk is what is scanned, so that segments can be put together.
        return IndexSettings(full_dim, first.dim, precision or first.precision, scanned), SearchSettings(None)
    return IndexSettings(full_dim, full_dim, precision or second.precision, scanned), SearchSettings(second.shortlist)


def _as_batches(
    vectors: NDArray[Any] | Iterable[Batch],
    ids: Sequence[str] | None,
    texts: Sequence[str | None] | None,
    metadata: Sequence[Mapping[str, Any] | None] | None,
) -> tuple[Iterable[Batch], int]:
    """Batches, and the numbers of a vector."""
    if not isinstance(vectors, np.ndarray):
        batches = iter(vectors)
        first = next(batches, None)
        if first is None:
            raise DataError("There are no documents. An index needs one at least; more can be added later.")
        return itertools.chain([first], batches), first.vectors.shape[-1]
    if vectors.ndim != 2:
        raise VectorError(f"Vectors are floating-point numbers [n, dim], not {vectors.dtype} {list(vectors.shape)}.")
    for name, given in (("ids", ids), ("texts", texts), ("metadata", metadata)):
        if given is not None and len(given) != len(vectors):
            raise DataError(f"There are {len(vectors):,} vectors and {len(given):,} {name}. Give one for each vector.")

    def cut() -> Iterator[Batch]:
        for first in range(0, len(vectors), _ROWS_AT_A_TIME):
            rows = slice(first, first + _ROWS_AT_A_TIME)
            named = list(map(str, range(*rows.indices(len(vectors))))) if ids is None else ids[rows]
            yield Batch(
                vectors[rows],
                named,
                None if texts is None else texts[rows],
                None if metadata is None else metadata[rows],
            )

    return cut(), vectors.shape[1]
