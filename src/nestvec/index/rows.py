"""All documents of an index with their vectors, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nestvec.index.manifest import Document
from nestvec.index.stored import ROWS_AT_A_TIME

if TYPE_CHECKING:
    from nestvec.index.index import Index

__all__ = ["DocumentRows"]

Float32s = NDArray[np.float32]


class DocumentRows:
    """All documents of an index with their vectors, in the order they were written, as of one commit."""

    def __init__(self, index: Index) -> None:
        """Take a connection of its own, which is closed at the end."""
        self._index = index
        self._opened = ExitStack()
        self._opened.callback(index.close)
        self._state = self._opened.enter_context(index._snapshot())

    def __len__(self) -> int:
        """Documents."""
        return len(self._state)

    def __iter__(self) -> Iterator[tuple[list[Document], Float32s]]:
        """Yield documents and their vectors, of unit length, block by block, once."""
        with self._opened:
            for segment, alive in self._state.parts():
                kept = np.arange(len(segment)) if alive is None else np.flatnonzero(alive)
                for first in range(0, len(kept), ROWS_AT_A_TIME):
                    rows = kept[first : first + ROWS_AT_A_TIME]
                    ids = segment.identities.ids(rows)
                    known = self._index.read(ids)
                    yield [known[id_] for id_ in ids], segment.second.decode(rows)
