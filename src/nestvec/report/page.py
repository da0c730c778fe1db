"""The report and the model card as Markdown pages."""

from __future__ import annotations

from pathlib import Path

from nestvec.report.document import Report, size_rows
from nestvec.report.grid_document import GridReport
from nestvec.report.grid_table import markdown_grid
from nestvec.report.table import markdown_table

_EXAMPLE_WIDTH = 110
_HUB_IDS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}

__all__ = ["markdown_report", "model_card", "rotated_card"]


def markdown_report(report: Report, *, plot: str) -> str:
    """Write the whole report as Markdown.

    Args:
        report: What to tell.
        plot: File name of the picture, beside the page.

    Returns:
        Markdown.
    """
    parts = [
        f"# {report.name}",
        "",
        markdown_table(report),
        f"![{report.headline} against the numbers kept]({plot})",
        "",
        _stages(report),
        _all_metrics(report),
        _examples(report),
        "## Wall time, in seconds",
        "",
        *(f"- {part}: {seconds:.1f}" for part, seconds in report.seconds.items()),
        "",
        "## Versions",
        "",
        *(f"- {package} {version}" for package, version in report.versions.items()),
        "",
        f"Seed {report.seed}. Benchmark: {report.benchmark['name']}. Texts are {_limit(report)}.",
    ]
    return "\n".join(parts) + "\n"


def model_card(report: Report, *, recipe: str) -> str:
    """Write the card of the trained model, `README.md` in its folder.

    Args:
        report: What was measured; nothing that differs between two equal runs is taken from it.
        recipe: The recipe as TOML.

    Returns:
        Markdown with the YAML header that model hubs read.
    """
    dims = sorted(report.training["dims"], reverse=True)
    full_dim = max(cell.dim for cell in report.cells)
    smallest_useful = 64 if 64 in dims else dims[-1]
    base = _short(report.base)
    header = _header(report.base)
    training = report.training
    unseen = training.get("rows_held_out", 0)
    held_out = f", {unseen:,} more held out to judge its rotation by" if unseen else ""
    sizes = ", ".join(str(dim) for dim in dims if dim < full_dim) or "no less"
    body = [
        f"# {report.name}",
        "",
        f"Text embeddings of {full_dim} dimensions that can be cut to {sizes}.",
        f"Fine-tuned from {base} on {training['rows']:,} rows ({training['source']}{held_out}) with nested InfoNCE,",
        f"{training['steps']:,} steps. Texts are {_limit(report)}, in training, in the figures below and in the model.",
        "",
        *_usage(smallest_useful),
        "## Measured",
        "",
        markdown_table(report),
        f"Benchmark: {report.benchmark['name']}.",
        "",
        _stages(report),
        "## Recipe",
        "",
        "```toml",
        recipe.strip(),
        "```",
    ]
    return "\n".join([*header, *body]) + "\n"


def rotated_card(report: GridReport, base: str) -> str:
    """Write the card of a model that was rotated, `README.md` in its folder.

    Args:
        report: Its grid, and that of the model it was.
        base: The model it was.

    Returns:
        Markdown with the YAML header that model hubs read.
    """
    rotated = [cell for cell in report.cells if cell.model == next(iter(report.models))]
    dims = sorted({cell.dim for cell in rotated}, reverse=True)
    lines = [
        *_header(base),
        f"# {_short(base)}, rotated",
        "",
        f"Text embeddings of {dims[0]} dimensions that can be cut to {', '.join(map(str, dims[1:])) or 'no less'}:",
        f"those of {_short(base)}, rotated so that truncated ones retrieve better. Full-size cosines are the same.",
        "",
        *_usage(64 if 64 in dims else dims[-1]),
        "## Measured",
        "",
        markdown_grid(report),
    ]
    return "\n".join(lines) + "\n"


def _header(base: str) -> list[str]:
    known = _HUB_IDS.get(base, base)
    is_hub_id = "/" in known and not Path(base).expanduser().exists()
    return [
        "---",
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "tags:",
        *(f"- {tag}" for tag in ("sentence-transformers", "feature-extraction", "matryoshka", "nestvec")),
        *([f"base_model: {known}"] if is_hub_id else []),
        "---",
    ]


def _short(base: str) -> str:
    folder = Path(base).expanduser()
    return folder.name if folder.exists() else base


def _usage(dim: int) -> list[str]:
    return [
        "## Use",
        "",
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("path/to/this/folder", truncate_dim={dim})',
        f'vectors = model.encode(["some text"], normalize_embeddings=True)  # [1, {dim}], unit length',
        "```",
        "",
        "Keep `normalize_embeddings=True`: a cut vector is no unit vector until its length is restored.",
        "",
    ]


def _all_metrics(report: Report) -> str:
    rows = size_rows(report)
    names = list(rows[0].after.metrics)
    titles = ["dim", *(f"{name} {when}" for name in names for when in ("before", "after"))]
    lines = ["## Every metric", "", f"| {' | '.join(titles)} |", "|" + "---:|" * len(titles)]
    for row in rows:
        values = [cell.metrics[name].value for name in names for cell in (row.before, row.after)]
        lines.append(f"| {row.dim} | {' | '.join(f'{value:.4f}' for value in values)} |")
    return "\n".join(lines) + "\n"


def _stages(report: Report) -> str:
    if not report.stages:
        return ""
    dims = sorted(report.stages[0].scores, reverse=True)
    lines = [
        "## What each stage gave",
        "",
        f"{report.headline} by dimensions, one stage after another.",
        "",
        f"| stage | {' | '.join(map(str, dims))} |",
        "|---|" + "---:|" * len(dims),
    ]
    lines += [f"| {stage.name} | {' | '.join(f'{stage.scores[dim]:.4f}' for dim in dims)} |" for stage in report.stages]
    return "\n".join(lines) + "\n"


def _limit(report: Report) -> str:
    tokens = report.training["max_tokens"]
    return f"cut to {tokens} tokens" if tokens else "not cut"


def _quote(text: str) -> str:
    shortened = text[:_EXAMPLE_WIDTH].replace("`", "'")
    return f"`{shortened}`"


def _examples(report: Report) -> str:
    if not report.examples:
        return ""
    lines = [f"## Example answers at {report.examples[0].dim} dimensions", ""]
    for example in report.examples:
        lines += [f"**{example.query}**", ""]
        for answer in example.answers:
            lines.append(f"- {answer.model}: right answer at rank {answer.rank}. First:")
            lines += [f"  {rank}. {_quote(document.line())}" for rank, document in enumerate(answer.documents, 1)]
        lines.append("")
    return "\n".join(lines)
