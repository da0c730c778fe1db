"""Plans: what is chosen, why, and what cannot be. Run: pytest tests/test_planning.py (seconds)."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import RunNestvec
from nestvec import plan as plan_module
from nestvec.cli.plan import plan as plan_command
from nestvec.errors import NoPlanError, OutputExistsError, PlanError, PrecisionError, SourceNotFoundError
from nestvec.evaluation import Cell, CellKey, Interval, Rerank
from nestvec.evaluation.latency import Latency
from nestvec.jobs.plan import make_plan, write_plan
from nestvec.plan import dump_plan, parse_plan, read_plan
from nestvec.planning import (
    COSTS,
    Corpus,
    Limit,
    Prices,
    choose,
    disk_bytes,
    expenses,
    lists_of,
    parse_budget,
    parse_target,
    times_longer,
)
from nestvec.planning.growth import LISTS_SHARE
from nestvec.quantization import BITS_PER_DIMENSION, PRECISIONS, bytes_per_vector, check_precision
from nestvec.report import GridReport


def cell(dim: int, precision: str, low: float, rerank: Rerank | None = None, *, p95_ms: float | None = None) -> Cell:
    score = Interval(low + 0.02, low, low + 0.04)
    return Cell(
        model="mine",
        dim=dim,
        precision=precision,
        rerank=rerank,
        bytes_per_vector=bytes_per_vector(dim, precision),
        rerank_bytes_per_vector=0 if rerank is None else bytes_per_vector(64, rerank.precision),
        metrics={"MRR@10": score, "nDCG@10": Interval(low / 2, low / 4, low)},
        retention=score,
        latency=None if p95_ms is None else Latency(p95_ms / 2, p95_ms, 100.0),
    )


FULL = cell(64, "float32", 0.98, p95_ms=8.0)
CELLS = [
    FULL,  # 256 bytes
    cell(64, "int8", 0.97, p95_ms=3.0),  # 64 bytes
    cell(32, "int8", 0.90, p95_ms=2.0),  # 32 bytes
    cell(64, "binary", 0.80, p95_ms=0.5),  # 8 bytes
    cell(64, "binary", 0.95, Rerank("int8", 100), p95_ms=1.5),  # 8 + 64 bytes
    cell(64, "binary", 0.96, Rerank("float16", 100), p95_ms=1.7),  # 8 + 128 bytes
]


def chosen(target: str | None = None, *budgets: str, prices: Prices | None = None) -> CellKey:
    choice = choose(
        CELLS,
        headline="MRR@10",
        target=None if target is None else parse_target(target, ["MRR@10", "nDCG@10"]),
        budgets=[parse_budget(budget) for budget in budgets],
        corpus=Corpus(1_000_000, 1_000_000, prices),
    )
    return choice.cell.key


def test_the_least_memory_whose_lower_bound_meets_the_target_is_chosen() -> None:
    assert chosen("retention>=0.98") == FULL.key
    assert chosen("retention>=0.97") == CellKey(64, "int8")
    assert chosen("retention>=0.90") == CellKey(64, "binary", Rerank("int8", 100))
    assert chosen("retention >= 96%") == CellKey(64, "binary", Rerank("float16", 100))
    assert chosen("mrr@10>=0.8") == CellKey(64, "binary")
    assert chosen("retention>=0.5") == CellKey(64, "binary")  # of as little memory the one with the least disk


def test_budgets_narrow_the_choice() -> None:
    assert chosen("retention>=0.9", "disk_bytes<=68") == CellKey(32, "int8")
    assert chosen("retention>=0.9", "p95_ms<=2.5", "disk_gb<=0.069") == CellKey(32, "int8")
    assert chosen(None, "bytes<=64") == CellKey(64, "int8")
    assert chosen(None, "memory_gb<=0.008") == CellKey(64, "binary", Rerank("float16", 100))
    assert chosen(None, "dim<=32") == CellKey(32, "int8")
    assert chosen(None, "bytes>=30", "bytes<=40") == CellKey(32, "int8")


def test_times_grow_with_the_corpus() -> None:
    asked = {"headline": "MRR@10", "target": Limit("retention", True, 0.5), "budgets": [parse_budget("p95_ms<=4")]}
    assert choose(CELLS, **asked, corpus=Corpus(1000, 1000)).cell.key == CellKey(64, "binary")
    assert choose(CELLS, **asked, corpus=Corpus(10, 1000)).cell.key == CellKey(64, "binary")
    # 0.5 ms, of which 0.18 do not grow: 0.18 + 8 x 0.32.
    assert choose(CELLS, **asked, corpus=Corpus(8000, 1000)).cell.key == CellKey(64, "binary")
    with pytest.raises(NoPlanError, match=r"p95_ms of 4.66 misses p95_ms<=4 by 0.66"):
        choose(CELLS, **asked, corpus=Corpus(14_000, 1000))


def test_times_of_product_quantization_are_those_of_ivf_lists_once_there_are_some() -> None:
    one = cell(64, "pq16", 0.9, p95_ms=2.0)  # 1 ms in the middle, of which 0.09 do not grow
    assert lists_of(one, Corpus(800_000, 10_000)) is None
    assert times_longer(one, Corpus(800_000, 10_000)) == pytest.approx(0.09 + 0.91 * 80)
    assert lists_of(one, Corpus(1_000_000, 10_000)) == 4096
    assert times_longer(one, Corpus(1_000_000, 10_000)) == pytest.approx(LISTS_SHARE[1_000_000] * (0.09 + 0.91 * 100))
    ten = times_longer(one, Corpus(10_000_000, 10_000))
    assert ten == pytest.approx(LISTS_SHARE[10_000_000] * (0.09 + 0.91 * 1000))
    assert times_longer(one, Corpus(3_000_000, 10_000)) < ten < times_longer(one, Corpus(30_000_000, 10_000))
    assert times_longer(cell(64, "int8", 0.9, p95_ms=2.0), Corpus(10_000_000, 10_000)) == pytest.approx(910.09)
    assert times_longer(cell(64, "pq16", 0.9), Corpus(10_000_000, 10_000)) == 1
    assert expenses(one, Corpus(1_000_000, 10_000)).memory_gb == pytest.approx(0.016 + 0.008)
    assert COSTS["bytes"](one, Corpus(10_000, 10_000)) == 16
    assert COSTS["bytes"](one, Corpus(1_000_000, 10_000)) == 16 + 8  # with a row number in its list
    assert COSTS["disk_bytes"](one, Corpus(10_000, 10_000)) == 16 + 16 + 4


def test_a_cell_that_was_not_timed_is_not_the_nearest() -> None:
    cells = [cell(8, "int8", 0.5), cell(64, "float32", 0.9, p95_ms=9.0)]
    with pytest.raises(NoPlanError, match="Nearest: 64 x float32"):
        choose(cells, headline="MRR@10", budgets=[parse_budget("p95_ms<=5")], corpus=Corpus(1, 1))


def test_a_limit_is_written_as_it_was_given() -> None:
    for text in ("retention>=0.9999999", "disk_bytes<=12345678", "bytes<=64"):
        read = parse_budget(text) if "<" in text else parse_target(text, [])
        assert str(read) == text


def test_with_prices_the_least_money_is_chosen() -> None:
    assert chosen("retention>=0.9", prices=Prices(1.0, 0.0)) == CellKey(64, "binary", Rerank("int8", 100))
    assert chosen("retention>=0.9", prices=Prices(1.0, 1.0)) == CellKey(64, "binary", Rerank("int8", 100))
    spent = expenses(CELLS[4], Corpus(1_000_000, 500, Prices(3.0, 0.5)))
    assert spent == pytest.approx((0.008, 0.076, 3 * 0.008 + 0.5 * 0.076))
    assert expenses(CELLS[4], Corpus(1_000_000, 500)).money is None


def test_the_reason_says_what_was_met_and_what_the_smaller_ones_miss() -> None:
    choice = choose(CELLS, headline="MRR@10", target=Limit("retention", True, 0.97), corpus=Corpus(1, 1))
    assert choice.reason == (
        "64 x int8 is the smallest cell that meets retention>=0.97: its lower bound is 0.9700; of the 4 smaller "
        "ones the best, 64 x binary, the best 100 reranked by float16, reaches 0.9600."
    )
    assert [one.key for one in choice.runners_up] == [FULL.key]
    assert choice.full is FULL


def test_no_cell_says_by_how_much_the_nearest_misses() -> None:
    with pytest.raises(NoPlanError, match=r"meets retention>=0.99. Nearest: 64 x float32 .* misses by 0.0100"):
        chosen("retention>=0.99")
    with pytest.raises(
        NoPlanError, match=r"within bytes<=40 meets .* Nearest: 64 x binary, the best 100 .*misses by 0.0200"
    ):
        chosen("retention>=0.98", "bytes<=40")
    with pytest.raises(
        NoPlanError, match=r"keeps to bytes<=4. Nearest: 64 x binary, whose bytes of 8 misses bytes<=4 by 4"
    ):
        chosen(None, "bytes<=4")


def test_what_cannot_be_asked_is_refused() -> None:
    for wrong in ("retention", "retention>0.9", "retention=0.9", "retention>=much", ">=3", "retention>=nan"):
        with pytest.raises(PlanError, match="Write a quantity"):
            parse_target(wrong, ["MRR@10"])
    with pytest.raises(PlanError, match="limit quality from above"):
        parse_target("retention<=0.9", ["MRR@10"])
    with pytest.raises(PlanError, match=r"Unknown quantity 'MRR@5'. Here these can be named: MRR@10, retention"):
        parse_target("MRR@5>=0.9", ["MRR@10"])
    with pytest.raises(PlanError, match="Unknown quantity 'price'"):
        parse_budget("price<=3")
    with pytest.raises(PlanError, match="Nothing is asked"):
        chosen()
    with pytest.raises(PlanError, match="bytes>=64 and bytes<=32 exclude each other"):
        chosen(None, "bytes<=32", "bytes>=64", "bytes<=128")
    with pytest.raises(PlanError, match="allows nothing at all"):
        chosen(None, "bytes<=0")
    untimed = [cell(8, "int8", 0.5)]
    with pytest.raises(PlanError, match="No cell of this grid was timed"):
        choose(untimed, headline="MRR@10", budgets=[parse_budget("p95_ms<=5")], corpus=Corpus(1, 1))
    with pytest.raises(PlanError, match="has the reference_retention. Measure it again with --reference"):
        choose(untimed, headline="MRR@10", target=Limit("reference_retention", True, 0.9), corpus=Corpus(1, 1))
    assert all(cost(FULL, Corpus(10, 10)) > 0 for cost in COSTS.values())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_other_cell_that_would_do_is_cheaper(seed: int) -> None:
    generator = np.random.default_rng(seed)
    cells = [
        cell(dim, precision, float(generator.random()), rerank)
        for dim, precision, rerank in itertools.product((64, 16, 4), BITS_PER_DIMENSION, (None, Rerank("int8", 50)))
    ]
    target = Limit("retention", True, float(generator.random() * 0.9))
    budget = Limit("disk_bytes", False, float(generator.integers(1, 300)))
    good = [one for one in cells if one.retention.low >= target.bound and disk_bytes(one, Corpus(5, 5)) <= budget.bound]
    if not good:
        with pytest.raises(NoPlanError):
            choose(cells, headline="MRR@10", target=target, budgets=[budget], corpus=Corpus(5, 5))
        return
    choice = choose(cells, headline="MRR@10", target=target, budgets=[budget], corpus=Corpus(5, 5))
    assert choice.cell in good
    assert choice.cell.bytes_per_vector == min(one.bytes_per_vector for one in good)
    assert all(one in good for one in choice.runners_up)


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    report = GridReport(
        headline="MRR@10",
        confidence=0.9,
        cells=CELLS,
        models={"mine": "models/mine"},
        reference=None,
        benchmark={"name": "made up", "queries": 10, "documents": 500},
        corpus_size=500,
        measured_size=500,
    )
    path = tmp_path / "grid.json"
    path.write_text(report.to_json())
    return path


def test_a_plan_is_a_file_that_says_what_to_store(grid_file: Path) -> None:
    made = make_plan(grid_file, target="retention>=0.95", budgets=["p95_ms<=50000"], corpus_size=2_000_000)
    write_plan(made.plan, grid_file.with_name("plan.toml"))
    plan = read_plan(grid_file.with_name("plan.toml"))
    assert plan == made.plan
    assert (plan.model, plan.full_dim) == ("models/mine", 64)
    assert (plan.first_stage.dim, plan.first_stage.precision) == (64, "binary")
    assert (plan.second_stage.precision, plan.second_stage.shortlist) == ("int8", 100)
    assert plan.measured["asked"] == ["retention>=0.95", "p95_ms<=50000"]
    assert plan.measured["memory_gb"] == pytest.approx(0.016)
    assert plan.measured["saved_memory_gb"] == pytest.approx(2 * 0.256 - 0.016)
    assert plan.measured["p95_ms"] == pytest.approx(1.5 * (0.12 + 0.88 * 4000))  # 0.09 of 0.75 ms do not grow
    assert plan.fitted_on == "documents"
    assert plan.first_stage.lists is None
    assert len(made.notes) == 3
    assert "times are those of a scan of all codes, 3,520.1 times as long as measured" in made.notes[0]
    assert "a shortlist of 100 misses more" in made.notes[1]
    assert "Only 10 queries were measured" in made.notes[2]
    assert plan.measured["notes"] == made.notes
    assert plan.measured["scores"]["retention"] == {"value": 0.97, "low": 0.95, "high": 0.99}


def test_a_plan_replaces_a_plan_and_nothing_else(grid_file: Path) -> None:
    plan = make_plan(grid_file, budgets=["bytes<=64"]).plan
    path = grid_file.with_name("plan.toml")
    write_plan(plan, path)
    write_plan(plan, path)
    path.write_text("precious")
    with pytest.raises(OutputExistsError, match="is no plan"):
        write_plan(plan, path)
    write_plan(plan, path, overwrite=True)
    assert read_plan(path) == plan


def test_a_plan_that_cannot_be_used_names_what_is_wrong(tmp_path: Path, grid_file: Path) -> None:
    good = dump_plan(make_plan(grid_file, budgets=["bytes<=64"]).plan)
    for text, message in (
        ("no toml", "not valid TOML"),
        (good.replace('precision = "int8"', 'precision = "int3"'), "first_stage.precision"),
        (good.replace("dim = 64", "dim = 65", 2).replace("full_dim = 65", "full_dim = 64"), "first_stage.dim is 65"),
        (good.replace("model =", "modell ="), "modell"),
    ):
        with pytest.raises(PlanError, match=message):
            parse_plan(text)
    with pytest.raises(SourceNotFoundError, match="no plan"):
        read_plan(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b"\xff")
    with pytest.raises(PlanError, match="is no plan"):
        read_plan(tmp_path / "latin.toml")
    document = json.loads(grid_file.read_text())
    grid_file.write_text(json.dumps({**document, "models": {"mine": "pca=minilm"}}))
    with pytest.raises(PlanError, match="a baseline made for this grid"):
        make_plan(grid_file, target="retention>=0.9")
    grid_file.write_text(json.dumps({**document, "models": {"other": "minilm"}}))
    with pytest.raises(PlanError, match="no model 'other'"):
        make_plan(grid_file, target="retention>=0.9")
    grid_file.write_text(json.dumps(document))
    with pytest.raises(PlanError, match="no model 'yours'. Its models are: mine"):
        make_plan(grid_file, target="retention>=0.9", model="yours")


def test_a_plan_knows_the_precisions_that_can_be_stored() -> None:
    for name in (*PRECISIONS, "pq1", "pq100x8", "int3", "pq", "pq0", "pq8x4", "PQ8", "float64"):
        try:
            known = check_precision(name) == name
        except PrecisionError:
            known = False
        assert bool(plan_module._PRECISION.fullmatch(name)) == known


def test_the_report_of_a_training_run_can_be_planned_with(tmp_path: Path) -> None:
    report = {
        "name": "run",
        "base": "minilm",
        "headline": "MRR@10",
        "confidence": 0.95,
        "cells": [{**one.as_json(), "model": name} for name in ("before", "after") for one in CELLS[:1]],
        "benchmark": {"name": "held-out", "queries": 3, "documents": 70},
        "seed": 1,
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    made = make_plan(tmp_path / "report.json", target="retention>=0.5")
    assert made.plan.model == str(tmp_path / "model")
    assert made.corpus.size == made.corpus.measured == 70
    assert make_plan(tmp_path / "report.json", target="retention>=0.5", model="before").plan.model == "minilm"


@pytest.mark.parametrize("width", [60, 80, 94, 120])
def test_each_cell_of_the_table_stands_on_one_line_in_a_terminal_of_any_width(grid_file: Path, width: int) -> None:
    out = grid_file.with_name("plan.toml")
    words = [str(grid_file), "--target", "retention>=0.95", "--corpus-size", "10e6", "--out", str(out)]
    done = CliRunner().invoke(plan_command, words, env={"COLUMNS": str(width)})
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line.startswith(("plan ", "next ", "full "))]
    assert len(lines) == len(make_plan(grid_file, target="retention>=0.95").choice.runners_up) + 2
    assert lines[0].split()[:4] == ["plan", "64", "binary", "int8:100"]
    assert max(map(len, lines)) <= width
    assert ("%)" in lines[0]) == (width == 120)


def test_the_command_prints_why_and_exits_3_where_no_cell_will_do(grid_file: Path, nestvec: RunNestvec) -> None:
    out = grid_file.with_name("plan.toml")
    done = nestvec(
        "plan", grid_file, "--target", "retention>=0.95", "--corpus-size", "10e6", "--price-per-gb", "3", "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert "64 x binary, the best 100 reranked by int8 is the cheapest cell that meets" in done.stdout
    assert "saves 96.9% of the memory, saves 85.3% of the disk and costs 0.24 in place of 7.68" in done.stdout
    assert "Note: 500 vectors were measured and 10,000,000 will be stored" in done.stdout
    assert read_plan(out).measured["corpus_size"] == 10_000_000
    out.unlink()
    missed = nestvec("plan", grid_file, "--target", "retention>=0.999", "--out", out)
    assert (missed.returncode, missed.stdout) == (3, "")
    assert "misses by 0.0190" in missed.stderr
    assert not out.exists()
    for options in (
        ["--target", "bytes<=3"],
        ["--budget", "bytes<=1", "--budget", "bytes>=2"],
        [],
        ["--budget", "dim<=9", "--disk-price-per-gb", "1"],
    ):
        wrong = nestvec("plan", grid_file, *options, "--out", out)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert "Error: " in wrong.stderr
        assert "Traceback" not in wrong.stderr


def test_of_cells_that_take_as_many_bytes_the_shortest_shortlist_that_is_enough_is_chosen() -> None:
    cells = [FULL, *(cell(64, "binary", low, Rerank("int8", n)) for n, low in ((50, 0.93), (100, 0.95), (400, 0.97)))]
    target = parse_target("retention>=0.94", ["MRR@10"])
    assert choose(cells, headline="MRR@10", target=target, corpus=Corpus(10, 10)).cell.rerank == Rerank("int8", 100)
