"""Texts with a class: classification by a linear probe and by neighbours, from few examples, and clustering."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.data import LabeledText
from nestvec.errors import DataError
from nestvec.evaluation.scores import MeanScore, VMeasure
from nestvec.evaluation.tasks.base import Float32s, Scores, Task
from nestvec.exact_search import search_prefixes
from nestvec.extras import require
from nestvec.progress import Progress, silent
from nestvec.vectors import truncate

__all__ = ["Classification", "Clustering", "FewShot"]

_ITERATIONS = 500
# Of the gradient. With many classes and the small numbers of unit vectors a looser one is met before the first step.
_TOLERANCE = 1e-5
_NEIGHBOURS = 5
_PENALTY = 10.0  # C of scikit-learn: unit vectors are small, and want a weaker penalty than its 1.0

Ints = NDArray[np.int64]


class _Classes(Task):
    """Labelled texts, all of which are stored."""

    unit = "texts"

    def __init__(self, texts: Sequence[LabeledText], *, name: str) -> None:
        self.name = name
        self.classes = sorted({text.label for text in texts}, key=str)
        if len(self.classes) < 2:
            raise DataError(f"{name} has {len(self.classes)} class: there is nothing to tell apart.")
        number_of = {label: number for number, label in enumerate(self.classes)}
        self._texts = [text.text for text in texts]
        self.labels = np.array([number_of[text.label] for text in texts])
        self._n_train = 0

    @property
    def n_units(self) -> int:
        """Texts to be right about."""
        return len(self.labels) - self._n_train

    @property
    def documents(self) -> Sequence[str]:
        """Every text."""
        return self._texts

    @property
    def document_keys(self) -> Sequence[str]:
        """The place of each text: the same text may stand twice."""
        return [str(place) for place in range(len(self._texts))]

    @property
    def listed_documents(self) -> Sequence[str]:
        """Texts to learn from, where there are any, then texts to be right about."""
        return self.document_keys

    def measure(
        self, queries: Float32s, documents: Float32s, dims: Sequence[int], *, progress: Progress = silent
    ) -> dict[int, Scores]:
        """Score what is stored at every size.

        Args:
            queries: Not used.
            documents: What is stored of `documents`, [n_documents, full_dim], float32.
            dims: Sizes to measure.
            progress: How to report progress, in sizes.

        Returns:
            The scores by dim.
        """
        del queries
        scores = {}
        with progress(self._doing, len(dims)) as advance:
            for dim in dims:
                scores[dim] = self._score(truncate(documents, dim))
                advance(1)
        return scores

    _doing = "measuring"

    @abstractmethod
    def _score(self, vectors: Float32s) -> Scores:
        """Score unit vectors of `documents`."""


class Classification(_Classes):
    """Which class a text has, learnt from labelled texts: by logistic regression, and from the nearest neighbours."""

    kind = "classification"
    metrics = ("Accuracy", "kNN accuracy")
    _doing = "fitting probes"

    def __init__(
        self, train: Sequence[LabeledText], test: Sequence[LabeledText], *, name: str = "classification"
    ) -> None:
        """Measure on texts with classes.

        Args:
            train: Texts to learn from.
            test: Texts to be right about.
            name: Name of the data.

        Raises:
            DataError: There are no texts to test, less than two classes to learn, or a class that only the test has.
        """
        _require_known_classes(train, test, name)
        super().__init__([*train, *test], name=name)
        self._n_train = len(train)

    def counts(self) -> dict[str, int]:
        """Return how many texts and classes there are."""
        return {
            "train": self._n_train,
            "test": self.n_units,
            "classes": len(self.classes),
        }

    def _score(self, vectors: Float32s) -> Scores:
        train, test = vectors[: self._n_train], vectors[self._n_train :]
        learnt, expected = self.labels[: self._n_train], self.labels[self._n_train :]
        probed = _probe(train, learnt).predict(test)
        nearest = search_prefixes(test, train, dims=[train.shape[1]], k=_NEIGHBOURS)[train.shape[1]]
        return {
            "Accuracy": MeanScore(probed == expected),
            "kNN accuracy": MeanScore(_vote(learnt[nearest.indices], len(self.classes)) == expected),
        }


class FewShot(_Classes):
    """Which class a text has, learnt from a few examples of each: logistic regression, averaged over draws."""

    kind = "few-shot"
    _doing = "fitting probes"

    def __init__(
        self,
        train: Sequence[LabeledText],
        test: Sequence[LabeledText],
        *,
        shots: int = 8,
        draws: int = 10,
        seed: int = 0,
        name: str = "few-shot",
    ) -> None:
        """Measure on texts with classes.

        Args:
            train: Texts that examples are drawn from.
            test: Texts to be right about.
            shots: Examples of each class.
            draws: Draws to average over.
            seed: Seed of the draws; every size and precision sees the same ones.
            name: Name of the data.

        Raises:
            DataError: As for `Classification`; or a class has fewer texts than `shots`; or `draws` is below 1.
        """
        _require_known_classes(train, test, name)
        super().__init__([*train, *test], name=name)
        self._n_train, self._shots = len(train), shots
        self.metrics = (f"Accuracy, {shots} shots",)
        rows_of = [np.flatnonzero(self.labels[: len(train)] == number) for number in range(len(self.classes))]
        smallest = min(range(len(rows_of)), key=lambda number: len(rows_of[number]))
        if draws < 1:
            raise DataError(f"{draws} draws of examples cannot be averaged. Choose 1 or more.")
        if len(rows_of[smallest]) < shots or shots < 1:
            raise DataError(
                f"Class {self.classes[smallest]!r} of {name} has {len(rows_of[smallest])} texts to learn from and "
                f"{shots} are to be drawn. Choose 1 to {len(rows_of[smallest])} shots."
            )
        generator = np.random.default_rng(seed)
        self._draws = [
            np.concatenate([generator.choice(rows, shots, replace=False) for rows in rows_of]) for _ in range(draws)
        ]

    def counts(self) -> dict[str, int]:
        """Return how many texts, classes, shots and draws there are."""
        return {
            "train": self._n_train,
            "test": self.n_units,
            "classes": len(self.classes),
            "shots": self._shots,
            "draws": len(self._draws),
        }

    def _score(self, vectors: Float32s) -> Scores:
        test, expected = vectors[self._n_train :], self.labels[self._n_train :]
        right = np.zeros(len(test))
        for rows in self._draws:
            right += _probe(vectors[rows], self.labels[rows]).predict(test) == expected
        return {self.metrics[0]: MeanScore(right / len(self._draws))}


class Clustering(_Classes):
    """Finding the classes without labels: k-means with as many clusters as there are classes."""

    kind = "clustering"
    metrics = ("V-measure",)
    _doing = "clustering"

    def __init__(self, texts: Sequence[LabeledText], *, seed: int = 0, name: str = "clustering") -> None:
        """Measure on texts with classes.

        Args:
            texts: Texts and their true classes.
            seed: Seed of k-means.
            name: Name of the data.

        Raises:
            DataError: There are less than two classes.
        """
        super().__init__(texts, name=name)
        self._seed = seed

    def counts(self) -> dict[str, int]:
        """Return how many texts and classes there are."""
        return {"texts": self.n_units, "classes": len(self.classes)}

    def _score(self, vectors: Float32s) -> Scores:
        cluster = require("sklearn.cluster", extra="train")
        k_means = cluster.KMeans(len(self.classes), n_init=3, random_state=self._seed)
        # Fewer distinct vectors than clusters is no mistake of the caller: short binary codes repeat.
        distinct = len(np.unique(vectors, axis=0))
        if distinct < len(self.classes):
            k_means.set_params(n_clusters=distinct)
        return {"V-measure": VMeasure(self.labels, k_means.fit_predict(vectors))}


def _require_known_classes(train: Sequence[LabeledText], test: Sequence[LabeledText], name: str) -> None:
    if not test:
        raise DataError(f"{name} has no texts to test.")
    unknown = sorted({str(text.label) for text in test} - {str(text.label) for text in train})
    if unknown:
        raise DataError(f"{name} has no texts to learn the class {unknown[0]!r} from, and {len(unknown)} such classes.")


def _probe(vectors: Float32s, labels: Ints) -> Any:
    linear_model = require("sklearn.linear_model", extra="train")
    return linear_model.LogisticRegression(C=_PENALTY, max_iter=_ITERATIONS, tol=_TOLERANCE).fit(vectors, labels)


def _vote(labels: Ints, n_classes: int) -> Ints:
    """Most frequent label of each row; among equals, that of the nearest, [n_rows] from [n_rows, k]."""
    votes = np.zeros((len(labels), n_classes))
    for rank in range(labels.shape[1]):
        votes[np.arange(len(labels)), labels[:, rank]] += 1 + 2.0 ** -(rank + 2)  # nearer ones break ties
    winners: Ints = votes.argmax(axis=1)
    return winners
