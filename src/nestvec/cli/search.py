"""`nestvec search`: the documents of an index that are nearest to a text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nestvec.cli.console import console, draw_progress, print_json, quiet_libraries, visible
from nestvec.cli.options import TYPED_TEXT, separated, trust_option

if TYPE_CHECKING:
    from rich.text import Text

    from nestvec.index import Explanation, Hit

__all__ = ["search"]

_SHOWN_CHARACTERS = 400


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("query", type=TYPED_TEXT, required=False)
@click.option("--like", type=TYPED_TEXT, metavar="ID", help="Find what is nearest to a stored document, without QUERY.")
@click.option(
    "-k", "--count", "k", type=click.IntRange(min=1), default=10, show_default=True, help="Documents to find."
)
@click.option(
    "--filter", "condition", type=TYPED_TEXT, help="""Condition on metadata, such as 'lang = "de" and year >= 2020'."""
)
@click.option("--hybrid", is_flag=True, help="Find and order documents by the words they share as well.")
@click.option("--distinct", is_flag=True, help="Show each text once, however many documents have it.")
@click.option("--explain", is_flag=True, help="Say what each stage scored, how ranks changed and what took how long.")
@click.option(
    "--shortlist", type=click.IntRange(min=1), help="Documents that are reranked, at most.  [default: as tuned]"
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    help="Rerank those whose codes say no more than this less than the k-th's, such as 0.05.  "
    "[default: as tuned, all with --shortlist or --dim]",
)
@click.option(
    "--probes", type=click.IntRange(min=1), help="Lists to scan at most, where there are lists.  [default: as tuned]"
)
@click.option(
    "--probe-ratio",
    type=click.FloatRange(max=1),
    help="Scan lists at least this many times as similar as the nearest, such as 0.4.  "
    "[default: as tuned, all with --probes]",
)
@click.option("--dim", type=click.IntRange(min=1), help="Leading dimensions to compare.  [default: as tuned, else all]")
@click.option(
    "--middle",
    callback=separated(int),
    help="Dimensions and documents of a stage between: 64,50 compares 64 and hands over 50.",
)
@click.option("--model", help="What encodes the query, where the model has moved.")
@click.option("--force", is_flag=True, help="Accept a model that gives other vectors.")
@trust_option
@click.option("--table", "as_table", is_flag=True, help="Show a line a document, in columns.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--full", is_flag=True, help="Show whole texts.")
def search(
    folder: Path,
    query: str | None,
    like: str | None,
    k: int,
    condition: str | None,
    hybrid: bool,
    distinct: bool,
    explain: bool,
    shortlist: int | None,
    margin: float | None,
    probes: int | None,
    probe_ratio: float | None,
    dim: int | None,
    middle: tuple[int, ...] | None,
    model: str | None,
    force: bool,
    trust_remote_code: bool,
    as_table: bool,
    as_json: bool,
    full: bool,
) -> None:
    """Find the documents of the index in FOLDER that are nearest to QUERY, or with --like to one of them.

    \b
    Example:
      nestvec search runs/index "how do I read a file line by line" -k 5
      nestvec search runs/index "open a socket" --hybrid --filter 'kind = "function"' --explain
      nestvec search runs/index --like doc-7
    """
    if (query is None) == (like is None):
        raise click.UsageError("Give a QUERY, or the id of a document with --like, and not both.")
    if query is not None and not query.strip():
        raise click.UsageError("The query is empty.")
    if middle is not None and len(middle) != 2:
        raise click.UsageError("--middle takes two numbers: how many to compare, and how many documents to hand over.")
    if as_table and (as_json or explain or full):
        raise click.UsageError("--table shows a line a document: it goes with none of --json, --explain and --full.")
    if as_json and full:
        raise click.UsageError("--json has whole texts already: leave --full out.")
    quiet_libraries()
    from nestvec.index import Index
    from nestvec.jobs.index import encoder_of

    with Index.open(folder) as index:
        told = {"shortlist": shortlist, "margin": margin, "probes": probes, "probe_ratio": probe_ratio}
        settings = index.search_with(**told, dim=dim, middle=middle)
        if query is not None:
            index.encoder = encoder_of(
                index, model, force=force, trust_remote_code=trust_remote_code, progress=draw_progress
            )
        found = index.explain(query, k, condition, like=like, settings=settings, distinct=distinct, hybrid=hybrid)
    if as_json:
        print_json(_as_json(found, explain=explain))
        return
    if as_table:
        _draw_table(found)
        return
    _draw(found, query or "", explain=explain, full=full)


def _draw_table(found: Explanation) -> None:
    from rich.markup import escape
    from rich.table import Table

    fields = list(dict.fromkeys(name for hit in found.hits for name in hit.metadata or {}))
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", justify="right", style="dim")
    table.add_column("score", justify="right")
    for name in ("id", *fields, "text"):
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1 if name == "text" else None)
    for place, hit in enumerate(found.hits, start=1):
        facts = hit.metadata or {}
        text = " ".join((hit.text or "").split())
        cells = [_spell(facts[name]) if name in facts else "" for name in fields]
        table.add_row(*(escape(cell) for cell in (str(place), f"{hit.score:.4f}", hit.id, *cells, text)))
    console().print(table)


def _as_json(found: Explanation, *, explain: bool) -> dict[str, Any]:
    hits = []
    for hit in found.hits:
        stages = hit.details._asdict() if explain else {}
        row = {"id": hit.id, "score": hit.score, "score_kind": hit.score_kind, **stages, "copies": hit.copies}
        hits.append({**row, "text": hit.text, "metadata": hit.metadata})
    more = {"seconds": found.seconds, "documents": found.documents} if explain else {}
    return {"hits": hits, **more}


def _draw(found: Explanation, query: str, *, explain: bool, full: bool) -> None:
    from rich.padding import Padding
    from rich.text import Text

    screen = console()
    if not found.hits:
        screen.print("No document was found.", style="yellow")
    for place, hit in enumerate(found.hits, start=1):
        line = Text(f"{place:>3}  ", style="dim").append(f"{hit.score:.4f}", style="bold green")
        line.append("  ").append(visible(hit.id), style="bold")
        if explain:
            line.append(f"  {_reasons(hit, place)}", style="dim")
        if hit.copies:
            line.append(f"  and {len(hit.copies):,} with the same text", style="dim")
        screen.print(line, soft_wrap=True)
        if hit.text:
            screen.print(Padding(_highlighted(hit.text, query, full=full), (0, 0, 0, 5)))
        if hit.metadata:
            facts = "  ".join(f"{name}={_spell(value)}" for name, value in hit.metadata.items())
            screen.print(Text(f"     {visible(facts)}", style="dim cyan"), soft_wrap=True)
    if explain:
        times = ", ".join(f"{name} {1000 * seconds:.2f} ms" for name, seconds in found.seconds.items())
        screen.print(f"\n{found.documents:,} documents, {found.settings}: {times}", style="dim", soft_wrap=True)


def _reasons(found: Hit, place: int) -> str:
    parts, hit = [], found.details
    if hit.shortlist_rank is not None:
        parts.append(f"codes {hit.prefix_score:.4f}, {_ordinal(hit.shortlist_rank)} of the shortlist")
    if hit.cosine is not None:
        parts.append(f"cosine {hit.cosine:.4f}")
    if hit.words_rank is not None:
        parts.append(f"words {hit.words_score:.2f}, {_ordinal(hit.words_rank)}")
    if hit.shortlist_rank is not None and hit.shortlist_rank != place:
        moved = hit.shortlist_rank - place
        parts.append(f"{'up' if moved > 0 else 'down'} {abs(moved)}")
    return "; ".join(parts)


def _ordinal(rank: int) -> str:
    ending = "th" if 10 <= rank % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank:,}{ending}"


def _highlighted(text: str, query: str, *, full: bool) -> Text:
    """The text, or the part of it that has most words of the query, with these marked."""
    from rich.text import Text

    words = {word for word in re.findall(r"\w+", query.lower()) if len(word) > 2}
    flat = " ".join(text.split())
    if not full and len(flat) > _SHOWN_CHARACTERS:
        flat = _densest(flat, words)
    shown = Text(visible(flat))
    if words:
        shown.highlight_regex(rf"(?i)\b({'|'.join(map(re.escape, sorted(words)))})\b", "bold yellow")
    return shown


def _densest(text: str, words: set[str]) -> str:
    places = [match.start() for match in re.finditer(r"\w+", text) if match.group().lower() in words]
    starts = [max(0, place - 80) for place in places] or [0]
    best = max(starts, key=lambda start: sum(start <= place < start + _SHOWN_CHARACTERS for place in places))
    best = text.rfind(" ", 0, best + 1) + 1  # whole words, as far as there are spaces
    end = best + _SHOWN_CHARACTERS
    if end < len(text):
        space = text.rfind(" ", best, end + 1)
        end = space if space > best else end
    return f"{'... ' if best else ''}{text[best:end].strip()}{' ...' if end < len(text) else ''}"


def _spell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
