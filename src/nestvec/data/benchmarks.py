"""A retrieval benchmark: queries, corpus and qrels, in the BEIR folder layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nestvec.data.readers import read_json_lines, read_lines
from nestvec.data.records import Problems, RetrievalRow
from nestvec.errors import BenchmarkError, SourceNotFoundError
from nestvec.files import atomic_folder
from nestvec.progress import Advance, Progress, silent

__all__ = ["Benchmark", "read_benchmark", "read_query_ids", "write_benchmark"]


_GRADE_HEADERS = ("score", "relevance", "rel", "grade", "label")


@dataclass(frozen=True)
class Benchmark:
    """Queries, the documents they are searched in, and which documents answer which query.

    Attributes:
        queries: Text by query id.
        corpus: Text by document id.
        qrels: Relevance grade by query id and document id; above 0 is relevant, 0 is judged not relevant.
        name: What to call it in a report.

    Raises:
        BenchmarkError: It is empty, a text is empty, qrels name unknown queries or documents, or no query
            has a relevant document.

    Example:
        >>> Benchmark({"q": "capital of France?"}, {"d": "Paris"}, {"q": {"d": 1}}).counts()
        {'queries': 1, 'documents': 1, 'relevant': 1}
    """

    queries: Mapping[str, str]
    corpus: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    name: str = "benchmark"

    def __post_init__(self) -> None:
        """Check that the three parts fit together."""
        if not self.queries or not self.corpus or not self.qrels:
            empty = [part for part in ("queries", "corpus", "qrels") if not getattr(self, part)]
            raise BenchmarkError(f"{self.name} is empty: it has no {' and no '.join(empty)}.")
        problems = Problems(self.name)
        for kind, texts in (("query", self.queries), ("document", self.corpus)):
            for key, text in texts.items():
                if not isinstance(text, str) or not text.strip():
                    problems.add(f"{kind} {key!r}", "the text is empty or no text")
                if len(key.splitlines()) > 1 or "\t" in key:
                    problems.add(f"{kind} {key!r}", "the id holds a tab or a line end, which qrels cannot hold")
        for query, grades in self.qrels.items():
            if query not in self.queries:
                problems.add(f"qrels of {query!r}", "no such query")
            for document in grades:
                if document not in self.corpus:
                    problems.add(f"qrels of {query!r}", f"no such document {document!r}")
        problems.raise_if_any(BenchmarkError)
        if not any(grade > 0 for grades in self.qrels.values() for grade in grades.values()):
            raise BenchmarkError(f"{self.name} has no relevant document for any query: every grade in qrels is 0.")

    def counts(self) -> dict[str, int]:
        """Return how many queries, documents and relevant judgements there are."""
        relevant = sum(grade > 0 for grades in self.qrels.values() for grade in grades.values())
        return {"queries": len(self.queries), "documents": len(self.corpus), "relevant": relevant}

    def rows(self) -> list[RetrievalRow]:
        """Return one training row for every relevant judgement; judged but not relevant documents are negatives."""
        rows: list[RetrievalRow] = []
        for query, grades in self.qrels.items():
            negatives = tuple(self.corpus[document] for document, grade in grades.items() if grade <= 0)
            rows.extend(
                RetrievalRow(self.queries[query], self.corpus[document], negatives)
                for document, grade in grades.items()
                if grade > 0
            )
        return rows


def read_benchmark(folder: str | Path, *, split: str = "test", progress: Progress = silent) -> Benchmark:
    """Read a BEIR folder: `corpus.jsonl`, `queries.jsonl` (each also .gz) and `qrels/<split>.tsv`.

    A document's title, where it has one, is put before its text, as BEIR does. Queries without qrels in this
    split are left out. Qrels have three columns (query, document, grade), with or without a header, or the
    four of TREC.

    Args:
        folder: The folder.
        split: Which qrels file.
        progress: How to report progress, in texts.

    Returns:
        The benchmark, named after the folder.

    Raises:
        SourceNotFoundError: The folder or one of its files is not there.
        BenchmarkError: A line is bad, or the parts do not fit together; all problems are named.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceNotFoundError(f"{folder} is not a folder. Give a BEIR folder with corpus, queries and qrels.")
    with progress(f"reading {folder.name}", None) as advance:
        corpus = _read_texts(_find(folder, "corpus.jsonl"), advance)
        queries = _read_texts(_find(folder, "queries.jsonl"), advance)
    qrels = _read_qrels(_find(folder, f"qrels/{split}.tsv"))
    # Where no query is judged, all are kept: the error then names the unknown ids in the qrels.
    judged = {query: text for query, text in queries.items() if query in qrels} or queries
    name = folder.resolve().name
    return Benchmark(judged, corpus, qrels, name=folder.resolve().parent.name if name == "benchmark" else name)


def read_query_ids(folder: str | Path) -> list[str]:
    """Read the ids of all queries of a BEIR folder, judged or not, in the order of its file.

    Args:
        folder: The folder.

    Returns:
        The ids.

    Raises:
        SourceNotFoundError: The folder has no queries.
        BenchmarkError: A line is bad.
    """
    return list(_read_texts(_find(Path(folder), "queries.jsonl"), lambda _: None))


def write_benchmark(benchmark: Benchmark, folder: str | Path, *, split: str = "test") -> None:
    """Write a benchmark as a BEIR folder, atomically; an older folder of that name is replaced.

    Args:
        benchmark: What to write.
        folder: Where.
        split: Name of the qrels file.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    with atomic_folder(Path(folder)) as partial:
        for name, texts in (("corpus", benchmark.corpus), ("queries", benchmark.queries)):
            with (partial / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                for key, text in texts.items():
                    file.write(json.dumps({"_id": key, "title": "", "text": text}, ensure_ascii=False) + "\n")
        (partial / "qrels").mkdir()
        lines = ["query-id\tcorpus-id\tscore\n"]
        for query, grades in benchmark.qrels.items():
            lines += [f"{query}\t{document}\t{grade}\n" for document, grade in grades.items()]
        (partial / "qrels" / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise SourceNotFoundError(f"{folder} has no {name} (or {name}.gz). A BEIR folder needs it.")


def _read_texts(path: Path, advance: Advance) -> dict[str, str]:
    problems = Problems(str(path))
    texts: dict[str, str] = {}
    for row in read_json_lines(path, problems):
        advance(1)
        key, text, title = row.values.get("_id"), row.values.get("text"), row.values.get("title") or ""
        if not isinstance(key, (str, int)) or isinstance(key, bool):
            problems.add(row.place, "_id is missing or no text")
        elif str(key) in texts:
            problems.add(row.place, f"_id {key!r} stands twice")
        elif not isinstance(text, str) or not isinstance(title, str) or not (title + text).strip():
            problems.add(row.place, "text is missing, empty or no text")
        else:
            texts[str(key)] = f"{title} {text}".strip()
    problems.raise_if_any(BenchmarkError)
    return texts


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    problems = Problems(str(path))
    qrels: dict[str, dict[str, int]] = {}
    for place, line in read_lines(path, problems):
        text = line.rstrip("\r\n")
        cells = text.split("\t") if "\t" in text else text.split()
        if not any(cells) or (place == "line 1" and cells[-1].lower() in _GRADE_HEADERS):
            continue
        if len(cells) not in (3, 4) or not _is_grade(cells[-1]):
            problems.add(place, "needs a query id, a document id and a whole-number grade")
            continue
        query, document, grade = cells[0], cells[-2], int(float(cells[-1]))
        if qrels.setdefault(query, {}).setdefault(document, grade) != grade:
            problems.add(place, f"{document!r} has another grade for {query!r} already")
    problems.raise_if_any(BenchmarkError)
    return qrels


def _is_grade(cell: str) -> bool:
    try:
        return float(cell).is_integer()
    except (ValueError, OverflowError):
        return False
