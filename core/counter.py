"""Counters: a column whose value is the sum of what its replicas have added.

Each replica that leads increments has a cell of its own, its *shard*, at the path (peer id,) of the column.
Only that replica writes it: it reads, adds and writes in one store command, so no two writers ever make one
version of it, and merging by version keeps its last. A peer whose storage is new is a new peer, and one whose
log was cut short is refused, so a shard never goes on from an older state. A value is a signed 64-bit integer
in CQL's wire encoding, and wraps around.

Deleting is for good: a tombstone hides the shards that were written before it, but a replica that has not
heard of it adds to its shard as it was, under a newer version, and that comes back with the old sum.
Cassandra says the same of its counters: after a delete do not count on with the same key.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.cell import VALUE, Cell

_SPAN = 1 << 64
_HALF = 1 << 63


def encode_count(value: int) -> bytes:
    """8 bytes, big-endian, signed; wraps around."""
    return wrapped(value).to_bytes(8, "big", signed=True)


def decode_count(data: bytes) -> int:
    """The integer; raises ValueError for anything but 8 bytes."""
    if len(data) != 8:
        raise ValueError(f"a count of {len(data)} bytes")
    return int.from_bytes(data, "big", signed=True)


def wrapped(value: int) -> int:
    """As a signed 64-bit integer has it."""
    return (value + _HALF) % _SPAN - _HALF


def counter_value(cells: Iterable[Cell], column: int) -> int | None:
    """The sum of a column's shards among the live cells of a row; None if there is none."""
    total, found = 0, False
    for cell in cells:
        if cell.column == column and cell.path and cell.kind == VALUE and cell.value is not None:
            total += decode_count(cell.value)
            found = True
    return wrapped(total) if found else None
