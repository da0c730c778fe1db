"""A reader that is told in no time that nothing was committed misses no commit. Run: pytest tests/test_index_change_count.py (seconds)."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from nestvec.index import Index
from nestvec.index.embedded.change_count import ChangeCount
from nestvec.index.embedded.manifest import Manifest


def build(path: Path, count: int = 20) -> Index:
    return Index.build(path, vectors=np.eye(count, 24, dtype=np.float32), recall=None, overwrite=True)


def test_nothing_is_asked_twice_while_nothing_happens_and_every_commit_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    plain = Manifest.reading
    monkeypatch.setattr(Manifest, "reading", lambda self: (asked.append(1), plain(self))[1])
    monkeypatch.setattr("nestvec.index.embedded.reader._SECONDS_BETWEEN_LOOKS", 1e9)
    writer, reader = build(tmp_path / "i"), Index.open(tmp_path / "i")
    len(reader)
    before = len(asked)
    for _ in range(50):
        len(reader)
        reader.search(np.eye(1, 24, dtype=np.float32))
    assert len(asked) == before
    for turn in range(20):
        writer.delete([str(turn)])
        assert len(reader) == 19 - turn
        assert len(reader) == 19 - turn
    assert len(asked) > before


def test_after_a_change_that_was_killed_commits_are_still_seen(tmp_path: Path) -> None:
    writer, reader = build(tmp_path / "i"), Index.open(tmp_path / "i")
    assert ChangeCount(tmp_path / "i").now() is not None
    ChangeCount.mark(tmp_path / "i")  # as one that was killed leaves it
    assert ChangeCount(tmp_path / "i").now() is None
    assert len(reader) == 20
    writer.delete(["3"])
    assert len(reader) == 19
    assert ChangeCount(tmp_path / "i").now() is not None
    writer.delete(["4"])
    assert len(reader) == 18


def test_a_change_that_fails_leaves_an_even_number(tmp_path: Path) -> None:
    index = build(tmp_path / "i")
    before = ChangeCount(tmp_path / "i").now()
    with pytest.raises(ValueError, match="already"):
        index.add(np.eye(1, 24, dtype=np.float32), ["3"])
    assert ChangeCount(tmp_path / "i").now() not in (None, before)
    assert len(index) == 20


def test_a_transaction_sees_one_commit_and_the_next_one_the_next(tmp_path: Path) -> None:
    writer, manifest = build(tmp_path / "i"), Manifest(tmp_path / "i")
    with manifest.reading() as view:
        writer.delete(["3"])
        assert set(view.find(["3", "4"])) == {"3", "4"}  # of when it began
        with manifest.reading() as later:
            assert set(later.find(["3", "4"])) == {"4"}
            assert later.version > view.version
    manifest.close()


def test_an_index_without_the_file_is_searched_and_gets_one_with_the_next_change(tmp_path: Path) -> None:
    writer = build(tmp_path / "i")
    (tmp_path / "i" / "changes").unlink()
    reader = Index.open(tmp_path / "i")
    for turn in range(3):
        writer.delete([str(turn)])
        assert len(reader) == 19 - turn
    assert ChangeCount(tmp_path / "i").now() is not None


@pytest.mark.parametrize("by_hand", [False, True])
def test_an_index_that_takes_the_place_of_another_is_seen(tmp_path: Path, *, by_hand: bool) -> None:
    build(tmp_path / "i")
    reader = Index.open(tmp_path / "i")
    assert len(reader) == len(reader) == 20
    if by_hand:
        build(tmp_path / "other", 7)
        shutil.rmtree(tmp_path / "i")
        (tmp_path / "other").rename(tmp_path / "i")
        while len(reader) != 7:  # a twentieth of a second
            pass
    else:
        build(tmp_path / "i", 7)
        assert len(reader) == 7
