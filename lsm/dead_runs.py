"""Where a store has found nothing that a reader has to see: so the head of a queue is not looked for twice.

A *dead run* is a range of row keys in which every row that is stored may be purged (lsm/purge.py), or is
purged already. That stays so until something is written there, as floors only rise: so a run is cut where a
row is put, and needs no other care. A *chunk* is a range of dead rows that are not over, summed up as others
should have them, too (lsm/passing.py): it is forgotten when any of its rows is written.

Both are in memory only, few, and found by who scans; without them a scan costs more and says the same.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

import msgspec

from core.row import Passed

CHUNKS_MAX: Final = 4_096
RUNS_MAX: Final = 256
_ROW: Final = b"R"[0]


class Chunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Dead rows: what is told of them, since when all are dead, and when the first of them may be over."""

    told: Passed
    dead_us: int
    due_us: int


class Chunks:
    """The chunks that are known, in order, by the key at which they begin; no two of them overlap."""

    __slots__ = ("_chunks", "_firsts")

    def __init__(self) -> None:
        self._firsts: list[bytes] = []
        self._chunks: list[Chunk] = []

    def at(self, first: bytes) -> Chunk | None:
        """The chunk that begins with this key."""
        at = bisect_left(self._firsts, first)
        return self._chunks[at] if at < len(self._firsts) and self._firsts[at] == first else None

    def add(self, first: bytes, chunk: Chunk) -> None:
        """A chunk that begins with this key; what is known of others within it is of no more use."""
        if len(self._firsts) >= CHUNKS_MAX:
            self.forget()
        low, high = bisect_left(self._firsts, first), bisect_right(self._firsts, chunk.told[0])
        if low and self._chunks[low - 1].told[0] >= first:
            low -= 1
        self._firsts[low:high] = [first]
        self._chunks[low:high] = [chunk]

    def wrote(self, puts: Sequence[tuple[bytes, bytes | None]]) -> None:
        """A batch was written: chunks in which it touched a row are not known any more."""
        if not self._firsts:
            return
        for key, _ in puts:
            if key[0] != _ROW:
                continue
            at = bisect_right(self._firsts, key) - 1
            if at >= 0 and key <= self._chunks[at].told[0]:
                del self._firsts[at], self._chunks[at]

    def forget(self) -> None:
        """Know of no chunk."""
        self._firsts.clear()
        self._chunks.clear()


class DeadRuns:
    """Ranges [first, end) of row keys, in order; no two of them touch. Beside them, what chunks are known."""

    __slots__ = ("_ends", "_firsts", "chunks")

    def __init__(self) -> None:
        self._firsts: list[bytes] = []
        self._ends: list[bytes] = []
        self.chunks = Chunks()

    def __len__(self) -> int:
        return len(self._firsts)

    def beyond(self, key: bytes) -> bytes:
        """The end of the run that this key lies in; the key itself if there is none."""
        at = bisect_right(self._firsts, key) - 1
        return self._ends[at] if at >= 0 and key < self._ends[at] else key

    def found(self, first: bytes, end: bytes) -> None:
        """Nothing in [first, end) has to be seen; joined with what was known of what lies beside it."""
        low = bisect_left(self._ends, first)
        high = bisect_right(self._firsts, end)
        if low < high:
            first = min(first, self._firsts[low])
            end = max(end, self._ends[high - 1])
        elif len(self._firsts) >= RUNS_MAX:
            self.forget()
            low = high = 0
        self._firsts[low:high] = [first]
        self._ends[low:high] = [end]

    def wrote(self, puts: Sequence[tuple[bytes, bytes | None]]) -> None:
        """A batch was written: runs end before the rows that were put into them, and go on after them."""
        self.chunks.wrote(puts)
        if not self._firsts:
            return
        for key, value in puts:
            if value is not None and key[0] == _ROW:
                self._cut(key)

    def forget(self) -> None:
        """Know of no run."""
        self._firsts.clear()
        self._ends.clear()

    def _cut(self, key: bytes) -> None:
        at = bisect_right(self._firsts, key) - 1
        if at < 0 or key >= self._ends[at]:
            return
        after, end = key + b"\0", self._ends[at]
        pieces = [(a, b) for a, b in ((self._firsts[at], key), (after, end)) if a < b]
        if len(self._firsts) + len(pieces) > RUNS_MAX + 1:
            pieces = pieces[:1]
        self._firsts[at : at + 1] = [first for first, _ in pieces]
        self._ends[at : at + 1] = [end for _, end in pieces]
