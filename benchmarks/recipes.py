"""What does each trick of a training recipe give short prefixes, when the model itself is trained?

Trains a base on some rows of three sets, each trick against the plain nested loss at equal steps and several seeds, and
measures the grid on the benchmarks of the sets. The score of a query is its mean over the seeds. Prints MRR@10 relative
to the full float32 vector of a plainly trained model (InfoNCE at the full size only), mean over the sets, and one JSON
line last, and writes it to benchmarks/results. A tenth of the rows is held out of every training, for finishes to be
judged by; variants that differ in their finish alone are trained once.

    python benchmarks/recipes.py --data ../shared/data --base static --keep kept
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.data import RetrievalRow, read_records
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, is_static, load_base
from nestvec.evaluation import Retrieval, TaskVectors, encode_task
from nestvec.files import atomic_path
from nestvec.jobs import quickstart_recipe
from nestvec.jobs.training_data import load_training_data
from nestvec.training.determinism import deterministic
from nestvec.training.recipe import PRESETS, TrainingSettings
from nestvec.training.run import prepare, train
from nestvec.training.start_and_finish import finish_vectors, fit_finish
from provenance import describe_run, write_result
from sizes import METRIC, SETS, TRAINED, Trained, choose_variants, compare_variants, dims_of, read_task, transformed

STATIC: dict[str, Any] = {"batch_size": 256, "learning_rate": 1e-2, "epochs": 2.0}
TRANSFORMER: dict[str, Any] = {
    "batch_size": 48,
    "learning_rate": 1.5e-4,
    "dropout": 0.0,
    "freeze_token_embeddings": True,
}
QUICKSTART, QUICKSTART_STATIC = "quickstart", {"epochs": 4.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "nested": {},
    "start centre": {"start": "centre"},
    "start rotate": {"start": "rotate"},
    "start centre-rotate": {"start": "centre-rotate"},
    "start pairs": {"start": "pairs"},
    "start centre, trained": {"start": "centre", "start_trained": True},
    "start rotate, trained": {"start": "rotate", "start_trained": True},
    "start centre-rotate, trained": {"start": "centre-rotate", "start_trained": True},
    "finish rotate": {"finish": "rotate"},
    "finish pairs": {"finish": "pairs"},
    "finish pca": {"finish": "pca"},
    "start rotate, finish rotate": {"start": "rotate", "finish": "rotate"},
    "start pairs, finish rotate": {"start": "pairs", "finish": "rotate"},
    "start centre-rotate, finish rotate": {"start": "centre-rotate", "finish": "rotate"},
    "preset small, no start": {"finish": "rotate", **PRESETS["small"]},
    "preset small": {"start": "rotate", "finish": "rotate", **PRESETS["small"]},
    "preset full": {"start": "rotate", "finish": "rotate", **PRESETS["full"]},
    "self-distillation": {"self_distillation": 0.5},
    "self-distillation, 20 nearest": {"self_distillation": 0.5, "neighbours": 20},
    "self-distillation, int4 and bits": {
        "self_distillation": 0.5,
        "document_precisions": ["float32", "int4", "binary"],
    },
    "spread": {"spread": 1.0},
    "teacher minilm": {"teacher": "minilm", "teacher_weight": 0.5},
    "through int4 and bits": {"document_precisions": ["float32", "int4", "binary"]},
    "small sizes heavier": {"weights": [1.0, 1.0, 1.0, 2.0, 3.0, 4.0]},
    "weights move to small sizes": {
        "weights": [1.0] * 6,
        "final_weights": [1.0, 1.0, 1.0, 2.0, 3.0, 4.0],
    },
    "large sizes heavier": {"weights": [4.0, 3.0, 2.0, 1.0, 1.0, 1.0]},
    "large first": {"order": "large-first"},
    "small first": {"order": "small-first"},
    "averaged": {"averaged": 0.3},
    "symmetric": {"symmetric": True},
    "LoRA 16": {"lora_rank": 16, "learning_rate": 1e-3, "freeze_token_embeddings": False},
}


def read_rows(path: Path, limit: int | None, seed: int) -> Sequence[RetrievalRow]:
    """Some rows of a training file, drawn at random, None all; the same ones for every variant."""
    rows = [record for record in read_records(path) if isinstance(record, RetrievalRow)]
    chosen = np.random.default_rng(seed).permutation(len(rows))[:limit]
    return [rows[place] for place in np.sort(chosen)]


def load_to_train(base: str, max_tokens: int) -> Any:
    """A base, whose texts are cut to so many tokens where it is a transformer."""
    model = load_base(base)
    if not is_static(base):
        model.max_seq_length = max_tokens
    return model


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
    parser.add_argument("--first-seed", type=int, default=0, help="Seed of the first run.")
    parser.add_argument("--sets", default=",".join(SETS), help=f"Which sets; {QUICKSTART} is one more.")
    parser.add_argument("--keep", type=Path, help="Folder to keep vectors of what was trained in, and take them from.")
    parser.add_argument("--variants", help="Names with ; between them, beside plain and nested.  [default: all]")
    arguments = parser.parse_args()
    first = arguments.first_seed
    chosen = choose_variants(parser, list(VARIANTS), arguments.variants)
    static = is_static(arguments.base)
    senseless = "LoRA 16" if static else "teacher minilm"
    chosen = [name for name in chosen if name != senseless]
    settings = STATIC if static else TRANSFORMER

    load = partial(load_to_train, arguments.base, arguments.max_tokens)
    tasks, rows = {}, {}
    for name in arguments.sets.split(","):
        if name == QUICKSTART:
            found = load_training_data(quickstart_recipe(arguments.base, seed=42))
            tasks[name], rows[name] = Retrieval(found.benchmark, metrics=[METRIC]), found.rows
        else:
            tasks[name] = read_task(arguments.data, name, queries=arguments.queries, documents=arguments.documents)
            rows[name] = read_rows(arguments.data / name / "train.jsonl.gz", arguments.rows, 0)
    dims = dims_of(SentenceTransformerEncoder(load()).full_dim, TRAINED)
    cached = CachedEncoder(SentenceTransformerEncoder(load()), about=arguments.base)

    def train_once(options: dict[str, Any], set_name: str, seed: int) -> dict[str, Any]:
        """Vectors of the benchmark, of rows that were trained on and of those held out; on disk where asked for."""
        described = json.dumps([arguments.base, arguments.rows, arguments.max_tokens, set_name, options, seed])
        file = None
        if arguments.keep is not None:
            file = arguments.keep / f"{hashlib.sha256(described.encode()).hexdigest()[:16]}.npz"
            if file.is_file():
                found, task = dict(np.load(file)), tasks[set_name]
                if [len(found["task_queries"]), len(found["task_documents"])] == [
                    len(task.queries),
                    len(task.documents),
                ]:
                    return found  # of this benchmark
        training = TrainingSettings.model_validate({"start": "none", **options})
        with tempfile.TemporaryDirectory() as work, deterministic(seed):
            started = time.perf_counter()
            model = load()
            prepared = prepare(
                model,
                rows[set_name],
                training.model_copy(update={"finish": "rotate"}),  # holds rows out
                dims=training.dims or dims,
                seed=seed,
                work=Path(work),
            )
            train(prepared._replace(unseen=None))
            seconds = time.perf_counter() - started
            assert prepared.unseen is not None
            sides = finish_vectors(model, prepared.columns, prepared.unseen, seed=seed)
        vectors = encode_task(tasks[set_name], SentenceTransformerEncoder(model, batch_size=256))
        (queries, documents), (new_queries, new_documents) = sides
        found = {
            "task_queries": vectors.queries,
            "task_documents": vectors.documents,
            "queries": queries,
            "documents": documents,
            "new_queries": new_queries,
            "new_documents": new_documents,
            "seconds": seconds,
        }
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as unfinished, unfinished.open("wb") as stream:
                np.savez(stream, **found)
        return found

    def run(name: str, set_name: str, seed: int) -> Trained:
        sizes = dims[:1] if name == "plain" else dims
        options = {**settings, **VARIANTS[name], "dims": sizes}
        if set_name == QUICKSTART:
            options |= QUICKSTART_STATIC if static else {}
        how = options.pop("finish", "none")
        found = train_once(options, set_name, seed)
        vectors = TaskVectors(found["task_queries"], found["task_documents"])
        seconds = float(found["seconds"])
        if how != "none":
            started = time.perf_counter()
            seen, unseen = (found["queries"], found["documents"]), (found["new_queries"], found["new_documents"])
            with deterministic(seed):
                adaptor = fit_finish(seen, unseen, how, dims=sizes, seed=seed)
            vectors = transformed(vectors, adaptor)
            seconds += time.perf_counter() - started
            kept = adaptor.settings["start"], adaptor.settings["strength"]
            print(f"    {name}, {set_name}, seed {seed}: {adaptor.method} {kept}", flush=True)
        return Trained(vectors, seconds)

    untrained = {name: encode_task(task, cached) for name, task in tasks.items()}
    write_result(
        f"recipes-{arguments.base}",
        {
            **describe_run(),
            "base": arguments.base,
            "rows": {name: len(part) for name, part in rows.items()},
            "settings": settings,
            **compare_variants(chosen, tasks, untrained, run, seeds=range(first, first + arguments.seeds)),
        },
    )


if __name__ == "__main__":
    main()
