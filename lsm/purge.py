"""Purging: rows and headers without what is dead since before a floor.

Whatever is written and holds something that is dead, or will be, leaves a note of when (`note`), in the batch
of the row: region `G | table | segment of the token space | due | row key`. So what there is to purge is
found without looking at anything else, in order of time, and deleting a million rows leaves a million notes
that each are read once.

What may go from a row, given a floor (`purged`), depends on nothing but the row: replicas at equal floors
keep equal bytes.

- A tombstone, an expired cell, a row's deletion: dead since before the floor, and of no later version (a
  client
  may give a timestamp ahead of its time; until then the deletion still means something).
- But not what lies in a *value*: deleting or expiring `a` of a document that was written as a whole hides a
  part
  of that value, and goes only when the value does.
- A partition's deletions: only when the rows that they cover are swept away.
- Records of operation ids are kept for as long as ids may be remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import filterfalse
from typing import Final

from core.cell import VALUE, Cell
from core.healing import GarbageDue, Purge, Purged
from core.limits import SECOND_US
from core.ports import Engine
from core.row import OPERATION_SUFFIX, Header, Row, encode_header, encode_row, is_empty
from lsm import keys
from lsm.floors import Floors
from lsm.hash_tree import leaf_of
from lsm.reading import Record, Scan, stored_header, stored_row

OPERATION_KEEP_US: Final = 31 * 24 * 3600 * SECOND_US
"""Longer than any cluster may be told to remember an operation id."""

SEGMENT_SHIFT: Final = 56
_SEGMENT_LAST: Final = 255
_SEGMENT_AT: Final = 5
"""Where a note has its segment."""

PASSED_MAX: Final = 1_000
"""So many rows that may be purged are passed by one slice: some milliseconds on the event loop."""
RUN_ROWS_MIN: Final = 32
"""Fewer are not worth remembering."""
_LAST_IF_DEAD: Final = b"\x90\xc0"
"""The last byte of a row of which nothing lives, unless by expiry: no cells, or the last without a value."""

Puts = list[tuple[bytes, bytes | None]]


def due_of(row: Row, suffix: bytes, after_us: int = 0) -> int:
    """When the first thing in a row may go that may not at `after_us`; 0 if there is none.

    It is dead then, and its version not ahead of that time.
    """
    if suffix[:1] == OPERATION_SUFFIX:
        times = [max(1, cell.timestamp_us) + OPERATION_KEEP_US for cell in row.cells]
    else:
        times = []
        for cell in row.cells:
            if cell.dead_from_us:
                times.append(max(1, cell.dead_from_us, cell.timestamp_us))
        if row.deletion is not None:
            times.append(max(1, row.deletion.admitted_us, row.deletion.timestamp_us))
    return min((time_us for time_us in times if time_us > after_us), default=0) if times else 0


def due_of_header(header: Header, after_us: int = 0) -> int:
    """As `due_of`, of a partition's deletions."""
    times = [max(1, item.admitted_us, item.timestamp_us) for item in header.ranges]
    if header.deletion is not None:
        times.append(max(1, header.deletion.admitted_us, header.deletion.timestamp_us))
    return min((time_us for time_us in times if time_us > after_us), default=0)


def note(puts: Puts, key: bytes, due_us: int) -> None:
    """Add the note that something in this record is dead from a time on."""
    if due_us:
        puts.append((keys.garbage_key(key, due_us), b""))


def purged(row: Row, floor_us: int, suffix: bytes) -> Row:
    """The row without what may go below this floor."""
    if suffix[:1] == OPERATION_SUFFIX:
        floor_us -= OPERATION_KEEP_US
        kept = tuple(cell for cell in row.cells if cell.timestamp_us > floor_us)
        return row if len(kept) == len(row.cells) else Row(row.deletion, kept)
    deletion = row.deletion
    if deletion is not None and max(deletion.admitted_us, deletion.timestamp_us) <= floor_us:
        deletion = None
    gone = [cell for cell in row.cells if _is_over(cell, floor_us)]
    if not gone:
        return row if deletion is row.deletion else Row(deletion, row.cells)
    values = {
        (cell.column, cell.path)
        for cell in row.cells
        if cell.kind == VALUE and cell.value is not None and not _is_over(cell, floor_us)
    }
    kept = tuple(cell for cell in row.cells if not _is_over(cell, floor_us) or _lies_in_value(cell, values))
    return Row(deletion, kept)


def unpurged(engine: Engine, floors: Floors, table: int) -> Scan | None:
    """A scan that leaves out rows that may be purged, as if they were; None for a table without floors.

    So what readers pass, and whether replicas agree, hardly depends on how far each of them has purged.
    """
    return partial(_unpurged, engine, floors) if table in floors.tables else None


class _Over:
    """Which rows of one scan may be purged. Only so many are found: those after them come as they are stored,
    and a reader goes on there.

    What ran out behind a row that lives comes, too, until it is purged: seeing it would cost a decoding each.
    """

    __slots__ = ("_floor_us", "_floors", "_head", "_left", "_was")

    def __init__(self, floors: Floors) -> None:
        self._floors = floors
        self._head, self._floor_us = b"", 0
        self._left, self._was = PASSED_MAX, True

    def __call__(self, record: Record) -> bool:
        """Of the next row in the order of the scan."""
        key, data = record
        may_be = self._left > 0 and (self._was or data[-1] in _LAST_IF_DEAD)
        self._was = may_be and self._is(key, data)
        self._left -= self._was
        return self._was

    def _is(self, key: bytes, data: bytes) -> bool:
        if key[: keys.PARTITION_AT] != self._head:
            self._head = key[: keys.PARTITION_AT]
            table, token, _, _ = keys.split_row_key(key)
            self._floor_us = self._floors.at(table, leaf_of(token)).floor_us
        suffix = key[keys.prefix_end(key) :]
        return suffix != keys.HEADER_SUFFIX and is_empty(
            purged(stored_row(key, data), self._floor_us, suffix)
        )


def _unpurged(engine: Engine, floors: Floors, first: bytes, end: bytes, reverse: bool) -> Iterator[Record]:
    """In order, what was found before is not looked at again; in reverse nobody looks for a queue's head."""
    is_over = _Over(floors)
    if reverse:
        yield from filterfalse(is_over, engine.scan(first, end, reverse))
        return
    runs = floors.dead_runs
    begun, passed = first, 0
    at: bytes | None = first
    while at is not None:
        beyond = runs.beyond(at)
        if beyond > at:
            at, passed = beyond, max(passed, RUN_ROWS_MIN)
        records, at = engine.scan(at, end), None
        for record in records:
            key = record[0]
            if is_over(record):
                passed += 1
                if passed % RUN_ROWS_MIN == 0 and runs.beyond(key) > key:
                    at = key
                    break
                continue
            if passed >= RUN_ROWS_MIN:
                runs.found(begun, key)
            yield record
            begun, passed = key + b"\0", 0
    if passed >= RUN_ROWS_MIN:
        runs.found(begun, end)


def _is_over(cell: Cell, floor_us: int) -> bool:
    return 0 < cell.dead_from_us <= floor_us and cell.timestamp_us <= floor_us


def is_due(engine: Engine, command: GarbageDue) -> bool:
    """Whether anything in these ranges is dead by then.

    Beginning a scan costs most of a millisecond, so segments without notes are not looked into.
    """
    for table, pairs in command.parts:
        if _next_note(engine, table, 0, _SEGMENT_LAST) is None:
            continue
        if any(_is_due_within(engine, table, pair, command.until_us) for pair in pairs):
            return True
    return False


def _next_note(engine: Engine, table: int, segment: int, last: int) -> bytes | None:
    """The first note of these segments: the one that is due first in the first that has any."""
    first, end = keys.garbage_prefix(table, segment), keys.successor(keys.garbage_prefix(table, last))
    return next((key for key, _ in engine.scan(first, end)), None)


def _is_due_within(engine: Engine, table: int, tokens: tuple[int, int], until_us: int) -> bool:
    first_token, last_token = tokens
    segment, last = _segment(first_token), _segment(last_token)
    while segment <= last:
        found = _next_note(engine, table, segment, last)
        if found is None:
            return False
        segment = found[_SEGMENT_AT]
        if keys.split_garbage(found)[0] <= until_us:
            prefix = keys.garbage_prefix(table, segment)
            for key, _ in engine.scan(prefix, prefix + (until_us + 1).to_bytes(8, "big")):
                if first_token <= keys.token_of(keys.split_garbage(key)[1]) <= last_token:
                    return True
        segment += 1
    return False


def _segment(token: int) -> int:
    return (token + 2**63) >> SEGMENT_SHIFT


def _lies_in_value(cell: Cell, values: set[tuple[int, tuple[bytes, ...]]]) -> bool:
    """Whether it says something of a value that stays: one above it, or, for a marker, one that it
    replaced.
    """
    column, path = cell.column, cell.path
    longest = len(path) if cell.kind == VALUE else len(path) + 1
    return any((column, path[:depth]) in values for depth in range(longest))


def purged_header(header: Header, floor_us: int) -> Header:
    """The header without deletions that are over."""
    deletion = header.deletion
    if deletion is not None and max(deletion.admitted_us, deletion.timestamp_us) <= floor_us:
        deletion = None
    ranges = tuple(item for item in header.ranges if max(item.admitted_us, item.timestamp_us) > floor_us)
    return Header(deletion, ranges)


Changed = dict[bytes, tuple[bytes, bytes | None]]
"""Of records, by key: their bytes before and after."""


def look(
    engine: Engine, floors: Floors, command: Purge, is_being_swept: dict[bytes, bytes]
) -> tuple[Purged, Changed, Puts]:
    """What the next notes of a range lead to: the outcome, records that change, and other puts (notes that
    are
    done, and new ones).

    `is_being_swept` has the key prefixes of partitions whose header covers rows that are still stored. Raises
    CorruptionError for damaged bytes.
    """
    highest_us = max((one.floor_us for one in floors.tables.get(command.table, ())), default=0)
    changed: Changed = {}
    puts: Puts = []
    looked_at = 0
    after = command.after
    first_segment = _segment(command.first_token)
    if after:
        first_segment = after[_SEGMENT_AT]
    for segment in range(first_segment, _segment(command.last_token) + 1):
        prefix = keys.garbage_prefix(command.table, segment)
        first = after + b"\0" if after.startswith(prefix) else prefix
        end = prefix + (highest_us + 1).to_bytes(8, "big")
        for key, _ in engine.scan(first, end):
            if looked_at >= command.rows_max:
                return Purged(after, looked_at, len(changed)), changed, puts
            after, looked_at = key, looked_at + 1
            due_us, row_key = keys.split_garbage(key)
            token = keys.token_of(row_key)
            floor_us = floors.at(command.table, leaf_of(token)).floor_us
            if due_us <= floor_us and command.first_token <= token <= command.last_token:
                _look_at(engine, (key, row_key), floor_us, is_being_swept, (changed, puts))
        if segment < _SEGMENT_LAST:
            after = keys.garbage_prefix(command.table, segment + 1)  # from here on: this one is done
    return Purged(b"", looked_at, len(changed)), changed, puts


def _look_at(
    engine: Engine,
    note_of: tuple[bytes, bytes],
    floor_us: int,
    is_being_swept: dict[bytes, bytes],
    into: tuple[Changed, Puts],
) -> None:
    """One note: it goes, and what is over in its record with it."""
    (key, row_key), (changed, puts) = note_of, into
    end = keys.prefix_end(row_key)
    suffix = row_key[end:]
    data = engine.get(row_key)
    if suffix == keys.HEADER_SUFFIX and row_key[:end] in is_being_swept:
        return
    puts.append((key, None))
    if data is None or row_key in changed:
        return
    new: bytes | None
    if suffix == keys.HEADER_SUFFIX:
        header = purged_header(stored_header(row_key, data), floor_us)
        new = encode_header(header) if header.deletion is not None or header.ranges else None
        due_us = due_of_header(header, floor_us)
    else:
        row = purged(stored_row(row_key, data), floor_us, suffix)
        new = None if is_empty(row) else encode_row(row)
        due_us = due_of(row, suffix, floor_us)
    if new != data:
        changed[row_key] = (data, new)
    note(puts, row_key, due_us)
