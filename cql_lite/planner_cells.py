"""Assignments to columns and what they write: cells by address, collected per row.

`Draft` holds what one or several statements do to one partition; two writes to one cell in one mutation
have one version, so the one that would win a merge is kept here (a deletion, else the greater bytes), as in
Cassandra. Elements of lists get ids that sort as they are appended or prepended: the time, a running number
and random bytes, so that two coordinators never make the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from msgspec import UnsetType

from core.cell import ROW_MARKER_COLUMN, VALUE, Address, Path
from core.consistency import Level
from core.mutation import UPDATE
from core.requests import RowWrite, Write, WriteRequest
from core.row import Row
from cql_lite import ast, planner_json
from cql_lite.errors import InvalidRequestError
from cql_lite.formatting import assignment as ast_text, expression as expression_text, target as target_text
from cql_lite.planner_json import needed as _needed
from cql_lite.planner_tables import ColumnView
from cql_lite.planner_terms import Context, Scope, Term, compile_term
from cql_lite.types import INT, JSON, Collection, ListType, MapType, SetType, Type, UserType

LIST_ID_MIDDLE: Final = 2**63
FIELD_NUMBER_BYTES: Final = 2


class RowDraft(msgspec.Struct):
    """What is done to one row: cells by address; `deleted` hides them all, as they have one version."""

    cells: dict[Address, Write] = {}
    deleted: bool = False

    def put(self, write: Write) -> None:
        """Keep the greater of two writes to one cell."""
        address = (write.column, write.path, write.kind)
        other = self.cells.get(address)
        if other is None or _wins(write, other):
            self.cells[address] = write


def _wins(write: Write, other: Write) -> bool:
    if write.value is None or other.value is None:
        return write.value is None and not (write.older and other.value is None)
    return (write.ttl_s > 0, write.ttl_s, write.value) > (other.ttl_s > 0, other.ttl_s, other.value)


class Draft:
    """What is done to one partition of one table at one timestamp."""

    def __init__(self, table: int, partition: bytes, timestamp_us: int) -> None:
        self.table = table
        self.partition = partition
        self.timestamp_us = timestamp_us
        self.rows: dict[bytes, RowDraft] = {}
        self.ranges: dict[tuple[bytes, bytes], None] = {}
        self.partition_delete = False
        self.operation: int | None = None

    def row(self, suffix: bytes) -> RowDraft:
        """The row with this suffix."""
        found = self.rows.get(suffix)
        if found is None:
            found = self.rows[suffix] = RowDraft()
        return found

    def takes(self, operation: int) -> None:
        """A statement of this kind is part of it; of several kinds together it is an update."""
        self.operation = operation if self.operation in (None, operation) else UPDATE

    @property
    def is_empty(self) -> bool:
        """Whether nothing is done at all."""
        return not (
            self.partition_delete
            or self.ranges
            or any(row.cells or row.deleted for row in self.rows.values())
        )

    def request(self, level: Level) -> WriteRequest:
        """The request that does it."""
        assert self.operation is not None, "somebody drafts something"
        rows = tuple(
            RowWrite(suffix, (), replace=True) if row.deleted else RowWrite(suffix, tuple(row.cells.values()))
            for suffix, row in self.rows.items()
            if row.deleted or row.cells
        )
        return WriteRequest(
            self.table,
            self.partition,
            rows,
            level,
            self.operation,
            0,
            self.timestamp_us,
            self.partition_delete,
            tuple(self.ranges),
        )


class Place(NamedTuple):
    """Where an assignment writes, and what it may look at."""

    row: RowDraft
    ttl_s: int
    before: Row | None
    now_us: int
    is_conditional: bool = False


class Assign(msgspec.Struct, frozen=True):
    """A compiled assignment; `reads` says that it looks at the row as it is."""

    column: ColumnView
    apply: Callable[[Place, Context], None]
    reads: bool = False


def marker(ttl_s: int) -> Write:
    """The row marker of INSERT."""
    return Write(ROW_MARKER_COLUMN, (), VALUE, b"", ttl_s)


# --- whole columns


def put_value(place: Place, column: ColumnView, value: bytes | None, context: Context) -> None:
    """Have the column hold exactly this; None deletes it.

    Of several cells it deletes the older ones, null too: elements of its own version stay, as in Cassandra.
    """
    if not column.type.is_multicell:
        place.row.put(Write(column.id, (), VALUE, value, 0 if value is None else place.ttl_s))
        return
    place.row.put(Write(column.id, (), VALUE, None, older=True))
    if value is not None:
        add_elements(place, column, value, context)


def add_elements(place: Place, column: ColumnView, value: bytes, context: Context) -> None:
    """Add the elements of a collection, or the fields of a user type, to what is there."""
    of = column.type
    if isinstance(of, ListType):
        _add_to_list(place, column, of.unpack(value), context, ahead=False)
    elif isinstance(of, SetType):
        for element in of.unpack(value):
            _put(place, column, of.element.key(element), b"")
    elif isinstance(of, MapType):
        for key, item in of.pairs(value):
            _put(place, column, of.keys.key(key), item)
    else:
        assert isinstance(of, UserType), of
        for number, field in enumerate(of.unpack(value)):
            if field is not None:
                _put(place, column, number.to_bytes(FIELD_NUMBER_BYTES, "big"), field)


def _put(place: Place, column: ColumnView, element: bytes, value: bytes | None) -> None:
    place.row.put(Write(column.id, (element,), VALUE, value, 0 if value is None else place.ttl_s))


def _add_to_list(
    place: Place, column: ColumnView, elements: list[bytes], context: Context, *, ahead: bool
) -> None:
    time_us = context.element_us()
    head = LIST_ID_MIDDLE - time_us if ahead else LIST_ID_MIDDLE + time_us
    tail = context.entropy.token_bytes(6)
    for index, element in enumerate(elements):
        _put(place, column, head.to_bytes(8, "big") + index.to_bytes(4, "big") + tail, element)


# --- compiling


def compile_assignment(column: ColumnView, assignment: ast.Assignment, scope: Scope) -> Assign:
    """One part of SET; raises InvalidRequestError."""
    if column.is_key:
        raise InvalidRequestError(f"PRIMARY KEY part {column.name} found in SET part")
    target, of = assignment.target, column.type
    if target.path:
        if of == JSON:
            reads, change = planner_json.setting(column, target, assignment.value, scope)
            return Assign(column, change, reads=reads)
        return _part_set(column, target, assignment.value, scope)
    if assignment.operation == ast.SET:
        return set_column(column, compile_term(assignment.value, of, column.name, scope))
    if not isinstance(of, Collection) or not of.is_multicell:
        whole = ast_text(assignment)
        if of.is_multicell or isinstance(of, Collection):
            raise InvalidRequestError(
                f"Invalid operation ({whole}) for frozen collection column {column.name}"
            )
        raise InvalidRequestError(
            f"Invalid operation ({whole}) for non counter column {column.name} of type {of}: counters are "
            "added to, and collections that are not frozen"
        )
    if assignment.operation == ast.SUBTRACT:
        return _subtract(column, of, assignment.value, scope)
    ahead = assignment.operation == ast.PREPEND
    if ahead and not isinstance(of, ListType):
        raise InvalidRequestError(
            f"Invalid operation ({ast_text(assignment)}) for {of} column {column.name}: only "
            "lists are prepended to"
        )
    term = compile_term(assignment.value, of, column.name, scope)

    def apply(place: Place, context: Context) -> None:
        value = term(context)
        if value is None or isinstance(value, UnsetType):
            return
        if ahead:
            _add_to_list(place, column, of.unpack(value), context, ahead=True)
        else:
            add_elements(place, column, value, context)

    return Assign(column, apply)


def set_column(column: ColumnView, term: Term) -> Assign:
    """column = term."""

    def apply(place: Place, context: Context) -> None:
        value = term(context)
        if not isinstance(value, UnsetType):
            put_value(place, column, value, context)

    return Assign(column, apply)


def _subtract(column: ColumnView, of: Collection, value: ast.Expression, scope: Scope) -> Assign:
    if isinstance(of, ListType):
        return _remove_from_list(column, of, compile_term(value, of, column.name, scope))
    element: Type = of.keys if isinstance(of, MapType) else of.element  # type: ignore[attr-defined]
    taken = SetType(element=element)
    term = compile_term(value, taken, column.name, scope)

    def apply(place: Place, context: Context) -> None:
        found = term(context)
        if found is None or isinstance(found, UnsetType):
            return
        for one in taken.unpack(found):
            _put(place, column, element.key(one), None)

    return Assign(column, apply)


def _remove_from_list(column: ColumnView, of: ListType, term: Term) -> Assign:
    def apply(place: Place, context: Context) -> None:
        found = term(context)
        if found is None or isinstance(found, UnsetType):
            return
        unwanted = {of.element.key(one) for one in of.unpack(found)}
        for path, value in _list_now(place, column):
            if of.element.key(value) in unwanted:
                place.row.put(Write(column.id, path, VALUE, None))

    return Assign(column, apply, reads=True)


def _list_now(place: Place, column: ColumnView) -> list[tuple[Path, bytes]]:
    """The elements of a list as the row has them, in order."""
    if place.before is None:
        return []
    return [
        (cell.path, cell.value or b"")
        for cell in place.before.cells
        if cell.column == column.id and cell.path and not cell.is_dead(place.now_us)
    ]


# --- parts of columns


def _part_set(column: ColumnView, target: ast.Target, value: ast.Expression, scope: Scope) -> Assign:
    what = f"({target_text(target)} = {expression_text(value)})"
    of, step = _only_step(column, target, f"Invalid operation {what} for")
    if isinstance(step, ast.Field):
        path, field = _field(column, of, step)
        item = compile_term(value, field, f"{column.name}.{step.name}", scope)
        return _at_path(column, lambda _: path, item)
    if isinstance(of, MapType):
        key = compile_term(step.term, of.keys, f"key({column.name})", scope)
        item = compile_term(value, of.values, f"value({column.name})", scope)
        return _at_path(column, lambda context: (of.keys.key(_needed(key, context, "map key")),), item)
    if isinstance(of, ListType):
        index = compile_term(step.term, INT, f"idx({column.name})", scope)
        return _at_index(column, index, compile_term(value, of.element, f"value({column.name})", scope))
    raise InvalidRequestError(
        f"Invalid operation {what} for set column {column.name}: elements are added and removed, not set"
    )


def compile_deletion(column: ColumnView, target: ast.Target, scope: Scope) -> Assign:
    """One target of DELETE: a column, an element or a field."""
    if column.is_key:
        raise InvalidRequestError(
            f"Invalid identifier {column.name} for deletion (should not be a PRIMARY KEY part)"
        )
    if not target.path:
        return Assign(column, lambda place, _: place.row.put(Write(column.id, (), VALUE, None)))
    if column.type == JSON:
        reads, document_change = planner_json.deletion(column, target, scope)
        return Assign(column, document_change, reads=reads)
    of, step = _only_step(column, target, "Invalid deletion operation for")
    nothing: Term = lambda _: None  # noqa: E731
    if isinstance(step, ast.Field):
        at, _ = _field(column, of, step)
        return _at_path(column, lambda _: at, nothing)
    if isinstance(of, (MapType, SetType)):
        element = of.keys if isinstance(of, MapType) else of.element
        word = "key" if isinstance(of, MapType) else "value"
        key = compile_term(step.term, element, f"{word}({column.name})", scope)
        what = "map key" if isinstance(of, MapType) else "set element"
        return _at_path(column, lambda context: (element.key(_needed(key, context, what)),), nothing)
    return _at_index(column, compile_term(step.term, INT, f"idx({column.name})", scope), nothing)


def _only_step(column: ColumnView, target: ast.Target, wrong: str) -> tuple[Type, ast.Step]:
    """The one step of a target, and the type it goes into; `wrong` begins what refuses it."""
    of, step = column.type, target.path[0]
    if isinstance(step, ast.Field):
        if not isinstance(of, UserType):
            raise InvalidRequestError(f"{wrong} non-UDT column {column.name} of type {of}")
        if not of.is_multicell:
            raise InvalidRequestError(f"{wrong} frozen UDT column {column.name} of type {of}")
    elif not isinstance(of, Collection):
        raise InvalidRequestError(f"{wrong} non collection column {column.name} of type {of}")
    elif not of.is_multicell:
        raise InvalidRequestError(f"{wrong} frozen collection column {column.name} of type {of}")
    if len(target.path) != 1:
        raise InvalidRequestError(
            f"{wrong} {column.name}: only its own elements and fields are set one by one"
        )
    return of, step


def _field(column: ColumnView, of: Type, step: ast.Field) -> tuple[Path, Type]:
    assert isinstance(of, UserType)
    if step.name not in of.names:
        raise InvalidRequestError(
            f"UDT column {column.name} does not have a field named {step.name}: its type is {of.name}"
        )
    number = of.names.index(step.name)
    return (number.to_bytes(FIELD_NUMBER_BYTES, "big"),), of.types[number]


def _at_path(column: ColumnView, path: Callable[[Context], Path], term: Term) -> Assign:
    def apply(place: Place, context: Context) -> None:
        value = term(context)
        if not isinstance(value, UnsetType):
            place.row.put(Write(column.id, path(context), VALUE, value, 0 if value is None else place.ttl_s))

    return Assign(column, apply)


def _at_index(column: ColumnView, index: Term, term: Term) -> Assign:
    def apply(place: Place, context: Context) -> None:
        value = term(context)
        if isinstance(value, UnsetType):
            return
        number = int(INT.decode(_needed(index, context, "list index")))
        elements = _list_now(place, column)
        if not elements:
            what = "delete an element from" if value is None else "set an element on"
            raise InvalidRequestError(f"Attempted to {what} a list which is null: {column.name}")
        if not 0 <= number < len(elements):
            raise InvalidRequestError(
                f"List index {number} out of bound, list has size {len(elements)}: {column.name}"
            )
        path = elements[number][0]
        place.row.put(Write(column.id, path, VALUE, value, 0 if value is None else place.ttl_s))

    return Assign(column, apply, reads=True)
