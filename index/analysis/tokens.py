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
