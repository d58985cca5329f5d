"""Events of log entries: taken from a real store, so that flags and images are those of the write."""

from __future__ import annotations

import pytest

from core.cell import MARKER, VALUE, Cell
from core.commands import Apply, ChangesLogged, LogChanges, LoggedChange, MergeRows
from core.mutation import DELETE, INSERT, UPDATE, Mutation, encode_mutation
from core.row import OPERATION_SUFFIX, Header, RangeTombstone, Row, Tombstone, encode_row
from core.schema import CLUSTERING, PARTITION, REGULAR, Column, Table, TableOptions
from lsm.keys import ROW_SUFFIX, STATIC_SUFFIX, row_key
from lsm.log import REPAIRED, decode_images
from lsm.memory import MemoryEngine
from lsm.store import Store
from ring.tokens import MAX_TOKEN, MIN_TOKEN, token_of
from streams.events import DELETED, ENDED, INSERTED, UPDATED, Event, event_of_row, events_of, restarted

NOW_US = 1_000_000
KEY = Column(0, "key", "text", PARTITION)
VALUE_COLUMN = Column(1, "value", "blob", REGULAR)
ROW_1 = ROW_SUFFIX + b"a\0\0"


class Keeper:
    """A store with one table, and what its log says."""

    def __init__(self, changes: str = "new_and_old", clustering: bool = False) -> None:
        columns = (KEY, *((Column(0, "at", "text", CLUSTERING),) if clustering else ()), VALUE_COLUMN)
        table = Table(1, "ks", "t", columns, TableOptions(changes=changes), 1)
        self.changes = changes
        self.store = Store(MemoryEngine(), {1: table}.get)
        self.sequence = 0

    def write(
        self,
        *rows: tuple[bytes, Row],
        operation: int = UPDATE,
        header: Header | None = None,
        admitted_us: int = NOW_US,
    ) -> None:
        """One mutation of the partition `k`."""
        self.sequence += 1
        mutation = Mutation(
            9, self.sequence, 0, admitted_us, True, operation, 1, token_of(b"k"), b"k", header, rows
        )
        self.store.execute(Apply(encode_mutation(mutation)))

    def entries(self, after: int = 0, entries_max: int = 100, since_us: int = 0) -> ChangesLogged:
        """A page of the log."""
        ranges = ((MIN_TOKEN, MAX_TOKEN),)
        found = self.store.execute(LogChanges(1, ranges, after, entries_max, 1 << 20, since_us))
        assert isinstance(found, ChangesLogged)
        return found

    def events(self) -> list[Event]:
        """All events."""
        return [event for entry in self.entries().entries for event in events_of(entry, self.changes)]


def cells(value: bytes | None, at_us: int, dead_from_us: int = 0) -> Row:
    """A row with one value."""
    return Row(None, (Cell(1, (), VALUE, at_us, 9, dead_from_us, value),))


def test_operations_say_whether_the_row_was_there_and_is() -> None:
    keeper = Keeper()
    keeper.write((ROW_SUFFIX, cells(b"1", 10)))
    keeper.write((ROW_SUFFIX, cells(b"2", 20)))
    keeper.write((ROW_SUFFIX, Row(Tombstone(30, 9, 30), ())), operation=DELETE)
    keeper.write((ROW_SUFFIX, cells(b"3", 40)))
    found = keeper.events()
    assert [event.operation for event in found] == [INSERTED, UPDATED, DELETED, INSERTED]
    assert [event.id for event in found] == ["9-1-0", "9-2-0", "9-3-0", "9-4-0"]
    assert [event.version for event in found] == [(10, 9), (20, 9), (30, 9), (40, 9)]
    assert not any(event.late or event.superseded for event in found)


def test_images_chain_and_what_is_gone_has_none() -> None:
    keeper = Keeper()
    for at_us in (10, 20):
        keeper.write((ROW_SUFFIX, cells(b"%d" % at_us, at_us)))
    keeper.write((ROW_SUFFIX, Row(Tombstone(30, 9, 30), ())), operation=DELETE)
    first, second, third = keeper.events()
    assert (first.before, third.after) == (None, None)
    assert first.after == second.before == cells(b"10", 10)
    assert second.after == third.before == cells(b"20", 20)


def test_a_straggler_is_late_and_one_that_changes_nothing_is_superseded() -> None:
    keeper = Keeper()
    keeper.write((ROW_SUFFIX, cells(b"2", 20)))
    keeper.write((ROW_SUFFIX, cells(b"1", 10)))
    _, straggler = keeper.events()
    assert (straggler.late, straggler.superseded, straggler.operation) == (True, True, UPDATED)
    assert straggler.before == straggler.after == cells(b"2", 20)


def test_what_expired_before_is_not_there() -> None:
    keeper = Keeper()
    keeper.write((ROW_SUFFIX, cells(b"1", 10, NOW_US - 1)), admitted_us=5)
    keeper.write((ROW_SUFFIX, cells(b"2", 20)))
    first, ended, second = keeper.events()
    assert ended.operation == ENDED and ended.before == first.after and ended.after is None
    assert (first.operation, second.operation, second.before) == (INSERTED, INSERTED, None)


@pytest.mark.parametrize(
    ("changes", "imaged"), [("keys", (False, False)), ("new", (False, True)), ("old", (True, False))]
)
def test_a_table_has_the_images_that_it_asks_for(changes: str, imaged: tuple[bool, bool]) -> None:
    keeper = Keeper(changes)
    keeper.write((ROW_SUFFIX, cells(b"1", 10)))
    keeper.write((ROW_SUFFIX, cells(b"2", 20)))
    event = keeper.events()[1]
    assert event.imaged == imaged
    assert ((event.before is not None), (event.after is not None)) == imaged
    assert event.operation == UPDATED


def test_an_image_that_was_not_asked_for_then_is_not_shown_as_nothing() -> None:
    keeper = Keeper("keys")
    keeper.write((ROW_SUFFIX, cells(b"1", 10)))
    keeper.write((ROW_SUFFIX, cells(b"2", 20)))
    keeper.write((ROW_SUFFIX, Row(Tombstone(30, 9, 30), ())), operation=DELETE)
    keeper.changes = "new_and_old"
    assert [event.imaged for event in keeper.events()] == [(True, False), (False, False), (False, True)]


def test_without_the_option_the_mutations_word_stands() -> None:
    keeper = Keeper("none")
    keeper.write((ROW_SUFFIX, cells(b"1", 10)), operation=INSERT)
    keeper.write((ROW_SUFFIX, cells(b"2", 20)))
    keeper.write((ROW_SUFFIX, Row(Tombstone(30, 9, 30), ())), operation=DELETE)
    assert [event.operation for event in keeper.events()] == [INSERTED, UPDATED, DELETED]
    assert all(event.before is None and event.after is None for event in keeper.events())


def test_rows_of_one_mutation_are_events_of_their_own_and_the_last_ends_it() -> None:
    keeper = Keeper(clustering=True)
    keeper.write((STATIC_SUFFIX, cells(b"s", 10)), (ROW_1, cells(b"1", 10)))
    first, second = keeper.events()
    assert (first.id, second.id) == ("9-1-0", "9-1-1")
    assert (first.scope, second.scope) == ("static", "row")
    assert (first.last, second.last) == (False, True)


def test_rows_of_a_snapshot_have_ids_of_their_own_though_one_write_made_them() -> None:
    keys = [row_key(1, token_of(b"k"), b"k", ROW_SUFFIX + b"%d\0\0" % number) for number in range(3)]
    row = cells(b"v", 10)
    assert len({event_of_row(key, row, NOW_US).id for key in keys}) == 3
    assert event_of_row(keys[0], row, NOW_US).id == event_of_row(keys[0], row, NOW_US + 1).id
    assert event_of_row(keys[0], row, NOW_US).id != event_of_row(keys[0], cells(b"v", 11), NOW_US).id


def test_deletions_of_many_rows_are_events_with_bounds() -> None:
    keeper = Keeper(clustering=True)
    header = Header(Tombstone(10, 9, 10), (RangeTombstone(b"\x02a", b"\x02c", 20, 9, 20),))
    keeper.write(operation=DELETE, header=header)
    whole, part = keeper.events()
    assert (whole.scope, whole.operation, whole.version) == ("partition", DELETED, (10, 9))
    assert (part.scope, part.suffix, part.end, part.version) == ("range", b"\x02a", b"\x02c", (20, 9))
    assert (whole.id, part.id) == ("9-1-0", "9-1-1")


def test_the_record_of_an_operation_id_is_no_event() -> None:
    keeper = Keeper()
    keeper.write((ROW_SUFFIX, cells(b"1", 10)), (OPERATION_SUFFIX + b"op", cells(b"done", 10)))
    keeper.write((OPERATION_SUFFIX + b"op2", cells(b"done", 20)))
    found = keeper.events()
    assert [event.id for event in found] == ["9-1-0"]
    assert found[0].last
    logged = keeper.entries().entries
    assert [len(decode_images(entry.images)) for entry in logged] == [1, 0]


def test_markers_are_what_changed_only_where_nothing_else_was_written() -> None:
    keeper = Keeper()
    marker, value = Cell(1, (), MARKER, 10, 9, 0, b""), Cell(1, (b"a",), VALUE, 10, 9, 0, b"1")
    keeper.write((ROW_SUFFIX, Row(None, (marker, value))))
    keeper.write((ROW_SUFFIX, Row(None, (Cell(1, (), MARKER, 20, 9, 0, b""),))))
    assert [event.changed for event in keeper.events()] == [((1, (b"a",)),), ((1, ()),)]


def test_cells_without_a_mutation_are_no_event_but_break_the_chain() -> None:
    keeper = Keeper()
    token = token_of(b"k")
    key = row_key(1, token, b"k")
    keeper.store.execute(MergeRows(1, ((key, encode_row(cells(b"1", 10))),)))
    keeper.store.execute(
        MergeRows(1, ((row_key(1, token, b"k", OPERATION_SUFFIX + b"o"), encode_row(cells(b"1", 10))),))
    )
    repaired, record = keeper.entries().entries
    assert repaired.kind == REPAIRED
    assert events_of(repaired, "new_and_old") == []
    assert (restarted(repaired), restarted(record)) == ((token, token), None)
    assert restarted(LoggedChange(1, 0, token, b"", b"")) is None


def test_images_count_as_bytes_of_the_log() -> None:
    sizes = []
    for changes in ("none", "new", "new_and_old"):
        keeper = Keeper(changes)
        for at_us in (10, 20):
            keeper.write((ROW_SUFFIX, cells(b"x" * 1_000, at_us)))
        sizes.append(keeper.store.log.size_bytes)
    assert sizes[0] + 2_000 < sizes[1] < sizes[0] + 2_500
    assert sizes[1] + 1_000 < sizes[2] < sizes[1] + 1_500


def test_pages_go_on_where_they_stopped_and_pass_over_what_is_too_old() -> None:
    keeper = Keeper()
    for number in range(1, 8):
        keeper.write((ROW_SUFFIX, cells(b"x", number)), admitted_us=number * 10)
    first = keeper.entries(entries_max=3)
    assert [entry.offset for entry in first.entries] == [1, 2, 3]
    assert (first.next_after, first.first, first.end) == (3, 1, 7)
    rest = keeper.entries(after=first.next_after)
    assert [entry.offset for entry in rest.entries] == [4, 5, 6, 7]
    assert [entry.offset for entry in keeper.entries(since_us=55).entries] == [6, 7]
    assert keeper.entries(after=-1) == ChangesLogged((), 7, 1, 7)
