"""Numbers and uuids as bytes that sort as they do: the scalar part of clustering keys.

Every encoding is prefix-free and can be read back. Decimals that are numerically equal are one key (1.0 and
1.00 name the same row in CQL, whose comparison sees no scale) and come back in their shortest plain form.
"""

from __future__ import annotations

from decimal import Decimal

_MASK_64 = 2**64 - 1
_NEGATIVE, _ZERO, _POSITIVE = 0x7F, 0x80, 0x81
_EXPONENT_BYTES = 5
_EXPONENT_BIAS = 2**39
_FLIP = bytes(255 - byte for byte in range(256))
_PLAIN_ZEROS_MAX = 40
_PLAIN_DIGITS_MAX = 2_400
"""Numbers that are longer are not made still longer."""
_EXPONENT_MAX = 2**31
"""The wire has no greater one."""
_TIMEUUID_SIGNS = 0x8080808080808080


def signed(value: int, width: int) -> bytes:
    """An integer of `width` bytes: the sign bit turned over."""
    return (value + (1 << (8 * width - 1))).to_bytes(width, "big")


def part(data: bytes, at: int, width: int) -> bytes:
    """`width` bytes at an offset; raises ValueError if there are fewer."""
    found = data[at : at + width]
    if len(found) != width:
        raise ValueError("the key ends within a component")
    return found


def float_bits(bits: int, width: int) -> bytes:
    """A number of IEEE 754, given as its bits: -inf first, -0.0 before 0.0, one NaN last."""
    top = 1 << (8 * width - 1)
    if bits & (top - 1) > _infinity(width):
        bits = _nan(width)
    return (bits ^ (2 * top - 1) if bits & top else bits ^ top).to_bytes(width, "big")


def unfloat_bits(data: bytes, at: int, width: int) -> int:
    """The bits of a number that `float_bits` encoded."""
    bits = int.from_bytes(part(data, at, width), "big")
    top = 1 << (8 * width - 1)
    return bits ^ top if bits & top else bits ^ (2 * top - 1)


def _infinity(width: int) -> int:
    return 0x7F800000 if width == 4 else 0x7FF0000000000000


def _nan(width: int) -> int:
    return 0x7FC00000 if width == 4 else 0x7FF8000000000000


def varint(value: int) -> bytes:
    """An integer of any size: sign and length of its magnitude in two bytes, then the magnitude."""
    magnitude = abs(value)
    length = (magnitude.bit_length() + 7) // 8
    body = magnitude.to_bytes(length, "big")
    if value >= 0:
        return (0x8000 + length).to_bytes(2, "big") + body
    return (0x8000 - length).to_bytes(2, "big") + body.translate(_FLIP)


def unvarint(data: bytes, at: int) -> tuple[int, int]:
    """What `varint` encoded, and the offset after it."""
    length = int.from_bytes(part(data, at, 2), "big") - 0x8000
    end = at + 2 + abs(length)
    body = part(data, at + 2, abs(length))
    if length >= 0:
        return int.from_bytes(body, "big"), end
    return -int.from_bytes(body.translate(_FLIP), "big"), end


def decimal(value: Decimal) -> bytes:
    """Sign, exponent of the first digit, then two digits a byte (plus one) and a zero byte."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int), "decimals of CQL are finite"
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return bytes((_ZERO,))
    adjusted = exponent + len(text) + _EXPONENT_BIAS
    text = text.rstrip("0")
    text += "0" * (len(text) % 2)
    pairs = bytes(int(text[i : i + 2]) + 1 for i in range(0, len(text), 2))
    body = adjusted.to_bytes(_EXPONENT_BYTES, "big") + pairs + b"\x00"
    if sign:
        return bytes((_NEGATIVE,)) + body.translate(_FLIP)
    return bytes((_POSITIVE,)) + body


def undecimal(data: bytes, at: int) -> tuple[Decimal, int]:
    """A decimal equal to the encoded one, and the offset after it."""
    sign = data[at]
    if sign == _ZERO:
        return Decimal(0), at + 1
    if sign not in (_NEGATIVE, _POSITIVE):
        raise ValueError("not an encoded decimal")
    end_byte = b"\xff" if sign == _NEGATIVE else b"\x00"
    start = at + 1 + _EXPONENT_BYTES
    end = data.index(end_byte, start)
    body = data[at + 1 : end]
    if sign == _NEGATIVE:
        body = body.translate(_FLIP)
    adjusted = int.from_bytes(body[:_EXPONENT_BYTES], "big") - _EXPONENT_BIAS
    text = "".join(f"{pair - 1:02d}" for pair in body[_EXPONENT_BYTES:]).rstrip("0")
    if not text.isdecimal():
        raise ValueError("not an encoded decimal")
    exponent = adjusted - len(text)
    zeros = exponent if 0 < exponent <= _PLAIN_ZEROS_MAX else max(0, exponent - _EXPONENT_MAX)
    if exponent <= _EXPONENT_MAX and len(text) + zeros > _PLAIN_DIGITS_MAX:
        zeros = 0
    text, exponent = text + "0" * zeros, exponent - zeros
    digits = tuple(map(int, text.lstrip("0")))
    return Decimal((int(sign == _NEGATIVE), digits, exponent)), end + 1


def uuid(data: bytes) -> bytes:
    """By version, then by time if there is one (version 1), then by bytes."""
    high, low = int.from_bytes(data[:8], "big"), data[8:]
    version = high >> 12 & 0xF
    if version == 1:
        return _time_first(high) + low
    rest = (high >> 4 & 0x0FFFFFFFFFFFF000) | (high & 0xFFF)
    return (version << 60 | rest).to_bytes(8, "big") + low


def ununiversal(data: bytes, at: int) -> bytes:
    """What `uuid` encoded."""
    coded = int.from_bytes(part(data, at, 8), "big")
    low = part(data, at + 8, 8)
    version = coded >> 60
    if version == 1:
        return _time_last(coded) + low
    high = (coded & 0x0FFFFFFFFFFFF000) << 4 | version << 12 | (coded & 0xFFF)
    return high.to_bytes(8, "big") + low


def timeuuid(data: bytes) -> bytes:
    """By time, then by the other half as signed bytes, which is what CQL has always done."""
    low = int.from_bytes(data[8:], "big") ^ _TIMEUUID_SIGNS
    return _time_first(int.from_bytes(data[:8], "big")) + low.to_bytes(8, "big")


def untimeuuid(data: bytes, at: int) -> bytes:
    """What `timeuuid` encoded."""
    high = _time_last(int.from_bytes(part(data, at, 8), "big"))
    return high + (int.from_bytes(part(data, at + 8, 8), "big") ^ _TIMEUUID_SIGNS).to_bytes(8, "big")


def _time_first(high: int) -> bytes:
    """time_low, time_mid, time_hi and version -> version and time_hi, time_mid, time_low."""
    coded = (high << 48 & _MASK_64) | (high << 16 & 0xFFFF00000000) | high >> 32
    return coded.to_bytes(8, "big")


def _time_last(coded: int) -> bytes:
    high = (coded << 32 & _MASK_64) | (coded >> 16 & 0xFFFF0000) | coded >> 48
    return high.to_bytes(8, "big")
