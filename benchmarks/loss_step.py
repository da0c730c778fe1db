"""What does one step of a nested loss cost, in time and memory, beside sentence-transformers' MatryoshkaLoss?

Forward and backward pass of in-batch negatives at nested sizes, from ready embeddings, so that only the loss counts.
Every measurement is a process of its own; the variants take turns, round after round (batches above 4,096: one round).
Time is the median over all steps but each process's first; memory is the highest resident size of a process above that
before its first step, on a GPU the highest that torch gave out.

    python benchmarks/loss_step.py [--batches 512 2048 4096 8192 16384 32768] [--rounds 3] [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from torch import Tensor, nn

from nestvec.losses import NestedInfoNCE
from provenance import describe_run, write_result

DIM = 768
DIMS = [768, 512, 256, 128, 64]
MINI_BATCH = 512
LARGEST_MIB = {"cpu": 16 * 1024, "cuda": 72 * 1024}  # of 24 and 80 GiB, some are other processes'
LONGEST_STEP = 60.0  # seconds
SECONDS_PER_PROCESS = 6.0
ONE_ROUND_ABOVE = 4096  # larger batches take long, and vary little


class Given(nn.Sequential):
    """An encoder that costs nothing: its features are the embeddings."""

    def __init__(self) -> None:
        """Have a first module, which losses look at."""
        super().__init__(nn.Identity())

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Hand them on."""
        return {"sentence_embedding": features["vectors"]}

    def get_embedding_dimension(self) -> int:
        """Return the full size."""
        return DIM


VARIANTS: dict[str, tuple[str, Callable[[nn.Module], nn.Module]]] = {
    "plain": ("sentence-transformers, full size only", lambda model: MultipleNegativesRankingLoss(model)),
    "st": (
        "sentence-transformers, MatryoshkaLoss",
        lambda model: MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), DIMS),
    ),
    "nestvec": ("nestvec", lambda model: NestedInfoNCE(model, DIMS)),
    "st-cached": (
        f"sentence-transformers, MatryoshkaLoss, cached, mini-batch {MINI_BATCH}",
        lambda model: MatryoshkaLoss(
            model, CachedMultipleNegativesRankingLoss(model, mini_batch_size=MINI_BATCH), DIMS
        ),
    ),
    "st-cached-32": (
        "sentence-transformers, MatryoshkaLoss, cached, mini-batch 32 (its default)",
        lambda model: MatryoshkaLoss(model, CachedMultipleNegativesRankingLoss(model), DIMS),
    ),
    "nestvec-cached": (
        f"nestvec, cached, mini-batch {MINI_BATCH}",
        lambda model: NestedInfoNCE(model, DIMS, mini_batch_size=MINI_BATCH),
    ),
}


def take_steps(variant: str, batch: int, device: str) -> dict[str, Any]:
    """Measure one variant in this process: seconds of each step after the first, and memory in MiB."""
    torch.manual_seed(0)
    loss = VARIANTS[variant][1](Given()).to(device)
    on_gpu = device == "cuda"

    def draw(rows: int) -> tuple[Tensor, Tensor]:
        queries = torch.randn(rows, DIM, device=device)
        documents = torch.randn(rows, DIM, device=device) + queries / 2
        return queries.requires_grad_(), documents.requires_grad_()

    def step(queries: Tensor, documents: Tensor) -> float:
        queries.grad = documents.grad = None
        _ended(on_gpu)
        started = time.perf_counter()
        loss([{"vectors": queries}, {"vectors": documents}], None).backward()
        _ended(on_gpu)
        return time.perf_counter() - started

    step(*draw(64))  # loads what is loaded on first use
    columns = draw(batch)
    before = _reset_highest(on_gpu)
    first = step(*columns)
    seconds = [step(*columns) for _ in range(max(1, min(30, int(SECONDS_PER_PROCESS / first))))]
    gradient = columns[0].grad
    if gradient is None or not gradient.isfinite().all():
        raise RuntimeError(f"{variant} gave no usable gradient.")
    return {"seconds": seconds, "extra_mib": _highest(on_gpu) - before, "gradient_norm": gradient.norm().item()}


def _ended(on_gpu: bool) -> None:
    """Wait for what was started."""
    if on_gpu:
        torch.cuda.synchronize()


def _reset_highest(on_gpu: bool) -> float:
    """Memory in use now, in MiB, from where on the highest is looked for."""
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _resident_mib("VmRSS")


def _highest(on_gpu: bool) -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if on_gpu else _resident_mib("VmHWM")


def _resident_mib(key: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def in_own_process(variant: str, batch: int, device: str) -> dict[str, Any]:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--child", variant, "--batches", str(batch), "--device", device]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    measured: dict[str, Any] = json.loads(output.splitlines()[-1])
    return measured


def measure(batches: list[int], rounds: int, device: str) -> list[dict[str, Any]]:
    """Measure every variant at every batch size, in turns."""
    cells: list[dict[str, Any]] = []
    for batch in batches:
        runs: dict[str, list[dict[str, Any]]] = {}
        skipped = {variant: reason for variant in VARIANTS if (reason := _out_of_reach(cells, variant, batch, device))}
        for _ in range(rounds if batch <= ONE_ROUND_ABOVE else 1):
            for variant in VARIANTS:
                if variant not in skipped:
                    runs.setdefault(variant, []).append(in_own_process(variant, batch, device))
        for variant in VARIANTS:
            cell: dict[str, Any] = {"variant": variant, "batch": batch}
            if variant in skipped:
                cell["skipped"] = skipped[variant]
            else:
                seconds = [second for run in runs[variant] for second in run["seconds"]]
                cell |= {
                    "ms": round(statistics.median(seconds) * 1e3, 1),
                    "ms_fastest": round(min(seconds) * 1e3, 1),
                    "steps": len(seconds),
                    "extra_mib": round(max(run["extra_mib"] for run in runs[variant]), 1),
                    "gradient_norm": runs[variant][0]["gradient_norm"],
                }
            cells.append(cell)
        print_batch(cells, batch)
    return cells


def _out_of_reach(cells: list[dict[str, Any]], variant: str, batch: int, device: str) -> str | None:
    """Why a variant cannot be run, judged by its last size; time and memory grow with the square of the batch."""
    earlier = [cell for cell in cells if cell["variant"] == variant]
    if not earlier:
        return None
    if "skipped" in earlier[-1]:
        return str(earlier[-1]["skipped"])
    growth = (batch / earlier[-1]["batch"]) ** 2
    tiled = variant.startswith("nestvec") or "cached" in variant
    if not tiled and earlier[-1]["extra_mib"] * growth > LARGEST_MIB[device]:
        return f"would need about {earlier[-1]['extra_mib'] * growth / 1024:.0f} GiB"
    if earlier[-1]["ms"] * growth / 1e3 > LONGEST_STEP:
        return f"a step would take about {earlier[-1]['ms'] * growth / 60e3:.0f} minutes"
    return None


def print_batch(cells: list[dict[str, Any]], batch: int) -> None:
    """Print the table of one batch size."""
    of_batch = {cell["variant"]: cell for cell in cells if cell["batch"] == batch}
    ours = of_batch["nestvec"]
    if "skipped" in ours:
        print(f"  nestvec not run: {ours['skipped']}")
        return
    print(f"\nbatch {batch:,}, dims {DIMS}")
    for variant, cell in of_batch.items():
        if "skipped" in cell:
            print(f"  {VARIANTS[variant][0]:75s} not run: {cell['skipped']}")
            continue
        time_ratio, memory_ratio = cell["ms"] / ours["ms"], cell["extra_mib"] / ours["extra_mib"]
        print(
            f"  {VARIANTS[variant][0]:75s} {cell['ms']:10,.1f} ms {cell['extra_mib']:9,.0f} MiB"
            f"   {time_ratio:5.2f} x the time of nestvec, {memory_ratio:5.2f} x the memory"
        )
    sys.stdout.flush()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", nargs="+", type=int, default=[512, 2048, 4096, 8192, 16384, 32768])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--child", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(take_steps(arguments.child, arguments.batches[0], arguments.device)))
        return
    cells = measure(arguments.batches, arguments.rounds, arguments.device)
    result = {**describe_run(), "dims": DIMS, "rounds": arguments.rounds, "cells": cells}
    write_result("loss_step" if arguments.device == "cpu" else "loss_step-gpu", result)


if __name__ == "__main__":
    main()
