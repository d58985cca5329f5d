"""The short way of most writes: one row of a table that is nothing but rows, met for the first time; and
of most reads: one row of such a table.

It is the hot path of the whole store. What it does is what `Store.plan` and `Store.run` do for such an
Apply, in one function: no plan, no batch of its own, no list of what is staged. It decides before it touches
anything whether it is the right one: whatever is out of the ordinary (an id that may have come before, a
floor in the way, a cold record, tombstones, cells that expire, documents in pieces, images, damage) is left
to the general way, which begins anew and finds the same records.

It only works within a group of the store, where all that is written takes effect when the group ends, and is
forgotten, with what is noted here in memory, if the engine refuses it then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from core.cell import NO_VERSION
from core.commands import Applied, Apply, Digest, Outcome, Read, Rows
from core.errors import CorruptionError, DiskFullError, StallError
from core.limits import KIB, VALUE_BYTES_MAX
from core.mutation import decode_mutation
from core.row import Row, encode_row, merge_rows
from lsm import keys
from lsm.conflict import newer_met
from lsm.faults import mutation_fault
from lsm.hash_tree import leaf_of, record_hash
from lsm.log import EVENT, SUPERSEDED
from lsm.reading import digest_of, stored_row

if TYPE_CHECKING:
    from core.cell import Version
    from lsm.store import Store

BYTES_MAX = 4 * KIB
"""Longer mutations have time for the general way."""
CELLS_MAX = 64

APPLIED = Applied(None, True)
"""What nearly all writes lead to."""

_token = Struct(">Q")
_TERMINATOR = keys.escaped(b"")
_ROW_END = _TERMINATOR + keys.ROW_SUFFIX


def _is_ordinary(row: Row) -> bool:
    """Whether a row holds nothing but live scalars, in order: it is normal as it stands, and never due."""
    if row.deletion is not None or not 0 < len(row.cells) <= CELLS_MAX:
        return False
    last = -1
    for cell in row.cells:
        column = cell.column
        if (
            column <= last
            or cell.path
            or cell.kind
            or cell.dead_from_us
            or cell.timestamp_us <= 0
            or cell.value is None
        ):
            return False
        last = column
    return True


class PlainWrites:
    """The short way into one store."""

    def __init__(self, store: Store) -> None:
        """Made last by a store of itself."""
        self._store = store
        self._engine, self._log, self._tree = store.engine, store.log, store.tree
        self._floors, self._lost, self._wrote = store.floors, store.lost, store.unsynced.wrote
        self._info = store.info

    def apply(self, command: Apply, behind: Mapping[bytes, Sized]) -> tuple[Outcome, int] | None:
        """The outcome and on which sequence number it depends; None if the general way is to say.

        `behind` has the key prefixes of partitions whose turn it is not.
        """
        data = command.mutation
        if len(data) > BYTES_MAX or command.followed or command.moved or self._lost.ranges:
            return None
        try:
            mutation = decode_mutation(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        table, token, rows = mutation.table, mutation.token, mutation.rows
        if len(rows) != 1 or mutation.header is not None or mutation_fault(mutation):
            return None
        suffix, addition = rows[0]
        info = self._info(table)
        if info is None or not info.plain or info.changes != "none" or suffix != keys.ROW_SUFFIX:
            return None
        owns = self._store.owns
        if (owns is not None and not owns(table, token)) or not _is_ordinary(addition):
            return None
        log = self._log
        if mutation.sequence <= log.highest.get(mutation.start, mutation.sequence):
            return None
        leaf = leaf_of(token)
        if self._floors.tables and self._floors.refuses(table, token, mutation.admitted_us, followed=False):
            return None
        prefix = info.prefix + _token.pack(token + 2**63) + keys.escaped(mutation.partition)
        if behind and prefix in behind:
            return None
        branch = self._tree.branch(table, leaf)
        if branch is None:
            return None
        key = prefix + suffix
        try:
            is_near, old = self._engine.near(key)
            if not is_near:
                return None
            if old is None:
                met: Version = NO_VERSION
                new = encode_row(addition)
            else:
                stored = stored_row(key, old)
                merged = merge_rows(stored, addition)
                if not _is_ordinary(merged):
                    return None
                met = newer_met(stored, addition, NO_VERSION)
                new = encode_row(merged)
                if len(new) > VALUE_BYTES_MAX:
                    return None
        except (CorruptionError, StallError, DiskFullError):
            return None
        puts: list[tuple[bytes, bytes | None]] = []
        if new == old:
            log.append(puts, SUPERSEDED, mutation, data, b"")
            return self._outcome(met), self._engine.write(puts)
        delta = record_hash(key, new)
        if old is not None:
            delta -= record_hash(key, old)
        puts.append((key, new))
        self._tree.change(branch, table, leaf, delta, puts)
        log.append(puts, EVENT, mutation, data, key)
        sequence = self._engine.write(puts)
        self._wrote((key, info.prefix), sequence)
        self._floors.dead_runs.wrote(puts)
        return self._outcome(met), sequence

    @staticmethod
    def _outcome(met: Version) -> Applied:
        return APPLIED if met == NO_VERSION else Applied(met, True)


class PlainReads:
    """The short way out of one store."""

    def __init__(self, store: Store) -> None:
        """Made last by a store of itself."""
        self._engine, self._newest = store.engine, store.unsynced.newest
        self._floors, self._lost, self._info = store.floors, store.lost, store.info

    def read(self, command: Read, behind: Mapping[bytes, Sized]) -> tuple[Outcome, int] | None:
        """The outcome and on which sequence number it depends; None if the general way is to say.

        `behind` is that of `PlainWrites.apply`.
        """
        wanted = command.slice
        if not wanted.point or self._lost.ranges or (self._floors.tables and not command.digest):
            return None
        info, key = self._info(wanted.table), wanted.first
        if info is None or info.has_clustering or wanted.partition or not key.startswith(info.prefix):
            return None
        if not key.endswith(_ROW_END) or key.find(_TERMINATOR, keys.PARTITION_AT) != len(key) - len(_ROW_END):
            return None
        if behind and key[:-1] in behind:
            return None
        try:
            is_near, data = self._engine.near(key)
        except (CorruptionError, StallError, DiskFullError):
            return None
        if not is_near:
            return None
        rows = Rows(() if data is None else ((key, data),), None, False)
        return (Digest(digest_of(rows)) if command.digest else rows), self._newest(key)
