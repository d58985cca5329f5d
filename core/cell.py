"""Cells: the smallest thing that is written, and the total order in which two of them merge.

A cell has an address (column, path, kind), a value, a version and perhaps a time from which it is dead.

One address scheme serves every column type:

- a scalar or frozen column is one cell at the empty path;
- a list, set or map has one cell per element, at the path ``(element,)``; a deletion of the whole collection
  is a tombstone at the empty path, a replacement is such a tombstone, a microsecond older than the elements
  beside it (older data has a worthless value there, dead from its admission);
- a json column has a *value* cell and an *object marker* per path of keys;
- the row marker of INSERT is the cell of column 0.

So one rule covers collections and documents alike: a value or a tombstone hides older cells strictly below
its path, a tombstone also those of its own version, and it does so even after it expired; a marker hides
nothing; and of two cells at one address the greater by `rank` stays. The order asks no clock, so merging is
commutative, associative and idempotent whenever and wherever it is done.
"""

from __future__ import annotations

import msgspec

Version = tuple[int, int]
"""(timestamp_us, writer).

Hybrid-logical-clock microseconds, then the coordinator's start number (0: the client's).
"""

NO_VERSION: Version = (-(2**63), 0)
"""Older than any version."""

VALUE = 0
MARKER = 1
"""Kinds of cells: a value or tombstone; "from here on an object, members kept"."""

ROW_MARKER_COLUMN = 0
"""The column id of the row marker; columns of a table count from 1."""

Path = tuple[bytes, ...]
Address = tuple[int, Path, int]


class Cell(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One cell.

    `dead_from_us` is 0 for a cell that lives for ever, the time it expires for one with a TTL, and for a
    tombstone (`value is None`) the time its mutation was admitted: what may be purged is dead since before
    the floor.
    """

    column: int
    path: Path
    kind: int
    timestamp_us: int
    writer: int
    dead_from_us: int
    value: bytes | None

    @property
    def version(self) -> Version:
        """The version, as a tuple that compares."""
        return (self.timestamp_us, self.writer)

    @property
    def address(self) -> Address:
        """Where the cell is in its row; rows keep their cells sorted by it."""
        return (self.column, self.path, self.kind)

    def is_dead(self, now_us: int) -> bool:
        """Whether a reader at `now_us` sees nothing here."""
        return self.value is None or 0 < self.dead_from_us <= now_us


Rank = tuple[int, int, int, int, bytes]


def rank(cell: Cell) -> Rank:
    """The total order of cells at one address.

    Version, tombstone over expiring over live, later expiry, bytes.
    """
    value = cell.value
    if value is None:
        return (cell.timestamp_us, cell.writer, 2, cell.dead_from_us, b"")
    return (cell.timestamp_us, cell.writer, 1 if cell.dead_from_us else 0, cell.dead_from_us, value)


def hides_below(above: Cell, below: Cell) -> bool:
    """Whether `above`, at a proper prefix of `below`'s path in the same column, hides it."""
    if above.kind == MARKER:
        return False
    if above.value is None:
        return (above.timestamp_us, above.writer) >= (below.timestamp_us, below.writer)
    return (above.timestamp_us, above.writer) > (below.timestamp_us, below.writer)
