"""What waits for a replica's store: in order, bounded, and dropped when nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import node.replica
from core import limits
from core.bulk_messages import ApplyEach
from core.commands import Applied, Apply, Command, Digest, PaxosPrepare, Read, Rows, Slice, Why
from core.consistency import Level
from core.messages import (
    ApplyMutation,
    DigestRead,
    MutationApplied,
    OperationFailed,
    PaxosAsk,
    ReadSlice,
    SliceRead,
    Stale,
)
from core.mutation import UPDATE
from core.requests import RowWrite, Write, WriteRequest
from node.replica import Replica
from tests.node.stage import B, C, Stage
from tests.node.test_moving import joining

FLAT = 1


class Peer:
    """A replica on a stage whose store takes two commands at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(node.replica, "IN_STORE_MAX", 2)
        self.stage = Stage()
        self.replica = Replica(self.stage.inside, self.stage.metadata)
        self.epoch = self.stage.metadata.state.epoch

    def write(self, op: int, left_us: int = 0) -> None:
        self.stage.inside.message_handlers[ApplyMutation](
            B, ApplyMutation(op, self.epoch, FLAT, b"%d" % op, left_us)
        )

    @property
    def in_store(self) -> list[Any]:
        return [command for _, command in self.stage.submitted]

    def count(self, name: str) -> int:
        return sum(event.name == name for event in self.stage.events)


def test_the_store_gets_so_many_at_once_and_the_others_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(monkeypatch)
    for op in range(1, 6):
        peer.write(op)
    assert peer.in_store == [Apply(b"1"), Apply(b"2")]
    for _ in range(5):
        peer.stage.stored(Applied(None, True))
    assert [message.op for _, message in peer.stage.take(MutationApplied)] == [1, 2, 3, 4, 5]
    assert peer.in_store == []


def test_what_nobody_waits_for_any_more_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(monkeypatch)
    for op in (1, 2):
        peer.write(op, 1_000)
    for op, left_us in ((3, 1_000), (4, 0), (5, 60_000), (6, 1_000)):
        peer.write(op, left_us)
    peer.stage.pass_time(10_000)
    for _ in range(4):
        peer.stage.stored(Applied(None, True))
    told = [message.op for _, message in peer.stage.take(MutationApplied)]
    assert told == [1, 2, 4, 5], "what the store had is done; 3 and 6 came too late"
    assert peer.count("replica_dropped_late") == 2
    assert peer.replica._queued == peer.replica._in_store == 0


def test_reads_are_dropped_too_and_steps_of_conditions_never(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(monkeypatch)
    part = Slice(FLAT, b"R\x00", b"", b"", True, 1, 1_000)
    handlers = peer.stage.inside.message_handlers
    for op in range(1, 5):
        handlers[ReadSlice](C, ReadSlice(op, peer.epoch, part, True, 1_000))
    step = PaxosPrepare(FLAT, b"R\x00", (5, 1), ())
    handlers[PaxosAsk](C, PaxosAsk(5, peer.epoch, step))
    peer.stage.pass_time(2_000)
    peer.stage.stored(Digest(b"d" * 16))
    assert peer.in_store == [Read(part, True), step]
    peer.stage.stored(Digest(b"d" * 16))
    assert [message.op for _, message in peer.stage.take(DigestRead)] == [1, 2]
    assert peer.count("replica_dropped_late") == 2


def test_coordinators_say_how_long_they_wait() -> None:
    stage = Stage()
    write = WriteRequest(FLAT, b"k", (RowWrite(b"\x02", (Write(1, (), 0, b"v"),)),), Level.QUORUM, UPDATE)
    stage.writes.begin(write, stage.monotonic + 500_000, stage.answer)
    sent = stage.take(ApplyMutation)
    assert [message.left_us for _, message in sent] == [500_000] * 2


def a_write_in_the_queue_when_ranges_begin_to_move(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """What is said of it when the store has done it; a newcomer may have been told of our rows before."""
    peer = Peer(monkeypatch)
    peer.write(1)
    peer.stage.metadata.state = joining()
    assert peer.stage.metadata.state.moved_epoch > peer.epoch
    peer.stage.stored(Applied(None, True))
    return [type(message) for kind in (Stale, MutationApplied) for _, message in peer.stage.take(kind)]


def test_counterexample_28_what_was_planned_before_ranges_moved_does_not_count_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert a_write_in_the_queue_when_ranges_begin_to_move(monkeypatch) == [Stale]


def test_counterexample_28_if_it_counted_two_would_vouch_for_what_a_newcomer_was_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Replica, "_is_outdated", lambda *_: False)
    assert a_write_in_the_queue_when_ranges_begin_to_move(monkeypatch) == [MutationApplied]


def test_mutations_that_come_in_one_message_wait_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is given their range takes none of them before it keeps to its floors (node/parking.py)."""
    peer = Peer(monkeypatch)
    monkeypatch.setattr(node.replica, "IN_STORE_MAX", 10)
    held: list[tuple[Command, Callable[[], None]]] = []

    def gate(go: Callable[[], None], command: Command, left_us: int) -> bool:
        assert left_us == 7
        held.append((command, go))
        return True

    peer.stage.inside.gate = gate
    both = ApplyEach(peer.epoch, FLAT, ((1, b"1"), (2, b"2")), 7)
    peer.stage.inside.message_handlers[ApplyEach](B, both)
    assert peer.in_store == [] and [command for command, _ in held] == [Apply(b"1"), Apply(b"2")]
    for _, go in held:
        go()
    assert peer.in_store == [Apply(b"1"), Apply(b"2")]


def test_a_row_that_no_message_takes_is_refused_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(monkeypatch)
    part = Slice(FLAT, b"row", b"", b"", True, 1, limits.MIB)
    for size in (limits.FRAME_BYTES_MAX - 2 * limits.MIB, limits.FRAME_BYTES_MAX):
        message = ReadSlice(size, peer.epoch, part, False)
        peer.stage.inside.message_handlers[ReadSlice](B, message)
        peer.stage.stored(Rows(((b"row", bytes(size)),), None, False))
    ((_, told),) = peer.stage.take(SliceRead)
    assert told.op == limits.FRAME_BYTES_MAX - 2 * limits.MIB
    ((_, failed),) = peer.stage.take(OperationFailed)
    assert failed.why == Why.TOO_LARGE and str(limits.FRAME_BYTES_MAX + 3) in failed.detail
