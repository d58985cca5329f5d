"""floor(): the beginning of the interval that a point in time is in, for GROUP BY floor(time, 1h).

Intervals follow one another from a start, 1970-01-01 if none is given. Those of months follow the calendar,
in UTC; others have a fixed length. A time of day is divided from midnight on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final

from cql_lite.errors import FunctionError, InvalidRequestError
from cql_lite.planner_functions import DAY_MS, Compiled, milliseconds
from cql_lite.planner_rows import Record
from cql_lite.planner_terms import Context
from cql_lite.planner_times import later_day
from cql_lite.types import DATE, DURATION, TIME, TIMESTAMP, Duration, Type, date_of

NAME: Final = "floor"
_NS_PER_MS: Final = 1_000_000


def check_count(count: int) -> None:
    """That floor() has two or three arguments."""
    if count not in (2, 3):
        raise InvalidRequestError(
            "Invalid number of arguments in call to function system.floor: 2 or 3 required but "
            f"{count} provided"
        )


def start_type(of: Type) -> Type:
    """The type of the third argument, by that of the first."""
    return DATE if of == DATE else TIMESTAMP


def floor(arguments: Sequence[Compiled]) -> Compiled:
    """A call; raises InvalidRequestError."""
    point, by = arguments[0], arguments[1]
    start = arguments[2] if len(arguments) == 3 else None
    if by.type != DURATION or (start is not None and start.type != start_type(point.type)):
        raise InvalidRequestError("floor() takes a point in time, a duration, and perhaps where to start")
    if point.type == TIME and start is None:
        return Compiled(TIME, _evaluate(point, by, None, _of_day))
    read = milliseconds(point.type)
    if read is None:
        raise InvalidRequestError(
            f"floor() takes a timestamp, timeuuid, date or time first, not {point.type}"
        )
    of = DATE if point.type == DATE else TIMESTAMP
    begin = milliseconds(of)
    assert begin is not None

    def floored(value: bytes, duration: Duration, first: bytes | None) -> bytes:
        if of == DATE and duration.nanoseconds:
            raise FunctionError("The duration must have a day precision: floor() of a date", NAME)
        ms = _floor_ms(read(value), duration, 0 if first is None else begin(first))
        return of.encode(ms // DAY_MS if of == DATE else ms)

    return Compiled(of, _evaluate(point, by, start, floored))


def _evaluate(
    point: Compiled,
    by: Compiled,
    start: Compiled | None,
    floored: Callable[[bytes, Duration, bytes | None], bytes],
) -> Callable[[Record, Context], bytes | None]:
    def evaluate(record: Record, context: Context) -> bytes | None:
        value, length = point.evaluate(record, context), by.evaluate(record, context)
        first = None if start is None else start.evaluate(record, context)
        if value is None or length is None or (start is not None and first is None):
            return None
        duration = DURATION.decode(length)
        assert isinstance(duration, Duration)
        if min(duration) < 0:
            raise FunctionError("Negative durations are not supported by the floor function", NAME)
        return floored(value, duration, first)

    return evaluate


def _of_day(value: bytes, duration: Duration, _first: bytes | None) -> bytes:
    if duration.months or duration.days or duration.nanoseconds > DAY_MS * _NS_PER_MS:
        raise FunctionError(
            "For time values, the floor is only supported for durations smaller that a day", NAME
        )
    ns = int(TIME.decode(value))
    return TIME.encode(ns - ns % duration.nanoseconds if duration.nanoseconds else ns)


def _floor_ms(ms: int, duration: Duration, start: int) -> int:
    if start > ms:
        raise FunctionError("The floor function starting time is greater than the provided time", NAME)
    if not duration.months:
        length = duration.days * DAY_MS + duration.nanoseconds // _NS_PER_MS
        return ms - (ms - start) % length if length else ms
    year, month, _ = date_of(start // DAY_MS)
    to_year, to_month, _ = date_of(ms // DAY_MS)
    rest = duration.days * DAY_MS + duration.nanoseconds // _NS_PER_MS
    most = ((to_year - year) * 12 + to_month - month) // duration.months + 1
    later = bisect_right(
        range(1, most + 1), ms, key=lambda count: _after(start, count * duration.months, count * rest)
    )
    return _after(start, later * duration.months, later * rest)


def _after(start: int, months: int, ms: int) -> int:
    day, of_day = divmod(start, DAY_MS)
    return later_day(day, months) * DAY_MS + of_day + ms
