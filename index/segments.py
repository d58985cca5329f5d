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
    whole    short values of all fields, each as one term
    t00-t31  the text of one path each: the first ones met
    s0-s7    the text of all further paths, by a hash of the path; terms are prefixed by the path
    source   the document, stored
    due      when a part of it expires, a column
    gone     the same, if nothing is left of it then

Paths beyond the first 32 with text lose nothing but speed: their candidates come less well sorted. Memory
depends on none of this.

**Commits** write one more document, the marker: the offset of the log that is covered, and which path has
which field. It is replaced with every commit, so it tells what is durable in the very files that are.
"""

from __future__ import annotations

import re
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import msgspec
import tantivy
from tantivy import FieldType, Filter, Occur, Order, TextAnalyzerBuilder, Tokenizer

from core.errors import UNFORESEEN, CorruptionError, DiskFullError
from core.json_values import JsonError, parse
from index.asking import Ask, Found, Refusal
from index.changing import Change
from index.encoding import HOLE, escaped, exists_term
from index.finding import VALUES
from index.mapping import Rules
from index.preparing import NOTHING, Preparer, Text
from index.query import ALL, WHOLE, Fuzzy, Statistics, TermKey, TokenRanges
from index.seen import Seen
from index.segment_files import is_whole, segments_of
from index.tiers import Tiers
from index.viewing import View
from lsm.keys import token_of

OWN_FIELDS: Final = 32
SHARED_FIELDS: Final = 8
WRITER_BYTES: Final = 50_000_000
"""What a commit may take of memory before it becomes several segments: some 15,000 documents of 1 KiB."""
KNOWN_BITS: Final = 1 << 22
"""Of the filter that remembers what was added to an index that began empty: half a MiB."""
MARKER: Final = "\x00marker"
NO_SPACE: Final = "No space left"
"""What the message of an error says when the disk is full; tantivy gives no code."""


_OWN = tuple(f"t{number:02d}" for number in range(OWN_FIELDS))
_SHARED = tuple(f"s{number}" for number in range(SHARED_FIELDS))
_SPLIT = TextAnalyzerBuilder(Tokenizer.whitespace()).build()
_HOLED = TextAnalyzerBuilder(Tokenizer.whitespace()).filter(Filter.custom_stopword([HOLE])).build()
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
    builder.add_integer_field("gone", fast=True)
    builder.add_text_field(VALUES, tokenizer_name="split", index_option="basic")
    builder.add_text_field("all", tokenizer_name="holed", index_option="position")
    for name in ("whole", *_OWN, *_SHARED):
        builder.add_text_field(name, tokenizer_name="split", index_option="position")
    builder.add_bytes_field("source", stored=True)
    return builder.build()


_SCHEMA = _schema()


class TantivySegments:
    """Implements index.changing.Durable, and answers by what it has seen. `directory` None keeps it all in
    memory.
    """

    def __init__(self, rules: Rules, directory: Path | None) -> None:
        """Open what is there, or begin. Raises CorruptionError for what cannot be opened."""
        self._rules = rules
        self._directory = directory
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        try:
            self._index = tantivy.Index(_SCHEMA, None if directory is None else str(directory))
            self._index.register_tokenizer("split", _SPLIT)
            self._index.register_tokenizer("holed", _HOLED)
            self._index.config_reader("manual")
        except (ValueError, OSError) as error:
            raise CorruptionError(f"an inverted index cannot be opened: {error}") from error
        self._writer: tantivy.IndexWriter | None = None
        self._bare: deque[tuple[bytes, str]] = deque()
        self._engine: Engine
        self._seen: Seen
        self._places: dict[str, str] = {}
        self.reload()
        self.preparer = Preparer(rules, partial(_placed, self._places))
        self._known = None if self._engine.marker.covers or self._engine.documents else _Known()

    def reload(self) -> None:
        """See what is durable."""
        self._index.reload()
        searcher = self._searcher = self._index.searcher()
        found = searcher.search(tantivy.Query.term_query(_SCHEMA, "key", MARKER), 1).hits
        marker = Marker(0, {})
        try:
            if found:
                marker = msgspec.json.decode(_source(searcher, found[0][1]), type=Marker)
        except (ValueError, OSError) as error:
            raise CorruptionError(f"the marker of an inverted index is damaged: {error}") from error
        self._engine = Engine(searcher, marker, bool(found))
        self._seen = Seen(View(self._engine, self._rules), marker.covers)
        self._written = marker.covers
        self._places.update(marker.places)

    def refresh(self) -> bool:
        """See the same in the files that it was merged into. The old ones are gone from the directory, but
        not from disk and memory while they are open: as much as the index itself.
        """
        before = self._searcher.num_segments
        self._index.reload()
        if self._index.searcher().num_segments == before:
            return False
        self.reload()
        return True

    # --- changing

    def commit(self, changes: Sequence[Change], covers: int) -> None:
        """Write, and see it."""
        self.write(changes, covers)
        self.reload()

    def add(self, changes: Sequence[Change]) -> None:
        """Delete and add, to be committed later."""
        latest = {change.key: change for change in changes}

        def add(writer: tantivy.IndexWriter) -> None:
            for change in latest.values():
                name = change.key.decode("latin-1")
                if self._known is None or self._known.may_have(change.key):
                    writer.delete_documents_by_term("key", name)
                if change.document is not None:
                    writer.add_document(self.document(change))

        self._write(add)

    def write(self, changes: Sequence[Change], covers: int) -> None:
        """Delete and add, then write the marker, and make it durable."""
        self.add(changes)

        def commit(writer: tantivy.IndexWriter) -> None:
            writer.delete_documents_by_term("key", MARKER)
            marker = tantivy.Document()
            marker.add_text("key", MARKER)
            marker.add_bytes("source", msgspec.json.encode(Marker(covers, self._places)))
            writer.add_document(marker)
            writer.commit()

        self._write(commit)
        self._written = covers

    def expire(self, now_us: int) -> bool:
        """Delete what is gone by now, by one question: a mass that expires at once is thousands of rows."""
        engine = self._engine
        gone = engine.within("gone", 1, now_us)
        if not engine.count(gone):
            return False
        self._write(lambda writer: writer.delete_documents_by_query(gone))
        self.write((), self._written)
        return True

    def _write(self, what: Callable[[tantivy.IndexWriter], object]) -> None:
        """Do something with the writer. Raises StoreError."""
        try:
            writer = self._writer
            if writer is None:
                writer = self._writer = self._index.writer(WRITER_BYTES, 1)
            what(writer)
        except (ValueError, OSError) as error:
            self._writer = None  # with it, whatever was not committed is forgotten
            text = f"an inverted index cannot be written: {error}"
            raise (DiskFullError(text) if NO_SPACE in str(error) else CorruptionError(text)) from error

    def document(self, change: Change) -> tantivy.Document:
        """A row, which is there, as what is indexed of it."""
        assert change.document is not None, "it is there"
        try:
            prepared = self.preparer.prepare(parse(change.document))
        except (*UNFORESEEN, JsonError) as error:  # else every replica ended, ever again
            prepared = NOTHING
            self._bare.append((change.key, type(error).__name__))
        fields: dict[str, Any] = {
            "key": change.key.decode("latin-1"),
            "token": token_of(change.key),
            VALUES: prepared.terms,
            "source": change.document,
        }
        if change.due_us:
            fields["due"] = change.due_us
            if change.is_gone_then:
                fields["gone"] = change.due_us
        stacked: list[tuple[str, Text]] = []
        for physical, text in prepared.texts:
            if text.tokens is None and physical not in fields:
                values = text.values
                fields[physical] = values[0] if len(values) == 1 else values
            else:
                stacked.append((physical, text))
        document = tantivy.Document.from_dict(fields, _SCHEMA)
        for physical, text in stacked:
            _add_text(document, physical, text)
        return document

    def bare(self) -> tuple[tuple[bytes, str], ...]:
        """Those that could not be prepared. Threads may add some meanwhile."""
        return tuple(self._bare.popleft() for _ in range(len(self._bare)))

    def rest(self) -> None:
        """Let go of the writer, its threads and the lock; the next commit takes them again."""
        self.close()

    def close(self) -> None:
        """Let go of the writer, its threads and the lock; what is committed stays."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.wait_merging_threads()

    def having(self, keys: Sequence[bytes]) -> tuple[bytes, ...]:
        """Those of these rows that it holds, or has held and not yet merged away."""
        engine = self._engine
        return tuple(key for key in keys if engine.frequency("key", key.decode("latin-1")))

    def view(self, hidden: Sequence[bytes]) -> Seen:
        """What is seen now, without these rows."""
        return self._seen.without(hidden)

    def damaged(self) -> tuple[str, ...]:
        """Read all files of the last commit; those whose checksum is wrong."""
        return () if self._directory is None else damaged_files(self._directory)

    # --- answering, by what is seen now

    def covers(self) -> int:
        """The offset covered."""
        return self._seen.covers()

    def documents(self) -> int:
        """How many documents there are."""
        return self._seen.documents()

    def held(self, ranges: TokenRanges) -> dict[bytes, bytes]:
        """By key, a hash of each document in these ranges."""
        return self._seen.held(ranges)

    def due(self, now_us: int, limit: int) -> tuple[bytes, ...]:
        """Rows of which something has expired."""
        return self._seen.due(now_us, limit)

    def next_due_us(self) -> int:
        """When the first is due."""
        return self._seen.next_due_us()

    def statistics(self, terms: Sequence[TermKey], fields: Sequence[str], ranges: TokenRanges) -> Statistics:
        """The weights of terms, and the lengths of fields."""
        return self._seen.statistics(terms, fields, ranges)

    def search(self, ask: Ask, ranges: TokenRanges) -> Found | Refusal:
        """Hits and aggregations."""
        return self._seen.search(ask, ranges)

    def similar(self, query: Fuzzy) -> tuple[TermKey, ...]:
        """Terms within the distance."""
        return self._seen.similar(query)

    def expand(
        self, field: str, view: str, prefix: str, limit: int, ranges: TokenRanges
    ) -> tuple[tuple[str, int], ...]:
        """Terms that begin so."""
        return self._seen.expand(field, view, prefix, limit, ranges)


class _Known:
    """Which rows were ever added, and now and then one that was not: a Bloom filter of two hashes.

    What is not there need not be deleted before it is added, for which tantivy looks into each of its
    segments. A row's token is a good hash already.
    """

    def __init__(self) -> None:
        self._bits = bytearray(KNOWN_BITS // 8)

    def may_have(self, key: bytes) -> bool:
        """Whether this row may have been asked about before; from now on it has."""
        bits, token = self._bits, token_of(key)
        one, two = token % KNOWN_BITS, (token >> 32) % KNOWN_BITS
        has = bits[one >> 3] & 1 << (one & 7) and bits[two >> 3] & 1 << (two & 7)
        bits[one >> 3] |= 1 << (one & 7)
        bits[two >> 3] |= 1 << (two & 7)
        return bool(has)


class TantivyPlace:
    """A directory of indexes, by name (node/search_place.py)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, name: str, rules: Rules) -> Tiers:
        """The index of this name, with a young tier before it. Raises CorruptionError."""
        return Tiers(rules, TantivySegments(rules, self._directory / name))

    def remove(self, name: str) -> None:
        """Remove an index that nobody has open."""
        shutil.rmtree(self._directory / name, ignore_errors=True)

    def names(self) -> tuple[str, ...]:
        """What is there, in order."""
        if not self._directory.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in self._directory.iterdir()))


def damaged_files(directory: Path) -> tuple[str, ...]:
    """The names of files of the last commit that are not as they were written."""
    found = []
    segments = segments_of((directory / "meta.json").read_bytes())
    for file in sorted(directory.iterdir()):
        if file.name.partition(".")[0] in segments:
            try:
                data = file.read_bytes()
            except FileNotFoundError:
                continue  # merged away
            if not is_whole(data):
                found.append(file.name)
    return tuple(found)


def _add_text(document: tantivy.Document, physical: str, text: Text) -> None:
    if text.tokens is None:
        for value in text.values:
            document.add_text(physical, value)
    else:
        tokens = [tantivy.Token(term, at, 0, 0) for term, at in text.tokens]
        document.add_pre_tokenized_text(physical, tantivy.PreTokenizedString("", tokens))


def _placed(places: dict[str, str], path: str) -> tuple[str, str]:
    """The place of a path: one of its own as long as there are any, which `places` then has."""
    own = places.get(path)
    if own is None and len(places) < OWN_FIELDS:
        own = places[path] = _OWN[len(places)]
    return (own, "") if own is not None else _shared(path)


def _shared(path: str) -> tuple[str, str]:
    return _SHARED[crc32(path.encode()) % SHARED_FIELDS], escaped(path) + "\x00"


def _source(searcher: tantivy.Searcher, address: tantivy.DocAddress) -> bytes:
    found = searcher.doc(address).get_first("source")
    assert found is not None, "it is stored"
    return bytes(found)


class Engine:
    """What tantivy can do with the index as of one commit (index/viewing.py, Engine)."""

    def __init__(self, searcher: tantivy.Searcher, marker: Marker, has_marker: bool) -> None:
        self._searcher = searcher
        self.marker = marker
        self.documents = searcher.num_docs - has_marker
        self._weighed_by: int | None = None

    # --- index.finding.Tools

    def place(self, path: str) -> tuple[str, str] | None:
        """Where the text of a path is."""
        if path in (ALL, WHOLE):
            return ("all" if path == ALL else "whole"), ""
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

    # --- asking

    def everything(self) -> tantivy.Query:
        """Every document."""
        return self.any_term(VALUES, [exists_term("")])

    def within(self, column: str, first: int, last: int | None) -> tantivy.Query:
        """Documents whose value in a column is between, both included."""
        return tantivy.Query.range_query(_SCHEMA, column, FieldType.Integer, first, last)

    def count(self, query: tantivy.Query) -> int:
        """How many documents these are."""
        found: Any = self._searcher.search(query, 1)  # its stub lacks the count
        return int(found.count)

    def best(self, query: tantivy.Query, limit: int, offset: int) -> list[tuple[float, Any]]:
        """(score, place) by falling score."""
        return self._searcher.search(query, limit, count=False, offset=offset).hits

    def best_counted(self, query: tantivy.Query, limit: int) -> tuple[list[tuple[float, Any]], int]:
        """The first by falling score, and how many there are."""
        found: Any = self._searcher.search(query, limit)  # its stub lacks the count
        return found.hits, int(found.count)

    def by_column(self, query: tantivy.Query, column: str, limit: int, offset: int) -> list[tuple[int, Any]]:
        """(value, place) by rising value of a column."""
        return self._searcher.search(
            query, limit, count=False, order_by_field=column, offset=offset, order=Order.Asc
        ).hits

    def column(self, column: str, places: list[Any]) -> list[Any]:
        """The values of these documents in a column."""
        return self._searcher.fast_field_values(column, places)

    def counts(
        self, field: str, prefix: str, query: tantivy.Query, limit: int | None = None
    ) -> list[tuple[str, int]]:
        """Terms that begin so, with how many of these documents have each, the most frequent first."""
        return self._searcher.terms_with_prefix(field, prefix, query, limit)

    def in_disk_order(self, hits: list[tuple[float, Any]]) -> list[Any]:
        """The places of hits, neighbours beside each other."""
        places = sorted((place.segment_ord, place.doc) for _, place in hits)
        return [tantivy.DocAddress(segment, number) for segment, number in places]

    def stored(self, place: Any) -> tuple[bytes, bytes]:
        """Key and source of a document."""
        document = self._searcher.doc(place)
        key, source = document.get_first("key"), document.get_first("source")
        assert key is not None and source is not None, "both are stored"
        return key.encode("latin-1"), bytes(source)

    def key(self, place: Any) -> bytes:
        """The key of a document."""
        key: str | None = self._searcher.doc(place).get_first("key")
        assert key is not None, "it is stored"
        return key.encode("latin-1")
