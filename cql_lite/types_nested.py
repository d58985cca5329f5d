"""Types with parts: list, set and map, frozen or not; those of a fixed number of parts are in `types_fields`.

`unpack` and `pack` are the bridge between one wire value and its parts' wire values: collections that are not
frozen are kept as a cell per element, and terms like `[?, 1]` are put together from parts.
"""

from __future__ import annotations

import itertools
import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, TypeVar

import msgspec

from core.limits import COLLECTION_ELEMENTS_MAX
from cql_lite.ast_terms import (
    NULL,
    STRING,
    Expression,
    ListLiteral,
    Literal,
    MapLiteral,
    SetLiteral,
)
from cql_lite.types_base import (
    MAY_BE_EMPTY,
    VERSION_MAX,
    InvalidKindError,
    InvalidValueError,
    Leaf,
    Type,
    Value,
    i32,
    u16,
)
from cql_lite.types_scalar import MARSHAL, Scalar, json_constant, json_string

_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NULL = i32.pack(-1)
MORE, END = b"\x01", b"\x00"

J = TypeVar("J")


def name_text(name: str) -> str:
    """An identifier as CQL writes it: in double quotes if it is not plain lower case."""
    return name if _PLAIN_NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'


class Nested(Type, frozen=True):
    """A type with parts."""

    @abstractmethod
    def unpack(self, data: bytes) -> Sequence[bytes | None]:
        """The wire values of the parts; raises InvalidValueError. Of a map: key, value, key, value, ..."""

    def other_literal(self, literal: Expression, leaf: Leaf | None) -> bytes | None:
        """A literal that is not the type's own kind: only `null` will do, or what `leaf` knows."""
        if isinstance(literal, Literal):
            if literal.kind == NULL:
                return None
            raise InvalidKindError(literal, self)
        return self.leave(literal, leaf)

    def json_parts(self, text: bytes, expected: type[J]) -> J | None:
        """JSON text read as a list or a dict of raw JSON; a string is read as the JSON it holds."""
        constant = json_constant(text)
        if constant is not None:
            if constant.kind == NULL:
                return None
            if constant.kind != STRING:
                raise InvalidValueError(
                    f"the JSON {constant.kind} {constant.text} is no value of type {self}"
                )
            text = constant.text.encode()
        try:
            return msgspec.json.decode(text, type=expected)
        except (msgspec.DecodeError, RecursionError) as problem:
            raise InvalidValueError(f"this JSON is no value of type {self}: {problem}") from None


JSON_LIST = list[msgspec.Raw]
JSON_DICT = dict[str, msgspec.Raw]


def sized(values: Iterable[bytes | None]) -> bytes:
    """Each value behind its length; -1 stands for null."""
    parts: list[bytes] = []
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (i32.pack(len(value)), value)
    return b"".join(parts)


def read_sized(data: bytes, at: int, of: Type) -> tuple[bytes | None, int]:
    """The value at this offset and the offset after it; raises InvalidValueError."""
    start = at + 4
    if start > len(data):
        raise InvalidValueError(f"a value of type {of} is cut off")
    length = i32.unpack_from(data, at)[0]
    if length < 0:
        return None, start
    end = start + length
    if end > len(data):
        raise InvalidValueError(f"a value of type {of} is cut off")
    return data[start:end], end


def _kind_of(of: Type) -> str:
    return "vectors" if of.cql.startswith("vector") else "collections"


def present(value: bytes | None, of: Type) -> bytes:
    """The value; raises InvalidValueError for null."""
    if value is None:
        raise InvalidValueError(f"null is not supported inside {_kind_of(of)}: here inside {of}")
    return value


def _literal_or_null(of: Type, value: bytes | None) -> str:
    return "null" if value is None else of.to_literal(value)


def _json_or_null(of: Type, value: bytes | None) -> str:
    return "null" if value is None else of.to_json(value)


# --- collections


class Collection(Nested, frozen=True):
    """list, set and map: a 32-bit count, then the elements, each behind its length."""

    word: ClassVar[str]
    per_element: ClassVar[int] = 1
    frozen: bool = True

    @property
    def is_multicell(self) -> bool:
        return not self.frozen

    @property
    @abstractmethod
    def _inner(self) -> str:
        """The elements' types as CQL."""

    @property
    def cql(self) -> str:
        text = f"{self.word}<{self._inner}>"
        return f"frozen<{text}>" if self.frozen else text

    def unpack(self, data: bytes) -> list[bytes]:
        return [present(value, self) for value in self.parts(data)]

    def parts(self, data: bytes) -> list[bytes | None]:
        """The parts of a value that a SELECT has put together, or a client: some may be null."""
        if len(data) < 4:
            raise InvalidValueError(f"a value of type {self} is cut off")
        count = i32.unpack_from(data)[0] * self.per_element
        if not 0 <= count <= min((len(data) - 4) // 4, COLLECTION_ELEMENTS_MAX * self.per_element):
            raise InvalidValueError(f"a value of type {self} claims {count} parts in {len(data)} bytes")
        values = []
        at = 4
        for number in range(count):
            value, at = read_sized(data, at, self)
            if value == b"" and self._type_of(number).cql in MAY_BE_EMPTY:
                value = None
            values.append(value)
        if at != len(data):
            raise InvalidValueError(f"a value of type {self} has bytes after its end")
        return values

    def _type_of(self, number: int) -> Type:
        types = self._unkey_types()
        return types[number % len(types)]

    def pack_with_nulls(self, values: Sequence[bytes | None]) -> bytes:
        """Wire bytes of parts in their order, for results: null is an empty part, which drivers read as null,
        where the type may have one.
        """
        shown = [
            b"" if value is None and self._type_of(number).cql in MAY_BE_EMPTY else value
            for number, value in enumerate(values)
        ]
        return i32.pack(len(values) // self.per_element) + sized(shown)

    def pack(self, values: Sequence[bytes]) -> bytes:
        """Wire bytes of parts in their order; `arranged` puts those of sets and maps in order first."""
        count = len(values) // self.per_element
        if count > COLLECTION_ELEMENTS_MAX:
            raise InvalidValueError(
                f"a {self.word} has at most {COLLECTION_ELEMENTS_MAX} elements, not {count}"
            )
        return i32.pack(count) + sized(values)

    def arranged(self, values: list[bytes]) -> list[bytes]:
        """The parts as they are kept: the same object if they are so already."""
        return values

    def build(self, values: list[bytes]) -> bytes:
        """Wire bytes of parts in any order."""
        return self.pack(self.arranged(values))

    def check(self, data: bytes) -> bytes:
        values = self.unpack(data)
        checked = self._checked(values)
        arranged = self.arranged(checked)
        if arranged is checked and all(a is b for a, b in zip(checked, values, strict=True)):
            return data
        return self.pack(arranged)

    @abstractmethod
    def _checked(self, values: list[bytes]) -> list[bytes]:
        """Each part as its type would store it."""

    def key(self, data: bytes) -> bytes:
        parts = self._keys(self.unpack(data))
        return b"".join(MORE + part for part in parts) + END

    @abstractmethod
    def _keys(self, values: list[bytes]) -> list[bytes]:
        """The order-preserving key of each part."""

    @abstractmethod
    def _unkey_types(self) -> tuple[Type, ...]:
        """The types of the parts, repeated for every element."""

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        types = self._unkey_types()
        values: list[bytes] = []
        while data[at] != END[0]:
            if data[at] != MORE[0]:
                raise ValueError("not an encoded collection")
            at += 1
            for of in types:
                value, at = of.unkey(data, at)
                values.append(value)
        return self.pack(values), at + 1


def _sorted_parts(values: list[bytes], of: Type, step: int) -> list[bytes]:
    """Elements (or keys with their values) in order of the type; of equal ones the last is kept."""
    keys = [of.key(value) for value in values[::step]]
    if all(a < b for a, b in itertools.pairwise(keys)):
        return values
    groups = {key: values[i * step : (i + 1) * step] for i, key in enumerate(keys)}
    return [value for key in sorted(groups) for value in groups[key]]


class Sequenced(Collection, frozen=True, kw_only=True):
    """list and set."""

    element: Type
    marshal: ClassVar[str]
    option_id: ClassVar[int]

    @property
    def _inner(self) -> str:
        return self.element.cql

    @property
    def class_name(self) -> str:
        name = f"{MARSHAL}{self.marshal}({self.element.class_name})"
        return f"{MARSHAL}FrozenType({name})" if self.frozen else name

    def option(self, version: int = VERSION_MAX) -> bytes:
        return u16.pack(self.option_id) + self.element.option(version)

    def encode(self, value: Value) -> bytes:
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise InvalidValueError(f"{type(value).__name__} is no value of type {self}")
        encoded = [self.element.encode(part) for part in value]
        return self.build(encoded)

    def decode(self, data: bytes) -> tuple[Value, ...]:
        return tuple(self.element.decode(value) for value in self.unpack(data))

    def _checked(self, values: list[bytes]) -> list[bytes]:
        check = self.element.check
        return [check(value) for value in values]

    def _keys(self, values: list[bytes]) -> list[bytes]:
        return [self.element.key(value) for value in values]

    def _unkey_types(self) -> tuple[Type, ...]:
        return (self.element,)

    def _from_items(self, items: Iterable[Expression], leaf: Leaf | None) -> bytes:
        return self.build([present(self.element.from_literal(item, leaf), self) for item in items])

    def to_json(self, data: bytes) -> str:
        return f"[{', '.join(_json_or_null(self.element, value) for value in self.parts(data))}]"

    def from_json(self, text: bytes) -> bytes | None:
        items = self.json_parts(text, JSON_LIST)
        if items is None:
            return None
        return self.build([present(self.element.from_json(bytes(item)), self) for item in items])


class ListType(Sequenced, frozen=True):
    """A list: elements as they were given."""

    word = "list"
    marshal = "ListType"
    option_id = 0x0020

    def from_literal(self, literal: Expression, leaf: Leaf | None = None) -> bytes | None:
        if isinstance(literal, ListLiteral):
            return self._from_items(literal.items, leaf)
        return self.other_literal(literal, leaf)

    def to_literal(self, data: bytes) -> str:
        return f"[{', '.join(_literal_or_null(self.element, value) for value in self.parts(data))}]"


class SetType(Sequenced, frozen=True):
    """A set: elements in order, no two equal."""

    word = "set"
    marshal = "SetType"
    option_id = 0x0022

    def arranged(self, values: list[bytes]) -> list[bytes]:
        return _sorted_parts(values, self.element, 1)

    def from_literal(self, literal: Expression, leaf: Leaf | None = None) -> bytes | None:
        if isinstance(literal, SetLiteral):
            return self._from_items(literal.items, leaf)
        return self.other_literal(literal, leaf)

    def to_literal(self, data: bytes) -> str:
        return f"{{{', '.join(self.element.to_literal(value) for value in self.unpack(data))}}}"


class MapType(Collection, frozen=True, kw_only=True):
    """A map: entries in order of their keys, no two equal."""

    word = "map"
    per_element = 2
    keys: Type
    values: Type

    @property
    def _inner(self) -> str:
        return f"{self.keys}, {self.values}"

    @property
    def class_name(self) -> str:
        name = f"{MARSHAL}MapType({self.keys.class_name},{self.values.class_name})"
        return f"{MARSHAL}FrozenType({name})" if self.frozen else name

    def option(self, version: int = VERSION_MAX) -> bytes:
        return u16.pack(0x0021) + self.keys.option(version) + self.values.option(version)

    def arranged(self, values: list[bytes]) -> list[bytes]:
        return _sorted_parts(values, self.keys, 2)

    def encode(self, value: Value) -> bytes:
        pairs = value.items() if isinstance(value, dict) else value
        if not isinstance(value, (dict, list, tuple)):
            raise InvalidValueError(f"{type(value).__name__} is no value of type {self}")
        encoded: list[bytes] = []
        for key, item in pairs:
            encoded += (self.keys.encode(key), self.values.encode(item))
        return self.build(encoded)

    def decode(self, data: bytes) -> tuple[tuple[Value, Value], ...]:
        return tuple((self.keys.decode(key), self.values.decode(value)) for key, value in self.pairs(data))

    def pairs(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The entries in wire form."""
        parts = self.unpack(data)
        return list(zip(parts[::2], parts[1::2], strict=True))

    def _checked(self, values: list[bytes]) -> list[bytes]:
        types = (self.keys, self.values)
        return [types[i & 1].check(value) for i, value in enumerate(values)]

    def _keys(self, values: list[bytes]) -> list[bytes]:
        of_key, of_value = self.keys.key, self.values.key
        return [of_key(values[i]) + of_value(values[i + 1]) for i in range(0, len(values), 2)]

    def _unkey_types(self) -> tuple[Type, ...]:
        return (self.keys, self.values)

    def from_literal(self, literal: Expression, leaf: Leaf | None = None) -> bytes | None:
        if isinstance(literal, SetLiteral) and not literal.items:
            return self.pack([])
        if not isinstance(literal, MapLiteral):
            return self.other_literal(literal, leaf)
        parts: list[bytes] = []
        for key, value in literal.entries:
            parts.append(present(self.keys.from_literal(key, leaf), self))
            parts.append(present(self.values.from_literal(value, leaf), self))
        return self.build(parts)

    def to_literal(self, data: bytes) -> str:
        parts = self.parts(data)
        entries = [
            f"{_literal_or_null(self.keys, key)}: {_literal_or_null(self.values, value)}"
            for key, value in zip(parts[::2], parts[1::2], strict=True)
        ]
        return f"{{{', '.join(entries)}}}"

    def to_json(self, data: bytes) -> str:
        entries = []
        parts = self.parts(data)
        for key, value in zip(parts[::2], parts[1::2], strict=True):
            name = self.keys.to_json(present(key, self))
            name = name if name.startswith('"') else json_string(name)
            entries.append(f"{name}: {_json_or_null(self.values, value)}")
        return f"{{{', '.join(entries)}}}"

    def from_json(self, text: bytes) -> bytes | None:
        entries = self.json_parts(text, JSON_DICT)
        if entries is None:
            return None
        parts: list[bytes] = []
        for name, value in entries.items():
            written = json_string(name) if isinstance(self.keys, Scalar) else name
            parts.append(present(self.keys.from_json(written.encode()), self))
            parts.append(present(self.values.from_json(bytes(value)), self))
        return self.build(parts)
