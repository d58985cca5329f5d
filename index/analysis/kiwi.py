"""Korean by morphemes, with the dictionary of kiwipiepy (extra `korean`): costs about 300 MB of memory.

It is loaded by the first text that is analyzed with it. Content words (nouns, verbs, adjectives, adverbs,
roots, foreign words, numbers) become terms; particles and endings leave holes.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

from index.analysis.tokens import Token

NOT_INSTALLED: Final = (
    "analyzer 'korean_kiwi' needs the package kiwipiepy: install sullae-server[korean] on every peer"
)

_CONTENT: Final = ("N", "V", "M", "XR", "SL", "SN", "SH", "W")


def available() -> bool:
    """Whether the package is installed."""
    return find_spec("kiwipiepy") is not None


@lru_cache(maxsize=1)
def _kiwi() -> Any:
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)


def kiwi_tokens(text: str) -> list[Token]:
    """The morphemes of a text that carry meaning."""
    return [
        Token(found.form.lower(), found.start, found.start + found.len, position)
        for position, found in enumerate(_kiwi().tokenize(text))
        if found.tag.startswith(_CONTENT)
    ]
