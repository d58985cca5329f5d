"""What executes a node's store commands in a simulation: latencies, group commit, and the end of a process.

The order of commands, cold records and what may be released when are decided by lsm/executor.py, as in
server/; here is only when. Commands gather for one drawn latency and are executed together; one sync is
under way at a time; cold records take a while to come. A sync that fails ends the process: nobody learns an
outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from core.commands import Command
from core.errors import DurabilityError
from core.ports import Ticket
from lsm.executor import Executor, Fetch
from sim.options import DiskOptions
from sim.scheduler import Scheduler
from sim.world import SimWorld

DAMAGE_US = 250_000
"""How long a process goes on after it met damage."""


class SimDisk:
    """The disk of one process."""

    def __init__(
        self, world: SimWorld, scheduler: Scheduler, executor: Executor, options: DiskOptions, seed: int
    ) -> None:
        self.executor = executor
        self._world = world
        self._machine = world.machine
        self._engine = world.machine.engine
        self._scheduler = scheduler
        self._options = options
        self._random = Random(f"{seed}:disk:{world.index}:{world.identity.start}")
        self._awake = False
        if options.cold > 0:
            share, dice = options.cold, self._random.random
            self._engine.cold = lambda _: dice() < share

    def submit(self, ticket: Ticket, command: Command) -> None:
        """Queue a command."""
        self.executor.submit(ticket, command)
        self._wake()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._after(self._options.execute_min_us, self._options.execute_max_us, self._execute)

    def _after(self, low_us: int, high_us: int, call: Callable[..., None], *arguments: object) -> None:
        delay_us = low_us + int(self._random.random() * (high_us - low_us))
        self._scheduler.after(delay_us * self._machine.slow_disk, call, *arguments)

    def _execute(self) -> None:
        if self._world.held(self._execute):
            return
        self._awake = False
        try:
            self.executor.run()
        except DurabilityError:
            self._world.failed()
            return
        if self.executor.store.damaged and not self._machine.damage_met:
            self._machine.damage_met = True
            self._scheduler.after(DAMAGE_US, self._damaged)
        self._release()

    def _damaged(self) -> None:
        """As server/process.py does: end, and be mended at the next start."""
        if self._world.alive:
            self._world.failed()

    def _release(self) -> None:
        executor = self.executor
        sequence = executor.begin_sync()
        if sequence is not None:
            more_us = self._machine.slow_sync_us
            low_us, high_us = self._options.sync_min_us + more_us, self._options.sync_max_us + more_us
            self._after(low_us, high_us, self._synced, sequence)
        for fetch in executor.take_fetches():
            self._after(self._options.cold_min_us, self._options.cold_max_us, self._fetched, fetch)
        on_stored = self._world.on_stored
        for ticket, outcome in executor.take_released():
            on_stored(ticket, outcome)
        if executor.ready:
            self._wake()

    def _synced(self, sequence: int) -> None:
        if not self._world.alive:
            return
        try:
            self._engine.finish_sync(sequence)
        except DurabilityError:
            self._world.failed()
            return
        self.executor.end_sync(sequence)
        self._release()

    def _fetched(self, fetch: Fetch) -> None:
        if self._world.held(self._fetched, fetch):
            return
        self.executor.end_fetch(fetch)
        self._execute()
