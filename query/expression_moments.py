"""Arithmetic of dates, which are texts as of ISO 8601, and functions of angles.

`$add` of a date and numbers is a date so many milliseconds later, `$subtract` of two dates the milliseconds
between them, as in MongoDB; a date as a number is its milliseconds since 1970. A text that is no date is
refused as any text where a number belongs.

Sines and the like are computed as machines do and rounded to 15 digits, which all machines have in common.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from query import numbers
from query.document_values import Value
from query.expression_calendar import in_utc, later
from query.expression_functions import (
    FUNCTIONS as PLAIN,
    VARIADIC as PLAIN_VARIADIC,
    Function,
    as_told,
    is_nothing,
    on_numbers,
)
from query.expression_library import to_number, to_whole
from query.numbers import NotComputableError

MILLISECOND_US: Final = 1_000
_SUM: Final = PLAIN_VARIADIC["$add"]
_DIFFERENCE: Final = PLAIN["$subtract"][2]


def _moment_us(value: Value) -> int | None:
    """The moment that a text names; None of what is no date."""
    try:
        return in_utc(value) if isinstance(value, str) else None
    except NotComputableError:
        return None


def _milliseconds(value: Value) -> int:
    """To the nearest whole one."""
    return int(numbers.rounded(numbers.number(value), 0, ROUND_HALF_EVEN))


def _added(values: Sequence[Value]) -> Value:
    dates = [value for value in values if isinstance(value, str) and _moment_us(value) is not None]
    if len(dates) > 1:
        raise NotComputableError("only one date can be added to; $subtract tells what is between two")
    if not dates or any(is_nothing(value) for value in values):
        return _SUM(values)
    return later(dates[0], _milliseconds(_SUM([value for value in values if value is not dates[0]])))


def _subtracted(value: Value, other: Value) -> Value:
    at_us = _moment_us(value)
    if at_us is None or is_nothing(other):
        return _DIFFERENCE(value, other)
    other_us = _moment_us(other)
    if other_us is None:
        return later(value, -_milliseconds(on_numbers(lambda number: number)(other)))
    return at_us // MILLISECOND_US - other_us // MILLISECOND_US


def _or_moment(convert: Function) -> Function:
    def apply(value: Value) -> Value:
        at_us = _moment_us(value)
        return convert(value) if at_us is None else at_us // MILLISECOND_US

    return apply


whole_or_moment: Final = _or_moment(to_whole)
"""What `$toLong` gives."""
number_or_moment: Final = _or_moment(to_number)
"""What `$toDouble` and `$toDecimal` give."""


# --- angles


def _of_floats(function: Callable[..., float]) -> tuple[int, int, Function]:
    count = 2 if function is math.atan2 else 1

    def apply(*values: numbers.Number) -> numbers.Number:
        try:
            found = function(*map(float, values))
        except (ValueError, OverflowError):
            found = math.nan
        if not math.isfinite(found):
            raise NotComputableError(f"there is no such number for {as_told(*values)}")
        return numbers.shortened(Decimal(f"{found:.15g}"))

    return count, count, on_numbers(apply)


FUNCTIONS: Final[dict[str, tuple[int, int, Function]]] = {
    "$subtract": (2, 2, _subtracted),
    "$toLong": (1, 1, whole_or_moment),
    "$toDouble": (1, 1, number_or_moment),
    "$toDecimal": (1, 1, number_or_moment),
    "$sin": _of_floats(math.sin),
    "$cos": _of_floats(math.cos),
    "$tan": _of_floats(math.tan),
    "$asin": _of_floats(math.asin),
    "$acos": _of_floats(math.acos),
    "$atan": _of_floats(math.atan),
    "$atan2": _of_floats(math.atan2),
    "$sinh": _of_floats(math.sinh),
    "$cosh": _of_floats(math.cosh),
    "$tanh": _of_floats(math.tanh),
    "$asinh": _of_floats(math.asinh),
    "$acosh": _of_floats(math.acosh),
    "$atanh": _of_floats(math.atanh),
    "$degreesToRadians": _of_floats(math.radians),
    "$radiansToDegrees": _of_floats(math.degrees),
}
"""As those of query/expression_functions.py, some of which they take the place of."""

VARIADIC: Final[dict[str, Function]] = {"$add": _added}
"""As those of query/expression_library.py."""
