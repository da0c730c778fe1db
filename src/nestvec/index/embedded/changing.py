"""Changes to an index: all of one is committed, or nothing is left of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.errors import SearchIndexError
from nestvec.index.embedded.codec import remove_old_codecs, save_codec
from nestvec.index.embedded.documents import check_batch, unit_vectors
from nestvec.index.embedded.first_stage import FirstStage
from nestvec.index.embedded.manifest import Manifest
from nestvec.index.embedded.segments import (
    SEGMENTS,
    Codec,
    Segment,
    draw_vectors,
    join_segments,
    remove_segment,
    remove_unnamed,
    write_segment,
)
from nestvec.index.embedded.state import Mask, State, alive_rows
from nestvec.index.embedded.stored import Stored, encode
from nestvec.index.embedded.tuning_target import search_of
from nestvec.index.embedded.view import SegmentRecord
from nestvec.index.embedded.writing import Writing
from nestvec.index.protocol import Batch
from nestvec.index.settings import CodeSettings, lists_of_plan, rows_to_train
from nestvec.progress import Advance, Progress
from nestvec.quantization import fit_quantizer
from nestvec.vectors import check_dims, truncate

__all__ = ["Change", "changing", "compact_segments", "delete_documents", "put_documents"]

_MERGED_AT_MOST = 250_000  # rows of segments that adding puts together
_MERGED_SHARE = 4  # how many times as large a segment may be as what joins it


class Change:
    """A change that is being made."""

    def __init__(self, folder: Path, writing: Writing, state: State) -> None:
        """Begin, in a transaction of the manifest."""
        self.folder = folder
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
        """Take out the last segments that are no longer worth files of their own, beside so many new rows.

        Those before a larger one stay: segments are searched in the order that their documents were written in.
        """
        gone, parts, rows = np.fromiter(deleted, np.int64), [], count
        for segment, alive in reversed(self.state.parts()):
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
            remove_unnamed(segments, writing.segments())
            remove_old_codecs(folder, writing.needed("codec")["name"])
            change = Change(folder, writing, current())
            yield change
    except BaseException:
        # What was interrupted may have been committed: what the manifest names stays.
        with manifest.reading() as view:
            named = {record.name for record in view.segments()}
        for name in change.added if change is not None else ():
            if name not in named:
                remove_segment(segments, name)
        raise
    else:
        for name in change.dropped:
            remove_segment(segments, name)
    finally:
        manifest.close()


def put_documents(change: Change, batch: Batch, *, replacing: bool) -> int:
    """Add documents, in place of those that have their ids where they may; see `Index.upsert`.

    Returns:
        How many were replaced.
    """
    settings = change.state.settings
    documents = check_batch(batch, settings.full_dim)
    replaced = change.writing.find(batch.ids) if replacing else {}
    change.writing.remove(replaced.values())
    numbers = change.writing.add(documents)
    if not len(numbers):
        return 0
    new = encode(change.state.codec.second, unit_vectors(batch.vectors, settings))
    old_documents, old_blocks = change.take_small_segments(len(numbers), replaced.values())
    change.add(
        write_segment(
            change.folder / SEGMENTS,
            change.state.codec,
            itertools.chain(old_documents, zip(numbers.tolist(), batch.ids, strict=True)),
            itertools.chain(old_blocks, [new]),
        )
    )
    return len(replaced)


def delete_documents(change: Change, ids: Sequence[str]) -> int:
    """Delete those documents that there are, and return how many that is; see `Index.delete`."""
    found = change.writing.find(list(dict.fromkeys(ids)))
    change.writing.remove(found.values())
    return len(found)


def compact_segments(change: Change, dim: int | None, progress: Progress) -> dict[str, Any] | None:
    """Put all segments into one whose codes are fitted anew; see `Index.compact`.

    Returns:
        What the search was tuned for, which was measured with the codes before; None where it was not tuned, or there
        are too few documents left to tune it on.
    """
    state = change.state
    check_dims([state.settings.stored_dim if dim is None else dim], state.settings.stored_dim)
    parts = state.parts()
    for segment, alive in parts:
        change.drop(segment, alive)
    change.writing.recount_fields()
    if not len(state):
        if dim is not None and dim < state.settings.stored_dim:
            raise SearchIndexError("There are no documents to fit fewer dimensions to. Build the index anew.")
        return None
    documents, blocks = join_segments(parts)
    settings, codec, plan = state.settings, state.codec, change.writing.setting("plan")
    if dim is not None and dim < settings.stored_dim:
        sample = truncate(draw_vectors(parts, settings.most_to_train()), dim)
        settings = settings.cut(dim, len(state))
        first = FirstStage.train(sample, settings.codes_for(len(state)), score_aware=not settings.alone)
        before = codec.second
        codec = Codec(first, first.quantizer if settings.alone else fit_quantizer(sample, settings.precision))
        blocks = (encode(codec.second, truncate(before.decode(block.codes), dim)) for block in blocks)
    elif settings.learns_from_documents and len(state) >= settings.codes_for(len(state)).fewest_to_train:
        codes = _codes_anew(state, plan)
        settings = settings if settings.codes is None else settings._replace(codes=codes)
        sample = draw_vectors(parts, rows_to_train(settings.full_dim, codes.lists))
        codec = Codec(FirstStage.train(sample, codes), codec.second)
    elif plan is not None and plan["lists_open"]:
        # Too few documents, or codes are of others, or all there is: what was learned stays, in other IVF lists.
        codes = _in_lists(codec.first.settings, plan, len(state))
        wanted = 0 if codes.lists is None else rows_to_train(settings.full_dim, codes.lists)
        learned = draw_vectors(parts, wanted) if wanted else None
        codec = Codec(FirstStage.of(codec.first.quantizer, codes, learned), codec.second)
        settings = settings._replace(codes=codes)
    codec = Codec(codec.first.empty(), codec.first.quantizer if settings.alone else codec.second)
    save_codec(change.folder, codec, change.writing)
    change.writing.set("settings", settings)
    search = state.search.within(settings.stored_dim)
    tuned: dict[str, Any] | None = change.writing.setting("tuned")
    if tuned is not None:
        # What was measured with other codes holds no longer: until it is tuned again, a search leaves nothing out.
        tuned = {**tuned, "stale": True}
        search = replace(search, margin=None, probe_ratio=None)
        if "plan" in tuned:
            search = replace(search_of(tuned["plan"], codec.first.settings.lists), dim=search.dim)
    change.writing.set("search", search.kept())
    change.writing.set("tuned", tuned)
    with progress("storing", len(state)) as advance:
        change.add(write_segment(change.folder / SEGMENTS, codec, documents, _counted(blocks, advance)))
    return None if tuned is None or len(state) <= tuned["k"] + 1 else tuned


def _codes_anew(state: State, plan: Mapping[str, Any] | None) -> CodeSettings:
    """The first stage for as many documents as there are now; of a length that tuning chose, or with a plan's lists."""
    before, settings = state.codec.first.settings, state.settings
    if before in settings.longer_codes(len(state)):
        return before
    codes = settings.codes_for(len(state))
    return _in_lists(codes, plan, len(state)) if plan is not None and plan["lists_open"] else codes


def _in_lists(codes: CodeSettings, plan: Mapping[str, Any], count: int) -> CodeSettings:
    """Codes in as many IVF lists as suit so many documents, where a plan does not say how many."""
    return codes._replace(lists=lists_of_plan(codes._replace(lists=plan["lists"]), count))


def _counted(blocks: Iterable[Stored], advance: Advance) -> Iterator[Stored]:
    for block in blocks:
        yield block
        advance(len(block.lengths))
