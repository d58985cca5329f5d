"""Forms in which dates are written, as Elasticsearch names them: `yyyy-MM-dd HH:mm`, `epoch_millis`, and
several with `||` between them, of which the first that fits is read and the first of all is shown.

Letters stand for parts: y or u (year), M (month; MMM and MMMM by English name), d, H (0 to 23), h (1 to 12)
with a (AM or PM), m, s, S (fractions), D (day of the year), E (weekday, shown only), X, x or Z (zone); what
is between apostrophes stands for itself. Each letter is a digit; a single one takes one or two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from index.instants import (
    DAY_US,
    SECOND_US,
    date_of,
    days_of,
    format_instant,
    next_begin,
    read_iso,
)
from query.zones import Zone, ahead_us, first_instant_of, instant_of, zone_of

FORMAT_CHARS_MAX: Final = 200
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NAMED: Final = {
    "date": "yyyy-MM-dd", "year": "yyyy", "year_month": "yyyy-MM", "year_month_day": "yyyy-MM-dd",
    "basic_date": "yyyyMMdd", "date_hour_minute_second": "yyyy-MM-dd'T'HH:mm:ss", "hour_minute": "HH:mm",
    "date_hour_minute": "yyyy-MM-dd'T'HH:mm", "date_time": "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "date_time_no_millis": "yyyy-MM-dd'T'HH:mm:ssXXX", "basic_date_time": "yyyyMMdd'T'HHmmss.SSSXX",
    "basic_date_time_no_millis": "yyyyMMdd'T'HHmmssXX",
}  # fmt: skip
_ISO: Final = ("date_optional_time", "date_time_optional", "iso8601", "date_optional_time_nanos")
_PART = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")
_EPOCH = re.compile(r"-?\d{1,18}(?:\.\d{1,6})?", re.ASCII)
_UNITS: Final = ("year", "month", "day", "hour", "minute", "second")

Read = Callable[[str, Zone, bool], int | None]
Show = Callable[[int, Zone], str]


class DateFormat(msgspec.Struct, frozen=True):
    """`read(text, zone, up)` gives microseconds (with `up` the last of what is named), or None; `show(at_us,
    zone)` text.
    """

    read: Read
    show: Show


@lru_cache(200)
def date_format(text: str) -> DateFormat | str:
    """The form that this text describes, or what is wrong with it."""
    if not text or len(text) > FORMAT_CHARS_MAX:
        return f"a date format has 1 to {FORMAT_CHARS_MAX} characters"
    found: list[DateFormat] = []
    for each in text.split("||"):
        one = _single(each.strip())
        if isinstance(one, str):
            return one
        found.append(one)

    def read(value: str, zone: Zone, up: bool) -> int | None:
        return next((at for one in found if (at := one.read(value, zone, up)) is not None), None)

    return found[0] if len(found) == 1 else DateFormat(read, found[0].show)


def _single(text: str) -> DateFormat | str:
    name = text.removeprefix("strict_")
    if name in _ISO:
        return DateFormat(read_iso, shown_iso)
    if name in ("epoch_millis", "epoch_second"):
        unit_us = 1_000 if name == "epoch_millis" else SECOND_US
        return DateFormat(_read_epoch(unit_us), _shown_epoch(unit_us))
    return _pattern(_NAMED.get(name, text))


def shown_iso(at_us: int, zone: Zone) -> str:
    """ISO 8601 with the zone's offset, as Elasticsearch shows dates."""
    ahead = ahead_us(zone, at_us)
    text = format_instant(at_us + ahead)
    return text if not ahead else text[:-1] + _offset(ahead, ":")


def _read_epoch(unit_us: int) -> Read:
    def read(value: str, _zone: Zone, _up: bool) -> int | None:
        return int(float(value) * unit_us) if _EPOCH.fullmatch(value) else None

    return read


def _shown_epoch(unit_us: int) -> Show:
    return lambda at_us, zone: str(at_us // unit_us)  # noqa: ARG005


def _offset(ahead: int, colon: str, *, utc: str = "") -> str:
    if not ahead and utc:
        return utc
    minutes = abs(ahead) // (60 * SECOND_US)
    return f"{'-' if ahead < 0 else '+'}{minutes // 60:02}{colon}{minutes % 60:02}"


# --- patterns


class _Clock(msgspec.Struct, frozen=True):
    """A moment as the clocks of a zone show it."""

    year: int
    month: int
    day: int
    days: int
    seconds: int
    below_us: int
    ahead_us: int


_Shower = Callable[[_Clock], str]

_DIGITS: Final[dict[str, tuple[str, Callable[[_Clock], int]]]] = {
    "M": ("month", lambda clock: clock.month),
    "d": ("day", lambda clock: clock.day),
    "H": ("hour", lambda clock: clock.seconds // 3600),
    "h": ("hour12", lambda clock: (clock.seconds // 3600 + 11) % 12 + 1),
    "m": ("minute", lambda clock: clock.seconds // 60 % 60),
    "s": ("second", lambda clock: clock.seconds % 60),
    "D": ("yearday", lambda clock: clock.days - days_of(clock.year, 1, 1) + 1),
}


def _pattern(text: str) -> DateFormat | str:
    regex: list[str] = []
    shows: list[_Shower] = []
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            return f"an apostrophe is not closed in the date format {text[:60]!r}"
        at = match.end()
        letter, part = match[2], match[0]
        if letter is None:
            plain = (
                "'" if part == "''" else (match[1] or "").replace("''", "'") if match[1] is not None else part
            )
            regex.append(re.escape(plain))
            shows.append(_constant(plain))
            continue
        known = _letters(letter, len(part))
        if known is None:
            return f"there is no {part[:20]!r} in date formats, or there is no date format {text[:60]!r}"
        regex.append(known[0])
        shows.append(known[1])
    try:
        fits = re.compile("".join(regex), re.ASCII | re.IGNORECASE).fullmatch
    except re.error:
        return f"a part comes twice in the date format {text[:60]!r}"

    def read(value: str, zone: Zone, up: bool) -> int | None:
        found = fits(value) if len(value) <= FORMAT_CHARS_MAX else None
        return None if found is None else _instant(found.groupdict(), zone, up)

    return DateFormat(read, lambda at_us, zone: "".join(show(_clock(at_us, zone)) for show in shows))


def _constant(text: str) -> _Shower:
    return lambda _clock: text


def _letters(letter: str, count: int) -> tuple[str, _Shower] | None:
    """The regular expression and the text of so many of a letter; None if there is none."""
    if letter in "yu":
        if count == 2:
            return r"(?P<year2>\d{2})", lambda clock: f"{clock.year % 100:02}"
        return r"(?P<year>\d{4})", lambda clock: f"{clock.year:04}"
    if letter == "M" and count in (3, 4):
        names = [name[:3] if count == 3 else name for name in _MONTHS]
        return f"(?P<name>{'|'.join(names)})", lambda clock: names[clock.month - 1]
    if letter == "E" and count <= 4:
        days = [name[:3] if count < 4 else name for name in _WEEKDAYS]
        return f"(?:{'|'.join(days)})", lambda clock: days[(clock.days + 3) % 7]
    if letter == "S" and count <= 9:
        return rf"(?P<fraction>\d{{{count}}})", lambda clock: f"{clock.below_us:06}000"[:count]
    if letter == "a" and count == 1:
        return "(?P<half>AM|PM)", lambda clock: "AM" if clock.seconds < 43_200 else "PM"
    if letter in "XxZ" and count <= 3:
        colon, utc = (":" if count == 3 else ""), ("Z" if letter == "X" else "")
        return r"(?P<zone>Z|[+-]\d{2}(?::?\d{2})?)", lambda clock: _offset(clock.ahead_us, colon, utc=utc)
    found = _DIGITS.get(letter)
    if found is None or count > (3 if letter == "D" else 2):
        return None
    name, value = found
    digits = rf"\d{{{count}}}" if count > 1 else r"\d{1,3}" if letter == "D" else r"\d{1,2}"
    return f"(?P<{name}>{digits})", lambda clock: f"{value(clock):0{count}}"


def _clock(at_us: int, zone: Zone) -> _Clock:
    ahead = ahead_us(zone, at_us)
    days, rest_us = divmod(at_us + ahead, DAY_US)
    seconds, below_us = divmod(rest_us, SECOND_US)
    return _Clock(*date_of(days), days, seconds, below_us, ahead)


def _instant(given: dict[str, str | None], zone: Zone, up: bool) -> int | None:
    """Microseconds of what was read; None if there is no such date."""
    found = {name: int(text) for name, text in given.items() if text and text.isdecimal()}
    year = found.get("year", 1970)
    if "year2" in found:
        year = 2000 + found["year2"]
    month = found.get("month", 1)
    if given.get("name"):
        month = next(
            i for i, name in enumerate(_MONTHS, 1) if name[:3].lower() == str(given["name"])[:3].lower()
        )
    hour = found.get("hour", 0)
    if "hour12" in found:
        hour = found["hour12"] % 12 + (12 if str(given.get("half")).upper() == "PM" else 0)
    minute, second, day = found.get("minute", 0), found.get("second", 0), found.get("day", 1)
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60):
        return None
    days = days_of(year, month, day)
    if date_of(days) != (year, month, day):
        return None
    days += found.get("yearday", 1) - 1
    if "yearday" in found and date_of(days)[0] != year:
        return None
    local_us = days * DAY_US + ((hour * 60 + minute) * 60 + second) * SECOND_US
    if given.get("fraction"):
        local_us += int(str(given["fraction"])[:6].ljust(6, "0"))
    elif up and (finest := _finest(given)):
        local_us = next_begin(local_us, finest) - 1
    named = given.get("zone")
    of = zone if named is None else zone_of(named.upper())
    return None if of is None else (instant_of if up else first_instant_of)(of, local_us)


_PARTS_OF: Final = (
    ("year", "year2"), ("month", "name"), ("day", "yearday"), ("hour", "hour12"), ("minute",), ("second",),
)  # fmt: skip


def _finest(given: dict[str, str | None]) -> str:
    """The least unit that was named; "" if none was."""
    named = [unit for unit, names in zip(_UNITS, _PARTS_OF, strict=True) if any(map(given.get, names))]
    return named[-1] if named else ""
