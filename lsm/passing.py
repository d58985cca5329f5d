"""Rows of a partition that begin with many dead ones: what is passed is summed up, not sent.

A queue's head lies behind what was deleted in the last seconds and is not over yet. A replica that lacks one
of those deletions would show its row, so a reader needs to know that replicas agree about the dead, too; but
not which rows those are. So a slice with `live_us` is answered by rows from the first on that lives, and
before them by *chunks* of dead ones: (last key, sum of their hashes, how many). A chunk ends where the hash
of a row says so, which does not depend on where it began: where one replica lacks a row, only the chunk
around it differs.

Chunks are remembered until something is written in them or a part of them may be purged, so a reader who
comes again adds up what was deleted since. What may be purged is left out by the scan (lsm/purge.py): that
replicas purge at different times is no difference here, either.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

from core.commands import Rows, Slice
from core.ports import Engine
from core.row import Passed, Row, exists, is_empty
from lsm.dead_runs import Chunk
from lsm.floors import Floors
from lsm.hash_tree import leaf_of, record_hash
from lsm.keys import HEADER_SUFFIX, prefix_end, token_of
from lsm.purge import due_of, purged, unpurged
from lsm.reading import Record, Scan, read_slice, stored_row

CHUNKS_TOLD_MAX: Final = 1_024
ADDED_MAX: Final = 1_000
"""Rows that one slice adds up: some milliseconds on the event loop."""

CHUNK_BITS: Final = 63
"""A row with none of these bits in its hash ends a chunk: one in 64 does."""

_SUM: Final = 2**64 - 1


class _Sum:
    """A chunk in the making."""

    __slots__ = ("count", "dead_us", "due_us", "first", "last", "total")

    def __init__(self, first: bytes) -> None:
        self.first = first
        self.last = b""
        self.count = self.total = self.dead_us = self.due_us = 0

    def add(self, key: bytes, data: bytes, row: Row, due_us: int) -> bool:
        """One more dead row; returns whether it is the last."""
        hashed = record_hash(key, data)
        self.last, self.total, self.count = key, (self.total + hashed) & _SUM, self.count + 1
        if due_us and (not self.due_us or due_us < self.due_us):
            self.due_us = due_us
        for cell in row.cells:
            if cell.value is not None:
                self.dead_us = max(self.dead_us, cell.dead_from_us)
        return not hashed & CHUNK_BITS

    @property
    def chunk(self) -> Chunk:
        """What it has come to."""
        return Chunk((self.last, self.total, self.count), self.dead_us, self.due_us)


class Slices:
    """Reads slices of one store, without what may be purged."""

    def __init__(self, engine: Engine, floors: Floors) -> None:
        """What is remembered is among what `floors` keeps."""
        self._engine, self._floors = engine, floors
        self._chunks = floors.dead_runs.chunks

    def read(self, wanted: Slice, has_clustering: bool) -> Rows:
        """A slice. Dead rows are summed up only in order, and where the partition has no tombstones of its
        own, which hide rows.

        Raises CorruptionError (bytes are damaged) and ValueError (not a slice of row keys).
        """
        scan = unpurged(self._engine, self._floors, wanted.table) or self._engine.scan
        if wanted.live_us and has_clustering and wanted.partition and not (wanted.point or wanted.reverse):
            if self._engine.get(wanted.partition + HEADER_SUFFIX) is None:
                return self._past_the_dead(wanted, scan)
        return read_slice(self._engine, wanted, has_clustering, scan)

    def _past_the_dead(self, wanted: Slice, scan: Scan) -> Rows:
        passed: list[Passed] = []
        added = 0
        floor_us = self._floors.at(wanted.table, leaf_of(token_of(wanted.partition))).floor_us
        at: bytes | None = wanted.first
        making = _Sum(wanted.first)
        while at is not None:
            at = self._known(wanted, floor_us, at, passed)
            making, records = _Sum(at), scan(at, wanted.end, False)
            at = None
            for key, data in records:
                row = stored_row(key, data)
                if exists(row, wanted.live_us):
                    return _ended(wanted, passed, making, chain(((key, data),), records))
                added += 1
                suffix = key[prefix_end(key) :]
                due_us = due_of(row, suffix)
                if due_us <= floor_us and is_empty(purged(row, floor_us, suffix)):
                    if added < ADDED_MAX:
                        continue  # the scan leaves out most of these, not all
                    passed.append((key, making.total, making.count))
                    return Rows((), None, True, passed=tuple(passed))
                if not making.add(key, data, row, due_us):
                    continue
                passed.append(making.chunk.told)
                self._chunks.add(making.first, making.chunk)
                if added >= ADDED_MAX:
                    return Rows((), None, True, passed=tuple(passed))
                making = _Sum(key + b"\0")
                if self._is_known(wanted, floor_us, making.first) is not None:
                    at = making.first
                    break
        return _ended(wanted, passed, making, iter(()))

    def _known(self, wanted: Slice, floor_us: int, at: bytes, passed: list[Passed]) -> bytes:
        """Pass the chunks that are known from this key on; returns where they end."""
        while len(passed) < CHUNKS_TOLD_MAX and (chunk := self._is_known(wanted, floor_us, at)) is not None:
            passed.append(chunk.told)
            at = chunk.told[0] + b"\0"
        return at

    def _is_known(self, wanted: Slice, floor_us: int, first: bytes) -> Chunk | None:
        """The chunk that begins with this key, if it is dead for this reader, and nothing of it over."""
        chunk = self._chunks.at(first)
        if chunk is None or chunk.told[0] >= wanted.end or chunk.dead_us > wanted.live_us:
            return None
        return chunk if chunk.due_us > floor_us else None


def _ended(wanted: Slice, passed: list[Passed], making: _Sum, records: Iterator[Record]) -> Rows:
    """What was passed, and rows from the first that lives, up to the limits."""
    if making.count:
        passed.append(making.chunk.told)
    rows: list[Record] = []
    size = 0
    for key, data in records:
        size += len(key) + len(data)
        if rows and (len(rows) >= wanted.rows_max or size > wanted.bytes_max):
            return Rows(tuple(rows), None, True, passed=tuple(passed))
        rows.append((key, data))
    return Rows(tuple(rows), None, False, passed=tuple(passed))
