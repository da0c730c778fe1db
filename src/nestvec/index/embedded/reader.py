"""Reading an index: searches of many threads at once, each of one commit."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DataError, SearchIndexError, VectorError
from nestvec.index.embedded.codec import IndexSettings
from nestvec.index.embedded.documents import check_ids
from nestvec.index.embedded.inspecting import Statistics, find_problems, measure_state
from nestvec.index.embedded.manifest import Manifest
from nestvec.index.embedded.rows import DocumentRows
from nestvec.index.embedded.snapshot import EmbeddedSnapshot, describe_hits
from nestvec.index.embedded.state import Mask, State, load_state, snapshot
from nestvec.index.embedded.view import View
from nestvec.index.filters import Condition, parse_filter
from nestvec.index.protocol import QueryEncoder
from nestvec.index.results import Candidates, Document, Explanation, Hit, Hits
from nestvec.index.searching import Queries, hits_of, read_queries, search_in_full
from nestvec.index.settings import CodeSettings, SearchSettings, check_k

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["IndexReader"]

Float32s = NDArray[np.float32]

_SECONDS_BETWEEN_LOOKS = 0.05  # at whether another index has the place of this one


class _Seen(NamedTuple):
    """What an index was when it was looked at last."""

    state: State
    changes: bytes | None
    """The number of changes before that; None where it says nothing."""
    looked: float
    """When the place of the file was looked at."""


class IndexReader:
    """An index that is searched, by any number of threads, whatever is changed in it meanwhile."""

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
        self._loading = threading.Lock()
        self._seen = self._open()

    def close(self) -> None:
        """Close the manifest; nothing else is open that a process would have to give back."""
        self._seen.state.manifest.close()

    def __enter__(self) -> Self:
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
    def codes(self) -> CodeSettings:
        """What the first stage looks at."""
        return self._current().codec.first.settings

    @property
    def search_settings(self) -> SearchSettings:
        """How a search is done that is not told otherwise."""
        return self._current().search

    @property
    def model(self) -> dict[str, str] | None:
        """The encoder of the vectors: its name and identities; None where it is not known."""
        found: dict[str, str] | None = self._setting("model")
        return found

    @property
    def tuned(self) -> dict[str, Any] | None:
        """What the search settings were measured to do; None where they were not measured.

        `stale` is true where that was with codes from before the index was compacted.
        """
        found: dict[str, Any] | None = self._setting("tuned")
        return found

    def search_with(self, **given: Any) -> SearchSettings:
        """Return how a search is done that is told some of its settings; the others are as the index says.

        A shortlist that is given, or grows because fewer dimensions are compared, is not cut short by a margin that is
        not given, nor a number of lists by a ratio.

        Args:
            **given: Attributes of `SearchSettings`; None leaves one as it is.

        Returns:
            Settings for `search`.

        Raises:
            VectorError: One of them is outside its range.
        """
        return self._current().search_with(**given)

    def search(
        self,
        query: NDArray[Any] | str | Sequence[str] | None = None,
        k: int = 10,
        filter: str | None = None,  # noqa: A002  # the field's word
        *,
        like: str | None = None,
        dim: int | None = None,
        settings: SearchSettings | None = None,
        distinct: bool = False,
        hybrid: bool = False,
    ) -> Hits:
        """Find the documents nearest to queries.

        Args:
            query: One text or several, which the index's encoder encodes; or vectors, [n_queries, full_dim] or
                [full_dim], floating point. None with `like`.
            k: Documents to find for each.
            filter: Condition on metadata, such as `lang = "de" and year >= 2020`; see `parse_filter`.
            like: Id of a stored document to find the nearest others of, in place of a query.
            dim: Leading dimensions to compare: what was built at 512 dimensions answers as if it held 128.
            settings: How to search, from `search_with`; None searches as the index says.
            distinct: Of documents with the same text, or without a text with the same vector, find the best alone.
            hybrid: Rank by BM25 as well, and fuse both rankings; queries must be texts, or `like` one with a text.

        Returns:
            The documents, of equal scores the one written first.

        Raises:
            VectorError: The queries are of another width, zero, or not finite; or k or a setting is below 1.
            DimensionError: `dim` is outside what is stored.
            FilterError: The filter cannot be read, or names a field that no document has.
            DataError: There is no document `like`.
            SearchIndexError: Queries are texts, and the index has no encoder; or they are vectors, and hybrid.
        """
        queries = self._queries(query, like, hybrid=hybrid)
        if hybrid or distinct or like is not None:
            found, k = self._explained(queries, k, filter, dim, settings, distinct=distinct)
            return hits_of(found, k, hybrid=hybrid)
        state, masks = (self._current(), None) if filter is None else self._filtered(filter)
        candidates = state.candidates(queries.vectors, k, _chosen(state, settings, dim), masks)
        return Hits(
            state.ids(candidates),
            _scores_of(candidates, check_k(k, len(state))),
            _found=partial(_read_hits, state, candidates),
        )

    def explain(
        self,
        query: NDArray[Any] | str | None = None,
        k: int = 10,
        filter: str | None = None,  # noqa: A002  # the field's word
        *,
        like: str | None = None,
        dim: int | None = None,
        settings: SearchSettings | None = None,
        distinct: bool = False,
        hybrid: bool = False,
    ) -> Explanation:
        """Do one search, with what every stage said of each hit.

        Args:
            query: A text, or a vector [full_dim], floating point.
            k: Documents to find.
            filter: Condition on metadata; see `parse_filter`.
            like: Id of a stored document, in place of a query.
            dim: Leading dimensions to compare.
            settings: How to search, from `search_with`.
            distinct: Of documents with the same text, or without a text with the same vector, find the best alone.
            hybrid: Rank by BM25 as well; hits are ordered by what 1 / (60 + rank) of both rankings add up to.

        Returns:
            What was found.

        Raises:
            VectorError: There is more than one query; or see `search`.
            FilterError: See `search`; so do the others.
        """
        started = time.perf_counter()
        queries = self._queries(query, like, hybrid=hybrid)
        encoding = time.perf_counter() - started
        if len(np.atleast_2d(queries.vectors)) != 1:
            raise VectorError(f"One query is explained at a time, not {len(queries.vectors)}.")
        (found,), _ = self._explained(queries, k, filter, dim, settings, distinct=distinct)
        if isinstance(query, str):
            found.seconds["encoding"] = encoding
        return found

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return documents with their texts and metadata, by id; those that there are.

        Raises:
            DataError: Ids are one text in place of a list, or no texts.
        """
        check_ids(ids)
        with self._current().manifest.reading() as view:
            return view.get(ids)

    def rows(self) -> DocumentRows:
        """Return all documents with their vectors, as they are now, whatever changes while they are read."""
        return DocumentRows(self.path)

    def verify(self) -> list[str]:
        """Compare every file with what was written, and the documents with their vectors.

        Returns:
            What is wrong, a sentence each; empty where all is well.
        """
        while True:
            with snapshot(self._current) as (state, view):
                try:
                    problems = find_problems(self.path, view, state)
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
            dim: Leading dimensions to compare; None compares all that are stored.

        Returns:
            Ids and cosines.

        Raises:
            VectorError: The queries are of another width, zero, or not finite.
        """
        state = self._current()
        found = state.exact(vectors, k, dim)
        return Hits(
            state.ids(found), _scores_of(found, check_k(k, len(state))), _found=partial(_read_hits, state, found)
        )

    def draw(self, count: int, seed: int = 0) -> Float32s:
        """Return so many of the stored vectors, drawn at random, [n, stored_dim], at the width that queries have."""
        return self._current().draw(count, seed)

    def probe_ratio(self, vectors: NDArray[Any], probes: int, *, dim: int | None = None) -> float:
        """Return the `probe_ratio` of `search` for which so many lists are scanned for a query, on average.

        Args:
            vectors: The queries, [n_queries, full_dim], floating point.
            probes: Lists, of an index that has some.
            dim: Leading dimensions to look at; None looks at all.

        Returns:
            1 at most.

        Raises:
            SearchIndexError: The index has no lists.
            VectorError: There are no queries, they are of another width, zero, or not finite; or `probes` is below 1.
            DimensionError: `dim` is outside what is stored.
        """
        return self._current().probe_ratio(vectors, probes, dim=dim)

    def candidates(self, vectors: NDArray[Any], k: int, settings: SearchSettings) -> Candidates:
        """Search and return what each stage said of what was found, by row; see `search` for the arguments."""
        return self._current().candidates(vectors, k, settings)

    def _queries(self, query: NDArray[Any] | str | Sequence[str] | None, like: str | None, *, hybrid: bool) -> Queries:
        return read_queries(query, like, hybrid=hybrid, encoder=self.encoder, stored=self._document)

    def _document(self, id_: str) -> tuple[Float32s, str | None]:
        check_ids([id_])
        with snapshot(self._current) as (state, view):
            number = view.find([id_]).get(id_)
            if number is None:
                raise DataError(f"There is no document {id_!r} in {self.path}.")
            vector = state.vector_of(number)
            if not vector.any():
                raise SearchIndexError(f"The stored vector of document {id_} is zero, and has no nearest documents.")
            return vector, view.get([id_])[id_].text

    def _explained(
        self,
        queries: Queries,
        k: int,
        condition: str | None,
        dim: int | None,
        settings: SearchSettings | None,
        *,
        distinct: bool,
    ) -> tuple[list[Explanation], int]:
        """One search in full for every query, all as of one commit; and how many documents were to be found."""
        with snapshot(self._current) as (state, view):
            parsed, masks = (None, None) if condition is None else self._matching(state, view, condition)
            seen, wanted = EmbeddedSnapshot(state, view, parsed, masks), check_k(k, len(state))
            return search_in_full(seen, queries, wanted, _chosen(state, settings, dim), distinct=distinct), wanted

    def _filtered(self, condition: str) -> tuple[State, list[Mask | None]]:
        """The index as of the last commit, and which rows of it meet a filter."""
        with snapshot(self._current) as (state, view):
            return state, self._matching(state, view, condition)[1]

    def _matching(self, state: State, view: View, condition: str) -> tuple[Condition, list[Mask | None]]:
        """What a filter means, and which rows meet it and are not deleted."""
        parsed = parse_filter(condition, view.fields())
        keys = state.manifest.filters.matching(condition, parsed, view)
        masks: list[Mask | None] = []
        for segment, alive in state.parts():
            mask = np.zeros(len(segment), np.bool_)
            mask[segment.identities.rows(keys)] = True
            masks.append(mask if alive is None else mask & alive)
        return parsed, masks

    def _setting(self, name: str) -> Any:
        with self._current().manifest.reading() as view:
            return view.setting(name)

    def _current(self) -> State:
        """The index as of the last commit."""
        seen = self._seen
        if self._is_current(seen):
            return seen.state
        with self._loading:
            seen = self._seen
            if not self._is_current(seen):
                self._seen = self._look(seen)
            return self._seen.state

    @staticmethod
    def _is_current(seen: _Seen) -> bool:
        """Whether nothing was committed since, told in a fraction of the time that SQLite takes.

        An index that was removed and made anew by hand is noticed a twentieth of a second later.
        """
        return (
            seen.changes is not None
            and seen.state.manifest.changes.now() == seen.changes
            and time.monotonic() - seen.looked < _SECONDS_BETWEEN_LOOKS
        )

    def _look(self, before: _Seen) -> _Seen:
        manifest, looked = before.state.manifest, time.monotonic()
        if manifest.is_replaced():
            # Where opening fails, what was open stays open. Else what other threads have found in the one before is
            # still read from it: it closes when nothing needs it any more.
            return self._open()
        changes = manifest.changes.now()  # before SQLite is asked: what is committed meanwhile is seen the next time
        with manifest.reading() as view:
            unchanged = view.version == before.state.version
        state = before.state if unchanged else load_state(self.path, manifest, before.state)
        return _Seen(state, changes, looked)

    def _open(self) -> _Seen:
        looked = time.monotonic()
        manifest = Manifest(self.path)
        try:
            changes = manifest.changes.now()
            return _Seen(load_state(self.path, manifest), changes, looked)
        except BaseException:
            manifest.close()
            raise


def _chosen(state: State, settings: SearchSettings | None, dim: int | None) -> SearchSettings:
    if settings is None:
        return state.search if dim is None else state.search_with(dim=dim)
    return settings if dim is None else settings.replaced(dim=dim)


def _read_hits(state: State, found: Candidates) -> list[list[Hit]]:
    """What was found for every query, with the texts and metadata of the very documents that were searched."""
    numbers = [state.numbers(found, query) for query in range(len(found.rows))]
    with state.manifest.reading() as view:
        known = view.at(sorted({number for line in numbers for number in line}))
    hits = []
    for query, (line, ids) in enumerate(zip(numbers, state.ids(found), strict=True)):
        documents = (known.get(number, Document(id_)) for number, id_ in zip(line, ids, strict=True))
        described = zip(describe_hits(found, ids, query), documents, strict=True)
        hits.append([hit._replace(text=one.text, metadata=one.metadata) for hit, one in described])
    return hits


def _scores_of(found: Candidates, k: int) -> Float32s:
    if found.rows.shape[1] == k and found.whole:
        return np.clip(found.scores, -1, 1)
    scores = np.full((len(found.rows), k), np.nan, np.float32)
    scores[:, : found.rows.shape[1]] = np.where(found.rows >= 0, np.clip(found.scores, -1, 1), np.nan)
    return scores
