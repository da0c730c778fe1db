"""Does an adaptor behind a model that was trained give more than a rotation of it?

Trains a base nested on some rows of each set. Rows that share no text with them are what an adaptor is fitted to, and
what a rotation may be fitted to as well. Measures MRR@10 by size on the benchmark of each set. Prints shares of the
full vector of the trained model and one JSON line last, and writes it to benchmarks/results.

    python benchmarks/behind_trained.py --data ../shared/data --base static
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.adaptors import Adaptor, FitSettings, Method, fit_adaptor
from nestvec.data import RetrievalRow
from nestvec.encoders import SentenceTransformerEncoder, is_static
from nestvec.evaluation import Retrieval, encode_task
from nestvec.jobs.adapt import encode_records
from nestvec.training.determinism import deterministic
from nestvec.training.recipe import TrainingSettings
from nestvec.training.run import prepare, train
from nestvec.training.start_and_finish import finish_vectors, fit_finish
from provenance import describe_run, write_result
from recipes import STATIC, TRANSFORMER, load_to_train, read_rows
from sizes import METRIC, SETS, SIZES, TRAINED, dims_of, read_task, scores_by_size, transformed

AS_TRAINED, BY_TRAINING_ROWS = "as trained", "rotation by training rows"
BY_UNSEEN: dict[str, Method | None] = {
    "rotation by unseen pairs": "rotation",
    "one map by unseen pairs": "linear",
    "default adaptor by unseen pairs": None,
}


def split(rows: Sequence[RetrievalRow], count: int) -> tuple[Sequence[RetrievalRow], Sequence[RetrievalRow]]:
    """The first rows to train on, and of the others those that share neither query nor positive with them."""
    first = rows[:count]
    known = {text for row in first for text in (row.query, row.positive)}
    return first, [row for row in rows[count:] if row.query not in known and row.positive not in known]


def fit_all(arguments: argparse.Namespace, name: str, task: Retrieval) -> dict[str, Any]:
    """Train on rows of a set, fit what may come behind, and measure each at every size."""
    rows = read_rows(arguments.data / name / "train.jsonl.gz", None, 0)
    order = np.random.default_rng(0).permutation(len(rows))
    seen, unseen = split([rows[place] for place in order], arguments.rows)
    model = load_to_train(arguments.base, arguments.max_tokens)
    encoder = SentenceTransformerEncoder(model, batch_size=256)
    dims = dims_of(encoder.full_dim, TRAINED)
    recipe = {
        **(STATIC if is_static(arguments.base) else TRANSFORMER),
        "dims": dims,
        "start": "auto",
        "finish": "rotate",
    }
    training = TrainingSettings.model_validate(recipe)
    with tempfile.TemporaryDirectory() as work, deterministic(arguments.seed):
        prepared = prepare(model, seen, training, dims=dims, seed=arguments.seed, work=Path(work))
        train(prepared._replace(unseen=None))  # the finish held rows out, and is fitted below
    assert prepared.unseen is not None
    adaptors: dict[str, Adaptor | None] = {AS_TRAINED: None}
    with deterministic(arguments.seed):
        sides = finish_vectors(model, prepared.columns, prepared.unseen, seed=arguments.seed)
        adaptors[BY_TRAINING_ROWS] = fit_finish(*sides, "rotate", dims=dims, seed=arguments.seed)
        data = encode_records(unseen[: arguments.unseen], encoder, about=name)
        for how, method in BY_UNSEEN.items():
            adaptors[how] = fit_adaptor(data, dims, method=method, settings=FitSettings(seed=arguments.seed))
    vectors = encode_task(task, encoder)
    sizes = [dim for dim in SIZES if dim <= encoder.full_dim]
    measured = {}
    for how, one in adaptors.items():
        mapped = vectors if one is None else transformed(vectors, one)
        measured[how] = {METRIC: scores_by_size(task, mapped, sizes), "method": one.method if one else None}
    return {"start": prepared.start, "unseen": min(len(unseen), arguments.unseen), "dims": sizes, "adaptors": measured}


def main() -> None:
    """Train, fit, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    parser.add_argument("--base", default="minilm", help="What is trained.")
    parser.add_argument("--rows", type=int, default=3333, help="Rows that it is trained on.")
    parser.add_argument("--unseen", type=int, default=2000, help="Rows that an adaptor is fitted to, at most.")
    parser.add_argument("--queries", type=int, default=1500, help="Queries of each benchmark at most.")
    parser.add_argument("--documents", type=int, default=4000, help="Documents of each benchmark at most.")
    parser.add_argument("--max-tokens", type=int, default=64, help="Of a transformer.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    for name in SETS:
        task = read_task(arguments.data, name, queries=arguments.queries, documents=arguments.documents)
        found = results[name] = fit_all(arguments, name, task)
        whole = found["adaptors"][AS_TRAINED][METRIC][0]
        print(f"{name + ', % of the full vector as trained':44s}" + "".join(f"{dim:>7d}" for dim in found["dims"]))
        for how, one in found["adaptors"].items():
            print(f"{how:44s}" + "".join(f"{100 * score / whole:7.1f}" for score in one[METRIC]), flush=True)
    write_result(
        f"behind-trained-{arguments.base}",
        {**describe_run(), "base": arguments.base, "rows": arguments.rows, "sets": results},
    )


if __name__ == "__main__":
    main()
