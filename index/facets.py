"""Aggregations and orders that a term dictionary answers without looking at documents.

How many of the matching documents have which value of a field: that is one walk through the terms of the
field (`Tools.counts`), and all that buckets, moments, percentiles and distinct counts need, if no matching
document has several values there (a term of its own says so, index/encoding.py). What is asked inside a
bucket is asked of the query and the bucket's values. Where this does not work, or would take too many steps,
`Unsuited` is raised and every match is looked at (index/scanning.py). Both come to the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from index.aggregation import (
    BUCKETS_MAX,
    Aggregation,
    Aggregations,
    Bucket,
    Buckets,
    DatesOf,
    DistinctOf,
    Filtered,
    HistogramOf,
    Moments,
    Partial,
    Partials,
    PercentilesOf,
    PipelineOf,
    RangesOf,
    StatsOf,
    TermsOf,
    Without,
)
from index.bounds import RefusedError
from index.computing import choice_of, date_bucket, is_within, step_of
from index.encoding import TAGS, decoded, head
from index.fields import plain
from index.floats import total_of
from index.ordering import rank_of
from index.query import BOOLEAN, DATE, EXACT, NUMBER, Query, SortValue, Value
from index.sketches import distinct_of, sketch_of

STEPS_MAX: Final = 400
"""Walks and counts that one answer may take; a walk takes about as long as looking at some hundred
documents.
"""

SKETCHED_MAX: Final = 200_000

EngineQuery = Any


class Unsuited(Exception):  # it is no error
    """This is answered by looking at all documents."""


class Tools(Protocol):
    """What an engine can do here."""

    def counts(self, prefix: str, query: EngineQuery) -> list[tuple[str, int]]:
        """Terms of values that begin so, with how many of these documents have them."""

    def count(self, query: EngineQuery) -> int:
        """How many documents these are."""

    def having(self, query: EngineQuery, terms: Sequence[str]) -> EngineQuery:
        """Those of these documents that have any of these terms of values."""

    def lacking(self, query: EngineQuery, path: str) -> EngineQuery:
        """Those that have nothing at this path or below it."""

    def excluding(self, query: EngineQuery, others: Sequence[EngineQuery]) -> EngineQuery:
        """Those of these documents that are none of the others."""

    def valueless(self, query: EngineQuery, path: str, views: Sequence[str]) -> EngineQuery:
        """Those that have no value in any of these views of a path."""

    def matching(self, query: EngineQuery, other: Query) -> EngineQuery:
        """Those that match a planned query, too. Raises Unsuited if the engine cannot decide that."""

    def has_several(self, query: EngineQuery, path: str) -> bool:
        """Whether any of these documents has several values at the path."""


class Held:
    """One value of a field: as it is, its term ("": it stands for none), and how many documents have it."""

    __slots__ = ("count", "term", "value")

    def __init__(self, value: Value, term: str, count: int) -> None:
        self.value = value
        self.term = term
        self.count = count


def values_of(tools: Tools, query: EngineQuery, field: str, view: str) -> list[Held]:
    """The values of a field in these documents; of view "" booleans, then numbers, then text; ascending."""
    found: list[Held] = []
    for each in _views(view):
        if each in TAGS:
            start = head(field, TAGS[each])
            for term, count in sorted(tools.counts(start, query)):
                if count:
                    found.append(Held(plain(decoded(each, term[len(start) :])), term, count))
    return found


def _views(view: str) -> tuple[str, ...]:
    return (view,) if view else (BOOLEAN, NUMBER, EXACT)


class Facets:
    """Answers aggregations; counts its steps."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._steps = 0

    def partials(self, aggregations: Aggregations, query: EngineQuery) -> Partials:
        """The partial answers over these documents. Raises Unsuited; RefusedError for too many buckets."""
        return {
            name: self._one(asked, query) for name, asked in aggregations if not isinstance(asked, PipelineOf)
        }

    def _step(self) -> None:
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise Unsuited

    def _values(self, field: str, view: str, query: EngineQuery, *, single: bool) -> list[Held]:
        self._step()
        if single and self._tools.has_several(query, field):
            raise Unsuited
        return values_of(self._tools, query, field, view)

    def _or_missing(self, asked: Any, view: str, query: EngineQuery, values: list[Held]) -> list[Held]:
        """With what stands for none, of the documents that have none. Raises Unsuited for a bucket that holds
        those that have it, too.
        """
        if asked.missing is None:
            return values
        key = rank_of(asked.missing), asked.missing
        if isinstance(asked, TermsOf) and any((rank_of(each.value), each.value) == key for each in values):
            raise Unsuited
        count = self._tools.count(self._tools.valueless(query, asked.field, _views(view)))
        return [*values, Held(asked.missing, "", count)] if count else values

    def _one(self, asked: Aggregation, query: EngineQuery) -> Partial:
        if isinstance(asked, DistinctOf):
            values = self._values(asked.field, asked.view, query, single=False)
            return distinct_of(each.value for each in self._or_missing(asked, asked.view, query, values))
        if isinstance(asked, StatsOf):
            return self._moments(asked, query)
        if isinstance(asked, PercentilesOf):
            values = self._values(asked.field, asked.view, query, single=True)
            return sketch_of(self._repeated(self._or_missing(asked, asked.view, query, values)))
        if isinstance(asked, TermsOf):
            return self._terms(asked, query)
        if isinstance(asked, RangesOf):
            return self._ranges(asked, query)
        if isinstance(asked, HistogramOf | DatesOf):
            return self._intervals(asked, query)
        if isinstance(asked, Filtered):
            parts = [(name, self._tools.matching(query, each)) for name, each in asked.filters]
            if asked.other:
                parts.append((asked.other, self._tools.excluding(query, [part for _, part in parts])))
            return Buckets(tuple(self._bucket(name, each, asked) for name, each in parts))
        if isinstance(asked, Without):
            return Buckets((self._bucket("", self._tools.lacking(query, asked.field), asked),))
        raise Unsuited

    def _repeated(self, values: Sequence[Held]) -> Iterator[float]:
        if sum(each.count for each in values) > SKETCHED_MAX:
            raise Unsuited
        for each in values:
            for number in _numbers([each]):
                yield from [number.value] * each.count  # type: ignore[misc]

    def _moments(self, asked: StatsOf, query: EngineQuery) -> Moments:
        values = self._values(asked.field, asked.view, query, single=True)
        values = self._or_missing(asked, asked.view, query, values)
        if asked.kind == "value_count":
            return Moments(sum(each.count for each in values))
        found = self._moments_of(values)
        if asked.view or found.count:
            return found
        dates = self._moments_of(self._values(asked.field, DATE, query, single=True))
        return Moments(dates=dates) if dates.count else found

    @staticmethod
    def _moments_of(values: Sequence[Held]) -> Moments:
        numbers = [(float(each.value), each.count) for each in _numbers(values)]
        if not numbers:
            return Moments()
        total = total_of(value * count for value, count in numbers)
        squares = total_of(value * value * count for value, count in numbers)
        low, high = min(value for value, _ in numbers), max(value for value, _ in numbers)
        return Moments(sum(count for _, count in numbers), total, low, high, squares)

    def _terms(self, asked: TermsOf, query: EngineQuery) -> Buckets:
        values = self._values(asked.field, asked.view, query, single=False)
        chosen = choice_of(asked)
        values = self._or_missing(asked, asked.view, query, values)
        if chosen is not None:
            values = [each for each in values if chosen(each.value)]
        values.sort(key=lambda each: (-each.count, rank_of(each.value), each.value))
        kept, dropped = values[:BUCKETS_MAX], values[BUCKETS_MAX:]
        buckets = [Bucket(each.value, each.count, self._inside(asked, query, [each.term])) for each in kept]
        others = sum(each.count for each in dropped)
        return Buckets(tuple(buckets), others, dropped[0].count if dropped else 0)

    def _ranges(self, asked: RangesOf, query: EngineQuery) -> Buckets:
        values = _numbers(self._values(asked.field, asked.view, query, single=True))
        buckets = []
        for name, low, high in asked.ranges:
            within = [
                each
                for each in values
                if (low is None or each.value >= low) and (high is None or each.value < high)  # type: ignore[operator]
            ]
            buckets.append(self._grouped(name, within, asked, query))
        return Buckets(tuple(buckets))

    def _intervals(self, asked: HistogramOf | DatesOf, query: EngineQuery) -> Buckets:
        view = _view_of(asked)
        groups: dict[SortValue, list[Held]] = {}
        values = self._values(asked.field, view, query, single=True)
        for each in _numbers(self._or_missing(asked, view, query, values)):
            if isinstance(asked, HistogramOf):
                if not math.isfinite(each.value):  # type: ignore[arg-type]
                    continue
                key: float = step_of(asked, each.value)  # type: ignore[arg-type]
            else:
                key = date_bucket(asked, int(each.value))
            if is_within(asked, key):
                groups.setdefault(key, []).append(each)
        if len(groups) > BUCKETS_MAX:
            raise RefusedError(f"more than {BUCKETS_MAX} buckets: ask for a longer interval")
        buckets = [self._grouped(key, group, asked, query) for key, group in groups.items()]
        return Buckets(tuple(sorted(buckets, key=lambda each: (-each.count, rank_of(each.key), each.key))))

    def _grouped(self, key: SortValue, values: Sequence[Held], asked: Any, query: EngineQuery) -> Bucket:
        inside = self._inside(asked, query, [each.term for each in values])
        return Bucket(key, sum(each.count for each in values), inside)

    def _bucket(self, name: str, query: EngineQuery, asked: Filtered | Without) -> Bucket:
        self._step()
        inside = self.partials(asked.inside, query) if asked.inside else {}
        return Bucket(name, self._tools.count(query), inside)

    def _inside(self, asked: Any, query: EngineQuery, terms: Sequence[str]) -> Partials:
        if not asked.inside:
            return {}
        self._step()
        if "" not in terms:
            return self.partials(asked.inside, self._tools.having(query, terms))
        if len(terms) > 1 or isinstance(asked, RangesOf):
            raise Unsuited
        view = asked.view if isinstance(asked, TermsOf) else _view_of(asked)
        without = self._tools.valueless(query, asked.field, _views(view))
        return self.partials(asked.inside, without)


def _view_of(asked: HistogramOf | DatesOf) -> str:
    return NUMBER if isinstance(asked, HistogramOf) else DATE


def _numbers(values: Sequence[Held]) -> list[Held]:
    return [
        each for each in values if isinstance(each.value, int | float) and not isinstance(each.value, bool)
    ]
