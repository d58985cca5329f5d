"""Rows as text: aligned tables, one value a line (expanded), and the width that text takes in a terminal.

Pure functions of cells. A cell is text with how it is drawn: numbers stand right, null is told from 'null'
by its colour. Control characters are escaped, since one of them would ruin all that follows; wide East-Asian
characters count twice, combining ones not at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from wcwidth import wcswidth

PLAIN, NUMBER, NULL = "plain", "number", "null"

NULL_TEXT: Final = "null"
_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_RESET: Final = "\x1b[0m"
_STYLES: Final = {PLAIN: "", NUMBER: "\x1b[32m", NULL: "\x1b[31m"}
_HEAD: Final = "\x1b[1m"
_DIM: Final = "\x1b[2m"


class Cell(NamedTuple):
    """A value as it is shown."""

    text: str
    kind: str = PLAIN


def escaped(text: str) -> str:
    """The text with control characters visible."""
    return _CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return _ESCAPES.get(char) or (f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}")


def width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    found: int = wcswidth(text)
    return found if found >= 0 else len(text)


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """The text with spaces to this width."""
    space = " " * (columns - width(text))
    return space + text if right else text + space


class Table:
    """A table that may come in pages: the header once, columns never narrower than before."""

    def __init__(self, names: Sequence[str], *, colour: bool = False) -> None:
        self._names = [escaped(name) for name in names]
        self._widths = [width(name) for name in self._names]
        self._colour = colour
        self._begun = False

    def page(self, rows: Sequence[Sequence[Cell]]) -> list[str]:
        """The lines of these rows."""
        for row in rows:
            for index, cell in enumerate(row):
                self._widths[index] = max(self._widths[index], width(cell.text))
        lines = [] if self._begun else self._head()
        self._begun = True
        return lines + [self._line(row) for row in rows]

    def total_width(self, rows: Sequence[Sequence[Cell]]) -> int:
        """How wide the table is with these rows."""
        widths = list(self._widths)
        for row in rows:
            for index, cell in enumerate(row):
                widths[index] = max(widths[index], width(cell.text))
        return sum(widths) + 3 * len(widths) - 1

    def _head(self) -> list[str]:
        names = [padded(name, columns) for name, columns in zip(self._names, self._widths, strict=True)]
        if self._colour:
            names = [f"{_HEAD}{name}{_RESET}" for name in names]
        rule = "+".join("-" * (columns + 2) for columns in self._widths)
        return [(" " + " | ".join(names)).rstrip(), rule]

    def _line(self, row: Sequence[Cell]) -> str:
        parts = []
        for cell, columns in zip(row, self._widths, strict=True):
            text = padded(cell.text, columns, right=cell.kind == NUMBER)
            parts.append(_styled(text, cell.kind) if self._colour else text)
        return (" " + " | ".join(parts)).rstrip()


def expanded(
    names: Sequence[str], rows: Sequence[Sequence[Cell]], first: int = 1, *, colour: bool = False
) -> list[str]:
    """One value a line; `first` is the number of the first row."""
    shown = [escaped(name) for name in names]
    columns = max((width(name) for name in shown), default=0)
    lines = []
    for number, row in enumerate(rows, first):
        title = f"@ row {number}"
        lines.append(f"{_DIM}{title}{_RESET}" if colour else title)
        for name, cell in zip(shown, row, strict=True):
            text = _styled(cell.text, cell.kind) if colour else cell.text
            lines.append(f" {padded(name, columns)} | {text}".rstrip())
    return lines


def _styled(text: str, kind: str) -> str:
    style = _STYLES[kind]
    return f"{style}{text}{_RESET}" if style else text
