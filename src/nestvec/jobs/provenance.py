"""Where a result comes from: versions, and the commit of the folder it was made in."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

__all__ = ["git_commit", "package_versions"]

_PACKAGES = ("nestvec", "torch", "sentence-transformers", "transformers", "datasets", "numpy")


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of every installed package that a result depends on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


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
