"""`nestvec evaluate`: the grid of a model on the user's own data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from nestvec.cli.console import console, draw_progress, quiet_libraries
from nestvec.cli.options import read_columns, read_count, separated, trust_option
from nestvec.errors import OutputExistsError
from nestvec.extras import require
from nestvec.files import write_text

__all__ = ["evaluate"]

_PathOption = click.Path(path_type=Path, dir_okay=False)
_BYTES_THAT_TELL = 4096
_SIGNS = {
    "json_file": b'"headline"',
    "csv_file": b"model,dim,precision,",
    "markdown_file": b"| dim | precision |",
    "plot_file": b"nestvec",
    "html_file": b"What every byte costs",
}
"""What the beginning of each file that is written holds."""


def _read_rerank(text: str) -> Any:
    from nestvec.evaluation import parse_rerank

    return parse_rerank(text)


def _read_baselines(context: click.Context, option: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    baselines = {}
    for value in values:
        name, separator, source = value.partition("=")
        if value != "pca" and not (name and separator and source):
            raise click.BadParameter(f"{value!r} is neither pca nor NAME=MODEL.", context, option)
        if name in baselines:
            raise click.BadParameter(f"{name!r} stands for two models. Give each a name of its own.", context, option)
        baselines[name] = source or value
    return baselines


def _read_picture(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix not in {".png", ".svg"}:
        raise click.BadParameter(f"{str(value)!r} ends neither in .png nor in .svg.", context, option)
    return value


@click.command()
@click.argument("model")
@click.option("--benchmark", required=True, type=click.Path(path_type=Path), help="BEIR folder, or file of records.")
@click.option("--task", "kind", help="What to measure; default: what the data look like.")
@click.option("--split", default="test", show_default=True, help="Which qrels, or which file of a folder.")
@click.option(
    "--columns", callback=read_columns, help="Such as text=body,label=intent; or all names, of a file without header."
)
@click.option("--strict", is_flag=True, help="Refuse what published data have and is otherwise left out and counted.")
@click.option("--train", type=_PathOption, help="Texts to learn from, for classification and few-shot.")
@click.option("--shots", type=click.IntRange(min=1), help="Examples of each class, for few-shot.  [default: 8]")
@click.option("--draws", type=click.IntRange(min=1), help="Draws of examples to average, for few-shot.  [default: 10]")
@click.option("--metrics", callback=separated(str), help="Such as nDCG@10,Recall@100; the first is the headline.")
@click.option("--dims", callback=separated(int), help="Such as 384,64; default: those the model was trained for.")
@click.option(
    "--precisions",
    callback=separated(str),
    help="Such as int8,pq32.  [default: float32,float16,int8,int4,binary,pq64,pq32,pq16,pq8]",
)
@click.option(
    "--fit-on",
    type=click.Path(path_type=Path),
    help="Rows or texts that ranges and codebooks are learned from.  [default: the documents that are measured]",
)
@click.option("--rerank", callback=separated(_read_rerank), help="Second stages, such as none,int8:100,float16:400.")
@click.option("--reference", help="A model that gains are relative to, or pca.")
@click.option("--baseline", "baselines", multiple=True, callback=_read_baselines, help="pca, or NAME=MODEL.")
@click.option("--name", help="What to call the model.")
@click.option("--corpus-size", callback=read_count, help="State total bytes for so many vectors, such as 10e6.")
@click.option("--latency/--no-latency", default=True, show_default=True, help="Time the search of every cell.")
@click.option("--force", is_flag=True, help="Accept an adaptor that was fitted on another encoder.")
@trust_option
@click.option("--cache/--no-cache", default=True, show_default=True, help="Keep vectors on disk for the next time.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Texts encoded at once.")
@click.option("--samples", type=click.IntRange(min=100), default=2000, show_default=True, help="Bootstrap resamples.")
@click.option(
    "--confidence", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True, help="Of every interval."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of every draw.")
@click.option("--json", "json_file", type=_PathOption, help="Write the grid, for nestvec plan and other tools.")
@click.option("--csv", "csv_file", type=_PathOption, help="Write every cell as a line.")
@click.option("--markdown", "markdown_file", type=_PathOption, help="Write the table.")
@click.option("--plot", "plot_file", type=_PathOption, callback=_read_picture, help="Draw it: a .png or .svg file.")
@click.option(
    "--html", "html_file", type=_PathOption, help="Write one page that needs no network, to look at and send."
)
@click.option("--overwrite", is_flag=True, help="Replace the files to write, whatever they hold.")
def evaluate(model: str, benchmark: Path, **options: Any) -> None:
    """Measure MODEL in every cell of sizes x precisions x reranks, from one encoding.

    MODEL is a folder, a hub id, minilm, static, or vectors:DIR with queries.npy and documents.npy in the order of the
    benchmark. adaptor.safetensors=MODEL puts an adaptor behind it.

    \b
    Example:
      nestvec evaluate runs/quickstart/model --benchmark runs/quickstart/benchmark --json runs/quickstart/grid.json
    """
    written = {name: options[name] for name in _SIGNS if options[name] is not None}
    _require_free(written, overwrite=options["overwrite"])
    quiet_libraries()
    with draw_progress("loading libraries", None):
        from nestvec.jobs.evaluate import GridSettings
        from nestvec.jobs.evaluate import evaluate as run
        from nestvec.jobs.tasks import TaskSettings
        from nestvec.quantization import PRECISIONS
        from nestvec.report import GridReport, csv_grid, html_grid, markdown_grid, save_grid_plot, terminal_grid

    if options["plot_file"] is not None:
        require("matplotlib", extra="train")  # sooner than after all the measuring
    report = run(
        model,
        benchmark,
        name=options["name"],
        reference=options["reference"],
        baselines=options["baselines"],
        task_settings=TaskSettings(
            kind=options["kind"],
            split=options["split"],
            train=options["train"],
            metrics=options["metrics"],
            shots=options["shots"],
            draws=options["draws"],
            seed=options["seed"],
            columns=options["columns"],
            strict=options["strict"],
        ),
        settings=GridSettings(
            dims=options["dims"],
            precisions=options["precisions"] or PRECISIONS,
            fit_on=options["fit_on"],
            reranks=options["rerank"],
            latency=options["latency"],
            cache=options["cache"],
            force=options["force"],
            trust_remote_code=options["trust_remote_code"],
            batch_size=options["batch_size"],
            corpus_size=options["corpus_size"],
            samples=options["samples"],
            confidence=options["confidence"],
            seed=options["seed"],
        ),
        progress=draw_progress,
    )
    screen = console()
    screen.print(terminal_grid(report, width=screen.width))
    makers = {
        "json_file": GridReport.to_json,
        "csv_file": csv_grid,
        "markdown_file": markdown_grid,
        "html_file": html_grid,
    }
    for name, make in makers.items():
        if name in written:
            write_text(written[name], make(report))
    if "plot_file" in written:
        save_grid_plot(report, written["plot_file"])
    if written:
        screen.print(f"Written: {', '.join(map(str, written.values()))}", soft_wrap=True)


def _require_free(written: Mapping[str, Path], *, overwrite: bool) -> None:
    """Refuse before any work to replace what is no file of an earlier evaluation, or to write two things into one."""
    for name, path in written.items():
        if list(written.values()).count(path) > 1:
            raise OutputExistsError(f"{path} is to hold two things. Give each a file of its own.")
        if overwrite or not path.exists():
            continue
        with path.open("rb") as file:
            beginning = file.read(_BYTES_THAT_TELL)
        if beginning and _SIGNS[name] not in beginning:
            raise OutputExistsError(
                f"{path} exists and is not from an earlier evaluation. Choose another file, or pass --overwrite."
            )
