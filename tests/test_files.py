"""Outputs appear whole or not at all, also on a full disk and after a kill. Run: pytest tests/test_files.py (seconds)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nestvec.errors import OutputExistsError, StorageError
from nestvec.files import (
    atomic_folder,
    atomic_path,
    exclusive,
    remove_leftovers,
    require_free_space,
    storage_errors,
    write_text,
)


def test_a_file_replaces_an_older_one(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a.txt", "one")
    write_text(tmp_path / "deep" / "a.txt", "two")
    assert (tmp_path / "deep" / "a.txt").read_text() == "two"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_older_file_and_no_trace(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_replaces_an_older_one_as_a_whole(tmp_path: Path) -> None:
    for names in (["a", "b"], ["c"]):
        with atomic_folder(tmp_path / "out") as partial:
            for name in names:
                (partial / name).write_text(name)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_the_older_folder(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("one")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("half")
        raise RuntimeError
    assert (tmp_path / "out" / "a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_kill_between_two_renames_leaves_is_put_right(tmp_path: Path) -> None:
    for name in (".model.replaced-12345678", ".plot.partial-12345678", ".old.replaced-12345678", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / ".report.json.partial-12345678").write_text("half")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "old"]
    assert (tmp_path / "old" / "file").read_text() == "old"


def test_a_rename_that_fails_puts_the_older_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("one")
    rename = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if ".partial-" in path.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError, match="input/output error"), atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("two")
    monkeypatch.undo()
    assert (tmp_path / "out" / "a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_one_process_at_a_time_has_a_folder(tmp_path: Path) -> None:
    refused = pytest.raises(OutputExistsError, match="Another process is writing")
    with exclusive(tmp_path / "out"), refused, exclusive(tmp_path / "out"):
        pass
    with exclusive(tmp_path / "out"):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_a_kill_in_the_middle_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    code = f"""
        import os, signal, pathlib
        from nestvec.files import atomic_folder
        with atomic_folder(pathlib.Path({str(tmp_path / "out")!r})) as partial:
            (partial / "weights").write_bytes(b"x" * 1000)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()


def run_with_small_files(code: str) -> str:
    """Run code in a process that cannot write a file over 100 kB: the kernel refuses the write, as on a full disk."""
    script = (
        "import resource, signal, pathlib\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    ) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_refused_write_is_one_clear_error_and_leaves_the_older_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")
    printed = run_with_small_files(f"""
        from nestvec.errors import OutputExistsError, StorageError
        from nestvec.files import write_text
        try:
            write_text(pathlib.Path({str(tmp_path / "a.txt")!r}), "x" * 1_000_000)
        except StorageError as error:
            print(error)
    """)
    assert "Nothing is left there half written" in printed
    assert (tmp_path / "a.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_weights_that_do_not_fit_are_the_same_error(tmp_path: Path) -> None:
    printed = run_with_small_files(f"""
        import numpy, safetensors.numpy
        from nestvec.errors import OutputExistsError, StorageError
        from nestvec.files import atomic_folder
        try:
            with atomic_folder(pathlib.Path({str(tmp_path / "out")!r})) as partial:
                safetensors.numpy.save_file({{"w": numpy.zeros(100_000)}}, partial / "w.safetensors")
        except StorageError as error:
            print(error)
    """)
    assert "while writing" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_needed_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="A file stands where a folder is needed"):
        write_text(tmp_path / "file" / "a.txt", "one")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be written"):
        write_text(tmp_path / "a.txt", "one")


def test_too_little_free_space_is_known_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="MB free and this run needs about"):
        require_free_space(tmp_path, 10**18)
    require_free_space(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path):
        (tmp_path / "missing").read_text()
    with pytest.raises(KeyError), storage_errors(tmp_path):
        raise KeyError("k")
