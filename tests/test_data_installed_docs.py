"""The documentation of installed packages. Run: pytest tests/test_data_installed_docs.py (a second)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nestvec.data import read_benchmark, read_records, scan_installed_docs, split_by_package, write_installed_docs
from nestvec.errors import BenchmarkError, SourceNotFoundError, StorageError

MODULE = '''
"""Module docstring."""
raise RuntimeError("imported, not parsed")

class Table:
    """Hold rows of one shape.

    Rows are kept in the order in which they came.
    """
    def __init__(self, rows, *, sort=False): ...

    def rows(self, first: int = 0) -> list:
        """Return the rows
        from a given one.

        The list is a copy, so that changing it is safe.
        """
    def _private(self):
        """Not shown to anyone ever.

        Because it is private to this class.
        """

def too_short():
    """Return x.

    A summary of two words is no query.
    """

def no_rest(a):
    """Return the sum of the numbers."""
'''


def write_package(root: Path, name: str, modules: int = 1, functions: int = 12) -> None:
    (root / name).mkdir(parents=True)
    (root / name / "__init__.py").write_text("")
    for module in range(modules):
        code = "".join(
            f'def task_{i}(value):\n    """Do the {name} work of kind {module} {i}.\n\n'
            f'    It takes {name} number {i * 7} and gives {name} {module} {i * 3} back to whoever asked.\n    """\n'
            for i in range(functions)
        )
        (root / name / f"module{module}.py").write_text(code)


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    for name in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"):
        write_package(tmp_path / "site", name, modules=2)
    return tmp_path / "site"


def test_source_is_parsed_and_never_imported(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "tables.py").write_text(MODULE)
    docs = scan_installed_docs(tmp_path)
    assert [(doc.package, doc.module, doc.name, doc.signature, doc.summary) for doc in docs] == [
        ("shop", "shop.tables", "Table", "(self, rows, *, sort=False)", "Hold rows of one shape."),
        ("shop", "shop.tables", "Table.rows", "(self, first: int=0) -> list", "Return the rows from a given one."),
    ]
    assert "shop" not in sys.modules
    assert docs[1].document() == (
        "shop.tables.Table.rows(self, first: int=0) -> list\nThe list is a copy, so that changing it is safe."
    )
    assert docs[1].summary not in docs[1].document()
    assert docs[1].summary in docs[1].full_text()


def test_tests_vendored_copies_and_broken_files_are_passed_over(site_packages: Path) -> None:
    expected = scan_installed_docs(site_packages)
    for folder in ("tests", "_vendor"):
        write_package(site_packages / "alpha", folder)
    (site_packages / "alpha" / "broken.py").write_text('"""x"""\nthis is not python')
    (site_packages / "alpha" / "bytes.py").write_bytes(b'"""\xff\x00"""')
    (site_packages / "alpha-1.0.dist-info").mkdir()
    assert scan_installed_docs(site_packages) == expected


def test_a_cap_draws_modules_by_seed(site_packages: Path) -> None:
    one, same = (scan_installed_docs(site_packages, modules_per_package=1, seed=4) for _ in range(2))
    assert one == same
    assert 0 < len(one) < len(scan_installed_docs(site_packages))


def test_whole_packages_are_held_out(site_packages: Path) -> None:
    docs = scan_installed_docs(site_packages)
    rows, benchmark = split_by_package(docs, queries=10, documents=40, seed=0)
    held_out = {document.split(".")[0] for document in benchmark.corpus}
    assert 0 < len(held_out) < 8
    assert rows
    for row in rows:
        for text in (row.positive, *row.negatives):
            assert text.split(".")[0] not in held_out
    assert benchmark.counts() == {"queries": 10, "documents": 40, "relevant": 10}


def test_negatives_are_siblings_in_the_same_module(site_packages: Path) -> None:
    rows, _ = split_by_package(scan_installed_docs(site_packages), queries=10, documents=40, seed=0)
    for row in rows:
        module = row.positive.split("(")[0].rsplit(".", 1)[0]
        assert len(row.negatives) == 5
        assert row.positive not in row.negatives
        for negative in row.negatives:
            assert negative.split("(")[0].rsplit(".", 1)[0] == module


def test_a_copy_of_a_held_out_text_leaves_training(site_packages: Path) -> None:
    """Also where the copy has another summary: it is the documents that must not leak."""
    docs = [
        doc._replace(rest=" ".join(f"{doc.package}{doc.module[-1]}{doc.name}word{number}" for number in range(100)))
        for doc in scan_installed_docs(site_packages)
    ]
    packages = sorted({doc.package for doc in docs})
    copies = [
        doc._replace(
            package=other, module=f"{other}.copy_of_{doc.package}", summary=f"Another {number} summary {other}."
        )
        for number, doc in enumerate(docs)
        for other in packages
        if other != doc.package and docs.index(doc) % 3 == 0
    ]
    rows, benchmark = split_by_package([*docs, *copies], queries=10, documents=60, seed=0)
    tested = {text.split("\n")[1].split()[0] for text in benchmark.corpus.values()}
    trained = {text.split("\n")[1].split()[0] for row in rows for text in (row.positive, *row.negatives)}
    assert trained
    assert tested.isdisjoint(trained)


def test_a_summary_that_stands_for_several_documents_is_no_query(site_packages: Path) -> None:
    docs = [
        doc._replace(summary="Do the same as always.") if doc.name == "task_3" else doc
        for doc in scan_installed_docs(site_packages)
    ]
    rows, benchmark = split_by_package(docs, queries=1000, documents=40, seed=0)
    assert "Do the same as always." not in benchmark.queries.values()
    assert sum(row.query == "Do the same as always." for row in rows) <= 1


def test_a_limit_takes_from_every_package_in_turn(site_packages: Path) -> None:
    docs = scan_installed_docs(site_packages)
    rows, benchmark = split_by_package(docs, queries=5, documents=20, seed=0, limit=6)
    packages = [row.positive.split(".")[0] for row in rows]
    assert len(rows) == 6
    assert len(set(packages)) == min(6, 8 - len({document.split(".")[0] for document in benchmark.corpus}))


def test_the_written_files_are_read_by_everything_else(site_packages: Path, tmp_path: Path) -> None:
    docs = scan_installed_docs(site_packages)
    rows, benchmark = split_by_package(docs, queries=10, documents=40, seed=0)
    write_installed_docs(tmp_path / "out", docs, rows, benchmark)
    assert read_records(tmp_path / "out" / "train.jsonl") == rows
    assert read_benchmark(tmp_path / "out" / "benchmark").corpus == benchmark.corpus
    entries = [json.loads(line) for line in (tmp_path / "out" / "docs.jsonl").read_text().splitlines()]
    assert [entry["_id"] for entry in entries] == [doc.identifier() for doc in docs]


def test_half_a_character_in_a_docstring_is_passed_over(site_packages: Path, tmp_path: Path) -> None:
    (site_packages / "alpha" / "odd.py").write_text(
        'def f():\n    """Do a strange thing.\n\n    \\ud800 one two three four five."""\n'
    )
    docs = scan_installed_docs(site_packages)
    rows, benchmark = split_by_package(docs, queries=5, documents=20, seed=0)
    write_installed_docs(tmp_path / "out", docs, rows, benchmark)


def test_a_scan_that_cannot_be_written_is_a_storage_error(site_packages: Path, tmp_path: Path) -> None:
    docs = scan_installed_docs(site_packages)
    rows, benchmark = split_by_package(docs, queries=5, documents=20, seed=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_installed_docs(tmp_path / "file" / "out", docs, rows, benchmark)


def test_too_few_packages_are_refused(tmp_path: Path) -> None:
    write_package(tmp_path, "only")
    with pytest.raises(BenchmarkError, match="too few to hold whole packages out"):
        split_by_package(scan_installed_docs(tmp_path), queries=1, documents=5, seed=0)


def test_a_folder_without_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="holds no Python package"):
        scan_installed_docs(tmp_path)
    with pytest.raises(SourceNotFoundError, match="is not a folder"):
        scan_installed_docs(tmp_path / "nowhere")
