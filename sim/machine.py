"""A simulated machine: what outlives a process. Its identity file, its disk, its clock, its place."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from core.ports import Identity, InitialPeer
from index.naive_segments import Kept
from lsm.memory import MemoryEngine
from sim.clock import WallClock

if TYPE_CHECKING:
    from sim.world import SimWorld


class Machine:
    """One machine of the cluster, and the process on it if there is one."""

    def __init__(self, index: int, place: InitialPeer, clock: WallClock, seed: int) -> None:
        self.index = index
        self.place = place
        self.clock = clock
        self.process: SimWorld | None = None
        self.slow_disk = 1
        self.slow_sync_us = 0
        self.damage_met = False
        """Damage was met on the disk: opening the store mends it first."""
        self.log_forgotten = False
        """Mending had to forget a log: what only this one said is known by its rows alone."""
        self._seed = seed
        self._directories = 0
        self.engine = MemoryEngine()
        self.search: dict[str, Kept] = {}
        self.peer = b""
        self.start = 0
        self.wipe()

    def wipe(self) -> None:
        """An empty directory: a new peer under the old name and address."""
        self._directories += 1
        self.peer = Random(f"{self._seed}:directory:{self.index}:{self._directories}").randbytes(16)
        self.start = 0
        self.engine = MemoryEngine()
        self.search = {}

    def next_identity(self) -> Identity:
        """The identity of the next process; its start counter is durable before it speaks."""
        self.start += 1
        place = self.place
        return Identity(self.peer, self.start, place.name, place.address, place.datacentre, place.rack)

    def settle(self) -> None:
        """The store is opened: what is found there is on the disk now, and past sync errors are past."""
        self.engine.crash(keep=self.engine.unsynced())

    def backup(self) -> tuple[bytes, int, tuple[tuple[bytes, bytes], ...]]:
        """A copy of the data directory as it is."""
        return (self.peer, self.start, tuple(self.engine.scan(b"", b"\xff" * 8)))

    def restore(self, backup: tuple[bytes, int, tuple[tuple[bytes, bytes], ...]]) -> None:
        """Put an old data directory in the place of the one that is there."""
        self.peer, self.start, records = backup
        self.engine = MemoryEngine()
        self.search = {}
        self.engine.write(records)
        self.engine.sync()
