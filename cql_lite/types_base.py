"""What every CQL type can do; the types themselves are in the other `types_*` files, see `types.py`.

A value has four forms: *wire* (bytes of the native protocol, which is also what cells hold), *Python* (what
functions compute with), *text* (literals, JSON, what a shell prints) and *key* (bytes whose order is the
type's order, for clustering columns). Wire is the form that travels: a bound value is checked once and then
only copied, so every conversion starts or ends at wire bytes.

There is one definition of a type's order: the bytes of its key form. `compare` compares these, so filters,
sorted sets and rows on disk cannot disagree.

Python forms are immutable and hashable: numbers are int, float or Decimal; text is str; blob, uuid, timeuuid
and inet (4 or 16 bytes) are bytes; date is days since 1970-01-01, time nanoseconds since midnight, timestamp
milliseconds since the epoch; list, set (in order, no repeats), vector, tuple and UDT are tuples, with None
for a null field; map is a tuple of (key, value) pairs in order of the keys.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Hashable
from struct import Struct
from typing import Any, Final

import msgspec

from core.errors import RequestError
from cql_lite.ast_terms import (
    Expression,
    ListLiteral,
    Literal,
    MapLiteral,
    SetLiteral,
    TupleLiteral,
    UdtLiteral,
)

Value = Any
"""A value in its Python form; see above."""

VERSION_MAX = 5
CUSTOM = 0x0000
_FLIP = bytes(255 - byte for byte in range(256))

i32 = Struct(">i")
u16 = Struct(">H")
i64 = Struct(">q")


class InvalidTypeError(RequestError):
    """There is no such type, or it may not stand there; `str()` says which."""


class InvalidValueError(RequestError):
    """The value is none of its type; `str()` says why."""


class InvalidKindError(InvalidValueError):
    """A literal of a kind that the type does not take: 'a' for an int, or a list for a set."""

    def __init__(self, literal: Expression, of: Type) -> None:
        super().__init__(f"a {word_for(literal)} is no value of type {of}")
        self.literal = literal
        self.of = of


def string(text: str) -> bytes:
    """A [string] of the protocol: a 16-bit length and UTF-8."""
    data = text.encode()
    return u16.pack(len(data)) + data


Leaf = Callable[["Type", Expression], bytes | None]
"""Gives the wire bytes of a term that is not a literal, where a value of that type is expected."""


class _Abstract(msgspec.StructMeta, ABCMeta):
    """Structs of which only complete subclasses can be made."""


MAY_BE_EMPTY: Final = frozenset(
    [
        "bigint",
        "boolean",
        "decimal",
        "double",
        "float",
        "inet",
        "int",
        "timestamp",
        "timeuuid",
        "uuid",
        "varint",
    ]
)
"""Types of which Cassandra takes a value of no bytes, which drivers read as null; here it is null."""


class Type(msgspec.Struct, frozen=True, metaclass=_Abstract):
    """A CQL type. Subclasses are compared by what they consist of; all methods are pure.

    Methods that take text, literals or bytes raise InvalidValueError if they are none of the type.
    """

    @property
    def is_multicell(self) -> bool:
        """Whether a column of it has a cell per element or field: a collection or UDT that is not frozen."""
        return False

    @property
    @abstractmethod
    def cql(self) -> str:
        """The type as CQL text; `parse_type` reads it back."""

    @property
    @abstractmethod
    def class_name(self) -> str:
        """The name drivers know for custom types: `org.apache.cassandra.db.marshal...`."""

    @property
    def may_be_key(self) -> bool:
        """Whether it may be part of a primary key, an element of a set or a key of a map."""
        return not self.is_multicell

    @property
    def fixed_bytes(self) -> int | None:
        """The length of every value, where a vector writes its elements without lengths."""
        return None

    def __str__(self) -> str:
        return self.cql

    @abstractmethod
    def option(self, version: int = VERSION_MAX) -> bytes:
        """The type as an [option] of result metadata in that protocol version."""

    # --- wire and Python

    @abstractmethod
    def encode(self, value: Value) -> bytes:
        """Wire bytes of a Python value."""

    @abstractmethod
    def decode(self, data: bytes) -> Value:
        """The Python value of wire bytes."""

    @abstractmethod
    def check(self, data: bytes) -> bytes:
        """Bytes from a client as they may be stored.

        The same object, except that sets and maps are put in order.
        """

    # --- text

    @abstractmethod
    def from_literal(self, literal: Expression, leaf: Leaf | None = None) -> bytes | None:
        """Wire bytes of a literal, None for `null`; with the implicit conversions of CQL.

        A term that is none (a marker, a function call), at the top or within, is left to `leaf`; without
        one it is refused.
        """

    def leave(self, term: Expression, leaf: Leaf | None) -> bytes | None:
        """What `leaf` makes of a term; raises InvalidValueError if there is none or the term is a literal."""
        if leaf is None or type(term) in WORDS:
            raise InvalidKindError(term, self)
        return leaf(self, term)

    @abstractmethod
    def to_literal(self, data: bytes) -> str:
        """A CQL literal of the value."""

    def to_text(self, data: bytes) -> str:
        """What a shell prints: the literal, at the top without quotes."""
        return self.to_literal(data)

    @abstractmethod
    def to_json(self, data: bytes) -> str:
        """The value as JSON text, as SELECT JSON gives it."""

    @abstractmethod
    def from_json(self, text: bytes) -> bytes | None:
        """Wire bytes of a value in JSON text, None for `null`, as INSERT JSON takes it."""

    # --- order

    @abstractmethod
    def key(self, data: bytes) -> bytes:
        """Ascending, prefix-free, order-preserving bytes of a wire value."""

    @abstractmethod
    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        """The wire value of `key` at this offset and the offset after it; raises ValueError if there is
        none.
        """

    def to_key(self, data: bytes, descending: bool = False) -> bytes:
        """The component of a clustering key."""
        key = self.key(data)
        return key.translate(_FLIP) if descending else key

    def from_key(self, data: bytes, at: int = 0, descending: bool = False) -> tuple[bytes, int]:
        """The wire value of a clustering component at this offset and the offset after it; raises
        ValueError if there is none.
        """
        try:
            if not descending:
                return self.unkey(data, at)
            value, end = self.unkey(data[at:].translate(_FLIP), 0)
        except IndexError:
            raise ValueError("the key ends within a component") from None
        return value, at + end

    def compare(self, a: bytes, b: bytes) -> int:
        """-1, 0 or 1 as wire value `a` comes before, with or after `b`."""
        if a == b:
            return 0
        key_a, key_b = self.key(a), self.key(b)
        return (key_a > key_b) - (key_a < key_b)

    def likeness(self, data: bytes) -> Hashable:
        """The same of two wire values if they compare as equal, and only then."""
        return self.key(data)


WORDS: dict[type, str] = {
    Literal: "constant",
    ListLiteral: "list literal",
    SetLiteral: "set literal",
    MapLiteral: "map literal",
    TupleLiteral: "tuple literal",
    UdtLiteral: "user type literal",
}


def word_for(expression: Expression) -> str:
    """What an error calls it."""
    return WORDS.get(type(expression), "term that is not a literal")


def unwrapped(expression: Expression) -> Expression:
    """What is in the parentheses, for whoever expects no tuple."""
    while isinstance(expression, TupleLiteral) and len(expression.items) == 1:
        expression = expression.items[0]
    return expression
