"""Exact JSON: the cluster keeps every digit of a number, and so does this.

Reading gives `int` of any size, `float` where the float's own shortest text is exactly the number that was
written (0.1 is one tenth), and `decimal.Decimal` for every other number. Fast parsers make floats of what
they cannot hold, silently; so a text with a run of digits that might not fit, or a large exponent, goes to
the standard library's parser, which hands every number's text over. All others go to orjson.

Writing takes what orjson takes (also dataclasses, datetimes, UUIDs), `Decimal`, and `int` of any size. There
is no NaN and no infinity in JSON: they are refused with ValueError, where orjson would write null.
"""

from __future__ import annotations

import dataclasses
import json
import math
from decimal import Decimal
from typing import Any, Final

import orjson

_DIGITS_RUN: Final = b"0" * 17
_CLASSES: Final = bytes(
    ord("0") if c in b"0123456789." else ord("e") if c in b"eE" else c if c in b"+-" else ord(" ")
    for c in range(256)
)
_RISKY: Final = (_DIGITS_RUN, b"0" * 16 + b"e", b"0e000", b"0e+000", b"0e-000")


def loads(text: bytes) -> Any:
    """The value of JSON text; raises ValueError if it is none."""
    shape = text.translate(_CLASSES)
    if any(risk in shape for risk in _RISKY):
        return json.loads(text, parse_float=_number)
    return orjson.loads(text)


def loads_as_floats(text: bytes) -> Any:
    """The same, faster, with every number that is no 64-bit integer as a float."""
    return orjson.loads(text)


def _number(text: str) -> float | Decimal:
    exact, near = Decimal(text), float(text)
    return near if math.isfinite(near) and Decimal(repr(near)) == exact else exact


def dumps(value: Any) -> bytes:
    """JSON text; raises TypeError for what has none, ValueError for NaN and infinity."""
    try:
        text = orjson.dumps(value, default=_default)
    except TypeError as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        if "64-bit" not in str(error):
            raise
        return _dumps_exactly(value)
    if b"null" in text:
        _check_finite(value)
    return text


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(_decimal_text(value))
    if isinstance(value, (set, frozenset, bytes)):
        raise TypeError(f"{type(value).__name__} has no form in JSON: make a list or a string of it")
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _decimal_text(value: Decimal) -> bytes:
    if not value.is_finite():
        raise ValueError(f"{value} has no form in JSON")
    return str(value).encode()


def _check_finite(value: Any) -> None:
    """A null may be a NaN that was lost."""
    if _is_dataclass(value):
        value = _members(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} has no form in JSON")
    if isinstance(value, dict):
        for one in value.values():
            _check_finite(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            _check_finite(one)


def _dumps_exactly(value: Any) -> bytes:
    """For values with integers beyond 64 bits somewhere."""
    if _is_dataclass(value):
        value = _members(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value)).encode()
    if isinstance(value, dict):
        pairs = (orjson.dumps(_name(key)) + b":" + _dumps_exactly(one) for key, one in value.items())
        return b"{" + b",".join(pairs) + b"}"
    if isinstance(value, (list, tuple)):
        return b"[" + b",".join(map(_dumps_exactly, value)) + b"]"
    return dumps(value)


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _members(value: Any) -> dict[str, Any]:
    """The members of a dataclass that orjson writes."""
    names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
    return {name: getattr(value, name) for name in names}


def _name(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError("Dict key must be str")
    return key
