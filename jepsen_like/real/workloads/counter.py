"""Counters over CQL: jepsen_like/workloads/counter.py and counter_once.py in tables of real peers."""

from __future__ import annotations

from functools import partial

from core.consistency import Level
from core.requests import CounterRequest
from jepsen_like.door import End, Then
from jepsen_like.history import FAIL, INFO, OK, Operation
from jepsen_like.real.workloads import KEYSPACE, defined, door_of
from jepsen_like.session import SECOND, Session
from jepsen_like.workloads.counter import COUNTERS_MAX, FINAL_PATIENCE_US, CounterWorkload
from jepsen_like.workloads.counter_once import Attempt, InsistingCounterWorkload


class RealCounterWorkload(CounterWorkload):
    """See the top of the file."""

    table = f"{KEYSPACE}.counts"

    def setup(self, session: Session) -> bool:
        """A table of counters."""
        self.session = session
        self.counters = min(COUNTERS_MAX, session.cluster.options.keys)
        return defined(session, f"CREATE TABLE IF NOT EXISTS {self.table} (key text PRIMARY KEY, n counter)")

    def _ask(self, operation: Operation, request: CounterRequest) -> None:
        then = partial(self.session.end, operation)
        door_of(self.session).cql(operation.peer, self._text(operation), request.level, INFO, then)

    def _text(self, operation: Operation) -> str:
        sign, delta = ("-", -operation.value) if operation.value < 0 else ("+", operation.value)
        return f"UPDATE {self.table} SET n = n {sign} {delta} WHERE key = 'c{operation.key}'"

    def _read(self, kind: str, counter: int, level: Level, peer: int) -> Operation:
        operation = self.session.begin(kind, counter, None, peer)

        def done(end: End) -> None:
            if end.status == OK:
                rows, _ = end.result
                end = end._replace(result=(rows[0]["n"] or 0) if rows else 0)
            self.session.end(operation, end._replace(result=end.result if end.status == OK else None))
            if kind.startswith("final"):
                if end.status == OK:
                    self._finals.append(operation)
                    self._final_left -= 1
                else:
                    self.session.cluster.scheduler.after(SECOND, self._read, kind, counter, level, peer)

        text = f"SELECT n FROM {self.table} WHERE key = 'c{counter}'"
        door_of(self.session).cql(operation.peer, text, level, FAIL, done)
        return operation


class RealOnceCounterWorkload(InsistingCounterWorkload, RealCounterWorkload):
    """Increments with operation ids: tried again until one says that it is done, and counted once."""

    table = f"{KEYSPACE}.counts_once"

    def _attempt(self, operation: Operation, request: CounterRequest) -> Attempt:
        del request
        name, text = f"{operation.kind}-{operation.invoked}", self._text(operation)

        def attempt(peer: int, then: Then) -> None:
            door_of(self.session).cql(peer, text, Level.QUORUM, INFO, then, operation_id=name)

        return attempt

    def final(self) -> None:
        """As ever; what is still under way is given time."""
        self.session.door.patience_us = FINAL_PATIENCE_US
        super().final()
