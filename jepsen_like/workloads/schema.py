"""The schema changes under the writers: tables are created, dropped and emptied, columns come and go.

Each write is one new row, planned by what its peer knows of the table then. What was acknowledged under a
table's id is there as long as the table has that id, and nothing that was written to another table of the
same name, or to another column of the same name, ever shows: ids are never given twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from core.cell import VALUE
from core.consistency import Level
from core.families import replication_of
from core.metadata import AddColumns, Change, CreateTable, DropColumns, DropTable, TruncateTable
from core.mutation import INSERT
from core.requests import MetadataRequest, ReadRequest, RowsRead, RowWrite, ScanRequest, Write, WriteRequest
from core.row import live_cells
from core.schema import PARTITION, REGULAR, Column, Table, TableOptions
from jepsen_like.checkers import PROBLEMS_MAX, Problem
from jepsen_like.door import End
from jepsen_like.history import FAIL, NEVER, OK, Operation
from jepsen_like.session import SECOND, Session
from lsm import keys
from node.metadata_state import State
from sim.real import node_of

TABLES = 3
EXTRA_COLUMNS = 2
RECENT = 50
DDL_OF = 12
"""One operation of so many changes the schema."""
FAMILY = "kv"
PROBED = "probed"
"""The table that stays."""
PAGE_ROWS = 500
FINAL_PATIENCE_US = 30 * SECOND


class Put(NamedTuple):
    """A row that was written: to the table of this id, with its number in these columns (by id)."""

    table: int
    number: int
    columns: tuple[int, ...]


Rows = dict[int, dict[int, bytes]]
"""What a table holds: number of the row -> column id -> value."""


class SchemaLoad(ABC):
    """What clients do, however peers are asked (jepsen_like/real/workloads/schema.py is the other way)."""

    kinds: tuple[str, ...] = ("write", "read", "create", "add_column")
    session: Session

    def __init__(self) -> None:
        self._next = 0
        self._written: list[Operation] = []
        """Writes that were acknowledged."""
        self._begun = False

    def step(self) -> None:
        """Mostly writes and reads."""
        draw = self.session.random.randrange
        name, dice = f"t{draw(TABLES)}", draw(DDL_OF)
        if dice == 0:
            self._change(name)
        elif dice < 2 * DDL_OF // 3:
            self._write("write", name, -1)
        else:
            self._read("read", -1)

    def probe(self, peer: int) -> None:
        """A row of the table that stays, and a look at one."""
        self._write("probe_write", PROBED, peer)
        self._read("probe_read", peer)

    def _change(self, name: str) -> None:
        """One schema change of this table, as drawn."""
        draw = self.session.random.randrange
        column = f"x{draw(EXTRA_COLUMNS)}"
        self._alter(_kind_of(draw(12)), name, column)

    def _recent(self) -> Operation | None:
        """A write that was acknowledged lately."""
        recent = self._written[-RECENT:]
        return recent[self.session.random.randrange(len(recent))] if recent else None

    @abstractmethod
    def _alter(self, kind: str, name: str, column: str) -> None:
        """Do a schema change of this kind."""

    @abstractmethod
    def _write(self, kind: str, name: str, peer: int) -> None:
        """Add a row; one that is acknowledged goes to `_written`."""

    @abstractmethod
    def _read(self, kind: str, peer: int) -> None:
        """Read one of the recent rows."""


def _kind_of(dice: int) -> str:
    """A kind of schema change; of twelve four create, four add a column."""
    if dice < 4:
        return "create"
    if dice < 6:
        return "drop" if dice == 4 else "truncate"
    return "add_column" if dice < 10 else "drop_column"


class SchemaWorkload(SchemaLoad):
    """See above. The key of an operation is the table's name."""

    def __init__(self) -> None:
        super().__init__()
        self._left: dict[int, bool] = {}
        self.finals: dict[int, Rows] = {}

    def setup(self, session: Session) -> bool:
        """Tables are made by the load itself, but for one, which probes write to."""
        self.session = session
        made: list[bool] = []
        self._create_probed(made)
        return session.cluster.run_until(lambda: bool(made), 60 * SECOND)

    def _create_probed(self, made: list[bool]) -> None:
        def judge(end: End) -> None:
            if end.status == OK:
                made.append(True)
            else:
                self.session.cluster.scheduler.after(SECOND // 5, self._create_probed, made)

        self.session.door.ask(0, MetadataRequest(self._table(PROBED)), judge)

    # --- load

    def _state(self, peer: int) -> State:
        """What this peer knows, or, if it is down, another one; an empty state if all are."""
        running = self.session.cluster.running()
        index = peer if peer in running else running[0] if running else -1
        return node_of(self.session.cluster, index).metadata.state if index >= 0 else State()

    def _table(self, name: str) -> CreateTable:
        members = self._state(0).members
        factor = self.session.cluster.options.replication
        columns = (Column(0, "key", "text", PARTITION), Column(0, "n", "text", REGULAR))
        return CreateTable(
            FAMILY if factor == 3 else f"{FAMILY}_rf{factor}",
            name,
            columns,
            TableOptions(),
            if_not_exists=True,
            unique_across=FAMILY,
            replication=replication_of(members, factor) if members else None,
        )

    def _alter(self, kind: str, name: str, column: str) -> None:
        session = self.session
        change = self._change_of(kind, self._table(name).keyspace, name, column)
        operation = session.begin(kind, name, column)
        session.door.ask(operation.peer, MetadataRequest(change), partial(session.end, operation))

    def _change_of(self, kind: str, keyspace: str, name: str, column: str) -> Change:
        if kind == "create":
            return self._table(name)
        if kind == "drop":
            return DropTable(keyspace, name)
        if kind == "truncate":
            return TruncateTable(keyspace, name)
        if kind == "add_column":
            columns = (Column(0, column, "text", REGULAR),)
            return AddColumns(keyspace, name, columns, if_not_exists=True)
        now_us = self.session.cluster.machines[0].clock.read_us()
        return DropColumns(keyspace, name, (column,), dropped_us=now_us)

    def _write(self, kind: str, name: str, peer: int) -> None:
        session = self.session
        operation = session.begin(kind, name, None, peer)
        table = self._state(operation.peer).table_across(FAMILY, name)
        if table is None:
            session.end(operation, End(FAIL, None, "no such table"))
            return
        self._next += 1
        columns = tuple(column.id for column in table.columns if column.kind == REGULAR)
        operation.value = Put(table.id, self._next, columns)
        text = b"%d" % self._next
        row = RowWrite(keys.ROW_SUFFIX, tuple(Write(column, (), VALUE, text) for column in columns))
        request = WriteRequest(table.id, text, (row,), Level.QUORUM, INSERT)

        def done(end: End) -> None:
            if end.status == OK:
                self._written.append(operation)
            session.end(operation, end)

        session.door.ask(operation.peer, request, done)

    def _read(self, kind: str, peer: int) -> None:
        """A row that was acknowledged lately."""
        session = self.session
        operation = session.begin(kind, "", None, peer)
        recent = self._recent()
        if recent is None:
            session.end(operation, End(FAIL, None, "nothing was written yet"))
            return
        put: Put = recent.value
        operation.value = put

        def done(end: End) -> None:
            if end.status == OK:
                end = end._replace(result=rows_of(end.result).get(put.number, {}))
            session.end(operation, end)

        request = ReadRequest(put.table, b"%d" % put.number, keys.ROW_SUFFIX, b"", True, Level.QUORUM)
        session.door.ask(operation.peer, request, done)

    # --- the end

    def final(self) -> None:
        """All rows of all tables that there are, at QUORUM."""
        self.session.door.patience_us = FINAL_PATIENCE_US
        self._begun = True
        for table in self._tables().values():
            self._left[table.id] = True
            self._scan(table.id, {}, b"")

    def _tables(self) -> dict[str, Table]:
        names = [f"t{number}" for number in range(TABLES)]
        found = {name: self._state(0).table_across(FAMILY, name) for name in names}
        return {name: table for name, table in found.items() if table is not None}

    def _scan(self, table: int, rows: Rows, after: bytes) -> None:
        session = self.session
        operation = session.begin("final", str(table), after.hex(), 0)

        def done(end: End) -> None:
            if end.status != OK:
                session.end(operation, end)
                session.cluster.scheduler.after(SECOND, self._scan, table, rows, after)
                return
            parts: Sequence[RowsRead] = end.result
            session.end(operation, end._replace(result=sum(len(part.rows) for part in parts)))
            rows.update(rows_of(parts))
            last = parts[-1]
            goes_on = last.after or (last.rows[-1].key if last.rows else b"")
            if last.more and goes_on:
                self._scan(table, rows, goes_on)
            else:
                self.finals[table] = rows
                del self._left[table]

        session.door.ask(operation.peer, ScanRequest(table, after, PAGE_ROWS, Level.QUORUM), done)

    def finished(self) -> bool:
        """All tables were read."""
        return self._begun and not self._left

    def problems(self) -> list[Problem]:
        """Rows and tables against what was told to their writers."""
        operations = self.session.history.operations
        tables = self._tables()
        problems = judge_tables(operations, tables)
        writes = [op for op in operations if op.kind == "write" and op.value is not None]
        for table in tables.values():
            rows = self.finals.get(table.id, {})
            problems += judge_rows(writes, table, rows)
            problems += judge_emptied(operations, table, rows)
        current = {table.id: True for table in tables.values()}
        problems += judge_looks((op for op in operations if op.kind == "read"), current)
        return problems[:PROBLEMS_MAX]


def rows_of(parts: Iterable[RowsRead]) -> Rows:
    """Rows by number, with what lives of them."""
    found: Rows = {}
    for part in parts:
        for item in part.rows:
            cells = live_cells(item.row, part.now_us)
            number = int(keys.split_row_key(item.key)[2])
            if cells:
                found[number] = {cell.column: cell.value or b"" for cell in cells}
    return found


def judge_rows(writes: Iterable[Operation], table: Table, rows: Rows) -> list[Problem]:
    """`lost`: an acknowledged row, or a column of it, is missing; `phantom`: what nobody wrote there."""
    problems = []
    puts = {op.value.number: op for op in writes}
    names = {column.id: column.name for column in table.columns if column.kind == REGULAR}
    for number, cells in rows.items():
        op = puts.get(number)
        if op is None or op.status == FAIL or op.value.table != table.id:
            problems.append(Problem("phantom", f"row {number} in {table.name} ({table.id}): {op!r}"))
            continue
        for column, name in names.items():
            wrote, found = column in op.value.columns, cells.get(column)
            if wrote and found != b"%d" % number:
                problems.append(Problem("lost", f"column {name} of row {number} holds {found!r}: {op!r}"))
            elif not wrote and found is not None:
                problems.append(Problem("phantom", f"column {name} of row {number} holds {found!r}: {op!r}"))
    for number, op in puts.items():
        if op.status == OK and op.value.table == table.id and number not in rows:
            problems.append(Problem("lost", f"row {number} of {table.name} ({table.id}): {op!r}"))
    return problems


def judge_emptied(operations: Iterable[Operation], table: Table, rows: Rows) -> list[Problem]:
    """`ghost`: what is there was acknowledged before its table was emptied, or its column dropped."""
    emptied = -1
    dropped: dict[str, int] = {}
    writes: dict[int, Operation] = {}
    for op in operations:
        if op.key != table.name or op.status != OK:
            continue
        if op.kind in ("drop", "truncate"):
            emptied = max(emptied, op.invoked)
        elif op.kind == "drop_column":
            dropped[op.value] = max(dropped.get(op.value, -1), op.invoked)
        elif op.kind == "write":
            writes[op.value.number] = op
    gone = {column.id: dropped.get(column.name, -1) for column in table.columns}
    problems = []
    for number in [number for number in rows if number in writes]:
        op = writes[number]
        if op.completed < emptied:
            problems.append(Problem("ghost", f"row {number} of {table.name}, emptied at {emptied}: {op!r}"))
        for column in rows[number]:
            if op.completed < gone.get(column, -1):
                text = f"column {column} of row {number} was dropped at {gone[column]}: {op!r}"
                problems.append(Problem("ghost", text))
    return problems


def judge_looks(reads: Iterable[Operation], current: Mapping[int, bool]) -> list[Problem]:
    """`stale`: a read that was answered did not see an acknowledged row of a table that is still there."""
    return [
        Problem("stale", repr(read))
        for read in reads
        if read.status == OK and read.value.table in current and not read.result
    ]


def judge_tables(operations: Iterable[Operation], tables: Mapping[str, Table]) -> list[Problem]:
    """`lost`: a table whose creation was acknowledged is not there, though no drop could have taken it."""
    created: dict[str, Operation] = {}
    dropped: dict[str, int] = {}
    for op in operations:
        if op.kind == "create" and op.status == OK:
            created[op.key] = op
        elif op.kind == "drop" and op.status != FAIL:
            end = op.completed if op.status == OK else NEVER
            dropped[op.key] = max(dropped.get(op.key, -1), end)
    return [
        Problem("lost", f"the table {name}: {op!r}")
        for name, op in created.items()
        if name not in tables and dropped.get(name, -1) < op.invoked
    ]
