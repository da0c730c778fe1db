"""Changes of an index, drawn at random and made by a process that is to be ended in the midst of one.

It stands apart from its test for the processes that make the changes, which import no more than this needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.index import Index
from nestvec.vectors import normalize

DIM = 16
INTERRUPTED = 130


def vector_of(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the vector of a text, always the same, [DIM]."""
    generator = np.random.default_rng(list(name.encode()))
    return normalize(generator.normal(size=(1, DIM)).astype(np.float32))[0]


def draw_change(generator: random.Random, known: list[str], turn: int) -> dict[str, Any]:
    """Draw a change: what is put, what is deleted, or neither for putting all files into one."""
    kind = generator.choices(["put", "delete", "compact"], [6, 3, 1])[0]
    if kind == "compact":
        return {"kind": kind, "names": []}
    if kind == "delete" and len(known) > 60:
        return {"kind": kind, "names": generator.sample(known, generator.choice([1, 5, 40]))}
    fresh = [f"n{turn}-{place}" for place in range(generator.choice([1, 8, 60]))]
    return {"kind": "put", "names": sorted({*fresh, *generator.sample(known, min(len(known), 3))})}


def apply(index: Index, change: dict[str, Any], turn: int) -> None:
    """Make a change; the documents that it puts say in which turn they were put."""
    names = change["names"]
    if change["kind"] == "compact":
        index.compact()
    elif change["kind"] == "delete":
        index.delete(names)
    else:
        rows = np.stack([vector_of(f"{name} {turn}") for name in names])
        index.upsert(rows, names, [f"{name} {turn}" for name in names], [{"turn": turn}] * len(names))


def after(documents: dict[str, str], change: dict[str, Any], turn: int) -> dict[str, str]:
    """Return the texts by id that an index holds after a change."""
    if change["kind"] == "delete":
        return {name: text for name, text in documents.items() if name not in set(change["names"])}
    return {**documents, **{name: f"{name} {turn}" for name in change["names"]}}


def change_until_ended(path: Path, documents: dict[str, str], seed: int, turn: int, said: Path) -> None:
    """Write what is to be changed, change it, write that it is done; on and on, in a process of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        generator = random.Random(seed)
        index = Index.open(path)
        for step in range(turn, turn + 1000):
            change = draw_change(generator, sorted(documents), step)
            os.write(out, (json.dumps({"turn": step, **change}) + "\n").encode())
            apply(index, change, step)
            documents = after(documents, change, step)
            os.write(out, b"done\n")
        sys.exit("it was never ended")
    sys.exit(INTERRUPTED)
