"""Rows of files: CSV and NDJSON as streams, each row with where it begins, and what is no row as a reject.

A row's values are those of the columns that were asked for, in wire form: None is null, UNSET a member that
an NDJSON line does not have. A stream can begin at the offset of any row, which is how a copy goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from cli.records import LINE_BYTES_MAX, REJECTED_TEXT_CHARS_MAX, Reject
from cli.shell import csv_text
from cli.shell.copy_styles import Read
from cli.shell.copy_values import from_json
from cli.shell.copying import CopyOptions
from cli.shell.errors import UsageError
from core.errors import RequestError
from cql_lite import types, wire

_OBJECT = dict[str, msgspec.Raw]


class Field(NamedTuple):
    """A column that is filled."""

    name: str
    type: types.Type


class Row(NamedTuple):
    """A row and where it begins; `text` is what it was read from."""

    offset: int
    line: int
    text: str
    values: list[wire.BoundValue]


class Lines(Protocol):
    """What rows are read from: `cli.records.Source`, or a pipe."""

    offset: int
    line: int

    def next_line(self) -> bytes:
        """The next line with its end, b"" at the end."""

    def skip_to(self, offset: int, line: int) -> None:
        """Go on where a row begins."""


class Pipe:
    """Standard input as lines; a line with \\. alone ends it, as typed rows need an end."""

    def __init__(self) -> None:
        self.offset = 0
        self.line = 1

    def next_line(self) -> bytes:
        """The next line."""
        data = sys.stdin.buffer.readline()
        if data.rstrip() == b"\\.":
            return b""
        self.offset += len(data)
        self.line += 1 if data else 0
        return data

    def skip_to(self, offset: int, line: int) -> None:
        """A pipe only goes on from where it is."""
        assert (offset, line) == (0, 1)


Rows = Iterator[Row | Reject]


def csv_rows(
    lines: Lines, fields: Sequence[Field], options: CopyOptions, begin: tuple[int, int] = (0, 1)
) -> Rows:
    """The rows of CSV from `begin` on. With a header, its names say which field is which column."""
    reader = _Csv(lines, options.dialect)
    order: list[Field | None] = list(fields)
    if options.header:
        order = _order_of(reader.header(), fields, options.skip_columns)
    if begin[0]:
        lines.skip_to(*begin)
    readers = [None if each is None else (each.name, options.styles.reader(each.type)) for each in order]
    skip = 0 if begin[0] else options.skip_rows
    for offset, line, text, found in reader.records():
        if skip:
            skip -= 1
            continue
        if isinstance(found, str):
            yield Reject(offset, line, found, text[:REJECTED_TEXT_CHARS_MAX])
            continue
        yield _row(Row(offset, line, text, []), found, readers, fields)


class _Csv:
    """Records of lines."""

    def __init__(self, lines: Lines, dialect: csv_text.Dialect) -> None:
        self._lines = lines
        self._dialect = dialect

    def header(self) -> list[str]:
        """The names in the first record; raises UsageError if it is none."""
        for _, _, text, found in self.records():
            if isinstance(found, str):
                raise UsageError(f"COPY: the first line is no header: {found}")
            if not text:
                break
            return [name or "" for name in found]
        raise UsageError("COPY: there is no header, the file is empty")

    def records(self) -> Iterator[tuple[int, int, str, list[str | None] | str]]:
        """Offset, line, text, and the fields, or what is wrong."""
        lines = self._lines
        while True:
            offset, line = lines.offset, lines.line
            text = ""
            found: list[str | None] | str | None = None
            while found is None:
                data = lines.next_line()
                if not data:
                    if not text:
                        return
                    found = "a quote is opened here and never closed"
                    break
                if len(text) + len(data) > LINE_BYTES_MAX:
                    found = f"longer than {LINE_BYTES_MAX} bytes: perhaps a quote is opened and never closed"
                    break
                try:
                    more = data.decode("utf-8-sig" if offset == 0 and not text else "utf-8")
                    text, is_open = text + more, bool(text)
                    if is_open and self._dialect.quote not in more:
                        continue
                    found = csv_text.fields(text.rstrip("\r\n"), self._dialect)
                except UnicodeDecodeError as error:
                    text, found = data.decode(errors="replace"), f"not UTF-8: {error.reason}"
                except csv_text.CsvError as error:
                    found = str(error)
            text = text.rstrip("\r\n")
            if text:
                yield offset, line, text, found


def _order_of(names: Sequence[str], fields: Sequence[Field], skipped: Sequence[str]) -> list[Field | None]:
    """Which column each field of a record is; None: none that is wanted."""
    by_name = {field.name: field for field in fields}
    missing = [name for name in by_name if name not in names]
    if missing:
        raise UsageError(
            f"COPY: the header has no column {missing[0]}; it has {', '.join(names)}",
            "name the columns of the file after the table, or WITH HEADER = FALSE",
        )
    return [None if name in skipped else by_name.get(name) for name in names]


def _row(
    row: Row, found: Sequence[str | None], readers: Sequence[tuple[str, Read] | None], fields: Sequence[Field]
) -> Row | Reject:
    if len(found) != len(readers):
        return _reject(row, f"{len(found)} fields for {len(readers)} columns")
    by_name: dict[str, wire.BoundValue] = {}
    for reader, text in zip(readers, found, strict=True):
        if reader is not None:
            name, read = reader
            try:
                by_name[name] = None if text is None else read(text)
            except (RequestError, ValueError) as error:
                return _reject(row, f"{name}: {error}")
    return row._replace(values=[by_name.get(field.name, wire.UNSET) for field in fields])


def _reject(row: Row, reason: str) -> Reject:
    return Reject(row.offset, row.line, reason, row.text[:REJECTED_TEXT_CHARS_MAX])


def ndjson_rows(
    lines: Lines, fields: Sequence[Field], options: CopyOptions, begin: tuple[int, int] = (0, 1)
) -> Rows:
    """The rows of NDJSON from `begin` on; members that are no column are a mistake."""
    if begin[0]:
        lines.skip_to(*begin)
    skip = 0 if begin[0] else options.skip_rows
    known = {field.name for field in fields} | set(options.skip_columns)
    while True:
        offset, line = lines.offset, lines.line
        data = lines.next_line()
        if not data:
            return
        text = data.strip(b" \t\r\n").removeprefix(b"\xef\xbb\xbf")
        if not text:
            continue
        if skip:
            skip -= 1
            continue
        row = Row(offset, line, text.decode(errors="replace"), [])
        yield _json_row(row, text, fields, known)


def _json_row(row: Row, data: bytes, fields: Sequence[Field], known: set[str]) -> Row | Reject:
    try:
        members = msgspec.json.decode(data, type=_OBJECT)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return _reject(row, f"not a JSON object: {error}")
    strange = next((name for name in members if name not in known), None)
    if strange is not None:
        return _reject(row, f"there is no column {strange} (SKIPCOLS = '{strange}' leaves it out)")
    values: list[wire.BoundValue] = []
    for field in fields:
        if field.name not in members:
            values.append(wire.UNSET)
            continue
        try:
            values.append(from_json(field.type, bytes(members[field.name])))
        except (RequestError, ValueError) as error:
            return _reject(row, f"{field.name}: {error}")
    return row._replace(values=values)
