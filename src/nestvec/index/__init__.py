"""Vectors to hits: the interface of an index, and the embedded one that searches a folder in two stages."""

from nestvec.index.embedded.buildable import check_buildable, check_free
from nestvec.index.embedded.codec import IndexSettings
from nestvec.index.embedded.export import EXPORTS, ExportFormat, export
from nestvec.index.embedded.first_stage import FirstStage
from nestvec.index.embedded.index import Index
from nestvec.index.embedded.inspecting import Statistics, find_damage
from nestvec.index.embedded.stored import Stored, StoredVectors, encode
from nestvec.index.embedded.two_stages import Stages, search_stages
from nestvec.index.filters import parse_filter
from nestvec.index.protocol import Batch, QueryEncoder, SearchIndex
from nestvec.index.results import Candidates, Document, Explanation, Hit, Hits, StageDetails
from nestvec.index.settings import (
    DEFAULT_SHORTLIST,
    IDENTITY_BYTES,
    LENGTH_BYTES,
    CodeSettings,
    SearchSettings,
    default_lists,
    rows_to_train,
)
from nestvec.index.tuning import Trial, Tuned

__all__ = [
    "DEFAULT_SHORTLIST",
    "EXPORTS",
    "IDENTITY_BYTES",
    "LENGTH_BYTES",
    "Batch",
    "Candidates",
    "CodeSettings",
    "Document",
    "Explanation",
    "ExportFormat",
    "FirstStage",
    "Hit",
    "Hits",
    "Index",
    "IndexSettings",
    "QueryEncoder",
    "SearchIndex",
    "SearchSettings",
    "StageDetails",
    "Stages",
    "Statistics",
    "Stored",
    "StoredVectors",
    "Trial",
    "Tuned",
    "check_buildable",
    "check_free",
    "default_lists",
    "encode",
    "export",
    "find_damage",
    "parse_filter",
    "rows_to_train",
    "search_stages",
]
