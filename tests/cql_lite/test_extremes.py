"""Statements and values at the ends of what there is: none takes more than its bytes let expect."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from core.finding import OPEN, Span
from core.schema import TableOptions
from cql_lite import tracing, wire
from cql_lite.planner_find import intersection
from cql_lite.system import options_row
from tests.cql_lite.whole import Cql, cluster_of, settle

DIGITS = "1" * 5_000


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of())
    client.run("USE ks")
    for text in (
        "CREATE TABLE t (k int PRIMARY KEY, ts timestamp, doc json, w text, l list<int>)",
        "CREATE TABLE scaled (k decimal PRIMARY KEY, v int)",
        "CREATE TABLE wide (k int, c int, v int, PRIMARY KEY (k, c))",
        "CREATE TABLE counted (k int, c int, v counter, PRIMARY KEY (k, c))",
        "CREATE TABLE vectors (k int PRIMARY KEY, v vector<float, 2>)",
    ):
        client.run(text)
        settle(client.cluster)
    client.run("INSERT INTO t (k, ts, doc, w) VALUES (1, ?, '[1, 2]', ?)", 2**63 - 1, "x" * 1_000_000)
    return client


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"SELECT {DIGITS} FROM t", "Unable to make varint"),
        (f"SELECT k + {DIGITS} FROM t", "Unable to make varint"),
        (f"SELECT k FROM t WHERE k = {DIGITS}", "Unable to make int"),
        ("SELECT " + "w, " * 150 + "w FROM t", "the result takes more than 128 MiB"),
        ("SELECT " + "w, " * 150 + "w FROM t WHERE k = 1", "the result takes more than 128 MiB"),
        ("SELECT [" + "w, " * 20 + "w] FROM t", "takes more than 16777216 bytes"),
        ("SELECT " + "[tojson(" * 30 + "k" + ")]" * 30 + " FROM t", "tojson gives a text of more than"),
        ("SELECT " + "cast(['''', " * 30 + "w" + "] as text)" * 30 + " FROM t", "cast gives a text of more"),
    ],
)
def test_what_is_too_much_is_refused(cql: Cql, text: str, said: str) -> None:
    assert said in cql.error(text).message


def test_a_prepared_read_of_one_row_is_bounded_too(cql: Cql) -> None:
    assert "128 MiB" in cql.error("SELECT " + "w, " * 150 + "w FROM t WHERE k = ?", 1).message


@pytest.mark.parametrize("open_, close", [("[tojson(", ")]"), ("{1: tojson(", ")}"), ("{tojson(", ")}")])
def test_levels_of_literals_and_calls_are_compiled_once_each(cql: Cql, open_: str, close: str) -> None:
    """Each level that was compiled twice doubled the work: of 30, a thousand million."""
    assert isinstance(cql.good(wire.Prepare(f"SELECT {open_ * 30}l{close * 30} FROM t")), wire.Prepared)


@pytest.mark.parametrize("length", ["1mo1d", "1mo2000000d", "7mo", "1mo30d12h"])
def test_the_floor_of_a_point_far_away(cql: Cql, length: str) -> None:
    """Steps of months with a rest are not counted one by one."""
    (row,) = cql.run(f"SELECT floor(ts, {length}) AS begun FROM t")
    assert row["begun"] <= 2**63 - 1
    assert cql.run(f"SELECT floor((timestamp) ?, {length}) AS begun FROM t", row["begun"]) == [row]


def test_a_place_in_an_array_of_json_may_be_any_text(cql: Cql) -> None:
    for place, found in (("1", "2"), ("2", None), (DIGITS, None), ("-1", None), ("", None)):
        assert [list(row.values()) for row in cql.run("SELECT doc[?] FROM t", place)] == [[found]]


def test_equal_decimals_that_are_written_in_two_ways_are_two_partitions(cql: Cql) -> None:
    for key, v in (("1.0", 1), ("1.00", 2), ("0.5", 3)):
        cql.run(f"INSERT INTO scaled (k, v) VALUES ({key}, {v})")
    found = cql.run("SELECT v FROM scaled WHERE k IN (1.00, 0.5, 1.0, 1.00)")
    assert sorted(row["v"] for row in found) == [1, 2, 3]
    assert found[0] == {"v": 3}, "in the order of their values"


def test_vectors_of_what_is_no_number_are_never_near(cql: Cql) -> None:
    nan, inf = float("nan"), float("inf")
    vectors: list[Any] = [[nan, 1.0], [inf, -inf], [inf, 0.0], [1.0, 2.0], [1.0, 1.5], [0.0, 0.0]]
    for k, vector in enumerate(vectors):
        cql.run("INSERT INTO vectors (k, v) VALUES (?, ?)", k, vector)
    order = "SELECT k FROM vectors ORDER BY v ANN OF ? LIMIT 2"
    assert [row["k"] for row in cql.run(order, [1.0, 1.0])] == [4, 3]
    assert "have no distance" in cql.error(order, [nan, 1.0]).message
    cosines = cql.run("SELECT similarity_dot_product(v, [1, 1]) AS s FROM vectors WHERE k IN (0, 1, 3)")
    assert [row["s"] == row["s"] for row in cosines] == [False, False, True]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT v FROM wide WHERE k IN ? AND c IN ?",
        "UPDATE wide SET v = 1 WHERE k IN ? AND c IN ?",
        "DELETE FROM wide WHERE k IN ? AND c IN ?",
        "UPDATE counted SET v = v + 1 WHERE k IN ? AND c IN ?",
    ],
)
def test_places_are_counted_in_all_partitions(cql: Cql, text: str) -> None:
    assert "at most 10000 can be" in cql.error(text, list(range(101)), list(range(100))).message


def test_options_that_were_kept_unchecked_do_not_hide_the_schema() -> None:
    kept = TableOptions(other=(("max_index_interval", "9" * 5_000), ("min_index_interval", "-1")))
    row = options_row(kept)
    assert (row["max_index_interval"], row["min_index_interval"]) == (2**31 - 1, -1)


def test_a_trace_shows_bytes_that_are_no_text(cql: Cql) -> None:
    prepared = cql.good(wire.Prepare("INSERT INTO t (k, w) VALUES (?, ?)"))
    assert isinstance(prepared, wire.Prepared)
    request = wire.Execute(prepared.id, cql.parameters([b"\0\0\0\1", b"\xff"]))
    of = tracing.begin(request, None, cql.statements, lambda: 0)
    assert of.parameters["bound_var_1_w"] == "1 bytes that are not of its type"


def test_lists_of_many_values_are_looked_at_once(cql: Cql) -> None:
    for k in range(50):
        cql.run("INSERT INTO wide (k, c, v) VALUES (1, ?, ?)", k, k)
    some, others = list(range(0, 200_000, 2)), list(range(0, 200_000, 3))
    for text in ("SELECT v FROM wide WHERE v IN ? AND v IN ? ALLOW FILTERING",
                 "SELECT v FROM wide WHERE k = 1 AND v IN ? AND v IN ? ALLOW FILTERING"):  # fmt: skip
        found = cql.run(text, some, others)
        assert sorted(row["v"] for row in found) == [0, 6, 12, 18, 24, 30, 36, 42, 48]


def test_what_masks_show_is_bounded(cql: Cql) -> None:
    vectors = "(vector<vector<vector<float, 8000>, 8000>, 8000>) null"
    assert "takes more than" in cql.error(f"SELECT mask_default({vectors}) FROM t").message
    fields = ", ".join(["vector<vector<int, 8000>, 100>"] * 10)
    assert "takes more than" in cql.error(f"SELECT mask_default((tuple<{fields}>) null) FROM t").message


def spans_of(places: list[int], points: bool, is_open: bool) -> list[Span]:
    """Ascending and disjoint: every place a point, or every two a span, the last perhaps without an end."""
    terms = [bytes((place,)) for place in places]
    if points:
        return [(term, b"") for term in terms]
    spans = list(zip(terms[::2], terms[1::2], strict=False))
    return [*spans[:-1], (spans[-1][0], OPEN)] if is_open and spans else spans


PLACES = st.lists(st.integers(0, 30), max_size=12, unique=True).map(sorted)
SPANS = st.builds(spans_of, PLACES, st.booleans(), st.booleans())


@given(SPANS, SPANS)
def test_an_intersection_has_what_both_have(one: list[Span], other: list[Span]) -> None:
    both = intersection(one, other)
    assert list(both) == sorted(both)
    for term in range(32):
        there = [any(holds(span, bytes((term,))) for span in spans) for spans in (one, other, both)]
        assert there[2] == (there[0] and there[1])


def holds(span: Span, term: bytes) -> bool:
    first, end = span
    return term == first if not end else first <= term and (end == OPEN or term < end)
