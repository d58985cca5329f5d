"""Values as terms: how what is not analyzed stands in an inverted index.

All views but TEXT of all paths share one physical field. A term is

    path 0x00 tag value

where the value is written so that terms compare as values do (numbers of any size exactly), which makes a
range of values a range of terms. Some terms are no values: that something stands at a path or below it, that
there is more than one value, and how many terms the TEXT of a path has. So a million paths are a million
terms, not a million fields: a term dictionary lies on disk.

Control characters are escaped by 0x01, and a space is 0x02, which keeps the order. So 0x00 and 0x1e are free
to mark, and terms are free of white space.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from core.json_values import exact
from index.fields import Number
from index.query import BOOLEAN, DATE, EXACT, NUMBER, Value

SEPARATOR: Final = " "
"""Between terms of one text."""

HOLE: Final = "\x1e"
"""A position without a term."""

SPACE: Final = "\x02"

PATH_END: Final = "\x00"

TAGS: Final = {EXACT: "s", NUMBER: "n", DATE: "d", BOOLEAN: "b"}
EXISTS_TAG: Final = "x"
LENGTH_TAG: Final = "l"
SEVERAL_TAG: Final = "m"

_META = re.compile(r"[\\.+*?()|\[\]{}^$#&\-~]")
_CONTROL = re.compile("[\x00-\x1f]")
_WHOLE = re.compile(r"-?\d{1,1000}", re.ASCII)
_SURROGATES = re.compile("[\ud800-\udfff]")

_EXPONENT_BIAS: Final = 500_000
_EXPONENT_MAX: Final = 999_999
_COMPLEMENT: Final = str.maketrans("0123456789", "9876543210")
_DATE_BIAS: Final = 2**63

REGEX_BOUND_CHARS_MAX: Final = 32
"""Bounds of ranges are this long at most in a regular expression; a longer one is cut and takes in more."""


def escaped(text: str) -> str:
    """Text without control characters and spaces, in the same order."""
    if _CONTROL.search(text):
        text = _CONTROL.sub(_escape, text)
    text = text.replace(" ", SPACE)
    return _SURROGATES.sub("\ufffd", text) if not text.isascii() else text


def _escape(match: re.Match[str]) -> str:
    return "\x01" + chr(ord(match[0]) + 0x40)


def unescaped(text: str) -> str:
    """The text of `escaped`."""
    text = text.replace(SPACE, " ")
    return re.sub("\x01(.)", lambda match: chr(ord(match[1]) - 0x40), text) if "\x01" in text else text


def encoded_number(number: Number) -> str:
    """A number; equal numbers (1, 1.0, 1e0) are equal texts, and texts compare as numbers do."""
    if type(number) is int:
        digits = str(abs(number))
        exponent = len(digits)
        negative = number < 0
    elif type(number) is float and "e" not in (text := repr(abs(number))):
        whole, _, fraction = text.partition(".")
        digits = (whole + fraction).lstrip("0")
        exponent = len(digits) - len(fraction)
        negative = number < 0
    else:
        parts = exact(number).as_tuple()
        assert isinstance(parts.exponent, int), "no NaN, no infinity"
        digits = "".join(map(str, parts.digits)).lstrip("0")
        exponent = len(digits) + parts.exponent
        negative = parts.sign == 1
    digits = digits.rstrip("0")
    if not digits:
        return "1"
    biased = min(_EXPONENT_MAX, max(0, exponent + _EXPONENT_BIAS))
    if negative:
        return f"0{_EXPONENT_MAX - biased:06d}{digits.translate(_COMPLEMENT)}~"
    return f"2{biased:06d}{digits}"


def encoded_digits(text: str) -> str:
    """The same of the text of an integer above 0."""
    exponent = len(text) + _EXPONENT_BIAS
    if exponent > _EXPONENT_MAX:
        return encoded_number(int(text))
    return f"2{exponent}{text.rstrip('0')}"


def decoded_number(text: str) -> int | float | Decimal:
    """The number of `encoded_number`."""
    if text == "1":
        return 0
    biased, digits = int(text[1:7]), text[7:]
    if text[0] == "0":
        biased, digits = _EXPONENT_MAX - biased, digits[:-1].translate(_COMPLEMENT)
    exponent = biased - _EXPONENT_BIAS - len(digits)
    sign = "-" if text[0] == "0" else ""
    if exponent >= 0 and exponent + len(digits) <= 400:
        return int(sign + digits + "0" * exponent)
    found = Decimal(f"{sign}{digits}e{exponent}")
    near = float(found)
    return near if exact(near) == found else found


def encoded(view: str, value: Value | Decimal) -> str | None:
    """A value of a view as it stands behind the tag; None if that view has no such value."""
    if view == EXACT:
        return escaped(value if isinstance(value, str) else str(value))
    if view == BOOLEAN:
        return str(int(value)) if isinstance(value, bool) else None
    if isinstance(value, str) and view == NUMBER:  # whole numbers beyond what messages hold travel as text
        return encoded_number(int(value)) if _WHOLE.fullmatch(value) else None
    if isinstance(value, bool | str):
        return None
    if view == NUMBER:
        return encoded_number(value)
    at_us = int(value) + _DATE_BIAS
    return f"{at_us:020d}" if 0 <= at_us < 2 * _DATE_BIAS else None


def decoded(view: str, text: str) -> Value | Decimal:
    """The value of `encoded`."""
    if view == EXACT:
        return unescaped(text)
    if view == BOOLEAN:
        return text == "1"
    return decoded_number(text) if view == NUMBER else int(text) - _DATE_BIAS


def head(path: str, tag: str) -> str:
    """What the terms of a view of a path begin with."""
    return escaped(path) + PATH_END + tag


def exists_term(path: str) -> str:
    """The term of documents with anything at this path or below; that of "" is a term of all."""
    return escaped(path) + PATH_END + EXISTS_TAG


def paths_above(path: str) -> list[str]:
    """This path and all above it, without the root."""
    found = [path]
    at = path.rfind(".")
    while at > 0:
        found.append(path[:at])
        at = path.rfind(".", 0, at)
    return found


# --- regular expressions over terms


def quoted(text: str) -> str:
    """Text that stands for itself in a regular expression, of Rust as of Python."""
    return _META.sub(r"\\\g<0>", text)


def wildcard_regex(pattern: str, *, escape: bool) -> str:
    """A pattern of `*`, `?` and backslashes as a regular expression; `escape` as terms of EXACT are."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and at + 1 < len(pattern):
            at += 1
            char = pattern[at]
            parts.append(quoted(escaped(char) if escape else char))
        elif char == "*":
            parts.append("(?s:.*)")
        elif char == "?":
            parts.append("(?s:.)")
        else:
            parts.append(quoted(escaped(char) if escape else char))
        at += 1
    return "".join(parts)


def range_regex(
    low: str | None, high: str | None, include_low: bool, include_high: bool
) -> tuple[str | None, bool]:
    """A regular expression of the texts in a range (None: there are none), and whether it is exact (else it
    takes in more).
    """
    exact_bounds = True
    if low is not None and len(low) > REGEX_BOUND_CHARS_MAX:
        low, include_low, exact_bounds = low[:REGEX_BOUND_CHARS_MAX], True, False
    after_high = ""
    if high is not None and len(high) > REGEX_BOUND_CHARS_MAX:
        high, include_high, exact_bounds = high[:REGEX_BOUND_CHARS_MAX], True, False
        after_high = "(?s:.*)"
    parts = _between(low or "", high, include_low, include_high)
    if after_high and high is not None:
        parts.append(quoted(high) + after_high)
    return "|".join(parts) if parts else None, exact_bounds


_LAST: Final = 0x10FFFF


def _class(first: int, last: int) -> str:
    return f"[\\x{{{first:X}}}-\\x{{{last:X}}}](?s:.*)"


def _between(low: str, high: str | None, include_low: bool, include_high: bool) -> list[str]:
    """Alternatives: texts from `low` to `high` by code points."""
    if high is not None and (low > high or (low == high and not (include_low and include_high))):
        return []
    if low == high:
        return [quoted(low)]
    same = 0
    if high is not None:
        while same < min(len(low), len(high)) and low[same] == high[same]:
            same += 1
    parts = [quoted(low)] if include_low else []
    if high is None:
        if not low:
            return ["(?s:.+)", *parts]
        parts += [quoted(low) + "(?s:.+)", *_above(low, 0)]
        return parts
    if same < len(low):
        first, last = ord(low[same]) + 1, ord(high[same]) - 1
        if first <= last:
            parts.append(quoted(low[:same]) + _class(first, last))
        parts += [quoted(low) + "(?s:.+)", *_above(low, same + 1), *_below(high, same + 1)]
    else:
        parts += _below(high, same)
    parts += [quoted(high[:length]) for length in range(same + 1, len(high))]
    if include_high:
        parts.append(quoted(high))
    return parts


def _above(low: str, first: int) -> list[str]:
    return [
        quoted(low[:at]) + _class(ord(low[at]) + 1, _LAST)
        for at in range(first, len(low))
        if ord(low[at]) < _LAST
    ]


def _below(high: str, first: int) -> list[str]:
    return [
        quoted(high[:at]) + _class(1, ord(high[at]) - 1)
        for at in range(first, len(high))
        if high[at] > "\x01"
    ]
