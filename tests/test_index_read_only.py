"""Indexes on media that cannot be written. Run: pytest tests/test_index_read_only.py (seconds)."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nestvec.index import Index

SEARCH = """
import json, sys
import numpy as np
from nestvec.errors import SearchIndexError
from nestvec.index import Index
try:
    with Index.open(sys.argv[1]) as index:
        print(json.dumps(index.search(np.eye(1, 8, dtype="f4"), k=1).ids))
except SearchIndexError as error:
    print(json.dumps(str(error)))
"""


def search_read_only(folder: Path) -> object:
    """Search an index in a process that sees its folder on a read-only mount."""
    script = (
        f'mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && exec {sys.executable} -c "$0" {folder}'
    )
    command = ["unshare", "--mount", "sh", "-c", script, SEARCH]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "unshare" in done.stderr + str(done.args[0]) and "Traceback" not in done.stderr:
        pytest.skip(f"mounts cannot be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Index.build(tmp_path / "i", vectors=np.eye(6, 8, dtype=np.float32), recall=None).close()
    return tmp_path / "i"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare, of util-linux")
def test_an_index_without_a_log_is_searched_and_one_with_a_log_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    assert search_read_only(folder) == [["0"]]
    (folder / "manifest.sqlite-wal").touch()  # an empty one holds nothing
    assert search_read_only(folder) == [["0"]]
    (folder / "manifest.sqlite-wal").unlink()
    connection = sqlite3.connect(folder / "manifest.sqlite", isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("INSERT INTO settings VALUES ('note', '1')")  # stays in the log while this is open
    shutil.copytree(folder, tmp_path / "copied", ignore=shutil.ignore_patterns("*-shm"))
    connection.close()
    said = search_read_only(tmp_path / "copied")
    assert "read-only" in str(said)
    assert "write-ahead log manifest.sqlite-wal" in str(said)
    assert f"nestvec index info {tmp_path / 'copied'}" in str(said)
    Index.open(tmp_path / "copied").close()  # opened once where it can be written
    assert search_read_only(tmp_path / "copied") == [["0"]]


def test_an_empty_folder_is_a_free_place(tmp_path: Path) -> None:
    vectors = np.eye(6, 8, dtype=np.float32)
    assert len(Index.build(tmp_path, vectors=vectors, recall=None)) == 6
