"""COPY FROM: rows of a file to INSERTs (of counters: UPDATEs), many on their way, over all peers.

One reader, `IN_FLIGHT` senders. What may pass (a peer that died, an overload, a timeout) is tried again for a
while, as an INSERT may be repeated; when that does not help, the copy stops, and goes on when the same
command is given again. What cannot pass (a value that is none, a row the server refuses) is a reject: a line
of FILE.rejects with the reason. An increment of a counter may not be repeated, so one of unknown outcome is a
reject that says so.

Promise: the state file says an offset before which every row was written or rejected. It is noted once a
second, and at the end, however that comes; rows after it may be written twice, which changes nothing:
increments are sent under an operation id, which is the row's for as long as the copy is not complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cli import load, records
from cli.load import Progress, Tally
from cli.native.client import Client, NobodyError, Prepared
from cli.native.connection import LostError, RefusedError
from cli.output import Failure, count_text
from cli.records import Reject, Source
from cli.shell.copy_rows import Field, Pipe, Row, Rows, csv_rows, ndjson_rows
from cli.shell.copying import NDJSON, PARQUET, CopyPlan, kind_of, note
from cli.shell.errors import NAMES, UsageError, file_called
from cli.shell.shell import Shell
from core.consistency import Level
from cql_lite import types, wire
from cql_lite.formatting import identifier
from cql_lite.frames import MalformedError
from cql_lite.operation_ids import PAYLOAD_KEY

CONNECTIONS_MAX: Final = 6
PATIENCE_S: Final = 30.0
PAUSE_FIRST_S: Final = 0.05
PAUSE_MAX_S: Final = 2.0
SAVE_PAUSE_S: Final = 1.0
YIELD_ROWS: Final = 50
"""After so many rows in a row the reader lets others go on."""
PASSING: Final = (
    wire.Overloaded, wire.IsBootstrapping, wire.Unavailable, wire.WriteTimeout, wire.WriteFailure,
    wire.ServerError,
)  # fmt: skip
_NOTHING_DONE: Final = (wire.Overloaded, wire.IsBootstrapping, wire.Unavailable)


class _StoppedError(Exception):
    """The copy cannot go on now."""


def insert_of(plan: CopyPlan, fields: Sequence[Field]) -> tuple[str, list[int]]:
    """The statement that writes a row, and which values it takes in which order."""
    table = f"{identifier(plan.table.keyspace)}.{identifier(plan.table.name)}"
    ttl = f" USING TTL {plan.statement.options.ttl_s}" if plan.statement.options.ttl_s is not None else ""
    names = [identifier(field.name) for field in fields]
    counters = [index for index, field in enumerate(fields) if field.type == types.COUNTER]
    if not counters:
        marks = ", ".join("?" * len(names))
        return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks}){ttl}", list(range(len(names)))
    keys = [index for index in range(len(fields)) if index not in counters]
    added = ", ".join(f"{names[index]} = {names[index]} + ?" for index in counters)
    where = " AND ".join(f"{names[index]} = ?" for index in keys)
    return f"UPDATE {table}{ttl} SET {added} WHERE {where}", [*counters, *keys]


class _Peers:
    """A connection to each of several peers, all of whom know the statement."""

    def __init__(self, clients: Sequence[Client], text: str) -> None:
        self.clients = clients
        self._prepared = [Prepared(text, "") for _ in clients]

    async def send(self, number: int, parameters: wire.Parameters, payload: wire.Payload) -> None:
        """Write a row by one of the peers."""
        index = number % len(self.clients)
        await self.clients[index].execute(self._prepared[index], parameters, payload)

    def close(self) -> None:
        """End the connections."""
        for client in self.clients:
            client.close()


async def _peers_of(shell: Shell, text: str, wanted: int) -> _Peers:
    """Connections to as many peers as there are, at most `wanted`."""
    known = shell.client.endpoints
    clients = []
    for index in range(max(1, min(len(known), wanted))):
        client = Client(known[index:] + known[:index], shell.client.access)
        with contextlib.suppress(NobodyError):
            await client.connected()
            clients.append(client)
    if not clients:
        await shell.client.connected()
        raise NobodyError([])
    return _Peers(clients, text)


class CopyFrom:
    """One COPY FROM on its way."""

    def __init__(self, shell: Shell, plan: CopyPlan, progress: Progress) -> None:
        self._plan = plan
        self._options = plan.statement.options
        self._level = shell.level
        self._progress = progress
        self._tally = Tally()
        schema = shell.schema
        self.fields = [Field(column.name, schema.type_of(plan.table, column)) for column in plan.columns]
        self.text, self._order = insert_of(plan, self.fields)
        self.counters = any(field.type == types.COUNTER for field in self.fields)
        self._queue: asyncio.Queue[Row | None] = asyncio.Queue(self._options.in_flight * 2)
        self._open: dict[int, tuple[int, int]] = {}
        self._next = (0, 1)
        self._failure: Exception | None = None
        self._began_s = time.monotonic()
        file = plan.statement.file
        self._file = None if plan.statement.is_pipe else file_called(file)
        self._state = Path(f"{self._file}.copying") if self._file is not None else None
        rejects = self._options.rejects or f"{self._file or 'stdin'}.rejects"
        self.rejects = file_called(rejects)
        self._identity = self._identified() if self._file is not None else {}
        self._source: Source | None = None
        self._run_id = uuid.uuid4().hex
        """Of this copy, until it is complete."""

    def _identified(self) -> dict[str, str]:
        """What must be the same for a copy to go on."""
        assert self._file is not None
        try:
            mark = records.fingerprint(self._file)
        except OSError as error:
            raise UsageError(f"{self._file}: {error.strerror or error}") from None
        return {
            "file": mark,
            "table": f"{self._plan.table.keyspace}.{self._plan.table.name}",
            "columns": ",".join(field.name for field in self.fields),
            "options": self._options.identity,
        }

    # --- the whole

    async def run(self, peers: _Peers) -> Tally:
        """Copy; raises UsageError when it must stop, and whatever a bug raises."""
        begin = self._resume()
        if self.counters:
            self._save()  # under which ids rows are counted, before the first is
        senders = [
            asyncio.create_task(self._send(peers, number)) for number in range(self._options.in_flight)
        ]
        try:
            await self._read(begin)
            for _ in senders:
                await self._queue.put(None)
            await asyncio.gather(*senders)
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            self._report()
            if self._source is not None:
                self._source.__exit__(None, None, None)
            if self._tally.read:
                self._save()
        if self._failure is not None:
            raise self._stopped(self._failure)
        if self._state is not None:
            load.forget(self._state)
        return self._tally

    def _stopped(self, why: Exception) -> Exception:
        if isinstance(why, _StoppedError):
            hint = "" if self._state is None else "the same command goes on from here"
            return UsageError(f"COPY: stopped: {why}", hint)
        return why

    # --- reading

    def _rows(self, begin: tuple[int, int]) -> Rows:
        options = self._options
        if options.format == PARQUET:
            from cli.shell.parquet import parquet_rows

            if self._file is None:
                raise UsageError("COPY: Parquet cannot come from a pipe", "give a file")
            return parquet_rows(self._file, self.fields, options, begin)
        try:
            lines = Pipe() if self._file is None else Source(self._file)
        except Failure as failure:
            raise UsageError(failure.text) from None
        if isinstance(lines, Source):
            self._source = lines
            self._tally.bytes_total = lines.size
        read = ndjson_rows if options.format == NDJSON else csv_rows
        return read(lines, self.fields, options, begin)

    async def _read(self, begin: tuple[int, int]) -> None:
        saved_s = time.monotonic()
        for item in self._limited(self._rows(begin)):
            if self._ends():
                return
            self._tally.read += 1
            if isinstance(item, Reject):
                self._reject(item)
                if self._ends():
                    return
            else:
                self._open[item.offset] = (item.offset, item.line)
                await self._queue.put(item)
            source = self._source
            self._next = (
                (source.offset, source.line) if source is not None else (item.offset + 1, item.line + 1)
            )
            if self._tally.read % YIELD_ROWS == 0:
                await asyncio.sleep(0)
                self._report()
                if time.monotonic() - saved_s > SAVE_PAUSE_S:
                    saved_s = time.monotonic()
                    self._save()

    def _ends(self) -> bool:
        return self._failure is not None

    def _limited(self, rows: Rows) -> Iterator[Row | Reject]:
        left = self._options.rows_max
        for row in rows:
            if left == 0:
                return
            left -= 1
            yield row

    # --- writing

    async def _send(self, peers: _Peers, number: int) -> None:
        while (row := await self._queue.get()) is not None:
            if self._ends():
                continue
            try:
                reason = await self._write(peers, number, row)
            except (_StoppedError, NobodyError) as error:
                nobody = isinstance(error, NobodyError)
                self._failure = _StoppedError(f"no peer can be reached: {error}" if nobody else str(error))
                continue
            except Exception as error:  # noqa: BLE001 - a sender that ended would be waited for without end
                self._failure = self._failure or error
                continue
            if reason:
                self._reject(Reject(row.offset, row.line, reason, row.text))
                if self._ends():
                    continue
            else:
                self._tally.loaded += 1
            del self._open[row.offset]

    async def _write(self, peers: _Peers, number: int, row: Row) -> str:
        """Why the row cannot be written, "" if it is."""
        values = tuple(row.values[index] for index in self._order)
        parameters = wire.Parameters(self._level, values)
        payload = {PAYLOAD_KEY: f"{self._run_id}-{row.offset}".encode()} if self.counters else {}
        end_s = time.monotonic() + PATIENCE_S
        pause_s = PAUSE_FIRST_S
        while True:
            why, harmless = "", True
            try:
                await peers.send(number, parameters, payload)
                return ""
            except RefusedError as refused:
                error = refused.error
                why = f"{NAMES.get(type(error), 'Error')}: {error.message}"
                if not isinstance(error, PASSING):
                    return why
                harmless = isinstance(error, _NOTHING_DONE)
            except MalformedError as too_large:  # no peer would read it
                return str(too_large)
            except LostError as lost:
                why, harmless = f"the connection was lost: {lost}", not lost.sent
            if self.counters and not harmless:
                return f"whether it was counted is unknown: {why}"
            if time.monotonic() > end_s or self._failure is not None:
                raise _StoppedError(why)
            await asyncio.sleep(pause_s)
            pause_s = min(PAUSE_MAX_S, pause_s * 2)
            number += 1  # perhaps another peer can

    def _reject(self, reject: Reject) -> None:
        self._tally.rejected += 1
        try:
            with self.rejects.open("ab") as file:
                file.write(records.reject_line(reject))
        except OSError as error:
            why = f"{self.rejects}: {error.strerror or error} (ERRFILE says where rejects are kept)"
            self._failure = self._failure or _StoppedError(why)
            return
        most = self._options.errors_max
        if 0 <= most < self._tally.rejected and self._failure is None:
            self._failure = _StoppedError(
                f"more than {most} rejects, see {self.rejects} (MAXERRORS says how many may be)"
            )

    # --- state

    def _resume(self) -> tuple[int, int]:
        """Where to begin."""
        if self._state is None or not self._options.resume:
            load.forget(self.rejects)
            if self._state is not None:
                load.forget(self._state)
            return 0, 1
        try:
            state = load.read_state(self._state)
        except Failure:
            state = None
        if state is None or state["identity"] != self._identity:
            load.forget(self.rejects)
            return 0, 1
        offset, line = int(state["offset"]), int(state["line"])
        self._next, self._run_id = (offset, line), str(state.get("run", self._run_id))
        self._tally.resumed_at_line = line if offset else 0
        load.keep_rejects_before(self.rejects, line)
        if self.rejects.exists():
            self._tally.rejected = len(self.rejects.read_bytes().splitlines())
        return offset, line

    def _save(self) -> None:
        """Note the first row that may be missing."""
        if self._state is None or not self._options.resume:
            return
        offset, line = next(iter(self._open.values()), self._next)
        state: dict[str, Any] = {"identity": self._identity, "offset": offset, "line": line}
        state["run"] = self._run_id
        note(self._state, state)

    def _report(self) -> None:
        if self._source is not None:
            self._tally.bytes_read = self._source.bytes_read
        self._tally.seconds = time.monotonic() - self._began_s
        self._progress(self._tally)


def files_of(plan: CopyPlan) -> list[str]:
    """The files that are meant: the one of this name, or those that its patterns, with commas, match."""
    statement = plan.statement
    if statement.is_pipe or file_called(statement.file).exists():
        return [statement.file]
    patterns = [str(file_called(part.strip())) for part in statement.file.split(",") if part.strip()]
    matched = [sorted(glob.glob(pattern)) for pattern in patterns]  # noqa: PTH207 - Path.glob needs a folder
    found = [file for files in matched for file in files]
    if not all(matched):
        return [statement.file]  # and what is wrong is said when it is opened
    if len({kind_of(file) for file in found}) > 1:
        raise UsageError("COPY: files of several formats cannot be copied at once")
    if len(found) > 1 and statement.options.rejects:
        raise UsageError("COPY: ERRFILE is one file, and there are several to read", "leave ERRFILE out")
    return found


async def copy_from(shell: Shell, plan: CopyPlan) -> None:
    """Run a COPY FROM, file after file."""
    missing = [column.name for column in plan.table.key if column not in plan.columns]
    if missing:
        raise UsageError(f"COPY: the column {missing[0]} is part of the primary key and must be there")
    if shell.level in (Level.SERIAL, Level.LOCAL_SERIAL):
        raise UsageError(f"COPY: {shell.level.name} is a level for reads", "CONSISTENCY QUORUM;")
    statement, rejected, left = plan.statement, 0, plan.statement.options.rows_max
    files = files_of(plan)
    counted = any(shell.schema.type_of(plan.table, column) == types.COUNTER for column in plan.columns)
    if counted and len(files) > 1:
        raise UsageError("COPY: counters are copied from one file at a time: given again, it counts once")
    for file in files:
        if left == 0:
            break
        options = replace(statement.options, rows_max=left)
        one = replace(plan, statement=replace(statement, file=file, options=options))
        tally = await _copy_file(shell, one)
        rejected += tally.rejected
        left = left if left < 0 else max(0, left - tally.read)
    if rejected:
        raise UsageError(f"COPY: {count_text(rejected, 'line')} rejected")


async def _copy_file(shell: Shell, plan: CopyPlan) -> Tally:
    name = f"{plan.table.keyspace}.{plan.table.name}"
    with load.progress_bar(name) as progress:
        work = CopyFrom(shell, plan, progress)
        peers = await _peers_of(shell, work.text, CONNECTIONS_MAX)
        try:
            tally = await work.run(peers)
        finally:
            peers.close()
    rate = tally.loaded / tally.seconds if tally.seconds else 0.0
    text = f"{name}: {count_text(tally.loaded, 'row')} from {plan.statement.file} in {tally.seconds:.1f} s"
    text += f" ({rate:,.0f}/s)"
    if tally.resumed_at_line:
        text += f", going on at line {tally.resumed_at_line:,}"
    if tally.rejected:
        text += f"; {count_text(tally.rejected, 'line')} rejected, see {work.rejects}"
    shell.output.say(text)
    return tally
