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
    BY_KEY,
    Aggregation,
    Aggregations,
    Bucket,
    Buckets,
    CompositeOf,
    DatesOf,
    Distinct,
    Filtered,
    HistogramOf,
    Moments,
    NestedOf,
    Partial,
    Partials,
    PercentilesOf,
    PipelineOf,
    RangesOf,
    Sketch,
    StatsOf,
    TermsOf,
    Top,
    TopHitsOf,
    Weighted,
    Without,
)
from index.bounds import RefusedError
from index.composites import page, values_of
from index.computing import date_bucket, instant_at, local_of, step_of
from index.date_formats import date_format, shown_iso
from index.instants import SECOND_US, format_instant, next_begin
from index.merging import merge_all
from index.ordering import rank_of
from index.pipelines import with_parents, with_siblings
from index.query import DATE, Hit, SortValue
from index.sketches import count_distinct, quantile, rank_of as share_below

ShowHits = Callable[[TopHitsOf, tuple[Hit, ...]], list[dict[str, Any]]]
"""How the documents of top_hits are shown."""


def finish(aggregations: Aggregations, partials: Partials, show: ShowHits) -> dict[str, Any]:
    """The answer by name; raises RefusedError if a histogram's holes are too many to fill."""
    found = {
        name: _one(asked, partials[name], show)
        for name, asked in aggregations
        if not isinstance(asked, PipelineOf)
    }
    return with_siblings(aggregations, found)


def with_meta(asked: Any, found: dict[str, Any]) -> None:
    """Put the `meta` of aggregations as they were asked (JSON, understood) beside what was found."""
    for name, one in asked.items():
        answer = found.get(name)
        if not isinstance(answer, dict):
            continue
        if "meta" in one:
            answer["meta"] = one["meta"]
        inside = one.get("aggs", one.get("aggregations"))
        if inside:
            buckets = answer.get("buckets", [answer])
            for bucket in buckets.values() if isinstance(buckets, dict) else buckets:
                with_meta(inside, bucket)


def top_hits(aggregations: Aggregations, partials: Partials) -> list[tuple[TopHitsOf, Hit]]:
    """The documents that will be shown, so that they can be fetched before."""
    found: list[tuple[TopHitsOf, Hit]] = []
    for name, asked in aggregations:
        if isinstance(asked, PipelineOf):
            continue
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
        return _percentiles(asked, partial)
    if isinstance(partial, Distinct):
        return {"value": count_distinct(partial)}
    if isinstance(partial, Weighted):
        return {"value": partial.total / partial.weights if partial.weights else None}
    if isinstance(partial, Top):
        assert isinstance(asked, TopHitsOf)
        hits = show(asked, partial.hits)
        best = None if asked.sort else max((hit.score for hit in partial.hits), default=None)
        total = {"value": partial.total, "relation": "eq"}
        return {"hits": {"total": total, "max_score": best, "hits": hits[asked.offset :]}}
    assert isinstance(partial, Buckets)
    return with_parents(getattr(asked, "inside", ()), _bucketed(asked, partial, show))


def _percentiles(asked: PercentilesOf, partial: Sketch) -> dict[str, Any]:
    unit = 1000 if asked.view == DATE else 1
    found: list[tuple[float, float | None]] = []
    for wanted in asked.percents:
        value = share_below(partial, wanted * unit) if asked.ranks else quantile(partial, wanted / 100)
        found.append((wanted, None if value is None else value * 100 if asked.ranks else value / unit))
    if asked.keyed:
        return {"values": {f"{wanted:.1f}": value for wanted, value in found}}
    return {"values": [{"key": wanted, "value": value} for wanted, value in found]}


def _stats(asked: StatsOf, partial: Moments) -> dict[str, Any]:
    if asked.kind == "value_count":
        return {"value": partial.count}
    is_date = asked.view == DATE
    if not partial.count and partial.dates is not None:
        is_date, partial = True, partial.dates
    count, unit = partial.count, 1000 if is_date else 1
    values = {
        "min": partial.low,
        "max": partial.high,
        "avg": partial.total / count if count else None,
        "sum": partial.total,
    }
    shown: dict[str, Any] = {name: None if one is None else one / unit for name, one in values.items()}
    texts = {}
    if is_date:
        texts = {name: format_instant(int(one)) for name, one in values.items() if one is not None}
        texts.pop("sum", None)
    if asked.kind in shown:
        found = {"value": shown[asked.kind]}
        return {**found, "value_as_string": texts[asked.kind]} if asked.kind in texts else found
    found = {"count": count, **shown, **{f"{name}_as_string": text for name, text in texts.items()}}
    return {**found, **_spread(asked, partial, unit)} if asked.kind == "extended_stats" else found


def _spread(asked: StatsOf, partial: Moments, unit: int) -> dict[str, Any]:
    """What extended_stats tells beyond stats: of the population, and of it as a sample."""
    count, mean = partial.count, partial.total / unit / partial.count if partial.count else None
    squares = partial.squares / unit**2
    found: dict[str, Any] = {"sum_of_squares": squares if count else None}
    whole = max(0.0, squares / count - mean * mean) if mean is not None else None
    sample = whole * count / (count - 1) if whole is not None and count > 1 else None
    bounds: dict[str, float | None] = {}
    for name, variance in (("", whole), ("_population", whole), ("_sampling", sample)):
        deviation = None if variance is None else math.sqrt(variance)
        found[f"variance{name}"], found[f"std_deviation{name}"] = variance, deviation
        for side, sign in (("upper", 1), ("lower", -1)):
            known = mean is not None and deviation is not None
            bounds[f"{side}{name}"] = mean + sign * asked.sigma * deviation if known else None  # type: ignore[operator]
    return {**found, "std_deviation_bounds": bounds}


def _bucketed(asked: Any, partial: Buckets, show: ShowHits) -> dict[str, Any]:
    shown = _shown(asked, partial)
    if isinstance(asked, Without | NestedOf) or (isinstance(asked, Filtered) and asked.filters[0][0] == ""):
        return _content(asked, shown[0], show)
    if isinstance(asked, Filtered):
        named = {str(b.key): _content(asked, b, show) for b in shown}
        return {"buckets": list(named.values()) if asked.anonymous else named}
    if isinstance(asked, RangesOf):
        return _keyed(asked, [_range(asked, i, b, show) for i, b in enumerate(shown)], "key", keeps=False)
    if isinstance(asked, CompositeOf):
        keys = [_combined_key(asked, b.key) for b in shown]
        buckets = [{"key": key, **_content(asked, b, show)} for key, b in zip(keys, shown, strict=True)]
        return {**({"after_key": keys[-1]} if keys else {}), "buckets": buckets}
    if not isinstance(asked, TermsOf):
        key = "key_as_string" if isinstance(asked, DatesOf) else "key"
        return _keyed(asked, [{**_key(asked, b.key), **_content(asked, b, show)} for b in shown], key)
    rest = sum(b.count for b in partial.buckets) - sum(b.count for b in shown)
    return {
        "doc_count_error_upper_bound": partial.error,
        "sum_other_doc_count": rest + partial.others,
        "buckets": [{**_key(asked, b.key), **_content(asked, b, show)} for b in shown],
    }


def _keyed(asked: Any, buckets: list[dict[str, Any]], key: str, *, keeps: bool = True) -> dict[str, Any]:
    """Buckets as a list, or by their keys where that is asked for."""
    if not asked.keyed:
        return {"buckets": buckets}
    return {
        "buckets": {
            str(bucket[key]): {name: each for name, each in bucket.items() if keeps or name != key}
            for bucket in buckets
        }
    }


def _content(asked: Any, bucket: Bucket, show: ShowHits) -> dict[str, Any]:
    return {"doc_count": bucket.count, **finish(asked.inside, bucket.inside, show)}


def _combined_key(asked: CompositeOf, key: SortValue) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one, value in zip(asked.sources, values_of(key), strict=True):
        is_date = isinstance(one.of, DatesOf) or (isinstance(one.of, TermsOf) and one.of.view == DATE)
        if is_date and isinstance(value, int):
            form = isinstance(one.of, DatesOf) and one.of.format
            found[one.name] = shown_date(one.of, value) if form else value // 1000
        else:
            found[one.name] = float(value) if isinstance(one.of, HistogramOf) and value is not None else value
    return found


def _key(asked: Any, key: SortValue) -> dict[str, Any]:
    if isinstance(asked, DatesOf) or (isinstance(asked, TermsOf) and asked.view == DATE):
        assert isinstance(key, int)
        return {"key_as_string": shown_date(asked, key), "key": key // 1000}
    if isinstance(key, bool):
        return {"key": int(key), "key_as_string": "true" if key else "false"}
    return {"key": key}


def _range(asked: RangesOf, index: int, bucket: Bucket, show: ShowHits) -> dict[str, Any]:
    name, low, high = asked.ranges[index]
    found: dict[str, Any] = {"key": name}
    for word, bound in (("from", low), ("to", high)):
        if bound is not None and asked.view == DATE:
            found[word], found[f"{word}_as_string"] = bound / 1000, shown_date(asked, int(bound))
        elif bound is not None:
            found[word] = bound
    return {**found, **_content(asked, bucket, show)}


def shown_date(asked: TermsOf | DatesOf | RangesOf | HistogramOf, at_us: int) -> str:
    """A date in the format and the zone that were asked for."""
    if isinstance(asked, TermsOf | HistogramOf):
        return format_instant(at_us)
    form = date_format(asked.format) if asked.format else None
    assert not isinstance(form, str), "it was checked"
    return shown_iso(at_us, asked.zone) if form is None else form.show(at_us, asked.zone)


def _shown(asked: Aggregation, partial: Buckets) -> list[Bucket]:
    """Buckets as they are shown: ordered, those that count, cut to size, holes filled."""
    if isinstance(asked, CompositeOf):
        held = {values_of(bucket.key): bucket for bucket in partial.buckets}
        return [held[values] for values in page(asked, held)]
    if isinstance(asked, TermsOf):
        enough = [bucket for bucket in partial.buckets if bucket.count >= asked.count_min]
        return _ordered(asked, enough)[: asked.size]
    if isinstance(asked, HistogramOf | DatesOf):
        ordered = sorted(partial.buckets, key=lambda bucket: (rank_of(bucket.key), bucket.key))
        if asked.count_min > 0:
            ordered = [bucket for bucket in ordered if bucket.count >= asked.count_min]
        else:
            ordered = _filled(asked, ordered)
        return ordered if asked.order == BY_KEY else _ordered(asked, ordered)
    return list(partial.buckets)


def _ordered(asked: TermsOf | HistogramOf | DatesOf, buckets: list[Bucket]) -> list[Bucket]:
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
    keys: list[Any] = [bucket.key for bucket in ordered]
    key_of = _begin(asked)
    keys += [key_of(bound) for bound in asked.extended or () if bound is not None]
    if not keys:
        return ordered
    nothing = merge_all(asked.inside, [])
    found = {bucket.key: bucket for bucket in ordered}
    filled: list[Bucket] = []
    key: Any = min(keys)
    last: Any = max(keys)
    index = at = 0
    first = key
    while key <= last:
        filled.append(found.get(key) or Bucket(key, 0, nothing))
        if len(filled) > BUCKETS_MAX:
            raise RefusedError(
                f"more than {BUCKETS_MAX} buckets: ask for a longer interval, or min_doc_count 1"
            )
        index += 1
        at += at < len(ordered) and ordered[at].key == key
        key = _next_key(asked, first, index, key)
        if key <= filled[-1].key:  # floats so large are further apart than that
            key = math.inf
        if at < len(ordered):  # clocks that were put back in the middle of an interval begin another one
            key = min(key, ordered[at].key)
    return filled


def _next_key(asked: HistogramOf | DatesOf, first: Any, index: int, key: Any) -> Any:
    if isinstance(asked, HistogramOf):  # as it is computed of a number, so that keys are equal
        steps = round((first - asked.offset) / asked.interval) + index
        return steps * asked.interval + asked.offset
    local_us, interval_us = local_of(asked, key), asked.interval_us
    if asked.calendar:
        then_us = next_begin(local_us, asked.calendar)
    else:
        then_us = local_us - local_us % interval_us + interval_us
    after = date_bucket(asked, key + then_us - local_us)
    if after <= key:  # clocks are put back meanwhile: it takes longer
        after = date_bucket(asked, instant_at(asked, then_us))
    return max(key + SECOND_US // 1000, after)


def _begin(asked: HistogramOf | DatesOf) -> Callable[[Any], Any]:
    """The key of the bucket that a value is in."""
    if isinstance(asked, HistogramOf):
        return lambda bound: step_of(asked, bound)
    return lambda bound: date_bucket(asked, int(bound))
