"""Vectors without a direction: which text they are of is said, and they are never kept."""

from __future__ import annotations

from collections.abc import Sequence

from nestvec.encoders.protocol import Float32Vectors
from nestvec.errors import EndpointError, ModelError
from nestvec.vectors import find_unusable

__all__ = ["refuse_unusable", "shorten"]

_CHARACTERS = 80


def refuse_unusable(
    vectors: Float32Vectors, texts: Sequence[str], error: type[ModelError | EndpointError], who: str, advice: str
) -> None:
    """Refuse vectors that are zero or not finite.

    Args:
        vectors: [n, dim], as an encoder gave them.
        texts: What they are of.
        error: What to raise; it keeps the first such text as `text`.
        who: What gave them.
        advice: What to do about it.

    Raises:
        ModelError: Some are, and a model gave them.
        EndpointError: Some are, and an endpoint gave them.
    """
    for what, rows in find_unusable(vectors).items():
        if len(rows):
            row = int(rows[0])
            text = texts[row]
            more = f", and for {len(rows) - 1:,} more" if len(rows) > 1 else ""
            kind = "a vector of zeros" if what == "zero" else "a vector that is not finite"
            found = error(f"{who} gives {kind} for the text {shorten(text)!r}{more}. {advice}")
            found.text = text
            raise found


def shorten(text: str) -> str:
    """Return the beginning of a text on one line, to name it by."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _CHARACTERS else f"{flat[: _CHARACTERS - 3]}..."
