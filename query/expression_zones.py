"""Dates in time zones, and texts of other forms as dates: the `timezone`, `format`, `onNull` and `onError` of
MongoDB's functions of dates.

Zones are UTC, GMT and how far ahead of it clocks are (`+09:00`, `-0530`, `+02`): names would need a table
that differs from machine to machine. Without one a date is read as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from query.document_values import MISSING, Value
from query.expression_calendar import in_utc, moment_text, to_date
from query.expression_dates import FORMAT_CHARS_MAX, FUNCTIONS as PARTS, date_text
from query.expression_functions import FUNCTIONS as PLAIN, Function, is_nothing
from query.numbers import NotComputableError
from query.refusals import shown

MINUTE_US: Final = 60_000_000
_OFFSET: Final = re.compile(r"([+-])(\d\d)(?::?([0-5]\d))?", re.ASCII)
_PIECES: Final = {
    "Y": r"(?P<Y>\d{4})", "m": r"(?P<m>\d{1,2})", "d": r"(?P<d>\d{1,2})", "H": r"(?P<H>\d{1,2})",
    "M": r"(?P<M>\d{1,2})", "S": r"(?P<S>\d{1,2})", "L": r"(?P<L>\d{1,3})",
    "z": r"(?P<z>Z|[+-]\d\d:?\d\d)", "b": r"(?P<b>[A-Za-z]{3})", "B": r"(?P<b>[A-Za-z]{3})[a-z]*", "%": "%",
}  # fmt: skip
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def _offset(zone: Value) -> str:
    """A zone as +09:00."""
    if zone in ("UTC", "GMT", "Z"):
        return "+00:00"
    found = _OFFSET.fullmatch(zone) if isinstance(zone, str) else None
    if found is None or int(found[2]) > 18:
        raise NotComputableError(f"a time zone is UTC or as +09:00 here; found {shown(zone)}")
    return f"{found[1]}{found[2]}:{found[3] or '00'}"


def _in_zone(date: Value, zone: Value) -> Value:
    """The same moment, as clocks there show it."""
    at_us = in_utc(date)
    if at_us is None or zone is None:
        return None
    offset = _offset(zone)
    minutes = int(offset[1:3]) * 60 + int(offset[4:])
    return moment_text(at_us + (minutes if offset[0] == "+" else -minutes) * MINUTE_US, offset)


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
            written = f"{written if len(written) > 10 else written + 'T00:00:00'}{_offset(zone)}"
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
        match = re.fullmatch(pattern, text)
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


NAMED: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., Value]]]] = {
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
