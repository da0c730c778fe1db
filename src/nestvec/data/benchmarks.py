"""A retrieval benchmark: queries, corpus and qrels, in the BEIR folder layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nestvec.data.problems import Problems
from nestvec.data.qrels import read_qrels
from nestvec.data.readers import read_json_lines
from nestvec.data.records import RetrievalRow
from nestvec.errors import BenchmarkError, DataError, SourceNotFoundError
from nestvec.files import atomic_folder, is_unicode
from nestvec.progress import Advance, Progress, silent

__all__ = ["Benchmark", "read_benchmark", "read_query_ids", "write_benchmark"]


@dataclass(frozen=True)
class Benchmark:
    """Queries, the documents they are searched in, and which documents answer which query.

    Attributes:
        queries: Text by query id.
        corpus: Text by document id; a document without text is found by nothing.
        qrels: Relevance grade by query id and document id; above 0 is relevant, 0 is judged not relevant. A document
            that is not in the corpus is never found, as in trec_eval.
        name: What to call it in a report.

    Raises:
        BenchmarkError: It is empty, the text of a query is empty, qrels name unknown queries, or no query has a
            relevant document in the corpus.

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
                if not isinstance(text, str) or (kind == "query" and not text.strip()):
                    problems.add(f"{kind} {key!r}", "the text is empty or no text")
                if not {"\t", "\n", "\r"}.isdisjoint(key):
                    problems.add(f"{kind} {key!r}", "the id holds a tab or a line end, which qrels cannot hold")
        for query in self.qrels:
            if query not in self.queries:
                problems.add(f"qrels of {query!r}", "no such query")
        problems.raise_if_any(BenchmarkError)
        relevant = [document for grades in self.qrels.values() for document, grade in grades.items() if grade > 0]
        if not relevant:
            raise BenchmarkError(f"{self.name} has no relevant document for any query: every grade in qrels is 0.")
        if not any(self.corpus.get(document, "").strip() for document in relevant):
            raise BenchmarkError(
                f"{self.name} has none of its {len(relevant):,} relevant documents in its corpus, such as "
                f"{relevant[0]!r}: nothing could be found. Check that corpus and qrels belong together."
            )

    def own_document(self, query: str) -> str | None:
        """Return the document that is the query itself, which a search for it must not count.

        BEIR and MTEB leave the document of a query's own id out of its results. One that is judged relevant stays:
        then equal ids are a coincidence.

        Args:
            query: Id of a query.

        Returns:
            The id; None where the corpus has no such document.
        """
        judged_relevant = self.qrels.get(query, {}).get(query, 0) > 0
        return query if query in self.corpus and not judged_relevant else None

    def counts(self) -> dict[str, int]:
        """Return how many queries, documents and relevant judgements there are."""
        relevant = sum(grade > 0 for grades in self.qrels.values() for grade in grades.values())
        return {"queries": len(self.queries), "documents": len(self.corpus), "relevant": relevant}

    def rows(self) -> list[RetrievalRow]:
        """Return one training row for every relevant judgement; judged but not relevant documents are negatives.

        Documents that are not in the corpus, or without text, make no row.
        """
        rows: list[RetrievalRow] = []
        for query, grades in self.qrels.items():
            texts = {document: self.corpus.get(document, "") for document in grades}
            known = {document: text for document, text in texts.items() if text.strip()}
            negatives = tuple(text for document, text in known.items() if grades[document] <= 0)
            rows.extend(
                RetrievalRow(self.queries[query], text, negatives)
                for document, text in known.items()
                if grades[document] > 0
            )
        return rows


def read_benchmark(
    folder: str | Path, *, split: str = "test", strict: bool = False, progress: Progress = silent
) -> Benchmark:
    """Read a BEIR folder: `corpus.jsonl`, `queries.jsonl` (each also .gz) and `qrels/<split>.tsv`.

    A document's title, where it has one, is put before its text, as BEIR does. Queries without qrels in this
    split are left out. Qrels have three columns (query, document, grade), with or without a header, or the
    four of TREC; further columns do not count.

    What published data sets have is counted and said once in a `NestvecWarning`: documents without text, which nothing
    finds; judgements of documents that are not there, which count as never found; judgements of queries that are not
    there or without text, which are left out; ids that stand twice and judgements made twice, of which the last counts.

    Args:
        folder: The folder.
        split: Which qrels file.
        strict: Refuse all of that.
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
        corpus = _read_texts(_find(folder, "corpus.jsonl"), advance, strict=strict)
        queries = _read_texts(_find(folder, "queries.jsonl"), advance, strict=strict, kind="queries")
    try:
        qrels = read_qrels(_find_qrels(folder, split), documents=corpus, strict=strict)
    except DataError as error:
        raise BenchmarkError(str(error)) from error
    name = folder.resolve().name
    name = folder.resolve().parent.name if name == "benchmark" else name
    problems = Problems(str(folder), strict=strict)
    qrels = _known_queries(qrels, queries, problems)
    for query, grades in qrels.items():
        for document in grades:
            if document not in corpus:
                problems.tolerate(
                    f"qrels of {query!r}",
                    f"no such document {document!r}",
                    "judgements of documents that are not in the corpus, never found",
                )
    problems.raise_if_any(BenchmarkError)
    # Where no query is judged, all are kept: the error then says that there are no qrels.
    judged = {query: text for query, text in queries.items() if query in qrels} or queries
    benchmark = Benchmark(judged, corpus, qrels, name=name)
    same = sum(benchmark.own_document(query) is not None for query in qrels)
    if same:
        problems.note(
            f"{same:,} queries stand in the corpus under their own id, and are left out of their own results, as BEIR "
            "and MTEB do"
        )
    problems.warn_if_any()
    return benchmark


def _known_queries(
    qrels: dict[str, dict[str, int]], queries: Mapping[str, str], problems: Problems
) -> dict[str, dict[str, int]]:
    """Judgements of queries that have a text; where there is none at all, the error names the ids."""
    known = {query: grades for query, grades in qrels.items() if queries.get(query, "").strip()}
    strict = problems.strict or not known
    for query in qrels:
        if query in known:
            continue
        what = "no such query" if query not in queries else "the text of the query is empty"
        if strict:
            problems.add(f"qrels of {query!r}", what)
        else:
            kind = "judged queries that are not there or without text, left out"
            problems.tolerate(f"qrels of {query!r}", what, kind)
    return known


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
    path = _find(Path(folder), "queries.jsonl")
    problems = Problems(str(path))
    rows = read_json_lines(path, problems)
    ids = list(dict.fromkeys(str(row.values.get("_id")).strip() for row in rows))
    problems.raise_if_any(BenchmarkError)
    return ids


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
    inside = sorted(path.parent.name for path in folder.glob("*/corpus.jsonl*"))
    parts = f" Its folders are benchmarks: give one of {', '.join(inside)}." if inside else ""
    raise SourceNotFoundError(f"{folder} has no {name} (or {name}.gz). A BEIR folder needs it.{parts}")


def _find_qrels(folder: Path, split: str) -> Path:
    try:
        return _find(folder, f"qrels/{split}.tsv")
    except SourceNotFoundError as error:
        splits = sorted({path.name.partition(".")[0] for path in (folder / "qrels").glob("*.tsv*")})
        known = f" Its splits are: {', '.join(splits)}." if splits else ""
        raise SourceNotFoundError(f"{error}{known}") from None


def _read_texts(path: Path, advance: Advance, *, strict: bool, kind: str = "documents") -> dict[str, str]:
    """Texts by id; of an id that stands twice the last one, as a dictionary of BEIR has it."""
    problems = Problems(str(path), strict=strict)
    texts: dict[str, str] = {}
    for row in read_json_lines(path, problems):
        advance(1)
        key, text, title = (row.values.get(name) for name in ("_id", "text", "title"))
        text, title = ("" if part is None else part for part in (text, title))
        if not isinstance(key, (str, int)) or isinstance(key, bool):
            problems.add(row.place, "_id is missing or no text")
            continue
        if not isinstance(text, str) or not isinstance(title, str):
            problems.add(row.place, "text or title is no text")
            continue
        if not {"text", "title"} & row.values.keys():
            problems.add(row.place, "text is missing")
            continue
        key = str(key).strip()
        if not is_unicode(f"{key}{title}{text}"):
            problems.add(row.place, "it holds half a surrogate pair, which is no character")
            continue
        if key in texts:
            problems.tolerate(row.place, f"_id {key!r} stands twice", "ids that stand twice, of which the last counts")
        whole = f"{title} {text}".strip()
        if not whole and kind == "documents":
            problems.tolerate(row.place, "text is empty", "documents without text, found by nothing")
        texts[key] = whole
    problems.finish(BenchmarkError)
    return texts
