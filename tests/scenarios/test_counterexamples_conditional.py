"""Counterexamples 35 to 39: conditional updates."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

import node.paxos_round
from core.cell import NO_VERSION
from core.commands import NO_BALLOT, PaxosAccept, PaxosCommit, PaxosPrepare
from core.consistency import Level
from core.messages import Message, PaxosAsk
from core.requests import ConditionalRequest, Judged, PartRead, RowsRead, WriteRequest
from core.schema import Table
from jepsen_like.door import End
from jepsen_like.history import INFO, OK
from jepsen_like.scenarios import Scenario
from lsm import keys
from lsm.paxos import PaxosSteps
from node.paxos_round import CasOperation
from node.paxos_view import view_of
from ring.tokens import token_of
from tests.scenarios.telling import QUIET, WRITE_FAST, table_of, update

Patch = pytest.MonkeyPatch


def swap(s: Scenario, old: bytes | None, new: bytes, at: int) -> End:
    """Have the key k hold `new` if it holds `old`."""
    bucket = s.buckets["b"]
    return s.wait(
        lambda then: s.door.update(at, bucket, "k", lambda value: new if value == old else None, then)
    )


def serial(s: Scenario, at: int) -> bytes | None:
    """What a SERIAL read of the key k says."""
    end = s.get("b", "k", at=at, level=Level.SERIAL)
    assert end.status == OK, end
    return end.result.value if end.result else None


def is_step(message: Message, kind: type) -> bool:
    return isinstance(message, PaxosAsk) and isinstance(message.step, kind)


# --- 35: a false condition, and a read, are decisions too


def two_reads_of_a_proposal_that_one_replica_accepted() -> list[bytes | None]:
    """What SERIAL reads of {A, B} and then of {B, C} say, where C alone accepted the proposal."""
    s = Scenario(settings=QUIET | WRITE_FAST | {"hints": False})
    s.start()
    s.bucket("b")
    assert swap(s, None, b"old", at=0).result is True
    s.lose(lambda source, target, message: target != 2 and is_step(message, PaxosAccept))
    end = swap(s, b"old", b"new", at=2)
    assert (end.status, end.detail) == (INFO, "Timeout")
    s.heal()
    s.cut([2], [0, 1])
    first = serial(s, 0)
    s.heal()
    s.cut([0], [1, 2])
    return [first, serial(s, 1)]


def test_counterexample_35_what_a_serial_read_denied_never_comes() -> None:
    assert two_reads_of_a_proposal_that_one_replica_accepted() == [b"old", b"old"]


def test_counterexample_35_without_an_empty_proposal_it_comes_all_the_same(monkeypatch: Patch) -> None:
    monkeypatch.setattr(CasOperation, "_say", lambda self, calm: self._end(self._result))
    assert two_reads_of_a_proposal_that_one_replica_accepted() == [b"old", b"new"]


# --- 36: the commit is waited for


def a_plain_read_right_after() -> tuple[str, bytes | None]:
    """What the client of an update is told whose commit reached one replica, and what the others say."""
    s = Scenario(settings=QUIET | WRITE_FAST | {"hints": False})
    s.start()
    s.bucket("b")
    s.lose(lambda source, target, message: is_step(message, PaxosCommit))
    end = swap(s, None, b"new", at=0)
    s.heal()
    s.cut([0], [1, 2])
    read = s.get("b", "k", at=1)
    assert read.status == OK
    return end.status, read.result.value if read.result else None


def test_counterexample_36_applied_means_that_a_plain_read_sees_it() -> None:
    assert a_plain_read_right_after() == (INFO, None)


def test_counterexample_36_if_decided_were_enough_a_plain_read_would_miss_it(monkeypatch: Patch) -> None:
    won = CasOperation._won

    def at_once(self: Any, proposal: Any, ballot: Any) -> None:
        won(self, proposal, ballot)
        self._answer(Judged(True, proposal.reads, proposal.version))

    monkeypatch.setattr(CasOperation, "_won", at_once)
    assert a_plain_read_right_after() == (OK, None)


# --- 37: the version lies above everything read


def a_condition_on_a_write_from_ahead_of_time() -> tuple[bool, bytes]:
    """Whether an update of a value that was written through a clock 20 s ahead is applied; and the value."""
    s = Scenario(settings=QUIET)
    s.start()
    s.bucket("b")
    s.set_clock(0, 20)
    assert s.put("b", "k", b"first", at=0).status == OK
    applied = swap(s, b"first", b"second", at=1).result
    return applied, s.get("b", "k", at=2).result.value


def test_counterexample_37_what_was_applied_is_there_whatever_clock_came_before() -> None:
    assert a_condition_on_a_write_from_ahead_of_time() == (True, b"second")


def test_counterexample_37_if_the_version_ignores_what_was_read_nothing_changes(monkeypatch: Patch) -> None:
    monkeypatch.setattr(node.paxos_round, "newest_read", lambda answers: NO_VERSION)
    assert a_condition_on_a_write_from_ahead_of_time() == (True, b"first")


# --- 38: who lacks the latest commit gets it first


def conditional(
    table: Table, values: dict[int, bytes | None], column: int = 0, holds: bytes | None = None
) -> ConditionalRequest:
    """Write these columns of the row k if a column (0: any) holds a value."""

    def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | None:
        cells = reads[0].rows[0].row.cells if reads[0].rows else ()
        found = [cell.value for cell in cells if cell.column == column]
        return update(table, values) if column == 0 or found == [holds] else None

    return ConditionalRequest(table.id, b"k", (PartRead(keys.ROW_SUFFIX),), decide, Level.QUORUM)


def a_commit_that_one_replica_has() -> tuple[bool, bool]:
    """A has the commit of a=1, B accepted it, C has nothing. b=2 is decided by A and C.

    Whether that was applied; and whether, decided by B and C, c=3 is applied if a=1.
    """
    s = Scenario(settings=QUIET | WRITE_FAST | {"hints": False})
    s.start()
    table = table_of(s, "t", ("a", "b", "c"))
    s.lose(
        lambda source, target, message: (
            isinstance(message, PaxosAsk) and (target == 2 or is_step(message, PaxosCommit))
        )
    )
    s.ask(conditional(table, {1: b"1"}), at=0)
    s.heal()
    s.cut([1], [0, 2])
    second = s.ask(conditional(table, {2: b"2"}), at=0).answer
    s.heal()
    s.cut([0], [1, 2])
    third = s.ask(conditional(table, {3: b"3"}, column=1, holds=b"1"), at=2).answer
    assert isinstance(second, Judged) and isinstance(third, Judged), (second, third)
    return second.applied, third.applied


def test_counterexample_38_a_condition_is_judged_on_all_that_was_decided() -> None:
    assert a_commit_that_one_replica_has() == (True, True)


def test_counterexample_38_if_a_replica_may_lack_the_latest_commit_it_is_forgotten(
    monkeypatch: Patch,
) -> None:
    def nobody_behind(promises: Any) -> Any:
        view = view_of(promises)
        return type(view)(
            view.committed, view.ahead, (), view.unfinished, view.holder, view.quiet, view.version
        )

    monkeypatch.setattr(node.paxos_round, "view_of", nobody_behind)
    assert a_commit_that_one_replica_has() == (True, False)


# --- 39: promises are durable


Late = list[tuple[int, Message]]


def _begin(s: Scenario, peer: int, ends: dict[int, End]) -> Late:
    """Begin to change `old` through this peer; its accepts are late: (to whom, the message)."""
    late: Late = []

    def catch(source: int, target: int, message: Message) -> bool:
        if source == peer and is_step(message, PaxosAccept):
            late.append((target, message))
            return True
        return False

    def change(value: bytes | None) -> bytes | None:
        return b"by %d" % peer if value == b"old" else None

    s.lose(catch)
    s.door.update(peer, s.buckets["b"], "k", change, partial(ends.__setitem__, peer))
    assert s.until(lambda: len(late) == 3)
    return late


def two_rivals_around_a_power_cut() -> list[bool]:
    """Whether each of two coordinators applied its change of the same old value.

    Both were promised a ballot, the second a higher one; then the power of all replicas is cut, and then the
    accepts of the first arrive, and then those of the second.
    """
    s = Scenario(peers=5, settings=QUIET | {"hints": False, "write_timeout_us": 60_000_000})
    s.start()
    s.door.patience_us = 60_000_000
    bucket = s.bucket("b")
    assert swap(s, None, b"old", at=0).result is True
    placement = s.state(0).placement(bucket.table)
    assert placement is not None
    peers = [machine.peer for machine in s.cluster.machines]
    holders = [peers.index(replica) for replica in placement.replicas(token_of(b"k"))]
    rivals = [peer for peer in range(5) if peer not in holders]
    ends: dict[int, End] = {}
    late = [_begin(s, peer, ends) for peer in rivals]
    waiting = list(rivals)
    s.lose(lambda source, target, message: source in waiting and is_step(message, PaxosAccept))
    s.power_cut(*holders)
    s.start(*holders)
    for peer, messages in zip(rivals, late, strict=True):
        waiting.remove(peer)
        for target, message in messages[:3]:
            s.node(target).on_message(peers[peer], message)
        assert s.until(partial(ends.__contains__, peer)), ends
    return [ends[peer].result for peer in rivals]


def test_counterexample_39_promises_outlive_a_power_cut() -> None:
    assert two_rivals_around_a_power_cut() == [True, False]


def test_counterexample_39_if_promises_are_forgotten_both_win(monkeypatch: Patch) -> None:
    prepare = PaxosSteps.prepare

    def forget(self: Any, step: PaxosPrepare, has_clustering: bool) -> Any:
        looked = PaxosPrepare(step.table, step.partition, NO_BALLOT, step.slices, step.ids)
        return prepare(self, looked, has_clustering)

    monkeypatch.setattr(PaxosSteps, "prepare", forget)
    assert two_rivals_around_a_power_cut() == [True, True]
