"""Analyzers by name and by settings.

    analyzer = make_analyzer("english", {})            built in, by name
    made = make_analyzers({"names": {"type": "korean", "initials": True, "synonyms": ["서울, 서울시"]}})

An analyzer gives the tokens to index (`tokens`) and those to search for (`query_tokens`); they differ where
an index holds more than a search asks for: pairs of syllables, beginnings of words, forms of synonyms.
`flat` is the quick way to index: terms at consecutive positions, or None where positions are not so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final

import msgspec

from index.analysis import kiwi
from index.analysis.cjk import cjk_tokens
from index.analysis.korean import korean_tokens, mixed_terms, mixed_tokens
from index.analysis.stemming import LANGUAGES, stemmed
from index.analysis.stop_words import STOP_WORDS
from index.analysis.terms import (
    STOP_WORDS_MAX,
    SYNONYMS_MAX,
    Synonyms,
    compile_synonyms,
    with_synonyms,
)
from index.analysis.tokens import Token
from index.analysis.words import (
    edge_tokens,
    keyword_tokens,
    simple_tokens,
    standard_terms,
    standard_tokens,
    whitespace_tokens,
)

Tokenize = Callable[[str], list[Token]]
Flat = Callable[[str], "list[str] | None"]

VERSION: Final = 7
"""Counts up when indexes hold other terms or columns than before: old ones are built anew."""

TYPES: Final = (
    "standard",
    "simple",
    "whitespace",
    "keyword",
    "cjk",
    "korean",
    "korean_kiwi",
    "edge_ngram",
    *LANGUAGES,
)

_ALIASES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "autocomplete": ("edge_ngram", {}),
    "korean_initials": ("korean", {"initials": True}),
}

BUILT_IN: Final = (*TYPES, *_ALIASES)
"""The names of analyzers that need no settings."""

_ELISION = re.compile(
    r"(?:[cdjlmnst]|qu|jusqu|lorsqu|puisqu|all|dall|dell|nell|sull|un|quest|quell)['’](?=.)"
)
_POSSESSIVE = re.compile(r"['’]s?$")

_OF_TYPE: Final = {"korean": ("initials",), "edge_ngram": ("min", "max")}
EDGE_MAX: Final = 50


class AnalyzerFault(msgspec.Struct, frozen=True):
    """An analyzer that does not exist or cannot be made: what is wrong, for the user."""

    detail: str


class Analyzer:
    """One analyzer. Its functions are pure."""

    def __init__(self, name: str, index: Tokenize, query: Tokenize, flat: Flat | None):
        self.name = name
        self._index = index
        self._query = query
        self._flat = flat
        self._stops: frozenset[str] = frozenset()
        self._synonyms: Synonyms | None = None
        self.keeps_digits = flat is mixed_terms
        """Whether digits alone are one term, as they are."""

    def refine(self, stops: frozenset[str], synonyms: list[str]) -> None:
        """Take out stop words, and bring synonyms to one form. Raises ValueError for a rule that is none."""
        self._synonyms = compile_synonyms(synonyms, self._query) if synonyms else None
        self._stops = stops
        if stops or synonyms:
            self._flat = None
            self.keeps_digits = False

    def tokens(self, text: str) -> list[Token]:
        """What to index of a text."""
        return self._refined(self._index(text), query=False)

    def query_tokens(self, text: str) -> list[Token]:
        """What to search for."""
        return self._refined(self._query(text), query=True)

    def flat(self, text: str) -> list[str] | None:
        """The terms of `tokens`, if they are at positions 0, 1, 2, ... anyway; None if one has to look."""
        return None if self._flat is None else self._flat(text)

    def _refined(self, tokens: list[Token], query: bool) -> list[Token]:
        if self._synonyms is not None:
            tokens = with_synonyms(tokens, self._synonyms, query=query)
        if self._stops:
            stops = self._stops
            tokens = [token for token in tokens if token.term not in stops]
        return tokens


def _language(language: str, text: str) -> list[Token]:
    tokens = standard_tokens(text)
    stems = stemmed(language, _bare(language, [token.term for token in tokens]))
    return [
        Token(stem, token.start, token.end, token.position) for token, stem in zip(tokens, stems, strict=True)
    ]


def _language_flat(language: str, text: str) -> list[str]:
    return stemmed(language, _bare(language, standard_terms(text)))


def _bare(language: str, terms: list[str]) -> list[str]:
    """Without what apostrophes attach: articles in front, the English possessive behind."""
    if language in ("french", "italian", "catalan"):
        return [_ELISION.sub("", term, 1) if "'" in term or "’" in term else term for term in terms]
    if language == "english":
        return [_POSSESSIVE.sub("", term) if "'" in term or "’" in term else term for term in terms]
    return terms


def _make(kind: str, settings: Mapping[str, Any]) -> Analyzer:
    if kind == "standard":
        return Analyzer(kind, mixed_tokens, partial(mixed_tokens, query=True), mixed_terms)
    if kind == "korean":
        index = partial(korean_tokens, with_initials=bool(settings.get("initials", False)))
        return Analyzer(kind, index, partial(korean_tokens, query=True), None)
    if kind == "korean_kiwi":
        return Analyzer(kind, kiwi.kiwi_tokens, kiwi.kiwi_tokens, None)
    if kind == "edge_ngram":
        low, high = settings.get("min", 1), settings.get("max", 20)
        return Analyzer(kind, partial(edge_tokens, shortest=low, longest=high), standard_tokens, None)
    if kind in LANGUAGES:
        tokenize = partial(_language, kind)
        return Analyzer(kind, tokenize, tokenize, partial(_language_flat, kind))
    simple: dict[str, Tokenize] = {
        "simple": simple_tokens,
        "whitespace": whitespace_tokens,
        "keyword": keyword_tokens,
        "cjk": cjk_tokens,
    }
    return Analyzer(kind, simple[kind], simple[kind], None)


@lru_cache(maxsize=64)
def built_in(name: str) -> Analyzer | AnalyzerFault:
    """The analyzer of one of these names."""
    kind, settings = _ALIASES.get(name, (name, {}))
    if kind not in TYPES:
        return AnalyzerFault(f"there is no analyzer {name!r}; there are {', '.join(BUILT_IN)}")
    if kind == "korean_kiwi" and not kiwi.available():
        return AnalyzerFault(kiwi.NOT_INSTALLED)
    return _make(kind, settings)


def make_analyzer(name: str, settings: Mapping[str, Any]) -> Analyzer | AnalyzerFault:
    """An analyzer of an index, from its settings: `type`, `stop_words` (a list, or `_english_`), `synonyms`
    (a list of rules), and what its type has: `initials` (korean), `min` and `max` (edge_ngram).
    """
    kind, given = _ALIASES.get(str(settings.get("type", "standard")), (settings.get("type", "standard"), {}))
    made = built_in(str(kind))
    if isinstance(made, AnalyzerFault):
        return made
    fault = _settings_fault(str(kind), settings)
    if fault:
        return AnalyzerFault(f"analyzer {name!r}: {fault}")
    analyzer = _make(str(kind), {**given, **settings})
    analyzer.name = name
    stops = settings.get("stop_words", [])
    words = STOP_WORDS[stops] if isinstance(stops, str) else frozenset(word.lower() for word in stops)
    if kind in LANGUAGES and words:  # they are looked for among stems
        words |= frozenset(stemmed(str(kind), sorted(words)))
    try:
        analyzer.refine(words, list(settings.get("synonyms", [])))
    except ValueError as error:
        return AnalyzerFault(f"analyzer {name!r}: {error}")
    return analyzer


def _settings_fault(kind: str, settings: Mapping[str, Any]) -> str:
    """What is wrong with an analyzer's settings, or nothing."""
    known = ("type", "stop_words", "synonyms", *_OF_TYPE.get(kind, ()))
    strange = [key for key in settings if key not in known]
    if strange:
        return f"it has no setting {strange[0]!r}; there are {', '.join(known)}"
    stops = settings.get("stop_words", [])
    if isinstance(stops, str) and stops not in STOP_WORDS:
        return f"there are no stop words {stops!r}; there are {', '.join(STOP_WORDS)}"
    for key, most in (("stop_words", STOP_WORDS_MAX), ("synonyms", SYNONYMS_MAX)):
        value = settings.get(key, [])
        if isinstance(value, str) and key == "stop_words":
            continue
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            return f"`{key}` must be a list of strings"
        if len(value) > most:
            return f"`{key}` has {len(value)} entries, at most {most} are allowed"
    low, high = settings.get("min", 1), settings.get("max", 20)
    if not (type(low) is int and type(high) is int and 1 <= low <= high <= EDGE_MAX):
        return f"`min` and `max` must be integers, 1 <= min <= max <= {EDGE_MAX}"
    if not isinstance(settings.get("initials", False), bool):
        return "`initials` must be true or false"
    return ""
