"""Exact JSON: text to Python values and back, without a digit lost.

The values of a document are `None`, `bool`, `str`, `list`, `dict` and three kinds of number:

- `int`, of any size (to `limits.NUMBER_TEXT_DIGITS_MAX` digits);
- `float`, and then `repr()` is exactly the number that was written: 0.1 means one tenth, not its neighbour;
- `decimal.Decimal` for every other number with a point or an exponent.

So a number that is written in two ways has one value and one type unless one is an integer (`1`, `1.0`),
and those are equal in Python, too. Arithmetic, and an order that must be right to the last digit where
floats meet decimals, go through `exact`. There is no NaN and no infinity.

Reading is fast where that cannot show: orjson takes the text unless it has a run of more digits than a float
holds for certain, or an exponent of three digits. Writing checks more (`checked`): a name that is twice in an
object, which the fast parser would drop silently, depth, and size. That nothing was dropped is seen by
rendering what was parsed: if both texts are equal but for white space, they have the same names and numbers.
"""

from __future__ import annotations

import decimal
import json
import re
from collections.abc import Iterable
from decimal import Decimal
from functools import partial
from typing import Any, Final

import orjson

from core import limits
from core.errors import RequestError

Value = Any
"""None, bool, str, int, float, Decimal, list or dict, as above."""

EXACT: Final = decimal.Context(
    prec=limits.NUMBER_TEXT_DIGITS_MAX,
    Emin=-limits.NUMBER_EXPONENT_MAX,
    Emax=limits.NUMBER_EXPONENT_MAX,
    traps=[decimal.InvalidOperation, decimal.Overflow, decimal.Inexact, decimal.DivisionByZero],
)
"""Arithmetic that is exact or raises decimal.DecimalException."""

_RUN: Final = 17
_CLASSES: Final = bytes(
    ord("0") if chr(c) in "0123456789." else ord("e") if chr(c) in "eE" else c if chr(c) in "+-" else 32
    for c in range(256)
)
_LONG: Final = b"0" * _RUN
_EXPONENTS: Final = (b"0e000", b"0e+000", b"0e-000")
_WHITE: Final = b" \t\r\n"
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_ESCAPED_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonError(RequestError):
    """Text that is no document; `code` is a stable word: malformed, too_deep, too_large."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def parse(text: bytes) -> Value:
    """The value of text that is known to be JSON (it is stored). Raises JsonError if it is not."""
    if not _has_long_numbers(text):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise JsonError("malformed", f"this is no JSON: {error}") from None
    return _parse_exactly(text, check_names=False)


def checked(text: bytes, bytes_max: int = limits.DOCUMENT_BYTES_MAX) -> Value:
    """The value of text that a client sent. Raises JsonError, which says what is wrong and where."""
    if len(text) > bytes_max:
        raise JsonError("too_large", f"the JSON has {len(text)} bytes; {bytes_max} are the limit")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if _has_long_numbers(text):
            return _parse_exactly(text, check_names=True)
        if "depth limit" in str(error):
            raise _too_deep() from None
        raise JsonError("malformed", f"this is no JSON: {error}") from None
    if _may_be_deep(text) and depth_of(value) > limits.DOCUMENT_DEPTH_MAX:
        raise _too_deep()
    again = orjson.dumps(value)
    if text != again:  # else it has these very names and digits
        if _has_long_numbers(text):
            return _parse_exactly(text, check_names=True)
        if text.translate(None, _WHITE) != again.translate(None, _WHITE):
            return _parse_exactly(text, check_names=True)
    return value


def render(value: Value) -> bytes:
    """The text of a value, without white space. Raises JsonError for what JSON cannot say."""
    try:
        return orjson.dumps(value, default=_rendered)
    except TypeError:
        return _render_exactly(value)


def exact(number: float | Decimal) -> Decimal:
    """The number as a decimal: a float is what its `repr` says."""
    if type(number) is float:
        return Decimal(repr(number))
    return Decimal(number)


def number_of(found: Decimal) -> float | Decimal:
    """The plainest kind of number with this very value, for a result of arithmetic: int, float or Decimal.

    Raises JsonError if it has too many digits.
    """
    if not found:
        return 0
    _check_size(found)
    exponent = found.as_tuple().exponent
    assert isinstance(exponent, int), "no NaN, no infinity"
    if exponent == 0:
        return int(found)
    near = float(found)
    return near if _is_exactly(near, found) else found


def is_number(value: Value) -> bool:
    """Whether this is a JSON number (`True` is none)."""
    kind = type(value)
    return kind is int or kind is float or kind is Decimal


def type_name(value: Value) -> str:
    """What JSON calls this kind of value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "number"


# --- parsing with every digit


def _has_long_numbers(text: bytes) -> bool:
    """Whether a number may be there that a float does not hold for certain (strings may look like one)."""
    classes = text.translate(_CLASSES)
    if b"0e" in classes:
        plain, plus, minus = _EXPONENTS
        if plain in classes or plus in classes or minus in classes:
            return True
    return _LONG in classes


def _parse_exactly(text: bytes, check_names: bool) -> Value:
    if check_names:
        _check_depth(text)
    if _ESCAPED_SURROGATE.search(text):  # json takes halves of pairs; orjson does not, and says where
        _check_surrogates(text)
    try:
        return (_checking if check_names else _trusting)(str(text, "utf-8"))
    except UnicodeDecodeError as error:
        raise JsonError("malformed", f"this is no JSON: no UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise JsonError("malformed", f"this is no JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None


def _may_be_deep(text: bytes) -> bool:
    """Whether there are so many brackets (some may be in strings)."""
    return text.count(b"[") + text.count(b"{") > limits.DOCUMENT_DEPTH_MAX


def _check_depth(text: bytes) -> None:
    if not _may_be_deep(text):
        return
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", text)):
        depth += 1 if bracket in b"[{" else -1
        if depth > limits.DOCUMENT_DEPTH_MAX:
            raise _too_deep()


def _check_surrogates(text: bytes) -> None:
    for match in _STRINGS.finditer(text):
        if b"\\u" in match[0]:
            try:
                orjson.loads(match[0])
            except orjson.JSONDecodeError as error:
                raise JsonError(
                    "malformed", f"this is no JSON: {error.msg}, at byte {match.start()}"
                ) from None


def depth_of(value: Value) -> int:
    """How many levels of objects and arrays; stops counting beyond the limit."""
    level: Iterable[Value] = [value] if type(value) in (dict, list) else ()
    depth = 0
    while level and depth <= limits.DOCUMENT_DEPTH_MAX:
        depth += 1
        level = [
            item
            for above in level
            for item in (above.values() if type(above) is dict else above)
            if type(item) is dict or type(item) is list
        ]
    return depth


def _too_deep() -> JsonError:
    return JsonError("too_deep", f"the JSON is nested more than {limits.DOCUMENT_DEPTH_MAX} levels deep")


def _int(text: str) -> int:
    if len(text) > limits.NUMBER_TEXT_DIGITS_MAX:
        raise _too_long(len(text))
    return int(text)


def _float(text: str) -> float | Decimal:
    if len(text) > limits.NUMBER_TEXT_DIGITS_MAX:
        raise _too_long(len(text))
    try:
        found = EXACT.create_decimal(text)
    except decimal.DecimalException:
        raise _too_far(text) from None
    if found and abs(found.adjusted()) > limits.NUMBER_EXPONENT_MAX:
        raise _too_far(text)
    near = float(text)
    return near if _is_exactly(near, found) else found


def _is_exactly(near: float, number: Decimal) -> bool:
    return near - near == 0.0 and Decimal(repr(near)) == number


def _check_size(found: Decimal) -> None:
    if len(found.as_tuple().digits) > limits.NUMBER_TEXT_DIGITS_MAX:
        raise _too_long(len(found.as_tuple().digits))
    if abs(found.adjusted()) > limits.NUMBER_EXPONENT_MAX:
        raise _too_far(str(found))


def _too_long(digits: int) -> JsonError:
    limit = limits.NUMBER_TEXT_DIGITS_MAX
    return JsonError("malformed", f"a number has {digits} digits; {limit} are the limit")


def _too_far(text: str) -> JsonError:
    limit = limits.NUMBER_EXPONENT_MAX
    return JsonError("malformed", f"the exponent of {text[:40]} is beyond {-limit} to {limit}")


def _constant(text: str) -> Value:
    raise JsonError("malformed", f"this is no JSON: it has no {text}")


def _pairs(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise JsonError("malformed", f"the name {name[:60]!r} is twice in one object")
            seen.add(name)
    return found


_decoder = partial(json.JSONDecoder, parse_int=_int, parse_float=_float, parse_constant=_constant)
_trusting: Final = _decoder().decode
_checking: Final = _decoder(object_pairs_hook=_pairs).decode


# --- rendering with every digit


def _rendered(value: Value) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(number_text(value).encode())
    raise TypeError(f"no JSON value: {type(value).__name__}")


def number_text(value: float | Decimal) -> str:
    """A number as JSON writes it."""
    if isinstance(value, Decimal):
        _check_size(value)
        return str(value)
    _check_integer(value)
    return repr(value)


def _check_integer(value: float) -> None:
    if isinstance(value, int) and value.bit_length() > 3 * limits.NUMBER_TEXT_DIGITS_MAX:
        digits = int(value.bit_length() * 0.30103) + 1
        if digits > limits.NUMBER_TEXT_DIGITS_MAX:
            raise _too_long(digits)


def _render_exactly(value: Value) -> bytes:
    """With integers of more than 64 bits, which the fast renderer refuses."""
    try:
        return orjson.dumps(_prepared(value), default=_rendered)
    except TypeError as error:
        raise JsonError("malformed", f"this cannot be written as JSON: {error}") from None


def _prepared(value: Value) -> Value:
    if type(value) is int and value.bit_length() > 63:
        return orjson.Fragment(number_text(value).encode())
    if type(value) is list:
        return [_prepared(item) for item in value]
    if type(value) is dict:
        return {name: _prepared(item) for name, item in value.items()}
    return value
