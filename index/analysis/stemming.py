"""Snowball stemmers of European languages (Porter 1980, 2001), by the PyStemmer binding.

A stemmer keeps a cache of its own; words come again and again, so that is most of its speed.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import Stemmer

LANGUAGES: Final = (
    "arabic",
    "armenian",
    "basque",
    "catalan",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "irish",
    "italian",
    "lithuanian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "turkish",
)


@cache
def stemmer(language: str) -> Stemmer.Stemmer:
    """The stemmer of one of LANGUAGES."""
    return Stemmer.Stemmer(language, 20_000)


def stemmed(language: str, terms: list[str]) -> list[str]:
    """The stems of lower-case words."""
    found: list[str] = stemmer(language).stemWords(terms)
    return found
