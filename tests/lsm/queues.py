"""A queue in a store: one partition, items put and deleted, the end of what is over, purges, reads."""

from __future__ import annotations

from hypothesis import strategies as st

from core.cell import VALUE, Cell
from core.commands import Applied, Apply, Done, Read, Rows, Slice
from core.healing import FloorStep, Purge, Purged, RaiseFloor
from core.mutation import UPDATE, Mutation, encode_mutation
from core.row import Header, RangeTombstone, Row, Tombstone, is_empty
from lsm import keys
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

    def take(self, step: tuple[str, int, int]) -> None:
        """One of `STEPS`, if it is no read."""
        what, item, count = step
        if what == "put":
            self.put(item, count)
        elif what == "delete":
            for each in range(item, item + count):
                self.delete(each)
        elif what == "end":
            self.end()
        elif what == "purge":
            self.purge(count)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 15), st.sampled_from([0, 0, 4])),
        st.tuples(st.just("delete"), st.integers(0, 15), st.integers(1, 6)),
        st.tuples(st.just("end"), st.just(0), st.just(0)),
        st.tuples(st.just("purge"), st.just(0), st.integers(1, 6)),
        st.tuples(st.just("read"), st.integers(0, 15), st.integers(1, 17)),
    ),
    max_size=60,
)
"""(what, item, how many or how long)."""
