"""Aggregations that a term dictionary answers without looking at documents: how many have which value, and
how many different values there are.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from index.aggregation import (
    BUCKETS_MAX,
    Aggregation,
    Aggregations,
    Bucket,
    Buckets,
    DistinctOf,
    Partial,
    Partials,
    TermsOf,
)
from index.encoding import TAGS, decoded, head
from index.ordering import rank_of
from index.query import BOOLEAN, EXACT, NUMBER, Value
from index.sketches import distinct_of

Counts = Callable[[str], list[tuple[str, int]]]
"""Terms of values that begin so, with how many of the matching documents have each."""


def split(aggregations: Aggregations) -> tuple[Aggregations, Aggregations]:
    """Those that can be answered so, and the others."""
    quick = tuple(each for each in aggregations if _is_quick(each[1]))
    return quick, tuple(each for each in aggregations if not _is_quick(each[1]))


def _is_quick(asked: Aggregation) -> bool:
    if isinstance(asked, TermsOf):
        return not asked.inside and asked.missing is None
    return isinstance(asked, DistinctOf)


def facets_of(aggregations: Aggregations, counts: Counts) -> Partials:
    """The partial answers."""
    return {name: _partial(asked, counts) for name, asked in aggregations}


def _partial(asked: Aggregation, counts: Counts) -> Partial:
    assert isinstance(asked, TermsOf | DistinctOf)
    found: dict[tuple[int, Value], int] = {}
    for view in (asked.view,) if asked.view else (BOOLEAN, NUMBER, EXACT):
        if view not in TAGS:
            continue
        start = head(asked.field, TAGS[view])
        for term, count in counts(start):
            if count:
                value = decoded(view, term[len(start) :])
                plain = float(value) if isinstance(value, Decimal) else value
                key = (rank_of(plain), plain)
                found[key] = found.get(key, 0) + count
    if isinstance(asked, DistinctOf):
        return distinct_of(value for _, value in sorted(found))
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    dropped = ordered[BUCKETS_MAX:]
    return Buckets(
        tuple(Bucket(key[1], count) for key, count in ordered[:BUCKETS_MAX]),
        sum(count for _, count in dropped),
        dropped[0][1] if dropped else 0,
    )
