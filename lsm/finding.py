"""Finding: rows that an index leads to, and writing the entries of an index that is new.

An entry is only a hint where to look: the row is read under its partition's tombstones in the same command,
and whoever asked judges it (index/secondary.py). So entries of rows that are dead, expired, covered or not
swept yet make a scan longer, never its answer wrong.

Entries are written with their row, in one batch (lsm/writing.py). What was there before the index is written
by `build`, slice after slice, while writes go on: a slice is one command, so a row is seen as it is, and an
entry that is written twice is one entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec

from core.commands import Candidates, EntriesCounted, EntryCount, Find, IndexBuild, IndexBuilt
from core.errors import CorruptionError
from core.finding import OPEN
from core.ports import Engine, Entries
from core.row import Header, exists
from core.schema import Table
from lsm import keys
from lsm.keys import HEADER_SUFFIX, STATIC_SUFFIX, TERM_BYTES_MAX, prefix_end
from lsm.reading import masked, stored_header, stored_row

LOOKED_AT_MAX = 1_000
"""Entries or rows that one command looks at."""

ROWS = (STATIC_SUFFIX, keys.ROW_SUFFIX)
"""What suffixes of rows begin with; everything else in a partition is not for readers."""

_PARTITION_END = b"\xff"
"""No suffix of a row begins so."""

Bounds = tuple[bytes, bytes]


class EntryError(CorruptionError):
    """It is an entry that is damaged, not a row."""


class _Partitions:
    """Reads rows as readers see them, with what is known of the partition at hand."""

    def __init__(self, engine: Engine, wanted: Find, has_clustering: bool) -> None:
        self._engine = engine
        self._wanted = wanted
        self._has_clustering = has_clustering
        self._prefix = b""
        self._header: Header | None = None
        self.statics: dict[bytes, bytes] = {}

    def row(self, key: bytes, data: bytes | None = None) -> bytes | None:
        """The row under its partition's tombstones; None if there is nothing left of it."""
        end = prefix_end(key)
        if data is None:
            data = self._engine.get(key)
        if not self._has_clustering or data is None:
            return data
        self._enter(key[:end])
        return data if self._header is None else masked(key, key[end:], data, self._header)

    def _enter(self, prefix: bytes) -> None:
        if prefix == self._prefix:
            return
        self._prefix = prefix
        stored = self._engine.get(prefix + HEADER_SUFFIX)
        self._header = None if stored is None else stored_header(prefix + HEADER_SUFFIX, stored)

    def note_static(self, prefix: bytes) -> int:
        """Have the static row of a partition sent along; how many bytes come of it."""
        key = prefix + STATIC_SUFFIX
        if self._wanted.statics and self._has_clustering and key not in self.statics:
            data = self.row(key)
            if data is not None:
                self.statics[key] = data
                return len(key) + len(data)
        return 0

    def rows_of(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """The rows of a partition, without the static one."""
        first = max(prefix + keys.ROW_SUFFIX, after + b"\x00" if after else b"")
        for key, data in self._engine.scan(first, prefix + keys.successor(keys.ROW_SUFFIX)):
            left = self.row(key, data)
            if left is not None:
                yield key, left

    def is_alone(self, prefix: bytes) -> bool:
        """Whether the static row is all that lives in a partition."""
        now_us = self._wanted.now_us
        return not any(exists(stored_row(key, data), now_us) for key, data in self.rows_of(prefix))


Found = tuple[bytes, bytes, "bytes | None"]
"""Term, row key, and the row, or None for a place that was only looked at."""


def find(engine: Engine, wanted: Find, has_clustering: bool) -> Candidates:
    """The rows after the position. Raises CorruptionError; EntryError if it is an entry that is damaged."""
    partitions = _Partitions(engine, wanted, has_clustering)
    looked = _looked_at(engine, wanted, partitions)
    rows: list[tuple[bytes, bytes, bytes]] = []
    term, key, size = wanted.term, wanted.key, 0
    for count, (next_term, next_key, data) in enumerate(looked):
        if data is not None:
            size += len(next_key) + len(data)
        if count and (len(rows) >= wanted.rows_max or size > wanted.bytes_max or count >= LOOKED_AT_MAX):
            return Candidates(tuple(rows), tuple(partitions.statics.items()), term, key, True)
        term, key = next_term, next_key
        if data is not None:
            rows.append((term, key, data))
            size += partitions.note_static(key[: prefix_end(key)])
    return Candidates(tuple(rows), tuple(partitions.statics.items()), b"", b"", False)


def _looked_at(engine: Engine, wanted: Find, partitions: _Partitions) -> Iterator[Found]:
    """Range after range."""
    look = _from_entries if wanted.index else _from_table
    yield from look(engine, wanted, partitions)
    for first, last in wanted.also:
        part = msgspec.structs.replace(wanted, first_token=first, last_token=last, term=b"", key=b"", also=())
        yield from look(engine, part, partitions)


def _from_table(engine: Engine, wanted: Find, partitions: _Partitions) -> Iterator[Found]:
    first, end = keys.token_range_bounds(wanted.table, wanted.first_token, wanted.last_token)
    if wanted.partition:
        first, end = wanted.partition, keys.successor(wanted.partition)
    if wanted.key:
        first = max(first, wanted.key + b"\x00")
    for key, data in engine.scan(first, end):
        suffix_at = prefix_end(key)
        suffix = key[suffix_at:]
        if suffix[:1] not in ROWS:
            continue
        left = partitions.row(key, data)
        if suffix == STATIC_SUFFIX and not (wanted.statics and partitions.is_alone(key[:suffix_at])):
            left = None
        yield b"", key, left


def _from_entries(engine: Engine, wanted: Find, partitions: _Partitions) -> Iterator[Found]:
    after = b""
    head = keys.entry_prefix(wanted.table, wanted.index)
    if wanted.key:
        after = keys.entry(head, wanted.term, wanted.key)[0]
        if wanted.expand:
            prefix = wanted.key[: prefix_end(wanted.key)]
            if _is_inside(wanted, wanted.key):
                yield from _expanded(partitions, wanted.term, prefix, wanted.key)
            after = keys.entry(head, wanted.term, prefix + _PARTITION_END)[0]
    done = after + b"\x00" if after else b""
    for span in wanted.spans:
        first, end = _bounds(head, span, wanted)
        first, done = max(first, done), max(end, done)  # of long terms, cut, two spans may be the same
        if first >= end:
            continue
        for term, key in _entries(engine, first, end):
            if _is_inside(wanted, key):
                yield from _led_to(partitions, wanted, term, key)
            else:
                yield term, key, None


def _is_inside(wanted: Find, key: bytes) -> bool:
    """Whether a row is in the range; entries of several terms lead beyond it, and a look may end there."""
    in_range = wanted.first_token <= keys.token_of(key) <= wanted.last_token
    return in_range and key.startswith(wanted.partition)


def _entries(engine: Engine, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(term, row key) of each; raises EntryError."""
    try:
        for entry_key, value in engine.scan(first, end):
            yield keys.split_entry(entry_key, value)
    except (CorruptionError, ValueError) as error:
        raise EntryError(f"an entry of an index cannot be read: {error}") from error


def _led_to(partitions: _Partitions, wanted: Find, term: bytes, key: bytes) -> Iterator[Found]:
    if not key.endswith(STATIC_SUFFIX) or key[prefix_end(key) :] != STATIC_SUFFIX:
        yield term, key, partitions.row(key)
        return
    prefix = key[: prefix_end(key)]
    data = partitions.row(key)
    is_alone = data is not None and wanted.statics and partitions.is_alone(prefix)
    yield term, key, data if is_alone else None
    if wanted.expand and data is not None:
        yield from _expanded(partitions, term, prefix, b"")


def _expanded(partitions: _Partitions, term: bytes, prefix: bytes, after: bytes) -> Iterator[Found]:
    for key, data in partitions.rows_of(prefix, after):
        yield term, key, data


def _span_bounds(head: bytes, span: tuple[bytes, bytes]) -> Bounds:
    """All entries of a span."""
    first, end = head + span[0][:TERM_BYTES_MAX], span[1]
    if not end:
        return first, keys.successor(first)
    if end == OPEN:
        return first, keys.successor(head)
    if len(end) > TERM_BYTES_MAX:
        return first, keys.successor(head + end[:TERM_BYTES_MAX])
    return first, head + end


def _bounds(head: bytes, span: tuple[bytes, bytes], wanted: Find) -> Bounds:
    """The entries of a span; of one term only those in the range of tokens."""
    first, end = span
    if end:
        return _span_bounds(head, span)
    term = head + first[:TERM_BYTES_MAX]
    if wanted.partition:
        place = term + wanted.partition[len(keys.table_prefix(wanted.table)) :]
        return place, keys.successor(place)
    at = len(keys.table_prefix(wanted.table))
    bounds = keys.token_range_bounds(wanted.table, wanted.first_token, wanted.last_token)
    if len(bounds[1]) == len(bounds[0]):
        return term + bounds[0][at:], term + bounds[1][at:]
    return term + bounds[0][at:], keys.successor(term)


def count(engine: Engine, command: EntryCount) -> EntriesCounted:
    """Entries of each index in its spans, whatever their tokens."""
    counts = []
    for index, spans in command.indexes:
        head, found = keys.entry_prefix(command.table, index), 0
        for span in spans:
            first, end = _span_bounds(head, span)
            for _ in islice(engine.scan(first, end), command.most - found):
                found += 1
        counts.append(found)
    return EntriesCounted(tuple(counts))


# --- building


def build(engine: Engine, command: IndexBuild, schema: Table, entries: Entries) -> IndexBuilt:
    """Write the entries of the next rows of the table, and how far that got."""
    head = keys.entry_prefix(command.table, command.index)
    puts: list[tuple[bytes, bytes | None]] = []
    prefix = keys.table_prefix(command.table)
    first = command.after + b"\x00" if command.after else prefix
    after, rows, size = command.after, 0, 0
    for key, data in engine.scan(first, keys.successor(prefix)):
        if rows and (rows >= command.rows_max or size > command.bytes_max):
            built = IndexBuilt(after, command.rows + rows, False)
            break
        after, rows, size = key, rows + 1, size + len(key) + len(data)
        if key[(at := prefix_end(key)) : at + 1] in ROWS:
            puts += [put for put in entries(schema, (key, None), (key, data)) if put[0].startswith(head)]
    else:
        built = IndexBuilt(b"", command.rows + rows, True)
    puts.append((keys.system_key(command.record), msgspec.msgpack.encode(built)))
    engine.write(puts)
    return built
