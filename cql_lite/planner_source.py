"""Where the rows of a SELECT come from: named slices of named partitions, or the ring in token order.

A source is a generator of requests (cql_lite/planner_results.py) that hands rows to a consumer until that
wants no more. It asks for what several partitions need side by side, and within a slice reads on page by
page. A static row is read with its partition, and again where a page begins within one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, NamedTuple

from core.consistency import Level
from core.limits import MIB
from core.requests import Answer, ReadRequest, Request, RowsRead, ScanRequest
from core.row import Row
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_results import Asked, unless_failed
from cql_lite.planner_rows import Layout, Record
from cql_lite.planner_where import PLACES_MAX, Interval, places_refused
from lsm.keys import (
    STATIC_SUFFIX,
    TOKEN_MAX,
    TOKEN_MIN,
    partition_prefix,
    row_key,
    split_row_key,
    token_range_bounds,
)
from ring.tokens import token_of

READ_ROWS_MAX: Final = 500
SCAN_ROWS_MAX: Final = 200
"""Rows per request: what one answer may hold in memory."""
ANSWER_BYTES_MAX: Final = 2 * MIB
"""An answer of so many bytes is enough: what is asked for side by side is held at once."""
UNITS_ASKED_MAX: Final = 16
"""Slices that are asked for side by side."""

Source = Generator[Asked, "list[Answer]", None]


class Position(NamedTuple):
    """Where a page ended: after this row."""

    partition: bytes
    suffix: bytes


class Consumer:
    """Makes records of rows and pushes them, minding partitions and their static rows."""

    def __init__(
        self, layout: Layout, push: Callable[[bytes, Record], bool], gives_static_alone: bool
    ) -> None:
        """`gives_static_alone`: a partition of which only a static row is left gives one record."""
        self._layout = layout
        self._push = push
        self._alone = gives_static_alone
        self._partition: bytes | None = None
        self._template: Record = []
        self._has_static = False
        self._has_rows = False
        self.wants_more = True
        self.dead = 0
        """Rows read of which nothing is left but tombstones."""
        self.before: Position | None = None
        """The row consumed before the last one."""
        self.at: Position | None = None
        """The last row consumed."""
        self.mark: Any = None
        """What a source that has places of its own (cql_lite/planner_find.py) says of the row at hand."""
        self.mark_before: Any = None
        self.mark_at: Any = None

    def begin(self, partition: bytes, static: Row | None, now_us: int, resumed: bool = False) -> None:
        """Rows of this partition follow; `resumed`: some were consumed by an earlier page."""
        self._end_partition()
        self._partition = partition
        self._template = self._layout.template(partition, static, now_us)
        self._has_static = static is not None
        self._has_rows = resumed

    def is_in(self, partition: bytes) -> bool:
        """Whether this is the partition that was begun."""
        return partition == self._partition

    def row(self, suffix: bytes, row: Row, now_us: int) -> None:
        """One row of the partition."""
        if not self.wants_more:
            return
        if self._layout.view.has_dropped and not _has_known(self._layout, row, now_us):
            return
        assert self._partition is not None
        self._has_rows = True
        self._take(suffix, self._layout.record(self._template, suffix, row, now_us))

    def _take(self, suffix: bytes, record: Record) -> None:
        assert self._partition is not None
        self.before, self.at = self.at, Position(self._partition, suffix)
        self.mark_before, self.mark_at = self.mark_at, self.mark
        self.wants_more = self._push(self._partition, record)

    def _end_partition(self) -> None:
        if self._has_static and not self._has_rows and self._alone and self.wants_more:
            self._take(STATIC_SUFFIX, self._template.copy())
        self._has_static = False

    def static_alone(self) -> None:
        """The partition that was begun has nothing but its static row, and that is a result."""
        self._has_static = False
        self._take(STATIC_SUFFIX, self._template.copy())

    def end(self) -> None:
        """There are no more partitions."""
        self._end_partition()


def _has_known(layout: Layout, row: Row, now_us: int) -> bool:
    """Whether something lives that is no dropped column's."""
    known = layout.view.by_id
    return any((cell.column in known or cell.column == 0) and not cell.is_dead(now_us) for cell in row.cells)


class Reading(NamedTuple):
    """How rows are read: `wants_static` says that static rows are of use, `rows_wanted` how many rows are."""

    table: int
    level: Level
    wants_static: bool
    reverse: bool
    rows_wanted: int


class _Unit(NamedTuple):
    partition: bytes
    interval: Interval
    is_first: bool
    resumed: bool


def from_partitions(
    partitions: Sequence[bytes],
    intervals: Sequence[Interval],
    reading: Reading,
    consumer: Consumer,
    after: Position | None,
) -> Source:
    """Rows of these slices of these partitions, in this order, after a position."""
    if len(partitions) * len(intervals) > PLACES_MAX:
        raise InvalidRequestError(places_refused(len(partitions), len(intervals)))
    units = _units(partitions, intervals, reading.reverse, after)
    for start in range(0, len(units), UNITS_ASKED_MAX):
        some = units[start : start + UNITS_ASKED_MAX]
        requests: list[Request] = []
        for unit in some:
            if unit.is_first and reading.wants_static:
                requests.append(_static_request(reading, unit.partition))
            requests.append(_read_request(reading, unit.partition, unit.interval))
        answers = iter([_rows(answer) for answer in (yield tuple(requests))])
        for unit in some:
            if unit.is_first:
                static = next(answers) if reading.wants_static else None
                _begin(consumer, unit, static)
            answer = next(answers)
            yield from _rest_of(unit, reading, consumer, answer)
            if not consumer.wants_more:
                return
    consumer.end()


def _begin(consumer: Consumer, unit: _Unit, static: RowsRead | None) -> None:
    row = static.rows[0].row if static is not None and static.rows else None
    consumer.begin(unit.partition, row, 0 if static is None else static.now_us, unit.resumed)


def _rest_of(unit: _Unit, reading: Reading, consumer: Consumer, answer: RowsRead) -> Source:
    interval = unit.interval
    while True:
        consumer.dead += answer.dead
        suffix = b""
        for item in answer.rows:
            suffix = split_row_key(item.key)[3]
            consumer.row(suffix, item.row, answer.now_us)
            if not consumer.wants_more:
                return
        if not answer.more or not answer.rows:
            return
        if reading.reverse:
            interval = Interval(interval.first, suffix)
        else:
            interval = Interval(suffix + b"\x00", interval.end)
        (next_answer,) = yield (_read_request(reading, unit.partition, interval),)
        answer = _rows(next_answer)


def _units(
    partitions: Sequence[bytes], intervals: Sequence[Interval], reverse: bool, after: Position | None
) -> list[_Unit]:
    ordered = list(reversed(intervals)) if reverse else list(intervals)
    units: list[_Unit] = []
    skipping = after is not None
    for partition in partitions:
        if skipping:
            assert after is not None
            if partition != after.partition:
                continue
            skipping = False
            left = [] if after.suffix == STATIC_SUFFIX else _left_of(ordered, after.suffix, reverse)
            units += [_Unit(partition, part, i == 0, resumed=True) for i, part in enumerate(left)]
        else:
            units += [_Unit(partition, part, i == 0, resumed=False) for i, part in enumerate(ordered)]
    if skipping:
        raise InvalidRequestError("the paging state is of another query: run the query from its beginning")
    return units


def _left_of(intervals: Sequence[Interval], suffix: bytes, reverse: bool) -> list[Interval]:
    """What of these intervals comes after a row."""
    left = []
    for first, end, point in intervals:
        if reverse:
            if first < suffix:
                left.append(Interval(first, b"", point=True) if point else Interval(first, min(end, suffix)))
        elif point:
            if first > suffix:
                left.append(Interval(first, b"", point=True))
        elif end > suffix:
            left.append(Interval(max(first, suffix + b"\x00"), end))
    return [part for part in left if part.point or part.first < part.end]


def _static_request(reading: Reading, partition: bytes) -> ReadRequest:
    return ReadRequest(reading.table, partition, STATIC_SUFFIX, b"", True, reading.level)


def _read_request(reading: Reading, partition: bytes, interval: Interval) -> ReadRequest:
    rows_max = min(max(reading.rows_wanted, 1), READ_ROWS_MAX)
    first, end, point = interval
    return ReadRequest(
        reading.table,
        partition,
        first,
        end,
        point,
        reading.level,
        rows_max,
        reading.reverse and not point,
        bytes_max=0 if point else ANSWER_BYTES_MAX,
    )


def _rows(answer: Answer) -> RowsRead:
    found = unless_failed(answer)
    assert isinstance(found, RowsRead), found
    return found


# --- the whole ring


def from_ring(
    tokens: tuple[int, int],
    reading: Reading,
    consumer: Consumer,
    after: Position | None,
    partitions_only: bool,
) -> Source:
    """Rows of a range of tokens, in token order; with `partitions_only` one of each partition will do."""
    first_token, last_token = tokens
    if first_token > last_token:
        return
    start = b"" if first_token == TOKEN_MIN else token_range_bounds(reading.table, first_token, TOKEN_MAX)[0]
    if after is not None:
        start = row_key(reading.table, token_of(after.partition), after.partition, after.suffix)
        answer_static = None
        if reading.wants_static:
            (told,) = yield (_static_request(reading, after.partition),)
            answer_static = _rows(told)
        _begin(
            consumer, _Unit(after.partition, Interval(b"", b""), is_first=True, resumed=True), answer_static
        )
    while consumer.wants_more:
        rows_max = min(max(reading.rows_wanted, 1), SCAN_ROWS_MAX)
        request = ScanRequest(
            reading.table,
            start,
            rows_max,
            reading.level,
            last_token=last_token,
            bytes_max=ANSWER_BYTES_MAX,
        )
        (told,) = yield (request,)
        answer = _rows(told)
        consumer.dead += answer.dead
        for item in answer.rows:
            _, token, partition, suffix = split_row_key(item.key)
            if token > last_token:
                consumer.end()
                return
            _scanned(consumer, partition, suffix, item.row, answer.now_us)
        if not answer.more or not answer.rows:
            consumer.end()
            return
        start = answer.rows[-1].key
        if partitions_only:
            _, token, partition, _ = split_row_key(start)
            start = partition_prefix(reading.table, token, partition) + b"\xff"


def _scanned(consumer: Consumer, partition: bytes, suffix: bytes, row: Row, now_us: int) -> None:
    if suffix == STATIC_SUFFIX:
        consumer.begin(partition, row, now_us)
        return
    if not consumer.is_in(partition):
        consumer.begin(partition, None, now_us)
    consumer.row(suffix, row, now_us)
