"""The report as a table, a page and a picture. Run: pytest tests/test_report.py (seconds)."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nestvec.errors import MissingExtraError, StorageError
from nestvec.evaluation import CellKey, GridScores, MeanScore, make_cells
from nestvec.report import (
    Example,
    ExampleAnswer,
    FoundDocument,
    Report,
    markdown_report,
    model_card,
    save_plot,
    terminal_examples,
    terminal_table,
)


def make_report() -> Report:
    generator = np.random.default_rng(0)

    def scores(shift: float) -> GridScores:
        values = {
            CellKey(dim): {
                name: MeanScore(np.clip(generator.normal(0.4 + shift + dim / 1000, 0.2, size=100), 0, 1))
                for name in ("MRR@10", "nDCG@10")
            }
            for dim in (384, 64, 32)
        }
        return GridScores(384, values)

    before, after = scores(0.0), scores(0.1)
    return Report(
        name="test run",
        base="minilm",
        headline="MRR@10",
        confidence=0.95,
        cells=[*make_cells("before", before), *make_cells("after", after, before=before)],
        benchmark={"name": "made up", "queries": 100, "documents": 1000, "relevant": 100},
        training={
            "source": "rows.jsonl",
            "rows": 10,
            "dims": [384, 64, 32],
            "max_tokens": 64,
            "steps": 5,
            "resumed_at_step": 0,
            "loss": [],
        },
        examples=[
            Example(
                "a query",
                64,
                ["right"],
                [
                    ExampleAnswer("before", 7, [FoundDocument("wrong", "x" * 300)]),
                    ExampleAnswer("after", 1, [FoundDocument("right", "right(a)\nis right")]),
                ],
            )
        ],
        seconds={"encode": 1.0, "train": 2.0},
        versions={"python": "3.11"},
        seed=0,
    )


def printed(renderable: object, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_the_terminal_table_shows_every_size_with_the_numbers_of_the_cells() -> None:
    report = make_report()
    text = printed(terminal_table(report, width=130), 130)
    for cell in report.cells:
        value = cell.metrics["MRR@10"]
        assert f"{value.value:.3f}"[1:] in text
        assert f"{cell.bytes_per_vector:,}" in text
    assert "95% bootstrap intervals" in text


@pytest.mark.parametrize("width", [72, 80, 114])
def test_a_narrow_terminal_gets_a_table_that_fits(width: int) -> None:
    text = printed(terminal_table(make_report(), width=width), width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    rows = [line.split() for line in text.splitlines() if line.strip().startswith(("384 ", "64 ", "32 "))]
    assert [len(row) for row in rows] == [7, 7, 7]
    assert "…" not in text
    for cell in make_report().cells:
        value = cell.metrics["MRR@10"]
        assert f"{value.low:.3f}-{value.high:.3f}".replace("0.", ".") in text


def test_examples_mark_the_right_answer_and_cut_long_ids() -> None:
    text = printed(terminal_examples(make_report().examples), 80)
    assert "* 1. right(a) is right" in text
    assert "  1. wrong: xxx" in text
    assert "before: right answer at rank 7" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_json_keeps_the_shape_and_holds_no_nan() -> None:
    document = json.loads(make_report().to_json())
    assert {"cells", "benchmark", "seconds", "versions"} <= set(document)
    assert [(cell["model"], cell["dim"]) for cell in document["cells"]] == [
        (model, dim) for model in ("before", "after") for dim in (384, 64, 32)
    ]
    assert "gain" in document["cells"][-1]


def test_the_page_and_the_card_tell_the_measured_numbers() -> None:
    report = make_report()
    value = report.cells[-1].metrics["MRR@10"].value
    for page in (markdown_report(report, plot="plot.png"), model_card(report, recipe='name = "x"\n')):
        assert f"{value:.3f}"[1:] in page
    assert "![" in markdown_report(report, plot="plot.png")


def test_the_card_tells_the_full_size_whatever_was_trained_in_which_order() -> None:
    report = make_report()
    for dims in ([32, 64, 384], [64, 32]):
        card = model_card(dataclasses.replace(report, training={**report.training, "dims": dims}), recipe="")
        assert "Text embeddings of 384 dimensions that can be cut to 64, 32." in card
    assert "base_model: sentence-transformers/all-MiniLM-L6-v2" in card
    assert "Texts are cut to 64 tokens" in card


def test_the_card_has_the_header_hubs_read_and_nothing_that_differs_between_equal_runs() -> None:
    report = make_report()
    card = model_card(report, recipe='name = "x"\n')
    assert card.startswith("---\nlibrary_name: sentence-transformers\n")
    assert "truncate_dim=64" in card
    slower = dataclasses.replace(report, seconds={"encode": 9.0, "train": 9.0})
    assert model_card(slower, recipe='name = "x"\n') == card


@pytest.mark.parametrize("name", ["plot.png", "plot.svg"])
def test_the_plot_is_a_picture_with_ink_and_the_same_every_time(tmp_path: Path, name: str) -> None:
    report = make_report()
    save_plot(report, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    save_plot(report, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first
    if name.endswith("png"):
        from matplotlib import image

        pixels = image.imread(tmp_path / name)[..., :3]
        assert pixels.shape[0] > 400
        assert 0.01 < (pixels.min(axis=2) < 0.9).mean() < 0.6
    else:
        assert b"<svg" in first


def test_a_plot_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"nestvec\[train\]"):
        save_plot(make_report(), tmp_path / "plot.png")


def test_a_plot_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        save_plot(make_report(), tmp_path / "file" / "plot.png")
