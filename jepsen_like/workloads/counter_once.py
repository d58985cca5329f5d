"""Counters whose increments carry operation ids: tried again, at whichever peer, until one says it is done.

However many attempts were unknown, every increment counts once: in the end each counter is exactly the sum
of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from core.consistency import Level
from core.requests import CounterRequest, OperationId
from jepsen_like.door import End, Then
from jepsen_like.history import OK, Operation
from jepsen_like.session import SECOND
from jepsen_like.workloads.counter import CounterWorkload
from query.once import Once

REMEMBERED_US = 24 * 3600 * SECOND
PAUSE_US = SECOND // 5
SPREAD_US = 30 * SECOND
UNDER_WAY_MAX = 10
"""More would only fight each other for the few counters there are, and never end."""


Attempt = Callable[[int, Then], None]
"""Asks a peer for an increment, always under the same id."""


class InsistingCounterWorkload(CounterWorkload):
    """Increments that are tried again until one says that it is done; `_attempt` says how to ask for one."""

    def __init__(self) -> None:
        super().__init__()
        self._under_way = 0
        self._spreading = False
        self._probing: dict[int, Operation] = {}

    def step(self) -> None:
        """As ever, but while too many increments are under way only reads begin."""
        if self._under_way < min(UNDER_WAY_MAX, 2 * self.counters):
            super().step()
        else:
            self._read("read", self.session.random.randrange(self.counters), Level.QUORUM, -1)

    def probe(self, peer: int) -> None:
        """As ever, but an increment that is still tried is not joined by another of this peer."""
        probing = self._probing.get(peer)
        if probing is None or probing.status == OK:
            self._add("probe_write", peer)
        self._read("probe_read", 0, Level.QUORUM, peer)

    def _attempt(self, operation: Operation, request: CounterRequest) -> Attempt:
        raise NotImplementedError

    def _ask(self, operation: Operation, request: CounterRequest) -> None:
        self._under_way += 1
        if operation.kind == "probe_write":
            self._probing[operation.peer] = operation
        self._try(operation, self._attempt(operation, request), operation.peer)

    def _try(self, operation: Operation, attempt: Attempt, peer: int) -> None:
        session = self.session

        def done(end: End) -> None:
            if end.status == OK:
                self._under_way -= 1
                session.end(operation, end)
                return
            at = session.random.randrange(len(session.cluster.machines))
            session.cluster.scheduler.after(PAUSE_US, self._try, operation, attempt, at)

        attempt(peer, done)

    def final(self) -> None:
        """As ever, when every increment is done, and what was done only now has had time to reach all
        replicas: some of the reads are at ONE.
        """
        after = self.session.cluster.scheduler.after
        if self._under_way:
            self._final_left = 1
            self._spreading = True
            after(SECOND, self.final)
        elif self._spreading:
            self._spreading = False
            after(SPREAD_US, self.final)
        else:
            super().final()


class OnceCounterWorkload(InsistingCounterWorkload):
    """See above."""

    def __init__(self) -> None:
        super().__init__()
        self._ids = 0

    def _attempt(self, operation: Operation, request: CounterRequest) -> Attempt:
        del operation
        self._ids += 1
        number = b"%d" % self._ids
        once = Once(request, OperationId(number, number, REMEMBERED_US))
        return partial(self._ask_once, once)

    def _ask_once(self, once: Once, peer: int, then: Then) -> None:
        self.session.door.ask(peer, once.request, then)
