"""Words of a text: the boundaries of Unicode's UAX #29, simplified.

A word is a run of letters, digits, marks and underscores; inside it an apostrophe, a full stop, a middle dot
or a colon may stand between letters, a full stop or a comma between digits. Ideographs and hiragana are words
of one character each, katakana runs together, and so does Hangul. Text is normalized (NFC) only where it is
not, since that moves offsets: there the terms are normalized, one by one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from index.analysis.tokens import TOKEN_CHARS_MAX, Token

IDEOGRAPHS: Final = "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
HIRAGANA: Final = "\u3041-\u309f"
KATAKANA: Final = "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"


def _marks() -> str:
    """All combining marks, which Python's \\w leaves out, as ranges of a character class."""
    points = [p for p in range(0x300, 0x20000) if unicodedata.category(chr(p)) in ("Mn", "Mc", "Me")]
    ranges: list[list[int]] = []
    for point in points:
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(f"{chr(low)}-{chr(high)}" for low, high in ranges)


MARKS: Final = _marks()

_LETTER = rf"(?:[^\W{IDEOGRAPHS}{HIRAGANA}]|[{MARKS}\u200c\u200d])"
_RUN = rf"[^\W{IDEOGRAPHS}{HIRAGANA}](?:{_LETTER})*"
_JOINT = r"(?:(?<=[^\W\d_])['’.·:](?=[^\W\d_" + IDEOGRAPHS + HIRAGANA + r"])|(?<=\d)[.,](?=\d))"
_WORDS = re.compile(
    rf"[{IDEOGRAPHS}{HIRAGANA}][{MARKS}]*|[{KATAKANA}][{KATAKANA}{MARKS}]*|{_RUN}(?:{_JOINT}{_RUN})*"
)
_ASCII_WORDS = re.compile(r"\w+(?:(?:(?<=[a-zA-Z])['.:](?=[a-zA-Z])|(?<=\d)[.,](?=\d))\w+)*", re.ASCII)
_JOINTS: Final = "'.:,"
_FOLDED: Final = "".join(
    chr(point).lower() if chr(point).isalnum() or chr(point) in "_" + _JOINTS else " " for point in range(128)
)
"""ASCII in lower case; what is neither part of a word nor may join two is a space."""

_LETTERS = re.compile(rf"(?:[^\W\d_]|[{MARKS}])+")
_CHUNKS = re.compile(r"\S+")


def _spans(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text):
        start, end = match.span()
        while end - start > TOKEN_CHARS_MAX:
            yield start, start + TOKEN_CHARS_MAX
            start += TOKEN_CHARS_MAX
        yield start, end


def _terms(pattern: re.Pattern[str], text: str) -> list[str]:
    found = pattern.findall(text)
    if len(text) > TOKEN_CHARS_MAX and found and max(map(len, found)) > TOKEN_CHARS_MAX:
        return [text[start:end] for start, end in _spans(pattern, text)]
    return found


def lowered(term: str) -> str:
    """A term in lower case and normal form."""
    low = term.lower()
    return low if low.isascii() else unicodedata.normalize("NFC", low)


def _ascii_terms(text: str) -> list[str]:
    """Split at spaces, which takes a fifth of a pattern's time; only what may be joined words is split by the
    pattern.
    """
    folded = text.translate(_FOLDED)
    is_joined = False
    for joint in _JOINTS:
        if joint in folded:
            folded = folded.replace(joint + " ", " ")
            is_joined = is_joined or joint in folded
    if _has_long_word(folded):
        return _terms(_ASCII_WORDS, text.lower())
    if not is_joined:
        return folded.split()
    split = _ASCII_WORDS.findall
    return [term for run in folded.split() for term in ((run,) if run.isalnum() else split(run))]


def _has_long_word(text: str) -> bool:
    """Whether more than TOKEN_CHARS_MAX characters come without a space: from one space to the last
    that is near enough.
    """
    at = 0
    while len(text) - at > TOKEN_CHARS_MAX:
        at = text.rfind(" ", at, at + TOKEN_CHARS_MAX + 1) + 1
        if not at:
            return True
    return False


def standard_terms(text: str) -> list[str]:
    """The words, lower case."""
    if text.isascii():
        return _ascii_terms(text)
    return [lowered(term) for term in _terms(_WORDS, text)]


def standard_tokens(text: str) -> list[Token]:
    """The same with their places."""
    pattern = _ASCII_WORDS if text.isascii() else _WORDS
    return [
        Token(lowered(text[start:end]), start, end, position)
        for position, (start, end) in enumerate(_spans(pattern, text))
    ]


def simple_tokens(text: str) -> list[Token]:
    """Runs of letters, lower case."""
    return [
        Token(lowered(text[start:end]), start, end, position)
        for position, (start, end) in enumerate(_spans(_LETTERS, text))
    ]


def whitespace_tokens(text: str) -> list[Token]:
    """What stands between white space, as it is."""
    return [
        Token(text[start:end], start, end, position)
        for position, (start, end) in enumerate(_spans(_CHUNKS, text))
    ]


def keyword_tokens(text: str) -> list[Token]:
    """The whole text, as it is."""
    return [Token(text, 0, len(text), 0)] if text else []


def edge_tokens(text: str, shortest: int, longest: int) -> list[Token]:
    """The beginnings of words, from `shortest` to `longest` characters, at the position of the word.

    A longer word is there as a whole, too.
    """
    found = []
    for term, start, end, position in standard_tokens(text):
        lengths = list(range(shortest, min(len(term), longest) + 1))
        if not lengths or lengths[-1] != len(term):
            lengths.append(len(term))
        found += [Token(term[:length], start, end, position) for length in lengths]
    return found
