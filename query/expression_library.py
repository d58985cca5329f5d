"""More functions of expressions (query/expressions.py): powers and logarithms, texts, arrays, sets, objects,
conversions, and dates as texts of one's own form.

As in query/expression_functions.py each takes values and gives a value, MISSING stands for nothing, and a
NotComputableError says what a function cannot take. Powers and logarithms are rounded to the digits of
quotients, so that they are the same on every machine.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from core.json_values import is_number
from core.limits import NUMBER_EXPONENT_MAX
from query import numbers
from query.document_values import MISSING, Path, Value, lookup, order_key, parse_path
from query.expression_calendar import FUNCTIONS as CALENDAR, NAMED as CALENDAR_NAMED
from query.expression_dates import FUNCTIONS as DATES
from query.expression_functions import (
    ELEMENTS_MAX,
    TEXT_CHARS_MAX,
    Function,
    as_told,
    is_nothing,
    number_of,
    on_numbers,
    text_of,
    truthy,
)
from query.numbers import NotComputableError, whole
from query.refusals import shown
from query.regex import STEPS_TIMES_BYTES_MAX, compiled

RANGE_MAX: Final = 100_000
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)

# --- numbers


_NONE: Final = decimal.Decimal("NaN")


def _transcendental(function: Callable[..., decimal.Decimal]) -> Function:
    def apply(*values: numbers.Number) -> numbers.Number:
        try:
            found = function(*map(numbers.decimal, values))
        except decimal.DecimalException:
            found = _NONE
        if not found.is_finite():
            raise NotComputableError(f"there is no such number for {as_told(*values)}")
        return numbers.shortened(numbers.finite(found))

    return on_numbers(apply)


_CONTEXT: Final = decimal.Context(
    prec=numbers.QUOTIENT_DIGITS,
    Emin=-NUMBER_EXPONENT_MAX,
    Emax=NUMBER_EXPONENT_MAX,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)


def _power(base: numbers.Number, exponent: numbers.Number) -> numbers.Number:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if base.bit_length() * exponent <= numbers.BITS_MAX:
            return int(base**exponent)
    try:
        found = _CONTEXT.power(numbers.decimal(base), numbers.decimal(exponent))
    except decimal.DecimalException:
        found = _NONE
    if not found.is_finite():  # 0 to the power of -1 is infinite without a word
        raise NotComputableError(f"there is no {as_told(base)} to the power of {as_told(exponent)}")
    return numbers.shortened(numbers.finite(found))


def _logarithm(value: decimal.Decimal, base: decimal.Decimal) -> decimal.Decimal:
    if base <= 0 or base == 1:
        raise NotComputableError("the base of a logarithm is above 0, and not 1")
    found = _CONTEXT.divide(_CONTEXT.ln(value), _CONTEXT.ln(base))
    near = found.quantize(decimal.Decimal("1e-30"), context=_CONTEXT) if abs(found) < 1000 else found
    return near if near == near.to_integral_value() else found


# --- conversions


def to_number(value: Value) -> Value:
    """The number that a number, a boolean or a text is."""
    if is_nothing(value):
        return None
    if isinstance(value, bool):
        return int(value)
    if is_number(value):
        return value
    if isinstance(value, str) and len(value) <= numbers.DIGITS_MAX and _NUMBER.fullmatch(value):
        return numbers.shortened(decimal.Decimal(value))
    raise NotComputableError(f"this is no number: {shown(value)}")


def to_whole(value: Value) -> Value:
    """The same without its fraction; the text of one has none."""
    found = to_number(value)
    if found is None:
        return None
    if isinstance(value, str) and not isinstance(found, int):
        raise NotComputableError(f"this is no whole number: {shown(value)}")
    return int(numbers.rounded(number_of(found), 0, decimal.ROUND_DOWN))


def to_bool(value: Value) -> Value:
    """Whether it counts as true."""
    return None if is_nothing(value) else truthy(value)


# --- texts


def _trimmed(strip: Callable[[str, str | None], str]) -> Function:
    def apply(text: Value, chars: Value) -> Value:
        if is_nothing(text) or chars is None:
            return None
        return strip(text_of(text), None if chars is MISSING else text_of(chars))

    return apply


def _index_of(text: Value, part: Value, first: Value = 0, end: Value = None) -> Value:
    if is_nothing(text):
        return None
    begin, limit = whole(first), None if end is None else whole(end)
    if begin is None or begin < 0 or not isinstance(part, str):
        raise NotComputableError("$indexOfCP takes a text, a text to find, and positions from 0")
    return text_of(text).find(part, begin, limit)


def _compared_without_case(a: Value, b: Value) -> Value:
    one, other = text_of(a).upper(), text_of(b).upper()
    return (one > other) - (one < other)


def _replaced(count: int) -> Function:
    def apply(text: Value, find: Value, replacement: Value) -> Value:
        if is_nothing(text) or is_nothing(find) or is_nothing(replacement):
            return None
        old, new = text_of(find), text_of(replacement)
        text = text_of(text)
        if len(text) + (text.count(old) if count < 0 else 1) * len(new) > TEXT_CHARS_MAX:
            raise NotComputableError(f"a text has at most {TEXT_CHARS_MAX} characters")
        return text.replace(old, new, count)

    return apply


def _matches(text: Value, pattern: Value, options: Value) -> Value:
    if is_nothing(text):
        return False
    program = compiled(text_of(pattern), text_of(options))
    if isinstance(program, str):
        raise NotComputableError(program)
    if len(text_of(text)) * program.steps > STEPS_TIMES_BYTES_MAX:
        raise NotComputableError("this pattern is too complex for so long a text")
    return program(text_of(text))


# --- arrays and sets


def _array(value: Value) -> list[Value]:
    if not isinstance(value, list):
        raise NotComputableError(f"an array belongs here; found {shown(value)}")
    return value


def _end(position: int) -> Function:
    def apply(value: Value) -> Value:
        if is_nothing(value):
            return None
        return _array(value)[position] if _array(value) else MISSING

    return apply


def _reversed(value: Value) -> Value:
    return None if is_nothing(value) else _array(value)[::-1]


def _range(first: Value, end: Value, step: Value = 1) -> Value:
    bounds = [whole(each) for each in (first, end, step)]
    if bounds[0] is None or bounds[1] is None or not bounds[2]:
        raise NotComputableError("$range takes whole numbers: first, end and a step that is not 0")
    found = range(bounds[0], bounds[1], bounds[2])
    if found[RANGE_MAX:]:
        raise NotComputableError(f"$range gives at most {RANGE_MAX} numbers")
    return list(found)


def _index_of_array(value: Value, wanted: Value, first: Value = 0, end: Value = None) -> Value:
    if is_nothing(value):
        return None
    begin, limit = whole(first), None if end is None else whole(end)
    if begin is None or begin < 0:
        raise NotComputableError("$indexOfArray takes an array, a value, and positions from 0")
    key = order_key(wanted)
    within = enumerate(_array(value)[begin:limit], begin)
    return next((at for at, item in within if order_key(item) == key), -1)


def _keyed(value: Value) -> dict[object, Value]:
    return {order_key(item): item for item in _array(value)}


def _union(values: Sequence[Value]) -> Value:
    if any(is_nothing(value) for value in values):
        return None
    found: dict[object, Value] = {}
    for value in values:
        for key, item in _keyed(value).items():
            found.setdefault(key, item)
        if len(found) > ELEMENTS_MAX:
            raise NotComputableError(f"an array has at most {ELEMENTS_MAX} elements")
    return list(found.values())


def _intersection(values: Sequence[Value]) -> Value:
    if any(is_nothing(value) for value in values):
        return None
    if not values:
        return []
    others = [_keyed(value) for value in values[1:]]
    return [item for key, item in _keyed(values[0]).items() if all(key in other for other in others)]


def _difference(a: Value, b: Value) -> Value:
    if is_nothing(a) or is_nothing(b):
        return None
    without = _keyed(b)
    return [item for key, item in _keyed(a).items() if key not in without]


def _same(values: Sequence[Value]) -> Value:
    sets = [_keyed(value).keys() for value in values]
    return all(one == sets[0] for one in sets[1:])


def _sorted_array(value: Value, by: Value) -> Value:
    """Elements by themselves (1, -1), or by what paths lead to in them: {"a.b": -1}."""
    if is_nothing(value):
        return None
    keys = list(by.items()) if isinstance(by, dict) and by else [("", by)]
    found = list(_array(value))
    for text, direction in reversed(keys):
        path, way = parse_path(text) if text else (), whole(direction)
        if isinstance(path, str) or way not in (1, -1):
            raise NotComputableError('sortBy is 1 or -1, or paths with these like {"score": -1}')
        found.sort(key=partial(_key_at, path), reverse=way == -1)
    return found


def _key_at(path: Path, item: Value) -> tuple[Any, ...]:
    return order_key(lookup(item, path))


# --- objects


def with_member(field: Value, holder: Value, value: Value) -> Value:
    """The object with this member, or without it if `value` is MISSING."""
    if is_nothing(holder):
        return None
    if not isinstance(field, str) or not isinstance(holder, dict):
        raise NotComputableError("$setField takes the name of a member, an object and a value")
    if value is MISSING:
        return {name: item for name, item in holder.items() if name != field}
    return {**holder, field: value}


def _merged(values: Sequence[Value]) -> Value:
    found: dict[str, Value] = {}
    for value in values:
        if not is_nothing(value) and not isinstance(value, dict):
            raise NotComputableError(f"$mergeObjects takes objects; found {shown(value)}")
        found.update(value if isinstance(value, dict) else {})
    return found


def _as_array(value: Value) -> Value:
    if is_nothing(value):
        return None
    if not isinstance(value, dict):
        raise NotComputableError(f"$objectToArray takes an object; found {shown(value)}")
    return [{"k": key, "v": item} for key, item in value.items()]


def _as_object(value: Value) -> Value:
    if is_nothing(value):
        return None
    found: dict[str, Value] = {}
    for item in _array(value):
        pair = [item.get("k"), item.get("v")] if isinstance(item, dict) and len(item) == 2 else item
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise NotComputableError('$arrayToObject takes [key, value] pairs, or {"k": ..., "v": ...}')
        found[pair[0]] = pair[1]
    return found


def _member_of(field: Value, holder: Value) -> Value:
    if not isinstance(field, str):
        raise NotComputableError("$getField takes the name of a member as text")
    return holder.get(field, MISSING) if isinstance(holder, dict) else MISSING


FUNCTIONS: Final[dict[str, tuple[int, int, Function]]] = {
    **DATES,
    **CALENDAR,
    "$pow": (2, 2, on_numbers(_power)),
    "$exp": (1, 1, _transcendental(_CONTEXT.exp)),
    "$ln": (1, 1, _transcendental(_CONTEXT.ln)),
    "$log10": (1, 1, _transcendental(_CONTEXT.log10)),
    "$log": (2, 2, _transcendental(_logarithm)),
    "$toInt": (1, 1, to_whole),
    "$toLong": (1, 1, to_whole),
    "$toDouble": (1, 1, to_number),
    "$toDecimal": (1, 1, to_number),
    "$toBool": (1, 1, to_bool),
    "$isNumber": (1, 1, is_number),
    "$indexOfCP": (2, 4, _index_of),
    "$strcasecmp": (2, 2, _compared_without_case),
    "$first": (1, 1, _end(0)),
    "$last": (1, 1, _end(-1)),
    "$reverseArray": (1, 1, _reversed),
    "$range": (2, 3, _range),
    "$indexOfArray": (2, 4, _index_of_array),
    "$setDifference": (2, 2, _difference),
    "$setIsSubset": (2, 2, lambda a, b: _keyed(a).keys() <= _keyed(b).keys()),
    "$anyElementTrue": (1, 1, lambda a: any(map(truthy, _array(a)))),
    "$allElementsTrue": (1, 1, lambda a: all(map(truthy, _array(a)))),
    "$objectToArray": (1, 1, _as_array),
    "$arrayToObject": (1, 1, _as_object),
}
"""As those of query/expression_functions.py."""

VARIADIC: Final[dict[str, Function]] = {
    "$setUnion": _union,
    "$setIntersection": _intersection,
    "$setEquals": _same,
    "$mergeObjects": _merged,
}
"""Functions of any number of arguments, as one sequence."""

NAMED: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], Function]]] = {
    "$trim": (("input",), ("chars",), _trimmed(str.strip)),
    "$ltrim": (("input",), ("chars",), _trimmed(str.lstrip)),
    "$rtrim": (("input",), ("chars",), _trimmed(str.rstrip)),
    "$replaceOne": (("input", "find", "replacement"), (), _replaced(1)),
    "$replaceAll": (("input", "find", "replacement"), (), _replaced(-1)),
    "$regexMatch": (("input", "regex"), ("options",), _matches),
    "$getField": (("field", "input"), (), _member_of),
    "$setField": (("field", "input", "value"), (), with_member),
    "$sortArray": (("input", "sortBy"), (), _sorted_array),
    **CALENDAR_NAMED,
}
"""Functions whose arguments have names: those needed, others, and what takes them in this order."""
