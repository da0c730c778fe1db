"""Benchmark queries answered at a short size, to see what the figures mean."""

from __future__ import annotations

import random

from nestvec.evaluation import Retrieval, TaskVectors
from nestvec.report import Example, ExampleAnswer, FoundDocument

__all__ = ["answer_examples"]

_DEPTH = 3
_TEXT_CHARACTERS = 200


def answer_examples(
    task: Retrieval, vectors: dict[str, TaskVectors], *, dim: int, count: int, seed: int
) -> list[Example]:
    """Answer a few benchmark queries, drawn at random, with every model.

    Args:
        task: Where the queries come from.
        vectors: The task as each model sees it, by the model's name.
        dim: Dimensions to search with.
        count: Queries to draw.
        seed: Seed of the draw.

    Returns:
        The queries with the first documents of each model, and the rank of the best right one.
    """
    benchmark = task.benchmark
    searched = set(task.document_ids)
    relevant = {
        query: [document for document, grade in grades.items() if grade > 0 and document in searched]
        for query, grades in benchmark.qrels.items()
    }
    answerable = [query for query, documents in relevant.items() if documents]
    drawn = random.Random(seed).sample(answerable, min(count, len(answerable)))
    rows_of_queries = [task.query_ids.index(query) for query in drawn]
    answers: dict[str, list[ExampleAnswer]] = {query: [] for query in drawn}
    for name, own in vectors.items():
        if not drawn:
            break
        depth = len(own.documents)
        vectors_drawn = own.queries[rows_of_queries]
        found = task.search(vectors_drawn, own.documents, [dim], depth=depth, rows=rows_of_queries)[dim]
        for query, rows in zip(drawn, found.indices, strict=True):
            ranking = [task.document_ids[row] for row in rows if row >= 0]
            rank = next(i for i, document in enumerate(ranking, 1) if document in relevant[query])
            shown = [FoundDocument(key, benchmark.corpus[key][:_TEXT_CHARACTERS]) for key in ranking[:_DEPTH]]
            answers[query].append(ExampleAnswer(name, rank, shown))
    return [
        Example(
            query=benchmark.queries[query],
            dim=dim,
            relevant=relevant[query],
            answers=answers[query],
        )
        for query in drawn
    ]
