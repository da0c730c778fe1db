"""Text in: records, readers for every common format, benchmarks, and the documentation installed on this machine."""

from nestvec.data.benchmarks import Benchmark, read_benchmark, read_query_ids, write_benchmark
from nestvec.data.documents import TextDocument, read_documents
from nestvec.data.installed_docs import (
    INSTALLED_DOCS_FILES,
    ApiDoc,
    scan_installed_docs,
    split_by_package,
    write_installed_docs,
)
from nestvec.data.readers import read_hub_records, read_records
from nestvec.data.records import LabeledText, Record, RetrievalRow, ScoredPair
from nestvec.data.splits import hold_out_queries, without_leaks
from nestvec.data.vector_files import read_integers, read_numbers, read_vectors

__all__ = [
    "INSTALLED_DOCS_FILES",
    "ApiDoc",
    "Benchmark",
    "LabeledText",
    "Record",
    "RetrievalRow",
    "ScoredPair",
    "TextDocument",
    "hold_out_queries",
    "read_benchmark",
    "read_documents",
    "read_hub_records",
    "read_integers",
    "read_numbers",
    "read_query_ids",
    "read_records",
    "read_vectors",
    "scan_installed_docs",
    "split_by_package",
    "without_leaks",
    "write_benchmark",
    "write_installed_docs",
]
