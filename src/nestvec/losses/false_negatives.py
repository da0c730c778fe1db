"""Which documents of a batch are no negatives of a query, although they are not its positive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nestvec.errors import LossInputError
from nestvec.losses.prefixes import check_vectors, chosen, widen
from nestvec.vectors import normalize

__all__ = ["FalseNegativeMask", "FalseNegatives"]


@dataclass(frozen=True)
class FalseNegatives:
    """How to spot documents that would be punished although they answer the query; they leave the loss.

    Every way that is given counts on its own. A query's own positive always stays.

    Args:
        query_ids: [batch] or [batch, kinds of ids], whole numbers; queries that agree in one share their positives.
        document_ids: [batch * (1 + negatives)], whole numbers; a document with the id of the positive is a copy of it.
        answers: [batch * (1 + negatives)], whole numbers; the id of a query that each document is known to answer, also
            where that pair is in no row of the batch, and an id of no query where there is none. Needs query_ids of one
            kind.
        margin: Leave out what is more similar to the query than `positive - margin`. A negative margin spares what is
            only a little better than the positive: -0.1 leaves out what beats it by more than 0.1.
        relative: The threshold is `positive - |positive| * margin`.
        guide_queries: [batch, guide_dim]; with `guide_documents`, similarities for the margin come from these vectors
            of another model. Without, they are those of the prefix that is being trained.
        guide_documents: [batch * (1 + negatives), guide_dim].

    Raises:
        LossInputError: The margin is not finite, answers come without query ids of one kind, or a guide with one side
            only or without a margin.

    Source:
        Guide: Solatorio 2024, arXiv:2402.16829. Margins: de Souza P. Moreira et al. 2024, arXiv:2407.15831.
    """

    query_ids: Tensor | None = None
    document_ids: Tensor | None = None
    answers: Tensor | None = None
    margin: float | None = None
    relative: bool = False
    guide_queries: Tensor | None = None
    guide_documents: Tensor | None = None

    def __post_init__(self) -> None:
        if self.margin is not None and not math.isfinite(self.margin):
            raise LossInputError(f"The margin is {self.margin}. It must be finite.")
        if self.answers is not None and (self.query_ids is None or self.query_ids.ndim != 1):
            raise LossInputError("answers name queries by their query_ids. Give these, [batch].")
        if (self.guide_queries is None) != (self.guide_documents is None):
            raise LossInputError("A guide needs both guide_queries and guide_documents.")
        if self.guide_queries is not None and self.margin is None:
            raise LossInputError("A guide without a margin leaves out nothing. Give a margin; 0.0 is usual.")

    def check(self, batch: int, n_documents: int) -> None:
        """Check the sizes against a batch.

        Args:
            batch: Queries.
            n_documents: Documents.

        Raises:
            LossInputError: Something has another number of rows, ids are not whole numbers, or guide vectors are
                not finite or differ in size.
        """
        sized = (
            ("query_ids", self.query_ids, batch),
            ("document_ids", self.document_ids, n_documents),
            ("answers", self.answers, n_documents),
            ("guide_queries", self.guide_queries, batch),
            ("guide_documents", self.guide_documents, n_documents),
        )
        for name, value, expected in sized:
            if value is None:
                continue
            if len(value) != expected:
                raise LossInputError(f"{name} has {len(value)} rows, but the batch has {expected}.")
            if not name.startswith("guide") and (value.ndim > 1 + (name == "query_ids") or value.is_floating_point()):
                raise LossInputError(f"{name} is {list(value.shape)}, {value.dtype}. Give one whole number a row.")
        if self.guide_queries is not None and self.guide_documents is not None:
            check_vectors(guide_queries=self.guide_queries, guide_documents=self.guide_documents)

    def of_documents(self, rows: slice | None, batch: int, scale: float) -> FalseNegativeMask:
        """Return the mask of all documents for some queries.

        Args:
            rows: Which queries; None takes all.
            batch: Queries there are; the first `batch` documents are their positives.
            scale: What the scores are multiplied by.
        """
        positive_ids = _first(self.document_ids, batch)
        return FalseNegativeMask(
            self,
            scale,
            ids=[*self._pair_ids(), (positive_ids, self.document_ids), (self.query_ids, self.answers)],
            guide=(self.guide_queries, self.guide_documents),
            rows=rows,
        )

    def of_queries(self, rows: slice | None, batch: int, scale: float) -> FalseNegativeMask:
        """Return the mask of all queries for some positives: the other direction of a symmetric loss.

        Args:
            rows: Which positives; None takes all.
            batch: Queries, and positives.
            scale: What the scores are multiplied by.
        """
        positive_ids = _first(self.document_ids, batch)
        return FalseNegativeMask(
            self,
            scale,
            ids=[*self._pair_ids(), (positive_ids, positive_ids)],
            guide=(_first(self.guide_documents, batch), self.guide_queries),
            rows=rows,
        )

    def _pair_ids(self) -> list[tuple[Tensor, Tensor]]:
        if self.query_ids is None:
            return []
        return [(ids, ids) for ids in self.query_ids.reshape(len(self.query_ids), -1).unbind(dim=1)]


class FalseNegativeMask:
    """The same for one direction, tile by tile."""

    def __init__(
        self,
        rules: FalseNegatives,
        scale: float,
        *,
        ids: Sequence[tuple[Tensor | None, Tensor | None]],
        guide: tuple[Tensor | None, Tensor | None],
        rows: slice | None,
    ) -> None:
        """Bind the rules to the rows and columns of one score matrix.

        Args:
            rules: The margin.
            scale: What the scores are multiplied by.
            ids: Numbers of rows and of columns; equal ones belong together.
            guide: Vectors of another model for rows and columns.
            rows: Which of the rows the matrix has; None for all.
        """
        self._rules, self._scale = rules, scale
        self._ids = [
            (chosen(of_rows, rows), of_columns)
            for of_rows, of_columns in ids
            if of_rows is not None and of_columns is not None
        ]
        guide_rows, guide_columns = guide
        self._guide = (
            tuple(normalize(side.detach()) for side in widen(chosen(guide_rows, rows), guide_columns))
            if guide_rows is not None and guide_columns is not None
            else None
        )
        self._masks: list[Tensor] = []

    def start(self, rows: slice, targets: Tensor) -> None:
        """Compute what does not depend on the prefix.

        Args:
            rows: Which rows the tile holds.
            targets: [tile_rows, 1], the column of each row's positive.
        """
        # Ids of queries know only the positives, which come first: that mask is narrower than the scores.
        self._masks = [of_rows[rows, None] == of_columns[None, :] for of_rows, of_columns in self._ids]
        if self._guide is not None:
            guide_rows, guide_columns = self._guide
            self._masks.append(self._above(guide_rows[rows] @ guide_columns.T, targets, scale=1.0))

    def apply(self, scores: Tensor, targets: Tensor) -> None:
        """Overwrite the scores of false negatives with one that has no weight in a softmax.

        Args:
            scores: [tile_rows, columns]; is changed.
            targets: [tile_rows, 1], the column of each row's positive.
        """
        masks = self._masks
        if self._guide is None and self._rules.margin is not None:
            masks = [*masks, self._above(scores, targets, self._scale)]
        positives = scores.gather(1, targets)
        for mask in masks:
            # Finite, so that score * gradient stays 0 and not NaN.
            scores[:, : mask.shape[1]].masked_fill_(mask, -1e30)
        scores.scatter_(1, targets, positives)

    def _above(self, scores: Tensor, targets: Tensor, scale: float) -> Tensor:
        margin = self._rules.margin or 0.0
        positives = scores.gather(1, targets)  # [tile_rows, 1]
        return scores > positives - (positives.abs() * margin if self._rules.relative else margin * scale)


def _first(values: Tensor | None, n: int) -> Tensor | None:
    return None if values is None else values[:n]
