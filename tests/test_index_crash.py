"""A process that ends while it changes an index loses nothing and leaves nothing. Run: pytest tests/test_index_crash.py (a minute)."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from index_changes import INTERRUPTED, after, change_until_ended, vector_of
from nestvec.index import CodeSettings, Index


def held(index: Index) -> dict[str, str]:
    return {one.id: one.text or "" for documents, _ in index.rows() for one in documents}


@pytest.mark.parametrize(("ending", "times"), [(signal.SIGKILL, 200), (signal.SIGINT, 100)])
def test_however_often_a_change_is_ended_no_committed_document_is_lost_and_no_other_one_there(
    tmp_path: Path, ending: signal.Signals, times: int
) -> None:
    path, said = tmp_path / "index", tmp_path / "said"
    names = [f"d{place}" for place in range(100)]
    documents = {name: f"{name} 0" for name in names}
    rows = np.stack([vector_of(text) for text in documents.values()])
    Index.build(
        path,
        vectors=rows,
        ids=names,
        texts=list(documents.values()),
        codes=CodeSettings(rows.shape[1], "pq3"),
        recall=None,
    ).close()
    generator = random.Random(0)
    turn, interrupted, finished, longest = 1, 0, 0, 0.12
    # Forked from a process without threads, and without what swallows an interrupt: hypothesis counts in a callback of
    # garbage collection, numpy.random is imported at its first use.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nestvec.index", "numpy.random"])
    for kill in range(times):
        said.touch()
        child = context.Process(target=change_until_ended, args=(path, documents, kill, turn, said))
        child.start()
        while not said.stat().st_size:
            assert child.exitcode is None
            time.sleep(0.001)
        longest *= 1.2 if finished < kill else 1  # where the machine is busy a change takes longer
        time.sleep(generator.uniform(0, longest))
        assert child.pid is not None
        os.kill(child.pid, ending)
        child.join()
        assert child.exitcode == (INTERRUPTED if ending == signal.SIGINT else -ending)
        pending = None
        for line in said.read_text(encoding="utf-8").splitlines():
            if line == "done":
                assert pending is not None
                documents, finished, pending = after(documents, pending, pending["turn"]), finished + 1, None
            else:
                pending = json.loads(line)
                turn = pending["turn"] + 1
        said.unlink()
        with Index.open(path) as index:
            assert index.verify() == []
            found = held(index)
            if pending is not None and found != documents:
                # It was ended between the commit and saying so.
                documents = after(documents, pending, pending["turn"])
            interrupted += pending is not None
            assert found == documents
            for block, vectors in index.rows():
                expected = np.stack([vector_of(one.text or "") for one in block])
                np.testing.assert_allclose(vectors, expected, atol=1e-3)
            some = generator.sample(sorted(documents), 5)
            hits = index.search(
                np.stack([vector_of(documents[name]) for name in some]),
                k=1,
                settings=index.search_with(shortlist=len(documents) - 1),
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
