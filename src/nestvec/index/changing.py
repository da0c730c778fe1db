"""A change to an index: all of it is committed, or nothing is left of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nestvec.index.building import SEGMENTS, remove_old_codecs
from nestvec.index.manifest import Manifest, SegmentRecord, Writing
from nestvec.index.segments import Segment, join_segments, remove_segment, remove_unnamed
from nestvec.index.state import Mask, State, alive_rows
from nestvec.index.stored import Stored

__all__ = ["Change", "changing"]

_MERGED_AT_MOST = 250_000  # rows of segments that adding puts together
_MERGED_SHARE = 4  # how many times as large a segment may be as what joins it


class Change:
    """A change that is being made."""

    def __init__(self, manifest: Manifest, writing: Writing, state: State) -> None:
        """Begin, in a transaction of the manifest."""
        self.manifest = manifest
        self.writing = writing
        self.state = state
        self.added: list[str] = []
        self.dropped: list[str] = []

    def add(self, record: SegmentRecord) -> None:
        """Put a segment in, whose files are written."""
        self.added.append(record.name)
        self.writing.put_segment(record)

    def drop(self, segment: Segment, kept: Mask | None) -> None:
        """Take a segment out, whose kept rows go into another."""
        self.writing.drop_segments([segment.record.name])
        self.dropped.append(segment.record.name)
        if kept is not None:
            self.writing.forget_deleted(segment.identities.numbers[~kept])

    def take_small_segments(
        self, count: int, deleted: Iterable[int]
    ) -> tuple[Iterable[tuple[int, str]], Iterable[Stored]]:
        """Take out the segments that are no longer worth files of their own, beside so many new rows."""
        gone, parts, rows = np.fromiter(deleted, np.int64), [], count
        for segment, alive in sorted(self.state.parts(), key=lambda one: len(one[0])):
            if len(segment) > _MERGED_SHARE * rows or rows + len(segment) > _MERGED_AT_MOST:
                break
            kept = alive_rows(segment, gone)
            kept = kept if alive is None else alive if kept is None else kept & alive
            self.drop(segment, kept)
            rows += len(segment)
            parts.append((segment, kept))
        return join_segments(parts) if parts else ((), ())


@contextmanager
def changing(folder: Path, current: Callable[[], State]) -> Iterator[Change]:
    """Be the one that changes an index: all that is done within is committed at the end, or none of it.

    Args:
        folder: The index.
        current: Returns its state as of the last commit.

    Yields:
        The change.

    Raises:
        IndexBusyError: Another process is changing it.
        StorageError: The disk is full, or the folder cannot be written.
    """
    manifest, segments, change = Manifest(folder, writable=True), folder / SEGMENTS, None
    try:
        with manifest.writing() as writing:
            remove_unnamed(segments, manifest.segments())
            remove_old_codecs(folder, manifest.setting("codec")["name"])
            change = Change(manifest, writing, current())
            yield change
    except BaseException:
        # What was interrupted may have been committed: what the manifest names stays.
        named = {record.name for record in manifest.segments()}
        for name in change.added if change is not None else ():
            if name not in named:
                remove_segment(segments, name)
        raise
    else:
        for name in change.dropped:
            remove_segment(segments, name)
    finally:
        manifest.close()
