"""Writes that carry an operation id: applied once, however often and through whichever peer they are retried.

A client that was told "unknown" tries again under the same id. Such a write is decided like a conditional
update (Paxos per partition): what it reads first is the record of its id, in the very partition that it
writes; if there is none, the write and its record are proposed as one mutation. So of all retries one is
applied, and the others find its record and are answered as it was, a false condition included. An increment
goes to a shard that only decided updates write (OPERATION_SHARD), so it too is exact.

A record is a row with the key suffix 03 and the id, and holds one cell that was always dead: no reader of
rows ever sees it. Tombstones of the partition do not cover it (core/row.py `covered`), so that a
deletion under an id is not repeated either. It is believed for `remember_us`; whoever purges dead cells must
keep it so long. An id means one request: the same id with another one (another `fingerprint`) is refused. Ids
are known per partition: the same id in two partitions is two operations.

A logged batch of several partitions is decided in the partition of its first write: there the first attempt
leaves, with the record, the mutations that it is about to send (`BatchClaim`). A retry sends these very
mutations, under their ids and versions, whatever it was itself asked with, so replicas that have them do
nothing, and nothing that was written since is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from core import limits
from core.cell import VALUE, Version
from core.consistency import Level
from core.counter import decode_count, encode_count
from core.mutation import UPDATE
from core.requests import (
    Answer,
    BatchRequest,
    Broken,
    ConditionalRequest,
    CounterRequest,
    Invalid,
    Judged,
    OperationId,
    PartRead,
    ReadRow,
    Request,
    RowsRead,
    RowWrite,
    Timeout,
    Write,
    WriteRequest,
    Written,
)
from core.row import OPERATION_SUFFIX, Row, decode_row, encode_row
from lsm.keys import STATIC_SUFFIX, prefix_end

ID_BYTES_MAX: Final = 128
OPERATION_SHARD: Final = b"operations"
"""The shard of counters that only decided updates add to; other shards are named by peers' ids, 16 bytes."""
READS_REMEMBERED_BYTES_MAX: Final = 16 * limits.KIB
POINTS_MAX: Final = 100
REUSED: Final = "operation_id_reused"
_RECORD_COLUMN: Final = 2**31 - 1
"""No column of a table has this id."""

Decide = Callable[[tuple[RowsRead, ...]], WriteRequest | Invalid | None]


class _SliceThen(msgspec.Struct, frozen=True, array_like=True):
    """A part of what an update was judged by: (key, row bytes) pairs."""

    rows: tuple[tuple[bytes, bytes], ...]
    now_us: int
    more: bool
    after: bytes


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """The value of a record; `reads` is None if they were too large to be kept. `mutations`, (table, bytes)
    pairs, are those of a logged batch.
    """

    fingerprint: bytes
    at_us: int
    applied: bool
    reads: tuple[_SliceThen, ...] | None
    mutations: tuple[tuple[int, bytes], ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Record)


def check_id(operation_id: bytes) -> Invalid | None:
    """Why this is no id of an operation, or None."""
    if 0 < len(operation_id) <= ID_BYTES_MAX and operation_id[0]:
        return None
    text = f"an operation id has 1 to {ID_BYTES_MAX} bytes, of which the first is not zero"
    return Invalid("bad_operation_id", text)


class Once:
    """One write under its id: `request` is what to ask the node, `answer` makes of its answer what was asked
    for.
    """

    def __init__(self, asked: WriteRequest | CounterRequest | ConditionalRequest, of: OperationId) -> None:
        self._asked = asked
        self._of = of
        self._decide, reads, bytes_held = _decision(asked)
        serial_level = asked.serial_level if isinstance(asked, ConditionalRequest) else Level.SERIAL
        self.request = ConditionalRequest(
            asked.table,
            asked.partition,
            (PartRead(OPERATION_SUFFIX + of.id), *reads),
            self._decide_once,
            asked.level,
            serial_level,
            bytes_held,
            asked.trace,
            0 if isinstance(asked, CounterRequest) else asked.now_us,
        )

    def _decide_once(self, reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
        """Pure, as it must be."""
        found = _found(reads[0], self._of)
        if found is not None:
            return _reused(found[0], self._of)
        decision = self._decide(reads[1:])
        if isinstance(decision, Invalid):
            return decision
        record = RowWrite(OPERATION_SUFFIX + self._of.id, (self._record(reads, decision is not None),))
        if decision is None:
            return WriteRequest(
                self._asked.table, self._asked.partition, (record,), self._asked.level, UPDATE
            )
        return msgspec.structs.replace(decision, rows=(*decision.rows, record))

    def _record(self, reads: tuple[RowsRead, ...], applied: bool) -> Write:
        kept: tuple[_SliceThen, ...] | None = ()
        if isinstance(self._asked, ConditionalRequest):
            kept = tuple(
                _SliceThen(
                    tuple((row.key, encode_row(row.row)) for row in part.rows),
                    part.now_us,
                    part.more,
                    part.after,
                )
                for part in reads[1:]
            )
            size = sum(len(key) + len(data) for part in kept for key, data in part.rows)
            kept = kept if size <= READS_REMEMBERED_BYTES_MAX else None
        return _written(_Record(self._of.fingerprint, reads[0].now_us, applied, kept))

    def answer(self, answer: Answer) -> Answer:
        """What to tell the client."""
        asked = self._asked
        if isinstance(answer, Judged):
            found = _found(answer.reads[0], self._of)
            if found is None:
                applied = isinstance(self._decide(answer.reads[1:]), WriteRequest)
                reads, version = answer.reads[1:], answer.version
            else:
                applied, version = found[0].applied, found[1]
                reads = answer.reads[1:] if found[0].reads is None else tuple(map(_then, found[0].reads))
            if isinstance(asked, ConditionalRequest):
                return Judged(applied, reads, version if applied else None)
            assert version is not None, "what was written has a version"
            return Written(version)
        if isinstance(answer, Timeout) and not isinstance(asked, ConditionalRequest):
            kind = "COUNTER" if isinstance(asked, CounterRequest) else "SIMPLE"
            return msgspec.structs.replace(answer, write=True, write_type=kind)
        return answer


class BatchClaim:
    """Asks, before a logged batch under an id is begun, whether it was: `request` is what to decide first,
    `mutations` makes of the answer what to send. `mutations`, (table, bytes) pairs, lie in several
    partitions; the record goes to that of `home`, one of its writes.
    """

    def __init__(self, home: WriteRequest, of: OperationId, mutations: tuple[tuple[int, bytes], ...]) -> None:
        self._of = of
        self._mutations = mutations
        self._home = home
        suffix = OPERATION_SUFFIX + of.id
        size = sum(len(data) for _, data in mutations)
        self.request = ConditionalRequest(
            home.table, home.partition, (PartRead(suffix),), self._decide, Level.QUORUM, Level.SERIAL, size
        )

    def _decide(self, reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
        """Pure, as it must be."""
        found = _found(reads[0], self._of)
        if found is not None:
            return _reused(found[0], self._of)
        record = _Record(self._of.fingerprint, reads[0].now_us, True, (), self._mutations)
        row = RowWrite(OPERATION_SUFFIX + self._of.id, (_written(record),))
        return WriteRequest(self._home.table, self._home.partition, (row,), Level.QUORUM, UPDATE)

    def mutations(self, answer: Judged) -> tuple[tuple[tuple[int, bytes], ...], bool]:
        """The batch as the first attempt would have it, and whether this is the first."""
        found = _found(answer.reads[0], self._of)
        return (self._mutations, True) if found is None else (found[0].mutations, False)


def _found(part: RowsRead, of: OperationId) -> tuple[_Record, Version] | None:
    """The record in what was read, if it is to be believed, and its version."""
    for item in part.rows:
        for cell in item.row.cells:
            if cell.value is not None:
                record = _decoder.decode(cell.value)
                if record.at_us + of.remember_us > part.now_us:
                    return record, cell.version
    return None


def _reused(record: _Record, of: OperationId) -> Invalid | None:
    """Why the id is not this request's; None if it is, so that there is nothing to write."""
    if record.fingerprint == of.fingerprint:
        return None
    text = "this operation id was used for another request: give each request an id of its own"
    return Invalid(REUSED, text)


def _written(record: _Record) -> Write:
    return Write(_RECORD_COLUMN, (), VALUE, _encoder.encode(record), worthless=True)


def _then(part: _SliceThen) -> RowsRead:
    rows = tuple(ReadRow(key, decode_row(data)) for key, data in part.rows)
    return RowsRead(rows, part.now_us, part.more, part.after)


def _decision(
    asked: WriteRequest | CounterRequest | ConditionalRequest,
) -> tuple[Decide, tuple[PartRead, ...], int]:
    """How to decide, what to read for it, and about how many bytes that keeps."""
    if isinstance(asked, ConditionalRequest):
        return asked.decide, asked.reads, asked.bytes_held
    if isinstance(asked, CounterRequest):
        increment = asked
        suffixes = [suffix for suffix, _ in asked.rows]
        return (lambda reads: _increased(increment, reads)), tuple(map(PartRead, suffixes)), 0
    write = asked
    size = sum(len(cell.value or b"") for row in write.rows for cell in row.writes)
    return (lambda _: write), _parts(write), size


def _parts(write: WriteRequest) -> tuple[PartRead, ...]:
    """What is read only so that the write's version lies above it."""
    suffixes = [row.suffix for row in write.rows]
    parts = [PartRead(suffix) for suffix in suffixes]
    if len(parts) > POINTS_MAX:
        rows_max = limits.SLICE_ROWS_MAX
        parts = [PartRead(min(suffixes), max(suffixes) + b"\x00", point=False, rows_max=rows_max)]
    ranges = [*write.ranges[: POINTS_MAX // 2]]
    if write.partition_delete:
        ranges.append((STATIC_SUFFIX, OPERATION_SUFFIX))
    parts += [PartRead(a, b, point=False, rows_max=limits.SLICE_ROWS_MAX) for a, b in ranges]
    return tuple(parts)


def _increased(asked: CounterRequest, reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid:
    """The increment as cells: what the shard holds, and more."""
    held = {row.key[prefix_end(row.key) :]: row.row for part in reads for row in part.rows}
    rows = []
    for suffix, deltas in asked.rows:
        writes = []
        for column, delta in sorted(deltas):
            if not -(2**63) <= delta < 2**63:
                return Invalid("bad_increment", "an increment is a signed 64-bit integer")
            total = _shard(held.get(suffix), column) + delta
            writes.append(Write(column, (OPERATION_SHARD,), VALUE, encode_count(total)))
        rows.append(RowWrite(suffix, tuple(writes)))
    return WriteRequest(asked.table, asked.partition, tuple(rows), asked.level, UPDATE)


def _shard(row: Row | None, column: int) -> int:
    for cell in () if row is None else row.cells:
        if (cell.column, cell.path, cell.kind) == (column, (OPERATION_SHARD,), VALUE):
            return 0 if cell.value is None else decode_count(cell.value)
    return 0


# --- requests of several writes


class OnceEach:
    """The requests that a step of a statement makes, each write of them under the id; others as they are.

    `requests` are to be asked side by side, `answers` makes of their answers one for each that was given.
    """

    def __init__(self, asked: Sequence[Request], of: OperationId, first: int = 0) -> None:
        """`first` counts the writes of the steps before. Raises ValueError for what no id can make exact."""
        self._groups: list[tuple[Request, list[Once]]] = []
        self.count = first
        self.requests: list[Request] = []
        for request in asked:
            once = [Once(write, self._next(of)) for write in _writes_of(request)]
            self._groups.append((request, once))
            if isinstance(request, BatchRequest) and not once:
                self.requests.append(msgspec.structs.replace(request, operation=self._next(of)))
            else:
                self.requests += [one.request for one in once] if once else [request]

    def _next(self, of: OperationId) -> OperationId:
        self.count += 1
        return of.part(self.count - 1)

    def answers(self, answers: Sequence[Answer]) -> list[Answer]:
        """One answer for each request that was given."""
        left = list(answers)
        found: list[Answer] = []
        for request, once in self._groups:
            if not once:
                found.append(left.pop(0))
                continue
            told = [one.answer(left.pop(0)) for one in once]
            found.append(_joined(told) if isinstance(request, BatchRequest) else told[0])
        return found


def _writes_of(request: Request) -> Sequence[WriteRequest | CounterRequest | ConditionalRequest]:
    """Its writes, each to be done once; none of a logged batch that is done once as a whole."""
    whole = False
    if isinstance(request, WriteRequest | CounterRequest | ConditionalRequest):
        writes: Sequence[WriteRequest | CounterRequest | ConditionalRequest] = (request,)
    elif isinstance(request, BatchRequest):
        places = [(write.table, write.partition) for write in request.writes]
        counted = any(isinstance(write, CounterRequest) for write in request.writes)
        whole = request.logged and not counted and len(set(places)) > 1
        writes = tuple(
            msgspec.structs.replace(write, level=request.level, trace=request.trace)
            for write in request.writes
        )
    else:
        return ()
    if any(isinstance(write, WriteRequest) and write.timestamp_us for write in writes):
        raise ValueError(
            "a write with an operation id is stamped when it is decided: leave USING TIMESTAMP out"
        )
    return () if whole else writes


def _joined(answers: Sequence[Answer]) -> Answer:
    """Good if all are; else the same request, tried again, does what is missing."""
    bad = [answer for answer in answers if not isinstance(answer, Written)]
    if not bad:
        return answers[-1] if answers else Written((0, 0))
    worst = next((answer for answer in bad if isinstance(answer, Timeout)), bad[0])
    if isinstance(worst, Timeout | Broken) or len(bad) == len(answers):
        return worst
    text = str(getattr(worst, "detail", worst))
    return Broken(0, 1, len(bad), text, write=True, unknown=True, write_type="UNLOGGED_BATCH")
