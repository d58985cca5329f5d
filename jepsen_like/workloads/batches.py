"""Logged batches: each writes the rows of one group, which lie in several partitions, with one tag.

Half of the batches write a group of their own: in the end it holds all of its rows or none. The others
contend for a few groups: in the end all rows of a group hold the same tag, under one version. Reads of single
rows are judged as registers, since a batch that was acknowledged is seen, and what was seen stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from core.consistency import Level
from jepsen_like.checkers import Problem, Seen, registers
from jepsen_like.door import NOTHING, End, Found
from jepsen_like.history import FAIL, OK, Operation
from jepsen_like.session import SECOND, Session
from kv.buckets import BucketSpec

FINAL_PAGE_ROWS = 300
FINAL_PATIENCE_US = 30 * SECOND
ROWS = 4
SHARED_GROUPS = 3
RECENT = 100


class BatchesWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("write", "read")

    def __init__(self) -> None:
        self._tag = 0
        self._groups = SHARED_GROUPS
        self._final_left = 0
        self._finals: list[tuple[Operation, dict[str, Found]]] = []

    def setup(self, session: Session) -> bool:
        """One bucket."""
        self.session = session
        factor = session.cluster.options.replication
        bucket = session.make_bucket(BucketSpec("batches", None if factor == 3 else factor, 0))
        if bucket is None:
            return False
        self.bucket = bucket
        return True

    def step(self) -> None:
        """Two batches to one read."""
        random = self.session.random
        dice = random.randrange(6)
        if dice < 2:
            self._write("write", random.randrange(SHARED_GROUPS), -1)
        elif dice < 4:
            self._groups += 1
            self._write("write", self._groups - 1, -1)
        elif dice == 4:
            self._read("read", random.randrange(SHARED_GROUPS), -1)
        else:
            self._read("read", max(0, self._groups - 1 - random.randrange(RECENT)), -1)

    def probe(self, peer: int) -> None:
        """A batch and a read."""
        self._groups += 1
        self._write("probe_write", self._groups - 1, peer)
        self._read("probe_read", 0, peer)

    def _write(self, kind: str, group: int, peer: int) -> None:
        session = self.session
        self._tag += 1
        operation = session.begin(kind, group, self._tag, peer)
        value = str(self._tag).encode()
        items = [(key_of(group, row), value) for row in range(ROWS)]
        end = partial(session.end, operation)
        session.door.put_all(operation.peer, self.bucket, items, Level.QUORUM, end)

    def _read(self, kind: str, group: int, peer: int) -> None:
        row = self.session.random.randrange(ROWS)
        operation = self.session.begin(kind, group, None, peer)
        operation.detail = str(row)

        def done(end: End) -> None:
            found = end.result or NOTHING
            seen = self.seen(group, found)
            self.session.end(operation, End(end.status, seen if end.status == OK else None, str(row)))

        self.session.door.get(operation.peer, self.bucket, key_of(group, row), Level.QUORUM, done)

    def seen(self, group: int, found: Found) -> Seen:
        """What a read of a row of this group says of it."""
        del group
        return Seen(tag_of(found.value) if found.value else None, found.version)

    # --- the end

    def final(self) -> None:
        """Everything, at QUORUM through one peer and at ONE through each."""
        plan = [(Level.ONE, machine.index) for machine in self.session.cluster.machines]
        plan.append((Level.QUORUM, 0))
        self._final_left = len(plan)
        self.session.door.patience_us = FINAL_PATIENCE_US
        for level, peer in plan:
            self._page(level, peer, {}, "")

    def _page(self, level: Level, peer: int, rows: dict[str, Found], after: str) -> None:
        operation = self.session.begin(f"final_{level}", after, None, peer)

        def done(end: End) -> None:
            if end.status != OK:
                self.session.end(operation, end)
                self.session.cluster.scheduler.after(SECOND, self._page, level, peer, rows, after)
                return
            found, more = end.result
            rows.update((row.key, row) for row in found)
            self.session.end(operation, end._replace(result=len(rows)))
            if more and found:
                self._page(level, peer, rows, found[-1].key)
                return
            self._finals.append((operation, rows))
            self._final_left -= 1

        self.session.door.page(peer, self.bucket, ("", after, FINAL_PAGE_ROWS), level, done)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Groups as wholes, rows as registers."""
        batches = [op for op in self.session.history.operations if op.kind in ("write", "probe_write")]
        problems: list[Problem] = []
        for operation, rows in self._finals:
            problems += judge_groups(batches, rows, repr(operation))
        return problems + self._rows_as_registers()

    def _rows_as_registers(self) -> list[Problem]:
        by_row: dict[object, list[Operation]] = {}
        operations = self.session.history.operations
        probed = {op.key: True for op in operations if op.kind == "probe_write"}
        for op in operations:
            if op.key in probed:
                continue
            if op.kind == "write":
                for row in range(ROWS):
                    by_row.setdefault((op.key, str(row)), []).append(op)
            elif op.kind == "read":
                by_row.setdefault((op.key, op.detail), []).append(op)
        return registers(by_row)


def judge_groups(batches: Iterable[Operation], rows: Mapping[str, Found], where: str) -> list[Problem]:
    """Judge what is left of batches that wrote `ROWS` rows of the group `key` with the tag `value`.

    torn: the rows of a group have different tags or versions, or some are missing. lost: nothing is left of
    an acknowledged batch, or of one older than it. unexpected: a tag of a batch that failed, or of none.
    """
    by_group: dict[int, list[Operation]] = {}
    for batch in batches:
        by_group.setdefault(batch.key, []).append(batch)
    problems: list[Problem] = []
    for group, writers in by_group.items():
        found = [rows.get(key_of(group, row)) for row in range(ROWS)]
        states = {None if row is None else (row.value, row.version) for row in found}
        if len(states) > 1:
            problems.append(Problem("torn", f"group {group} in {where}: {found} of {writers[-3:]}"))
            continue
        first = found[0]
        acknowledged = [op for op in writers if op.status == OK]
        if first is None:
            if acknowledged:
                problems.append(Problem("lost", f"group {group} in {where}: nothing of {acknowledged[-1]!r}"))
            continue
        source = next((op for op in writers if op.value == tag_of(first.value)), None)
        if source is None or source.status == FAIL:
            problems.append(Problem("unexpected", f"group {group} in {where}: {first} of {source!r}"))
        newer = [op for op in acknowledged if op.result > first.version]
        if newer:
            problems.append(Problem("lost", f"group {group} in {where}: {first}, but {newer[-1]!r}"))
    return problems


def key_of(group: int, row: int) -> str:
    """The key of a row of a group."""
    return f"g{group:06d}-{row}"


def tag_of(value: bytes) -> int:
    """The tag that a value tells; behind a dot may stand by which attempt it came."""
    return int(value.partition(b".")[0])
