"""Batches: what a batch of the protocol answers, and which timestamps have a place in one."""

from __future__ import annotations

import pytest

from cql_lite import wire
from tests.cql_lite.whole import Cql, cluster_of, rows, settle


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of())
    client.run("USE ks")
    client.run("CREATE TABLE t (k int, c int, v int, PRIMARY KEY (k, c))")
    client.run("CREATE TABLE n (k int PRIMARY KEY, n counter)")
    settle(client.cluster)
    return client


def test_a_conditional_batch_of_the_protocol_says_what_was_decided(cql: Cql) -> None:
    insert = "INSERT INTO t (k, c, v) VALUES (1, %d, 1)"
    statements = (
        wire.BatchStatement(insert % 1 + " IF NOT EXISTS", ()),
        wire.BatchStatement(insert % 2, ()),
    )
    batch = wire.Batch(wire.LOGGED, statements, cql.level)
    assert rows(cql.good(batch)) == [{"[applied]": True}]
    assert rows(cql.good(batch)) == [{"[applied]": False, "k": 1, "c": 1, "v": 1}]
    plain = wire.Batch(wire.LOGGED, (wire.BatchStatement(insert % 3, ()),), cql.level)
    assert isinstance(cql.good(plain), wire.Void)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("BEGIN BATCH USING TIMESTAMP 5 INSERT INTO t (k, c) VALUES (1, 9) IF NOT EXISTS; APPLY BATCH",
         "conditional"),
        ("BEGIN BATCH USING TIMESTAMP 5 INSERT INTO t (k, c) VALUES (1, 9) USING TIMESTAMP 6; APPLY BATCH",
         "either on BATCH"),
        ("BEGIN COUNTER BATCH USING TIMESTAMP 5 UPDATE n SET n = n + 1 WHERE k = 1; APPLY BATCH", "counter"),
    ],
)  # fmt: skip
def test_what_a_batch_cannot_be_given_as_a_whole(cql: Cql, text: str, said: str) -> None:
    error = cql.error(text)
    assert isinstance(error, wire.Invalid)
    assert "timestamp" in error.message.lower()
    assert said in error.message


def test_a_timestamp_of_the_whole_batch(cql: Cql) -> None:
    cql.run("BEGIN BATCH USING TIMESTAMP 5 INSERT INTO t (k, c, v) VALUES (2, 1, 1); APPLY BATCH")
    assert cql.run("SELECT writetime(v) AS w FROM t WHERE k = 2") == [{"w": 5}]
