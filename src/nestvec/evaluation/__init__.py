"""Vectors and relevance to a grid: metrics, exact search at every size, intervals, cells."""

from nestvec.evaluation.bootstrap import Interval, interval, resampled_means
from nestvec.evaluation.grid import BenchmarkVectors, Cell, QueryScores, encode_benchmark, make_cells, measure_sizes
from nestvec.evaluation.metrics import DEFAULT_METRICS, Metric, measure_run, parse_metric
from nestvec.evaluation.search import TopK, search_prefixes

__all__ = [
    "DEFAULT_METRICS",
    "BenchmarkVectors",
    "Cell",
    "Interval",
    "Metric",
    "QueryScores",
    "TopK",
    "encode_benchmark",
    "interval",
    "make_cells",
    "measure_run",
    "measure_sizes",
    "parse_metric",
    "resampled_means",
    "search_prefixes",
]
