"""`nestvec cache`: the vectors that are kept on disk."""

from __future__ import annotations

import click

from nestvec.cli.console import console

__all__ = ["cache"]


@click.group()
def cache() -> None:
    """Look at, or remove, the vectors that evaluations keep on disk."""


@cache.command("info")
def info() -> None:
    """List what the cache holds, one line an encoder.

    \b
    Example:
      nestvec cache info
    """
    import time

    from rich.table import Table

    from nestvec.encoders import cache_entries, cache_folder
    from nestvec.report import spell_bytes

    entries = cache_entries()
    screen = console()
    screen.print(f"{cache_folder()}: {spell_bytes(sum(entry.size_bytes for entry in entries))}", soft_wrap=True)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("encoder", "model", "dim", "vectors", "size", "last used"):
        table.add_column(title, justify="left" if title in {"encoder", "model"} else "right")
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_used))
        size = spell_bytes(entry.size_bytes)
        table.add_row(entry.identity[:12], entry.about, str(entry.dim), f"{entry.vectors:,}", size, used)
    if entries:
        screen.print(table)


@cache.command("clear")
@click.option("--encoder", "prefix", help="Only the encoder whose name, as info lists it, begins so.")
@click.option("--unused-days", type=click.FloatRange(min=0), help="Only encoders that were not used for so many days.")
def clear(prefix: str | None, unused_days: float | None) -> None:
    """Remove cached vectors: all, or those of some encoders.

    \b
    Example:
      nestvec cache clear --unused-days 30
    """
    import time

    from nestvec.encoders import cache_entries, clear_cache
    from nestvec.report import spell_bytes

    oldest = time.time() - (unused_days or 0) * 86_400
    entries = [
        entry
        for entry in cache_entries()
        if entry.identity.startswith(prefix or "") and (unused_days is None or entry.last_used < oldest)
    ]
    clear_cache(entries)
    freed = spell_bytes(sum(entry.size_bytes for entry in entries))
    console().print(f"Removed the vectors of {len(entries)} encoder{'s' * (len(entries) != 1)}: {freed}")
