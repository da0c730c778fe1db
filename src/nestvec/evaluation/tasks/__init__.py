"""What vectors are good for, one class a task."""

from nestvec.evaluation.tasks.base import Scores, Task
from nestvec.evaluation.tasks.classes import Classification, Clustering, FewShot
from nestvec.evaluation.tasks.pairs import PairClassification, SemanticSimilarity
from nestvec.evaluation.tasks.retrieval import BitextMining, Reranking, Retrieval, searches

__all__ = [
    "BitextMining",
    "Classification",
    "Clustering",
    "FewShot",
    "PairClassification",
    "Reranking",
    "Retrieval",
    "Scores",
    "SemanticSimilarity",
    "Task",
    "searches",
]
