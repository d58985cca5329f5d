"""A node that answers as it is told, for tests of what stands in front of one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec

from core.cell import Cell
from core.gathering import Gathered, GatherRequest, Served
from core.metadata import Birth, Change, Changes, Epoch, Proposal
from core.requests import (
    AdminRequest,
    Answer,
    BulkAnswered,
    BulkRequest,
    Changed,
    ConditionalRequest,
    Invalid,
    Judged,
    MetadataRequest,
    ReadRequest,
    ReadRow,
    Request,
    RowsRead,
    ScanRequest,
    Told,
    WriteRequest,
    Written,
)
from core.row import EMPTY_ROW, Row, merge_rows
from core.schema import Member
from core.settings import Settings
from core.streaming import LIST, GroupRequest
from documents.programs import start_program
from lsm import keys
from node.metadata_state import UNBORN, State, apply
from ring.tokens import token_of

MEMBERS = tuple(Member(bytes([n]) * 16, n, f"n{n}", f"127.0.0.{n}", "dc1", f"r{n}", (n,)) for n in (1, 2, 3))


class FakeNode:
    """Keeps rows in a dict and answers at once; `answers` are given instead, first come first served."""

    def __init__(self, settings: Settings | None = None) -> None:
        birth = Birth(b"c" * 16, "test", MEMBERS, (MEMBERS[0].peer,))
        self.metadata = SimpleNamespace(state=apply(UNBORN, Epoch(1, birth)))
        self.inside = SimpleNamespace(settings=settings or Settings())
        self.building = SimpleNamespace(is_built=lambda _: True, progress=lambda _: 1.0)
        self.on_reply: Callable[[int, Answer, bool], None] = lambda *_: None
        self.requests: list[Request] = []
        self.numbers: list[int] = []
        self.deadlines_us: list[int] = []
        self.answers: list[Answer] = []
        self.silent = False
        self.cancelled: list[int] = []
        self.why_not = ""
        self.rows: dict[tuple[int, bytes], Row] = {}
        self._scans: dict[int, list[ReadRow]] = {}
        self._version = 1_000

    @property
    def state(self) -> State:
        state: State = self.metadata.state
        return state

    def ready(self) -> tuple[bool, str]:
        return not self.why_not, self.why_not

    def status(self) -> dict[str, Any]:
        return {"name": "n1", "peers": [member.name for member in MEMBERS]}

    def change(self, change: Change) -> Changed:
        """Decide an epoch with this change."""
        number = self.state.epoch + 1
        self.metadata.state = apply(self.state, Epoch(number, Changes((Proposal((1, number), change),))))
        result = self.state.result((1, number))
        assert result is not None
        return result

    def on_request(self, request_id: int, request: Request, deadline_us: int) -> None:
        self.requests.append(request)
        self.numbers.append(request_id)
        self.deadlines_us.append(deadline_us)
        if self.silent:
            return
        if self.answers:
            self.on_reply(request_id, self.answers.pop(0), True)
        elif isinstance(request, ScanRequest):
            found = [ReadRow(key, row) for (_, key), row in sorted(self.rows.items()) if key > request.after]
            self._scans[request_id] = [r for r in found if keys.split_row_key(r.key)[0] == request.table]
        else:
            self.on_reply(request_id, self._answer(request), True)

    def _answer(self, request: Request) -> Answer:
        if isinstance(request, WriteRequest):
            return self._write(request)
        if isinstance(request, BulkRequest):
            return BulkAnswered(tuple(map(self._write, request.writes)))
        if isinstance(request, ReadRequest):
            return self._read(request)
        if isinstance(request, ConditionalRequest):
            return self._judge(request)
        if isinstance(request, MetadataRequest):
            return self.change(request.change)
        if isinstance(request, GatherRequest):
            return self._gather(request)
        if isinstance(request, GroupRequest):
            return Told({"groups": []}) if request.verb == LIST else Invalid("no_such_group", "no such group")
        assert isinstance(request, AdminRequest)
        if request.verb == "status":
            return Told({**self.status(), "arguments": request.arguments})
        return Invalid("no_such_verb", "no such verb")

    def _write(self, request: WriteRequest) -> Written:
        self._version += 1
        for write in request.rows:
            key = keys.row_key(request.table, token_of(request.partition), request.partition, write.suffix)
            cells = [
                Cell(w.column, w.path, w.kind, self._version, 7, int(w.value is None or w.worthless), w.value)
                for w in write.writes
            ]
            before = EMPTY_ROW if write.replace else self.rows.get((request.table, key), EMPTY_ROW)
            if cells:
                cells.sort(key=lambda cell: cell.address)
                self.rows[request.table, key] = merge_rows(before, Row(None, tuple(cells)))
            else:
                self.rows.pop((request.table, key), None)
        return Written((self._version, 7))

    def _judge(self, request: ConditionalRequest) -> Judged | Invalid:
        reads = tuple(
            self._read(
                ReadRequest(request.table, request.partition, part.first, part.end, part.point, request.level)
            )
            for part in request.reads
        )
        decision = request.decide(reads)
        if isinstance(decision, Invalid):
            return decision
        version = None if decision is None else self._write(decision).version
        return Judged(decision is not None, reads, version)

    def _gather(self, request: GatherRequest) -> Answer:
        """Three rows at a time, as a peer that is asked again and again."""
        table, me = self.state.tables[request.table], MEMBERS[0].peer
        rows = [(key, row) for (of, key), row in sorted(self.rows.items()) if of == table.id]
        rows = [(key, row) for key, row in rows if key > request.after]
        examined, pieces, goes_on = 0, 0, True
        while goes_on and (rows or not pieces):
            program = request.fold.program(me)
            runner = start_program(program, table, self.state.keyspaces[table.keyspace], lambda n: n - 1)
            assert not isinstance(runner, str), runner
            taken, rows = rows[:3], rows[3:]
            pieces += 1
            for key, row in taken:
                examined += 1
                if not runner.take(key, row, self._version):
                    break
            if request.examined_max and examined > request.examined_max:
                return Invalid("scan_refused", f"more than {request.examined_max} documents")
            goes_on = request.fold.absorb(me, runner.part()) and not request.fold.done()
        return Gathered((Served(me, 1, (MEMBERS[1].peer,), examined, 1, pieces, 1),), self._version)

    def _read(self, request: ReadRequest) -> RowsRead:
        prefix = keys.partition_prefix(request.table, token_of(request.partition), request.partition)
        if request.point:
            row = self.rows.get((request.table, prefix + request.first))
            found = () if row is None else (ReadRow(prefix + request.first, row),)
            return RowsRead(found, self._version, False)
        listed = [
            ReadRow(key, row)
            for (table, key), row in sorted(self.rows.items())
            if table == request.table and prefix + request.first <= key < prefix + request.end
        ]
        cut = listed[: request.rows_max]
        return RowsRead(tuple(cut), self._version, len(listed) > len(cut))

    def on_want(self, request_id: int, parts: int) -> None:
        for _ in range(parts):
            rows = self._scans.get(request_id)
            if rows is None:
                return
            part, rest = tuple(rows[:2]), rows[2:]
            self._scans[request_id] = rest
            if not rest:
                del self._scans[request_id]
            self.on_reply(request_id, RowsRead(part, self._version, bool(rest)), not rest)

    def on_cancel(self, request_id: int) -> None:
        self._scans.pop(request_id, None)
        self.cancelled.append(request_id)


def with_value_limit(size: int) -> Settings:
    """Settings under which a value of more bytes is too large."""
    return msgspec.structs.replace(Settings(), value_bytes_max=size)
