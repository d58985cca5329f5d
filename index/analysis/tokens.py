"""What an analyzer gives: terms with the place in the text that they come from, and their positions."""

from __future__ import annotations

from typing import NamedTuple

TOKEN_CHARS_MAX = 255
"""Longer words are cut into pieces of this length."""


class Token(NamedTuple):
    """A term. `start` and `end` are characters of the text, `position` counts words.

    Tokens at one position are alternatives. Of tokens whose places in the text overlap without being the
    same, a search wants all: they are parts of one word.
    """

    term: str
    start: int
    end: int
    position: int


def by_position(token: Token) -> int:
    """For sorting: what is stuck to a word may stand beside the words after it."""
    return token.position


_SCRIPTS = (
    ("<HANGUL>", 0x1100, 0x11FF),
    ("<HANGUL>", 0x3130, 0x318F),
    ("<HANGUL>", 0xAC00, 0xD7A3),
    ("<HIRAGANA>", 0x3040, 0x309F),
    ("<KATAKANA>", 0x30A0, 0x30FF),
    ("<IDEOGRAPHIC>", 0x3400, 0x9FFF),
    ("<IDEOGRAPHIC>", 0x20000, 0x2FA1F),
)


def token_type(term: str) -> str:
    """What a term is made of, in Elasticsearch's words: <ALPHANUM>, <NUM>, or its first letter's script."""
    if term.isdecimal():
        return "<NUM>"
    code = ord(term[0]) if term else 0
    return next((name for name, first, last in _SCRIPTS if first <= code <= last), "<ALPHANUM>")
