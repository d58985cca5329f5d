"""Writing: merge what comes into what is stored, and put all that follows from it into one batch.

A `_Change` collects one batch: the records, the differences of hash-tree leaves, the names of what was
written. `Writer` fills it from a mutation (`apply`), from cells without one (`merge`), or from a partition's
tombstones (`sweep`), and writes it. State in memory (log offsets, cached sums, sweeps) moves only after that.

A row is put in normal form under its partition's tombstones whenever it is written; those that are merely
covered stay as they are until the sweeper has come by, masked from readers (lsm/reading.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from core.cell import NO_VERSION, Version
from core.commands import Applied, Failed, Merged, Outcome, Sweep, Swept, Why
from core.healing import Purge
from core.limits import RANGE_TOMBSTONES_MAX, SECOND_US
from core.mutation import Mutation
from core.ports import Engine, Entries
from core.row import (
    EMPTY_HEADER,
    EMPTY_ROW,
    OPERATION_SUFFIX,
    Header,
    Row,
    covered,
    decode_header,
    decode_row,
    encode_header,
    encode_row,
    merge_headers,
    merge_rows,
    newest_version,
    normal,
)
from core.schema import Table
from lsm import keys
from lsm.commit import Unsynced
from lsm.conflict import newer_met
from lsm.expiring import Expiring
from lsm.floors import Floors
from lsm.growth import has_grown, too_large
from lsm.hash_tree import HashTree, leaf_of, record_hash
from lsm.images import flags_of, image_of, runs_out
from lsm.log import EVENT, SUPERSEDED, ChangeLog, Image
from lsm.purge import due_of, due_of_header, look, note, purged, purged_header
from lsm.reading import stored_header, stored_row

HEADER_CONFLICT_ROWS_MAX = 1_000
"""Rows of a partition that a range deletion looks at for newer versions; beyond it the newest version that
this store has ever seen in such tables stands for the rest."""

NEWEST_AHEAD_US = 1 * SECOND_US
"""How far ahead of the newest version its durable bound is put, so that it is written once a second at most;
after a restart the bound stands for that version.
"""


Puts = list[tuple[bytes, bytes | None]]


class Info(Protocol):
    """What writing has to know of a table."""

    schema: Table
    has_clustering: bool
    changes: str
    plain: bool
    """Nothing but rows: no clustering columns, no indexes."""
    prefix: bytes


class _Change:
    """One batch in the making."""

    __slots__ = ("deltas", "names", "newest", "pending", "puts", "too_large")

    def __init__(self) -> None:
        self.puts: list[tuple[bytes, bytes | None]] = []
        self.deltas: dict[int, int] = {}
        self.names: list[bytes] = []
        self.newest: Version = NO_VERSION
        self.pending: dict[bytes, bytes | None] = {}
        self.too_large = ""
        """Why a document would become too large to be patched further."""

    def put(self, leaf: int, key: bytes, old: bytes | None, new: bytes | None) -> None:
        """Replace a row or header record."""
        delta = self.deltas.get(leaf, 0)
        if old is not None:
            delta -= record_hash(key, old)
        if new is not None:
            delta += record_hash(key, new)
        self.deltas[leaf] = delta
        self.puts.append((key, new))
        self.names.append(key)
        self.pending[key] = new


class Writer:
    """The writing half of a store."""

    def __init__(
        self,
        engine: Engine,
        log: ChangeLog,
        tree: HashTree,
        unsynced: Unsynced,
        entries: Entries | None,
        *,
        floors: Floors,
    ) -> None:
        self._engine = engine
        self._log = log
        self._tree = tree
        self._unsynced = unsynced
        self._entries = entries
        self._floors = floors
        self.expiring = Expiring(engine, log)
        self.reload()
        self._sweeps: OrderedDict[bytes, bytes] = OrderedDict()
        for key, _ in engine.scan(keys.SWEEP, keys.successor(keys.SWEEP)):
            self._sweeps[key[1:]] = b""

    def reload(self) -> None:
        """Find the durable bound of all versions."""
        bound = self._engine.get(keys.NEWEST_KEY)
        self._newest_bound_us = 0 if bound is None else int.from_bytes(bound, "big")
        self._newest: Version = (self._newest_bound_us, 0) if bound is not None else NO_VERSION
        self.expiring.reload()

    # --- mutations

    def apply_beside(
        self, mutation: Mutation | None, data: bytes, info: Info, prefix: bytes, *, beside: Puts
    ) -> tuple[Outcome, int]:
        """As `apply`, with other records in the same batch; without a mutation they alone are written."""
        if mutation is not None:
            return self.apply(mutation, data, info, prefix, beside)
        return Applied(None, fresh=False), self._write_beside(beside)

    def _write_beside(self, beside: Puts) -> int:
        if beside:
            sequence = self._engine.write(beside)
            self._unsynced.wrote([key for key, _ in beside], sequence)
        return self._engine.written()

    def apply(
        self,
        mutation: Mutation,
        data: bytes,
        info: Info,
        prefix: bytes,
        beside: Puts | None = None,
        *,
        followed: bool = False,
    ) -> tuple[Outcome, int]:
        """Merge a mutation whose bytes are `data`; one that is logged already is only compared.

        `prefix` is its partition's key prefix. The records `beside` are written in any case: they come with
        what was decided, which is as if it were `followed` (core/commands.py).
        """
        id_key = keys.mutation_id_key((mutation.start, mutation.sequence, mutation.attempt))
        fresh = self._log.is_beyond(mutation.start, mutation.sequence) or self._engine.get(id_key) is None
        if fresh and self._floors.tables:
            limit_us = self._floors.refuses(
                info.schema.id, mutation.token, mutation.admitted_us, followed=followed or beside is not None
            )
            if limit_us and beside is not None:  # then everybody has applied it long ago
                return Applied(None, fresh=False), self._write_beside(beside)
            if limit_us:
                text = f"what was admitted by {limit_us} and is not here by now is not written any more"
                return Failed(Why.BELOW_FLOOR, text, limit_us), 0
        if info.plain and fresh and beside is None and len(mutation.rows) == 1:
            return self._apply_plain(mutation, data, info, prefix + mutation.rows[0][0], id_key=id_key)
        change = _Change()
        leaf = leaf_of(mutation.token)
        header, header_changed = None, False
        if info.has_clustering:
            header_key = prefix + keys.HEADER_SUFFIX
            stored = self._engine.get(header_key)
            header = None if stored is None else stored_header(header_key, stored)
            if mutation.header is not None:
                before = header or EMPTY_HEADER
                header = merge_headers(before, mutation.header)
                if len(header.ranges) > RANGE_TOMBSTONES_MAX and beside is None:
                    text = f"over {RANGE_TOMBSTONES_MAX} range tombstones in one partition"
                    return Failed(Why.TOO_LARGE, text), 0
                header_changed = header != before
                if header_changed:
                    self._put_header(change, leaf, header_key, stored, header)
        met, changed, images = self._apply_rows(change, prefix, header, mutation, info)
        if not fresh:
            self._log.abort()
        if change.too_large and fresh and beside is None:  # what Paxos decides is applied whatever it is
            self._log.abort()
            return Failed(Why.TOO_LARGE, change.too_large), 0
        if mutation.header is not None:
            met = max(met, self._newer_than_header(prefix, mutation.header))
        if fresh:
            kind = EVENT if changed or header_changed else SUPERSEDED
            self._log.stage(change.puts, kind, mutation, data, images, id_key=id_key)
            if beside:
                change.puts += beside
                change.names += [key for key, _ in beside]
            if info.has_clustering:
                change.newest = max((newest_version(row) for _, row in mutation.rows), default=NO_VERSION)
            sequence = self._write(info, change, (prefix,) if info.has_clustering else ())
            if header_changed:
                self._sweeps[prefix] = b""
                self._sweeps.move_to_end(prefix)
        else:
            sequence = self._write_beside(beside or [])
        return Applied(None if met == NO_VERSION else met, fresh), sequence

    def _apply_plain(
        self, mutation: Mutation, data: bytes, info: Info, key: bytes, *, id_key: bytes
    ) -> tuple[Outcome, int]:
        """As `apply`, for what nearly all writes are: one row of a table that is nothing but rows, met for
        the first time. It is the hot path of the whole store: here Python costs a third less.
        """
        addition = mutation.rows[0][1]
        old = self._engine.get(key)
        met, stored = NO_VERSION, EMPTY_ROW
        if old is None:
            merged = normal(addition.deletion, addition.cells)
        else:
            stored = stored_row(key, old)
            met = newer_met(stored, addition, NO_VERSION)
            merged = merge_rows(stored, addition)
        new = _row_bytes(merged)
        puts: Puts = []
        changed = new != old
        if changed:
            if has_grown(stored, merged, old, new):
                text = too_large(merged)
                if text:
                    return Failed(Why.TOO_LARGE, text), 0
            puts.append((key, new))
            due_us = due_of(merged, mutation.rows[0][0])
            if due_us:
                note(puts, key, due_us)
        log, tree = self._log, self._tree
        images: tuple[Image, ...] = ()
        if info.changes != "none" and mutation.rows[0][0][:1] != OPERATION_SUFFIX:
            rows, written = (stored, merged, addition), (key, mutation.rows[0][0], old, new)
            images = (self._image(puts, rows, written, info.changes, (mutation.admitted_us, NO_VERSION)),)
        log.stage(puts, EVENT if changed else SUPERSEDED, mutation, data, images, id_key=id_key)
        try:
            sums = None
            if changed:
                delta = 0 if new is None else record_hash(key, new)
                if old is not None:
                    delta -= record_hash(key, old)
                sums = tree.stage_one(info.schema.id, leaf_of(mutation.token), delta, puts)
            sequence = self._engine.write(puts)
        except BaseException:
            log.abort()
            raise
        log.commit()
        if sums is not None:
            tree.commit(sums)
            self._unsynced.wrote((key, info.prefix), sequence)
            self._floors.dead_runs.wrote(puts)
        return Applied(None if met == NO_VERSION else met, True), sequence

    def stored(self, prefix: bytes, has_clustering: bool, suffix: bytes) -> tuple[Row, Version]:
        """A row in normal form, and the version up to which its partition's tombstones cover it."""
        floor = NO_VERSION
        if has_clustering:
            header_key = prefix + keys.HEADER_SUFFIX
            header = self._engine.get(header_key)
            if header is not None:
                floor = covered(stored_header(header_key, header), suffix)
        key = prefix + suffix
        data = self._engine.get(key)
        row = EMPTY_ROW if data is None else stored_row(key, data)
        return (row if floor == NO_VERSION else normal(row.deletion, row.cells, floor)), floor

    def _apply_rows(
        self, change: _Change, prefix: bytes, header: Header | None, mutation: Mutation, info: Info
    ) -> tuple[Version, bool, list[Image]]:
        """Merge the rows of a mutation; returns the newest version met, whether anything changed, and the
        images.
        """
        met, changed = NO_VERSION, False
        images: list[Image] = []
        leaf = leaf_of(mutation.token)
        for suffix, addition in mutation.rows:
            key = prefix + suffix
            floor = NO_VERSION if header is None else covered(header, suffix)
            before = old = self._engine.get(key)
            stored = EMPTY_ROW if old is None else stored_row(key, old)
            if floor != NO_VERSION:
                stored = normal(stored.deletion, stored.cells, floor)
                before = _row_bytes(stored)
            if stored is not EMPTY_ROW:
                met = max(met, newer_met(stored, addition, floor))
            merged = merge_rows(stored, addition, floor)
            new = _row_bytes(merged)
            if new != before:
                changed = True
                if has_grown(stored, merged, before, new):
                    change.too_large = change.too_large or too_large(merged)
            if new != old:
                self._put_row(change, leaf, (key, old, new), info)
                note(change.puts, key, due_of(merged, suffix))
            if info.changes != "none" and suffix[:1] != OPERATION_SUFFIX:
                rows, written = (stored, merged, addition), (key, suffix, before, new)
                at = mutation.admitted_us, floor
                images.append(self._image(change.puts, rows, written, info.changes, at))
        return met, changed, images

    def _image(
        self,
        puts: Puts,
        rows: tuple[Row, Row, Row],
        written: tuple[bytes, bytes, bytes | None, bytes | None],
        changes: str,
        at: tuple[int, Version],
    ) -> Image:
        """What the log says of a row that is being written; what of it ran out before is logged first.

        `rows` are the row before, after, and what came; `written` its key and suffix and the bytes of the
        first two; `at` is the time of admission, and up to which version its partition's tombstones cover it.
        """
        stored, merged, _ = rows
        key, suffix, before, after = written
        now_us, floor = at
        if runs_out(stored):
            now_us = self.expiring.before_write(puts, (key, stored, before), changes, now_us)
        else:
            now_us = max(now_us, self.expiring.swept_us)
        if runs_out(merged):
            self.expiring.note(puts, key, merged, now_us)
        return image_of(changes, suffix, before, after, flags_of(rows, floor, now_us))

    def _newer_than_header(self, prefix: bytes, header: Header) -> Version:
        """The newest version among rows that a mutation's deletions name but do not reach."""
        first, end = keys.STATIC_SUFFIX, b""
        if header.deletion is None and header.ranges:
            first = min(item.first for item in header.ranges)
            end = max(item.end for item in header.ranges)
        met = NO_VERSION
        rows = self._engine.scan(prefix + first, prefix + end if end else keys.successor(prefix))
        for looked_at, (key, data) in enumerate(rows):
            if looked_at == HEADER_CONFLICT_ROWS_MAX:
                return max(met, self._newest) if self._newest > _oldest(header) else met
            version = covered(header, key[len(prefix) :])
            if version != NO_VERSION:
                newest = newest_version(stored_row(key, data))
                if newest > version:
                    met = max(met, newest)
        return met

    # --- cells without a mutation

    def merge(
        self, table: int, rows: Sequence[tuple[bytes, bytes]], info: Info, settled_us: int
    ) -> tuple[Outcome, int]:
        """Merge rows and headers (key, bytes) that come from another replica, logging each that changes
        something. Where the floor is above `settled_us` nothing is merged.
        """
        fenced = False
        change = _Change()
        logged: list[tuple[tuple[bytes, bytes], list[Image]]] = []
        prefixes: list[bytes] = []
        swept: list[bytes] = []
        try:
            for key, data in sorted(rows):  # a header sorts before the rows it covers
                end = keys.prefix_end(key)
                if self._floor_us(key) > settled_us:
                    fenced = True
                    continue
                if key[end:] == keys.HEADER_SUFFIX:
                    image, is_changed = None, self._merge_header(change, key, data)
                    swept += [key[:end]] if is_changed else []
                else:
                    image, is_changed = self._merge_row(change, key, data, info)
                if is_changed:
                    logged.append(((key, data), [] if image is None else [image]))
                    prefixes.append(key[:end])
        except msgspec.DecodeError as error:
            return Failed(Why.MALFORMED, f"a row to merge does not decode: {error}"), 0
        if change.puts:
            for row, images in logged:
                self._log.stage_repaired(change.puts, table, row, images)
            self._write(info, change, prefixes)
            for prefix in swept:
                self._sweeps[prefix] = b""
        if fenced:
            return Failed(Why.FENCED, "rows read before a floor was raised: read them again"), 0
        return Merged(len(logged)), self._engine.written()

    def _floor_us(self, key: bytes) -> int:
        """The floor where this row, header or partition lies."""
        if not self._floors.tables:
            return 0
        return self._floors.at(int.from_bytes(key[1:5], "big"), leaf_of(keys.token_of(key))).floor_us

    def _merge_header(self, change: _Change, key: bytes, data: bytes) -> bool:
        addition = purged_header(decode_header(data), self._floor_us(key))
        stored = self._current(change, key)
        before = EMPTY_HEADER if stored is None else stored_header(key, stored)
        after = merge_headers(before, addition)
        if after == before:
            return False
        self._put_header(change, leaf_of(keys.token_of(key)), key, stored, after)
        return True

    def _merge_row(self, change: _Change, key: bytes, data: bytes, info: Info) -> tuple[Image | None, bool]:
        end = keys.prefix_end(key)
        addition = purged(decode_row(data), self._floor_us(key), key[end:])
        floor = NO_VERSION
        if info.has_clustering:
            change.newest = max(change.newest, newest_version(addition))
            header_key = key[:end] + keys.HEADER_SUFFIX
            header_data = self._current(change, header_key)
            if header_data is not None:
                floor = covered(stored_header(header_key, header_data), key[end:])
        old = self._current(change, key)
        stored = EMPTY_ROW if old is None else stored_row(key, old)
        before = old
        if floor != NO_VERSION:
            stored = normal(stored.deletion, stored.cells, floor)
            before = _row_bytes(stored)
        merged = merge_rows(stored, addition, floor)
        new = _row_bytes(merged)
        if new != old:
            self._put_row(change, leaf_of(keys.token_of(key)), (key, old, new), info)
            note(change.puts, key, due_of(merged, key[end:]))
        if info.changes != "none":
            self.expiring.note(change.puts, key, decode_row(new) if new else EMPTY_ROW)
        if new == before:
            return None, False
        wants_image = info.changes not in ("none", "keys")
        return (image_of(info.changes, key[end:], before, new) if wants_image else None), True

    def _current(self, change: _Change, key: bytes) -> bytes | None:
        """A record as this batch will leave it."""
        return change.pending[key] if key in change.pending else self._engine.get(key)

    # --- sweeping

    def sweeps(self) -> tuple[Sweep, ...]:
        """What is left to sweep, oldest first."""
        return tuple(self._command(prefix, after) for prefix, after in self._sweeps.items())

    def next_sweep(self) -> Sweep | None:
        """The oldest of them."""
        for prefix, after in self._sweeps.items():
            return self._command(prefix, after)
        return None

    def _command(self, prefix: bytes, after: bytes) -> Sweep:
        return Sweep(int.from_bytes(prefix[1:5], "big"), prefix, after, 200)

    def put_off_sweep(self, prefix: bytes) -> None:
        """It cannot be done for now: others first."""
        if prefix in self._sweeps:
            self._sweeps.move_to_end(prefix)

    def forget_sweep(self, prefix: bytes) -> None:
        """Its table is gone."""
        self._engine.write([(keys.sweep_key(prefix), None)])
        self._sweeps.pop(prefix, None)

    def sweep(self, command: Sweep, info: Info) -> tuple[Outcome, int]:
        """Bring rows of a partition into normal form under its header; most of them vanish. Nothing is
        logged.
        """
        prefix, after = command.partition, command.after
        header_key = prefix + keys.HEADER_SUFFIX
        header_data = self._engine.get(header_key)
        header = EMPTY_HEADER if header_data is None else stored_header(header_key, header_data)
        change = _Change()
        leaf = leaf_of(keys.token_of(prefix))
        removed, looked_at, last, done = 0, 0, after, True
        first = after + b"\0" if after else prefix + keys.STATIC_SUFFIX
        for key, data in self._engine.scan(first, keys.successor(prefix)):
            if looked_at == command.rows_max:
                done = False
                break
            looked_at, last = looked_at + 1, key
            floor = covered(header, key[len(prefix) :])
            if floor != NO_VERSION:
                row = stored_row(key, data)
                new = _row_bytes(normal(row.deletion, row.cells, floor))
                if new != data:
                    self._put_row(change, leaf, (key, data, new), info)
                    removed += new is None
        is_ours = self._sweeps.get(prefix) == after  # a newer header may have started it again
        if done and is_ours:
            change.puts.append((keys.sweep_key(prefix), None))
        if change.puts:
            self._write(info, change, (prefix,))
        if is_ours:
            if done:
                del self._sweeps[prefix]
            else:
                self._sweeps[prefix] = last
        return Swept(removed, b"" if done else last), self._engine.written()

    def drop(self, rows: Sequence[tuple[bytes, bytes]], info: Info) -> int:
        """Delete rows and headers (key, bytes). Logged, so that what follows the log forgets them."""
        change, nothing = _Change(), encode_row(EMPTY_ROW)
        for key, data in rows:
            if key[keys.prefix_end(key) :] == keys.HEADER_SUFFIX:
                change.put(leaf_of(keys.token_of(key)), key, data, None)
            else:
                self._put_row(change, leaf_of(keys.token_of(key)), (key, data, None), info)
                self._log.stage_repaired(change.puts, info.schema.id, (key, nothing), [])
        return self._write(info, change, ()) if change.puts else self._engine.written()

    # --- purging

    def purge(self, command: Purge, info: Info) -> tuple[Outcome, int]:
        """Remove what is dead below the floor. Nothing is logged."""
        outcome, changed, puts = look(self._engine, self._floors, command, self._sweeps)
        change = _Change()
        change.puts += puts
        for key, (old, new) in changed.items():
            leaf = leaf_of(keys.token_of(key))
            if key[keys.prefix_end(key) :] == keys.HEADER_SUFFIX:
                change.put(leaf, key, old, new)
            else:
                self._tell_expired(change, key, info)
                self._put_row(change, leaf, (key, old, new), info)
        if change.puts:
            self._write(info, change, dict.fromkeys(key[: keys.prefix_end(key)] for key in changed))
        return outcome, self._engine.written()

    def _tell_expired(self, change: _Change, key: bytes, info: Info) -> None:
        """Log what ran out of a row before it is purged."""
        if info.changes != "none":
            end = keys.prefix_end(key)
            row, _ = self.stored(key[:end], info.has_clustering, key[end:])
            self.expiring.before_write(
                change.puts, (key, row, encode_row(row)), info.changes, self._floor_us(key)
            )

    # --- the batch

    def _put_row(
        self, change: _Change, leaf: int, row: tuple[bytes, bytes | None, bytes | None], info: Info
    ) -> None:
        """Replace a row (key, old, new) and its index entries: these follow what is stored, covered or
        not.
        """
        key, old, new = row
        change.put(leaf, key, old, new)
        if info.schema.indexes and self._entries is not None:
            change.puts.extend(self._entries(info.schema, (key, old), (key, new)))

    def _put_header(self, change: _Change, leaf: int, key: bytes, old: bytes | None, header: Header) -> None:
        change.put(leaf, key, old, encode_header(header))
        change.puts.append((keys.sweep_key(key[:-1]), b""))
        note(change.puts, key, due_of_header(header))

    def _write(self, info: Info, change: _Change, prefixes: Iterable[bytes]) -> int:
        """Write the batch with its hash-tree sums, then let what is kept in memory follow.

        `prefixes` are the partitions that were written, where anybody asks for whole partitions. Returns the
        sequence number after it.
        """
        bound_us = self._newest_bound_us
        if change.newest[0] >= bound_us:
            bound_us = max(0, change.newest[0]) + NEWEST_AHEAD_US
            change.puts.append((keys.NEWEST_KEY, bound_us.to_bytes(8, "big")))
        try:
            sums = self._tree.stage(info.schema.id, change.deltas, change.puts)
            sequence = self._engine.write(change.puts)
        except BaseException:
            self._log.abort()
            raise
        self._log.commit()
        self._tree.commit(sums)
        self._newest_bound_us, self._newest = bound_us, max(self._newest, change.newest)
        if change.names:
            change.names.append(info.prefix)
            change.names.extend(prefixes)
            self._unsynced.wrote(change.names, sequence)
            self._floors.dead_runs.wrote(change.puts)
        return sequence


def _oldest(header: Header) -> Version:
    """The least version at which a header deletes."""
    versions = [item.version for item in header.ranges]
    return min(versions if header.deletion is None else [header.deletion.version, *versions])


def _row_bytes(row: Row) -> bytes | None:
    return None if row.deletion is None and not row.cells else encode_row(row)
