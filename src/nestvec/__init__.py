"""nestvec: text embeddings that can be cut to any size, and what every byte of them costs.

The public names are loaded when first used: importing nestvec imports neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nestvec.data import Benchmark, read_benchmark, read_records, write_benchmark
    from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base, load_model
    from nestvec.errors import NestvecError
    from nestvec.evaluation import Retrieval, encode_task, make_cells, measure_grid, measure_run
    from nestvec.exact_search import search_prefixes
    from nestvec.index import Index
    from nestvec.jobs.evaluate import evaluate
    from nestvec.jobs.index import open_index
    from nestvec.jobs.plan import make_plan
    from nestvec.jobs.train_and_measure import train_and_measure
    from nestvec.losses import NestedInfoNCE, nested_info_nce
    from nestvec.plan import read_plan
    from nestvec.quantization import fit_quantizer
    from nestvec.training import Recipe, load_recipe
    from nestvec.vectors import cosine, normalize, truncate

__version__ = "0.1.0"

_HOMES = {
    "Benchmark": "nestvec.data",
    "CachedEncoder": "nestvec.encoders",
    "Index": "nestvec.index",
    "NestedInfoNCE": "nestvec.losses",
    "NestvecError": "nestvec.errors",
    "Recipe": "nestvec.training",
    "Retrieval": "nestvec.evaluation",
    "SentenceTransformerEncoder": "nestvec.encoders",
    "cosine": "nestvec.vectors",
    "encode_task": "nestvec.evaluation",
    "evaluate": "nestvec.jobs.evaluate",
    "fit_quantizer": "nestvec.quantization",
    "load_base": "nestvec.encoders",
    "load_model": "nestvec.encoders",
    "load_recipe": "nestvec.training",
    "make_cells": "nestvec.evaluation",
    "make_plan": "nestvec.jobs.plan",
    "measure_grid": "nestvec.evaluation",
    "measure_run": "nestvec.evaluation",
    "nested_info_nce": "nestvec.losses",
    "normalize": "nestvec.vectors",
    "open_index": "nestvec.jobs.index",
    "read_benchmark": "nestvec.data",
    "read_plan": "nestvec.plan",
    "read_records": "nestvec.data",
    "search_prefixes": "nestvec.exact_search",
    "train_and_measure": "nestvec.jobs.train_and_measure",
    "truncate": "nestvec.vectors",
    "write_benchmark": "nestvec.data",
}

__all__ = [
    "Benchmark",
    "CachedEncoder",
    "Index",
    "NestedInfoNCE",
    "NestvecError",
    "Recipe",
    "Retrieval",
    "SentenceTransformerEncoder",
    "__version__",
    "cosine",
    "encode_task",
    "evaluate",
    "fit_quantizer",
    "load_base",
    "load_model",
    "load_recipe",
    "make_cells",
    "make_plan",
    "measure_grid",
    "measure_run",
    "nested_info_nce",
    "normalize",
    "open_index",
    "read_benchmark",
    "read_plan",
    "read_records",
    "search_prefixes",
    "train_and_measure",
    "truncate",
    "write_benchmark",
]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nestvec' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
