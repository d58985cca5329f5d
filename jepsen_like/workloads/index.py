"""Secondary indexes: rows change what they are found by, and every answer has to be complete and exact.

A row has two small numbers, `tag` and `half`, and the number of its write. `tag` is indexed from the
beginning, `half` while there is load, so that the index is built while rows change. Rows are looked for by
one value, in pages that are each asked of another peer; by a range of values; by both numbers at once; and
without any index. Half of the writes never reach one of the replicas of their row, which has to learn of
them from its siblings before it may answer.

At the end all peers must find the same at ONE, and on every disk the entries must be exactly those that the
rows stored there have.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from core.cell import VALUE
from core.consistency import Level
from core.families import replication_of
from core.finding import OPEN, Check, Drive, FindRequest, Found, Span
from core.messages import ApplyMutation, Message
from core.metadata import Change, CreateIndex, CreateKeyspace, CreateTable
from core.mutation import DELETE, UPDATE, decode_mutation
from core.requests import MetadataRequest, RowWrite, Write, WriteRequest
from core.row import Row, live_cells
from core.schema import PARTITION, REGULAR, Column, Index, IndexTarget, Table, TableOptions
from cql_lite.types import INT
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.history import OK, Operation
from jepsen_like.index_checker import judge_answers
from jepsen_like.session import SECOND, Session
from lsm import keys
from sim.real import node_of

KEYSPACE, TABLE = "indexes", "rows"
ROWS, TAGS, HALVES = 60, 4, 2
PAGE_ROWS, ALL_ROWS = 7, 500
FINAL_PATIENCE_US = 30 * SECOND
BUILD_AT_STEP = 60
"""Steps before the second index is made."""

State = tuple[int, int, int]
"""(tag, half, number of the write)."""


class IndexWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("write", "delete", "by_tag", "by_range", "by_half", "by_both", "by_none")

    def __init__(self) -> None:
        self._number = 0
        self._steps = 0
        self._final_left = 0
        self._missing_writes = True

    # --- before

    def setup(self, session: Session) -> bool:
        """A keyspace, a table, an index; and writes that do not arrive everywhere."""
        self.session = session
        cluster = session.cluster
        cluster.network.drop = self._is_lost
        factor = cluster.options.replication
        replication = replication_of(node_of(cluster, 0).metadata.state.members, factor)
        columns = (
            Column(0, "k", "int", PARTITION),
            Column(0, "tag", "int", REGULAR),
            Column(0, "half", "int", REGULAR),
            Column(0, "n", "int", REGULAR),
        )
        self._change(CreateKeyspace(KEYSPACE, replication, if_not_exists=True), 0)
        self._change(CreateTable(KEYSPACE, TABLE, columns, TableOptions(), if_not_exists=True), 0)
        self._change(_index("tag"), 0)
        return cluster.run_until(lambda: self._knows_all("by_tag"), 60 * SECOND)

    def _change(self, change: Change, at: int) -> None:
        """Have it decided, however often it takes."""
        cluster = self.session.cluster

        def judge(end: End) -> None:
            if end.status != OK:
                cluster.scheduler.after(SECOND // 5, self._change, change, at + 1)

        self.session.door.ask(at % len(cluster.machines), MetadataRequest(change), judge)

    def _table(self, peer: int) -> Table | None:
        cluster = self.session.cluster
        if cluster.machines[peer].process is None:
            return None
        return node_of(cluster, peer).metadata.state.table(KEYSPACE, TABLE)

    def _knows_all(self, index: str) -> bool:
        tables = [self._table(machine.index) for machine in self.session.cluster.machines]
        return all(table is not None and table.index(index) is not None for table in tables)

    def _is_lost(self, _source: int, target: int, message: Message) -> bool:
        """Every other row has one replica that no coordinator's write reaches."""
        if not self._missing_writes or not isinstance(message, ApplyMutation):
            return False
        mutation = decode_mutation(message.mutation)
        cluster = self.session.cluster
        process = cluster.machines[target].process
        if process is None or mutation.token % 2:
            return False
        placement = node_of(cluster, target).metadata.state.placement(mutation.table)
        if placement is None or placement.table.name != TABLE:
            return False
        replicas = placement.replicas(mutation.token)
        return (
            len(replicas) > 2
            and replicas[mutation.token // 2 % len(replicas)] == cluster.machines[target].peer
        )

    # --- load

    def step(self) -> None:
        """Writes, deletes, and reads of all kinds."""
        self._steps += 1
        if self._steps == BUILD_AT_STEP:
            self._change(_index("half"), self.session.random.randrange(len(self.session.cluster.machines)))
        random = self.session.random
        dice = random.randrange(10)
        if dice < 5:
            self._write("write", random.randrange(ROWS), -1)
        elif dice == 5:
            self._write("delete", random.randrange(ROWS), -1)
        else:
            kind = ("by_tag", "by_range", "by_half", "by_both", "by_none", "by_tag")[random.randrange(6)]
            self._read(kind, -1, Level.QUORUM)

    def probe(self, peer: int) -> None:
        """A write and a read; from now on writes reach all replicas."""
        self._missing_writes = False
        self._write("probe_write", self.session.random.randrange(ROWS), peer)
        self._read("probe_read", peer, Level.QUORUM)

    def _write(self, kind: str, row: int, peer: int) -> None:
        session, random = self.session, self.session.random
        self._number += 1
        state: State = (random.randrange(TAGS), random.randrange(HALVES), self._number)
        operation = session.begin(kind, row, None if kind == "delete" else state, peer)
        table = self._table(operation.peer)
        if table is None:
            session.end(operation, End("fail", None, "refused"))
            return
        cells = [
            Write(column.id, (), VALUE, INT.encode(value))
            for column, value in zip(table.columns[1:], state, strict=True)
        ]
        writes = () if kind == "delete" else tuple(cells)
        rows = (RowWrite(keys.ROW_SUFFIX, writes, replace=kind == "delete"),)
        how = DELETE if kind == "delete" else UPDATE
        request = WriteRequest(table.id, INT.encode(row), rows, Level.QUORUM, how)
        session.door.ask(operation.peer, request, partial(session.end, operation))

    def _read(self, kind: str, peer: int, level: Level) -> Operation:
        random = self.session.random
        what = (random.randrange(TAGS), random.randrange(HALVES))
        operation = self.session.begin(kind, what, None, peer)
        self._page(operation, "by_tag" if kind == "probe_read" else kind, level, b"", [])
        return operation

    def _page(self, operation: Operation, kind: str, level: Level, cursor: bytes, found: list[Any]) -> None:
        """A page; the next one is asked of another peer."""
        session = self.session
        peers = len(session.cluster.machines)
        at = (
            operation.peer
            if not cursor or operation.kind.startswith("final")
            else session.random.randrange(peers)
        )
        request = self._request(at, kind, operation.key, level)
        if request is None:
            session.end(operation, End("fail", None, "the peer does not know the index yet"))
            return
        request = _at(request, cursor)

        def done(end: End) -> None:
            if end.status != OK:
                session.end(operation, end)
                return
            answer = end.result
            assert isinstance(answer, Found), answer
            found.extend((_row_number(row.key), _state(row.row, answer.now_us)) for row in answer.rows)
            if answer.more:
                self._page(operation, kind, level, answer.cursor, found)
            else:
                session.end(operation, End(OK, found, f"as {kind}"))

        session.door.ask(at, request, done)

    def _request(self, peer: int, kind: str, what: tuple[int, int], level: Level) -> FindRequest | None:
        table = self._table(peer)
        if table is None:
            return None
        tag, half = what
        by_tag = Check(IndexTarget("tag"), (_point(tag),))
        by_half = Check(IndexTarget("half"), (_point(half),))
        if kind == "by_range":
            by_tag = Check(IndexTarget("tag"), ((INT.key(INT.encode(tag)), OPEN),))
        checks: tuple[Check, ...] = {
            "by_half": (by_half,),
            "by_both": (by_tag, by_half),
            "by_none": (by_tag, by_half),
        }.get(kind, (by_tag,))
        if kind == "by_none":
            return FindRequest(table.id, level, checks, rows_max=PAGE_ROWS)
        index = table.index("by_half" if kind == "by_half" else "by_tag")
        if index is None:
            return None
        most = ALL_ROWS if kind == "by_range" else PAGE_ROWS
        return FindRequest(table.id, level, checks, Drive(index.id, checks[0].spans), rows_max=most)

    # --- the end

    def final(self) -> None:
        """Each kind of read, at ONE through each peer and at QUORUM through one."""
        self.session.door.patience_us = FINAL_PATIENCE_US
        peers = [machine.index for machine in self.session.cluster.machines]
        plan = [(level, peer) for level, peer in [(Level.QUORUM, 0), *((Level.ONE, p) for p in peers)]]
        reads = [("by_tag", (tag, 0)) for tag in range(TAGS)] + [
            ("by_half", (0, half)) for half in range(HALVES)
        ]
        reads += [("by_none", (tag, half)) for tag in range(TAGS) for half in range(HALVES)]
        self._final_left = len(plan) * len(reads)
        for level, peer in plan:
            for kind, what in reads:
                self._final(kind, what, level, peer)

    def _final(self, kind: str, what: tuple[int, int], level: Level, peer: int) -> None:
        operation = self.session.begin(f"final_{kind}", what, None, peer)
        operation.detail = kind
        self._page(operation, kind, level, b"", [])
        cluster = self.session.cluster

        def look() -> None:
            if operation.status == OK:
                self._final_left -= 1
            elif operation.status == "pending":
                cluster.scheduler.after(SECOND // 5, look)
            else:
                cluster.scheduler.after(SECOND, self._final, kind, what, level, peer)

        look()

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """All answers judged, and the entries on all disks."""
        operations = self.session.history.operations
        writes = [op for op in operations if op.kind in ("write", "delete", "probe_write")]
        reads = [op for op in operations if op.kind.startswith(("by_", "final_", "probe_read"))]
        return judge_answers(writes, reads, _asks_for) + self._entries()

    def _entries(self) -> list[Problem]:
        """Entries that rows do not have, and those that they should have."""
        problems = []
        for machine in self.session.cluster.machines:
            node, table = node_of(self.session.cluster, machine.index), self._table(machine.index)
            assert table is not None
            stored = machine.engine.scan(
                keys.table_prefix(table.id), keys.successor(keys.table_prefix(table.id))
            )
            wanted = {
                entry
                for key, data in stored
                for entry, _ in node.indexed.entries(table, (key, None), (key, data))
            }
            held = machine.engine.keys(keys.ENTRY, keys.successor(keys.ENTRY))
            differing = sorted(wanted.symmetric_difference(held))
            if differing:
                text = f"peer {machine.index}: {len(differing)} entries differ, such as {differing[0].hex()}"
                problems.append(Problem("entries", text))
        return problems


def _index(column: str) -> CreateIndex:
    return CreateIndex(KEYSPACE, TABLE, Index(0, f"by_{column}", column), if_not_exists=True)


def _point(value: int) -> Span:
    return (INT.key(INT.encode(value)), b"")


def _at(request: FindRequest, cursor: bytes) -> FindRequest:
    return FindRequest(
        request.table, request.level, request.checks, request.drive, cursor=cursor, rows_max=request.rows_max
    )


def _row_number(key: bytes) -> int:
    return int(INT.decode(keys.split_row_key(key)[2]))


def _state(row: Row, now_us: int) -> State:
    values = [int(INT.decode(cell.value)) for cell in live_cells(row, now_us) if cell.value is not None]
    return tuple(values)  # type: ignore[return-value]


def _asks_for(read: Operation, state: State) -> bool:
    tag, half = read.key
    found_tag, found_half, _ = state
    kind = read.kind.removeprefix("final_") if read.kind.startswith("final_") else read.kind
    if kind == "by_range":
        return bool(found_tag >= tag)
    if kind == "by_half":
        return bool(found_half == half)
    if kind in ("by_both", "by_none"):
        return (found_tag, found_half) == (tag, half)
    return bool(found_tag == tag)
