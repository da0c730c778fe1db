"""Text in: records, readers for every common format, benchmarks, and the documentation installed on this machine."""

from nestvec.data.benchmarks import Benchmark, read_benchmark, read_query_ids, write_benchmark
from nestvec.data.documents import DOCUMENT_ROLES, TextDocument, read_documents
from nestvec.data.installed_docs import (
    INSTALLED_DOCS_FILES,
    ApiDoc,
    scan_installed_docs,
    split_by_package,
    write_installed_docs,
)
from nestvec.data.places import naming_places
from nestvec.data.readers import is_saved_data_set, read_hub_records, read_records
from nestvec.data.records import COLUMN_ROLES, Columns, LabeledText, Positives, Record, RetrievalRow, ScoredPair
from nestvec.data.spans import span_rows
from nestvec.data.splits import hold_out_queries, without_leaks
from nestvec.data.text_files import read_line_list
from nestvec.data.vector_files import read_integers, read_numbers, read_vectors

__all__ = [
    "COLUMN_ROLES",
    "DOCUMENT_ROLES",
    "INSTALLED_DOCS_FILES",
    "ApiDoc",
    "Benchmark",
    "Columns",
    "LabeledText",
    "Positives",
    "Record",
    "RetrievalRow",
    "ScoredPair",
    "TextDocument",
    "hold_out_queries",
    "is_saved_data_set",
    "naming_places",
    "read_benchmark",
    "read_documents",
    "read_hub_records",
    "read_integers",
    "read_line_list",
    "read_numbers",
    "read_query_ids",
    "read_records",
    "read_vectors",
    "scan_installed_docs",
    "span_rows",
    "split_by_package",
    "without_leaks",
    "write_benchmark",
    "write_installed_docs",
]
