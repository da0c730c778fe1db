"""The page of a grid, opened in a real browser. Needs Chromium. Run: pytest tests/test_report_page.py (ten seconds)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nestvec.evaluation import CellKey, GridScores, MeanScore, Rerank, make_cells
from nestvec.evaluation.latency import Latency
from nestvec.quantization import bytes_per_vector
from nestvec.report import FittedOn, GridReport, SampleQuery, efficient_cells, html_grid

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]


def make_report(n_models: int = 2, names: Sequence[str] = ("after", "before")) -> GridReport:
    generator = np.random.default_rng(0)
    keys = [
        CellKey(dim, precision, stage)
        for dim in (64, 32, 16)
        for precision in ("float32", "int8", "binary", "pq4", "pq8", "pq8x8")
        for stage in (None, Rerank("int8", 100))
    ]
    latencies = {key: Latency(0.1, 0.2, 9000.0) for key in keys}

    def scores(shift: float) -> GridScores:
        return GridScores(
            64,
            {
                key: {
                    name: MeanScore(
                        generator.random(50) * 0.2
                        + 0.05 * np.log2(8 * bytes_per_vector(key.dim, key.precision))
                        + shift
                    )
                    for name in ("MRR@10", "nDCG@10")
                }
                for key in keys
            },
        )

    names = names[:n_models]
    measured = [scores(0.1 * (place == 0)) for place in range(n_models)]
    measured[0] = replace(measured[0], latencies=latencies)
    cells = make_cells(names[0], measured[0], before=measured[-1] if n_models > 1 else None)
    if n_models > 1:
        cells += make_cells(names[1], measured[1])
    documents = {
        f"d{i}": f"document {i} with <b>tags</b> & </script><script>document.title = 'broken'</script>"
        for i in range(20)
    }
    answers = {
        name: {dim: [f"d{(i * (1 if dim == 64 else dim + 1)) % 20}" for i in range(10)] for dim in (64, 32, 16)}
        for name in names
    }
    return GridReport(
        headline="MRR@10",
        confidence=0.95,
        cells=cells,
        models={name: name for name in names},
        reference=names[1] if n_models > 1 else None,
        benchmark={"name": "made up </script>", "task": "retrieval", "unit": "queries", "queries": 50, "documents": 20},
        corpus_size=10_000_000,
        measured_size=20,
        fitted_on=FittedOn("/data/rows.jsonl", 5000),
        impossible=["16 x pq64: pq64 has 128 codebooks of 4 bits, and 16 dimensions are fewer."],
        samples=[SampleQuery("first <i>question</i>?", ["d0"], answers), SampleQuery("second?", ["d3"], answers)],
        documents=documents,
        hardware={"cpu": "a processor"},
        versions={"python": "3.11"},
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


class Opened:
    """A page with what it complained about and asked the network for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1200, "height": 900}, **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Opened]:
    path = tmp_path / "grid.html"
    path.write_text(html_grid(make_report()), encoding="utf-8")
    result = Opened(browser, path)
    yield result
    assert result.complaints == []
    assert result.requests == [path.as_uri()]
    result.context.close()


def colours(screenshot: bytes) -> int:
    import io

    from matplotlib.image import imread

    pixels = imread(io.BytesIO(screenshot), format="png")
    return len(np.unique((pixels[::4, ::4, :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0))


def test_the_page_shows_every_cell_and_no_blank(opened: Opened) -> None:
    page = opened.page
    assert page.title() == "What every byte costs: after on made up </script>"
    assert page.locator("#chart .cell").count() == len(make_report().cells)
    assert page.locator("#table tbody tr").count() == len(make_report().cells)
    assert page.locator("#table tbody tr.front").count() == sum(
        len(efficient_cells(make_report(), model)) for model in ("after", "before")
    )
    assert page.locator(".card").count() == 3
    assert colours(page.screenshot(full_page=True)) > 60
    assert "codebooks are learned from 5,000 texts of rows.jsonl" in page.locator("#method").inner_text()
    assert "16 x pq64: pq64 has" in page.locator("#impossible").inner_text()
    assert "/data/" not in page.content()


def test_pointing_at_a_cell_tells_its_figures(opened: Opened) -> None:
    from playwright.sync_api import expect

    report, page = make_report(), opened.page
    cell = next(one for one in report.cells if one.key == CellKey(16, "int8", Rerank("int8", 100)))
    place = report.cells.index(cell)
    page.locator(f'#chart .cell[data-place="{place}"] .mark').hover(force=True)
    tip = page.locator("#tip")
    expect(tip).to_have_css("opacity", "1")
    text = tip.inner_text()
    assert "after: 16 x int8, rerank int8:100" in text
    assert f"{cell.metrics['MRR@10'].value:.3f}".removeprefix("0") in text
    assert re.search(r"in memory\s+16 B", text)
    assert re.search(r"on disk\s+80 B", text)
    assert "160.0 MB + 640.0 MB" in text
    assert "0.10 / 0.20 ms" in text
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1200


def test_the_slider_changes_what_is_found(opened: Opened) -> None:
    report, page = make_report(), opened.page

    def shown(column: int) -> list[str]:
        return (
            page.locator(".answers > div")
            .nth(column)
            .locator("li")
            .evaluate_all("items => items.map(item => item.dataset.id)")
        )

    for place, dim in enumerate((16, 32, 64)):
        page.locator("#dim").fill(str(place))
        assert page.locator("#dim-label").inner_text().startswith(f"{dim} dimensions")
        for column, model in enumerate(("after", "before")):
            assert shown(column) == report.samples[0].answers[model][dim]
    page.locator("#dim").press("ArrowLeft")
    assert page.locator("#dim-label").inner_text().startswith("32 dimensions")
    assert page.locator(".answers li.right").count() >= 1
    assert page.locator(".answers .down").count() >= 1
    page.locator("#query").select_option("1")
    page.locator("#dim").fill("2")
    assert page.locator(".answers li.right").first.get_attribute("data-id") == "d3"
    assert "<b>tags</b>" in page.locator(".answers li .text").first.inner_text()


def test_models_precisions_and_stages_can_be_left_out_and_the_axis_changed(opened: Opened) -> None:
    report, page = make_report(), opened.page
    page.get_by_role("button", name="before").click()
    assert page.locator("#chart .cell").count() == len(report.cells) // 2
    page.get_by_role("button", name="with rerank").click()
    page.get_by_role("button", name="binary").click()
    assert page.locator("#chart .cell").count() == 3 * 5
    page.get_by_role("button", name="pq4").click()
    assert page.locator("#chart .cell").count() == 3 * 4
    page.locator("#axis").select_option("disk")
    assert "on disk, both stages" in page.locator("#chart").inner_text()
    for name in ("after", "float32", "int8", "one stage"):
        page.get_by_role("button", name=name, exact=True).click()
    assert "Nothing is chosen" in page.locator("#chart").inner_text()


def test_the_table_sorts_by_any_column(opened: Opened) -> None:
    page = opened.page

    def column(place: int) -> list[str]:
        return page.locator(f"#table tbody td:nth-child({place})").all_inner_texts()

    titles = page.locator("#table th").all_inner_texts()
    at = next(place for place, title in enumerate(titles, 1) if title.startswith("MRR@10"))
    page.locator(f"#table th:nth-child({at})").click()
    rising = [float(text.split()[0]) for text in column(at)]
    assert rising == sorted(rising)
    page.locator(f"#table th:nth-child({at})").press("Enter")
    assert [float(text.split()[0]) for text in column(at)] == rising[::-1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_readers_theme_and_can_be_switched(browser: Any, tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "grid.html"
    path.write_text(html_grid(make_report(n_models=1)), encoding="utf-8")
    opened = Opened(browser, path, color_scheme=scheme)
    brightness = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, one) => sum + Number(one), 0)"
    first = opened.page.evaluate(brightness)
    assert (first < 200) == (scheme == "dark")
    strokes = "items => items.map(item => getComputedStyle(item).stroke)"
    assert len(set(opened.page.locator("#chart .cell .mark").evaluate_all(strokes))) == 6  # one for each precision
    opened.page.locator("#theme").click()
    assert (opened.page.evaluate(brightness) < 200) == (scheme == "light")
    assert opened.complaints == []
    opened.context.close()


def test_a_model_called_by_a_number_does_not_come_first(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "grid.html"
    path.write_text(html_grid(make_report(names=("mine", "64"))), encoding="utf-8")
    opened = Opened(browser, path)
    assert "What every byte costs: mine on" in opened.page.title()
    assert opened.page.locator(".answers > div b").all_inner_texts() == ["mine", "64"]
    assert opened.complaints == []
    opened.context.close()


def bare_report(scores: Sequence[float], keys: Sequence[CellKey]) -> GridReport:
    """A task without samples, times or second stages."""
    grid = GridScores(64, {key: {"AP": MeanScore([score, score])} for key, score in zip(keys, scores, strict=True)})
    counts = {"name": "pairs", "task": "pair-classification", "unit": "pairs", "pairs": 2, "texts": 4}
    return GridReport(
        headline="AP",
        confidence=0.9,
        cells=make_cells("mine", grid),
        models={"mine": "mine"},
        reference=None,
        benchmark=counts,
        corpus_size=4,
        measured_size=4,
    )


@pytest.mark.parametrize(
    ("scores", "keys", "cards"),
    [
        ([0.9, 0.89, 0.5], [CellKey(64), CellKey(48, "float32"), CellKey(8, "int8")], ["256 B", "192 B"]),
        ([0.9, 0.1], [CellKey(64), CellKey(8, "int8")], ["256 B", "256 B"]),
        ([0.0, 0.0], [CellKey(64), CellKey(8, "int8")], ["-", "-"]),
        ([0.7], [CellKey(64)], ["256 B", "256 B"]),
    ],
)
def test_a_page_without_samples_times_or_second_stages_is_whole(
    browser: Any, tmp_path: Path, scores: list[float], keys: list[CellKey], cards: list[str]
) -> None:
    path = tmp_path / "grid.html"
    path.write_text(html_grid(bare_report(scores, keys)), encoding="utf-8")
    opened = Opened(browser, path)
    page = opened.page
    assert page.locator(".card .number").all_inner_texts() == ["256 B", *cards]
    assert page.locator("#samples").is_hidden()
    assert page.locator("#chart .cell").count() == page.locator("#table tbody tr").count() == len(keys)
    details = page.locator(".card").all_inner_texts()
    assert not any("1.0 times" in text or "NaN" in text or "undefined" in text for text in details)
    for text, size in zip(details[1:], cards, strict=True):
        assert ("1.3 times smaller" in text) == (size == "192 B")
        assert ("no smaller cell does" in text) == (size == "256 B")
    assert opened.complaints == []
    opened.context.close()


def test_a_small_screen_scrolls_inside_the_table_only(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "grid.html"
    path.write_text(html_grid(make_report()), encoding="utf-8")
    opened = Opened(browser, path)
    opened.page.set_viewport_size({"width": 380, "height": 800})
    assert opened.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    opened.context.close()


def test_the_file_refers_to_nothing_outside_itself() -> None:
    text = html_grid(make_report())
    assert not re.search(r"""(src|href)\s*=|url\(|@import|fetch\(""", text)
    assert "</script><script>document.title" not in text
    assert text.count("</script>") == 2
