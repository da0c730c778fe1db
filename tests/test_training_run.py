"""What a run can do beyond plain steps, on tiny models. Run: pytest tests/test_training_run.py (half a minute)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Router

from builders import build_tiny_model, synthetic_rows, write_json_lines
from nestvec.data import RetrievalRow
from nestvec.encoders import load_model
from nestvec.errors import (
    AdaptorError,
    DimensionError,
    NestvecWarning,
    RecipeError,
    SourceNotFoundError,
    VectorError,
)
from nestvec.jobs.train_and_measure import train_and_measure
from nestvec.progress import Advance
from nestvec.report import Report
from nestvec.training import load_recipe
from nestvec.training.averaging import WeightAverage
from nestvec.training.run import prepare
from nestvec.training.schedules import weights_at
from nestvec.training.start_and_finish import apply_finish, apply_start, resolve_stages

STILL = ["training.dropout=0.0", "training.max_steps=8"]
EVERYTHING = [
    "training.max_steps=10",
    "training.start=centre-rotate",
    "training.finish=rotate",
    "training.lora_rank=4",
    "training.averaged=0.9",
    "training.order=large-first",
    "training.weights=[1.0,1.0,1.0]",
    "training.final_weights=[1.0,2.0,4.0]",
    "training.self_distillation=0.5",
    "training.spread=0.5",
    'training.document_precisions=["float32","int4"]',
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NESTVEC_CACHE", str(tmp_path / "cache"))


def run(recipe: Path, out: Path, *options: str, **arguments: object) -> tuple[Report, SentenceTransformer]:
    report = train_and_measure(load_recipe(recipe, options), out, **arguments)  # type: ignore[arg-type]
    return report, load_model(str(out / "model"))


def score(report: Report, model: str, dim: int) -> float:
    return next(cell for cell in report.cells if (cell.model, cell.dim) == (model, dim)).metrics["MRR@10"].value


def test_sizes_join_one_after_another_in_equal_parts() -> None:
    dims, weights = [64, 16, 32], [1.0, 3.0, 2.0]
    seen = [weights_at(step / 6, dims, weights, order="large-first") for step in range(6)]
    assert seen == [(1, 0, 0)] * 2 + [(1, 0, 2)] * 2 + [(1, 3, 2)] * 2
    assert weights_at(0.0, dims, weights, order="small-first") == (0, 3, 0)
    assert weights_at(0.99, dims, weights, order="small-first") == tuple(weights)


def test_weights_move_evenly() -> None:
    assert weights_at(0.25, [8, 4], [1.0, 1.0], [0.0, 5.0]) == (0.75, 2.0)
    assert weights_at(0.75, [8, 4], [1.0, 0.0], [1.0, 4.0]) == (1.0, 3.0)


def test_a_schedule_reaches_the_loss_at_every_step(tiny_recipe: Path, tmp_path: Path, monkeypatch) -> None:
    from nestvec.losses import NestedMixture

    seen, set_weights = [], NestedMixture.set_weights
    monkeypatch.setattr(
        NestedMixture, "set_weights", lambda self, weights: (seen.append(weights), set_weights(self, weights))
    )
    options = ["training.weights=[1.0,1.0,1.0]", "training.final_weights=[1.0,2.0,5.0]", "training.order=small-first"]
    run(tiny_recipe, tmp_path / "out", *STILL, *options)
    expected = [weights_at(step / 8, [128, 64, 16], [1.0] * 3, [1.0, 2.0, 5.0], "small-first") for step in range(8)]
    assert seen[1:] == expected  # the first are those that the loss begins with
    assert expected[0] == (0, 0, 1)
    assert 0 not in expected[-1]


def test_low_rank_updates_train_the_transformer_and_leave_an_ordinary_model(tiny_recipe: Path, tmp_path: Path) -> None:
    base = load_model(load_recipe(tiny_recipe).model.base).state_dict()
    _, model = run(tiny_recipe, tmp_path / "out", *STILL, "training.lora_rank=2")
    trained = model.state_dict()
    assert trained.keys() == base.keys()
    changed = {name for name in base if not torch.equal(base[name], trained[name])}
    assert changed
    assert all(name.endswith("weight") and base[name].ndim == 2 for name in changed)
    assert not any("embeddings" in name for name in changed)
    for name in changed:
        assert torch.linalg.matrix_rank(trained[name] - base[name], rtol=1e-3) <= 2


def test_a_start_puts_the_best_dimensions_first_before_any_step(tiny_recipe: Path, tmp_path: Path) -> None:
    still = ["training.max_steps=1", "training.learning_rate=1e-12", "training.start=centre-rotate"]
    report, _ = run(tiny_recipe, tmp_path / "out", *still)
    assert score(report, "after", 16) > score(report, "before", 16) + 0.02
    base, start, trained = report.stages
    assert (base.name, start.name, trained.name) == ("base", "start (centre-rotate)", "training")
    assert base.scores[16] == score(report, "before", 16)
    assert start.scores == pytest.approx(trained.scores, abs=0.01)


@pytest.mark.parametrize("start", ["centre", "rotate", "centre-rotate"])
def test_a_start_centres_and_turns_as_it_says(tiny_model: Path, start: Any) -> None:
    rows = synthetic_rows(900)
    columns = {name: [str(row[name]) for row in rows] for name in ("query", "positive")}
    model = load_model(str(tiny_model))
    texts = [*columns["query"], *columns["positive"]]
    before = np.asarray(model.encode(texts, normalize_embeddings=True), np.float64)
    found = apply_start(model, columns, start, trained=False, seed=0)
    assert found is not None
    after = np.asarray(model.encode(texts), np.float64)
    expected = before - before.mean(axis=0) if "centre" in start else before
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(
        after @ after.T, expected @ expected.T, atol=1e-4
    )  # rotated or not, cosines tell no other
    if start == "centre":
        np.testing.assert_allclose(after, expected, atol=1e-4)
    else:
        moved = (before - before.mean(axis=0)) @ found.weight
        variances = moved.var(axis=0)
        assert (np.diff(variances) < 1e-6).all()
    np.testing.assert_allclose(found.transform(before), after, atol=1e-5)


@pytest.mark.parametrize("trained", [False, True])
def test_the_map_of_a_start_is_frozen_unless_it_is_to_be_trained(
    tiny_recipe: Path, tmp_path: Path, trained: bool
) -> None:
    maps = []
    options = ["training.start=centre-rotate", f"training.start_trained={str(trained).lower()}"]
    for steps in (1, 8):
        _, model = run(tiny_recipe, tmp_path / str(steps), *options, f"training.max_steps={steps}")
        assert [type(module).__name__ for module in model] == [
            "Transformer",
            "Pooling",
            "Normalize",
            "Dense",
            "Normalize",
        ]
        maps.append(model[3].linear.weight)
    assert torch.equal(*maps) != trained


def test_the_map_of_the_start_has_a_learning_rate_of_its_own(tiny_recipe: Path, tmp_path: Path) -> None:
    """With a vanishing one the map stays as it was fitted, while the rest is trained."""
    options = ["training.start=centre-rotate", "training.start_trained=true", "training.start_learning_rate=1e-12"]
    maps, tables = [], []
    for steps in (1, 8):
        _, model = run(tiny_recipe, tmp_path / str(steps), *options, f"training.max_steps={steps}")
        maps.append(next(module for module in model.children() if isinstance(module, Dense)).linear.weight)
        tables.append(model[0].auto_model.get_input_embeddings().weight)
    torch.testing.assert_close(*maps, atol=1e-6, rtol=0)
    assert not torch.allclose(*tables, atol=1e-6)


@pytest.mark.parametrize("how", ["rotate", "pairs", "pca"])
def test_a_finish_rotates_the_model_where_rows_that_it_was_not_trained_on_gain(tiny_model: Path, how: Any) -> None:
    rows = synthetic_rows(900)
    columns = {name: [str(row[name]) for row in rows] for name in ("query", "positive")}
    seen, unseen = ({name: texts[part] for name, texts in columns.items()} for part in (slice(700), slice(700, None)))
    model = load_model(str(tiny_model))
    before = np.asarray(model.encode(columns["query"][:50]))
    found = apply_finish(model, seen, unseen, how, dims=[128, 16], seed=0)
    assert found.method == "rotation"
    assert found.held_out["rotation"]["16"] > found.held_out["raw"]["16"]
    after = np.asarray(model.encode(columns["query"][:50]))
    np.testing.assert_allclose(after, before @ found.towers.document.weight, atol=1e-5)
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Dense", "Normalize"]
    assert how == "rotate" or found.settings["start"] == how


def test_start_and_finish_are_one_linear_module_and_each_is_reported(tiny_recipe: Path, tmp_path: Path) -> None:
    file = write_json_lines(tmp_path / "rows.jsonl", synthetic_rows(900))
    options = [f"data.path={file}", "training.start=centre-rotate", "training.finish=pairs", "training.max_steps=2"]
    report, model = run(tiny_recipe, tmp_path / "out", *options)
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Normalize", "Dense", "Normalize"]
    names = [stage.name for stage in report.stages]
    assert names[:3] == ["base", "start (centre-rotate)", "training"]
    assert names[3].startswith("finish (")
    assert report.stages[3].scores == {
        cell.dim: cell.metrics[report.headline].value for cell in report.cells if cell.model == "after"
    }
    assert report.stages[2].scores[128] == pytest.approx(report.stages[3].scores[128])
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    card = (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    for text in (page, card):
        assert "## What each stage gave" in text
        assert "| start (centre-rotate) | " in text
    assert report.training["rows"] < 900 - 30 - 80  # a tenth is held out to judge by


def test_the_mean_of_the_last_steps_is_kept() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, first_step=3)
    for step, value in enumerate([10.0, 20.0, 1.0, 2.0, 6.0], 1):
        with torch.no_grad():
            model.weight.fill_(value)
        average.on_step_end(None, type("State", (), {"global_step": step}), None)
    average.apply()
    assert model.weight.item() == 3.0


def test_averaging_changes_the_result_but_not_the_steps(tiny_recipe: Path, tmp_path: Path) -> None:
    plain, last = run(tiny_recipe, tmp_path / "plain", *STILL)
    averaged, mean = run(tiny_recipe, tmp_path / "averaged", *STILL, "training.averaged=0.5")
    assert plain.training["loss"] == averaged.training["loss"]
    assert any(not torch.equal(a, b) for a, b in zip(last.parameters(), mean.parameters(), strict=True))


def test_a_teacher_is_followed(tiny_recipe: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Far from its base the run ends elsewhere; with the base as a heavy teacher it stays near it."""
    texts = ["the river crosses the stone every day", "the engine lifts the paper every day", "what does the river do"]
    before = load_model(str(tiny_model)).encode(texts, normalize_embeddings=True)
    kept = {}
    for name, options in {
        "free": [],
        "taught": [f'training.teacher="{tiny_model}"', "training.teacher_weight=30.0"],
    }.items():
        _, model = run(tiny_recipe, tmp_path / name, *STILL, *options)
        after = model.encode(texts, normalize_embeddings=True)
        kept[name] = np.abs(after @ after.T - before @ before.T).max()
    assert kept["taught"] < 0.5 * kept["free"]


def test_a_base_in_half_precision_is_trained_in_full(tiny_recipe: Path, tiny_model: Path, tmp_path: Path) -> None:
    half = load_model(str(tiny_model)).bfloat16()
    half.save_pretrained(str(tmp_path / "half"), create_model_card=False)
    assert next(load_model(str(tmp_path / "half")).parameters()).dtype == torch.bfloat16
    _, model = run(tiny_recipe, tmp_path / "out", *STILL, f'model.base="{tmp_path / "half"}"')
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ('training.document_precisions=["float32","binary"]', {"precisions": ("float32", "binary")}),
        ("training.shortest_code=3", {"shortest_code": 3}),
        ("training.self_distillation=0.25", {"self_distillation": 0.25}),
        ("training.neighbours=7", {"neighbours": 7}),
        ("training.spread=0.75", {"spread": 0.75}),
        ("training.teacher_weight=0.5", {"teacher": 0.5}),
        ("training.symmetric=true", {"symmetric": True}),
    ],
)
def test_every_key_reaches_the_loss(
    tiny_recipe: Path, tiny_model: Path, tmp_path: Path, option: str, expected: dict[str, object]
) -> None:
    also = {
        "training.document_precisions": ["training.shortest_code=16"],
        "training.neighbours": ["training.self_distillation=1.0"],
        "training.teacher_weight": [f'training.teacher="{tiny_model}"'],
    }.get(option.partition("=")[0], [])
    settings = load_recipe(tiny_recipe, [option, *also]).training
    rows = [RetrievalRow(str(row["query"]), str(row["positive"])) for row in synthetic_rows(20)]
    prepared = prepare(
        load_model(str(tiny_model)), rows, settings, dims=settings.dims or [], seed=0, work=tmp_path / "work"
    )
    assert {name: getattr(prepared.loss, name) for name in expected} == expected


@pytest.mark.parametrize(("stopped_at", "resumed_at"), [(7, 6), (None, 10)])
def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(
    tiny_recipe: Path, tmp_path: Path, stopped_at: int | None, resumed_at: int
) -> None:
    """In the middle of training, or after the last step, while its rotation is fitted."""
    steps = 0

    @contextmanager
    def interrupt(description: str, total: int | None) -> Iterator[Advance]:
        if steps == 10 and stopped_at is None:
            raise KeyboardInterrupt

        def advance(count: int) -> None:
            nonlocal steps
            if description == "training":
                steps += count
                if steps == stopped_at:
                    raise KeyboardInterrupt

        yield advance

    run(tiny_recipe, tmp_path / "whole", *EVERYTHING)
    recipe = load_recipe(tiny_recipe, EVERYTHING)
    with pytest.raises(KeyboardInterrupt):
        train_and_measure(recipe, tmp_path / "out", progress=interrupt)
    report = train_and_measure(recipe, tmp_path / "out", resume=True)
    assert report.training["resumed_at_step"] == resumed_at
    weights = [
        sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in (tmp_path / name).rglob("*.safetensors"))
        for name in ("whole", "out")
    ]
    assert weights[0] == weights[1]
    assert len(weights[0]) >= 2  # of the transformer and of the map behind it


def test_what_does_not_go_together_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    for options, message in (
        (["training.loss=matryoshka-loss", 'training.teacher="minilm"'], "teacher and spread are for the nested loss"),
        (["training.loss=matryoshka-loss", "training.order=large-first"], "order are for the nested loss"),
        (["training.final_weights=[1.0]"], "final_weights has 1 values"),
        (["training.order=large-first", "training.weights=[1.0,0.0,1.0]"], "needs all of them above 0"),
        (["training.order=upwards"], "training.order"),
        (["training.start_learning_rate=0.1"], "start_learning_rate belongs to start_trained"),
        (["training.start_trained=true"], "start_trained belongs to start"),
        (["training.start=auto", "training.start_trained=true"], "start_trained belongs to start"),
        (["training.averaged=1.0"], "training.averaged"),
        (["training.start=whitening"], "training.start"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_recipe(tiny_recipe, options)
    unjudged = load_recipe(tiny_recipe, ["training.finish=pairs", "data.limit=60", "benchmark.queries=10"])
    with pytest.raises(
        RecipeError, match="training.finish is judged by a tenth of the queries, at least 10; 50 rows have 5"
    ):
        train_and_measure(unjudged, tmp_path / "unjudged")
    few = load_recipe(tiny_recipe, ["training.start=rotate", "data.limit=60", "benchmark.queries=10"])
    with pytest.raises(
        RecipeError, match='start is "rotate", which needs as many rows as the base has dimensions, 128'
    ):
        train_and_measure(few, tmp_path / "out")
    nobody = load_recipe(tiny_recipe, ["training.teacher=nobody"])
    with pytest.raises(SourceNotFoundError, match="no base 'nobody'"):
        train_and_measure(nobody, tmp_path / "out", overwrite=True)
    static = load_recipe(tiny_recipe, ["model.base=static", "training.lora_rank=4"])
    with pytest.raises(RecipeError, match="lora_rank is set, but the base does not begin"):
        train_and_measure(static, tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("nested", [False, True])
def test_by_default_a_base_is_rotated_unless_its_leading_dimensions_matter_more(
    tiny_recipe: Path, tiny_model: Path, tmp_path: Path, nested: bool
) -> None:
    options = ["training.start=auto", "training.finish=auto", "training.max_steps=2"]
    if nested:
        model = load_model(str(tiny_model))
        rows = synthetic_rows(900)
        columns = {name: [str(row[name]) for row in rows] for name in ("query", "positive")}
        apply_start(model, columns, "rotate", trained=False, seed=0)
        model.save(str(tmp_path / "rotated"))
        options.append(f"model.base={tmp_path / 'rotated'}")
    report, _ = run(tiny_recipe, tmp_path / "out", *options)
    chosen = load_recipe(tmp_path / "out" / "recipe.toml").training
    assert (chosen.start, chosen.finish) == (("none", "none") if nested else ("rotate", "rotate"))
    assert report.training["start"] == chosen.start
    assert report.training["finish"] == chosen.finish
    assert bool(report.stages) != nested


def test_what_is_left_to_us_is_left_out_where_rows_are_few(tiny_model: Path) -> None:
    rows = [RetrievalRow(str(row["query"]), str(row["positive"])) for row in synthetic_rows(110)]
    model = load_model(str(tiny_model))
    settled = [resolve_stages(model, rows[:n], "auto", "auto", dims=[128, 64, 16], seed=0) for n in (110, 60)]
    assert [one[:2] for one in settled] == [("none", "rotate"), ("none", "none")]  # 128 dimensions, 10 to judge by
    assert [len(one.held_out) for one in settled] == [11, 0]
    assert resolve_stages(model, rows, "centre", "pca", dims=[128], seed=0)[:2] == ("centre", "pca")


def test_rows_held_out_for_a_finish_do_not_count_for_the_start(tiny_model: Path) -> None:
    rows = [RetrievalRow(str(row["query"]), str(row["positive"])) for row in synthetic_rows(133)]
    model = load_model(str(tiny_model))
    both, alone = (resolve_stages(model, rows, "auto", how, dims=[128, 16], seed=0) for how in ("auto", "none"))
    assert len(both.rows) < 128
    assert both[:2] == ("none", "rotate")
    assert alone[:2] == ("rotate", "none")


def test_a_start_that_was_asked_for_comes_before_a_finish_that_was_not(tiny_model: Path) -> None:
    rows = [RetrievalRow(str(row["query"]), str(row["positive"])) for row in synthetic_rows(133)]
    model = load_model(str(tiny_model))
    settled = resolve_stages(model, rows, "rotate", "auto", dims=[128, 16], seed=0)
    assert settled == ("rotate", "none", rows, ())
    with pytest.raises(RecipeError, match="there are 120 beside 13 held out for the finish"):
        resolve_stages(model, rows, "rotate", "pca", dims=[128, 16], seed=0)


def test_rows_that_share_their_documents_are_trained_on_without_a_finish(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    for answers in (1, 3):
        alike = [RetrievalRow(f"question {n}", f"answer {n % answers}") for n in range(200)]
        with pytest.warns(NestvecWarning, match="the 200 rows share their documents"):
            settled = resolve_stages(model, alike, "auto", "auto", dims=[128, 64], seed=0)
        assert settled[:3] == ("rotate", "none", alike)
        with pytest.raises(RecipeError, match="200 rows share their documents too much"):
            resolve_stages(model, alike, "none", "pca", dims=[128, 64], seed=0)


def test_few_rows_leave_training_where_documents_repeat(tiny_model: Path) -> None:
    rows = [RetrievalRow(f"question {n}", f"the answer number {n // 4} of many") for n in range(800)]
    settled = resolve_stages(load_model(str(tiny_model)), rows, "none", "rotate", dims=[128, 64], seed=0)
    assert len(settled.rows) >= 0.85 * len(rows)
    assert len(settled.held_out) >= 10
    assert not {row.positive for row in settled.rows} & {row.positive for row in settled.held_out}


def test_a_row_whose_negative_is_held_out_stays_without_it(tiny_model: Path) -> None:
    texts = [str(row["positive"]) for row in synthetic_rows(300)]
    rows = [
        RetrievalRow(str(row["query"]), texts[n], (texts[(n + 1) % 300], texts[(n + 2) % 300]))
        for n, row in enumerate(synthetic_rows(300))
    ]
    settled = resolve_stages(load_model(str(tiny_model)), rows, "none", "rotate", dims=[128, 64], seed=0)
    answers = {row.positive for row in settled.held_out}
    assert len(settled.held_out) == 30
    assert len(settled.rows) == 270
    assert not answers & {text for row in settled.rows for text in (row.positive, *row.negatives)}
    before = {(row.query, row.positive): row.negatives for row in rows}
    for row in settled.rows:
        assert row.negatives == tuple(text for text in before[row.query, row.positive] if text not in answers)


def test_vectors_that_are_never_cut_are_not_rotated(tiny_model: Path) -> None:
    rows = [RetrievalRow(str(row["query"]), str(row["positive"])) for row in synthetic_rows(200)]
    settled = resolve_stages(load_model(str(tiny_model)), rows, "auto", "auto", dims=[128], seed=0)
    assert settled[:3] == ("none", "none", rows)


def test_a_base_with_a_tower_for_each_side_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    towers = [list(load_model(str(build_tiny_model(tmp_path / name))).children()) for name in ("q", "d")]
    router = Router.for_query_document(*towers, default_route="document")
    SentenceTransformer(modules=[router]).save(str(tmp_path / "towers"))
    with pytest.raises(RecipeError, match="tower for each side"):
        train_and_measure(load_recipe(tiny_recipe, [f"model.base={tmp_path / 'towers'}"]), tmp_path / "out")


def test_a_base_that_truncates_its_own_vectors_is_refused(tiny_recipe: Path, tiny_model: Path, tmp_path: Path) -> None:
    load_model(str(tiny_model), truncate_dim=64).save(str(tmp_path / "short"))
    recipe = load_recipe(tiny_recipe, [f"model.base={tmp_path / 'short'}", "training.dims=[64, 32]"])
    with pytest.raises(DimensionError, match="truncates its vectors to 64 dimensions"):
        train_and_measure(recipe, tmp_path / "out")


def test_a_start_is_refused_where_the_base_tells_no_texts_apart(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    columns = {name: ["the same text"] * 200 for name in ("query", "positive")}
    for how in ("centre", "rotate", "centre-rotate", "pairs"):
        with pytest.raises(VectorError, match="same vector for all"):
            apply_start(model, columns, how, trained=False, seed=0)  # type: ignore[arg-type]


def test_a_finish_that_cannot_be_fitted_leaves_the_trained_model(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AdaptorError("12 pairs are too few.")

    monkeypatch.setattr("nestvec.training.run.apply_finish", fail)
    with pytest.warns(NestvecWarning, match="No rotation after training: 12 pairs are too few"):
        report, _ = run(tiny_recipe, tmp_path / "out", "training.finish=rotate", "training.max_steps=2")
    assert report.training["finish"] == "none"
    assert [stage.name for stage in report.stages] == [
        "base",
        "training",
        "finish (rotate: could not be fitted, left out)",
    ]
    assert report.training["rows_held_out"] > 0
