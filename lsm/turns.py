"""When a memtable is written to a table file, and how many of these are compacted together.

A new log file, even an old one under a new name, makes the next sync wait for the file system's journal, and
that for the table files of whoever else writes there: 30 to 100 ms. Replicas of the same rows would all fill
their memtables, and compact their files, in the same moment, so that no quorum could do without the slow
ones. So each memtable is written to a table file at a size of its own, below the largest, and each engine
compacts by a number of files of its own, both drawn.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from typing import Any, Protocol

LOGS_RECYCLED = 3
"""So many log files of 16 MiB and more are kept to be written over."""
FULL_FIRST = LOGS_RECYCLED + 1
"""So many memtables are filled up, so that those that follow do not outgrow the log files they write over."""
FULL_SHARE_MIN, FULL_SHARE_MAX = 0.65, 0.95
"""All others are written to a table file at a share of their bytes between these."""
COMPACTED_MIN, COMPACTED_MAX = 8, 13
"""A compaction begins at a number of young files between these."""
DELETIONS_WINDOW = 4_096
"""A table file with so many records of which half are deletions is compacted at once."""
DELETIONS_REST_US = 2_000_000
"""So long after the last of so many they are written to one: in the memtable each reader steps over them."""

_MEMTABLE_BYTES = "rocksdb.cur-size-active-mem-table"
_MEMTABLES_WAITING = "rocksdb.num-immutable-mem-table"


class Memtables(Protocol):
    """What is asked of a database."""

    def property_int_value(self, name: str) -> int | None:
        """A figure that it keeps."""

    def flush(self, wait: bool) -> Any:
        """Write the memtable to a table file."""


class Turns:
    """When a memtable is written to a table file before it is full, and how many of these are compacted
    together (`files`): no two engines do it all in step.
    """

    def __init__(self, drawn: bytes, memtable_bytes: int, monotonic_us: Callable[[], int] = int) -> None:
        self._drawn, self._memtable_bytes, self._monotonic_us = drawn, memtable_bytes, monotonic_us
        self._deletions, self._deleted_us = 0, 0
        self.files = COMPACTED_MIN + drawn[0] % (COMPACTED_MAX - COMPACTED_MIN + 1)
        self._taken, self._held_bytes = 0, 0
        self._due_bytes = memtable_bytes

    def deleted(self, count: int) -> None:
        """So many records are deleted now."""
        if count:
            self._deletions, self._deleted_us = self._deletions + count, self._monotonic_us()

    def take(self, database: Memtables) -> None:
        """Begin to write the memtable to a file if it is its turn; from the thread that syncs."""
        held_bytes = int(database.property_int_value(_MEMTABLE_BYTES) or 0)
        if held_bytes < self._held_bytes // 2:  # another memtable: this one was full, or it was its turn
            self._taken += 1
            self._due_bytes = int(self._memtable_bytes * self._share())
            self._deletions = 0
        self._held_bytes = held_bytes
        rest_us = self._monotonic_us() - self._deleted_us if self._deletions > DELETIONS_WINDOW else 0
        # While an older one is being written RocksDB would let us wait.
        is_due = held_bytes >= self._due_bytes or rest_us > DELETIONS_REST_US
        if not is_due or database.property_int_value(_MEMTABLES_WAITING):
            return
        self._due_bytes, self._deletions = self._memtable_bytes, 0  # asked for once
        with contextlib.suppress(Exception):  # RocksDB does it when it is full, and tells the next write
            database.flush(False)

    def _share(self) -> float:
        if self._taken < FULL_FIRST:
            return 1.0
        drawn = zlib.crc32(self._drawn + self._taken.to_bytes(8, "big")) / 2**32
        return FULL_SHARE_MIN + (FULL_SHARE_MAX - FULL_SHARE_MIN) * drawn
