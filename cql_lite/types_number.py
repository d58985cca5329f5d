"""Integers, varint, decimal, float and double."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation
from struct import Struct

from core.limits import NUMBER_BYTES_MAX, NUMBER_DIGITS_MAX
from cql_lite import ordered
from cql_lite.ast_terms import FLOAT, INTEGER, STRING
from cql_lite.types_base import InvalidValueError, Type, Value, i32
from cql_lite.types_scalar import WHOLE, Scalar, shown

_REAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,12})?")
_JAVA = {"tinyint": "byte", "smallint": "short", "bigint": "long", "counter": "long"}
"""What Cassandra calls them in errors."""
_REAL_NAMES = {
    "nan": math.nan, "-nan": math.nan, "infinity": math.inf, "+infinity": math.inf, "-infinity": -math.inf,
}  # fmt: skip


class Integer(Scalar, frozen=True):
    """tinyint, smallint, int, bigint, counter: int. All but int and bigint are written with a length in
    vectors.
    """

    literals = (INTEGER,)
    json_kinds = (INTEGER, STRING)
    quotes_literal = False
    quotes_json = False

    @property
    def fixed_bytes(self) -> int | None:
        return self.width if self.width in (4, 8) else None

    @property
    def may_be_key(self) -> bool:
        return self.name != "counter"

    def encode(self, value: Value) -> bytes:
        if type(value) is not int:
            raise self._wrong_python(value)
        assert self.width is not None
        try:
            return value.to_bytes(self.width, "big", signed=True)
        except OverflowError:
            word = _JAVA.get(self.name, self.name)
            raise InvalidValueError(
                f"Unable to make {word} from '{_whole_text(value)}': it is out of range for type {self}"
            ) from None

    def decode(self, data: bytes) -> int:
        self.check(data)
        return int.from_bytes(data, "big", signed=True)

    def parse(self, text: str) -> int:
        return parse_whole(text, self)

    def format(self, value: Value) -> str:
        return str(value)

    def key(self, data: bytes) -> bytes:
        return bytes((data[0] ^ 0x80,)) + data[1:]

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        assert self.width is not None
        return self.key(ordered.part(data, at, self.width)), at + self.width


def parse_whole(text: str, of: Type) -> int:
    """An integer of bounded length; raises InvalidValueError."""
    if not WHOLE.fullmatch(text) or len(text) > NUMBER_DIGITS_MAX:
        raise InvalidValueError(f"Unable to make {_JAVA.get(of.cql, of.cql)} from {shown(text)}")
    return int(text)


def _whole_text(value: int) -> str:
    return str(value) if value.bit_length() <= 256 else f"an integer of {value.bit_length()} bits"


class Varint(Scalar, frozen=True):
    """Type varint: int, to `NUMBER_BYTES_MAX` bytes."""

    literals = (INTEGER,)
    json_kinds = (INTEGER, STRING)
    quotes_literal = False
    quotes_json = False

    def encode(self, value: Value) -> bytes:
        if type(value) is not int:
            raise self._wrong_python(value)
        return varint_bytes(value, self)

    def decode(self, data: bytes) -> int:
        self.check(data)
        return int.from_bytes(data, "big", signed=True)

    def check(self, data: bytes) -> bytes:
        if not 0 < len(data) <= NUMBER_BYTES_MAX:
            raise InvalidValueError(
                f"a value of type {self} has 1 to {NUMBER_BYTES_MAX} bytes, not {len(data)}"
            )
        return data

    def parse(self, text: str) -> int:
        return parse_whole(text, self)

    def format(self, value: Value) -> str:
        return str(value)

    def key(self, data: bytes) -> bytes:
        return ordered.varint(self.decode(data))

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        value, end = ordered.unvarint(data, at)
        return self.encode(value), end


def varint_bytes(value: int, of: Type) -> bytes:
    """The shortest two's complement of an integer; raises InvalidValueError beyond the limit."""
    width = (value if value >= 0 else ~value).bit_length() // 8 + 1
    if width > NUMBER_BYTES_MAX:
        raise InvalidValueError(f"a number in type {of} has at most {NUMBER_BYTES_MAX} bytes, not {width}")
    return value.to_bytes(width, "big", signed=True)


class DecimalType(Scalar, frozen=True):
    """Type decimal: Decimal; the wire has a 32-bit scale and the unscaled varint."""

    literals = (INTEGER, FLOAT)
    json_kinds = (INTEGER, FLOAT, STRING)
    quotes_literal = False
    quotes_json = False

    def encode(self, value: Value) -> bytes:
        if type(value) is int:
            return b"\x00\x00\x00\x00" + varint_bytes(value, self)
        if not isinstance(value, Decimal) or not value.is_finite():
            raise self._wrong_python(value)
        sign, digits, exponent = value.as_tuple()
        assert isinstance(exponent, int)
        if not -(2**31) <= -exponent < 2**31 or len(digits) > NUMBER_DIGITS_MAX:
            raise InvalidValueError("a decimal has a 32-bit scale and a bounded number of digits")
        unscaled = int("".join(map(str, digits)) or "0")
        return i32.pack(-exponent) + varint_bytes(-unscaled if sign else unscaled, self)

    def decode(self, data: bytes) -> Decimal:
        self.check(data)
        unscaled = int.from_bytes(data[4:], "big", signed=True)
        digits = tuple(map(int, str(abs(unscaled))))
        return Decimal((int(unscaled < 0), digits, -i32.unpack_from(data)[0]))

    def check(self, data: bytes) -> bytes:
        if not 5 <= len(data) <= NUMBER_BYTES_MAX + 4:
            raise InvalidValueError(
                f"a value of type decimal has 5 to {NUMBER_BYTES_MAX + 4} bytes, not {len(data)}"
            )
        return data

    def parse(self, text: str) -> Decimal:
        if not _REAL.fullmatch(text) or len(text) > NUMBER_DIGITS_MAX:
            raise self._refuse(text)
        try:
            return Decimal(text)
        except InvalidOperation:
            raise self._refuse(text) from None

    def format(self, value: Value) -> str:
        return str(value)

    def key(self, data: bytes) -> bytes:
        return ordered.decimal(self.decode(data))

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        value, end = ordered.undecimal(data, at)
        return self.encode(value), end


_PACKERS = {4: Struct(">f"), 8: Struct(">d")}


class Float(Scalar, frozen=True):
    """Types float and double: float."""

    literals = (INTEGER, FLOAT)
    json_kinds = (INTEGER, FLOAT, STRING)
    quotes_literal = False
    quotes_json = False

    @property
    def fixed_bytes(self) -> int | None:
        return self.width

    def encode(self, value: Value) -> bytes:
        if type(value) is not float and type(value) is not int:
            raise self._wrong_python(value)
        assert self.width is not None
        try:
            return _PACKERS[self.width].pack(value)
        except OverflowError:
            raise InvalidValueError(f"the number is out of range for type {self}") from None

    def decode(self, data: bytes) -> float:
        self.check(data)
        value: float = _PACKERS[len(data)].unpack(data)[0]
        return value

    def parse(self, text: str) -> float:
        named = _REAL_NAMES.get(text.lower())
        if named is not None:
            return named
        if not _REAL.fullmatch(text) or len(text) > NUMBER_DIGITS_MAX:
            raise self._refuse(text)
        value = float(text)
        if math.isinf(value):
            raise InvalidValueError(f"Unable to make {self} from {shown(text)}: it is out of range")
        return value

    def format(self, value: Value) -> str:
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return repr(value) if self.width == 8 else _shortest_single(value)

    def to_json(self, data: bytes) -> str:
        value = self.decode(data)
        return as_java(self.format(value)) if math.isfinite(value) else "null"

    def key(self, data: bytes) -> bytes:
        return ordered.float_bits(int.from_bytes(data, "big"), len(data))

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        assert self.width is not None
        bits = ordered.unfloat_bits(data, at, self.width)
        return bits.to_bytes(self.width, "big"), at + self.width


def as_java(text: str) -> str:
    """A finite number's digits as Cassandra writes them: with an exponent from 10^7 on and below 10^-3."""
    sign, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    figures = "".join(map(str, digits)).rstrip("0") or "0"
    point = len(digits) + exponent  # digits before the decimal point
    head = "-" if sign else ""
    if figures == "0":
        return f"{head}0.0"
    if -3 < point <= 7:
        whole, part = figures[: max(point, 0)].ljust(max(point, 0), "0"), figures[max(point, 0) :]
        return f"{head}{whole or '0'}.{'0' * -min(point, 0)}{part or '0'}"
    return f"{head}{figures[0]}.{figures[1:] or '0'}E{point - 1}"


def _shortest_single(value: float) -> str:
    """The fewest digits that read back as the same single-precision number."""
    packer = _PACKERS[4]
    wanted = packer.pack(value)
    for digits in range(1, 9):
        near = float(f"{value:.{digits}g}")
        if abs(near) <= 3.4028234663852886e38 and packer.pack(near) == wanted:
            return repr(near)
    return repr(float(f"{value:.9g}"))
