"""The same seed, the same bits."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["deterministic"]


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed every generator and let torch use deterministic algorithms only.

    Inside, the generators of Python, NumPy, torch and CUDA start from `seed`; at the end torch's setting is as it was.
    Bits are equal on one machine with one number of threads, not across machines.

    Args:
        seed: 0 to 2**32 - 1.

    Yields:
        Nothing.
    """
    # cuBLAS reads this when it is first used; without it deterministic algorithms raise on CUDA.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    were_deterministic = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmarked = torch.backends.cudnn.benchmark
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # libraries below still draw from the global generator
    torch.manual_seed(seed)  # every device
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(were_deterministic, warn_only=warned_only)
        torch.backends.cudnn.benchmark = benchmarked
