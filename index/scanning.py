"""Answers that need every match: sorting by fields, aggregations, and patterns that only a look can decide.

Documents come one by one and are not kept: of each only the values that the question names stay in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from index.aggregation import (
    Aggregations,
    CompositeOf,
    DistinctOf,
    Filtered,
    GlobalOf,
    NestedOf,
    PercentilesOf,
    PipelineOf,
    StatsOf,
    TopHitsOf,
    WeightedOf,
    Without,
)
from index.answering import Match, Scorers
from index.asking import Ask, Found, Refusal
from index.bounds import RefusedError
from index.computing import compute
from index.judging import Held
from index.ordering import is_after, sort_values, sorted_hits
from index.query import Hit, Query, SortKey, Value

MATCHES_MAX = 300_000
"""Documents that one aggregation looks at, at one peer."""

HITS_SLACK = 2_000


class Slim:
    """What aggregations need of a match (index/computing.py, Matched)."""

    __slots__ = ("_has", "_matches", "_nested", "_values", "key", "score")

    def __init__(self, match: Match, needs: Needs) -> None:
        self.key = match.key
        self.score = match.score
        self._values = {need: match.values(*need) for need in needs.values}
        self._has = {field: match.has(field) for field in needs.paths}
        self._matches = {query: match.matches(query) for query in needs.queries}
        self._nested = {
            path: [Slim(one, inside) for one in match.nested(path)] for path, inside in needs.nested.items()
        }

    def values(self, field: str, view: str) -> Sequence[Value]:
        """Its values."""
        return self._values[field, view]

    def has(self, field: str) -> bool:
        """Whether anything is there."""
        return self._has[field]

    def matches(self, query: Query) -> bool:
        """Whether it matches."""
        return self._matches[query]

    def nested(self, path: str) -> Sequence[Slim]:
        """The objects at a path."""
        return self._nested[path]


class Needs:
    """What a question names: values of fields, paths that may exist, queries, and the same of objects."""

    def __init__(self, aggregations: Aggregations) -> None:
        self.values: dict[tuple[str, str], None] = {}
        self.paths: dict[str, None] = {}
        self.queries: dict[Query, None] = {}
        self.nested: dict[str, Needs] = {}
        self.add(aggregations)

    def add(self, aggregations: Aggregations) -> None:
        """Name what these name, too."""
        for _, asked in aggregations:
            if isinstance(asked, PipelineOf):
                continue
            if isinstance(asked, Filtered):
                self.queries.update(dict.fromkeys(query for _, query in asked.filters))
            elif isinstance(asked, Without):
                self.paths[asked.field] = None
            elif isinstance(asked, TopHitsOf):
                self._add_sort(asked.sort)
            elif isinstance(asked, NestedOf):
                self.nested.setdefault(asked.path, Needs(())).add(asked.inside)
                continue
            elif isinstance(asked, WeightedOf):
                self.values.update(dict.fromkeys(((asked.value, "number"), (asked.weight, "number"))))
            elif isinstance(asked, CompositeOf):
                for source in asked.sources:
                    for view in ("", "number", "date", getattr(source.of, "view", "")):
                        self.values[source.of.field, view] = None
            elif not isinstance(asked, GlobalOf):
                for view in ("", "number", "date", getattr(asked, "view", "")):
                    self.values[asked.field, view] = None
            if not isinstance(asked, StatsOf | PercentilesOf | DistinctOf | TopHitsOf | WeightedOf):
                self.add(asked.inside)

    def _add_sort(self, keys: Sequence[SortKey]) -> None:
        for key in keys:
            self.values[key.field, key.view] = None


def scan(ask: Ask, documents: Iterable[Held], is_exact: bool) -> Found | Refusal:
    """The answer from all documents that may match; `is_exact` says that they do."""
    scorers = Scorers(ask.statistics)
    needs = Needs(ask.aggregations)
    hits: list[Hit] = []
    slims: list[Slim] = []
    total, best = 0, 0.0
    for match in _matches(documents, ask, scorers, is_exact):
        total += 1
        best = max(best, match.score)
        if ask.limit:
            hit = Hit(match.key, match.score, sort_values(ask.sort, match.score, match.values))
            if ask.after is None or is_after(hit, ask.after, ask.sort):
                hits.append(hit)
                if len(hits) >= ask.limit + HITS_SLACK:
                    hits = sorted_hits(hits, ask.sort, ask.limit)
        if ask.aggregations:
            if total > MATCHES_MAX:
                return Refusal("too_many_matches", f"an aggregation over more than {MATCHES_MAX} documents")
            slims.append(Slim(match, needs))
    try:
        partials = compute(ask.aggregations, slims) if ask.aggregations else {}
    except RefusedError as refused:
        return Refusal("too_many_buckets", refused.error.told())
    return Found(total, tuple(sorted_hits(hits, ask.sort, ask.limit)), partials, best)


def _matches(documents: Iterable[Held], ask: Ask, scorers: Scorers, is_exact: bool) -> Iterator[Match]:
    score_of, scored = scorers.of(ask.query), ask.scored
    for held in documents:
        score = score_of(held) if scored or not is_exact else 0.0
        if score is not None:
            yield Match(held, score if scored else 0.0, scorers)
