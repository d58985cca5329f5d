"""What a client is warned of with its answer."""

from __future__ import annotations

import pytest

from cql_lite import planner_select, wire
from sim.cluster import SimCluster
from tests.cql_lite.whole import Cql, cluster_of, settle


@pytest.fixture(scope="module")
def client() -> Cql:
    cluster: SimCluster = cluster_of(3)
    client = Cql(cluster)
    client.run("CREATE TABLE ks.t (k int, c int, v text, PRIMARY KEY (k, c))")
    settle(cluster)
    for c in range(30):
        client.run(f"INSERT INTO ks.t (k, c, v) VALUES (1, {c}, 'x')")
    return client


def warned(client: Cql, text: str) -> list[str]:
    client.run(text)
    return client.warnings


def test_aggregates_over_more_than_a_partition(client: Cql) -> None:
    assert warned(client, "SELECT count(*) FROM ks.t") == ["Aggregation query used without partition key"]
    assert warned(client, "SELECT max(c) FROM ks.t WHERE k IN (1, 2)") == [
        "Aggregation query used on multiple partition keys (IN restriction)"
    ]
    assert warned(client, "SELECT count(*) FROM ks.t WHERE k = 1") == []
    assert warned(client, "SELECT * FROM ks.t") == []
    assert warned(client, "SELECT count(*) FROM system.peers") == []


def test_batches_that_are_large_or_wide(client: Cql) -> None:
    insert = "INSERT INTO ks.t (k, c, v) VALUES (%d, 1, '%s');"
    half = "x" * 4096
    (large,) = warned(client, f"BEGIN BATCH {insert % (1, half)} {insert % (2, half)} APPLY BATCH")
    assert warned(client, f"BEGIN BATCH {insert % (1, half * 2)} APPLY BATCH") == [], "one partition may be"
    assert large == "Batch for [ks.t] is of size 8.1KiB, exceeding specified threshold of 5KiB by 3.1KiB."
    many = " ".join(insert % (k, "x") for k in range(11))
    (wide,) = warned(client, f"BEGIN UNLOGGED BATCH {many} APPLY BATCH")
    assert wide.startswith("Unlogged batch covering 11 partitions detected against tables [ks.t].")
    assert warned(client, f"BEGIN BATCH {many} APPLY BATCH") == []
    statements = tuple(wire.BatchStatement(insert[:-1] % (k, "y"), ()) for k in range(11))
    client.good(wire.Batch(wire.UNLOGGED, statements, client.level))
    assert client.warnings == [wide], "as a batch of the protocol, too"


def test_many_dead_rows(client: Cql, monkeypatch: pytest.MonkeyPatch) -> None:
    for c in range(20):
        client.run(f"DELETE FROM ks.t WHERE k = 1 AND c = {c}")
    assert warned(client, "SELECT * FROM ks.t WHERE k = 1") == [], "20 are not many"
    monkeypatch.setattr(planner_select, "TOMBSTONES_WARN", 15)
    (dead,) = warned(client, "SELECT * FROM ks.t WHERE k = 1")
    assert dead.startswith("Read 10 live rows and 20 tombstone rows of ks.t")
    (dead,) = warned(client, "SELECT * FROM ks.t")
    assert "20 tombstone rows" in dead


def test_more_replicas_than_peers(client: Cql) -> None:
    create = "CREATE KEYSPACE many WITH replication = {'class': '%s', '%s': 5}"
    over = "Your replication factor 5 for keyspace many is higher than the number of nodes 3"
    assert warned(client, create % ("SimpleStrategy", "replication_factor")) == [over]
    settle(client.cluster)
    assert warned(client, "ALTER KEYSPACE many WITH durable_writes = false") == []
    again = create.replace("CREATE", "ALTER") % ("NetworkTopologyStrategy", "replication_factor")
    assert warned(client, again) == [f"{over} for datacenter dc1"]
