"""How much faster does a linear map on frozen vectors train with the tiled loss, at equal quality?

Vectors of a static model for the API documentation of the installed packages stay as they are; a linear map on top of
them learns nested sizes from query-document pairs. The same data, order and steps for sentence-transformers'
MatryoshkaLoss and for nestvec, in processes of their own that take turns; MRR@10 is that of held-out packages.

    python benchmarks/linear_map.py [--batch 4096] [--epochs 4] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss
from torch import Tensor, nn

from nestvec.data import scan_installed_docs, split_by_package
from nestvec.encoders import SentenceTransformerEncoder, load_base
from nestvec.evaluation import Retrieval, TaskVectors, encode_task, measure_grid
from nestvec.losses import NestedInfoNCE
from nestvec.vectors import normalize
from provenance import describe_run, write_result

DIM = 256
DIMS = [256, 128, 64, 32, 16]
LOSSES = {
    "st": lambda model: MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), DIMS),
    "nestvec": lambda model: NestedInfoNCE(model, DIMS),
}


class LinearMap(nn.Module):
    """A map from frozen vectors to nested ones, starting as the identity."""

    def __init__(self) -> None:
        """Start from the identity."""
        super().__init__()
        self.weight = nn.Parameter(torch.eye(DIM))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map a column."""
        return {"sentence_embedding": features["vectors"] @ self.weight.T}

    def get_embedding_dimension(self) -> int:
        """Return the size."""
        return DIM


def train(name: str, pairs_file: Path, weight_file: Path, batch: int, epochs: int) -> dict[str, Any]:
    """Train one map in this process and save it; return seconds and steps."""
    pairs = torch.from_numpy(np.load(pairs_file))  # [pairs, 2, dim]
    model = LinearMap()
    loss = LOSSES[name](model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    started, steps = time.perf_counter(), 0
    for _ in range(epochs):
        for rows in torch.randperm(len(pairs), generator=generator).split(batch):
            if len(rows) == batch:
                optimizer.zero_grad()
                loss([{"vectors": pairs[rows, side]} for side in (0, 1)], None).backward()
                optimizer.step()
                steps += 1
    seconds = time.perf_counter() - started
    np.save(weight_file, model.weight.detach().numpy())
    return {"seconds": seconds, "steps": steps}


def mean_reciprocal_ranks(task: Retrieval, vectors: TaskVectors, weight: NDArray[np.float32]) -> dict[int, float]:
    """MRR@10 at each dim after a map."""
    mapped = TaskVectors(*(normalize(side @ weight.T) for side in vectors))
    scores = measure_grid(task, mapped, DIMS).scores
    return {key.dim: round(metrics["MRR@10"].value, 4) for key, metrics in scores.items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, pairs_file, weight_file = arguments.child
        print(json.dumps(train(name, Path(pairs_file), Path(weight_file), arguments.batch, arguments.epochs)))
        return
    rows, benchmark = split_by_package(scan_installed_docs(seed=42), queries=1000, documents=5000, seed=42)
    encoder = SentenceTransformerEncoder(load_base("static"))
    task = Retrieval(benchmark, metrics=["MRR@10"])
    vectors = encode_task(task, encoder)
    sides = [
        encoder.encode_queries([row.query for row in rows]),
        encoder.encode_documents([row.positive for row in rows]),
    ]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in LOSSES}
    scores = {"raw": mean_reciprocal_ranks(task, vectors, np.eye(DIM, dtype=np.float32))}
    with tempfile.TemporaryDirectory() as folder:
        pairs_file = Path(folder) / "pairs.npy"
        np.save(pairs_file, np.stack(sides, axis=1))
        for _ in range(arguments.rounds):
            for name in LOSSES:
                weight_file = Path(folder) / f"{name}.npy"
                command = [sys.executable, __file__, "--child", name, str(pairs_file), str(weight_file)]
                command += ["--batch", str(arguments.batch), "--epochs", str(arguments.epochs)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                runs[name].append(json.loads(output.splitlines()[-1]))
                scores[name] = mean_reciprocal_ranks(task, vectors, np.load(weight_file))
    seconds = {name: statistics.median(run["seconds"] for run in of_name) for name, of_name in runs.items()}
    print(f"{len(rows):,} pairs, batch {arguments.batch:,}, {runs['st'][0]['steps']} steps, dims {DIMS}")
    for name, values in scores.items():
        took = f"{seconds[name]:7.1f} s" if name in seconds else " " * 9
        print(f"  {name:8s} {took}  MRR@10 " + "  ".join(f"{dim}: {value:.3f}" for dim, value in values.items()))
    print(f"  nestvec is {seconds['st'] / seconds['nestvec']:.2f} times as fast")
    result = {
        **describe_run(),
        "pairs": len(rows),
        "batch": arguments.batch,
        "dims": DIMS,
        "runs": runs,
        "median_seconds": seconds,
        "mrr_at_10": scores,
    }
    write_result("linear_map", result)


if __name__ == "__main__":
    main()
