"""Rows and partition headers in normal form, and the merge of both.

A row is a tombstone, perhaps, and cells sorted by address. In *normal form* it holds no cell that a tombstone
of the row (or of its partition, see `covered`) or a newer ancestor hides, and of each address one cell.
`merge_rows` of two normal rows is normal; it is commutative, associative and idempotent, and equal rows have
equal bytes (`encode_row`), which is what digests and hash trees compare.

A partition header holds what deletes more than one row: a partition tombstone and range tombstones.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable

import msgspec

from core.cell import MARKER, NO_VERSION, Address, Cell, Version, hides_below, rank


class Tombstone(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """A deletion of everything in its scope with a version up to its own; `admitted_us` is for the purge."""

    timestamp_us: int
    writer: int
    admitted_us: int

    @property
    def version(self) -> Version:
        """The version up to which it deletes."""
        return (self.timestamp_us, self.writer)


class RangeTombstone(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """A deletion of the rows whose key suffix is in [first, end) with versions up to its own."""

    first: bytes
    end: bytes
    timestamp_us: int
    writer: int
    admitted_us: int

    @property
    def version(self) -> Version:
        """The version up to which it deletes."""
        return (self.timestamp_us, self.writer)


Passed = tuple[bytes, int, int]
"""Dead rows in one: the last key, the sum of their hashes (mod 2^64), how many (lsm/passing.py)."""


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A row, or what a mutation adds to one: cells sorted by address, no address twice."""

    deletion: Tombstone | None
    cells: tuple[Cell, ...]


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What deletes in a whole partition.

    `ranges` are sorted and none is covered by another or by the deletion.
    """

    deletion: Tombstone | None
    ranges: tuple[RangeTombstone, ...] = ()


OPERATION_SUFFIX = b"\x03"
"""What the key suffix of the record of an operation id begins with (query/once.py): no deletion covers it."""

EMPTY_ROW = Row(None, ())
EMPTY_HEADER = Header(None)

encode_row: Callable[[Row], bytes] = msgspec.msgpack.Encoder().encode
"""The one byte form of a row: equal rows, equal bytes."""

decode_row: Callable[[bytes], Row] = msgspec.msgpack.Decoder(Row).decode
"""The row of `encode_row`; raises msgspec.DecodeError for anything else."""

encode_header: Callable[[Header], bytes] = msgspec.msgpack.Encoder().encode
"""The one byte form of a header."""

decode_header: Callable[[bytes], Header] = msgspec.msgpack.Decoder(Header).decode
"""The header of `encode_header`; raises msgspec.DecodeError for anything else."""


def _newer(a: Tombstone | None, b: Tombstone | None) -> Tombstone | None:
    if a is None:
        return b
    return a if b is None or a >= b else b


def normal(deletion: Tombstone | None, cells: Iterable[Cell], covered: Version = NO_VERSION) -> Row:
    """The normal form of any cells under a row tombstone and a covering version (of the partition's
    tombstones).

    A row tombstone at or below `covered` is dropped: the partition's says it already.
    """
    floor = covered
    if deletion is not None:
        if deletion.version <= covered:
            deletion = None
        else:
            floor = deletion.version
    cells = tuple(cells)
    if _is_flat_and_sorted(cells, floor):
        return Row(deletion, cells)
    best: dict[Address, Cell] = {}
    nested = False
    for cell in cells:
        if (cell.timestamp_us, cell.writer) <= floor:
            continue
        address = (cell.column, cell.path, cell.kind)
        other = best.get(address)
        if other is None or rank(cell) > rank(other):
            best[address] = cell
        if cell.path or cell.kind:
            nested = True
    kept = [best[address] for address in sorted(best)]
    if nested:
        kept = [cell for cell in kept if not _hidden(cell, best)]
    return Row(deletion, tuple(kept))


def _is_flat_and_sorted(cells: tuple[Cell, ...], floor: Version) -> bool:
    """Whether these are normal as they stand: scalars in order of their columns, all above the floor.

    Most rows are; seeing it costs a sixth of sorting them again.
    """
    last = -1
    for cell in cells:
        column = cell.column
        if column <= last or cell.path or cell.kind or (cell.timestamp_us, cell.writer) <= floor:
            return False
        last = column
    return True


def _hidden(cell: Cell, best: dict[Address, Cell]) -> bool:
    column, path = cell.column, cell.path
    for depth in range(len(path)):
        above = best.get((column, path[:depth], 0))
        if above is not None and hides_below(above, cell):
            return True
    if cell.kind == MARKER:  # a value over an older or equal marker of the same path
        same = best.get((column, path, 0))
        return same is not None and same.version >= cell.version
    return False


def merge_rows(a: Row, b: Row, covered: Version = NO_VERSION) -> Row:
    """The merge of two rows of one key, in normal form under `covered`."""
    if not a.cells and a.deletion is None:
        return normal(b.deletion, b.cells, covered)
    return normal(_newer(a.deletion, b.deletion), a.cells + b.cells, covered)


def covered(header: Header, suffix: bytes) -> Version:
    """The version up to which the partition's tombstones delete the row with this key suffix."""
    if suffix[:1] == OPERATION_SUFFIX:
        return NO_VERSION
    version = NO_VERSION if header.deletion is None else header.deletion.version
    for item in header.ranges:
        if item.first <= suffix < item.end and item.version > version:
            version = item.version
    return version


def merge_headers(a: Header, b: Header) -> Header:
    """The merge of two headers of one partition, in normal form."""
    deletion = _newer(a.deletion, b.deletion)
    floor = NO_VERSION if deletion is None else deletion.version
    return Header(deletion, _uncovered(r for r in dict.fromkeys(a.ranges + b.ranges) if r.version > floor))


def _uncovered(ranges: Iterable[RangeTombstone]) -> tuple[RangeTombstone, ...]:
    """Those that no other covers, in order. A newer one covers what lies within it, and so does one of the
    same version; of two equal but for admission, the later stays.

    What may cover a range is looked at before it, and of that, by where it begins, only what reaches further
    than all that begins before: `firsts` and `ends` ascend.
    """
    kept: list[RangeTombstone] = []
    firsts: list[bytes] = []
    ends: list[bytes] = []
    by_end = sorted(ranges, key=lambda r: (r.end, r.admitted_us), reverse=True)
    for r in sorted(sorted(by_end, key=lambda r: r.first), key=lambda r: r.version, reverse=True):
        at = bisect_right(firsts, r.first)
        if at and ends[at - 1] >= r.end:
            continue
        kept.append(r)
        low, high = bisect_left(firsts, r.first), bisect_right(ends, r.end)
        firsts[low:high], ends[low:high] = [r.first], [r.end]
    return tuple(sorted(kept))


def newest_version(row: Row) -> Version:
    """The greatest version in the row, NO_VERSION if it is empty."""
    version = NO_VERSION if row.deletion is None else row.deletion.version
    for cell in row.cells:
        if (cell.timestamp_us, cell.writer) > version:
            version = (cell.timestamp_us, cell.writer)
    return version


def live_cells(row: Row, now_us: int) -> tuple[Cell, ...]:
    """The cells a reader sees at `now_us`: no tombstones, nothing expired, nothing below an expired ancestor.

    Cells of collections and documents keep their addresses: assembling them is for the doors.
    """
    cells = row.cells
    for cell in cells:
        if cell.value is None or cell.dead_from_us:
            return tuple(c for c in cells if not c.is_dead(now_us))
    return cells


def exists(row: Row, now_us: int) -> bool:
    """Whether the row is there for a reader: it has a live row marker or any live value."""
    return any(not cell.is_dead(now_us) for cell in row.cells)


def is_empty(row: Row) -> bool:
    """Whether nothing is left to keep."""
    return row.deletion is None and not row.cells
