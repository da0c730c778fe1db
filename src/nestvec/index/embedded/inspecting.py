"""What an index holds and costs, and whether it is what was written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nestvec.errors import DamagedIndexError
from nestvec.index.embedded.manifest import Manifest
from nestvec.index.embedded.segments import FILES, SEGMENTS, file_problems, segment_problems
from nestvec.index.embedded.state import State
from nestvec.index.embedded.view import View
from nestvec.index.embedded.writing import listed

__all__ = ["Statistics", "find_damage", "find_problems", "measure_state"]


class Statistics(NamedTuple):
    """What an index holds, and what it costs."""

    documents: int
    deleted: int
    """Documents that are gone and whose vectors still take space, until the index is compacted."""
    segments: int
    full_dim: int
    resident_bytes: int
    """What a search keeps in memory: codes, what makes them, and which documents are deleted."""
    resident_bytes_per_vector: float
    disk_bytes: int
    """All files."""
    disk_bytes_per_vector: float
    vector_bytes_per_vector: float
    """Of these, the files of vectors, without texts and metadata."""


def measure_state(folder: Path, state: State) -> Statistics:
    """Return what an index holds, and what it costs.

    Args:
        folder: The index.
        state: As of a commit.
    """
    count = len(state)
    sizes = {end: sum(one.record.files[end][0] for one in state.segments) for end in FILES}
    masks = sum(0 if alive is None else len(alive) for alive in state.alive)
    disk = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # what a writer has just put into another file
            if path.is_file():
                disk += path.stat().st_size
    # Segments hold what turned vectors into their codes, and the codec, for what will be added, the same once more.
    second = 0 if state.codec.alone else sum(array.nbytes for array in state.codec.second.arrays().values())
    copied = second + state.codec.first.table_bytes + sum(one.first.copied_bytes for one in state.segments)
    resident, per = sizes["codes"] + masks + copied, max(1, count)
    return Statistics(
        documents=count,
        deleted=sum(len(one) for one in state.segments) - count,
        segments=len(state.segments),
        full_dim=state.settings.full_dim,
        resident_bytes=resident,
        resident_bytes_per_vector=round(resident / per, 2),
        disk_bytes=disk,
        disk_bytes_per_vector=round(disk / per, 2),
        vector_bytes_per_vector=round((sizes["codes"] + sizes["vectors"]) / per, 2),
    )


def find_damage(folder: Path) -> list[str]:
    """Compare every file with what was written, of an index that is too damaged to be opened.

    Args:
        folder: The index.

    Returns:
        What is wrong, a sentence each; empty where files are as they were written.

    Raises:
        SearchIndexError: There is no index, or it is of another format.
    """
    found: list[str] = []
    with _noted(found), contextlib.closing(Manifest(folder)) as manifest, manifest.reading() as view:
        with _noted(found):
            found += view.problems()
        for setting in ("settings", "search"):
            with _noted(found):
                view.needed(setting)
        with _noted(found):
            found += file_problems(folder, view.needed("codec")["files"])
        with _noted(found):
            for record in view.segments():
                found += segment_problems(folder / SEGMENTS, record)
    return found


@contextlib.contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except DamagedIndexError as error:
        problems.append(str(error))


def find_problems(folder: Path, view: View, state: State) -> list[str]:
    """Compare every file with what was written, and the documents with their vectors.

    Args:
        folder: The index.
        view: What its manifest says, as of the same commit.
        state: As of the last commit.

    Returns:
        What is wrong, a sentence each; empty where all is well.
    """
    problems = view.problems() + file_problems(folder, view.needed("codec")["files"])
    known = dict(view.numbers_and_ids())
    for segment, alive in state.parts():
        damaged = segment_problems(folder / SEGMENTS, segment.record)
        problems += damaged
        rows = np.arange(len(segment)) if alive is None else np.flatnonzero(alive)
        numbers = segment.identities.numbers[rows].tolist()
        if damaged:  # what it says of its documents is no better
            for number in numbers:
                known.pop(number, None)
            continue
        wrong = [
            id_
            for number, id_ in zip(numbers, segment.identities.ids(rows), strict=True)
            if known.pop(number, None) != id_
        ]
        if wrong:
            problems.append(f"Documents of segment {segment.record.name} that the manifest lacks: {listed(wrong)}.")
    if known:
        problems.append(f"Documents without vectors: {listed(list(known.values()))}.")
    return problems
