"""The order of hits by the values of fields, from the dictionary of values: the documents of the first value
first, among them those of the next sort key's first value, and so on; at the end those without any. So only
the hits of a page are touched, whatever there are in all.

A document with several values stands at its first one in this order; those that come again further on are
left out there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from index.facets import Held, Tools as ValueTools, Unsuited, values_of
from index.ordering import compare, rank_of
from index.query import ID, SCORE, After, SortKey, SortValue

EngineQuery = Any
Place = Any

EXCLUDED_MAX = 2_000
"""Values that may be left out of what comes later."""

Row = tuple[bytes, tuple[SortValue, ...], Place]
"""Key, sort values, where the document is."""


class Tools(ValueTools, Protocol):
    """What an engine can do here."""

    def not_having(self, query: EngineQuery, terms: Sequence[str]) -> EngineQuery:
        """Those of these documents that have none of these terms of values."""

    def in_order(self, query: EngineQuery, limit: int, after: bytes) -> list[tuple[bytes, Place]]:
        """The first of these documents after a key, in the order of keys."""


def _tied(held: Sequence[Held]) -> list[tuple[SortValue, list[str]]]:
    """Values, ascending, each with its terms: several where different numbers are one float."""
    groups: list[tuple[SortValue, list[str]]] = []
    for each in held:
        if groups and rank_of(groups[-1][0]) == rank_of(each.value) and groups[-1][0] == each.value:
            groups[-1][1].append(each.term)
        else:
            groups.append((each.value, [each.term]))
    return groups


class Sorter:
    """Walks through documents in order; the first `limit` are wanted."""

    def __init__(self, tools: Tools, limit: int) -> None:
        self._tools = tools
        self._limit = limit

    def walk(self, query: EngineQuery, keys: Sequence[SortKey], after: After | None) -> Iterator[Row]:
        """These documents in order, those after `after` only. Raises Unsuited for an order by score, by id,
        by a value that stands for none, or by what several values come to.
        """
        if any(key.field in (SCORE, ID) or key.missing is not None for key in keys):
            raise Unsuited
        if any(key.mode and self._tools.has_several(query, key.field) for key in keys):
            raise Unsuited
        tail = () if after is None else after.sort
        return self._level(query, tuple(keys), (), tail, b"" if after is None else after.key)

    def _level(
        self,
        query: EngineQuery,
        keys: tuple[SortKey, ...],
        values: tuple[SortValue, ...],
        tail: tuple[SortValue, ...],
        after: bytes,
    ) -> Iterator[Row]:
        """Documents that agree in `values`; `tail` and `after` are where to begin (an empty key: at once)."""
        if not keys:
            for key, place in self._tools.in_order(query, self._limit, after):
                yield key, values, place
            return
        first, rest = keys[0], keys[1:]
        for value, part in self._groups(query, first, tail[0] if after else None, has_begin=bool(after)):
            order = compare(value, tail[0], first) if after else 1
            if order == 0:
                yield from self._level(part, rest, (*values, value), tail[1:], after)
            elif order > 0:
                yield from self._level(part, rest, (*values, value), (), b"")

    def _groups(
        self, query: EngineQuery, key: SortKey, begin: SortValue, *, has_begin: bool
    ) -> Iterator[tuple[SortValue, EngineQuery]]:
        """Documents by their value of one sort key, in order; those before `begin` may be left out."""
        tools = self._tools
        held = values_of(tools, query, key.field, key.view)
        several = tools.has_several(query, key.field)
        if several and len(held) > EXCLUDED_MAX:
            raise Unsuited
        terms = [each.term for each in held]
        if key.missing_first:
            yield None, tools.not_having(query, terms) if terms else query
        groups = _tied(held)
        if key.descending:
            groups.reverse()
        seen: list[str] = []
        for value, tied in groups:
            if not has_begin or begin is None or compare(value, begin, key) >= 0:
                part = tools.having(query, tied)
                yield value, tools.not_having(part, seen) if several and seen else part
            seen += tied
        if not key.missing_first:
            yield None, tools.not_having(query, terms) if terms else query
