"""Partial aggregations over the documents that matched: what each kind counts, written once.

An index that can aggregate faster by itself may, as long as it comes to the same. Buckets come out by falling
count, then key, so that dropping what is too much keeps the most frequent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from index.aggregation import (
    BUCKETS_IN_ALL_MAX,
    BUCKETS_MAX,
    Aggregation,
    Aggregations,
    Bucket,
    Buckets,
    Choice,
    CompositeOf,
    DatesOf,
    DistinctOf,
    Filtered,
    GlobalOf,
    HistogramOf,
    Moments,
    NestedOf,
    Partial,
    Partials,
    PercentilesOf,
    PipelineOf,
    RangesOf,
    StatsOf,
    TermsOf,
    Top,
    TopHitsOf,
    Weighted,
    WeightedOf,
    Without,
)
from index.bounds import RefusedError
from index.composites import combinations, key_of, page, values_of
from index.encoding import escaped
from index.floats import total_of
from index.instants import DAY_US, begin_of
from index.ordering import rank_of, sort_values, sorted_hits
from index.query import DATE, NUMBER, Hit, Query, SortValue, Value
from index.regexes import term_test
from index.sketches import distinct_of, sketch_of
from query.zones import ahead_us, instant_of


class Matched(Protocol):
    """A document that matched."""

    @property
    def key(self) -> bytes:
        """The key of its row."""

    @property
    def score(self) -> float:
        """Its score."""

    def values(self, field: str, view: str) -> Sequence[Value]:
        """Its values in a view of a field; of view "" as booleans, numbers and EXACT text."""

    def has(self, field: str) -> bool:
        """Whether it has any value at or below this path."""

    def matches(self, query: Query) -> bool:
        """Whether it matches a planned query."""

    def nested(self, path: str) -> Sequence[Matched]:
        """Each object at this path, as if it were the only one of the document."""


def compute(aggregations: Aggregations, matched: Sequence[Matched]) -> Partials:
    """The partial answers over these documents; raises RefusedError for too many buckets."""
    return _all(aggregations, matched, _Budget())


class _Budget:
    """Buckets that may still be made, nested ones too."""

    def __init__(self) -> None:
        self._left = BUCKETS_IN_ALL_MAX

    def take(self, count: int) -> None:
        """Make so many; raises RefusedError."""
        self._left -= count
        if self._left < 0:
            raise RefusedError(f"more than {BUCKETS_IN_ALL_MAX} buckets in all: nest fewer, or ask for less")


def _all(aggregations: Aggregations, matched: Sequence[Matched], budget: _Budget) -> Partials:
    return {
        name: _one(each, matched, budget) for name, each in aggregations if not isinstance(each, PipelineOf)
    }


def _one(asked: Aggregation, matched: Sequence[Matched], budget: _Budget) -> Partial:
    if isinstance(asked, StatsOf):
        return _moments(asked, matched)
    if isinstance(asked, PercentilesOf):
        return sketch_of(number for each in matched for number in _numbers_or(each, asked))
    if isinstance(asked, DistinctOf):
        other = () if asked.missing is None else (asked.missing,)
        return distinct_of(
            value for each in matched for value in each.values(asked.field, asked.view) or other
        )
    if isinstance(asked, TopHitsOf):
        hits = [
            Hit(each.key, each.score, sort_values(asked.sort, each.score, each.values)) for each in matched
        ]
        return Top(tuple(sorted_hits(hits, asked.sort, asked.offset + asked.size)), len(hits))
    if isinstance(asked, WeightedOf):
        return _weighted(asked, matched)
    assert not isinstance(asked, GlobalOf | PipelineOf), "a question of its own"
    return _buckets(asked, matched, budget)


def _numbers(document: Matched, field: str, view: str) -> list[float]:
    held = document.values(field, view)
    return [value for value in held if not isinstance(value, bool | str)]


def _numbers_or(document: Matched, asked: StatsOf | PercentilesOf | HistogramOf) -> list[float]:
    """Its numbers, or what stands for none."""
    view = NUMBER if isinstance(asked, HistogramOf) else asked.view
    return _numbers(document, asked.field, view) or ([] if asked.missing is None else [asked.missing])


def _moments(asked: StatsOf, matched: Sequence[Matched]) -> Moments:
    if asked.kind == "value_count":
        other = int(asked.missing is not None)
        return Moments(sum(len(each.values(asked.field, asked.view)) or other for each in matched))
    found = moments_of([number for each in matched for number in _numbers_or(each, asked)])
    if asked.view or found.count:
        return found
    dates = moments_of([number for each in matched for number in _numbers(each, asked.field, DATE)])
    return Moments(dates=dates) if dates.count else found


def moments_of(numbers: Sequence[float]) -> Moments:
    """Count, sum, least, greatest and squares."""
    if not numbers:
        return Moments()
    total, squares = total_of(numbers), total_of(float(n) * n for n in numbers)
    return Moments(len(numbers), total, float(min(numbers)), float(max(numbers)), squares)


def _weighted(asked: WeightedOf, matched: Sequence[Matched]) -> Weighted:
    products: list[float] = []
    weights: list[float] = []
    for each in matched:
        weighing = _numbers(each, asked.weight, NUMBER)
        if len(weighing) > 1:
            raise RefusedError(f"weighted_avg: {asked.weight[:60]!r} has several values: a weight is one")
        weight = weighing[0] if weighing else asked.weight_missing
        values = _numbers(each, asked.value, NUMBER)
        if not values and asked.value_missing is not None:
            values = [asked.value_missing]
        if weight is not None:
            products += [float(value) * weight for value in values]
            weights += [float(weight)] * len(values)
    return Weighted(total_of(products), total_of(weights))


_Bucketed = TermsOf | RangesOf | HistogramOf | DatesOf | CompositeOf | Filtered | Without | NestedOf


def _buckets(asked: _Bucketed, matched: Sequence[Matched], budget: _Budget) -> Buckets:
    if isinstance(asked, Filtered):
        named = [(name, [each for each in matched if each.matches(query)]) for name, query in asked.filters]
        if asked.other:
            queries = [query for _, query in asked.filters]
            rest = [each for each in matched if not any(map(each.matches, queries))]
            named.append((asked.other, rest))
        return Buckets(tuple(_bucket(name, held, asked, budget) for name, held in named))
    if isinstance(asked, Without):
        lacking = [each for each in matched if not each.has(asked.field)]
        return Buckets((_bucket("", lacking, asked, budget),))
    if isinstance(asked, NestedOf):
        objects = [one for each in matched for one in each.nested(asked.path)]
        return Buckets((_bucket("", objects, asked, budget),))
    if isinstance(asked, RangesOf):
        return Buckets(tuple(_range_bucket(asked, one, matched, budget) for one in asked.ranges))
    if isinstance(asked, CompositeOf):
        return _combined(asked, matched, budget)
    found: dict[tuple[int, Value], list[Matched]] = {}
    keys_of = _keys_of(asked)
    for each in matched:
        for key in {(rank_of(key), key): None for key in keys_of(each)}:
            found.setdefault(key, []).append(each)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    kept, dropped = ordered[:BUCKETS_MAX], ordered[BUCKETS_MAX:]
    if dropped and not isinstance(asked, TermsOf):
        raise RefusedError(f"more than {BUCKETS_MAX} buckets: ask for a longer interval")
    return Buckets(
        tuple(_bucket(key, held, asked, budget) for (_, key), held in kept),
        sum(len(held) for _, held in dropped),
        len(dropped[0][1]) if dropped else 0,
    )


def _combined(asked: CompositeOf, matched: Sequence[Matched], budget: _Budget) -> Buckets:
    keys_of = [_keys_of(one.of) for one in asked.sources]
    found: dict[str, list[Matched]] = {}
    for each in matched:
        lists: list[list[SortValue]] = []
        for one, keys in zip(asked.sources, keys_of, strict=True):
            held: list[SortValue] = list(keys(each))
            lists.append(held or ([None] if one.missing else []))
        for key in dict.fromkeys(map(key_of, combinations(lists))):
            found.setdefault(key, []).append(each)
    chosen = [key_of(values) for values in page(asked, map(values_of, found))]
    return Buckets(tuple(_bucket(key, found[key], asked, budget) for key in chosen))


def _bucket(key: SortValue, held: Sequence[Matched], asked: _Bucketed, budget: _Budget) -> Bucket:
    budget.take(1)
    return Bucket(key, len(held), _all(asked.inside, held, budget) if asked.inside else {})


def _range_bucket(
    asked: RangesOf,
    one: tuple[str, float | None, float | None],
    matched: Sequence[Matched],
    budget: _Budget,
) -> Bucket:
    name, low, high = one

    def fits(number: float) -> bool:
        return (low is None or number >= low) and (high is None or number < high)

    held = [each for each in matched if any(map(fits, _numbers(each, asked.field, asked.view)))]
    return _bucket(name, held, asked, budget)


def _keys_of(asked: TermsOf | HistogramOf | DatesOf) -> Callable[[Matched], Iterable[Value]]:
    """The buckets that a document falls in."""
    if isinstance(asked, TermsOf):
        missing = () if asked.missing is None else (asked.missing,)
        test = choice_of(asked)
        if test is None:
            return lambda each: each.values(asked.field, asked.view) or missing
        chosen = test
        return lambda each: filter(chosen, each.values(asked.field, asked.view) or missing)
    if isinstance(asked, HistogramOf):
        return lambda each: [
            key
            for n in _numbers_or(each, asked)
            if math.isfinite(n) and is_within(asked, key := step_of(asked, n))
        ]
    other = [] if asked.missing is None else [asked.missing]
    return lambda each: [
        key
        for n in _numbers(each, asked.field, DATE) or other
        if is_within(asked, key := date_bucket(asked, int(n)))
    ]


def choice_of(asked: TermsOf) -> Callable[[Value], bool] | None:
    """Whether a value is one of those that are counted; None if all are."""
    include, exclude = _is_one_of(asked.include), _is_one_of(asked.exclude)
    if include is None and exclude is None:
        return None
    return lambda value: (include is None or include(value)) and not (exclude is not None and exclude(value))


def _is_one_of(choice: Choice | None) -> Callable[[Value], bool] | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        test = term_test(choice)
        return lambda value: test(escaped(str(value)))
    values = frozenset((rank_of(value), value) for value in choice)
    return lambda value: (rank_of(value), value) in values


def is_within(asked: HistogramOf | DatesOf, key: float) -> bool:
    """Whether there may be a bucket of this key."""
    if asked.hard is None:
        return True
    low, high = asked.hard
    return (low is None or key >= low) and (high is None or key <= high)


def step_of(asked: HistogramOf, number: float) -> float:
    """The low end of the interval that holds a number; raises RefusedError if no number counts those before
    it.
    """
    steps = (number - asked.offset) / asked.interval
    if not math.isfinite(steps):
        raise RefusedError(f"an interval of {asked.interval:g} is too short for values such as {number:g}")
    return math.floor(steps) * asked.interval + asked.offset


SHORT: Final = ("second", "minute", "hour")


def date_bucket(asked: DatesOf, at_us: int) -> int:
    """When the interval that holds this instant begins. Where clocks are put back intervals that are short
    come twice, and are two; days begin once, and what would begin in a gap begins at its end.
    """
    local_us = local_of(asked, at_us)
    calendar, interval_us = asked.calendar, asked.interval_us
    begin_us = begin_of(local_us, calendar) if calendar else local_us - local_us % interval_us
    if calendar not in SHORT if calendar else interval_us >= DAY_US:
        first_us = begin_us - ahead_us(asked.zone, begin_us - DAY_US) + asked.offset_us
        if local_of(asked, first_us) == begin_us:
            return first_us
    unmoved_us = at_us - (local_us - begin_us)
    return unmoved_us if local_of(asked, unmoved_us) == begin_us else instant_at(asked, begin_us)


def local_of(asked: DatesOf, at_us: int) -> int:
    """What the clocks of its zone show, without the offset."""
    moved_us = at_us - asked.offset_us
    return moved_us + ahead_us(asked.zone, moved_us)


def instant_at(asked: DatesOf, local_us: int) -> int:
    """The instant for `local_of`."""
    return instant_of(asked.zone, local_us) + asked.offset_us
