"""Telling how alike two texts are: semantic similarity, and pairs that belong together or not."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nestvec.data import ScoredPair
from nestvec.errors import DataError
from nestvec.evaluation.scores import AveragePrecision, PearsonCorrelation, SpearmanCorrelation
from nestvec.evaluation.tasks.base import Float32s, Scores, Task
from nestvec.progress import Progress, silent
from nestvec.vectors import truncate

__all__ = ["PairClassification", "SemanticSimilarity"]

_DECIMALS = 6


class _Pairs(Task):
    """Scored pairs of texts, both of which are stored."""

    unit = "pairs"

    def __init__(self, pairs: Sequence[ScoredPair], *, name: str) -> None:
        if not pairs:
            raise DataError(f"{name} has no pairs.")
        self.name = name
        self._listed = [text for pair in pairs for text in (pair.text1, pair.text2)]
        self._texts = list(dict.fromkeys(self._listed))
        row_of = {text: row for row, text in enumerate(self._texts)}
        self._left = np.array([row_of[pair.text1] for pair in pairs])
        self._right = np.array([row_of[pair.text2] for pair in pairs])
        self.labels = np.array([pair.score for pair in pairs], dtype=np.float64)

    @property
    def n_units(self) -> int:
        """Pairs."""
        return len(self.labels)

    @property
    def documents(self) -> Sequence[str]:
        """Every distinct text."""
        return self._texts

    @property
    def listed_documents(self) -> Sequence[str]:
        """Both texts of each pair, one pair after another."""
        return self._listed

    def counts(self) -> dict[str, int]:
        """Return how many pairs and texts there are."""
        return {"pairs": len(self.labels), "texts": len(self._texts)}

    def measure(
        self, queries: Float32s, documents: Float32s, dims: Sequence[int], *, progress: Progress = silent
    ) -> dict[int, Scores]:
        """Score the cosine similarity of the two texts of each pair.

        Args:
            queries: Not used.
            documents: What is stored of `documents`, [n_documents, full_dim], float32.
            dims: Sizes to measure.
            progress: Not used: this takes no time.

        Returns:
            The scores by dim.
        """
        del queries, progress
        scores = {}
        for dim in dims:
            cut = truncate(documents, dim)
            similarities = np.einsum("ij,ij->i", cut[self._left], cut[self._right], dtype=np.float64)
            # Short codes give many pairs the same similarity: what float32 cannot tell apart must stay a tie.
            scores[dim] = self._score(similarities.clip(-1, 1).round(_DECIMALS))
        return scores

    @abstractmethod
    def _score(self, similarities: NDArray[np.float64]) -> Scores:
        """Score the cosine similarity of each pair."""


class SemanticSimilarity(_Pairs):
    """How well similarities follow what people said of the pairs (STS)."""

    kind = "similarity"
    metrics = ("Spearman", "Pearson")

    def __init__(self, pairs: Sequence[ScoredPair], *, name: str = "similarity") -> None:
        """Measure on scored pairs.

        Args:
            pairs: Two texts and a score each; only the order and distances of the scores count.
            name: Name of the data.

        Raises:
            DataError: There are no pairs, or all have the same score.
        """
        super().__init__(pairs, name=name)
        PearsonCorrelation(np.zeros(len(pairs)), self.labels)  # checks the labels

    def _score(self, similarities: NDArray[np.float64]) -> Scores:
        return {
            "Spearman": SpearmanCorrelation(similarities, self.labels),
            "Pearson": PearsonCorrelation(similarities, self.labels),
        }


class PairClassification(_Pairs):
    """Telling pairs that belong together from those that do not."""

    kind = "pair-classification"
    metrics = ("AP",)

    def __init__(self, pairs: Sequence[ScoredPair], *, name: str = "pair-classification") -> None:
        """Measure on labelled pairs.

        Args:
            pairs: Two texts and a score of 1 or 0 each.
            name: Name of the data.

        Raises:
            DataError: There are no pairs, a score is neither 1 nor 0, or all are equal.
        """
        super().__init__(pairs, name=name)
        AveragePrecision(np.zeros(len(pairs)), self.labels)  # checks the labels

    def _score(self, similarities: NDArray[np.float64]) -> Scores:
        return {"AP": AveragePrecision(similarities, self.labels)}
