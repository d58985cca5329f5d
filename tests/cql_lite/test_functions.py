"""Functions and arithmetic that are more than a table look-up, and the words for what does not exist."""

from __future__ import annotations

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
    ],
)
def test_what_other_languages_have_is_answered_with_what_is_here(cql: Cql, text: str, said: str) -> None:
    error = cql.error(text)
    assert isinstance(error, wire.Invalid | wire.SyntaxFault)
    assert said in error.message
