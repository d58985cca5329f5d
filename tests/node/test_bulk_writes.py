"""Many writes at once: the straight way of a bulk, and how each goes on by itself when there is trouble."""

from __future__ import annotations

from typing import Any

from core.bulk_messages import ApplyMutations, MutationsTold, MutationTold
from core.cell import VALUE
from core.commands import Applied, AppliedMany, Apply, ApplyMany, Failed, Why
from core.consistency import Level
from core.messages import ApplyMutation, MutationApplied, OperationFailed
from core.mutation import INSERT, decode_mutation
from core.requests import (
    BulkAnswered,
    BulkRequest,
    Invalid,
    Overloaded,
    RowWrite,
    Timeout,
    Unavailable,
    Write,
    WriteRequest,
    Written,
)
from lsm.keys import ROW_SUFFIX
from node.bulk_writes import AGAIN_US, BEHIND_MAX, BulkWrites
from tests.node.stage import B, C, Stage

FLAT = 1
COUNT = 5
FINE = AppliedMany((Applied(None, True),) * COUNT)


class NoUniques:
    def concern(self, request: Any) -> bool:
        return False


class Peer:
    """A coordinator on a stage that begins one bulk."""

    def __init__(self, level: Level = Level.QUORUM, timeout_us: int = 30_000_000) -> None:
        self.stage = Stage()
        self.bulk = BulkWrites(self.stage.writes, NoUniques())  # type: ignore[arg-type]
        row = RowWrite(ROW_SUFFIX, (Write(0, (), VALUE, b""), Write(1, (), VALUE, b"hello")))
        writes = tuple(
            WriteRequest(FLAT, b"key%d" % n, (row,), Level.ONE, INSERT) for n in range(COUNT)
        )
        self.request = BulkRequest(FLAT, writes, level)
        self.timeout_us = timeout_us

    def begin(self) -> list[tuple[bytes, Any]]:
        self.bulk.begin(self.request, self.stage.monotonic + self.timeout_us, self.stage.answer)
        return self.stage.take(ApplyMutations)

    def stored(self, outcome: Any) -> None:
        self.stage.stored(outcome, "bulk_write")

    @property
    def answers(self) -> list[Any]:
        (told,) = self.stage.answers
        assert isinstance(told, BulkAnswered)
        return list(told.answers)

    def is_done(self) -> bool:
        return not self.stage.inside.operations and not self.stage.timers


def test_one_message_to_each_replica_and_one_answer_from_each() -> None:
    peer = Peer()
    sent = peer.begin()
    assert [to for to, _ in sent] == [B, C]
    assert sent[0][1] is sent[1][1]
    mutations = [decode_mutation(data) for data in sent[0][1].mutations]
    assert [mutation.partition for mutation in mutations] == [b"key%d" % n for n in range(COUNT)]
    assert len({mutation.id for mutation in mutations}) == COUNT
    assert peer.stage.submitted[0][1] == ApplyMany(sent[0][1].mutations)
    peer.stored(FINE)
    assert peer.stage.answers == []
    peer.stage.message(C, MutationApplied(sent[0][1].op, None))
    assert all(isinstance(answer, Written) for answer in peer.answers)
    assert not peer.is_done(), "the third replica is still waited for"
    peer.stage.message(B, MutationApplied(sent[0][1].op, None))
    assert peer.is_done()
    assert peer.stage.hints.owed == []


def test_what_one_replica_refuses_is_owed_to_it_and_the_others_are_not() -> None:
    peer = Peer()
    ((_, message), _) = peer.begin()
    told = [MutationTold(None)] * COUNT
    told[2] = MutationTold(None, Why.DISK_FULL, "full")
    peer.stage.message(B, MutationsTold(message.op, tuple(told)))
    peer.stored(FINE)
    assert peer.stage.answers == [], "one of them lacks a quorum"
    peer.stage.message(C, MutationApplied(message.op, None))
    assert all(isinstance(answer, Written) for answer in peer.answers)
    assert peer.stage.hints.owed == [(B, message.mutations[2])]
    peer.stage.pass_time(60_000_000)
    assert peer.is_done()


def test_who_met_something_newer_has_that_write_alone_stamped_again() -> None:
    peer = Peer()
    ((_, message), _) = peer.begin()
    stamp_us = decode_mutation(message.mutations[0]).admitted_us
    newer = (stamp_us + 500, 9)
    told = [MutationTold(None)] * COUNT
    told[1] = MutationTold(newer)
    peer.stage.message(B, MutationsTold(message.op, tuple(told)))
    peer.stored(FINE)
    again = peer.stage.take(ApplyMutation)
    assert [to for to, _ in again] == [B, C]
    mutation = decode_mutation(again[0][1].mutation)
    assert (mutation.partition, mutation.attempt) == (b"key1", 1)
    assert mutation.rows[0][1].cells[0].version > newer
    peer.stage.message(B, MutationApplied(again[0][1].op, None))
    peer.stage.message(C, MutationApplied(again[0][1].op, None))
    versions = [answer.version for answer in peer.answers]
    assert versions[1] > newer > versions[0]


def test_what_is_answered_late_to_the_first_attempt_does_not_count_for_the_second() -> None:
    peer = Peer()
    ((_, message), _) = peer.begin()
    stamp_us = decode_mutation(message.mutations[0]).admitted_us
    told = [MutationTold(None)] * COUNT
    told[1] = MutationTold((stamp_us + 500, 9))
    peer.stored(FINE)
    peer.stage.message(B, MutationsTold(message.op, tuple(told)))
    again = peer.stage.take(ApplyMutation)
    assert len(again) == 2
    peer.stage.message(C, MutationApplied(message.op, None))
    peer.stage.message(B, MutationApplied(again[0][1].op, None))
    assert peer.stage.answers == [], "only one replica has the second attempt"
    peer.stage.stored(Applied(None, True), "write")
    assert all(isinstance(answer, Written) for answer in peer.answers)


def test_a_replica_without_time_is_asked_again_until_it_has_some() -> None:
    peer = Peer(Level.ALL)
    ((_, message), _) = peer.begin()
    peer.stored(FINE)
    peer.stage.message(C, MutationApplied(message.op, None))
    peer.stage.message(B, OperationFailed(message.op, "overloaded", "busy"))
    for _ in range(3):
        peer.stage.pass_time(AGAIN_US)
        again = peer.stage.take(ApplyMutation)
        assert [(to, each.mutation) for to, each in again] == [(B, data) for data in message.mutations]
        assert peer.stage.answers == []
        for _, each in again:
            peer.stage.message(B, OperationFailed(each.op, "overloaded", "busy"))
    peer.stage.pass_time(AGAIN_US)
    for _, each in peer.stage.take(ApplyMutation):
        peer.stage.message(B, MutationApplied(each.op, None))
    assert all(isinstance(answer, Written) for answer in peer.answers)


def test_its_own_store_without_time_is_asked_again_too() -> None:
    peer = Peer(Level.ALL)
    ((_, message), _) = peer.begin()
    for other in (B, C):
        peer.stage.message(other, MutationApplied(message.op, None))
    peer.stored(Failed(Why.STALLED, "busy"))
    assert peer.stage.answers == []
    peer.stage.pass_time(AGAIN_US)
    assert [command for _, command in peer.stage.submitted] == [Apply(data) for data in message.mutations]
    for _ in range(COUNT):
        peer.stage.stored(Applied(None, True), "write")
    assert all(isinstance(answer, Written) for answer in peer.answers)
    peer.stage.pass_time(60_000_000)
    assert peer.is_done()


def test_slow_replicas_are_waited_for_far_beyond_the_write_timeout() -> None:
    peer = Peer(timeout_us=30_000_000)
    ((_, message), _) = peer.begin()
    assert message.left_us == 30_000_000, "so that the replica does not drop it either"
    peer.stage.pass_time(20_000_000)
    assert peer.stage.answers == []
    peer.stored(FINE)
    peer.stage.message(B, MutationApplied(message.op, None))
    assert all(isinstance(answer, Written) for answer in peer.answers)
    peer.stage.pass_time(3_000_000)
    assert peer.stage.hints.owed == [(C, data) for data in message.mutations], "as after any write"
    peer.stage.pass_time(30_000_000)
    assert peer.is_done()


def test_at_the_deadline_it_is_unknown() -> None:
    peer = Peer(timeout_us=3_000_000)
    peer.begin()
    peer.stored(FINE)
    peer.stage.pass_time(3_100_000)
    assert [type(answer) for answer in peer.answers] == [Timeout] * COUNT
    assert peer.is_done()


def test_a_load_is_held_up_while_the_inverted_index_is_far_behind() -> None:
    peer = Peer()
    lag = [BEHIND_MAX + 1]
    peer.bulk.behind = lambda table: lag[0] if table == FLAT else 0
    assert peer.begin() == []
    (told,) = peer.stage.answers
    assert isinstance(told, Overloaded) and str(BEHIND_MAX + 1) in told.detail
    lag[0] = BEHIND_MAX
    assert len(peer.begin()) == 2


def test_a_connection_that_is_back_is_sent_each_again() -> None:
    peer = Peer()
    ((_, message), _) = peer.begin()
    peer.stored(FINE)
    for listener in peer.stage.inside.peer_listeners:
        listener(B, True)
    again = peer.stage.take(ApplyMutation)
    assert [(to, each.mutation) for to, each in again] == [(B, data) for data in message.mutations]
    peer.stage.message(B, MutationApplied(again[0][1].op, None))
    peer.stage.message(C, MutationApplied(message.op, None))  # to the message before
    assert all(isinstance(answer, Written) for answer in peer.answers)


def test_with_a_dead_replica_each_takes_the_single_way_and_owes_a_hint() -> None:
    peer = Peer()
    peer.stage.swim.dead.append(C)
    assert peer.begin() == []
    sent = peer.stage.take(ApplyMutation)
    assert [to for to, _ in sent] == [B] * COUNT
    for _, message in sent:
        peer.stage.message(B, MutationApplied(message.op, None))
        peer.stage.stored(Applied(None, True), "write")
    assert all(isinstance(answer, Written) for answer in peer.answers)
    assert peer.stage.hints.owed == [(C, message.mutation) for _, message in sent]
    assert peer.is_done()


def test_too_few_are_alive_and_what_is_wrong_is_told_at_once_of_each() -> None:
    peer = Peer(Level.ALL)
    peer.stage.swim.dead.append(C)
    peer.begin()
    assert [type(answer) for answer in peer.answers] == [Unavailable] * COUNT
    peer = Peer()
    bad = WriteRequest(FLAT, b"", (), Level.ONE, INSERT)
    peer.request = BulkRequest(FLAT, (bad, *peer.request.writes[:1]), Level.QUORUM)
    ((_, message), _) = peer.begin()
    assert len(message.mutations) == 1
    peer.stored(AppliedMany((Applied(None, True),)))
    peer.stage.message(B, MutationApplied(message.op, None))
    assert [type(answer) for answer in peer.answers] == [Invalid, Written]
