"""The shell itself: one statement after the other, whoever gives them.

CQL goes to the server as it is, DESCRIBE too; a few words at the beginning of a statement are the shell's own
(`commands.py`). What may be repeated without harm (reads) is repeated on another peer when the connection
breaks, at the page where it broke, since paging states outlive their coordinator. Writes are not: that they
may or may not have happened is said instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from cli.native.client import Client, NobodyError
from cli.native.connection import LostError, RefusedError
from cli.native.protocol import Reply
from cli.shell import errors, tracing
from cli.shell.errors import UsageError
from cli.shell.formatting import AUTO, OFF, TABLE, Writer, writer_for
from cli.shell.options import Options
from cli.shell.output import Output
from cli.shell.schema import Schema, names_like, read_schema
from core.consistency import Level
from cql_lite import wire
from cql_lite.lexer import Lexemes, split

READS: Final = ("SELECT", "DESCRIBE", "DESC", "LIST", "USE")
PAGE_ROWS: Final = 100
SCRIPT_PAGE_ROWS: Final = 1_000
_DESCRIPTION: Final = "create_statement"

More = Callable[[], Awaitable[bool]]


class ExitError(Exception):
    """EXIT or QUIT."""


class Shell:
    """What a session of the shell holds."""

    def __init__(self, options: Options, client: Client, output: Output) -> None:
        self.options = options
        self.client = client
        self.output = output
        self.level = options.consistency
        self.serial_level = Level.SERIAL
        self.tracing = False
        self.format = options.format
        self.expand = options.expand or (AUTO if output.terminal else OFF)
        self.interactive = False
        self.page_size = options.page_size
        self.schema = Schema()
        self.schema_changed = True
        self.more: More | None = None
        """Asks whether the next page is wanted, where there is somebody to ask."""
        self.ask_password: Callable[[str], Awaitable[str]] | None = None
        self.source_depth = 0
        client.on_moved = lambda where: output.say(f"now on {where}")

    def on_event(self, event: wire.Event) -> None:
        """Something happened in the cluster."""
        if isinstance(event, wire.SchemaChange):
            self.schema_changed = True

    # --- texts

    async def run(self, text: str) -> bool:
        """All statements of a text; whether all went well. The first that did not ends it, unless asked to
        go on.
        """
        good = True
        from cli.shell.commands import LINES

        for piece in split(text, LINES):
            if not await self.attempt(piece.text):
                good = False
                if not self.options.continue_on_error:
                    break
        return good

    async def attempt(self, statement: str) -> bool:
        """One statement; what goes wrong is said. Whether nothing did."""
        try:
            await self.statement(statement)
        except RefusedError as refused:
            lines = errors.refused(refused.error, statement)
            self.output.error([*lines, *_hints(refused.error), *await self._meant(refused.error)])
        except LostError as lost:
            self.output.error([f"the connection to {lost} {_outcome(statement, lost)}"])
            await self._reconnect()
        except TimeoutError:
            self.output.error([f"no answer within {self.options.timeout_s:g} s {_outcome(statement, None)}"])
            self._hang_up()
        except (UsageError, NobodyError) as error:
            self.output.error(errors.told(error))
        except OSError as error:
            self._not_captured(error)
        else:
            return self._flushed()
        self._flushed()
        return False

    def _flushed(self) -> bool:
        try:
            self.output.flush()
        except OSError as error:
            self._not_captured(error)
            return False
        return True

    def _not_captured(self, error: OSError) -> None:
        """The file of CAPTURE cannot be written: results go to standard output again."""
        where = self.output.capturing
        if where is None:
            raise error
        with contextlib.suppress(OSError):
            self.output.release()
        self.output.error([f"{where}: {error.strerror or error}; results are not captured any more"])

    async def statement(self, text: str) -> None:
        """One statement without its semicolon; raises what can go wrong."""
        from cli.shell.commands import command_of

        command = command_of(text)
        if command is not None:
            await command(self, text)
        else:
            await self.query(text)

    async def _meant(self, error: wire.Error) -> list[str]:
        """The name that was perhaps meant instead of one that does not exist."""
        missing = errors.missing_name(error.message)
        if missing is None:
            return []
        with contextlib.suppress(RefusedError, LostError, NobodyError, TimeoutError):
            await self.refresh()
        known = names_like(self.schema, self.client.keyspace, *missing)
        close = errors.closest(missing[1].rpartition(".")[2], known)
        return [f"  did you mean {close}?"] if close else []

    async def _reconnect(self) -> None:
        """Find another peer now, so that the person knows."""
        try:
            await self.client.connected()
        except (NobodyError, RefusedError) as error:
            self.output.error(errors.told(error))

    def _hang_up(self) -> None:
        """A connection that does not answer is not used again."""
        connection = self.client.connection
        if connection is not None:
            connection.close()
            connection.lost = connection.lost or LostError(connection.where, "it does not answer", sent=True)

    # --- CQL

    @property
    def rows_per_page(self) -> int:
        """How many rows are asked for at once; 0: all."""
        if self.page_size is not None:
            return self.page_size
        return PAGE_ROWS if self.interactive else SCRIPT_PAGE_ROWS

    async def query(self, text: str) -> None:
        """A statement for the server, its result printed."""
        began_s = time.monotonic()
        shown = _Result(self)
        state: bytes | None = None
        traces: list[bytes] = []
        while True:
            reply = await self._page(text, state)
            if reply.tracing_id is not None:
                traces.append(reply.tracing_id)
            state = shown.take(reply)
            if state is None:
                break
            if self.interactive and self.more is not None and self.output.capturing is None:
                self.output.flush()
                asked_s = time.monotonic()
                if not await self.more():
                    break
                began_s += time.monotonic() - asked_s
        shown.end(time.monotonic() - began_s)
        for trace in traces:
            await tracing.show(self.client, uuid.UUID(bytes=trace), self.output)

    async def _page(self, text: str, state: bytes | None) -> Reply:
        """One page; read again from another peer if this one is gone."""
        request = wire.Query(text, self._with_state(state))
        for again in (True, False):
            try:
                async with asyncio.timeout(self.options.timeout_s):
                    return await self.client.request(request, tracing=self.tracing)
            except LostError as lost:
                if not again or (first_word(text) not in READS and lost.sent):
                    raise
                self.output.say(f"lost {lost}; asking another peer")
        raise AssertionError("the second time returns or raises")

    def _with_state(self, state: bytes | None) -> wire.Parameters:
        page_size = self.rows_per_page
        return wire.Parameters(
            self.level, page_size=page_size, paging_state=state, serial_consistency=self.serial_level
        )

    async def refresh(self) -> Schema:
        """The schema as it is now."""
        if self.schema_changed:
            self.schema_changed = False
            try:
                self.schema = await read_schema(self.client)
            except BaseException:
                self.schema_changed = True
                raise
        return self.schema


class _Result:
    """One result on its way to the screen."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._writer: Writer | None = None
        self._what = "ok"

    def take(self, reply: Reply) -> bytes | None:
        """Print a page; the state of the next, if there is one."""
        output, response = self._shell.output, reply.response
        for warning in reply.warnings:
            output.say(f"Warning: {warning}")
        if isinstance(response, wire.SchemaChange):
            self._shell.schema_changed = True
        if isinstance(response, wire.SetKeyspace):
            self._what = f"using {response.keyspace}"
        if not isinstance(response, wire.Rows):
            return None
        columns = response.metadata.columns
        if self._shell.format == TABLE and _is_description(columns):
            self._described(columns, response.rows)
            return response.paging_state
        if self._writer is None:
            self._writer = writer_for(
                self._shell.format,
                columns,
                output.line,
                expand=self._shell.expand,
                colour=output.colour,
                width=output.width,
            )
        self._writer.page(response.rows)
        return response.paging_state

    def end(self, seconds: float) -> None:
        """Print what follows the rows."""
        output = self._shell.output
        writer = self._writer
        if writer is not None:
            writer.end()
            self._what = f"{writer.rows:,} row{'' if writer.rows == 1 else 's'}"
        if self._shell.format == TABLE and self._what:
            took = f", {seconds * 1000:.0f} ms" if self._shell.interactive else ""
            if writer is not None:
                output.remark(f"\n({self._what}{took})")
            elif self._shell.interactive:
                output.remark(f"{self._what}{took}")
        self._what = ""

    def _described(self, columns: Sequence[wire.ColumnSpec], rows: Sequence[Sequence[bytes | None]]) -> None:
        """DESCRIBE: statements one below the other, names side by side."""
        names = [column.name for column in columns]
        write = self._shell.output.line
        self._what = ""
        if _DESCRIPTION in names:
            texts = [(row[names.index(_DESCRIPTION)] or b"").decode() for row in rows]
            write("\n\n".join(texts))
            return
        lists: dict[str, list[str]] = {}
        for row in rows:
            keyspace, _, name = ((value or b"").decode() for value in row)
            lists.setdefault(keyspace, []).append(name)
        if all(names == [keyspace] for keyspace, names in lists.items()):
            lists = {"": sorted(lists)}
        for number, (keyspace, found) in enumerate(lists.items()):
            if keyspace:
                write(f"{chr(10) if number else ''}{keyspace}")
            _in_columns(found, self._shell.output.width or 80, write)


def _is_description(columns: Sequence[wire.ColumnSpec]) -> bool:
    """Whether this is what DESCRIBE answers (but not DESCRIBE CLUSTER, which is a row)."""
    names = [column.name for column in columns]
    if names[-1:] == [_DESCRIPTION]:
        return True
    return names == ["keyspace_name", "type", "name"] and columns[0].keyspace == "system"


def _in_columns(names: Sequence[str], width: int, write: Callable[[str], None]) -> None:
    """Names side by side."""
    longest = max(map(len, names), default=0) + 2
    per_line = max(1, (width - 2) // longest)
    for at in range(0, len(names), per_line):
        write(("  " + "".join(name.ljust(longest) for name in names[at : at + per_line])).rstrip())


def first_word(text: str) -> str:
    """The first word of a statement in capitals."""
    ups = Lexemes(text[:200]).ups
    return ups[0] if ups else ""


def _outcome(statement: str, lost: LostError | None) -> str:
    """What a lost answer means."""
    if first_word(statement) in READS or (lost is not None and not lost.sent):
        return "(nothing was changed)"
    return "(whether it was done is unknown)"


def _hints(error: wire.Error) -> list[str]:
    """What to do about an error, where the shell has something for it."""
    text = error.message
    if isinstance(error, wire.Unavailable) and error.consistency is not Level.ONE and error.alive:
        return ["  CONSISTENCY ONE; asks for fewer replicas"]
    if isinstance(error, wire.Invalid) and "no keyspace has been specified" in text.lower():
        return ["  USE a keyspace first, or write keyspace.table; DESCRIBE KEYSPACES; lists them"]
    return []
