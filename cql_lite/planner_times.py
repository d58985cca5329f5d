"""Arithmetic on points in time: timestamps and dates, with durations added and taken away.

Months are of the calendar, in UTC: the day stays, or becomes the last one of a shorter month. Then days are
added, then the nanoseconds, as milliseconds, cut off.
"""

from __future__ import annotations

from cql_lite.errors import InvalidRequestError
from cql_lite.planner_functions import DAY_MS, Compiled
from cql_lite.planner_rows import Record
from cql_lite.planner_terms import Context
from cql_lite.types import (
    DATE,
    DURATION,
    TIMESTAMP,
    Duration,
    InvalidValueError,
    Type,
    date_of,
    days_of,
)

NS_PER_MS = 1_000_000


def is_time(of: Type) -> bool:
    """Whether durations can be added to values of this type."""
    return of in (TIMESTAMP, DATE)


def shift(left: Compiled, right: Compiled, sign: int) -> Compiled:
    """A point in time, later or earlier (sign -1) by a duration."""
    of = left.type
    if right.type != DURATION:
        raise InvalidRequestError(f"to a {of} a duration is added (2d, 1mo), not a {right.type}")

    def evaluate(record: Record, context: Context) -> bytes | None:
        value, by = left.evaluate(record, context), right.evaluate(record, context)
        if value is None or by is None:
            return None
        duration = DURATION.decode(by)
        assert isinstance(duration, Duration)
        try:
            return of.encode(_shifted(of, int(of.decode(value)), duration, sign))
        except InvalidValueError as error:
            raise InvalidRequestError(str(error)) from None

    return Compiled(of, evaluate)


def _shifted(of: Type, value: int, by: Duration, sign: int) -> int:
    if of == DATE:
        if by.nanoseconds:
            text = DURATION.to_text(DURATION.encode(by))
            raise InvalidRequestError(
                f"The duration must have a day precision. Was: {text}; leave out hours and less"
            )
        return later_day(value, sign * by.months) + sign * by.days
    day, ms = divmod(value, DAY_MS)
    day = later_day(day, sign * by.months) + sign * by.days
    cut = abs(by.nanoseconds) // NS_PER_MS
    return day * DAY_MS + ms + (cut if by.nanoseconds * sign > 0 else -cut)


def later_day(day: int, months: int) -> int:
    """The day so many months later."""
    if not months:
        return day
    year, month, of_month = date_of(day)
    years, month = divmod(month - 1 + months, 12)
    first = days_of(year + years, month + 1, 1)
    next_first = days_of(year + years + (month == 11), (month + 1) % 12 + 1, 1)
    return first + min(of_month, next_first - first) - 1
