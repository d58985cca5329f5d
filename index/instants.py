"""Instants: text to microseconds since 1970 UTC and back, date mathematics, calendar intervals.

The calendar is the proleptic Gregorian one, for years 0000 to 9999; days are counted after Howard Hinnant,
"chrono-compatible low-level date algorithms". Text is ISO 8601: a year and month, a date, or a date and time
with an optional fraction and zone (none: UTC, or the zone given). A bare year is a number, not a date, unless
a date is asked for. A date may also be written with an English month: `Jun 12 1998`, `12 June 1998`.

Date mathematics is Elasticsearch's: `2024-01-01||+1M/d` or `now-7d/d`; `/` rounds down, or up to the last
microsecond where a range's bound needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from query.zones import UTC_ZONE, Zone, ahead_us, first_instant_of, instant_of, zone_of

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US

_INSTANT = re.compile(
    r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[T ](\d{2})(?::?(\d{2})(?::?(\d{2})(?:[.,](\d{1,9}))?)?)?"
    r" ?(Z|[+-]\d{2}(?::?\d{2})?)?)?)?)?",
    re.ASCII,
)
_MONTH_NAMES: Final = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_MONTHS_BY_NAME: Final = {
    name[:length]: number for number, name in enumerate(_MONTH_NAMES, 1) for length in (3, len(name))
}
_WRITTEN = re.compile(
    r"([A-Za-z]{3,9})\.? (\d{1,2}),? (\d{4})|(\d{1,2}) ([A-Za-z]{3,9})\.?,? (\d{4})", re.ASCII
)
_STEP = re.compile(r"([+-]\d{0,6}|/)([yMwdhHms])", re.ASCII)
_FIXED_US = {
    "w": 7 * DAY_US,
    "d": DAY_US,
    "h": 3600 * SECOND_US,
    "H": 3600 * SECOND_US,
    "m": 60 * SECOND_US,
    "s": SECOND_US,
}
UNITS = {
    "y": "year",
    "M": "month",
    "w": "week",
    "d": "day",
    "h": "hour",
    "H": "hour",
    "m": "minute",
    "s": "second",
}
_CALENDAR_US = {"minute": 60 * SECOND_US, "hour": 3600 * SECOND_US, "day": DAY_US, "second": SECOND_US}
CALENDAR = ("second", "minute", "hour", "day", "week", "month", "quarter", "year")
_MONTHS = {"month": 1, "quarter": 3, "year": 12}


def days_of(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def date_of(days: int) -> tuple[int, int, int]:
    """(year, month, day) of days since 1970-01-01."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    index = (5 * day_of_year + 2) // 153
    month = index + (3 if index < 10 else -9)
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * index + 2) // 5 + 1


def parse_instant(text: str, *, zone: Zone = UTC_ZONE, up: bool = False, year: bool = False) -> int | None:
    """Microseconds of an ISO 8601 instant or of a date with an English month, or None.

    `up`: the last microsecond of what is named, not the first. `year`: four digits alone are a year.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        match = _INSTANT.fullmatch(_numbered(text) or "")
    if match is None:
        return None
    year_text, month, day, hour, minute, second, fraction, offset = match.groups()
    if month is None and not year:
        return None
    days = _days(int(year_text), int(month or 1), int(day or 1))
    seconds = (int(hour or 0) * 60 + int(minute or 0)) * 60 + int(second or 0)
    if days is None or (hour and not (hour <= "23" and (minute or "") <= "59" and (second or "") <= "59")):
        return None
    of = zone_of(offset) if offset else zone
    if of is None:
        return None
    at_us = days * DAY_US + seconds * SECOND_US
    if fraction:
        at_us += int(fraction[:6].ljust(6, "0"))
    elif up:
        units = ("year", "month", "day", "hour", "minute", "second")
        at_us = next_begin(at_us, units[sum(map(bool, match.groups()[:6])) - 1]) - 1
    return (instant_of if up else first_instant_of)(of, at_us)


@lru_cache(maxsize=4_000)
def _days(year: int, month: int, day: int) -> int | None:
    """Days since 1970-01-01 of a date; None if there is no such date."""
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    days = days_of(year, month, day)
    return days if date_of(days) == (year, month, day) else None


def _numbered(text: str) -> str | None:
    """A date with an English month in ISO's form; None if it is no such date."""
    if not text[-4:].isdecimal():
        return None
    match = _WRITTEN.fullmatch(text)
    if match is None:
        return None
    month = _MONTHS_BY_NAME.get((match[1] or match[5]).lower())
    if month is None:
        return None
    return f"{match[3] or match[6]}-{month:02}-{match[2] or match[4]:0>2}"


def begin_of(at_us: int, unit: str) -> int:
    """When the calendar unit that holds this instant began, in UTC."""
    if unit in _CALENDAR_US:
        return at_us - at_us % _CALENDAR_US[unit]
    days = at_us // DAY_US
    if unit == "week":  # 1970-01-01 was a Thursday
        return (days - (days + 3) % 7) * DAY_US
    year, month, _ = date_of(days)
    months = _MONTHS[unit]
    return days_of(year, (month - 1) // months * months + 1, 1) * DAY_US


def next_begin(at_us: int, unit: str) -> int:
    """When the next calendar unit begins, in UTC."""
    begin_us = begin_of(at_us, unit)
    if unit in _CALENDAR_US:
        return begin_us + _CALENDAR_US[unit]
    if unit == "week":
        return begin_us + 7 * DAY_US
    return add_months(begin_us, _MONTHS[unit])


def add_months(at_us: int, months: int) -> int:
    """So many months later; a day that is not there becomes the month's last."""
    days, rest_us = divmod(at_us, DAY_US)
    year, month, day = date_of(days)
    year, month = divmod(year * 12 + month - 1 + months, 12)
    last = days_of(year + month // 11, (month + 1) % 12 + 1, 1) - days_of(year, month + 1, 1)
    return days_of(year, month + 1, min(day, last)) * DAY_US + rest_us


def read_iso(text: str, zone: Zone, up: bool) -> int | None:
    """The date that a text is where one is asked for."""
    return parse_instant(text, zone=zone, up=up, year=True)


def resolve_date(
    text: str,
    now_us: int,
    *,
    zone: Zone = UTC_ZONE,
    up: bool = False,
    read: Callable[[str, Zone, bool], int | None] = read_iso,
) -> int | None:
    """Microseconds of a date with date mathematics, or None if it is none. `now_us` is what `now` means,
    `read` how the date itself is written.
    """
    if text.startswith("now"):
        at_us, steps = now_us, text[3:]
    else:
        base, bars, steps = text.partition("||")
        found = read(base, zone, up and not bars)
        if found is None:
            return None
        at_us = found
    position = 0
    while position < len(steps):
        match = _STEP.match(steps, position)
        if match is None:
            return None
        position = match.end()
        at_us = _stepped(at_us, match[1], match[2], up, zone)
    return at_us if abs(at_us) < 2**62 else None


def _stepped(at_us: int, sign: str, unit: str, up: bool, zone: Zone) -> int:
    if sign == "/":
        return _rounded(at_us, UNITS[unit], up, zone)
    amount = int(sign if len(sign) > 1 else sign + "1")
    if unit in _FIXED_US:
        return at_us + amount * _FIXED_US[unit]
    months = max(-120_000, min(120_000, amount * (12 if unit == "y" else 1)))
    return add_months(at_us, months)


def _rounded(at_us: int, unit: str, up: bool, zone: Zone) -> int:
    """When the unit that holds this instant begins by the clocks of a zone, or ends. An hour that comes twice
    is two, a day begins when its first moment comes first and ends when its last one comes last.
    """
    ahead = ahead_us(zone, at_us)
    local_us = next_begin(at_us + ahead, unit) - 1 if up else begin_of(at_us + ahead, unit)
    if unit in ("hour", "minute", "second") and ahead_us(zone, local_us - ahead) == ahead:
        return local_us - ahead
    return (instant_of if up else first_instant_of)(zone, local_us)


def format_instant(at_us: int) -> str:
    """ISO 8601 in UTC, with milliseconds (microseconds if there are any): as Elasticsearch shows dates."""
    days, rest_us = divmod(at_us, DAY_US)
    year, month, day = date_of(days)
    seconds, fraction = divmod(rest_us, SECOND_US)
    shown = f"{fraction:06d}" if fraction % 1000 else f"{fraction // 1000:03d}"
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{year:04d}-{month:02d}-{day:02d}T{clock}.{shown}Z"
