"""An inverted index as of one commit: statistics, hits and aggregations over an engine that finds documents.

A question takes the cheapest way that is right:

- all matches score the same (filters, values): hits in the order of the ring, which is the engine's to give;
- by score: the engine's candidates, best first by its estimate, scored exactly (index/candidates.py);
- by the values of fields, and aggregations: from the dictionary of values (index/sorting.py,
  index/facets.py), if fields have one value per document;
- everything else by looking at all matches (index/scanning.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from core.errors import CorruptionError
from core.json_values import parse
from index.aggregation import Partials
from index.answering import first_texts
from index.asking import TEXTS_BYTES_MAX, Ask, Found, Refusal
from index.bounds import RefusedError
from index.candidates import Bounds, Candidate, first_hits
from index.changing import hash_of
from index.encoding import (
    EXISTS_TAG,
    LENGTH_TAG,
    SEVERAL_TAG,
    TAGS,
    decoded,
    escaped,
    head,
    quoted,
    unescaped,
)
from index.facets import Facets, Unsuited
from index.finding import VALUES, Finder, Tools, constant_score
from index.judging import Counted, Held, compile_query
from index.mapping import Rules
from index.ordering import is_after
from index.query import (
    EXACT,
    LAST_KEY,
    TEXT,
    Boosting,
    FieldLength,
    Fuzzy,
    Hit,
    Query,
    Statistics,
    TermKey,
    TokenRanges,
    walk,
)
from index.scanning import scan
from index.scoring import average_length
from index.similar import keys_of, terms_in
from index.sorting import Sorter
from lsm.keys import TOKEN_MAX, TOKEN_MIN, token_of

WHOLE_RING: Final = ((TOKEN_MIN, TOKEN_MAX),)

CANDIDATES: Final = 48
"""Hits that the engine is asked for at first, beyond those wanted; each time more are needed, four times so
many.
"""

LENGTH_ROUNDING: Final = 0.85
"""A field may be longer than the engine remembers, which makes scores lower, down to this share."""

LENGTHS_KEPT: Final = 1_000

READ_BYTES_MAX: Final = 4 * TEXTS_BYTES_MAX
"""What is kept of documents that are judged, of which some will be hits."""

FEW: Final = 200
"""Where not even one document in so many is hidden, terms are weighed as if none were: counting without them
takes far longer than all else, and weights differ by less than that.
"""

EngineQuery = Any
Place = Any


class Engine(Tools, Protocol):
    """The engine, as of one commit. Columns are `token` and `due`, integers."""

    @property
    def documents(self) -> int:
        """How many documents there are."""

    def everything(self) -> EngineQuery:
        """Every document."""

    def within(self, column: str, first: int, last: int | None) -> EngineQuery:
        """Documents whose value in a column is between, both included."""

    def count(self, query: EngineQuery) -> int:
        """How many documents these are."""

    def best(self, query: EngineQuery, limit: int, offset: int) -> list[tuple[float, Place]]:
        """(score, place) by falling score."""

    def best_counted(self, query: EngineQuery, limit: int) -> tuple[list[tuple[float, Place]], int]:
        """The first by falling score, and how many there are."""

    def by_column(self, query: EngineQuery, column: str, limit: int, offset: int) -> list[tuple[int, Place]]:
        """(value, place) by rising value of a column."""

    def column(self, column: str, places: list[Place]) -> list[Any]:
        """The values of these documents in a column."""

    def counts(
        self, field: str, prefix: str, query: EngineQuery, limit: int | None = None
    ) -> list[tuple[str, int]]:
        """Terms that begin so, with how many of these documents have each, the most frequent first."""

    def in_disk_order(self, hits: list[tuple[float, Place]]) -> list[Place]:
        """The places of hits, neighbours beside each other."""

    def stored(self, place: Place) -> tuple[bytes, bytes]:
        """Key and source of a document."""

    def key(self, place: Place) -> bytes:
        """The key of a document."""


class View:
    """What a search sees from its beginning to its end, without rows that are `hidden`."""

    def __init__(
        self,
        engine: Engine,
        rules: Rules,
        hidden: Sequence[bytes] = (),
        known: dict[bytes, Held | None] | None = None,
    ) -> None:
        self._engine = engine
        self._rules = rules
        self._hidden: EngineQuery | None = engine.rows(hidden) if hidden else None
        self._known: dict[bytes, Held | None] = {} if known is None else known
        """Documents that are or were hidden in a view of this commit: they soon will be again."""
        self._hidden_keys = dict.fromkeys(hidden)
        self.documents = engine.documents - len(self._documents_hidden())
        self._filters: dict[TokenRanges, EngineQuery | None] = {}
        self._counts: dict[TokenRanges, int] = {}
        self._lengths: dict[tuple[str, TokenRanges], FieldLength] = {}
        self._weighs_as: View | None = None  # itself: a view has files open, and must go when it is not used

    def without(self, hidden: Sequence[bytes]) -> View:
        """The same without these rows."""
        if not hidden:
            return self
        view = View(self._engine, self._rules, hidden, self._known)
        view._filters = self._filters  # they do not depend on what is hidden
        if (self.documents - view.documents) * FEW < self.documents:
            view._weighs_as = self
        return view

    # --- ranges

    def _inside(self, query: EngineQuery, ranges: TokenRanges) -> EngineQuery:
        """The query within token ranges, without what is hidden."""
        query = self._within(query, ranges)
        return query if self._hidden is None else self._without(query, self._hidden)

    def _within(self, query: EngineQuery, ranges: TokenRanges) -> EngineQuery:
        """The same with what is hidden."""
        within = self._filter(ranges)
        return query if within is None else self._both(query, within)

    def _both(self, query: EngineQuery, other: EngineQuery) -> EngineQuery:
        """Documents of both, scored by the first."""
        return self._engine.boolean([query, self._engine.constant(other, 0.0)], [], [], 0)

    def _without(self, query: EngineQuery, other: EngineQuery) -> EngineQuery:
        return self._engine.boolean([query], [], [other], 0)

    def _filter(self, ranges: TokenRanges) -> EngineQuery | None:
        """What lies in these ranges; None if that is all that there is."""
        if ranges in self._filters:
            return self._filters[ranges]
        found: EngineQuery | None = None
        if ranges != WHOLE_RING:
            engine = self._engine
            parts = [engine.within("token", first, last) for first, last in ranges]
            found = engine.boolean([], parts, [], 1) if parts else engine.nothing()
            if engine.count(found) == engine.documents:
                found = None
        if len(self._filters) >= LENGTHS_KEPT:
            self._filters.clear()
        self._filters[ranges] = found
        return found

    def held(self, ranges: TokenRanges) -> dict[bytes, bytes]:
        """By key, a hash of each document in these ranges. They are asked for once, and not remembered."""
        engine = self._engine
        parts = [engine.within("token", first, last) for first, last in ranges]
        query = self._both(engine.everything(), engine.boolean([], parts, [], 1))
        if self._hidden is not None:
            query = self._without(query, self._hidden)
        count = engine.count(query)
        found = engine.in_disk_order(engine.best(query, count, 0)) if count else []
        return {key: hash_of(source) for key, source in map(engine.stored, found)}

    # --- statistics

    def statistics(self, terms: Sequence[TermKey], fields: Sequence[str], ranges: TokenRanges) -> Statistics:
        """Exactly as the naive twin counts, but where only few are hidden."""
        if self._weighs_as is not None:
            return self._weighs_as.statistics(terms, fields, ranges)
        engine = self._engine
        frequencies: dict[TermKey, int] = {}
        for key in terms:
            place = engine.place(key.field)
            if place is not None:
                query = engine.any_term(place[0], [place[1] + escaped(key.term)])
                count = engine.count(self._inside(query, ranges))
                if count:
                    frequencies[key] = count
        lengths = {name: self._length(name, ranges) for name in fields}
        return Statistics(self._count(ranges), frequencies, lengths)

    def _count(self, ranges: TokenRanges) -> int:
        """How many documents there are in these ranges."""
        if self._filter(ranges) is None:
            return self.documents
        known = self._counts.get(ranges)
        if known is None:
            known = self._engine.count(self._inside(self._engine.everything(), ranges))
            if len(self._counts) < LENGTHS_KEPT:
                self._counts[ranges] = known
        return known

    def _length(self, name: str, ranges: TokenRanges) -> FieldLength:
        known = self._lengths.get((name, ranges))
        if known is None:
            start = head(name, LENGTH_TAG)
            documents = total = 0
            for term, count in self.counts(start, self._inside(self._engine.everything(), ranges)):
                documents += count
                total += count * int(term[len(start) :])
            known = FieldLength(documents, total)
            if len(self._lengths) < LENGTHS_KEPT:
                self._lengths[name, ranges] = known
        return known

    def similar(self, query: Fuzzy) -> tuple[TermKey, ...]:
        """Terms within a distance."""
        return keys_of(query, terms_in(self._engine, self._terms_of_first, query))

    def _terms_of_first(self, query: EngineQuery, path: str) -> frozenset[str] | None:
        hits = self._engine.best(self._inside(query, WHOLE_RING), 1, 0)
        return self._document(hits[0][1]).terms(path, TEXT) if hits else None

    def expand(self, field: str, view: str, prefix: str, limit: int) -> tuple[tuple[str, int], ...]:
        """Terms that begin so, the most frequent first."""
        if view == TEXT:
            place = self._engine.place(field)
            if place is None:
                return ()
            physical, start = place
        else:
            physical, start = VALUES, head(field, TAGS[view])
        everything = self._inside(self._engine.everything(), WHOLE_RING)
        found = self._engine.counts(physical, start + escaped(prefix), everything, limit)
        terms = [(term[len(start) :], count) for term, count in found if count]
        if view in (TEXT, EXACT):
            return tuple((unescaped(term), count) for term, count in terms)
        return tuple((str(decoded(view, term)), count) for term, count in terms)

    # --- what expires

    def due(self, now_us: int, limit: int) -> tuple[bytes, ...]:
        """Rows of which something has expired, the first ones."""
        query = self._inside(self._engine.within("due", 1, now_us), WHOLE_RING)
        hits = self._engine.by_column(query, "due", limit, 0)
        return tuple(self._engine.key(place) for _, place in hits)

    def next_due_us(self) -> int:
        """When the first is due; 0 for never."""
        query = self._inside(self._engine.within("due", 1, None), WHOLE_RING)
        hits = self._engine.by_column(query, "due", 1, 0)
        return hits[0][0] if hits else 0

    # --- index.facets.Tools, index.sorting.Tools

    def counts(self, prefix: str, query: EngineQuery) -> list[tuple[str, int]]:
        """Terms of values that begin so, with how many of these documents have them."""
        return self._engine.counts(VALUES, prefix, query)

    def count(self, query: EngineQuery) -> int:
        """How many documents these are."""
        return self._engine.count(query)

    def having(self, query: EngineQuery, terms: Sequence[str]) -> EngineQuery:
        """Those that have any of these terms of values."""
        return self._both(query, self._engine.any_term(VALUES, terms))

    def not_having(self, query: EngineQuery, terms: Sequence[str]) -> EngineQuery:
        """Those that have none of these."""
        return self._without(query, self._engine.any_term(VALUES, terms))

    def lacking(self, query: EngineQuery, path: str) -> EngineQuery:
        """Those that have nothing at this path or below it."""
        return self._without(query, self._engine.any_term(VALUES, [head(path, EXISTS_TAG)]))

    def excluding(self, query: EngineQuery, others: Sequence[EngineQuery]) -> EngineQuery:
        """Those of these documents that are none of the others."""
        return self._engine.boolean([query], [], others, 0)

    def valueless(self, query: EngineQuery, path: str, views: Sequence[str]) -> EngineQuery:
        """Those that have no value in any of these views of a path."""
        having = [self._engine.regex(VALUES, quoted(head(path, TAGS[view])) + "(?s:.*)") for view in views]
        return self.excluding(query, having)

    def has_several(self, query: EngineQuery, path: str) -> bool:
        """Whether any of these documents has several values at the path."""
        return self.count(self.having(query, [head(path, SEVERAL_TAG)])) > 0

    def matching(self, query: EngineQuery, other: Query) -> EngineQuery:
        """Those that match a planned query, too."""
        finder = Finder(self._engine, Statistics())
        found = finder.query(other)
        if not finder.is_exact:
            raise Unsuited
        return self._both(query, found)

    # --- searching

    def search(self, ask: Ask, ranges: TokenRanges) -> Found | Refusal:
        """Hits and aggregations, by the cheapest way that is right."""
        try:
            finder = Finder(self._engine, ask.statistics)
            found = finder.query(ask.query)
            matching = self._matching(ask, self._within(found, ranges), ranges, finder.is_exact)
            if finder.is_exact:
                try:
                    return self._quick(ask, matching)
                except Unsuited:
                    pass
            return scan(ask, self._held(matching.query, matching.total), finder.is_exact)
        except RefusedError as refused:
            return Refusal("too_many_buckets", refused.error.told())
        except ValueError as error:  # what the engine says of an expression that is too large
            return Refusal("too_complex", f"the index cannot execute this query: {error}")

    def _matching(self, ask: Ask, within: EngineQuery, ranges: TokenRanges, is_exact: bool) -> _Matching:
        """Count, and where candidates will be asked for, have the first of them from the same walk through
        the postings.
        """
        engine, hidden = self._engine, self._hidden
        query = within if hidden is None else self._without(within, hidden)
        if not (is_exact and ask.limit and ask.scored) or ask.sort or constant_score(ask.query) is not None:
            return _Matching(query, within, engine.count(query), None)
        first, total = engine.best_counted(within, ask.limit + CANDIDATES)
        if hidden is not None and total:
            score_of = compile_query(ask.query, ask.statistics)
            for held in self._documents_hidden():  # the engine would take ten times as long to intersect
                is_inside = any(low <= token_of(held.key) <= high for low, high in ranges)
                total -= is_inside and score_of(held) is not None
        return _Matching(query, within, total, first)

    def _documents_hidden(self) -> list[Held]:
        """What is hidden, as it is in the engine."""
        engine, known = self._engine, self._known
        unknown = [key for key in self._hidden_keys if key not in known]
        if unknown:
            read: dict[bytes, Held | None] = dict.fromkeys(unknown)
            for _, place in engine.best(engine.rows(unknown), len(unknown), 0):
                key, text = engine.stored(place)
                read[key] = Counted(key, parse(text), self._rules)
            known.update(read)
        found = (known[key] for key in self._hidden_keys)
        return [held for held in found if held is not None]

    def _quick(self, ask: Ask, matching: _Matching) -> Found:
        """Without looking at all matches; raises Unsuited if that cannot be."""
        query, total = matching.query, matching.total
        partials: Partials = Facets(self).partials(ask.aggregations, query) if ask.aggregations else {}
        hits: list[Hit] = []
        texts = _Texts(ask.texts)
        if ask.limit and total:
            if ask.sort:
                hits = self._sorted(ask, query, texts)
            else:
                hits = self._hits(ask, matching, texts)
        is_first = hits and ask.after is None and not ask.sort
        best = hits[0].score if is_first else self._best(ask, matching)
        return Found(total, tuple(hits), partials, best, texts.of(hits))

    def _best(self, ask: Ask, matching: _Matching) -> float:
        """The best score of all, where the first hit does not tell."""
        if not matching.total or not ask.scored:
            return 0.0
        asked = msgspec.structs.replace(ask, limit=1, after=None, sort=())
        first = self._hits(asked, matching, _Texts(False))
        return first[0].score if first else 0.0

    def _hits(self, ask: Ask, matching: _Matching, texts: _Texts) -> list[Hit]:
        """The first hits by score. What is hidden is passed over as it is met, which takes far less time than
        having the engine leave it out.
        """
        score = constant_score(ask.query) if ask.scored else 0.0
        if score is not None:
            return self._hits_in_order(ask, matching.query, score, texts)
        score_of = compile_query(ask.query, ask.statistics)

        hidden = self._hidden_keys

        def judge(candidate: Candidate) -> Hit | None:
            key, text = self._engine.stored(candidate.place)
            if key in hidden:
                return None
            texts.note(key, text)
            held = Held(key, parse(text), self._rules)
            hit = Hit(held.key, _agreed(score_of(held), held.key))
            return None if ask.after is not None and not is_after(hit, ask.after, ()) else hit

        bounds = self._bounds(ask)
        candidates = self._candidates(matching, matching.total + len(hidden), ask.limit)
        return first_hits(candidates, judge, ask.limit, bounds, ask.after)

    def _hits_in_order(self, ask: Ask, query: EngineQuery, score: float, texts: _Texts) -> list[Hit]:
        """Hits that all score the same come in the order of their keys."""
        after = b""
        if ask.after is not None:
            at = ask.after.sort[0] if ask.after.sort else score
            if isinstance(at, int | float) and at < score:
                return []
            after = ask.after.key if at == score else b""
        found = self.in_order(query, ask.limit, after)
        for key, place in found:
            if not texts.has_room:
                break
            texts.note(key, self._engine.stored(place)[1])
        return [Hit(key, score) for key, _ in found]

    def in_order(self, query: EngineQuery, limit: int, after: bytes) -> list[tuple[bytes, Place]]:
        """The first of these documents after a key, in the order of keys: that of the ring."""
        if after == LAST_KEY:
            return []
        if after:
            later = self._engine.within("token", token_of(after), TOKEN_MAX)
            query = self._both(query, later)
        found: list[tuple[bytes, Place]] = []
        offset, step, last_token = 0, limit + 16, 0
        while True:
            some = self._engine.by_column(query, "token", step, offset)
            for token, place in some:
                if len(found) >= limit and token != last_token:
                    return sorted(found, key=_by_key)[:limit]
                key, last_token = self._engine.key(place), token
                if key > after:
                    found.append((key, place))
            if len(some) < step:
                return sorted(found, key=_by_key)[:limit]
            offset, step = offset + step, step * 4

    def _sorted(self, ask: Ask, query: EngineQuery, texts: _Texts) -> list[Hit]:
        """The first hits by the values of fields."""
        score_of = compile_query(ask.query, ask.statistics)
        hits = []
        for key, values, place in islice(Sorter(self, ask.limit).walk(query, ask.sort, ask.after), ask.limit):
            score = _agreed(score_of(self._document(place)), key) if ask.scored else 0.0
            if texts.has_room:
                texts.note(key, self._engine.stored(place)[1])
            hits.append(Hit(key, score, values))
        return hits

    def _candidates(self, matching: _Matching, total: int, limit: int) -> Iterator[Candidate]:
        """All hits by falling estimate, in crowds of equals by token."""
        crowd: list[tuple[float, Place]] = []
        offset, step = 0, limit + CANDIDATES
        while offset < total:
            found = matching.first
            if offset or found is None:
                found = self._engine.best(matching.within, step, offset)
            step = max(step, len(found))
            offset, step = offset + step, step * 4
            for hit in found:
                if crowd and hit[0] != crowd[0][0]:
                    yield from self._by_token(crowd)
                    crowd = []
                crowd.append(hit)
        yield from self._by_token(crowd)

    def _by_token(self, crowd: list[tuple[float, Place]]) -> Iterator[Candidate]:
        tokens = self._engine.column("token", [place for _, place in crowd])
        found = [
            Candidate(estimate, token, place) for (estimate, place), token in zip(crowd, tokens, strict=True)
        ]
        return iter(sorted(found, key=lambda candidate: candidate.token))

    def _bounds(self, ask: Ask) -> Bounds:
        """How far estimates are off: the engine averages lengths over documents without the field, too."""
        high, low = 1.0, 1.0
        everything = max(1, self._engine.weighed_by())
        for name in ask.statistics.lengths:
            place = self._engine.place(name)
            if place is None:
                continue
            if place[1]:
                return Bounds(0.0, 2.0)
            ours = average_length(ask.statistics, name)
            local = (self._weighs_as or self)._length(name, WHOLE_RING)
            theirs = max(0.01, local.terms / everything)
            high, low = max(high, ours / theirs), min(low, ours / theirs)
        if any(isinstance(each, Boosting) for each in walk(ask.query)):  # estimates do not lower
            low = 0.0
        return Bounds(low * LENGTH_ROUNDING, high * 1.001)

    def _held(self, query: EngineQuery, total: int) -> Iterator[Held]:
        """All documents that a query finds, in the order in which they lie on disk."""
        hits = self._engine.best(query, max(1, total), 0)
        for place in self._engine.in_disk_order(hits):
            yield self._document(place)

    def _document(self, place: Place) -> Held:
        key, source = self._engine.stored(place)
        return Held(key, parse(source), self._rules)


class _Matching(NamedTuple):
    """What matches: the engine's query, the same with what is hidden, how many there are without that, and
    the first of `within` by estimate, where they are known.
    """

    query: EngineQuery
    within: EngineQuery
    total: int
    first: list[tuple[float, Place]] | None


class _Texts:
    """Documents that were read on the way to hits, as many as there is room for."""

    def __init__(self, wanted: bool) -> None:
        self.has_room = wanted
        self._texts: dict[bytes, bytes] = {}
        self._size = 0

    def note(self, key: bytes, text: bytes) -> None:
        """This one was read."""
        if self.has_room:
            self._texts[key] = text
            self._size += len(text)
            self.has_room = self._size < READ_BYTES_MAX

    def of(self, hits: Sequence[Hit]) -> dict[bytes, bytes]:
        """Those of these hits."""
        texts = self._texts
        return first_texts({hit.key: texts[hit.key] for hit in hits if hit.key in texts}) if texts else {}


def _agreed(score: float | None, key: bytes) -> float:
    """The score of what the engine found. That it is none would be a bug: this search fails, not the peer."""
    if score is None:
        raise CorruptionError(f"an inverted index finds row {key.hex()}, which does not match")
    return score


def _by_key(item: tuple[bytes, Place]) -> bytes:
    return item[0]
