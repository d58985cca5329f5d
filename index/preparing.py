"""A document as the texts that an index engine is given: terms, already analyzed, joined by separators.

Where positions are consecutive, a text is one string: terms and holes, which a tokenizer that splits at the
separator takes apart again, in machine code. Where they are not (terms at one position), it is a list of
terms and positions. Both give the same postings as index/judging.py's `text_field`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from index.analysis.analyzers import Analyzer
from index.encoding import (
    HOLE,
    LENGTH_TAG,
    PATH_END,
    SEPARATOR,
    SEVERAL_TAG,
    TAGS,
    encoded,
    escaped,
    exists_term,
    paths_above,
)
from index.fields import Fields, Values, texts_of_all
from index.judging import POSITION_GAP
from index.mapping import Rules
from index.query import ALL, BOOLEAN, DATE, EXACT, NUMBER

VIEWS: Final = (EXACT, NUMBER, DATE, BOOLEAN)

_GAP: Final = SEPARATOR + SEPARATOR.join([HOLE] * POSITION_GAP) + SEPARATOR


class Text(NamedTuple):
    """The text of one path: joined terms, or (if not None) terms with positions, ascending; and how many."""

    joined: str
    tokens: list[tuple[str, int]] | None
    length: int


class Prepared(NamedTuple):
    """What is given to the engine: terms of values, joined; and per physical field a text."""

    terms: str
    texts: list[tuple[str, Text]]


Place = Callable[[str], tuple[str, str]]
"""The physical field of a path's text, and what its terms are prefixed by."""


def prepare(fields: Fields, rules: Rules, place: Place) -> Prepared:
    """All terms of a document."""
    flat = _Flat()
    terms = [exists_term("")]
    known: set[str] = set()
    texts: list[tuple[str, Text]] = []
    for path, values in fields.items():
        start, existing = _path_terms(path)
        _add_values(terms, start, values)
        if len(values.exact) + len(values.numbers) + len(values.booleans) > 1 or len(values.dates) > 1:
            terms.append(start + SEVERAL_TAG)
        for above in existing:
            if above in known:
                break
            known.add(above)
            terms.append(above)
        if values.text:
            physical, prefix = place(path)
            text = text_of(values.text, rules.field(path).analyzer, prefix, flat)
            if text.length:
                texts.append((physical, text))
                terms.append(f"{start}{LENGTH_TAG}{text.length}")
    whole = text_of(list(texts_of_all(fields)), rules.default_analyzer, "", flat)
    if whole.length:
        texts.append(("all", whole))
        terms.append(f"{ALL}{PATH_END}{LENGTH_TAG}{whole.length}")
    return Prepared(SEPARATOR.join(terms), texts)


@lru_cache(maxsize=10_000)
def _path_terms(path: str) -> tuple[str, tuple[str, ...]]:
    """What the terms of a path begin with, and the terms that say it is there, and what is above it."""
    return escaped(path) + PATH_END, tuple(exists_term(above) for above in paths_above(path))


def _add_values(terms: list[str], head: str, values: Values) -> None:
    if values.exact:
        tag = head + TAGS[EXACT]
        terms += [tag + escaped(value) for value in dict.fromkeys(values.exact)]
    for view, some in ((NUMBER, values.numbers), (DATE, values.dates), (BOOLEAN, values.booleans)):
        if some:
            tag = head + TAGS[view]
            known = dict.fromkeys(encoded(view, value) for value in some)
            terms += [tag + term for term in known if term is not None]


class _Flat:
    """The terms of texts, each analyzed once: most stand in a field and in the field of all text."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], list[str] | None] = {}

    def terms(self, text: str, analyzer: Analyzer) -> list[str] | None:
        """As Analyzer.flat."""
        key = (analyzer.name, text)
        try:
            return self._known[key]
        except KeyError:
            found = self._known[key] = analyzer.flat(text)
            return found


def text_of(texts: Iterable[str], analyzer: Analyzer, prefix: str, flat: _Flat) -> Text:
    """The terms of a field's values, one after the other."""
    parts: list[str] = []
    length = 0
    for text in texts:
        terms = flat.terms(text, analyzer)
        if terms is None:
            return _stacked(texts, analyzer, prefix)
        if terms:
            length += len(terms)
            separator = SEPARATOR + prefix
            parts.append(prefix + separator.join(terms) if prefix else SEPARATOR.join(terms))
    return Text(_GAP.join(parts), None, length)


def _stacked(texts: Iterable[str], analyzer: Analyzer, prefix: str) -> Text:
    found: list[tuple[int, str]] = []
    first = 0
    for text in texts:
        tokens = analyzer.tokens(text)
        if tokens:
            found += [(first + token.position, prefix + escaped(token.term)) for token in tokens]
            first += max(token.position for token in tokens) + 1 + POSITION_GAP
    return Text("", [(term, at) for at, term in sorted(found)], len(found))
