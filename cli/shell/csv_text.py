r"""CSV as text: fields to a line, a line to fields, with null told from the empty text.

A field without quotes that reads like the marker of null (by default: empty) is null; one in quotes never
is, so the empty text is "". Quotes within quotes are doubled, or escaped where another escape character was
asked for (cqlsh writes \"). A record may span lines: `fields` says None while a quote is open.

The csv module of the standard library cannot tell "" from nothing, which is why this is here. Lines without
quotes, which are most, are split by str.split.

Source: RFC 4180, and the COPY options of cqlsh.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


class CsvError(ValueError):
    """A line that is no CSV; the text says why."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written; each of the first three is one character."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    null: str = ""


def line(fields: Sequence[str | None], dialect: Dialect) -> str:
    """A record; None is null."""
    return dialect.delimiter.join(_field(field, dialect) for field in fields)


def _field(field: str | None, dialect: Dialect) -> str:
    if field is None:
        return dialect.null
    special = _special(dialect)
    if field != dialect.null and not special.search(field) and field == field.strip():
        return field
    quote, escape = dialect.quote, dialect.escape
    if escape != quote:
        field = field.replace(escape, escape * 2)
    return f"{quote}{field.replace(quote, escape + quote)}{quote}"


@lru_cache(16)
def _special(dialect: Dialect) -> re.Pattern[str]:
    """What must be in quotes."""
    marks = re.escape(dialect.delimiter + dialect.quote + dialect.escape)
    return re.compile(f"[{marks}\r\n]")


@lru_cache(16)
def _quoted(dialect: Dialect) -> re.Pattern[str]:
    """A field in quotes, up to its closing quote."""
    quote, escape = re.escape(dialect.quote), re.escape(dialect.escape)
    if escape == quote:
        return re.compile(f"{quote}((?:[^{quote}]|{quote}{quote})*+){quote}")
    return re.compile(f"{quote}((?:[^{quote}{escape}]|{escape}.)*+){quote}", re.DOTALL)


def fields(text: str, dialect: Dialect) -> list[str | None] | None:
    """The fields of a record without its line end; None while it goes on; raises CsvError."""
    null = dialect.null
    if dialect.quote not in text:
        return [None if field == null else field for field in text.split(dialect.delimiter)]
    found: list[str | None] = []
    at = 0
    while True:
        if text.startswith(dialect.quote, at):
            match = _quoted(dialect).match(text, at)
            if match is None:
                return None
            found.append(_unescaped(match[1], dialect))
            at = match.end()
            if at < len(text) and not text.startswith(dialect.delimiter, at):
                cqlsh = "; did cqlsh write this? ESCAPE = '\\'" if "\\" in match[0] else ""
                what = text[at : at + 10]
                raise CsvError(f"after the closing quote of field {len(found)} comes {what!r}{cqlsh}")
        else:
            end = text.find(dialect.delimiter, at)
            field = text[at:] if end < 0 else text[at:end]
            found.append(None if field == null else field)
            at += len(field)
        if at >= len(text):
            return found
        at += len(dialect.delimiter)


def _unescaped(text: str, dialect: Dialect) -> str:
    if dialect.escape not in text:
        return text
    if dialect.escape == dialect.quote:
        return text.replace(dialect.quote * 2, dialect.quote)
    return re.sub(f"{re.escape(dialect.escape)}(.)", r"\1", text, flags=re.DOTALL)
