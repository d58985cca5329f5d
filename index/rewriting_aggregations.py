"""Aggregations with the views of their fields resolved and their queries planned."""

from __future__ import annotations

from msgspec.structs import replace

from index.aggregation import (
    Aggregation,
    Aggregations,
    DistinctOf,
    Filtered,
    GlobalOf,
    NestedOf,
    PercentilesOf,
    PipelineOf,
    StatsOf,
    TermsOf,
    TopHitsOf,
)
from index.bounds import QueryError, RefusedError
from index.query import DATE, NUMBER
from index.rewriting import Rewriter


def rewrite_aggregations(rewriter: Rewriter, asked: Aggregations) -> Aggregations | QueryError:
    """What peers are to aggregate, or why they cannot."""
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
    path, views = rewriter.views(asked.field)
    found = replace(asked, field=path)
    only_dates = DATE in views and NUMBER not in views
    if isinstance(found, TermsOf | DistinctOf | StatsOf | PercentilesOf) and only_dates:
        found = replace(found, view=DATE)
    elif isinstance(found, StatsOf) and DATE in views and found.missing is None:
        found = replace(found, view="")
    if isinstance(found, DistinctOf | StatsOf | PercentilesOf):
        return found
    return replace(found, inside=_all(rewriter, found.inside))
