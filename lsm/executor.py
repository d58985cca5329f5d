"""Runs store commands in order and lets their outcomes go when they are durable: one for server/ and sim/
alike.

It has no threads and no clock. Its owner does, at its own pace:

    submit(ticket, command)                         any number of times
    run(n)                                          execute what can be executed
    for ticket, outcome in take_released(): ...     hand these to the node
    token = begin_sync()                            not None if a sync is wanted and none is under way:
        engine.sync()                                 in another thread, or in virtual time
        end_sync(token)                               then released outcomes are to be taken again
    for fetch in take_fetches():                    records that are cold:
        engine.fetch(fetch.keys)                      in another thread, or in virtual time
        end_fetch(fetch)                              then run() again

Commands on one partition are executed in the order of submission: those behind a command that waits for cold
records wait with it, all others overtake. A `run` that finds nothing queued does one slice of sweeping.

Commands that only read and write records one by one, which most are, share one batch of the engine while they
follow one another within a `run`: one call and one record of the log for all. If the engine refuses the batch
(a full disk), nothing of it is there, and whoever wrote in it or saw what others wrote is told so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from core import limits
from core.commands import (
    Applied,
    AppliedMany,
    Apply,
    ApplyMany,
    Command,
    EntryCount,
    Failed,
    Find,
    LogChanges,
    Outcome,
    Read,
    Why,
)
from core.errors import StoreError, unforeseen
from core.ports import Ticket
from lsm.commit import Commit, Waiting
from lsm.store import Plan, Store

GROUP_BYTES_MAX = 256 * limits.KIB
"""What a group may write before it ends, about."""

LOOKS: Final = (Find, EntryCount, LogChanges)
"""What only looks at records, at places that others name, and keeps nothing of it in mind."""


class Fetch(msgspec.Struct, frozen=True):
    """Cold records of one command, to be fetched away from the event loop."""

    number: int
    keys: tuple[bytes, ...]
    ticket: Ticket
    plan: Plan


class _Many:
    """An ApplyMany whose mutations go their ways as so many commands: what became of them so far."""

    __slots__ = ("depends_on", "left", "outcomes", "ticket")

    def __init__(self, ticket: Ticket, count: int) -> None:
        self.ticket = ticket
        self.outcomes: list[Applied | Failed] = [_NOT_YET] * count
        self.left = count
        self.depends_on = 0


class _Part(NamedTuple):
    """The ticket of one of them."""

    many: _Many
    at: int


_NOT_YET = Failed(Why.UNKNOWN, "not executed yet")


class Executor:
    """The queue in front of one store."""

    def __init__(self, store: Store, commit: Commit) -> None:
        self.store = store
        self.commit = commit
        self.on_bug: Callable[[Command, Exception], None] | None = None
        """Told of an exception of one of LOOKS, which then is one command's failure; without it is raised."""
        self._queue: deque[tuple[Ticket, Command]] = deque()
        self._fetches: list[Fetch] = []
        self._fetching: dict[int, Fetch] = {}
        self._behind: dict[bytes, deque[tuple[Ticket, Command]]] = {}
        self._waiting = 0
        self._manys = 0  # of which not all is executed
        self._fetched: deque[Fetch] = deque()
        self._next_fetch = 0
        self._group: list[Waiting] | None = None
        self._group_bytes = 0
        self._group_after = 0
        self._syncing = False
        self._sync_log_end = 0
        self._covered = 0  # what an earlier process wrote is durable once this one has synced
        self._sweeping = True

    # --- commands

    def submit(self, ticket: Ticket, command: Command) -> None:
        """Queue a command."""
        if type(command) is not ApplyMany:
            self._queue.append((ticket, command))
        elif command.mutations:
            many = _Many(ticket, len(command.mutations))
            self._manys += 1
            self._queue.extend((_Part(many, at), Apply(data)) for at, data in enumerate(command.mutations))
        else:
            self.commit.add(ticket, AppliedMany(()), 0)

    @property
    def queued(self) -> int:
        """Commands not yet executed, those that wait for cold records included."""
        waiting = self._waiting
        if self._fetching or self._fetched:
            waiting += len(self._fetching) + len(self._fetched)
        return len(self._queue) + waiting

    @property
    def ready(self) -> bool:
        """Whether `run` has something to do."""
        return bool(self._queue or self._fetched or (self._sweeping and self.store.next_sweep()))

    def run(self, commands_max: int = 1_000) -> int:
        """Execute up to so many commands; returns how many were taken from the queue."""
        done = 0
        while self._fetched and done < commands_max:
            self._resume(self._fetched.popleft())
            done += 1
        queue = self._queue
        while queue and done < commands_max:
            ticket, command = queue.popleft()
            done += 1
            if type(command) is Apply:
                group = self._open_group()
                quickly = self.store.plain.apply(command, self._behind)
                if quickly is not None:
                    group.append((ticket, *quickly))
                    self._group_bytes += len(command.mutation)
                    if self._group_bytes > GROUP_BYTES_MAX:
                        self._end_group()
                    continue
            elif type(command) is Read:
                read = self.store.plain_reads.read(command, self._behind)
                if read is not None:
                    if self._group is None:
                        self.commit.add(ticket, *read)
                    else:
                        self._group.append((ticket, *read))
                    continue
            self._take(ticket, self.store.plan(command))
        self._end_group()
        if done:
            self._sweeping = True
        elif self._sweeping:
            self._sweep()
        return done

    def _take(self, ticket: Ticket, plan: Plan) -> None:
        order = plan.order
        if order is not None and order in self._behind:
            self._behind[order].append((ticket, plan.command))
            self._waiting += 1
        elif plan.needs and not self.store.engine.warm(plan.needs):
            self._next_fetch += 1
            fetch = Fetch(self._next_fetch, plan.needs, ticket, plan)
            self._fetching[fetch.number] = fetch
            self._fetches.append(fetch)
            if order is not None:
                self._behind[order] = deque()
        else:
            self._execute(ticket, plan)

    def _execute(self, ticket: Ticket, plan: Plan) -> None:
        if not plan.size:
            self._end_group()
            self._add(ticket, *self._ran(plan))
            return
        group = self._open_group()
        outcome, depends_on = self.store.run(plan)
        group.append((ticket, outcome, depends_on))
        self._group_bytes += plan.size
        if self._group_bytes > GROUP_BYTES_MAX:
            self._end_group()

    def _ran(self, plan: Plan) -> tuple[Outcome, int]:
        """Run a plan that shares no batch with others."""
        try:
            return self.store.run(plan)
        except Exception as error:
            if self.on_bug is None or not isinstance(plan.command, LOOKS) or isinstance(error, StoreError):
                raise
            self.on_bug(plan.command, error)
            return Failed(Why.MALFORMED, unforeseen(error)), 0

    def _open_group(self) -> list[Waiting]:
        """The group under way, or a new one."""
        if self._group is None:
            self._group, self._group_bytes = [], 0
            self._group_after = self.store.engine.written()
            self.store.begin_group()
        return self._group

    def _end_group(self) -> None:
        group, self._group = self._group, None
        if group is None:
            return
        failed = self.store.end_group()
        after = self._group_after
        add = self.commit.add
        if failed is None and not self._manys:
            self.commit.add_all(group)
            return
        for ticket, outcome, depends_on in group:
            if failed is not None and depends_on > after:
                self._add(ticket, failed, 0)
            elif type(ticket) is _Part:
                self._add(ticket, outcome, depends_on)
            else:
                add(ticket, outcome, depends_on)

    def _add(self, ticket: Ticket, outcome: Outcome, depends_on: int) -> None:
        """To the commit; of one of many, when it is the last of them."""
        if type(ticket) is not _Part:
            self.commit.add(ticket, outcome, depends_on)
            return
        many = ticket.many
        assert isinstance(outcome, Applied | Failed), outcome
        many.outcomes[ticket.at] = outcome
        many.left -= 1
        many.depends_on = max(many.depends_on, depends_on)
        if not many.left:
            self._manys -= 1
            self.commit.add(many.ticket, AppliedMany(tuple(many.outcomes)), many.depends_on)

    def _resume(self, fetch: Fetch) -> None:
        """Execute what was fetched for, then what waited behind it, up to the next cold one.

        They are looked at again when it is their turn: meanwhile this peer may have given up their range.
        """
        order = fetch.plan.order
        self._execute(fetch.ticket, self.store.plan(fetch.plan.command))
        if order is None:
            return
        behind = self._behind.pop(order)
        while behind and order not in self._behind:
            ticket, command = behind.popleft()
            self._waiting -= 1
            self._take(ticket, self.store.plan(command))
        if behind:
            self._behind[order] = behind

    def _sweep(self) -> None:
        sweep = self.store.next_sweep()
        if sweep is None or sweep.partition in self._behind:
            self._sweeping = False
            return
        outcome, _ = self.store.run(self.store.plan(sweep))
        if isinstance(outcome, Failed):
            # A full or damaged disk: not again before the next command, and others first.
            self.store.put_off_sweep(sweep)
            self._sweeping = False

    # --- cold records

    def take_fetches(self) -> list[Fetch]:
        """Records to fetch; each is given once and must be ended."""
        fetches, self._fetches = self._fetches, []
        return fetches

    def end_fetch(self, fetch: Fetch) -> None:
        """They are near, or cannot be read: then executing the command will say why."""
        del self._fetching[fetch.number]
        self._fetched.append(fetch)

    # --- durability

    def begin_sync(self) -> int | None:
        """The sequence number that a sync that starts now will cover; None if none is wanted or one is under
        way.
        """
        written = self.store.engine.written()
        if self._syncing or written <= self._covered:
            return None
        self._syncing = True
        self._sync_log_end = self.store.log.end
        return written

    def end_sync(self, sequence: int) -> None:
        """The sync that `begin_sync` gave this number to has succeeded."""
        self._syncing = False
        self._covered = sequence
        if not self.commit.periodic:
            self.store.log.durable = self._sync_log_end
        self.store.unsynced.on_synced(sequence)
        self.commit.on_synced(sequence)

    def take_released(self) -> list[tuple[Ticket, Outcome]]:
        """Outcomes that may leave now, in the order of execution."""
        return self.commit.take_released()
