"""A document as its fields: which values stand at which path, in which views.

    fields = fields_of(document, rules)        # path -> Values
    fields["title"].text, fields["year"].numbers, fields["tags"].exact

Keys are joined by dots, arrays are transparent: their elements are values of the path, objects in them add to
the paths below. null is no value. This is the only place that says what a document holds, for indexing (both
segments), scoring, sorting and aggregating alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from core.json_values import JsonError, number_of
from index.analysis.words import standard_terms
from index.floats import as_float
from index.instants import parse_instant
from index.mapping import ANY_VIEW, EXACT_CHARS_MAX, FieldRule, Rules
from index.query import ALL, BOOLEAN, DATE, EXACT, NUMBER, TEXT, WHOLE, Value

DATE_CHARS_MIN: Final = 7
DATE_CHARS_MAX: Final = 40
MILLISECOND_US: Final = 1_000
DATE_US_MAX: Final = 2**62
INT_END: Final = 2**63
WHOLE_CHARS_MAX: Final = 64
WHOLE_WORDS_MAX: Final = 4
"""What is a name rather than a text."""

Number = int | float | Decimal


_SLOTS: Final = {TEXT: "text", EXACT: "exact", NUMBER: "numbers", DATE: "dates", BOOLEAN: "booleans"}


class Values:
    """What stands at one path, in the order of the document."""

    __slots__ = ("booleans", "dates", "exact", "numbers", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.exact: list[str] = []
        self.numbers: list[Number] = []
        self.dates: list[int] = []
        self.booleans: list[bool] = []

    def of(self, view: str) -> list[Any]:
        """The values of a view."""
        found: list[Any] = getattr(self, _SLOTS[view])
        return found

    def any(self) -> bool:
        """Whether there are any."""
        return bool(self.text or self.exact or self.numbers or self.dates or self.booleans)


Fields = dict[str, Values]


def fields_of(document: Any, rules: Rules) -> Fields:
    """The fields of a document (a JSON value), in the order in which they are met."""
    fields: Fields = {}
    _collect(fields, "", document, rules)
    return fields


def _collect(fields: Fields, path: str, value: Any, rules: Rules) -> None:
    if isinstance(value, dict):
        prefix = path + "." if path else ""
        for key, member in value.items():
            _collect(fields, prefix + key, member, rules)
    elif isinstance(value, list):
        for element in value:
            _collect(fields, path, element, rules)
    elif value is not None:
        rule = rules.default if rules.is_plain else rules.field(path)
        if rule.views and path not in (ALL, WHOLE):
            values = fields.get(path)
            if values is None:
                values = fields[path] = Values()
            add_value(values, value, rule)
            if not values.any():
                del fields[path]


def add_value(values: Values, value: Any, rule: FieldRule) -> None:
    """A value (a string, number or boolean) in the views that its path's rule gives it."""
    if isinstance(value, str):
        if rule.views is ANY_VIEW and not (value[:4].isdecimal() or value[-4:].isdecimal()):  # most values
            values.text.append(value)
            if len(value) <= EXACT_CHARS_MAX:
                values.exact.append(value)
            return
        _add_string(values, value, rule.views)
    elif value is True or value is False:
        if BOOLEAN in rule.views:
            values.booleans.append(value)
        elif EXACT in rule.views or TEXT in rule.views:
            _add_string(values, "true" if value else "false", rule.views)
    elif NUMBER in rule.views:
        values.numbers.append(value)
    elif DATE in rule.views:  # milliseconds since 1970, where a date is asked for
        if abs(value) < DATE_US_MAX // MILLISECOND_US:
            values.dates.append(int(value * MILLISECOND_US))
    elif EXACT in rule.views or TEXT in rule.views:
        _add_string(values, str(value), rule.views)


def _add_string(values: Values, text: str, views: tuple[str, ...]) -> None:
    if TEXT in views:
        values.text.append(text)
    if EXACT in views and len(text) <= EXACT_CHARS_MAX:
        values.exact.append(text)
    at_us = date_of(text) if DATE in views else None
    if at_us is not None:
        values.dates.append(at_us)
    if NUMBER in views and EXACT not in views:  # a number is asked for
        number = _number(text)
        if number is not None:
            values.numbers.append(number)
    if BOOLEAN in views and EXACT not in views and text in ("true", "false"):
        values.booleans.append(text == "true")


def date_of(text: str) -> int | None:
    """Microseconds since 1970 of a string that is a date; None if it is none."""
    if DATE_CHARS_MIN <= len(text) <= DATE_CHARS_MAX and (text[:4].isdecimal() or text[-4:].isdecimal()):
        return parse_instant(text)
    return None


def _number(text: str) -> Number | None:
    """The number that a text is; None of what JSON could not write (`NaN`, `1e9999999`)."""
    text = text.strip()
    if len(text) > NUMBER_CHARS_MAX or _NUMBER.fullmatch(text) is None:
        return None
    try:
        return number_of(Decimal(text))
    except JsonError:
        return None


NUMBER_CHARS_MAX: Final = 1_000
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,6})?", re.ASCII)


def texts_of_all(fields: Fields) -> Iterator[str]:
    """What the field of all text holds: strings that are indexed as text, and numbers as they are written."""
    for values in fields.values():
        yield from values.text
        for number in values.numbers:
            yield str(number)


def strings_of_all(document: Any) -> tuple[list[str], list[str]]:
    """The same where no mapping says anything of fields, for a sixth of the time: strings, and numbers, in
    the order of the document.
    """
    strings: list[str] = []
    numbers: list[str] = []
    _strings(strings, numbers, "", document)
    return strings, numbers


def _strings(strings: list[str], numbers: list[str], path: str, value: Any) -> None:
    if isinstance(value, dict):
        prefix = path + "." if path else ""
        for key, member in value.items():
            kind = type(member)
            if kind is str:
                if prefix or key not in (ALL, WHOLE):
                    strings.append(member)
            elif kind is int or kind is float:
                if prefix or key not in (ALL, WHOLE):
                    numbers.append(str(member))
            elif member is not None and kind is not bool:
                _strings(strings, numbers, prefix + key, member)
    elif isinstance(value, list):
        is_ours = path in (ALL, WHOLE)
        for element in value:
            if type(element) is str and not is_ours:
                strings.append(element)
            else:
                _strings(strings, numbers, path, element)
    elif value is not None and value is not True and value is not False and path not in (ALL, WHOLE):
        (strings if isinstance(value, str) else numbers).append(str(value))


def whole_of(text: str) -> str:
    """A value as one term: its words, if they are few; else nothing. No analyzer has a say in that."""
    words = standard_terms(text) if len(text) <= WHOLE_CHARS_MAX else []
    return " ".join(words) if is_whole(text, words) else ""


def is_whole(text: str, words: Sequence[str]) -> bool:
    """Whether a value of these words is a name rather than a text."""
    return 0 < len(words) <= WHOLE_WORDS_MAX and len(text) <= WHOLE_CHARS_MAX


def plain(value: Value | Decimal) -> Value:
    """A value as answers have it: numbers that no message can hold as they are become floats."""
    if isinstance(value, Decimal) or (type(value) is int and not -INT_END <= value < INT_END):
        return as_float(value)
    return value
