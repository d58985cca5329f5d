"""Words that are nearly the one asked for: which there are in an index, and what each is worth.

A query by a misspelt word is planned in two steps. First each peer that serves the search tells which terms
are within the distance, and in how many documents each is (`Alike`, index/asking.py). Then the word becomes
the best of those terms, each scored by BM25 like any other, and halved for every edit it is away: so the best
match comes first, not just any.

The more frequent of the terms gives the weight of all of them: what is rare is most often a misspelling
itself, and must not outweigh the word that was meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from index.analysis.distance import within
from index.encoding import escaped, unescaped
from index.query import TEXT, Boost, DisMax, Fuzzy, Planned, Query, Statistics, Term, TermKey, walk
from index.scoring import idf

DAMPING: Final = 0.5
"""What a term is worth for each edit."""

TERMS_MAX: Final = 50
"""Terms that one word becomes; what else is similar is found, and scores REST."""

REST: Final = 0.05
WORDS_MAX: Final = 16
"""Similar words of one query that are scored so; others are found, and score alike."""

EngineQuery = Any


class Tools(Protocol):
    """What is asked of an engine, as in index/finding.py and index/viewing.py."""

    def place(self, path: str) -> tuple[str, str] | None:
        """The physical field of a path's text and the prefix of its terms."""

    def fuzzy(self, field: str, term: str, distance: int, transpositions: bool) -> EngineQuery:
        """Documents with a term about like this."""

    def any_term(self, field: str, terms: Sequence[str]) -> EngineQuery:
        """Documents with any of these."""

    def boolean(
        self,
        must: Sequence[EngineQuery],
        should: Sequence[EngineQuery],
        must_not: Sequence[EngineQuery],
        minimum: int,
    ) -> EngineQuery:
        """All of, at least so many of, none of."""

    def expand_all(self, field: str, prefix: str) -> list[str]:
        """All terms that begin so."""


class First(Protocol):
    """Gives the terms of the first document that a query finds, in a field's text; None if it finds none."""

    def __call__(self, query: EngineQuery, path: str) -> Iterable[str] | None:
        """Ask."""


def fuzzies_of(query: Query) -> tuple[Fuzzy, ...]:
    """The similar words of a planned query that can be scored, each once."""
    found = [each for each in walk(query) if isinstance(each, Fuzzy) and each.view == TEXT]
    return tuple(dict.fromkeys(found))[:WORDS_MAX]


def is_alike(query: Fuzzy, term: str) -> bool:
    """Whether a term is within the distance."""
    head = query.term[: query.prefix_length]
    return term.startswith(head) and within(query.term, term, query.distance, query.transpositions)


def edits(query: Fuzzy, term: str) -> int:
    """How far away a term is that is alike."""
    return next(n for n in range(3) if n == 2 or within(query.term, term, n, query.transpositions))


def nearest(query: Fuzzy, terms: Iterable[str]) -> list[str]:
    """Those of these terms that are alike, the nearest first; at most TERMS_MAX."""
    found = sorted((edits(query, term), term) for term in terms if is_alike(query, term))
    return [term for _, term in found[:TERMS_MAX]]


def terms_in(engine: Tools, first: First, query: Fuzzy) -> list[str]:
    """Terms of an engine that are alike, the nearest first: every document that has such a term has one of
    these, unless they are too many.

    The engine finds documents by an automaton over its terms, but does not tell the terms; to walk through
    all of them takes a second for a million. So a document is looked at, then one that has none of the terms
    known by then, and so on: as many steps as there are terms. What only stands beside terms that are known
    is not met: its documents are found by those.
    """
    place = engine.place(query.field)
    if place is None:
        return []
    field, prefix = place
    if prefix or query.prefix_length:
        start = prefix + escaped(query.term[: query.prefix_length])
        known = [unescaped(term[len(prefix) :]) for term in engine.expand_all(field, start)]
        return nearest(query, known)
    found: list[str] = []
    for distance in range(query.distance + 1):
        alike = engine.fuzzy(field, escaped(query.term), distance, query.transpositions)
        while len(found) < TERMS_MAX:
            others = [engine.any_term(field, [escaped(term) for term in found])] if found else []
            there = first(engine.boolean([alike], [], others, 0), query.field)
            new = sorted(term for term in there or () if term not in found and is_alike(query, term))
            if not new:
                break
            found += new
    return nearest(query, found)


def planned_by(queries: Sequence[Fuzzy], total: Statistics) -> dict[Fuzzy, Planned]:
    """What each of these becomes, by what the whole cluster has."""
    return {query: _planned(query, total) for query in queries}


def _planned(query: Fuzzy, total: Statistics) -> Planned:
    alike = sorted(
        (edits(query, key.term), -count, key.term)
        for key, count in total.frequencies.items()
        if key.field == query.field and is_alike(query, key.term)
    )
    if not alike:
        return query
    weight = idf(total.documents, max(-count for _, count, _ in alike))
    options: list[Planned] = []
    for distance, count, term in alike[:TERMS_MAX]:
        factor = DAMPING**distance * weight / idf(total.documents, -count)
        options.append(Boost(Term(query.field, TEXT, term), factor))
    if len(alike) >= TERMS_MAX:
        options.append(Boost(query, REST))
    return options[0] if len(options) == 1 else DisMax(tuple(options))


def keys_of(query: Fuzzy, terms: Iterable[str]) -> tuple[TermKey, ...]:
    """What statistics are wanted of."""
    return tuple(TermKey(query.field, term) for term in terms)
