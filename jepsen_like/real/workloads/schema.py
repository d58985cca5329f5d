"""The schema changes under the writers, over CQL: tables come, go and are emptied, and so do columns.

As jepsen_like/workloads/schema.py, but real peers do not say under which table's id a row was written. So
every request carries, in `Sullae-Session`, the schema that any answer told of: what begins after a change was
acknowledged knows of it, through whichever peer. Then, of a row that was acknowledged:

    lost      it is gone, or a column of it, though nothing that may have emptied its table, or dropped the
              column, ended after it began
    ghost     it is there, though its table was emptied, or the column dropped, by what began after it ended
    phantom   what nobody wrote there, or what certainly failed
    stale     a read that was answered did not see it, though nothing emptied the table meanwhile
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from core.consistency import Level
from core.session import Token, decode_tokens, encode_token
from jepsen_like.checkers import PROBLEMS_MAX, Problem
from jepsen_like.door import End
from jepsen_like.history import FAIL, INFO, NEVER, OK, Operation
from jepsen_like.real.workloads import KEYSPACE, defined, door_of
from jepsen_like.session import SECOND, Session
from jepsen_like.workloads.schema import EXTRA_COLUMNS, PROBED, TABLES, SchemaLoad

EXTRAS = tuple(f"x{number}" for number in range(EXTRA_COLUMNS))
PAGE_ROWS = 5_000
FINAL_PATIENCE_US = 30 * SECOND
EMPTYING = ("drop", "truncate")

Cells = Mapping[str, str | None]
Rows = dict[int, Cells]
"""What a table holds: number of the row -> column -> value."""


class Put(NamedTuple):
    """A row: its number, which its columns hold, and which of `EXTRAS` it has."""

    number: int
    extras: tuple[str, ...]


class RealSchemaWorkload(SchemaLoad):
    """See the top of the file. The key of an operation is the table's name, its value a `Put` or a column."""

    def __init__(self) -> None:
        super().__init__()
        self._token = Token(full=False)
        self._left: dict[str, bool] = {}
        self.finals: dict[str, Rows | None] = {}
        """Of each table; None: it is not there."""

    def setup(self, session: Session) -> bool:
        """Tables are made by the load itself, but for one, which probes write to."""
        self.session = session
        return defined(session, _create(PROBED))

    # --- load

    def _alter(self, kind: str, name: str, column: str) -> None:
        operation = self.session.begin(kind, name, column)
        self._ask(operation, _text_of(kind, name, column), INFO, partial(self.session.end, operation))

    def _write(self, kind: str, name: str, peer: int) -> None:
        session = self.session
        self._next += 1
        extras = tuple(name for name in EXTRAS if kind == "write" and not session.random.randrange(4))
        operation = session.begin(kind, name, Put(self._next, extras), peer)
        columns = ("key", "n", *extras)
        values = ", ".join([f"'{self._next}'"] * len(columns))
        text = f"INSERT INTO {KEYSPACE}.{name} ({', '.join(columns)}) VALUES ({values})"

        def done(end: End) -> None:
            if end.status == OK:
                self._written.append(operation)
            session.end(operation, end)

        self._ask(operation, text, INFO, done)

    def _read(self, kind: str, peer: int) -> None:
        """A row that was acknowledged lately."""
        session = self.session
        write = self._recent()
        if write is None:
            operation = session.begin(kind, "", None, peer)
            session.end(operation, End(FAIL, None, "nothing was written yet"))
            return
        operation = session.begin(kind, write.key, write.value, peer)
        text = f"SELECT * FROM {KEYSPACE}.{write.key} WHERE key = '{write.value.number}'"

        def done(end: End) -> None:
            session.end(operation, end._replace(result=rows_of(end.result) if end.status == OK else None))

        self._ask(operation, text, FAIL, done)

    def _ask(self, operation: Operation, text: str, unknown: str, then: Any) -> None:
        """In the newest schema that was told of; ok brings rows."""

        def done(end: End) -> None:
            answer = end.result
            told = decode_tokens(answer.session) if answer.session else None
            if told is not None:
                self._token = self._token.seen(told.epoch)
            rows: Any = None
            if end.status == OK:
                rows = door.rows(answer)
            then(end._replace(result=rows))

        door, headers = door_of(self.session), {"Sullae-Session": encode_token(self._token)}
        body = {"query": text, "consistency": Level.QUORUM.name, "page_size": PAGE_ROWS}
        door.http(operation.peer, ("POST", "/v1/cql", body), unknown, done, headers)

    # --- the end

    def final(self) -> None:
        """All rows of all tables that there are."""
        self.session.door.patience_us = FINAL_PATIENCE_US
        self._begun = True
        for name in (*(f"t{number}" for number in range(TABLES)), PROBED):
            self._left[name] = True
            self._scan(name)

    def _scan(self, name: str) -> None:
        session = self.session
        operation = session.begin("final", name, None, 0)

        def done(end: End) -> None:
            if end.status == OK:
                self.finals[name] = rows_of(end.result)
            elif end.detail == "cql-invalid":
                self.finals[name] = None
            else:
                session.cluster.scheduler.after(SECOND, self._scan, name)
            if name in self.finals:
                self._left.pop(name, None)
            session.end(operation, end._replace(result=len(self.finals.get(name) or ())))

        self._ask(operation, f"SELECT * FROM {KEYSPACE}.{name}", FAIL, done)

    def finished(self) -> bool:
        """All tables were read."""
        return self._begun and not self._left

    def problems(self) -> list[Problem]:
        """Rows and tables against what was told to their writers."""
        operations = self.session.history.operations
        problems = judge_reads(operations)
        for name, rows in self.finals.items():
            problems += judge_table([op for op in operations if op.key == name], name, rows)
        return problems[:PROBLEMS_MAX]


def _create(name: str) -> str:
    return f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.{name} (key text PRIMARY KEY, n text)"


def _text_of(kind: str, name: str, column: str) -> str:
    table = f"{KEYSPACE}.{name}"
    return {
        "create": _create(name),
        "drop": f"DROP TABLE IF EXISTS {table}",
        "truncate": f"TRUNCATE {table}",
        "add_column": f"ALTER TABLE {table} ADD IF NOT EXISTS {column} text",
        "drop_column": f"ALTER TABLE {table} DROP IF EXISTS {column}",
    }[kind]


def rows_of(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """Rows by number."""
    return {int(row["key"]): {name: row[name] for name in row if name != "key"} for row in rows}


def _may_follow(changes: Iterable[Operation], write: Operation, until: int = NEVER) -> bool:
    """Whether one of these may have been done after a write, and begun before `until`."""
    return any(
        change.status != FAIL and change.completed > write.invoked and change.invoked < until
        for change in changes
    )


def _follows(changes: Iterable[Operation], write: Operation) -> bool:
    """Whether one of these was certainly done after an acknowledged write."""
    return any(change.status == OK and change.invoked > write.completed for change in changes)


def judge_reads(operations: Sequence[Operation]) -> list[Problem]:
    """`stale`: an acknowledged row was not seen."""
    emptied: dict[str, list[Operation]] = {}
    puts: dict[int, Operation] = {}
    for op in operations:
        if op.kind in EMPTYING:
            emptied.setdefault(op.key, []).append(op)
        elif op.kind in ("write", "probe_write"):
            puts[op.value.number] = op
    return [
        Problem("stale", repr(read))
        for read in operations
        if read.kind in ("read", "probe_read")
        and read.status == OK
        and not read.result
        and not _may_follow(emptied.get(read.key, ()), puts[read.value.number], read.completed)
    ]


def judge_table(operations: Sequence[Operation], name: str, rows: Rows | None) -> list[Problem]:
    """What is there of one table (None: it is not there) against what was done to it."""
    emptying = [op for op in operations if op.kind in EMPTYING]
    drops = [op for op in operations if op.kind == "drop"]
    if rows is None:
        created = [op for op in operations if op.kind == "create" and op.status == OK]
        gone = [op for op in created if not _may_follow(drops, op)]
        return [Problem("lost", f"the table {name}: {op!r}") for op in gone[:1]]
    puts = {op.value.number: op for op in operations if op.kind in ("write", "probe_write")}
    columns = {
        extra: [op for op in operations if op.kind == "drop_column" and op.value == extra] for extra in EXTRAS
    }
    problems = []
    for number, cells in rows.items():
        write = puts.get(number)
        if write is None or write.status == FAIL or cells["n"] != str(number):
            problems.append(Problem("phantom", f"row {number} of {name} holds {dict(cells)}: {write!r}"))
            continue
        if write.status == OK and _follows(emptying, write):
            problems.append(Problem("ghost", f"row {number} of {name}: {write!r}"))
        for extra in EXTRAS:
            problems += _judge_extra(write, extra, cells.get(extra), columns[extra], extra in cells)
    for number, write in puts.items():
        if write.status == OK and number not in rows and not _may_follow(emptying, write):
            problems.append(Problem("lost", f"row {number} of {name}: {write!r}"))
    return problems


def _judge_extra(
    write: Operation, extra: str, value: str | None, drops: Sequence[Operation], is_column: bool
) -> list[Problem]:
    number = str(write.value.number)
    wrote = extra in write.value.extras
    if value is not None and (not wrote or value != number):
        return [Problem("phantom", f"column {extra} holds {value!r}: {write!r}")]
    if value is not None and write.status == OK and _follows(drops, write):
        return [Problem("ghost", f"column {extra} holds {value!r}: {write!r}")]
    if value is None and wrote and write.status == OK and not _may_follow(drops, write):
        there = "is empty" if is_column else "is not there"
        return [Problem("lost", f"column {extra} {there}: {write!r}")]
    return []
