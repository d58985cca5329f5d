"""`composite`: a bucket per combination of values, page by page.

A document is in the buckets of all combinations of what its sources say of it. Buckets come in the order of
their values, source by source; a page is the first `size` after a place. Each peer sends its own first ones:
what is among the first of all is among the first of every peer that has it, so counts are exact.

A bucket's key is its values as a JSON array, in text: equal for equal values, and like any other key to
everybody in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cmp_to_key
from itertools import product
from typing import Any, Final

import msgspec

from index.aggregation import CompositeOf
from index.bounds import RefusedError
from index.fields import INT_END
from index.ordering import compare_values
from index.query import SortKey, SortValue

COMBINATIONS_MAX: Final = 10_000
"""Buckets that one document may be in."""

_decoder = msgspec.json.Decoder(list[SortValue])


def key_of(values: Sequence[SortValue]) -> str:
    """The key of these values; 1 and 1.0 are one. Beyond 64 bits all numbers are floats."""
    whole = [
        int(one) if isinstance(one, float) and one.is_integer() and -INT_END <= one < 2 * INT_END else one
        for one in values
    ]
    return msgspec.json.encode(whole).decode()


def values_of(key: Any) -> tuple[SortValue, ...]:
    """The values of a key."""
    return tuple(_decoder.decode(key))


def combinations(lists: Sequence[Sequence[SortValue]]) -> Iterable[tuple[SortValue, ...]]:
    """One value of each; raises RefusedError if they are too many."""
    count = 1
    for each in lists:
        count *= len(each)
    if count > COMBINATIONS_MAX:
        raise RefusedError(f"a document has more than {COMBINATIONS_MAX} combinations of these values")
    return product(*lists)


def order_of(asked: CompositeOf) -> Callable[[tuple[SortValue, ...]], Any]:
    """What the values of buckets are sorted by."""
    keys = tuple(SortKey("", "", one.descending, one.missing_first) for one in asked.sources)
    return cmp_to_key(lambda left, right: compare_values(left, right, keys))


def page(asked: CompositeOf, found: Iterable[tuple[SortValue, ...]]) -> list[tuple[SortValue, ...]]:
    """The first of these after the place, in order."""
    order = order_of(asked)
    if asked.after is not None:
        after = order(asked.after)
        found = (values for values in found if after < order(values))
    return sorted(found, key=order)[: asked.size]
