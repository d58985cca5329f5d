"""What is stored of tables that were dropped or emptied is deleted, and of no other."""

from __future__ import annotations

import pytest

from core.commands import PaxosAccept, Swept
from core.consistency import Level
from core.healing import FloorStep, RaiseFloor
from core.metadata import DropTable, TruncateTable
from core.moving import ForgetTables
from core.requests import Changed, MetadataRequest, WriteRequest, Written
from core.schema import Table
from jepsen_like.scenarios import Scenario
from kv import operations
from lsm import keys
from lsm.memory import MemoryEngine
from lsm.moving import REGIONS_OF_TABLES
from lsm.store import Store
from node.gone_tables import DELAY_US
from sim.cluster import SimCluster
from tests.documents.whole import ask, cluster_of, count, movies, put, settle
from tests.lsm.support import EVERYTHING, PLAIN, TABLES, WIDE, Client, cell, check_tree


def tables_in(engine: MemoryEngine) -> dict[bytes, list[int]]:
    """By region the tables of which something is stored."""
    found: dict[bytes, list[int]] = {}
    for region in (*REGIONS_OF_TABLES, keys.ENTRY):
        for key, _ in engine.scan(region, keys.successor(region)):
            table = int.from_bytes(key[1:5], "big")
            found.setdefault(region, [])
            if table not in found[region]:
                found[region].append(table)
    return found


@pytest.mark.parametrize("looked_at", [1, 2, 8])
def test_only_what_was_given_and_is_not_there_is_forgotten(
    looked_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsm.moving.TABLES_LOOKED_AT", looked_at)
    engine, there = MemoryEngine(), dict(TABLES)
    store = Store(engine, there.get)
    for table in (PLAIN, WIDE):
        client = Client(table, table.id)
        partition = keys.partition_prefix(table.id, 5, b"p")
        proposal = client.put("b", cell(9, b"v")).mutation
        for step in FloorStep:
            store.execute(RaiseFloor(step, 5, ((table.id, EVERYTHING[0][1]),)))
        store.execute(client.put("a", cell(101, None)))
        store.execute(PaxosAccept(table.id, partition, (10, 1), proposal))
    before = tables_in(engine)
    assert all(found == [PLAIN.id, WIDE.id] for found in before.values()) and len(before) == 5

    def forget(below: int) -> int:
        removed, after = 0, b""
        while True:
            outcome = store.execute(ForgetTables(below, after))
            assert isinstance(outcome, Swept)
            removed, after = removed + outcome.removed, outcome.after
            if not after:
                return removed

    assert forget(100) == 0 and tables_in(engine) == before
    del there[PLAIN.id]
    assert forget(PLAIN.id) == 0 and tables_in(engine) == before, "no id that was not given"
    assert forget(100) == 5
    assert all(found == [WIDE.id] for found in tables_in(engine).values())
    assert list(store.floors.tables) == [WIDE.id]
    assert list(Store(engine, there.get).floors.tables) == [WIDE.id]
    del there[WIDE.id]
    assert forget(100) == 5 and tables_in(engine) == {}
    there.update(TABLES)
    check_tree(Store(engine, there.get))


def stored(cluster: SimCluster, table: Table | int) -> int:
    """Of how many peers something of a table is stored."""
    wanted = table if isinstance(table, int) else table.id
    return sum(
        any(wanted in tables for tables in tables_in(machine.engine).values()) for machine in cluster.machines
    )


@pytest.mark.parametrize("is_dropped", [True, False])
def test_the_space_of_a_dropped_or_emptied_table_is_given_back(is_dropped: bool) -> None:
    cluster = cluster_of(3)
    for n in range(40):
        put(cluster, f"m{n}", {"n": n}, n % 3)
    table = movies(cluster).table
    assert stored(cluster, table) == 3
    change = DropTable("docs", "movies") if is_dropped else TruncateTable("docs", "movies")
    changed = ask(cluster, 1, MetadataRequest(change))
    assert isinstance(changed, Changed) and not changed.error
    settle(cluster)
    if not is_dropped:
        put(cluster, "new", {"n": 1})
    cluster.kill(2)
    cluster.start(2)
    assert cluster.run_until(lambda: stored(cluster, table) == 0, 2 * DELAY_US)
    if not is_dropped:
        settle(cluster)
        assert count(cluster, 1, {}) == 1
        assert stored(cluster, movies(cluster).table) == 3


def test_notes_of_what_runs_out_go_with_the_only_table_that_kept_changes() -> None:
    s = Scenario(3)
    s.start()
    bucket = s.bucket("b", changes="new")
    for number in range(5):
        wanted = operations.put(bucket, f"k{number}", b"v", operations.OCTETS, Level.QUORUM, ttl_s=30)
        assert isinstance(wanted, WriteRequest)
        assert isinstance(s.ask(wanted).answer, Written)

    def noted() -> int:
        return sum(len(m.engine.keys(keys.EXPIRY, keys.successor(keys.EXPIRY))) for m in s.cluster.machines)

    s.run(1)
    assert noted() == 15
    assert isinstance(s.ask(MetadataRequest(DropTable("kv", "b"))).answer, Changed)
    s.run(100)
    assert noted() == 0
