"""Writes of CQL under an operation id, on a simulated cluster: done once, and answered as the first time."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from core.requests import ConditionalRequest
from cql_lite import wire
from cql_lite.operation_ids import PAYLOAD_KEY
from sim.cluster import SimCluster
from tests.cql_lite.whole import SECOND, Cql, cluster_of, rows, settle


@pytest.fixture(scope="module")
def cluster() -> SimCluster:
    cluster = cluster_of(3)
    client = Cql(cluster)
    client.run("CREATE TABLE ks.t (k int, c int, v text, l list<int>, s int static, PRIMARY KEY (k, c))")
    client.run("CREATE TABLE ks.flat (k int PRIMARY KEY, v text)")
    client.run("CREATE TABLE ks.counts (k int PRIMARY KEY, n counter, m counter)")
    settle(cluster)
    return cluster


def once(client: Cql, operation_id: bytes, text: str, **more: Any) -> Any:
    """A text under an id: its rows, or the error's message."""
    request = wire.Query(text, client.parameters(**more))
    response = client.send(request, {PAYLOAD_KEY: operation_id})
    return response.message if isinstance(response, wire.Error) else rows(response)


def test_an_append_is_done_once_through_whichever_peer(cluster: SimCluster) -> None:
    text = "UPDATE ks.t SET l = l + [7] WHERE k = 1 AND c = 1"
    for peer in (0, 1, 2, 0):
        client = Cql(cluster, peer)
        assert once(client, b"append", text, timestamp_us=1_000_000 + peer) == []
        assert any(isinstance(request, ConditionalRequest) for request in client.requests)
    client = Cql(cluster, 1)
    assert client.run("SELECT l FROM ks.t WHERE k = 1 AND c = 1") == [{"l": (7,)}]
    assert once(client, b"another", text) == []
    assert client.run("SELECT l FROM ks.t WHERE k = 1 AND c = 1") == [{"l": (7, 7)}]


def test_increments_with_and_without_ids_add_up(cluster: SimCluster) -> None:
    client = Cql(cluster)
    client.run("UPDATE ks.counts SET n = n + 100 WHERE k = 1")
    for peer in (0, 1, 2):
        once(Cql(cluster, peer), b"five", "UPDATE ks.counts SET n = n + 5, m = m - 1 WHERE k = 1")
        once(Cql(cluster, peer), b"one-%d" % peer, "UPDATE ks.counts SET n = n + 1 WHERE k = 1")
    client.run("UPDATE ks.counts SET n = n + 1000 WHERE k = 1")
    assert client.run("SELECT * FROM ks.counts") == [{"k": 1, "m": -1, "n": 1108}]


def test_a_condition_is_answered_as_the_first_time(cluster: SimCluster) -> None:
    client = Cql(cluster)
    insert = "INSERT INTO ks.t (k, c, v) VALUES (2, 1, 'first') IF NOT EXISTS"
    assert once(client, b"insert", insert) == [{"[applied]": True}]
    assert once(Cql(cluster, 1), b"insert", insert) == [{"[applied]": True}]
    (refused,) = once(client, b"too late", insert)
    assert (refused["[applied]"], refused["v"]) == (False, "first")
    client.run("UPDATE ks.t SET v = 'second' WHERE k = 2 AND c = 1 IF v = 'first'")
    assert once(Cql(cluster, 2), b"too late", insert) == [refused], "as it was then"
    client.run("DELETE FROM ks.t WHERE k = 2 AND c = 1 IF EXISTS")
    assert once(Cql(cluster, 2), b"too late", insert) == [refused], "and not applied now"
    assert client.run("SELECT * FROM ks.t WHERE k = 2") == []


def test_a_deletion_is_not_repeated_and_forgets_no_id(cluster: SimCluster) -> None:
    client = Cql(cluster)
    insert, delete = "INSERT INTO ks.t (k, c, v) VALUES (3, 1, 'x')", "DELETE FROM ks.t WHERE k = 3"
    once(client, b"in", insert)
    assert once(client, b"out", delete) == []
    once(Cql(cluster, 1), b"in", insert)
    assert client.run("SELECT * FROM ks.t WHERE k = 3") == [], "the insert was done before the deletion"
    client.run(insert)
    once(Cql(cluster, 2), b"out", delete)
    assert len(client.run("SELECT * FROM ks.t WHERE k = 3")) == 1, "nor does the deletion come back"


def test_the_same_id_with_another_request_is_refused(cluster: SimCluster) -> None:
    client = Cql(cluster)
    once(client, b"one", "INSERT INTO ks.flat (k, v) VALUES (1, 'a')")
    assert "used for another request" in once(client, b"one", "INSERT INTO ks.flat (k, v) VALUES (1, 'b')")
    assert client.run("SELECT v FROM ks.flat WHERE k = 1") == [{"v": "a"}]
    assert once(client, b"one", "INSERT INTO ks.flat (k, v) VALUES (2, 'b')") == [], "another partition"


def test_prepared_statements_tell_their_values_apart(cluster: SimCluster) -> None:
    client = Cql(cluster)
    prepared = client.good(wire.Prepare("UPDATE ks.t SET l = l + ? WHERE k = 9 AND c = ?"))
    assert isinstance(prepared, wire.Prepared)
    payload = {PAYLOAD_KEY: b"p"}
    for _ in range(2):
        assert isinstance(client.send(client.execute(prepared, [(1,), 1]), payload), wire.Void)
    assert isinstance(client.send(client.execute(prepared, [(2,), 1]), payload), wire.Invalid)
    assert client.run("SELECT l FROM ks.t WHERE k = 9") == [{"l": (1,)}]


def test_records_are_seen_by_no_reader(cluster: SimCluster) -> None:
    client = Cql(cluster)
    for number in range(5):
        once(client, b"r%d" % number, f"INSERT INTO ks.flat (k, v) VALUES ({50 + number}, 'x')")
        once(client, b"r%d" % number, f"INSERT INTO ks.t (k, c, s) VALUES (50, {number}, 1)")
    assert len(client.run("SELECT * FROM ks.t WHERE k = 50")) == 5
    assert len(client.run("SELECT * FROM ks.t WHERE k = 50 ORDER BY c DESC")) == 5
    assert client.run("SELECT count(*) FROM ks.flat WHERE k IN (50, 51, 52, 53, 54)") == [{"count": 5}]
    ring = [row for row in client.run("SELECT k FROM ks.flat") if row["k"] >= 50]
    assert len(ring) == 5
    assert len([row for row in client.run("SELECT DISTINCT k FROM ks.t") if row["k"] == 50]) == 1
    pages = client.pages("SELECT * FROM ks.t", 2)
    assert sum(row["k"] == 50 for page in pages for row in page) == 5


def test_records_are_in_no_index(cluster: SimCluster) -> None:
    client = Cql(cluster)
    client.run(
        "CREATE TABLE ks.found (k int, c int, a int, s int static, m map<text, int>, PRIMARY KEY (k, c))"
    )
    settle(cluster)
    once(client, b"before", "INSERT INTO ks.found (k, c, a, s, m) VALUES (1, 1, 7, 5, {'x': 1})")
    for target in ("a", "c", "s", "keys(m)"):
        client.run(f"CREATE INDEX ON ks.found ({target})")
    settle(cluster)
    once(client, b"after", "INSERT INTO ks.found (k, c, a, s, m) VALUES (2, 1, 7, 5, {'x': 1})")
    once(client, b"gone", "INSERT INTO ks.found (k, c, a) VALUES (3, 1, 7)")
    once(client, b"delete", "DELETE FROM ks.found WHERE k = 3")
    cluster.run_for(5 * SECOND)
    for where in ("a = 7", "c = 1", "s = 5", "m CONTAINS KEY 'x'", "a = 7 AND c = 1"):
        rows = client.run(f"SELECT k FROM ks.found WHERE {where}" + " ALLOW FILTERING" * (" AND " in where))
        assert sorted(row["k"] for row in rows) == [1, 2], where


def test_batches(cluster: SimCluster) -> None:
    client = Cql(cluster)
    one = "BEGIN BATCH UPDATE ks.t SET l = l + [1] WHERE k = 4 AND c = 1; \
           UPDATE ks.t SET l = l + [2] WHERE k = 4 AND c = 2; APPLY BATCH"
    for peer in range(3):
        assert once(Cql(cluster, peer), b"batch", one) == []
    assert client.run("SELECT l FROM ks.t WHERE k = 4") == [{"l": (1,)}, {"l": (2,)}]
    several = "UPDATE ks.t SET l = l + [1] WHERE k = 5 AND c = 1; \
               UPDATE ks.t SET l = l + [2] WHERE k = 6 AND c = 1;"
    for peer in range(3):
        assert once(Cql(cluster, peer), b"several", f"BEGIN UNLOGGED BATCH {several} APPLY BATCH") == []
    assert client.run("SELECT l FROM ks.t WHERE k IN (5, 6)") == [{"l": (1,)}, {"l": (2,)}]
    counts = "BEGIN COUNTER BATCH UPDATE ks.counts SET n = n + 1 WHERE k = 7; \
              UPDATE ks.counts SET n = n + 2 WHERE k = 8; APPLY BATCH"
    for peer in range(3):
        assert once(Cql(cluster, peer), b"counts", counts) == []
    assert client.run("SELECT n FROM ks.counts WHERE k IN (7, 8)") == [{"n": 1}, {"n": 2}]


def test_a_logged_batch_of_several_partitions_is_the_first_attempts(cluster: SimCluster) -> None:
    text = "BEGIN BATCH UPDATE ks.t SET l = l + [1] WHERE k = 15 AND c = 1; \
            UPDATE ks.t SET l = l + [2] WHERE k = 16 AND c = 1; \
            INSERT INTO ks.flat (k, v) VALUES (17, 'batch'); APPLY BATCH"
    clients = [Cql(cluster, peer) for peer in range(3)]
    assert once(clients[0], b"whole", text) == []
    clients[1].run("UPDATE ks.flat SET v = 'later' WHERE k = 17")
    for client in clients:
        assert once(client, b"whole", text) == []
    assert clients[0].run("SELECT l FROM ks.t WHERE k IN (15, 16)") == [{"l": (1,)}, {"l": (2,)}]
    assert clients[0].run("SELECT v FROM ks.flat WHERE k = 17") == [{"v": "later"}], "a retry undoes nothing"
    other = text.replace("[2]", "[3]")
    assert "used for another request" in once(clients[2], b"whole", other)
    assert once(clients[2], b"another", other) == []
    assert clients[0].run("SELECT l FROM ks.t WHERE k IN (15, 16)") == [{"l": (1, 1)}, {"l": (2, 3)}]
    large = f"BEGIN BATCH INSERT INTO ks.flat (k, v) VALUES (18, '{'x' * 2**20}'); {text[12:]}"
    assert "Batch too large" in once(clients[0], b"large", large)


def test_what_an_id_cannot_be(cluster: SimCluster) -> None:
    client = Cql(cluster)
    text = "INSERT INTO ks.flat (k, v) VALUES (60, 'x')"
    assert "1 to 128 bytes" in once(client, b"", text)
    assert "1 to 128 bytes" in once(client, b"x" * 129, text)
    assert "USING TIMESTAMP" in once(client, b"stamped", text + " USING TIMESTAMP 5")
    assert client.run("SELECT * FROM ks.flat WHERE k = 60") == []
    assert once(client, b"read", "SELECT * FROM ks.flat WHERE k = 60") == [], "reads do not care"


def test_ids_are_remembered_for_the_time_that_is_set() -> None:
    cluster = cluster_of(3, seed=3)
    client = Cql(cluster)
    client.run("CREATE TABLE ks.t (k int PRIMARY KEY, l list<int>)")
    settle(cluster)
    text = "UPDATE ks.t SET l = l + [1] WHERE k = 1"
    peer = client.statements.peer
    assert peer.operation_ids_us == 24 * 3600 * SECOND
    once(client, b"id", text)
    cluster.run_for(60 * SECOND)
    once(client, b"id", text)
    assert client.run("SELECT l FROM ks.t") == [{"l": (1,)}]
    client.session._peer = Forgetful(peer)
    once(client, b"id", text)
    assert client.run("SELECT l FROM ks.t") == [{"l": (1, 1)}]


class Forgetful:
    """A peer that remembers ids for a minute."""

    operation_ids_us = 60 * SECOND

    def __init__(self, peer: Any) -> None:
        self._peer = peer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._peer, name)


def test_at_level_one_too(cluster: SimCluster) -> None:
    client = Cql(cluster)
    client.level = Level.ONE
    for _ in range(2):
        once(client, b"weak", "UPDATE ks.t SET l = l + [1] WHERE k = 70 AND c = 1")
    client.level = Level.SERIAL
    assert client.run("SELECT l FROM ks.t WHERE k = 70") == [{"l": (1,)}]
