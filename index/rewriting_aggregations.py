"""Aggregations with the views of their fields resolved and their queries planned."""

from __future__ import annotations

from msgspec.structs import replace

from index.aggregation import (
    Aggregation,
    Aggregations,
    CompositeOf,
    DistinctOf,
    Filtered,
    GlobalOf,
    NestedOf,
    PercentilesOf,
    PipelineOf,
    StatsOf,
    TermsOf,
    TopHitsOf,
    WeightedOf,
)
from index.bounds import QueryError, RefusedError
from index.query import DATE, NUMBER
from index.rewriting import Rewriter


def rewrite_aggregations(rewriter: Rewriter, asked: Aggregations) -> Aggregations | QueryError:
    """What peers are to aggregate, or why they cannot."""
    rewriter.begin()
    try:
        return _all(rewriter, asked)
    except RefusedError as refused:
        return refused.error


def _all(rewriter: Rewriter, asked: Aggregations) -> Aggregations:
    return tuple((name, _one(rewriter, each)) for name, each in asked)


def _one(rewriter: Rewriter, asked: Aggregation) -> Aggregation:
    if isinstance(asked, PipelineOf):
        return asked
    if isinstance(asked, TopHitsOf):
        return replace(asked, sort=tuple(map(rewriter.sort_key, asked.sort)))
    if isinstance(asked, Filtered):
        filters = tuple((name, rewriter.planned(query)) for name, query in asked.filters)
        return replace(asked, filters=filters, inside=_all(rewriter, asked.inside))
    if isinstance(asked, NestedOf | GlobalOf):
        return replace(asked, inside=_all(rewriter, asked.inside))
    if isinstance(asked, WeightedOf):
        (value, _), (weight, _) = rewriter.views(asked.value), rewriter.views(asked.weight)
        return replace(asked, value=value, weight=weight)
    if isinstance(asked, CompositeOf):
        return _composite(rewriter, asked)
    path, views = rewriter.views(asked.field)
    found = replace(asked, field=path)
    only_dates = DATE in views and NUMBER not in views
    if isinstance(found, TermsOf | DistinctOf | StatsOf | PercentilesOf) and only_dates:
        found = _of_dates(rewriter, found)
    elif isinstance(found, StatsOf) and DATE in views and found.missing is None:
        found = replace(found, view="")
    if isinstance(found, DistinctOf | StatsOf | PercentilesOf):
        return found
    return replace(found, inside=_all(rewriter, found.inside))


_OfValues = TermsOf | DistinctOf | StatsOf | PercentilesOf


def _of_dates(rewriter: Rewriter, asked: _OfValues) -> _OfValues:
    """Of a field that holds dates alone: what is said of values is said of dates."""
    found = replace(asked, view=DATE)
    if asked.missing is not None:
        found = replace(found, missing=rewriter.instant(asked.missing))
    if isinstance(found, TermsOf):
        for name in ("include", "exclude"):
            chosen = getattr(found, name)
            if isinstance(chosen, tuple):
                found = replace(found, **{name: tuple(map(rewriter.instant, chosen))})
    return found


def _composite(rewriter: Rewriter, asked: CompositeOf) -> CompositeOf:
    sources = tuple(replace(one, of=_one(rewriter, one.of)) for one in asked.sources)
    after = asked.after
    if after is not None:  # of terms that are dates they come as milliseconds
        dates = [isinstance(one.of, TermsOf) and one.of.view == DATE for one in sources]
        pairs = zip(after, dates, strict=True)
        after = tuple(
            value * 1000 if is_date and isinstance(value, int) else value for value, is_date in pairs
        )
    return replace(asked, sources=sources, after=after, inside=_all(rewriter, asked.inside))
