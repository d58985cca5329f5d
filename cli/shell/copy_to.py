"""COPY TO: a table to a file, range after range of the ring, several at once.

Each of `RANGES` equal slices of the tokens is read page by page; pages are written as they come, so rows are
in no order, and nothing but a few pages is held. A state file beside the output notes its size and, of each
slice, the paging state of what comes next: a copy that was interrupted cuts the output to that size and goes
on, by whichever peer, since paging states outlive their coordinator. Compressed output and Parquet cannot be
cut, so they begin again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, Protocol, cast

from cli import load
from cli.load import Progress, Tally
from cli.native.client import Prepared
from cli.native.connection import LostError, RefusedError
from cli.output import Failure, count_text
from cli.shell import csv_text
from cli.shell.copy_rows import Field
from cli.shell.copy_values import json_of
from cli.shell.copying import NDJSON, PARQUET, CopyPlan, note
from cli.shell.errors import NAMES, UsageError, file_called
from cli.shell.shell import Shell
from cql_lite import wire
from cql_lite.formatting import identifier
from cql_lite.types_scalar import json_string
from ring.tokens import MAX_TOKEN, MIN_TOKEN

RANGES: Final = 64
AT_ONCE: Final = 8
SAVE_PAUSE_S: Final = 1.0
ATTEMPTS: Final = 6
PAUSE_S: Final = 0.1
_DONE: Final = "done"
_PASSING: Final = (
    wire.Overloaded, wire.IsBootstrapping, wire.Unavailable, wire.ReadTimeout, wire.ReadFailure,
)  # fmt: skip

Rows = Sequence[Sequence[bytes | None]]


class Sink(Protocol):
    """What takes rows."""

    can_resume: bool

    def write(self, rows: Rows) -> None:
        """More rows."""

    def flush(self) -> int:
        """Have them be in the file; its size."""

    def close(self) -> None:
        """There are no more."""


class TextSink:
    """CSV or NDJSON."""

    def __init__(self, plan: CopyPlan, fields: Sequence[Field], file: IO[bytes], *, begun: bool) -> None:
        self._file = file
        self._fields = fields
        self._writers = [plan.statement.options.styles.writer(field.type) for field in fields]
        self._names = [json_string(field.name) for field in fields]
        self._dialect = plan.statement.options.dialect
        self._json = plan.statement.options.format == NDJSON
        self.can_resume = not isinstance(file, gzip.GzipFile)
        if plan.statement.options.header and not self._json and not begun:
            self._put([csv_text.line([field.name for field in fields], self._dialect)])

    def _put(self, lines: list[str]) -> None:
        self._file.write("".join(f"{line}\n" for line in lines).encode())

    def write(self, rows: Rows) -> None:
        """More rows."""
        self._put([self._json_line(row) if self._json else self._csv_line(row) for row in rows])

    def _csv_line(self, row: Sequence[bytes | None]) -> str:
        pairs = zip(self._writers, row, strict=True)
        texts = [None if value is None else write(value) for write, value in pairs]
        return csv_text.line(texts, self._dialect)

    def _json_line(self, row: Sequence[bytes | None]) -> str:
        members = [
            f"{name}: {json_of(field.type, value)}"
            for name, field, value in zip(self._names, self._fields, row, strict=True)
        ]
        return "{" + ", ".join(members) + "}"

    def flush(self) -> int:
        """Have them be in the file; its size."""
        self._file.flush()
        return self._file.tell() if self.can_resume and self._file.seekable() else 0

    def close(self) -> None:
        """There are no more."""
        self._file.close()


class StdoutSink(TextSink):
    """Standard output, which stays open."""

    def __init__(self, shell: Shell, plan: CopyPlan, fields: Sequence[Field]) -> None:
        self._shell = shell
        super().__init__(plan, fields, io.BytesIO(), begun=False)
        self.can_resume = False

    def _put(self, lines: list[str]) -> None:
        for line in lines:
            self._shell.output.line(line)


def queries_of(plan: CopyPlan) -> list[tuple[str, list[bytes]]]:
    """The query of each slice with its values; a slice begins behind the first of its tokens."""
    names = ", ".join(identifier(column.name) for column in plan.columns)
    table = f"{identifier(plan.table.keyspace)}.{identifier(plan.table.name)}"
    text = f"SELECT {names} FROM {table}"
    if plan.table.keyspace.startswith("system"):
        return [(text, [])]  # computed tables have no ring
    token = f"token({', '.join(identifier(column.name) for column in plan.table.partition_key)})"
    begin, end = plan.statement.options.begin_token, plan.statement.options.end_token
    first, last = MIN_TOKEN if begin is None else begin, MAX_TOKEN if end is None else end
    slices = min(RANGES, last - first)
    ends = [first + (last - first) * number // slices for number in range(slices + 1)]
    found = []
    for bounds in itertools.pairwise(ends):
        above = ">=" if bounds[0] == MIN_TOKEN else ">"
        values = [bound.to_bytes(8, "big", signed=True) for bound in bounds]
        found.append((f"{text} WHERE {token} {above} ? AND {token} <= ?", values))
    return found


class CopyTo:
    """One COPY TO on its way."""

    def __init__(self, shell: Shell, plan: CopyPlan, progress: Progress) -> None:
        self._shell = shell
        self._plan = plan
        self._options = plan.statement.options
        self._progress = progress
        self._queries = queries_of(plan)
        schema = shell.schema
        self._fields = [Field(column.name, schema.type_of(plan.table, column)) for column in plan.columns]
        self._states: dict[int, str] = {}
        self._prepared: dict[str, Prepared] = {}
        self._tally = Tally(bytes_total=len(self._queries))
        self._began_s = self._saved_s = time.monotonic()
        self._file = None if plan.statement.is_pipe else file_called(plan.statement.file)
        self._state_file = Path(f"{self._file}.copying") if self._file is not None else None
        self._identity = {
            "table": f"{plan.table.keyspace}.{plan.table.name}",
            "columns": ",".join(column.name for column in plan.columns),
            "options": self._options.identity,
        }
        self._sink = self._opened()

    # --- the file

    def _opened(self) -> Sink:
        plan, file = self._plan, self._file
        if file is None:
            return StdoutSink(self._shell, plan, self._fields)
        if self._options.format == PARQUET:
            from cli.shell.parquet import ParquetSink

            return ParquetSink(file, self._fields)
        size = self._resume(file)
        try:
            opened: IO[bytes]
            if file.suffix == ".gz":
                opened = cast(IO[bytes], gzip.open(file, "wb"))  # noqa: SIM115 - the sink closes it
            else:
                opened = file.open("r+b" if size else "wb")
                opened.truncate(size)
                opened.seek(size)
        except OSError as error:
            raise UsageError(f"COPY: {file}: {error.strerror or error}") from None
        return TextSink(plan, self._fields, opened, begun=size > 0)

    def _resume(self, file: Path) -> int:
        """The size that the file had when its state was noted, 0 to begin."""
        assert self._state_file is not None
        if not self._options.resume:
            load.forget(self._state_file)
            return 0
        try:
            state: dict[str, Any] | None = load.read_state(self._state_file)
        except Failure:
            state = None
        good = state is not None and state["identity"] == self._identity and file.exists()
        if not good or state is None or file.stat().st_size < state["offset"]:
            return 0
        self._states = {int(number): word for number, word in state["slices"].items()}
        self._tally.loaded = self._tally.resumed_at_line = int(state["line"])
        return int(state["offset"])

    def _save(self) -> None:
        """Note how far each slice is."""
        self._saved_s = time.monotonic()
        if self._state_file is None or not self._sink.can_resume or not self._options.resume:
            return
        size = self._sink.flush()
        slices = {str(number): state for number, state in self._states.items()}
        state = {"identity": self._identity, "offset": size, "line": self._tally.loaded, "slices": slices}
        note(self._state_file, state)

    # --- the rows

    async def run(self) -> Tally:
        """Copy; raises UsageError when it must stop."""
        left = [number for number in range(len(self._queries)) if self._states.get(number) != _DONE]
        left.reverse()
        readers = [asyncio.create_task(self._read(left)) for _ in range(min(AT_ONCE, len(left)))]
        try:
            await asyncio.gather(*readers)
        except BaseException:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            with contextlib.suppress(OSError, UsageError):  # of the same disk
                self._save()
            with contextlib.suppress(OSError):
                self._sink.close()
            raise
        self._sink.close()
        self._tally.seconds = time.monotonic() - self._began_s
        if self._state_file is not None:
            load.forget(self._state_file)
        return self._tally

    async def _read(self, left: list[int]) -> None:
        """Slice after slice."""
        while left and not self._enough:
            await self._slice(left.pop())

    @property
    def _enough(self) -> bool:
        return 0 <= self._options.rows_max <= self._tally.loaded

    async def _slice(self, number: int) -> None:
        text, values = self._queries[number]
        known = self._states.get(number)
        state = bytes.fromhex(known) if known else None
        while True:
            parameters = wire.Parameters(
                self._shell.level, tuple(values), page_size=self._options.page_size, paging_state=state
            )
            page = await self._page(text, parameters)
            rows = page.rows
            if self._options.rows_max >= 0:
                rows = rows[: max(0, self._options.rows_max - self._tally.loaded)]
            self._sink.write(rows)
            self._tally.loaded += len(rows)
            state = page.paging_state
            self._states[number] = _DONE if state is None else state.hex()
            self._report()
            if state is None or self._enough:
                return

    async def _page(self, text: str, parameters: wire.Parameters) -> wire.Rows:
        """One page; asked again where that may help."""
        prepared = self._prepared.setdefault(text, Prepared(text, ""))
        pause_s = PAUSE_S
        for attempt in range(ATTEMPTS):
            try:
                async with asyncio.timeout(self._shell.options.timeout_s):
                    reply = await self._shell.client.execute(prepared, parameters)
                assert isinstance(reply.response, wire.Rows)
                return reply.response
            except (RefusedError, LostError) as error:
                passing = isinstance(error, LostError) or isinstance(error.error, _PASSING)
                if not passing:
                    raise
                if attempt == ATTEMPTS - 1:
                    raise self._stopped(error) from None
            await asyncio.sleep(pause_s)
            pause_s *= 2
        raise AssertionError("the last attempt returns or raises")

    def _stopped(self, error: RefusedError | LostError) -> UsageError:
        why = str(error)
        if isinstance(error, RefusedError):
            why = f"{NAMES.get(type(error.error), 'Error')}: {error.error.message}"
        resumes = self._state_file is not None and self._sink.can_resume
        return UsageError(f"COPY: stopped: {why}", "the same command goes on from here" if resumes else "")

    def unwritten(self, error: OSError) -> UsageError:
        """The file cannot be written, of a full disk for instance."""
        hint = "the same command goes on from here when it can" if self._sink.can_resume else ""
        return UsageError(f"COPY: {self._file}: {error.strerror or error}", hint)

    def _report(self) -> None:
        self._tally.bytes_read = sum(state == _DONE for state in self._states.values())
        self._tally.seconds = time.monotonic() - self._began_s
        self._progress(self._tally)
        if time.monotonic() - self._saved_s > SAVE_PAUSE_S:
            self._save()


async def copy_to(shell: Shell, plan: CopyPlan) -> None:
    """Run a COPY TO."""
    name = f"{plan.table.keyspace}.{plan.table.name}"
    with load.progress_bar(name) as progress:
        copying = CopyTo(shell, plan, progress)
        try:
            tally = await copying.run()
        except OSError as error:
            if plan.statement.is_pipe:
                raise
            raise copying.unwritten(error) from None
    rate = tally.loaded / tally.seconds if tally.seconds else 0.0
    text = f"{name}: {count_text(tally.loaded, 'row')} to {plan.statement.file} in {tally.seconds:.1f} s"
    text += f" ({rate:,.0f}/s)"
    if tally.resumed_at_line:
        text += f", {tally.resumed_at_line:,} of them earlier"
    shell.output.say(text)
