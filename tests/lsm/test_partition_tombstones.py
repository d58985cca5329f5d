"""What deletes in a whole partition: known to every slice of it, aware of what outlives it, swept at last."""

from __future__ import annotations

import msgspec
import pytest

from core.commands import Applied, MergeRows, Read, SystemWrite
from core.row import Header, Tombstone, encode_row
from lsm import keys
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.memory import MemoryEngine
from lsm.writing import HEADER_CONFLICT_ROWS_MAX, NEWEST_AHEAD_US
from tests.lsm.support import (
    WIDE,
    Client,
    cell,
    partition_slice,
    read,
    row,
    store_on,
    stored,
    suffix,
    sweep_all,
    token_slice,
)


def test_a_slice_that_begins_inside_a_partition_brings_its_header() -> None:
    store, client = store_on(), Client()
    for name in "abc":
        store.execute(client.put(name, cell(5, b"x")))
    begun = msgspec.structs.replace(token_slice(), first=partition_slice().first + suffix("a") + b"\0")
    assert read(store, begun).header is None
    store.execute(client.delete_range("b", "c", 9))
    prefix = partition_slice().partition
    found = read(store, begun)
    assert [key for key, _ in found.rows] == [prefix + suffix("c")]
    assert found.header == stored(store)[prefix + keys.HEADER_SUFFIX]
    digest = store.execute(Read(begun, True))
    sweep_all(store)
    assert store.execute(Read(begun, True)) == digest
    at_header = msgspec.structs.replace(token_slice(), first=prefix)
    assert read(store, at_header).header is None  # it comes as a row of its own


@pytest.mark.parametrize("how", ["merged", "reopened"])
def test_a_deletion_of_more_rows_than_are_looked_at_learns_of_what_outlives_it(how: str) -> None:
    store, client = store_on(), Client()
    for n in range(HEADER_CONFLICT_ROWS_MAX + 1):
        store.execute(client.put(f"{n:05}", cell(50, b"x")))
    assert store.execute(client.delete_partition(100)) == Applied(None, True)
    last = partition_slice().partition + suffix("99999")
    store.execute(MergeRows(WIDE.id, ((last, encode_row(row(cell(10_000, b"ahead")))),)))
    if how == "reopened":
        store = store_on(store.engine)
    outcome = store.execute(client.delete_partition(200))
    assert isinstance(outcome, Applied) and outcome.newer is not None
    assert (10_000, 7) <= outcome.newer <= (10_000 + NEWEST_AHEAD_US, 0)
    assert store.execute(client.delete_range("00000", "00009", 300)) == Applied(None, True)


def test_a_sweep_that_meets_damage_does_not_hold_up_the_others() -> None:
    engine = MemoryEngine()
    store, client = store_on(engine), Client()
    executor = Executor(store, Commit())
    rows = []
    for partition in (b"p", b"q"):
        store.execute(client.mutation({suffix("a"): row(cell(5, b"x"))}, None, partition))
        store.execute(client.mutation({}, Header(Tombstone(9, 7, 9)), partition))
        rows.append(keys.partition_prefix(WIDE.id, 5, partition) + suffix("a"))
    engine.damage(rows[0])
    for _ in range(3):
        executor.submit(("test",), SystemWrite(((b"k", b"v"),)))
        while executor.ready:
            executor.run()
    left = engine.keys(keys.ROW, keys.successor(keys.ROW))
    assert [key for key in rows if key in left] == rows[:1]
