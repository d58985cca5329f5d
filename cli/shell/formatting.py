"""Results in the formats of the shell: table (expanded or not), csv, json, ndjson.

A `Writer` takes the pages of one result and writes lines as they come; `end` writes what comes after. JSON
numbers keep every digit, and blobs are 0x..., as SELECT JSON has them; CSV is what COPY FROM reads: null is
an empty field, an empty text is "".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

from cli.shell import csv_text
from cli.shell.tables import NULL, NULL_TEXT, NUMBER, PLAIN, Cell, Table, escaped, expanded
from core.errors import RequestError
from cql_lite import types, wire
from cql_lite.types_scalar import json_string

TABLE, JSON, NDJSON, CSV = "table", "json", "ndjson", "csv"
FORMATS: Final = (TABLE, JSON, NDJSON, CSV)
ON, OFF, AUTO = "on", "off", "auto"

Print = Callable[[str], None]
_NUMBERS: Final = (types.Integer, types.Float, types.Varint, types.DecimalType)


def text_of(of: types.Type, data: bytes) -> str:
    """A value as a shell shows it; bytes that are none of the type as they are."""
    try:
        return of.to_text(data)
    except (RequestError, ValueError, IndexError):
        return "0x" + data.hex()


def json_of(of: types.Type, data: bytes | None) -> str:
    """A value in JSON."""
    if data is None:
        return "null"
    try:
        return of.to_json(data)
    except (RequestError, ValueError, IndexError):
        return json_string("0x" + data.hex())


def cell_of(of: types.Type, data: bytes | None) -> Cell:
    """A value in a table."""
    if data is None:
        return Cell(NULL_TEXT, NULL)
    return Cell(escaped(text_of(of, data)), NUMBER if isinstance(of, _NUMBERS) else PLAIN)


def json_row(columns: Sequence[wire.ColumnSpec], row: Sequence[bytes | None]) -> str:
    """A row as a JSON object."""
    members = [
        f"{json_string(column.name)}: {json_of(column.type, value)}"
        for column, value in zip(columns, row, strict=True)
    ]
    return "{" + ", ".join(members) + "}"


class Writer(ABC):
    """Writes one result."""

    def __init__(self, columns: Sequence[wire.ColumnSpec], write: Print) -> None:
        self.columns = columns
        self.write = write
        self.rows = 0

    def page(self, rows: Sequence[Sequence[bytes | None]]) -> None:
        """More rows."""
        self.rows += len(rows)
        self._page(rows)

    @abstractmethod
    def _page(self, rows: Sequence[Sequence[bytes | None]]) -> None:
        """Rows, as this format writes them."""

    def end(self) -> None:
        """There are no more: what is held back is written."""
        return  # most formats hold nothing back


class _Lines(Writer):
    """ndjson."""

    def _page(self, rows: Sequence[Sequence[bytes | None]]) -> None:
        for row in rows:
            self.write(json_row(self.columns, row))


class _Array(Writer):
    """json: one array over all pages."""

    def __init__(self, columns: Sequence[wire.ColumnSpec], write: Print) -> None:
        super().__init__(columns, write)
        self._held = ""

    def _page(self, rows: Sequence[Sequence[bytes | None]]) -> None:
        for row in rows:
            if self._held:
                self.write(self._held + ",")
            self._held = (" " if self._held else "[") + json_row(self.columns, row)

    def end(self) -> None:
        """Close the array."""
        self.write(f"{self._held or '['}]")


class _Csv(Writer):
    """csv, with a header."""

    def __init__(self, columns: Sequence[wire.ColumnSpec], write: Print) -> None:
        super().__init__(columns, write)
        self._dialect = csv_text.Dialect()
        write(csv_text.line([column.name for column in columns], self._dialect))

    def _page(self, rows: Sequence[Sequence[bytes | None]]) -> None:
        for row in rows:
            fields = [
                None if value is None else text_of(column.type, value)
                for column, value in zip(self.columns, row, strict=True)
            ]
            self.write(csv_text.line(fields, self._dialect))


class _Table(Writer):
    """Aligned, or expanded where that was asked for or the table is too wide."""

    def __init__(
        self, columns: Sequence[wire.ColumnSpec], write: Print, *, expand: str, colour: bool, width: int
    ) -> None:
        super().__init__(columns, write)
        self._names = [column.name for column in columns]
        self._table = Table(self._names, colour=colour)
        self._expand = expand
        self._colour = colour
        self._width = width
        self._shown = 0

    def _page(self, rows: Sequence[Sequence[bytes | None]]) -> None:
        types_ = [column.type for column in self.columns]
        cells = [[cell_of(of, value) for of, value in zip(types_, row, strict=True)] for row in rows]
        if self._expand == AUTO:
            too_wide = self._width and cells and self._table.total_width(cells) > self._width
            self._expand = ON if too_wide else OFF
        if self._expand == ON:
            lines = expanded(self._names, cells, self._shown + 1, colour=self._colour)
        else:
            lines = self._table.page(cells)
        self._shown += len(cells)
        for line in lines:
            self.write(line)


def writer_for(
    name: str,
    columns: Sequence[wire.ColumnSpec],
    write: Print,
    *,
    expand: str = OFF,
    colour: bool = False,
    width: int = 0,
) -> Writer:
    """The writer of a format; `width` is the terminal's (0: no limit), for expanding by itself."""
    if name == JSON:
        return _Array(columns, write)
    if name == NDJSON:
        return _Lines(columns, write)
    if name == CSV:
        return _Csv(columns, write)
    return _Table(columns, write, expand=expand, colour=colour, width=width)
