"""Partition keys at their bounds: what no key can hold is refused in words, however it is written."""

from __future__ import annotations

from typing import Any

import pytest

from core.limits import KEY_BYTES_MAX
from cql_lite import wire
from tests.cql_lite.whole import Cql, cluster_of, settle

LONG = "x" * 70_000


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of())
    client.run("USE ks")
    client.run("CREATE TABLE one (k text PRIMARY KEY, v int)")
    client.run("CREATE TABLE two (a text, b text, c text, v int, PRIMARY KEY ((a, b), c))")
    settle(client.cluster)
    return client


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("INSERT INTO one (k, v) VALUES (?, 1)", [LONG]),
        ("INSERT INTO one (k, v) VALUES (?, 1)", [""]),
        ("SELECT * FROM one WHERE k = ?", [LONG]),
        ("INSERT INTO two (a, b, c) VALUES ('a', ?, 'c')", [LONG]),
        ("INSERT INTO two (a, b, c) VALUES (?, ?, 'c')", ["x" * 40_000] * 2),
        ("INSERT INTO two (a, b, c) VALUES ('a', ?, 'c') IF NOT EXISTS", [LONG]),
        ("INSERT INTO two JSON ?", [f'{{"a": "{LONG}", "b": "b", "c": "c"}}']),
        ("UPDATE two SET v = 1 WHERE a = 'a' AND b = ? AND c = 'c'", [LONG]),
        ("DELETE FROM two WHERE a = 'a' AND b = ?", [LONG]),
        ("SELECT * FROM two WHERE a = 'a' AND b IN ('b', ?)", [LONG]),
        ("SELECT * FROM two WHERE token(a, b) > token('a', ?)", [LONG]),
        ("BEGIN BATCH INSERT INTO two (a, b, c) VALUES ('a', ?, 'c') APPLY BATCH", [LONG]),
    ],
)
def test_a_key_that_is_too_long_or_empty(cql: Cql, text: str, values: list[Any]) -> None:
    error = cql.error(text, *values)
    assert isinstance(error, wire.Invalid), error
    assert any(
        words in error.message
        for words in (
            "Key may not be empty",
            f"longer than maximum of {KEY_BYTES_MAX}",
            f"1 to {KEY_BYTES_MAX} bytes",
        )
    )


def test_parts_of_a_key_may_be_empty_and_clustering_long(cql: Cql) -> None:
    cql.run("INSERT INTO two (a, b, c, v) VALUES ('', '', ?, 1)", LONG)
    assert cql.run("SELECT v FROM two WHERE a = '' AND b = '' AND c = ?", LONG) == [{"v": 1}]
    cql.run("INSERT INTO one (k, v) VALUES (?, 1)", "x" * KEY_BYTES_MAX)
    assert cql.run("SELECT v FROM one WHERE k = ?", "x" * KEY_BYTES_MAX) == [{"v": 1}]


def test_the_token_of_bound_values(cql: Cql) -> None:
    cql.run("INSERT INTO two (a, b, c, v) VALUES ('t', 'u', 'c', 7)")
    same = "SELECT v FROM two WHERE token(a, b) >= token(?, ?) AND token(a, b) <= token(:a, 'u')"
    assert cql.run(same, "t", "u", "t") == [{"v": 7}]
    assert "token(a, b)" in cql.error("SELECT v FROM two WHERE token(a, b) > token(?)", "t").message
    prepared = cql.good(wire.Prepare("SELECT v FROM one WHERE token(k) > token(?)"))
    assert isinstance(prepared, wire.Prepared)
    assert [str(column.type) for column in prepared.variables.columns] == ["text"]
