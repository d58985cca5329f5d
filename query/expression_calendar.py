"""Calendars in expressions: `$dateAdd $dateSubtract $dateDiff $dateTrunc $dateFromParts $toDate`.

Dates are texts as of ISO 8601; what is made of one has its time zone (Z if it has none), and milliseconds. A
month's end stays one: a month after 31 January is the last of February. `$dateDiff` counts how often a year,
a day or whatever the unit is has begun between two dates, in UTC, as MongoDB does.

A moment is microseconds since 1970 in the proleptic Gregorian calendar; the years 1 to 9999 are taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from query.document_values import MISSING, Value
from query.expression_functions import Function, date_parts, is_nothing
from query.numbers import NotComputableError, whole
from query.refusals import shown

_REST: Final = re.compile(r"(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?$", re.ASCII)
_DAY_US: Final = 86_400_000_000
_FIXED: Final = {
    "week": 7 * _DAY_US,
    "day": _DAY_US,
    "hour": 3_600_000_000,
    "minute": 60_000_000,
    "second": 1_000_000,
    "millisecond": 1_000,
}
_MONTHS: Final = {"year": 12, "quarter": 3, "month": 1}
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTH_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS_PER_400_YEARS: Final = 146_097
AMOUNT_MAX: Final = 10**15
"""More than all the milliseconds that there are."""
NO_DATE: Final = "there is no such date: years are 1 to 9999, and days those of their month"


# --- days and months


def _days_in(year: int, month: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if month == 2 and leap else _MONTH_DAYS[month - 1]


def _day_number(year: int, month: int, day: int) -> int:
    """Days since 1970. Years begin in March here, so that the leap day is their last."""
    if month < 3:
        year, month = year - 1, month + 12
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * _DAYS_PER_400_YEARS + day_of_era - 719_468


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a number of days since 1970."""
    era, day_of_era = divmod(days + 719_468, _DAYS_PER_400_YEARS)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return year_of_era + era * 400 + (month <= 2), month, day


def _moment(year: int, month: int, day: int = 1, clock_us: int = 0) -> int:
    if not (1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= _days_in(year, month)):
        raise NotComputableError(NO_DATE)
    return _checked(_day_number(year, month, day) * _DAY_US + clock_us)


_FIRST_US: Final = _day_number(1, 1, 1) * _DAY_US
_END_US: Final = _day_number(10_000, 1, 1) * _DAY_US


def _checked(at_us: int) -> int:
    if not _FIRST_US <= at_us < _END_US:
        raise NotComputableError(NO_DATE)
    return at_us


def _clock_us(parts: Sequence[int]) -> int:
    hour, minute, second = parts
    return ((hour * 60 + minute) * 60 + second) * 1_000_000


# --- texts


def _read(value: Value) -> tuple[int, str] | None:
    """The moment as it is written, as if that were in UTC, and its zone."""
    parts = date_parts(value)
    if parts is None:
        return None
    found = _REST.search(value if len(value) > 10 else "")
    fraction, zone = (found[1] or "", found[2] or "Z") if found else ("", "Z")
    below_us = int(fraction[:6].ljust(6, "0"))
    return _moment(parts[0], parts[1], parts[2], _clock_us(parts[3:6]) + below_us), zone


def in_utc(value: Value) -> int | None:
    """The moment that a date's text means; None of nothing."""
    found = _read(value)
    if found is None:
        return None
    at_us, zone = found
    if zone == "Z":
        return at_us
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return _checked(at_us + (-minutes if zone[0] == "+" else minutes) * _FIXED["minute"])


def moment_text(at_us: int, zone: str = "Z") -> str:
    """A moment as text of ISO 8601, to the millisecond, with what is said to be its zone."""
    days, below_us = divmod(_checked(at_us), _DAY_US)
    year, month, day = _civil(days)
    seconds, rest_us = divmod(below_us, 1_000_000)
    minutes, second = divmod(seconds, 60)
    clock = f"{minutes // 60:02}:{minutes % 60:02}:{second:02}.{rest_us // 1000:03}"
    return f"{year:04}-{month:02}-{day:02}T{clock}{zone}"


# --- functions


def _unit(value: Value) -> str:
    if not isinstance(value, str) or (value not in _FIXED and value not in _MONTHS):
        raise NotComputableError(f"a unit is one of {', '.join((*_MONTHS, *_FIXED))}; found {shown(value)}")
    return value


def _added(sign: int) -> Function:
    def apply(date: Value, unit: Value, amount: Value) -> Value:
        found = _read(date)
        if found is None or is_nothing(unit) or is_nothing(amount):
            return None
        at_us, zone = found
        name, number = _unit(unit), whole(amount)
        if number is None or abs(number) > AMOUNT_MAX:
            raise NotComputableError(f"an amount is a whole number to {AMOUNT_MAX}; found {shown(amount)}")
        number *= sign
        if name in _FIXED:
            return moment_text(at_us + _FIXED[name] * number, zone)
        days, below_us = divmod(at_us, _DAY_US)
        year, month, day = _civil(days)
        year, month = divmod(year * 12 + month - 1 + _MONTHS[name] * number, 12)
        last = _days_in(year, month + 1)
        return moment_text(_moment(year, month + 1, min(day, last), below_us), zone)

    return apply


def later(date: Value, milliseconds: int) -> Value:
    """The date so many milliseconds after another, in its time zone."""
    return _added(1)(date, "millisecond", milliseconds)


def _weekday(value: Value) -> int:
    """That a week begins with: 0 is Monday."""
    if value is MISSING or value is None:
        return _WEEKDAYS.index("sunday")
    for at, name in enumerate(_WEEKDAYS):
        if isinstance(value, str) and len(value) > 2 and name.startswith(value.lower()):
            return at
    raise NotComputableError(f"startOfWeek is the name of a day; found {shown(value)}")


def _begun(at_us: int, unit: str, weekday: int) -> int:
    """How many of the unit have begun by then."""
    days = at_us // _DAY_US
    if unit in _MONTHS:
        year, month, _ = _civil(days)
        return (year * 12 + month - 1) // _MONTHS[unit]
    if unit == "week":
        return (days + 3 - weekday) // 7  # 1970 began with a Thursday
    return at_us // _FIXED[unit]


def _difference(start: Value, end: Value, unit: Value, first: Value) -> Value:
    one, other = in_utc(start), in_utc(end)
    if one is None or other is None or is_nothing(unit):
        return None
    name, weekday = _unit(unit), _weekday(first)
    return _begun(other, name, weekday) - _begun(one, name, weekday)


_BINS_US: Final = _day_number(2000, 1, 1) * _DAY_US
"""Where bins of `$dateTrunc` begin, as MongoDB's; 2000 began with a Saturday."""


def _truncated(date: Value, unit: Value, size: Value, first: Value) -> Value:
    found = _read(date)
    if found is None or is_nothing(unit):
        return None
    at_us, zone = found
    name, count = _unit(unit), 1 if size is MISSING else whole(size)
    if count is None or not 1 <= count <= AMOUNT_MAX:
        raise NotComputableError(f"binSize is a whole number above 0; found {shown(size)}")
    if name in _MONTHS:
        year, month, _ = _civil(at_us // _DAY_US)
        months = (year - 2000) * 12 + month - 1
        months -= months % (_MONTHS[name] * count)
        return moment_text(_moment(2000 + months // 12, months % 12 + 1), zone)
    origin_us = _BINS_US
    if name == "week":
        origin_us += (_weekday(first) - _WEEKDAYS.index("saturday")) % 7 * _DAY_US
    return moment_text(at_us - (at_us - origin_us) % (_FIXED[name] * count), zone)


def _from_parts(year: Value, week_year: Value, *rest: Value) -> Value:
    """Of a year, month and day, or of ISO 8601's year, week and day of the week, and a time: MongoDB's, where
    a 13th month is the next year's first and the 0th day the last of the month before.
    """
    has_weeks = week_year is not MISSING
    if has_weeks == (year is not MISSING) or any(rest[at] is not MISSING for at in _OTHERS[has_weeks]):
        raise NotComputableError("a date has a year, month and day, or an isoWeekYear, isoWeek, isoDayOfWeek")
    parts = (week_year, rest[2], rest[3]) if has_weeks else (year, rest[0], rest[1])
    if any(part is None for part in (*parts, *rest[4:])):
        return None
    fields: list[int] = []
    for part, default in zip((*parts, *rest[4:]), (1, 1, 1, 0, 0, 0, 0), strict=True):
        number = default if part is MISSING else whole(part)
        if number is None or abs(number) > AMOUNT_MAX:
            raise NotComputableError(f"a date's parts are whole numbers; found {shown(part)}")
        fields.append(number)
    clock_us = _clock_us(fields[3:6]) + fields[6] * 1000
    if has_weeks:
        fourth = _moment(fields[0], 1, 4) // _DAY_US  # lies in the first week
        days = fourth - (fourth + 3) % 7 + (fields[1] - 1) * 7 + fields[2] - 1
    else:
        months = fields[0] * 12 + fields[1] - 1
        days = _moment(months // 12, months % 12 + 1) // _DAY_US + fields[2] - 1
    return moment_text(days * _DAY_US + clock_us, "Z")


_OTHERS: Final = {False: (2, 3), True: (0, 1)}
"""Of the parts after the years those that a date by months, or one by weeks, does not have."""


def to_date(value: Value) -> Value:
    """A date's text in UTC, to the millisecond; of a number, so many milliseconds after 1970."""
    number = whole(value)
    at_us = number * 1000 if number is not None else in_utc(value)
    return None if at_us is None else moment_text(at_us, "Z")


FUNCTIONS: Final[dict[str, tuple[int, int, Function]]] = {"$toDate": (1, 1, to_date)}
"""As those of query/expression_functions.py."""

NAMED: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., Value]]]] = {
    "$dateAdd": (("startDate", "unit", "amount"), (), _added(1)),
    "$dateSubtract": (("startDate", "unit", "amount"), (), _added(-1)),
    "$dateDiff": (("startDate", "endDate", "unit"), ("startOfWeek",), _difference),
    "$dateTrunc": (("date", "unit"), ("binSize", "startOfWeek"), _truncated),
    "$dateFromParts": (
        (),
        (
            "year",
            "isoWeekYear",
            "month",
            "day",
            "isoWeek",
            "isoDayOfWeek",
            *("hour", "minute", "second", "millisecond"),
        ),
        _from_parts,
    ),
}
"""As those of query/expression_library.py; query/expression_zones.py gives each a time zone."""
