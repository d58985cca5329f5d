"""Counters over CQL: jepsen_like/workloads/counter.py and counter_once.py in tables of real peers."""

from __future__ import annotations

from functools import partial

from core.consistency import Level
from core.requests import CounterRequest
from jepsen_like.door import End
from jepsen_like.history import FAIL, INFO, OK, Operation
from jepsen_like.real.workloads import KEYSPACE, defined, door_of
from jepsen_like.session import SECOND, Session
from jepsen_like.workloads.counter import COUNTERS_MAX, FINAL_PATIENCE_US, CounterWorkload
from jepsen_like.workloads.counter_once import PAUSE_US, UNDER_WAY_MAX


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


class RealOnceCounterWorkload(RealCounterWorkload):
    """Increments with operation ids: tried again until one says that it is done, and counted once."""

    table = f"{KEYSPACE}.counts_once"

    def __init__(self) -> None:
        super().__init__()
        self._under_way = 0
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

    def _ask(self, operation: Operation, request: CounterRequest) -> None:
        del request
        self._under_way += 1
        if operation.kind == "probe_write":
            self._probing[operation.peer] = operation
        self._try(operation, operation.peer)

    def _try(self, operation: Operation, peer: int) -> None:
        session = self.session

        def done(end: End) -> None:
            if end.status == OK:
                self._under_way -= 1
                session.end(operation, end)
                return
            at = session.random.randrange(len(session.cluster.machines))
            session.cluster.scheduler.after(PAUSE_US, self._try, operation, at)

        name = f"{operation.kind}-{operation.invoked}"
        text = self._text(operation)
        door_of(session).cql(peer, text, Level.QUORUM, INFO, done, operation_id=name)

    def final(self) -> None:
        """As ever, when every increment is done."""
        if self._under_way:
            self.session.door.patience_us = FINAL_PATIENCE_US
            self._final_left = 1
            self.session.cluster.scheduler.after(SECOND, self.final)
        else:
            super().final()
