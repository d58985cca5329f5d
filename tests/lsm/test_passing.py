"""Dead rows summed up: equal on replicas that hold the same, whatever they remember, and different if not."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given

from core.commands import Digest, Read, Rows, Slice
from core.row import exists
from lsm import dead_runs, keys, passing, purge
from lsm.reading import digest_of, stored_row
from tests.lsm.queues import PREFIX, STEPS, Queue, suffix
from tests.lsm.support import WIDE


def past(queue: Queue, now_us: int, first: int = 0, rows_max: int = 1_000) -> Rows:
    """A slice with dead rows summed up."""
    begin, end = PREFIX + suffix(first), keys.successor(PREFIX)
    wanted = Slice(WIDE.id, begin, end, PREFIX, False, rows_max, 10**6, live_us=now_us)
    rows = queue.store.execute(Read(wanted, False))
    assert isinstance(rows, Rows)
    if rows.rows or not rows.more:
        assert queue.store.execute(Read(wanted, True)) == Digest(digest_of(rows))
    return rows


def passed(rows: Rows) -> int:
    """How many rows were summed up."""
    return sum(count for _, _, count in rows.passed)


def filled(deleted: int, there: int = 3) -> Queue:
    """A queue from which so many were deleted, none of them over."""
    queue = Queue()
    for item in range(deleted + there):
        queue.put(item)
    for item in range(deleted):
        queue.delete(item)
    return queue


def test_what_is_dead_before_the_head_is_summed_up_once() -> None:
    queue = filled(500)
    rows = past(queue, queue.now_us, rows_max=1)
    assert passed(rows) == 500 and rows.more and [key for key, _ in rows.rows] == [PREFIX + suffix(500)]
    before = queue.engine.scanned
    assert past(queue, queue.now_us, rows_max=1) == rows
    assert queue.engine.scanned - before < 2 * 400, "only what comes after the last whole chunk"
    queue.delete(500)
    assert passed(past(queue, queue.now_us)) == 501
    queue.put(250)
    rows = past(queue, queue.now_us, rows_max=1)
    assert passed(rows) == 250 and rows.rows[0][0] == PREFIX + suffix(250)


def test_what_one_slice_adds_up_is_bounded() -> None:
    queue = filled(900)
    with mock.patch.object(passing, "ADDED_MAX", 200):
        rows = past(queue, queue.now_us)
        assert 200 <= passed(rows) < 900 and rows.more and not rows.rows
        while not rows.rows:
            rows = past(queue, queue.now_us)
    assert passed(rows) == 900


def test_so_is_what_one_slice_leaves_out() -> None:
    queue = filled(900)
    queue.end()
    with mock.patch.object(passing, "ADDED_MAX", 200), mock.patch.object(purge, "PASSED_MAX", 100):
        rows = past(queue, queue.now_us)
        assert passed(rows) == 0 and rows.more and rows.passed[-1][0] == PREFIX + suffix(299)
        while not rows.rows:
            rows = past(queue, queue.now_us)
    assert len(rows.rows) == 3 and passed(rows) == 0


def test_a_partition_with_tombstones_of_its_own_is_read_row_by_row() -> None:
    queue = filled(5)
    queue.delete_all_before(3)
    rows = past(queue, queue.now_us)
    assert rows.passed == () and rows.header is not None


def test_what_has_not_run_out_for_a_reader_is_not_passed() -> None:
    queue = Queue()
    for item in range(100):
        queue.put(item, 1_000)
    late_us = queue.now_us + 2_000
    assert passed(past(queue, late_us)) == 100
    assert len(past(queue, queue.now_us).rows) == 100
    assert passed(past(queue, late_us)) == 100


def test_replicas_that_hold_something_else_differ_only_from_there() -> None:
    one, other = filled(600), filled(600)
    rows = past(one, one.now_us)
    other.put(300)
    other.delete(300)
    differs = past(other, one.now_us)
    assert passed(differs) == 600 and differs.passed != rows.passed
    alike = [a == b for a, b in zip(rows.passed, differs.passed, strict=False)]
    assert alike[0] and not all(alike)
    assert rows.rows == differs.rows


@pytest.mark.parametrize("bits", [0, 1, 3])
@given(STEPS)
def test_no_reader_can_tell_what_is_remembered(bits: int, taken: list[tuple[str, int, int]]) -> None:
    queue = Queue()
    with mock.patch.object(passing, "CHUNK_BITS", bits), mock.patch.object(dead_runs, "CHUNKS_MAX", 4):
        for step in taken:
            what, item, count = step
            queue.take(step)
            if what == "read":
                check(queue, item, count)
            check(queue, 0, 100)


def check(queue: Queue, first: int, rows_max: int) -> None:
    """The answer is that of a store that remembers nothing; rows begin with the first that lives."""
    rows = past(queue, queue.now_us, first, rows_max)
    plain = queue.read(first, 1_000).rows
    lives = [exists(stored_row(*record), queue.now_us) for record in plain]
    head = lives.index(True) if True in lives else len(plain)
    assert rows.rows == plain[head : head + rows_max]
    assert rows.more == (len(plain) > head + rows_max)
    known = queue.store.floors.dead_runs.chunks
    queue.store.floors.dead_runs.forget()
    known.forget()
    assert past(queue, queue.now_us, first, rows_max) == rows
