"""What the store does with each command, on an engine in memory."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from core.commands import (
    Applied,
    Apply,
    Digest,
    Failed,
    LogFetch,
    LogIds,
    LogMissing,
    LogRead,
    Merged,
    MergeRows,
    Missing,
    Mutations,
    Read,
    Records,
    Sweep,
    Swept,
    SystemScan,
    SystemWrite,
    TreeHashes,
    Why,
)  # fmt: skip
from core.errors import CorruptionError, DiskFullError, StallError
from core.limits import MUTATION_BYTES_MAX
from core.mutation import decode_mutation, encode_mutation
from core.row import EMPTY_HEADER, Header, Tombstone, decode_header, decode_row, encode_header, encode_row
from core.trimming import LogTrim
from lsm import keys
from lsm.hash_tree import LEAVES, leaf_of, leaf_tokens
from lsm.log import EVENT, REPAIRED, SUPERSEDED
from lsm.memory import FailNth, MemoryEngine
from lsm.store import Store
from tests.lsm.support import (
    EVERYTHING,
    IMAGED,
    PLAIN,
    TABLES,
    WIDE,
    Client,
    cell,
    check_tree,
    partition_slice,
    point_slice,
    read,
    row,
    store_on,
    stored,
    suffix,
    sweep_all,
    token_slice,
)  # fmt: skip


def kinds(store: Store) -> list[int]:
    return [entry.kind for _, entry in store.log.entries(0, 100)]


# --- normal form


def test_a_late_row_under_a_partition_tombstone_leaves_nothing_in_either_order() -> None:
    """Counterexample 1: rows, leaves and reads agree whichever came first."""
    client = Client()
    delete, late = client.delete_partition(10), client.put("a", cell(5, b"v"))
    results = []
    for order in ((delete, late), (late, delete)):
        store = store_on()
        for command in order:
            store.execute(command)
        before_sweep = read(store, partition_slice())
        sweep_all(store)
        assert read(store, partition_slice()) == before_sweep and before_sweep.rows == ()
        check_tree(store)
        results.append((stored(store), store.tree.leaves(WIDE.id)))
    assert results[0] == results[1]
    store = store_on()
    assert store.execute(delete) == Applied(None, True)
    assert store.execute(late) == Applied((10, 7), True)
    assert kinds(store) == [EVENT, SUPERSEDED]


NAMES = ("a", "b", "c")
CELLS = st.builds(
    cell,
    st.integers(1, 6),
    st.sampled_from([None, b"x", b"y"]),
    st.sampled_from([1, 2]),
    st.sampled_from([7, 8]),
)
WRITES = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES), CELLS, st.none() | st.integers(1, 6)),
    st.tuples(st.just("partition"), st.integers(1, 6)),
    st.tuples(st.just("range"), st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(1, 6)),
    st.tuples(st.just("both"), st.sampled_from(NAMES), CELLS, st.integers(1, 6)),
)


def command_of(client: Client, write: tuple[Any, ...]) -> Apply:
    if write[0] == "put":
        return client.put(write[1], write[2], deleted=write[3])
    if write[0] == "partition":
        return client.delete_partition(write[1])
    if write[0] == "range":
        return client.delete_range(min(write[1:3]), max(write[1:3]), write[3])
    return client.mutation({suffix(write[1]): row(write[2])}, Header(Tombstone(write[3], 7, write[3])))


@given(st.lists(WRITES, min_size=1, max_size=7), st.data())
@settings(max_examples=150, deadline=None)
def test_replicas_agree_whatever_the_order_repeats_and_sweeps(
    writes: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    client = Client()
    commands = [command_of(client, write) for write in writes]
    first, second = store_on(), store_on()
    for command in commands:
        first.execute(command)
    for command in data.draw(st.permutations(commands + commands[:2])):
        second.execute(command)
        if (sweep := second.next_sweep()) is not None and data.draw(st.booleans()):
            second.execute(msgspec.structs.replace(sweep, rows_max=1))
    for wanted in (
        partition_slice(),
        token_slice(),
        partition_slice(reverse=True),
        token_slice(reverse=True),
    ):
        assert read(first, wanted) == read(second, wanted)
        assert first.execute(Read(wanted, True)) == second.execute(Read(wanted, True))
    for store in (first, second):
        check_tree(store)
        unswept = read(store, token_slice())
        sweep_all(store)
        assert read(store, token_slice()) == unswept
        assert dict(unswept.rows) == stored(store)
        check_tree(store)
    assert stored(first) == stored(second)
    assert first.tree.leaves(WIDE.id) == second.tree.leaves(WIDE.id)


@given(st.lists(WRITES, min_size=1, max_size=7))
@settings(max_examples=60, deadline=None)
def test_state_repair_makes_equal_what_mutations_would_have(writes: list[tuple[Any, ...]]) -> None:
    client = Client()
    whole, half, other = store_on(), store_on(), store_on()
    for at, write in enumerate(writes):
        command = command_of(client, write)
        for store in (whole, half if at % 2 else other):
            store.execute(command)
    rows = read(other, token_slice()).rows
    merged = half.execute(MergeRows(WIDE.id, tuple(reversed(rows))))
    assert isinstance(merged, Merged) and merged.changed == kinds(half).count(REPAIRED)
    assert half.execute(MergeRows(WIDE.id, rows)) == Merged(0)
    for store in (whole, half):
        sweep_all(store)
        check_tree(store)
    assert stored(half) == stored(whole)


# --- applying


def test_one_batch_holds_row_log_entry_id_and_sums() -> None:
    engine = MemoryEngine()
    store = store_on(engine)
    before = engine.written()
    store.execute(Client(PLAIN).put("a", cell(5, b"v")))
    assert engine.written() == before + 1
    assert [key[:1] for key, _ in engine.scan(b"", b"\xff")] == sorted(
        [keys.ROW, keys.LOG, keys.MUTATION_ID, keys.TREE, keys.TREE]
    )


def test_an_id_is_applied_once_and_its_answer_does_not_change() -> None:
    """The copy that following brought first must not make the coordinator's own look unopposed."""
    store, client = store_on(), Client()
    newer = client.put("a", cell(20, b"new"))
    older = client.put("a", cell(10, b"old"))
    assert store.execute(newer) == Applied(None, True)
    assert store.execute(older) == Applied((20, 7), True)
    written = store.engine.written()
    assert store.execute(older) == Applied((20, 7), False)
    assert store.execute(newer) == Applied(None, False)
    assert store.engine.written() == written and kinds(store) == [EVENT, SUPERSEDED]


def test_what_changes_nothing_is_logged_and_can_be_fetched() -> None:
    """Counterexample 19."""
    store, client = store_on(), Client(PLAIN)
    older, newer = client.put("a", cell(15, b"0")), client.put("a", cell(20, b"2"))
    store.execute(newer)
    store.execute(older)
    ids = store.execute(LogRead(0, 10, EVERYTHING))
    assert isinstance(ids, LogIds)
    assert [(e.offset, e.sequence) for e in ids.entries] == [(1, 2), (2, 1)]
    assert store.execute(LogFetch((2, 1), 10**6)) == Mutations(((2, older.mutation), (1, newer.mutation)))


@pytest.mark.parametrize(
    ("stored_cells", "deleted", "write", "met"),
    [
        ([cell(20, b"x")], None, [cell(10, b"y")], (20, 7)),
        ([cell(20, b"x")], None, [cell(20, b"x")], None),
        ([cell(20, b"x", column=2)], None, [cell(10, b"y", column=1)], None),
        ([cell(20, None)], None, [cell(10, b"y")], (20, 7)),
        ([], 20, [cell(10, b"y")], (20, 7)),
        ([cell(10, b"x", writer=8)], None, [cell(10, b"y", writer=7)], (10, 8)),
        ([cell(30, b"x"), cell(20, b"x", column=2)], None, [cell(10, b"y", column=2)], (20, 7)),
    ],
)
def test_newer_is_what_hides_the_write(stored_cells: Any, deleted: Any, write: Any, met: Any) -> None:
    """Counterexample 2: the coordinator must learn of the version above which to stamp again."""
    store, client = store_on(), Client()
    store.execute(client.put("a", *stored_cells, deleted=deleted))
    assert store.execute(client.put("a", *write)) == Applied(met, True)


def test_a_deletion_learns_of_what_outlives_it() -> None:
    store, client = store_on(), Client()
    store.execute(client.put("a", cell(20, b"x")))
    store.execute(client.put("b", cell(30, b"x")))
    assert store.execute(client.put("a", deleted=10)) == Applied((20, 7), True)
    assert store.execute(client.delete_range("a", "b", 10)) == Applied((20, 7), True)
    assert store.execute(client.delete_partition(10)) == Applied((30, 7), True)
    assert store.execute(client.delete_partition(40)) == Applied(None, True)


def test_images_are_logged_where_the_table_asks_and_chain() -> None:
    store, client = store_on(), Client(IMAGED)
    store.execute(client.put("a", cell(5, b"1")))
    store.execute(client.put("a", cell(6, b"2", column=2)))
    first, second = store.log.images(1)[0], store.log.images(2)[0]
    assert first.before is None and first.after == second.before
    assert second.after == read(store, point_slice("a", IMAGED)).rows[0][1]
    plain = store_on()
    plain.execute(Client().put("a", cell(5, b"1")))
    assert plain.log.images(1) == ()


@pytest.mark.parametrize(
    "change", [{"table": 99}, {"attempt": 2**16}, {"token": 2**63}, {"rows": ((b"\x00", row()),)}]
)
def test_a_mutation_that_cannot_be_stored_is_refused(change: dict[str, Any]) -> None:
    store = store_on()
    made = msgspec.structs.replace(decode_mutation(Client().put("a", cell(1, b"v")).mutation), **change)
    outcome = store.execute(Apply(encode_mutation(made)))
    assert isinstance(outcome, Failed)
    assert outcome.why is (Why.NO_TABLE if "table" in change else Why.MALFORMED)
    assert store.engine.written() == 0


def test_more_refusals() -> None:
    store = store_on()
    header_on_plain = Client(PLAIN).mutation({}, Header(Tombstone(1, 1, 1)))
    twice = msgspec.structs.replace(
        decode_mutation(Client().put("a", cell(1, b"v")).mutation),
        rows=((b"\x02a", row()), (b"\x02a", row())),
    )
    for command, why in (
        (Apply(b"\xc1"), Why.MALFORMED),
        (Apply(bytes(MUTATION_BYTES_MAX + 1)), Why.TOO_LARGE),
        (header_on_plain, Why.MALFORMED),
        (Apply(encode_mutation(twice)), Why.MALFORMED),
        (Read(msgspec.structs.replace(partition_slice(), table=99), False), Why.NO_TABLE),
        (Read(msgspec.structs.replace(partition_slice(), end=b"S"), False), Why.MALFORMED),
        (Read(msgspec.structs.replace(point_slice("a"), first=b"Ssecret"), False), Why.MALFORMED),
        (MergeRows(WIDE.id, ((b"Ssecret", encode_row(row())),)), Why.MALFORMED),
        (MergeRows(WIDE.id, ((keys.row_key(WIDE.id, 1, b"p", suffix("a")), b"\xc1"),)), Why.MALFORMED),
        (TreeHashes(1, ((5, 5),), 1), Why.MALFORMED),
    ):
        outcome = store.execute(command)
        assert isinstance(outcome, Failed) and outcome.why is why, command
    assert store.engine.written() == 0


# --- reading


def test_slices_are_exact_at_their_limits_both_ways() -> None:
    store, client = store_on(), Client()
    names = ["a", "b", "c", "d"]
    for name in names:
        store.execute(client.put(name, cell(5, b"v")))
    store.execute(client.delete_range("b", "c", 9))
    for reverse in (False, True):
        alive = [suffix(name) for name in ("a", "c", "d")]
        expected = alive[::-1] if reverse else alive
        for rows_max in range(1, 6):
            got = read(store, partition_slice(rows_max=rows_max, reverse=reverse))
            assert [key[len(partition_slice().partition) :] for key, _ in got.rows] == expected[:rows_max]
            assert got.more is (rows_max < len(expected))
            assert got.header is not None and len(decode_header(got.header).ranges) == 1
    narrow = msgspec.structs.replace(partition_slice(), bytes_max=1)
    assert len(read(store, narrow).rows) == 1 and read(store, narrow).more
    assert read(store, point_slice("b")).rows == () and len(read(store, point_slice("a")).rows) == 1


def test_a_token_slice_can_be_continued_inside_a_partition() -> None:
    store, client = store_on(), Client()
    for name in ("a", "b", "c"):
        store.execute(client.put(name, cell(5, b"v")))
    store.execute(client.delete_range("b", "c", 9))
    whole = read(store, token_slice())
    assert [keys.split_row_key(key)[3] for key, _ in whole.rows] == [b"\x00", suffix("a"), suffix("c")]
    for reverse in (False, True):
        pages: list[tuple[bytes, bytes]] = []
        wanted = token_slice(rows_max=1, reverse=reverse)
        for _ in range(10):
            page = read(store, wanted)
            pages += page.rows
            if not page.more:
                break
            last = page.rows[-1][0]
            change = {"end": last} if reverse else {"first": last + b"\x00"}
            wanted = msgspec.structs.replace(wanted, **change)
        assert tuple(pages[::-1] if reverse else pages) == whole.rows


def test_digests_tell_rows_header_and_more_apart() -> None:
    store, client = store_on(), Client()

    def digest(**change: Any) -> bytes:
        outcome = store.execute(Read(msgspec.structs.replace(partition_slice(), **change), True))
        assert isinstance(outcome, Digest) and len(outcome.digest) == 16
        return outcome.digest

    seen = {digest()}
    for command in (
        client.put("a", cell(5, b"v")),
        client.put("b", cell(5, b"v")),
        client.delete_range("x", "y", 1),
    ):
        store.execute(command)
        assert digest() not in seen
        seen.add(digest())
    assert digest(rows_max=1) not in seen and digest() == digest()


# --- the log


def test_the_log_filters_trims_and_goes_on_after_reopening() -> None:
    engine = MemoryEngine()
    store, client = store_on(engine), Client(PLAIN)
    commands = [client.mutation({keys.ROW_SUFFIX: row(cell(5, b"v"))}, token=token) for token in range(6)]
    for command in commands:
        store.execute(command)
    some = store.execute(LogRead(1, 2, ((PLAIN.id, ((1, 1), (3, 9))),)))
    assert isinstance(some, LogIds)
    assert [e.offset for e in some.entries] == [2, 4] and (some.next_after, some.first, some.end) == (4, 1, 6)
    assert store.execute(LogRead(0, 9, ((WIDE.id, ((0, 9),)),))) == LogIds((), 6, 1, 6)
    size = store.log.size_bytes
    store.execute(LogTrim(0, size // 2))
    assert store.log.first == 4 and 0 < store.log.size_bytes <= size // 2
    assert store.execute(LogFetch((1, 3, 4), 1)) == Mutations(((4, commands[3].mutation),))
    assert store.execute(LogMissing(((9, 1, 0), (9, 77, 0)))) == Missing(((9, 77, 0),))
    store.execute(LogTrim(10**9, 0))
    assert (store.log.first, store.log.end, store.log.size_bytes) == (7, 6, 0)
    again = store_on(engine)
    assert (again.log.first, again.log.end, again.log.size_bytes) == (7, 6, 0)
    again.execute(client.put("a", cell(6, b"v")))
    assert [offset for offset, _ in store_on(engine).log.entries(0, 9)] == [7]
    assert not stored(again, keys.LOG_BODY).keys() & {keys.log_key(keys.LOG_BODY, n) for n in range(7)}


def test_repaired_entries_hold_key_and_cells_and_are_not_for_followers() -> None:
    store = store_on()
    key = keys.row_key(WIDE.id, 5, b"p", suffix("a"))
    data = encode_row(row(cell(5, b"v")))
    assert store.execute(MergeRows(WIDE.id, ((key, data),))) == Merged(1)
    assert kinds(store) == [REPAIRED] and store.log.repaired(1) == (key, data)
    assert store.execute(LogRead(0, 9, EVERYTHING)) == LogIds((), 1, 1, 1)
    assert store.execute(LogFetch((1,), 99)) == Mutations(())


# --- system records, sweeping


def test_system_records_are_scanned_in_pages_and_read_at_boot() -> None:
    store = store_on()
    puts = tuple((b"hint/%d" % i, b"v%d" % i) for i in range(5))
    store.execute(SystemWrite((*puts, (b"other", b"x"))))
    store.execute(SystemWrite(((b"hint/3", None), (b"hint/3x", b""))))
    page = store.execute(SystemScan(b"hint/", b"", 2, 10**6))
    assert page == Records(puts[:2], True)
    assert store.execute(SystemScan(b"hint/", b"hint/2", 2, 10**6)) == Records(
        ((b"hint/3x", b""), puts[4]), False
    )
    assert store.execute(SystemScan(b"hint/", b"", 9, 1)) == Records(puts[:1], True)
    assert list(store.boot(b"hint/")) == [b"hint/0", b"hint/1", b"hint/2", b"hint/3x", b"hint/4"]


def test_sweeping_is_bounded_survives_a_restart_and_begins_again_for_a_newer_header() -> None:
    engine = MemoryEngine()
    store, client = store_on(engine), Client()
    for i in range(10):
        store.execute(client.put(f"{i}", cell(5, b"v")))
    store.execute(client.put("9", cell(20, b"kept")))
    store.execute(client.delete_partition(10))
    sweep = store.next_sweep()
    assert sweep is not None
    first = store.execute(msgspec.structs.replace(sweep, rows_max=3))
    assert isinstance(first, Swept) and first.removed == 3 and first.after
    store.execute(client.delete_partition(11))
    assert store.next_sweep() == sweep
    again = store_on(engine)
    assert again.next_sweep() == sweep
    assert again.execute(sweep) == Swept(6, b"")
    assert again.next_sweep() is None and store_on(engine).next_sweep() is None
    assert [decode_row(data).cells[0].value for _, data in read(again, partition_slice()).rows] == [b"kept"]
    check_tree(again)
    assert stored(again)[keys.row_key(WIDE.id, 5, b"p", b"\x00")] == encode_header(
        Header(Tombstone(11, 7, 11))
    )
    assert encode_header(EMPTY_HEADER) not in stored(again).values()


def test_leaves_cut_the_tokens_into_equal_slices() -> None:
    assert leaf_tokens(0)[0] == keys.TOKEN_MIN and leaf_tokens(LEAVES - 1)[1] == keys.TOKEN_MAX
    for leaf in (0, 1, LEAVES // 2, LEAVES - 1):
        assert [leaf_of(token) for token in leaf_tokens(leaf)] == [leaf, leaf]


# --- faults


def test_damage_is_an_error_that_names_it_and_is_remembered() -> None:
    """Counterexample 44: never served, never absent, never the end of a scan."""
    engine = MemoryEngine()
    store, client = store_on(engine), Client()
    for name in ("a", "b", "c"):
        store.execute(client.put(name, cell(5, b"v")))
    key = point_slice("b").first
    engine.damage(key)
    late = client.put("b", cell(6, b"w"))
    for command in (
        Read(point_slice("b"), False),
        Read(partition_slice(), True),
        Read(token_slice(), False),
        late,
    ):
        outcome = store.execute(command)
        assert isinstance(outcome, Failed) and outcome.why is Why.CORRUPT and key.hex() in outcome.detail
    assert (WIDE.id, leaf_of(5), leaf_of(5) + 1) in store.damaged
    assert len(read(store, point_slice("a")).rows) == 1
    assert store.execute(LogMissing(((9, 4, 0),))) == Missing(((9, 4, 0),))


@pytest.mark.parametrize("damaged", [b"", b"\x93", b"\x92\xc0\x91\xc0"])
def test_a_row_that_does_not_decode_is_damage(damaged: bytes) -> None:
    engine = MemoryEngine()
    store, client = store_on(engine), Client()
    store.execute(client.put("a", cell(5, b"v")))
    store.execute(client.delete_range("b", "c", 5))
    engine.write([(point_slice("a").first, damaged)])
    outcome = store.execute(client.put("a", cell(6, b"v")))
    assert isinstance(outcome, Failed) and outcome.why is Why.CORRUPT
    assert point_slice("a").first.hex() in outcome.detail


@pytest.mark.parametrize(
    ("fault", "why"), [(DiskFullError("full"), Why.DISK_FULL), (StallError("busy"), Why.STALLED)]
)
def test_a_write_that_fails_leaves_nothing_and_the_next_one_is_as_if_it_had_not_been(
    fault: Any, why: Why
) -> None:
    engine = MemoryEngine(FailNth("write", 2, fault))
    store, client = store_on(engine), Client()
    commands = [client.put(name, cell(5, b"v")) for name in ("a", "b", "c")]
    outcomes = [store.execute(command) for command in commands]
    failed = outcomes[1]
    assert isinstance(failed, Failed) and failed.why is why
    clean = store_on()
    for command in (commands[0], commands[2]):
        clean.execute(command)
    assert stored(store) == stored(clean) and stored(store, keys.LOG) == stored(clean, keys.LOG)
    check_tree(store)


def test_ids_are_known_whatever_their_order_and_after_a_restart() -> None:
    """A mutation beyond all of its start is new without a look; any other is looked up."""
    engine, client = MemoryEngine(), Client()
    store = store_on(engine)
    commands = [client.put(f"{n}", cell(5 + n, b"v")) for n in range(5)]
    for n in (1, 0, 4):
        assert store.execute(commands[n]) == Applied(None, True)
    for again in (store, store_on(engine)):
        assert not again.log.is_beyond(client.start, 5) and again.log.is_beyond(client.start, 6)
        for n in (4, 1, 0):
            assert again.execute(commands[n]) == Applied(None, False)
    for n in (3, 2):
        assert store.execute(commands[n]) == Applied(None, True)
        assert store.execute(commands[n]) == Applied(None, False)
    assert store.log.is_beyond(client.start + 1, 1)


def test_damaged_ids_fail_the_apply() -> None:
    engine, client = MemoryEngine(), Client()
    store_on(engine).execute(client.put("a", cell(5, b"v")))
    engine.damage(keys.mutation_id_key((client.start, 1, 0)))
    outcome = store_on(engine).execute(client.put("b", cell(6, b"v")))
    assert isinstance(outcome, Failed) and outcome.why == Why.CORRUPT


@pytest.mark.parametrize("n", range(1, 7))
def test_damage_met_anywhere_in_an_apply_writes_nothing(n: int) -> None:
    engine = MemoryEngine()
    store, client = store_on(engine), Client(IMAGED)
    store.execute(client.put("a", cell(5, b"v")))
    fresh = store_on(engine)
    before = dict(engine.scan(b"", b"\xff"))
    engine.hook = FailNth("get", n, CorruptionError("damaged"))
    command = client.put("a", cell(6, b"w"))
    outcome = fresh.execute(command)
    engine.hook = None
    if isinstance(outcome, Failed):
        assert dict(engine.scan(b"", b"\xff")) == before
        assert fresh.execute(command) == Applied(None, True)
    else:
        assert n > 2, "an apply reads header and row one by one"
    check_tree(fresh)


def test_damaged_sums_fail_the_apply_and_write_nothing() -> None:
    engine = MemoryEngine()
    client = Client()
    store_on(engine).execute(client.put("a", cell(5, b"v")))
    before = dict(engine.scan(b"", b"\xff"))
    engine.damage(keys.tree_key(WIDE.id, 0, leaf_of(5)))
    outcome = store_on(engine).execute(client.put("b", cell(6, b"w")))
    assert isinstance(outcome, Failed) and outcome.why == Why.CORRUPT
    engine.write(list(before.items()))
    assert dict(engine.scan(b"", b"\xff")) == before


@given(st.lists(WRITES, min_size=1, max_size=6), st.data())
@settings(max_examples=100, deadline=None)
def test_after_a_crash_each_command_is_there_wholly_or_not_at_all(
    writes: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    engine = MemoryEngine()
    store, client = store_on(engine), Client()
    states = [dict(engine.scan(b"", b"\xff"))]
    durable = 0
    for write in writes:
        store.execute(command_of(client, write))
        states.append(dict(engine.scan(b"", b"\xff")))
        if data.draw(st.booleans()):
            engine.sync()
            durable = len(states) - 1
    keep = data.draw(st.integers(0, engine.unsynced()))
    engine.crash(keep)
    assert dict(engine.scan(b"", b"\xff")) == states[durable + keep]
    again = store_on(engine)
    assert again.log.end == durable + keep
    check_tree(again)
    sweep_all(again)
    check_tree(again)


def test_a_dropped_table_is_not_swept_for_ever() -> None:
    engine, tables = MemoryEngine(), dict(TABLES)
    store, client = Store(engine, tables.get), Client()
    store.execute(client.put("a", cell(5, b"v")))
    store.execute(client.delete_partition(10))
    del tables[WIDE.id]
    sweep = store.next_sweep()
    assert isinstance(sweep, Sweep)
    assert isinstance(store.execute(sweep), Failed)
    assert store.next_sweep() is None
