"""Rows as columns of equal length. Run: pytest tests/test_training_columns.py (a second)."""

from __future__ import annotations

import pytest

from nestvec.data import RetrievalRow
from nestvec.errors import DataError
from nestvec.training.columns import fingerprint, to_columns

ROWS = [RetrievalRow("q1", "p1", ("n1", "m1")), RetrievalRow("q2", "p2", ("n2",)), RetrievalRow("q3", "p3")]


def test_missing_negatives_are_documents_of_other_rows() -> None:
    columns = to_columns(ROWS, negatives=2, seed=0)
    assert list(columns) == ["query", "positive", "negative_1", "negative_2"]
    assert columns["negative_1"][:2] == ["n1", "n2"]
    for number, row in enumerate(ROWS):
        for negative in (columns["negative_1"][number], columns["negative_2"][number]):
            assert negative != row.positive
            assert negative in {*row.negatives, "p1", "p2", "p3"}


def test_negatives_are_used_where_there_are_any_unless_the_recipe_says_how_many() -> None:
    assert list(to_columns(ROWS, negatives=None, seed=0)) == ["query", "positive", "negative_1"]
    assert list(to_columns([ROWS[2], ROWS[2]._replace(query="q")], negatives=None, seed=0)) == ["query", "positive"]


def test_the_seed_decides_the_draw() -> None:
    rows = [RetrievalRow(f"q{i}", f"p{i}", ("n",) if i == 0 else ()) for i in range(50)]
    one, same, other = (to_columns(rows, negatives=1, seed=seed) for seed in (1, 1, 2))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


def test_a_fingerprint_tells_where_one_text_ends() -> None:
    assert fingerprint({"query": ["ab", "c"]}) != fingerprint({"query": ["a", "bc"]})


def test_rows_that_do_not_suffice_are_refused() -> None:
    with pytest.raises(DataError, match="need at least 2"):
        to_columns(ROWS[:1], negatives=0, seed=0)
    with pytest.raises(DataError, match=r"Set training.negatives = 0"):
        to_columns([ROWS[2], ROWS[2]], negatives=1, seed=0)
    same = [RetrievalRow("q1", "p", ("n",)), RetrievalRow("q2", "p")]
    with pytest.raises(DataError, match="nothing to tell apart"):
        to_columns(same, negatives=1, seed=0)
