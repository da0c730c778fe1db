"""A large grid stays within its memory. Run: pytest tests/test_evaluation_memory.py (half a minute, 2 GiB)."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import numpy as np
from nestvec.data import Benchmark
from nestvec.evaluation import Rerank, Retrieval, TaskVectors, measure_grid

def peak_mib():  # that of resource.getrusage counts the process that started this one
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024

generator = np.random.default_rng(0)
n_documents, n_queries, dim = 100_000, 200, 768
documents, queries = (generator.standard_normal((n, dim), dtype=np.float32) for n in (n_documents, n_queries))
ids = [f"d{number:06d}" for number in range(n_documents)]
queries_of = [f"q{number}" for number in range(n_queries)]
task = Retrieval(Benchmark(dict.fromkeys(queries_of, "q"), dict.fromkeys(ids, "d"), {key: {ids[0]: 1} for key in queries_of}))
before = peak_mib()
grid = measure_grid(
    task,
    TaskVectors(queries, documents),
    [768, 128],
    precisions=["float32", "int8", "binary"],
    reranks=[None, Rerank("int8", 100), Rerank("float16", 400)],
)
assert len(grid.scores) == 18
assert "torch" not in sys.modules
print(peak_mib() - before)
"""


@pytest.mark.slow
def test_a_grid_of_100_000_vectors_of_768_dimensions_takes_less_than_2_gib_more() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 2048
