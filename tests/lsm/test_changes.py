"""What the log changed, for those who follow it: each row once, as it is now."""

from __future__ import annotations

from itertools import product

from core.commands import Apply, ChangedRows, LogRows, MergeRows
from core.row import encode_row
from core.trimming import LogTrim
from lsm import keys
from lsm.commit import Commit
from lsm.executor import Executor
from tests.lsm.support import PLAIN, WIDE, Client, cell, row, store_on


def put(client: Client, partition: bytes, at: int, value: bytes | None, token: int = 5) -> Apply:
    return client.mutation({keys.ROW_SUFFIX: row(cell(at, value))}, partition=partition, token=token)


def key(partition: bytes) -> bytes:
    return keys.row_key(PLAIN.id, 5, partition)


def read(store: object, after: int, tables: tuple[tuple[int, int], ...], entries: int = 100) -> ChangedRows:
    outcome = store.execute(LogRows(tables, after, entries, 1 << 20))  # type: ignore[attr-defined]
    assert isinstance(outcome, ChangedRows), outcome
    return outcome


def test_a_row_that_changed_often_is_told_once_as_it_is_now() -> None:
    store, client = store_on(), Client(PLAIN)
    for at in range(1, 6):
        store.execute(put(client, b"a", at, b"v%d" % at))
    store.execute(put(client, b"b", 1, b"w"))
    found = read(store, 0, ((PLAIN.id, 0),))
    assert [each for each, _ in found.rows] == [key(b"a"), key(b"b")]
    assert found.rows[0][1] == encode_row(row(cell(5, b"v5")))
    assert (found.next_after, found.first, found.end) == (6, 1, 6)


def test_of_a_log_with_a_durable_end_only_what_is_durable_is_told_and_waits_for_nothing() -> None:
    store, client = store_on(), Client(PLAIN)
    for name in (b"a", b"b"):
        store.execute(put(client, name, 1, b"v"))
    durable = store.engine.written()
    store.unsynced.on_synced(durable)
    store.log.durable = store.log.end
    store.execute(put(client, b"c", 1, b"v"))
    command = LogRows(((PLAIN.id, 0),), 0, 100, 1 << 20)
    found, depends_on = store.run(store.plan(command))
    assert isinstance(found, ChangedRows)
    assert [each for each, _ in found.rows] == [key(b"a"), key(b"b")] and depends_on == 0
    assert (found.next_after, found.end) == (2, 2)
    store.execute(put(client, b"b", 2, b"w"))
    found, depends_on = store.run(store.plan(command))
    assert isinstance(found, ChangedRows)
    assert found.rows[1][1] == encode_row(row(cell(2, b"w"))), "as it is now"
    assert depends_on == store.engine.written() > durable, "which is not durable yet"


def test_what_changed_nothing_is_not_told_and_a_deletion_is() -> None:
    store, client = store_on(), Client(PLAIN)
    store.execute(put(client, b"a", 9, b"new"))
    store.execute(put(client, b"a", 3, b"old"))
    assert read(store, 1, ((PLAIN.id, 1),)).rows == ()
    store.execute(client.mutation({keys.ROW_SUFFIX: row(deleted=20)}, partition=b"a"))
    (told,) = read(store, 2, ((PLAIN.id, 2),)).rows
    assert told[0] == key(b"a") and told[1] == encode_row(row(deleted=20))


def test_rows_are_told_from_memory_as_from_the_log() -> None:
    store, client, wide = store_on(), Client(PLAIN), Client(WIDE, start=8)
    store.execute(put(client, b"z", 1, b"v"))
    some = ((1, b"a"), (2, b"b"), (3, b"a"), (1, b"a"), (1, b"c"), (1, b"e" * 200))
    commands = [put(client, name, at, b"v") for at, name in some]
    commands.append(wide.mutation({keys.ROW_SUFFIX + b"x\0\0": row(cell(1, b"v"))}))
    commands += [put(client, b"d", 1, b"v"), put(client, b"b", 9, b"w")]
    executor = Executor(store, Commit(periodic=True))
    for number, command in enumerate(commands):
        executor.submit(("w", number), command)
    while executor.run():
        pass
    noted = [key(b"a"), key(b"b"), key(b"a"), b"", key(b"c")]
    assert list(store.log.touched(1, 100)) == [(PLAIN.id, each) for each in noted], "until one that is long"
    asked = [
        LogRows(((PLAIN.id, at),), after, entries, size)
        for at, after, entries, size in product(range(10), range(10), range(1, 10), (1, 120, 1 << 20))
    ]
    told = [store.execute(each) for each in asked]
    store.log.rest()
    assert told == [store.execute(each) for each in asked]


def test_other_tables_and_what_a_table_has_already_are_passed_over() -> None:
    store, client, wide = store_on(), Client(PLAIN), Client(WIDE, start=8)
    store.execute(put(client, b"a", 1, b"v"))
    store.execute(wide.mutation({keys.ROW_SUFFIX + b"x\0\0": row(cell(1, b"v"))}))
    store.execute(put(client, b"b", 1, b"v"))
    assert [each for each, _ in read(store, 0, ((PLAIN.id, 1),)).rows] == [key(b"b")]
    found = read(store, 0, ())
    assert found.rows == () and found.next_after == found.end == 3


def test_repaired_rows_are_told_and_limits_are_kept() -> None:
    store, client = store_on(), Client(PLAIN)
    store.execute(MergeRows(PLAIN.id, ((key(b"r"), encode_row(row(cell(4, b"x")))),)))
    store.execute(put(client, b"a", 1, b"v"))
    first = read(store, 0, ((PLAIN.id, 0),), entries=1)
    assert [each for each, _ in first.rows] == [key(b"r")] and first.next_after == 1
    small = store.execute(LogRows(((PLAIN.id, 0),), 0, 100, 1))
    assert isinstance(small, ChangedRows) and len(small.rows) == 1 and small.next_after == 1


def test_a_log_that_was_trimmed_says_from_where_it_holds() -> None:
    store, client = store_on(), Client(PLAIN)
    for at in range(1, 5):
        store.execute(put(client, b"a", at, b"v"))
    store.execute(LogTrim(0, 0))
    found = read(store, 0, ((PLAIN.id, 0),))
    assert found.rows == () and found.first == 5 and found.next_after == found.end == 4
