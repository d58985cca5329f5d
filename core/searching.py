"""Searches as doors ask for them, and their answers. Queries and aggregations are those of index/."""

from __future__ import annotations

from typing import Any

import msgspec

from core.consistency import Level
from core.row import Row


class QueryText(msgspec.Struct, frozen=True):
    """A query string (index/query_string.py), for doors that do not know index/; it is about this field (a
    path with dots), unless it names others. The node reads it, and refuses what is wrong with it.
    """

    text: str
    field: str = ""


class SearchRequest(msgspec.Struct, frozen=True):
    """Search tables by their inverted indexes.

    `query` is an index.query.Query or a QueryText, `sort` its SortKeys, `aggregations` those of
    index/aggregation.py. Hits from `offset` on, at most `size`; or those after `after`, (sort values or
    score, row key), where a page ended: keys order tables, too. Only in these `partitions` (partition keys,
    if any are named): then only their replicas are asked.

    If `fresh`, it finds every write that was acknowledged at a quorum before it began (at level QUORUM or
    above); else what indexes hold. With `allow_partial` what could be had in time is answered, and told so.
    `documents`: rows of hits come along; with `texts` in their place the documents as they were found, where
    they are at hand.
    """

    tables: tuple[int, ...]
    query: Any
    level: Level
    size: int = 10
    offset: int = 0
    sort: tuple[Any, ...] = ()
    after: tuple[tuple[Any, ...], bytes] | None = None
    aggregations: tuple[Any, ...] = ()
    partitions: tuple[bytes, ...] = ()
    fresh: bool = True
    allow_partial: bool = False
    documents: bool = True
    texts: bool = False


class ExpandRequest(msgspec.Struct, frozen=True):
    """Terms of a field that begin with one of these prefixes, the most frequent first: for suggestions."""

    table: int
    field: str
    view: str
    prefixes: tuple[str, ...]
    limit: int
    level: Level
    fresh: bool = False


class SearchHit(msgspec.Struct, frozen=True):
    """A document found; `row` is None if it was not asked for, or `text` is there, or it is gone since."""

    table: int
    key: bytes
    score: float
    sort: tuple[Any, ...]
    row: Row | None = None
    text: bytes | None = None


class TableSearched(msgspec.Struct, frozen=True):
    """What is known of a search in one table: the planned query, its statistics, what was asked to be
    aggregated, merged partial aggregations, and rows (by key) of documents that they show.
    """

    table: int
    total: int
    query: Any
    statistics: Any
    aggregations: Any
    partials: Any
    shown: dict[bytes, Row]


class SearchAnswer(msgspec.Struct, frozen=True):
    """Hits in order, and per table what is known of it; who was asked.

    `missing` names token ranges (per table) that nobody answered for: only with `allow_partial`.
    """

    hits: tuple[SearchHit, ...]
    total: int
    score_max: float
    tables: tuple[TableSearched, ...]
    peers: tuple[bytes, ...]
    now_us: int
    missing: tuple[tuple[int, int, int], ...] = ()


class ExpandAnswer(msgspec.Struct, frozen=True):
    """Per prefix the terms and in how many documents they are."""

    terms: tuple[tuple[tuple[str, int], ...], ...]
