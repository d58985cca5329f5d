"""A search in one table: plan, weigh, seek, put together. See node/searches.py for the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from core.errors import UNFORESEEN, unforeseen
from core.json_values import parse
from core.ports import PeerId
from core.requests import Invalid
from core.searching import SearchRequest
from index.aggregation import Aggregations, Partials, TopHitsOf
from index.asking import (
    Alike,
    Ask,
    Found,
    Seek,
    SeekAlone,
    Sought,
    SoughtAlone,
    Weigh,
    Weighed,
    Work,
    unsendable,
)
from index.bounds import QueryError, RefusedError
from index.finishing import top_hits
from index.mapped import MappedFields
from index.merging import merge_all
from index.more_like import candidates, chosen
from index.ordering import sorted_hits
from index.query import (
    LAST_KEY,
    SCORE,
    After,
    Bool,
    Boost,
    Constant,
    Fuzzy,
    Hit,
    Ids,
    MoreLike,
    Planned,
    Query,
    SortValue,
    Statistics,
    TermKey,
    TokenRanges,
    add_statistics,
    terms_of,
    walk,
)
from index.rewriting import Rewriter
from index.rewriting_aggregations import rewrite_aggregations
from index.similar import fuzzies_of, planned_by
from lsm.keys import (
    TOKEN_MAX,
    TOKEN_MIN,
    row_key,
    table_prefix,
    token_of as token_of_key,
    token_range_bounds,
)
from node.scatter import Collected, Failure, Scatter
from node.search_cover import Part, joined
from node.search_fetch import Fetch
from ring.tokens import token_of

if TYPE_CHECKING:
    from node.searches import Searches


LIKES_MAX = 20
"""Examples that are made queries of, one after the other: each asks all peers."""

SEEK_SHARE = 0.9
"""The rest is for documents to be fetched."""


class TableResult(msgspec.Struct, frozen=True):
    """What a search in one table came to: the first hits of all ranges, merged partial aggregations."""

    total: int
    hits: tuple[Hit, ...]
    texts: dict[bytes, bytes]
    score_max: float
    query: Planned
    statistics: Statistics
    aggregations: Aggregations
    partials: Partials
    shown: tuple[Hit, ...]
    peers: tuple[PeerId, ...]
    missing: TokenRanges
    parts: tuple[Part, ...]

    def found_by(self, key: bytes) -> PeerId:
        """The peer that was asked for the range of this row."""
        return next(part.server for part in self.parts if part.holds(key))


def _after_in(table: int, sort: tuple[SortValue, ...], key: bytes) -> After:
    """Where to go on in this table: where the page ended in another one, with all rows that tie, or none."""
    own = table_prefix(table)
    head = key[: len(own)]
    if head < own:
        key, _ = token_range_bounds(table, TOKEN_MIN, TOKEN_MAX)
    elif head > own:
        key = LAST_KEY
    return After(sort, key)


T = TypeVar("T")
Then = Callable[[int, "TableResult | Failure"], None]


class TableSearch:
    """One table's part of a request."""

    def __init__(self, parent: Searches, table: int, request: SearchRequest, now_us: int) -> None:
        self._parent = parent
        self._table = table
        self._request = request
        self._now_us = now_us
        self._then: Then | None = None
        self._deadline_us = 0
        self._ranges: TokenRanges = ()
        self._missing: TokenRanges = ()
        self._sort = request.sort
        self._query: Planned | None = None
        self._aggregations: Aggregations = ()
        self._statistics = Statistics()
        self._likes: dict[MoreLike, Planned] = {}
        self._covers: dict[PeerId, int] = {}
        self._mapping = ""
        self._parts: tuple[Part, ...] = ()

    def start(self, ranges: TokenRanges, deadline_us: int, then: Then) -> None:
        """Search these ranges; `then` is called once."""
        self._ranges, self._deadline_us, self._then = ranges, deadline_us, then
        self._like_next()

    def _key_of(self, document: str) -> bytes | None:
        """The row of a document by its id: the whole partition key, as text."""
        partition = document.encode("utf-8", "surrogatepass")
        return row_key(self._table, token_of(partition), partition)

    # --- plan

    def _like_next(self) -> None:
        """Make queries of the examples that are not yet, one by one."""
        asked = [query for query in walk(self._request.query) if isinstance(query, MoreLike)]
        if len(asked) > LIKES_MAX:
            text = f"at most {LIKES_MAX} queries are more_like_this: each may have 100 texts and documents"
            self._end(Invalid("bad_query", text))
            return
        query = next((each for each in asked if each not in self._likes), None)
        if query is None:
            self._plan()
            return
        keys = [key for key in map(self._key_of, query.ids) if key is not None]
        request = self._request

        def fetched(rows: dict[bytes, Any] | Failure) -> None:
            if not isinstance(rows, dict):
                self._end(rows)
                return
            host = self._parent.serving.host
            texts = [host.document(self._table, key, row, self._now_us) for key, row in rows.items()]
            self._mapping = host.mapping(self._table)
            rules = host.rules(self._table)
            found = self._computed(
                lambda: candidates(query, rules, [parse(text) for text in texts if text is not None])
            )
            if found is not None:
                self._weigh(tuple(found), lambda total: self._liked(query, found, total, keys))

        Fetch(self._parent, request.level, self._now_us, self._deadline_us, fetched).start(
            dict.fromkeys(keys)
        )

    def _liked(
        self, query: MoreLike, found: dict[TermKey, int], total: Statistics, keys: Sequence[bytes]
    ) -> None:
        planned = self._computed(lambda: chosen(query, found, total, keys))
        if planned is not None:
            self._likes[query] = planned
            self._like_next()

    def _plan(self, similar: Mapping[Fuzzy, Planned] | None = None) -> None:
        self._mapping = self._parent.serving.host.mapping(self._table)
        fields = MappedFields(self._parent.serving.host.rules(self._table))
        rewriter = Rewriter(
            fields, now_us=self._now_us, key_of=self._key_of, likes=self._likes, similar=similar
        )
        planned = self._computed(lambda: rewriter.rewrite(self._request.query))
        aggregations = self._computed(lambda: rewrite_aggregations(rewriter, self._request.aggregations))
        if planned is None or aggregations is None:
            return
        for found in (planned, aggregations):
            if isinstance(found, QueryError):
                self._end(Invalid("bad_query", found.told()))
                return
        assert not isinstance(planned, QueryError) and not isinstance(aggregations, QueryError)
        problem = unsendable(planned, aggregations, (self._sort, self._request.after))
        if problem:
            self._end(Invalid("bad_query", problem))
            return
        self._query, self._aggregations = planned, aggregations
        fuzzies = fuzzies_of(planned) if similar is None and self._is_scored() else ()
        if fuzzies:
            self._alike(fuzzies)
            return
        self._sort = tuple(rewriter.sort_key(key) if key.field != SCORE else key for key in self._sort)
        terms = terms_of(planned)
        rows = _only_rows(planned)
        if rows is not None and not (terms and self._is_scored()):
            self._ranges = _held_by(rows, self._ranges)
        if terms and self._is_scored():
            self._weigh(terms, self._weighed, alone=True)
        else:
            self._seek(())

    def _is_scored(self) -> bool:
        request = self._request
        by_score = not self._sort or any(key.field == SCORE for key in self._sort)
        return (request.size > 0 and by_score) or _shows_hits(self._aggregations)

    def _alike(self, queries: tuple[Fuzzy, ...]) -> None:
        """Learn what terms similar words stand for, and plan again."""
        work = Alike(queries)

        def done(collected: Collected) -> None:
            if collected.failure is not None and not self._may_be_partial(collected):
                self._end(collected.failure)
                return
            self._leave_out(collected)
            found = [each.statistics for _, each in collected.results if isinstance(each, Weighed)]
            similar = self._computed(lambda: planned_by(queries, add_statistics(found)))
            if similar is not None:
                self._plan(similar)

        self._scatter(lambda _: work, done).begin(self._ranges)

    # --- weigh

    def _weigh(
        self, terms: tuple[TermKey, ...], then: Callable[[Statistics], None], alone: bool = False
    ) -> None:
        """Sum up the weights of terms; or, if one peer holds all and `alone` allows it, search at once."""
        if not terms:
            then(Statistics())
            return
        fields = tuple(sorted(dict.fromkeys(key.field for key in terms)))

        def work(part: Part) -> Work:
            if alone and part.ranges == self._ranges:
                return SeekAlone(self._asked(), terms, fields)
            return Weigh(terms, fields)

        def done(collected: Collected) -> None:
            if collected.failure is not None and not self._may_be_partial(collected):
                self._end(collected.failure)
                return
            found = []
            for part, result in collected.results:
                if isinstance(result, SoughtAlone):
                    self._statistics = result.statistics
                    self._put_together([result.found], (part,), ())
                    return
                assert isinstance(result, Weighed), result
                found.append(result.statistics)
                self._covers[part.server] = max(result.covers, self._covers.get(part.server, 0))
            self._leave_out(collected)
            self._parts = tuple(part for part, _ in collected.results)
            then(add_statistics(found))

        self._scatter(work, done).begin(self._ranges)

    def _leave_out(self, collected: Collected) -> None:
        """What nobody answered for in this step is asked for in none that follows."""
        if collected.missing:
            self._missing = joined((*self._missing, *collected.missing))
            self._ranges = joined(pair for part, _ in collected.results for pair in part.ranges)

    def _may_be_partial(self, collected: Collected) -> bool:
        return self._request.allow_partial and bool(collected.missing)

    def _scatter(self, work: Any, done: Callable[[Collected], None], *, share: float = 0.5) -> Scatter:
        """If a part will do, a step that waits for somebody in vain leaves time for those that follow."""
        request, deadline_us = self._request, self._deadline_us
        if request.allow_partial:
            now_us = self._parent.inside.world.monotonic_us()
            deadline_us = now_us + int(max(0, deadline_us - now_us) * share)
        return Scatter(
            self._parent,
            self._table,
            request.level,
            work=work,
            fresh=request.fresh,
            partial=request.allow_partial,
            mapping=self._mapping,
            deadline_us=deadline_us,
            done=done,
        )

    def _weighed(self, total: Statistics) -> None:
        self._statistics = total
        self._seek(self._parts)

    # --- seek

    def _asked(self) -> Ask:
        request = self._request
        assert self._query is not None, "planned"
        after = None if request.after is None else _after_in(self._table, *request.after)
        return Ask(
            self._query,
            self._statistics,
            request.offset + request.size,
            self._sort,
            after,
            self._aggregations,
            self._is_scored(),
            request.documents and request.texts,
        )

    def _seek(self, parts: tuple[Part, ...]) -> None:
        ask = self._asked()
        scatter = self._scatter(
            lambda part: Seek(ask, self._covers.get(part.server, 0)), self._sought, share=SEEK_SHARE
        )
        scatter.begin(self._ranges, parts)

    def _sought(self, collected: Collected) -> None:
        if collected.failure is not None and not self._may_be_partial(collected):
            self._end(collected.failure)
            return
        founds: list[Found] = []
        for _, result in collected.results:
            assert isinstance(result, Sought), result
            founds.append(result.found)
        self._put_together(founds, tuple(part for part, _ in collected.results), collected.missing)

    def _put_together(self, founds: list[Found], parts: tuple[Part, ...], missing: TokenRanges) -> None:
        assert self._query is not None, "planned"
        try:
            partials = merge_all(self._aggregations, [found.aggregations for found in founds])
            tops = tuple(hit for _, hit in top_hits(self._aggregations, partials))
        except RefusedError as refused:  # more buckets than may be, with the empty ones between
            self._end(Invalid("bad_query", refused.error.told()))
            return
        except UNFORESEEN as error:
            self._end(Invalid("bad_query", unforeseen(error)))
            return
        limit = self._request.offset + self._request.size
        hits = sorted_hits((hit for found in founds for hit in found.hits), self._sort, limit)
        self._end(
            TableResult(
                sum(found.total for found in founds),
                tuple(hits),
                {key: text for found in founds for key, text in found.texts.items()},
                max((found.score_max for found in founds), default=0.0),
                self._query,
                self._statistics,
                self._aggregations,
                partials,
                tops,
                tuple(sorted({part.server: None for part in parts})),
                joined((*self._missing, *missing)),
                parts,
            )
        )

    def _computed(self, what: Callable[[], T]) -> T | None:
        """What a pure function makes of the question; None if it ended the search, and only that, by what
        nobody foresaw.
        """
        try:
            return what()
        except UNFORESEEN as error:
            self._end(Invalid("bad_query", unforeseen(error)))
            return None

    def _end(self, result: TableResult | Failure) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(self._table, result)


def _only_rows(query: Planned | Query) -> tuple[bytes, ...] | None:
    """The rows that all matches are among, where the query names some: then only their replicas are asked."""
    if isinstance(query, Ids):
        return query.keys
    if isinstance(query, Constant | Boost):
        return _only_rows(query.query)
    if isinstance(query, Bool):
        named = [rows for each in query.must + query.filter if (rows := _only_rows(each)) is not None]
        return min(named, key=len, default=None)
    return None


def _held_by(rows: tuple[bytes, ...], ranges: TokenRanges) -> TokenRanges:
    """The tokens of these rows that lie in these ranges."""
    tokens = sorted(dict.fromkeys(token_of_key(key) for key in rows))
    return tuple((token, token) for token in tokens if any(low <= token <= high for low, high in ranges))


def _shows_hits(aggregations: Aggregations) -> bool:
    return any(
        isinstance(each, TopHitsOf) or _shows_hits(getattr(each, "inside", ())) for _, each in aggregations
    )
