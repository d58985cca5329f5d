"""What executes a node's store commands in a simulation: latencies, group commit, and the end of a process.

Commands queue for a moment (one drawn latency for whatever has gathered), are executed together in order, and
their outcomes wait in lsm/commit.py for the sync that covers what they wrote or read. One sync is under way
at a time, and the next one starts when it ends if anything waits: group commit as server/disk.py does it with
threads. A sync that fails ends the process: nobody learns an outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from core.commands import Command, Outcome
from core.errors import DurabilityError
from core.ports import Ticket
from lsm.commit import Commit
from sim.options import DiskOptions
from sim.scheduler import Scheduler
from sim.world import SimWorld


class Executor(Protocol):
    """What lsm.Store is: executes one command at once."""

    def execute(self, command: Command) -> tuple[Outcome, int]:
        """Do it: the outcome, and the sequence number it depends on. Faults are outcomes (Failed)."""

    def on_synced(self, sequence: int) -> None:
        """All up to this sequence number is durable."""


class SimDisk:
    """The disk of one process."""

    def __init__(
        self, world: SimWorld, scheduler: Scheduler, executor: Executor, options: DiskOptions, seed: int
    ) -> None:
        self._world = world
        self._engine = world.machine.engine
        self._scheduler = scheduler
        self._executor = executor
        self._options = options
        self._random = Random(f"{seed}:disk:{world.index}:{world.identity.start}")
        self._queue: list[tuple[Ticket, Command]] = []
        self._awake = False
        self._syncing = False
        self._commit = Commit()

    def submit(self, ticket: Ticket, command: Command) -> None:
        """Queue a command."""
        self._queue.append((ticket, command))
        if not self._awake:
            self._awake = True
            self._after(self._options.execute_min_us, self._options.execute_max_us, self._execute)

    def _after(self, low_us: int, high_us: int, call: Callable[..., None], *arguments: object) -> None:
        delay_us = low_us + int(self._random.random() * (high_us - low_us))
        self._scheduler.after(delay_us * self._world.machine.slow_disk, call, *arguments)

    def _execute(self) -> None:
        if self._world.held(self._execute):
            return
        self._awake = False
        queue, self._queue = self._queue, []
        execute, add = self._executor.execute, self._commit.add
        try:
            for ticket, command in queue:
                outcome, depends_on = execute(command)
                add(ticket, outcome, depends_on)
        except DurabilityError:
            self._world.failed()
            return
        self._release()

    def _release(self) -> None:
        commit = self._commit
        if commit.waiting and not self._syncing:
            self._syncing = True
            token = self._engine.begin_sync()
            self._after(self._options.sync_min_us, self._options.sync_max_us, self._synced, token)
        on_stored = self._world.on_stored
        for ticket, outcome in commit.take_released():
            on_stored(ticket, outcome)

    def _synced(self, token: int) -> None:
        self._syncing = False
        if not self._world.alive:
            return
        try:
            self._engine.finish_sync(token)
        except DurabilityError:
            self._world.failed()
            return
        self._executor.on_synced(token)
        self._commit.on_synced(token)
        self._release()
