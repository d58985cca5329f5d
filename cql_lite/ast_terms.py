"""Names, types, expressions, and the parts of relations; used through cql_lite/ast.py."""

from __future__ import annotations

from typing import Final

import msgspec


class At(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Where something stands in the text: line and column (in characters), both from 1.

    Any two positions are equal, so that trees compare by what they say.
    """

    line: int
    column: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, At)

    def __hash__(self) -> int:
        return 0


START: Final = At(1, 1)


class Node(msgspec.Struct, frozen=True, gc=False):
    """The root of all nodes."""


class Name(Node, frozen=True, gc=False):
    """An identifier as CQL means it: lowered, or as it stood between double quotes."""

    text: str
    at: At = START


class QualifiedName(Node, frozen=True, gc=False):
    """A table, type, index or function; `keyspace` is empty if the statement does not name one."""

    keyspace: str
    name: str
    at: At = START


class Type(Node, frozen=True, gc=False):
    """A type as normal CQL text (`map<text, frozen<ks.address>>`); cql_lite/types.py knows what it means.

    Names are lowered unless quoted; quoted ones keep their quotes, and so does a Java class in 'quotes'.
    """

    text: str
    at: At = START


# --- expressions: what stands for a value

INTEGER, FLOAT, STRING, BOOLEAN = "integer", "float", "string", "boolean"
UUID, BLOB, DURATION, NULL = "uuid", "blob", "duration", "null"


class Literal(Node, frozen=True, gc=False):
    """A constant: its kind, and its text as written.

    Of a string the text is what is between the quotes, with '' as one quote; of a blob it begins with 0x;
    a sign is part of the text (-5, -1h30m, -Infinity); NaN and Infinity are floats; booleans are lowered.
    """

    kind: str
    text: str
    at: At = START


class Marker(Node, frozen=True, gc=False):
    """A bind marker: `?` (name empty) or `:name`; `index` counts from 0 in the order of the text."""

    index: int
    name: str = ""
    at: At = START


class ListLiteral(Node, frozen=True, gc=False):
    """[a, b]: a list, or a vector where one is expected."""

    items: tuple[Expression, ...]
    at: At = START


class SetLiteral(Node, frozen=True, gc=False):
    """{a, b}; {} is this too, and stands for an empty map where one is expected."""

    items: tuple[Expression, ...]
    at: At = START


class MapLiteral(Node, frozen=True, gc=False):
    """{k: v, ...}, never empty."""

    entries: tuple[tuple[Expression, Expression], ...]
    at: At = START


class TupleLiteral(Node, frozen=True, gc=False):
    """(a, b).

    With one item it may as well be parentheses around an expression: whoever expects no tuple takes the item
    (operands of arithmetic were taken out already).
    """

    items: tuple[Expression, ...]
    at: At = START


class UdtLiteral(Node, frozen=True, gc=False):
    """{field: v, ...}: a value of a user type; the keys are bare or quoted identifiers."""

    fields: tuple[tuple[Name, Expression], ...]
    at: At = START


class TypeHint(Node, frozen=True, gc=False):
    """(type) term: the term is read as being of that type; it converts nothing."""

    type: Type
    term: Expression
    at: At = START


class Cast(Node, frozen=True, gc=False):
    """CAST(term AS type): converts."""

    term: Expression
    type: Type
    at: At = START


class Star(Node, frozen=True, gc=False):
    """The argument of count(*)."""

    at: At = START


class FunctionCall(Node, frozen=True, gc=False):
    """name(arguments): aggregates, writetime, ttl, token and all others.

    `name` is lowered unless quoted (camel case is lowered too: totimestamp for toTimestamp).
    """

    name: str
    arguments: tuple[Expression, ...]
    keyspace: str = ""
    at: At = START


class ColumnRef(Node, frozen=True, gc=False):
    """A column by name."""

    name: str
    at: At = START


class ElementAccess(Node, frozen=True, gc=False):
    """of[key]: an element of a map, set, list, vector or document."""

    of: Expression
    key: Expression
    at: At = START


class SliceAccess(Node, frozen=True, gc=False):
    """of[first..last], either end may be open (None): the elements between, both ends included."""

    of: Expression
    first: Expression | None
    last: Expression | None
    at: At = START


class FieldAccess(Node, frozen=True, gc=False):
    """of.field: a field of a user type."""

    of: Expression
    field: str
    at: At = START


class Arithmetic(Node, frozen=True, gc=False):
    """left operator right; the operator is one of + - * / %."""

    operator: str
    left: Expression
    right: Expression
    at: At = START


class Negation(Node, frozen=True, gc=False):
    """-term, where the term is not a constant."""

    term: Expression
    at: At = START


Expression = (
    Literal
    | Marker
    | ListLiteral
    | SetLiteral
    | MapLiteral
    | TupleLiteral
    | UdtLiteral
    | TypeHint
    | Cast
    | Star
    | FunctionCall
    | ColumnRef
    | ElementAccess
    | SliceAccess
    | FieldAccess
    | Arithmetic
    | Negation
)


# --- what is compared, set and deleted


class Key(Node, frozen=True, gc=False):
    """[key] after a column: an index of a list, a key of a map, an element of a set, a key of a document."""

    term: Expression
    at: At = START


class Field(Node, frozen=True, gc=False):
    """.field after a column."""

    name: str
    at: At = START


Step = Key | Field


class Target(Node, frozen=True, gc=False):
    """A column or a place in it: `c`, `c[k]`, `c.field`, `doc['a']['b']` (one Key per bracket)."""

    column: str
    path: tuple[Step, ...] = ()
    at: At = START


class ColumnTuple(Node, frozen=True, gc=False):
    """(a, b) on the left of a relation."""

    columns: tuple[Name, ...]
    at: At = START


class TokenOf(Node, frozen=True, gc=False):
    """token(a, b) on the left of a relation."""

    columns: tuple[Name, ...]
    at: At = START


class InList(Node, frozen=True, gc=False):
    """(a, b, ...) on the right of IN; it may be empty. `IN ?` has the Marker itself on its right."""

    items: tuple[Expression, ...]
    at: At = START


EQ, NE, LT, LE, GT, GE = "=", "!=", "<", "<=", ">", ">="
IN, CONTAINS, CONTAINS_KEY, LIKE, IS_NOT_NULL = "IN", "CONTAINS", "CONTAINS KEY", "LIKE", "IS NOT NULL"
NOT_IN, NOT_CONTAINS, NOT_CONTAINS_KEY = "NOT IN", "NOT CONTAINS", "NOT CONTAINS KEY"
MATCH = "MATCH"


class Relation(Node, frozen=True, gc=False):
    """One part of a WHERE: left operator right. The right of IS NOT NULL is the literal null."""

    left: Target | ColumnTuple | TokenOf
    operator: str
    right: Expression | InList
    at: At = START


class Condition(Node, frozen=True, gc=False):
    """One part of an IF: a relation of a column, an element or a field."""

    target: Target
    operator: str
    value: Expression | InList
    at: At = START
