"""Workloads that ask real peers for what doors have no common name for: tables, documents, streams, sessions.

They are the simulator's (jepsen_like/workloads) with other requests: what clients do, which kinds of
operations there are, and above all the judges are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from core.consistency import Level
from jepsen_like.door import End
from jepsen_like.history import INFO, OK, PENDING, Operation
from jepsen_like.real.door import RealDoor
from jepsen_like.session import SECOND, Session

KEYSPACE = "attacked"
SETUP_US = 60 * SECOND


FINALS_AT_ONCE = 3
"""Real peers share processors: what all of a workload's final reads ask at once, none answers in time."""

LOOK_US = SECOND // 50


class Few:
    """Final reads, a few at a time, each again until it is answered."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._under_way = 0

    def do(self, read: Callable[[], Operation], answered: Callable[[], None]) -> None:
        """Have this done when it is its turn, and once more if it fails; `answered` is called once."""
        after = self._session.cluster.scheduler.after
        if self._under_way >= FINALS_AT_ONCE:
            after(LOOK_US, self.do, read, answered)
            return
        self._under_way += 1
        self._look(read(), partial(self.do, read, answered), answered)

    def _look(self, operation: Operation, again: Callable[[], None], answered: Callable[[], None]) -> None:
        after = self._session.cluster.scheduler.after
        if operation.status == PENDING:
            after(LOOK_US, self._look, operation, again, answered)
            return
        self._under_way -= 1
        if operation.status == OK:
            answered()
        else:
            after(SECOND, again)


def door_of(session: Session) -> RealDoor:
    """The door of a session that real peers serve."""
    return cast("RealDoor", session.door)


def insisted(session: Session, ask: Callable[[int, Callable[[End], None]], None]) -> bool:
    """Ask peers in turn until one says ok; False if none does in time."""
    cluster, done = session.cluster, []

    def attempt(at: int) -> None:
        def judge(end: End) -> None:
            if end.status == OK:
                done.append(True)
            else:
                session.why_not = end.detail
                cluster.scheduler.after(SECOND // 5, attempt, at + 1)

        ask(at % len(cluster.machines), judge)

    attempt(0)
    return cluster.run_until(lambda: bool(done), SETUP_US)


def defined(session: Session, *statements: str) -> bool:
    """Have a keyspace, and each of these statements done in it."""
    factor = session.cluster.options.replication
    replication = f"{{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
    keyspace = f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = {replication}"
    door = door_of(session)
    return all(
        insisted(session, lambda peer, then, text=text: door.cql(peer, text, Level.QUORUM, INFO, then))  # type: ignore[misc]
        for text in (keyspace, *statements)
    )
