"""How long does it take to fit an adaptor to 46,000 pairs of 384 numbers, five sizes, six epochs of batch 2,048?

MiniLM vectors of the training pairs of three sets, put together. Prints seconds, median of three fits, held-out
measurements included, and one JSON line last, and writes it to benchmarks/results.

    python benchmarks/adaptor_speed.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from nestvec.adaptors import AdaptorData, FitSettings, Method, fit_adaptor
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base
from nestvec.jobs.adapt import encode_texts
from provenance import describe_run, write_result
from sizes import SETS

PAIRS, DIMS, TURNS = 46_000, (384, 128, 64, 32, 16), 3
ALL_STEPS = {"epochs": 6.0, "patience": None}
VARIANTS: dict[str, tuple[Method | None, dict[str, Any]]] = {
    "default": (None, ALL_STEPS),
    "default, from one start": (None, {**ALL_STEPS, "start": "pca"}),
    "linear": ("linear", ALL_STEPS),
    "linear, no mined negatives": ("linear", {**ALL_STEPS, "mined_negatives": 0}),
}


def read_pairs(data: Path) -> AdaptorData:
    """Pairs of all sets, each with its query and document in a row of its own."""
    encoder = CachedEncoder(SentenceTransformerEncoder(load_base("minilm")), about="minilm")
    queries, documents = [], []
    for name in SETS:
        found = encode_texts(data / name / "train.jsonl.gz", encoder).data
        assert found.pairs is not None
        queries.append(found.queries[found.pairs[:, 0]])
        documents.append(found.documents[found.pairs[:, 1]])
    chosen = np.sort(np.random.default_rng(0).permutation(sum(map(len, queries)))[:PAIRS])
    rows = np.repeat(np.arange(PAIRS), 2).reshape(-1, 2)
    return AdaptorData(np.concatenate(queries)[chosen], np.concatenate(documents)[chosen], rows)


def main() -> None:
    """Fit in turns, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    data = read_pairs(parser.parse_args().data)
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for turn in range(TURNS):
        for name, (method, options) in VARIANTS.items():
            started = time.perf_counter()
            fit_adaptor(data, DIMS, method=method, settings=FitSettings(**{**options, "seed": turn}))
            seconds[name].append(round(time.perf_counter() - started, 1))
    for name, found in seconds.items():
        print(f"{name:32s}{statistics.median(found):8.1f} s", flush=True)
    write_result("adaptor_speed", {**describe_run(), "pairs": PAIRS, "dims": DIMS, "seconds": seconds})


if __name__ == "__main__":
    main()
