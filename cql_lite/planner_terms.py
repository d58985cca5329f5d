"""Terms: what stands for a value in a statement, compiled once, evaluated for each execution.

`compile_term` turns an expression, given the type that is expected, into a function of a *context*: the bound
values, the time, and entropy. What needs no context is evaluated when the statement is prepared, so that a
constant that is no value of its type is refused then. Nothing is parsed and no type is looked up afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import msgspec
from msgspec import UnsetType

from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.formatting import expression as text_of
from cql_lite.types import (
    MAY_BE_EMPTY,
    Collection,
    Fields,
    InvalidKindError,
    InvalidValueError,
    MapType,
    Type,
    UserType,
    VectorType,
    unwrapped,
    word_for,
)

Bound = bytes | None | UnsetType
"""Wire bytes; None for null; UNSET: the column stays as it is."""


class Entropy(Protocol):
    """Where uuids come from."""

    def token_bytes(self, n: int) -> bytes:
        """n random bytes."""


class Context:
    """What one execution of a statement gives its terms."""

    __slots__ = ("_element_us", "_last_us", "entropy", "now_us", "values")

    def __init__(self, values: Sequence[Bound], now_us: int, entropy: Entropy) -> None:
        self.values = values
        self.now_us = now_us
        self.entropy = entropy
        self._last_us = self._element_us = now_us

    def tick_us(self) -> int:
        """The time, another one at each call: for time uuids."""
        self._last_us += 1
        return self._last_us

    def element_us(self) -> int:
        """The same for elements of lists."""
        self._element_us += 1
        return self._element_us

    def follow(self, before: Context) -> None:
        """Elements of lists come behind those of the statement before in the batch."""
        self._element_us = max(self._element_us, before._element_us)


Term = Callable[[Context], Bound]


class MarkerSpec(msgspec.Struct, frozen=True):
    """What a bind marker stands for, as drivers are told."""

    name: str
    type: Type
    keyspace: str = ""
    table: str = ""


MARKERS_MAX: Final = 2**16 - 1
"""So many values can be bound: the protocol counts them in 16 bits."""


class Markers:
    """The bind markers of one statement, noted while it is compiled."""

    def __init__(self, count: int, keyspace: str, table: str) -> None:
        if count > MARKERS_MAX:
            raise InvalidRequestError(
                f"Too many markers(?). {count} markers exceed the allowed maximum of {MARKERS_MAX}"
            )
        self._specs: list[MarkerSpec | None] = [None] * count
        self._place = (keyspace, table)

    def about(self, keyspace: str, table: str) -> None:
        """Markers from here on stand in a statement about this table."""
        self._place = (keyspace, table)

    def note(self, marker: ast.Marker, name: str, of: Type) -> None:
        """A marker stands where a value of this type is expected."""
        self._specs[marker.index] = MarkerSpec(marker.name or name, of, *self._place)

    def specs(self) -> tuple[MarkerSpec, ...]:
        """All of them; raises InvalidRequestError if one stands where no value can."""
        for number, spec in enumerate(self._specs):
            if spec is None:
                raise InvalidRequestError(
                    f"Invalid bind marker {number}: no value can stand there, as what it stands in is a "
                    "literal of another type than the one expected"
                )
        return tuple(spec for spec in self._specs if spec is not None)


FunctionCompiler = Callable[[ast.Expression, "Type | None", Markers], "tuple[Type, Term]"]


class Scope(msgspec.Struct, frozen=True):
    """What terms of one statement share: its markers, and who compiles calls of functions."""

    markers: Markers
    function: FunctionCompiler


def compile_term(expression: ast.Expression, of: Type, name: str, scope: Scope) -> Term:
    """The term where a value of type `of` is expected; `name` is what a marker there is called."""
    if isinstance(expression, ast.Marker):
        scope.markers.note(expression, name, of)
        return marker_term(expression.index, of)
    if isinstance(expression, ast.TupleLiteral) and len(expression.items) == 1 and not _takes_tuple(of):
        return compile_term(expression.items[0], of, name, scope)
    if isinstance(expression, (*_CALLS, ast.ColumnRef)):
        return _compile_call(expression, of, scope, name)
    if not isinstance(expression, _LITERALS):
        raise InvalidRequestError(
            f"Invalid {text_of(expression)[:200]}: a part of a column where a value is expected"
        )
    leaves: dict[tuple[str, ast.Expression], Term] = {}
    for leaf, leaf_type, leaf_name in _leaves(expression, of, name):
        key = (leaf_type.cql, leaf)
        leaves[key] = compile_term(leaf, leaf_type, leaf_name, scope)
    if not leaves:
        return constant(literal_bytes(expression, of, name))

    def term(context: Context) -> Bound:
        def leaf_value(leaf_type: Type, leaf: ast.Expression) -> bytes | None:
            value = leaves[leaf_type.cql, leaf](context)
            if isinstance(value, UnsetType):
                raise InvalidRequestError(f"Invalid unset value inside the {of} for {name}: bind one or null")
            return value

        try:
            return of.from_literal(expression, leaf_value)
        except InvalidValueError as error:
            raise _refused(expression, of, name, error) from None

    return term


def literal_bytes(expression: ast.Expression, of: Type, name: str) -> bytes | None:
    """Wire bytes of a literal; raises InvalidRequestError that names what it is for."""
    try:
        return of.from_literal(expression)
    except InvalidValueError as error:
        raise _refused(expression, of, name, error) from None


def _refused(
    expression: ast.Expression, of: Type, name: str, error: InvalidValueError
) -> InvalidRequestError:
    """Why a literal is no value of the type, in the words of Cassandra that tools look for."""
    if not isinstance(error, InvalidKindError):
        text = str(error)
        for word in ("vector", "tuple"):  # these say whose literal it is, as Cassandra does
            text = text.replace(f"Invalid {word} literal", f"Invalid {word} literal for {name}", 1)
        return InvalidRequestError(f"{name}: {text}")
    literal = error.literal
    wrong = ""
    if isinstance(literal, ast.Literal):
        kind = _CONSTANTS.get(literal.kind, literal.kind.upper())
        wrong = f'Invalid {kind} constant ({literal.text[:200]}) for "{name}" of type {thawed(error.of)}'
        if literal is unwrapped(expression):
            return InvalidRequestError(wrong)
    elif literal is expression:
        return InvalidRequestError(f"Invalid {word_for(literal)} for {name} of type {thawed(of)}")
    text = (
        f"Invalid {word_for(expression)} for {name}: {_part(expression, literal)} is not of type "
        f"{thawed(error.of)}"
    )
    return InvalidRequestError(f"{text} ({wrong})" if wrong else text)


def _part(expression: ast.Expression, literal: ast.Expression) -> str:
    """What a literal is within another one."""
    if isinstance(expression, ast.UdtLiteral):
        for name, item in expression.fields:
            if unwrapped(item) is literal:
                return f"field {name.text}"
    if isinstance(expression, ast.TupleLiteral):
        for index, item in enumerate(expression.items):
            if unwrapped(item) is literal:
                return f"component {index}"
    return f"value {text_of(literal)[:200]}"


def constant(value: bytes | None) -> Term:
    """A term that is always this."""
    return lambda _: value


def marker_term(index: int, of: Type) -> Term:
    """The bound value at this index, checked to be one of its type."""
    check = of.check

    def term(context: Context) -> Bound:
        value = context.values[index]
        if value is None or isinstance(value, UnsetType):
            return value
        if not value and of.cql in MAY_BE_EMPTY:
            return None
        try:
            return check(value)
        except InvalidValueError as error:
            raise InvalidRequestError(f"Invalid value for bind marker {index}: {error}") from None

    return term


_CONSTANTS: Final = {ast.BLOB: "HEX"}
"""What Cassandra calls kinds of constants, where that is not our word."""
_CALLS: Final = (ast.FunctionCall, ast.Cast, ast.TypeHint, ast.Arithmetic, ast.Negation)
_LITERALS: Final = (
    ast.Literal, ast.ListLiteral, ast.SetLiteral, ast.MapLiteral, ast.TupleLiteral, ast.UdtLiteral
)  # fmt: skip


def _takes_tuple(of: Type) -> bool:
    return isinstance(of, Fields)


def _compile_call(expression: ast.Expression, of: Type, scope: Scope, name: str) -> Term:
    if isinstance(expression, ast.ColumnRef):
        raise InvalidRequestError(
            f"Invalid identifier {expression.name} at line {expression.at.line}, column "
            f"{expression.at.column}: the name of a column where a value is expected; put text in "
            "single quotes"
        )
    found, term = scope.function(expression, of, scope.markers)
    if not assignable(found, of):
        raise InvalidRequestError(_unassignable(expression, found, of, name))
    return term


def _unassignable(expression: ast.Expression, found: Type, of: Type, name: str) -> str:
    if isinstance(expression, ast.FunctionCall):
        function = f"{expression.keyspace or 'system'}.{expression.name}"
        return f"Type error: cannot assign result of function {function} (type {found}) to {name} (type {of})"
    return f"Cannot assign value {text_of(expression)[:200]} to {name} of type {of}: it is of type {found}"


def assignable(found: Type, expected: Type) -> bool:
    """Whether wire values of one type are wire values of the other."""
    if found == expected or thawed(found) == thawed(expected):
        return True
    pair = (found.cql, expected.cql)
    return expected.cql == "blob" or pair in {("ascii", "text"), ("timeuuid", "uuid"), ("bigint", "counter")}


def thawed(of: Type) -> str:
    """A type's text without `frozen`."""
    text = of.cql
    return text[7:-1] if text.startswith("frozen<") else text


def _leaves(expression: ast.Expression, of: Type, name: str) -> Iterator[tuple[ast.Expression, Type, str]]:
    """What in a literal is none, with the types expected there and what markers there are called; what cannot
    stand there is left out, for `from_literal` to refuse.
    """
    if isinstance(expression, ast.Literal):
        return
    if isinstance(expression, ast.TupleLiteral) and len(expression.items) == 1 and not _takes_tuple(of):
        yield from _leaves(expression.items[0], of, name)
    elif not isinstance(expression, _LITERALS):
        yield expression, of, name
    elif isinstance(expression, (ast.ListLiteral, ast.SetLiteral)):
        element = getattr(of, "element", None)
        if element is not None:
            for item in expression.items:
                yield from _leaves(item, element, f"value({name})")
    elif isinstance(expression, ast.MapLiteral):
        if isinstance(of, MapType):
            for key, value in expression.entries:
                yield from _leaves(key, of.keys, f"key({name})")
                yield from _leaves(value, of.values, f"value({name})")
    elif isinstance(expression, ast.TupleLiteral):
        if isinstance(of, Fields):
            for index, (item, field) in enumerate(zip(expression.items, of.types, strict=False)):
                yield from _leaves(item, field, f"{name}[{index}]")
    elif isinstance(of, UserType):
        types = dict(of.fields)
        for field_name, item in expression.fields:
            text = field_name.text
            if text in types:
                yield from _leaves(item, types[text], f"{name}.{text}")


def parts_of(value: bytes, of: Type) -> Sequence[bytes | None]:
    """The wire values of the parts of a wire value with parts."""
    assert isinstance(of, (Collection, Fields, VectorType)), of
    return of.unpack(value)
