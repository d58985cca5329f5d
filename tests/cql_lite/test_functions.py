"""Functions and arithmetic that are more than a table look-up, and the words for what does not exist."""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from typing import Any

import pytest

from cql_lite import types, wire
from tests.cql_lite.whole import Cql, cluster_of, settle


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of())
    client.run("USE ks")
    client.run(
        "CREATE TABLE f (k int PRIMARY KEY, at timestamp, d date, du duration, l list<int>, s set<double>, "
        "v vector<float, 2>, w vector<float, 3>, t text, m map<text, int>)"
    )
    settle(client.cluster)
    client.run(
        "INSERT INTO f (k, at, d, du, l, s, v, w, m) "
        "VALUES (1, '2024-01-31 12:00:00.000Z', '2024-01-31', 1mo, [1, 2, 6], {0.5, 1.5}, "
        "[3.0, 4.0], [1.0, 0.0, 0.0], {'a': 1})"
    )
    client.run("INSERT INTO f (k) VALUES (2)")
    return client


def value(cql: Cql, expression: str, *bound: Any, k: int = 1) -> Any:
    (row,) = cql.run(f"SELECT {expression} AS x FROM f WHERE k = {k}", *bound)
    return row["x"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("at + 1mo", "2024-02-29 12:00:00.000Z"),
        ("at - 1mo", "2023-12-31 12:00:00.000Z"),
        ("at + 1y1mo", "2025-02-28 12:00:00.000Z"),
        ("at + du + 1d", "2024-03-01 12:00:00.000Z"),
        ("at + 36h500us", "2024-02-02 00:00:00.000Z"),
        ("at - 1ms", "2024-01-31 11:59:59.999Z"),
        ("at - 11mo", "2023-02-28 12:00:00.000Z"),
        ("at + -2d", "2024-01-29 12:00:00.000Z"),
    ],
)
def test_timestamps_and_durations(cql: Cql, expression: str, expected: str) -> None:
    assert value(cql, expression) == types.TIMESTAMP.parse(expected)


def test_dates_and_durations(cql: Cql) -> None:
    assert value(cql, "d + 1mo") == types.DATE.parse("2024-02-29")
    assert value(cql, "d - 31d") == types.DATE.parse("2023-12-31")
    assert value(cql, "d + ?", types.Duration(0, 1, 0)) == types.DATE.parse("2024-02-01")
    assert value(cql, "d + 1d", k=2) is None
    assert "day precision" in cql.error("SELECT d + 1h FROM f").message
    assert "duration" in cql.error("SELECT at + 1 FROM f").message
    found = cql.run("SELECT k FROM f WHERE at < (timestamp) '2024-01-31' + 2d ALLOW FILTERING")
    assert found == [{"k": 1}]
    later = "SELECT k FROM f WHERE at > (timestamp) '2024-02-02' - ? ALLOW FILTERING"
    assert cql.run(later, types.Duration(0, 2, 0)) == [{"k": 1}]
    assert cql.run(later, types.Duration(0, 1, 0)) == []


def test_sums_and_means_of_collections(cql: Cql) -> None:
    assert [value(cql, f"collection_{name}(l)") for name in ("sum", "avg", "min", "max", "count")] == [
        9, 3, 1, 6, 3,
    ]  # fmt: skip
    assert (value(cql, "collection_sum(s)"), value(cql, "collection_avg(s)")) == (2.0, 1.0)
    assert value(cql, "collection_sum(l)", k=2) is None
    assert "numbers" in cql.error("SELECT collection_sum(m) FROM f").message


NUMBERS: list[tuple[str, Any]] = [
    ("CAST((double) NaN AS int)", 0),
    ("CAST((double) Infinity AS int)", 2**31 - 1),
    ("CAST((double) -1e30 AS bigint)", -(2**63)),
    ("CAST((double) 1e30 AS smallint)", -1),
    ("CAST((bigint) 4294967297 AS int)", 1),
    ("CAST(300 AS tinyint)", 44),
    ("CAST((decimal) -1.9 AS int)", -1),
    ("CAST((double) 1e300 AS float)", math.inf),
    ("CAST((float) 1e38 AS varint)", int(struct.unpack(">f", struct.pack(">f", 1e38))[0])),
    ("(float) 3e38 * (float) 2", math.inf),
    ("log((double) 0)", -math.inf),
    ("exp((double) 1000)", math.inf),
    ("log10((decimal) 100)", Decimal(2)),
    ("abs((decimal) -12345678901234567890.12345678901234567890)",
     Decimal("12345678901234567890.12345678901234567890")),
    ("(decimal) 12345678901234567890.1234567890 + (decimal) 0.00000000000000000001",
     Decimal("12345678901234567890.12345678900000000001")),
    ("(decimal) 12345678901234567890.5 * (decimal) 10000000000.5",
     Decimal("123456789018518518355617283945.25")),
    ("-((decimal) 12345678901234567890.12345678901234567890)",
     Decimal("-12345678901234567890.12345678901234567890")),
    ("(decimal) -123456789012345678901234567890.123456789 % (decimal) 7", Decimal("-0.123456789")),
    ("(decimal) 1E-2147483647 % (decimal) 7", Decimal("1E-2147483647")),
    ("-((decimal) 1E+2000000000)", Decimal("-1E+2000000000")),
    ("(decimal) 0 + (decimal) 1E+5000", Decimal("1E+5000")),
    ("(decimal) 1E+2000000000 / (decimal) 4", Decimal("2.5E+1999999999")),
    ("collection_sum((list<decimal>) [1E+2000000000])", Decimal("1E+2000000000")),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), NUMBERS)
def test_numbers_out_of_the_ordinary(cql: Cql, expression: str, expected: Any) -> None:
    assert value(cql, expression) == expected


def test_sums_of_decimals_lose_no_digits(cql: Cql) -> None:
    large, small = "12345678901234567890.1234567890", "0.00000000000000000001"
    total = Decimal("12345678901234567890.12345678900000000001")
    assert value(cql, f"collection_sum((list<decimal>) [{large}, {small}])") == total
    made = f"SELECT sum((decimal) {large} + CAST(k AS decimal)) AS x FROM f"
    assert cql.run(made) == [{"x": Decimal("24691357802469135783.2469135780")}]


def test_sums_of_decimals_that_would_lose_digits_are_refused(cql: Cql) -> None:
    huge = "(decimal) 1E+2000000000"
    told = "more than 10000 digits"
    summed = cql.error(f"SELECT collection_sum((list<decimal>) [{huge}, 1, -{huge}]) FROM f WHERE k = 1")
    assert told in summed.message
    assert "out of bounds" in cql.error(f"SELECT {huge} + (decimal) 1 FROM f WHERE k = 1").message
    cql.run("CREATE TABLE wide_apart (k int PRIMARY KEY, d decimal)")
    settle(cql.cluster)
    for k, number in enumerate(("1E+2000000000", "1", "-1E+2000000000")):
        cql.run(f"INSERT INTO wide_apart (k, d) VALUES ({k}, {number})")
    assert told in cql.error("SELECT sum(d) FROM wide_apart").message
    assert cql.run("SELECT sum(d) AS x FROM wide_apart WHERE k IN (0, 2)") == [{"x": Decimal(0)}]


def test_what_is_no_number_of_a_type(cql: Cql) -> None:
    for expression in (
        "CAST((double) NaN AS varint)", "CAST((double) Infinity AS decimal)",
        "CAST((decimal) 1E2000000000 AS varint)", "log(0)", "(int) 2147483647 + (int) 1",
    ):  # fmt: skip
        assert cql.error(f"SELECT {expression} FROM f WHERE k = 1").message


def test_json_of_what_is_put_together(cql: Cql) -> None:
    assert value(cql, "toJson([k, collection_count(l)])", k=2) == "[2, null]"
    assert value(cql, "toJson({'a': k, 'b': collection_count(l)})", k=2) == '{"a": 2, "b": null}'


def test_similarities_of_vectors(cql: Cql) -> None:
    assert value(cql, "similarity_cosine(v, [6.0, 8.0])") == 1.0
    assert value(cql, "similarity_cosine(v, [-3.0, -4.0])") == 0.0
    assert value(cql, "similarity_dot_product(v, ?)", (1.0, 1.0)) == 4.0
    assert value(cql, "similarity_euclidean([3.0, 3.0], v)") == 0.5
    assert value(cql, "similarity_euclidean(v, v)", k=2) is None
    assert "one length" in cql.error("SELECT similarity_cosine(v, w) FROM f").message
    assert "all zeros" in cql.error("SELECT similarity_cosine(v, [0.0, 0.0]) FROM f WHERE k = 1").message


def test_conditions_on_what_collections_hold(cql: Cql) -> None:
    def applied(condition: str) -> Any:
        return cql.run(f"UPDATE f SET t = 'x' WHERE k = 1 IF {condition}")[0]["[applied]"]

    assert applied("l CONTAINS 6 AND m CONTAINS KEY 'a' AND m CONTAINS 1")
    assert not applied("l CONTAINS 7")
    assert not cql.run("UPDATE f SET t = 'x' WHERE k = 2 IF s CONTAINS 0.5")[0]["[applied]"]
    assert "non-map" in cql.error("UPDATE f SET t = 'x' WHERE k = 1 IF l CONTAINS KEY 1").message
    assert "non-collection" in cql.error("UPDATE f SET t = 'x' WHERE k = 1 IF t CONTAINS 'x'").message
    assert "null" in cql.error("UPDATE f SET t = 'x' WHERE k = 1 IF l CONTAINS null").message


def test_ranges_of_partition_keys_are_filtered_on_request(cql: Cql) -> None:
    assert cql.run("SELECT k FROM f WHERE k > 1 ALLOW FILTERING") == [{"k": 2}]
    assert cql.run("SELECT k FROM f WHERE k >= 1 AND k < 2 ALLOW FILTERING") == [{"k": 1}]
    assert "token() function" in cql.error("SELECT k FROM f WHERE k > 1").message
    assert "token() function" in cql.error("DELETE FROM f WHERE k > 1").message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT toDat(at) FROM f", "did you mean todate()?"),
        ("SELECT cuont(k) FROM f", "did you mean count()?"),
        ("CREATE TABLE x (k integer PRIMARY KEY)", "did you mean int?"),
        ("CREATE TABLE x (k string PRIMARY KEY)", "did you mean text?"),
        ("CREATE TABLE x (k timestmp PRIMARY KEY)", "did you mean timestamp?"),
        ("CREATE TABLE x (k varchar(20) PRIMARY KEY)", "types take no length"),
        ("CREATE TABLE x (k int PRIMARY KEY, v text NOT NULL)", "may be null"),
        ("CREATE TABLE x (k int AUTO_INCREMENT PRIMARY KEY)", "uuid"),
        ("SELECT * FROM f JOIN g ON f.k = g.k", "no joins"),
        ("SELECT * FROM f, g", "no joins"),
        ("SELECT k FROM f GROUP BY k HAVING k > 1", "groups are not filtered"),
        ("SELECT * FROM f LIMIT 5 OFFSET 10", "no OFFSET"),
        ("SHOW TABLES", "DESCRIBE TABLES"),
        ("EXPLAIN SELECT * FROM f", "trace"),
        ("COMMIT", "no transactions"),
        ("CONSISTENCY QUORUM", "word of the shell"),
        ("SELECT * FROM f WHERE k = 1 USING TIMEOUT 5s", "said to the driver"),
    ],
)
def test_what_other_languages_have_is_answered_with_what_is_here(cql: Cql, text: str, said: str) -> None:
    error = cql.error(text)
    assert isinstance(error, wire.Invalid | wire.SyntaxFault)
    assert said in error.message
