"""The change log of a peer: every mutation once, in one sequence of offsets, in the batch of the rows it
changes.

Per offset there is an entry (what it is, whose it is, where it belongs), and for event and superseded the
mutation, in the very bytes its coordinator made: behind the entry in the same record if it is short, which
saves a third of the records that a write makes for the log; else in a region of its own, so that ids can be
read and filtered without touching it. Beside them in regions of their own:

- images before and after, where the table asks for them;
- for repaired entries, which have no mutation, the row key and the cells that came;
- for broken ones, where rows were lost to damage while the log was not (lsm/salvage.py), which: from there on
  their images do not continue those before.

Mutation ids point to offsets and outlive them (for how long says lsm/trimming.py). Offsets begin at 1, have
no gaps, and are never used again: the last one is found by a reverse scan when the store is opened, or from
the note that trimming leaves. An entry carries the bytes logged up to and with it, so the size of the log is
a subtraction.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from struct import Struct

import msgspec

from core.commands import (
    AT_END,
    ChangesLogged,
    LogChanges,
    LogEntryId,
    LoggedChange,
    LogIds,
)
from core.errors import CorruptionError
from core.lag import Lag, LogLag, LogLagged
from core.limits import KIB
from core.mutation import Mutation, MutationId
from core.ports import Engine
from lsm import keys
from lsm.hash_tree import LEAVES, leaf_tokens
from lsm.lost import TABLE_MAX, Lost, decode_lost, encode_lost

EVENT, SUPERSEDED, REPAIRED, EXPIRED, BROKEN = 0, 1, 2, 3, 4
"""Kinds of entries: it changed something; it changed nothing; cells that came without their mutation; what
ran out by its time to live; rows that were lost here. The last three are no mutations.
"""

LOG_SCAN_MAX = 1_000
"""Entries looked at by one LogRead, whether they match or not."""

INLINE_BYTES_MAX = 4 * KIB
"""A mutation up to this stands in the record of its entry."""

RECENT_MAX = 16_384
"""Entries kept in memory: under load what siblings have still to read, 9 MiB at most; none in quiet times."""

NOTED_BYTES_MAX = 128
"""Keys of rows up to this are noted there."""

LAG_SCAN_MAX = 5_000
"""Entries looked at by one LogLag."""

_ENTRY = Struct(">BQQHIqqQ")
ENTRY_SIZE = _ENTRY.size
ENTRY_BYTES_AT = ENTRY_SIZE - 8
"""How long the record of an entry is, and where in it the bytes logged so far stand."""
_OFFSET = Struct(">Q")
_SEQUENCE_MAX = 2**64 - 1
EVERYWHERE = [(keys.TOKEN_MIN, keys.TOKEN_MAX)]
"""The ranges of who replicates all that we do."""

FORGOTTEN_KEY = keys.META + b"forgotten/"
"""Behind it a table's id: the offset up to which its entries are nobody's to read (lsm/trimming.py)."""

Puts = list[tuple[bytes, bytes | None]]
_Kept = tuple[LogEntryId, int, int, MutationId, bytes | None]
_Tokens = Sequence[tuple[int, int]]
Ranges = Sequence[tuple[int, Sequence[tuple[int, int]]]]


class LogEntry(msgspec.Struct, frozen=True):
    """One entry, without what it logs. `bytes_total` counts all bytes logged up to and with it."""

    kind: int
    start: int
    sequence: int
    attempt: int
    table: int
    token: int
    admitted_us: int
    bytes_total: int


EXISTED, EXISTS, LATE, SAME = 1, 2, 4, 8
"""Flags of an image: the row was there for a reader before; it is after; it held something newer than what
came; it did not change.
"""


class Image(msgspec.Struct, frozen=True, array_like=True):
    """A row before and after, as bytes in normal form; None where there was none or none is asked for.

    `flags` are as of the mutation's admission; -1 where nobody noted them.
    """

    suffix: bytes
    before: bytes | None
    after: bytes | None
    flags: int = -1


_images_encoder = msgspec.msgpack.Encoder()
_images_decoder = msgspec.msgpack.Decoder(tuple[Image, ...])
_repaired_decoder = msgspec.msgpack.Decoder(tuple[bytes, bytes])


def decode_images(data: bytes) -> tuple[Image, ...]:
    """The images of a LoggedChange; raises msgspec.DecodeError for anything else."""
    return _images_decoder.decode(data) if data else ()


def _decoded(key: bytes, value: bytes) -> LogEntry:
    if len(value) < ENTRY_SIZE:
        raise CorruptionError(f"log entry {keys.offset_of(key)} has {len(value)} bytes, not {ENTRY_SIZE}")
    return LogEntry(*_ENTRY.unpack_from(value))


class _Recent:
    """The last entries, in memory: siblings ask for them all the time, and need not wait for the engine then.

    `entries` are (entry, table, token, id, row) of consecutive offsets from `first` on, or None for what is
    no mutation; the row is the key of the only one that it touched, b"" if it touched none, None where that
    was not noted. `ids` are those of the mutations; `expired` (table, token, when) of what ran out, by
    offset.
    """

    __slots__ = ("entries", "expired", "first", "ids")

    def __init__(self, first: int) -> None:
        self.first = first
        self.expired: dict[int, tuple[int, int, int]] = {}
        self.entries: list[_Kept | None] = []
        self.ids: dict[MutationId, None] = {}

    def forget_oldest(self) -> None:
        """Keep no more than is to be kept."""
        some = RECENT_MAX // 16
        for kept in self.entries[:some]:
            if kept is not None:
                self.ids.pop(kept[3], None)
        del self.entries[:some]
        self.first += some
        for offset in [offset for offset in self.expired if offset < self.first]:
            del self.expired[offset]


def id_in(record: bytes) -> MutationId | None:
    """The id of the mutation that an entry (the bytes of its record) logs; None for one without."""
    kind, start, sequence, attempt = _ENTRY.unpack_from(record)[:4]
    return None if kind >= REPAIRED else (start, sequence, attempt)


class ChangeLog:
    """The log of one engine.

    Use: `stage` and `stage_repaired` add to a batch; after the engine took it `commit`, otherwise `abort`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.highest: dict[int, int] = {}
        """By start of a coordinator that was asked about: the highest sequence that was ever logged."""
        self.durable: int | None = None
        """The last offset known to be durable, as whoever syncs sets it; None before the first sync."""
        self.reload()

    def reload(self) -> None:
        """Find the ends of what the engine holds."""
        engine = self._engine
        self.highest.clear()
        self._staged_entries: list[_Kept | None] = []
        self._staged_expired: dict[int, tuple[int, int, int]] = {}
        trimmed = engine.get(keys.TRIMMED_KEY)
        self._trimmed, self._trimmed_bytes = (0, 0) if trimmed is None else _pair(trimmed)
        shares = engine.scan(FORGOTTEN_KEY, keys.successor(FORGOTTEN_KEY))
        self.forgotten = {int.from_bytes(key[-4:], "big"): int.from_bytes(at, "big") for key, at in shares}
        """By table: up to where its entries are nobody's to read (lsm/trimming.py)."""
        self._end, self._bytes, self._newest_us = self._trimmed, self._trimmed_bytes, 0
        for key, value in engine.scan(keys.LOG, keys.successor(keys.LOG), reverse=True):
            if keys.offset_of(key) > self._end:
                entry = _decoded(key, value)
                self._end, self._bytes = keys.offset_of(key), entry.bytes_total
                self._newest_us = entry.admitted_us
            break
        self._staged, self._staged_bytes = self._end, self._bytes
        self._recent = _Recent(self._end + 1)

    def rest(self) -> None:
        """Forget what is in memory for speed alone."""
        self._recent = _Recent(self._end + 1)

    @property
    def end(self) -> int:
        """The last offset, 0 if nothing was ever logged."""
        return self._end

    @property
    def first(self) -> int:
        """The oldest offset still held; `end + 1` if none is."""
        return self._trimmed + 1

    @property
    def size_bytes(self) -> int:
        """Bytes of what is held."""
        return self._bytes - self._trimmed_bytes

    # --- writing

    def stage(
        self,
        puts: Puts,
        kind: int,
        mutation: Mutation,
        data: bytes,
        images: Sequence[Image],
        *,
        id_key: bytes,
    ) -> None:
        """Add a mutation (its bytes are `data`) and its id, whose record key is `id_key`, to a batch."""
        m = mutation
        if m.admitted_us > self._newest_us:
            self._newest_us = m.admitted_us
        imaged = _images_encoder.encode(images) if images else b""
        start, sequence, attempt, table, token = m.start, m.sequence, m.attempt, m.table, m.token
        offset, total = self._staged + 1, self._staged_bytes + len(data) + len(imaged) + ENTRY_SIZE
        entry = _ENTRY.pack(kind, start, sequence, attempt, table, token, m.admitted_us, total)
        if len(data) <= INLINE_BYTES_MAX:
            puts.append((keys.log_key(keys.LOG, offset), entry + data))
        else:
            puts += ((keys.log_key(keys.LOG, offset), entry), (keys.log_key(keys.LOG_BODY, offset), data))
        puts.append((id_key, _OFFSET.pack(offset)))
        if imaged:
            puts.append((keys.log_key(keys.LOG_IMAGES, offset), imaged))
        self._staged, self._staged_bytes = offset, total
        self._staged_entries.append(
            (LogEntryId(offset, start, sequence, attempt), table, token, (start, sequence, attempt), None)
        )

    def append(self, puts: Puts, kind: int, m: Mutation, data: bytes, row: bytes) -> None:
        """As `stage` and `commit`, within a group: if the engine refuses that, the log is reloaded.

        The mutation is short, has no images, and is beyond what `highest` has of its start. `row` is the key
        of the only row that it touched, b"" if it changed nothing.
        """
        start, sequence, attempt, table, token = m.start, m.sequence, m.attempt, m.table, m.token
        admitted_us = m.admitted_us
        if admitted_us > self._newest_us:
            self._newest_us = admitted_us
        self._end = self._staged = offset = self._end + 1
        self._bytes = self._staged_bytes = total = self._bytes + len(data) + ENTRY_SIZE
        entry = _ENTRY.pack(kind, start, sequence, attempt, table, token, admitted_us, total)
        puts += (
            (keys.log_key(keys.LOG, offset), entry + data),
            (keys.mutation_key(start, sequence, attempt), _OFFSET.pack(offset)),
        )
        self.highest[start] = sequence
        recent = self._recent
        mutation_id = start, sequence, attempt
        noted = row if len(row) <= NOTED_BYTES_MAX else None
        entry_id = LogEntryId(offset, start, sequence, attempt)
        recent.entries.append((entry_id, table, token, mutation_id, noted))
        recent.ids[mutation_id] = None
        if len(recent.entries) > RECENT_MAX:
            recent.forget_oldest()

    def stage_repaired(
        self, puts: Puts, table: int, row: tuple[bytes, bytes], images: Sequence[Image]
    ) -> None:
        """Add cells that came without a mutation to a batch: (row key, row or header bytes).

        Such an entry was never admitted; for trimming it counts as old as the newest before it.
        """
        key, data = row
        imaged = _images_encoder.encode(images) if images else b""
        offset = self._staged + 1
        total = self._staged_bytes + len(key) + len(data) + len(imaged) + ENTRY_SIZE
        entry = _ENTRY.pack(REPAIRED, 0, 0, 0, table, keys.token_of(key), self._newest_us, total)
        puts.append((keys.log_key(keys.LOG, offset), entry))
        puts.append((keys.log_key(keys.LOG_REPAIRED, offset), _images_encoder.encode(row)))
        if imaged:
            puts.append((keys.log_key(keys.LOG_IMAGES, offset), imaged))
        self._staged, self._staged_bytes = offset, total
        self._staged_entries.append(None)

    def stage_broken(self, puts: Puts, lost: Lost) -> None:
        """Add to a batch that rows were lost; the entry is of all tables that `lost` names."""
        data = encode_lost(lost)
        offset, total = self._staged + 1, self._staged_bytes + len(data) + ENTRY_SIZE
        entry = _ENTRY.pack(BROKEN, 0, 0, 0, TABLE_MAX, 0, self._newest_us, total)
        puts.append((keys.log_key(keys.LOG, offset), entry))
        puts.append((keys.log_key(keys.LOG_REPAIRED, offset), _images_encoder.encode((b"", data))))
        self._staged, self._staged_bytes = offset, total
        self._staged_entries.append(None)

    def stage_expired(self, puts: Puts, row: tuple[bytes, bytes], image: Image, at_us: int) -> None:
        """Add what ran out of a row, (row key, what and when: lsm/expiring.py), to a batch."""
        key, data = row
        imaged = _images_encoder.encode((image,))
        offset = self._staged + 1
        total = self._staged_bytes + len(key) + len(data) + len(imaged) + ENTRY_SIZE
        table = int.from_bytes(key[1:5], "big")
        entry = _ENTRY.pack(EXPIRED, 0, 0, 0, table, keys.token_of(key), at_us, total)
        self._staged_expired[offset] = table, keys.token_of(key), at_us
        puts.append((keys.log_key(keys.LOG, offset), entry))
        puts.append((keys.log_key(keys.LOG_REPAIRED, offset), _images_encoder.encode(row)))
        puts.append((keys.log_key(keys.LOG_IMAGES, offset), imaged))
        self._staged, self._staged_bytes = offset, total
        self._staged_entries.append(None)

    def commit(self) -> None:
        """The batch was written."""
        self._end, self._bytes = self._staged, self._staged_bytes
        staged, highest, recent = self._staged_entries, self.highest, self._recent
        for kept in staged:
            recent.entries.append(kept)
            if kept is not None:
                start, sequence, _ = mutation_id = kept[3]
                recent.ids[mutation_id] = None
                if sequence > highest.get(start, sequence):
                    highest[start] = sequence
        if staged:
            if self._staged_expired:
                recent.expired |= self._staged_expired
                self._staged_expired = {}
            if len(recent.entries) > RECENT_MAX:
                recent.forget_oldest()
            staged.clear()

    def abort(self) -> None:
        """The batch was not written: its offsets are free again."""
        self._staged, self._staged_bytes = self._end, self._bytes
        self._staged_entries.clear()
        self._staged_expired = {}

    # --- reading

    def is_beyond(self, start: int, sequence: int) -> bool:
        """Whether no mutation of this start with this sequence or a higher one was ever logged.

        Mutations of one coordinator come in order as a rule, so that most need not be looked up. What is kept
        of it are two numbers for each start of a coordinator; the first question about one is a scan.
        """
        highest = self.highest.get(start)
        if highest is None:
            first, end = keys.mutation_id_key((start, 0, 0)), keys.mutation_id_key((start, _SEQUENCE_MAX, 0))
            highest = 0
            for key, _ in self._engine.scan(first, end, reverse=True):
                highest = keys.sequence_of(key)
                break
            self.highest[start] = highest
        return sequence > highest

    def ids(self, after: int, entries_max: int, ranges: Ranges) -> LogIds:
        """Ids of events and superseded mutations above `after` whose token lies in a range of their table."""
        wanted = {table: sorted(pairs) for table, pairs in ranges}
        last = max(after, self._trimmed)
        found: list[LogEntryId] = []
        if last + 1 >= self._recent.first:
            begin, last = last, self._recent_ids(last, entries_max, wanted, found)
            expired = self._recent_expired(begin, last, wanted)
            return LogIds(tuple(found), last, self.first, self._end, expired)
        ended: list[tuple[int, int]] = []
        records = self._engine.scan(keys.log_key(keys.LOG, last + 1), keys.successor(keys.LOG))
        for examined, (key, value) in enumerate(records):
            if len(found) == entries_max or examined == LOG_SCAN_MAX:
                break
            last = keys.offset_of(key)
            entry = _decoded(key, value)
            is_told = entry.kind not in (REPAIRED, BROKEN)
            if is_told and _lies_in(entry.token, wanted.get(entry.table, ())):
                if entry.kind == EXPIRED:
                    ended.append((last, entry.admitted_us))
                else:
                    found.append(LogEntryId(last, entry.start, entry.sequence, entry.attempt))
        return LogIds(tuple(found), last, self.first, self._end, tuple(ended))

    def _recent_expired(
        self, begin: int, last: int, wanted: Mapping[int, _Tokens]
    ) -> tuple[tuple[int, int], ...]:
        """As `ids` has it, of entries that are in memory, above `begin` and up to `last`."""
        return tuple(
            (offset, at_us)
            for offset, (table, token, at_us) in self._recent.expired.items()
            if begin < offset <= last and _lies_in(token, wanted.get(table, ()))
        )

    def _recent_ids(
        self, last: int, entries_max: int, wanted: Mapping[int, _Tokens], found: list[LogEntryId]
    ) -> int:
        """As `ids`, of what is in memory: adds to `found`, returns how far it looked."""
        at = last + 1 - self._recent.first
        everywhere = [table for table, ranges in wanted.items() if list(ranges) == EVERYWHERE]
        for kept in self._recent.entries[at : at + LOG_SCAN_MAX]:
            if len(found) == entries_max:
                break
            last += 1
            if kept is not None and (kept[1] in everywhere or _lies_in(kept[2], wanted.get(kept[1], ()))):
                found.append(kept[0])
        return last

    def touched(self, after: int, entries_max: int) -> Iterator[tuple[int, bytes]]:
        """(table, row key or b"" for none) of entries after `after`, one by one, as far as memory tells."""
        at = after + 1 - self._recent.first
        for kept in self._recent.entries[at : at + entries_max] if at >= 0 else ():
            if kept is None or kept[4] is None:
                return
            yield kept[1], kept[4]

    def entries(self, after: int, entries_max: int) -> list[tuple[int, LogEntry]]:
        """(offset, entry) of all kinds above `after`, in order."""
        return [(offset, entry) for offset, entry, _ in self.records(after, entries_max)]

    def records(self, after: int, entries_max: int) -> Iterator[tuple[int, LogEntry, bytes]]:
        """The same with the records, of which `body` makes mutations."""
        first = keys.log_key(keys.LOG, max(after, self._trimmed) + 1)
        for count, (key, value) in enumerate(self._engine.scan(first, keys.successor(keys.LOG))):
            if count == entries_max:
                break
            yield keys.offset_of(key), _decoded(key, value), value

    def changes(self, wanted: LogChanges, end: int | None = None) -> ChangesLogged:
        """Entries of all kinds of one table in these ranges, with what they log; see LogChanges.

        The log is taken to end at `end`, if that is given.
        """
        end = self._end if end is None else end
        if wanted.after == AT_END:
            return ChangesLogged((), end, self.first, end)
        ranges = sorted(wanted.ranges)
        found: list[LoggedChange] = []
        first = self._first_of(wanted.table)
        size, last = 0, max(wanted.after, first - 1)
        records = self._engine.scan(keys.log_key(keys.LOG, last + 1), keys.log_key(keys.LOG, end + 1))
        for examined, (key, value) in enumerate(records):
            if len(found) == wanted.entries_max or examined == LOG_SCAN_MAX or size >= wanted.bytes_max:
                break
            entry = _decoded(key, value)
            offset = keys.offset_of(key)
            if entry.kind == BROKEN:
                found += self._broken(offset, wanted.table, ranges)
                last = offset
                continue
            is_wanted = entry.table == wanted.table and _lies_in(entry.token, ranges)
            if is_wanted and (entry.kind == REPAIRED or entry.admitted_us >= wanted.since_us):
                change = self._change(offset, entry, value)
                if found and size + len(change.data) + len(change.images) > wanted.bytes_max:
                    break
                size += len(change.data) + len(change.images)
                found.append(change)
            last = offset
        return ChangesLogged(tuple(found), last, first, end)

    def _broken(self, offset: int, table: int, ranges: _Tokens) -> list[LoggedChange]:
        """A broken entry as who reads these ranges of a table needs it: one for it, or none."""
        kept = self.repaired(offset)
        if kept is None:
            raise CorruptionError(f"log entry {offset} has lost what was lost")
        first_leaf, end_leaf = decode_lost(kept[1]).leaves_of(table, LEAVES)
        if first_leaf >= end_leaf:
            return []
        first, last = leaf_tokens(first_leaf)[0], leaf_tokens(end_leaf - 1)[1]
        if not any(begin <= last and first <= end for begin, end in ranges):
            return []
        return [LoggedChange(offset, BROKEN, first, msgspec.msgpack.encode((first, last)), b"")]

    def _change(self, offset: int, entry: LogEntry, record: bytes) -> LoggedChange:
        if entry.kind >= REPAIRED:
            repaired = self.repaired(offset)
            if repaired is None:
                raise CorruptionError(f"log entry {offset} has lost its row")
            if entry.kind == EXPIRED:
                images = self._engine.get(keys.log_key(keys.LOG_IMAGES, offset))
                ended = _images_encoder.encode(repaired)
                return LoggedChange(offset, EXPIRED, entry.token, ended, images or b"")
            return LoggedChange(offset, REPAIRED, entry.token, repaired[0], b"")
        data = self.body(offset, record)
        if data is None:
            raise CorruptionError(f"log entry {offset} has lost its mutation")
        images = self._engine.get(keys.log_key(keys.LOG_IMAGES, offset))
        return LoggedChange(offset, entry.kind, entry.token, data, images or b"")

    def missing(self, ids: Sequence[MutationId]) -> tuple[MutationId, ...]:
        """Those ids that this log has never held."""
        get, id_key, recent = self._engine.get, keys.mutation_id_key, self._recent.ids
        return tuple([item for item in ids if item not in recent and get(id_key(item)) is None])

    def forget(self, ids: Sequence[MutationId]) -> None:
        """These were never held: their entries stay, but who brings one again brings news."""
        for item in ids:
            self._recent.ids.pop(item, None)
        self._engine.write([(keys.mutation_id_key(item), None) for item in ids])

    def offset_of(self, mutation_id: MutationId) -> int | None:
        """Where a mutation is or was logged."""
        value = self._engine.get(keys.mutation_id_key(mutation_id))
        return None if value is None else int.from_bytes(value, "big")

    def mutations(self, offsets: Sequence[int], bytes_max: int) -> tuple[tuple[int, bytes], ...]:
        """(offset, mutation bytes) of those still held, in the order asked, at least one, while they fit."""
        found: list[tuple[int, bytes]] = []
        size = 0
        for offset in offsets:
            record = self._engine.get(keys.log_key(keys.LOG, offset)) if offset > self._trimmed else None
            data = None if record is None else self.body(offset, record)
            if data is None:
                continue
            if found and size + len(data) > bytes_max:
                break
            found.append((offset, data))
            size += len(data)
        return tuple(found)

    def body(self, offset: int, record: bytes) -> bytes | None:
        """The mutation of an entry's record, or in the record beside it."""
        if len(record) > ENTRY_SIZE:
            return record[ENTRY_SIZE:]
        return self._engine.get(keys.log_key(keys.LOG_BODY, offset))

    def images(self, offset: int) -> tuple[Image, ...]:
        """The images logged at this offset."""
        data = self._engine.get(keys.log_key(keys.LOG_IMAGES, offset))
        return () if data is None else _images_decoder.decode(data)

    def repaired(self, offset: int) -> tuple[bytes, bytes] | None:
        """(row key, bytes that came) of a repaired entry; of a broken one what was lost (b"", Lost)."""
        data = self._engine.get(keys.log_key(keys.LOG_REPAIRED, offset))
        return None if data is None else _repaired_decoder.decode(data)

    def lag(self, wanted: LogLag) -> LogLagged:
        """How much is behind each of some places; see LogLag."""
        starts = [max(after, self._first_of(wanted.table) - 1) for after, _ in wanted.wants]
        counts, sizes, oldest = [0] * len(starts), [0] * len(starts), [0] * len(starts)
        ranges = [sorted(pairs) for _, pairs in wanted.wants]
        first = min(starts, default=self._end)
        known = self.entries(first - 1, LAG_SCAN_MAX + 1) if first < self._end else []
        total = self._trimmed_bytes
        for offset, entry in known:
            size, total = entry.bytes_total - total, entry.bytes_total
            if offset <= first or entry.table != wanted.table or entry.kind in (REPAIRED, BROKEN):
                continue
            for number, start in enumerate(starts):
                if offset > start and _lies_in(entry.token, ranges[number]):
                    counts[number] += 1
                    sizes[number] += size
                    oldest[number] = oldest[number] or entry.admitted_us
        is_cut = bool(known) and known[-1][0] < self._end
        return LogLagged(tuple(Lag(*each, is_cut) for each in zip(counts, sizes, oldest, strict=True)))

    # --- forgetting (lsm/trimming.py)

    @property
    def trimmed(self) -> tuple[int, int]:
        """The last offset that is not held any more, and the bytes logged up to and with it."""
        return self._trimmed, self._trimmed_bytes

    def trimmed_to(self, last: int, last_bytes: int) -> None:
        """What is up to `last` is not held any more, whose `bytes_total` is `last_bytes`."""
        gone = [table for table, offset in self.forgotten.items() if offset <= last]
        puts: Puts = [(FORGOTTEN_KEY + table.to_bytes(4, "big"), None) for table in gone]
        self._engine.write([(keys.TRIMMED_KEY, _OFFSET.pack(last) + _OFFSET.pack(last_bytes)), *puts])
        self._trimmed, self._trimmed_bytes = last, last_bytes
        for table in gone:
            del self.forgotten[table]

    def remove_trimmed(self) -> None:
        """Remove the records of what is not held any more."""
        for region in (keys.LOG, keys.LOG_BODY, keys.LOG_IMAGES, keys.LOG_REPAIRED):
            self._engine.delete_range(region, keys.log_key(region, self._trimmed + 1))

    def _first_of(self, table: int) -> int:
        """The oldest offset that a reader of a table may have."""
        return max(self._trimmed, self.forgotten.get(table, 0)) + 1


def _pair(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")


def _lies_in(token: int, ranges: Sequence[tuple[int, int]]) -> bool:
    at = bisect_right(ranges, (token, keys.TOKEN_MAX))
    return at > 0 and ranges[at - 1][0] <= token <= ranges[at - 1][1]
