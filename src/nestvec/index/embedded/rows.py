"""All documents of an index with their vectors, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nestvec.index.embedded.manifest import Manifest
from nestvec.index.embedded.state import load_state, snapshot
from nestvec.index.embedded.stored import ROWS_AT_A_TIME
from nestvec.index.results import Document

__all__ = ["DocumentRows"]

Float32s = NDArray[np.float32]


class DocumentRows:
    """All documents of an index with their vectors, in the order they were written, as of one commit."""

    def __init__(self, folder: Path) -> None:
        """Take a connection of its own, which is closed at the end.

        Args:
            folder: The index.
        """
        self._opened = ExitStack()
        manifest = Manifest(folder)
        self._opened.callback(manifest.close)
        self._state, self._view = self._opened.enter_context(snapshot(lambda: load_state(folder, manifest)))

    def __len__(self) -> int:
        """Documents."""
        return len(self._state)

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return self._state.settings.stored_dim

    def __iter__(self) -> Iterator[tuple[list[Document], Float32s]]:
        """Yield documents and their vectors, of unit length, block by block, once."""
        with self._opened:
            for segment, alive in self._state.parts():
                kept = np.arange(len(segment)) if alive is None else np.flatnonzero(alive)
                for first in range(0, len(kept), ROWS_AT_A_TIME):
                    rows = kept[first : first + ROWS_AT_A_TIME]
                    ids = segment.identities.ids(rows)
                    known = self._view.get(ids)
                    yield [known[id_] for id_ in ids], segment.second.decode(rows)
