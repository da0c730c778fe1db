"""`nestvec data`: data sources as files."""

from __future__ import annotations

from pathlib import Path

import click

from nestvec.cli.console import console, draw_progress
from nestvec.errors import OutputExistsError

__all__ = ["data"]


@click.group()
def data() -> None:
    """Make data sets to train on, measure with and search."""


@data.command("installed-docs")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--site-packages", type=click.Path(path_type=Path), help="Folder with the packages; default: this Python's."
)
@click.option("--modules-per-package", type=click.IntRange(min=1), help="Modules to read of each; default: all.")
@click.option("--queries", type=click.IntRange(min=1), default=500, show_default=True, help="Benchmark queries.")
@click.option("--documents", type=click.IntRange(min=1), default=2000, show_default=True, help="Benchmark documents.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def installed_docs(
    out: Path,
    site_packages: Path | None,
    modules_per_package: int | None,
    queries: int,
    documents: int,
    seed: int,
    overwrite: bool,
) -> None:
    """Read the API documentation of the installed packages, without importing any.

    Writes docs.jsonl (every documented object, to search), train.jsonl (summary, rest, siblings in the same module)
    and benchmark/ (a BEIR folder on whole packages that train.jsonl never sees) into OUT.

    \b
    Example:
      nestvec data installed-docs runs/docs
    """
    from nestvec.data import scan_installed_docs, split_by_package, write_installed_docs

    _require_free(out, overwrite=overwrite)
    docs = scan_installed_docs(
        site_packages, modules_per_package=modules_per_package, seed=seed, progress=draw_progress
    )
    rows, benchmark = split_by_package(docs, queries=queries, documents=documents, seed=seed, progress=draw_progress)
    write_installed_docs(out, docs, rows, benchmark)
    counts = benchmark.counts()
    packages = len({doc.package for doc in docs})
    console().print(
        f"Written to {out}: {len(docs):,} documented objects of {packages} packages; {len(rows):,} training rows; "
        f"benchmark of {counts['queries']:,} queries and {counts['documents']:,} documents",
        soft_wrap=True,
    )


def _require_free(out: Path, *, overwrite: bool) -> None:
    """The whole folder is replaced, so that one with anything else in it is never taken."""
    if not out.exists():
        return
    from nestvec.data import INSTALLED_DOCS_FILES

    found = {entry.name for entry in out.iterdir()} if out.is_dir() else {out.name}
    foreign = sorted(found - set(INSTALLED_DOCS_FILES))
    if foreign:
        raise OutputExistsError(f"{out} holds {foreign[0]}, which is not from an earlier scan. Choose another folder.")
    if found and not overwrite:
        raise OutputExistsError(f"{out} already exists. Choose another folder, or pass --overwrite.")
