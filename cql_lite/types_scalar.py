"""Types without parts: text, uuids, addresses, blobs, booleans, json. Numbers are in `types_number`, times in
`types_time`.

A scalar says which kinds of literals it takes (CQL's implicit conversions) and how it reads and writes
one text; literals, JSON and the shell all go through that text.
"""

from __future__ import annotations

import ipaddress
import re
from abc import abstractmethod
from collections.abc import Hashable
from typing import ClassVar

import msgspec
import orjson

from core.json_values import JsonError, checked, parse
from core.limits import VALUE_BYTES_MAX
from cql_lite import ordered
from cql_lite.ast_terms import BLOB, BOOLEAN, FLOAT, INTEGER, NULL, STRING, UUID, Expression, Literal
from cql_lite.types_base import (
    CUSTOM,
    VERSION_MAX,
    InvalidKindError,
    InvalidValueError,
    Leaf,
    Type,
    Value,
    string,
    u16,
    unwrapped,
)  # fmt: skip
from lsm.keys import escaped, unescaped
from query.document_values import equal, order_key

MARSHAL = "org.apache.cassandra.db.marshal."

WHOLE = re.compile(r"[+-]?[0-9]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_HEX = re.compile(r"0[xX](?:[0-9a-fA-F]{2})*")

_TEXT_SHOWN_MAX = 60
_JSON_WORDS = {"text": "UTF-8 string", "ascii": "ASCII string", "boolean": "boolean", "blob": "hex string"}
_JSON_KINDS = {INTEGER: "Integer", FLOAT: "Double", STRING: "String", BOOLEAN: "Boolean"}
"""What Cassandra calls what it expects in JSON, and what it finds."""


def shown(text: str) -> str:
    """Text as an error quotes it."""
    return repr(text if len(text) <= _TEXT_SHOWN_MAX else text[: _TEXT_SHOWN_MAX - 1] + "…")


def quoted(text: str) -> str:
    """A string literal of CQL."""
    return "'" + text.replace("'", "''") + "'"


def json_string(text: str) -> str:
    """A string of JSON."""
    return orjson.dumps(text).decode()


def json_constant(text: bytes) -> Literal | None:
    """A JSON scalar as a constant, None for an array or object; raises InvalidValueError if malformed."""
    text = text.strip(b" \t\r\n")
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
        start = text[:1]
        if start in (b"[", b"{"):
            return None
        if start == b'"':
            return Literal(STRING, msgspec.json.decode(text, type=str))
        word = text.decode()
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as problem:
        raise InvalidValueError(f"malformed JSON: {problem}") from None
    if word == "null":
        return Literal(NULL, word)
    if word in ("true", "false"):
        return Literal(BOOLEAN, word)
    whole = WHOLE.fullmatch(word)
    return Literal(INTEGER if whole else FLOAT, word)


class Scalar(Type, frozen=True):
    """A type without parts.

    `since` is the first protocol version that has an option of its own for it; before, it is a custom type.
    """

    name: str
    option_id: int
    marshal: str
    since: int = 3
    width: int | None = None

    literals: ClassVar[tuple[str, ...]] = (STRING,)
    json_kinds: ClassVar[tuple[str, ...]] = (STRING,)
    quotes_literal: ClassVar[bool] = True
    quotes_json: ClassVar[bool] = True

    @property
    def cql(self) -> str:
        return self.name

    @property
    def class_name(self) -> str:
        return MARSHAL + self.marshal

    def option(self, version: int = VERSION_MAX) -> bytes:
        if version < self.since:
            return u16.pack(CUSTOM) + string(self.class_name)
        return u16.pack(self.option_id)

    @abstractmethod
    def parse(self, text: str) -> Value:
        """The Python value of a text; raises InvalidValueError."""

    @abstractmethod
    def format(self, value: Value) -> str:
        """A text that `parse` reads."""

    def from_literal(self, literal: Expression, leaf: Leaf | None = None) -> bytes | None:
        constant = unwrapped(literal)
        if type(constant) is not Literal:
            return self.leave(constant, leaf)
        if constant.kind == NULL:
            return None
        if constant.kind not in self.literals:
            raise InvalidKindError(constant, self)
        return self.encode(self.parse(constant.text))

    def to_literal(self, data: bytes) -> str:
        text = self.format(self.decode(data))
        return quoted(text) if self.quotes_literal else text

    def to_text(self, data: bytes) -> str:
        return self.format(self.decode(data))

    def to_json(self, data: bytes) -> str:
        text = self.format(self.decode(data))
        return json_string(text) if self.quotes_json else text

    def from_json(self, text: bytes) -> bytes | None:
        constant = json_constant(text)
        if constant is None:
            raise InvalidValueError(f"Expected a {self}, but got a JSON array or object")
        if constant.kind == NULL:
            return None
        if constant.kind not in self.json_kinds:
            raise InvalidValueError(
                f"Expected a {_JSON_WORDS.get(self.name, self.name)}, but got a "
                f"{_JSON_KINDS.get(constant.kind, constant.kind)}: {constant.text[:_TEXT_SHOWN_MAX]}"
            )
        return self.encode(self.parse(constant.text))

    def check(self, data: bytes) -> bytes:
        if self.width is not None and len(data) != self.width:
            self._wrong_length(data)
        return data

    def _wrong_length(self, data: bytes) -> None:
        raise InvalidValueError(
            f"Expected {self.width} bytes for a value of type {self}, but got {len(data)}"
        )

    def _refuse(self, text: str) -> InvalidValueError:
        return InvalidValueError(f"{shown(text)} is no value of type {self}")

    def _wrong_python(self, value: Value) -> InvalidValueError:
        return InvalidValueError(f"{type(value).__name__} {shown(str(value))} is no value of type {self}")


class Text(Scalar, frozen=True):
    """Type text and, with `ascii_only`, ascii: str."""

    ascii_only: bool = False

    def encode(self, value: Value) -> bytes:
        if not isinstance(value, str):
            raise self._wrong_python(value)
        try:
            return value.encode("ascii" if self.ascii_only else "utf-8")
        except UnicodeEncodeError:
            raise self._refuse(value.encode("utf-8", "replace").decode()) from None

    def decode(self, data: bytes) -> str:
        return str(data, "utf-8")

    def check(self, data: bytes) -> bytes:
        if data.isascii():
            return data
        if self.ascii_only:
            raise InvalidValueError("Invalid byte for ascii: it has one above 127")
        try:
            str(data, "utf-8")
        except UnicodeDecodeError as problem:
            raise InvalidValueError(f"a value of type text is not UTF-8: {problem.reason}") from None
        return data

    def parse(self, text: str) -> str:
        return text

    def format(self, value: Value) -> str:
        return str(value)

    def key(self, data: bytes) -> bytes:
        return escaped(data)

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        return unescaped(data, at)


class Blob(Scalar, frozen=True):
    """Type blob: bytes."""

    literals = (BLOB,)
    quotes_literal = False

    def encode(self, value: Value) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise self._wrong_python(value)
        return bytes(value)

    def decode(self, data: bytes) -> bytes:
        return data

    def parse(self, text: str) -> bytes:
        if not _HEX.fullmatch(text):
            raise self._refuse(text)
        return bytes.fromhex(text[2:])

    def format(self, value: Value) -> str:
        return "0x" + bytes(value).hex()

    def key(self, data: bytes) -> bytes:
        return escaped(data)

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        return unescaped(data, at)


class Boolean(Scalar, frozen=True):
    """Type boolean: bool; any byte but 0 is true."""

    literals = (BOOLEAN,)
    json_kinds = (BOOLEAN, STRING)
    quotes_literal = False
    quotes_json = False

    @property
    def fixed_bytes(self) -> int | None:
        return 1

    def encode(self, value: Value) -> bytes:
        if not isinstance(value, bool):
            raise self._wrong_python(value)
        return b"\x01" if value else b"\x00"

    def decode(self, data: bytes) -> bool:
        self.check(data)
        return data != b"\x00"

    def parse(self, text: str) -> bool:
        word = text.lower()
        if word not in ("true", "false"):
            raise self._refuse(text)
        return word == "true"

    def format(self, value: Value) -> str:
        return "true" if value else "false"

    def key(self, data: bytes) -> bytes:
        return self.encode(self.decode(data))

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        found = ordered.part(data, at, 1)
        if found not in (b"\x00", b"\x01"):
            raise ValueError("not an encoded boolean")
        return found, at + 1


class Uuid(Scalar, frozen=True):
    """Types uuid and, with `time_based`, timeuuid: 16 bytes."""

    time_based: bool = False

    literals = (UUID,)
    quotes_literal = False

    @property
    def fixed_bytes(self) -> int | None:
        return 16

    def encode(self, value: Value) -> bytes:
        if not isinstance(value, bytes):
            raise self._wrong_python(value)
        return self.check(value)

    def decode(self, data: bytes) -> bytes:
        return self.check(data)

    def check(self, data: bytes) -> bytes:
        if len(data) != 16:
            self._wrong_length(data)
        if self.time_based and data[6] >> 4 != 1:
            raise InvalidValueError(f"Invalid version for TimeUUID type: it is 1, not {data[6] >> 4}")
        return data

    def parse(self, text: str) -> bytes:
        if not _UUID.fullmatch(text):
            raise self._refuse(text)
        return bytes.fromhex(text.replace("-", ""))

    def format(self, value: Value) -> str:
        text = bytes(value).hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def key(self, data: bytes) -> bytes:
        return ordered.timeuuid(data) if self.time_based else ordered.uuid(data)

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        read = ordered.untimeuuid if self.time_based else ordered.ununiversal
        return self.check(read(data, at)), at + 16


class Inet(Scalar, frozen=True):
    """Type inet: 4 or 16 bytes."""

    def encode(self, value: Value) -> bytes:
        if not isinstance(value, bytes):
            raise self._wrong_python(value)
        return self.check(value)

    def decode(self, data: bytes) -> bytes:
        return self.check(data)

    def check(self, data: bytes) -> bytes:
        if len(data) not in (4, 16):
            raise InvalidValueError(f"Expected 4 or 16 bytes for a value of type inet, but got {len(data)}")
        return data

    def parse(self, text: str) -> bytes:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise InvalidValueError(f"Unable to make inet address from {shown(text)}") from None
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
            raise InvalidValueError(f"Unable to make inet address from {shown(text)}: without a scope")
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return address.packed if mapped is None else mapped.packed

    def format(self, value: Value) -> str:
        return str(ipaddress.ip_address(bytes(value)))

    def key(self, data: bytes) -> bytes:
        return escaped(data)

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        value, end = unescaped(data, at)
        return self.check(value), end


class Json(Scalar, frozen=True):
    """Type json: str, valid JSON text kept as written, so that numbers keep every digit. Drivers see text.

    Values are equal that mean the same, however they are written: a document that was changed place by place
    has another text than one that was written whole.
    """

    literals = (STRING, INTEGER, FLOAT, BOOLEAN)

    @property
    def may_be_key(self) -> bool:
        return False

    def encode(self, value: Value) -> bytes:
        if not isinstance(value, str):
            raise self._wrong_python(value)
        return self.check(value.encode())

    def decode(self, data: bytes) -> str:
        return str(data, "utf-8")

    def check(self, data: bytes) -> bytes:
        check_json(data)
        return data

    def parse(self, text: str) -> str:
        return text

    def format(self, value: Value) -> str:
        return str(value)

    def to_json(self, data: bytes) -> str:
        return data.decode()

    def from_json(self, text: bytes) -> bytes | None:
        text = text.strip(b" \t\r\n")
        return None if text == b"null" else self.check(text)

    def key(self, data: bytes) -> bytes:
        return escaped(data)

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        return unescaped(data, at)

    def compare(self, a: bytes, b: bytes) -> int:
        return 0 if a == b or equal(parse(a), parse(b)) else super().compare(a, b)

    def likeness(self, data: bytes) -> Hashable:
        return order_key(parse(data))


def check_json(data: bytes) -> None:
    """Raises InvalidValueError unless this is one JSON value as documents are (core/json_values.py)."""
    try:
        checked(data, VALUE_BYTES_MAX)
    except JsonError as problem:
        raise InvalidValueError(str(problem)) from None
