"""The inverted index of one table at one peer, on tantivy. The only file that knows it.

**tantivy finds, we score.** Its own BM25 cannot be ours: it keeps the length of a field in one byte (off by
up to 12 %), averages over documents that lack the field, and counts deleted documents. So it gives
candidates, best first by its own score, each term weighed by our idf over its own; their exact scores come
from index/judging.py, on the document that is stored beside (index/candidates.py says how many are needed).

**Fields.** tantivy wants its fields beforehand, documents have any; each field with BM25 costs a byte per
document. So there are

    key      the row key (as Latin-1), to delete by and to find; stored
    token    the place on the ring, a column: ranges, and the order of hits that all score the same
    x        terms of all values of all paths (index/encoding.py); no frequencies
    all      the text of all fields
    t00-t31  the text of one path each: the first ones met
    s0-s7    the text of all further paths, by a hash of the path; terms are prefixed by the path
    source   the document, stored
    due      when a part of it expires, a column

Paths beyond the first 32 with text lose nothing but speed: their candidates come less well sorted. Memory
depends on none of this.

**Commits** write one more document, the marker: the offset of the log that is covered, and which path has
which field. It is replaced with every commit, so it tells what is durable in the very files that are.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import msgspec
import tantivy
from tantivy import FieldType, Filter, Occur, Order, TextAnalyzerBuilder, Tokenizer

from core.errors import CorruptionError
from core.json_values import parse
from index.aggregation import Partials
from index.asking import Ask, Found, Refusal
from index.candidates import Bounds, Candidate, first_hits
from index.changing import Change
from index.encoding import HOLE, LENGTH_TAG, TAGS, decoded, escaped, exists_term, head, unescaped
from index.facets import facets_of, split
from index.fields import fields_of
from index.finding import VALUES, Finder, constant_score
from index.judging import Held, compile_query
from index.mapping import Rules
from index.ordering import is_after
from index.preparing import Text, prepare
from index.query import ALL, EXACT, TEXT, Boosting, FieldLength, Hit, Statistics, TermKey, TokenRanges, walk
from index.scanning import scan
from index.scoring import average_length
from lsm.keys import TOKEN_MAX, TOKEN_MIN, token_of

OWN_FIELDS: Final = 32
SHARED_FIELDS: Final = 8
WRITER_BYTES: Final = 30_000_000
MARKER: Final = "\x00marker"
WHOLE_RING: Final = ((TOKEN_MIN, TOKEN_MAX),)

CANDIDATES: Final = 48
"""Hits that tantivy is asked for at first, beyond those wanted; each time more are needed, four times so
many.
"""

LENGTH_ROUNDING: Final = 0.85
"""A field may be longer than tantivy remembers, which makes scores lower, down to this share."""

_OWN = tuple(f"t{number:02d}" for number in range(OWN_FIELDS))
_SHARED = tuple(f"s{number}" for number in range(SHARED_FIELDS))
_SPLIT = TextAnalyzerBuilder(Tokenizer.whitespace()).filter(Filter.custom_stopword([HOLE])).build()
_TOTAL = re.compile(r'"value": ([0-9.]+),\s*"description": "N, total')


class Marker(msgspec.Struct, frozen=True):
    """What a commit says of itself."""

    covers: int
    places: dict[str, str]


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("key", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("token", fast=True)
    builder.add_integer_field("due", fast=True)
    builder.add_text_field(VALUES, tokenizer_name="split", index_option="basic")
    for name in ("all", *_OWN, *_SHARED):
        builder.add_text_field(name, tokenizer_name="split", index_option="position")
    builder.add_bytes_field("source", stored=True)
    return builder.build()


_SCHEMA = _schema()


class TantivySegments:
    """Implements index.changing.Changeable. `directory` None keeps it all in memory."""

    def __init__(self, rules: Rules, directory: Path | None) -> None:
        """Open what is there, or begin. Raises CorruptionError for what cannot be opened."""
        self._rules = rules
        self._directory = directory
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        try:
            self._index = tantivy.Index(_SCHEMA, None if directory is None else str(directory))
            self._index.register_tokenizer("split", _SPLIT)
            self._index.config_reader("manual")
        except (ValueError, OSError) as error:
            raise CorruptionError(f"an inverted index cannot be opened: {error}") from error
        self._writer: tantivy.IndexWriter | None = None
        self._view = View(self._index.searcher(), Marker(0, {}), rules)
        self._reload()

    def _reload(self) -> None:
        self._index.reload()
        searcher = self._index.searcher()
        found = searcher.search(tantivy.Query.term_query(_SCHEMA, "key", MARKER), 1).hits
        marker = Marker(0, {})
        try:
            if found:
                marker = msgspec.json.decode(_source(searcher, found[0][1]), type=Marker)
        except (ValueError, OSError) as error:
            raise CorruptionError(f"the marker of an inverted index is damaged: {error}") from error
        self._view = View(searcher, marker, self._rules)

    # --- changing

    def covers(self) -> int:
        """The offset covered."""
        return self._view.marker.covers

    def documents(self) -> int:
        """How many documents there are."""
        return self._view.documents

    def commit(self, changes: Sequence[Change], covers: int) -> None:
        """Delete and add, then write the marker, and make it durable."""
        latest = {change.key: change for change in changes}
        places = dict(self._view.marker.places)
        try:
            writer = self._writer
            if writer is None:
                writer = self._writer = self._index.writer(WRITER_BYTES, 1)
            for change in latest.values():
                name = change.key.decode("latin-1")
                writer.delete_documents_by_term("key", name)
                if change.document is not None:
                    writer.add_document(self._document(name, change, places))
            writer.delete_documents_by_term("key", MARKER)
            marker = tantivy.Document()
            marker.add_text("key", MARKER)
            marker.add_bytes("source", msgspec.json.encode(Marker(covers, places)))
            writer.add_document(marker)
            writer.commit()
        except (ValueError, OSError) as error:
            self._abandon()
            raise CorruptionError(f"an inverted index cannot be written: {error}") from error
        self._reload()

    def _document(self, name: str, change: Change, places: dict[str, str]) -> tantivy.Document:
        assert change.document is not None

        def place(path: str) -> tuple[str, str]:
            own = places.get(path)
            if own is None and len(places) < OWN_FIELDS:
                own = places[path] = _OWN[len(places)]
            return (own, "") if own is not None else _shared(path)

        prepared = prepare(fields_of(parse(change.document), self._rules), self._rules, place)
        document = tantivy.Document()
        document.add_text("key", name)
        document.add_integer("token", token_of(change.key))
        if change.due_us:
            document.add_integer("due", change.due_us)
        document.add_text(VALUES, prepared.terms)
        for physical, text in prepared.texts:
            _add_text(document, physical, text)
        document.add_bytes("source", change.document)
        return document

    def _abandon(self) -> None:
        """Whatever was not committed is forgotten with the writer."""
        self._writer = None

    def close(self) -> None:
        """Let go of the writer, its threads and the lock; what is committed stays."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.wait_merging_threads()

    def due(self, now_us: int, limit: int) -> tuple[bytes, ...]:
        """Rows of which something has expired."""
        return self._view.due(now_us, limit)

    def next_due_us(self) -> int:
        """When the first is due."""
        return self._view.next_due_us()

    # --- answering

    def statistics(self, terms: Sequence[TermKey], fields: Sequence[str], ranges: TokenRanges) -> Statistics:
        """The weights of terms, and the lengths of fields."""
        return self._view.statistics(terms, fields, ranges)

    def search(self, ask: Ask, ranges: TokenRanges) -> Found | Refusal:
        """Hits and aggregations."""
        return self._view.search(ask, ranges)

    def expand(
        self, field: str, view: str, prefix: str, limit: int, ranges: TokenRanges
    ) -> tuple[tuple[str, int], ...]:
        """Terms that begin so."""
        return self._view.expand(field, view, prefix, limit)


class TantivyPlace:
    """A directory of indexes, by name (node/search_place.py)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, name: str, rules: Rules) -> TantivySegments:
        """The index of this name. Raises CorruptionError."""
        return TantivySegments(rules, self._directory / name)

    def remove(self, name: str) -> None:
        """Remove an index that nobody has open."""
        shutil.rmtree(self._directory / name, ignore_errors=True)

    def names(self) -> tuple[str, ...]:
        """What is there, in order."""
        if not self._directory.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in self._directory.iterdir()))


def _add_text(document: tantivy.Document, physical: str, text: Text) -> None:
    if text.tokens is None:
        document.add_text(physical, text.joined)
    else:
        tokens = [tantivy.Token(term, at, 0, 0) for term, at in text.tokens]
        document.add_pre_tokenized_text(physical, tantivy.PreTokenizedString("", tokens))


def _shared(path: str) -> tuple[str, str]:
    return _SHARED[crc32(path.encode()) % SHARED_FIELDS], escaped(path) + "\x00"


def _source(searcher: tantivy.Searcher, address: tantivy.DocAddress) -> bytes:
    found = searcher.doc(address).get_first("source")
    assert found is not None, "it is stored"
    return bytes(found)


class View:
    """The index as of one commit: what a search sees from its beginning to its end."""

    def __init__(self, searcher: tantivy.Searcher, marker: Marker, rules: Rules) -> None:
        self._searcher = searcher
        self._rules = rules
        self.marker = marker
        self.documents = max(0, searcher.num_docs - (1 if marker.covers or marker.places else 0))
        self._weighed_by: int | None = None
        self._filters: dict[TokenRanges, tantivy.Query | None] = {}
        self._lengths: dict[tuple[str, TokenRanges], FieldLength] = {}

    # --- index.finding.Tools

    def place(self, path: str) -> tuple[str, str] | None:
        """Where the text of a path is."""
        if path == ALL:
            return "all", ""
        own = self.marker.places.get(path)
        if own is not None:
            return own, ""
        return _shared(path) if len(self.marker.places) >= OWN_FIELDS else None

    def weighed_by(self) -> int:
        """How many documents tantivy weighs terms by: all that were ever added and not merged away."""
        if self._weighed_by is None:
            query = tantivy.Query.term_query(_SCHEMA, "key", MARKER)
            hits = self._searcher.search(query, 1).hits
            told = _TOTAL.search(query.explain(self._searcher, hits[0][1]).to_json()) if hits else None
            self._weighed_by = int(float(told[1])) if told else self.documents
        return self._weighed_by

    def frequency(self, field: str, term: str) -> int:
        """How many documents have a term, deleted ones included."""
        return self._searcher.doc_freq(field, term)

    def term(self, field: str, term: str) -> tantivy.Query:
        """Documents with a term."""
        return tantivy.Query.term_query(_SCHEMA, field, term, "freq")

    def any_term(self, field: str, terms: Sequence[str]) -> tantivy.Query:
        """Documents with any of these."""
        if len(terms) == 1:
            return tantivy.Query.term_query(_SCHEMA, field, terms[0], "basic")
        return tantivy.Query.term_set_query(_SCHEMA, field, list(terms))

    def phrase(self, field: str, terms: Sequence[tuple[int, str]]) -> tantivy.Query:
        """Documents with these terms at these relative positions."""
        return tantivy.Query.phrase_query(_SCHEMA, field, list(terms))

    def regex(self, field: str, pattern: str) -> tantivy.Query:
        """Documents with a term that fits."""
        return tantivy.Query.regex_query(_SCHEMA, field, pattern)

    def fuzzy(self, field: str, term: str, distance: int, transpositions: bool) -> tantivy.Query:
        """Documents with a term about like this."""
        return tantivy.Query.fuzzy_term_query(_SCHEMA, field, term, distance, transpositions)

    def expand_all(self, field: str, prefix: str) -> list[str]:
        """All terms that begin so."""
        return [term for term, _ in self._searcher.terms_with_prefix(field, prefix)]

    def rows(self, keys: Sequence[bytes]) -> tantivy.Query:
        """The documents of these rows."""
        return tantivy.Query.term_set_query(_SCHEMA, "key", [key.decode("latin-1") for key in keys])

    def boolean(
        self,
        must: Sequence[tantivy.Query],
        should: Sequence[tantivy.Query],
        must_not: Sequence[tantivy.Query],
        minimum: int,
    ) -> tantivy.Query:
        """All of, at least so many of, none of."""
        clauses = [(Occur.Must, each) for each in must]
        clauses += [(Occur.Should, each) for each in should]
        clauses += [(Occur.MustNot, each) for each in must_not]
        return tantivy.Query.boolean_query(clauses, minimum if should else None)

    def dis_max(self, queries: Sequence[tantivy.Query], tie_breaker: float) -> tantivy.Query:
        """Any of, scored by the best."""
        return tantivy.Query.disjunction_max_query(list(queries), tie_breaker)

    def constant(self, query: tantivy.Query, score: float) -> tantivy.Query:
        """The same documents with this score."""
        return tantivy.Query.const_score_query(query, score)

    def boost(self, query: tantivy.Query, factor: float) -> tantivy.Query:
        """The same documents with scores multiplied."""
        return tantivy.Query.boost_query(query, factor)

    def nothing(self) -> tantivy.Query:
        """No document."""
        return tantivy.Query.empty_query()

    # --- ranges

    def _inside(self, query: tantivy.Query, ranges: TokenRanges) -> tantivy.Query:
        """The query within token ranges."""
        within = self._filter(ranges)
        return query if within is None else self.boolean([query, self.constant(within, 0.0)], [], [], 0)

    def _filter(self, ranges: TokenRanges) -> tantivy.Query | None:
        """What lies in these ranges; None if that is all that there is."""
        if ranges in self._filters:
            return self._filters[ranges]
        found: tantivy.Query | None = None
        if ranges != WHOLE_RING:
            parts = [
                tantivy.Query.range_query(_SCHEMA, "token", FieldType.Integer, first, last)
                for first, last in ranges
            ]
            found = self.boolean([], parts, [], 1) if parts else self.nothing()
            if self._count(found) == self.documents:
                found = None
        self._filters[ranges] = found
        return found

    def _count(self, query: tantivy.Query) -> int:
        found: Any = self._searcher.search(query, 1)  # its stub lacks the count
        return int(found.count)

    def _everything(self) -> tantivy.Query:
        return self.any_term(VALUES, [exists_term("")])

    # --- statistics

    def statistics(self, terms: Sequence[TermKey], fields: Sequence[str], ranges: TokenRanges) -> Statistics:
        """Exactly as the naive twin counts."""
        frequencies: dict[TermKey, int] = {}
        for key in terms:
            place = self.place(key.field)
            if place is not None:
                query = self.any_term(place[0], [place[1] + escaped(key.term)])
                count = self._count(self._inside(query, ranges))
                if count:
                    frequencies[key] = count
        lengths = {name: self._length(name, ranges) for name in fields}
        return Statistics(self._count(self._inside(self._everything(), ranges)), frequencies, lengths)

    def _length(self, name: str, ranges: TokenRanges) -> FieldLength:
        known = self._lengths.get((name, ranges))
        if known is None:
            start = head(name, LENGTH_TAG)
            documents = total = 0
            for term, count in self._counts(start, self._inside(self._everything(), ranges)):
                documents += count
                total += count * int(term[len(start) :])
            known = self._lengths[name, ranges] = FieldLength(documents, total)
        return known

    def _counts(self, prefix: str, query: tantivy.Query) -> list[tuple[str, int]]:
        """Terms of values that begin so, with how many of these documents have them."""
        return self._searcher.terms_with_prefix(VALUES, prefix, query)

    def expand(self, field: str, view: str, prefix: str, limit: int) -> tuple[tuple[str, int], ...]:
        """Terms that begin so, the most frequent first."""
        if view == TEXT:
            place = self.place(field)
            if place is None:
                return ()
            physical, start = place[0], place[1]
        else:
            physical, start = VALUES, head(field, TAGS[view])
        found = self._searcher.terms_with_prefix(physical, start + escaped(prefix), self._everything(), limit)
        terms = [(term[len(start) :], count) for term, count in found if count]
        shown = unescaped if view in (TEXT, EXACT) else lambda term: str(decoded(view, term))
        return tuple((shown(term), count) for term, count in terms)

    # --- what expires

    def due(self, now_us: int, limit: int) -> tuple[bytes, ...]:
        """Rows of which something has expired, the first ones."""
        query = tantivy.Query.range_query(_SCHEMA, "due", FieldType.Integer, 1, now_us)
        hits = self._searcher.search(query, limit, count=False, order_by_field="due", order=Order.Asc).hits
        return tuple(self._key(address) for _, address in hits)

    def next_due_us(self) -> int:
        """When the first is due; 0 for never."""
        query = tantivy.Query.range_query(_SCHEMA, "due", FieldType.Integer, 1, None)
        hits = self._searcher.search(query, 1, count=False, order_by_field="due", order=Order.Asc).hits
        return int(hits[0][0]) if hits else 0

    # --- searching

    def search(self, ask: Ask, ranges: TokenRanges) -> Found | Refusal:
        """Hits and aggregations, by the cheapest way that is right."""
        finder = Finder(self, ask.statistics)
        try:
            found = finder.query(ask.query)
            query = self._inside(found, ranges)
            if not finder.is_exact:
                return scan(ask, self._held(query, self._count(query)), is_exact=False)
            quick, slow = split(ask.aggregations)
            partials: Partials = facets_of(quick, lambda prefix: self._counts(prefix, query))
            total = self._count(query)
            if slow or (ask.sort and ask.limit):
                answer = scan(
                    msgspec.structs.replace(ask, aggregations=slow), self._held(query, total), is_exact=True
                )
                if isinstance(answer, Refusal):
                    return answer
                every = {**partials, **answer.aggregations}
                ordered = {name: every[name] for name, _ in ask.aggregations}
                return msgspec.structs.replace(answer, aggregations=ordered)
            hits = self._hits(ask, query, total) if ask.limit and total else []
        except ValueError as error:  # what tantivy says of an expression that is too large
            return Refusal("too_complex", f"the index cannot execute this query: {error}")
        best = hits[0].score if hits and ask.after is None else self._best(ask, query, total)
        return Found(total, tuple(hits), partials, best)

    def _best(self, ask: Ask, query: tantivy.Query, total: int) -> float:
        """The best score of all, where the first hit does not tell."""
        if not total or not ask.scored:
            return 0.0
        first = self._hits(msgspec.structs.replace(ask, limit=1, after=None), query, total)
        return first[0].score if first else 0.0

    def _hits(self, ask: Ask, query: tantivy.Query, total: int) -> list[Hit]:
        score = constant_score(ask.query) if ask.scored else 0.0
        if score is not None:
            return self._hits_in_order(ask, query, score)
        score_of = compile_query(ask.query, ask.statistics)

        def judge(candidate: Candidate) -> Hit | None:
            held = self._document(candidate.place)
            exact = score_of(held)
            assert exact is not None, f"tantivy finds {held.key.hex()} where it does not match"
            hit = Hit(held.key, exact)
            return None if ask.after is not None and not is_after(hit, ask.after, ()) else hit

        bounds = self._bounds(ask)
        return first_hits(self._candidates(query, total, ask.limit), judge, ask.limit, bounds, ask.after)

    def _hits_in_order(self, ask: Ask, query: tantivy.Query, score: float) -> list[Hit]:
        """Hits that all score the same come in the order of their keys: that of the ring."""
        if ask.after is not None:
            at = ask.after.sort[0] if ask.after.sort else score
            if isinstance(at, int | float) and at < score:
                return []
            if at == score:
                token = token_of(ask.after.key)
                later = tantivy.Query.range_query(_SCHEMA, "token", FieldType.Integer, token, None)
                query = self.boolean([query, later], [], [], 0)
        hits: list[Hit] = []
        offset, step, last_token = 0, ask.limit + 16, 0
        while True:
            found = self._searcher.search(
                query, step, count=False, order_by_field="token", offset=offset, order=Order.Asc
            ).hits
            for token, address in found:
                if len(hits) >= ask.limit and token != last_token:
                    return sorted(hits, key=lambda hit: hit.key)[: ask.limit]
                hit = Hit(self._key(address), score)
                last_token = token
                if ask.after is None or is_after(hit, ask.after, ()):
                    hits.append(hit)
            if len(found) < step:
                return sorted(hits, key=lambda hit: hit.key)[: ask.limit]
            offset, step = offset + step, step * 4

    def _candidates(self, query: tantivy.Query, total: int, limit: int) -> Iterator[Candidate]:
        """All hits by falling estimate, in crowds of equals by token."""
        crowd: list[tuple[float, tantivy.DocAddress]] = []
        offset, step = 0, limit + CANDIDATES
        while offset < total:
            found = self._searcher.search(query, step, count=False, offset=offset).hits
            offset, step = offset + step, step * 4
            for hit in found:
                if crowd and hit[0] != crowd[0][0]:
                    yield from self._by_token(crowd)
                    crowd = []
                crowd.append(hit)
        yield from self._by_token(crowd)

    def _by_token(self, crowd: list[tuple[float, tantivy.DocAddress]]) -> Iterator[Candidate]:
        tokens = self._searcher.fast_field_values("token", [address for _, address in crowd])
        found = []
        for (estimate, address), token in zip(crowd, tokens, strict=True):
            assert isinstance(token, int), "every document has one"
            found.append(Candidate(estimate, token, address))
        return iter(sorted(found, key=lambda candidate: candidate.token))

    def _bounds(self, ask: Ask) -> Bounds:
        """How far estimates are off: tantivy averages lengths over documents without the field, too."""
        high, low = 1.0, 1.0
        everything = max(1, self.weighed_by())
        for name in ask.statistics.lengths:
            place = self.place(name)
            if place is None:
                continue
            if place[1]:
                return Bounds(0.0, 2.0)
            ours = average_length(ask.statistics, name)
            local = self._length(name, WHOLE_RING)
            theirs = max(0.01, local.terms / everything)
            high, low = max(high, ours / theirs), min(low, ours / theirs)
        if any(isinstance(each, Boosting) for each in walk(ask.query)):  # estimates do not lower
            low = 0.0
        return Bounds(low * LENGTH_ROUNDING, high * 1.001)

    def _held(self, query: tantivy.Query, total: int) -> Iterator[Held]:
        """All documents that a query finds, in the order in which they lie on disk."""
        hits = self._searcher.search(query, max(1, total), count=False).hits
        places = sorted((address.segment_ord, address.doc) for _, address in hits)
        for segment, number in places:
            yield self._document(tantivy.DocAddress(segment, number))

    def _document(self, address: Any) -> Held:
        document = self._searcher.doc(address)
        key, source = document.get_first("key"), document.get_first("source")
        assert key is not None and source is not None, "both are stored"
        return Held(key.encode("latin-1"), parse(bytes(source)), self._rules)

    def _key(self, address: tantivy.DocAddress) -> bytes:
        key: str | None = self._searcher.doc(address).get_first("key")
        assert key is not None, "it is stored"
        return key.encode("latin-1")
