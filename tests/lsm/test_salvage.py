"""A database with damaged bytes is copied as far as it can be read, and says exactly what may be missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from core.cell import Cell
from core.commands import (
    Apply,
    Done,
    Failed,
    LogIds,
    LogRead,
    Outcome,
    Read,
    Rows,
    Slice,
    SystemWrite,
    TreeHashes,
    Why,
)
from core.errors import CorruptionError
from core.healing import FloorStep, Purge, Purged, RaiseFloor
from core.mutation import DELETE, UPDATE, Mutation, encode_mutation
from core.ports import Engine
from core.row import Row, Tombstone
from lsm import directory, keys
from lsm.directory import note_damage, open_store
from lsm.hash_tree import LEAVES, leaf_of
from lsm.lost import LOST_PREFIX, Lost
from lsm.memory import MemoryEngine
from lsm.salvage import Salvaged, salvage
from lsm.store import Store
from ring.tokens import token_of
from tests.lsm.support import PLAIN, TABLES, check_tree

ROWS = 300


def value(number: int) -> bytes:
    """Bytes that no compression makes shorter."""
    return b"".join(hashlib.sha256(b"%d-%d" % (number, part)).digest() for part in range(8))


def mutation(number: int, sequence: int = 0) -> bytes:
    partition = f"key-{number:05d}".encode()
    cell = Cell(1, (), 0, 1_000 + number, 7, 0, value(number))
    rows = ((keys.ROW_SUFFIX, Row(None, (cell,))),)
    token, at_us = token_of(partition), 1_000 + number
    order = sequence or number + 1
    return encode_mutation(Mutation(7, order, 0, at_us, True, UPDATE, PLAIN.id, token, partition, None, rows))


def filled(engine: Engine) -> Store:
    store = Store(engine, TABLES.get)
    for number in range(ROWS):
        store.execute(Apply(mutation(number)))
    return store


def value_of(store: Store, number: int) -> Outcome:
    return store.execute(Read(Slice(PLAIN.id, row_key(number), b"", b"", True, 1, 10**6), False))


def whole_table(store: Store, lost_too: bool = False) -> Outcome:
    first, end = keys.token_range_bounds(PLAIN.id, keys.TOKEN_MIN, keys.TOKEN_MAX)
    return store.execute(Read(Slice(PLAIN.id, first, end, b"", False, 10_000, 10**9), False, lost_too))


def row_key(number: int) -> bytes:
    partition = f"key-{number:05d}".encode()
    return keys.row_key(PLAIN.id, token_of(partition), partition)


def copied(engine: MemoryEngine) -> tuple[Store, Salvaged]:
    target = MemoryEngine()
    salvaged = salvage(engine, target)
    return Store(target, TABLES.get), salvaged


def test_what_is_whole_is_copied_as_it_is_with_the_hash_tree_that_was_there() -> None:
    engine = MemoryEngine()
    store = filled(engine)
    copy, salvaged = copied(engine)
    assert salvaged.lost == () and salvaged.holes == 0 and not salvaged.log_forgotten
    assert copy.tree.leaves(PLAIN.id) == store.tree.leaves(PLAIN.id)
    everything = TreeHashes(PLAIN.id, ((0, LEAVES),), 16)
    assert copy.execute(everything) == store.execute(everything)
    assert whole_table(copy) == whole_table(store)
    assert copy.log.end == store.log.end


def test_a_damaged_row_is_missing_and_its_range_refused_but_for_who_mends_it() -> None:
    engine = MemoryEngine()
    filled(engine)
    ordered = sorted(map(row_key, range(ROWS)))
    for key in ordered[100:104]:
        engine.damage(key)
    copy, salvaged = copied(engine)
    leaves = [leaf_of(keys.token_of(key)) for key in ordered]
    assert salvaged.lost == (Lost(PLAIN.id, leaves[99], PLAIN.id, leaves[103]),)
    rows = whole_table(copy, lost_too=True)
    assert isinstance(rows, Rows)
    kept = [key for key, leaf in zip(ordered, leaves, strict=True) if not leaves[99] <= leaf <= leaves[103]]
    assert kept == ordered[:99] + ordered[104:]
    assert [key for key, _ in rows.rows] == kept, "nothing is left of a leaf in which something is lost"
    refused = whole_table(copy)
    assert isinstance(refused, Failed) and refused.why is Why.MENDING
    beside = Slice(PLAIN.id, ordered[0], b"", b"", True, 1, 10**6)
    assert isinstance(copy.execute(Read(beside, False)), Rows)
    copy.lost.ranges = ()
    check_tree(copy)


def test_a_write_into_what_is_lost_is_kept_and_not_acknowledged_until_the_note_is_gone() -> None:
    engine = MemoryEngine()
    filled(engine)
    engine.damage(row_key(5))
    copy, _ = copied(engine)
    outcome = copy.execute(Apply(mutation(5, ROWS + 10)))
    assert isinstance(outcome, Failed) and outcome.why is Why.MENDING
    first = keys.system_key(LOST_PREFIX)
    noted = [key[1:] for key, _ in copy.engine.scan(first, keys.successor(first))]
    assert len(noted) == 1
    copy.execute(SystemWrite(tuple((key, None) for key in noted)))
    assert not copy.lost.ranges
    found = value_of(copy, 5)
    assert isinstance(found, Rows) and [key for key, _ in found.rows] == [row_key(5)]


def test_what_is_lost_before_the_first_loss_is_given_back_does_not_take_its_note() -> None:
    """A second copy is as many batches as the first: its note once had the first one's name."""
    engine = MemoryEngine()
    filled(engine)
    ordered = sorted(map(row_key, range(ROWS)))
    engine.damage(ordered[100])
    target, again = MemoryEngine(), MemoryEngine()
    first = salvage(engine, target)
    target.damage(ordered[200])
    second = salvage(target, again)
    store = Store(again, TABLES.get)
    for lost in (*first.lost, *second.lost):
        assert store.lost.hits([(PLAIN.id, lost.first_leaf, lost.last_leaf + 1)]), lost
    assert len(store.lost.ranges) == 2
    for key in (ordered[100], ordered[200]):
        refused = store.execute(Read(Slice(PLAIN.id, key, b"", b"", True, 1, 10**6), False))
        assert isinstance(refused, Failed) and refused.why is Why.MENDING


def test_a_log_with_a_hole_is_forgotten_and_no_offset_is_used_twice() -> None:
    engine = MemoryEngine()
    store = filled(engine)
    end = store.log.end
    engine.damage(keys.log_key(keys.LOG, 20))
    copy, salvaged = copied(engine)
    assert salvaged.log_forgotten and not salvaged.lost
    assert copy.log.end > end and copy.log.first == copy.log.end + 1
    page = copy.execute(LogRead(end, 10, ((PLAIN.id, ((keys.TOKEN_MIN, keys.TOKEN_MAX),)),)))
    assert isinstance(page, LogIds) and page.first > end + 1  # whoever followed to the end sees a gap
    assert whole_table(copy) == whole_table(store)


def gone(number: int, sequence: int) -> bytes:
    """The mutation that deletes the row of `mutation(number)` later."""
    partition, at_us = f"key-{number:05d}".encode(), 5_000 + number
    rows = ((keys.ROW_SUFFIX, Row(Tombstone(at_us, 7, at_us), ())),)
    token = token_of(partition)
    return encode_mutation(
        Mutation(7, sequence, 0, at_us, True, DELETE, PLAIN.id, token, partition, None, rows)
    )


def notes_of_garbage(store: Store) -> list[bytes]:
    return [key for key, _ in store.engine.scan(keys.GARBAGE, keys.successor(keys.GARBAGE))]


@pytest.mark.parametrize("is_hit", [False, True])
def test_deletions_of_a_copy_are_still_found_and_purged(is_hit: bool) -> None:
    engine = MemoryEngine()
    store = filled(engine)
    for number in range(10):
        store.execute(Apply(gone(number, ROWS + number + 1)))
    notes = notes_of_garbage(store)
    assert len(notes) == 10
    if is_hit:
        engine.damage(notes[4])
    copy, salvaged = copied(engine)
    assert not salvaged.lost and notes_of_garbage(copy) == notes
    everything = ((PLAIN.id, ((keys.TOKEN_MIN, keys.TOKEN_MAX),)),)
    for step in FloorStep:
        assert copy.execute(RaiseFloor(step, 9_000, everything)) == Done()
    purge = Purge(PLAIN.id, keys.TOKEN_MIN, keys.TOKEN_MAX, b"", 100)
    assert copy.execute(purge) == Purged(b"", 10, 10)
    rows = whole_table(copy)
    assert isinstance(rows, Rows) and len(rows.rows) == ROWS - 10
    check_tree(copy)


def test_a_peer_that_may_have_forgotten_what_it_promised_is_refused() -> None:
    engine = MemoryEngine()
    store = filled(engine)
    store.execute(SystemWrite(((b"clock/ceiling", b"1"), (b"vote/1", b"x"))))
    engine.damage(keys.system_key(b"vote/1"))
    with pytest.raises(CorruptionError, match="promised"):
        salvage(engine, MemoryEngine())


def flip_in_rows(path: Path, needle: bytes) -> None:
    for file in sorted((path / "db").glob("*.sst")):
        data = bytearray(file.read_bytes())
        at = data.rfind(needle)  # mutations come first, rows after them
        if at >= 0:
            data[at + 2] ^= 0x10
            file.write_bytes(bytes(data))
            return
    raise AssertionError("the row is in no table file")


def test_a_flipped_bit_in_a_table_file_is_mended_at_the_next_opening(tmp_path: Path) -> None:
    opened = open_store(tmp_path, b"p" * 16, lambda: 0)
    store = Store(opened.engine, TABLES.get)
    for number in range(3_000):
        store.execute(Apply(mutation(number)))
    before = whole_table(store)
    opened.engine.flush()
    opened.engine.close()
    flip_in_rows(tmp_path, value(1_234)[:24])
    opened = open_store(tmp_path, b"p" * 16, lambda: 0)
    store = Store(opened.engine, TABLES.get)
    found = [value_of(store, number) for number in range(3_000)]
    bad = [outcome for outcome in found if isinstance(outcome, Failed)]
    assert bad and all(outcome.why is Why.CORRUPT for outcome in bad)
    assert store.damaged
    note_damage(tmp_path, "a test")
    opened.engine.close()

    opened = open_store(tmp_path, b"p" * 16, lambda: 0)
    assert opened.mended is not None and opened.mended.lost and opened.peer == b"p" * 16 and opened.start == 3
    store = Store(opened.engine, TABLES.get)
    found = [value_of(store, number) for number in range(3_000)]
    refused = [outcome for outcome in found if isinstance(outcome, Failed)]
    assert 0 < len(refused) < 300 and all(outcome.why is Why.MENDING for outcome in refused)
    assert isinstance(before, Rows)
    right = dict(before.rows)
    served = [row for outcome in found if isinstance(outcome, Rows) for row in outcome.rows]
    assert all(right[key] == data for key, data in served)
    opened.engine.compact()
    assert opened.engine.health()["background_errors"] == 0
    opened.engine.close()
    again = open_store(tmp_path, b"p" * 16, lambda: 0)
    assert again.mended is None and Store(again.engine, TABLES.get).lost.ranges
    again.engine.close()


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_mending_that_is_cut_short_leaves_nothing_behind(
    calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_store(tmp_path, b"p" * 16, lambda: 0)
    filled(opened.engine)
    opened.engine.close()
    note_damage(tmp_path, "a test")
    real, left = directory._remove, calls

    def removed(path: Path) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise OSError("the power is cut")
        real(path)

    monkeypatch.setattr(directory, "_remove", removed)
    with pytest.raises(OSError, match="the power is cut"):
        open_store(tmp_path, b"p" * 16, lambda: 0)
    monkeypatch.undo()
    opened = open_store(tmp_path, b"p" * 16, lambda: 0)
    assert isinstance(value_of(Store(opened.engine, TABLES.get), 3), Rows)
    opened.engine.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["db", "durable", "format", "identity"]
