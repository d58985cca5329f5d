"""Bigrams of Chinese, Japanese and Korean text, words of everything else.

Where nobody separates words, every two neighbouring characters are a term: a word is found by its parts, and
a dictionary is not needed. A character alone is a term of its own.
"""

from __future__ import annotations

import re
from itertools import pairwise

from index.analysis.tokens import Token
from index.analysis.words import HIRAGANA, IDEOGRAPHS, KATAKANA, lowered, standard_tokens

HANGUL = "\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7ff"

_RUNS = re.compile(
    rf"([{IDEOGRAPHS}{HIRAGANA}{KATAKANA}{HANGUL}]+)|[^{IDEOGRAPHS}{HIRAGANA}{KATAKANA}{HANGUL}]+"
)


def cjk_tokens(text: str) -> list[Token]:
    """Bigrams and words, each at a position of its own."""
    found: list[Token] = []
    for match in _RUNS.finditer(text):
        first = match.start()
        if match[1] is None:
            for term, start, end, _ in standard_tokens(match[0]):
                found.append(Token(term, first + start, first + end, len(found)))
        elif len(match[0]) == 1:
            found.append(Token(lowered(match[0]), first, first + 1, len(found)))
        else:
            for at, (one, two) in enumerate(pairwise(match[0]), first):
                found.append(Token(lowered(one + two), at, at + 2, len(found)))
    return found
