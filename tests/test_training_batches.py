"""Batches of a whole run. Run: pytest tests/test_training_batches.py (seconds)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import synthetic_rows
from nestvec.data import RetrievalRow
from nestvec.encoders import load_model
from nestvec.errors import DataError, NestvecWarning
from nestvec.training.batches import plan_batches
from nestvec.training.determinism import deterministic
from nestvec.training.recipe import TrainingSettings
from nestvec.training.run import prepare, train

TEXTS = st.sampled_from("abcdefgh")


def columns_of(rows: list[tuple[str, ...]]) -> dict[str, list[str]]:
    names = ["query", "positive", "negative_1", "negative_2"]
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=False)}


@settings(max_examples=200, deadline=None)
@given(
    st.integers(2, 4).flatmap(lambda width: st.lists(st.tuples(*[TEXTS] * width), min_size=2, max_size=40)),
    st.integers(2, 7),
    st.integers(0, 3),
)
def test_no_text_stands_twice_in_a_batch_and_every_row_once_in_an_epoch(
    rows: list[tuple[str, ...]], batch_size: int, seed: int
) -> None:
    try:
        plan = plan_batches(columns_of(rows), batch_size=batch_size, epochs=2.0, limit=None, seed=seed)
    except DataError:
        assert len(rows[0]) == 2
        assert all(set(one) & set(other) for one in rows for other in rows)  # no two can share a batch
        return
    fewest = 1 if len(rows[0]) > 2 else 2
    seen = np.zeros(len(rows), int)
    for batch in plan.batches:
        texts = [text for row in batch for text in set(rows[row])]
        assert len(set(texts)) == len(texts)
        assert fewest <= len(batch) <= batch_size
        seen[batch] += 1
    assert (seen <= 2).all()
    assert 2 * len(rows) - seen.sum() <= 2 * plan.skipped


def test_distinct_rows_fill_their_batches_and_a_last_one_alone_gets_company() -> None:
    rows = [(f"q{n}", f"p{n}") for n in range(21)]
    plan = plan_batches(columns_of(rows), batch_size=10, epochs=3.0, limit=None, seed=0)
    assert sorted(map(len, plan.batches)) == [2] * 3 + [9] * 3 + [10] * 3
    assert plan.skipped == 0
    again, other = (plan_batches(columns_of(rows), batch_size=10, epochs=3.0, limit=None, seed=s) for s in (0, 1))
    assert all((one == two).all() for one, two in zip(plan.batches, again.batches, strict=True))
    assert any((one != two).any() for one, two in zip(plan.batches[::3], other.batches[::3], strict=True))
    assert {tuple(sorted(one)) for one in plan.batches[:3]} != {tuple(sorted(one)) for one in plan.batches[3:6]}


def test_rows_that_are_alone_are_put_together() -> None:
    rows = [("a", "b"), ("a", "a"), ("b", "b")]  # the last two can share a batch, whichever came first
    for seed in range(20):
        plan = plan_batches(columns_of(rows), batch_size=2, epochs=1.0, limit=None, seed=seed)
        assert [sorted(batch.tolist()) for batch in plan.batches] == [[1, 2]]
        assert plan.skipped == 1


def test_parts_of_an_epoch_and_a_limit_are_parts_of_its_batches() -> None:
    rows = [(f"q{n}", f"p{n}") for n in range(100)]

    def count(epochs: float, limit: int | None = None) -> int:
        return len(plan_batches(columns_of(rows), batch_size=10, epochs=epochs, limit=limit, seed=0).batches)

    assert [count(0.05), count(0.5), count(1.0), count(2.3), count(50.0, 7)] == [1, 5, 10, 23, 7]


def test_many_rows_of_one_query_are_laid_out_at_once() -> None:
    rows = [("the same", f"p{n}", f"n{n}") for n in range(30_000)]
    plan = plan_batches(columns_of(rows), batch_size=64, epochs=1.0, limit=None, seed=0)
    assert len(plan.batches) == 30_000  # each has a negative of its own to learn from


def test_rows_of_which_nothing_can_be_learned_are_refused_or_counted_before_the_run(
    tiny_model: Path, tmp_path: Path
) -> None:
    same = [RetrievalRow("one query", f"answer {n}") for n in range(20)]
    others = [RetrievalRow(f"question {n}", f"reply {n}") for n in range(4)]
    chosen = TrainingSettings(dims=[16], batch_size=8)
    with pytest.raises(DataError, match="No two of the 20 training rows differ in all their texts"):
        prepare(load_model(str(tiny_model)), same, chosen, dims=[16], seed=0, work=tmp_path / "a")
    with pytest.warns(NestvecWarning, match="16 of 24 training rows would be alone in their batch"):
        run = prepare(load_model(str(tiny_model)), same + others, chosen, dims=[16], seed=0, work=tmp_path / "b")
    assert run.total_steps == len(run.batches.batches) == 4


@pytest.mark.parametrize(("epochs", "accumulated"), [(2.0, 1), (1.5, 1), (3.0, 4)])
def test_a_run_takes_the_steps_of_its_epochs_and_every_batch_once(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: float, accumulated: int
) -> None:
    rows = [RetrievalRow(str(row["query"]), str(row["positive"])) for row in synthetic_rows(50)]
    rows += [
        RetrievalRow(rows[0].query, f"the {word} every day") for word in ("stone", "water", "light", "paper", "metal")
    ]
    chosen = TrainingSettings(dims=[16], batch_size=16, epochs=epochs, gradient_accumulation=accumulated)
    with deterministic(0):
        model = load_model(str(tiny_model))
        run = prepare(model, rows, chosen, dims=[16], seed=0, work=tmp_path / "work")
        seen: list[int] = []
        compute = type(run.loss).compute
        monkeypatch.setattr(
            type(run.loss),
            "compute",
            lambda self, columns, *rest: (seen.append(len(columns[0])), compute(self, columns, *rest))[1],
        )
        outcome = train(run)
    assert seen == [len(batch) for batch in run.batches.batches]
    assert outcome.steps == run.total_steps == math.ceil(len(run.batches.batches) / accumulated)
    if epochs == 2.0:
        assert sum(seen) == 2 * len(rows)
