"""Coordinating writes: counting levels, stamping again, and telling what is unknown from what failed."""

from __future__ import annotations

from typing import Any

import pytest

from core.cell import VALUE
from core.commands import Applied, Apply, Done, Failed, SystemWrite, Why
from core.consistency import Level
from core.messages import ApplyMutation, MutationApplied, OperationFailed
from core.mutation import INSERT, Mutation, decode_mutation
from core.requests import (
    Broken,
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
from tests.node.stage import ME, START_US, B, C, Stage

MY_WRITER = 1 << 32 | 7


def request(level: Level = Level.QUORUM, **more: Any) -> WriteRequest:
    rows = (RowWrite(ROW_SUFFIX, (Write(0, (), VALUE, b""), Write(1, (), VALUE, b"hello"))),)
    return WriteRequest(1, b"key", rows, level, INSERT, **more)


def begin(stage: Stage, wanted: WriteRequest) -> list[tuple[bytes, Any]]:
    stage.writes.begin(wanted, stage.deadline_us, stage.answer)
    return stage.take(ApplyMutation)


def local_mutation(stage: Stage) -> Mutation:
    (command,) = [command for _, command in stage.submitted if isinstance(command, Apply)]
    return decode_mutation(command.mutation)


def test_quorum_is_acknowledged_by_the_second_of_three() -> None:
    stage = Stage()
    sent = begin(stage, request())
    assert [peer for peer, _ in sent] == [B, C]
    assert sent[0][1] is sent[1][1]  # one object, so one encoding
    stage.message(C, MutationApplied(sent[0][1].op, None))
    assert stage.answers == []
    stage.stored(Applied(None, fresh=True), "write")
    assert stage.answers == [Written((START_US, MY_WRITER))]
    stage.message(B, MutationApplied(sent[0][1].op, None))
    assert stage.inside.operations == {}
    assert stage.timers == {}
    assert stage.hints.owed == []


def test_an_answer_counts_once() -> None:
    stage = Stage()
    (_, message), _ = begin(stage, request())
    for _ in range(3):
        stage.message(B, MutationApplied(message.op, None))
    assert stage.answers == []


def test_too_few_alive_is_unavailable_at_once_and_nothing_is_written() -> None:
    stage = Stage()
    stage.swim.dead = [B, C]
    assert begin(stage, request()) == []
    assert stage.answers == [Unavailable(2, 1, Level.QUORUM)]
    assert stage.submitted == []


def test_a_dead_replica_is_owed_a_hint() -> None:
    stage = Stage()
    stage.swim.dead = [C]
    ((_, message),) = begin(stage, request())
    stage.message(B, MutationApplied(message.op, None))
    stage.stored(Applied(None, fresh=True), "write")
    assert [peer for peer, _ in stage.hints.owed] == [C]


def test_a_write_that_is_said_to_be_nowhere_is_owed_to_nobody() -> None:
    stage = Stage()
    stage.swim.dead = [C]
    ((_, message),) = begin(stage, request(Level.ONE))
    stage.message(B, OperationFailed(message.op, Why.DISK_FULL, "full"))
    stage.stored(Failed(Why.DISK_FULL, "full"), "write")
    (answer,) = stage.answers
    assert isinstance(answer, Broken)
    assert not answer.unknown
    assert stage.hints.owed == []


def test_what_was_taken_before_it_was_stamped_again_is_not_nowhere() -> None:
    stage = Stage()
    sent = begin(stage, request(Level.ONE))
    stage.message(B, MutationApplied(sent[0][1].op, (START_US + 500_000, 9)))
    again = stage.take(ApplyMutation)
    for peer, message in again:
        stage.message(peer, OperationFailed(message.op, Why.DISK_FULL, "full"))
    stage.stored(Applied(None, fresh=True), "write")  # of the first attempt: too late to count
    stage.stored(Failed(Why.DISK_FULL, "full"), "write")
    (answer,) = stage.answers
    assert isinstance(answer, Broken)
    assert answer.unknown
    assert [peer for peer, _ in stage.hints.owed] == [B, C]


def test_who_waits_longer_than_the_settings_is_answered_when_its_own_time_is_over() -> None:
    stage = Stage()
    stage.writes.begin(request(Level.ALL), stage.monotonic + 60_000_000, stage.answer)
    stage.stored(Applied(None, fresh=True), "write")
    stage.pass_time(59_000_000)
    assert stage.answers == []
    stage.pass_time(2_000_000)
    assert stage.answers == [Timeout(1, 3, Level.ALL, write=True)]


def test_a_timeout_says_how_many_answered_and_owes_hints() -> None:
    stage = Stage()
    begin(stage, request(Level.ALL))
    stage.stored(Applied(None, fresh=True), "write")
    stage.pass_time(3_000_000)
    assert stage.answers == [Timeout(1, 3, Level.ALL, write=True)]
    assert [peer for peer, _ in stage.hints.owed] == [B, C]
    assert stage.inside.operations == {}


def test_a_silent_replica_is_owed_a_hint_after_the_client_was_told() -> None:
    stage = Stage()
    sent = begin(stage, request(Level.ONE))
    stage.message(B, MutationApplied(sent[0][1].op, None))
    assert isinstance(stage.answers[0], Written)
    stage.stored(Applied(None, fresh=True), "write")
    stage.pass_time(3_000_000)
    assert [peer for peer, _ in stage.hints.owed] == [C]
    assert len(stage.answers) == 1


def test_counterexample_2_a_write_that_meets_a_newer_version_is_stamped_again_above_it() -> None:
    stage = Stage()
    sent = begin(stage, request())
    newer = (START_US + 500_000, 9)
    stage.message(B, MutationApplied(sent[0][1].op, newer))
    stage.message(C, MutationApplied(sent[0][1].op, None))
    again = stage.take(ApplyMutation)
    assert [peer for peer, _ in again] == [B, C]
    assert stage.answers == []
    mutation = decode_mutation(again[0][1].mutation)
    assert mutation.attempt == 1
    assert mutation.id[:2] == decode_mutation(sent[0][1].mutation).id[:2]
    assert all(cell.version > newer for _, row in mutation.rows for cell in row.cells)
    for peer, _ in again:
        stage.message(peer, MutationApplied(again[0][1].op, (START_US + 10**6, 9)))  # once, not for ever
    assert stage.answers == [Written(mutation.rows[0][1].cells[0].version)]


def test_the_new_stamp_lies_above_the_newest_that_a_quorum_met() -> None:
    """The replica that answers first may have met an older version than the last one acknowledged."""
    stage = Stage()
    sent = begin(stage, request())
    lagging, acknowledged = (START_US + 100, 8), (START_US + 500_000, 9)
    stage.message(B, MutationApplied(sent[0][1].op, lagging))
    assert stage.take(ApplyMutation) == []
    stage.message(C, MutationApplied(sent[0][1].op, acknowledged))
    again = stage.take(ApplyMutation)
    mutation = decode_mutation(again[0][1].mutation)
    assert all(cell.version > acknowledged for _, row in mutation.rows for cell in row.cells)


def test_a_client_timestamp_is_not_stamped_again() -> None:
    stage = Stage()
    sent = begin(stage, request(timestamp_us=5))
    stage.message(B, MutationApplied(sent[0][1].op, (6, 0)))
    stage.message(C, MutationApplied(sent[0][1].op, (6, 0)))
    assert stage.answers == [Written((5, 0))]
    assert stage.take(ApplyMutation) == []


def test_what_is_relative_to_the_stamp_stays_so_when_stamped_again() -> None:
    stage = Stage()
    rows = (RowWrite(ROW_SUFFIX, (Write(1, (), VALUE, b"x"),), replace=True),)
    sent = begin(stage, WriteRequest(1, b"key", rows, Level.QUORUM, INSERT))
    stage.message(B, MutationApplied(sent[0][1].op, (START_US + 5, 1)))
    stage.message(C, MutationApplied(sent[0][1].op, None))
    mutation = decode_mutation(stage.take(ApplyMutation)[0][1].mutation)
    ((_, row),) = mutation.rows
    assert row.deletion is not None
    assert row.deletion.timestamp_us == row.cells[0].timestamp_us - 1 > START_US + 5


def test_no_stamp_above_the_durable_ceiling() -> None:
    stage = Stage()
    stage.wall = stage.clock.ceiling_us + 1
    assert begin(stage, request()) == []
    ((ticket, command),) = stage.submitted
    assert isinstance(command, SystemWrite)
    assert ticket[0] == "ceiling"
    stage.stored(Done(), "ceiling")
    assert len(stage.take(ApplyMutation)) == 2
    assert local_mutation(stage).rows[0][1].cells[0].timestamp_us == stage.wall


def test_a_replica_that_is_back_gets_the_write_again_and_what_it_then_refuses_may_be_there() -> None:
    stage = Stage()
    sent = begin(stage, request(Level.ONE))
    for listener in stage.inside.peer_listeners:
        listener(B, True)
    assert stage.take(ApplyMutation) == [sent[0]]
    for peer in (B, C):
        stage.message(peer, OperationFailed(sent[0][1].op, "overloaded", "busy"))
    stage.stored(Failed(Why.STALLED, "busy"), "write")
    (answer,) = stage.answers
    assert isinstance(answer, Broken)
    assert answer.unknown


def test_if_the_ceiling_cannot_be_raised_the_writes_that_wait_are_told() -> None:
    stage = Stage()
    stage.wall = stage.clock.ceiling_us + 1
    begin(stage, request())
    begin(stage, request())
    stage.stored(Failed(Why.DISK_FULL, "no space"), "ceiling")
    assert len(stage.answers) == 2
    for answer in stage.answers:
        assert isinstance(answer, Overloaded)
        assert "no space" in answer.detail
    assert stage.hints.owed == []
    begin(stage, request())  # tried again
    stage.stored(Done(), "ceiling")
    assert len(stage.take(ApplyMutation)) == 2


def test_if_the_ceiling_cannot_be_raised_to_stamp_again_the_outcome_is_unknown() -> None:
    stage = Stage()
    sent = begin(stage, request())
    ahead = (stage.clock.ceiling_us + 5, 9)
    for peer in (B, C):
        stage.message(peer, MutationApplied(sent[0][1].op, ahead))
    assert stage.answers == []
    stage.stored(Failed(Why.DISK_FULL, "no space"), "ceiling")
    (answer,) = stage.answers
    assert isinstance(answer, Broken)
    assert answer.unknown
    assert stage.inside.operations == {}
    assert stage.timers == {}


def test_a_timeout_while_it_waits_to_be_stamped_again() -> None:
    stage = Stage()
    sent = begin(stage, request())
    for peer in (B, C):
        stage.message(peer, MutationApplied(sent[0][1].op, (stage.clock.ceiling_us + 5, 9)))
    stage.pass_time(3_000_000)
    assert stage.answers == [Timeout(1, 2, Level.QUORUM, write=True)]
    stage.stored(Done(), "ceiling")
    assert stage.take(ApplyMutation) == []
    assert len(stage.answers) == 1


@pytest.mark.parametrize("why", [Why.DISK_FULL, Why.STALLED, "overloaded"])
def test_definite_refusals_by_all_are_a_failure_that_left_nothing(why: str) -> None:
    stage = Stage()
    sent = begin(stage, request())
    op = sent[0][1].op
    stage.message(B, OperationFailed(op, why, "no"))
    assert stage.answers == []
    stage.message(C, OperationFailed(op, why, "no"))  # the local store may still take it: not definite
    stage.stored(Failed(Why.STALLED, "no"), "write")
    (answer,) = stage.answers
    assert isinstance(answer, Broken)
    assert answer.unknown  # it was answered before the last refusal came


def test_everybody_refuses_before_the_answer() -> None:
    stage = Stage()
    sent = begin(stage, request(Level.ONE))
    op = sent[0][1].op
    stage.message(B, OperationFailed(op, "overloaded", "busy"))
    stage.message(C, OperationFailed(op, "overloaded", "busy"))
    stage.stored(Failed(Why.STALLED, "busy"), "write")
    assert stage.answers == [Overloaded("busy")]


def test_a_failed_sync_is_unknown_never_failed() -> None:
    stage = Stage()
    sent = begin(stage, request(Level.ONE))
    op = sent[0][1].op
    stage.message(B, OperationFailed(op, Why.DISK_FULL, "full"))
    stage.message(C, OperationFailed(op, Why.UNKNOWN, "io"))
    stage.stored(Failed(Why.DISK_FULL, "full"), "write")
    (answer,) = stage.answers
    assert isinstance(answer, Broken)
    assert answer.unknown


def test_any_is_met_by_a_durable_hint_alone() -> None:
    stage = Stage()
    stage.swim.dead = [ME, B, C]
    begin(stage, request(Level.ANY))
    assert stage.answers == []
    stage.hints.done[0](True)
    assert isinstance(stage.answers[0], Written)


def test_a_full_connection_counts_as_a_refusal() -> None:
    stage = Stage()
    stage.unreachable = [B, C]
    begin(stage, request())
    (answer,) = stage.answers
    assert isinstance(answer, Broken)
    assert answer.unknown  # our own store has it


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (request(Level.SERIAL), "bad_level"),
        (request(timestamp_us=START_US + 61_000_000), "timestamp_ahead"),
        (request(timestamp_us=-(2**63)), "bad_timestamp"),
        (request(ttl_s=-1), "bad_ttl"),
        (WriteRequest(99, b"k", (), Level.ONE, INSERT), "no_such_table"),
        (WriteRequest(1, b"", (), Level.ONE, INSERT), "bad_key"),
        (WriteRequest(1, b"k" * 65_536, (), Level.ONE, INSERT), "bad_key"),
    ],
)
def test_bad_requests_are_refused_with_a_code(wanted: WriteRequest, code: str) -> None:
    stage = Stage()
    assert begin(stage, wanted) == []
    (answer,) = stage.answers
    assert isinstance(answer, Invalid)
    assert answer.code == code


def test_a_worthless_value_is_dead_from_its_admission_and_a_cell_may_have_a_ttl_of_its_own() -> None:
    stage = Stage()
    writes = (Write(1, (), VALUE, b"", worthless=True), Write(1, (b"e",), VALUE, b"", ttl_s=5))
    begin(stage, WriteRequest(1, b"key", (RowWrite(ROW_SUFFIX, writes),), Level.QUORUM, INSERT, ttl_s=9))
    ((_, row),) = local_mutation(stage).rows
    assert [cell.dead_from_us - START_US for cell in row.cells] == [0, 5_000_000]
    assert not row.cells[0].is_dead(START_US - 1)
    assert row.cells[0].is_dead(START_US)
