"""Benchmarks in the BEIR layout, and held-out ones. Run: pytest tests/test_data_benchmarks.py (a second)."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from builders import write_json_lines
from nestvec.data import Benchmark, RetrievalRow, hold_out_queries, read_benchmark, without_leaks, write_benchmark
from nestvec.data.qrels import read_qrels
from nestvec.errors import BenchmarkError, DataError, NestvecWarning, SourceNotFoundError, StorageError


def small() -> Benchmark:
    return Benchmark(
        queries={"q1": "one?", "q2": "zwei?"},
        corpus={"a": "eins", "b": "zwei\nlines", "c": "drei"},
        qrels={"q1": {"a": 1, "c": 0}, "q2": {"b": 2}},
        name="small",
    )


def write_beir(folder: Path, qrels: str, corpus: str | None = None) -> Path:
    (folder / "qrels").mkdir(parents=True)
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "one?"}\n{"_id": "q2", "text": "two?"}\n')
    (folder / "corpus.jsonl").write_text(
        corpus or '{"_id": "a", "title": "T", "text": "eins"}\n{"_id": "b", "text": "zwei"}\n'
    )
    (folder / "qrels" / "test.tsv").write_text(qrels)
    return folder


def test_a_written_benchmark_reads_back_the_same(tmp_path: Path) -> None:
    write_benchmark(small(), tmp_path / "small")
    assert read_benchmark(tmp_path / "small") == small()


def test_a_written_benchmark_is_what_beir_reads(tmp_path: Path) -> None:
    write_benchmark(small(), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "corpus.jsonl").read_text().splitlines()[0]) == {
        "_id": "a",
        "title": "",
        "text": "eins",
    }
    assert (tmp_path / "out" / "qrels" / "test.tsv").read_text().splitlines()[:2] == [
        "query-id\tcorpus-id\tscore",
        "q1\ta\t1",
    ]


def test_compressed_files_and_titles_are_read(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "b", "query-id\tcorpus-id\tscore\nq1\ta\t1\n")
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    benchmark = read_benchmark(folder)
    assert benchmark.corpus["a"] == "T eins"
    assert list(benchmark.queries) == ["q1"]  # q2 has no qrels in this split


@pytest.mark.parametrize(
    "qrels",
    [
        "q1\ta\t1\n",
        "q1 0 a 1\n",
        "q1 Q0 a 1\n",
        "query-id\tcorpus-id\tscore\r\nq1\ta\t1\r\n",
        "\nq1\ta\t1.0\n",
        "\ufeffq1\ta\t1\n",
        "query-id\tcorpus-id\tscore\tannotator\nq1\ta\t1\tAnn Lee\n",
        "grade\tdocid\tqid\n1\ta\tq1\n",
        "q1\ta\t1\tAnn\tsure\n",
        "q1\ta\t1\t2\n",
        "q1 q0 a 1\n",
        "q1 ITER a 1\n",
        "q1 1 a 1\n",
    ],
)
def test_qrels_are_read_with_and_without_header_and_as_trec_writes_them(tmp_path: Path, qrels: str) -> None:
    assert read_benchmark(write_beir(tmp_path / "b", qrels)).qrels == {"q1": {"a": 1}}


@pytest.mark.parametrize(
    ("lines", "documents", "expected"),
    [
        ("q1\t0\t1\t5\nq2\t1\t1\t5\n", ["0", "1"], {"q1": {"0": 1}, "q2": {"1": 1}}),
        ("q1\t0\t1\t5\nq2\t1\t1\t5\n", [], {"q1": {"0": 1}, "q2": {"1": 1}}),
        ("q1 1 123 1\n", ["123"], {"q1": {"123": 1}}),
        ("q1 1 123 1\nq1 1 124 0\n", [], {"q1": {"123": 1, "124": 0}}),
        ("q1 0 7 1\nq2 0 8 1\n", [], {"q1": {"7": 1}, "q2": {"8": 1}}),
    ],
)
def test_trec_is_told_from_a_further_column_by_all_lines(
    tmp_path: Path, lines: str, documents: list[str], expected: dict[str, dict[str, int]]
) -> None:
    (tmp_path / "test.tsv").write_text(lines, encoding="utf-8")
    assert read_qrels(tmp_path / "test.tsv", documents=documents) == expected


def test_ids_with_spaces_around_and_documents_with_a_title_alone(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "b", "q1\ta\u2028b\t1\n")
    rows = [{"_id": "a\u2028b ", "title": "t", "text": "x"}, {"_id": "c", "title": ""}]
    write_json_lines(folder / "corpus.jsonl", rows)
    with pytest.warns(NestvecWarning, match="documents without text, found by nothing: 1"):
        assert read_benchmark(folder).corpus == {"a\u2028b": "t x", "c": ""}
    write_json_lines(folder / "corpus.jsonl", [{"_id": "a", "text": "x"}])
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"_id": "b", "text": "\\ud800 x"}\n')
    with pytest.raises(BenchmarkError, match="line 2: it holds half a surrogate pair"):
        read_benchmark(folder)


def test_a_folder_of_benchmarks_names_them(tmp_path: Path) -> None:
    for name in ("english", "android"):
        write_beir(tmp_path / "cqadupstack" / name, "q1\ta\t1\n")
    with pytest.raises(SourceNotFoundError, match="Its folders are benchmarks: give one of android, english"):
        read_benchmark(tmp_path / "cqadupstack")


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ("q1\tzzz\t1\n", "none of its 1 relevant documents in its corpus, such as 'zzz'"),
        ("q9\ta\t1\n", "no such query"),
        ("q1\ta\t0\n", "no relevant document for any query"),
        ("", "it has no qrels"),
        ("q1\ta\thigh\nq1\tb\t1\n", "line 1: needs a query id"),
        ("q1\ta\t1\nq1\tb\tgood\nq2 b\n", "2 problems.*\n.*line 2.*\n.*line 3"),
    ],
)
def test_qrels_that_do_not_fit_are_refused(tmp_path: Path, qrels: str, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        read_benchmark(write_beir(tmp_path / "b", qrels))


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ('{"text": "x"}\n', "line 1: _id is missing"),
        ('{"_id": "a"}\n', "line 1: text is missing"),
        ('{"_id": "a", "text": 3}\n', "line 1: text or title is no text"),
    ],
)
def test_a_bad_corpus_says_where(tmp_path: Path, corpus: str, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        read_benchmark(write_beir(tmp_path / "b", "q1\ta\t1\n", corpus))


AS_PUBLISHED = [
    pytest.param(
        "q1\ta\t1\n",
        '{"_id": "a", "text": "x"}\n{"_id": "e", "title": null, "text": ""}\n{"_id": "n", "text": null}\n',
        "documents without text, found by nothing: 2 (the first: line 2)",
        "line 2: text is empty",
        id="empty documents",
    ),
    pytest.param(
        "q1\ta\t1\nq1\tgone\t1\nq2\tgone\t0\n",
        None,
        "judgements of documents that are not in the corpus, never found: 2 (the first: qrels of 'q1')",
        "qrels of 'q1': no such document 'gone'",
        id="unknown documents",
    ),
    pytest.param(
        "q1\ta\t1\nq9\ta\t1\n",
        None,
        "judged queries that are not there or without text, left out: 1 (the first: qrels of 'q9')",
        "qrels of 'q9': no such query",
        id="unknown queries",
    ),
    pytest.param(
        "q1\ta\t1\nq1\ta\t2\n",
        None,
        "judgements made twice with different grades, of which the last counts: 1 (the first: line 2)",
        "line 2: 'a' has another grade for 'q1' already",
        id="judged twice",
    ),
    pytest.param(
        "q1\ta\t1\n",
        '{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n',
        "ids that stand twice, of which the last counts: 1 (the first: line 2)",
        "line 2: _id 'a' stands twice",
        id="ids twice",
    ),
]


@pytest.mark.parametrize(("qrels", "corpus", "said", "refused"), AS_PUBLISHED)
def test_what_published_sets_have_is_counted_and_said_once_and_strict_refuses_it(
    tmp_path: Path, qrels: str, corpus: str | None, said: str, refused: str
) -> None:
    folder = write_beir(tmp_path / "b", qrels, corpus)
    with pytest.warns(NestvecWarning) as caught:
        benchmark = read_benchmark(folder)
    assert [said in str(one.message) for one in caught] == [True]
    assert set(benchmark.qrels) <= set(benchmark.queries)
    with pytest.raises(BenchmarkError, match=re.escape(refused)):
        read_benchmark(folder, strict=True)


def test_a_query_that_stands_in_the_corpus_is_said_and_is_no_document_of_its_own(tmp_path: Path) -> None:
    corpus = '{"_id": "q1", "text": "one?"}\n{"_id": "q2", "text": "two"}\n{"_id": "a", "text": "eins"}\n'
    with pytest.warns(NestvecWarning, match="1 queries stand in the corpus under their own id"):
        benchmark = read_benchmark(write_beir(tmp_path / "b", "q1\ta\t1\nq2\tq2\t1\n", corpus))
    assert benchmark.own_document("q1") == "q1"
    assert benchmark.own_document("q2") is None  # judged relevant: equal ids are a coincidence


def test_rows_leave_out_what_is_not_there_or_without_text() -> None:
    benchmark = Benchmark({"q": "x"}, {"a": "y", "e": " "}, {"q": {"a": 1, "e": 1, "gone": 1, "lost": 0}})
    assert benchmark.rows() == [RetrievalRow("x", "y")]


def test_ids_with_quotes_survive_and_ids_with_tabs_are_refused(tmp_path: Path) -> None:
    odd = Benchmark({'q"1': "x"}, {'d"1': "y", "d 2": "z"}, {'q"1': {'d"1': 1, "d 2": 2}}, name="odd")
    write_benchmark(odd, tmp_path / "odd")
    assert read_benchmark(tmp_path / "odd") == odd
    with pytest.raises(BenchmarkError, match="the id holds a tab"):
        Benchmark({"q": "x"}, {"d\t1": "y"}, {"q": {"d\t1": 1}})


def test_qrels_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "b", "q1\ta\t1\n")
    whole = gzip.compress((folder / "qrels" / "test.tsv").read_bytes())
    (folder / "qrels" / "test.tsv").unlink()
    (folder / "qrels" / "test.tsv.gz").write_bytes(whole[:-6])
    with pytest.raises(DataError, match="Copy or download it again"):
        read_benchmark(folder)


def test_a_benchmark_can_be_written_into_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_benchmark(small(), ".")
    assert read_benchmark(tmp_path / "here").queries == small().queries


def test_a_missing_folder_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="is not a folder"):
        read_benchmark(tmp_path / "nowhere")
    with pytest.raises(SourceNotFoundError, match=r"has no corpus.jsonl"):
        read_benchmark(tmp_path)
    with pytest.raises(SourceNotFoundError, match=r"qrels/dev.tsv.*Its splits are: test\."):
        read_benchmark(write_beir(tmp_path / "b", "q1\ta\t1\n"), split="dev")


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="query 'q': the text is empty"):
        Benchmark({"q": " "}, {"d": "x"}, {"q": {"d": 1}})


def test_writing_into_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_benchmark(small(), tmp_path / "file" / "benchmark")


def test_rows_of_a_benchmark_have_judged_documents_as_negatives() -> None:
    assert small().rows() == [RetrievalRow("one?", "eins", ("drei",)), RetrievalRow("zwei?", "zwei\nlines", ())]


def make_rows(n: int) -> list[RetrievalRow]:
    return [RetrievalRow(f"q{i // 2}", f"p{i}", (f"n{i}", f"p{(i + 2) % n}")) for i in range(n)]


def test_nothing_of_a_held_out_benchmark_is_left_in_training() -> None:
    rows = make_rows(100)
    training, benchmark = hold_out_queries(rows, queries=10, documents=60, seed=3)
    assert benchmark.counts() == {"queries": 10, "documents": 60, "relevant": 20}
    asked = set(benchmark.queries.values())
    relevant = {benchmark.corpus[document] for grades in benchmark.qrels.values() for document in grades}
    assert training
    for row in training:
        assert row.query not in asked
        assert row.positive not in relevant
        assert relevant.isdisjoint(row.negatives)


def test_the_negatives_of_held_out_rows_are_in_the_corpus() -> None:
    _, benchmark = hold_out_queries(make_rows(100), queries=10, documents=30, seed=3)
    texts = set(benchmark.corpus.values())
    for row in make_rows(100):
        if row.query in benchmark.queries.values():
            assert {row.positive, *row.negatives} <= texts


def test_the_seed_decides_what_is_held_out() -> None:
    one, same, other = (hold_out_queries(make_rows(60), queries=5, documents=20, seed=seed)[1] for seed in (1, 1, 2))
    assert one == same
    assert one.queries != other.queries


def test_rows_that_nearly_repeat_a_benchmark_are_dropped_and_its_answers_are_no_negatives() -> None:
    benchmark = Benchmark({"q": "What is a monad?"}, {"d": "a monoid in the category of endofunctors"}, {"q": {"d": 1}})
    rows = [
        RetrievalRow("what is a monad", "something else entirely"),
        RetrievalRow("another question", "A monoid, in the category of endofunctors!"),
        RetrievalRow("a third question", "fine", ("a monoid in the category of endofunctors",)),
        RetrievalRow("what is a functor", "a map between categories"),
    ]
    assert without_leaks(rows, benchmark) == [rows[2]._replace(negatives=()), rows[3]]


def test_holding_out_everything_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="none would be left to train on"):
        hold_out_queries(make_rows(20), queries=10, documents=20, seed=0)
    same = [RetrievalRow(f"q{i}", "the same answer") for i in range(5)]
    with pytest.raises(BenchmarkError, match="none is left to train on"):
        hold_out_queries(same, queries=1, documents=5, seed=0)


@pytest.mark.parametrize(
    "qrels",
    [
        'query-id\tcorpus-id\tscore\nq\t"a""b"\t1\n',
        '"q"\t"a""b"\t"1"\n',
        'one\ttwo\tthree\nq\t"a""b"\t1\n',
        'q\ta"b\t1\n',
    ],
)
def test_qrels_between_quotes_and_under_other_names_are_read(tmp_path: Path, qrels: str) -> None:
    (tmp_path / "test.tsv").write_text(qrels, encoding="utf-8")
    assert read_qrels(tmp_path / "test.tsv", documents={'a"b'}) == {"q": {'a"b': 1}}
