"""`sullae export`: a table into a folder of files, ranges of tokens in parallel.

The ring is cut into equal parts. Each is read page by page at QUORUM and written to a hidden file of its own,
which is synced and renamed when it is whole: a file that can be seen is complete. `_export.json` notes what
is exported and is put there first; the same command given again keeps the files that are there and reads
the other parts, so an export that was interrupted loses at most the parts it was at.

What comes out: every write acknowledged at QUORUM before the export began is in it; one that came during it
may be. Each row is whole, as of the moment its page was read. It is no snapshot of one moment over all rows:
for that, follow the change stream from a time before the export and apply what it brings.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cli import https, load
from cli.load import Progress, Tally
from cli.native.client import Client, Endpoint, NobodyError, Prepared
from cli.native.connection import Access, LostError, RefusedError
from cli.output import Failure, count_text, print_json, say
from cli.shell.copy_rows import Field
from cli.shell.copy_to import Sink, TextSink
from cli.shell.copying import CSV, NDJSON, PARQUET, TO, CopyOptions, CopyPlan, CopyStatement
from cli.shell.errors import NAMES, UsageError
from cli.shell.parquet import ParquetSink
from cli.shell.schema import Schema, Table, read_schema
from core.consistency import Level
from cql_lite import wire
from cql_lite.formatting import identifier

FORMATS: Final = (PARQUET, NDJSON, CSV)
STATE: Final = "_export.json"
AT_ONCE: Final = 6
PARTS_MAX: Final = 4096
PAGE_ROWS: Final = 1_000
ATTEMPTS: Final = 7
PAUSE_S: Final = 0.1
ANSWER_TIMEOUT_S: Final = 60.0
_FIRST_TOKEN: Final = -(2**63)
_LAST_TOKEN: Final = 2**63 - 1
_PASSING: Final = (
    wire.Overloaded, wire.IsBootstrapping, wire.Unavailable, wire.ReadTimeout, wire.ReadFailure,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to export: `table` as keyspace.table, into a folder, as how many files."""

    table: str
    format: str
    folder: Path
    parts: int = 16
    level: Level = Level.QUORUM
    restart: bool = False


def slices(parts: int) -> list[tuple[int, int]]:
    """Equal ranges of tokens, both ends included, that together are the ring."""
    width = 2**64 // parts
    ends = [_FIRST_TOKEN + width * number for number in range(1, parts)] + [_LAST_TOKEN + 1]
    return [(first, last - 1) for first, last in zip([_FIRST_TOKEN, *ends[:-1]], ends, strict=True)]


class Export:
    """One export on its way."""

    def __init__(self, client: Client, schema: Schema, wanted: Wanted, progress: Progress) -> None:
        """Raises Failure if there is no such table, or the folder holds something else."""
        self._client = client
        self._wanted = wanted
        self._progress = progress
        table = found_table(schema, wanted.table)
        self._fields = [Field(column.name, schema.type_of(table, column)) for column in table.columns]
        options = CopyOptions(format=wanted.format, header=True)
        statement = CopyStatement(table.keyspace, table.name, (), TO, str(wanted.folder), options)
        self._plan = CopyPlan(statement, table, table.columns)
        names = ", ".join(identifier(column.name) for column in table.columns)
        token = f"token({', '.join(identifier(column.name) for column in table.partition_key)})"
        place = f"{identifier(table.keyspace)}.{identifier(table.name)}"
        self._query = Prepared(f"SELECT {names} FROM {place} WHERE {token} >= ? AND {token} <= ?", "")
        self._identity: dict[str, Any] = {
            "table": f"{table.keyspace}.{table.name}",
            "format": wanted.format,
            "parts": wanted.parts,
            "columns": [[field.name, field.type.cql] for field in self._fields],
        }
        self._began_s = time.monotonic()
        self.tally = Tally(bytes_total=wanted.parts)
        self._left = self._opened()

    # --- the folder

    def _path(self, number: int) -> Path:
        return self._wanted.folder / f"part-{number:05}.{self._wanted.format}"

    def _opened(self) -> list[int]:
        """The parts that are not there yet, in an order to be popped from."""
        folder, state = self._wanted.folder, self._wanted.folder / STATE
        everything = range(self._wanted.parts)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = json.loads(state.read_text()) if state.exists() else None
            if self._wanted.restart and found is not None:
                for number in range(int(found.get("parts", 0))):
                    old = folder / f"part-{number:05}.{found.get('format')}"
                    old.unlink(missing_ok=True)
                found = None
            if found is None and any(folder.glob("part-*")):
                raise Failure(f"{folder} has files of others", hint="name a folder of its own: -o FOLDER")
            if found is not None and {name: found.get(name) for name in self._identity} != self._identity:
                hint = "name another folder, or give --restart to begin again in this one"
                text = f"{folder} has another export: {found.get('table')} as {found.get('format')}"
                raise Failure(text, hint=hint, code="other_export")
            if found is None:
                load.write_state(state, self._identity)
            for left_over in folder.glob(".part-*.writing"):
                left_over.unlink()
        except (OSError, ValueError) as error:
            raise Failure(f"{folder}: {error}", code="bad_folder") from None
        left = [number for number in reversed(everything) if not self._path(number).exists()]
        self.tally.resumed_at_line = self._wanted.parts - len(left)
        self.tally.bytes_read = self.tally.resumed_at_line
        return left

    def _sink(self, path: Path) -> Sink:
        if self._wanted.format == PARQUET:
            return ParquetSink(path, self._fields)
        return TextSink(self._plan, self._fields, path.open("wb"), begun=False)

    # --- the rows

    async def run(self) -> Tally:
        """Read what is missing; raises Failure when it must stop."""
        readers = [asyncio.create_task(self._read()) for _ in range(min(AT_ONCE, len(self._left)))]
        try:
            await asyncio.gather(*readers)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        self.tally.seconds = time.monotonic() - self._began_s
        return self.tally

    async def _read(self) -> None:
        while self._left:
            await self._part(self._left.pop())

    async def _part(self, number: int) -> None:
        path = self._path(number)
        hidden = path.with_name(f".{path.name}.writing")
        first, last = slices(self._wanted.parts)[number]
        values = tuple(end.to_bytes(8, "big", signed=True) for end in (first, last))
        state: bytes | None = None
        rows = 0
        with contextlib.closing(self._sink(hidden)) as sink:
            while True:
                page = await self._page(
                    wire.Parameters(self._wanted.level, values, page_size=PAGE_ROWS, paging_state=state)
                )
                sink.write(page.rows)
                rows += len(page.rows)
                self.tally.loaded += len(page.rows)
                self._report()
                state = page.paging_state
                if state is None:
                    break
        settle(hidden, path)
        self.tally.bytes_read += 1
        self._report()

    async def _page(self, parameters: wire.Parameters) -> wire.Rows:
        """One page; asked again where that may help."""
        pause_s = PAUSE_S
        for attempt in range(ATTEMPTS):
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    response = (await self._client.execute(self._query, parameters)).response
                assert isinstance(response, wire.Rows)
                return response
            except (RefusedError, LostError, TimeoutError) as error:
                passing = not isinstance(error, RefusedError) or isinstance(error.error, _PASSING)
                if not passing or attempt == ATTEMPTS - 1:
                    raise _stopped(error) from None
            await asyncio.sleep(pause_s)
            pause_s *= 2
        raise AssertionError("the last attempt returns or raises")

    def _report(self) -> None:
        self.tally.seconds = time.monotonic() - self._began_s
        self._progress(self.tally)


def settle(hidden: Path, path: Path) -> None:
    """Have a whole file be seen under its name, and be there after a power cut."""
    with hidden.open("rb") as file:
        os.fsync(file.fileno())
    hidden.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def found_table(schema: Schema, name: str) -> Table:
    """The table called keyspace.table; raises Failure."""
    keyspace, dot, table_name = name.partition(".")
    table = schema.table(keyspace, table_name) if dot else None
    if table is None:
        known = [f"{ks.name}.{its}" for ks in schema.keyspaces.values() for its in ks.tables]
        close = difflib.get_close_matches(name, known, 1)
        rule = "a table is named keyspace.table: docs.NAME of a collection, kv.NAME of a bucket"
        hint = f"did you mean {close[0]}?" if close else rule
        raise Failure(f"there is no table {name}", hint=hint, code="no_such_table")
    if keyspace.startswith("system"):
        raise Failure(f"{name} is computed by each peer and has no ranges", code="no_such_table")
    return table


def _stopped(error: RefusedError | LostError | TimeoutError) -> Failure:
    why = str(error) or "no answer in time"
    if isinstance(error, RefusedError):
        why = f"{NAMES.get(type(error.error), 'Error')}: {error.error.message}"
    return Failure(f"stopped: {why}", hint="the same command goes on from here", code="stopped")


def export(wanted: Wanted, endpoints: Sequence[Endpoint], *, as_json: bool) -> int:
    """Export; the exit status."""
    if wanted.format not in FORMATS:
        raise Failure(f"there is no format {wanted.format}", hint="parquet, ndjson or csv", exit_status=2)
    if not 1 <= wanted.parts <= PARTS_MAX:
        raise Failure(f"--parts is from 1 to {PARTS_MAX}", exit_status=2)
    try:
        tally = asyncio.run(_exported(wanted, endpoints))
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    if as_json:
        print_json(
            {
                "table": wanted.table, "format": wanted.format, "folder": str(wanted.folder),
                "parts": wanted.parts, "kept_parts": tally.resumed_at_line, "rows": tally.loaded,
                "seconds": round(tally.seconds, 3),
            }
        )  # fmt: skip
        return 0
    rate = tally.loaded / tally.seconds if tally.seconds else 0.0
    text = f"{wanted.table}: {count_text(tally.loaded, 'row')} to {wanted.folder} in {tally.seconds:.1f} s"
    text += f" ({rate:,.0f}/s)"
    if tally.resumed_at_line:
        text += f"; {tally.resumed_at_line} of {wanted.parts} files were there already"
    say(text)
    return 0


async def _exported(wanted: Wanted, endpoints: Sequence[Endpoint]) -> Tally:
    client = Client(endpoints, Access(https.for_cql()))
    try:
        await client.connected()
        schema = await read_schema(client)
        with load.progress_bar(wanted.table) as progress:
            return await Export(client, schema, wanted, progress).run()
    except UsageError as error:
        raise Failure(error.text, hint=error.hint) from None
    except NobodyError as nobody:
        hint = "is the cluster up? --host says where its CQL port is"
        raise Failure(str(nobody), hint=hint, code="unreachable") from None
    except (RefusedError, LostError) as error:
        raise _stopped(error) from None
    finally:
        client.close()
