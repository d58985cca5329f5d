"""Cuts CQL text into lexemes, and scripts into statements. One regular expression finds each lexeme.

Nothing here fails on length: the expression is linear (its repetitions never give back what they took), and
text that is no lexeme is one of kind BAD, about which the parser complains where it stands.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Container, Iterable
from itertools import islice
from typing import Final

import msgspec

from core.errors import RequestError
from cql_lite.ast import At

WORD, QUOTED, STRING, SYMBOL, END, BAD = "word", "quoted", "string", "symbol", "end", "bad"
INTEGER, FLOAT, UUID, BLOB, DURATION = "integer", "float", "uuid", "blob", "duration"
_DOLLARS, _COMMENT, _OPEN = "dollars", "comment", "open"

_UNIT = r"(?i:mo|ms|us|\u00b5s|ns|[ywdhms])"
_ISO = (
    r"P(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d|\d+W"
    r"|(?=\d|T\d)(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?)(?![A-Za-z0-9_])"
)
_LEXEME: Final = re.compile(
    rf"""\s*+(?:
      (?P<uuid>[0-9a-fA-F]{{8}}-[0-9a-fA-F]{{4}}-[0-9a-fA-F]{{4}}-[0-9a-fA-F]{{4}}-[0-9a-fA-F]{{12}}(?![0-9A-Za-z_]))
    | (?P<duration>(?:[0-9]++{_UNIT})++(?![A-Za-z0-9_])|{_ISO})
    | (?P<word>[A-Za-z][A-Za-z0-9_]*+)
    | (?P<blob>0[xX][0-9a-fA-F]*+)
    | (?P<float>[0-9]++(?:\.(?!\.)[0-9]*+(?:[eE][+-]?[0-9]++)?|[eE][+-]?[0-9]++))
    | (?P<integer>[0-9]++)
    | (?P<string>'[^']*+(?:''[^']*+)*+')
    | (?P<comment>--[^\n]*+|//[^\n]*+|/\*(?:[^*]|\*(?!/))*+\*/)
    | (?P<open>/\*.*+)
    | (?P<symbol>\+=|-=|<=|>=|!=|\.\.|[-+*/%=<>()\[\]{{}},.;:?])
    | (?P<quoted>"[^"]*+(?:""[^"]*+)*+")
    | (?P<dollars>\$\$(?:[^$]|\$(?!\$))*+\$\$)
    | (?P<end>\Z)
    | (?P<bad>.)
    )""",
    re.VERBOSE | re.DOTALL,
)

SHOWN_CHARS_MAX: Final = 40


class CqlSyntaxError(RequestError):
    """Text that is no CQL: where (line and column from 1), what was found and what was expected there."""

    def __init__(self, at: At, found: str, expected: str, hint: str = "") -> None:
        wanted = f"expected {expected}, but found {found}" if expected else found
        super().__init__(f"line {at.line}, column {at.column}: {wanted}{': ' + hint if hint else ''}")
        self.line = at.line
        self.column = at.column
        self.found = found
        self.expected = expected


class Lexemes:
    """The lexemes of a text, in order; the last is one of kind END.

    `ups` holds words in capitals and symbols as they are, and "" for everything else, so that one comparison
    finds a keyword. With `most` nothing is read behind so many lexemes and comments, and the last is no END.
    """

    __slots__ = ("_lines", "kinds", "starts", "text", "texts", "ups")

    def __init__(self, text: str, most: int | None = None) -> None:
        self.text = text
        self.kinds: list[str] = []
        self.texts: list[str] = []
        self.ups: list[str] = []
        self.starts: list[int] = []
        self._lines: list[int] | None = None
        kinds, texts, ups, starts = self.kinds, self.texts, self.ups, self.starts
        for match in islice(_LEXEME.finditer(text), most):
            kind = match.lastgroup
            if kind == _COMMENT:
                continue
            assert kind is not None
            piece = match[kind]
            starts.append(match.start(kind))
            texts.append(piece)
            if kind == WORD:
                ups.append(piece.upper())
            elif kind == SYMBOL:
                ups.append(piece)
            elif kind == _DOLLARS:
                kind = STRING
                ups.append("")
            elif kind == _OPEN:  # a comment that never ends: what follows is of it, and not looked at again
                kind = BAD
                ups.append("")
            else:
                ups.append("")
            kinds.append(kind)
            if kind == END:
                break

    def at(self, index: int) -> At:
        """Where a lexeme stands."""
        return self.position(self.starts[index])

    def position(self, offset: int) -> At:
        """Line and column of a character."""
        lines = self._lines
        if lines is None:
            lines = self._lines = [0] + [match.end() for match in re.finditer("\n", self.text)]
        if len(lines) == 1:
            return At(1, offset + 1)
        line = bisect_right(lines, offset)
        return At(line, offset - lines[line - 1] + 1)

    def shown(self, index: int) -> str:
        """What stands there, for a message."""
        kind, text = self.kinds[index], self.texts[index]
        if kind == END:
            return "the end of the statement"
        if kind == BAD and text.startswith("/*"):
            return "a /* that begins a comment which never ends"
        if kind == BAD:
            return _BAD.get(text) or f"the character {text!r}"
        if len(text) > SHOWN_CHARS_MAX:
            text = f"{text[:SHOWN_CHARS_MAX]}..."
        return text if kind in (STRING, QUOTED) else f"'{text}'"


_BAD: Final = {
    "'": "a ' that begins a text which never ends",
    '"': 'a " that begins a name which never ends',
    "$": "a $ that begins no text between $$ and $$",
}


def unquoted(text: str) -> str:
    """What a string literal or quoted name says."""
    quote = text[0]
    if quote == "$":
        return text[2:-2]
    inner = text[1:-1]
    return inner.replace(quote * 2, quote) if quote in inner else inner


def meant(word: str, keywords: Iterable[str]) -> str:
    """The keyword that a mistyped word is closest to, or ""."""
    close = difflib.get_close_matches(word.upper(), list(keywords), 1, 0.7)
    return close[0] if close else ""


# --- scripts


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A statement of a script: its text without the semicolon, where it begins, and whether one followed."""

    text: str
    at: At
    ended: bool
    start: int = 0
    """The offset at which it begins."""


def split(text: str, lines: Container[str] = ()) -> tuple[Piece, ...]:
    """The statements of a script, whatever they say; a batch is one. Empty ones are left out.

    Only the last may be without its semicolon (`ended` is False then): what a shell goes on reading for. It
    also ends so where a text, a name or a comment was begun and not ended. A statement that begins with one
    of `lines` (a shell's own commands, in capitals) ends with its line, too.
    """
    lexemes = Lexemes(text)
    pieces: list[Piece] = []
    first, last = -1, -1
    in_batch = False
    line_end = -1
    for index, up in enumerate(lexemes.ups):
        kind = lexemes.kinds[index]
        if 0 <= line_end < lexemes.starts[index]:
            pieces.append(_piece(lexemes, first, _end_of(lexemes, last), ended=True))
            first, line_end = -1, -1
        if kind == END or _opens(lexemes, index):
            break
        if up != ";":
            if first < 0:
                first = index
                in_batch = up == "BEGIN" and _begins_batch(lexemes, index)
                line_end = text.find("\n", lexemes.starts[index]) if up in lines else -1
            elif in_batch and up == "BATCH" and lexemes.ups[index - 1] == "APPLY":
                in_batch = False
            last = index
        elif first >= 0 and not in_batch:
            pieces.append(_piece(lexemes, first, _end_of(lexemes, last), ended=True))
            first, line_end = -1, -1
    else:
        index = len(lexemes.ups) - 1
    if first < 0 and lexemes.kinds[index] != END:
        first = index
    if first >= 0:
        pieces.append(_piece(lexemes, first, len(text.rstrip()), ended=False))
    return tuple(pieces)


def _begins_batch(lexemes: Lexemes, index: int) -> bool:
    return "BATCH" in lexemes.ups[index + 1 : index + 3]


def _opens(lexemes: Lexemes, index: int) -> bool:
    """Whether a quote or comment begins here that never ends."""
    if lexemes.kinds[index] == BAD:
        is_quote = lexemes.texts[index] in ("'", '"')
        return is_quote or lexemes.text.startswith(("$$", "/*"), lexemes.starts[index])
    return False


def _end_of(lexemes: Lexemes, index: int) -> int:
    return lexemes.starts[index] + len(lexemes.texts[index])


def _piece(lexemes: Lexemes, first: int, end: int, *, ended: bool) -> Piece:
    start = lexemes.starts[first]
    return Piece(lexemes.text[start:end], lexemes.position(start), ended, start)
