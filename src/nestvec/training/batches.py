"""Which rows learn together: batches in which no text stands twice, and none of which has nothing to compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DataError

__all__ = ["BatchPlan", "plan_batches"]

Rows = NDArray[np.int64]

_OFFERED = 50  # batches that a row which is alone may take another row from


class BatchPlan(NamedTuple):
    """The batches of a whole run, in order, and what they leave out."""

    batches: list[Rows]
    """Rows of each."""
    skipped: int
    """Rows of an epoch, the worst one, that would be alone in their batch, where there is nothing to learn."""


def plan_batches(
    columns: Mapping[str, Sequence[str]], *, batch_size: int, epochs: float, limit: int | None, seed: int
) -> BatchPlan:
    """Lay out the batches of a run before it begins.

    A batch holds no text twice, on whichever side: a second copy of a positive would count as a negative. Rows that
    share a text with many others so fill more and smaller batches. Of one row alone nothing is learned unless it has
    negatives of its own: it gets a row of another batch, and where none will do it is left out.

    Args:
        columns: Texts by column, as `to_columns` gives them.
        batch_size: Rows of a batch at most.
        epochs: Passes over the rows; a part of the last one is a part of its batches.
        limit: Batches of the run at most; None for no limit.
        seed: Of the order of each epoch.

    Returns:
        The batches.

    Raises:
        DataError: Every row would be alone, such as where all have the same query.

    Example:
        >>> columns = {"query": ["a", "b", "c"], "positive": ["x", "y", "z"]}
        >>> sorted(plan_batches(columns, batch_size=3, epochs=1.0, limit=None, seed=0).batches[0].tolist())
        [0, 1, 2]
    """
    numbers = {
        text: number for number, text in enumerate(dict.fromkeys(t for column in columns.values() for t in column))
    }
    texts = np.array([[numbers[text] for text in column] for column in columns.values()]).T  # [n_rows, n_columns]
    smallest = 1 if len(columns) > 2 else 2
    batches: list[Rows] = []
    skipped = 0
    whole, part = int(epochs), epochs - int(epochs)
    for epoch in range(whole + (part > 0)):
        generator = np.random.default_rng([seed, epoch])
        found = list(_fill(texts, generator.permutation(len(texts)), batch_size))
        if smallest > 1:
            _join_single_rows(found, texts, batch_size)
        kept = [batch for batch in found if len(batch) >= smallest]
        skipped = max(skipped, sum(map(len, found)) - sum(map(len, kept)))
        if not kept:
            raise DataError(
                f"No two of the {len(texts):,} training rows differ in all their texts, so that there is nothing to "
                "tell apart in any batch. Read rows with other queries and positives, or give them negatives."
            )
        kept = [kept[place] for place in generator.permutation(len(kept))]  # small ones are not all at the end
        if epoch == whole:
            kept = kept[: max(1, round(part * len(kept)))]
        batches += [np.array(batch, np.int64) for batch in kept]
        if limit is not None and len(batches) >= limit:
            return BatchPlan(batches[:limit], skipped)
    return BatchPlan(batches, skipped)


def _fill(texts: Rows, order: Rows, batch_size: int) -> Iterator[list[int]]:
    """Put each row into the first batch with room that comes after those with a text of it."""
    batches: list[list[int]] = []
    next_of_text = np.zeros(int(texts.max()) + 1, np.int64)  # the first batch that is sure not to have it
    first_open = 0
    for row in order:
        own = texts[row]
        place = max(first_open, int(next_of_text[own].max()))
        while place < len(batches) and len(batches[place]) >= batch_size:
            place += 1
        if place == len(batches):
            batches.append([])
        batches[place].append(int(row))
        next_of_text[own] = place + 1
        while first_open < len(batches) and len(batches[first_open]) >= batch_size:
            first_open += 1
    yield from batches


def _join_single_rows(batches: list[list[int]], texts: Rows, batch_size: int) -> None:
    """Put a row that is alone into a batch that has room and no text of it, or give it a row of a larger one."""
    open_ones = [batch for batch in batches if len(batch) < batch_size]
    donors = [batch for batch in batches if len(batch) > 2]
    for single in batches:
        if len(single) != 1:
            continue
        own = set(texts[single[0]].tolist())
        for batch in open_ones[-_OFFERED:]:
            if (
                batch
                and batch is not single
                and len(batch) < batch_size
                and own.isdisjoint(texts[batch].ravel().tolist())
            ):
                batch.append(single.pop())
                break
        for donor in donors[-_OFFERED:] if single else ():
            place = next((i for i, row in enumerate(donor) if own.isdisjoint(texts[row].tolist())), None)
            if place is not None and len(donor) > 2:
                single.append(donor.pop(place))
                break
