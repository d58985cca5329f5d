"""The functions of expressions (query/expressions.py): each takes values and gives a value.

A NotComputableError says what a function cannot take. MISSING among the arguments is null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN
from typing import Final

from core.json_values import JsonError, is_number, number_text
from query import numbers
from query.document_values import MISSING, Value, equal, order_key
from query.numbers import NotComputableError, whole
from query.refusals import shown

TEXT_CHARS_MAX: Final = 16 * 1024 * 1024
"""Of a text that is put together."""
ELEMENTS_MAX: Final = 1_000_000
"""Of an array that is put together."""

Function = Callable[..., Value]


def truthy(value: Value) -> bool:
    """Whether a value counts as true: not null, nothing, false or 0."""
    return (
        value is not None
        and value is not MISSING
        and value is not False
        and not (is_number(value) and value == 0)
    )


def is_nothing(value: Value) -> bool:
    """Whether a value is null or not there."""
    return value is None or value is MISSING


def number_of(value: Value) -> numbers.Number:
    """The number that a value is; else NotComputableError."""
    if not is_number(value):
        raise NotComputableError(f"a number belongs here; found {shown(value)}")
    return numbers.number(value)


def as_told(*values: numbers.Number) -> str:
    """Numbers for a message, short enough for one."""
    return ", ".join(shown(value) if isinstance(value, int) else f"{value:.20g}" for value in values)


def on_numbers(function: Callable[..., Value]) -> Function:
    """Null if an argument is; else the function of numbers."""

    def apply(*values: Value) -> Value:
        if any(is_nothing(value) for value in values):
            return None
        return function(*(number_of(value) for value in values))

    return apply


def _fold(function: Callable[[numbers.Number, numbers.Number], numbers.Number], neutral: int) -> Function:
    def apply(values: Sequence[Value]) -> Value:
        if any(is_nothing(value) for value in values):
            return None
        found: numbers.Number | None = None
        for value in values:
            found = number_of(value) if found is None else function(found, number_of(value))
        return neutral if found is None else found

    return apply


def _places(rounding: str) -> Function:
    def apply(value: Value, places: Value = 0) -> Value:
        count = whole(places)
        if is_nothing(value):
            return None
        if count is None:
            raise NotComputableError(f"the number of digits is a whole number; found {shown(places)}")
        return numbers.rounded(number_of(value), count, rounding)

    return apply


# --- texts


def text_of(value: Value) -> str:
    """The text that a value is, "" of nothing; else NotComputableError."""
    if is_nothing(value):
        return ""
    if not isinstance(value, str):
        raise NotComputableError(f"a text belongs here; found {shown(value)}")
    return value


def concat(values: Sequence[Value]) -> Value:
    """The texts one after the other; null if one is."""
    if any(is_nothing(value) for value in values):
        return None
    texts = [text_of(value) for value in values]
    if sum(map(len, texts)) > TEXT_CHARS_MAX:
        raise NotComputableError(f"a text has at most {TEXT_CHARS_MAX} characters")
    return "".join(texts)


def _substring(text: Value, first: Value, count: Value) -> Value:
    begin, length = whole(first), whole(count)
    if begin is None or length is None or begin < 0:
        raise NotComputableError("$substrCP takes a text, a position from 0 and a number of characters")
    found = text_of(text)[begin:]
    return found if length < 0 else found[:length]


def _split(text: Value, separator: Value) -> Value:
    if is_nothing(text):
        return None
    if not isinstance(separator, str) or not separator:
        raise NotComputableError("$split takes a text and a separator that is not empty")
    return list(text_of(text).split(separator))


def to_text(value: Value) -> Value:
    """A number, boolean or text as text."""
    if is_nothing(value):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        try:
            return number_text(value)
        except JsonError as error:
            raise NotComputableError(str(error)) from None
    raise NotComputableError(f"only numbers, booleans and texts become texts; found {shown(value)}")


# --- arrays


def _size(value: Value) -> Value:
    if not isinstance(value, list):
        raise NotComputableError(
            f"$size takes an array; found {'nothing' if value is MISSING else shown(value)}"
        )
    return len(value)


def _element_at(value: Value, position: Value) -> Value:
    if is_nothing(value) or is_nothing(position):
        return None
    at = whole(position)
    if not isinstance(value, list) or at is None:
        raise NotComputableError("$arrayElemAt takes an array and a position")
    return value[at] if -len(value) <= at < len(value) else MISSING


def _among(value: Value, options: Value) -> bool:
    if not isinstance(options, list):
        raise NotComputableError(f"$in takes a value and an array; found {shown(options)}")
    return any(equal(value, option) for option in options)


def _concat_arrays(values: Sequence[Value]) -> Value:
    if any(is_nothing(value) for value in values):
        return None
    found: list[Value] = []
    for value in values:
        if not isinstance(value, list):
            raise NotComputableError(f"$concatArrays takes arrays; found {shown(value)}")
        found += value
        if len(found) > ELEMENTS_MAX:
            raise NotComputableError(f"an array has at most {ELEMENTS_MAX} elements")
    return found


def _slice(value: Value, first: Value, count: Value = None) -> Value:
    if is_nothing(value):
        return None
    at, length = whole(first), None if count is None else whole(count)
    if not isinstance(value, list) or at is None or (count is not None and (length is None or length < 1)):
        raise NotComputableError("$slice takes an array, a position and a number of elements above 0")
    if length is None:
        return value[:at] if at >= 0 else value[at:]
    begin = max(0, len(value) + at) if at < 0 else at
    return value[begin : begin + length]


def total(values: Sequence[Value]) -> Value:
    """The sum of the numbers among them."""
    found: numbers.Number = 0
    for value in values:
        if is_number(value):
            found = numbers.add(found, number_of(value))
    return found


def mean(values: Sequence[Value]) -> Value:
    """The mean of the numbers among them; null if there are none."""
    count = sum(1 for value in values if is_number(value))
    return numbers.average(total(values), count) if count else None


def _extreme(sign: int) -> Function:
    def apply(values: Sequence[Value]) -> Value:
        kept = [value for value in values if not is_nothing(value)]
        if not kept:
            return None
        return (min if sign > 0 else max)(kept, key=order_key)

    return apply


# --- comparisons


def _compared(holds: Callable[[int], bool]) -> Function:
    return lambda a, b: holds(_order(a, b))


def _order(a: Value, b: Value) -> int:
    if a is MISSING or b is MISSING:  # nothing is below null here, as in MongoDB, though both sort alike
        return (a is not MISSING) - (b is not MISSING)
    left, right = order_key(a), order_key(b)
    return (left > right) - (left < right)


def type_name(value: Value) -> str:
    """What `$type` says: the names of a filter's `$type`, and `missing`."""
    if value is MISSING:
        return "missing"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    names = {str: "string", dict: "object", list: "array", type(None): "null"}
    return names.get(type(value), "decimal")


# --- dates

_DATE: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,9})?)?)?(?:Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_MONTH_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def date_parts(value: Value) -> tuple[int, ...] | None:
    """Year, month, day, hour, minute, second of a text; None of nothing."""
    if is_nothing(value):
        return None
    found = _DATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise NotComputableError(
            f"a date is a text as 2024-02-29 or 2024-02-29T12:30:00Z; found {shown(value)}"
        )
    parts = tuple(int(part or 0) for part in found.groups())
    year, month, day, hour, minute, second = parts
    found_day = 1 <= month <= 12 and 1 <= day <= _MONTH_DAYS[month - 1]
    if month == 2 and day == 29 and (year % 4 or (year % 100 == 0 and year % 400)):
        found_day = False
    if not (found_day and hour < 24 and minute < 60 > second):
        raise NotComputableError(f"there is no such date: {shown(value)}")
    return parts


def _part(index: int) -> Function:
    def apply(value: Value) -> Value:
        parts = date_parts(value)
        return None if parts is None else parts[index]

    return apply


def day_of_week(value: Value) -> Value:
    """1 (Sunday) to 7, by Zeller's congruence."""
    parts = date_parts(value)
    if parts is None:
        return None
    year, month, day = parts[:3]
    if month < 3:
        year, month = year - 1, month + 12
    saturday_is_0 = (day + 13 * (month + 1) // 5 + year + year // 4 - year // 100 + year // 400) % 7
    return (saturday_is_0 - 1) % 7 + 1


FUNCTIONS: Final[dict[str, tuple[int, int, Function]]] = {
    "$subtract": (2, 2, on_numbers(numbers.subtract)),
    "$divide": (2, 2, on_numbers(numbers.divide)),
    "$mod": (2, 2, on_numbers(numbers.remainder)),
    "$abs": (1, 1, on_numbers(numbers.absolute)),
    "$sqrt": (1, 1, on_numbers(numbers.square_root)),
    "$ceil": (1, 1, _places(ROUND_CEILING)),
    "$floor": (1, 1, _places(ROUND_FLOOR)),
    "$trunc": (1, 2, _places(ROUND_DOWN)),
    "$round": (1, 2, _places(ROUND_HALF_EVEN)),
    "$toLower": (1, 1, lambda a: text_of(to_text(a)).lower()),
    "$toUpper": (1, 1, lambda a: text_of(to_text(a)).upper()),
    "$substrCP": (3, 3, _substring),
    "$strLenCP": (1, 1, lambda a: len(text_of(a))),
    "$split": (2, 2, _split),
    "$toString": (1, 1, to_text),
    "$size": (1, 1, _size),
    "$arrayElemAt": (2, 2, _element_at),
    "$in": (2, 2, _among),
    "$slice": (2, 3, _slice),
    "$isArray": (1, 1, lambda a: isinstance(a, list)),
    "$eq": (2, 2, _compared(lambda order: order == 0)),
    "$ne": (2, 2, _compared(lambda order: order != 0)),
    "$gt": (2, 2, _compared(lambda order: order > 0)),
    "$gte": (2, 2, _compared(lambda order: order >= 0)),
    "$lt": (2, 2, _compared(lambda order: order < 0)),
    "$lte": (2, 2, _compared(lambda order: order <= 0)),
    "$cmp": (2, 2, _order),
    "$not": (1, 1, lambda a: not truthy(a)),
    "$type": (1, 1, type_name),
    "$year": (1, 1, _part(0)),
    "$month": (1, 1, _part(1)),
    "$dayOfMonth": (1, 1, _part(2)),
    "$hour": (1, 1, _part(3)),
    "$minute": (1, 1, _part(4)),
    "$second": (1, 1, _part(5)),
    "$dayOfWeek": (1, 1, day_of_week),
}
"""Name, the least and the greatest number of arguments, and what it does."""

VARIADIC: Final[dict[str, Function]] = {
    "$add": _fold(numbers.add, 0),
    "$multiply": _fold(numbers.multiply, 1),
    "$concat": concat,
    "$concatArrays": _concat_arrays,
    "$sum": total,
    "$avg": mean,
    "$min": _extreme(1),
    "$max": _extreme(-1),
}
"""Functions of any number of arguments, as one sequence."""
