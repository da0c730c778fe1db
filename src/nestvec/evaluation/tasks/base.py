"""What a task is: texts to encode once, and scores of what is left of their vectors at any size and precision."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nestvec.evaluation.scores import Score
from nestvec.progress import Progress, silent

__all__ = ["Scores", "Task"]

Float32s = NDArray[np.float32]
Scores = Mapping[str, Score]
"""Scores by the name of the metric, the headline first."""


class Task(ABC):
    """Something that vectors are good for, measured.

    Documents are what a user stores and pays for, so they are truncated and quantised; queries come once, so they are
    truncated only.

    Attributes:
        kind: Which task it is, as the command line calls it.
        unit: What a score is measured on and resampled over, in the plural.
        name: Name of the data.
        metrics: Names of the metrics, the headline first.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]
    name: str
    metrics: tuple[str, ...]

    @property
    @abstractmethod
    def n_units(self) -> int:
        """How many units there are."""

    @property
    def queries(self) -> Sequence[str]:
        """Texts whose vectors stay as they are; none where every text is stored."""
        return ()

    @property
    @abstractmethod
    def documents(self) -> Sequence[str]:
        """Texts whose vectors are stored."""

    @property
    def query_keys(self) -> Sequence[str]:
        """What stands for each of `queries`: its id, or the text itself."""
        return self.queries

    @property
    def document_keys(self) -> Sequence[str]:
        """What stands for each of `documents`: its id, or the text itself."""
        return self.documents

    @property
    def listed_queries(self) -> Sequence[str]:
        """`query_keys` in the order of the data, repeats included: how ready vectors are listed."""
        return self.query_keys

    @property
    @abstractmethod
    def listed_documents(self) -> Sequence[str]:
        """`document_keys` in the order of the data, repeats included: how ready vectors are listed."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Return how large the task is, by what is counted."""

    @abstractmethod
    def measure(
        self, queries: Float32s, documents: Float32s, dims: Sequence[int], *, progress: Progress = silent
    ) -> dict[int, Scores]:
        """Score vectors at every size.

        Args:
            queries: Unit vectors of `queries`, [n_queries, full_dim], float32.
            documents: What is stored of `documents`, [n_documents, full_dim], float32.
            dims: Sizes to measure, strictly rising or falling.
            progress: How to report progress.

        Returns:
            The scores by dim, in the order of `dims`.
        """
