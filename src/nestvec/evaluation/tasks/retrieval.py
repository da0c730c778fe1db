"""Finding the relevant documents of a query: retrieval, reranking of candidates, bitext mining."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, TypeGuard

import numpy as np
from numpy.typing import NDArray

from nestvec.data import Benchmark, RetrievalRow
from nestvec.errors import BenchmarkError, DataError, MetricError
from nestvec.evaluation.metrics import DEFAULT_METRICS, Judged, judge, parse_metric, score_queries
from nestvec.evaluation.scores import MeanScore
from nestvec.evaluation.tasks.base import Float32s, Scores, Task
from nestvec.exact_search import TopK, search_prefixes
from nestvec.progress import Progress, silent

__all__ = ["BitextMining", "Reranking", "Retrieval", "searches"]


class Retrieval(Task):
    """Search of the whole corpus for every judged query."""

    kind = "retrieval"
    unit = "queries"
    has_shortlists: ClassVar[bool] = True
    """Whether a first stage searches enough documents for a second one to choose from."""

    def __init__(self, benchmark: Benchmark, *, metrics: Sequence[str] = DEFAULT_METRICS) -> None:
        """Measure search on a benchmark.

        Args:
            benchmark: Queries, corpus and qrels.
            metrics: Names such as `nDCG@10`, the headline first.

        Raises:
            MetricError: A metric is not known, or there is none.
        """
        self.benchmark = benchmark
        self.name = benchmark.name
        self._metrics = [parse_metric(name) for name in metrics]
        if not self._metrics:
            raise MetricError("No metrics given. Give at least one, such as MRR@10.")
        self.metrics = tuple(str(metric) for metric in self._metrics)

    @cached_property
    def query_ids(self) -> tuple[str, ...]:
        """Ids of the judged queries, in the order of the qrels."""
        return tuple(self.benchmark.qrels)

    @cached_property
    def document_ids(self) -> tuple[str, ...]:
        """Ids of the documents that have a text, last first: trec_eval ranks them so among equal scores."""
        return tuple(sorted((key for key, text in self.benchmark.corpus.items() if text.strip()), reverse=True))

    @property
    def n_units(self) -> int:
        """Judged queries."""
        return len(self.query_ids)

    @property
    def queries(self) -> Sequence[str]:
        """Texts of `query_ids`."""
        return [self.benchmark.queries[key] for key in self.query_ids]

    @property
    def documents(self) -> Sequence[str]:
        """Texts of `document_ids`."""
        return [self.benchmark.corpus[key] for key in self.document_ids]

    @property
    def query_keys(self) -> Sequence[str]:
        """The same as `query_ids`."""
        return self.query_ids

    @property
    def document_keys(self) -> Sequence[str]:
        """The same as `document_ids`."""
        return self.document_ids

    @property
    def listed_queries(self) -> Sequence[str]:
        """Ids of the judged queries in the order of the benchmark."""
        return [key for key in self.benchmark.queries if key in self.benchmark.qrels]

    @property
    def listed_documents(self) -> Sequence[str]:
        """Ids of the whole corpus in the order of the benchmark."""
        return list(self.benchmark.corpus)

    @property
    def depth(self) -> int:
        """Ranks that the metrics look at."""
        return min(max(metric.cutoff for metric in self._metrics), len(self.document_ids))

    @property
    def search_depth(self) -> int:
        """Documents that a search is to find: one more where queries are documents, and no answer to themselves."""
        return min(self.depth + int((self._own_rows >= 0).any()), len(self.document_ids))

    def counts(self) -> dict[str, int]:
        """Return how many queries, documents and relevant judgements there are."""
        return self.benchmark.counts()

    def measure(
        self, queries: Float32s, documents: Float32s, dims: Sequence[int], *, progress: Progress = silent
    ) -> dict[int, Scores]:
        """Score search at every size, from one pass over the numbers.

        Args:
            queries: Unit vectors of `queries`, [n_queries, full_dim], float32.
            documents: What is stored of `documents`, [n_documents, full_dim], float32.
            dims: Sizes to measure, strictly rising or falling.
            progress: How to report progress, in queries.

        Returns:
            Means over the queries by dim.
        """
        found = self.search(queries, documents, dims, depth=self.depth, progress=progress)
        return {dim: self.score(top) for dim, top in found.items()}

    def search(
        self,
        queries: Float32s,
        documents: Float32s,
        dims: Sequence[int],
        *,
        depth: int,
        rows: Sequence[int] | None = None,
        progress: Progress = silent,
    ) -> dict[int, TopK]:
        """Find the nearest documents at every size.

        Args:
            queries: Unit vectors of `queries`, or of some of them, [n_queries, full_dim], float32.
            documents: What is stored of `documents`, [n_documents, full_dim], float32.
            dims: Sizes to search with, strictly rising or falling.
            depth: Documents to find for each query.
            rows: Which of `queries` they are; None is all.
            progress: How to report progress, in queries.

        Returns:
            The documents by dim, without the one that is the query itself; -1 where there are fewer.
        """
        own = self._own_rows if rows is None else self._own_rows[np.asarray(rows, np.int64)]
        if not (own >= 0).any():
            return search_prefixes(queries, documents, dims=dims, k=depth, progress=progress)
        found = search_prefixes(queries, documents, dims=dims, k=depth + 1, progress=progress)
        return {dim: _without(top, own, depth) for dim, top in found.items()}

    def without_own(self, top: TopK) -> TopK:
        """Take the document that is the query itself out of what was found for every query.

        Args:
            top: Rows of the best `search_depth` documents, [n_queries, search_depth].

        Returns:
            [n_queries, up to depth]; -1 where there are fewer.
        """
        return _without(top, self._own_rows, min(self.depth, top.indices.shape[1]))

    @cached_property
    def _own_rows(self) -> NDArray[np.int64]:
        """Row of the document that is each query itself, [n_queries]; -1 where there is none."""
        row_of = {key: row for row, key in enumerate(self.document_ids)}
        own = [self.benchmark.own_document(key) for key in self.query_ids]
        return np.array([-1 if key is None else row_of.get(key, -1) for key in own], np.int64)

    def score(self, top: TopK) -> Scores:
        """Judge what was found for every query of `query_ids`.

        Args:
            top: Rows of documents, at least `depth` of them or as many as there are; -1 is none.

        Returns:
            Means over the queries.
        """
        n_documents = len(self.document_ids)
        keys, grades = self._judgements
        found = top.indices[:, : self.depth]
        pairs = np.arange(len(found))[:, None] * n_documents + found
        places = np.searchsorted(keys, pairs).clip(max=len(keys) - 1)
        judged = self._nothing_found._replace(
            grades=np.pad(
                np.where((found >= 0) & (keys[places] == pairs), grades[places], 0.0),
                [(0, 0), (0, self._nothing_found.grades.shape[1] - found.shape[1])],
            )
        )
        return {str(metric): MeanScore(score_queries(metric, judged)) for metric in self._metrics}

    @cached_property
    def _judgements(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Query x documents + document of every relevant pair, rising, and its grade."""
        row_of = {key: row for row, key in enumerate(self.document_ids)}
        pairs = sorted(
            (query * len(row_of) + row_of[document], grade)
            for query, key in enumerate(self.query_ids)
            for document, grade in self.benchmark.qrels[key].items()
            if grade > 0 and document in row_of
        )
        keys, grades = zip(*pairs, strict=True)  # a benchmark has at least one
        return np.array(keys, np.int64), np.array(grades, np.float64)

    @property
    def _most_relevant(self) -> int:
        """Ranks that an ideal ranking fills, as far as a metric looks."""
        deepest = max(metric.cutoff for metric in self._metrics)
        return min(deepest, max(len(grades) for grades in self.benchmark.qrels.values()))

    @cached_property
    def _nothing_found(self) -> Judged:
        return judge(self.benchmark.qrels, {}, max(self.depth, self._most_relevant))


class Reranking(Retrieval):
    """Ordering the candidates of each query, which are its judged documents; the rest of the corpus does not count."""

    kind = "reranking"
    has_shortlists = False

    def __init__(self, benchmark: Benchmark, *, metrics: Sequence[str] = ("MAP@1000", "MRR@10", "nDCG@10")) -> None:
        """Measure the ordering of candidates.

        Args:
            benchmark: Queries, corpus and qrels; a grade of 0 is a candidate that is not relevant.
            metrics: Names such as `nDCG@10`, the headline first.

        Raises:
            MetricError: A metric is not known, or there is none.
            BenchmarkError: No query has a candidate that is not relevant, so that every order is right.
        """
        super().__init__(benchmark, metrics=metrics)
        if all(grade > 0 for grades in benchmark.qrels.values() for grade in grades.values()):
            raise BenchmarkError(
                f"{self.name} judges relevant documents only, so any order of them is right. Add candidates with "
                "grade 0 to its qrels, or measure it as retrieval."
            )

    @cached_property
    def document_ids(self) -> tuple[str, ...]:
        """Ids of the candidates of any query that have a text, last first."""
        judged = {key for grades in self.benchmark.qrels.values() for key in grades}
        return tuple(sorted(judged.intersection(super().document_ids), reverse=True))

    def search(
        self,
        queries: Float32s,
        documents: Float32s,
        dims: Sequence[int],
        *,
        depth: int,
        rows: Sequence[int] | None = None,
        progress: Progress = silent,
    ) -> dict[int, TopK]:
        """Order the candidates of every query at every size.

        Args:
            queries: Unit vectors of `queries`, or of some of them, [n_queries, full_dim], float32.
            documents: What is stored of `documents`, [n_documents, full_dim], float32.
            dims: Sizes to compare with, strictly rising or falling.
            depth: Candidates to keep for each query.
            rows: Which of `queries` they are; None is all.
            progress: How to report progress, in queries.

        Returns:
            The candidates by dim; -1 where a query has fewer.
        """
        row_of = {key: row for row, key in enumerate(self.document_ids)}
        shape = (len(queries), depth)
        found = {dim: TopK(np.full(shape, -1, np.int64), np.zeros(shape, np.float32)) for dim in dims}
        with progress("searching", len(queries)) as advance:
            for place, row in enumerate(range(len(queries)) if rows is None else rows):
                key = self.query_ids[row]
                judged = set(self.benchmark.qrels[key]) - {self.benchmark.own_document(key)}
                candidates = np.array(sorted(row_of[one] for one in judged if one in row_of), np.int64)
                if len(candidates):
                    best = search_prefixes(queries[place : place + 1], documents[candidates], dims=dims, k=depth)
                    for dim, top in best.items():
                        kept = top.indices.shape[1]
                        found[dim].indices[place, :kept] = candidates[top.indices[0]]
                        found[dim].scores[place, :kept] = top.scores[0]
                advance(1)
        return found


class BitextMining(Retrieval):
    """Finding the translation of every sentence among all translations."""

    kind = "bitext"
    unit = "sentences"

    def __init__(self, pairs: Sequence[RetrievalRow], *, name: str = "bitext") -> None:
        """Measure on sentence pairs.

        Args:
            pairs: A sentence (`query`) and its translation (`positive`) each; the targets, and the negatives where a
                row has some, are what is searched.
            name: Name of the data.

        Raises:
            DataError: There are no pairs.
        """
        if not pairs:
            raise DataError(f"{name} has no sentence pairs.")
        sources = {text: f"s{number}" for number, text in enumerate(dict.fromkeys(row.query for row in pairs))}
        targets: dict[str, str] = {}
        for row in pairs:
            for text in (row.positive, *row.negatives):
                targets.setdefault(text, f"t{len(targets):09d}")
        qrels: dict[str, dict[str, int]] = {}
        for row in pairs:
            qrels.setdefault(sources[row.query], {})[targets[row.positive]] = 1
        queries, corpus = ({key: text for text, key in side.items()} for side in (sources, targets))
        super().__init__(Benchmark(queries, corpus, qrels, name=name), metrics=["MRR@1"])
        self.metrics = ("Accuracy",)
        self._pairs = pairs

    @property
    def query_keys(self) -> Sequence[str]:
        """The sentences."""
        return self.queries

    @property
    def document_keys(self) -> Sequence[str]:
        """The texts that are searched."""
        return self.documents

    @property
    def listed_queries(self) -> Sequence[str]:
        """The sentence of each pair."""
        return [row.query for row in self._pairs]

    @property
    def listed_documents(self) -> Sequence[str]:
        """The translation of each pair, followed by its negatives."""
        return [text for row in self._pairs for text in (row.positive, *row.negatives)]

    def score(self, top: TopK) -> Scores:
        """Tell for which sentences the nearest text is a translation.

        Args:
            top: Rows of documents, at least one a sentence.

        Returns:
            The share of sentences.
        """
        return {"Accuracy": super().score(top)["MRR@1"]}


def _without(top: TopK, rows: NDArray[np.int64], depth: int) -> TopK:
    """What was found without one row for each query, [n_queries, up to depth]; -1 where there are fewer."""
    gone = top.indices == rows[:, None]
    order = np.argsort(gone, axis=1, kind="stable")[:, :depth]  # those that go come last
    indices, scores = (np.take_along_axis(one, order, axis=1) for one in top)
    left_over = np.take_along_axis(gone, order, axis=1)
    return TopK(np.where(left_over, -1, indices), np.where(left_over, np.float32(-np.inf), scores))


def searches(task: Task) -> TypeGuard[Retrieval]:
    """Tell whether a task searches a corpus, so that it can be timed and its shortlists reranked.

    Args:
        task: Any task.
    """
    return isinstance(task, Retrieval) and task.has_shortlists
