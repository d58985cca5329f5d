"""Coordinating searches: plan, weigh, seek, put together, fetch.

    plan    the mapping and its analyzers make terms of the query (index/rewriting.py)
    weigh   each peer that serves counts the terms in its ranges: the sum is their weight in the whole
            cluster. Here siblings are followed and indexes catch up, if the answer is to be fresh
    seek    the same peers search with those weights; a query that scores nothing begins here
    fetch   rows of the hits that are shown, each from the peer that found it

Each range is served by one replica (node/search_cover.py, node/scatter.py), so no document counts twice, and
the order does not depend on who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from core.errors import UNFORESEEN, unforeseen
from core.ports import PeerId
from core.requests import Answer, Invalid
from core.searching import (
    ExpandAnswer,
    ExpandRequest,
    QueryText,
    SearchAnswer,
    SearchHit,
    SearchRequest,
    TableSearched,
)
from index.asking import Expand, Expanded
from index.bounds import WINDOW_MAX, QueryError
from index.ordering import sorted_hits
from index.query import Hit, SortKey, SortValue, TokenRanges
from index.query_string import Options, parse_query_string
from lsm.keys import TOKEN_MAX, TOKEN_MIN
from node.scans import check_level, joined_ranges
from node.scatter import Collected, Failure, Scatter
from node.search_cover import Liveness, Part, Piece, cover, pieces_within
from node.search_fetch import Fetch
from node.search_table import TableResult, TableSearch
from node.writes import no_such_table
from ring.tokens import token_of

if TYPE_CHECKING:
    from core.consistency import Need
    from node.metadata_state import TablePlacement
    from node.reads import Reads
    from node.search_serving import SearchServing

RING: TokenRanges = ((TOKEN_MIN, TOKEN_MAX),)
TABLES_MAX = 100
COVERS_KEPT = 100


class Searches:
    """The coordinator's side."""

    def __init__(self, reads: Reads, serving: SearchServing) -> None:
        """Register."""
        self.reads = reads
        self.serving = serving
        self.inside = reads.inside
        self.metadata = reads.metadata
        self.me = reads.me
        self.scatters: dict[int, Scatter] = {}
        self._covers: dict[Any, tuple[TablePlacement, tuple[list[Part], list[Piece]]]] = {}
        inside = self.inside
        inside.on_timer("search_deadline", lambda number: self._step(number, Scatter.on_deadline))
        inside.on_timer("search_retry", lambda number: self._step(number, Scatter.on_retry))
        inside.on_timer("search_attempt", lambda number, op: self._step(number, Scatter.on_silence, op))
        inside.on_peer(self._on_peer)

    def _step(self, number: int, call: Callable[..., None], *arguments: Any) -> None:
        scatter = self.scatters.get(number)
        if scatter is not None:
            call(scatter, *arguments)

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        if not connected:
            for scatter in tuple(self.scatters.values()):
                scatter.on_peer(peer)

    def alive(self, placement: TablePlacement) -> tuple[PeerId, ...]:
        """The replicas of a table that live, as far as is known, in the order of their ids."""
        known = {peer: None for _, replicas in placement.ranges() for peer in replicas}
        return tuple(peer for peer in sorted(known) if self.reads.swim.is_alive(peer))

    def covered(
        self, placement: TablePlacement, ranges: TokenRanges, wanted: Need, alive: tuple[PeerId, ...]
    ) -> tuple[list[Part], list[Piece]]:
        """Who is asked for these ranges as long as nobody of those alive fails (node/search_cover.py). It is
        the same for search after search, so the last ones are remembered.
        """
        place = (placement.table.id, ranges, wanted, alive)
        known = self._covers.get(place)
        if known is None or known[0] is not placement:
            liveness = Liveness(alive, alive, (), placement.table.id)
            pieces = pieces_within(joined_ranges(placement), ranges)
            found = cover(pieces, liveness, wanted, placement, self.inside.identity.datacentre)
            if len(self._covers) >= COVERS_KEPT:
                self._covers.clear()
            known = self._covers[place] = placement, found
        return known[1]

    # --- searches

    def serve(
        self, request: SearchRequest | ExpandRequest, deadline_us: int, reply: Callable[[Answer], None]
    ) -> None:
        """Do what a client asks; `reply` is called exactly once."""
        if isinstance(request, SearchRequest):
            self.begin(request, deadline_us, reply)
        else:
            self.expand(request, deadline_us, reply)

    def begin(self, request: SearchRequest, deadline_us: int, reply: Callable[[Answer], None]) -> None:
        """Search; `reply` is called exactly once."""
        refusal = self._refusal(request)
        if refusal is None and isinstance(request.query, QueryText):
            request, refusal = _read(request, request.query)
        if refusal is not None:
            reply(refusal)
            return
        _Search(self, request, deadline_us, reply).start()

    def _refusal(self, request: SearchRequest) -> Invalid | None:
        if not 0 < len(request.tables) <= TABLES_MAX:
            return Invalid("bad_query", f"a search is in 1 to {TABLES_MAX} tables")
        if any(self.metadata.state.placement(table) is None for table in request.tables):
            return no_such_table()
        if request.offset < 0 or request.size < 0 or request.offset + request.size > WINDOW_MAX:
            text = f"from and size are at most {WINDOW_MAX} in sum: go on by search_after"
            return Invalid("bad_query", text)
        if request.offset and request.after is not None:
            return Invalid("bad_query", "search_after goes without from")
        if request.after is not None and not _fits(request.after[0], request.sort):
            text = "search_after has one value per sort key, or the score where there is no sort"
            return Invalid("bad_query", text)
        return check_level(request.level)

    def expand(self, request: ExpandRequest, deadline_us: int, reply: Callable[[Answer], None]) -> None:
        """Terms that begin so; `reply` is called exactly once."""
        refusal = check_level(request.level)
        if refusal is None and self.metadata.state.placement(request.table) is None:
            refusal = no_such_table()
        if refusal is not None:
            reply(refusal)
            return
        work = Expand(request.field, request.view, request.prefixes, request.limit)

        def done(collected: Collected) -> None:
            if collected.failure is not None:
                reply(collected.failure)
                return
            counts: list[dict[str, int]] = [{} for _ in request.prefixes]
            for _, result in collected.results:
                assert isinstance(result, Expanded), result
                for total, terms in zip(counts, result.terms, strict=True):
                    for term, count in terms:
                        total[term] = total.get(term, 0) + count
            ordered = [sorted(total.items(), key=lambda item: (-item[1], item[0])) for total in counts]
            reply(ExpandAnswer(tuple(tuple(terms[: request.limit]) for terms in ordered)))

        scatter = Scatter(
            self,
            request.table,
            request.level,
            work=lambda _: work,
            fresh=request.fresh,
            partial=False,
            deadline_us=deadline_us,
            done=done,
        )
        scatter.begin(RING)


def _fits(values: Sequence[SortValue], sort: Sequence[SortKey]) -> bool:
    """Whether a page can end at these: cursors have no secret, so anybody can make one."""
    if not sort:
        return len(values) == 1 and isinstance(values[0], int | float)
    return len(values) == len(sort)


def _read(request: SearchRequest, text: QueryText) -> tuple[SearchRequest, Invalid | None]:
    """The request with the query that its text means, or why it means none."""
    options = Options(fields=((text.field, 1.0),)) if text.field else Options()
    try:
        parsed = parse_query_string(text.text, options)
    except UNFORESEEN as error:
        return request, Invalid("bad_query", f"MATCH {text.text[:200]!r}: {unforeseen(error)}")
    if isinstance(parsed, QueryError):
        return request, Invalid("bad_query", f"MATCH {text.text[:200]!r}: {parsed.told()}")
    return msgspec.structs.replace(request, query=parsed.query), None


def ranges_of(partitions: Sequence[bytes]) -> TokenRanges:
    """The tokens of these partitions; without any, all."""
    if not partitions:
        return RING
    return tuple((token, token) for token in sorted({token_of(key): None for key in partitions}))


class _Search:
    """One request: a search in each table, then what all of them come to."""

    def __init__(
        self,
        parent: Searches,
        request: SearchRequest,
        deadline_us: int,
        reply: Callable[[Answer], None],
    ) -> None:
        self._parent = parent
        self._request = request
        self._deadline_us = deadline_us
        self._reply: Callable[[Answer], None] | None = reply
        self._now_us = parent.inside.clock.now_us()
        self._results: dict[int, TableResult] = {}
        self._page: list[Hit] = []
        self._texts: dict[bytes, bytes] = {}
        self._wanted: list[tuple[bytes, PeerId]] = []

    def start(self) -> None:
        """Search all tables at once."""
        tables = tuple(dict.fromkeys(self._request.tables))
        searches = [TableSearch(self._parent, table, self._request, self._now_us) for table in tables]
        for search in searches:
            search.start(ranges_of(self._request.partitions), self._deadline_us, self._on_table)

    def _on_table(self, table: int, result: TableResult | Failure) -> None:
        if self._reply is None:
            return
        if not isinstance(result, TableResult):
            self._end(result)
            return
        self._results[table] = result
        if len(self._results) == len(dict.fromkeys(self._request.tables)):
            self._put_together()

    def _put_together(self) -> None:
        request = self._request
        hits = [hit for table in sorted(self._results) for hit in self._results[table].hits]
        limit = request.offset + request.size
        self._page = sorted_hits(hits, request.sort, limit)[request.offset :]
        self._wanted = []
        for result in self._results.values():
            self._wanted += [(hit.key, result.found_by(hit.key)) for hit in result.shown]
        if request.documents:
            for result in self._results.values():
                self._texts.update(result.texts)
            for hit in self._page:
                if hit.key not in self._texts:
                    self._wanted.append((hit.key, self._result_of(hit.key).found_by(hit.key)))
        self._parent_fetch()

    def _result_of(self, key: bytes) -> TableResult:
        return self._results[int.from_bytes(key[1:5], "big")]

    def _parent_fetch(self) -> None:
        wanted = dict(self._wanted)
        fetch = Fetch(self._parent, self._request.level, self._now_us, self._deadline_us, self._fetched)
        fetch.start(wanted)

    def _fetched(self, rows: dict[bytes, Any] | Failure) -> None:
        if not isinstance(rows, dict):
            self._end(rows)
            return
        request = self._request
        texts = self._texts
        hits = tuple(
            SearchHit(
                int.from_bytes(hit.key[1:5], "big"),
                hit.key,
                hit.score,
                hit.sort,
                rows.get(hit.key),
                texts.get(hit.key),
            )
            for hit in self._page
            if not request.documents or hit.key in rows or hit.key in texts
        )
        tables = tuple(self._told(table, result, rows) for table, result in sorted(self._results.items()))
        peers = {peer: None for result in self._results.values() for peer in result.peers}
        missing = [
            (table, *pair) for table, result in sorted(self._results.items()) for pair in result.missing
        ]
        total = sum(result.total for result in self._results.values())
        best = max((result.score_max for result in self._results.values()), default=0.0)
        self._end(SearchAnswer(hits, total, best, tables, tuple(sorted(peers)), self._now_us, tuple(missing)))

    def _told(self, table: int, result: TableResult, rows: dict[bytes, Any]) -> TableSearched:
        shown = {hit.key: rows[hit.key] for hit in result.shown if hit.key in rows}
        return TableSearched(
            table,
            result.total,
            result.query,
            result.statistics,
            result.aggregations,
            result.partials,
            shown,
        )

    def _end(self, answer: Any) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply(answer)
