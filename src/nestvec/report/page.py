"""The report and the model card as Markdown pages."""

from __future__ import annotations

from pathlib import Path

from nestvec.report.document import Report, size_rows
from nestvec.report.table import markdown_table

_EXAMPLE_WIDTH = 110
_HUB_IDS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}

__all__ = ["markdown_report", "model_card"]


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
    folder = Path(report.base).expanduser()
    base = folder.name if folder.exists() else report.base
    header = [
        "---",
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "tags:",
        *(f"- {tag}" for tag in ("sentence-transformers", "feature-extraction", "matryoshka", "nestvec")),
        *([f"base_model: {_HUB_IDS.get(base, base)}"] if "/" in _HUB_IDS.get(base, base) else []),
        "---",
    ]
    training = report.training
    sizes = ", ".join(str(dim) for dim in dims if dim < full_dim) or "no less"
    body = [
        f"# {report.name}",
        "",
        f"Text embeddings of {full_dim} numbers that can be cut to {sizes}.",
        f"Fine-tuned from {base} on {training['rows']:,} rows ({training['source']}) with nested InfoNCE,",
        f"{training['steps']:,} steps. Texts are {_limit(report)}, in training, in the figures below and in the model.",
        "",
        "## Use",
        "",
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("path/to/this/folder", truncate_dim={smallest_useful})',
        f'vectors = model.encode(["some text"], normalize_embeddings=True)  # [1, {smallest_useful}], unit length',
        "```",
        "",
        "Keep `normalize_embeddings=True`: a cut vector is no unit vector until its length is restored.",
        "",
        "## Measured",
        "",
        markdown_table(report),
        f"Benchmark: {report.benchmark['name']}.",
        "",
        "## Recipe",
        "",
        "```toml",
        recipe.strip(),
        "```",
    ]
    return "\n".join([*header, *body]) + "\n"


def _all_metrics(report: Report) -> str:
    rows = size_rows(report)
    names = list(rows[0].after.metrics)
    titles = ["dim", *(f"{name} {when}" for name in names for when in ("before", "after"))]
    lines = ["## Every metric", "", f"| {' | '.join(titles)} |", "|" + "---:|" * len(titles)]
    for row in rows:
        values = [cell.metrics[name].value for name in names for cell in (row.before, row.after)]
        lines.append(f"| {row.dim} | {' | '.join(f'{value:.4f}' for value in values)} |")
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
    lines = [f"## Example answers at {report.examples[0].dim} numbers", ""]
    for example in report.examples:
        lines += [f"**{example.query}**", ""]
        for answer in example.answers:
            lines.append(f"- {answer.model}: right answer at rank {answer.rank}. First:")
            lines += [f"  {rank}. {_quote(document.line())}" for rank, document in enumerate(answer.documents, 1)]
        lines.append("")
    return "\n".join(lines)
