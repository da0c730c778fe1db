"""Rows become records, and every bad row is reported with its place. Run: pytest tests/test_data_records.py (a second)."""

from __future__ import annotations

import math

import pytest

from nestvec.data.problems import Problems
from nestvec.data.records import LabeledText, RawRow, RetrievalRow, ScoredPair, parse_records
from nestvec.errors import DataError, NestvecWarning


def parse(*values: dict, columns=None, positives="all") -> list:
    rows = [RawRow(f"line {number}", one) for number, one in enumerate(values, start=1)]
    return parse_records(rows, problems=Problems("rows.jsonl"), columns=columns, positives=positives)


@pytest.mark.parametrize(
    ("values", "record"),
    [
        ({"query": "q", "positive": "p"}, RetrievalRow("q", "p")),
        ({"anchor": "q", "positive": "p", "negative": "n"}, RetrievalRow("q", "p", ("n",))),
        ({"question": "q", "answer": "p", "negative_1": "n", "negative_2": "m"}, RetrievalRow("q", "p", ("n", "m"))),
        ({"query": "q", "positive": "p", "negatives": ["n", "m"]}, RetrievalRow("q", "p", ("n", "m"))),
        ({"query": "q", "positive": "p", "negatives": []}, RetrievalRow("q", "p")),
        ({"sentence1": "a", "sentence2": "b", "score": "0.5"}, ScoredPair("a", "b", 0.5)),
        ({"text1": "a", "text2": "b", "score": 1}, ScoredPair("a", "b", 1.0)),
        ({"text": "a", "label": 3}, LabeledText("a", 3)),
        ({"text": "a", "label": "card"}, LabeledText("a", "card")),
    ],
)
def test_the_shape_follows_from_the_columns(values: dict, record: object) -> None:
    assert parse(values) == [record]


def test_columns_can_be_mapped() -> None:
    row = {"q": "query", "good": "positive", "bad1": "one", "bad2": "two", "text": "not used"}
    assert parse(row, columns={"query": "q", "positive": "good", "negatives": ["bad1", "bad2"]}) == [
        RetrievalRow("query", "positive", ("one", "two"))
    ]


def test_rows_may_have_fewer_negatives_than_others() -> None:
    assert [
        row.negatives
        for row in parse(
            {"query": "q", "positive": "p", "negative_1": "n", "negative_2": None},
            {"query": "q", "positive": "p", "negative_1": "", "negative_2": "m"},
        )
    ] == [("n",), ("m",)]


def test_negatives_that_only_later_rows_have_are_read() -> None:
    rows = [{"query": "q", "positive": "p"}] * 3 + [{"query": "q", "positive": "p", "negative_1": "n"}]
    assert [row.negatives for row in parse(*rows)] == [(), (), (), ("n",)]


def test_a_first_row_without_a_positive_is_one_bad_row() -> None:
    with pytest.raises(DataError, match="1 problem:\n  line 1: positive is missing"):
        parse({"query": "q"}, {"query": "q", "positive": "p"})


@pytest.mark.parametrize("columns", [{"query": []}, {"query": ["a", "b"]}])
def test_a_role_other_than_negatives_is_one_column(columns: dict) -> None:
    with pytest.raises(DataError, match="Map it to one column"):
        parse({"a": "x", "b": "y", "positive": "p"}, columns=columns)


def test_every_bad_row_is_reported_at_once_with_its_place() -> None:
    with pytest.raises(DataError) as caught:
        parse(
            {"query": "q", "positive": "p"},
            {"query": "", "positive": "p"},
            {"query": "q"},
            {"query": 7, "positive": {"p": 1}},
            {"query": "q", "positive": "p"},
        )
    message = str(caught.value)
    assert "rows.jsonl has 4 problems" in message
    for expected in (
        "line 2: query is empty",
        "line 3: positive is missing",
        "line 4: query is 7, not a text",
        "line 4: positive is {'p': 1}, not a text",
    ):
        assert expected in message


def test_a_long_list_of_problems_is_cut_and_counted() -> None:
    with pytest.raises(DataError, match="and 30 more"):
        parse(*[{"query": " ", "positive": "p"}] * 50)


@pytest.mark.parametrize("score", [math.nan, math.inf, None, "high", True, 10**400])
def test_a_score_that_is_no_finite_number_is_refused(score: object) -> None:
    with pytest.raises(DataError, match="line 1: score is .*, not a finite number"):
        parse({"text1": "a", "text2": "b", "score": score})


@pytest.mark.parametrize("label", [None, 1.5, "", True])
def test_a_label_is_a_whole_number_or_a_text(label: object) -> None:
    with pytest.raises(DataError, match="not a label"):
        parse({"text": "a", "label": label})


def test_a_negative_that_is_no_text_is_refused() -> None:
    with pytest.raises(DataError, match="line 1: negatives is 3, not a text"):
        parse({"query": "q", "positive": "p", "negatives": ["n", 3]})


def test_columns_that_fit_no_shape_say_how_to_map_them() -> None:
    with pytest.raises(DataError, match=r"columns a, b, which fit none .* columns = \{ query"):
        parse({"a": "x", "b": "y"})


def test_a_mapped_column_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(DataError, match="no column 'q'.*columns are: query, positive"):
        parse({"query": "q", "positive": "p"}, columns={"query": "q"})


def test_an_unknown_role_lists_the_roles() -> None:
    with pytest.raises(DataError, match="Unknown column role 'qury'.*query, positive, negatives"):
        parse({"query": "q", "positive": "p"}, columns={"qury": "query"})


def test_no_rows_is_an_error() -> None:
    with pytest.raises(DataError, match="has no rows"):
        parse()


def test_a_list_of_positives_is_a_row_for_each_or_its_first() -> None:
    row = {"query": "q", "pos": ["p", "r", None, "p"], "neg": ["n"], "pos_scores": [1, 2], "prompt": "find"}
    assert parse(row) == [RetrievalRow("q", "p", ("n",)), RetrievalRow("q", "r", ("n",))]
    assert parse(row, positives="first") == [RetrievalRow("q", "p", ("n",))]
    for positives in ([], [None]):
        with pytest.raises(DataError, match="line 1: pos is a list without a text"):
            parse({"query": "q", "pos": positives})
    for wrong, message in ((" ", "pos is empty"), (3, "pos is 3, not a text")):
        with pytest.raises(DataError, match=f"line 1: {message}"):
            parse({"query": "q", "pos": ["p", wrong]})


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_negatives_in_a_list_that_are_nothing_are_left_out_and_counted(nothing: object) -> None:
    rows = [{"query": "q", "positive": "p", "negatives": ["n", nothing]}] * 2
    with pytest.warns(NestvecWarning, match=r"null or empty, left out: 2 \(the first: line 1\)"):
        assert parse(*rows) == [RetrievalRow("q", "p", ("n",))] * 2
    with pytest.raises(DataError, match="line 1: negatives holds a negative that is null or empty"):
        parse_records([RawRow("line 1", rows[0])], problems=Problems("rows", strict=True))


def test_what_any_row_says_answers_a_query_is_no_negative_of_it() -> None:
    rows = (
        {"query": "q", "positive": "p", "negative": "p"},
        {"query": "q", "positive": "r", "negatives": ["p ", "n"]},
        {"query": "other", "positive": "r", "negative": "p"},
    )
    with pytest.warns(NestvecWarning, match=r"a positive of their query, left out: 2 \(the first: line 1\)"):
        found = parse(*rows)
    assert found == [
        RetrievalRow("q", "p"),
        RetrievalRow("q", "r", ("n",)),
        RetrievalRow("other", "r", ("p",)),
    ]
