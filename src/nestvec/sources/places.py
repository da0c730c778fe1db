"""Where the name of a model leads to, from whatever folder: stored absolute, read beside its file as well."""

from __future__ import annotations

import os
from pathlib import Path

from nestvec.encoders import PACKAGED_BASES
from nestvec.sources.loading import split_adaptor

__all__ = ["absolute_source", "find_source"]

_PREFIXES = ("vectors:", "pca=")


def absolute_source(source: str, folder: str | Path | None = None) -> str:
    """Write the files and folders of a source as absolute paths; names of packaged bases and of the hub stay.

    Args:
        source: A model folder, a hub id, `minilm` or `static`; `vectors:DIR`, `pca=SOURCE`, or `ADAPTOR=SOURCE`.
        folder: What relative paths are relative to; None is the folder of this process.

    Returns:
        The source, usable from any folder.
    """
    base = Path.cwd() if folder is None else Path(folder)
    for prefix in _PREFIXES:
        if source.startswith(prefix):
            return prefix + absolute_source(source.removeprefix(prefix), base)
    adaptor_file, behind = split_adaptor(source)
    if adaptor_file is not None:
        return f"{_absolute(adaptor_file, base)}={absolute_source(behind, base)}"
    path = Path(source).expanduser()
    is_file = source not in PACKAGED_BASES and (base / path).exists()
    return _absolute(source, base) if is_file else source


def find_source(source: str, folder: Path) -> str:
    """Find what a file names: beside that file, or, as older versions wrote it, in the folder of this process.

    Args:
        source: As the file has it.
        folder: The folder of the file.

    Returns:
        The source with absolute paths where they lead to something; otherwise as it is.
    """
    beside = absolute_source(source, folder)
    return absolute_source(source) if beside == source else beside


def _absolute(path: str, base: Path) -> str:
    return os.path.abspath(base / Path(path).expanduser())  # noqa: PTH100  # links stay as they are named
