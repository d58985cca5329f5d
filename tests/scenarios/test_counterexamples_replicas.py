"""Counterexamples 10, 20, 27, 32 and 34: what replicas promise each other."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from core.messages import ApplyMutation, Decided, Stale
from core.metadata import CreateTable
from core.requests import Changed, MetadataRequest, Unready, Written
from core.schema import PARTITION, REGULAR, Column, TableOptions
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from lsm import keys
from lsm.commit import Commit
from lsm.log import REPAIRED
from node.following import Following
from node.replica import Replica
from ring.tokens import token_of
from sim.real import HINTS
from tests.scenarios.telling import QUIET, UNCOMPARED, WRITE_FAST, held, log_kinds, table_of, update

Patch = pytest.MonkeyPatch


# --- 10: nothing undurable leaves


def two_reads_around_a_power_cut() -> list[str]:
    """What QUORUM reads say before and after the power of one of the two peers that have `new` is cut."""
    s = Scenario(settings=QUIET | WRITE_FAST | {"hints": False})
    s.start()
    s.bucket("b")
    assert s.put("b", "k", b"old", level=Level.ALL).status == OK
    s.run(0.1)  # stamps for the next write are durable already
    s.hold_syncs(0)
    s.hold_syncs(1)
    s.lose(lambda source, target, message: target == 2 and isinstance(message, ApplyMutation))
    s.put("b", "k", b"new")
    assert [held(s, peer, "b")["k"] for peer in range(3)] == [b"new", b"new", b"old"]
    said = [_read(s, 0)]
    s.power_cut(0)
    s.hold_syncs(0, 0)
    s.pause(1)  # alive, and answers nobody
    s.start(0, serving=False)
    s.heal()
    assert s.until(lambda: _read(s, 2) != "nothing")
    return [*said, _read(s, 2)]


def _read(s: Scenario, peer: int) -> str:
    end = s.get("b", "k", at=peer)
    return end.result.value.decode() if end.status == OK and end.result else "nothing"


def test_counterexample_10_what_a_power_cut_can_take_back_is_not_read() -> None:
    assert two_reads_around_a_power_cut() == ["nothing", "old"]


def test_counterexample_10_if_outcomes_leave_before_the_sync_reads_go_back(monkeypatch: Patch) -> None:
    def at_once(self: Any, ticket: Any, outcome: Any, _: int) -> None:
        self._released.append((ticket, outcome))

    def all_at_once(self: Any, outcomes: Any) -> None:
        self._released += [(ticket, outcome) for ticket, outcome, _ in outcomes]

    monkeypatch.setattr(Commit, "add", at_once)
    monkeypatch.setattr(Commit, "add_all", all_at_once)
    assert two_reads_around_a_power_cut() == ["new", "old"]


# --- 20: following brings mutations, not states


def a_replica_away_for_a_hundred_updates_of_a_key() -> tuple[bool, int, int]:
    """Whether its row became equal, and how many updates and repaired states its log has."""
    s = Scenario(settings={"hints": False})
    s.start()
    s.bucket("b")
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2))
    for number in range(100):
        assert s.put("b", "k", b"%d" % number).status == OK
    s.start(2)
    equal = s.until(lambda: held(s, 2, "b") == {"k": b"99"})
    s.run(10)
    kinds = log_kinds(s, 2)
    return equal, len(kinds) - kinds.count(REPAIRED), kinds.count(REPAIRED)


def test_counterexample_20_a_replica_that_was_away_has_every_update_in_its_log() -> None:
    assert a_replica_away_for_a_hundred_updates_of_a_key() == (True, 100, 0)


def test_counterexample_20_repaired_by_state_it_has_one_entry(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Following, "_begin", lambda *_: None)
    assert a_replica_away_for_a_hundred_updates_of_a_key() == (True, 0, 1)


# --- 27: identity


def a_voter_wiped_after_its_vote(by_name: bool) -> list[str]:
    """Which tables were chosen as the second epoch, as the living peers know it.

    `by_name`: the empty directory passes for the old one, because only the name counts.
    """
    s = Scenario()
    s.start()
    s.cut([2], [0, 1])
    assert isinstance(s.ask(_create("first")).answer, Changed)
    assert s.until(lambda: s.state(1).epoch == 2)
    s.run(0.1)
    s.kill(0, 1)
    machine = s.cluster.machines[0]
    peer, start = machine.peer, machine.start
    s.wipe(0)
    if by_name:
        machine.peer, machine.start = peer, start
    s.heal()
    s.start(0, serving=False)
    answer = s.ask(_create("second"), at=2).answer
    if not by_name:
        assert isinstance(answer, Unready)
        assert "n1" in s.node(0).identity.refused
        assert "another identity" in s.node(0).identity.refused
    s.start(1, serving=False)
    s.run(5)
    tables = [table for peer in (1, 2) for table in s.state(peer).tables.values()]
    return sorted({table.name for table in tables if table.changed_epoch == 2})


def _create(name: str) -> MetadataRequest:
    columns = (Column(0, "key", "text", PARTITION), Column(0, "value", "blob", REGULAR))
    return MetadataRequest(CreateTable("kv", name, columns, TableOptions()))


def test_counterexample_27_a_wiped_voter_does_not_help_to_choose_an_epoch_twice() -> None:
    assert a_voter_wiped_after_its_vote(by_name=False) == ["first"]


def test_counterexample_27_if_a_name_were_an_identity_there_would_be_two_second_epochs() -> None:
    assert a_voter_wiped_after_its_vote(by_name=True) == ["first", "second"]


# --- 32: refuse only what changed; every refusal carries the entries


def writes_of_a_peer_that_does_not_hear_of_new_tables() -> tuple[int, bool]:
    """How many of 20 writes through it are acknowledged, and whether it is refused again and again."""
    s = Scenario(settings=QUIET | WRITE_FAST)
    s.start()
    table = table_of(s, "t", ("x",))
    refused = []

    def which(source: int, target: int, message: object) -> bool:
        if isinstance(message, Stale):
            refused.append((source, target))
        return target == 2 and isinstance(message, Decided)

    s.lose(which)
    for number in range(3):
        assert isinstance(s.ask(_create(f"u{number}")).answer, Changed)
    assert s.until(lambda: [s.state(peer).epoch for peer in range(3)] == [5, 5, 2])
    answers = [s.ask(update(table, {1: b"v"}), at=2).answer for _ in range(20)]
    assert s.state(2).epoch == 2
    return sum(isinstance(answer, Written) for answer in answers), len(refused) > 1_000


def test_counterexample_32_who_is_behind_may_write_to_what_did_not_change() -> None:
    assert writes_of_a_peer_that_does_not_hear_of_new_tables() == (20, False)


def test_counterexample_32_if_every_other_epoch_is_refused_peers_refuse_each_other_for_ever(
    monkeypatch: Patch,
) -> None:
    def same_epoch_only(self: Any, peer: Any, message: Any, table: int) -> bool:
        if message.epoch == self._metadata.state.epoch:
            self._queued += 1
            return True
        self._inside.send(peer, Stale(message.op, ()))
        return False

    monkeypatch.setattr(Replica, "_may", same_epoch_only)
    assert writes_of_a_peer_that_does_not_hear_of_new_tables() == (0, True)


# --- 34: following


def a_write_that_reached_one_replica_and_a_dead_coordinator() -> list[bool]:
    """Which of the three replicas hold it after ten seconds in which nobody read."""
    s = Scenario(peers=4, settings=UNCOMPARED)
    s.start()
    bucket = s.bucket("b")
    placement = s.state(0).placement(bucket.table)
    assert placement is not None
    coordinator = 3
    key = next(
        f"k{n}"
        for n in range(1_000)
        if s.cluster.machines[coordinator].peer not in placement.replicas(token_of(b"k%d" % n))
    )
    s.lose(lambda source, target, message: target != 0 and isinstance(message, ApplyMutation))
    s.door.put(coordinator, bucket, (key, b"v"), Level.QUORUM, lambda end: None)
    assert s.until(lambda: held(s, 0, "b") == {key: b"v"})
    s.kill(coordinator)
    s.heal()
    assert not any(machine.engine.keys(HINTS, keys.successor(HINTS)) for machine in s.cluster.machines)
    s.run(10)
    return [held(s, peer, "b") == {key: b"v"} for peer in range(3)]


def test_counterexample_34_what_one_replica_alone_got_reaches_all() -> None:
    assert a_write_that_reached_one_replica_and_a_dead_coordinator() == [True] * 3


def test_counterexample_34_if_nobody_follows_it_stays_where_it_is(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Following, "_begin", lambda *_: None)
    assert a_write_that_reached_one_replica_and_a_dead_coordinator() == [True, False, False]
