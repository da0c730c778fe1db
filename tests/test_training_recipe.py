"""Recipes: every default filled in, every mistake named. Run: pytest tests/test_training_recipe.py (a second)."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestvec.errors import RecipeError, SourceNotFoundError
from nestvec.evaluation import DEFAULT_METRICS
from nestvec.jobs import built_in_recipe, quickstart_recipe
from nestvec.training import dump_recipe, load_recipe, parse_recipe
from nestvec.training.recipe import PRESETS

SMALL = {"model": {"base": "minilm"}, "data": {"source": "file", "path": "rows.jsonl"}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(dump_recipe(parse_recipe(SMALL)), encoding="utf-8")
    return path


def test_a_written_recipe_reads_back_the_same(file: Path) -> None:
    assert load_recipe(file) == parse_recipe(SMALL)


def test_a_recipe_and_a_measurement_have_the_same_default_metrics() -> None:
    assert parse_recipe(SMALL).evaluation.metrics == list(DEFAULT_METRICS)


def test_provenance_is_read_and_changes_nothing(file: Path) -> None:
    file.write_text(dump_recipe(parse_recipe(SMALL), {"versions": {"torch": "2"}, "git_commit": "abc"}))
    assert dump_recipe(load_recipe(file)) == dump_recipe(parse_recipe(SMALL))


@pytest.mark.parametrize("name", ["quickstart-minilm", "quickstart-static", "msmarco-bge"])
def test_the_recipes_that_ship_are_valid(name: str) -> None:
    assert load_recipe(built_in_recipe(name)).name
    assert (Path(__file__).parents[1] / "recipes" / f"{name}.toml").is_file()


def test_the_recipe_of_the_literature_says_what_it_should() -> None:
    recipe = load_recipe(built_in_recipe("msmarco-bge"))
    assert recipe.model.base == "BAAI/bge-base-en-v1.5"
    assert recipe.data.streaming
    assert recipe.data.config == "triplet-hard"
    assert recipe.training.dims == [768, 512, 256, 128, 64]
    assert {64, 128, 256, 768} <= set(recipe.evaluation.dims)


def test_a_quickstart_takes_any_base_and_seed() -> None:
    recipe = quickstart_recipe('a "quoted" folder', seed=5)
    assert (recipe.model.base, recipe.seed, recipe.model.max_tokens) == ('a "quoted" folder', 5, 64)


def test_an_unknown_built_in_recipe_lists_those_there_are() -> None:
    with pytest.raises(SourceNotFoundError, match="msmarco-bge, quickstart-minilm"):
        built_in_recipe("nothing")


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("training.epochs=2.5", lambda recipe: recipe.training.epochs == 2.5),
        ("training.dims=[64, 32]", lambda recipe: recipe.training.dims == [64, 32]),
        ("model.base=/some/folder", lambda recipe: recipe.model.base == "/some/folder"),
        ('model.base="quoted"', lambda recipe: recipe.model.base == "quoted"),
        ("data.columns.query=q", lambda recipe: recipe.data.columns == {"query": "q"}),
        ("seed=3", lambda recipe: recipe.seed == 3),
        ("training.epochs=2", lambda recipe: recipe.training.epochs == 2.0),
    ],
)
def test_a_value_can_be_overridden(file: Path, override: str, read) -> None:
    assert read(load_recipe(file, [override]))


@pytest.mark.parametrize("override", ["training.epochs", "=2", "training..epochs=2", "seed.deeper=2"])
def test_an_override_that_cannot_be_read_is_refused(file: Path, override: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        load_recipe(file, [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=2", r"training.epoch: unknown key. Did you mean epochs\?"),
        ("trainig.epochs=2", r"trainig: unknown key. Did you mean training\?"),
        ("data.pat=x", r"data.pat: unknown key. Did you mean path\?"),
        ("data.zzz=x", "data.zzz: unknown key. Keys there are: limit, columns, positives, strict, source, path"),
        ("data.source=fil", 'Write source = "installed-docs", "file", "hub" or "beir"'),
        ("data.columns.qery=q", "unknown role 'qery'; roles are query, positive"),
        ("training.dims=[32, 64, 16]", r"out of order. Write them as \[64, 32, 16\]"),
        ("training.dims=[64, 64]", "twice"),
        ("training.dims=[]", "training.dims is"),
        ("training.learning_rate=fast", "training.learning_rate is 'fast'"),
        ("training.temperature=0", "greater than 0"),
        ("training.batch_size=0", "greater than or equal to 1"),
        ("training.batch_size=1.5", "training.batch_size is 1.5"),
        ("training.precision=float8", "'float32', 'bfloat16' or 'float16'"),
        ("evaluation.confidence=95", "less than 1"),
        ("training.epochs=inf", "finite number"),
        ("training.weights=[1.0]", r"training: weights has 1 values for dims = None; give one weight a dim"),
        ("data.columns.query=3", r"data.columns.query is 3: it must be a text or a list of texts$"),
        ("data.columns=3", r"data.columns is 3: write a table of role = column, or a list of all names"),
        ("data.columns=[1]", r"data.columns.* is 1"),
        ("data.columns.di=q", r"unknown role 'di'"),
        ("training=fast", r"training is 'fast': it is a section, not a value. Write \[training\]"),
    ],
)
def test_a_mistake_is_named_with_what_to_write(file: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(file, [override])


def test_all_mistakes_are_reported_together() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"model": {"bas": "minilm"}, "training": {"epochs": -1.0}})
    message = str(caught.value)
    for expected in (
        'model.base is missing. Write base = "minilm"',
        "Did you mean base?",
        "data is missing",
        "training.epochs is -1.0",
    ):
        assert expected in message


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="There is no recipe"):
        load_recipe(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("name = \n")
    with pytest.raises(RecipeError, match=r"not valid TOML: .*line 1"):
        load_recipe(tmp_path / "bad.toml")


def test_a_preset_of_the_file_sets_what_the_file_does_not() -> None:
    plain = parse_recipe(SMALL).training
    small = parse_recipe({**SMALL, "training": {"preset": "small"}}).training
    for name, value in PRESETS["small"].items():
        assert getattr(small, name) == value != getattr(plain, name)
    assert parse_recipe({**SMALL, "training": {"preset": "small", "start": "rotate"}}).training.start == "rotate"
    assert parse_recipe({**SMALL, "training": small.model_dump(exclude_none=True)}).training == small
    with pytest.raises(RecipeError, match="training.preset is 'tiny'"):
        parse_recipe({**SMALL, "training": {"preset": "tiny"}})


def test_a_preset_of_the_command_goes_before_the_file_and_behind_overrides(file: Path) -> None:
    written = load_recipe(file).training  # every key is written in this file
    small = load_recipe(file, preset="small").training
    changed = {name for name in small.model_dump() if getattr(small, name) != getattr(written, name)}
    assert changed == {"preset", *PRESETS["small"]}
    assert load_recipe(file, ["training.start=rotate"], preset="small").training.start == "rotate"


@pytest.mark.parametrize(("older", "start", "trained"), [("base", "none", False), ("pca", "centre-rotate", True)])
def test_starts_of_older_recipes_are_read(older: str, start: str, trained: bool) -> None:
    training = parse_recipe({**SMALL, "training": {"start": older}}).training
    assert (training.start, training.start_trained) == (start, trained)
