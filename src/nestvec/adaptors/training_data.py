"""What an adaptor is fitted on: vectors, and perhaps which of them belong together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors.settings import Labels
from nestvec.errors import AdaptorError, DimensionError, VectorError
from nestvec.vectors import normalize

__all__ = ["AdaptorData", "Split", "copies"]

Rows = NDArray[np.int64]
Vectors = NDArray[np.floating[Any]]

_ROWS_AT_A_TIME = 16_384
_NAMED = 3
_DECIMALS = 5


class Split(NamedTuple):
    """Which rows of the pairs are for what."""

    train: Rows
    held_out: Rows


@dataclass(frozen=True, eq=False)
class AdaptorData:
    """Frozen vectors of queries and documents, with or without labels.

    Attributes:
        queries: [n_queries, dim], floating point; may be a memory-mapped file.
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
    def query_copies(self) -> Rows:
        """A number for each query, the same for copies."""
        return copies(self.queries)

    @cached_property
    def document_copies(self) -> Rows:
        """A number for each document, the same for copies."""
        return copies(self.documents)

    def check(self) -> None:
        """Refuse what nothing can be fitted on.

        Raises:
            VectorError: An array holds no vectors, fewer of them than numbers in each, one that is not finite or one
                of zeros only; the first such rows are named.
            DimensionError: Queries and documents have different sizes.
            AdaptorError: Pairs or scores have the wrong shape or type, point outside, or are too few.
        """
        for name, vectors in (("queries", self.queries), ("documents", self.documents)):
            _check_vectors(name, vectors)
        if self.queries.shape[1] != self.dim:
            raise DimensionError(
                f"Queries have {self.queries.shape[1]} numbers and documents {self.dim}. They must come from one model."
            )
        if len(self.queries) + len(self.documents) < self.dim:
            raise VectorError(
                f"{len(self.queries) + len(self.documents)} vectors are too few to fit a map of {self.dim} numbers: "
                f"give at least {self.dim}, better ten times as many."
            )
        if self.pairs is not None:
            self._check_pairs(self.pairs)
        elif self.scores is not None:
            raise AdaptorError("Scores need pairs: which query and which document each is of.")

    def split(self, share: float, limit: int, seed: int) -> Split:
        """Keep some documents, and every pair of theirs, from training.

        Documents with the same vector count as one, so that no copy of what is held out is trained on.

        Args:
            share: Of the pairs, to hold out.
            limit: Pairs to hold out at most.
            seed: Of the choice.

        Returns:
            Rows of `pairs`; without pairs, rows of `documents`.
        """
        generator = np.random.default_rng(seed)
        if self.pairs is None:
            rows = generator.permutation(len(self.documents))
            count = min(limit, int(share * len(rows)))
            return Split(np.sort(rows[count:]), np.sort(rows[:count]))
        groups = self.document_copies[self.pairs[:, 1]]
        sizes = np.bincount(groups)
        order = generator.permutation(len(sizes))
        wanted = min(limit, int(share * len(groups)))
        chosen = np.zeros(len(sizes), bool)
        chosen[order[np.cumsum(sizes[order]) <= wanted]] = True
        held_out = chosen[groups]
        return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))

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


def _check_vectors(name: str, vectors: Vectors) -> None:
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating) or 0 in vectors.shape:
        raise VectorError(f"The {name} are {vectors.dtype} {list(vectors.shape)}, not floating-point vectors [n, dim].")
    bad: dict[str, list[int]] = {"not finite": [], "zero": []}
    for first in range(0, len(vectors), _ROWS_AT_A_TIME):
        part = vectors[first : first + _ROWS_AT_A_TIME]
        finite = np.isfinite(part).all(axis=1)
        bad["not finite"] += (first + np.flatnonzero(~finite)).tolist()
        bad["zero"] += (first + np.flatnonzero(finite & ~part.any(axis=1))).tolist()
    for what, rows in bad.items():
        if rows:
            shown = ", ".join(map(str, rows[:_NAMED])) + (", ..." if len(rows) > _NAMED else "")
            raise VectorError(f"{len(rows)} of {len(vectors)} {name} are {what}, in rows {shown}. Leave them out.")


def copies(vectors: Vectors) -> Rows:
    """A number for each row, the same for rows that hold the same, [n]."""
    seen: dict[bytes, int] = {}
    groups = np.empty(len(vectors), np.int64)
    for first in range(0, len(vectors), _ROWS_AT_A_TIME):
        part = normalize(np.asarray(vectors[first : first + _ROWS_AT_A_TIME], np.float32))
        for row, vector in enumerate(part.round(_DECIMALS) + 0.0, start=first):  # adding 0 turns -0 into 0
            digest = hashlib.blake2b(vector.tobytes(), digest_size=16).digest()
            groups[row] = seen.setdefault(digest, len(seen))
    return groups
