"""Dates in time zones, and texts of other forms as dates: the `timezone`, `format`, `onNull` and `onError` of
MongoDB's functions of dates.

Zones are UTC, GMT, how far ahead of it clocks are (`+09:00`, `-0530`, `+02`), and names of the tz database
(`Asia/Seoul`), as the edition of it knows them that the peer has which reads the document. Without a zone a
date is read as it is written; where one is given and a date comes out, it is in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from query.document_values import MISSING, Value
from query.expression_calendar import NAMED as CALENDAR, in_utc, moment_text, to_date
from query.expression_dates import FORMAT_CHARS_MAX, FUNCTIONS as PARTS, date_text
from query.expression_functions import FUNCTIONS as PLAIN, Function, is_nothing
from query.numbers import NotComputableError
from query.refusals import shown
from query.zones import Clock, begun_at, clock_of, instant_at

MINUTE_US: Final = 60_000_000
_PIECES: Final = {
    "Y": r"(?P<Y>\d{4})", "m": r"(?P<m>\d{1,2})", "d": r"(?P<d>\d{1,2})", "H": r"(?P<H>\d{1,2})",
    "M": r"(?P<M>\d{1,2})", "S": r"(?P<S>\d{1,2})", "L": r"(?P<L>\d{1,3})",
    "z": r"(?P<z>Z|[+-]\d\d:?\d\d)", "b": r"(?P<b>[A-Za-z]{3})", "B": r"(?P<b>[A-Za-z]{3})[a-z]*", "%": "%",
}  # fmt: skip
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def _zone(name: Value) -> Clock:
    """The clocks of the zone of this name."""
    found = clock_of("UTC" if name == "GMT" else name) if isinstance(name, str) and name else None
    if found is None:
        raise NotComputableError(f"a time zone is UTC, +09:00 or a name like Asia/Seoul; found {shown(name)}")
    return found


def _in_zone(date: Value, name: Value) -> Value:
    """The same moment, as clocks there show it."""
    at_us = in_utc(date)
    if at_us is None or name is None:
        return None
    ahead = _zone(name)(at_us)
    minutes = abs(ahead) // MINUTE_US
    offset = f"{'-' if ahead < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return moment_text(at_us + ahead, offset)


def _shown_in(date: Value, clock: Clock) -> Value:
    """What clocks there show, as if it were in UTC: for calendars."""
    at_us = in_utc(date)
    return None if at_us is None else moment_text(at_us + clock(at_us))


def _in_calendar(of: Callable[..., Value], dates: int = 1, unit: int | None = None) -> Function:
    """A function of so many dates, after which comes what else it takes and last a zone, by whose days and
    months it counts. `unit`: where its unit is; hours and less are the same everywhere.
    """

    def apply(*values: Value) -> Value:
        *rest, name = values
        if name is MISSING:
            return of(*rest)
        if name is None:
            return None
        clock = _zone("UTC" if unit is not None and rest[unit] in _SAME_EVERYWHERE else name)
        found = of(*(_shown_in(value, clock) if at < dates else value for at, value in enumerate(rest)))
        local_us = in_utc(found) if isinstance(found, str) else None
        return found if local_us is None else moment_text(instant_at(clock, local_us))

    return apply


def _truncated(date: Value, unit: Value, size: Value, first: Value, zone: Value) -> Value:
    by_clocks = _in_calendar(_TRUNCATED)
    if zone is MISSING or zone is None or unit not in _SAME_EVERYWHERE or (at_us := in_utc(date)) is None:
        return by_clocks(date, unit, size, first, zone)
    clock = _zone(zone)
    local_us = in_utc(_TRUNCATED(_shown_in(date, clock), unit, size, first))
    return None if local_us is None else moment_text(begun_at(clock, at_us, local_us))


_TRUNCATED: Final = CALENDAR["$dateTrunc"][2]


_SAME_EVERYWHERE: Final = ("hour", "minute", "second", "millisecond")


def _at(date: Value, zone: Value) -> Value:
    return date if zone is MISSING else _in_zone(date, zone)


def _part(of: Function) -> Function:
    return lambda date, zone: of(_at(date, zone))


def _as_text(date: Value, wanted: Value, zone: Value, on_null: Value) -> Value:
    if is_nothing(date):
        return None if on_null is MISSING else on_null
    if wanted is MISSING and zone is not MISSING:
        wanted = "%Y-%m-%dT%H:%M:%S.%L" + ("Z" if zone in ("UTC", "GMT", "Z") else "")
    return date_text(_at(date, zone), wanted)


def _as_parts(date: Value, zone: Value, iso: Value) -> Value:
    held = _at(date, zone)
    if is_nothing(held):
        return None
    days = {"year": "$year", "month": "$month", "day": "$dayOfMonth"}
    if iso is True:
        days = {"isoWeekYear": "$isoWeekYear", "isoWeek": "$isoWeek", "isoDayOfWeek": "$isoDayOfWeek"}
    clock = {name: f"${name}" for name in ("hour", "minute", "second", "millisecond")}
    known = PLAIN | PARTS
    return {name: known[function][2](held) for name, function in (days | clock).items()}


def _from_text(text: Value, form: Value, zone: Value, on_error: Value, on_null: Value) -> Value:
    if is_nothing(text):
        return None if on_null is MISSING else on_null
    try:
        if not isinstance(text, str):
            raise NotComputableError(f"$dateFromString takes a text; found {shown(text)}")
        written = text if form is MISSING else _read(text, form)
        has_zone = re.search(r"(Z|[+-]\d\d:?\d\d)$", written[10:]) is not None
        if zone is not MISSING and zone is not None and not has_zone:
            local_us = in_utc(written)
            return None if local_us is None else moment_text(instant_at(_zone(zone), local_us))
        return to_date(written)
    except NotComputableError:
        if on_error is MISSING:
            raise
        return on_error


def _read(text: str, form: Value) -> str:
    """A text of this form, as of ISO 8601."""
    if not isinstance(form, str) or len(form) > FORMAT_CHARS_MAX:
        raise NotComputableError(f"a format is text such as %d/%m/%Y; found {shown(form)}")
    pattern = ""
    for found in re.finditer(r"%(.?)|([^%]+)", form, re.DOTALL):
        piece = re.escape(found[2]) if found[2] else _PIECES.get(found[1])
        if piece is None:
            raise NotComputableError(f"dates are read by no %{found[1]}; there are %{', %'.join(_PIECES)}")
        pattern += piece
    try:
        match = re.fullmatch(pattern, text, re.ASCII)
    except re.error:
        raise NotComputableError(f"a part of a date is there twice: {shown(form)}") from None
    parts = {} if match is None else match.groupdict()
    month = parts.get("m") or _month(parts.get("b"))
    if not parts.get("Y") or not month or not parts.get("d"):
        raise NotComputableError(f"this is no date of the form {shown(form)}: {shown(text)}")
    clock = ":".join((parts.get(name) or "0").zfill(2) for name in "HMS")
    below = (parts.get("L") or "0").ljust(3, "0")
    return f"{parts['Y']}-{month.zfill(2)}-{parts['d'].zfill(2)}T{clock}.{below}{parts.get('z') or ''}"


def _month(name: str | None) -> str | None:
    low = (name or "").lower()
    return str(_MONTHS.index(low) + 1) if low in _MONTHS else None


def _with_zone(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    needed, others, _ = CALENDAR[name]
    return needed, (*others, "timezone")


NAMED: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., Value]]]] = {
    "$dateAdd": (*_with_zone("$dateAdd"), _in_calendar(CALENDAR["$dateAdd"][2], 1, 1)),
    "$dateSubtract": (*_with_zone("$dateSubtract"), _in_calendar(CALENDAR["$dateSubtract"][2], 1, 1)),
    "$dateDiff": (*_with_zone("$dateDiff"), _in_calendar(CALENDAR["$dateDiff"][2], 2, 2)),
    "$dateTrunc": (*_with_zone("$dateTrunc"), _truncated),
    "$dateFromParts": (*_with_zone("$dateFromParts"), _in_calendar(CALENDAR["$dateFromParts"][2], 0)),
    "$dateToString": (("date",), ("format", "timezone", "onNull"), _as_text),
    "$dateToParts": (("date",), ("timezone", "iso8601"), _as_parts),
    "$dateFromString": (("dateString",), ("format", "timezone", "onError", "onNull"), _from_text),
}
"""As those of query/expression_library.py."""

_OF_DATES: Final = (
    *PARTS, "$year", "$month", "$dayOfMonth", "$hour", "$minute", "$second", "$dayOfWeek",
)  # fmt: skip
DATED: Final = {name: (("date",), ("timezone",), _part((PLAIN | PARTS)[name][2])) for name in _OF_DATES}
"""Parts of dates, where the date is a member beside its time zone."""
