"""The main job on tiny models, from end to end. Run: pytest tests/test_jobs_train_and_measure.py (about two minutes)."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from builders import build_tiny_model, set_options, synthetic_rows, write_json_lines
from nestvec.data import Benchmark, read_benchmark, write_benchmark
from nestvec.encoders import SentenceTransformerEncoder, load_model
from nestvec.errors import (
    BenchmarkError,
    DataError,
    DimensionError,
    LossInputError,
    MetricError,
    ModelError,
    OutputExistsError,
    RecipeError,
    ResumeError,
    SourceNotFoundError,
    StorageError,
    VectorError,
    VerificationError,
)
from nestvec.files import exclusive
from nestvec.jobs import built_in_recipe
from nestvec.jobs.outputs import RESULTS
from nestvec.jobs.train_and_measure import train_and_measure
from nestvec.jobs.verify import verify_truncation
from nestvec.progress import silent
from nestvec.training import load_recipe
from nestvec.vectors import truncate


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def scores(out: Path) -> list[object]:
    return json.loads((out / "report.json").read_text())["cells"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, rows_file: Path) -> Path:
    """One finished run, to look at from several sides."""
    out = tmp_path_factory.mktemp("finished") / "out"
    train_and_measure(load_tiny(tiny_model, rows_file), out)
    return out


def load_tiny(model: Path, rows: Path, *overrides: str):
    recipe = {
        "model": f'{{base = "{model}"}}',
        "data": f'{{source = "file", path = "{rows}"}}',
        "benchmark": "{queries = 30, documents = 80}",
        "training": "{dims = [128, 64, 16], batch_size = 16, learning_rate = 1e-3, epochs = 2.0, checkpoints = 5}",
    }
    path = model.parent / "recipe.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in recipe.items()))
    return load_recipe(path, overrides)


def test_every_result_is_written_and_the_work_folder_is_gone(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == set(RESULTS)


def test_the_report_has_the_promised_shape(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert [(cell["model"], cell["dim"], cell["bytes_per_vector"]) for cell in report["cells"]] == [
        (model, dim, dim * 4) for model in ("before", "after") for dim in (128, 64, 16)
    ]
    for cell in report["cells"]:
        assert set(cell["metrics"]) == {"MRR@10", "Recall@10", "nDCG@10"}
        for metric in cell["metrics"].values():
            assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
    assert report["benchmark"]["queries"] == 30
    assert {"encode", "train", "total"} <= set(report["seconds"])
    assert {"python", "torch", "sentence-transformers", "nestvec"} <= set(report["versions"])


def test_training_lifts_the_short_sizes(finished: Path) -> None:
    """Words in common find every answer at the full size already, so that only short sizes can gain."""
    after = [cell for cell in scores(finished) if cell["model"] == "after" and cell["dim"] < 128]
    assert all(cell["gain"]["low"] > 0 for cell in after)


def test_the_reported_scores_are_those_of_the_saved_model_on_the_saved_benchmark(finished: Path) -> None:
    """Nothing of nestvec is used here but the files it wrote: plain sentence-transformers, then ranks by hand."""
    from sentence_transformers import SentenceTransformer

    benchmark = read_benchmark(finished / "benchmark")
    for dim in (128, 64, 16):
        model = SentenceTransformer(str(finished / "model"), truncate_dim=dim, device="cpu")
        documents = model.encode_document(list(benchmark.corpus.values()), normalize_embeddings=True)
        ids = list(benchmark.corpus)
        reciprocal_ranks = []
        for query, grades in benchmark.qrels.items():
            similarity = documents @ model.encode_query(benchmark.queries[query], normalize_embeddings=True)
            rank = next(i for i, row in enumerate(np.argsort(-similarity), 1) if grades.get(ids[row], 0) > 0)
            reciprocal_ranks.append(1 / rank if rank <= 10 else 0.0)
        cell = next(cell for cell in scores(finished) if (cell["model"], cell["dim"]) == ("after", dim))
        assert cell["metrics"]["MRR@10"]["value"] == pytest.approx(np.mean(reciprocal_ranks), abs=1e-6)


def test_the_saved_model_is_a_normal_one_and_says_that_it_is_nested(finished: Path) -> None:
    from transformers import AutoModel

    config = json.loads((finished / "model" / "config.json").read_text())
    assert config["is_matryoshka"] is True
    assert config["matryoshka_dimensions"] == [128, 64, 16]
    assert AutoModel.from_pretrained(finished / "model").config.matryoshka_dimensions == [128, 64, 16]
    full, cut = (load_model(str(finished / "model"), truncate_dim=dim) for dim in (None, 64))
    texts = ["the river crosses the stone", "what does the engine do"]
    np.testing.assert_allclose(
        cut.encode(texts, normalize_embeddings=True), truncate(full.encode(texts), 64), atol=1e-6
    )


def test_the_saved_recipe_runs_again_and_says_where_it_came_from(finished: Path, tmp_path: Path) -> None:
    recipe = load_recipe(finished / "recipe.toml")
    assert "torch" in recipe.provenance["versions"]
    train_and_measure(recipe, tmp_path / "again")
    assert hashes(tmp_path / "again" / "model") == hashes(finished / "model")


@pytest.mark.slow
def test_two_processes_give_the_same_bits(nestvec, tiny_recipe: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        command = [sys.executable, "-m", "nestvec", "train", str(tiny_recipe), "--out", str(tmp_path / name)]
        threads = {**os.environ, "OMP_NUM_THREADS": "2"}  # also where a test has one
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=threads)
        assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "one" / "model") == hashes(tmp_path / "two" / "model")
    assert scores(tmp_path / "one") == scores(tmp_path / "two")
    assert hashes(tmp_path / "one" / "benchmark") == hashes(tmp_path / "two" / "benchmark")
    other = nestvec("train", tiny_recipe, "--out", tmp_path / "other", "--set", "seed=8")
    assert other.returncode == 0
    assert hashes(tmp_path / "other" / "model") != hashes(tmp_path / "one" / "model")


@pytest.mark.slow
@pytest.mark.parametrize("kill_at_checkpoint", [1, 3])
def test_a_killed_run_resumes_to_the_same_weights(
    nestvec, tiny_recipe: Path, tmp_path: Path, kill_at_checkpoint: int
) -> None:
    assert nestvec("train", tiny_recipe, "--out", tmp_path / "whole").returncode == 0
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "nestvec", "train", str(tiny_recipe), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen: set[Path] = set()
    while process.poll() is None and len(seen) < kill_at_checkpoint:
        seen |= set(out.glob("work/checkpoints/checkpoint-*/complete"))
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    assert not any((out / name).exists() for name in RESULTS)

    refused = nestvec("train", tiny_recipe, "--out", out)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    # As a kill in the middle of a checkpoint leaves it: the newest, without its mark.
    (out / "work" / "checkpoints" / "checkpoint-9999").mkdir()
    resumed = nestvec("train", tiny_recipe, "--out", out, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((out / "report.json").read_text())["training"]["resumed_at_step"] > 0
    assert hashes(out / "model") == hashes(tmp_path / "whole" / "model")
    assert scores(out) == scores(tmp_path / "whole")


def test_a_run_killed_before_its_first_checkpoint_can_be_resumed(nestvec, tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "nestvec", "train", str(tiny_recipe), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (out / "work" / "checkpoints" / "run.json").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed = nestvec("train", tiny_recipe, "--out", out, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((out / "report.json").read_text())["training"]["resumed_at_step"] == 0
    assert {path.name for path in out.iterdir()} == set(RESULTS)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 7])
def test_a_run_killed_after_its_last_step_takes_no_further_one(tiny_recipe: Path, tmp_path: Path, steps: int) -> None:
    """The process ends itself where the results would be written: every step is done and saved by then."""
    settings = [f"training.max_steps={steps}", "training.gradient_accumulation=2"]
    train_and_measure(load_recipe(tiny_recipe, settings), tmp_path / "whole")
    script = (
        "import os, signal, sys\n"
        "from nestvec.jobs import train_and_measure as job\n"
        "from nestvec.training import load_recipe\n"
        "job.save_model = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"job.train_and_measure(load_recipe({str(tiny_recipe)!r}, {settings!r}), {str(tmp_path / 'out')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    report = train_and_measure(load_recipe(tiny_recipe, settings), tmp_path / "out", resume=True)
    assert report.training["resumed_at_step"] == report.training["steps"] == steps
    assert hashes(tmp_path / "out" / "model") == hashes(tmp_path / "whole" / "model")


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=8", "another data and another seed"),
        ("training.learning_rate=0.5", "another training"),
        ("training.dims=[64]", "another training and another dims"),
        ("data.limit=150", "another data"),
        ("model.max_tokens=100", "another base"),
    ],
)
def test_resuming_another_run_is_refused(tiny_recipe: Path, tmp_path: Path, override: str, changed: str) -> None:
    def stop(_description: str, _total: int | None):
        if _description == "encoding documents":
            raise KeyboardInterrupt
        return silent(_description, _total)

    with pytest.raises(KeyboardInterrupt):
        train_and_measure(load_recipe(tiny_recipe), tmp_path / "out", progress=stop)
    before = hashes(tmp_path / "out")
    with pytest.raises(ResumeError, match=f"had {changed}. Resume with the same recipe"):
        train_and_measure(load_recipe(tiny_recipe, [override]), tmp_path / "out", resume=True)
    assert hashes(tmp_path / "out") == before


def test_files_of_the_user_are_not_replaced(tiny_recipe: Path, tmp_path: Path) -> None:
    """Also where the recipe lies in the output folder itself."""
    assert tiny_recipe.parent == tmp_path
    with pytest.raises(OutputExistsError, match="already holds recipe.toml, which would be replaced"):
        train_and_measure(load_recipe(tiny_recipe), tmp_path)


def test_two_processes_never_write_to_one_folder(tiny_recipe: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path / "out"), pytest.raises(OutputExistsError, match="Another process is writing"):
        train_and_measure(load_recipe(tiny_recipe), tmp_path / "out")


def test_a_run_that_fails_at_the_end_leaves_the_older_results(tiny_recipe: Path, tmp_path: Path, monkeypatch) -> None:
    train_and_measure(load_recipe(tiny_recipe, ["training.max_steps=1"]), tmp_path / "out")
    before = hashes(tmp_path / "out")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nestvec.jobs.train_and_measure.save_plot", full_disk)
    with pytest.raises(StorageError, match="The disk is full"):
        train_and_measure(load_recipe(tiny_recipe, ["training.max_steps=2"]), tmp_path / "out", overwrite=True)
    left = hashes(tmp_path / "out")
    assert {name: left[name] for name in before} == before
    monkeypatch.undo()
    report = train_and_measure(load_recipe(tiny_recipe, ["training.max_steps=2"]), tmp_path / "out", resume=True)
    assert report.training["resumed_at_step"] == 2


def test_a_finished_run_is_not_overwritten_by_accident(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe, out = load_recipe(tiny_recipe, ["training.max_steps=1"]), tmp_path / "out"
    train_and_measure(recipe, out)
    before = hashes(out)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        train_and_measure(recipe, out)
    with pytest.raises(ResumeError, match="already finished"):
        train_and_measure(recipe, out, resume=True)
    assert hashes(out) == before
    train_and_measure(load_recipe(tiny_recipe, ["training.max_steps=2"]), out, overwrite=True)
    after = hashes(out)
    assert after.keys() == before.keys()
    assert after["model/model.safetensors"] != before["model/model.safetensors"]


def test_the_recipe_of_the_literature_runs_on_a_streamed_local_copy(nestvec, tmp_path: Path) -> None:
    base = build_tiny_model(tmp_path / "bge", dim=768)
    rows = [
        {"query": row["query"], "positive": row["positive"], "negative": row["negatives"][0]}
        for row in synthetic_rows(300, seed=3)
    ]
    (tmp_path / "msmarco").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "msmarco" / "train-00000.parquet")
    overrides = {
        "model.base": base,
        "data.name": tmp_path / "msmarco",
        "data.config": "default",
        "data.limit": 250,
        "benchmark.queries": 20,
        "benchmark.documents": 60,
        "training.max_steps": 3,
        "training.finish": "none",  # a rotation of 768 dimensions takes minutes on one processor
    }
    done = nestvec(
        "train",
        "msmarco-bge",
        "--out",
        tmp_path / "out",
        *set_options(overrides),
    )
    assert done.returncode == 0, done.stderr
    assert [cell["dim"] for cell in scores(tmp_path / "out")] == [768, 512, 256, 128, 64] * 2
    saved = load_recipe(tmp_path / "out" / "recipe.toml")
    settled = ["training.max_steps=3", "training.start=none", "training.finish=none"]  # 230 rows for 768 dimensions
    assert saved.training == load_recipe(built_in_recipe("msmarco-bge"), settled).training
    model = load_model(str(tmp_path / "out" / "model"), truncate_dim=64)
    assert model.encode_query(["x"]).shape == (1, 64)
    assert model.prompts["query"].startswith("Represent this sentence")


def test_a_beir_folder_trains_and_measures(tiny_recipe: Path, tmp_path: Path) -> None:
    rows = synthetic_rows(80, seed=4)
    corpus = {f"d{i}": row["positive"] for i, row in enumerate(rows)}
    for split, numbers in (("train", range(50)), ("test", range(45, 80))):
        queries = {f"q{i}": rows[i]["query"] for i in numbers}
        write_benchmark(
            Benchmark(queries, corpus, {f"q{i}": {f"d{i}": 1} for i in numbers}), tmp_path / split, split=split
        )
    text = tiny_recipe.read_text().split("[data]")[0] + (
        f'[data]\nsource = "beir"\npath = "{tmp_path / "train"}"\n[benchmark]\npath = "{tmp_path / "test"}"\n'
        "[training]\nbatch_size = 16\n"
    )
    tiny_recipe.write_text(text)
    report = train_and_measure(load_recipe(tiny_recipe), tmp_path / "out")
    assert report.benchmark["queries"] == 35
    assert report.training["rows"] == 45  # five of the fifty are asked in the benchmark
    assert load_recipe(tmp_path / "out" / "recipe.toml").training.dims == [128, 64, 32]
    assert report.training["dims"] == [128, 64, 32]  # by default


def test_weights_and_freezing_change_what_is_trained(tiny_recipe: Path, tmp_path: Path) -> None:
    table = "0.model.embeddings.word_embeddings.weight"
    base = load_model(load_recipe(tiny_recipe).model.base).state_dict()
    trained = {}
    for name, override in {
        "plain": "training.max_steps=4",
        "weighted": "training.weights=[1.0, 0.0, 0.0]",
        "frozen": "training.freeze_token_embeddings=true",
        "no dropout": "training.dropout=0.0",
    }.items():
        train_and_measure(load_recipe(tiny_recipe, ["training.max_steps=4", override]), tmp_path / name)
        trained[name] = load_model(str(tmp_path / name / "model")).state_dict()
    assert not (trained["plain"][table] == base[table]).all()
    assert (trained["frozen"][table] == base[table]).all()
    assert not (trained["no dropout"][table] == trained["plain"][table]).all()
    assert not (trained["weighted"][table] == trained["plain"][table]).all()


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("training.dims=[256, 64]", DimensionError, "Dim 256 is larger than the vectors, which have 128"),
        ("evaluation.dims=[256]", DimensionError, "larger than the vectors"),
        ("training.weights=[1.0]", RecipeError, "give one weight a dim"),
        ("evaluation.metrics=['accuracy']", MetricError, "Unknown metric"),
        ("model.base=/no/such/folder", SourceNotFoundError, "no model folder"),
        ("model.base=minlm", SourceNotFoundError, "There is no base 'minlm'.*minilm .*; static "),
        ("model.max_tokens=4096", RecipeError, "reads 512 at most"),
        ("data.path=/no/such.jsonl", SourceNotFoundError, "does not exist"),
        ("data.columns.query=q", DataError, "no column 'q'"),
        ("benchmark.path=/no/such", SourceNotFoundError, "is not a folder"),
        ("benchmark.queries=5000", BenchmarkError, "none would be left"),
        ("training.precision=float16", RecipeError, "needs a GPU"),
        ("training.learning_rate=1e30", LossInputError, "not finite"),
    ],
)
def test_what_cannot_work_is_one_clear_error_and_leaves_no_result(
    tiny_recipe: Path, tmp_path: Path, override: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_and_measure(load_recipe(tiny_recipe, [override]), tmp_path / "out")
    assert not any((tmp_path / "out" / name).exists() for name in RESULTS)


def test_scored_pairs_cannot_train_a_ranking(tiny_recipe: Path, tmp_path: Path) -> None:
    rows = write_json_lines(tmp_path / "pairs.jsonl", [{"text1": "a", "text2": "b", "score": 0.5}] * 3)
    with pytest.raises(DataError, match=r"rows of \(text1, text2, score\), and rows of \(query, positive\)"):
        train_and_measure(load_recipe(tiny_recipe, [f"data.path={rows}"]), tmp_path / "out")


def test_a_folder_that_is_no_model_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    for name, message in (("empty", "no model folder"), ("half", "Cannot load a model"), ("recipe.toml", "is a file")):
        with pytest.raises(ModelError, match=message):
            train_and_measure(load_recipe(tiny_recipe, [f"model.base={tmp_path / name}"]), tmp_path / "out")


def test_a_base_whose_weights_are_damaged_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    import safetensors.torch

    damaged = build_tiny_model(tmp_path / "damaged")
    weights = safetensors.torch.load_file(damaged / "model.safetensors")
    for name, value in (("nan", float("nan")), ("zero", 0.0)):
        safetensors.torch.save_file(
            {key: tensor.fill_(value) for key, tensor in weights.items()},
            damaged / "model.safetensors",
            {"format": "pt"},
        )
        with pytest.raises((ModelError, VectorError), match=r"not finite|vector of zeros"):
            train_and_measure(load_recipe(tiny_recipe, [f"model.base={damaged}"]), tmp_path / name)


def test_a_full_disk_is_one_clear_error_and_leaves_no_model(tiny_recipe: Path, tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "from nestvec.cli.main import run\n"
        "import nestvec.jobs.train_and_measure\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"sys.argv[1:] = ['train', {str(tiny_recipe)!r}, '--out', {str(tmp_path / 'out')!r}]\n"
        "run()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "while writing" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "model").exists()
    assert not (tmp_path / "out" / "report.json").exists()


def test_too_little_space_is_known_before_training(tiny_recipe: Path, tmp_path: Path, monkeypatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    with pytest.raises(StorageError, match="this run needs about"):
        train_and_measure(load_recipe(tiny_recipe), tmp_path / "out")


def test_a_run_whose_last_step_diverged_is_not_saved(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(
        tiny_recipe, ["training.learning_rate=1e38", "training.max_steps=1", "training.warmup_ratio=0.0"]
    )
    with pytest.raises(VerificationError, match="Training diverged"):
        train_and_measure(recipe, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()


def test_a_static_table_has_no_limit_and_nothing_to_freeze(tiny_recipe: Path, tmp_path: Path) -> None:
    for override, message in (
        ("model.max_tokens=64", "has no limit to set"),
        ("training.freeze_token_embeddings=true", "does not begin with a transformer"),
    ):
        recipe = load_recipe(tiny_recipe, ["model.base=static", override])
        with pytest.raises(RecipeError, match=message):
            train_and_measure(recipe, tmp_path / "out")


def test_training_rows_that_all_leak_are_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    rows = synthetic_rows(20)
    queries = {f"q{i}": row["query"] for i, row in enumerate(rows)}
    corpus = {f"d{i}": row["positive"] for i, row in enumerate(rows)}
    write_benchmark(Benchmark(queries, corpus, {f"q{i}": {f"d{i}": 1} for i in range(20)}), tmp_path / "b")
    data = write_json_lines(tmp_path / "rows.jsonl", rows)
    recipe = load_recipe(tiny_recipe, [f"data.path={data}", f"benchmark.path={tmp_path / 'b'}"])
    with pytest.raises(BenchmarkError, match="shares a query or an answer"):
        train_and_measure(recipe, tmp_path / "out")


def test_a_model_that_would_reload_differently_is_not_saved(tiny_model: Path, tmp_path: Path) -> None:
    model = load_model(str(tiny_model))
    other = build_tiny_model(tmp_path / "other", seed=1)
    vectors = SentenceTransformerEncoder(model).encode_documents(["the river"])
    verify_truncation(tiny_model, ["the river"], vectors, 64)
    with pytest.raises(VerificationError, match="reloaded at 64 dimensions, differs"):
        verify_truncation(other, ["the river"], vectors, 64)


def test_interrupting_says_how_to_continue(tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "nestvec",
        "train",
        str(tiny_recipe),
        "--out",
        str(out),
        "--set",
        "training.epochs=200",
    ]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        # A suite started in the background ignores interrupts, and its children would with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not list(out.glob("work/checkpoints/run.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("mini_batch_size", [None, 4])
def test_the_loss_of_sentence_transformers_trains_as_ours_does(
    tiny_recipe: Path, tmp_path: Path, mini_batch_size: int | None
) -> None:
    history = {}
    for loss in ("nested-info-nce", "matryoshka-loss"):
        options = [
            f"training.loss={loss}",
            "training.max_steps=6",
            "training.dropout=0.0",
            "training.weights=[1.0,0.5,0.25]",
        ]
        if mini_batch_size is not None and loss == "matryoshka-loss":
            options.append(f"training.mini_batch_size={mini_batch_size}")
        report = train_and_measure(load_recipe(tiny_recipe, options), tmp_path / loss)
        history[loss] = np.array(report.training["loss"])
    ours, theirs = history.values()
    np.testing.assert_array_equal(ours[:, 0], theirs[:, 0])
    np.testing.assert_allclose(ours[:, 1], theirs[:, 1], atol=2e-3)
    assert ours[-1, 1] < ours[0, 1]


def test_everything_for_short_vectors_can_be_trained_together(tiny_recipe: Path, tmp_path: Path) -> None:
    options = ["training.max_steps=6", "training.dropout=0.0"]
    more = [
        'training.document_precisions=["float32","int4","binary"]',
        "training.shortest_code=8",
        "training.self_distillation=0.5",
        "training.neighbours=8",
        "training.spread=1.0",
    ]
    plain, mixed = (
        train_and_measure(load_recipe(tiny_recipe, chosen), tmp_path / name)
        for name, chosen in (("plain", options), ("mixed", [*options, *more]))
    )
    assert plain.training["loss"][0][1] < mixed.training["loss"][0][1]  # it has more to lose
    assert mixed.training["loss"][-1][1] < mixed.training["loss"][0][1]


def test_what_only_the_nested_loss_knows_is_refused_for_another(tiny_recipe: Path) -> None:
    for option in ('training.document_precisions=["binary"]', "training.self_distillation=1.0", "training.spread=1.0"):
        with pytest.raises(RecipeError, match="are for the nested loss"):
            load_recipe(tiny_recipe, ["training.loss=matryoshka-loss", option])
    with pytest.raises(RecipeError, match="neighbours belong to self_distillation"):
        load_recipe(tiny_recipe, ["training.neighbours=5"])
    with pytest.raises(RecipeError, match="give each once"):
        load_recipe(tiny_recipe, ['training.document_precisions=["int8","int8"]'])
    with pytest.raises(RecipeError, match="int3"):
        load_recipe(tiny_recipe, ['training.document_precisions=["int3"]'])
    with pytest.raises(RecipeError, match="pq16 cannot be trained for: its codebooks"):
        load_recipe(tiny_recipe, ['training.document_precisions=["float32","pq16"]'])


def test_a_symmetric_matryoshka_loss_is_refused(tiny_recipe: Path) -> None:
    with pytest.raises(RecipeError, match="symmetric is for the nested loss"):
        load_recipe(tiny_recipe, ["training.loss=matryoshka-loss", "training.symmetric=true"])
