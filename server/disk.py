"""The threads around a store: one syncs, a few fetch cold records, the event loop does the rest.

Commands run on the event loop, as what they read is in memory as a rule. What is not is fetched by a thread,
in a call that lets other threads run; meanwhile other commands overtake (lsm/executor.py has the order). But
most of what RocksDB's cache has not the kernel's has, and then the way to a thread and back costs ten times
what the fetch does, and under load milliseconds of waiting for the interpreter's lock. So while fetches turn
out to be quick the loop does them itself, all of a tick at once. One that was not, since it met the disk,
sends the next ones to threads for a while that doubles, until a thread finds them quick again.

A sync runs as long as somebody waits for one: all that was written since the last one began shares it. As a
rule the kernel carries it out (server/log_syncs.py); where more than one file may have something to sync, or
the kernel cannot, it is the engine's, in a thread of its own.

A sync that fails ends the process at once: what it was to make durable is unknown, and whoever goes on after
it is believed on something that may not be there. Nothing is answered any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import resource
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from core import limits
from core.commands import Command, Failed, Outcome, Why
from core.errors import DurabilityError, StoreError
from core.ports import Ticket
from lsm.executor import Executor, Fetch
from server.log_syncs import LogSyncs

FETCH_THREADS = 4
COMMANDS_PER_TICK = 200
"""So that a burst of commands does not keep the event loop from its sockets for long."""

QUICK_S, QUICK_KEY_S = 0.000_5, 0.000_03
"""A fetch that takes longer than this, and this for each key, is not quick if it read from a disk or was at
work all the time, as with values of megabytes.
"""

TEND_S = 0.025
"""So often, while the kernel syncs, the engine does what syncs of its own would lead to."""

ASIDE_FIRST_S, ASIDE_MAX_S = 0.25, 8.0
"""For so long nothing is fetched on the event loop after one that was not quick."""

_TEND = -1
"""In place of a sequence number: nothing is to be synced."""

QUEUE_FULL = "the store has more to do than it can take in"


def _blocks_read() -> int:
    """How much this thread has had read from disks; -1 where the system does not tell.

    What took long and read nothing waited for a processor or for the interpreter's lock.
    """
    who = getattr(resource, "RUSAGE_THREAD", None)
    return -1 if who is None else resource.getrusage(who).ru_inblock


class Disk:
    """Runs a store's executor on an event loop, with threads for what waits for a disk."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        on_stored: Callable[[Ticket, Outcome], None],
        *,
        on_fatal: Callable[[str], None],
        sync_pause_us: int = 0,
    ) -> None:
        """`on_fatal` must end the process; `sync_pause_us` is the least time between syncs (periodic)."""
        self._loop = loop
        self._executor = executor
        self._engine = executor.store.engine
        self._on_stored = on_stored
        self._on_fatal = on_fatal
        self._pause_s = sync_pause_us / 1_000_000
        self._awake = False
        self._dead = False
        self._syncs: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._log_syncs = LogSyncs(loop, self._log_synced)
        self._tended_at_s = 0.0
        self._pausing = False
        self._quick = False
        self._aside_s, self._aside_until_s = ASIDE_FIRST_S, 0.0
        self._fetchers = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="fetch")
        self._thread = threading.Thread(target=self._sync_loop, name="sync", daemon=True)
        self.syncs = self.kernel_syncs = 0
        self._thread.start()

    @property
    def queued(self) -> int:
        """Commands not executed yet."""
        return self._executor.queued

    @property
    def waiting(self) -> int:
        """Outcomes that wait for a sync."""
        return self._executor.commit.waiting

    def submit(self, ticket: Ticket, command: Command) -> None:
        """Execute soon; the outcome comes through `on_stored`, never before this returns."""
        if self._executor.queued >= limits.STORE_QUEUE_MAX:
            self._loop.call_soon(self._on_stored, ticket, Failed(Why.STALLED, QUEUE_FULL))
            return
        self._executor.submit(ticket, command)
        if not self._awake:
            self._wake()

    def wake(self) -> None:
        """Look for work that did not come through `submit` (sweeps left by an earlier start)."""
        self._wake()

    def rest(self) -> None:
        """Forget what is kept for speed alone: for quiet times."""
        self._executor.store.rest()

    def _wake(self) -> None:
        if not self._awake and not self._dead:
            self._awake = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._awake = False
        if self._dead:
            return
        try:
            self._executor.run(COMMANDS_PER_TICK)
            self._fetch_here()
        except DurabilityError as error:
            self._fatal(str(error))
            return
        self._release()

    def _release(self) -> None:
        executor = self._executor
        self._sync_if_wanted()
        for fetch in executor.take_fetches():
            self._fetchers.submit(self._fetch_there, fetch)
        on_stored = self._on_stored
        for ticket, outcome in executor.take_released():
            on_stored(ticket, outcome)
        if executor.ready:
            self._wake()

    # --- cold records

    def _fetch_here(self) -> None:
        """Fetch what this tick's commands need and execute them, if that is quick by experience."""
        while self._quick:
            fetches = self._executor.take_fetches()
            if not fetches:
                return
            self._quick = self._fetch([key for fetch in fetches for key in fetch.keys])
            if self._quick:
                self._aside_s = max(ASIDE_FIRST_S, self._aside_s / 2)
            else:
                self._aside_until_s = time.monotonic() + self._aside_s
                self._aside_s = min(ASIDE_MAX_S, 2 * self._aside_s)
            for fetch in fetches:
                self._executor.end_fetch(fetch)
            self._executor.run(len(fetches))

    def _fetch_there(self, fetch: Fetch) -> None:
        """In a thread."""
        self._call(self._fetched, fetch, self._fetch(fetch.keys))

    def _fetch(self, keys: Sequence[bytes]) -> bool:
        """Fetch; whether it was quick."""
        began_s, worked_s, blocks = time.monotonic(), time.thread_time(), _blocks_read()
        with contextlib.suppress(StoreError):  # executing the command will meet the same fault, and say it
            self._engine.fetch(keys)
        limit_s = QUICK_S + QUICK_KEY_S * len(keys)
        if time.monotonic() - began_s <= limit_s:
            return True
        return _blocks_read() == blocks >= 0 and time.thread_time() - worked_s <= limit_s

    def _fetched(self, fetch: Fetch, was_quick: bool) -> None:
        self._quick = was_quick and time.monotonic() >= self._aside_until_s
        self._executor.end_fetch(fetch)
        self._wake()

    # --- durability

    def _sync_if_wanted(self) -> None:
        if self._pausing:
            return
        sequence = self._executor.begin_sync()
        if sequence is None:
            return
        descriptor = self._engine.newest_log()
        if descriptor is None or not self._log_syncs.begin(descriptor, sequence):
            self._syncs.put(sequence)

    def _log_synced(self, sequence: int, failed: Exception | None) -> None:
        try:
            self._engine.log_synced(sequence, failed)
        except StoreError as error:
            self._fatal(str(error))
            return
        self.kernel_syncs += 1
        now_s = self._loop.time()
        if now_s - self._tended_at_s >= TEND_S:
            self._tended_at_s = now_s
            self._syncs.put(_TEND)
        self._synced(sequence)

    def _sync_loop(self) -> None:
        while True:
            sequence = self._syncs.get()
            if sequence is None:
                return
            try:
                if sequence == _TEND:
                    self._engine.tend()
                    continue
                self._engine.sync()
            except Exception as error:  # noqa: BLE001 - whatever it is: without this thread nothing is durable
                self._call(self._fatal, str(error) if isinstance(error, StoreError) else repr(error))
                return
            self._call(self._synced, sequence)

    def _synced(self, sequence: int) -> None:
        self.syncs += 1
        if self._dead:
            return
        self._executor.end_sync(sequence)
        if self._pause_s:
            self._pausing = True
            self._loop.call_later(self._pause_s, self._pause_over)
        self._release()

    def _pause_over(self) -> None:
        self._pausing = False
        if not self._dead:
            self._release()

    def _fatal(self, text: str) -> None:
        self._dead = True
        self._on_fatal(text)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """From a thread to the event loop; one that is closed has no more use for it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        """Wait for the threads, sync and close the engine; what was not executed is never answered."""
        self._dead = True
        self._log_syncs.close()
        self._syncs.put(None)
        self._thread.join()
        self._fetchers.shutdown(wait=True)
        self._engine.close()
