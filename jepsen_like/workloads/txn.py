"""Transactions on lists: each reads some lists of a partition and appends unique elements to others, in one.

A partition is an ordered bucket, a transaction a conditional batch. What everybody saw must have one order,
also in real time (jepsen_like/cycles.py). After so many appends a list is left alone and another takes its
place.
"""

from __future__ import annotations

from collections.abc import Mapping

from core.consistency import Level
from jepsen_like.checkers import Problem
from jepsen_like.cycles import APPEND, READ, Micro, transactions
from jepsen_like.door import End
from jepsen_like.history import FAIL, INFO, OK, Operation
from jepsen_like.session import PROBES, SECOND, Session
from kv.buckets import Bucket, BucketSpec

PARTITIONS = 2
LISTS = 3
"""Lists of a partition that are in use at a time."""
APPENDS_PER_LIST = 40
STEPS_MAX = 4
WAITING_MAX = 10

List = tuple[int, int]
"""(partition, list)."""


class TxnWorkload:
    """See above. The key of an operation is its partition."""

    kinds: tuple[str, ...] = ("txn", "read")

    def __init__(self) -> None:
        self.buckets: list[Bucket] = []
        self._lists = [list(range(LISTS)) for _ in range(PARTITIONS)]
        self._used: dict[List, int] = {}
        self._waiting = [0] * PARTITIONS
        self._next = 0
        self._final_left = 0

    def setup(self, session: Session) -> bool:
        """A bucket for each partition."""
        self.session = session
        factor = session.cluster.options.replication
        for number in range(PARTITIONS):
            spec = BucketSpec(f"txn-{number}", None if factor == 3 else factor, ordered=True)
            bucket = session.make_bucket(spec)
            if bucket is None:
                return False
            self.buckets.append(bucket)
        probes = session.make_bucket(BucketSpec(f"txn-{PROBES}", None if factor == 3 else factor))
        if probes is not None:
            self._probes = probes
        return probes is not None

    def step(self) -> None:
        """Mostly transactions that write; some only read."""
        draw = self.session.random.randrange
        partition = draw(PARTITIONS)
        if self._waiting[partition] >= WAITING_MAX:
            self._read("read", partition, -1)
            return
        steps = tuple(self._step(partition) for _ in range(1 + draw(STEPS_MAX)))
        if draw(4) == 0 or all(step.kind == READ for step in steps):
            self._read("read", partition, -1)
        else:
            self._transact("txn", partition, steps, -1)

    def _step(self, partition: int) -> Micro:
        draw = self.session.random.randrange
        in_use = self._lists[partition]
        at = draw(len(in_use))
        key = (partition, in_use[at])
        if draw(2):
            return Micro(READ, key, None)
        self._next += 1
        self._used[key] = self._used.get(key, 0) + 1
        if self._used[key] == APPENDS_PER_LIST:
            in_use[at] = max(in_use) + 1
        return Micro(APPEND, key, self._next)

    def probe(self, peer: int) -> None:
        """An update and a read beside the partitions that all fight for."""
        self.session.probe_update(self._probes, peer)

    def _transact(self, kind: str, partition: int, steps: tuple[Micro, ...], peer: int) -> None:
        session = self.session
        operation = session.begin(kind, partition, steps, peer)
        self._waiting[partition] += 1
        lists = list({step.key[1]: True for step in steps})
        names = [_name(number) for number in lists]

        def change(values: tuple[bytes | None, ...]) -> Mapping[str, bytes]:
            new = {number: value or b"" for number, value in zip(lists, values, strict=True)}
            written: dict[str, bytes] = {}
            for step in steps:
                if step.kind == APPEND:
                    new[step.key[1]] += b",%d" % step.value
                    written[_name(step.key[1])] = new[step.key[1]]
            return written

        def done(end: End) -> None:
            self._waiting[partition] -= 1
            if end.status == OK and not end.result.applied:
                end = End(FAIL, None, "not applied")  # there is no condition that could be false
            elif end.status == OK:
                before = dict(zip(lists, map(_elements, end.result.values), strict=True))
                end = end._replace(result=tuple(_as_it_ran(steps, before)))
            session.end(operation, end)

        session.door.transact(operation.peer, self.buckets[partition], names, change, done)

    def _read(self, kind: str, partition: int, peer: int, again: bool = False) -> None:
        """All lists of a partition that are in use, or in the end that ever were, by a SERIAL read."""
        number_of = range(max(self._lists[partition]) + 1) if again else self._lists[partition]
        steps = tuple(Micro(READ, (partition, number), None) for number in number_of)
        operation = self.session.begin(kind, partition, steps, peer)

        def done(end: End) -> None:
            if end.status == OK:
                rows, more = end.result
                assert not more
                found = {row.key: _elements(row.value) for row in rows}
                seen = (step._replace(value=found.get(_name(step.key[1]), ())) for step in steps)
                end = end._replace(result=tuple(seen))
                self._final_left -= again
            elif again:
                self.session.cluster.scheduler.after(SECOND, self._read, kind, partition, peer, True)
            self.session.end(operation, end)

        bucket = self.buckets[partition]
        self.session.door.page(operation.peer, bucket, ("l", "", 1_000), Level.SERIAL, done)

    # --- the end

    def final(self) -> None:
        """Every list through every peer, once no transaction is under way."""
        self._final_left = 1
        self._read_all_when_idle()

    def _read_all_when_idle(self) -> None:
        if any(self._waiting):
            self.session.cluster.scheduler.after(SECOND // 5, self._read_all_when_idle)
            return
        peers = range(len(self.session.cluster.machines))
        self._final_left = PARTITIONS * len(peers)
        for partition in range(PARTITIONS):
            for peer in peers:
                self._read("read", partition, peer, again=True)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Each partition's transactions judged together: partitions promise nothing to each other."""
        problems: list[Problem] = []
        for partition in range(PARTITIONS):
            problems += transactions(
                [
                    op
                    for op in self.session.history.operations
                    if op.key == partition and op.kind in self.kinds and not _unknown_read(op)
                ]
            )
        return problems


def _unknown_read(operation: Operation) -> bool:
    return operation.kind == "read" and operation.status in (FAIL, INFO)


def _as_it_ran(steps: tuple[Micro, ...], before: Mapping[int, tuple[int, ...]]) -> list[Micro]:
    """The steps one after the other: a read sees what the transaction itself appended before it."""
    lists, ran = dict(before), []
    for step in steps:
        number = step.key[1]
        if step.kind == APPEND:
            lists[number] = (*lists[number], step.value)
            ran.append(step)
        else:
            ran.append(step._replace(value=lists[number]))
    return ran


def _elements(value: bytes | None) -> tuple[int, ...]:
    return tuple(int(item) for item in (value or b"").split(b",")[1:])


def _name(number: int) -> str:
    return f"l{number:04d}"
