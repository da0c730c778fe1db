"""What an index is: the calls that every engine answers, and one state of it as searches and tuning see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nestvec.index.results import Candidates, Document, Explanation, Found, Hits
from nestvec.index.settings import SearchSettings

__all__ = ["Batch", "QueryEncoder", "SearchIndex", "Snapshot", "Tunable"]

Float32s = NDArray[np.float32]


class Batch(NamedTuple):
    """Some documents and their vectors."""

    vectors: Float32s
    """[n, full_dim], float32; need not be of unit length."""
    ids: Sequence[str]
    """[n]."""
    texts: Sequence[str | None] | None = None
    """[n]; None where no text is to be kept."""
    metadata: Sequence[Mapping[str, Any] | None] | None = None
    """[n], JSON objects; None where there is none."""


class QueryEncoder(Protocol):
    """What turns query texts into vectors."""

    def encode_queries(self, texts: Sequence[str]) -> Float32s:
        """Return one vector a text, [n, full_dim]."""
        ...


class SearchIndex(Protocol):
    """An index of any engine: what commands and servers call."""

    encoder: QueryEncoder | None
    """What encodes queries that are texts; None takes vectors alone."""

    @staticmethod
    def build(*place: Any, **settings: Any) -> SearchIndex:
        """Make an index at a place, a folder or an address, of vectors and ids, by a plan or by codes that are named.

        Engines have their own settings; all of them take `vectors`, `ids`, `texts`, `metadata`, `plan` and `model`, as
        `nestvec.index.Index.build` describes them.
        """
        ...

    @staticmethod
    def open(*place: Any, **settings: Any) -> SearchIndex:
        """Open the index at a place; all engines take `encoder`."""
        ...

    def __len__(self) -> int:
        """Documents in it."""
        ...

    @property
    def model(self) -> Mapping[str, str] | None:
        """The encoder of the documents: its name and identities; None where it is not known."""
        ...

    @property
    def search_settings(self) -> SearchSettings:
        """How a search is done that is not told otherwise."""
        ...

    def search_with(self, **given: Any) -> SearchSettings:
        """Return how a search is done that is told some of its settings; the others are as the index says."""
        ...

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
        """Find the documents nearest to queries: texts, vectors, or a stored document."""
        ...

    def explain(
        self,
        query: NDArray[Any] | str | None = None,
        k: int = 10,
        filter: str | None = None,  # noqa: A002
        *,
        like: str | None = None,
        dim: int | None = None,
        settings: SearchSettings | None = None,
        distinct: bool = False,
        hybrid: bool = False,
    ) -> Explanation:
        """Do one search, with what every stage said of each hit."""
        ...

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return documents with their texts and metadata, by id; those that there are."""
        ...

    def add(
        self,
        vectors: NDArray[Any],
        ids: Sequence[str],
        texts: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Add documents whose ids are new; all of them, or none."""
        ...

    def upsert(
        self,
        vectors: NDArray[Any],
        ids: Sequence[str],
        texts: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> int:
        """Add documents in place of those that have their ids; return how many were replaced."""
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents; return how many of them there were."""
        ...

    def tune(self, *, recall: float | None = None, k: int = 10, queries: Float32s | None = None) -> Any:
        """Find the fastest search settings that reach a recall, measured against the exact scan, and keep them."""
        ...

    def stats(self) -> Any:
        """Return what it holds, and what it costs."""
        ...

    def close(self) -> None:
        """Give back what it holds open."""
        ...


class Snapshot(Protocol):
    """One state of an index, seen through a filter: what a search is composed from, whatever the engine."""

    @property
    def documents(self) -> int:
        """How many the filter leaves."""
        ...

    def nearest(self, query: NDArray[Any], k: int, settings: SearchSettings) -> Found:
        """Find the documents nearest to one vector, [full_dim]."""
        ...

    def best_by_words(self, text: str, k: int) -> list[tuple[str, float]]:
        """Return ids and BM25 of documents that share words with a text, best first."""
        ...

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return documents with their texts and metadata, by id; those that there are."""
        ...

    def contents(self, ids: Sequence[str]) -> dict[str, object]:
        """Return what makes each document the same as another: its text, or without one its vector."""
        ...


class Tunable(Protocol):
    """One state of an index, as tuning measures it."""

    def __len__(self) -> int:
        """Documents in it."""
        ...

    @property
    def lists(self) -> int | None:
        """IVF lists; None where all codes are scanned."""
        ...

    @property
    def search(self) -> SearchSettings:
        """How it is searched now."""
        ...

    def draw(self, count: int, seed: int = 0) -> Float32s:
        """Return so many stored vectors, drawn at random, [n, full_dim]."""
        ...

    def exact(self, queries: NDArray[Any], k: int, dim: int | None = None) -> Candidates:
        """Compare queries, [n, full_dim], with every stored vector."""
        ...

    def candidates(self, queries: NDArray[Any], k: int, settings: SearchSettings) -> Candidates:
        """Search, and return what each stage said of what it found."""
        ...

    def probe_ratio(self, queries: NDArray[Any], probes: int, *, dim: int | None = None) -> float:
        """Return the `probe_ratio` at which a query scans so many IVF lists, on average."""
        ...
