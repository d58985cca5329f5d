"""date, time, timestamp and duration, and the arithmetic of days that they need.

The calendar is the proleptic Gregorian one, as in CQL: years run from -5877641 to 5881580. A timestamp
without a zone is in UTC, whatever the zone of the machine: the same statement means the same on every peer.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cql_lite import ordered
from cql_lite.ast_terms import DURATION, INTEGER, STRING
from cql_lite.types_base import InvalidValueError, Value, i64
from cql_lite.types_scalar import Scalar
from lsm.keys import escaped, unescaped

DAY_MS = 86_400_000
DAY_NS = 86_400_000_000_000
_DATE_BIAS = 2**31

_DATE = re.compile(r"([+-]?\d{1,7})-(\d{1,2})-(\d{1,2})")
_TIME = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,9}))?")
_TIMESTAMP = re.compile(
    r"([+-]?\d{1,7}-\d{1,2}-\d{1,2})"
    r"(?:[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,9}))?)?)?"
    r" ?(Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
)
_WHOLE = re.compile(r"[+-]?\d{1,20}")


def days_of(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01; after Howard Hinnant, "chrono-compatible low-level date algorithms"."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


def date_of(days: int) -> tuple[int, int, int]:
    """(year, month, day) of days since 1970-01-01; from the same source."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    index = (5 * day_of_year + 2) // 153
    month = index + (3 if index < 10 else -9)
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * index + 2) // 5 + 1


def _days(text: str) -> int | None:
    """Days of a date that exists, else None."""
    match = _DATE.fullmatch(text)
    if not match:
        return None
    year, month, day = map(int, match.groups())
    days = days_of(year, month, day) if 1 <= month <= 12 and 1 <= day <= 31 else None
    return days if days is not None and date_of(days) == (year, month, day) else None


def _date_text(days: int) -> str:
    year, month, day = date_of(days)
    return f"{'-' if year < 0 else ''}{abs(year):04d}-{month:02d}-{day:02d}"


_DAY_MIN, _DAY_MAX = days_of(-9_999_999, 1, 1), days_of(9_999_999, 12, 31)
"""What a date in text can name; timestamps beyond are written as milliseconds."""


class Date(Scalar, frozen=True):
    """Type date: days since 1970-01-01, from -2**31; on the wire unsigned with the epoch at 2**31."""

    literals = (STRING, INTEGER)

    def encode(self, value: Value) -> bytes:
        if type(value) is not int or not -_DATE_BIAS <= value < _DATE_BIAS:
            raise self._wrong_python(value)
        return (value + _DATE_BIAS).to_bytes(4, "big")

    def decode(self, data: bytes) -> int:
        self.check(data)
        return int.from_bytes(data, "big") - _DATE_BIAS

    def parse(self, text: str) -> int:
        if _WHOLE.fullmatch(text):
            return int(text) - _DATE_BIAS
        days = _days(text)
        if days is None:
            raise InvalidValueError(f"Unable to coerce {text!r} to a formatted date (long): write yyyy-mm-dd")
        return days

    def format(self, value: Value) -> str:
        return _date_text(value)

    def key(self, data: bytes) -> bytes:
        return data

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        return ordered.part(data, at, 4), at + 4


class Time(Scalar, frozen=True):
    """Type time: nanoseconds since midnight."""

    literals = (STRING, INTEGER)

    def encode(self, value: Value) -> bytes:
        if type(value) is not int:
            raise self._wrong_python(value)
        if not 0 <= value < DAY_NS:
            raise InvalidValueError(f"a time has 0 to {DAY_NS - 1} nanoseconds, not {value}")
        return i64.pack(value)

    def decode(self, data: bytes) -> int:
        self.check(data)
        return int.from_bytes(data, "big")

    def check(self, data: bytes) -> bytes:
        if len(data) != 8:
            self._wrong_length(data)
        if int.from_bytes(data, "big") >= DAY_NS:
            raise InvalidValueError(f"a time has 0 to {DAY_NS - 1} nanoseconds")
        return data

    def parse(self, text: str) -> int:
        if _WHOLE.fullmatch(text):
            return int(text)
        match = _TIME.fullmatch(text)
        hour, minute, second = map(int, match.groups()[:3]) if match else (24, 0, 0)
        if match is None or hour > 23 or minute > 59 or second > 59:
            raise InvalidValueError(
                f"Unable to coerce {text!r} to a formatted time (long): write hh:mm:ss[.fffffffff]"
            )
        return (hour * 3600 + minute * 60 + second) * 10**9 + int((match[4] or "").ljust(9, "0"))

    def format(self, value: Value) -> str:
        seconds, nanoseconds = divmod(value, 10**9)
        minutes, second = divmod(seconds, 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}.{nanoseconds:09d}"

    def key(self, data: bytes) -> bytes:
        return data

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        return self.check(ordered.part(data, at, 8)), at + 8


class Timestamp(Scalar, frozen=True):
    """Type timestamp: milliseconds since the epoch."""

    literals = (STRING, INTEGER)
    json_kinds = (STRING, INTEGER)

    @property
    def fixed_bytes(self) -> int | None:
        return 8

    def encode(self, value: Value) -> bytes:
        if type(value) is not int or not -(2**63) <= value < 2**63:
            raise self._wrong_python(value)
        return i64.pack(value)

    def decode(self, data: bytes) -> int:
        self.check(data)
        return int.from_bytes(data, "big", signed=True)

    def parse(self, text: str) -> int:
        if _WHOLE.fullmatch(text):
            if not -(2**63) <= int(text) < 2**63:
                raise InvalidValueError(f"Unable to make long from {text!r}")
            return int(text)
        match = _TIMESTAMP.fullmatch(text)
        days = _days(match[1]) if match else None
        if match is None or days is None:
            raise InvalidValueError(
                f"Unable to coerce {text!r} to a formatted date (long): write yyyy-mm-dd hh:mm:ss.fff+zzzz"
            )
        hour, minute, second = (int(part or 0) for part in match.group(2, 3, 4))
        if hour > 23 or minute > 59 or second > 59:
            raise InvalidValueError(
                f"Unable to coerce {text!r} to a formatted date (long): there is no such time of day"
            )
        of_day = (hour * 3600 + minute * 60 + second) * 1000 + int((match[5] or "").ljust(3, "0")[:3])
        return days * DAY_MS + of_day - _zone_ms(match[6])

    def format(self, value: Value) -> str:
        days, of_day = divmod(value, DAY_MS)
        seconds, ms = divmod(of_day, 1000)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        return f"{_date_text(days)} {clock}.{ms:03d}+0000" if _DAY_MIN <= days <= _DAY_MAX else str(value)

    def to_json(self, data: bytes) -> str:
        return f'"{self.format(self.decode(data)).replace("+0000", "Z")}"'

    def key(self, data: bytes) -> bytes:
        return bytes((data[0] ^ 0x80,)) + data[1:]

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        return self.key(ordered.part(data, at, 8)), at + 8


def _zone_ms(zone: str | None) -> int:
    if zone is None or zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "")
    ms = (int(digits[:2]) * 60 + int(digits[2:] or 0)) * 60_000
    return -ms if zone[0] == "-" else ms


# --- durations


class Duration(NamedTuple):
    """Months, days and nanoseconds, all of one sign: none of them has a fixed length in the others."""

    months: int
    days: int
    nanoseconds: int


_UNITS_NS = {
    "h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000,
    "ms": 1_000_000, "us": 1_000, "µs": 1_000, "μs": 1_000, "ns": 1,
}  # fmt: skip
_UNIT_ORDER = {
    "y": 0,
    "mo": 1,
    "w": 2,
    "d": 3,
    "h": 4,
    "m": 5,
    "s": 6,
    "ms": 7,
    "us": 8,
    "µs": 8,
    "μs": 8,
    "ns": 9,
}
_UNIT_WORDS = (
    "years", "months", "weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds",
    "nanoseconds",
)  # fmt: skip
_PART = re.compile(r"(\d{1,19})(mo|ms|us|µs|μs|ns|y|w|d|h|m|s)", re.IGNORECASE)
_PARTS = re.compile(r"(?:\d{1,19}(?:mo|ms|us|µs|μs|ns|y|w|d|h|m|s))+", re.IGNORECASE)
_N = r"(?:(\d{1,19})"
_ISO = re.compile(f"P{_N}Y)?{_N}M)?{_N}D)?(?:T{_N}H)?{_N}M)?{_N}S)?)?")
_ISO_WEEKS = re.compile(r"P(\d{1,19})W")
_ISO_DATE = re.compile(r"P(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})")
_DURATION_BITS = (32, 32, 64)


class DurationType(Scalar, frozen=True):
    """Type duration: `Duration`. It has no order, so it is no key."""

    literals = (DURATION, STRING)
    quotes_literal = False

    @property
    def may_be_key(self) -> bool:
        return False

    def encode(self, value: Value) -> bytes:
        if not isinstance(value, tuple) or len(value) != 3 or any(type(part) is not int for part in value):
            raise self._wrong_python(value)
        _check_duration(*value)
        return b"".join(_vint(part) for part in value)

    def decode(self, data: bytes) -> Duration:
        parts, at = [], 0
        for _ in range(3):
            part, at = _unvint(data, at)
            parts.append(part)
        if at != len(data):
            raise InvalidValueError("a value of type duration has bytes after its end")
        _check_duration(*parts)
        return Duration(*parts)

    def check(self, data: bytes) -> bytes:
        self.decode(data)
        return data

    def parse(self, text: str) -> Duration:
        body = text.removeprefix("-")
        parsed = _parse_iso(body) if body[:1] in ("P", "p") else _parse_units(body)
        if parsed is None:
            raise InvalidValueError(
                f"Unable to convert {text!r} to a duration: write 1y2mo3d4h5m6s or P1Y2M3DT4H5M6S"
            )
        sign = -1 if body != text else 1
        return Duration(*(sign * part for part in parsed))

    def format(self, value: Value) -> str:
        months, days, nanoseconds = (abs(part) for part in value)
        text = "-" if min(value) < 0 else ""
        text += _count(months // 12, "y") + _count(months % 12, "mo") + _count(days, "d")
        for unit in ("h", "m", "s", "ms", "us", "ns"):
            count, nanoseconds = divmod(nanoseconds, _UNITS_NS[unit])
            text += _count(count, unit)
        return text or "0s"

    def key(self, data: bytes) -> bytes:
        """Not an order of lengths: durations in frozen collections are compared as bytes."""
        return escaped(data)

    def unkey(self, data: bytes, at: int) -> tuple[bytes, int]:
        return unescaped(data, at)


def _count(count: int, unit: str) -> str:
    return f"{count}{unit}" if count else ""


def _check_duration(months: int, days: int, nanoseconds: int) -> None:
    parts = (months, days, nanoseconds)
    if min(parts) < 0 < max(parts):
        raise InvalidValueError("the months, days and nanoseconds of a duration have one sign")
    for part, bits in zip(parts, _DURATION_BITS, strict=True):
        if not -(1 << (bits - 1)) <= part < 1 << (bits - 1):
            raise InvalidValueError("a duration has 32 bits of months and of days and 64 of nanoseconds")


def _parse_units(text: str) -> tuple[int, int, int] | None:
    if not _PARTS.fullmatch(text):
        return None
    months = days = nanoseconds = 0
    last = -1
    for count_text, unit in _PART.findall(text):
        count, unit = int(count_text), unit.lower()
        if _UNIT_ORDER[unit] <= last:
            word = _UNIT_WORDS[_UNIT_ORDER[unit]]
            wrong = "are set multiple times" if _UNIT_ORDER[unit] == last else "come too late: longest first"
            raise InvalidValueError(f"Invalid duration. The {word} {wrong}: {text!r}")
        last = _UNIT_ORDER[unit]
        if unit in ("y", "mo"):
            months += count * (12 if unit == "y" else 1)
        elif unit in ("w", "d"):
            days += count * (7 if unit == "w" else 1)
        else:
            nanoseconds += count * _UNITS_NS[unit]
    return months, days, nanoseconds


def _parse_iso(text: str) -> tuple[int, int, int] | None:
    text = text.upper()
    if weeks := _ISO_WEEKS.fullmatch(text):
        return 0, 7 * int(weeks[1]), 0
    match = _ISO_DATE.fullmatch(text) or _ISO.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    return year * 12 + month, day, (hour * 3600 + minute * 60 + second) * 10**9


def _vint(value: int) -> bytes:
    """[vint]: zig-zag, then a count of further bytes in ones at the front; section 3 of the protocol."""
    coded = (value << 1) ^ (value >> 63)
    return unsigned_vint(coded & (2**64 - 1))


def unsigned_vint(coded: int) -> bytes:
    """[unsigned vint] of up to 64 bits."""
    extra = min(8, max(0, coded.bit_length() - 1) // 7)
    data = bytearray(coded.to_bytes(extra + 1, "big"))
    data[0] |= 0xFF << (8 - extra) & 0xFF
    return bytes(data)


def read_unsigned_vint(data: bytes, at: int) -> tuple[int, int]:
    """The [unsigned vint] at this offset and the offset after it; InvalidValueError if it is cut off."""
    if at >= len(data):
        raise InvalidValueError("a number of variable length is cut off")
    first = data[at]
    extra = 8 - (~first & 0xFF).bit_length()
    end = at + 1 + extra
    if end > len(data):
        raise InvalidValueError("a number of variable length is cut off")
    value = first & (0xFF >> extra)
    return value << (8 * extra) | int.from_bytes(data[at + 1 : end], "big"), end


def _unvint(data: bytes, at: int) -> tuple[int, int]:
    coded, end = read_unsigned_vint(data, at)
    return coded >> 1 ^ -(coded & 1), end
