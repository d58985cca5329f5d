"""Secondary indexes over CQL: jepsen_like/workloads/index.py with statements.

Real peers are not asked whether the entries on their disks are those of their rows: their scrubbers do that.
Answers are judged as there, those of all peers at ONE among them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from core.consistency import Level
from core.metadata import Change, CreateIndex
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.history import FAIL, INFO, OK, Operation
from jepsen_like.real.workloads import KEYSPACE, Few, defined, door_of
from jepsen_like.session import SECOND, Session
from jepsen_like.workloads.index import ALL_ROWS, BUILD_AT_STEP, HALVES, PAGE_ROWS, TAGS, IndexWorkload, State

TABLE = f"{KEYSPACE}.found"
BUILD_AFTER = 10
"""Steps before the second index is made."""


class RealIndexWorkload(IndexWorkload):
    """See the top of the file."""

    def setup(self, session: Session) -> bool:
        """A table and an index."""
        self.session = session
        self._few = Few(session)
        self._steps = BUILD_AT_STEP - BUILD_AFTER  # a real second costs more than a virtual one
        columns = "k int PRIMARY KEY, tag int, half int, n int"
        return defined(session, f"CREATE TABLE IF NOT EXISTS {TABLE} ({columns})", _index("tag"))

    def _change(self, change: Change, at: int) -> None:
        """The second index, however often it takes."""
        assert isinstance(change, CreateIndex), change
        cluster = self.session.cluster

        def judge(end: End) -> None:
            if end.status != OK:
                cluster.scheduler.after(SECOND // 5, self._change, change, at + 1)

        text = _index(change.index.name.removeprefix("by_"))
        door_of(self.session).cql(at % len(cluster.machines), text, Level.QUORUM, INFO, judge)

    def _write(self, kind: str, row: int, peer: int) -> None:
        session, random = self.session, self.session.random
        self._number += 1
        state: State = (random.randrange(TAGS), random.randrange(HALVES), self._number)
        operation = session.begin(kind, row, None if kind == "delete" else state, peer)
        if kind == "delete":
            text = f"DELETE FROM {TABLE} WHERE k = {row}"
        else:
            tag, half, number = state
            text = f"UPDATE {TABLE} SET tag = {tag}, half = {half}, n = {number} WHERE k = {row}"
        then = partial(session.end, operation)
        door_of(session).cql(operation.peer, text, Level.QUORUM, INFO, then)

    def _page(self, operation: Operation, kind: str, level: Level, cursor: bytes, found: list[Any]) -> None:
        """A page; the next one is asked of another peer."""
        session, at = self.session, operation.peer
        if cursor and not operation.kind.startswith("final"):
            at = session.random.randrange(len(session.cluster.machines))

        def done(end: End) -> None:
            if end.status != OK:
                session.end(operation, end._replace(result=None))
                return
            rows, state = end.result
            found.extend((row["k"], (row["tag"], row["half"], row["n"])) for row in rows)
            if state is not None:
                self._page(operation, kind, level, state.encode(), found)
            else:
                session.end(operation, End(OK, found, f"as {kind}"))

        more: dict[str, Any] = {"page_size": ALL_ROWS if kind == "by_range" else PAGE_ROWS}
        if cursor:
            more["page_state"] = cursor.decode()
        text = f"SELECT k, tag, half, n FROM {TABLE} WHERE {_where(kind, operation.key)}"
        door_of(session).cql(at, text, level, FAIL, done, **more)

    def _final(self, kind: str, what: tuple[int, int], level: Level, peer: int) -> None:
        def read() -> Operation:
            operation = self.session.begin(f"final_{kind}", what, None, peer)
            self._page(operation, kind, level, b"", [])
            return operation

        self._few.do(read, self._one_less)

    def _one_less(self) -> None:
        self._final_left -= 1

    def _entries(self) -> list[Problem]:
        return []


def _index(column: str) -> str:
    return f"CREATE INDEX IF NOT EXISTS by_{column} ON {TABLE} ({column})"


def _where(kind: str, what: tuple[int, int]) -> str:
    """By one value an index must be used; the others filter, as CQL wants to be told."""
    tag, half = what
    return {
        "by_range": f"tag >= {tag} ALLOW FILTERING",
        "by_half": f"half = {half}",
        "by_both": f"tag = {tag} AND half = {half} ALLOW FILTERING",
        "by_none": f"half = {half} AND tag = {tag} ALLOW FILTERING",
    }.get(kind, f"tag = {tag}")
