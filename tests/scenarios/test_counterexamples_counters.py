"""Counterexamples 40 and 41: counts that were forgotten, and counts that were made twice."""

from __future__ import annotations

from typing import Any

import pytest

import query.once
from core.commands import CounterAdded, PaxosAccepted
from core.consistency import Level
from core.counter import counter_value
from core.messages import CountersAdded, PaxosTold
from core.requests import Answer, CounterRequest, OperationId, Timeout, Written
from core.schema import Table
from jepsen_like.scenarios import Scenario
from lsm import keys
from lsm.commit import Commit
from node.counters import CounterOperation
from query.once import Once
from ring.tokens import token_of
from tests.scenarios.telling import QUIET, WRITE_FAST, row, table_of

Patch = pytest.MonkeyPatch


def add(s: Scenario, table: Table, delta: int, at: int, level: Level = Level.QUORUM) -> Answer | None:
    rows = ((keys.ROW_SUFFIX, ((1, delta),)),)
    return s.ask(CounterRequest(table.id, b"k", rows, level), at=at).answer


def value(s: Scenario, table: Table, at: int = 0, level: Level = Level.QUORUM) -> int | None:
    found = row(s, table, at, level)
    return None if found is None else counter_value(found.cells, 1)


def table_and_outsider(s: Scenario) -> tuple[Table, int]:
    """A table of counters, and a peer that does not replicate the counter `k`."""
    table = table_of(s, "counts", ("n",))
    placement = s.state(0).placement(table.id)
    assert placement is not None
    replicas = placement.replicas(token_of(b"k"))
    return table, next(m.index for m in s.cluster.machines if m.peer not in replicas)


# --- 40: what a leader says of its shard, it never forgets


def a_leader_loses_what_was_not_synced() -> tuple[int, int | None]:
    """The sum of the increments that were acknowledged, and what a reader sees."""
    s = Scenario(settings=QUIET | WRITE_FAST | {"hints": False})
    s.start()
    table = table_of(s, "counts", ("n",))
    acknowledged = 0
    s.run(0.1)
    for delta in (10, 5, 1):
        if delta == 5:
            s.hold_syncs(0)
        if delta == 1:
            s.power_cut(0)
            s.hold_syncs(0, 0)
            s.start(0)
        if isinstance(add(s, table, delta, at=0), Written):
            acknowledged += delta
    return acknowledged, value(s, table, at=1)


def test_counterexample_40_a_count_that_a_power_cut_can_take_back_is_told_to_nobody() -> None:
    assert a_leader_loses_what_was_not_synced() == (11, 11)


def test_counterexample_40_told_before_the_sync_a_shard_goes_on_from_before(monkeypatch: Patch) -> None:
    commit = Commit.add

    def at_once(self: Any, ticket: Any, outcome: Any, depends_on: int) -> None:
        commit(self, ticket, outcome, 0 if isinstance(outcome, CounterAdded) else depends_on)

    monkeypatch.setattr(Commit, "add", at_once)
    assert a_leader_loses_what_was_not_synced() == (16, 11)


def test_counterexample_40_an_emptied_directory_has_no_old_shard_to_go_on_with() -> None:
    s = Scenario(peers=4, settings=WRITE_FAST)
    s.start()
    table, outsider = table_and_outsider(s)
    assert isinstance(add(s, table, 7, at=outsider), Written)
    before = [machine.peer for machine in s.cluster.machines]
    s.wipe(0)
    s.start(0, serving=False)
    s.run(3)
    assert s.cluster.machines[0].peer != before[0]
    assert not s.node(0).ready()[0]
    assert value(s, table, at=1) == 7


# --- 41: asked again, an increment counts once


def a_leader_is_asked_again() -> tuple[bool, int | None]:
    """Whether the client heard that it was counted, and what is read after one increment by 5."""
    s = Scenario(peers=4)
    s.start()
    table, outsider = table_and_outsider(s)
    lost: list[int] = []

    def first_answer(source: int, target: int, message: object) -> bool:
        if isinstance(message, CountersAdded) and not lost:
            lost.append(source)
            s.cluster.scheduler.after(1_000, s.cluster.network.reset, source, target)
            return True
        return False

    s.lose(first_answer)
    answer = add(s, table, 5, at=outsider)
    s.heal()
    assert lost
    return isinstance(answer, Written), value(s, table)


def test_counterexample_41_a_leader_that_is_asked_again_counts_once() -> None:
    assert a_leader_is_asked_again() == (True, 5)


def test_counterexample_41_under_a_new_id_it_counts_twice(monkeypatch: Patch) -> None:
    def anew(self: Any, peer: Any) -> None:
        if peer == self._leader and self._message is not None:
            self._leaders.insert(0, peer)
            self._next_leader()

    monkeypatch.setattr(CounterOperation, "on_connected", anew)
    assert a_leader_is_asked_again() == (True, 10)


def test_counterexample_41_without_an_answer_it_is_unknown_and_a_repeat_counts_too() -> None:
    s = Scenario(peers=4, settings=WRITE_FAST)
    s.start()
    table, outsider = table_and_outsider(s)
    s.lose(lambda source, target, message: isinstance(message, CountersAdded))
    answer = add(s, table, 5, at=outsider)
    assert isinstance(answer, Timeout)
    assert answer.write_type == "COUNTER"
    s.heal()
    assert isinstance(add(s, table, 5, at=outsider), Written)
    assert s.until(lambda: value(s, table, at=1) == 10)  # following brings what only the leader had


def add_once(s: Scenario, table: Table, delta: int, at: int) -> Answer | None:
    """An increment under an operation id, always the same one."""
    rows = ((keys.ROW_SUFFIX, ((1, delta),)),)
    once = Once(CounterRequest(table.id, b"k", rows, Level.QUORUM), OperationId(b"a client's", b"+5", 10**12))
    answer = s.ask(once.request, at=at).answer
    return None if answer is None else once.answer(answer)


def an_unknown_increment_is_retried_elsewhere() -> tuple[int | None, int | None]:
    """What is read in the end, serially and at QUORUM, of 100 and an increment by 5 that was tried thrice."""
    s = Scenario(settings=WRITE_FAST)
    s.start()
    table = table_of(s, "counts", ("n",))
    assert isinstance(add(s, table, 100, at=0), Written)
    s.lose(
        lambda source, target, message: (
            isinstance(message, PaxosTold) and isinstance(message.outcome, PaxosAccepted)
        )
    )
    answer = add_once(s, table, 5, at=0)
    assert isinstance(answer, Timeout), answer
    assert answer.write_type == "COUNTER"
    s.heal()
    for peer in (1, 2):
        assert isinstance(add_once(s, table, 5, at=peer), Written)
    return value(s, table, at=1, level=Level.SERIAL), value(s, table, at=2)


def test_counterexample_41_under_an_operation_id_a_retry_elsewhere_counts_once() -> None:
    assert an_unknown_increment_is_retried_elsewhere() == (105, 105)


def test_counterexample_41_if_the_id_is_not_looked_up_each_retry_counts(monkeypatch: Patch) -> None:
    monkeypatch.setattr(query.once, "_found", lambda part, of: None)
    assert an_unknown_increment_is_retried_elsewhere() == (115, 115)
