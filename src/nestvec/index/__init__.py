"""Vectors to hits: two-stage search of documents in a folder, and scans of the codes that a plan chooses."""

from nestvec.index.building import Batch, IndexSettings
from nestvec.index.codes import PRODUCT, CodeSettings, FirstStage
from nestvec.index.explaining import Explanation, HitDetails
from nestvec.index.export import EXPORTS, ExportFormat, export
from nestvec.index.filters import parse_filter
from nestvec.index.index import Hits, Index
from nestvec.index.inspecting import Statistics, find_damage
from nestvec.index.manifest import Document
from nestvec.index.search_settings import SearchSettings
from nestvec.index.stored import StoredVectors, encode
from nestvec.index.threads import faiss_threads, one_thread_for_products
from nestvec.index.tuning import Trial, Tuned, tune
from nestvec.index.two_stages import Candidates, Stages, search_stages

__all__ = [
    "EXPORTS",
    "PRODUCT",
    "Batch",
    "Candidates",
    "CodeSettings",
    "Document",
    "Explanation",
    "ExportFormat",
    "FirstStage",
    "HitDetails",
    "Hits",
    "Index",
    "IndexSettings",
    "SearchSettings",
    "Stages",
    "Statistics",
    "StoredVectors",
    "Trial",
    "Tuned",
    "encode",
    "export",
    "faiss_threads",
    "find_damage",
    "one_thread_for_products",
    "parse_filter",
    "search_stages",
    "tune",
]
