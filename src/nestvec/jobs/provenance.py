"""Where a result comes from: versions, and the commit of the folder it was made in."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["git_commit", "hardware", "package_versions"]

_PACKAGES = ("nestvec", "torch", "sentence-transformers", "transformers", "datasets", "numpy")


def package_versions(*more: str) -> dict[str, str]:
    """Return the versions of Python and of every installed package that a result depends on, of these and of others."""
    versions = {"python": platform.python_version()}
    for package in (*_PACKAGES, *more):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """Return the processor, its cores that this process may use, and the memory of this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    cpu = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory_gib, 1)}


def git_commit(folder: Path) -> str | None:
    """Return the commit checked out in a folder, with `-dirty` if files were changed since; None outside git.

    Args:
        folder: Any folder.
    """
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None
