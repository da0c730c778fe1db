"""One open index serves many threads while others write. Run: pytest tests/test_index_threads.py (half a minute)."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nestvec.index import Index
from nestvec.index.embedded import tuning_target
from nestvec.index.embedded.connections import ConnectionPool
from nestvec.index.embedded.state import snapshot
from nestvec.index.embedded.view import View

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import index_soak  # a benchmark, of which this is the short form


@pytest.mark.parametrize("lists", [None, 8])
def test_threads_get_right_answers_while_a_process_writes_and_compacts(tmp_path: Path, lists: int | None) -> None:
    found = index_soak.soak(tmp_path / "i", threads=16, lists=lists, searches=60)
    assert found["problems"] == []
    assert found["changes"] > 1
    assert sum(found["searches"].values()) == 16 * 60


def test_a_wrong_answer_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_soak.build(tmp_path / "i", None)
    plain = View.at

    def exchanged(self: View, numbers: list[int]) -> Any:
        found = plain(self, numbers)
        return dict(zip(found, list(found.values())[::-1], strict=True))

    monkeypatch.setattr(View, "at", exchanged)
    assert index_soak.read(tmp_path / "i", 1, None, 40)["problems"]


def test_no_search_waits_for_a_filter_or_for_bm25(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_soak.build(tmp_path / "i", None)
    index = Index.open(tmp_path / "i")
    query = index_soak.vector_of("l3", 0)
    index.encoder = index_soak.Reader(index, 0)
    for name in ("matching", "best_by_words"):
        inside, go_on = threading.Event(), threading.Event()
        plain = getattr(View, name)

        def waiting(self: View, *given: Any, plain: Any = plain, inside: Any = inside, go_on: Any = go_on) -> Any:
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                assert go_on.wait(60)
            return plain(self, *given)

        monkeypatch.setattr(View, name, waiting)
        found: list[Any] = []
        slow = threading.Thread(
            target=lambda found=found: found.append(
                index.search(index_soak.text_of("l3", 0), filter="version >= 0", hybrid=True).ids[0][0]
            )
        )
        slow.start()
        assert inside.wait(60)
        assert index.search(query).ids[0][0] == "l3"
        assert index.search(query, filter="even = true").hits[0][0].text == "l3 version 0 word0"
        assert index.explain(index_soak.text_of("l3", 0), hybrid=True).hits[0].id == "l3"
        assert index.upsert(**index_soak.documents(["c1"], 1)) == 1
        assert index.get(["c1"])["c1"].text == "c1 version 1 word1"
        go_on.set()
        slow.join()
        assert found == ["l3"]
    index.close()


def test_threads_that_write_at_once_take_turns(tmp_path: Path) -> None:
    index_soak.build(tmp_path / "i", None)
    index = Index.open(tmp_path / "i")
    failed: list[Exception] = []

    def write(thread: int) -> None:
        try:
            for turn in range(5):
                index.add(np.ones((1, index_soak.DIM), np.float32), [f"new{thread}-{turn}"])
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
    assert len(index) == index_soak.CHANGING + index_soak.LASTING + 30
    assert index.verify() == []


def test_an_index_that_is_gone_is_still_read_by_more_threads_than_have_read_it(tmp_path: Path) -> None:
    index_soak.build(tmp_path / "i", None)
    pool = ConnectionPool(
        tmp_path / "i" / "manifest.sqlite", (tmp_path / "i" / "manifest.sqlite").stat().st_ino, writable=False
    )
    (tmp_path / "i" / "manifest.sqlite").rename(tmp_path / "away")
    counts: list[int] = []

    def count() -> None:
        for _ in range(20):
            with pool.taken() as connection:
                counts.append(connection.execute("SELECT count(*) FROM documents").fetchone()[0])

    threads = [threading.Thread(target=count) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert counts == [index_soak.CHANGING + index_soak.LASTING] * 80
    pool.close()


VECTORS = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
IDS = [f"a{place}" for place in range(60)]


def build_anew(folder: Path, odd: str = "de") -> None:
    """An index half of whose documents are German."""
    languages = [{"de": "en", "en": "de"}[odd], odd]
    metadata = [{"lang": languages[place % 2]} for place in range(60)]
    Index.build(
        folder, vectors=VECTORS, ids=IDS, texts=IDS, metadata=metadata, recall=None, overwrite=folder.exists()
    ).close()


def test_a_filter_answers_for_the_commit_that_is_searched(tmp_path: Path) -> None:
    build_anew(tmp_path / "i")
    index = Index.open(tmp_path / "i")
    with snapshot(index._current) as (state, view):
        index.upsert(VECTORS[1:2], ["a1"], ["a1"], [{"lang": "de"}])
        index.search(VECTORS[:1], filter='lang = "de"')  # kept, as of the later commit
        _, masks = index._matching(state, view, 'lang = "de"')
        assert sum(int(mask.sum()) for mask in masks if mask is not None) == 30
    assert len(index.search(VECTORS[0], k=60, filter='lang = "de"').ids[0]) == 30


def test_a_filter_that_was_asked_of_an_index_before_it_was_built_anew_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_anew(tmp_path / "i")
    index = Index.open(tmp_path / "i")
    plain, inside, go_on = View.matching, threading.Event(), threading.Event()

    def waiting(self: View, *given: Any) -> Any:
        found = plain(self, *given)
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            assert go_on.wait(60)
        return found

    monkeypatch.setattr(View, "matching", waiting)
    slow = threading.Thread(target=lambda: index.search(VECTORS[0], filter='lang = "de"'))
    slow.start()
    assert inside.wait(60)
    before = index.search(VECTORS[0], k=3)
    build_anew(tmp_path / "i", odd="en")
    time.sleep(0.1)  # until it is looked whether another index has its place
    assert len(index) == 60
    go_on.set()
    slow.join()
    found = index.search(VECTORS[0], k=60, filter='lang = "de"').hits[0]
    assert {hit.metadata["lang"] for hit in found if hit.metadata is not None} == {"de"}
    assert [hit.text for hit in before.hits[0]] == before.ids[0]  # still those of the index that was searched


def test_threads_that_search_while_an_index_is_built_anew_get_answers(tmp_path: Path) -> None:
    build_anew(tmp_path / "i")
    index, stop, failed, done = Index.open(tmp_path / "i"), threading.Event(), [], []

    def search() -> None:
        while not stop.is_set():
            try:
                assert len(index.search(VECTORS[:1], filter='lang = "de"').hits[0]) == 10
                assert index.search(VECTORS[3], distinct=True).ids[0][0] == "a3"
                done.append(1)
            except Exception as error:  # noqa: BLE001  # whatever it is, it fails the test
                failed.append(error)

    threads = [threading.Thread(target=search) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        build_anew(tmp_path / "i")
        time.sleep(0.06)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(done) > 6


def test_documents_that_are_deleted_meanwhile_leave_no_gap_in_the_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_anew(tmp_path / "i")
    index = Index.open(tmp_path / "i")
    plain = Index._explained

    def deleting(self: Index, *given: Any, **named: Any) -> Any:
        found = plain(self, *given, **named)
        self.delete(IDS[:55])
        return found

    monkeypatch.setattr(Index, "_explained", deleting)
    found = index.search(VECTORS[0], k=10, distinct=True)
    assert len(found.ids[0]) == found.scores.shape[1] == 10


def test_what_was_tuned_with_codes_that_are_gone_is_said_to_be_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.random.default_rng(0).normal(size=(400, 32)).astype(np.float32)
    index = Index.build(tmp_path / "i", vectors=vectors)
    plain = tuning_target.tune

    def compacting(*given: Any, **named: Any) -> Any:
        found = plain(*given, **named)
        monkeypatch.setattr(tuning_target, "tune", plain)
        with Index.open(tmp_path / "i") as other:
            other.delete([str(place) for place in range(200)])
            other.compact()
        return found

    assert index.tuned is not None
    assert "stale" not in index.tuned
    monkeypatch.setattr(tuning_target, "tune", compacting)
    index.tune()
    assert (index.tuned["documents"], index.tuned["stale"]) == (400, True)
    index.tune()
    assert "stale" not in index.tuned
