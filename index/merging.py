"""Partial aggregations of disjoint documents, added up.

    partials = merge_all(aggregations, [one, other, ...])     # as if over all documents at once

Adding up is associative and, but for the error of sketches, exact. Of terms a peer sends at most BUCKETS_MAX;
where it dropped some, counts of the merge may be too low by the sum of the errors told.
"""

from __future__ import annotations

from collections.abc import Sequence

from index.aggregation import (
    Aggregation,
    Aggregations,
    Bucket,
    Buckets,
    Distinct,
    DistinctOf,
    Filtered,
    GlobalOf,
    Moments,
    NestedOf,
    Partial,
    Partials,
    PercentilesOf,
    PipelineOf,
    RangesOf,
    Sketch,
    StatsOf,
    Top,
    TopHitsOf,
    Weighted,
    WeightedOf,
    Without,
)
from index.ordering import rank_of, sorted_hits
from index.query import SortValue
from index.sketches import merge_distinct, merge_sketches


def merge_all(aggregations: Aggregations, parts: Sequence[Partials]) -> Partials:
    """The partial answers over all documents of these parts."""
    return {
        name: merge_one(asked, [part[name] for part in parts if name in part])
        for name, asked in aggregations
        if not isinstance(asked, PipelineOf)
    }


def merge_one(asked: Aggregation, parts: Sequence[Partial]) -> Partial:
    """The same of one aggregation; of no parts it is that of no documents."""
    if isinstance(asked, StatsOf):
        return _merge_moments([part for part in parts if isinstance(part, Moments)])
    if isinstance(asked, PercentilesOf):
        return merge_sketches(part for part in parts if isinstance(part, Sketch))
    if isinstance(asked, DistinctOf):
        return merge_distinct(part for part in parts if isinstance(part, Distinct))
    if isinstance(asked, TopHitsOf):
        tops = [part for part in parts if isinstance(part, Top)]
        hits = sorted_hits((hit for top in tops for hit in top.hits), asked.sort, asked.offset + asked.size)
        return Top(tuple(hits), sum(top.total for top in tops))
    if isinstance(asked, WeightedOf):
        sums = [part for part in parts if isinstance(part, Weighted)]
        return Weighted(sum(part.total for part in sums), sum(part.weights for part in sums))
    assert not isinstance(asked, GlobalOf | PipelineOf), "questions of their own"
    found: dict[tuple[int, SortValue], list[Bucket]] = {}
    buckets = [part for part in parts if isinstance(part, Buckets)]
    if isinstance(asked, RangesOf | Filtered | Without | NestedOf):  # in the order asked, even if empty
        names = [""] if isinstance(asked, Without | NestedOf) else []
        names += [one[0] for one in asked.ranges] if isinstance(asked, RangesOf) else []
        names += [one[0] for one in asked.filters] if isinstance(asked, Filtered) else []
        names += [asked.other] if isinstance(asked, Filtered) and asked.other else []
        found = {(2, name): [] for name in names}
    for part in buckets:
        for bucket in part.buckets:
            found.setdefault((rank_of(bucket.key), bucket.key), []).append(bucket)
    merged = tuple(
        Bucket(
            key,
            sum(bucket.count for bucket in same),
            merge_all(asked.inside, [bucket.inside for bucket in same]),
        )
        for (_, key), same in found.items()
    )
    return Buckets(merged, sum(part.others for part in buckets), sum(part.error for part in buckets))


def _merge_moments(parts: Sequence[Moments]) -> Moments:
    lows = [part.low for part in parts if part.low is not None]
    dates = [part.dates for part in parts if part.dates is not None]
    highs = [part.high for part in parts if part.high is not None]
    return Moments(
        sum(part.count for part in parts),
        sum(part.total for part in parts),
        min(lows, default=None),
        max(highs, default=None),
        sum(part.squares for part in parts),
        _merge_moments(dates) if dates else None,
    )
