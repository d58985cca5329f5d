"""Calendars in expressions: `$dateAdd $dateSubtract $dateDiff $dateTrunc $dateFromParts $toDate`.

Dates are texts as of ISO 8601; what is made of one has its time zone (Z if it has none), and milliseconds. A
month's end stays one: a month after 31 January is the last of February. `$dateDiff` counts how often a year,
a day or whatever the unit is has begun between two dates, in UTC, as MongoDB does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from query.document_values import MISSING, Value
from query.expression_functions import Function, date_parts, is_nothing
from query.numbers import NotComputableError, whole
from query.refusals import shown

_REST: Final = re.compile(r"(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?$", re.ASCII)
_FIXED: Final = {
    "week": timedelta(days=7),
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
    "minute": timedelta(minutes=1),
    "second": timedelta(seconds=1),
    "millisecond": timedelta(milliseconds=1),
}
_MONTHS: Final = {"year": 12, "quarter": 3, "month": 1}
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
AMOUNT_MAX: Final = 10**12


def _moment(year: int, month: int, day: int = 1, clock: Sequence[int] = (0, 0, 0, 0)) -> datetime:
    """The moment; `clock` is hours, minutes, seconds and microseconds, which carry over."""
    hour, minute, second, microsecond = clock
    of_day = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microsecond)
    return datetime(year, month, day, tzinfo=UTC) + of_day


def _read(value: Value) -> tuple[datetime, str] | None:
    """The time as it is written, as if that were in UTC, and its zone."""
    parts = date_parts(value)
    if parts is None:
        return None
    found = _REST.search(value if len(value) > 10 else "")
    fraction, zone = (found[1] or "", found[2] or "Z") if found else ("", "Z")
    try:
        microsecond = int(fraction[:6].ljust(6, "0"))
        return _moment(parts[0], parts[1], parts[2], (*parts[3:6], microsecond)), zone
    except ValueError:
        raise NotComputableError(f"there is no such date: {shown(value)}") from None


def _in_utc(value: Value) -> datetime | None:
    found = _read(value)
    if found is None:
        return None
    at, zone = found
    if zone == "Z":
        return at
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return _moved(at, timedelta(minutes=-minutes if zone[0] == "+" else minutes))


def _moved(at: datetime, by: timedelta) -> datetime:
    try:
        return at + by
    except OverflowError:
        raise NotComputableError("there is no such date: years are 1 to 9999") from None


def _text(at: datetime, zone: str) -> str:
    return f"{at.replace(tzinfo=None).isoformat(timespec='milliseconds')}{zone}"


def _unit(value: Value) -> str:
    if not isinstance(value, str) or value not in _FIXED.keys() | _MONTHS.keys():
        raise NotComputableError(f"a unit is one of {', '.join((*_MONTHS, *_FIXED))}; found {shown(value)}")
    return value


def _added(sign: int) -> Function:
    def apply(date: Value, unit: Value, amount: Value) -> Value:
        found = _read(date)
        if found is None or is_nothing(unit) or is_nothing(amount):
            return None
        at, written = found
        name, number = _unit(unit), whole(amount)
        if number is None or abs(number) > AMOUNT_MAX:
            raise NotComputableError(f"an amount is a whole number; found {shown(amount)}")
        number *= sign
        if name in _FIXED:
            try:
                return _text(_moved(at, _FIXED[name] * number), written)
            except OverflowError:
                raise NotComputableError("there is no such date: years are 1 to 9999") from None
        months = at.year * 12 + at.month - 1 + _MONTHS[name] * number
        year, month = divmod(months, 12)
        if not 1 <= year <= 9999:
            raise NotComputableError("there is no such date: years are 1 to 9999")
        day = min(at.day, _days_in(year, month + 1))
        return _text(at.replace(year=year, month=month + 1, day=day), written)

    return apply


def _days_in(year: int, month: int) -> int:
    first = _moment(year, month)
    return 31 if month == 12 else (datetime(year, month + 1, 1, tzinfo=UTC) - first).days


def _since(at: datetime, unit: str, first_day: int) -> int:
    """How many of the unit have begun by then."""
    if unit in _MONTHS:
        return (at.year * 12 + at.month - 1) // _MONTHS[unit]
    if unit == "week":
        return (at.toordinal() - 1 - first_day) // 7
    return (at - datetime(1, 1, 1, tzinfo=UTC)) // _FIXED[unit]


def _first_day(value: Value) -> int:
    if value is MISSING or value is None:
        return _DAYS.index("sunday")
    for at, name in enumerate(_DAYS):
        if isinstance(value, str) and len(value) > 2 and name.startswith(value.lower()):
            return at
    raise NotComputableError(f"startOfWeek is the name of a day; found {shown(value)}")


def _difference(start: Value, end: Value, unit: Value, first: Value) -> Value:
    one, other = _in_utc(start), _in_utc(end)
    if one is None or other is None or is_nothing(unit):
        return None
    name, day = _unit(unit), _first_day(first)
    return _since(other, name, day) - _since(one, name, day)


def _truncated(date: Value, unit: Value, size: Value, first: Value) -> Value:
    found = _read(date)
    if found is None or is_nothing(unit):
        return None
    at, written = found
    name, count = _unit(unit), 1 if size is MISSING else whole(size)
    if count is None or not 1 <= count <= AMOUNT_MAX:
        raise NotComputableError(f"binSize is a whole number above 0; found {shown(size)}")
    if name in _MONTHS:
        months = (at.year - 2000) * 12 + at.month - 1  # bins begin at 2000, as MongoDB's
        months -= months % (_MONTHS[name] * count)
        year, month = 2000 + months // 12, months % 12 + 1
        if year < 1:
            raise NotComputableError("there is no such date: years are 1 to 9999")
        return _text(_moment(year, month), written)
    origin = datetime(2000, 1, 1, tzinfo=UTC)
    if name == "week":
        origin += timedelta(days=(_first_day(first) - origin.weekday()) % 7)
    return _text(_moved(at, -((at - origin) % (_FIXED[name] * count))), written)


def _from_parts(*parts: Value) -> Value:
    if any(part is None for part in parts):
        return None
    fields: list[int] = []
    for part, default in zip(parts, (1, 1, 1, 0, 0, 0, 0), strict=True):
        number = default if part is MISSING else whole(part)
        if number is None or abs(number) > AMOUNT_MAX:
            raise NotComputableError(f"a date's parts are whole numbers; found {shown(part)}")
        fields.append(number)
    try:
        at = _moment(fields[0], fields[1], fields[2], (*fields[3:6], fields[6] * 1000))
    except (ValueError, OverflowError):
        raise NotComputableError("there is no such date: its parts are those of a calendar") from None
    return _text(at, "Z")


def _to_date(value: Value) -> Value:
    """A date's text in UTC, to the millisecond; of a number, so many milliseconds after 1970."""
    number = whole(value)
    at = (
        _moved(datetime(1970, 1, 1, tzinfo=UTC), _milliseconds(number))
        if number is not None
        else _in_utc(value)
    )
    return None if at is None else _text(at, "Z")


def _milliseconds(number: int) -> timedelta:
    if abs(number) > 10**15:
        raise NotComputableError("there is no such date: years are 1 to 9999")
    return timedelta(milliseconds=number)


FUNCTIONS: Final[dict[str, tuple[int, int, Function]]] = {"$toDate": (1, 1, _to_date)}
"""As those of query/expression_functions.py."""

NAMED: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., Value]]]] = {
    "$dateAdd": (("startDate", "unit", "amount"), (), _added(1)),
    "$dateSubtract": (("startDate", "unit", "amount"), (), _added(-1)),
    "$dateDiff": (("startDate", "endDate", "unit"), ("startOfWeek",), _difference),
    "$dateTrunc": (("date", "unit"), ("binSize", "startOfWeek"), _truncated),
    "$dateFromParts": (("year",), ("month", "day", "hour", "minute", "second", "millisecond"), _from_parts),
    "$dateFromString": (("dateString",), (), _to_date),
}
"""As those of query/expression_library.py."""
