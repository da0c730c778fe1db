"""What an adaptor is fitted on: vectors, and perhaps which of them belong together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors.maps import check_rows
from nestvec.adaptors.settings import Labels
from nestvec.errors import AdaptorError, DimensionError, VectorError
from nestvec.extras import require
from nestvec.vectors import unit_float32

__all__ = ["AdaptorData", "Split", "copies"]

Rows = NDArray[np.int64]
Vectors = NDArray[np.floating[Any]]

_ROWS_AT_A_TIME, _ROWS_TO_CLUSTER = 16_384, 100_000
_NOISE = 5e-5  # a dimension: what rounding, and other texts of a batch, may change
_DIRECTIONS = 8
_TOPIC = 80  # documents that are held out together, about
_FEWEST_TOPICS, _MOST_TOPICS = 50, 300
_ITERATIONS = 20


class Split(NamedTuple):
    """Which rows of the pairs are for what."""

    train: Rows
    held_out: Rows


@dataclass(frozen=True, eq=False)
class AdaptorData:
    """Frozen vectors of queries and documents, with or without labels.

    Attributes:
        queries: [n_queries, dim], floating point; may be a memory-mapped file. Without labels there may be none.
        documents: [n_documents, dim].
        pairs: [n_pairs, 2 + negatives]: a row of `queries`, the row of `documents` that belongs to it, and rows of
            documents that do not. None is no labels.
        scores: [n_pairs], how similar the two of each pair are, in any unit; None says that all belong together.
    """

    queries: Vectors
    documents: Vectors
    pairs: Rows | None = None
    scores: NDArray[np.floating[Any]] | None = None

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.documents.shape[1])

    @property
    def labels(self) -> Labels:
        """What is known of the vectors."""
        if self.pairs is None:
            return "none"
        return "pairs" if self.scores is None else "scores"

    @cached_property
    def copies(self) -> Rows:
        """A number for each query and then for each document, the same for copies, on whichever side."""
        return copies(self.queries, self.documents)

    @property
    def query_copies(self) -> Rows:
        """That of each query."""
        return self.copies[: len(self.queries)]

    @property
    def document_copies(self) -> Rows:
        """That of each document."""
        return self.copies[len(self.queries) :]

    def unseen(self, held_out: Rows) -> tuple[Rows, Rows]:
        """Leave out what was held out, and its copies.

        Args:
            held_out: As `split` gives them.

        Returns:
            Rows of queries and of documents.
        """
        if self.pairs is None:
            theirs = self.document_copies[held_out]
        else:
            left, right = self.pairs[held_out, :2].T
            theirs = np.concatenate([self.query_copies[left], self.document_copies[right]])
        free = ~np.isin(self.copies, theirs)
        return np.flatnonzero(free[: len(self.queries)]), np.flatnonzero(free[len(self.queries) :])

    def check_shapes(self) -> None:
        """Refuse what nothing can be fitted on, as far as it shows without reading the vectors.

        Raises:
            VectorError: An array holds no vectors.
            DimensionError: Queries and documents have different sizes.
            AdaptorError: Pairs or scores have the wrong shape or type, point outside, or are too few.
        """
        for name, vectors in (("queries", self.queries), ("documents", self.documents)):
            if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
                raise VectorError(
                    f"The {name} are {vectors.dtype} {list(vectors.shape)}, not floating-point vectors [n, dim]."
                )
            if not len(vectors) and (self.pairs is not None or vectors is self.documents):
                raise VectorError(f"There are no {name}.")
        if self.queries.shape[1] != self.dim:
            raise DimensionError(
                f"Queries have {self.queries.shape[1]} dimensions and documents {self.dim}. "
                "They must come from one model."
            )
        if self.pairs is not None:
            self._check_pairs(self.pairs)
        elif self.scores is not None:
            raise AdaptorError("Scores need pairs: which query and which document each is of.")

    def check_rows(self) -> None:
        """Refuse vectors without a direction.

        Raises:
            VectorError: Vectors are zero or not finite; the first such rows are named.
        """
        check_rows("queries", self.queries)
        check_rows("documents", self.documents)

    def split(self, share: float, limit: int, seed: int) -> Split:
        """Hold some rows out, and nothing of theirs in.

        Of pairs, documents that are near each other are held out together, with every pair of theirs: so what is
        measured is new to the map as the texts of tomorrow are. Pairs with a query of theirs, or with any document that
        is known to answer one, are left out altogether. Of scored pairs, so is every other pair with a text of theirs,
        on whichever side. Rows with the same vector count as one.

        Args:
            share: Of the rows, to hold out.
            limit: Rows to hold out at most.
            seed: Of the choice.

        Returns:
            Rows of `pairs`; without pairs, rows of `documents`.

        Raises:
            AdaptorError: Nothing is left to train on, or to measure on.
        """
        generator = np.random.default_rng(seed)
        groups = self.document_copies if self.pairs is None else self.document_copies[self.pairs[:, 1]]
        if self.labels == "pairs":
            groups = _topics(self.documents, self.document_copies, seed)[np.asarray(self.pairs)[:, 1]]
        return self.split_at(np.flatnonzero(_draw_groups(groups, min(limit, int(share * len(groups))), generator)))

    def split_at(self, rows: Rows) -> Split:
        """Hold given rows out, and nothing of theirs in, as `split` does.

        Args:
            rows: Of the pairs; without pairs, of the documents.

        Returns:
            The same rows, and those that have nothing to do with them.

        Raises:
            AdaptorError: A row is outside, or nothing is left to train on, or to measure on.
        """
        count = len(self.documents if self.pairs is None else self.pairs)
        if len(rows) and not 0 <= rows.min() <= rows.max() < count:
            raise AdaptorError(f"Rows {rows.min()} to {rows.max()} are to be held out of {count}. They count from 0.")
        held_out = np.zeros(count, bool)
        held_out[rows] = True
        kept = ~held_out
        if self.pairs is None:
            kinds = self.document_copies
            kept &= ~np.isin(kinds, kinds[held_out])
        elif self.scores is None:
            queries, documents = self.query_copies[self.pairs[:, 0]], self.document_copies[self.pairs[:, 1:]]
            asked = np.isin(queries, queries[held_out])
            answers = np.unique(documents[asked, 0])
            kept &= ~asked & ~np.isin(documents, answers).any(axis=1)
        else:
            left, right = self.query_copies[self.pairs[:, 0]], self.document_copies[self.pairs[:, 1]]
            theirs = np.concatenate([left[held_out], right[held_out]])
            kept &= ~np.isin(left, theirs) & ~np.isin(right, theirs)
        split = Split(np.flatnonzero(kept), np.flatnonzero(held_out))
        if min(map(len, split)) < 2:
            raise AdaptorError(
                f"{self._described()} are too few to hold some out and train on the others: what shares a query or a "
                "document, or is near it, is held out together. Give more, or raise the share that is held out."
            )
        return split

    def _described(self) -> str:
        if self.pairs is None:
            return f"{len(self.documents)} documents, {len(np.unique(self.document_copies))} of them different,"
        queries, documents = self.query_copies[self.pairs[:, 0]], self.document_copies[self.pairs[:, 1]]
        return (
            f"{len(self.pairs)} pairs of {len(np.unique(queries))} different queries and {len(np.unique(documents))} "
            "different documents"
        )

    def _check_pairs(self, pairs: Rows) -> None:
        if pairs.ndim != 2 or pairs.shape[1] < 2 or not np.issubdtype(pairs.dtype, np.integer):
            raise AdaptorError(
                f"Pairs are {pairs.dtype} {list(pairs.shape)}. Give whole numbers [n, 2]: row of the query, row of the "
                "document; further columns are rows of negatives."
            )
        for name, columns, rows in (
            ("queries", pairs[:, :1], self.queries),
            ("documents", pairs[:, 1:], self.documents),
        ):
            outside = np.flatnonzero(((columns < 0) | (columns >= len(rows))).any(axis=1))
            if len(outside):
                value = int(next(value for value in columns[outside[0]] if not 0 <= value < len(rows)))
                raise AdaptorError(
                    f"{len(outside)} of {len(pairs)} pairs point outside the {len(rows)} {name}, the first in row "
                    f"{outside[0]}: {value}. Rows count from 0."
                )
        if self.scores is not None:
            if self.scores.shape != (len(pairs),) or not np.isfinite(self.scores).all():
                raise AdaptorError(
                    f"Scores are {list(self.scores.shape)} for {len(pairs)} pairs. Give each a finite one."
                )
            if pairs.shape[1] > 2:
                raise AdaptorError("Pairs with scores take no negatives: give two columns.")
            if np.ptp(self.scores) == 0:
                raise AdaptorError(f"All scores are {self.scores[0]}: there is nothing to tell apart. Leave them out.")


def copies(*vectors: Vectors) -> Rows:
    """Number the rows of arrays of one width, the same for rows that point the same way up to rounding.

    Args:
        vectors: [n, dim] each; a block of rows is read at a time.

    Returns:
        [sum of n], from 0 on.
    """
    spatial, graphs = require("scipy.spatial", extra="train"), require("scipy.sparse.csgraph", extra="train")
    sparse = require("scipy.sparse", extra="train")
    dim = vectors[0].shape[1]
    limit = _NOISE * np.sqrt(dim)
    # Near rows are near in any few orthogonal directions: only those that are so there are compared as a whole.
    generator = np.random.default_rng(0)
    directions = np.linalg.qr(generator.normal(size=(dim, min(dim, _DIRECTIONS))))[0]
    count = sum(map(len, vectors))
    points = np.concatenate([_unit_rows(vectors, rows) @ directions for rows in _blocks(np.arange(count))])
    whole = np.rint(points / limit).astype(np.int64).astype(np.uint64)
    factors = generator.integers(0, 2**63, points.shape[1], dtype=np.uint64) * 2 + 1  # collide once in 2**64
    _, first, cell = np.unique((whole * factors).sum(axis=1), return_index=True, return_inverse=True)
    leaders = first[cell.reshape(-1)]  # the first row of each cell, which the others mostly are copies of
    leaders = np.where(_near(vectors, leaders, np.arange(count), limit), leaders, np.arange(count))
    alone = np.unique(leaders)
    pairs = alone[spatial.cKDTree(points[alone]).query_pairs(limit, output_type="ndarray")]
    pairs = pairs[_near(vectors, pairs[:, 0], pairs[:, 1], limit)]
    links = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(count, count))
    groups = graphs.connected_components(links, directed=False)[1][leaders]
    return np.unique(groups, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _near(vectors: Sequence[Vectors], left: Rows, right: Rows, limit: float) -> NDArray[np.bool_]:
    """Whether the rows of each pair are nearer to each other than a limit."""
    near: NDArray[np.bool_] = left == right
    for places in _blocks(np.flatnonzero(~near)):
        apart = _unit_rows(vectors, left[places]) - _unit_rows(vectors, right[places])
        near[places] = np.linalg.norm(apart, axis=1) < limit
    return near


def _unit_rows(vectors: Sequence[Vectors], rows: Rows) -> Vectors:
    """Some rows of arrays that follow each other, at unit length."""
    found = np.empty((len(rows), vectors[0].shape[1]), np.float32)
    offset = 0
    for array in vectors:
        own = (rows >= offset) & (rows < offset + len(array))
        found[own] = unit_float32(np.asarray(array[rows[own] - offset]))
        offset += len(array)
    return found


def _blocks(rows: Rows) -> list[Rows]:
    return [rows[first : first + _ROWS_AT_A_TIME] for first in range(0, len(rows), _ROWS_AT_A_TIME)]


def _topics(documents: Vectors, kinds: Rows, seed: int) -> Rows:
    """Number documents by what they are near to, the same for copies, [n_documents]."""
    _, rows, kind = np.unique(kinds, return_index=True, return_inverse=True)
    count = min(len(rows), max(_FEWEST_TOPICS, min(_MOST_TOPICS, len(rows) // _TOPIC)))
    clusters = require("sklearn.cluster", extra="train").MiniBatchKMeans(
        count, random_state=seed, n_init=1, batch_size=_ROWS_AT_A_TIME, max_iter=_ITERATIONS
    )
    sample = rows
    if len(rows) > _ROWS_TO_CLUSTER:
        sample = np.sort(np.random.default_rng(seed).permutation(rows)[:_ROWS_TO_CLUSTER])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of clusters that stay empty, and of threads
        clusters.fit(_unit_rows([documents], sample))
        parts = [clusters.predict(_unit_rows([documents], block)) for block in _blocks(rows)]
    found: Rows = np.concatenate(parts)[kind.reshape(-1)].astype(np.int64)
    return found


def _draw_groups(groups: Rows, wanted: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Choose whole groups at random, as long as they fit into so many rows; those that do not are passed over."""
    sizes = np.bincount(groups)
    chosen = np.zeros(len(sizes), bool)
    total = 0
    for group in generator.permutation(len(sizes)):
        if total + sizes[group] <= wanted:
            chosen[group] = True
            total += int(sizes[group])
        if total == wanted:
            break
    if not total and len(groups):  # every group is larger than what was asked for: the smallest will do, up to half
        smallest = int(np.where(sizes > 0, sizes, len(groups) + 1).argmin())
        chosen[smallest] = sizes[smallest] <= len(groups) // 2
    return chosen[groups]
