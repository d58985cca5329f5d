"""From a planned query to a query of the engine: which documents may match, and what they about score.

The engine is asked through `Tools`. What it finds is never too little. It is too much where it cannot decide
(phrases with slop, gaps or alternatives, ranges with very long bounds): then `is_exact` is false, and every
candidate has to be judged. Estimates are upper bounds but for the lengths of fields (index/candidates.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final, Protocol

from index.analysis.distance import within
from index.encoding import TAGS, encoded, escaped, exists_term, head, quoted, range_regex, wildcard_regex
from index.judging import POSITION_GAP
from index.nested import without_exclusions
from index.query import (
    K1,
    TEXT,
    All,
    Bool,
    Boost,
    Boosting,
    Constant,
    DisMax,
    Exists,
    FunctionScore,
    Fuzzy,
    Ids,
    InFields,
    Nested,
    Nothing,
    Phrase,
    Prefix,
    Query,
    Range,
    Regexp,
    Statistics,
    Term,
    Terms,
    Wildcard,
)
from index.scoring import idf, term_idf

VALUES: Final = "x"
"""The physical field of terms of values."""

EngineQuery = Any


class Tools(Protocol):
    """What an engine can do. `field` is a physical field, terms are whole terms in it."""

    def place(self, path: str) -> tuple[str, str] | None:
        """The physical field of a path's text and the prefix of its terms; None if no document has any."""

    def weighed_by(self) -> int:
        """How many documents the engine weighs terms by."""

    def frequency(self, field: str, term: str) -> int:
        """How many documents have a term, as the engine weighs it."""

    def term(self, field: str, term: str) -> EngineQuery:
        """Documents with a term, scored by BM25."""

    def any_term(self, field: str, terms: Sequence[str]) -> EngineQuery:
        """Documents with any of these."""

    def phrase(self, field: str, terms: Sequence[tuple[int, str]]) -> EngineQuery:
        """Documents with these terms at these relative positions, scored by BM25."""

    def regex(self, field: str, pattern: str) -> EngineQuery:
        """Documents with a term that fits."""

    def fuzzy(self, field: str, term: str, distance: int, transpositions: bool) -> EngineQuery:
        """Documents with a term about like this."""

    def expand_all(self, field: str, prefix: str) -> list[str]:
        """All terms that begin so."""

    def rows(self, keys: Sequence[bytes]) -> EngineQuery:
        """The documents of these rows."""

    def boolean(
        self,
        must: Sequence[EngineQuery],
        should: Sequence[EngineQuery],
        must_not: Sequence[EngineQuery],
        minimum: int,
    ) -> EngineQuery:
        """All of, at least so many of, none of."""

    def dis_max(self, queries: Sequence[EngineQuery], tie_breaker: float) -> EngineQuery:
        """Any of, scored by the best."""

    def constant(self, query: EngineQuery, score: float) -> EngineQuery:
        """The same documents with this score."""

    def boost(self, query: EngineQuery, factor: float) -> EngineQuery:
        """The same documents with scores multiplied."""

    def nothing(self) -> EngineQuery:
        """No document."""


class Finder:
    """Compiles one query."""

    def __init__(self, tools: Tools, statistics: Statistics) -> None:
        self._tools = tools
        self._statistics = statistics
        self.is_exact = True

    def query(self, query: Query) -> EngineQuery:
        """The engine's query; see `is_exact` afterwards."""
        compilers: dict[type, Callable[[Any], EngineQuery]] = {
            All: self._all,
            Nothing: lambda _: self._tools.nothing(),
            Term: self._term,
            Terms: self._terms,
            Phrase: self._phrase,
            Prefix: self._prefix,
            Wildcard: self._wildcard,
            Regexp: lambda each: self._pattern(each, each.expression),
            Nested: self._nested,
            InFields: self._in_fields,
            Fuzzy: self._fuzzy,
            Range: self._range,
            Exists: lambda each: self._one(VALUES, exists_term(each.field)),
            Ids: lambda each: self._flat(self._tools.rows(each.keys)),
            Bool: self._bool,
            DisMax: self._dis_max,
            Boosting: lambda each: self.query(each.positive),
            FunctionScore: self._scored,
            Constant: lambda each: self._tools.constant(self.query(each.query), each.score),
            Boost: lambda each: self._tools.boost(self.query(each.query), each.factor),
        }
        return compilers[type(query)](query)

    # --- leaves

    def _flat(self, query: EngineQuery, score: float = 1.0) -> EngineQuery:
        return self._tools.constant(query, score)

    def _one(self, field: str, term: str) -> EngineQuery:
        return self._flat(self._tools.any_term(field, [term]))

    def _all(self, _query: All) -> EngineQuery:
        return self._one(VALUES, exists_term(""))

    def _term(self, query: Term) -> EngineQuery:
        if query.view != TEXT:
            value = encoded(query.view, query.value)
            return self._tools.nothing() if value is None else self._one(VALUES, self._head(query) + value)
        place = self._tools.place(query.field)
        if place is None:
            return self._tools.nothing()
        return self._weighed(query.field, place, str(query.value))

    def _head(self, query: Any) -> str:
        return head(query.field, TAGS[query.view])

    def _weighed(self, path: str, place: tuple[str, str], value: str) -> EngineQuery:
        """A term with our idf instead of the engine's."""
        field, term = place[0], place[1] + escaped(value)
        frequency = self._tools.frequency(field, term)
        if not frequency:
            return self._tools.nothing()
        theirs = idf(self._tools.weighed_by(), frequency)
        ours = term_idf(self._statistics, path, value)
        return self._tools.boost(self._tools.term(field, term), ours / theirs)

    def _terms(self, query: Terms) -> EngineQuery:
        if query.view != TEXT:
            start = self._head(query)
            values = [encoded(query.view, value) for value in query.values]
            found = [start + value for value in values if value is not None]
            return self._flat(self._tools.any_term(VALUES, found)) if found else self._tools.nothing()
        place = self._tools.place(query.field)
        if place is None or not query.values:
            return self._tools.nothing()
        terms = [place[1] + escaped(str(value)) for value in query.values]
        return self._flat(self._tools.any_term(place[0], terms))

    def _phrase(self, query: Phrase) -> EngineQuery:
        place = self._tools.place(query.field)
        if place is None or not query.terms:
            return self._tools.nothing()
        field, prefix = place
        slots: dict[int, list[str]] = {}
        for offset, term in query.terms:
            slots.setdefault(offset, []).append(prefix + escaped(term))
        ours = sum(term_idf(self._statistics, query.field, term) for _, term in query.terms)
        single = all(len(terms) == 1 for terms in slots.values())
        if single and len(slots) == 1 and not query.prefix:
            return self._weighed(query.field, place, query.terms[0][1])
        steps = [after - before for before, after in pairwise(sorted(slots))]
        if single and not query.slop and not query.prefix and max(steps) <= POSITION_GAP:
            terms = [(offset, slots[offset][0]) for offset in sorted(slots)]
            frequencies = [self._tools.frequency(field, term) for _, term in terms]
            if not all(frequencies):
                return self._tools.nothing()
            theirs = sum(idf(self._tools.weighed_by(), each) for each in frequencies)
            first = terms[0][0]
            moved = [(offset - first, term) for offset, term in terms]
            # The engine has one empty position between two values, so a step over one may lead to the next.
            self.is_exact = self.is_exact and max(steps) == 1
            return self._tools.boost(self._tools.phrase(field, moved), ours / theirs)
        self.is_exact = False
        last = max(slots)
        must = []
        for offset, terms_here in slots.items():
            if query.prefix and offset == last:
                patterns = [quoted(term) + "(?s:.*)" for term in terms_here]
                must.append(self._tools.regex(field, "|".join(patterns)))
            else:
                must.append(self._tools.any_term(field, terms_here))
        both = self._tools.boolean([self._flat(each, 0.0) for each in must], [], [], 0)
        return self._flat(both, ours * (K1 + 1))

    def _pattern(self, query: Any, pattern: str) -> EngineQuery:
        if query.view == TEXT:
            place = self._tools.place(query.field)
            if place is None:
                return self._tools.nothing()
            return self._flat(self._tools.regex(place[0], f"{quoted(place[1])}(?:{pattern})"))
        return self._flat(self._tools.regex(VALUES, f"{quoted(self._head(query))}(?:{pattern})"))

    def _prefix(self, query: Prefix) -> EngineQuery:
        return self._pattern(query, quoted(escaped(query.prefix)) + "(?s:.*)")

    def _wildcard(self, query: Wildcard) -> EngineQuery:
        return self._pattern(query, wildcard_regex(query.pattern, escape=True))

    def _fuzzy(self, query: Fuzzy) -> EngineQuery:
        term = escaped(query.term)
        if query.view == TEXT:
            place = self._tools.place(query.field)
            if place is None:
                return self._tools.nothing()
        else:
            place = (VALUES, self._head(query))
        field, prefix = place
        if not prefix and not query.prefix_length:
            return self._flat(self._tools.fuzzy(field, term, query.distance, query.transpositions))
        found = [
            known
            for known in self._tools.expand_all(field, prefix + term[: query.prefix_length])
            if within(term, known[len(prefix) :], query.distance, query.transpositions)
        ]
        return self._flat(self._tools.any_term(field, found)) if found else self._tools.nothing()

    def _range(self, query: Range) -> EngineQuery:
        bounds = []
        for bound in (query.low, query.high):
            bounds.append(None if bound is None else encoded(query.view, bound))
            if bound is not None and bounds[-1] is None:
                return self._tools.nothing()
        pattern, is_exact = range_regex(bounds[0], bounds[1], query.include_low, query.include_high)
        if pattern is None:
            return self._tools.nothing()
        self.is_exact = self.is_exact and is_exact
        return self._pattern(query, pattern)

    # --- compounds

    def _in_fields(self, query: InFields) -> EngineQuery:
        """What matches by any fields."""
        self.is_exact = False
        return self._flat(self.query(without_exclusions(query.query)))

    def _scored(self, query: FunctionScore) -> EngineQuery:
        """Functions may change any score, so every match is judged."""
        self.is_exact = False
        return self.query(query.query)

    def _nested(self, query: Nested) -> EngineQuery:
        """The engine knows no objects: it finds what matches by several of them together, too."""
        self.is_exact = False
        there = self._flat(self._one(VALUES, exists_term(query.path)), 0.0)
        return self._tools.boolean(
            [there, self._flat(self.query(without_exclusions(query.query)))], [], [], 0
        )

    def _bool(self, query: Bool) -> EngineQuery:
        must = [self.query(each) for each in query.must]
        must += [self._flat(self.query(each), 0.0) for each in query.filter]
        should = [self.query(each) for each in query.should]
        if query.minimum > len(should):
            return self._tools.nothing()
        must_not = []
        for each in query.must_not:
            inner = Finder(self._tools, self._statistics)
            found = inner.query(each)
            if inner.is_exact:
                must_not.append(found)
            else:  # too much of it may be found, so nothing is left out by it
                self.is_exact = False
        if not must and not query.minimum:
            must.append(self._flat(self._one(VALUES, exists_term("")), 0.0))
        return self._tools.boolean(must, should, must_not, query.minimum)

    def _dis_max(self, query: DisMax) -> EngineQuery:
        if not query.queries:
            return self._tools.nothing()
        return self._tools.dis_max([self.query(each) for each in query.queries], query.tie_breaker)


def constant_score(query: Query) -> float | None:
    """The score that all matches have, if they all have the same for certain."""
    if isinstance(query, Term):
        return None if query.view == TEXT else 1.0
    if isinstance(query, All | Nothing | Terms | Prefix | Wildcard | Regexp | Fuzzy | Range | Exists | Ids):
        return 1.0
    if isinstance(query, Constant):
        return query.score
    if isinstance(query, Boost):
        inner = constant_score(query.query)
        return None if inner is None else inner * query.factor
    if isinstance(query, Bool) and (not query.should or query.minimum == len(query.should)):
        total = 0.0
        for each in query.must + query.should:
            inner = constant_score(each)
            if inner is None:
                return None
            total += inner
        return total
    if isinstance(query, DisMax) and len(query.queries) == 1:
        return constant_score(query.queries[0])
    return None
