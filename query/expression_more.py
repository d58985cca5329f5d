"""Still more functions of expressions (query/expressions.py): matches of patterns, bytes of texts, bits, the
first and least elements, arrays side by side, conversions that say what stands for what does not convert.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final

from core.json_values import is_number
from query import numbers
from query.document_values import MISSING, Value, order_key
from query.expression_calendar import FUNCTIONS as CALENDAR
from query.expression_functions import ELEMENTS_MAX, Function, is_nothing, number_of, text_of, to_text
from query.expression_library import to_bool, to_whole, with_member
from query.expression_moments import number_or_moment, whole_or_moment
from query.numbers import NotComputableError, whole
from query.refusals import shown
from query.regex import STEPS_TIMES_BYTES_MAX, compiled

FOUND_MAX: Final = 100_000
"""Matches of a pattern in one text."""

# --- texts


def _matches(text: Value, pattern: Value, options: Value, limit: int) -> list[Value]:
    program = compiled(text_of(pattern), text_of(options))
    if isinstance(program, str):
        raise NotComputableError(program)
    if len(text_of(text)) * program.steps > STEPS_TIMES_BYTES_MAX:
        raise NotComputableError("this pattern is too complex for so long a text")
    return [
        {"match": match, "idx": at, "captures": captures}
        for match, at, captures in program.found(text_of(text), limit)
    ]


def _first_match(text: Value, pattern: Value, options: Value) -> Value:
    if is_nothing(text) or is_nothing(pattern):
        return None
    found = _matches(text, pattern, options, 1)
    return found[0] if found else None


def _all_matches(text: Value, pattern: Value, options: Value) -> Value:
    if is_nothing(text) or is_nothing(pattern):
        return []
    return _matches(text, pattern, options, FOUND_MAX)


def _bytes_of(text: Value) -> bytes:
    return text_of(text).encode("utf-8", "surrogatepass")


def _substring(text: Value, first: Value, count: Value) -> Value:
    begin, length = whole(first), whole(count)
    if begin is None or length is None:
        raise NotComputableError("$substrBytes takes a text, a position and a number of bytes")
    data = _bytes_of(to_text(text))
    if begin < 0:
        return ""
    found = data[begin:] if length < 0 else data[begin : begin + length]
    try:
        return found.decode()
    except UnicodeDecodeError:
        raise NotComputableError("$substrBytes cuts a character in two: use $substrCP") from None


def _index_of(text: Value, part: Value, first: Value = 0, end: Value = None) -> Value:
    if is_nothing(text):
        return None
    begin, limit = whole(first), None if end is None else whole(end)
    if begin is None or begin < 0 or not isinstance(part, str):
        raise NotComputableError("$indexOfBytes takes a text, a text to find, and positions from 0")
    return _bytes_of(text).find(_bytes_of(part), begin, limit)


# --- bits


def _bits(fold: Callable[[int, int], int], neutral: int) -> Function:
    def apply(values: Sequence[Value]) -> Value:
        if any(is_nothing(value) for value in values):
            return None
        return reduce(fold, map(_whole, values), neutral)

    return apply


def _whole(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise NotComputableError(f"a whole number belongs here; found {shown(value)}")
    return value


def _inverted(value: Value) -> Value:
    return None if is_nothing(value) else ~_whole(value)


# --- arrays


def _array(value: Value) -> list[Value]:
    if not isinstance(value, list):
        raise NotComputableError(f"an array belongs here; found {shown(value)}")
    return value


def _zipped(inputs: Value, longest: Value, defaults: Value) -> Value:
    arrays = _array(inputs)
    if any(is_nothing(each) for each in arrays):
        return None
    lengths = [len(_array(each)) for each in arrays]
    if not lengths:
        raise NotComputableError("$zip takes at least one array under inputs")
    others = [None] * len(arrays) if is_nothing(defaults) else _array(defaults)
    if longest is not True and defaults is not MISSING:
        raise NotComputableError("defaults need useLongestLength: true")
    if len(others) != len(arrays):
        raise NotComputableError("there are as many defaults as inputs")
    length = max(lengths) if longest is True else min(lengths)
    if length * len(arrays) > ELEMENTS_MAX:
        raise NotComputableError(f"an array has at most {ELEMENTS_MAX} elements")
    pairs = list(zip(arrays, others, strict=True))
    return [[each[at] if at < len(each) else other for each, other in pairs] for at in range(length)]


def _some(choose: Callable[[list[Value], int], list[Value]]) -> Function:
    def apply(value: Value, count: Value) -> Value:
        number = whole(count)
        if number is None or number < 1:
            raise NotComputableError(f"n is a whole number above 0; found {shown(count)}")
        return choose(_array(value), number)

    return apply


def _extremes(*, descending: bool) -> Callable[[list[Value], int], list[Value]]:
    def choose(values: list[Value], count: int) -> list[Value]:
        kept = [value for value in values if not is_nothing(value)]
        return sorted(kept, key=order_key, reverse=descending)[:count]

    return choose


def _deviation(*, sample: bool) -> Function:
    def apply(values: Sequence[Value]) -> Value:
        found = [number_of(value) for value in values if not _is_no_number(value)]
        total: numbers.Number = 0
        squares: numbers.Number = 0
        for number in found:
            total = numbers.add(total, number)
            squares = numbers.add(squares, numbers.multiply(number, number))
        return numbers.deviation(len(found), total, squares, sample)

    return apply


def percentile(ordered: list[Value], share: Value) -> Value:
    """Of numbers in their order the one at or below which such a share of them lies; None of none."""
    if not ordered:
        return None
    rank = numbers.rounded(numbers.multiply(number_of(share), len(ordered)), 0, decimal.ROUND_CEILING)
    return ordered[max(0, min(int(rank), len(ordered)) - 1)]


def _percentiles(values: Value, shares: Value, _: Value) -> Value:
    wanted = shares if isinstance(shares, list) else []
    if not wanted or not all(is_number(share) and 0 <= share <= 1 for share in wanted):
        raise NotComputableError(f"p lists numbers from 0 to 1, as [0.5, 0.95]; found {shown(shares)}")
    found = values if isinstance(values, list) else [values]
    ordered = sorted((value for value in found if not _is_no_number(value)), key=number_of)
    return [percentile(ordered, share) for share in wanted]


def _is_no_number(value: Value) -> bool:
    try:
        number_of(value)
    except NotComputableError:
        return True
    return False


# --- conversions

_TO: Final[dict[str, Callable[[Value], Value]]] = {
    "double": number_or_moment,
    "decimal": number_or_moment,
    "int": to_whole,
    "long": whole_or_moment,
    "bool": to_bool,
    "string": to_text,
    "date": CALENDAR["$toDate"][2],
}
_NUMBERED: Final = {1: "double", 2: "string", 8: "bool", 9: "date", 16: "int", 18: "long", 19: "decimal"}


def _converted(value: Value, to: Value, on_error: Value, on_null: Value) -> Value:
    if isinstance(to, dict):
        to = to.get("type")
    if is_nothing(to):
        return None
    name = to if isinstance(to, str) else _NUMBERED.get(whole(to) or 0)
    convert = _TO.get(name or "")
    if convert is None:
        raise NotComputableError(f"$convert is to one of {', '.join(_TO)}; found {shown(to)}")
    if is_nothing(value):
        return None if on_null is MISSING else on_null
    try:
        return convert(value)
    except NotComputableError:
        if on_error is MISSING:
            raise
        return on_error


FUNCTIONS: Final[dict[str, tuple[int, int, Function]]] = {
    "$substr": (3, 3, _substring),
    "$substrBytes": (3, 3, _substring),
    "$strLenBytes": (1, 1, lambda a: len(_bytes_of(a))),
    "$indexOfBytes": (2, 4, _index_of),
    "$bitNot": (1, 1, _inverted),
}
"""As those of query/expression_functions.py."""

VARIADIC: Final[dict[str, Function]] = {
    "$bitAnd": _bits(int.__and__, -1),
    "$bitOr": _bits(int.__or__, 0),
    "$bitXor": _bits(int.__xor__, 0),
    "$stdDevPop": _deviation(sample=False),
    "$stdDevSamp": _deviation(sample=True),
}
"""As those of query/expression_library.py."""

NAMED: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., Any]]]] = {
    "$regexFind": (("input", "regex"), ("options",), _first_match),
    "$regexFindAll": (("input", "regex"), ("options",), _all_matches),
    "$zip": (("inputs",), ("useLongestLength", "defaults"), _zipped),
    "$convert": (("input", "to"), ("onError", "onNull"), _converted),
    "$percentile": (("input", "p"), ("method",), _percentiles),
    "$median": (("input",), ("method",), lambda values, method: _percentiles(values, [0.5], method)[0]),
    "$unsetField": (("field", "input"), (), lambda field, holder: with_member(field, holder, MISSING)),
    "$firstN": (("input", "n"), (), _some(lambda values, n: values[:n])),
    "$lastN": (("input", "n"), (), _some(lambda values, n: values[-n:])),
    "$minN": (("input", "n"), (), _some(_extremes(descending=False))),
    "$maxN": (("input", "n"), (), _some(_extremes(descending=True))),
}
"""As those of query/expression_library.py."""
