"""`nestvec adapt` and `nestvec transform`: frozen vectors to nested ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nestvec.cli.console import console, draw_progress, quiet_libraries
from nestvec.cli.options import TYPED_TEXT, rows_options, separated, trust_option
from nestvec.errors import AdaptorError, OutputExistsError

if TYPE_CHECKING:
    from nestvec.encoders import Encoder
    from nestvec.jobs.adapt import EncodedTexts

__all__ = ["adapt", "transform"]

_PathOption = click.Path(path_type=Path, dir_okay=False)
_PRESETS = ("small", "balanced", "full")
_OF_ENDPOINT = (
    "endpoint_batch",
    "endpoint_retries",
    "endpoint_timeout",
    "endpoint_key_file",
    "query_prompt",
    "document_prompt",
)
_OF_TEXTS = ("split", "columns", "positives", "strict", "negatives", "query_prompt", "document_prompt")
_METHODS = ("linear", "two-tower", "mlp", "rotation", "pca", "whitening")


@click.command()
@click.option("--queries", help="Vectors: .npy, .npz, .parquet, .arrow; file:name where a file has several.")
@click.option("--documents", help="The same. Without --pairs row i belongs to row i; alone with --unsupervised.")
@click.option("--encoder", help="What gave these vectors, to refuse those of others later: a folder, hub id, minilm.")
@click.option(
    "--pairs", type=_PathOption, help="npy, whole numbers [n, 2]: query row, document row, perhaps negatives."
)
@click.option("--scores", type=_PathOption, help="npy, [n]: how similar the two of each pair are.")
@click.option("--model", help="Encode texts by this: a folder, a hub id, minilm, static, or its name at --endpoint.")
@click.option("--endpoint", help="OpenAI-compatible address that encodes, such as http://localhost:8000/v1.")
@click.option(
    "--endpoint-batch", type=click.IntRange(min=1), default=64, show_default=True, help="Texts in a request at most."
)
@click.option(
    "--endpoint-retries",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="How often to ask again while the endpoint is busy (429, 5xx).",
)
@click.option(
    "--endpoint-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="Seconds to wait for an answer, and for as long as the endpoint asks to, at most.",
)
@click.option(
    "--endpoint-key-file",
    type=_PathOption,
    help="File that holds the key.  [default: NESTVEC_API_KEY or OPENAI_API_KEY]",
)
@click.option("--query-prompt", type=TYPED_TEXT, default="", help="Put before every query that --endpoint encodes.")
@click.option("--document-prompt", type=TYPED_TEXT, default="", help="The same for documents.")
@click.option("--data", type=click.Path(path_type=Path), help="Texts for --model: a file of records or a BEIR folder.")
@rows_options
@click.option("--negatives", type=click.IntRange(min=0), default=0, show_default=True, help="Hard negatives a row.")
@click.option("--out", required=True, type=_PathOption, help="The adaptor to write, .safetensors.")
@click.option(
    "--save-model", type=click.Path(path_type=Path, file_okay=False), help="Write --model with the adaptor in."
)
@click.option("--dims", callback=separated(int), help="Such as 384,128,32; default: full size and powers of two.")
@click.option(
    "--method",
    type=click.Choice(_METHODS),
    help="Kind of adaptor.  [default: two-tower or linear for pairs, else linear]",
)
@click.option(
    "--preset",
    type=click.Choice(_PRESETS),
    default="balanced",
    show_default=True,
    help="Which sizes matter most.",
)
@click.option("--unsupervised", is_flag=True, help="Use no labels: keep the neighbourhoods of the vectors.")
@click.option(
    "--distillation",
    type=click.FloatRange(min=0),
    help="Weight of that beside labels.  [default: 0.3 beside scores, else 0]",
)
@click.option(
    "--start",
    type=click.Choice(["identity", "pca", "pairs"]),
    help="Where training begins.  [default: the better one for pairs, else pca; the best one of a rotation]",
)
@click.option(
    "--strength",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the way from the start to keep.  [default: what is best on held-out data]",
)
@click.option(
    "--centered/--not-centered",
    default=True,
    show_default=True,
    help="Principal components about the mean, or about 0.",
)
@click.option(
    "--precisions", callback=separated(str), help="Such as float32,binary: fit for codes.  [default: float32]"
)
@click.option(
    "--shortest-code",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Bytes of codes that count there.",
)
@click.option(
    "--mined-negatives", type=click.IntRange(min=0), default=1, show_default=True, help="Near documents a query."
)
@click.option(
    "--pull",
    type=click.FloatRange(min=0),
    help="Weight of staying near the start.  [default: 0.01; scores, rotation 0]",
)
@click.option("--tie", type=click.FloatRange(min=0), help="Weight of keeping two towers alike.  [default: 0.1]")
@click.option(
    "--epochs",
    type=click.FloatRange(min=0, min_open=True),
    help="Passes over the data.  [default: 12, for scores 20]",
)
@click.option(
    "--batch-size", type=click.IntRange(min=2), default=2048, show_default=True, help="Pairs in a step at most."
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="At its highest.  [default: 0.01; mlp 0.001; rotation 0.004]",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    help="Of the loss.  [default: 0.06, for scores 0.2, without labels 0.05]",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Share kept to measure on.",
)
@trust_option
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of every draw.")
@click.option("--overwrite", is_flag=True, help="Replace what is written, whatever it is.")
def adapt(**options: Any) -> None:
    """Fit a map from frozen vectors to vectors that can be cut to any size.

    \b
    Example:
      nestvec adapt --queries q.npy --documents d.npy --dims 384,128,32 --out adaptor.safetensors
      nestvec adapt --model minilm --data rows.jsonl --out adaptor.safetensors --save-model adapted
    """
    _check_sources(options)
    _require_free(options["out"], options["save_model"], overwrite=options["overwrite"])
    quiet_libraries()
    with draw_progress("loading libraries", None):
        from nestvec.adaptors import FitSettings, fit_adaptor, save
        from nestvec.jobs.adapt import save_adapted_model
        from nestvec.report import adaptor_table

    settings = FitSettings(
        preset=options["preset"],
        start=options["start"],
        strength=options["strength"],
        centered=options["centered"],
        epochs=options["epochs"],
        batch_size=options["batch_size"],
        learning_rate=options["learning_rate"],
        temperature=options["temperature"],
        precisions=options["precisions"] or ("float32",),
        shortest_code=options["shortest_code"],
        mined_negatives=options["mined_negatives"],
        pull=options["pull"],
        tie=options["tie"],
        distillation=options["distillation"],
        held_out_share=options["held_out"],
        seed=options["seed"],
    )
    data, encoder = _read(options)
    adaptor = fit_adaptor(
        data,
        options["dims"],
        method=options["method"],
        settings=settings,
        encoder=encoder,
        progress=draw_progress,
    )
    save(options["out"], adaptor)
    screen = console()
    screen.print(adaptor_table(adaptor))
    written = [options["out"]]
    if options["save_model"] is not None:
        trusted = options["trust_remote_code"]
        save_adapted_model(adaptor, options["model"], options["save_model"], trust_remote_code=trusted)
        written.append(options["save_model"])
        if adaptor.replaced:
            dims = ", ".join(map(str, adaptor.replaced))
            screen.print(
                f"A model has one map only: at {dims} the adaptor's file gives better vectors.", style="yellow"
            )
    screen.print(f"Written: {', '.join(map(str, written))}", soft_wrap=True)


@click.command()
@click.argument("adaptor", type=_PathOption)
@click.argument("vectors")
@click.option(
    "--side", type=click.Choice(["query", "document"]), default="document", show_default=True, help="Whose vectors."
)
@click.option("--dim", type=click.IntRange(min=1), help="Dimensions to keep; default: all, to be cut later.")
@click.option("--encoder", help="What gave the vectors; an adaptor that was fitted on another is refused.")
@click.option("--force", is_flag=True, help="Accept an adaptor that was fitted on another encoder.")
@trust_option
@click.option("--out", required=True, type=_PathOption, help="The vectors to write, .npy.")
@click.option("--overwrite", is_flag=True, help="Replace --out, whatever it is.")
def transform(
    adaptor: Path,
    vectors: str,
    side: str,
    dim: int | None,
    encoder: str | None,
    force: bool,
    trust_remote_code: bool,
    out: Path,
    overwrite: bool,
) -> None:
    """Map VECTORS of a file by ADAPTOR, a block at a time, without torch.

    \b
    Example:
      nestvec transform adaptor.safetensors d.npy --dim 64 --out d64.npy
    """
    import numpy as np

    from nestvec.adaptors import load
    from nestvec.data import read_vectors
    from nestvec.files import atomic_path

    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} exists. Choose another file, or pass --overwrite.")
    found = load(adaptor)
    if encoder is not None:
        found.check_encoder(_identities(encoder, trust_remote_code=trust_remote_code), force=force)
    rows = read_vectors(vectors)
    shape = (len(rows), found.check_dim(dim))
    with atomic_path(out) as partial:
        mapped = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
        found.transform_into(mapped, rows, side)
        mapped.flush()
    console().print(f"Written: {out}, {shape[0]:,} vectors of {shape[1]}", soft_wrap=True)


def _identities(encoder: str, *, trust_remote_code: bool) -> dict[str, str]:
    from nestvec.adaptors import SIDES
    from nestvec.encoders import SentenceTransformerEncoder, load_base

    quiet_libraries()
    found = SentenceTransformerEncoder(load_base(encoder, trust_remote_code=trust_remote_code))
    return {side: found.identity(side) for side in SIDES}


def _check_sources(options: dict[str, Any]) -> None:
    given = {
        name
        for name in ("queries", "documents", "encoder", "pairs", "scores", "model", "endpoint", "data")
        if options[name]
    }
    texts = given & {"model", "endpoint", "data"}
    vectors = given - texts
    if texts and vectors:
        raise click.UsageError(
            f"--{min(vectors)} is for ready vectors and --{min(texts)} for texts. Give one of the two."
        )
    for_texts = [name for name in _OF_TEXTS if _was_given(name)]
    if vectors and for_texts:
        raise click.UsageError(f"--{for_texts[0].replace('_', '-')} is for texts, and these are ready vectors.")
    ready = {"documents"} if options["unsupervised"] else {"queries", "documents"}
    if not (ready <= given or {"model", "data"} <= given):
        raise click.UsageError(
            f"Give {' and '.join(f'--{name}' for name in sorted(ready, reverse=True))}, or --model and --data."
        )
    if options["unsupervised"] and given & {"pairs", "scores"}:
        raise click.UsageError(
            "--unsupervised uses no labels. Leave --pairs and --scores out, or mix by --distillation."
        )
    of_endpoint = [name for name in _OF_ENDPOINT if _was_given(name)]
    if of_endpoint and options["endpoint"] is None:
        raise click.UsageError(f"--{of_endpoint[0].replace('_', '-')} goes with --endpoint.")
    if options["save_model"] is not None and (options["model"] is None or options["endpoint"] is not None):
        raise click.UsageError("--save-model needs a local --model to put the adaptor into.")


def _read_key(path: Path | None) -> str | None:
    from nestvec.data import read_line_list

    if path is None:
        return None
    lines = read_line_list(path)
    if len(lines) != 1:
        raise click.UsageError(f"{path} has {len(lines)} lines with text. The key is on one line, alone.")
    return lines[0]


def _was_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE


def _require_free(out: Path, model: Path | None, *, overwrite: bool) -> None:
    """Refuse before any work to replace what is no adaptor, or a model at all."""
    if overwrite:
        return
    if model is not None and model.exists():
        raise OutputExistsError(f"{model} exists. Choose another folder, or pass --overwrite.")
    if out.exists():
        from nestvec.adaptors import load

        try:
            load(out)
        except AdaptorError:
            raise OutputExistsError(f"{out} exists and is no adaptor. Choose another, or pass --overwrite.") from None


def _read(options: dict[str, Any]) -> EncodedTexts:
    from nestvec.encoders import CachedEncoder, RemoteEncoder, load_base
    from nestvec.jobs.adapt import EncodedTexts, encode_texts, read_frozen_vectors
    from nestvec.sources import make_encoder

    labeled = not options["unsupervised"]
    if options["model"] is None:
        ready = read_frozen_vectors(
            options["queries"],
            options["documents"],
            pairs=options["pairs"],
            scores=options["scores"],
            labeled=labeled,
        )
        trusted = options["trust_remote_code"]
        known = {} if options["encoder"] is None else _identities(options["encoder"], trust_remote_code=trusted)
        return EncodedTexts(ready, known)
    encoder: Encoder
    if options["endpoint"] is not None:
        encoder = RemoteEncoder(
            options["endpoint"],
            options["model"],
            api_key=_read_key(options["endpoint_key_file"]),
            batch_size=options["endpoint_batch"],
            retries=options["endpoint_retries"],
            timeout_s=options["endpoint_timeout"],
            query_prompt=options["query_prompt"],
            document_prompt=options["document_prompt"],
        )
    else:
        model = load_base(options["model"], trust_remote_code=options["trust_remote_code"])
        encoder = make_encoder(options["model"], model, unit_length=True)
    return encode_texts(
        options["data"],
        CachedEncoder(encoder, about=options["model"]),
        split=options["split"],
        negatives=options["negatives"],
        labeled=labeled,
        columns=options["columns"],
        positives=options["positives"],
        strict=options["strict"],
        progress=draw_progress,
    )
