"""Training rows as the columns that the trainer reads."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from nestvec.data.records import RetrievalRow
from nestvec.errors import DataError

__all__ = ["fingerprint", "to_columns"]


def to_columns(rows: Sequence[RetrievalRow], *, negatives: int | None, seed: int) -> dict[str, list[str]]:
    """Lay rows out as columns: `query`, `positive`, `negative_1`, `negative_2`, ...

    Every row of a batch needs as many negatives as every other. A row that has too few gets documents of other
    rows, drawn with `seed`: they are as easy as the in-batch negatives that InfoNCE has anyway.

    Args:
        rows: Queries with their positive and negatives.
        negatives: Negatives a row; 0 leaves them out, None takes 1 if any row has one.
        seed: Seed of the draw.

    Returns:
        Texts by column name, one entry a row in each.

    Raises:
        DataError: There are fewer than two rows, or negatives are wanted and no row has any.

    Example:
        >>> rows = [RetrievalRow("a?", "a", ("b",)), RetrievalRow("c?", "c", ("d",))]
        >>> to_columns(rows, negatives=1, seed=0)
        {'query': ['a?', 'c?'], 'positive': ['a', 'c'], 'negative_1': ['b', 'd']}
    """
    if len(rows) < 2:
        raise DataError(f"There are {len(rows)} training rows; in-batch negatives need at least 2. Read more rows.")
    has_negatives = any(row.negatives for row in rows)
    if negatives is None:
        negatives = int(has_negatives)
    if negatives and not has_negatives:
        raise DataError(f"training.negatives is {negatives}, but no row has a negative. Set training.negatives = 0.")
    generator = random.Random(seed)
    columns: dict[str, list[str]] = {
        "query": [row.query for row in rows],
        "positive": [row.positive for row in rows],
    }
    for number in range(negatives):
        columns[f"negative_{number + 1}"] = [
            row.negatives[number] if number < len(row.negatives) else _other_positive(rows, row, generator)
            for row in rows
        ]
    return columns


def fingerprint(columns: dict[str, list[str]]) -> str:
    """Return a hash of the texts, to tell whether a resumed run sees the same data.

    Args:
        columns: As `to_columns` gives them.

    Returns:
        A SHA-256 as hex digits.
    """
    digest = hashlib.sha256()
    for name, texts in columns.items():
        for text in (name, *texts):
            encoded = text.encode("utf-8", errors="surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little"))
            digest.update(encoded)
    return digest.hexdigest()


def _other_positive(rows: Sequence[RetrievalRow], row: RetrievalRow, generator: random.Random) -> str:
    for _ in range(100):
        drawn = rows[generator.randrange(len(rows))].positive
        if drawn != row.positive:
            return drawn
    raise DataError(f"Nearly every row has the same positive, {row.positive[:40]!r}: there is nothing to tell apart.")
