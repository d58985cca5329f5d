"""Logged batches under operation ids: tried again, at whichever peer, until one attempt says it is done.

Every attempt asks for other values, as a statement with `now()` in it would. In the end a group holds all the
values of one attempt, under one version, and no reader ever saw those of another.
"""

from __future__ import annotations

from core.consistency import Level
from core.requests import BatchRequest, OperationId, WriteRequest
from jepsen_like.checkers import Problem, Seen
from jepsen_like.door import CONTENT_TYPE, End, Found
from jepsen_like.history import OK, Operation
from jepsen_like.session import SECOND
from jepsen_like.workloads.batches import ROWS, SHARED_GROUPS, BatchesWorkload, key_of
from kv import operations

REMEMBERED_US = 24 * 3600 * SECOND
PAUSE_US = SECOND // 5
UNDER_WAY_MAX = 40


class OnceBatchesWorkload(BatchesWorkload):
    """See above."""

    def __init__(self) -> None:
        super().__init__()
        self._under_way = 0
        self._seen: dict[int, dict[bytes, bool]] = {}

    def step(self) -> None:
        """A batch for a group of its own, or a read of one."""
        random = self.session.random
        if random.randrange(3) and self._under_way < UNDER_WAY_MAX:
            self._groups += 1
            self._write("write", self._groups - 1, -1)
        else:
            self._read("read", random.randrange(SHARED_GROUPS, self._groups + 1), -1)

    def _write(self, kind: str, group: int, peer: int) -> None:
        self._tag += 1
        self._under_way += 1
        operation = self.session.begin(kind, group, self._tag, peer)
        self._try(operation, 0, operation.peer)

    def _try(self, operation: Operation, attempt: int, peer: int) -> None:
        session = self.session
        number = b"%d" % operation.value
        value = b"%d.%d" % (operation.value, attempt)
        writes = [
            operations.put(self.bucket, key_of(operation.key, row), value, CONTENT_TYPE, Level.QUORUM)
            for row in range(ROWS)
        ]
        puts = tuple(write for write in writes if isinstance(write, WriteRequest))
        request = BatchRequest(puts, Level.QUORUM, operation=OperationId(number, number, REMEMBERED_US))

        def done(end: End) -> None:
            if end.status == OK:
                self._under_way -= 1
                session.end(operation, end)
                return
            at = session.random.randrange(len(session.cluster.machines))
            session.cluster.scheduler.after(PAUSE_US, self._try, operation, attempt + 1, at)

        session.door.ask(peer, request, done)

    def seen(self, group: int, found: Found) -> Seen:
        """As ever; and note by which attempt it came."""
        if found.value:
            self._seen.setdefault(group, {})[found.value] = True
        return super().seen(group, found)

    def final(self) -> None:
        """As ever, when every batch is done."""
        if self._under_way:
            self._final_left = 1
            self.session.cluster.scheduler.after(SECOND, self.final)
        else:
            super().final()

    def problems(self) -> list[Problem]:
        """As ever; and what was once seen of a group is what stays."""
        for _, rows in self._finals:
            for row in rows.values():
                self.seen(int(row.key[1:7]), row)
        again = [
            Problem("done_again", f"group {group} was seen as each of {sorted(values)}")
            for group, values in self._seen.items()
            if len(values) > 1
        ]
        return super().problems() + again
