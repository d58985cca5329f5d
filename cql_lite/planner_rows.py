"""Rows of cells as records of wire values: what a statement needs of each row, in numbered slots.

A layout is made while a statement is compiled: whoever needs a column asks for its slot. Filling a record
then is a walk over the row's cells with two dictionaries. Scalars are copied as they lie in their cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from core.cell import Cell
from core.counter import counter_value, encode_count
from core.json_cells import assemble as assemble_json, dead_as_tombstone
from core.row import Row
from core.schema import CLUSTERING, PARTITION, STATIC
from cql_lite.planner_tables import ColumnView, TableView, i32
from cql_lite.types import COUNTER, JSON, ListType, MapType, SetType, UserType
from cql_lite.types_base import Type, i64

Record = list[Any]
"""Wire bytes or None, by slot."""

WRITETIME, TTL, CELLS = "writetime", "ttl", "cells"
SECOND_US: Final = 1_000_000
LEFT_S_MAX: Final = 2**31 - 1


class Life(NamedTuple):
    """A live cell of a column that has several: where it is in the column, when it was written, and how
    many seconds are left to it (None: for ever).
    """

    path: bytes
    timestamp_us: int
    ttl_s: int | None


class Layout:
    """Which slot of a record holds what."""

    def __init__(self, view: TableView) -> None:
        self.view = view
        self.size = 0
        self._slots: dict[tuple[str, str], int] = {}
        self._partition: list[tuple[int, int]] = []
        self._clustering: list[tuple[int, int]] = []
        self._static = _Filler()
        self._regular = _Filler()
        self.needs_static = False

    def slot(self, column: ColumnView) -> int:
        """The slot of a column's value."""
        return self._slot(column, "")

    def life_slot(self, column: ColumnView, what: str) -> int:
        """The slot of a column's write time or time to live, or of its cells as a list of `Life`."""
        return self._slot(column, what)

    def columns(self) -> list[ColumnView]:
        """The columns that have a slot so far."""
        return [self.view.by_name[name] for name in dict.fromkeys(name for name, _ in self._slots)]

    def extra(self) -> int:
        """A slot that somebody else fills."""
        self.size += 1
        return self.size - 1

    def _slot(self, column: ColumnView, what: str) -> int:
        known = self._slots.get((column.name, what))
        if known is not None:
            return known
        slot = self._slots[column.name, what] = self.extra()
        if column.kind == PARTITION:
            self._partition.append((column.position, slot))
        elif column.kind == CLUSTERING:
            self._clustering.append((column.position, slot))
        elif column.kind == STATIC:
            self.needs_static = True
            self._static.add(column, what, slot)
        else:
            self._regular.add(column, what, slot)
        return slot

    # --- filling

    def template(self, partition: bytes, static: Row | None, now_us: int) -> Record:
        """A record with what all rows of a partition share."""
        record: Record = [None] * self.size
        if self._partition:
            values = self.view.partition_values(partition)
            for position, slot in self._partition:
                record[slot] = values[position]
        if static is not None:
            self._static.fill(record, static.cells, now_us)
        return record

    def record(self, template: Record, suffix: bytes, row: Row, now_us: int) -> Record:
        """The record of one row."""
        record = template.copy()
        if self._clustering:
            values = self.view.clustering_values(suffix)
            for position, slot in self._clustering:
                record[slot] = values[position]
        self._regular.fill(record, row.cells, now_us)
        return record


class _Filler:
    """Puts the values of cells of one row into their slots."""

    def __init__(self) -> None:
        self._scalars: dict[int, int] = {}
        self._lives: dict[int, list[tuple[str, int]]] = {}
        self._parts: dict[int, tuple[int, Type]] = {}

    def add(self, column: ColumnView, what: str, slot: int) -> None:
        if what:
            self._lives.setdefault(column.id, []).append((what, slot))
        elif column.type.is_multicell or column.type in (JSON, COUNTER):
            self._parts[column.id] = (slot, column.type)
        else:
            self._scalars[column.id] = slot

    def fill(self, record: Record, cells: Sequence[Cell], now_us: int) -> None:
        scalars, parts = self._scalars, self._parts
        found: dict[int, list[Cell]] | None = None
        for cell in cells:
            column = cell.column
            slot = scalars.get(column)
            if slot is not None:
                if not cell.is_dead(now_us):
                    record[slot] = cell.value
            elif column in parts:
                found = {} if found is None else found
                found.setdefault(column, []).append(cell)
            if column in self._lives and not cell.is_dead(now_us):
                for what, life_slot in self._lives[column]:
                    if what != CELLS:
                        record[life_slot] = _life(cell, what, now_us)
                    elif cell.path:
                        if record[life_slot] is None:
                            record[life_slot] = []
                        record[life_slot].append(Life(cell.path[0], cell.timestamp_us, _left_s(cell, now_us)))
        if found is not None:
            for column, its_cells in found.items():
                slot, of = parts[column]
                record[slot] = assembled(of, its_cells, now_us)


def _life(cell: Cell, what: str, now_us: int) -> bytes | None:
    if what == WRITETIME:
        return i64.pack(cell.timestamp_us)
    left_s = _left_s(cell, now_us)
    return None if left_s is None else i32.pack(left_s)


def _left_s(cell: Cell, now_us: int) -> int | None:
    """Seconds until the cell expires, rounded up and at most what an `int` holds; None if it never does.

    By the clock of a client that says when now is it may be further away than any TTL.
    """
    if not cell.dead_from_us:
        return None
    return min(-(-(cell.dead_from_us - now_us) // SECOND_US), LEFT_S_MAX)


def assembled(of: Type, cells: Sequence[Cell], now_us: int) -> bytes | None:
    """The wire value of a column that is kept in several cells; None if nothing of it lives."""
    if of == JSON:
        return assemble_json([dead_as_tombstone(cell, now_us) for cell in cells])
    if of == COUNTER:
        count = counter_value([cell for cell in cells if not cell.is_dead(now_us)], cells[0].column)
        return None if count is None else encode_count(count)
    live = [cell for cell in cells if cell.path and not cell.is_dead(now_us)]
    if not live:
        return None
    if isinstance(of, ListType):
        return of.pack([cell.value or b"" for cell in live])
    if isinstance(of, SetType):
        unkey = of.element.unkey
        return of.pack([unkey(cell.path[0], 0)[0] for cell in live])
    if isinstance(of, MapType):
        parts: list[bytes] = []
        for cell in live:
            parts += (of.keys.unkey(cell.path[0], 0)[0], cell.value or b"")
        return of.pack(parts)
    assert isinstance(of, UserType), of
    fields: list[bytes | None] = [None] * len(of.types)
    for cell in live:
        number = int.from_bytes(cell.path[0], "big")
        if number < len(fields):
            fields[number] = cell.value
    return of.pack(fields)
