"""Coordinating and leading increments: who is asked, when again, and what a client is told."""

from __future__ import annotations

from copy import copy
from typing import Any

from core.commands import CounterAdd, CounterAdded, Failed, Why
from core.consistency import Level
from core.counter import decode_count
from core.messages import AddToCounters, ApplyMutation, CountersAdded, MutationApplied, OperationFailed
from core.mutation import decode_mutation, encode_mutation
from core.requests import (
    Broken,
    CounterRequest,
    Invalid,
    Overloaded,
    Timeout,
    Unavailable,
    Written,
)
from lsm.keys import ROW_SUFFIX
from node.counters import Counters, increments_of
from node.writes import DEFINITE
from ring.tokens import token_of
from tests.node.stage import ME, START_US, B, C, Stage

MY_WRITER = 1 << 32 | 7


def request(level: Level = Level.QUORUM, delta: int = 5) -> CounterRequest:
    return CounterRequest(1, b"key", ((ROW_SUFFIX, ((1, delta),)),), level)


class CounterStage(Stage):
    """A stage with counters, which we replicate."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata.stale_for = lambda table, epoch: None
        self.counters = Counters(self.inside, self.metadata, self.swim, self.writes, stamps=self.stamps)

    def begin(self, wanted: CounterRequest) -> None:
        self.counters.begin(wanted, self.deadline_us, self.answer)

    def added(self, message: AddToCounters, leader: bytes) -> CountersAdded:
        increments = increments_of(message, token_of(b"key"), leader, (START_US, 99))
        return CountersAdded(message.op, encode_mutation(increments))

    def increments(self) -> list[Any]:
        return [command for _, command in self.submitted if isinstance(command, CounterAdd)]


def test_a_replica_leads_itself_and_counts_as_one() -> None:
    stage = CounterStage()
    stage.begin(request())
    (command,) = stage.increments()
    mutation = decode_mutation(command.increments)
    (cell,) = mutation.rows[0][1].cells
    assert (cell.path, cell.writer, decode_count(cell.value or b"")) == ((ME,), MY_WRITER, 5)
    assert stage.take(ApplyMutation) == [], "nothing is sent before it is durable here"
    stage.stored(CounterAdded(command.increments), "counter")
    sent = stage.take(ApplyMutation)
    assert [peer for peer, _ in sent] == [B, C]
    assert stage.answers == []
    stage.message(B, MutationApplied(sent[0][1].op, None))
    assert isinstance(stage.answers[0], Written)
    stage.message(C, MutationApplied(sent[0][1].op, None))
    assert stage.inside.operations == {} == stage.timers


def test_at_one_the_leader_is_enough() -> None:
    stage = CounterStage()
    stage.begin(request(Level.ONE))
    stage.stored(CounterAdded(stage.increments()[0].increments), "counter")
    assert isinstance(stage.answers[0], Written)
    assert len(stage.take(ApplyMutation)) == 2


def test_a_dead_replica_is_owed_the_mutation_that_it_became() -> None:
    stage = CounterStage()
    stage.swim.dead = [C]
    stage.begin(request(Level.ONE))
    data = stage.increments()[0].increments
    stage.stored(CounterAdded(data), "counter")
    assert stage.hints.owed == [(C, data)]


def test_a_definite_refusal_leads_to_another_leader_under_another_id() -> None:
    stage = CounterStage()
    stage.begin(request())
    first = decode_mutation(stage.increments()[0].increments)
    stage.stored(Failed(Why.DISK_FULL, "full"), "counter")
    ((peer, message),) = stage.take(AddToCounters)
    assert message.id == (first.start, first.sequence, first.attempt + 1)
    stage.message(peer, OperationFailed(message.op, "overloaded", "busy"))
    ((last, message),) = stage.take(AddToCounters)
    assert {peer, last} == {B, C}
    stage.message(last, stage.added(message, last))
    assert [to for to, _ in stage.take(ApplyMutation)] == [peer]
    assert [ticket[0] for ticket, _ in stage.submitted] == ["write"]  # our own store applies it too


def test_all_refuse() -> None:
    for why, kind in ((Why.DISK_FULL, Broken), (Why.STALLED, Overloaded)):
        stage = CounterStage()
        stage.begin(request())
        stage.stored(Failed(why, "no"), "counter")
        for _ in range(2):
            ((peer, message),) = stage.take(AddToCounters)
            stage.message(peer, OperationFailed(message.op, why, "no"))
        (answer,) = stage.answers
        assert isinstance(answer, kind)
        assert not getattr(answer, "unknown", False)
        assert stage.inside.operations == {} == stage.timers


def test_what_may_have_been_counted_is_unknown_and_nobody_else_is_asked() -> None:
    stage = CounterStage()
    stage.begin(request())
    stage.stored(Failed(Why.UNKNOWN, "?"), "counter")
    (answer,) = stage.answers
    assert isinstance(answer, Broken) and answer.unknown and answer.write_type == "COUNTER"
    assert stage.take(AddToCounters) == []


def test_a_leader_asked_twice_that_refuses_may_have_counted() -> None:
    stage = CounterStage()
    stage.begin(request())
    stage.stored(Failed(Why.DISK_FULL, "full"), "counter")
    ((peer, message),) = stage.take(AddToCounters)
    stage.counters._on_peer(peer, True)
    assert stage.take(AddToCounters) == [(peer, message)]
    stage.message(peer, OperationFailed(message.op, Why.DISK_FULL, "full"))
    (answer,) = stage.answers
    assert isinstance(answer, Broken) and answer.unknown


def test_a_silent_leader_is_a_timeout_of_a_counter() -> None:
    stage = CounterStage()
    stage.begin(request())
    stage.pass_time(60_000_000)
    assert stage.answers == [Timeout(0, 2, Level.QUORUM, write=True, write_type="COUNTER")]


def test_too_few_alive_is_unavailable_and_nothing_is_counted() -> None:
    stage = CounterStage()
    stage.swim.dead = [B, C]
    stage.begin(request())
    assert stage.answers == [Unavailable(2, 1, Level.QUORUM)]
    assert stage.submitted == []


def test_what_is_no_increment_is_invalid() -> None:
    stage = CounterStage()
    for wanted in (
        request(Level.ANY),
        request(delta=2**63),
        CounterRequest(1, b"key", (), Level.ONE),
        CounterRequest(77, b"key", request().rows, Level.ONE),
    ):
        stage.begin(wanted)
    assert [answer.code for answer in stage.answers if isinstance(answer, Invalid)] == [
        "bad_level",
        "bad_increment",
        "too_large",
        "no_such_table",
    ]


def test_a_leader_that_refused_a_message_does_not_take_its_double() -> None:
    stage = CounterStage()
    message = AddToCounters(5, stage.metadata.state.epoch, 1, b"key", (9, 1, 1), request().rows)
    stage.inside.message_handlers[AddToCounters](B, message)
    stage.stored(Failed(Why.DISK_FULL, "full"), "counter")
    stage.inside.message_handlers[AddToCounters](B, message)
    assert stage.increments() == []
    assert [answer.op for _, answer in stage.take(OperationFailed)] == [5, 5]


def test_an_increment_that_was_added_when_rows_had_begun_to_move_is_not_acknowledged() -> None:
    """Its coordinator does not know who takes a range over and has merged this replica by then."""
    stage = CounterStage()
    before = stage.metadata.state
    for message in (AddToCounters(op, before.epoch, 1, b"key", (9, op, 1), request().rows) for op in (5, 6)):
        stage.inside.message_handlers[AddToCounters](B, message)
    first, second = stage.increments()
    stage.stored(CounterAdded(first.increments), "counter")
    assert [answer.op for _, answer in stage.take(CountersAdded)] == [5]
    stage.metadata.state = copy(before)
    stage.metadata.state.epoch = stage.metadata.state.moved_epoch = before.epoch + 1
    stage.stored(CounterAdded(second.increments), "counter")
    ((peer, failed),) = stage.take(OperationFailed)
    assert (peer, failed.op) == (B, 6) and failed.why not in DEFINITE
    assert stage.take(CountersAdded) == []
