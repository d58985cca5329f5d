"""Types of a fixed number of parts: vector, tuple and user-defined types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from cql_lite.ast_terms import Expression, ListLiteral, TupleLiteral, UdtLiteral
from cql_lite.types_base import (
    CUSTOM,
    VERSION_MAX,
    InvalidValueError,
    Leaf,
    Type,
    Value,
    string,
    u16,
)
from cql_lite.types_nested import (
    END,
    JSON_DICT,
    JSON_LIST,
    MORE,
    J,
    Nested,
    name_text,
    present,
    read_sized,
    sized,
)
from cql_lite.types_scalar import MARSHAL, json_string
from cql_lite.types_time import read_unsigned_vint, unsigned_vint

STRING_BYTES_MAX: Final = 65_535
"""Of a [string] of the protocol."""

# --- vectors


class VectorType(Nested, frozen=True, kw_only=True):
    """A vector: a fixed number of elements, none of them null.

    Elements of fixed length stand side by side, others behind an [unsigned vint] of their length.
    """

    element: Type
    dimensions: int

    @property
    def cql(self) -> str:
        return f"vector<{self.element}, {self.dimensions}>"

    @property
    def class_name(self) -> str:
        return f"{MARSHAL}VectorType({self.element.class_name} , {self.dimensions})"

    @property
    def fixed_bytes(self) -> int | None:
        each = self.element.fixed_bytes
        return None if each is None else each * self.dimensions

    def option(self, version: int = VERSION_MAX) -> bytes:
        name = self.class_name
        if len(name.encode()) > STRING_BYTES_MAX:  # of a type with many fields: drivers get the bytes
            name = f"{MARSHAL}BytesType"
        return u16.pack(CUSTOM) + string(name)

    def unpack(self, data: bytes) -> list[bytes]:
        each = self.element.fixed_bytes
        if each is None:
            return self._unpack_sized(data)
        if len(data) != each * self.dimensions:
            raise InvalidValueError(
                f"a value of type {self} has {each * self.dimensions} bytes, not {len(data)}"
            )
        return [data[at : at + each] for at in range(0, len(data), each)]

    def _unpack_sized(self, data: bytes) -> list[bytes]:
        values, at = [], 0
        for _ in range(self.dimensions):
            length, start = read_unsigned_vint(data, at)
            at = start + length
            if at > len(data):
                raise InvalidValueError(f"a value of type {self} is cut off")
            values.append(data[start:at])
        if at != len(data):
            raise InvalidValueError(f"a value of type {self} has bytes after its end")
        return values

    def pack(self, values: Sequence[bytes]) -> bytes:
        """Wire bytes of the elements."""
        if len(values) != self.dimensions:
            raise InvalidValueError(
                f"Invalid vector literal of type {self}; expected {self.dimensions} elements, "
                f"but given {len(values)}"
            )
        if self.element.fixed_bytes is not None:
            return b"".join(values)
        return b"".join(unsigned_vint(len(value)) + value for value in values)

    def encode(self, value: Value) -> bytes:
        if not isinstance(value, (list, tuple)):
            raise InvalidValueError(f"{type(value).__name__} is no value of type {self}")
        return self.pack([self.element.encode(part) for part in value])

    def decode(self, data: bytes) -> tuple[Value, ...]:
        return tuple(self.element.decode(value) for value in self.unpack(data))

    def check(self, data: bytes) -> bytes:
        values = self.unpack(data)
        checked = [self.element.check(value) for value in values]
        return data if checked == values else self.pack(checked)

    def from_literal(self, literal: Expression, leaf: Leaf | None = None) -> bytes | None:
        if not isinstance(literal, ListLiteral):
            return self.other_literal(literal, leaf)
        return self.pack([present(self.element.from_literal(item, leaf), self) for item in literal.items])

    def to_literal(self, data: bytes) -> str:
        return f"[{', '.join(self.element.to_literal(value) for value in self.unpack(data))}]"

    def to_json(self, data: bytes) -> str:
        return f"[{', '.join(self.element.to_json(value) for value in self.unpack(data))}]"

    def from_json(self, text: bytes) -> bytes | None:
        items = self.json_parts(text, JSON_LIST)
        if items is None:
            return None
        return self.pack([present(self.element.from_json(bytes(item)), self) for item in items])

    def key(self, data: bytes) -> bytes:
        return b"".join(self.element.key(value) for value in self.unpack(data))

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        values = []
        for _ in range(self.dimensions):
            value, at = self.element.unkey(data, at)
            values.append(value)
        return self.pack(values), at


# --- tuples and user-defined types


class Fields(Nested, frozen=True, kw_only=True):
    """tuple and user-defined types: fields behind their lengths, any of them null, missing ones at the end
    too.
    """

    types: tuple[Type, ...]

    def unpack(self, data: bytes) -> list[bytes | None]:
        values: list[bytes | None] = []
        at = 0
        while at < len(data):
            if len(values) == len(self.types):
                raise InvalidValueError(f"a value of type {self} has more than {len(self.types)} fields")
            value, at = read_sized(data, at, self)
            values.append(value)
        return values + [None] * (len(self.types) - len(values))

    def pack(self, values: Sequence[bytes | None]) -> bytes:
        """Wire bytes of the fields."""
        if len(values) > len(self.types):
            raise InvalidValueError(f"a value of type {self} has {len(self.types)} fields, not {len(values)}")
        return sized(values)

    def encode(self, value: Value) -> bytes:
        if not isinstance(value, (list, tuple)) or len(value) > len(self.types):
            raise InvalidValueError(f"{type(value).__name__} is no value of type {self}")
        pairs = zip(self.types, value, strict=False)
        return self.pack([None if part is None else of.encode(part) for of, part in pairs])

    def _each(self, data: bytes, what: Callable[[Type, bytes], J]) -> list[J | None]:
        pairs = zip(self.types, self.unpack(data), strict=True)
        return [None if value is None else what(of, value) for of, value in pairs]

    def decode(self, data: bytes) -> tuple[Value, ...]:
        return tuple(self._each(data, lambda of, value: of.decode(value)))

    def check(self, data: bytes) -> bytes:
        values = self.unpack(data)
        checked = self._each(data, lambda of, value: of.check(value))
        return data if checked == values else self.pack(checked)

    def key(self, data: bytes) -> bytes:
        keys = self._each(data, lambda of, value: MORE + of.key(value))
        return b"".join(END if key is None else key for key in keys)

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        values: list[bytes | None] = []
        for of in self.types:
            value: bytes | None = None
            if data[at] == MORE[0]:
                value, at = of.unkey(data, at + 1)
            elif data[at] == END[0]:
                at += 1
            else:
                raise ValueError("not an encoded tuple")
            values.append(value)
        return self.pack(values), at


class TupleType(Fields, frozen=True):
    """A tuple; always frozen."""

    @property
    def cql(self) -> str:
        return f"tuple<{', '.join(of.cql for of in self.types)}>"

    @property
    def class_name(self) -> str:
        return f"{MARSHAL}TupleType({','.join(of.class_name for of in self.types)})"

    def option(self, version: int = VERSION_MAX) -> bytes:
        options = [of.option(version) for of in self.types]
        return u16.pack(0x0031) + u16.pack(len(options)) + b"".join(options)

    def from_literal(self, literal: Expression, leaf: Leaf | None = None) -> bytes | None:
        if not isinstance(literal, TupleLiteral):
            return self.other_literal(literal, leaf)
        if len(literal.items) > len(self.types):
            raise InvalidValueError(
                f"Invalid tuple literal: too many elements. Type {self} expects {len(self.types)} "
                f"but got {len(literal.items)}"
            )
        pairs = zip(self.types, literal.items, strict=False)
        return self.pack([of.from_literal(item, leaf) for of, item in pairs])

    def to_literal(self, data: bytes) -> str:
        texts = self._each(data, lambda of, value: of.to_literal(value))
        return f"({', '.join(text or 'null' for text in texts)})"

    def to_json(self, data: bytes) -> str:
        texts = self._each(data, lambda of, value: of.to_json(value))
        return f"[{', '.join(text or 'null' for text in texts)}]"

    def from_json(self, text: bytes) -> bytes | None:
        items = self.json_parts(text, JSON_LIST)
        if items is None:
            return None
        if len(items) > len(self.types):
            raise InvalidValueError(f"a value of type {self} has {len(self.types)} fields, not {len(items)}")
        return self.pack([of.from_json(bytes(item)) for of, item in zip(self.types, items, strict=False)])


def json_name(name: str) -> str:
    """A column's or field's name in JSON: in double quotes of its own if it is not lower case."""
    return json_string(name if name == name.lower() else f'"{name}"')


def name_in_json(name: str) -> str:
    """The column or field that a JSON name means: exact in double quotes of its own, else lowered."""
    if len(name) > 1 and name.startswith('"') and name.endswith('"'):
        return name[1:-1]
    return name.lower()


class UserType(Fields, frozen=True, kw_only=True):
    """A user-defined type: a tuple whose fields have names."""

    keyspace: str
    name: str
    names: tuple[str, ...]
    frozen: bool = True

    @property
    def is_multicell(self) -> bool:
        return not self.frozen

    @property
    def cql(self) -> str:
        text = name_text(self.name)
        return f"frozen<{text}>" if self.frozen else text

    @property
    def class_name(self) -> str:
        parts = [self.keyspace, self.name.encode().hex()]
        parts += [f"{name.encode().hex()}:{of.class_name}" for name, of in self.fields]
        name = f"{MARSHAL}UserType({','.join(parts)})"
        return f"{MARSHAL}FrozenType({name})" if self.frozen else name

    @property
    def fields(self) -> list[tuple[str, Type]]:
        """Names and types, in order."""
        return list(zip(self.names, self.types, strict=True))

    def option(self, version: int = VERSION_MAX) -> bytes:
        parts = [u16.pack(0x0030), string(self.keyspace), string(self.name), u16.pack(len(self.types))]
        parts += [string(name) + of.option(version) for name, of in self.fields]
        return b"".join(parts)

    def from_literal(self, literal: Expression, leaf: Leaf | None = None) -> bytes | None:
        if not isinstance(literal, UdtLiteral):
            return self.other_literal(literal, leaf)
        given = {name.text: item for name, item in literal.fields}
        self._known(given)
        return self.pack(
            [of.from_literal(given[name], leaf) if name in given else None for name, of in self.fields]
        )

    def _known(self, given: Iterable[str]) -> None:
        for name in given:
            if name not in self.names:
                raise InvalidValueError(f"Unknown field '{name}' in value of user defined type {self.name}")

    def to_literal(self, data: bytes) -> str:
        texts = self._each(data, lambda of, value: of.to_literal(value))
        fields = [
            f"{name_text(name)}: {text or 'null'}" for name, text in zip(self.names, texts, strict=True)
        ]
        return f"{{{', '.join(fields)}}}"

    def to_json(self, data: bytes) -> str:
        texts = self._each(data, lambda of, value: of.to_json(value))
        fields = [
            f"{json_name(name)}: {text or 'null'}" for name, text in zip(self.names, texts, strict=True)
        ]
        return f"{{{', '.join(fields)}}}"

    def from_json(self, text: bytes) -> bytes | None:
        entries = self.json_parts(text, JSON_DICT)
        if entries is None:
            return None
        given = {name_in_json(name): bytes(value) for name, value in entries.items()}
        self._known(given)
        return self.pack([of.from_json(given[name]) if name in given else None for name, of in self.fields])
