"""Places in documents: `SET doc['a']['b'] = ...` and `DELETE doc['a']['b']`.

A place is a list of keys, and what is written there is a cell of its own that merges with what others write
elsewhere in the document (core/json_cells.py); nothing is read first. Only a key of digits may turn out to be
a position in an array. An array is one value, so changing something in it depends on all of it: such a
statement reads the row, and where it meets an array it must be conditional (IF EXISTS, IF doc = ...), which
makes reading and writing one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import UnsetType

from core.cell import MARKER, VALUE, Path
from core.json_cells import assemble, dead_as_tombstone
from core.json_values import JsonError, Value, parse, render
from core.requests import Write
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_tables import ColumnView
from cql_lite.planner_terms import Context, Scope, Term, compile_term
from cql_lite.types import JSON, TEXT
from query.document_values import position_of

if TYPE_CHECKING:
    from cql_lite.planner_cells import Place

Change = Callable[["Place", Context], None]
Found = tuple[Path, Value]


def setting(
    column: ColumnView, target: ast.Target, value: ast.Expression, scope: Scope
) -> tuple[bool, Change]:
    """A place is set: whether the row has to be read first, and what is written."""
    path = _path(column, target, scope)
    term = compile_term(value, JSON, column.name, scope)

    def apply(place: Place, context: Context) -> None:
        found = term(context)
        if not isinstance(found, UnsetType):
            _write(place, column, path(context), found)

    return _may_be_position(target), apply


def deletion(column: ColumnView, target: ast.Target, scope: Scope) -> tuple[bool, Change]:
    """What is at a place is removed: likewise."""
    path = _path(column, target, scope)
    return _may_be_position(target), lambda place, context: _write(place, column, path(context), None)


def needed(term: Term, context: Context, what: str) -> bytes:
    """The value of a key, which `what` names; null and unset are none."""
    value = term(context)
    if value is None:
        raise InvalidRequestError(f"Invalid null value for {what}: Invalid null {what}")
    if isinstance(value, UnsetType):
        raise InvalidRequestError(f"Invalid unset value for {what}: Invalid unset {what}")
    return value


def _path(column: ColumnView, target: ast.Target, scope: Scope) -> Callable[[Context], Path]:
    terms: list[Term] = []
    for step in target.path:
        if isinstance(step, ast.Field):
            raise InvalidRequestError(
                f"places in the document {column.name} are written {column.name}['key']"
            )
        terms.append(compile_term(step.term, TEXT, f"key({column.name})", scope))
    return lambda context: tuple(needed(term, context, f"key of {column.name}") for term in terms)


def _may_be_position(target: ast.Target) -> bool:
    """Whether a key could be a position in an array; of one that is bound nobody knows yet."""
    terms = [step.term for step in target.path if not isinstance(step, ast.Field)]
    return any(not isinstance(term, ast.Literal) or position_of(term.text) is not None for term in terms)


def _write(place: Place, column: ColumnView, path: Path, value: bytes | None) -> None:
    array = _array_on(place, column, path)
    if array is not None:
        if not place.is_conditional:
            raise InvalidRequestError(
                f"a place in an array of {column.name} depends on the whole array: add IF EXISTS, so that "
                "the statement is decided with what it finds"
            )
        at, items = array
        _change(items, [key.decode() for key in path[len(at) :]], value, column)
        path, value = at, render(items)
    if value is None:
        place.row.put(Write(column.id, path, VALUE, None))
        return
    for depth in range(len(path)):
        place.row.put(Write(column.id, path[:depth], MARKER, b"", place.ttl_s))
    place.row.put(Write(column.id, path, VALUE, value, place.ttl_s))


def _array_on(place: Place, column: ColumnView, path: Path) -> Found | None:
    """The first array on the way that the next key is a position in, and its own path."""
    if place.before is None:
        return None
    cells = [dead_as_tombstone(c, place.now_us) for c in place.before.cells if c.column == column.id]
    text = assemble(cells)
    if text is None or b"[" not in text:
        return None
    try:
        here = parse(text)
    except JsonError as error:
        raise InvalidRequestError(f"{column.name} cannot be changed: {error}") from None
    for depth, key in enumerate(path):
        name = key.decode()
        if type(here) is list:
            return None if position_of(name) is None else (path[:depth], here)
        if type(here) is not dict or name not in here:
            return None
        here = here[name]
    return None


def _change(here: Any, keys: list[str], value: bytes | None, column: ColumnView) -> None:
    """Set or remove what is at these keys below an array."""
    for key in keys[:-1]:
        here = here[_step(here, key, column)]
    last = _step(here, keys[-1], column, is_last=type(here) is dict)
    if value is not None:
        here[last] = parse(value)
    elif type(here) is list or last in here:
        del here[last]


def _step(here: Any, key: str, column: ColumnView, is_last: bool = False) -> Any:
    if type(here) is list:
        position = position_of(key)
        if position is None or position >= len(here):
            raise InvalidRequestError(
                f"an array in {column.name} has {len(here)} elements, so none at {key[:60]!r}"
            )
        return position
    if type(here) is not dict or (key not in here and not is_last):
        raise InvalidRequestError(f"there is nothing at {key[:60]!r} in an array of {column.name}")
    return key
