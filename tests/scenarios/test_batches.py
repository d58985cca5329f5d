"""Logged batches as stories: who dies when, and what becomes of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.cell import VALUE, Cell
from core.consistency import Level
from core.healing import FloorStep, RaiseFloor
from core.messages import ApplyMutation, BatchDone, BatchStore, BatchStored, Message
from core.metadata import DropTable
from core.mutation import UPDATE, Mutation, encode_mutation
from core.requests import (
    Answer,
    BatchRequest,
    Broken,
    Changed,
    CounterRequest,
    Invalid,
    MetadataRequest,
    Timeout,
    Unavailable,
    WriteRequest,
    Written,
)
from core.row import Row
from jepsen_like.door import CONTENT_TYPE
from jepsen_like.scenarios import Scenario
from kv import operations
from lsm import keys
from node.batch_log import BatchWrite
from node.writes import WriteOperation
from ring.tokens import token_of
from sim.clock import EPOCH_US
from tests.scenarios.telling import HOUR_US, QUIET, WRITE_FAST, executor, held

KEYS = [f"k{number}" for number in range(4)]
REPLAY: dict[str, Any] = WRITE_FAST | {"batch_replay_us": 1_000_000}
ALONE: dict[str, Any] = REPLAY | QUIET | {"hints": False}
"""Nothing but the batch log brings a batch to its replicas."""


def started(settings: dict[str, Any], peers: int = 3, **options: Any) -> Scenario:
    s = Scenario(peers=peers, settings=settings, **options)
    s.start()
    s.bucket("b")
    return s


def puts(s: Scenario, value: bytes, keys: list[str] | None = None, **more: Any) -> BatchRequest:
    writes = []
    for key in keys or KEYS:
        write = operations.put(s.buckets["b"], key, value, CONTENT_TYPE, Level.ONE)
        assert isinstance(write, WriteRequest)
        writes.append(write)
    return BatchRequest(tuple(writes), more.pop("level", Level.QUORUM), **more)


def applied_to(*peers: int) -> Callable[[int, int, Message], bool]:
    """Loses mutations on their way to these."""
    return lambda source, target, message: target in peers and isinstance(message, ApplyMutation)


def kept(s: Scenario) -> list[int]:
    """What each peer tells an operator."""
    return [s.node(peer).admin.hints()["batches"] for peer in s.cluster.running()]


def whole(s: Scenario, value: bytes) -> bool:
    """Whether every replica holds all rows of a batch."""
    return all(held(s, peer, "b") == dict.fromkeys(KEYS, value) for peer in s.cluster.running())


def test_a_batch_is_kept_by_two_others_until_it_is_applied_and_then_forgotten() -> None:
    s = started(ALONE)
    stores: list[int] = []

    def look(source: int, target: int, message: Message) -> bool:
        if isinstance(message, BatchStore):
            stores.append(target)
        return False

    s.lose(look)
    assert isinstance(s.ask(puts(s, b"v"), at=0).answer, Written)
    assert sorted(stores) == [1, 2]
    assert s.until(lambda: kept(s) == [0, 0, 0] and whole(s, b"v"))


def test_a_batch_whose_coordinator_dies_before_it_sends_anything_is_applied_by_a_holder() -> None:
    s = started(ALONE)
    s.lose(applied_to(0, 1, 2))
    s.door.put_all(0, s.buckets["b"], [(key, b"v") for key in KEYS], Level.QUORUM, lambda end: None)
    assert s.until(lambda: kept(s)[1:] == [1, 1])
    s.kill(0)
    s.heal()
    assert s.until(lambda: kept(s) == [0, 0])
    assert whole(s, b"v")


def test_holders_that_lose_their_power_replay_after_they_start_again() -> None:
    s = started(ALONE)
    s.lose(applied_to(0, 1, 2))
    answer = s.ask(puts(s, b"v"), at=0).answer
    assert isinstance(answer, Timeout)
    assert answer.write_type == "BATCH"
    s.power_cut(0, 1, 2)
    s.heal()
    s.start()
    assert s.until(lambda: whole(s, b"v"))
    assert s.until(lambda: kept(s) == [0, 0, 0])


def test_a_replay_waits_for_a_quorum_however_long_that_takes() -> None:
    s = started(ALONE)
    s.lose(applied_to(0, 1, 2))
    assert isinstance(s.ask(puts(s, b"v"), at=0).answer, Timeout)
    s.run(20)
    assert kept(s) == [0, 1, 1]
    s.heal()
    assert s.until(lambda: kept(s) == [0, 0, 0] and whole(s, b"v"))


def test_a_batch_of_a_table_that_was_dropped_is_forgotten() -> None:
    s = started(REPLAY)
    s.lose(applied_to(0, 1, 2))
    assert isinstance(s.ask(puts(s, b"v"), at=0).answer, Timeout)
    assert isinstance(s.ask(MetadataRequest(DropTable("kv", "b"))).answer, Changed)
    assert s.until(lambda: kept(s) == [0, 0, 0])


def test_without_two_holders_nothing_is_tried() -> None:
    s = started(WRITE_FAST)
    s.kill(1, 2)
    assert s.until(lambda: s.sees_dead(0, 1, 2))
    assert isinstance(s.ask(puts(s, b"v", level=Level.ONE), at=0).answer, Unavailable)
    assert held(s, 0, "b") == {}


def test_one_other_peer_and_oneself_are_two_holders() -> None:
    s = started(WRITE_FAST)
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2))
    assert isinstance(s.ask(puts(s, b"v"), at=0).answer, Written)
    assert s.until(lambda: kept(s) == [0, 0])
    assert s.until(lambda: whole(s, b"v"))


def test_a_cluster_of_one_keeps_its_batches_itself() -> None:
    s = started(WRITE_FAST, peers=1, voters=1, replication=1)
    assert isinstance(s.ask(puts(s, b"v")).answer, Written)
    assert kept(s) == [0] or s.until(lambda: kept(s) == [0])
    assert whole(s, b"v")


def test_a_holder_that_does_not_answer_is_replaced() -> None:
    s = started({}, peers=4)
    s.lose(lambda source, target, message: isinstance(message, BatchStored) and source == 1)
    for _ in range(4):
        assert isinstance(s.ask(puts(s, b"v"), at=0).answer, Written)


def test_what_is_not_known_to_be_in_the_log_is_unknown_altogether() -> None:
    s = started(REPLAY)
    s.lose(lambda source, target, message: isinstance(message, BatchStored))
    answer = s.ask(puts(s, b"v"), at=0).answer
    assert isinstance(answer, Timeout)
    assert answer.write_type == "BATCH_LOG"
    s.heal()
    assert s.until(lambda: whole(s, b"v"))  # as it happens, for the holders have it


def test_a_full_batch_log_refuses() -> None:
    s = started(WRITE_FAST | {"batch_log_bytes_max": 10})
    answer = s.ask(puts(s, b"v"), at=0).answer
    assert isinstance(answer, Timeout)
    assert answer.write_type == "BATCH_LOG"
    assert kept(s) == [0, 0, 0]
    s.run(5)
    assert held(s, 1, "b") == {}


def test_at_any_a_batch_in_the_log_is_enough() -> None:
    s = started(ALONE)
    s.lose(applied_to(0, 1, 2))
    assert isinstance(s.ask(puts(s, b"v", level=Level.ANY), at=0).answer, Written)
    s.heal()
    assert s.until(lambda: whole(s, b"v"))


def test_a_lost_done_costs_a_replay_and_changes_nothing() -> None:
    s = started(ALONE)
    s.lose(lambda source, target, message: isinstance(message, BatchDone))
    assert isinstance(s.ask(puts(s, b"v"), at=0).answer, Written)
    s.heal()
    assert isinstance(s.ask(puts(s, b"w"), at=1).answer, Written)
    s.run(6)
    assert kept(s) == [0, 0, 0]
    assert whole(s, b"w")


# --- stamped again, as a whole


def rivals_with_clocks_apart() -> set[bytes | None]:
    """The values of a group for which two batches contend, of which the later one's clock is behind."""
    s = started(WRITE_FAST | {"batch_replay_us": HOUR_US})
    s.set_clock(0, 5)
    rows = KEYS[:2]
    s.lose(lambda source, target, message: 0 in (source, target) and _writes(message, b"k1"))
    s.door.put_all(0, s.buckets["b"], [(key, b"ahead") for key in rows], Level.QUORUM, lambda end: None)
    assert s.until(lambda: all("k0" in held(s, peer, "b") for peer in range(3)))
    assert isinstance(s.ask(puts(s, b"behind", rows), at=1).answer, Written)
    s.heal()
    assert s.until(lambda: held(s, 0, "b") == held(s, 1, "b") == held(s, 2, "b"))
    return set(held(s, 2, "b").values())


def _writes(message: Message, key: bytes) -> bool:
    return isinstance(message, ApplyMutation) and key in message.mutation


def test_a_batch_that_meets_a_newer_version_in_one_partition_goes_above_it_in_all() -> None:
    assert rivals_with_clocks_apart() == {b"behind"}


def test_stamped_again_one_by_one_two_batches_end_as_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BatchWrite, "_stamp_again", WriteOperation._stamp_again)
    assert rivals_with_clocks_apart() == {b"behind", b"ahead"}


# --- without the log, and what cannot be done


def test_an_unlogged_batch_is_written_and_kept_by_nobody() -> None:
    s = started({})
    s.lose(lambda source, target, message: isinstance(message, BatchStore))
    assert isinstance(s.ask(puts(s, b"v", logged=False)).answer, Written)
    assert s.until(lambda: whole(s, b"v"))


def test_a_batch_of_one_partition_needs_no_log() -> None:
    s = started({})
    s.lose(lambda source, target, message: isinstance(message, BatchStore))
    assert isinstance(s.ask(puts(s, b"v", ["k", "k"])).answer, Written)


def test_an_unlogged_batch_that_is_late_says_so() -> None:
    s = started(WRITE_FAST)
    s.lose(applied_to(1, 2))
    answer = s.ask(puts(s, b"v", logged=False), at=0).answer
    assert isinstance(answer, Timeout)
    assert answer.write_type == "UNLOGGED_BATCH"


@pytest.mark.parametrize("logged", [True, False])
def test_an_empty_batch_succeeds(logged: bool) -> None:
    assert isinstance(started({}).ask(BatchRequest((), Level.QUORUM, logged)).answer, Written)


def test_what_cannot_be_done_is_refused_before_anything_is_written() -> None:
    s = started({})
    good = puts(s, b"v").writes
    unknown = WriteRequest(9_999, b"k", (), Level.ONE, 0)
    counted = CounterRequest(s.buckets["b"].table, b"k", ((b"\x02", ((1, 1),)),), Level.ONE)
    answers: list[Answer | None] = [
        s.ask(BatchRequest((*good, unknown), Level.QUORUM)).answer,
        s.ask(BatchRequest((*good, counted), Level.QUORUM)).answer,
        s.ask(BatchRequest(good, Level.SERIAL)).answer,
    ]
    codes = [answer.code for answer in answers if isinstance(answer, Invalid)]
    assert codes == ["no_such_table", "bad_batch", "bad_level"]
    assert not any(held(s, peer, "b") for peer in range(3))


def test_a_full_disk_behind_the_log_is_broken_and_yet_certain_to_come() -> None:
    s = started(ALONE)
    s.lose(lambda source, target, message: isinstance(message, ApplyMutation) and _fill(s))
    answer = s.ask(puts(s, b"v"), at=0).answer
    assert isinstance(answer, Broken | Timeout)
    assert answer.write_type == "BATCH"
    for machine in s.cluster.machines:
        machine.engine.disk_full = False
    s.heal()
    assert s.until(lambda: whole(s, b"v"))


def _fill(s: Scenario) -> bool:
    """All disks are full from now on; no message is lost."""
    for machine in s.cluster.machines:
        machine.engine.disk_full = True
    return False


@pytest.mark.parametrize("attempt", [0, 1])
def test_a_batch_from_below_the_floor_is_not_replayed_for_ever(attempt: int) -> None:
    """Its holder was away for longer than floors wait for it, and would keep all floors where they are."""
    s = started(REPLAY | {"purge_interval_us": 0})
    table = s.buckets["b"].table
    pairs = []
    for sequence, key in enumerate((b"k1", b"k2"), 1):
        row = Row(None, (Cell(1, (), VALUE, EPOCH_US, 9, 0, b"v"),))
        rows = ((keys.ROW_SUFFIX, row),)
        at = (9, sequence, attempt, EPOCH_US, True, UPDATE, table, token_of(key), key)
        pairs.append((table, encode_mutation(Mutation(*at, None, rows))))
    message = BatchStore(1, (9, 1), attempt, 0, (s.cluster.machines[2].peer,), tuple(pairs))
    told: list[str] = []
    s.node(2).batch_log.store(message, told.append)
    for peer in range(3):
        for step in FloorStep:
            part = ((table, ((keys.TOKEN_MIN, keys.TOKEN_MAX),)),)
            executor(s, peer).store.execute(RaiseFloor(step, EPOCH_US + 1, part))
    assert s.until(lambda: told == [""]) and s.node(2).batch_log.count == 1
    assert s.until(lambda: s.node(2).batch_log.count == 0)
    assert [held(s, peer, "b") for peer in range(3)] == [{}] * 3
