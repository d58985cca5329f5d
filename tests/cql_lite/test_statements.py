"""Statements through whole clusters: what was written is what is read, and what cannot be done says so."""

from __future__ import annotations

from typing import Any

import pytest

from cql_lite import wire
from tests.cql_lite.whole import Cql, cluster_of, settle


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of())
    client.run("USE ks")
    return client


def table(cql: Cql, name: str, definition: str) -> None:
    cql.run(f"CREATE TABLE {name} ({definition})")
    settle(cql.cluster)


def test_a_row_by_its_key(cql: Cql) -> None:
    table(cql, "plain", "k text PRIMARY KEY, a int, b list<int>")
    cql.run("INSERT INTO plain (k, a, b) VALUES ('x', 1, [3, 1])")
    assert cql.run("SELECT * FROM plain WHERE k = 'x'") == [{"k": "x", "a": 1, "b": (3, 1)}]
    cql.run("UPDATE plain SET a = ?, b = b + ? WHERE k = ?", 7, [9], "x")
    assert cql.run("SELECT a, b FROM plain WHERE k = ?", "x") == [{"a": 7, "b": (3, 1, 9)}]
    cql.run("DELETE FROM plain WHERE k = 'x'")
    assert cql.run("SELECT * FROM plain WHERE k = 'x'") == []
