"""What the engine promises beside exactness: memory, the same bits, one pass. Run: pytest tests/test_losses_engine.py."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nestvec.losses import nested_info_nce, nested_supervised_contrastive

MEASURE = """
import torch
from pathlib import Path
from nestvec.losses import nested_info_nce

def resident(key):
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith(key)).split()[1]) / 1024

def step(batch, dim):
    columns = [torch.randn(batch, dim, requires_grad=True) for _ in range(2)]
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    nested_info_nce(*columns, dims=[dim, dim // 2, dim // 4], symmetric=True).backward()
    return resident("VmHWM") - before

step(64, 64)
print(step(8192, 64))
"""


def test_a_step_never_holds_a_score_matrix() -> None:
    """One score matrix of this batch has 256 MiB; autograd on whole matrices would hold several a dim."""
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 128


@pytest.mark.parametrize(("gradients", "products"), [(False, 1), (True, 3)])
def test_all_dims_cost_one_full_product_and_two_on_the_way_back(gradients: bool, products: int) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            name = function.name().split("::")[1].split(".")[0]
            if name in ("mm", "addmm", "addmm_", "bmm", "baddbmm"):
                left, right = arguments[-2:]
                self.numbers += left.shape[0] * left.shape[1] * right.shape[1]
            return function(*arguments, **(keywords or {}))

    queries, documents = torch.randn(8, 64, requires_grad=gradients), torch.randn(24, 64, requires_grad=gradients)
    with Count() as count:
        value = nested_info_nce(queries, documents, dims=[64, 48, 32, 16])
        if gradients:
            value.backward()
    assert count.numbers == products * 8 * 64 * 24


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_input_gives_the_same_bits(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = []
        for _ in range(2):
            generator = torch.Generator().manual_seed(0)
            columns = [torch.randn(700, 64, generator=generator, requires_grad=True) for _ in range(2)]
            value = nested_info_nce(*columns, dims=[64, 16], symmetric=True)
            results.append([value, *torch.autograd.grad(value, columns)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_vector_that_is_row_and_column_gets_both_gradients() -> None:
    vectors = torch.randn(6, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    assert torch.autograd.gradcheck(lambda one: nested_supervised_contrastive(one, labels, dims=[8, 3]), (vectors,))


def test_dims_that_weigh_nothing_cost_nothing_and_change_nothing() -> None:
    generator = torch.Generator().manual_seed(2)
    columns = [torch.randn(9, 16, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    with_zeros = nested_info_nce(*columns, dims=[16, 8, 4, 2], weights=[0.0, 1.0, 0.0, 2.0])
    without = nested_info_nce(*columns, dims=[8, 2], weights=[1.0, 2.0])
    assert with_zeros == without
    for one, other in zip(*(torch.autograd.grad(value, columns) for value in (with_zeros, without)), strict=True):
        assert torch.equal(one, other)
