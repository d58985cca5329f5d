"""Adding to this replica's shard of counters: from increments to resolved cells, which are then applied and
logged like any mutation's.

The increments come as a mutation whose cells hold deltas, at the addresses of this replica's shards. What is
stored there under no tombstone is what they are added to; all cells get one version, above every cell that
they replace and every tombstone over them, and at least the stamp that came along. Nothing else executes
between the reading here and the writing that follows: both are one command.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from core.cell import VALUE, Cell, Version
from core.counter import decode_count, encode_count
from core.mutation import Mutation
from core.row import Row

Stored = Callable[[bytes], tuple[Row, Version]]
"""The stored row with a key suffix, in normal form, and the version up to which its partition's tombstones
cover it."""


def resolve(increments: Mutation, stored: Stored) -> Mutation:
    """The mutation that these increments are, now and here; raises ValueError for what is no count."""
    timestamp_us = increments.admitted_us
    sums: list[tuple[bytes, list[tuple[Cell, int]]]] = []
    for suffix, addition in increments.rows:
        row, covered = stored(suffix)
        timestamp_us = max(timestamp_us, covered[0] + 1)
        if row.deletion is not None:
            timestamp_us = max(timestamp_us, row.deletion.timestamp_us + 1)
        added = []
        for cell in addition.cells:
            before = 0
            for other in row.cells:
                if other.column != cell.column or other.kind != VALUE:
                    continue
                if other.path == cell.path:
                    before = 0 if other.value is None else decode_count(other.value)
                elif other.path:
                    continue  # another replica's shard
                timestamp_us = max(timestamp_us, other.timestamp_us + 1)
            assert cell.value is not None, "an increment has a delta"
            added.append((cell, before + decode_count(cell.value)))
        sums.append((suffix, added))
    rows = tuple(
        (
            suffix,
            Row(
                None,
                tuple(
                    msgspec.structs.replace(cell, timestamp_us=timestamp_us, value=encode_count(total))
                    for cell, total in added
                ),
            ),
        )
        for suffix, added in sums
    )
    return msgspec.structs.replace(increments, rows=rows)
