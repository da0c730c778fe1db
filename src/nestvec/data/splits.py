"""Held-out benchmarks from training rows, with nothing of theirs left in training."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from nestvec.data.benchmarks import Benchmark
from nestvec.data.near_duplicates import first_of_near_duplicates
from nestvec.data.records import RetrievalRow
from nestvec.errors import BenchmarkError
from nestvec.progress import Progress, silent

__all__ = ["hold_out_queries", "without_leaks"]


def hold_out_queries(
    rows: Sequence[RetrievalRow],
    *,
    queries: int,
    documents: int,
    seed: int,
    name: str = "held-out",
    progress: Progress = silent,
) -> tuple[list[RetrievalRow], Benchmark]:
    """Set queries aside as a compact retrieval benchmark, and return the rest for training.

    All rows of a held-out query leave training, and so does what `without_leaks` takes out. The corpus holds the
    positives and negatives of the held-out rows first and is filled up with other passages, drawn from the rest.

    Args:
        rows: Queries with their positive and negatives; a query may stand in several rows.
        queries: Queries to hold out.
        documents: Size of the corpus; more if the held-out rows alone have more.
        seed: Seed of the draw.
        name: Name of the benchmark.
        progress: How to report progress, in texts.

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
    return without_leaks(rest, benchmark, progress=progress), benchmark


def without_leaks(
    rows: Sequence[RetrievalRow], benchmark: Benchmark, *, progress: Progress = silent
) -> list[RetrievalRow]:
    """Take out of training rows what would teach a benchmark's answers.

    A row goes if its query says nearly the same as a query of the benchmark, or its positive as one of the relevant
    documents; case and punctuation do not count. A relevant document among the negatives of another row is left out
    there.

    Args:
        rows: Training rows.
        benchmark: What will be measured.
        progress: How to report progress, in texts.

    Returns:
        The rows that stay, in their order.

    Raises:
        BenchmarkError: None stays.
    """
    relevant = {
        benchmark.corpus[document]
        for grades in benchmark.qrels.values()
        for document, grade in grades.items()
        if grade > 0 and document in benchmark.corpus
    }
    asked = _resembles(benchmark.queries.values(), [row.query for row in rows], progress)
    answered = _resembles(relevant, [row.positive for row in rows], progress)
    training = [
        row._replace(negatives=tuple(text for text in row.negatives if text not in relevant))
        for row, *leaks in zip(rows, asked, answered, strict=True)
        if not any(leaks)
    ]
    if not training:
        raise BenchmarkError(
            f"Every training row shares a query or an answer with {benchmark.name}: none is left to train on. "
            "Read more rows."
        )
    return training


def _resembles(reference: Iterable[str], texts: Sequence[str], progress: Progress) -> list[bool]:
    """Tell which texts say nearly the same as one of the reference; equal texts are looked at once."""
    known = sorted(set(reference))
    distinct = list(dict.fromkeys(texts))
    firsts = first_of_near_duplicates([*known, *distinct], progress=progress)[len(known) :]
    leaking = {text for text, first in zip(distinct, firsts, strict=True) if first < len(known)}
    return [text in leaking for text in texts]
