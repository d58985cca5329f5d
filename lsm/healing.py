"""The commands of a store that heal: floors, purging, scrubbing, Paxos state taken over. Part of
lsm/store.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.commands import Done, Failed, Hashes, Outcome, Rows, Slice, TreeHashes, Why
from core.healing import (
    FloorStep,
    GarbageDue,
    IsDue,
    PaxosMerge,
    PaxosScan,
    Purge,
    Purged,
    RaiseFloor,
    ReadLeaves,
    Scrub,
)
from core.limits import SLICE_BYTES_MAX, SLICE_ROWS_MAX
from lsm import keys
from lsm.hash_tree import LEAVES, leaf_of, leaf_tokens
from lsm.paxos_moving import no_fault, paxos_merged, paxos_page
from lsm.purge import is_due
from lsm.reading import read_slice
from lsm.scrub import Scrubber

if TYPE_CHECKING:
    from core.ports import Engine
    from lsm.commit import Unsynced
    from lsm.floors import Floors
    from lsm.hash_tree import HashTree
    from lsm.lost import LostRanges
    from lsm.writing import Info, Writer

MENDING = Failed(Why.MENDING, "what was damaged here is being given back by other replicas")

NOTHING_SETTLED_US = 2**63 - 1
"""Of a page without rows, from which nothing can come that was deleted."""

Ran = tuple[Outcome, int]
"""An outcome, and the sequence number on which it depends."""


class Healing:
    """Runs these commands on the parts of one store."""

    def __init__(
        self,
        engine: Engine,
        unsynced: Unsynced,
        tree: HashTree,
        *,
        floors: Floors,
        lost: LostRanges,
        scrubber: Scrubber,
        writer: Writer,
        info: Callable[[int], Info | None],
    ) -> None:
        self._engine = engine
        self._unsynced = unsynced
        self._tree = tree
        self._floors = floors
        self._lost = lost
        self._scrubber = scrubber
        self._writer = writer
        self._info = info
        self.handlers: dict[type, Callable[[Any], Ran]] = {
            TreeHashes: self._tree_hashes,
            ReadLeaves: self._read_leaves,
            RaiseFloor: self._raise_floor,
            GarbageDue: self._garbage_due,
            Purge: self._purge,
            PaxosScan: self._paxos_scan,
            PaxosMerge: self._paxos_merge,
            Scrub: self._scrub,
        }

    def _tree_hashes(self, command: TreeHashes) -> Ran:
        found: list[tuple[int, int]] = []
        for first, end in command.spans:
            if not (0 <= first < end <= LEAVES and 0 < command.parts):
                return Failed(Why.MALFORMED, f"no {command.parts} parts of leaves {first} to {end}"), 0
            parts = min(command.parts, end - first)
            found += self._tree.sums(command.table, first, end, parts)
        outcome = Hashes(tuple(sum_ for sum_, _ in found), tuple(filled for _, filled in found))
        return outcome, self._unsynced.newest(keys.table_prefix(command.table))

    def _read_leaves(self, command: ReadLeaves) -> Ran:
        table = command.table
        info = self._info(table)
        if info is None:
            return Failed(Why.NO_TABLE, f"there is no table {table}"), 0
        if not command.spans or any(not 0 <= first < end <= LEAVES for first, end in command.spans):
            return Failed(Why.MALFORMED, "no runs of leaves"), 0
        pieces = [piece for span in command.spans for piece in self._floors.pieces(table, *span)]
        return self._page(command, pieces, info), self._unsynced.newest(keys.table_prefix(table))

    def _page(self, command: ReadLeaves, pieces: list[tuple[int, int, int]], info: Info) -> Rows:
        """The rows of (first leaf, end leaf, settled), all of one `settled`: those with another are left to
        the next page, for a page counts as settled as its least, and would be refused at higher floors.
        """
        rows: list[tuple[bytes, bytes]] = []
        bytes_left, settled_us = SLICE_BYTES_MAX, NOTHING_SETTLED_US
        for first_leaf, end_leaf, piece_settled_us in pieces:
            first_token, last_token = leaf_tokens(first_leaf)[0], leaf_tokens(end_leaf - 1)[1]
            first, end = keys.token_range_bounds(command.table, first_token, last_token)
            first = max(first, command.after + b"\0") if command.after else first
            end = min(end, command.until + b"\0") if command.until else end
            if first >= end:
                continue
            rows_left = SLICE_ROWS_MAX - len(rows)
            if rows and (rows_left <= 0 or bytes_left <= 0 or piece_settled_us != settled_us):
                return Rows(tuple(rows), None, True, settled_us)
            part = Slice(command.table, first, end, b"", False, rows_left, bytes_left)
            page = read_slice(self._engine, part, info.has_clustering)
            if page.rows:
                settled_us = piece_settled_us
            rows += page.rows
            if page.more:
                return Rows(tuple(rows), None, True, settled_us)
            bytes_left -= sum(len(key) + len(data) for key, data in page.rows)
        return Rows(tuple(rows), None, False, settled_us)

    def _raise_floor(self, command: RaiseFloor) -> Ran:
        spans = [
            (table, leaf_of(first), leaf_of(last) + 1)
            for table, pairs in command.parts
            for first, last in pairs
        ]
        if command.step is not FloorStep.PROMISE and self._lost.hits(spans):
            return MENDING, 0
        outcome, puts, new = self._floors.step(command)
        if puts:
            self._unsynced.wrote((keys.SYSTEM,), self._engine.write(puts))
            self._floors.commit(new)
        return outcome, self._engine.written()

    def _garbage_due(self, command: GarbageDue) -> Ran:
        return IsDue(is_due(self._engine, command), self._floors.least(command.parts)), 0

    def _purge(self, command: Purge) -> Ran:
        info = self._info(command.table)
        if info is None:
            return Purged(b"", 0, 0), 0
        return self._writer.purge(command, info)

    def _paxos_scan(self, command: PaxosScan) -> Ran:
        return paxos_page(self._engine, command), self._engine.written()

    def _paxos_merge(self, command: PaxosMerge) -> Ran:
        if not no_fault(command.states):
            return Failed(Why.MALFORMED, "not the state of a partition's Paxos"), 0
        puts = paxos_merged(self._engine, command)
        if puts:
            self._unsynced.wrote([key for key, _ in puts], self._engine.write(puts))
        return Done(), self._engine.written()

    def _scrub(self, command: Scrub) -> Ran:
        return self._scrubber.scrub(command), self._engine.written()
