"""What does each trick of fitting an adaptor give, at every size and byte count?

Fits adaptors to frozen vectors of the training pairs of three sets with several seeds: each trick against the plain
nested loss at equal steps, six epochs, then the defaults, which take more. Measures the grid on the benchmarks of the
sets; the score of a query is its mean over the seeds. Prints MRR@10 relative to the full float32 vector of a plainly
fitted adaptor (InfoNCE at the full size only), mean over the sets, and one JSON line last, and writes it to
benchmarks/results.

    python benchmarks/adaptors.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nestvec.adaptors import FitSettings, Method, fit_adaptor
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base
from nestvec.evaluation import encode_task
from nestvec.jobs.adapt import encode_texts
from provenance import describe_run, write_result
from sizes import SETS, TRAINED, Trained, choose_variants, compare_variants, dims_of, read_task, transformed


@dataclass(frozen=True)
class Variant:
    """One way to fit."""

    method: Method | None = "linear"
    settings: Mapping[str, Any] = field(default_factory=dict)
    nested: bool = True


SIX = {"epochs": 6.0, "temperature": 0.05}
OFF = {**SIX, "start": "identity", "strength": 1.0, "mined_negatives": 0, "pull": 0.0, "tie": 0.0}
ALL_THE_WAY = {"start": "pca", "strength": 1.0}  # as before the held-out pairs chose
VARIANTS = {
    "plain": Variant(settings=OFF, nested=False),
    "nested": Variant(settings=OFF),
    "start pca": Variant(settings={**OFF, "start": "pca"}),
    "pull": Variant(settings={**OFF, "pull": 0.01}),
    "mined negatives": Variant(settings={**OFF, "mined_negatives": 1}),
    "two towers": Variant("two-tower", OFF),
    "two towers, tied": Variant("two-tower", {**OFF, "tie": 0.1}),
    "hidden layer": Variant("mlp", OFF),
    "symmetric": Variant(settings={**OFF, "symmetric": True}),
    "neighbourhoods": Variant(settings={**OFF, "distillation": 1.0}),
    "through int4 and bits": Variant(settings={**OFF, "precisions": ("float32", "int4", "binary")}),
    "one map with all that helps": Variant(settings={**SIX, **ALL_THE_WAY}),
    "default, six epochs": Variant(None, SIX),
    "plain, twelve epochs": Variant(settings={**OFF, "epochs": 12.0}, nested=False),
    "two towers all the way": Variant("two-tower", ALL_THE_WAY),
    "default": Variant(None),
    "preset small": Variant(None, {"preset": "small"}),
    "preset full": Variant(None, {"preset": "full"}),
    "default, through int4 and bits": Variant(None, {"precisions": ("float32", "int4", "binary")}),
}


def main() -> None:
    """Fit, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    parser.add_argument("--base", default="minilm", help="What encodes, and stays as it is.")
    parser.add_argument("--queries", type=int, default=1500, help="Queries of each benchmark at most.")
    parser.add_argument("--seeds", type=int, default=3, help="Fits of each variant.")
    parser.add_argument("--variants", help="Names with ; between them, beside plain and nested.  [default: all]")
    arguments = parser.parse_args()
    chosen = choose_variants(parser, list(VARIANTS), arguments.variants)
    encoder = CachedEncoder(SentenceTransformerEncoder(load_base(arguments.base)), about=arguments.base)
    tasks = {name: read_task(arguments.data, name, queries=arguments.queries) for name in SETS}
    vectors = {name: encode_task(task, encoder) for name, task in tasks.items()}
    pairs = {name: encode_texts(arguments.data / name / "train.jsonl.gz", encoder).data for name in SETS}
    dims = dims_of(encoder.full_dim, TRAINED)

    def run(name: str, set_name: str, seed: int) -> Trained:
        variant = VARIANTS[name]
        settings = FitSettings(**{**variant.settings, "seed": seed, "patience": None})
        started = time.perf_counter()
        adaptor = fit_adaptor(
            pairs[set_name], dims if variant.nested else dims[:1], method=variant.method, settings=settings
        )
        seconds = time.perf_counter() - started
        return Trained(transformed(vectors[set_name], adaptor), seconds)

    write_result(
        f"adaptors-{arguments.base}",
        {
            **describe_run(),
            "base": arguments.base,
            "pairs": {name: len(data.pairs) for name, data in pairs.items() if data.pairs is not None},
            **compare_variants(chosen, tasks, vectors, run, seeds=range(arguments.seeds)),
        },
    )


if __name__ == "__main__":
    main()
