"""What epochs say: the pure part of the metadata log."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from core.metadata import (
    AlterTable,
    Birth,
    Change,
    ChangeAddress,
    Changes,
    CreateKeyspace,
    CreateTable,
    DropTable,
    Epoch,
    Proposal,
    TruncateTable,
)
from core.requests import Changed
from core.schema import (
    CLUSTERING,
    NETWORK_TOPOLOGY,
    PARTITION,
    REGULAR,
    SIMPLE,
    STATIC,
    Column,
    Member,
    Replication,
    TableOptions,
)
from node import metadata_state
from node.birth import initial_tokens
from node.metadata_state import UNBORN, State, apply
from ring.placement import NetworkTopologyStrategy, Peer, Placement, Ring
from tests.node.tiny_world import configuration

COLUMNS = (Column(0, "key", "text", PARTITION), Column(0, "value", "blob", REGULAR))


def birth(count: int = 5, voters: int = 3) -> Birth:
    initial = configuration(count, voters)
    tokens = initial_tokens(initial, 16, 3)
    members = tuple(
        Member(bytes([n]) * 16, n, p.name, p.address, p.datacentre, p.rack, tokens[n - 1])
        for n, p in enumerate(initial, 1)
    )
    return Birth(b"c" * 16, "tiny", members, tuple(m.peer for m in members[:voters]))


def born(count: int = 5) -> State:
    return apply(UNBORN, Epoch(1, birth(count)))


class Log:
    """Applies changes one by one, each in an epoch of its own."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.sequence = 0

    def change(self, change: Change) -> Changed:
        self.sequence += 1
        proposal = Proposal((1 << 32, self.sequence), change)
        self.state = apply(self.state, Epoch(self.state.epoch + 1, Changes((proposal,))))
        result = self.state.result(proposal.id)
        assert result is not None
        return result


def create(name: str, keyspace: str = "kv", **more: Any) -> CreateTable:
    return CreateTable(keyspace, name, COLUMNS, TableOptions(), **more)


def test_a_birth_gives_members_voters_and_the_default_keyspaces() -> None:
    state = born(5)
    assert (state.epoch, state.name, state.cluster) == (1, "tiny", b"c" * 16)
    assert [m.number for m in state.members] == [1, 2, 3, 4, 5]
    second = state.by_name("n2")
    assert second is not None
    assert state.number_of(second.peer) == 2
    assert state.peer_of(2) == second.peer
    assert state.member(second.peer) is second
    assert (state.member(b"?"), state.by_name("?"), state.peer_of(9), state.number_of(b"?")) == (None,) * 4
    expected = Replication(NETWORK_TOPOLOGY, (("dc1", 3),))
    assert {name: k.replication for name, k in state.keyspaces.items()} == {"kv": expected, "docs": expected}


@pytest.mark.parametrize("count, factor", [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_the_default_factor_is_three_or_the_initial_peers(count: int, factor: int) -> None:
    assert born(count).default_replication().factors == (("dc1", factor),)


def test_the_same_epochs_give_the_same_object_however_they_were_decoded() -> None:
    epochs = [Epoch(1, birth()), Epoch(2, Changes((Proposal((1, 1), create("a")),)))]
    states: list[State] = []
    for _ in range(2):
        state = UNBORN
        for epoch in epochs:
            copy = msgspec.msgpack.decode(msgspec.msgpack.encode(epoch), type=Epoch)
            state = apply(state, copy)
        states.append(state)
    assert states[0] is states[1]
    assert states[0].placement(1) is states[1].placement(1)


def test_rings_are_shared_from_epoch_to_epoch() -> None:
    log = Log(born())
    log.change(create("a"))
    first = log.state.placement(1)
    log.change(create("b"))
    second = log.state.placement(2)
    assert first is not None and second is not None
    assert first.ranges() is second.ranges()


def test_a_table_gets_ids_once() -> None:
    log = Log(born())
    columns = (
        Column(7, "p", "text", PARTITION),
        Column(7, "c", "int", CLUSTERING),
        Column(7, "s", "int", STATIC),
        Column(7, "r", "int", REGULAR),
    )
    assert log.change(CreateTable("kv", "t", columns, TableOptions())) == Changed(2, "", "")
    table = log.state.table("kv", "t")
    assert table is not None
    assert (table.id, table.changed_epoch) == (1, 2)
    assert [column.id for column in table.columns] == [0, 0, 1, 2]
    assert log.change(TruncateTable("kv", "t")).error == ""
    truncated = log.state.table("kv", "t")
    assert truncated is not None
    assert (truncated.id, truncated.columns) == (2, table.columns)
    assert log.state.placement(1) is None
    log.change(DropTable("kv", "t"))
    log.change(CreateTable("kv", "t", columns, TableOptions()))
    assert list(log.state.tables) == [3]


def test_errors_have_codes_and_change_nothing() -> None:
    log = Log(born())
    log.change(create("t"))
    tables = log.state.tables
    cases: list[tuple[Change, str]] = [
        (create("t"), "already_exists"),
        (create("t", "nowhere"), "no_such_keyspace"),
        (create("t t"), "invalid"),
        (CreateTable("kv", "u", (), TableOptions()), "invalid"),
        (CreateTable("kv", "u", COLUMNS + COLUMNS, TableOptions()), "invalid"),
        (DropTable("kv", "u"), "no_such_table"),
        (DropTable("nowhere", "u", if_exists=True), "no_such_keyspace"),
        (TruncateTable("kv", "u"), "no_such_table"),
        (AlterTable("kv", "u", TableOptions()), "no_such_table"),
        (CreateKeyspace("kv", Replication(SIMPLE, (("", 1),))), "already_exists"),
        (CreateKeyspace("x", Replication(NETWORK_TOPOLOGY, (("mars", 1),))), "invalid"),
        (CreateKeyspace("x", Replication(SIMPLE, (("", 0),))), "invalid"),
        (CreateKeyspace("x", Replication("EverywhereStrategy", (("", 1),))), "invalid"),
    ]
    for change, code in cases:
        result = log.change(change)
        assert (result.code, bool(result.error)) == (code, True), change
    assert log.state.tables == tables
    assert sorted(log.state.keyspaces) == ["docs", "kv"]


def test_where_nothing_is_to_be_done_the_code_says_so_without_an_error() -> None:
    log = Log(born())
    log.change(create("t"))
    assert log.change(create("t", if_not_exists=True)) == Changed(3, "", "exists")
    assert log.change(DropTable("kv", "u", if_exists=True)) == Changed(4, "", "absent")
    assert (
        log.change(CreateKeyspace("kv", Replication(SIMPLE, (("", 1),)), if_not_exists=True)).code == "exists"
    )


def test_a_name_is_unique_across_its_family_of_keyspaces() -> None:
    log = Log(born())
    two = Replication(NETWORK_TOPOLOGY, (("dc1", 2),))
    assert log.change(create("b", "kv_rf2", unique_across="kv", replication=two)).code == ""
    assert log.state.keyspaces["kv_rf2"].replication == two
    assert log.change(create("b", "kv", unique_across="kv")).code == "already_exists"
    assert log.change(create("b", "kv", unique_across="kv", if_not_exists=True)).code == "exists"
    assert log.change(create("b", "docs", unique_across="docs")).code == ""
    found = log.state.table_across("kv", "b")
    assert found is not None
    assert found.keyspace == "kv_rf2"
    assert log.state.table_across("kv", "c") is None
    placement = log.state.placement(found.id)
    assert placement is not None
    assert placement.factors == (("dc1", 2),)
    assert len(placement.replicas(0)) == 2


def test_altering_gives_options_and_makes_older_plans_stale() -> None:
    log = Log(born())
    log.change(create("t"))
    log.change(AlterTable("kv", "t", TableOptions(default_ttl_s=60)))
    table = log.state.table("kv", "t")
    assert table is not None
    assert (table.id, table.options.default_ttl_s, table.changed_epoch) == (1, 60, 3)


def test_a_change_decided_twice_is_applied_once() -> None:
    state = born()
    made, dropped = Proposal((1, 1), create("t")), Proposal((1, 2), DropTable("kv", "t"))
    again = Proposal((1, 3), create("t"))
    state = apply(state, Epoch(2, Changes((made, made, dropped))))
    state = apply(state, Epoch(3, Changes((again, dropped))))
    assert state.table("kv", "t") is not None
    assert state.result((1, 2)) == Changed(2, "", "")
    assert state.result((1, 3)) == Changed(3, "", "")


def test_forgotten_changes_are_refused_and_not_applied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_state, "RESULTS_MAX", 3)
    state = born()
    first = Proposal((1, 1), create("t"))
    state = apply(state, Epoch(2, Changes((first,))))
    drops = tuple(Proposal((1, n), DropTable("kv", "t", if_exists=True)) for n in range(2, 6))
    state = apply(state, Epoch(3, Changes(drops)))
    assert len(state._results) == 3
    state = apply(state, Epoch(4, Changes((first,))))
    assert state.table("kv", "t") is None
    late = state.result((1, 1))
    assert late is not None
    assert late.code == "expired"
    assert state.result((1, 6)) is None
    assert state.result((2, 1)) is None


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_replicas_are_those_of_the_ring(token: int) -> None:
    log = Log(born(7))
    log.change(create("t"))
    state = log.state
    placement = state.placement(1)
    assert placement is not None
    peers = [Peer(m.number, m.name, m.datacentre, m.rack, m.tokens) for m in state.members]
    expected = Placement(Ring(peers), NetworkTopologyStrategy({"dc1": 3})).replicas(token)
    assert placement.replicas(token) == tuple(state.peer_of(number) for number in expected)
    holding = [replicas for (first, last), replicas in placement.ranges() if first <= token <= last]
    assert holding == [placement.replicas(token)]


def test_ranges_partition_the_tokens_and_shared_ones_are_shared() -> None:
    log = Log(born(7))
    log.change(create("t"))
    state = log.state
    placement = state.placement(1)
    assert placement is not None
    ranges = placement.ranges()
    assert ranges[0][0][0] == -(2**63) and ranges[-1][0][1] == 2**63 - 1
    assert all(a[0][1] + 1 == b[0][0] for a, b in itertools.pairwise(ranges))
    one, other = state.members[0].peer, state.members[1].peer
    shared = placement.shared_ranges(one, other)
    assert shared == placement.shared_ranges(other, one) != ()
    for first, last in shared:
        for token in (first, last, (first + last) // 2):
            assert {one, other} <= set(placement.replicas(token))
    width = sum(last - first + 1 for first, last in shared)
    assert width == sum(b - a + 1 for (a, b), replicas in ranges if one in replicas and other in replicas)
    neighbours = state.neighbours(one)
    assert other in neighbours and one not in neighbours
    assert [state.number_of(peer) for peer in neighbours] == sorted(
        n for n in (state.number_of(peer) for peer in neighbours) if n is not None
    )
    assert placement.datacentre(one) == "dc1"
    assert placement.datacentre(b"?") == ""
    assert state.neighbours(b"?") == ()


def test_a_member_is_known_at_another_address_and_nothing_else_changes() -> None:
    log = Log(born())
    before = log.state
    second, third = before.members[1:3]
    assert not log.change(ChangeAddress(second.peer, "10.9.9.9")).error
    assert dict(log.state.addresses) == {**dict(before.addresses), second.peer: "10.9.9.9"}
    assert log.state.by_name(second.name) == msgspec.structs.replace(second, address="10.9.9.9")
    assert log.state.moved_epoch == before.moved_epoch, "plans of moves and requests hold"
    assert log.state.voters == before.voters
    assert log.change(ChangeAddress(second.peer, "10.9.9.9")).code == "same_address"
    taken = log.change(ChangeAddress(third.peer, "10.9.9.9"))
    assert taken.code == "already_exists" and second.name in taken.error
    assert log.change(ChangeAddress(b"?" * 16, "10.9.9.8")).code == "no_such_peer"
