"""Text as an index compares it: in one form of Unicode, without its case, in letters of ASCII.

What is indexed and what is asked for go the same way, so that they meet. The order is that of Cassandra's
storage-attached indexes: composed, folded, ASCII.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from core.schema import IndexTarget

_LETTERS: Final = {
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "ł": "l", "Ł": "L", "þ": "th", "Þ": "TH", "ħ": "h", "Ħ": "H", "ı": "i", "ĸ": "q",
    "ŋ": "n", "Ŋ": "N", "ŧ": "t", "Ŧ": "T", "‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-",
}  # fmt: skip
"""Letters and signs that are one to Unicode, and what stands for them."""


def plain(text: bytes, target: IndexTarget) -> bytes:
    """UTF-8 text as this target compares it, UTF-8 again."""
    if not (target.fold or target.normalize or target.ascii):
        return text
    found = text.decode()
    if target.normalize:
        found = unicodedata.normalize("NFC", found)
    if target.fold:
        found = found.casefold()
    if target.ascii and not found.isascii():
        found = "".join(map(_ascii, found))
    return found.encode()


def _ascii(letter: str) -> str:
    """What stands for a letter in ASCII; itself if nothing does."""
    if letter.isascii():
        return letter
    if letter in _LETTERS:
        return _LETTERS[letter]
    parts = unicodedata.normalize("NFKD", letter)
    bare = "".join(part for part in parts if not unicodedata.combining(part))
    return bare if bare and bare.isascii() else letter
