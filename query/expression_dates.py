"""Functions of dates, which are texts as of ISO 8601: their parts, and the text of a date in a form of one's
own. Dates are read as they are written, whatever their time zone.
"""

from __future__ import annotations

import re
from typing import Final

from query.document_values import MISSING, Value
from query.expression_functions import Function, date_parts, day_of_week
from query.numbers import NotComputableError
from query.refusals import shown

_MILLISECOND: Final = re.compile(r"\d\d:\d\d:\d\d\.(\d{1,9})", re.ASCII)
_DAYS_BEFORE: Final = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
ISO_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%LZ"
FORMAT_CHARS_MAX: Final = 1_000
_WRITTEN_ZONE: Final = re.compile(r"[+-]\d\d:?\d\d$", re.ASCII)
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _day_of_year(parts: tuple[int, ...]) -> int:
    year, month, day = parts[:3]
    return _DAYS_BEFORE[month - 1] + day + (month > 2 and _is_leap(year))


def _iso_week(parts: tuple[int, ...], weekday: int) -> tuple[int, int]:
    """ISO 8601's year and week: week 1 has the year's first Thursday. `weekday` is 1 (Monday) to 7."""
    year = parts[0]
    week = (_day_of_year(parts) - weekday + 10) // 7
    if week < 1:
        return year - 1, _weeks(year - 1)
    return (year + 1, 1) if week > _weeks(year) else (year, week)


def _weeks(year: int) -> int:
    def last(of: int) -> int:  # the weekday of 31 December, 0 for Sunday
        return (of + of // 4 - of // 100 + of // 400) % 7

    return 53 if last(year) == 4 or last(year - 1) == 3 else 52


def _monday_first(value: Value) -> int:
    return (int(day_of_week(value)) + 5) % 7 + 1


def _millisecond(value: Value) -> Value:
    if date_parts(value) is None:
        return None
    found = _MILLISECOND.search(value)
    return int(found[1][:3].ljust(3, "0")) if found else 0


def _of_year(value: Value) -> Value:
    parts = date_parts(value)
    return None if parts is None else _day_of_year(parts)


def _week(index: int) -> Function:
    def apply(value: Value) -> Value:
        parts = date_parts(value)
        return None if parts is None else _iso_week(parts, _monday_first(value))[index]

    return apply


def _sunday_week(value: Value) -> Value:
    """The week of the year, 0 to 53, as MongoDB's `$week`: a week begins with its Sunday."""
    parts = date_parts(value)
    return None if parts is None else (_day_of_year(parts) + 7 - int(day_of_week(value))) // 7


def _iso_day(value: Value) -> Value:
    return None if date_parts(value) is None else _monday_first(value)


def _zone(date: str) -> str:
    """How far its clocks are ahead of UTC, as +0900."""
    found = _WRITTEN_ZONE.search(date, 10)
    return found[0].replace(":", "") if found else "+0000"


def date_text(date: Value, wanted: Value) -> Value:
    """The date in a form: %Y %m %d %H %M %S %L %j %u %w %U %V %G %b %B %z %Z, and %% for a percent sign."""
    parts = date_parts(date)
    if parts is None or wanted is None:
        return None
    text = ISO_FORMAT if wanted is MISSING else wanted
    if not isinstance(text, str) or len(text) > FORMAT_CHARS_MAX:
        raise NotComputableError(f"a format is text such as %Y-%m-%d; found {shown(text)}")
    year, month, day, hour, minute, second = parts
    week_year, week = _iso_week(parts, _monday_first(date))
    known = {
        "Y": f"{year:04}", "m": f"{month:02}", "d": f"{day:02}", "H": f"{hour:02}", "M": f"{minute:02}",
        "S": f"{second:02}", "L": f"{_millisecond(date):03}", "j": f"{_day_of_year(parts):03}",
        "u": str(_monday_first(date)), "w": str(day_of_week(date)), "V": f"{week:02}",
        "G": f"{week_year:04}", "%": "%", "U": f"{_sunday_week(date):02}",
        "b": MONTHS[month - 1][:3], "B": MONTHS[month - 1],
        "z": _zone(date), "Z": str(int(_zone(date)[:3]) * 60 + int(_zone(date)[0] + _zone(date)[3:])),
    }  # fmt: skip

    def part(match: re.Match[str]) -> str:
        found = known.get(match[1])
        if found is None:
            raise NotComputableError(f"a format knows no %{match[1]}; there are %{', %'.join(known)}")
        return found

    return re.sub(r"%(.?)", part, text)


FUNCTIONS: Final[dict[str, tuple[int, int, Function]]] = {
    "$millisecond": (1, 1, _millisecond),
    "$dayOfYear": (1, 1, _of_year),
    "$week": (1, 1, _sunday_week),
    "$isoWeek": (1, 1, _week(1)),
    "$isoWeekYear": (1, 1, _week(0)),
    "$isoDayOfWeek": (1, 1, _iso_day),
}
"""As those of query/expression_functions.py."""
