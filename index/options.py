"""The options of a query or an aggregation in JSON: each is taken by its name, checked, and what nobody takes
is refused: a misspelt option that does nothing is the worst answer.
"""

from __future__ import annotations

import re
from typing import Any, Final

from index.bounds import FIELD_CHARS_MAX, TEXT_CHARS_MAX, RefusedError, is_boost
from index.date_formats import date_format
from index.minimum import is_minimum
from index.query import Boost, Query, Value
from query.zones import zone_of

FUZZINESS: Final = re.compile(r"AUTO(:\d{1,3},\d{1,3})?|[012]", re.ASCII | re.IGNORECASE)


_DIGITS: Final = re.compile(r"-?\d{1,15}(\.\d{1,15})?", re.ASCII)


def _of_digits(value: Any) -> Any:
    """A number, also where it is written as text, as Elasticsearch takes it and its own examples have it."""
    return float(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value


ALL_FLAGS: Final = (-1, 255, 65_535)
"""What Elasticsearch's clients write for all flags."""


class Body:
    """The options of one query: taken one by one, what is left over is refused."""

    def __init__(self, body: Any, path: str, depth: int) -> None:
        self.body = body
        self.path = path
        self.depth = depth
        self._taken: list[str] = []

    def object(self) -> dict[str, Any]:
        """The body, which must be an object."""
        if not isinstance(self.body, dict):
            raise RefusedError("an object is needed here", self.path)
        return self.body

    def field(self, short: str) -> tuple[str, Body]:
        """For bodies {field: {...}} or {field: value}, where the value is meant as the option `short`."""
        body = self.object()
        names = [name for name in body if name not in ("boost", "_name")] if len(body) > 1 else [*body]
        if len(names) != 1:
            raise RefusedError("exactly one field is named here", self.path)
        name = check_field(names[0], self.path)
        inner = body[name]
        if not isinstance(inner, dict):
            inner = {short: inner}
        outer = {key: body[key] for key in body if key != name}
        return name, Body({**outer, **inner}, f"{self.path}.{name}", self.depth)

    def take(self, name: str, default: Any = None) -> Any:
        """The value of an option as it stands."""
        self._taken.append(name)
        return self.object().get(name, default)

    def need(self, name: str) -> Any:
        """An option that must be there."""
        if self.object().get(name) is None:
            raise RefusedError(f"{name} is missing", self.path)
        return self.take(name)

    def text(self, name: str, default: str = "", needed: bool = False) -> str:
        """An option that is text, or a number or boolean taken for its text."""
        value = self.need(name) if needed else self.take(name, default)
        if isinstance(value, bool):
            value = "true" if value else "false"
        if isinstance(value, int | float):
            value = str(value)
        if not isinstance(value, str):
            raise RefusedError(f"{name} is text", self.path)
        if len(value) > TEXT_CHARS_MAX:
            raise RefusedError(f"{name} has at most {TEXT_CHARS_MAX} characters", self.path)
        return value

    def one_of(self, name: str, options: tuple[str, ...], default: str) -> str:
        """An option that is one of these words, in any case."""
        value = self.take(name, default)
        if not isinstance(value, str) or value.lower() not in options:
            raise RefusedError(f"{name} is one of: {', '.join(options)}", self.path)
        return value.lower()

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """An option that is a whole number in [low, high]."""
        value = self.take(name, default)
        if isinstance(value, str) and value.isdecimal() and len(value) < 10:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise RefusedError(f"{name} is a whole number from {low} to {high}", self.path)
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """An option that is a number in [low, high]."""
        value = _of_digits(self.take(name, default))
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise RefusedError(f"{name} is a number from {low:g} to {high:g}", self.path)
        return float(value)

    def boolean(self, name: str, default: bool) -> bool:
        """An option that is true or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise RefusedError(f"{name} is true or false", self.path)
        return value

    def minimum(self) -> str:
        """minimum_should_match."""
        value = self.take("minimum_should_match", "")
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or (text and not is_minimum(text)):
            raise RefusedError('minimum_should_match is such as 2, -1, "75%" or "2<75%"', self.path)
        return text

    def fuzziness(self, default: str = "") -> str:
        """fuzziness: AUTO, 0, 1 or 2."""
        text = str(self.take("fuzziness", default))
        if text and not FUZZINESS.fullmatch(text):
            raise RefusedError("fuzziness is AUTO, AUTO:low,high, 0, 1 or 2", self.path)
        return text.upper()

    def zero_terms(self) -> str:
        """zero_terms_query: what text without any term finds."""
        return self.one_of("zero_terms_query", ("none", "all"), "none")

    def zone(self) -> str:
        """time_zone."""
        text = self.text("time_zone")
        if zone_of(text) is None:
            detail = f"there is no time zone {text[:60]!r}; there are +09:00 and names such as Asia/Seoul"
            raise RefusedError(detail, self.path)
        return text

    def date_format(self) -> str:
        """The format of dates; "" if none is given."""
        text = self.text("format")
        problem = date_format(text) if text else ""
        if isinstance(problem, str) and problem:
            raise RefusedError(problem, self.path)
        return text

    def flags(self, known: tuple[str, ...]) -> tuple[str, ...]:
        """flags: words with `|` between them, or the number that Elasticsearch's own clients say for all."""
        given = [self.take(name) for name in ("flags", "flags_value")]
        if any(type(value) is int and value in ALL_FLAGS for value in given):
            return ("ALL",)
        found = tuple((self.text("flags", "ALL") or "NONE").upper().split("|"))
        for flag in found:
            if flag not in known:
                raise RefusedError(
                    f"there is no flag {flag[:40]!r}; there are: {', '.join(known)}", self.path
                )
        return found

    def without_effect(self, *names: str) -> None:
        """Options that change nothing here: how a query is executed, or what is always so."""
        for name in names:
            value = self.take(name)
            if not isinstance(value, str | int | float | None):
                raise RefusedError(f"{name} is text, a number, true or false", self.path)

    def only(self, value: bool, *names: str) -> None:
        """Options of which one value alone is understood, which clients say though it is the default."""
        for name in names:
            if self.boolean(name, value) is not value:
                raise RefusedError(f"{name} is not supported", self.path)

    def fields(self, name: str = "fields") -> tuple[tuple[str, float], ...]:
        """An option that is a list of fields, each perhaps with its boost: title^3."""
        value = self.take(name, ())
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list | tuple) or len(listed) > 100:
            raise RefusedError(f"{name} is a list of at most 100 fields", self.path)
        return tuple(self._boosted(each, f"{self.path}.{name}[{i}]") for i, each in enumerate(listed))

    def _boosted(self, text: Any, path: str) -> tuple[str, float]:
        name, caret, factor = str(text).rpartition("^") if isinstance(text, str) else ("", "", "")
        if not caret:
            return check_field(text, path), 1.0
        try:
            boost = float(factor)
        except ValueError:
            raise RefusedError("a number follows ^ in a field's name", path) from None
        if not is_boost(boost):
            raise RefusedError("a boost is 0 to 1,000,000", path)
        return check_field(name, path), boost

    def done(self, query: Query) -> Query:
        """The query with its boost; an option that nobody took is refused."""
        boost = _of_digits(self.take("boost", 1.0))
        self.take("_name")
        self.leftover()
        if isinstance(boost, bool) or not isinstance(boost, int | float) or not is_boost(float(boost)):
            raise RefusedError("boost is 0 to 1,000,000", self.path)
        return query if boost == 1 else Boost(query, float(boost))

    def leftover(self) -> None:
        """Refuse options that nobody took."""
        for name in self.object():
            if name not in self._taken:
                known = ", ".join(n for n in self._taken if not n.startswith("_"))
                raise RefusedError(f"{str(name)[:40]!r} is not known here; there are: {known}", self.path)


def check_field(name: Any, path: str) -> str:
    """A field's name, or RefusedError."""
    if not isinstance(name, str) or not 0 < len(name) <= FIELD_CHARS_MAX:
        raise RefusedError(f"a field's name is text of 1 to {FIELD_CHARS_MAX} characters", path)
    return name


def check_value(value: Any, path: str) -> Value:
    """A scalar, or RefusedError."""
    if isinstance(value, str | int | float) and (not isinstance(value, str) or len(value) <= TEXT_CHARS_MAX):
        return value
    raise RefusedError("a value is text, a number, true or false", path)
