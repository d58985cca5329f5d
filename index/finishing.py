"""Aggregations as users see them: merged partial answers in the form of Elasticsearch's `aggregations`.

Only here are buckets ordered, cut to their size, and holes of histograms filled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cmp_to_key
from typing import Any

from index.aggregation import (
    BUCKETS_MAX,
    Aggregation,
    Aggregations,
    Bucket,
    Buckets,
    DatesOf,
    Distinct,
    Filtered,
    HistogramOf,
    Moments,
    Partial,
    Partials,
    PercentilesOf,
    RangesOf,
    Sketch,
    StatsOf,
    TermsOf,
    Top,
    TopHitsOf,
    Without,
)
from index.bounds import RefusedError
from index.computing import date_bucket
from index.instants import format_instant, next_begin
from index.merging import merge_all
from index.ordering import rank_of
from index.query import DATE, Hit, SortValue
from index.sketches import count_distinct, quantile, rank_of as share_below

ShowHits = Callable[[TopHitsOf, tuple[Hit, ...]], list[dict[str, Any]]]
"""How the documents of top_hits are shown."""


def finish(aggregations: Aggregations, partials: Partials, show: ShowHits) -> dict[str, Any]:
    """The answer by name; raises RefusedError if a histogram's holes are too many to fill."""
    return {name: _one(asked, partials[name], show) for name, asked in aggregations}


def top_hits(aggregations: Aggregations, partials: Partials) -> list[tuple[TopHitsOf, Hit]]:
    """The documents that will be shown, so that they can be fetched before."""
    found: list[tuple[TopHitsOf, Hit]] = []
    for name, asked in aggregations:
        partial = partials[name]
        if isinstance(asked, TopHitsOf) and isinstance(partial, Top):
            found += [(asked, hit) for hit in partial.hits]
        elif isinstance(partial, Buckets) and not isinstance(asked, StatsOf | PercentilesOf | TopHitsOf):
            inside = getattr(asked, "inside", ())
            for bucket in _shown(asked, partial) if inside else ():
                found += top_hits(inside, bucket.inside)
    return found


def _one(asked: Aggregation, partial: Partial, show: ShowHits) -> dict[str, Any]:
    if isinstance(asked, StatsOf):
        assert isinstance(partial, Moments)
        return _stats(asked, partial)
    if isinstance(asked, PercentilesOf):
        assert isinstance(partial, Sketch)
        if asked.ranks:
            found = {f"{value:.1f}": share_below(partial, value) for value in asked.percents}
            return {"values": {name: None if at is None else at * 100 for name, at in found.items()}}
        return {"values": {f"{share:.1f}": quantile(partial, share / 100) for share in asked.percents}}
    if isinstance(partial, Distinct):
        return {"value": count_distinct(partial)}
    if isinstance(partial, Top):
        assert isinstance(asked, TopHitsOf)
        hits = show(asked, partial.hits)
        return {"hits": {"total": {"value": partial.total, "relation": "eq"}, "hits": hits}}
    assert isinstance(partial, Buckets)
    return _bucketed(asked, partial, show)


def _stats(asked: StatsOf, partial: Moments) -> dict[str, Any]:
    count, total = partial.count, partial.total
    mean = total / count if count else None
    if asked.kind == "value_count":
        return {"value": count}
    single = {"min": partial.low, "max": partial.high, "sum": total, "avg": mean}
    if asked.kind in single:
        value = single[asked.kind]
        shown = {"value": value}
        if asked.view == DATE and value is not None and asked.kind != "sum":
            return {"value": value / 1000, "value_as_string": format_instant(int(value))}
        return shown
    found: dict[str, Any] = {"count": count, **single}
    if asked.kind == "extended_stats":
        variance = max(0.0, partial.squares / count - (total / count) ** 2) if count else None
        found["sum_of_squares"] = partial.squares
        found["variance"] = variance
        found["std_deviation"] = None if variance is None else math.sqrt(variance)
    return found


def _bucketed(asked: Any, partial: Buckets, show: ShowHits) -> dict[str, Any]:
    shown = _shown(asked, partial)
    if isinstance(asked, Without) or (isinstance(asked, Filtered) and asked.filters[0][0] == ""):
        return _content(asked, shown[0], show)
    if isinstance(asked, Filtered):
        return {"buckets": {str(b.key): _content(asked, b, show) for b in shown}}
    if isinstance(asked, RangesOf):
        return {"buckets": [_range(asked, i, b, show) for i, b in enumerate(shown)]}
    if not isinstance(asked, TermsOf):
        return {"buckets": [{**_key(asked, b.key), **_content(asked, b, show)} for b in shown]}
    rest = sum(b.count for b in partial.buckets) - sum(b.count for b in shown)
    return {
        "doc_count_error_upper_bound": partial.error,
        "sum_other_doc_count": rest + partial.others,
        "buckets": [{**_key(asked, b.key), **_content(asked, b, show)} for b in shown],
    }


def _content(asked: Any, bucket: Bucket, show: ShowHits) -> dict[str, Any]:
    return {"doc_count": bucket.count, **finish(asked.inside, bucket.inside, show)}


def _key(asked: Any, key: SortValue) -> dict[str, Any]:
    if isinstance(asked, DatesOf) or (isinstance(asked, TermsOf) and asked.view == DATE):
        assert isinstance(key, int)
        return {"key_as_string": format_instant(key), "key": key // 1000}
    if isinstance(key, bool):
        return {"key": int(key), "key_as_string": "true" if key else "false"}
    return {"key": key}


def _range(asked: RangesOf, index: int, bucket: Bucket, show: ShowHits) -> dict[str, Any]:
    name, low, high = asked.ranges[index]
    found: dict[str, Any] = {"key": name}
    for word, bound in (("from", low), ("to", high)):
        if bound is not None and asked.view == DATE:
            found[word], found[f"{word}_as_string"] = bound / 1000, format_instant(int(bound))
        elif bound is not None:
            found[word] = bound
    return {**found, **_content(asked, bucket, show)}


def _shown(asked: Aggregation, partial: Buckets) -> list[Bucket]:
    """Buckets as they are shown: ordered, those that count, cut to size, holes filled."""
    if isinstance(asked, TermsOf):
        enough = [bucket for bucket in partial.buckets if bucket.count >= asked.count_min]
        return _ordered(asked, enough)[: asked.size]
    if isinstance(asked, HistogramOf | DatesOf):
        ordered = sorted(partial.buckets, key=lambda bucket: (rank_of(bucket.key), bucket.key))
        if asked.count_min > 0:
            return [bucket for bucket in ordered if bucket.count >= asked.count_min]
        return _filled(asked, ordered)
    return list(partial.buckets)


def _ordered(asked: TermsOf, buckets: list[Bucket]) -> list[Bucket]:
    inside = dict(asked.inside)

    def metric(bucket: Bucket, name: str) -> float:
        name, _, member = name.partition(".")
        shown = _one(inside[name], bucket.inside[name], _show_none)
        value = shown.get(member or "value")
        return -math.inf if not isinstance(value, int | float) else value

    def order(left: Bucket, right: Bucket) -> int:
        for name, descending in (*asked.order, ("_key", False)):
            if name == "_count":
                found = left.count - right.count
            elif name == "_key":
                a: Any = (rank_of(left.key), left.key)
                b: Any = (rank_of(right.key), right.key)
                found = (a > b) - (a < b)
            else:
                one, other = metric(left, name), metric(right, name)
                found = (one > other) - (one < other)
            if found:
                return -found if descending else found
        return 0

    return sorted(buckets, key=cmp_to_key(order))


def _show_none(_asked: TopHitsOf, _hits: tuple[Hit, ...]) -> list[dict[str, Any]]:
    return []


def _filled(asked: HistogramOf | DatesOf, ordered: list[Bucket]) -> list[Bucket]:
    """With empty buckets in the holes."""
    if len(ordered) < 2:
        return ordered
    nothing = merge_all(asked.inside, [])
    found = {bucket.key: bucket for bucket in ordered}
    filled: list[Bucket] = []
    key: Any = ordered[0].key
    last: Any = ordered[-1].key
    index = 0
    first = key
    while key <= last:
        filled.append(found.get(key) or Bucket(key, 0, nothing))
        if len(filled) > BUCKETS_MAX:
            raise RefusedError(
                f"more than {BUCKETS_MAX} buckets: ask for a longer interval, or min_doc_count 1"
            )
        index += 1
        key = _next_key(asked, first, index, key)
    return filled


def _next_key(asked: HistogramOf | DatesOf, first: Any, index: int, key: Any) -> Any:
    if isinstance(asked, HistogramOf):  # as it is computed of a number, so that keys are equal
        steps = round((first - asked.offset) / asked.interval) + index
        return steps * asked.interval + asked.offset
    if asked.calendar:
        return date_bucket(asked, next_begin(key + asked.zone_us, asked.calendar) - asked.zone_us)
    return key + asked.interval_us
