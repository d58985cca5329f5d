"""The mutation that a write request is: its rows and deletions as cells and tombstones of one version."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from core import limits
from core.cell import Cell
from core.mutation import Mutation
from core.requests import RowWrite, Write, WriteRequest
from core.row import OPERATION_SUFFIX, Header, RangeTombstone, Row, Tombstone

if TYPE_CHECKING:
    from core.cell import Version

DEAD_ALWAYS_US = 1
"""From when the record of an operation id is dead: also for a reader whose clock is behind."""


def build(
    request: WriteRequest, token: int, origin: tuple[int, int], version: Version, admitted_us: int
) -> Mutation:
    """The mutation of a request: every cell and tombstone at `version`."""
    timestamp_us, writer = version
    lives_from_us = request.now_us or admitted_us
    dies_us = lives_from_us + request.ttl_s * limits.SECOND_US if request.ttl_s else 0
    times_us = admitted_us, lives_from_us
    rows = tuple([(row.suffix, _row(row, version, times_us, dies_us)) for row in request.rows])
    header = None
    if request.partition_delete or request.ranges:
        deletion = Tombstone(timestamp_us, writer, admitted_us) if request.partition_delete else None
        ranges = tuple(
            RangeTombstone(a, b, timestamp_us, writer, admitted_us) for a, b in sorted(request.ranges)
        )
        header = Header(deletion, ranges)
    start, sequence = origin
    return Mutation(
        start=start,
        sequence=sequence,
        attempt=0,
        admitted_us=admitted_us,
        stamped=not request.timestamp_us,
        operation=request.operation,
        table=request.table,
        token=token,
        partition=request.partition,
        header=header,
        rows=rows,
    )


def _row(row: RowWrite, version: Version, times_us: tuple[int, int], dies_us: int) -> Row:
    """`times_us` are when the write was admitted, and from when times to live count."""
    timestamp_us, writer = version
    admitted_us, lives_from_us = times_us
    if row.suffix[:1] == OPERATION_SUFFIX:
        admitted_us = DEAD_ALWAYS_US
    deletion = None
    if row.replace:
        deletion = Tombstone(timestamp_us - 1 if row.writes else timestamp_us, writer, admitted_us)
    cells = [
        Cell(
            w.column,
            w.path,
            w.kind,
            timestamp_us - 1 if w.older else timestamp_us,
            writer,
            _dead_from_us(w, admitted_us, lives_from_us, dies_us),
            w.value,
        )
        for w in row.writes
    ]
    if len(cells) > 1:
        cells.sort(key=_address)
    return Row(deletion, tuple(cells))


def _dead_from_us(write: Write, admitted_us: int, lives_from_us: int, dies_us: int) -> int:
    """A worthless value is written as one that has expired: it still hides, and makes no row exist."""
    if write.value is None or write.worthless:
        return admitted_us
    return lives_from_us + write.ttl_s * limits.SECOND_US if write.ttl_s else dies_us


_address = attrgetter("column", "path", "kind")
