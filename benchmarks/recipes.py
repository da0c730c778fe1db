"""What does each trick of a training recipe give short prefixes, when the model itself is trained?

Trains a base on some rows of three sets, each trick against the plain nested loss at equal steps and several seeds, and
measures the grid on the benchmarks of the sets. The score of a query is its mean over the seeds. Prints MRR@10 relative
to the full float32 vector of a plainly trained model (InfoNCE at the full size only), mean over the sets, and one JSON
line last, and writes it to benchmarks/results.

    python benchmarks/recipes.py --data ../shared/data --base static
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.data import RetrievalRow, read_records
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, is_static, load_base
from nestvec.evaluation import encode_task
from nestvec.training.determinism import deterministic
from nestvec.training.recipe import TrainingSettings
from nestvec.training.run import prepare, train
from provenance import describe_run, write_result
from sizes import (
    SETS,
    TRAINED,
    Values,
    choose_variants,
    dims_of,
    join_seeds,
    measure,
    print_header,
    print_row,
    read_task,
    summarize,
)

STATIC = {"batch_size": 256, "learning_rate": 1e-2, "epochs": 2.0}
TRANSFORMER = {"batch_size": 48, "learning_rate": 1.5e-4, "dropout": 0.0, "freeze_token_embeddings": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "nested": {},
    "start pca": {"start": "pca"},
    "start adaptor": {"start": "adaptor"},
    "start adaptor, map at a tenth": {"start": "adaptor", "start_learning_rate": 0.1},
    "start adaptor, map at a hundredth": {"start": "adaptor", "start_learning_rate": 0.01},
    "self-distillation": {"self_distillation": 0.5},
    "self-distillation, 20 nearest": {"self_distillation": 0.5, "neighbours": 20},
    "spread": {"spread": 1.0},
    "teacher minilm": {"teacher": "minilm", "teacher_weight": 0.5},
    "through int4 and bits": {"document_precisions": ["float32", "int4", "binary"]},
    "small sizes heavier": {"weights": [1.0, 1.0, 1.0, 2.0, 3.0, 4.0]},
    "weights move to small sizes": {
        "weights": [1.0] * 6,
        "final_weights": [1.0, 1.0, 1.0, 2.0, 3.0, 4.0],
    },
    "large first": {"order": "large-first"},
    "small first": {"order": "small-first"},
    "averaged": {"averaged": 0.3},
    "symmetric": {"symmetric": True},
    "LoRA 16": {"lora_rank": 16, "learning_rate": 1e-3, "freeze_token_embeddings": False},
    "start adaptor, averaged": {"start": "adaptor", "averaged": 0.3},
    "start adaptor, int4 and bits": {
        "start": "adaptor",
        "document_precisions": ["float32", "int4", "binary"],
    },
}


def read_rows(path: Path, limit: int, seed: int) -> Sequence[RetrievalRow]:
    """Some rows of a training file, drawn at random; the same ones for every variant."""
    rows = [record for record in read_records(path) if isinstance(record, RetrievalRow)]
    chosen = np.random.default_rng(seed).permutation(len(rows))[:limit]
    return [rows[place] for place in np.sort(chosen)]


def main() -> None:
    """Train, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    parser.add_argument("--base", default="static", help="What is trained.")
    parser.add_argument("--rows", type=int, default=8000, help="Training rows of each set.")
    parser.add_argument("--documents", type=int, help="Documents of each benchmark at most.  [default: all]")
    parser.add_argument("--queries", type=int, default=1500, help="Queries of each benchmark at most.")
    parser.add_argument("--max-tokens", type=int, default=64, help="Of a transformer.")
    parser.add_argument("--seeds", type=int, default=3, help="Runs of each variant.")
    parser.add_argument("--variants", help="Names with ; between them, beside plain and nested.  [default: all]")
    arguments = parser.parse_args()
    chosen = choose_variants(parser, list(VARIANTS), arguments.variants)
    static = is_static(arguments.base)
    if static:
        chosen.discard("LoRA 16")
    else:
        chosen.discard("teacher minilm")
    settings = STATIC if static else TRANSFORMER

    def load() -> Any:
        model = load_base(arguments.base)
        if not static:
            model.max_seq_length = arguments.max_tokens
        return model

    tasks = {
        name: read_task(arguments.data, name, queries=arguments.queries, documents=arguments.documents) for name in SETS
    }
    rows = {name: read_rows(arguments.data / name / "train.jsonl.gz", arguments.rows, 0) for name in SETS}
    dims = dims_of(SentenceTransformerEncoder(load()).full_dim, TRAINED)
    values: dict[str, dict[str, Values]] = {}
    seconds: dict[str, float] = {}
    results: dict[str, Any] = {}

    def report(name: str) -> None:
        results[name] = summarize(values[name], values["nested"], values["plain"])
        print_row(name, results[name], seconds[name])

    print_header()
    for name, options in VARIANTS.items():
        if name not in chosen:
            continue
        seconds[name], values[name] = 0.0, {}
        for set_name, task in tasks.items():
            runs = []
            for seed in range(arguments.seeds):
                sizes = dims[:1] if name == "plain" else dims
                chosen_settings = TrainingSettings.model_validate({**settings, **options, "dims": sizes})
                if chosen_settings.start_learning_rate is not None:  # given as a share
                    rate = chosen_settings.start_learning_rate * chosen_settings.learning_rate
                    chosen_settings = chosen_settings.model_copy(update={"start_learning_rate": rate})
                work = Path(tempfile.mkdtemp())
                try:
                    started = time.perf_counter()
                    with deterministic(seed):
                        model = load()
                        run = prepare(model, rows[set_name], chosen_settings, dims=sizes, seed=seed, work=work)
                        train(run)
                    seconds[name] += (time.perf_counter() - started) / arguments.seeds
                finally:
                    shutil.rmtree(work)
                runs.append(measure(task, encode_task(task, SentenceTransformerEncoder(model, batch_size=256))))
            values[name][set_name] = join_seeds(runs)
        if name == "nested":
            report("plain")
        if name != "plain":
            report(name)
    cached = CachedEncoder(SentenceTransformerEncoder(load()), about=arguments.base)
    values["base"] = {name: measure(task, encode_task(task, cached)) for name, task in tasks.items()}
    seconds["base"] = 0.0
    report("base")
    write_result(
        f"recipes-{arguments.base}",
        {
            **describe_run(),
            "base": arguments.base,
            "seeds": arguments.seeds,
            "rows": {name: len(part) for name, part in rows.items()},
            "benchmarks": {name: task.benchmark.counts() for name, task in tasks.items()},
            "settings": settings,
            "train_seconds": {name: round(value, 1) for name, value in seconds.items()},
            "variants": results,
        },
    )


if __name__ == "__main__":
    main()
