"""`nestvec index`: make an index, change it, and see what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nestvec.cli.console import console, draw_progress, print_json, quiet_libraries, say
from nestvec.cli.options import PRECISION, read_columns, trust_option
from nestvec.errors import DamagedIndexError

if TYPE_CHECKING:
    from nestvec.data import Columns
    from nestvec.index import Index, Tuned

__all__ = ["index"]

_DAMAGED = 1
_RECALL = 0.99
_GROWN = 1.25  # times as many documents, or as few, as when it was tuned
_FORMATS = ("numpy", "faiss", "parquet", "beir")
_Folder = click.Path(path_type=Path, file_okay=False)
_Source = click.Path(path_type=Path)


def _documents(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a file of documents."""
    for option in (
        click.option("--strict", is_flag=True, help="Refuse documents without text, otherwise left out and counted."),
        click.option("--vectors", metavar="COLUMN", help="Use the vectors in this column; the model encodes queries."),
        click.option(
            "--columns",
            callback=read_columns,
            help="Such as id=KEY,text=BODY; or all names, for CSV and TSV without header.",
        ),
        click.option(
            "--docs",
            required=True,
            type=_Source,
            help="Documents: .jsonl, .json, .csv, .tsv, .parquet, or a BEIR folder.",
        ),
    ):
        command = option(command)
    return command


def _more_documents(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of documents for an index that is there."""
    for option in (
        click.option("--force", is_flag=True, help="Accept a model that gives other vectors."),
        click.option("--no-cache", is_flag=True, help="Do not keep vectors in the cache of encoded texts."),
        click.option("--model", help="What encodes, where the model has moved."),
        trust_option,
    ):
        command = option(command)
    return _documents(command)


@click.group()
def index() -> None:
    """Documents in a folder, searched in two stages: short codes in memory, longer vectors on disk."""


@index.command()
@click.argument("folder", type=_Folder)
@_documents
@click.option("--model", help="What encodes: a folder, hub id, minilm, static; or ADAPTOR.safetensors=MODEL.")
@click.option(
    "--plan", type=_Source, help="Store and search as nestvec plan chose.  [default: what suits most vectors]"
)
@click.option(
    "--recall",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the exact best 10 to find, without a plan.  [default: 0.99]",
)
@click.option("--queries", type=_Source, help="Texts of queries to tune on, one a line.  [default: documents]")
@click.option("--codes", type=PRECISION, help="How the first stage encodes vectors, such as pq32.  [default: as fast]")
@click.option(
    "--dim", type=click.IntRange(min=1), help="Leading dimensions that --codes encode.  [default: all of them]"
)
@click.option("--lists", type=click.IntRange(min=2), help="IVF lists (nlist) of these.  [default: all are scanned]")
@click.option("--precision", type=PRECISION, help="Of the vectors on disk.  [default: float16]")
@click.option(
    "--fit-on", type=_Source, help="Rows or texts that codebooks are learned from.  [default: as the plan, documents]"
)
@click.option("--no-cache", is_flag=True, help="Do not keep vectors in the cache of encoded texts.")
@trust_option
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of every draw.")
@click.option("--overwrite", is_flag=True, help="Replace an index that is there.")
def build(
    folder: Path,
    docs: Path,
    columns: Columns | None,
    vectors: str | None,
    strict: bool,
    model: str | None,
    plan: Path | None,
    recall: float | None,
    queries: Path | None,
    dim: int | None,
    codes: str | None,
    lists: int | None,
    precision: str | None,
    fit_on: Path | None,
    no_cache: bool,
    trust_remote_code: bool,
    seed: int,
    overwrite: bool,
) -> None:
    """Encode documents and make an index of them in FOLDER.

    \b
    Example:
      nestvec index build runs/index --model minilm --docs docs.jsonl
      nestvec index build runs/index --docs docs.jsonl --plan plan.toml
    """
    if model is None and plan is None and vectors is None:
        raise click.UsageError("Say what encodes the documents: --model, or --plan, which names a model.")
    if codes is None and (dim is not None or lists is not None):
        raise click.UsageError("--dim and --lists go with --codes: how the first stage encodes vectors, such as pq32.")
    if plan is not None and (recall is not None or codes is not None or precision is not None):
        raise click.UsageError("A plan says what to store and find: leave --recall, --codes and --precision out.")
    quiet_libraries()
    from nestvec.jobs.index import DocumentFile, Encoded, build_index

    made = build_index(
        folder,
        DocumentFile(docs, columns, vectors, strict),
        model=model,
        plan=plan,
        recall=_RECALL if recall is None else recall,
        codes=None if codes is None else Encoded(codes, dim, lists),
        precision=precision,
        queries=_read_queries(queries),
        fit_on=fit_on,
        overwrite=overwrite,
        cache=not no_cache,
        trust_remote_code=trust_remote_code,
        seed=seed,
        progress=draw_progress,
    )
    _describe(made)


@index.command()
@click.argument("folder", type=_Folder)
@_more_documents
def add(folder: Path, **options: Any) -> None:
    """Add documents whose ids are new.

    \b
    Example:
      nestvec index add runs/index --docs more.jsonl
    """
    _add(folder, options, replacing=False)


@index.command()
@click.argument("folder", type=_Folder)
@_more_documents
def upsert(folder: Path, **options: Any) -> None:
    """Add documents, in place of those that have their ids.

    \b
    Example:
      nestvec index upsert runs/index --docs changed.jsonl
    """
    _add(folder, options, replacing=True)


@index.command()
@click.argument("folder", type=_Folder)
@click.argument("ids", nargs=-1)
@click.option("--file", "file", help="Ids, one a line, in any encoding; - is standard input.")
def delete(folder: Path, ids: tuple[str, ...], file: str | None) -> None:
    """Delete documents by their IDS.

    \b
    Example:
      nestvec index delete runs/index doc-7 doc-9
    """
    from nestvec.data import read_line_list

    wanted = [*ids, *(() if file is None else read_line_list(file))]
    if not wanted:
        raise click.UsageError("Name the documents to delete: IDS, or --file.")
    with _open(folder) as found:
        count = found.delete(wanted)
        missing = len(set(wanted)) - count
        rest = f", {missing:,} were not there" if missing else ""
        console().print(f"{count:,} deleted{rest}; {len(found):,} documents are left.")


@index.command()
@click.argument("folder", type=_Folder)
@click.option("--dim", type=click.IntRange(min=1), help="Keep only so many leading dimensions from here on.")
def compact(folder: Path, dim: int | None) -> None:
    """Put all files of vectors into one, without what was deleted, and fit the codes anew.

    A search that was tuned is tuned again, on the documents.

    \b
    Example:
      nestvec index compact runs/index
      nestvec index compact runs/index --dim 128
    """
    with _open(folder) as found:
        found.compact(dim=dim, progress=draw_progress)
        _describe(found)


@index.command()
@click.argument("folder", type=_Folder)
def verify(folder: Path) -> None:
    """Compare every file with what was written; exit code 1 if anything is wrong.

    \b
    Example:
      nestvec index verify runs/index
    """
    from nestvec.index import find_damage

    try:
        with _open(folder) as found:
            problems, count = found.verify(), len(found)
    except DamagedIndexError as error:
        problems, count = find_damage(folder) or [str(error)], 0
    for problem in problems:
        say(problem)
    if problems:
        raise SystemExit(_DAMAGED)
    console().print(f"{folder}: {count:,} documents, all files as they were written.", soft_wrap=True)


@index.command()
@click.argument("folder", type=_Folder)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def info(folder: Path, as_json: bool) -> None:
    """Say what an index holds, and what every vector costs.

    \b
    Example:
      nestvec index info runs/index
    """
    with _open(folder) as found:
        if as_json:
            print_json(_facts(found))
        else:
            _describe(found)


@index.command()
@click.argument("folder", type=_Folder)
@click.option(
    "--recall",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the exact best to find.  [default: of its plan, else as before, or 0.99]",
)
@click.option(
    "-k", "--count", "k", type=click.IntRange(min=1), default=10, show_default=True, help="Documents of a search."
)
@click.option("--queries", type=_Source, help="Texts of queries, one a line.  [default: documents]")
@click.option("--dim", type=click.IntRange(min=1), help="Leading dimensions to compare.  [default: all]")
@click.option("--model", help="What encodes the queries, where the model has moved.")
@click.option("--no-cache", is_flag=True, help="Do not keep vectors in the cache of encoded texts.")
@click.option("--force", is_flag=True, help="Accept a model that gives other vectors.")
@trust_option
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the draw.")
def tune(
    folder: Path,
    recall: float | None,
    k: int,
    queries: Path | None,
    dim: int | None,
    model: str | None,
    no_cache: bool,
    force: bool,
    trust_remote_code: bool,
    seed: int,
) -> None:
    """Find the fastest search that finds enough, measured against the exact scan, and keep it.

    \b
    Example:
      nestvec index tune runs/index --recall 0.99 --queries queries.txt
    """
    with _open(folder) as found:
        vectors = None
        texts = _read_queries(queries)
        if texts is not None:
            quiet_libraries()
            from nestvec.jobs.index import encoder_of

            encoder = encoder_of(
                found,
                model,
                force=force,
                cache=not no_cache,
                trust_remote_code=trust_remote_code,
                progress=draw_progress,
            )
            vectors = encoder.encode_queries(texts, progress=draw_progress)
        _print_tuned(found.tune(recall=recall, k=k, queries=vectors, dim=dim, seed=seed, progress=draw_progress))


@index.command()
@click.argument("folder", type=_Folder)
@click.option("--out", required=True, type=_Folder, help="Folder to write.")
@click.option(
    "--format", "kind", type=click.Choice(_FORMATS), default="numpy", show_default=True, help="For which tool."
)
@click.option("--overwrite", is_flag=True, help="Replace --out.")
def export(folder: Path, out: Path, kind: str, overwrite: bool) -> None:
    """Write all documents and vectors as files that other tools read.

    \b
    Example:
      nestvec index export runs/index --format parquet --out runs/exported
    """
    from nestvec.index import export as export_index

    with _open(folder) as found:
        export_index(found, out, kind, overwrite=overwrite, progress=draw_progress)  # type: ignore[arg-type]
        console().print(f"Written: {out}, {len(found):,} documents", soft_wrap=True)


def _open(folder: Path) -> Index:
    from nestvec.index import Index

    return Index.open(folder)


def _add(folder: Path, options: Mapping[str, Any], *, replacing: bool) -> None:
    quiet_libraries()
    from nestvec.jobs.index import DocumentFile, add_documents, encoder_of

    documents = DocumentFile(options["docs"], options["columns"], options["vectors"], options["strict"])
    with _open(folder) as found:
        encoder = None
        if documents.vectors is None:
            encoder = encoder_of(
                found,
                options["model"],
                force=options["force"],
                cache=not options["no_cache"],
                trust_remote_code=options["trust_remote_code"],
                progress=draw_progress,
            )
        written, replaced = add_documents(found, documents, encoder, replacing=replacing, progress=draw_progress)
        how = f"{written - replaced:,} added, {replaced:,} replaced" if replacing else f"{written:,} added"
        console().print(f"{how}; {len(found):,} documents are there.")


def _read_queries(path: Path | None) -> list[str] | None:
    from nestvec.data import read_line_list

    if path is None:
        return None
    texts = read_line_list(path)
    if not texts:
        raise click.UsageError(f"{path} has no queries. Write one a line.")
    return texts


def _facts(found: Index) -> dict[str, object]:
    stats, settings, search = found.stats(), found.settings, found.search_settings
    return {
        **stats._asdict(),
        "model": (found.model or {}).get("name"),
        "stored_dim": settings.stored_dim,
        "precision": settings.precision,
        "first_stage": found.codes._asdict(),
        "search": search.kept(),
        "tuned": found.tuned,
    }


def _describe(found: Index) -> None:
    from rich.table import Table

    from nestvec.report import spell_bytes

    stats, codes, search, tuned = found.stats(), found.codes, found.search_settings, found.tuned
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    gone = f", {stats.deleted:,} deleted and not compacted" if stats.deleted else ""
    files = f" in {stats.segments} files" if stats.segments > 1 else ""
    table.add_row("documents", f"{stats.documents:,}{files}{gone}")
    if found.model is not None:
        table.add_row("model", found.model["name"])
    lists = "" if codes.lists is None else f" in {codes.lists:,} IVF lists"
    table.add_row(
        "in memory",
        f"{codes.dim} dimensions as {codes.precision}{lists}: {stats.resident_bytes_per_vector:,.0f} bytes a vector, "
        f"{spell_bytes(stats.resident_bytes)}",
    )
    table.add_row(
        "on disk",
        f"{found.settings.stored_dim} dimensions as {found.settings.precision}: {stats.vector_bytes_per_vector:,.0f} "
        f"bytes a vector with its codes; with texts {spell_bytes(stats.disk_bytes)}",
    )
    measured = ""
    if tuned is not None and not tuned.get("stale"):
        whose = "its own documents" if tuned["measured_on"] == "documents" else "queries"
        of = f"exact {tuned['k']} best" if "plan" not in tuned else f"{tuned['k']} best of the plan's whole shortlist"
        measured = f"; finds {tuned['recall']:.1%} of the {of} for {whose}"
    table.add_row("search", f"{search}{measured}")
    if tuned is not None and "plan" in tuned:
        table.add_row("tuned", _changed(tuned["plan"], codes.lists, tuned))
    console().print(table)
    if tuned is None:
        return
    advice = []
    if tuned.get("stale"):
        advice.append("It was tuned before it was compacted, whose codes are new. Tune it again: nestvec index tune")
    elif tuned["low"] < tuned["needed"]:
        advice.append(
            f"Recall of {tuned['target']} was asked for and is not sure: its lower bound is {tuned['low']:.3f} where "
            f"{tuned['needed']:.3f} is needed. Longer codes (--codes), or vectors of more bits "
            "(--precision), raise it."
        )
    if abs(math.log(max(1, stats.documents) / tuned["documents"])) > math.log(_GROWN):
        advice.append(f"It held {tuned['documents']:,} documents when it was tuned. Tune it again.")
    for line in advice:
        console().print(line, style="yellow", soft_wrap=True)


def _changed(plan: Mapping[str, Any], lists: int | None, tuned: Mapping[str, Any]) -> str:
    """What tuning changed of what a plan says."""
    now = {"lists": lists, "probes": tuned["probes"], "margin": tuned["margin"]}
    spelled = {"lists": "IVF lists", "probes": "lists scanned", "margin": "margin"}
    changes = [
        f"{spelled[name]} {'none' if plan[name] is None else plan[name]} -> {'none' if value is None else value}"
        for name, value in now.items()
        if value != plan[name]
    ]
    return f"changed from the plan: {', '.join(changes)}" if changes else "nothing was changed from the plan"


def _print_tuned(tuned: Tuned) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("shortlist", "margin", "lists", "recall", "at least", "ms"):
        table.add_column(title, justify="right")
    for trial in tuned.trials:
        margin = "" if trial.margin is None else f"{trial.margin:.4f}"
        lists = "all" if trial.probes is None else f"{trial.probes:,}"
        measured = (f"{trial.recall:.4f}", f"{trial.low:.4f}", f"{trial.mean_ms:.3f}")
        table.add_row(f"{trial.shortlist:,}", margin, lists, *measured, style="bold" if trial == tuned.best else "dim")
    screen = console()
    screen.print(table)
    if not tuned.reached:
        screen.print(
            f"No setting surely reaches a recall of {tuned.measured['target']}; the best one is kept.",
            style="yellow",
            soft_wrap=True,
        )
