"""The commands of a store that heal: floors, purging, scrubbing, Paxos state taken over. Part of
lsm/store.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.commands import Done, Failed, Hashes, Outcome, TreeHashes, Why
from core.healing import (
    FloorStep,
    GarbageDue,
    IsDue,
    PaxosMerge,
    PaxosScan,
    Purge,
    Purged,
    RaiseFloor,
    Scrub,
)
from core.limits import TREE_FANOUT
from lsm import keys
from lsm.hash_tree import LEAVES, leaf_of
from lsm.paxos_moving import no_fault, paxos_merged, paxos_page
from lsm.purge import is_due
from lsm.scrub import Scrubber

if TYPE_CHECKING:
    from core.ports import Engine
    from lsm.commit import Unsynced
    from lsm.floors import Floors
    from lsm.hash_tree import HashTree
    from lsm.lost import LostRanges
    from lsm.writing import Info, Writer

MENDING = Failed(Why.MENDING, "what was damaged here is being given back by other replicas")

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
            RaiseFloor: self._raise_floor,
            GarbageDue: self._garbage_due,
            Purge: self._purge,
            PaxosScan: self._paxos_scan,
            PaxosMerge: self._paxos_merge,
            Scrub: self._scrub,
        }

    def _tree_hashes(self, command: TreeHashes) -> Ran:
        found: list[int] = []
        spans = [(command.first, command.end, command.parts)]
        spans += [(first, end, min(TREE_FANOUT, end - first)) for first, end in command.also]
        for first, end, parts in spans:
            if not (0 <= first < end <= LEAVES and 0 < parts <= end - first):
                return Failed(Why.MALFORMED, f"no {parts} parts of leaves {first} to {end}"), 0
            found += self._tree.hashes(command.table, first, end, parts)
        return Hashes(tuple(found)), self._unsynced.newest(keys.table_prefix(command.table))

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
