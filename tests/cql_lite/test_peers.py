"""What clients are told of the peers: whether all have the schema, and who came and went."""

from __future__ import annotations

import msgspec
import pytest

from cql_lite import wire
from server.cql import topology_events
from sim.cluster import SimCluster
from sim.real import node_of
from tests.cql_lite.whole import SECOND, Cql, cluster_of, settle


def versions(client: Cql, table: str = "peers_v2") -> tuple[bytes, list[bytes]]:
    """The schema version of the peer that is asked, and those of the others as it tells."""
    (local,) = client.run("SELECT schema_version FROM system.local WHERE key = 'local'")
    others = client.run(f"SELECT schema_version FROM system.{table}")
    return local["schema_version"], [row["schema_version"] for row in others]


@pytest.fixture
def cluster() -> SimCluster:
    return cluster_of(3)


@pytest.mark.parametrize("table", ["peers", "peers_v2"])
def test_right_after_a_change_all_agree_truly(cluster: SimCluster, table: str) -> None:
    for number in range(5):
        Cql(cluster, number % 3).run(f"CREATE TABLE ks.t{number} (k int PRIMARY KEY)")
        begun_us = cluster.now_us
        local, others = versions(Cql(cluster, number % 3), table)
        assert others == [local] * 2
        assert cluster.now_us - begun_us < SECOND // 4
        epochs = [node_of(cluster, peer).metadata.state.epoch for peer in range(3)]
        assert len(dict.fromkeys(epochs)) == 1, "what was told was true"


def test_a_peer_that_does_not_hear_of_it_is_told_to_differ(cluster: SimCluster) -> None:
    versions(Cql(cluster))
    cluster.cut([2], [0, 1])
    Cql(cluster).run("CREATE TABLE ks.t (k int PRIMARY KEY)")
    assert node_of(cluster, 0).swim.is_alive(cluster.machines[2].peer), "nobody has noticed yet"
    for table in ("peers", "peers_v2"):
        local, others = versions(Cql(cluster), table)
        assert sorted(version == local for version in others) == [False, True]
    cluster.heal()
    settle(cluster)
    local, others = versions(Cql(cluster))
    for _ in range(100):
        if others == [local] * 2:
            break
        local, others = versions(Cql(cluster))
    assert others == [local] * 2


def test_every_row_has_what_drivers_look_for(cluster: SimCluster) -> None:
    needed = "data_center, host_id, rack, release_version, schema_version, tokens"
    for table, address in (("peers", "rpc_address"), ("peers_v2", "native_address")):
        for row in Cql(cluster).run(f"SELECT {needed}, {address} FROM system.{table}"):
            assert all(value for value in row.values()), row


def test_members_that_come_go_and_move_are_events(cluster: SimCluster) -> None:
    state = node_of(cluster, 0).metadata.state
    one, two, three = state.members

    class After:
        members = (one, msgspec.structs.replace(two, tokens=(1, 2)))

    moved = wire.TopologyChange("MOVED_NODE", bytes(map(int, two.address.split(":")[0].split("."))), 9042)
    gone = wire.TopologyChange("REMOVED_NODE", bytes(map(int, three.address.split(":")[0].split("."))), 9042)
    found = list(topology_events(state, After, 9042))  # type: ignore[arg-type]
    assert sorted(found, key=lambda event: event.change) == [moved, gone]
    back = list(topology_events(After, state, 9042))  # type: ignore[arg-type]
    assert sorted(event.change for event in back) == ["MOVED_NODE", "NEW_NODE"]
    assert list(topology_events(state, state, 9042)) == []


def test_the_next_statement_through_another_peer_knows_of_the_change(cluster: SimCluster) -> None:
    for number in range(6):
        one, other = Cql(cluster, number % 3), Cql(cluster, (number + 1) % 3)
        begun_us = cluster.now_us
        one.run(f"CREATE TABLE ks.n{number} (k int PRIMARY KEY)")
        other.run(f"INSERT INTO ks.n{number} (k) VALUES (1)")
        one.run(f"ALTER TABLE ks.n{number} ADD v int")
        other.run(f"CREATE INDEX ON ks.n{number} (v)")
        one.run(f"INSERT INTO ks.n{number} (k, v) VALUES (1, 2)")
        assert other.run(f"SELECT k FROM ks.n{number} WHERE v = 2") == [{"k": 1}]
        one.run(f"DROP TABLE ks.n{number}")
        assert "unconfigured" in other.error(f"SELECT * FROM ks.n{number}").message
        assert cluster.now_us - begun_us < SECOND
