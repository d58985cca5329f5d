"""How the values of a CSV file are written where that is not how CQL writes them.

    BOOLSTYLE = 'yes,no'    DATETIMEFORMAT = '%d.%m.%Y %H:%M'    DECIMALSEP = ','    THOUSANDSSEP = '.'

The options of cqlsh, in both directions: for booleans, timestamps and numbers that are columns of their own.
Within collections and other nested values, literals stay literals. A style is looked up once per column, so
a file without one costs nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from cli.shell.copy_values import from_text, text_of
from core.errors import RequestError
from cql_lite import types

Read = Callable[[str], bytes]
Write = Callable[[bytes], str]

_NUMBERS: Final = (types.Integer, types.Float, types.Varint, types.DecimalType)
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MS: Final = datetime.timedelta(milliseconds=1)
_YEAR_MIN: Final = 1000
_NUMBER: Final = re.compile(r"([+-]?)(\d+)(?:\.(\d+))?(.*)", re.DOTALL)
_GROUP: Final = re.compile(r"(?<=\d)(?=(?:\d{3})+$)")


@dataclass(frozen=True, slots=True)
class Styles:
    """The styles of a file; an empty one is CQL's own."""

    yes: str = ""
    no: str = ""
    datetime: str = ""
    decimal: str = ""
    thousands: str = ""

    def reader(self, of: types.Type) -> Read:
        """What makes a value of a column's text; it raises RequestError or ValueError if it is none."""
        plain = partial(from_text, of)
        if isinstance(of, types.Boolean) and self.yes:
            return lambda text: of.encode(self._truth(text))
        if isinstance(of, types.Timestamp) and self.datetime:
            return lambda text: of.encode(self._moment(text))
        if isinstance(of, _NUMBERS) and (self.decimal or self.thousands):
            return lambda text: plain(self._as_cql(text))
        return plain

    def writer(self, of: types.Type) -> Write:
        """What makes text of a value of a column."""
        plain = partial(text_of, of)
        if isinstance(of, types.Boolean) and self.yes:
            return lambda data: self.yes if of.decode(data) else self.no
        if isinstance(of, types.Timestamp) and self.datetime:
            return lambda data: self._moment_text(of.decode(data)) or plain(data)
        if isinstance(of, _NUMBERS) and (self.decimal or self.thousands):
            return lambda data: self._from_cql(plain(data))
        return plain

    def _truth(self, text: str) -> bool:
        word = text.strip().lower()
        if word not in (self.yes.lower(), self.no.lower()):
            raise ValueError(f"expected {self.yes} or {self.no}, but found {text!r}")
        return word == self.yes.lower()

    def _moment(self, text: str) -> int:
        """Milliseconds since the epoch; without a zone it is UTC. What no style can say is as CQL has it."""
        text = text.strip()
        try:
            found = datetime.datetime.strptime(text, self.datetime)  # noqa: DTZ007 - a few lines on
        except ValueError:
            with contextlib.suppress(RequestError):
                ms = types.TIMESTAMP.parse(text)
                if not self._moment_text(ms):
                    return ms
            raise ValueError(f"{text!r} is not written as {self.datetime}") from None
        if found.tzinfo is None:
            found = found.replace(tzinfo=datetime.UTC)
        return (found - _EPOCH) // _MS

    def _moment_text(self, ms: int) -> str:
        """Empty for years that are not of four digits, which the library cannot both write and read."""
        try:
            found = _EPOCH + ms * _MS
        except OverflowError:
            return ""
        return found.strftime(self.datetime) if found.year >= _YEAR_MIN else ""

    def _as_cql(self, text: str) -> str:
        found = text.replace(self.thousands, "") if self.thousands else text
        if self.decimal in ("", "."):
            return found
        if "." in found:
            raise ValueError(f"{text!r} has a point, and decimals come after {self.decimal}")
        return found.replace(self.decimal, ".")

    def _from_cql(self, text: str) -> str:
        match = _NUMBER.fullmatch(text)
        if match is None:
            return text  # NaN, Infinity
        sign, whole, fraction, exponent = match.groups()
        if self.thousands:
            whole = _GROUP.sub(self.thousands.replace("\\", "\\\\"), whole)
        return f"{sign}{whole}{'' if fraction is None else (self.decimal or '.') + fraction}{exponent}"
