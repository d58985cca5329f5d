"""Counterexamples 18 to 22: what subscribers get where replicas differ, lag, die and forget."""

from __future__ import annotations

from typing import Any

import pytest

from core.cell import VALUE
from core.consistency import Level
from core.messages import ApplyMutation
from core.mutation import UPDATE
from core.ports import PeerId
from core.requests import RowWrite, Write, WriteRequest, Written
from core.streaming import START
from core.trimming import LogTrim
from jepsen_like.scenarios import SECOND, Scenario
from jepsen_like.subscriber import Subscriber
from kv.buckets import Bucket
from lsm.keys import ROW_SUFFIX
from lsm.log import SUPERSEDED, ChangeLog
from node import subscriptions
from node.following import Following
from node.scans import joined_ranges
from node.subscriptions import Subscription
from tests.scenarios.telling import QUIET, WRITE_FAST

Patch = pytest.MonkeyPatch

ALONE: dict[str, Any] = QUIET | WRITE_FAST | {"hints": False, "read_repair": False}
"""Nothing spreads writes but what a story does."""

FOLLOWING: dict[str, Any] = ALONE | {"follow_idle_us": SECOND // 2, "follow_pause_us": SECOND // 2}


def story(settings: dict[str, Any]) -> tuple[Scenario, Bucket]:
    """Three peers, and a bucket with images."""
    s = Scenario(settings=settings)
    s.start()
    return s, s.bucket("b", changes="new_and_old")


def reader(s: Scenario, bucket: Bucket) -> Subscriber:
    """A subscriber that stays where it is, and stands where the stream begins."""
    made = Subscriber(s.cluster, bucket, "reader", START, moves=False)
    made.open(0)
    assert s.until(lambda: bool(made.cursor))
    return made


def write(s: Scenario, bucket: Bucket, column: int, timestamp_us: int, *, at: int, level: Level) -> None:
    """One cell of the row `k`, with a client's timestamp."""
    cell = Write(column, (), VALUE, b"%d" % timestamp_us)
    request = WriteRequest(
        bucket.table, b"k", (RowWrite(ROW_SUFFIX, (cell,)),), level, UPDATE, timestamp_us=timestamp_us
    )
    assert isinstance(s.ask(request, at).answer, Written)


def follow_all(s: Scenario) -> None:
    """Every peer follows both others to the end."""
    done: list[frozenset[PeerId]] = []
    for peer in range(3):
        others = [machine.peer for machine in s.cluster.machines if machine.index != peer]
        s.node(peer).following.follow_now(others, done.append, s.cluster.now_us + 10 * SECOND)
    assert s.until(lambda: len(done) == 3)


# --- 18


def two_writes_in_two_orders() -> set[int]:
    """The columns in the last image of a reader that drops repeated ids."""
    s, bucket = story(ALONE)
    x, y = bucket.value_column, bucket.content_type_column
    for column, at in ((x, 0), (y, 1)):
        s.lose(lambda source, target, message: isinstance(message, ApplyMutation))
        write(s, bucket, column, 10 + at, at=at, level=Level.ONE)
        s.heal()
    images: dict[str, set[int]] = {}
    made = Subscriber(s.cluster, bucket, "reader", START, moves=False)
    judge = made._judge

    def first_seen(event: Any, value: bytes | None) -> None:
        after = () if event.after is None else event.after.cells
        images.setdefault(event.id, {cell.column for cell in after})
        judge(event, value)

    made._judge = first_seen  # type: ignore[method-assign]
    made.open(0)
    assert s.until(lambda: bool(made.cursor))
    s.run(1)
    follow_all(s)
    assert s.until(lambda: len(images) == 2)
    s.run(2)
    return list(images.values())[-1]


def test_counterexample_18_one_replica_is_followed_so_images_chain() -> None:
    assert len(two_writes_in_two_orders()) == 2


def test_counterexample_18_a_union_of_logs_ends_with_half_of_the_row(monkeypatch: Patch) -> None:
    joined = joined_ranges

    def every_replica(placement: Any) -> Any:
        return [(first, last, (peer,)) for first, last, peers in joined(placement) for peer in peers]

    monkeypatch.setattr(subscriptions, "joined_ranges", every_replica)
    assert len(two_writes_in_two_orders()) == 1


# --- 19


def a_write_that_comes_too_late() -> int:
    """How many events there are of two writes, the second of which is older."""
    s, bucket = story(ALONE)
    made = reader(s, bucket)
    for timestamp_us in (20, 15):
        write(s, bucket, bucket.value_column, timestamp_us, at=0, level=Level.ALL)
    s.run(3)
    assert made.problems == []
    return len(made.ids)


def test_counterexample_19_what_changed_nothing_is_an_event_too() -> None:
    assert a_write_that_comes_too_late() == 2


def test_counterexample_19_an_acknowledged_write_is_in_no_log(monkeypatch: Patch) -> None:
    stage = ChangeLog.stage

    def only_effects(self: Any, puts: Any, kind: int, *rest: Any, **more: Any) -> None:
        if kind != SUPERSEDED:
            stage(self, puts, kind, *rest, **more)

    monkeypatch.setattr(ChangeLog, "stage", only_effects)
    assert a_write_that_comes_too_late() == 1


# --- 21


def the_replica_that_takes_over_lagged() -> list[str]:
    """Values that a reader gets: of one written while it listens at A, one while it was away and C lagged."""
    s, bucket = story(FOLLOWING)
    made = reader(s, bucket)
    s.put("b", "k", b"0", 0, Level.ALL)
    s.run(3)
    s.lose(lambda source, target, message: target == 2 and isinstance(message, ApplyMutation))
    s.put("b", "k", b"1", 0)
    assert s.until(lambda: ("k", b"1") in made.of_value)
    made.leave()
    s.put("b", "k", b"2", 0)
    s.kill(0)
    made.open(2)
    s.run(8)
    assert made.problems == []
    assert made.restarts == 1
    return sorted(value.decode() for _, value in made.of_value)


def test_counterexample_21_who_takes_over_follows_those_who_hold_what_it_lacks() -> None:
    assert the_replica_that_takes_over_lagged() == ["0", "1", "2"]


def test_counterexample_21_a_replica_that_is_not_brought_up_never_has_it(monkeypatch: Patch) -> None:
    def never(self: Any) -> None:
        self.inside.timer(self.inside.settings.follow_idle_us, "follow_tick")

    monkeypatch.setattr(Following, "_on_tick", never)
    monkeypatch.setattr(Following, "_on_liveness", lambda self, peer, state: None)
    assert "2" not in the_replica_that_takes_over_lagged()


# --- 22


def the_logs_are_gone() -> list[str]:
    """The problems that a reader sees whose cursor is older than what replicas hold."""
    s, bucket = story(ALONE)
    made = reader(s, bucket)
    s.put("b", "k", b"1", 0, Level.ALL)
    assert s.until(lambda: ("k", b"1") in made.of_value)
    s.run(2)
    made.leave()
    s.put("b", "k", b"2", 0, Level.ALL)
    for peer in range(3):
        s.node(peer).inside.submit(("log_trimmed",), LogTrim(2**60, 0))
    s.run(1)
    s.put("b", "k", b"3", 0, Level.ALL)
    made.open(0)
    assert s.until(lambda: ("k", b"3") in made.of_value)
    assert ("k", b"2") not in made.of_value
    return [problem.name for problem in made.problems if problem.name == "gap"]


def test_counterexample_22_a_reader_that_comes_too_late_is_told_what_to_read_again() -> None:
    assert the_logs_are_gone() == ["gap"]


def test_counterexample_22_without_the_gap_events_are_missing_in_silence(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Subscription, "_missing", lambda self, lane, told: "")
    assert the_logs_are_gone() == []
