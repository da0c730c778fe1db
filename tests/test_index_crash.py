"""A process that ends while it changes an index loses nothing and leaves nothing. Run: pytest tests/test_index_crash.py (a minute)."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nestvec.index import CodeSettings, Index, faiss_threads
from nestvec.vectors import normalize

DIM = 16
INTERRUPTED = 130


def vector_of(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    generator = np.random.default_rng(list(name.encode()))
    return normalize(generator.normal(size=(1, DIM)).astype(np.float32))[0]


def draw_change(generator: random.Random, known: list[str], turn: int) -> dict[str, Any]:
    """A change: what is put, what is deleted, or neither for putting all files into one."""
    kind = generator.choices(["put", "delete", "compact"], [6, 3, 1])[0]
    if kind == "compact":
        return {"kind": kind, "names": []}
    if kind == "delete" and len(known) > 60:
        return {"kind": kind, "names": generator.sample(known, generator.choice([1, 5, 40]))}
    fresh = [f"n{turn}-{place}" for place in range(generator.choice([1, 8, 60]))]
    return {"kind": "put", "names": sorted({*fresh, *generator.sample(known, min(len(known), 3))})}


def apply(index: Index, change: dict[str, Any], turn: int) -> None:
    names = change["names"]
    if change["kind"] == "compact":
        index.compact()
    elif change["kind"] == "delete":
        index.delete(names)
    else:
        rows = np.stack([vector_of(f"{name} {turn}") for name in names])
        index.upsert(rows, names, [f"{name} {turn}" for name in names], [{"turn": turn}] * len(names))


def after(documents: dict[str, str], change: dict[str, Any], turn: int) -> dict[str, str]:
    if change["kind"] == "delete":
        return {name: text for name, text in documents.items() if name not in set(change["names"])}
    return {**documents, **{name: f"{name} {turn}" for name in change["names"]}}


def change_until_killed(path: Path, documents: dict[str, str], seed: int, turn: int, out: int) -> None:
    """Say what is to be changed, change it, say that it is done; on and on."""
    generator = random.Random(seed)
    index = Index.open(path)
    for step in range(1000):
        change = draw_change(generator, sorted(documents), turn + step)
        os.write(out, (json.dumps({"turn": turn + step, **change}) + "\n").encode())
        apply(index, change, turn + step)
        documents = after(documents, change, turn + step)
        os.write(out, b"done\n")


def held(index: Index) -> dict[str, str]:
    return {one.id: one.text or "" for documents, _ in index.rows() for one in documents}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(("ending", "times"), [(signal.SIGKILL, 200), (signal.SIGINT, 100)])
def test_however_often_a_change_is_ended_no_committed_document_is_lost_and_no_other_one_there(
    tmp_path: Path, ending: signal.Signals, times: int
) -> None:
    path = tmp_path / "index"
    names = [f"d{place}" for place in range(100)]
    documents = {name: f"{name} 0" for name in names}
    rows = np.stack([vector_of(text) for text in documents.values()])
    Index.build(
        path, vectors=rows, ids=names, texts=list(documents.values()), codes=CodeSettings(15), recall=None
    ).close()
    generator = random.Random(0)
    turn, interrupted, finished = 1, 0, 0
    with faiss_threads(1):  # a forked process has no threads but its own
        for kill in range(times):
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(reading)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                with contextlib.suppress(KeyboardInterrupt):
                    change_until_killed(path, documents, kill, turn, writing)
                    os._exit(1)
                os._exit(INTERRUPTED)
            os.close(writing)
            time.sleep(generator.uniform(0.005, 0.12))
            os.kill(child, ending)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status == (INTERRUPTED if ending == signal.SIGINT else -ending)
            with os.fdopen(reading, encoding="utf-8") as said:
                lines = [line for line in said.read().split("\n") if line]
            pending = None
            for line in lines:
                if line == "done":
                    assert pending is not None
                    documents, finished, pending = after(documents, pending, pending["turn"]), finished + 1, None
                else:
                    pending = json.loads(line)
                    turn = pending["turn"] + 1
            with Index.open(path) as index:
                assert index.verify() == []
                found = held(index)
                if pending is not None and found != documents:
                    # It was killed between the commit and saying so.
                    documents = after(documents, pending, pending["turn"])
                interrupted += pending is not None
                assert found == documents
                for block, vectors in index.rows():
                    expected = np.stack([vector_of(one.text or "") for one in block])
                    np.testing.assert_allclose(vectors, expected, atol=1e-3)
                some = generator.sample(sorted(documents), 5)
                hits = index.search(
                    np.stack([vector_of(documents[name]) for name in some]), k=1, shortlist=len(documents) - 1
                )
                assert hits.ids == [[name] for name in some]
    assert interrupted > times / 2
    assert finished > times / 2
    with Index.open(path) as index:
        index.compact()
        index.delete([])  # a writer clears what killed ones have left
        assert len(list((path / "segments").iterdir())) == 3
        assert len([file for file in path.iterdir() if file.suffix in (".codec", ".first", ".second")]) <= 3
        assert held(index) == documents
