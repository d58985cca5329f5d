"""A query as a chain of operators through which rows are pushed, one at a time.

    source -> Filtered -> Distinct -> Grouped -> PerPartition -> Limited -> Rows

Each operator is pushed a row with the partition it is of, and hands on what it lets through. `push` answers
whether more rows are wanted: a source stops reading at the first False. `end` says that there are no more,
which is when a group or a sort gives its last rows. Nothing here knows what a row is: predicates, keys and
orders are functions of it.

What a page must remember when it stops (how much of a limit is left, what was the last partition) are plain
attributes, so that a cursor can carry them to another peer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key
from heapq import heappush, heappushpop
from typing import Any, Protocol

Row = Any
"""Whatever the source makes of a row."""

Partition = bytes
Predicate = Callable[[Row], bool]


class Sink(Protocol):
    """What takes rows."""

    def push(self, partition: Partition, row: Row) -> bool:
        """Take a row; False if no more are wanted."""

    def end(self) -> None:
        """There are no more rows."""


class Rows:
    """The end of a chain: keeps rows, at most `rows_max` of them (None: any number).

    With `size`, which says what a row takes, no more than about `bytes_max` of them: `is_large` tells.
    """

    def __init__(
        self, rows_max: int | None = None, bytes_max: int = 0, size: Callable[[Row], int] | None = None
    ) -> None:
        self.rows: list[Row] = []
        self.rows_max = rows_max
        self.is_large = False
        self._left = bytes_max
        self._size = size

    def push(self, partition: Partition, row: Row) -> bool:
        """Keep it."""
        self.rows.append(row)
        if self._size is not None:
            self._left -= self._size(row)
            self.is_large = self._left <= 0
        return not self.is_large and (self.rows_max is None or len(self.rows) < self.rows_max)

    def end(self) -> None:
        """Nothing is held back."""


class Filtered:
    """Lets rows through for which the predicate holds."""

    def __init__(self, predicate: Predicate, sink: Sink) -> None:
        self._predicate = predicate
        self._sink = sink

    def push(self, partition: Partition, row: Row) -> bool:
        """Judge one row."""
        return not self._predicate(row) or self._sink.push(partition, row)

    def end(self) -> None:
        """Nothing is held back."""
        self._sink.end()


class Distinct:
    """Lets the first row of each partition through; `last` is the partition of the last one."""

    def __init__(self, sink: Sink, last: Partition | None = None) -> None:
        self._sink = sink
        self.last = last

    def push(self, partition: Partition, row: Row) -> bool:
        """Compare with the partition before: those of a source come one after the other."""
        if partition == self.last:
            return True
        self.last = partition
        return self._sink.push(partition, row)

    def end(self) -> None:
        """Nothing is held back."""
        self._sink.end()


class PerPartition:
    """Lets at most `limit` rows of each partition through; `last` and `taken` say where it is."""

    def __init__(self, limit: int, sink: Sink, last: Partition | None = None, taken: int = 0) -> None:
        self._limit = limit
        self._sink = sink
        self.last = last
        self.taken = taken

    def push(self, partition: Partition, row: Row) -> bool:
        """Count one row."""
        if partition != self.last:
            self.last, self.taken = partition, 0
        if self.taken >= self._limit:
            return True
        self.taken += 1
        return self._sink.push(partition, row)

    def end(self) -> None:
        """Nothing is held back."""
        self._sink.end()


class Limited:
    """Lets `left` more rows through."""

    def __init__(self, left: int, sink: Sink) -> None:
        self.left = left
        self._sink = sink

    def push(self, partition: Partition, row: Row) -> bool:
        """Count one row."""
        if self.left <= 0:
            return False
        self.left -= 1
        return self._sink.push(partition, row) and self.left > 0

    def end(self) -> None:
        """Nothing is held back."""
        self._sink.end()


class Aggregate(Protocol):
    """Folds rows into one value."""

    def add(self, row: Row) -> None:
        """Take a row of the group."""

    def result(self) -> Any:
        """The value for all rows so far."""


class Grouped:
    """One row per run of rows with equal keys: `emit(first row, results of the aggregates)`.

    Without a key all rows are one group, and there is one even of no rows (`empty` stands for its first row).
    """

    def __init__(
        self,
        key: Callable[[Row], Any] | None,
        aggregates: Callable[[], list[Aggregate]],
        emit: Callable[[Row, list[Any]], Row],
        sink: Sink,
        empty: Row = None,
    ) -> None:
        self._key = key
        self._make = aggregates
        self._emit = emit
        self._sink = sink
        self._empty = empty
        self._first: Row | None = None
        self._partition: Partition = b""
        self._last_key: Any = None
        self._running: list[Aggregate] = []
        self._ended = False

    def push(self, partition: Partition, row: Row) -> bool:
        """Take a row; the group before is handed on when another begins."""
        key = None if self._key is None else (partition, self._key(row))
        if self._first is not None and key != self._last_key:
            if not self._hand_on():
                return False
        if self._first is None:
            self._first, self._last_key, self._partition = row, key, partition
            self._running = self._make()
        for aggregate in self._running:
            aggregate.add(row)
        return True

    def end(self) -> None:
        """Hand on the last group."""
        if self._ended:
            return
        self._ended = True
        if self._first is None and self._key is None:
            self._first, self._running = self._empty, self._make()
        if self._first is not None:
            self._hand_on()
        self._sink.end()

    def abandon(self) -> None:
        """Forget the group in the making: a page ends before it."""
        self._first = None
        self._ended = True

    def _hand_on(self) -> bool:
        row = self._emit(self._first, [aggregate.result() for aggregate in self._running])
        self._first = None
        return self._sink.push(self._partition, row)


class Nearest:
    """Holds back the `rows_max` rows of the greatest scores and hands them on, the greatest first.

    Rows without a score are left out; of equal scores the row that came first is kept, and comes first.
    """

    def __init__(self, score: Callable[[Row], float | None], rows_max: int, sink: Sink) -> None:
        self._score = score
        self._rows_max = rows_max
        self._sink = sink
        self._count = 0
        self._held: list[tuple[float, int, Partition, Row]] = []

    def push(self, partition: Partition, row: Row) -> bool:
        """Look at one row."""
        score = self._score(row)
        if score is None:
            return True
        self._count += 1
        item = (score, -self._count, partition, row)
        if len(self._held) < self._rows_max:
            heappush(self._held, item)
        else:
            heappushpop(self._held, item)
        return True

    def end(self) -> None:
        """Hand on what was kept."""
        for _, _, partition, row in sorted(self._held, key=lambda item: item[:2], reverse=True):
            if not self._sink.push(partition, row):
                break
        self._held.clear()
        self._sink.end()


class Sorted:
    """Holds all rows back, at most `rows_max`, and hands them on in order.

    `overflowed` if there were more.
    """

    def __init__(self, compare: Callable[[Row, Row], int], rows_max: int, sink: Sink) -> None:
        self._compare = compare
        self._rows_max = rows_max
        self._sink = sink
        self._held: list[tuple[Partition, Row]] = []
        self.overflowed = False

    def push(self, partition: Partition, row: Row) -> bool:
        """Hold one row."""
        if len(self._held) >= self._rows_max:
            self.overflowed = True
            return False
        self._held.append((partition, row))
        return True

    def end(self) -> None:
        """Hand all on; equal rows keep the order in which they came."""
        compare = self._compare

        def by_row(a: tuple[Partition, Row], b: tuple[Partition, Row]) -> int:
            return compare(a[1], b[1])

        self._held.sort(key=cmp_to_key(by_row))
        for partition, row in self._held:
            if not self._sink.push(partition, row):
                break
        self._held.clear()
        self._sink.end()
