"""Queries for documents that have none: a short span of each, to be found by the rest of it."""

from __future__ import annotations

import random
from collections.abc import Iterable

from nestvec.data.records import RetrievalRow

__all__ = ["span_rows"]

_WORDS, _CHARACTERS = 8, 12
_FEWEST_CHARACTERS = 4


def span_rows(texts: Iterable[str], *, seed: int = 0) -> dict[RetrievalRow, str]:
    """Cut a span of a few words out of each text, as a query whose answer is what is left of the text.

    Args:
        texts: Documents; those too short to leave anything are left out.
        seed: Of where the spans lie.

    Returns:
        A row, with the whole text, for each text that has two words or, where nothing is between them, characters
        enough: a span of eight words at most, or of twelve characters, and half of the text at most.

    Source:
        The inverse cloze task: Lee, Chang and Toutanova 2019, arXiv:1906.00300, who take whole sentences.

    Example:
        >>> span_rows(["one two"], seed=1)
        {RetrievalRow(query='one', positive='two', negatives=()): 'one two'}
    """
    generator = random.Random(seed)
    rows: dict[RetrievalRow, str] = {}
    for text in texts:
        words = text.split()
        between = " "
        longest = _WORDS
        if len(words) == 1 or len(text) > 4 * _CHARACTERS * len(words):  # written without spaces
            words, between, longest = list(" ".join(words)), "", _CHARACTERS
        length = min(longest, len(words) // 2)
        if length < (1 if between else _FEWEST_CHARACTERS):
            continue
        first = generator.randrange(len(words) - length + 1)
        query = between.join(words[first : first + length]).strip()
        rest = between.join(words[:first] + words[first + length :]).strip()
        if query and rest:
            rows.setdefault(RetrievalRow(query, rest), text)
    return rows
