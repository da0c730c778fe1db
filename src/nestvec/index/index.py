"""The index: documents and their vectors in a folder, searched in two stages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DimensionError, IndexBusyError, OutputExistsError, SearchIndexError, VectorError
from nestvec.files import atomic_folder, remove_leftovers
from nestvec.index.building import (
    DEFAULT_SHORTLIST,
    SEGMENTS,
    Batch,
    IndexSettings,
    as_batches,
    check_ids,
    check_queries,
    fill,
    settings_of,
)
from nestvec.index.changing import changing, compact_segments, delete_documents, put_documents
from nestvec.index.codes import CodeSettings
from nestvec.index.explaining import Explanation, describe_hits, fuse_words, merge_copies
from nestvec.index.filters import parse_filter
from nestvec.index.inspecting import Statistics, find_problems, measure_state
from nestvec.index.manifest import Document, Manifest
from nestvec.index.rows import DocumentRows
from nestvec.index.search_settings import SearchSettings
from nestvec.index.segments import draw_vectors
from nestvec.index.state import Mask, State, load_state
from nestvec.index.threads import faiss_threads, one_thread_for_products
from nestvec.index.tuning import FEWEST_TO_TUNE, check_recall, tune
from nestvec.index.two_stages import Candidates, search_exact, search_stages
from nestvec.plan import Plan
from nestvec.progress import Progress, silent
from nestvec.vectors import check_dims

__all__ = ["Hits", "Index", "QueryEncoder"]

Float32s = NDArray[np.float32]
Numbers = NDArray[np.int64]

_FILTERS_KEPT = 64
_NUMBERS_KEPT = 1 << 23  # of documents, of all filters together


class Hits(NamedTuple):
    """The best documents of every query, best first."""

    ids: list[list[str]]
    """[n_queries][up to k]."""
    scores: Float32s
    """Cosine similarity, from -1 to 1, [n_queries, k], or as many as there are documents; nan beyond what is found."""


class QueryEncoder(Protocol):
    """What makes vectors of queries."""

    def encode_queries(self, texts: Sequence[str]) -> Float32s:
        """Return one vector a text, [n, full_dim]."""
        ...


class Index:
    """Documents and their vectors in a folder.

    Any number of processes may read it while one changes it; readers see a change once it is committed. An object is
    used by one thread at a time.
    """

    _manifest: Manifest
    _state: State

    def __init__(self, path: str | Path, *, encoder: QueryEncoder | None = None) -> None:
        """Open an index; see `build` for making one, and `open`.

        Args:
            path: Its folder.
            encoder: What encodes queries that are texts; None takes vectors alone.

        Raises:
            SearchIndexError: There is none, it is damaged, or of another format.
        """
        self.path = Path(path).absolute()  # whatever folder this process changes to
        self.encoder = encoder
        self._filters: dict[str, tuple[int, Numbers]] = {}
        self._open()

    @staticmethod
    def open(path: str | Path, *, encoder: QueryEncoder | None = None) -> Index:
        """Open an index.

        Args:
            path: Its folder.
            encoder: What encodes queries that are texts, such as `nestvec.jobs.index.encoder_of(index)`; None takes
                vectors alone.

        Returns:
            The index.

        Raises:
            SearchIndexError: There is none, it is damaged, or of another format.
        """
        return Index(path, encoder=encoder)

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
            queries: Vectors of queries to measure that on, [n, full_dim]; None uses documents, see `tune`.
            overwrite: Replace an index that is there, once the new one is complete and nobody is changing the old one.
            seed: Of every draw.
            progress: How to report progress, in documents.

        Returns:
            The index, open.

        Raises:
            OutputExistsError: There is something at `path`.
            DataError: There are no documents; ids are missing, empty or repeated; lists are of different lengths, or
                given together with batches.
            VectorError: Vectors are of different widths, zero or not finite.
            DimensionError: The plan is for vectors of another width.
            StorageError: The disk is full, or the folder cannot be written.
        """
        path = Path(path).absolute()
        remove_leftovers(path.resolve().parent, path.name)
        _check_free(path, overwrite=overwrite)
        batches, full_dim = as_batches(vectors, ids, texts, metadata)
        settings, search = settings_of(full_dim, plan, codes, precision)
        target = recall if plan is None else None
        if target is not None:
            check_recall(target)
            if queries is not None:
                check_queries(queries, settings)
        with ExitStack() as held, atomic_folder(path) as folder:
            (folder / SEGMENTS).mkdir()
            manifest = Manifest.create(
                folder, {"model": None if model is None else dict(model), "search": search.kept()}
            )
            try:
                fill(folder, manifest, settings, batches, seed=seed, progress=progress)
            finally:
                manifest.close()
            if target is not None:
                with Index(folder) as made:
                    if len(made) > FEWEST_TO_TUNE:  # fewer are all reranked anyway
                        tune(made, recall=target, queries=queries, seed=seed, progress=progress)
            _check_free(path, overwrite=overwrite)  # now that much time has passed
            if Manifest.is_one(path):
                held.enter_context(Manifest.replacing(path, progress))
        return Index(path)

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
        return len(self._current())

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
        """What the search settings were measured to do; None where they were not measured.

        `stale` is true where that was with codes from before the index was compacted.
        """
        with self._manifest.lock:
            found: dict[str, Any] | None = self._manifest.setting("tuned")
        return found

    def search_with(self, **given: Any) -> SearchSettings:
        """Return how a search is done that is told some of its settings; see `search` for them."""
        return self._current().search_with(**given)

    def search(
        self,
        vectors: NDArray[Any] | str | Sequence[str],
        k: int = 10,
        filter: str | None = None,  # noqa: A002  # the field's word
        *,
        shortlist: int | None = None,
        margin: float | None = None,
        probes: int | None = None,
        probe_ratio: float | None = None,
        dim: int | None = None,
        middle: tuple[int, int] | None = None,
        threads: int = 1,
        distinct: bool = False,
        hybrid: bool = False,
    ) -> Hits:
        """Find the documents nearest to queries.

        Args:
            vectors: [n_queries, full_dim] or [full_dim], floating point; or texts, which the index's encoder encodes.
            k: Documents to find for each.
            filter: Condition on metadata, such as `lang = "de" and year >= 2020`; see `parse_filter`.
            shortlist: Documents that the first stage hands over, at most, in place of what the index says.
            margin: How far below the k-th of them, by their codes, documents may be that are handed over; with a
                shortlist and no margin all of it is.
            probes: Lists of an inverted file to scan, at most.
            probe_ratio: How near the query, beside the nearest, the centre of a list must be for it to be scanned; with
                probes and no ratio as many are scanned for every query.
            dim: Leading numbers to compare: what was built at 512 numbers answers as if it held 128.
            middle: Numbers and documents of a stage between the two: (64, 50) compares 64 numbers of the shortlist and
                hands over the best 50.
            threads: Threads that scan codes for many queries; what remains takes one.
            distinct: Of documents with the same text, or without a text with the same vector, find the best alone.
            hybrid: Find and order documents by the words they share with the texts as well, one query at a time; their
                scores are what `explain` gives.

        Returns:
            The documents, of equal scores the one written first.

        Raises:
            VectorError: The queries are of another width, zero, or not finite; or k or a setting is below 1.
            DimensionError: `dim` is outside what is stored.
            FilterError: The filter cannot be read, or names a field that no document has.
            SearchIndexError: Queries are texts, and the index has no encoder; or they are not, and words are to count.
        """
        texts: list[str] | None = None
        if not isinstance(vectors, np.ndarray):
            texts = [vectors] if isinstance(vectors, str) else list(vectors)
            vectors = self._encoded(texts)
        told: dict[str, Any] = {
            "shortlist": shortlist,
            "margin": margin,
            "probes": probes,
            "probe_ratio": probe_ratio,
            "dim": dim,
            "middle": middle,
        }
        k = _check_k(k, len(self))
        if hybrid:
            if texts is None:
                raise SearchIndexError("hybrid=True needs the text of each query. Give texts, or leave hybrid out.")
            wanted = self.search_with(**told, threads=threads)
            explained = [
                self.explain(vector, k, text=text, filter=filter, settings=wanted, distinct=distinct).hits
                for vector, text in zip(vectors, texts, strict=True)
            ]
            scores = np.full((len(texts), k), np.nan, np.float32)
            for query, hits in enumerate(explained):
                scores[query, : len(hits)] = [hit.score for hit in hits]
            return Hits([[hit.id for hit in hits] for hits in explained], scores)
        state, masks = self._filtered(filter)
        as_usual = threads == 1 and not any(value is not None for value in told.values())
        settings = state.search if as_usual else state.search_with(**told, threads=threads)
        if not distinct:
            found = self._candidates(state, vectors, k, masks, settings)
            return Hits(state.ids(found), _scores_of(found, k))
        found, ids, contents = self._distinct(state, vectors, k, masks, settings)
        scores = np.full((len(ids), k), np.nan, np.float32)
        for query, line in enumerate(ids):
            first: dict[object, int] = {}
            for place, id_ in enumerate(line):
                first.setdefault(contents[id_], place)
            kept = list(first.values())[:k]
            ids[query] = [line[place] for place in kept]
            scores[query, : len(kept)] = np.clip(found.scores[query, kept], -1, 1)
        return Hits(ids, scores)

    def read(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return documents with their texts and metadata, by id; those that there are."""
        with self._manifest.lock:
            return self._manifest.read(ids)

    def rows(self) -> DocumentRows:
        """Return all documents with their vectors, as they are now, whatever changes while they are read."""
        return DocumentRows(Index(self.path))

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
        with changing(self.path, self._current) as change:
            put_documents(change, Batch(vectors, ids, texts, metadata), replacing=False)

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
        with changing(self.path, self._current) as change:
            return put_documents(change, Batch(vectors, ids, texts, metadata), replacing=True)

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
        check_ids(ids)
        with changing(self.path, self._current) as change:
            return delete_documents(change, ids)

    def compact(self, *, dim: int | None = None, progress: Progress = silent) -> None:
        """Put all segments into one, without what was deleted, and fit the codes to what there is.

        A search that was tuned is tuned again, on documents, for the recall that was asked for.

        Args:
            dim: Leading numbers to keep from here on; None keeps all that are stored.
            progress: How to report progress, in documents.

        Raises:
            DimensionError: `dim` is outside what is stored.
            SearchIndexError: There are no documents to fit fewer numbers to.
            IndexBusyError: Another process is changing the index, before it is compacted or before it is tuned.
            StorageError: The disk is full, or the folder cannot be written; the index is as it was, or is compacted and
                its search not tuned, see `tuned`.
        """
        with changing(self.path, self._current) as change:
            tuned = compact_segments(change, dim, progress)
        if tuned is None:
            return
        try:
            tune(self, recall=tuned["target"], k=tuned["k"], dim=self.search_settings.dim, progress=progress)
        except IndexBusyError as error:
            raise IndexBusyError(
                f"{self.path} is compacted, but another process is changing it, so that its search was not tuned. "
                f"Do so: nestvec index tune {self.path}"
            ) from error

    def verify(self) -> list[str]:
        """Compare every file with what was written, and the documents with their vectors.

        Returns:
            What is wrong, a sentence each; empty where all is well.
        """
        while True:
            with self._snapshot() as state:
                try:
                    problems = find_problems(self.path, self._manifest, state)
                except SearchIndexError as error:
                    problems = [str(error)]
            # Another process may have put files together meanwhile, which are then gone.
            if not problems or self._current().version == state.version:
                return problems

    def stats(self) -> Statistics:
        """Return what the index holds, and what it costs."""
        return measure_state(self.path, self._current())

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
        k = _check_k(k, len(state))
        found = search_exact(state.searched()[0], check_queries(vectors, state.settings), k, dim)
        return Hits(state.ids(found), _scores_of(found, k))

    def draw(self, count: int, seed: int = 0) -> Float32s:
        """Return so many of the stored vectors, drawn at random, [n, stored_dim], at the width that queries have."""
        state = self._current()
        found = draw_vectors(state.parts(), count, seed)
        return np.pad(found, [(0, 0), (0, state.settings.full_dim - found.shape[1])])

    @property
    def codes(self) -> CodeSettings:
        """What the first stage looks at."""
        return self._current().codec.first.settings

    def probe_ratio(self, vectors: NDArray[Any], probes: int, *, dim: int | None = None) -> float:
        """Return the `probe_ratio` of `search` for which so many lists are scanned for a query, on average.

        Args:
            vectors: The queries, [n_queries, full_dim], floating point.
            probes: Lists, of an index that has some.
            dim: Leading numbers to look at; None looks at all.

        Returns:
            1 at most.

        Raises:
            SearchIndexError: The index has no lists.
            VectorError: There are no queries, they are of another width, zero, or not finite; or `probes` is below 1.
            DimensionError: `dim` is outside what is stored.
        """
        state = self._current()
        check_dims([state.settings.stored_dim if dim is None else dim], state.settings.stored_dim)
        return state.codec.first.probe_ratio(check_queries(vectors, state.settings), probes, dim=dim)

    def set_search(self, settings: SearchSettings, measured: Mapping[str, Any] | None = None) -> None:
        """Make settings those of every search that is not told otherwise.

        Args:
            settings: How to search; threads are not kept.
            measured: What they were measured to do, JSON values.

        Raises:
            IndexBusyError: Another process is changing the index.
        """
        with changing(self.path, self._current) as change:
            change.writing.set("search", settings.kept())
            change.writing.set("tuned", None if measured is None else dict(measured))

    def candidates(self, vectors: NDArray[Any], k: int, settings: SearchSettings) -> Candidates:
        """Search and return what each stage said of what was found; see `search` for the arguments."""
        return self._candidates(self._current(), vectors, k, None, settings)

    def explain(
        self,
        vector: NDArray[Any],
        k: int = 10,
        *,
        text: str | None = None,
        filter: str | None = None,  # noqa: A002  # the field's word
        settings: SearchSettings | None = None,
        distinct: bool = False,
    ) -> Explanation:
        """Find the documents nearest to one query, with what every stage said of them.

        Args:
            vector: [full_dim], floating point.
            k: Documents to find.
            text: Words of the query: documents that share words with it are found by BM25 too, and ordered by what
                1 / (60 + rank) of both rankings add up to. None leaves words out.
            filter: Condition on metadata; see `parse_filter`.
            settings: How to search; None as the index says.
            distinct: Of documents with the same text, or without a text with the same vector, find the best alone.

        Returns:
            What was found.

        Raises:
            VectorError: The query is of another width, zero, or not finite.
            FilterError: The filter cannot be read, or names a field that no document has.
        """
        k = _check_k(k, len(self))
        depth = k if text is None else max(k, DEFAULT_SHORTLIST)
        by_words: list[tuple[str, float]] = []
        spent = 0.0
        if text is None:
            state, masks = self._filtered(filter)
        else:
            with self._snapshot() as state:
                condition = None if filter is None else parse_filter(filter, self._manifest.fields())
                masks = None if filter is None else self._matching(state, filter)
                started = time.perf_counter()
                by_words = self._manifest.best_by_words(text, depth, condition)
                spent = time.perf_counter() - started
        chosen = state.search if settings is None else settings
        contents: dict[str, object] = {}
        if distinct:
            found, ids, contents = self._distinct(state, vector, depth, masks, chosen)
        else:
            found = self._candidates(state, vector, depth, masks, chosen)
            ids = state.ids(found)
        hits = describe_hits(found, ids[0])
        seconds = dict(found.seconds)
        if text is not None:
            started = time.perf_counter()
            hits = fuse_words(hits, by_words)
            seconds["words"] = spent + time.perf_counter() - started
        if distinct:
            others = [hit.id for hit in hits if hit.id not in contents]  # which words have found
            contents.update({id_: document.text for id_, document in self.read(others).items()})
            hits = merge_copies(hits, contents)
        return Explanation(hits[:k], seconds, state.searched(masks)[1], chosen)

    def _encoded(self, texts: list[str]) -> Float32s:
        if not all(isinstance(text, str) for text in texts):
            raise VectorError("Queries are an array of floating-point numbers, or texts.")
        if self.encoder is None:
            raise SearchIndexError(
                "Queries are texts, and the index has no encoder. Open it with one: "
                "nestvec.jobs.index.open_index(path), or Index.open(path, encoder=...)."
            )
        return self.encoder.encode_queries(texts)

    def _candidates(
        self, state: State, vectors: NDArray[Any], k: int, masks: list[Mask | None] | None, settings: SearchSettings
    ) -> Candidates:
        if settings.dim is not None and not 1 <= settings.dim <= state.settings.stored_dim:
            raise DimensionError(f"Cannot compare {settings.dim} numbers: {state.settings.stored_dim} are stored.")
        queries = check_queries(vectors, state.settings)
        stages, documents = state.searched(masks)
        k = _check_k(k, documents)
        if len(queries) == 1:  # whose products are too small for threads
            with faiss_threads(settings.threads):
                return search_stages(stages, queries, k, settings)
        with faiss_threads(settings.threads), one_thread_for_products():
            return search_stages(stages, queries, k, settings)

    def _distinct(
        self, state: State, vectors: NDArray[Any], k: int, masks: list[Mask | None] | None, settings: SearchSettings
    ) -> tuple[Candidates, list[list[str]], dict[str, object]]:
        """As many candidates as hold k different documents, their ids, and what makes them the same."""
        remaining, depth = state.searched(masks)[1], k
        while True:
            found = self._candidates(state, vectors, depth, masks, settings)
            ids = state.ids(found)
            contents: dict[str, object] = {
                id_: document.text for id_, document in self.read(sorted({id_ for line in ids for id_ in line})).items()
            }
            for line, places, rows in zip(ids, found.places, found.rows, strict=True):
                for id_, place, row in zip(line, places, rows, strict=False):
                    if not contents.get(id_):
                        contents[id_] = state.segments[place].second.take(row[None]).codes.tobytes()
            if depth >= remaining or all(len({contents[id_] for id_ in line}) >= k for line in ids):
                return found, ids, contents
            depth = min(2 * depth, remaining)

    def _matching(self, state: State, condition: str) -> list[Mask | None]:
        """Which rows meet a filter and are not deleted; metadata of a number never change, so answers are kept."""
        parsed = parse_filter(condition, self._manifest.fields())
        upto, numbers = self._filters.pop(condition, (0, np.empty(0, np.int64)))
        highest = self._manifest.highest()
        if highest > upto:
            numbers = np.concatenate([numbers, self._manifest.matching(parsed, upto)])
        self._filters[condition] = (highest, numbers)
        kept = sum(len(one) for _, one in self._filters.values())
        while len(self._filters) > 1 and (kept > _NUMBERS_KEPT or len(self._filters) > _FILTERS_KEPT):
            kept -= len(self._filters.pop(next(iter(self._filters)))[1])  # the one that was asked for longest ago
        masks: list[Mask | None] = []
        for segment, alive in state.parts():
            mask = np.zeros(len(segment), np.bool_)
            mask[segment.identities.rows(numbers)] = True
            masks.append(mask if alive is None else mask & alive)
        return masks

    def _filtered(self, condition: str | None) -> tuple[State, list[Mask | None] | None]:
        """The index as of the last commit, and which rows of it meet a filter; None where there is none."""
        if condition is None:
            return self._current(), None
        with self._snapshot() as state:
            return state, self._matching(state, condition)

    @contextmanager
    def _snapshot(self) -> Iterator[State]:
        """The vectors of the last commit, while the manifest shows the documents of the same."""
        while True:
            state = self._current()
            with self._manifest.reading():
                if self._manifest.version() == state.version:
                    yield state
                    return

    def _current(self) -> State:
        """The index as of the last commit."""
        with self._manifest.lock:
            if self._manifest.is_unchanged():
                return self._state
            if self._manifest.is_replaced():
                before = self._manifest
                self._open()  # where that fails, what was open stays open
                before.close()
                self._filters.clear()
            elif self._manifest.version() != self._state.version:
                self._state = load_state(self.path, self._manifest, self._state)
            return self._state

    def _open(self) -> None:
        manifest = Manifest(self.path)
        try:
            self._state = load_state(self.path, manifest)
        except BaseException:
            manifest.close()
            raise
        self._manifest = manifest


def _check_free(path: Path, *, overwrite: bool) -> None:
    if path.is_dir() and not any(path.iterdir()):
        return  # an empty folder, such as one made for it
    if path.exists() and not (overwrite and Manifest.is_one(path)):
        hint = "overwrite it" if Manifest.is_one(path) else "choose another place"
        raise OutputExistsError(f"{path} exists. Add to it, or {hint}.")


def _scores_of(found: Candidates, k: int) -> Float32s:
    if found.rows.shape[1] == k and found.whole:
        return np.clip(found.scores, -1, 1)
    scores = np.full((len(found.rows), k), np.nan, np.float32)
    scores[:, : found.rows.shape[1]] = np.where(found.rows >= 0, np.clip(found.scores, -1, 1), np.nan)
    return scores


def _check_k(k: int, documents: int) -> int:
    """Documents to find: as many as are asked for, and no more than there are."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise VectorError(f"k is a whole number of 1 or more, not {k}.")
    return min(int(k), max(1, documents))
