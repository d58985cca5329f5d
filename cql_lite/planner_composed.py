"""Values put together in a SELECT: `[a, b]`, `{a, b}`, `{1: a}`, `(a, b)`, `{field: a}` of columns.

The type is that which is expected, as by `(list<int>)[a, b]`; else that of the first item that says one by
itself, which the others must have, too. A null is a null element of a list, a tuple, or a value of a map
(without bytes, where the type may be so: some drivers end over other nulls); sets and keys of maps have none,
so it is left out of these. `{a: b}` is a value of a user type where one is
expected, and elsewhere a map whose keys are columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from core.limits import NUMBER_DIGITS_MAX, VALUE_BYTES_MAX
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.formatting import column_title
from cql_lite.planner_functions import Compiled, Evaluate
from cql_lite.planner_numbers import is_double
from cql_lite.planner_rows import Record
from cql_lite.planner_terms import Context, assignable
from cql_lite.types import (
    BIGINT,
    BLOB,
    BOOLEAN,
    DECIMAL,
    DOUBLE,
    DURATION,
    INT,
    TEXT,
    UUID,
    VARINT,
    Fields,
    InvalidValueError,
    ListType,
    MapType,
    SetType,
    TupleType,
    Type,
    UserType,
    VectorType,
    unwrapped,
)

Compile = Callable[[ast.Expression, Type | None], Compiled]
Parts = list[bytes | None]
Known = dict[int, Compiled]
"""Items that are compiled, by their places."""
Pack = Callable[[Parts], bytes]
T = TypeVar("T", bound=Type)

LITERALS = (ast.ListLiteral, ast.SetLiteral, ast.MapLiteral, ast.TupleLiteral, ast.UdtLiteral)


def natural_type(expression: ast.Expression) -> Type | None:
    """The type of a constant where nothing else says it."""
    if not isinstance(expression, ast.Literal):
        return None
    if expression.kind == ast.INTEGER:
        if len(expression.text) > NUMBER_DIGITS_MAX:  # and so refused where it is read
            return VARINT
        value = int(expression.text)
        if -(2**31) <= value < 2**31:
            return INT
        return BIGINT if -(2**63) <= value < 2**63 else VARINT
    if expression.kind == ast.FLOAT:
        return DOUBLE if is_double(expression.text) else DECIMAL
    return {
        ast.STRING: TEXT, ast.BOOLEAN: BOOLEAN, ast.UUID: UUID, ast.BLOB: BLOB,
        ast.DURATION: DURATION,
    }.get(expression.kind)  # fmt: skip


class Composer:
    """Compiles literals with parts; `compile_` compiles a part."""

    def __init__(self, compile_: Compile) -> None:
        self._compile = compile_

    def composed(self, expression: ast.Expression, expected: Type | None) -> Compiled | None:
        """The compiled literal; None where it says no type, or is not of the kind that is expected."""
        if isinstance(expression, ast.ListLiteral):
            return self._list(expression, expected)
        if isinstance(expression, ast.SetLiteral):
            return self._set(expression, expected)
        if isinstance(expression, ast.MapLiteral):
            return self._map(expression, expression.entries, expected)
        if isinstance(expression, ast.TupleLiteral):
            return self._tuple(expression, expected)
        if isinstance(expression, ast.UdtLiteral):
            return self._fields(expression, expected)
        return None

    # --- collections

    def _list(self, expression: ast.ListLiteral, expected: Type | None) -> Compiled | None:
        if isinstance(expected, VectorType):
            if len(expression.items) != expected.dimensions:
                raise _wrong(expression, f"{expected.dimensions} items are expected of a {expected}")
            parts = self._alike(expression, expression.items, expected.element, {})
            vector = expected
            return _compiled(expected, parts, lambda values: _vector(vector, values))
        of, known = self._element(expression.items, expected, ListType)
        if of is None:
            return None
        parts = self._alike(expression, expression.items, of.element, known)
        return _compiled(of, parts, of.pack_with_nulls)

    def _set(self, expression: ast.SetLiteral, expected: Type | None) -> Compiled | None:
        of, known = self._element(expression.items, expected, SetType)
        if of is None:
            return None
        parts = self._alike(expression, expression.items, of.element, known)
        return _compiled(of, parts, lambda values: of.build([v for v in values if v is not None]))

    def _element(
        self, items: Sequence[ast.Expression], expected: Type | None, kind: type[ListType] | type[SetType]
    ) -> tuple[ListType | SetType | None, Known]:
        if isinstance(expected, kind):
            return expected, {}
        element, known = (None, {}) if expected is not None else self._common(items)
        return None if element is None else kind(element=element), known

    def _map(
        self,
        expression: ast.Expression,
        entries: Sequence[tuple[ast.Expression, ast.Expression]],
        expected: Type | None,
    ) -> Compiled | None:
        keys, values = [key for key, _ in entries], [value for _, value in entries]
        known_keys: Known = {}
        known_values: Known = {}
        if isinstance(expected, MapType):
            of = expected
        elif expected is not None:
            return None
        else:
            of_key, known_keys = self._common(keys)
            of_value, known_values = self._common(values)
            if of_key is None or of_value is None:
                return None
            of = MapType(keys=of_key, values=of_value)
        of_keys = self._alike(expression, keys, of.keys, known_keys)
        of_values = self._alike(expression, values, of.values, known_values)

        def pack(parts: Parts) -> bytes:
            half = len(parts) // 2
            found = {
                key: value for key, value in zip(parts[:half], parts[half:], strict=True) if key is not None
            }
            ordered: Parts = []
            for key in sorted(found, key=of.keys.key):
                ordered += (key, found[key])
            return of.pack_with_nulls(ordered)

        return _compiled(of, of_keys + of_values, pack)

    # --- tuples and user types

    def _tuple(self, expression: ast.TupleLiteral, expected: Type | None) -> Compiled | None:
        items = expression.items
        if isinstance(expected, Fields):
            if len(items) > len(expected.types):
                raise _wrong(expression, f"too many elements for a {expected}")
            parts = [self._of(expression, item, of) for item, of in zip(items, expected.types, strict=False)]
            fields: Fields = expected
        else:
            if expected is not None:
                return None
            parts = [self._compile(item, natural_type(unwrapped(item))) for item in items]
            fields = TupleType(types=tuple(part.type for part in parts))
        return _compiled(fields, parts, fields.pack)

    def _fields(self, expression: ast.UdtLiteral, expected: Type | None) -> Compiled | None:
        if not isinstance(expected, UserType):
            entries = [(ast.ColumnRef(name.text, name.at), value) for name, value in expression.fields]
            return self._map(expression, entries, expected)
        given = {name.text: item for name, item in expression.fields}
        unknown = next((name for name in given if name not in expected.names), None)
        if unknown is not None:
            raise _wrong(expression, f"{expected} has no field {unknown}")
        null = ast.Literal(ast.NULL, "null", expression.at)
        parts = [self._of(expression, given.get(name, null), of) for name, of in expected.fields]
        return _compiled(expected, parts, expected.pack)

    # --- parts

    def _common(self, items: Sequence[ast.Expression]) -> tuple[Type | None, Known]:
        """The type of the first item that says one by itself, be it a constant; and that item, compiled: to
        do it again at every level would double the work with each.
        """
        items = [unwrapped(item) for item in items]
        for at, item in enumerate(items):
            if not isinstance(item, (ast.Marker, ast.Literal, *LITERALS)):
                compiled = self._compile(item, None)
                return compiled.type, {at: compiled}
        for at, item in enumerate(items):
            if isinstance(item, LITERALS):
                found = self.composed(item, None)
                if found is not None:
                    return found.type, {at: found}
        return next((of for item in items if (of := natural_type(item)) is not None), None), {}

    def _alike(
        self, whole: ast.Expression, items: Sequence[ast.Expression], of: Type, known: Known
    ) -> list[Compiled]:
        return [known.get(at) or self._of(whole, item, of) for at, item in enumerate(items)]

    def _of(self, whole: ast.Expression, item: ast.Expression, of: Type) -> Compiled:
        part = self._compile(item, of)
        if not assignable(part.type, of):
            what = f"{column_title(item)} is of type {part.type}, where {of} is expected: use CAST"
            raise _wrong(whole, what)
        return part


def _wrong(literal: ast.Expression, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"Invalid literal {column_title(literal)}: {why}")


def _vector(of: VectorType, values: Parts) -> bytes:
    present = [value for value in values if value is not None]
    if len(present) != len(values):
        raise InvalidRequestError(f"null is not supported inside vectors: here inside {of}")
    return of.pack(present)


def _compiled(of: Type, parts: Sequence[Compiled], pack: Pack) -> Compiled:
    evaluates: list[Evaluate] = [part.evaluate for part in parts]

    def evaluate(record: Record, context: Context) -> bytes | None:
        values: Parts = []
        left = VALUE_BYTES_MAX
        for each in evaluates:
            values.append(value := each(record, context))
            left -= 0 if value is None else len(value)
            if left < 0:
                raise InvalidRequestError(f"a value put together takes more than {VALUE_BYTES_MAX} bytes")
        try:
            return pack(values)
        except InvalidValueError as error:
            raise InvalidRequestError(str(error)) from None

    return Compiled(of, evaluate)
