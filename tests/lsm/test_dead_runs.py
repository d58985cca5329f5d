"""Dead runs: what is known to be over is not looked at again, and no reader can tell."""

from __future__ import annotations

from unittest import mock

from hypothesis import given, strategies as st

from core.cell import VALUE, Cell
from core.commands import Applied, Apply, Done, Read, Rows, Slice
from core.healing import FloorStep, Purge, Purged, RaiseFloor
from core.mutation import UPDATE, Mutation, encode_mutation
from core.row import Header, RangeTombstone, Row, Tombstone, is_empty
from lsm import dead_runs, keys, purge
from lsm.dead_runs import DeadRuns
from lsm.hash_tree import leaf_of
from lsm.memory import MemoryEngine
from lsm.purge import purged
from lsm.reading import stored_row
from lsm.store import Store
from ring.tokens import token_of
from tests.lsm.support import TABLES, WIDE, suffix as suffix_of

PARTITION = b"queue"
TOKEN = token_of(PARTITION)
PREFIX = keys.partition_prefix(WIDE.id, TOKEN, PARTITION)
ALL = (keys.TOKEN_MIN, keys.TOKEN_MAX)
EVERYTHING = ((WIDE.id, (ALL,)),)


def suffix(item: int) -> bytes:
    """The key suffix of an item of the queue."""
    return suffix_of(f"{item:04d}")


class Counting(MemoryEngine):
    """An engine that counts the records that were scanned."""

    scanned = 0

    def scan(self, first, end, reverse=False):  # type: ignore[no-untyped-def]
        """As the engine."""
        for record in super().scan(first, end, reverse):
            self.scanned += 1
            yield record


class Queue:
    """A store with one partition."""

    def __init__(self) -> None:
        self.engine = Counting()
        self.store = Store(self.engine, TABLES.get)
        self.now_us = 0

    def write(self, item: int, row: Row) -> None:
        """Merge a row in."""
        rows = ((suffix(item), row),)
        made = Mutation(7, self.now_us, 0, self.now_us, True, UPDATE, WIDE.id, TOKEN, PARTITION, None, rows)
        assert isinstance(self.store.execute(Apply(encode_mutation(made))), Applied)

    def put(self, item: int, ttl_us: int = 0) -> None:
        """A value, which may run out."""
        self.now_us += 1
        dead_from_us = self.now_us + ttl_us if ttl_us else 0
        self.write(item, Row(None, (Cell(1, (), VALUE, self.now_us, 7, dead_from_us, b"value"),)))

    def delete(self, item: int) -> None:
        """A row's deletion."""
        self.now_us += 1
        self.write(item, Row(Tombstone(self.now_us, 7, self.now_us), ()))

    def delete_all_before(self, item: int) -> None:
        """A deletion of a range of rows."""
        self.now_us += 1
        gone = RangeTombstone(suffix(0), suffix(item), self.now_us, 7, self.now_us)
        made = Mutation(
            7, self.now_us, 0, self.now_us, True, UPDATE, WIDE.id, TOKEN, PARTITION, Header(None, (gone,)), ()
        )
        assert isinstance(self.store.execute(Apply(encode_mutation(made))), Applied)

    def end(self) -> None:
        """What is dead now is over."""
        for step in FloorStep:
            assert self.store.execute(RaiseFloor(step, self.now_us, EVERYTHING)) == Done()
        self.now_us += 1

    def purge(self, rows_max: int) -> None:
        """As much as that goes."""
        assert isinstance(self.store.execute(Purge(WIDE.id, *ALL, b"", rows_max)), Purged)

    def read(self, first: int, rows_max: int = 1_000, *, reverse: bool = False) -> Rows:
        """From an item on."""
        begin, end = PREFIX + suffix(first), keys.successor(PREFIX)
        wanted = Slice(WIDE.id, begin, end, PREFIX, False, rows_max, 10**6, reverse)
        rows = self.store.execute(Read(wanted, False))
        assert isinstance(rows, Rows)
        return rows

    def left(self, first: int) -> list[tuple[bytes, bytes]]:
        """What has to be seen from an item on, according to each record."""
        floor_us = self.store.floors.at(WIDE.id, leaf_of(TOKEN)).floor_us
        found = []
        for key, data in MemoryEngine.scan(self.engine, PREFIX + suffix(first), keys.successor(PREFIX)):
            if not is_empty(purged(stored_row(key, data), floor_us, key[len(PREFIX) :])):
                found.append((key, data))
        return found


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


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 11), st.sampled_from([0, 0, 3])),
        st.tuples(st.just("delete"), st.integers(0, 11), st.integers(1, 4)),
        st.tuples(st.just("end"), st.just(0), st.just(0)),
        st.tuples(st.just("purge"), st.just(0), st.integers(1, 6)),
        st.tuples(st.just("read"), st.integers(0, 11), st.integers(1, 13)),
    ),
    max_size=60,
)


@given(steps)
def test_no_reader_can_tell_what_is_known_of_runs(taken: list[tuple[str, int, int]]) -> None:
    queue = Queue()
    with mock.patch.object(purge, "RUN_ROWS_MIN", 1), mock.patch.object(dead_runs, "RUNS_MAX", 3):
        for what, item, count in taken:
            if what == "put":
                queue.put(item, count)
            elif what == "delete":
                for each in range(item, item + count):
                    queue.delete(each)
            elif what == "end":
                queue.end()
            elif what == "purge":
                queue.purge(count)
            else:
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
