"""Held-out benchmarks from training rows, with nothing of theirs left in training."""

from __future__ import annotations

import random
from collections.abc import Sequence

from nestvec.data.benchmarks import Benchmark
from nestvec.data.records import RetrievalRow
from nestvec.errors import BenchmarkError

__all__ = ["hold_out_queries"]


def hold_out_queries(
    rows: Sequence[RetrievalRow], *, queries: int, documents: int, seed: int, name: str = "held-out"
) -> tuple[list[RetrievalRow], Benchmark]:
    """Set queries aside as a compact retrieval benchmark, and return the rest for training.

    All rows of a held-out query leave training, and so does every row that has one of their relevant documents
    as its positive or as a negative. The corpus holds the positives and negatives of the held-out rows first and
    is filled up with other passages, drawn from the rest.

    Args:
        rows: Queries with their positive and negatives; a query may stand in several rows.
        queries: Queries to hold out.
        documents: Size of the corpus; more if the held-out rows alone have more.
        seed: Seed of the draw.
        name: Name of the benchmark.

    Returns:
        The training rows in their order, and the benchmark.

    Raises:
        BenchmarkError: There are not more queries than are held out, or no row is left to train on.
    """
    distinct = list(dict.fromkeys(row.query for row in rows))
    if len(distinct) <= queries:
        raise BenchmarkError(
            f"Cannot hold out {queries} queries of {len(distinct)}: none would be left to train on. "
            "Lower benchmark.queries or read more rows."
        )
    generator = random.Random(seed)
    held_out = set(generator.sample(distinct, queries))
    tested = [row for row in rows if row.query in held_out]
    rest = [row for row in rows if row.query not in held_out]

    corpus = dict.fromkeys(row.positive for row in tested)
    corpus.update(dict.fromkeys(negative for row in tested for negative in row.negatives))
    others = list(dict.fromkeys(text for row in rest for text in (row.positive, *row.negatives) if text not in corpus))
    wanted = min(len(others), max(0, documents - len(corpus)))
    corpus.update(dict.fromkeys(generator.sample(others, wanted)))

    document_ids = {text: f"d{number}" for number, text in enumerate(corpus)}
    query_ids = {query: f"q{number}" for number, query in enumerate(dict.fromkeys(row.query for row in tested))}
    qrels: dict[str, dict[str, int]] = {}
    for row in tested:
        qrels.setdefault(query_ids[row.query], {})[document_ids[row.positive]] = 1
    benchmark = Benchmark(
        queries={key: text for text, key in query_ids.items()},
        corpus={key: text for text, key in document_ids.items()},
        qrels=qrels,
        name=name,
    )
    relevant = {row.positive for row in tested}
    training = [row for row in rest if row.positive not in relevant and relevant.isdisjoint(row.negatives)]
    if not training:
        raise BenchmarkError(
            "Every row shares a document with the benchmark: none is left to train on. Read more rows."
        )
    return training, benchmark
