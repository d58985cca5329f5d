"""writetime(), maxwritetime(), minwritetime() and ttl(): when a value was written, and how long it lives yet.

Of a column in one cell (a scalar, a frozen collection) these are a number. A collection or user type that is
not frozen has a cell per element or field, so they are a list, in the order of the elements; of one element,
field or slice they are what its own cells say. A field that is null has no number in that list, nor has an
element that never expires in a list of ttl(): there is an empty value, which drivers read as null (of a null
in a list the stock driver for Python loses its connection).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_functions import Compiled
from cql_lite.planner_rows import CELLS, TTL, WRITETIME, Life, Record
from cql_lite.planner_tables import ColumnView
from cql_lite.planner_terms import Context
from cql_lite.planner_where import column_of
from cql_lite.types import (
    BIGINT,
    INT,
    JSON,
    Collection,
    ListType,
    MapType,
    SetType,
    Type,
    UserType,
)
from cql_lite.types_base import i32, i64

if TYPE_CHECKING:
    from cql_lite.planner_expressions import Expressions

_LARGEST: Final = ("maxwritetime", "max_writetime")
_SMALLEST: Final = ("minwritetime", "min_writetime")
LIVES: Final = (WRITETIME, TTL, *_LARGEST, *_SMALLEST)
"""The functions that are compiled here."""

Pick = Callable[[Record, Context], "list[Life | None] | Life | None"]
"""Of a record: the cell, or the cells, that are asked about."""


class _Picked(NamedTuple):
    pick: Pick
    is_many: bool


def life(name: str, argument: ast.Expression, expressions: Expressions) -> Compiled:
    """A call of one of `LIVES`; raises InvalidRequestError."""
    base = argument
    while isinstance(base, (ast.ElementAccess, ast.SliceAccess, ast.FieldAccess)):
        base = base.of
    if not isinstance(base, ast.ColumnRef):
        raise InvalidRequestError(f"{name}() takes a column, or an element or a field of one")
    column = column_of(expressions.view(), base.name)
    if column.is_key:
        raise InvalidRequestError(f"Cannot use selection function {name} on PRIMARY KEY part {column.name}")
    if column.type == JSON:
        raise InvalidRequestError(f"{name}() of {column.name} is many: its parts are written one by one")
    if not column.type.is_multicell:
        return _of_one_cell(name, argument, column, expressions)
    picked = _picked(argument, column, expressions)
    return _many(name, picked.pick) if picked.is_many else _single(name, picked.pick)


def _of_one_cell(
    name: str, argument: ast.Expression, column: ColumnView, expressions: Expressions
) -> Compiled:
    """The column's own number, where what is asked about is there at all."""
    assert expressions.layout is not None
    slot = expressions.layout.life_slot(column, TTL if name == TTL else WRITETIME)
    of = INT if name == TTL else BIGINT
    if isinstance(argument, ast.ColumnRef):
        return Compiled(of, lambda record, _: record[slot])
    part = expressions.compile(argument).evaluate
    return Compiled(of, lambda record, context: None if part(record, context) is None else record[slot])


# --- which cells


def _picked(argument: ast.Expression, column: ColumnView, expressions: Expressions) -> _Picked:
    assert expressions.layout is not None
    slot, of = expressions.layout.life_slot(column, CELLS), column.type
    if isinstance(argument, ast.ColumnRef):
        if isinstance(of, UserType):
            count = len(of.types)
            return _Picked(lambda record, _: _fields(record[slot], count), is_many=True)
        return _Picked(lambda record, _: record[slot], is_many=True)
    expressions.compile(argument)  # what has no such parts is refused here
    if isinstance(argument, ast.FieldAccess) and isinstance(of, UserType):
        number = of.names.index(argument.field).to_bytes(2, "big") if argument.field in of.names else b""
        return _Picked(lambda record, _: _at(record[slot], number), is_many=False)
    if isinstance(argument, ast.ElementAccess) and isinstance(argument.of, ast.ColumnRef):
        return _Picked(_element(argument, slot, of, expressions), is_many=False)
    if isinstance(argument, ast.SliceAccess) and isinstance(argument.of, ast.ColumnRef):
        return _Picked(_slice(argument, slot, of, expressions), is_many=True)
    raise InvalidRequestError("writetime() and ttl() go one step into a column that is not frozen")


def _fields(cells: list[Life] | None, count: int) -> list[Life | None] | None:
    if cells is None:
        return None
    found = {cell.path: cell for cell in cells}
    return [found.get(number.to_bytes(2, "big")) for number in range(count)]


def _at(cells: list[Life] | None, path: bytes) -> Life | None:
    return next((cell for cell in cells or () if cell.path == path), None)


def _part_type(of: Type) -> Type:
    assert isinstance(of, (MapType, SetType)), of
    return of.keys if isinstance(of, MapType) else of.element


def _element(argument: ast.ElementAccess, slot: int, of: Type, expressions: Expressions) -> Pick:
    if isinstance(of, ListType):
        index = expressions.compile(argument.key, INT).evaluate

        def by_index(record: Record, context: Context) -> Life | None:
            value, cells = index(record, context), record[slot]
            at = -1 if value is None else int(INT.decode(value))
            return cells[at] if cells is not None and 0 <= at < len(cells) else None

        return by_index
    assert isinstance(of, Collection)
    part = _part_type(of)
    key = expressions.compile(argument.key, part).evaluate

    def by_key(record: Record, context: Context) -> Life | None:
        value = key(record, context)
        return None if value is None else _at(record[slot], part.key(value))

    return by_key


def _slice(argument: ast.SliceAccess, slot: int, of: Type, expressions: Expressions) -> Pick:
    part = _part_type(of)
    ends = [
        None if end is None else expressions.compile(end, part).evaluate
        for end in (argument.first, argument.last)
    ]

    def pick(record: Record, context: Context) -> list[Life | None] | None:
        values = [None if end is None else end(record, context) for end in ends]
        first, last = (None if value is None else part.key(value) for value in values)
        found: list[Life | None] = [
            cell
            for cell in record[slot] or ()
            if (first is None or first <= cell.path) and (last is None or cell.path <= last)
        ]
        return found or None

    return pick


# --- what they say


def _number(name: str, cell: Life | None) -> bytes | None:
    if cell is None:
        return None
    if name == TTL:
        return None if cell.ttl_s is None else i32.pack(cell.ttl_s)
    return i64.pack(cell.timestamp_us)


def _single(name: str, pick: Pick) -> Compiled:
    def evaluate(record: Record, context: Context) -> bytes | None:
        cell = pick(record, context)
        assert not isinstance(cell, list)
        return _number(name, cell)

    return Compiled(INT if name == TTL else BIGINT, evaluate)


def _many(name: str, pick: Pick) -> Compiled:
    """A list of numbers, or the greatest or least of them."""
    choose: Callable[[list[int]], int] | None = None
    listed = ListType(element=INT if name == TTL else BIGINT)
    if name in _LARGEST:
        choose = max
    elif name in _SMALLEST:
        choose = min

    def evaluate(record: Record, context: Context) -> bytes | None:
        cells = pick(record, context)
        if not cells:
            return None
        assert isinstance(cells, list)
        if choose is not None:
            return i64.pack(choose([cell.timestamp_us for cell in cells if cell is not None]))
        return listed.pack_with_nulls([_number(name, cell) for cell in cells])

    if choose is not None:
        return Compiled(BIGINT, evaluate)
    return Compiled(listed, evaluate)
