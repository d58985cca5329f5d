"""Reading rows for a client: one row, a slice of a partition, or the whole ring in token order.

Each is a sequence of slices (node/reads.py), one after the other, until there are rows enough or no more. A
row that does not exist for a reader (all dead at `now`) counts for nothing, so a short page is continued,
never the end. `now` is read once, where the request came in, and travels no further: replicas send what they
hold, dead cells too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from core import limits
from core.commands import Slice
from core.consistency import Level, valid_for_reads
from core.requests import Answer, Invalid, ReadRequest, ReadRow, RowsRead, ScanRequest
from core.row import exists
from lsm.keys import partition_prefix, token_of as token_of_key, token_range_bounds
from node.lone_reads import LoneReads
from node.slices import SliceResult
from node.writes import no_such_table
from ring.tokens import token_of

if TYPE_CHECKING:
    from node.metadata_state import TablePlacement
    from node.paxos import Paxos
    from node.reads import Finish, ReadFailure, Reads

Replicas = tuple[bytes, ...]
SERIAL_LEVELS = (Level.SERIAL, Level.LOCAL_SERIAL)
POINT_BYTES_MAX = limits.FRAME_BYTES_MAX // 2
DEAD_ROWS_MAX = 1_000
"""How many rows a slice may have where those before it were all dead: a queue's head lies behind them."""
DISPUTED_ROWS = 64
"""About as many are in one sum (lsm/passing.py): where it differs, four times as many are read row by row."""
QUEUES_MAX = 1_000


class Scans:
    """The coordinator's side of reading for clients."""

    def __init__(self, reads: Reads, paxos: Paxos) -> None:
        """No state but what is being scanned."""
        self._reads = reads
        self._paxos = paxos
        self._inside = reads.inside
        self._lone = LoneReads(reads)
        self._scans: dict[int, RingScan] = {}
        self._queues: dict[bytes, None] = {}
        """Partitions of which the last read began with dead rows: the next one asks for sums at once."""

    def read(self, request: ReadRequest, deadline_us: int, reply: Callable[[Answer], None]) -> None:
        """Read of one partition; `reply` is called exactly once."""
        placement = self._reads.metadata.state.placement(request.table)
        is_serial = request.level in SERIAL_LEVELS
        refusal = None if is_serial else check_level(request.level)
        if placement is None or refusal is not None:
            reply(refusal or no_such_table())
            return
        token = token_of(request.partition)
        prefix = partition_prefix(request.table, token, request.partition)
        part = Slice(
            table=request.table,
            first=prefix + request.first,
            end=b"" if request.point else prefix + request.end,
            partition=prefix if placement.table.has_clustering else b"",
            point=request.point,
            rows_max=1 if request.point else min(request.rows_max, limits.SLICE_ROWS_MAX),
            bytes_max=POINT_BYTES_MAX if request.point else limits.SLICE_BYTES_MAX,
            reverse=request.reverse,
        )
        now_us = request.now_us or self._inside.clock.now_us()
        if request.point and not is_serial and request.trace is None:

            def row(result: SliceResult | ReadFailure) -> None:
                reply(_point(result, now_us))

            replicas, level = placement.replicas(token), request.level
            if not self._lone.begin(
                part, placement, replicas, level=level, deadline_us=deadline_us, finish=row
            ):
                self._reads.begin(part, replicas, level, deadline_us, row)
            return

        def begin(part: Slice, finish: Finish) -> None:
            if is_serial:
                self._paxos.read(
                    part, request.partition, request.level, deadline_us, finish, trace=request.trace
                )
            else:
                there = self._reads.metadata.state.placement(part.table)
                replicas = there.replicas(token) if there is not None else ()
                self._reads.begin(part, replicas, request.level, deadline_us, finish, trace=request.trace)

        if request.point:
            begin(part, lambda result: reply(_point(result, now_us)))
        else:
            if part.partition in self._queues and not (is_serial or request.reverse):
                part = msgspec.structs.replace(part, live_us=now_us)
            PartitionRead(begin, request, now_us, reply, sums=not is_serial, begun=self._note).ask(part)

    def _note(self, partition: bytes, is_queue: bool) -> None:
        """The slice that a read begins with was all dead, or not."""
        if not is_queue:
            self._queues.pop(partition, None)
        elif len(self._queues) < QUEUES_MAX:
            self._queues[partition] = None
        else:
            self._queues.clear()

    def scan(
        self, request_id: int, request: ScanRequest, deadline_us: int, reply: Callable[[Answer, bool], None]
    ) -> None:
        """Scan of the ring, in parts for which `want` gives credit."""
        placement = self._reads.metadata.state.placement(request.table)
        refusal = check_level(request.level)
        if placement is None or refusal is not None:
            reply(refusal or no_such_table(), True)
            return

        def part(answer: Answer, last: bool) -> None:
            if last:
                self._scans.pop(request_id, None)
            reply(answer, last)

        self._scans[request_id] = RingScan(self._reads, request, placement, deadline_us, part)

    def want(self, request_id: int, parts: int) -> None:
        """The client takes more parts."""
        scan = self._scans.get(request_id)
        if scan is not None:
            scan.want(parts)

    def cancel(self, request_id: int) -> None:
        """The client is gone."""
        scan = self._scans.pop(request_id, None)
        if scan is not None:
            scan.cancel()


def check_level(level: Level) -> Invalid | None:
    """Why a plain read cannot have this level."""
    if level in SERIAL_LEVELS:
        return Invalid("bad_level", f"{level.name} is for one partition: read the ring at QUORUM or another")
    if not valid_for_reads(level):
        return Invalid("bad_level", "ANY is for writes: a hint is no answer; read at ONE or more")
    return None


def _point(result: SliceResult | ReadFailure, now_us: int) -> Answer:
    if not isinstance(result, SliceResult):
        return result
    rows = tuple(ReadRow(key, row) for key, row in result.rows if exists(row, now_us))
    return RowsRead(rows, now_us, more=False)


class PartitionRead:
    """A slice of one partition, collected until it has the rows asked for."""

    def __init__(
        self,
        begin: Callable[[Slice, Finish], None],
        request: ReadRequest,
        now_us: int,
        reply: Callable[[Answer], None],
        *,
        sums: bool,
        begun: Callable[[bytes, bool], None],
    ) -> None:
        """`begin` reads a slice, plainly or in order with conditional updates.

        With `sums`, dead rows may be summed up; `begun` is told whether the first were dead.
        """
        self._begin = begin
        self._request = request
        self._now_us = now_us
        self._reply = reply
        self._rows: list[ReadRow] = []
        self._size = 0
        self._dead = 0
        self._wide = DISPUTED_ROWS
        """How many rows a plain slice may have after one that was all dead."""
        self._sums = sums and not request.reverse
        self._begun: Callable[[bytes, bool], None] | None = begun if self._sums else None
        self._part: Slice | None = None

    def ask(self, part: Slice) -> None:
        """Read the next slice."""
        self._part = part
        self._begin(part, self._on_slice)

    def _on_slice(self, result: SliceResult | ReadFailure) -> None:
        if not isinstance(result, SliceResult):
            self._reply(result)
            return
        part, wanted = self._part, self._request.rows_max
        assert part is not None
        found = [ReadRow(key, row) for key, row in result.rows if exists(row, self._now_us)]
        self._dead += len(result.rows) - len(found) + result.passed
        begun, self._begun = self._begun, None
        if begun is not None and part.partition:
            begun(part.partition, result.passed > 0 or result.disputed or (result.more and not found))
        room = wanted - len(self._rows)
        self._rows.extend(found[:room])
        bytes_max = self._request.bytes_max
        if bytes_max:
            self._size += bytes_of(found)
        is_large = bytes_max > 0 and self._size >= bytes_max and bool(self._rows)
        if len(found) > room or len(self._rows) == wanted or not result.more or is_large:
            cut = len(found) > room or result.more
            after = self._rows[-1].key if self._rows else b""
            self._reply(RowsRead(tuple(self._rows), self._now_us, cut, after if cut else b"", self._dead))
        else:
            following = after_slice(part, result.end) if result.end else part
            if not found:
                if part.live_us and result.rows:
                    self._sums = False  # the partition has deletions of its own, and nobody sums up
                following = self._past_the_dead(following, result.disputed)
            self.ask(following)

    def _past_the_dead(self, part: Slice, disputed: bool) -> Slice:
        """How to go on after rows that were all dead: summed up where replicas agree; else more at a time."""
        if not self._sums:
            return msgspec.structs.replace(part, rows_max=wider(part.rows_max), live_us=0)
        if disputed:
            self._wide = wider(self._wide)
            return msgspec.structs.replace(part, rows_max=self._wide, live_us=0)
        rows_max = min(self._request.rows_max - len(self._rows), limits.SLICE_ROWS_MAX)
        return msgspec.structs.replace(part, rows_max=rows_max, live_us=self._now_us)


def wider(rows_max: int) -> int:
    """How many rows to ask for after so many that were all dead: who wants one must not go step by step."""
    return max(rows_max, min(4 * rows_max, DEAD_ROWS_MAX))


def after_slice(part: Slice, end: bytes) -> Slice:
    """The slice that goes on where one that was complete up to `end` stopped."""
    first, last = (part.first, end) if part.reverse else (end + b"\x00", part.end)
    return Slice(part.table, first, last, part.partition, False, part.rows_max, part.bytes_max, part.reverse)


class RingScan:
    """A scan in token order: range after range, slice after slice, as the client takes them."""

    def __init__(
        self,
        reads: Reads,
        request: ScanRequest,
        placement: TablePlacement,
        deadline_us: int,
        reply: Callable[[Answer, bool], None],
    ) -> None:
        """Nothing is read before `want`."""
        self._reads = reads
        self._request = request
        self._reply: Callable[[Answer, bool], None] | None = reply
        self._deadline_us = deadline_us
        self._timeout_us = max(1, deadline_us - reads.inside.world.monotonic_us())
        self._now_us = request.now_us or reads.inside.clock.now_us()
        self._placement = placement
        self._ranges = self._ranges_of(placement)
        self._size = 0
        self._dead = 0
        self._slice_rows = 0
        """How many rows the last slice might have, if all were dead; else 0."""
        self._left = request.rows_max
        self._credit = 0
        self._reading = False
        self._at = 0
        self._first = b""
        if request.after:
            token = token_of_key(request.after)
            at = (i for i, (_, last, _) in enumerate(self._ranges) if token <= last)
            self._at = next(at, len(self._ranges))
            self._first = request.after + b"\x00"

    def _ranges_of(self, placement: TablePlacement) -> list[tuple[int, int, Replicas]]:
        return [part for part in joined_ranges(placement) if part[0] <= self._request.last_token]

    def _plan_anew(self) -> None:
        """Where rows live has changed since the slice before: go on at the same token."""
        placement = self._reads.metadata.state.placement(self._request.table)
        if placement is None or placement.same_as(self._placement) or self._at == len(self._ranges):
            return
        token = token_of_key(self._first) if self._first else self._ranges[self._at][0]
        self._placement = placement
        self._ranges = self._ranges_of(placement)
        self._at = next(i for i, (_, last, _) in enumerate(self._ranges) if token <= last)
        if not self._first and self._ranges[self._at][0] < token:
            self._first = token_range_bounds(self._request.table, token, token)[0]

    def want(self, parts: int) -> None:
        """Credit for more parts."""
        self._credit += parts
        self._read_on()

    def cancel(self) -> None:
        """Nothing is replied from now on."""
        self._reply = None

    def _read_on(self) -> None:
        if self._reading or self._credit <= 0 or self._reply is None:
            return
        if self._at == len(self._ranges):  # what is to be gone on after lies behind the last token
            self._reply(RowsRead((), self._now_us, False), True)
            return
        self._plan_anew()
        first_token, last_token, replicas = self._ranges[self._at]
        last_token = min(last_token, self._request.last_token)
        first, end = token_range_bounds(self._request.table, first_token, last_token)
        rows_max = max(min(self._left, limits.SLICE_ROWS_MAX), self._slice_rows)
        part = Slice(
            self._request.table, self._first or first, end, b"", False, rows_max, limits.SLICE_BYTES_MAX
        )
        self._reading, self._slice_rows = True, rows_max
        deadline_us = self._reads.inside.world.monotonic_us() + self._timeout_us
        trace = self._request.trace
        if trace is not None:
            trace.tell(f"Reading up to {rows_max} rows of the tokens {first_token} to {last_token}")
        self._reads.begin(part, replicas, self._request.level, deadline_us, self._on_slice, trace=trace)

    def _on_slice(self, result: SliceResult | ReadFailure) -> None:
        self._reading = False
        if self._reply is None:
            return
        if not isinstance(result, SliceResult):
            self._reply(result, True)
            return
        found = [ReadRow(key, row) for key, row in result.rows if exists(row, self._now_us)]
        if result.more:
            self._first = result.end + b"\x00"
        else:
            self._first, self._at = b"", self._at + 1
        done = self._at == len(self._ranges)
        rows = tuple(found[: self._left])
        self._slice_rows = 0 if found else wider(self._slice_rows)
        self._left -= len(rows)
        self._dead += len(result.rows) - len(found)
        if self._request.bytes_max:
            self._size += bytes_of(rows)
        is_large = bool(rows) and 0 < self._request.bytes_max <= self._size
        if done or self._left == 0 or is_large:
            more = not done or len(found) > len(rows)
            after = rows[-1].key if more and rows else b""
            self._reply(RowsRead(rows, self._now_us, more, after, self._dead), True)
        else:
            if rows:
                self._credit -= 1
                self._reply(RowsRead(rows, self._now_us, True, rows[-1].key, self._dead), False)
                self._dead = 0
            self._read_on()


def bytes_of(rows: Iterable[ReadRow]) -> int:
    """About what rows take: their keys, and the values of their cells."""
    return sum(
        len(item.key) + sum(len(cell.value) for cell in item.row.cells if cell.value is not None)
        for item in rows
    )


def joined_ranges(placement: TablePlacement) -> list[tuple[int, int, Replicas]]:
    """The ring's ranges in token order, neighbours that have the same replicas joined: few, for few peers."""
    ranges = sorted((first, last, replicas) for (first, last), replicas in placement.ranges())
    assert all(a[1] + 1 == b[0] for a, b in pairwise(ranges)), "ranges leave a gap"
    joined: list[tuple[int, int, Replicas]] = []
    for first, last, replicas in ranges:
        same = joined and sorted(joined[-1][2]) == sorted(replicas)
        if same and placement.sides_of(joined[-1][1]) == placement.sides_of(last):
            joined[-1] = (joined[-1][0], last, joined[-1][2])
        else:
            joined.append((first, last, replicas))
    return joined
