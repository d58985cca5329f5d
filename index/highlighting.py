"""What matched, in the text: terms of the query, found again by the analyzer that indexed it.

Words of a phrase are marked where they stand together as it asks. A text is cut into fragments at blanks;
those with most marks are shown, in the order of the text.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Any, Final

from index.analysis.distance import within
from index.analysis.tokens import Token, by_position
from index.encoding import escaped
from index.fields import fields_of
from index.globs import fits, parts_of
from index.highlight_dsl import Highlight, HighlightField
from index.mapping import Rules
from index.query import (
    ALL,
    TEXT,
    Bool,
    Boosting,
    FunctionScore,
    Fuzzy,
    Phrase,
    Prefix,
    Query,
    Regexp,
    Term,
    Terms,
    Wildcard,
    children,
)
from index.regexes import term_test

LOOKED_AT_MAX: Final = 1_000_000
"""Places times terms of a phrase; beyond it all of its words are marked."""
TESTED_MAX: Final = 200_000
"""Words times patterns and similar words, of all documents shown; beyond it only words that are asked for as
they stand are marked.
"""

Test = Callable[[str], bool]
Span = tuple[int, int]


class Marker:
    """What one planned query marks."""

    def __init__(self, query: Query, rules: Rules) -> None:
        self._rules = rules
        self._terms: dict[str, dict[str, None]] = {}
        self._tests: dict[str, list[Test]] = {}
        self._phrases: dict[str, list[Phrase]] = {}
        self._tested: dict[str, dict[str, bool]] = {}
        """By field and word, as words come again and again."""
        self._tests_left = TESTED_MAX
        for leaf in _positive(query):
            self._add(leaf)

    def _add(self, leaf: Query) -> None:
        if isinstance(leaf, Phrase):
            self._phrases.setdefault(leaf.field, []).append(leaf)
            return
        if getattr(leaf, "view", None) != TEXT:
            return
        if isinstance(leaf, Term):
            self._terms.setdefault(leaf.field, {})[str(leaf.value)] = None
        elif isinstance(leaf, Terms):
            self._terms.setdefault(leaf.field, {}).update((str(value), None) for value in leaf.values)
        elif isinstance(leaf, Prefix):
            self._tests.setdefault(leaf.field, []).append(_begins(leaf.prefix))
        elif isinstance(leaf, Wildcard):
            self._tests.setdefault(leaf.field, []).append(_of_pattern(leaf.pattern))
        elif isinstance(leaf, Regexp):
            self._tests.setdefault(leaf.field, []).append(_of_expression(leaf.expression))
        elif isinstance(leaf, Fuzzy):
            self._tests.setdefault(leaf.field, []).append(_like(leaf))

    def highlight(self, document: Any, options: Highlight) -> dict[str, list[str]]:
        """Fragments by field, of those fields in which anything matched."""
        found: dict[str, list[str]] = {}
        held = fields_of(document, self._rules)
        for field in options.fields:
            parts = parts_of(field.name, plain=True)
            for name, values in held.items():
                if name in found or not fits(parts, name):
                    continue
                fragments = self._of_field(name, values.text, field, options.escapes)
                if fragments:
                    found[name] = fragments
        return found

    def _of_field(self, name: str, texts: list[str], field: HighlightField, escapes: bool) -> list[str]:
        found: list[_Fragment] = []
        for text in texts:
            spans = self._spans(name, text, field.own)
            if spans:
                found += _fragments(text, spans, field, escapes)
        if field.by_score:
            found.sort(key=lambda fragment: -fragment[0])
        shown = [text for _, text in found[: field.count or len(found)]]
        if not shown and field.no_match_size and texts:
            return [_beginning(texts[0], field.no_match_size, escapes)]
        return shown

    def _spans(self, name: str, text: str, own: bool) -> list[Span]:
        """Where the text matched, as the field itself or as part of all text (not `own`: as any field);
        disjoint, ascending.
        """
        spans: dict[Span, None] = {}
        fields = (name, ALL) if own else tuple(
            dict.fromkeys((name, ALL, *self._terms, *self._tests, *self._phrases))
        )
        for field in fields:
            terms, tests = self._terms.get(field, {}), self._tests.get(field, [])
            phrases = self._phrases.get(field, [])
            if not terms and not tests and not phrases:
                continue
            tokens = self._rules.field(field).analyzer.tokens(text)
            for token in chain.from_iterable(_of_phrase(phrase, tokens) for phrase in phrases):
                spans[token.start, token.end] = None
            for token in tokens:
                if token.term in terms or (tests and self._fits(field, token.term, tests)):
                    spans[token.start, token.end] = None
        return _joined(sorted(spans))

    def _fits(self, field: str, word: str, tests: list[Test]) -> bool:
        """Whether a word is of a pattern, or like a word."""
        tested = self._tested.setdefault(field, {})
        found = tested.get(word)
        if found is None and self._tests_left > 0:
            self._tests_left -= len(tests)
            found = tested[word] = any(test(word) for test in tests)
        return bool(found)


def _of_phrase(phrase: Phrase, tokens: Sequence[Token]) -> Iterator[Token]:
    """The tokens that stand together as the phrase asks, or about so where it has slop."""
    asked: dict[int, list[str]] = {}
    for offset, term in phrase.terms:
        asked.setdefault(offset, []).append(term)
    by_term: dict[str, list[Token]] = {}
    for token in sorted(tokens, key=by_position):
        by_term.setdefault(token.term, []).append(token)
    slots: list[tuple[int, list[Token]]] = []
    for offset, terms in sorted(asked.items()):
        if phrase.prefix and offset == max(asked):
            terms = [term for term in by_term if term.startswith(tuple(terms))]
        some = [by_term[term] for term in terms if term in by_term]
        if not some:
            return
        slots.append((offset, some[0] if len(some) == 1 else sorted(chain(*some), key=by_position)))
    if len(slots[0][1]) * len(slots) > LOOKED_AT_MAX:
        yield from chain.from_iterable(fitting for _, fitting in slots)
        return
    places = [[token.position for token in fitting] for _, fitting in slots]
    begun = [[0] * (len(at) + 1) for at in places]
    for anchor in places[0]:
        near: list[Span] = []
        for at, (offset, _) in zip(places, slots, strict=True):
            place, slop = anchor - slots[0][0] + offset, phrase.slop if near else 0
            near.append((bisect_left(at, place - slop), bisect_right(at, place + slop)))
        if all(first < end for first, end in near):
            for counts, (first, end) in zip(begun, near, strict=True):
                counts[first] += 1
                counts[end] -= 1
    for counts, (_, fitting) in zip(begun, slots, strict=True):
        yield from (token for token, open_ in zip(fitting, accumulate(counts), strict=False) if open_)


def escape(text: str) -> str:
    """Text as it stands in HTML."""
    for char, shown in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;")):
        text = text.replace(char, shown)
    return text


def _begins(prefix: str) -> Test:
    return lambda term: term.startswith(prefix)


def _of_pattern(pattern: str) -> Test:
    parts = parts_of(pattern)
    return lambda term: fits(parts, term)


def _of_expression(expression: str) -> Test:
    test = term_test(expression)
    return lambda term: test(escaped(term))


def _like(leaf: Fuzzy) -> Test:
    head = leaf.term[: leaf.prefix_length]
    return lambda term: term.startswith(head) and within(leaf.term, term, leaf.distance, leaf.transpositions)


def _positive(query: Query) -> Iterable[Query]:
    """The leaves that make documents match, not those that exclude."""
    if isinstance(query, Bool):
        inner: tuple[Query, ...] = query.must + query.should + query.filter
    elif isinstance(query, Boosting):
        inner = (query.positive,)
    elif isinstance(query, FunctionScore):
        inner = (query.query,)
    else:
        inner = children(query)
    if not inner:
        yield query
    for each in inner:
        yield from _positive(each)


def _joined(spans: list[Span]) -> list[Span]:
    """Overlapping ones as one."""
    found: list[Span] = []
    for start, end in spans:
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


_Fragment = tuple[int, str]
"""How many marks are in it, and its text."""


def _beginning(text: str, size: int, escapes: bool) -> str:
    """About so much of the beginning, up to a blank."""
    end = len(text) if len(text) <= size else max(text.find(" ", size), size)
    return escape(text[:end]) if escapes else text[:end]


def _fragments(text: str, spans: list[Span], field: HighlightField, escapes: bool) -> list[_Fragment]:
    count, size, tags = field.count, field.size, (field.pre, field.post)
    if not count:
        return [(len(spans), _marked(text, (0, len(text)), spans, tags, escapes))]
    windows: list[tuple[Span, int]] = []
    for start, end in spans:
        if windows and end <= windows[-1][0][1]:
            windows[-1] = (windows[-1][0], windows[-1][1] + 1)
            continue
        at_least = windows[-1][0][1] if windows else 0
        first = max(at_least, start - max(0, size - (end - start)) // 2)
        if first > at_least:
            blank = text.find(" ", first, start)
            first = blank + 1 if blank >= 0 else first
        last = min(len(text), max(end, first + size))
        if last < len(text):
            blank = text.rfind(" ", end, last + 1)
            last = blank if blank >= 0 else last
        windows.append(((first, last), 1))
    best = sorted(range(len(windows)), key=lambda i: (-windows[i][1], i))[:count]
    return [(windows[i][1], _marked(text, windows[i][0], spans, tags, escapes)) for i in sorted(best)]


def _marked(text: str, window: Span, spans: list[Span], tags: tuple[str, str], escapes: bool) -> str:
    shown = escape if escapes else str
    first, last = window
    pieces: list[str] = []
    at = first
    for start, end in spans:
        if start < first or end > last:
            continue
        pieces += [shown(text[at:start]), tags[0], shown(text[start:end]), tags[1]]
        at = end
    pieces.append(shown(text[at:last]))
    return "".join(pieces)
