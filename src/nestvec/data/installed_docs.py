"""The API documentation of the Python packages on this machine, as texts to train on and to search.

Source files are parsed, never imported or run.
"""

from __future__ import annotations

import ast
import json
import random
import re
import sysconfig
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nestvec.data.benchmarks import Benchmark, write_benchmark
from nestvec.data.near_duplicates import first_of_near_duplicates
from nestvec.data.records import RetrievalRow
from nestvec.errors import BenchmarkError, SourceNotFoundError
from nestvec.files import atomic_folder, atomic_path
from nestvec.progress import Progress, silent

__all__ = ["INSTALLED_DOCS_FILES", "ApiDoc", "scan_installed_docs", "split_by_package", "write_installed_docs"]

INSTALLED_DOCS_FILES = ("docs.jsonl", "train.jsonl", "benchmark")
"""What `write_installed_docs` writes: entries to search, rows to train on, a benchmark to measure with."""

_SKIPPED_FOLDERS = {"tests", "test", "testing", "_vendor", "vendor", "vendored", "third_party", "__pycache__"}
_SHORTEST_SUMMARY_WORDS, _LONGEST_SUMMARY_WORDS, _SHORTEST_REST_WORDS = 3, 50, 5
_LONGEST_SIGNATURE = 300
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")  # written as an escape in somebody's docstring
_LARGEST_HELD_OUT_SHARE = 0.15  # a package with more of all documents than this is too good to train on
_LARGEST_SHARE_OF_CORPUS = 0.25
_SPARE = 1.15  # held-out documents for each that is wanted: near-duplicates among them will go
_SIBLINGS = 5


class ApiDoc(NamedTuple):
    """One documented class, function or method."""

    package: str
    """Top-level package, such as `scipy`."""
    module: str
    """Dotted module, such as `scipy.stats.contingency`."""
    name: str
    """Name within the module, such as `Table.rows`."""
    signature: str
    """Arguments and return annotation as written; empty for a class without a constructor."""
    summary: str
    """First paragraph of the docstring, on one line."""
    rest: str
    """Everything after it."""

    def identifier(self) -> str:
        """Return the qualified name, which is unique in a scan."""
        return f"{self.module}.{self.name}"

    def document(self) -> str:
        """Return what is searched when the summary is the query: everything but the summary."""
        return f"{self.identifier()}{self.signature}\n{self.rest}"

    def full_text(self) -> str:
        """Return the whole entry, as a search over the documentation indexes it."""
        return f"{self.identifier()}{self.signature}\n{self.summary}\n\n{self.rest}"


def scan_installed_docs(
    site_packages: str | Path | None = None,
    *,
    modules_per_package: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> list[ApiDoc]:
    """Read the docstrings of every public class, function and method of the installed packages.

    Tests, vendored copies, and packages, classes and functions whose name begins with an underscore are passed over;
    modules with such names are read, since many packages define their public names there. Docstrings without a
    summary or without anything after it are left out.

    Args:
        site_packages: Folder that holds the packages; by default the one of the running interpreter.
        modules_per_package: Modules to read of each package at most, drawn with `seed`; None reads all.
        seed: Seed of that draw.
        progress: How to report progress, in modules.

    Returns:
        One entry a documented object, ordered by package, module and place in the file.

    Raises:
        SourceNotFoundError: The folder is not there or holds no Python package.
    """
    if site_packages is not None:
        roots = [Path(site_packages)]
    else:  # some systems keep packages with compiled parts in a folder of their own
        roots = sorted({Path(sysconfig.get_paths()[kind]).resolve() for kind in ("purelib", "platlib")})
    modules: list[tuple[str, str, Path]] = []
    if not any(root.is_dir() for root in roots):
        raise SourceNotFoundError(f"{roots[0]} is not a folder. Give a site-packages folder with installed packages.")
    for root in filter(Path.is_dir, roots):
        for package, files in _packages(root):
            if modules_per_package is not None and len(files) > modules_per_package:
                files = sorted(random.Random(f"{seed}/{package}").sample(files, modules_per_package))
            modules.extend((package, _module_name(root, file), file) for file in files)
    if not modules:
        raise SourceNotFoundError(f"{roots[0]} holds no Python package. Give a site-packages folder.")
    docs: list[ApiDoc] = []
    with progress("reading installed documentation", len(modules)) as advance:
        for package, module, file in modules:
            docs.extend(_read_module(package, module, file))
            advance(1)
    return docs


def split_by_package(
    docs: Sequence[ApiDoc],
    *,
    queries: int,
    documents: int,
    seed: int,
    limit: int | None = None,
    progress: Progress = silent,
) -> tuple[list[RetrievalRow], Benchmark]:
    """Make training rows and a benchmark on whole packages that training never sees.

    A row's query is the summary, its positive the rest of the entry, and its negatives are the nearest siblings in
    the same module. Near-duplicates are removed, from training first: a held-out text has no copy in it. A summary
    that stands for several documents is no query.

    Args:
        docs: Entries of a scan.
        queries: Queries of the benchmark at most.
        documents: Documents of the benchmark at most.
        seed: Seed of every draw.
        limit: Training rows at most, taken in turn from every package; None takes all.
        progress: How to report progress, in texts.

    Returns:
        The training rows, and the benchmark with qualified names as document ids.

    Raises:
        BenchmarkError: Too few packages are installed to hold some out.
    """
    generator = random.Random(seed)
    held_out = _choose_held_out(docs, documents, generator)
    corpus_cap = max(1, int(documents * _LARGEST_SHARE_OF_CORPUS))
    candidates = _take_in_turn([doc for doc in docs if doc.package in held_out], generator, cap=corpus_cap)
    tested = _without_near_duplicates(candidates, progress)[:documents]

    training_docs = [doc for doc in docs if doc.package not in held_out]
    unseen = _without_near_duplicates([*tested, *training_docs], progress)[len(tested) :]
    tested_summaries = {_plain(doc.summary) for doc in tested}
    chosen = _first_of_each_summary(
        doc for doc in _take_in_turn(unseen, generator) if _plain(doc.summary) not in tested_summaries
    )
    rows = [_row(doc, siblings) for doc, siblings in _with_siblings(chosen[:limit], unseen)]
    if not rows:
        raise BenchmarkError(
            "No documented package is left to train on. Install more packages or lower benchmark.documents."
        )
    return rows, _benchmark(tested, queries, generator)


def write_installed_docs(
    folder: str | Path, docs: Sequence[ApiDoc], rows: Sequence[RetrievalRow], benchmark: Benchmark
) -> None:
    """Write a scan as files: `docs.jsonl` to search, `train.jsonl` to train on, `benchmark/` to measure with.

    Args:
        folder: Where; it appears whole or not at all, and an older one is replaced.
        docs: The scan.
        rows: Training rows.
        benchmark: Benchmark on the held-out packages.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    docs_file, train_file, benchmark_folder = INSTALLED_DOCS_FILES
    with atomic_folder(Path(folder)) as partial:
        entries = (
            {
                "_id": doc.identifier(),
                "text": doc.full_text(),
                "metadata": {"package": doc.package, "module": doc.module},
            }
            for doc in docs
        )
        _write_json_lines(partial / docs_file, entries)
        _write_json_lines(partial / train_file, (row._asdict() for row in rows))
        write_benchmark(benchmark, partial / benchmark_folder)


def _packages(root: Path) -> Iterator[tuple[str, list[Path]]]:
    for entry in sorted(root.iterdir()):
        if entry.name.startswith((".", "_")) or entry.name.endswith((".dist-info", ".egg-info", ".data")):
            continue
        if entry.is_dir() and entry.name not in _SKIPPED_FOLDERS:
            files = [
                file
                for file in sorted(entry.rglob("*.py"))
                if _SKIPPED_FOLDERS.isdisjoint(file.relative_to(root).parts[:-1])
            ]
            if files:
                yield entry.name, files
        elif entry.suffix == ".py":
            yield entry.stem, [entry]


def _module_name(root: Path, file: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _read_module(package: str, module: str, file: Path) -> Iterator[ApiDoc]:
    try:
        source = file.read_bytes()
        if b'"""' not in source and b"'''" not in source:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            tree = ast.parse(source)
    except (SyntaxError, ValueError, OSError, RecursionError):
        return  # templates and files for other Python versions are installed beside real modules
    seen: set[str] = set()
    for name, node in _documented(tree, ""):
        summary, rest = _split_docstring(ast.get_docstring(node) or "")
        if summary and name not in seen:
            seen.add(name)  # overloads and property setters repeat a name
            yield ApiDoc(package, module, name, _signature(node), summary, rest)


def _documented(
    parent: ast.Module | ast.ClassDef, prefix: str
) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in parent.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _documented(node, f"{prefix}{node.name}.")


def _split_docstring(docstring: str) -> tuple[str, str]:
    """Summary and rest; both empty where either is too short or too long to be one."""
    first, _, rest = docstring.strip().partition("\n\n")
    summary = " ".join(first.split())
    words = len(re.findall(r"\w+", summary))
    if not _SHORTEST_SUMMARY_WORDS <= words <= _LONGEST_SUMMARY_WORDS:
        return "", ""
    if len(re.findall(r"\w+", rest)) < _SHORTEST_REST_WORDS or _HALF_A_CHARACTER.search(docstring):
        return "", ""
    return summary, rest.strip()


def _signature(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if isinstance(node, ast.ClassDef):
        constructors = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        return _signature(constructors[0]) if constructors else ""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    return f"({ast.unparse(node.args)}){returns}"[:_LONGEST_SIGNATURE]


def _choose_held_out(docs: Sequence[ApiDoc], documents: int, generator: random.Random) -> set[str]:
    counts = Counter(doc.package for doc in docs)
    packages = sorted(package for package, count in counts.items() if count <= _LARGEST_HELD_OUT_SHARE * len(docs))
    generator.shuffle(packages)
    held_out: set[str] = set()
    held = 0
    for package in packages:
        if held >= documents * _SPARE or len(held_out) >= len(counts) // 2:
            break
        held_out.add(package)
        held += min(counts[package], int(documents * _LARGEST_SHARE_OF_CORPUS))
    if not held_out or len(held_out) == len(counts):
        raise BenchmarkError(
            f"{len(counts)} documented packages are installed, {len(packages)} of them small enough to hold out: "
            "too few to hold whole packages out. Point at a site-packages folder with more packages."
        )
    return held_out


def _take_in_turn(docs: Sequence[ApiDoc], generator: random.Random, *, cap: int | None = None) -> list[ApiDoc]:
    """Shuffle within each package, then deal one from every package in turn, so that none crowds out the rest."""
    by_package: dict[str, list[ApiDoc]] = defaultdict(list)
    for doc in docs:
        by_package[doc.package].append(doc)
    for package in sorted(by_package):
        generator.shuffle(by_package[package])
    ranked = [(turn, package, doc) for package, own in by_package.items() for turn, doc in enumerate(own[:cap])]
    ranked.sort(key=lambda item: item[:2])
    return [doc for _, _, doc in ranked]


def _without_near_duplicates(docs: Sequence[ApiDoc], progress: Progress) -> list[ApiDoc]:
    firsts = first_of_near_duplicates([f"{doc.summary}\n{doc.rest}" for doc in docs], progress=progress)
    return [doc for index, doc in enumerate(docs) if firsts[index] == index]


def _first_of_each_summary(docs: Iterable[ApiDoc]) -> list[ApiDoc]:
    return list({_plain(doc.summary): doc for doc in reversed(list(docs))}.values())[::-1]


def _with_siblings(docs: Sequence[ApiDoc], pool: Sequence[ApiDoc]) -> Iterator[tuple[ApiDoc, list[ApiDoc]]]:
    """Each entry with the nearest other entries of its module, by place in the file."""
    by_module: dict[str, list[ApiDoc]] = defaultdict(list)
    for doc in pool:
        by_module[doc.module].append(doc)
    place = {doc.identifier(): index for own in by_module.values() for index, doc in enumerate(own)}
    for doc in docs:
        own = by_module[doc.module]
        here = place[doc.identifier()]
        others = sorted((abs(there - here), there) for there in range(len(own)) if there != here)
        siblings = [own[there] for _, there in others if _plain(own[there].summary) != _plain(doc.summary)]
        yield doc, siblings[:_SIBLINGS]


def _row(doc: ApiDoc, siblings: Sequence[ApiDoc]) -> RetrievalRow:
    return RetrievalRow(doc.summary, doc.document(), tuple(sibling.document() for sibling in siblings))


def _benchmark(tested: Sequence[ApiDoc], queries: int, generator: random.Random) -> Benchmark:
    counts = Counter(_plain(doc.summary) for doc in tested)
    unambiguous = [doc for doc in tested if counts[_plain(doc.summary)] == 1]
    asked = generator.sample(unambiguous, min(queries, len(unambiguous)))
    return Benchmark(
        queries={f"q{number}": doc.summary for number, doc in enumerate(asked)},
        corpus={doc.identifier(): doc.document() for doc in tested},
        qrels={f"q{number}": {doc.identifier(): 1} for number, doc in enumerate(asked)},
        name="installed-docs, held-out packages",
    )


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _write_json_lines(path: Path, rows: Iterable[object]) -> None:
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
