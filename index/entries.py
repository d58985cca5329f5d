"""Entries of secondary indexes: which terms a row has, and what of an index changes with it.

A *target* (core/schema.py) names a part of the row: a column, the keys, values or entries of a collection, a
path in a document. Its *terms* are byte strings whose order is the order of the values, so a value is found
by one scan of entries and a range of values by another. Everything here is a pure function of one row's cells
and key; the doors' types come in as functions (`ColumnType`), for no door is known here.

Terms are made in two ways. For *entries* no clock is asked: a cell that expires has its terms until something
newer replaces it, as no write happens at that moment. For *checks* a row is looked at as of `now_us`: what
has expired gives no terms. The first are a superset of the second (`tests/index` shows it), which is why an
index, whose entries are only hints where to look, loses nothing.

What an index cannot understand (a kind made by a later version, a value that is none of its type) has no
terms: reading by such an index is refused (index/secondary.py `serves`), writing goes on.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice, product

import msgspec

from core import limits
from core.cell import Cell
from core.errors import RequestError
from core.finding import ROW_KEY
from core.plain_text import plain
from core.schema import (
    CLUSTERING,
    DATE_INDEX,
    ENTRIES_INDEX,
    FULL_INDEX,
    KEYS_INDEX,
    PARTITION,
    SIMPLE_INDEX,
    STATIC,
    VALUES_INDEX,
    Column,
    Index,
    IndexTarget,
    Table,
)
from index.entries_json import date_terms, holds, json_terms
from lsm import keys
from lsm.keys import ROW_SUFFIX, STATIC_SUFFIX, TERM_BYTES_MAX, escaped, unescaped
from lsm.reading import stored_row

SCALAR, LIST, SET, MAP, JSON, OTHER = "scalar", "list", "set", "map", "json", "other"
"""How the cells of a column lie: one cell; a cell per element or entry; by path; or in no way known here."""

Term = bytes
Key = Callable[[bytes], bytes]
Cells = Sequence[Cell]
_FLIP = bytes(255 - byte for byte in range(256))
_MISSING, _PRESENT = b"\x00", b"\x01"
_NO_VALUE = (ValueError, IndexError, struct.error, RequestError)
"""What turning bytes into a key raises if they are none of its type."""


class ColumnType(msgspec.Struct, frozen=True):
    """What terms need to know of a column's type: all functions are of its door.

    `key` makes the ordered form of a scalar, of a list's element, or of a map's value; elements of sets and
    keys of maps have theirs as paths. `component` gives the bounds of a clustering component: from wire
    bytes in a key at an offset, the wire value and the offset after it.
    """

    shape: str
    key: Key
    component: Callable[[bytes, int, bool], tuple[bytes, int]]


Types = Callable[[Table], Mapping[str, ColumnType]]
"""The types of a table's columns, by name."""


class RowView(msgspec.Struct):
    """A row to make terms of: its key, taken apart, and its cells. `now_us` None asks no clock."""

    partition: bytes
    suffix: bytes
    cells: tuple[Cell, ...]
    now_us: int | None = None

    def lives(self, cell: Cell) -> bool:
        """Whether a cell counts."""
        if self.now_us is None:
            return cell.value is not None
        return not cell.is_dead(self.now_us)

    @property
    def is_there(self) -> bool:
        """Whether anything counts."""
        return any(self.lives(cell) for cell in self.cells)


TermsOf = Callable[[RowView], list[Term]]


# --- targets


def terms_of(table: Table, target: IndexTarget, types: Mapping[str, ColumnType]) -> TermsOf | None:
    """How to make the terms of a target; None if it is not understood."""
    if target.kind == ROW_KEY:
        return lambda view: [view.suffix]
    column = table.column(target.column)
    of = types.get(target.column)
    if column is None or of is None:
        return None
    is_key = column.kind in (PARTITION, CLUSTERING)
    made = _of_key(table, column, types) if is_key else _of_cells(column, target, of)
    if made is None or not (target.fold or target.normalize or target.ascii or target.descending):
        return made
    return partial(_turned, made, target)


def _turned(made: TermsOf, target: IndexTarget, view: RowView) -> list[Term]:
    terms = made(view)
    if target.fold or target.normalize or target.ascii:
        terms = [escaped(plain(unescaped(term)[0], target)) for term in terms]
    return [term.translate(_FLIP) for term in terms] if target.descending else terms


def _of_key(table: Table, column: Column, types: Mapping[str, ColumnType]) -> TermsOf:
    """The terms of a component of the primary key: every row that is there has one."""
    columns = [each for each in table.columns if each.kind == column.kind]
    at = columns.index(column)
    key = types[column.name].key
    if column.kind == PARTITION:
        several = len(columns) > 1
        return lambda view: _key_of(key, _component(view.partition, at, several)) if view.is_there else []
    parts = [(types[each.name].component, each.descending) for each in columns[: at + 1]]

    def of_clustering(view: RowView) -> list[Term]:
        if not view.suffix.startswith(ROW_SUFFIX) or not view.is_there:
            return []
        value, end = b"", len(ROW_SUFFIX)
        for component, descending in parts:
            value, end = component(view.suffix, end, descending)
        return _key_of(key, value)

    return of_clustering


def _component(partition: bytes, number: int, several: bool) -> bytes:
    """A component of a partition key: u16 length, bytes, 0x00 for each, if there are several."""
    if not several:
        return partition
    at = 0
    for _ in range(number):
        at += 3 + int.from_bytes(partition[at : at + 2], "big")
    size = int.from_bytes(partition[at : at + 2], "big")
    return partition[at + 2 : at + 2 + size]


def _key_of(key: Key, value: bytes) -> list[Term]:
    try:
        return [key(value)]
    except _NO_VALUE:
        return []


def _of_cells(column: Column, target: IndexTarget, of: ColumnType) -> TermsOf | None:
    suffix = STATIC_SUFFIX if column.kind == STATIC else ROW_SUFFIX
    if of.shape == JSON and target.kind in (SIMPLE_INDEX, DATE_INDEX):
        one_of = json_terms if target.kind == SIMPLE_INDEX else date_terms
        make: Callable[[Cells], list[Term]] = partial(one_of, target.path)

        def of_document(view: RowView) -> list[Term]:
            if not view.suffix.startswith(suffix):
                return []
            dead = view.now_us
            mine = [cell for cell in view.cells if cell.column == column.id]
            return make([cell if dead is None else _as_of(cell, dead) for cell in mine])

        return of_document
    one = _ONE.get((of.shape, target.kind))
    if one is None:
        return None

    def of_cells(view: RowView) -> list[Term]:
        if not view.suffix.startswith(suffix):
            return []
        found = []
        for cell in view.cells:
            if cell.column == column.id and view.lives(cell) and bool(cell.path) is (of.shape != SCALAR):
                try:
                    found.append(one(of.key, cell))
                except _NO_VALUE:
                    continue
        return list(dict.fromkeys(found)) if len(found) > 1 else found

    return of_cells


def _as_of(cell: Cell, now_us: int) -> Cell:
    """An expired cell as the tombstone that it is."""
    return msgspec.structs.replace(cell, value=None) if cell.is_dead(now_us) else cell


def _value(key: Key, cell: Cell) -> Term:
    return key(cell.value or b"")


def _path(_key: Key, cell: Cell) -> Term:
    return cell.path[0]


def _entry(key: Key, cell: Cell) -> Term:
    return cell.path[0] + key(cell.value or b"")


_ONE: dict[tuple[str, str], Callable[[Key, Cell], Term]] = {
    (SCALAR, SIMPLE_INDEX): _value,
    (SCALAR, FULL_INDEX): _value,
    (LIST, VALUES_INDEX): _value,
    (SET, VALUES_INDEX): _path,
    (MAP, KEYS_INDEX): _path,
    (MAP, VALUES_INDEX): _value,
    (MAP, ENTRIES_INDEX): _entry,
}
"""The term of one cell, by shape and kind."""


# --- indexes


class Compiled(msgspec.Struct):
    """An index of one version of a table, ready to make terms."""

    id: int
    head: bytes
    parts: tuple[TermsOf, ...]
    conditions: tuple[tuple[TermsOf, str, str], ...]
    single: bool
    """One target, whose terms are the index's."""

    def terms(self, view: RowView) -> list[Term]:
        """The terms of a row, each once. Of several arrays at most INDEX_TERMS_MAX: what has more is refused
        where whole documents are written, and else, put together by edits, found by these alone.
        """
        if self.conditions and not all(holds(of(view), how, what) for of, how, what in self.conditions):
            return []
        if self.single:
            return self.parts[0](view)
        each = [part(view) for part in self.parts]
        if not any(each):
            return []
        marked = [[_PRESENT + term for term in terms] or [_MISSING] for terms in each]
        some = islice(product(*marked), limits.INDEX_TERMS_MAX)
        return list(dict.fromkeys(b"".join(term) for term in some))

    def stored(self, view: RowView) -> list[Term]:
        """The terms as they stand in entries: long ones are cut."""
        return [term[:TERM_BYTES_MAX] for term in self.terms(view)]


def compiled(table: Table, index: Index, types: Mapping[str, ColumnType]) -> Compiled | None:
    """An index made ready; None if it is not understood, and so neither written nor read."""
    parts = [terms_of(table, target, types) for target in index.looks_at]
    conditions = [(terms_of(table, of, types), how, what) for of, how, what in index.condition]
    if None in parts or any(of is None for of, _, _ in conditions):
        return None
    return Compiled(
        index.id,
        keys.entry_prefix(table.id, index.id),
        tuple(part for part in parts if part is not None),
        tuple((of, how, what) for of, how, what in conditions if of is not None),
        len(parts) == 1,
    )


class Indexed:
    """Tables with their indexes made ready; kept as long as a table stays what it is."""

    def __init__(self, types: Types) -> None:
        self.types = types
        self._known: dict[int, tuple[Table, tuple[Compiled, ...]]] = {}

    def of(self, table: Table) -> tuple[Compiled, ...]:
        """The indexes of a table that are understood."""
        known = self._known.get(table.id)
        if known is None or known[0] is not table:
            types = self.types(table)
            made = [compiled(table, index, types) for index in table.indexes]
            known = self._known[table.id] = (table, tuple(index for index in made if index is not None))
        return known[1]

    def entries(
        self, table: Table, before: tuple[bytes, bytes | None], after: tuple[bytes, bytes | None]
    ) -> list[tuple[bytes, bytes | None]]:
        """core.ports.Entries: the records to write when the row (key, bytes) becomes another."""
        indexes = self.of(table)
        if not indexes:
            return []
        key = after[0]
        _, _, partition, suffix = keys.split_row_key(key)
        if suffix[:1] not in (STATIC_SUFFIX, ROW_SUFFIX):
            return []
        old, new = _view(partition, suffix, before), _view(partition, suffix, after)
        puts: list[tuple[bytes, bytes | None]] = []
        for index in indexes:
            terms_before = index.stored(old) if old.cells else []
            terms_after = index.stored(new) if new.cells else []
            if terms_before == terms_after:
                continue
            old_terms, new_terms = frozenset(terms_before), frozenset(terms_after)
            puts += [(keys.entry(index.head, t, key)[0], None) for t in terms_before if t not in new_terms]
            puts += [keys.entry(index.head, t, key) for t in terms_after if t not in old_terms]
        return puts


def _view(partition: bytes, suffix: bytes, record: tuple[bytes, bytes | None]) -> RowView:
    key, data = record
    return RowView(partition, suffix, stored_row(key, data).cells if data is not None else ())
