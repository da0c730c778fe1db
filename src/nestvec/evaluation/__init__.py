"""Vectors and relevance to a grid: tasks, metrics, exact search at every size, intervals, cells."""

from nestvec.evaluation.bootstrap import Interval, interval, resample
from nestvec.evaluation.cell_keys import CellKey, Rerank, TaskVectors, parse_rerank
from nestvec.evaluation.cells import Cell, make_cells
from nestvec.evaluation.grid import GridScores, check_cells, check_task_vectors, encode_task, measure_grid
from nestvec.evaluation.latency import Latency, measure_latency
from nestvec.evaluation.metrics import DEFAULT_METRICS, Metric, measure_run, parse_metric
from nestvec.evaluation.mteb_model import MTEBModel
from nestvec.evaluation.scores import (
    AveragePrecision,
    MeanScore,
    PearsonCorrelation,
    Score,
    SpearmanCorrelation,
    VMeasure,
)
from nestvec.evaluation.significance import Difference, compare
from nestvec.evaluation.tasks import (
    BitextMining,
    Classification,
    Clustering,
    FewShot,
    PairClassification,
    Reranking,
    Retrieval,
    SemanticSimilarity,
    Task,
    searches,
)

__all__ = [
    "DEFAULT_METRICS",
    "AveragePrecision",
    "BitextMining",
    "Cell",
    "CellKey",
    "Classification",
    "Clustering",
    "Difference",
    "FewShot",
    "GridScores",
    "Interval",
    "Latency",
    "MTEBModel",
    "MeanScore",
    "Metric",
    "PairClassification",
    "PearsonCorrelation",
    "Rerank",
    "Reranking",
    "Retrieval",
    "Score",
    "SemanticSimilarity",
    "SpearmanCorrelation",
    "Task",
    "TaskVectors",
    "VMeasure",
    "check_cells",
    "check_task_vectors",
    "compare",
    "encode_task",
    "interval",
    "make_cells",
    "measure_grid",
    "measure_latency",
    "measure_run",
    "parse_metric",
    "parse_rerank",
    "resample",
    "searches",
]
