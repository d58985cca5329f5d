"""Dead runs: what is known to be over is not looked at again, and no reader can tell."""

from __future__ import annotations

from unittest import mock

from hypothesis import given, strategies as st

from core.commands import Rows
from lsm import dead_runs, purge
from lsm.dead_runs import DeadRuns
from tests.lsm.queues import PREFIX, STEPS, Queue, suffix


def test_a_read_of_the_head_passes_what_is_over_once() -> None:
    queue = Queue()
    for item in range(500):
        queue.put(item)
    for item in range(499):
        queue.delete(item)
    assert len(queue.read(0).rows) == 500, "not over yet: others may not know of the deletions"
    queue.end()
    assert [key for key, _ in queue.read(0, 1).rows] == [PREFIX + suffix(499)]
    before = queue.engine.scanned
    assert len(queue.read(0, 1).rows) == len(queue.read(77, 1).rows) == 1
    assert queue.engine.scanned <= before + 2
    queue.put(200)
    assert [key for key, _ in queue.read(0, 2).rows] == [PREFIX + suffix(200), PREFIX + suffix(499)]


def test_what_is_looked_at_by_one_read_is_bounded_and_the_next_one_goes_on() -> None:
    queue = Queue()
    for item in range(300):
        queue.put(item)
        queue.delete(item)
    queue.end()
    with mock.patch.object(purge, "PASSED_MAX", 100):
        first = queue.read(0, 10)
        assert first.more and [key for key, _ in first.rows] == [PREFIX + suffix(i) for i in range(100, 110)]
        assert [key for key, _ in queue.read(0, 10).rows] == [PREFIX + suffix(i) for i in range(200, 210)]
        assert queue.read(0, 10) == Rows((), None, False, first.settled_us)
    assert len(queue.store.floors.dead_runs) == 1


def test_backwards_each_row_comes_once_however_many_are_over_beside_it() -> None:
    queue = Queue()
    for item in range(300):
        queue.put(item)
        if item % 100:
            queue.delete(item)
    queue.end()
    rows = queue.read(0, reverse=True)
    assert [key for key, _ in rows.rows] == [PREFIX + suffix(item) for item in (200, 100, 0)]
    assert not len(queue.store.floors.dead_runs)


@given(STEPS)
def test_no_reader_can_tell_what_is_known_of_runs(taken: list[tuple[str, int, int]]) -> None:
    queue = Queue()
    with mock.patch.object(purge, "RUN_ROWS_MIN", 1), mock.patch.object(dead_runs, "RUNS_MAX", 3):
        for step in taken:
            what, item, count = step
            queue.take(step)
            if what == "read":
                check(queue.read(item, count), queue.left(item), count)
            check(queue.read(0, 20, reverse=True), queue.left(0)[::-1], 20)


def check(rows: Rows, left: list[tuple[bytes, bytes]], rows_max: int) -> None:
    """All that has to be seen is there, in order; what has run out may be, until it is purged."""
    seen = [record for record in rows.rows if record in left]
    assert seen == left[: len(seen)]
    assert len(seen) == len(left) or (rows.more and len(rows.rows) == rows_max)
    assert all(record in left or record[1].endswith(b"value") for record in rows.rows), "no deletion else"


keys_ = st.integers(0, 20).map(lambda number: b"R" + bytes((number,)))


@given(st.lists(st.one_of(st.tuples(keys_, keys_), st.tuples(keys_, st.none())), max_size=40))
def test_runs_are_what_was_found_and_not_written_since(taken: list[tuple[bytes, bytes | None]]) -> None:
    runs = DeadRuns()
    every = sorted({b"R" + bytes((number,)) + end for number in range(21) for end in (b"", b"\0")})
    dead: dict[bytes, bool] = {}
    for one, other in taken:
        if other is None:
            runs.wrote([(one, b"row"), (one + b"\0", None)])
            dead.pop(one, None)
        else:
            first, end = min(one, other), max(one, other) + b"\1"
            runs.found(first, end)
            dead.update((key, True) for key in every if first <= key < end)
        for key in every:
            assert (runs.beyond(key) > key) == (key in dead), key
            assert all(between in dead for between in every if key <= between < runs.beyond(key))
