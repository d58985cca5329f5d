"""Copying what can be read of a damaged database into a new one, and saying what could not.

A block that fails its checksum cannot be removed from a database that is in use: reading over it fails, and
the compaction that meets it stops all writes. So a damaged database is copied, region by region: where
reading fails, the copy goes on at the next key from which it succeeds, and what lies between is a *hole*.

What a hole means depends on the region:

- rows, Paxos state: a range of rows is lost (lsm/lost.py) until other replicas have given it back, whole:
  what
  is left in its leaves of the hash tree is dropped. The log, if it goes on, says so at its end: what is
  written there before the rows are back finds nothing, so images do not continue those before;
- the hash tree, and the notes of what there is to purge, are not copied but made anew from the rows that are
  there: a deletion without its note would stay for ever, and on this replica alone;
- the log: a log with a hole would be followed as if it had none. It is forgotten as a whole and goes on
  far behind its end, so that whoever follows it finds a gap (node/following.py) and no offset is used twice;
- notes of what runs out (lsm/expiring.py): they are made anew from the rows, of whatever table, so that what
  was told may be told again, under its id;
- index entries: all indexes are built anew (their records of progress are left out);
- notes of sweeps: every partition that has a header is swept once more;
- mutation ids: they stand in the log, too; of those that it has forgotten, what comes again is merged again,
  which changes nothing;
- hints, and how far siblings were followed: they are fewer, or followed anew;
- other system records (who this is, what it voted for, its clock): a peer without them may break its word,
  so the copy is refused (CorruptionError) and the peer has to be rebuilt.

Rows, headers and Paxos records that do not decode count as holes, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Final, NamedTuple

import msgspec

from core.cell import NO_VERSION, Version
from core.errors import CorruptionError
from core.limits import MIB, SECOND_US
from core.ports import Engine
from core.row import newest_version
from lsm import keys
from lsm.expiring import AHEAD_MAX, SWEPT_KEY, moments
from lsm.hash_tree import LEAVES, LEAVES_PER_BRANCH, leaf_of, leaf_tokens, record_hash
from lsm.log import ENTRY_BYTES_AT, ENTRY_SIZE, ChangeLog, Puts, id_in
from lsm.lost import LOST_PREFIX, TABLE_MAX, Lost, encode_lost
from lsm.paxos import check_record
from lsm.purge import due_of, due_of_header, note
from lsm.reading import stored_header, stored_row

BATCH_BYTES: Final = 1 * MIB
LOG_JUMP: Final = 1_000_000
"""How far behind the last offset seen a forgotten log goes on."""

NEWEST_AHEAD_US: Final = 1 * SECOND_US

INDEX_RECORDS: Final = b"index/"
EXPENDABLE: Final = (b"hint/", b"follow/", INDEX_RECORDS, b"batch/")
"""System records that may be missing: others bring what they stood for."""

LOG_REGIONS: Final = (keys.LOG, keys.LOG_BODY, keys.LOG_IMAGES, keys.LOG_REPAIRED)
_MASK: Final = 2**64 - 1


class Hole(NamedTuple):
    """Nothing between these two keys, neither included, could be read."""

    after: bytes
    before: bytes


class Salvaged(msgspec.Struct, frozen=True):
    """What a copy holds: so many records; what is lost; how many holes; whether the log was forgotten."""

    records: int
    lost: tuple[Lost, ...]
    holes: int
    log_forgotten: bool


Record = tuple[bytes, bytes]
Place = tuple[int, int]


def salvage(source: Engine, target: Engine) -> Salvaged:
    """Copy everything readable into an empty engine; its caller syncs it.

    Raises CorruptionError if something is missing without which this peer must not go on.
    """
    return _Copy(source, target).go()


def readable(source: Engine, first: bytes, end: bytes) -> Iterator[Record | Hole]:
    """The records of [first, end) and the holes between them, in key order."""
    at, last = first, first
    while at < end:
        try:
            for key, value in source.scan(at, end):
                last = key
                yield key, value
            return
        except CorruptionError:
            at = _next_readable(source, last, end)
            yield Hole(last, at)


def _next_readable(source: Engine, after: bytes, end: bytes) -> bytes:
    """A key above `after` from which records can be read again, about the least; `end` if there is none."""

    def is_good(key: bytes) -> bool:
        try:
            for _ in source.scan(key, end):
                break
        except CorruptionError:
            return False
        return True

    low, high = after + b"\0", end
    for length in range(len(after), 0, -1):
        try:
            candidate = keys.successor(after[:length])
        except ValueError:
            break
        if candidate >= end:
            break
        if is_good(candidate):
            high = candidate
            break
        low = max(low, candidate)
    width = max(len(low), len(high), len(after)) + 8
    a, b = (int.from_bytes(key.ljust(width, b"\0"), "big") for key in (low, high))
    while b - a > 1:
        middle = (a + b) // 2
        if is_good(middle.to_bytes(width, "big")):
            b = middle
        else:
            a = middle
    return min(b.to_bytes(width, "big"), end)


class _Copy:
    """One copy under way."""

    def __init__(self, source: Engine, target: Engine) -> None:
        self._source = source
        self._target = target
        self._puts: list[tuple[bytes, bytes | None]] = []
        self._size = 0
        self._records = 0
        self._holes: dict[bytes, list[Hole]] = {}
        self._lost: list[Lost] = []
        self._log_end, self._log_bytes = 0, 0
        self._newest: Version = NO_VERSION
        self._headers: list[bytes] = []
        self._expired_us = 0

    def go(self) -> Salvaged:
        """Region by region; what others decide comes last."""
        for region in (keys.MUTATION_ID, *LOG_REGIONS):
            self._region(region, self._note_offset)
        self._region(keys.ENTRY)
        self._region(keys.SWEEP)
        self._region(keys.EXPIRY)
        with suppress(CorruptionError):
            self._expired_us = int.from_bytes(self._source.get(SWEPT_KEY) or b"", "big")
        self._rows()
        for region in (keys.PAXOS, keys.PROPOSAL):
            self._region(region, check_record)
        self._system()
        log_forgotten = self._meta()
        self._flush()
        self._drop_lost()
        for number, lost in enumerate(self._lost, self._first_free_note()):
            self._target.write([(keys.system_key(LOST_PREFIX + b"%016x" % number), encode_lost(lost))])
        if self._lost and not log_forgotten:
            self._break_log()
        holes = sum(map(len, self._holes.values()))
        return Salvaged(self._records, tuple(self._lost), holes, log_forgotten)

    def _break_log(self) -> None:
        """Say at the end of the log which rows were lost. A log that is forgotten tells a gap anyway."""
        log = ChangeLog(self._target)
        puts: Puts = []
        for lost in self._lost:
            log.stage_broken(puts, lost)
        self._target.write(puts)

    def _first_free_note(self) -> int:
        """Above all notes that were copied: a range whose note is written over would be believed at once."""
        prefix = keys.system_key(LOST_PREFIX)
        numbers = [
            int(key[len(prefix) :], 16) for key, _ in self._target.scan(prefix, keys.successor(prefix))
        ]
        return max(numbers, default=0) + 1

    def _drop_lost(self) -> None:
        """Remove what is left of the leaves in which something is lost.

        A deletion may be among what is lost, and others have purged it and all that it deleted: what is left
        here
        would come back from it.
        """
        target = self._target
        for lost in self._lost:
            first = keys.token_range_bounds(
                lost.first_table, leaf_tokens(lost.first_leaf)[0], keys.TOKEN_MAX
            )[0]
            end = keys.token_range_bounds(lost.last_table, keys.TOKEN_MIN, leaf_tokens(lost.last_leaf)[1])[1]
            target.delete_range(first, end)
            puts: list[tuple[bytes, bytes | None]] = []
            branches: dict[Place, int] = {}
            sums = target.scan(keys.tree_key(lost.first_table, 0, 0), keys.tree_key(lost.last_table, 1, 0))
            for key, value in sums:
                table, leaf = keys.tree_place(key)
                if key[5] != 0:
                    continue
                branch = (table, leaf // LEAVES_PER_BRANCH)
                if lost.hits(table, leaf, leaf + 1):
                    puts.append((key, None))
                    branches.setdefault(branch, 0)
                else:
                    branches[branch] = branches.get(branch, 0) + int.from_bytes(value, "big")
            for (table, branch_at), total in branches.items():
                total &= _MASK
                puts.append((keys.tree_key(table, 1, branch_at), total.to_bytes(8, "big") if total else None))
            target.write(puts)

    # --- writing

    def _put(self, key: bytes, value: bytes) -> None:
        self._puts.append((key, value))
        self._size += len(key) + len(value)
        if self._size > BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._puts:
            self._target.write(self._puts)
        self._puts, self._size = [], 0

    # --- regions

    def _region(self, region: bytes, look: Callable[[bytes, bytes], None] | None = None) -> None:
        """Copy a region; `look` raises CorruptionError for a record that is none."""
        for found in readable(self._source, region, keys.successor(region)):
            if isinstance(found, Hole):
                self._hole(region, found)
                continue
            key, value = found
            try:
                if look is not None:
                    look(key, value)
            except CorruptionError:
                self._hole(region, Hole(key, key))
                continue
            self._records += 1
            self._put(key, value)

    def _hole(self, region: bytes, hole: Hole) -> None:
        self._holes.setdefault(region, []).append(hole)
        if region in (keys.ROW, keys.PAXOS, keys.PROPOSAL):
            first_table, first_leaf = _place(region, hole.after, (0, 0))
            last_table, last_leaf = _place(region, hole.before, (TABLE_MAX, LEAVES - 1))
            self._lost.append(Lost(first_table, first_leaf, last_table, last_leaf))

    def _note_offset(self, key: bytes, value: bytes) -> None:
        """Follow how far the log reached."""
        if key[:1] == keys.MUTATION_ID:
            self._log_end = max(self._log_end, int.from_bytes(value, "big"))
            return
        self._log_end = max(self._log_end, keys.offset_of(key))
        if key[:1] == keys.LOG:
            if len(value) < ENTRY_SIZE:
                raise CorruptionError(f"log entry {keys.offset_of(key)} is damaged")
            self._log_bytes = max(self._log_bytes, int.from_bytes(value[ENTRY_BYTES_AT:ENTRY_SIZE], "big"))
            mutation_id = id_in(value)
            if mutation_id is not None and self._holes.get(keys.MUTATION_ID):
                self._put(keys.mutation_id_key(mutation_id), keys.offset_of(key).to_bytes(8, "big"))

    def _rows(self) -> None:
        """Rows and headers, with the hash tree and the notes of garbage that follow from them."""
        leaf_at: tuple[int, int] | None = None
        total = branch_total = 0
        rows = readable(self._source, keys.ROW, keys.successor(keys.ROW))
        for found in chain(rows, (None,)):
            if isinstance(found, Hole):
                self._hole(keys.ROW, found)
                continue
            place = None
            if found is not None:
                if not self._is_row(*found):
                    self._hole(keys.ROW, Hole(found[0], found[0]))
                    continue
                place = (int.from_bytes(found[0][1:5], "big"), leaf_of(keys.token_of(found[0])))
            if place != leaf_at:
                if leaf_at is not None:
                    self._put_sum(leaf_at[0], 0, leaf_at[1], total)
                    branch = (leaf_at[0], leaf_at[1] // LEAVES_PER_BRANCH)
                    branch_total += total
                    if place is None or branch != (place[0], place[1] // LEAVES_PER_BRANCH):
                        self._put_sum(branch[0], 1, branch[1], branch_total)
                        branch_total = 0
                leaf_at, total = place, 0
            if found is not None:
                total += record_hash(*found)
                self._records += 1
                self._put(*found)

    def _is_row(self, key: bytes, value: bytes) -> bool:
        """Whether it decodes; what else has to be known of rows is noted, and when something of it may go."""
        try:
            if key[keys.prefix_end(key) :] == keys.HEADER_SUFFIX:
                due_us = due_of_header(stored_header(key, value))
                self._headers.append(key[: -len(keys.HEADER_SUFFIX)])
            else:
                row = stored_row(key, value)
                due_us = due_of(row, key[keys.prefix_end(key) :])
                self._newest = max(self._newest, newest_version(row))
                if self._holes.get(keys.EXPIRY):
                    for at_us in moments(row, self._expired_us)[:AHEAD_MAX]:
                        self._put(keys.expiry_key(at_us, key), b"")
        except (CorruptionError, ValueError):
            return False
        note(self._puts, key, due_us)
        return True

    def _put_sum(self, table: int, level: int, index: int, total: int) -> None:
        if total & _MASK:
            self._put(keys.tree_key(table, level, index), (total & _MASK).to_bytes(8, "big"))

    def _system(self) -> None:
        """System records; those that say how far indexes are built only if no entry is lost."""
        rebuild = bool(self._holes.get(keys.ENTRY))
        skipped = keys.system_key(INDEX_RECORDS)
        for found in readable(self._source, keys.SYSTEM, keys.successor(keys.SYSTEM)):
            if isinstance(found, Hole):
                if not any(_lies_in(found, keys.system_key(prefix)) for prefix in EXPENDABLE):
                    text = "records of who this peer is, and what it promised, are damaged"
                    raise CorruptionError(f"{text} (between {found.after!r} and {found.before!r})")
                self._holes.setdefault(keys.SYSTEM, []).append(found)
            elif not (rebuild and found[0].startswith(skipped)):
                self._records += 1
                self._put(*found)
        if self._holes.get(keys.SWEEP):
            for prefix in self._headers:
                self._put(keys.sweep_key(prefix), b"")

    def _meta(self) -> bool:
        """What the store knows of itself; whether the log had to be forgotten."""
        damaged = False
        for found in readable(self._source, keys.META, keys.successor(keys.META)):
            if isinstance(found, Hole):
                damaged = True
                self._holes.setdefault(keys.META, []).append(found)
            else:
                self._put(*found)
                if found[0] == keys.TRIMMED_KEY:
                    self._log_end = max(self._log_end, int.from_bytes(found[1][:8], "big"))
        if damaged and self._newest != NO_VERSION:
            bound_us = max(0, self._newest[0]) + NEWEST_AHEAD_US
            self._put(keys.NEWEST_KEY, bound_us.to_bytes(8, "big"))
        if not damaged and not any(self._holes.get(region) for region in LOG_REGIONS):
            return False
        self._flush()
        for region in LOG_REGIONS:
            self._target.delete_range(region, keys.successor(region))
        end = self._log_end + LOG_JUMP
        self._put(keys.TRIMMED_KEY, end.to_bytes(8, "big") + self._log_bytes.to_bytes(8, "big"))
        return True


def _place(region: bytes, key: bytes, default: tuple[int, int]) -> tuple[int, int]:
    """(table, leaf) of a key in a region that is ordered as rows are, or of a bound of it."""
    if key[:1] != region or len(key) < 2:
        return default
    padded = key.ljust(13, b"\0")
    return int.from_bytes(padded[1:5], "big"), leaf_of(int.from_bytes(padded[5:13], "big") - 2**63)


def _lies_in(hole: Hole, prefix: bytes) -> bool:
    return hole.after.startswith(prefix) and hole.before <= keys.successor(prefix)
