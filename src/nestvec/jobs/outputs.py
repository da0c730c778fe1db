"""The output folder of a run: what may be written there, and how its results appear together."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nestvec.errors import OutputExistsError, ResumeError
from nestvec.files import exclusive, move_into_place, remove_leftovers, require_free_space, storage_errors, sync

__all__ = ["RESULTS", "claim_output", "staged_results"]

RESULTS = ("model", "benchmark", "recipe.toml", "plot.png", "report.md", "report.json")
"""What a run writes, in the order in which it appears."""


@contextmanager
def claim_output(out: Path, *, resume: bool, overwrite: bool) -> Iterator[Path]:
    """Decide whether a run may use a folder, and keep other processes out of it meanwhile.

    Args:
        out: Folder for the results; made if missing.
        resume: Continue an unfinished run there, or start one.
        overwrite: Replace the results, or the unfinished run, that it holds.

    Yields:
        The folder for unfinished work, which may not exist yet.

    Raises:
        OutputExistsError: It holds results or an unfinished run and neither flag was given, or another process
            is at work there.
        ResumeError: The run there is finished.
        StorageError: It cannot be written.
    """
    work = out / "work"
    require_free_space(out, 0)
    with exclusive(out):
        remove_leftovers(out)
        existing = [name for name in RESULTS if (out / name).exists()]
        if work.is_dir():
            if not (resume or overwrite):
                raise OutputExistsError(
                    f"{out} holds an unfinished run. Pass --resume to continue it, or --overwrite to start anew."
                )
        elif resume and (out / "report.json").exists():
            raise ResumeError(f"There is nothing to resume in {out}: its run is already finished.")
        elif existing and not overwrite:
            raise OutputExistsError(
                f"{out} already holds {', '.join(existing)}, which would be replaced. Choose another --out, or pass "
                "--overwrite."
            )
        if overwrite and not resume:
            shutil.rmtree(work, ignore_errors=True)
        yield work


@contextmanager
def staged_results(out: Path, work: Path) -> Iterator[Path]:
    """Collect results in one folder and let them appear only when all of them are complete and on disk.

    The old report goes first and the new one comes last, so that a report always speaks of the model beside it.

    Args:
        out: Where the results go.
        work: Folder for unfinished work, on the same file system.

    Yields:
        An empty folder, to be filled with everything in `RESULTS`.

    Raises:
        StorageError: The disk is full; older results are untouched.
    """
    staging = work / "results"
    with storage_errors(out):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        sync(staging)
        (out / "report.json").unlink(missing_ok=True)
        for name in RESULTS:
            move_into_place(staging / name, out / name)
        shutil.rmtree(work)
