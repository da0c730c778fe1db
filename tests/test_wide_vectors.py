"""Vectors as wide as today's largest models give them, from end to end. Run: pytest tests/test_wide_vectors.py (twenty seconds)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nestvec.data import Benchmark
from nestvec.evaluation import CellKey, Rerank, Retrieval, TaskVectors, make_cells, measure_grid
from nestvec.index import Index
from nestvec.plan import FirstStage, Plan, SecondStage
from nestvec.planning import Corpus, choose, parse_target
from nestvec.vectors import normalize

QUERIES, CLOUDS = 60, 40


@pytest.mark.parametrize(("full_dim", "count"), [(4096, 900), (8192, 500)])
def test_wide_vectors_are_measured_planned_for_indexed_and_found(full_dim: int, count: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(full_dim)
    spread = 1 / np.sqrt(np.arange(1, full_dim + 1, dtype=np.float32))
    centres = generator.standard_normal((CLOUDS, full_dim), dtype=np.float32) * spread
    own = generator.standard_normal((count, full_dim), dtype=np.float32) * spread
    documents = normalize(centres[generator.integers(0, CLOUDS, count)] + own)
    noise = 0.3 * generator.standard_normal((QUERIES, full_dim), dtype=np.float32) * spread
    queries = normalize(documents[:QUERIES] + noise)
    names = [f"d{row:04d}" for row in range(count)]
    asked = {f"q{row:04d}": f"query {row}" for row in range(QUERIES)}
    qrels = {f"q{row:04d}": {names[row]: 1} for row in range(QUERIES)}
    task = Retrieval(Benchmark(asked, {name: f"text of {name}" for name in names}, qrels), metrics=["MRR@10"])
    rows = [int(key[1:]) for key in task.document_ids]
    vectors = TaskVectors(queries[[int(key[1:]) for key in task.query_ids]], documents[rows])

    grid = measure_grid(
        task,
        vectors,
        [full_dim, 256],
        precisions=["float32", "int8", "binary", "pq32"],
        reranks=[None, Rerank("int8", 100)],
    )
    assert not grid.impossible
    assert grid.scores[CellKey(full_dim)]["MRR@10"].value > 0.95
    assert grid.scores[CellKey(full_dim, "binary")]["MRR@10"].value > 0.85
    cells = make_cells("wide", grid)
    choice = choose(
        cells, headline="MRR@10", target=parse_target("retention>=0.9", ["MRR@10"]), corpus=Corpus(count, count)
    )
    chosen = choice.cell
    assert chosen.bytes_per_vector * 64 <= 4 * full_dim
    plan = Plan(
        model="wide",
        full_dim=full_dim,
        first_stage=FirstStage(dim=chosen.dim, precision=chosen.precision),
        second_stage=None if chosen.rerank is None else SecondStage(**chosen.rerank._asdict()),
    )
    for name, given in (("planned", plan), ("default", None)):
        with Index.build(
            tmp_path / name, vectors=documents, ids=names, plan=given, recall=0.99 if given else None
        ) as index:
            found = index.search(queries)
            ranks = [line.index(names[row]) + 1 if names[row] in line else 0 for row, line in enumerate(found.ids)]
            score = float(np.mean([1 / rank if rank else 0 for rank in ranks]))
            assert score == pytest.approx(chosen.metrics["MRR@10"].value if given else 1.0, abs=0.03)
            index.delete(names[:1])
            index.upsert(documents[1:2], [names[1]])
            index.compact(dim=full_dim // 2 if given is None else None)
            assert index.search(documents[2]).ids[0][0] == names[2]
            assert index.verify() == []
