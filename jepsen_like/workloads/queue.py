"""A queue: items are put behind one another into one partition, the oldest are deleted, its ends are read.

So the head lies behind ever more deletions: the shortcuts past them (lsm/dead_runs.py, lsm/passing.py) may
neither pass an item that is there nor bring back one of which a reader was told, by its absence, that it is
gone. Some items are put before others that are there, or gone already, and a slow consumer holds one among
those that are gone. Items are put once, and deleted only when they were acknowledged.

Who reads the tail reads in reverse: the last items of all, or before one of the oldest, where deletions are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from core.consistency import Level
from jepsen_like.checkers import PROBLEMS_MAX, Problem
from jepsen_like.door import End
from jepsen_like.history import FAIL, OK, Operation
from jepsen_like.session import SECOND, Session
from kv.buckets import BucketSpec

DEPTH = 40
"""From how many items that are there on more are deleted than put."""
READ_MAX = 5
STEP = 10
"""Between the numbers of items, to leave room for those that are put before others."""
BACK_MAX = 4_000
CONSUMERS = 20
HELD = 200
"""So many others are deleted while one is held."""
PROBES_FROM = 10**9
END = 2**63
LEVEL = Level.QUORUM

Page = tuple[tuple[int, ...], bool]
"""The first items that are there, or the last ones, in the order read; and whether there may be more."""


class QueueWorkload:
    """See above. The key of an operation is the number of its item; the value of a tail what it is before."""

    kinds: tuple[str, ...] = ("put", "delete", "head", "tail")

    def __init__(self) -> None:
        self._next = STEP
        self._early: set[int] = set()
        self._there: list[int] = []
        self._held = 0
        self._held_left = 0
        self._final_left = 0

    def setup(self, session: Session) -> bool:
        """An ordered bucket."""
        self.session = session
        factor = session.cluster.options.replication
        bucket = session.make_bucket(BucketSpec("queue", None if factor == 3 else factor, ordered=True))
        if bucket is None:
            return False
        self.bucket = bucket
        return True

    def step(self) -> None:
        """As much is put as is deleted, as soon as there is enough."""
        dice = self.session.random.randrange(11)
        if dice < 2:
            self._read("head", -1)
        elif dice == 10:
            self._read("tail", -1)
        elif self._there and dice < (8 if len(self._there) > DEPTH else 5):
            self._delete(self._oldest())
        else:
            self._put("put", self._number(), -1)

    def _oldest(self) -> int:
        """One of the oldest that are there, and from now on is not; not the one that is held."""
        there = self._there
        self._held_left -= 1
        if self._held_left < 0:
            self._held, self._held_left = there[0], HELD
        at = self.session.random.randrange(min(CONSUMERS, len(there)))
        if there[at] == self._held and len(there) > 1:
            at = at - 1 if at else 1
        return there.pop(at)

    def _number(self) -> int:
        """Of an item behind all others, as a rule."""
        draw = self.session.random.randrange
        if draw(4) == 0:
            number = max(0, self._next - draw(BACK_MAX))
            if number % STEP and number not in self._early:
                self._early.add(number)
                return number
        self._next += STEP
        return self._next

    def probe(self, peer: int) -> None:
        """An item behind all others, and a read of the head."""
        self._put("probe_write", PROBES_FROM + peer, peer)
        self._read("probe_read", peer)

    def _put(self, kind: str, item: int, peer: int) -> None:
        session = self.session
        operation = session.begin(kind, item, None, peer)

        def done(end: End) -> None:
            if end.status == OK and kind == "put":
                self._there.append(item)
                self._there.sort()
            session.end(operation, end)

        session.door.put(operation.peer, self.bucket, (_name(item), b"item"), LEVEL, done)

    def _delete(self, item: int) -> None:
        operation = self.session.begin("delete", item)
        done = partial(self.session.end, operation)
        self.session.door.delete(operation.peer, self.bucket, _name(item), LEVEL, done)

    def _read(self, kind: str, peer: int, again: bool = False) -> None:
        session = self.session
        operation = session.begin(kind, None, self._before() if kind == "tail" else None, peer)

        def done(end: End) -> None:
            if end.status == OK:
                rows, more = end.result
                end = end._replace(result=(tuple(int(row.key[1:]) for row in rows), more))
                self._final_left -= again
            elif again:
                session.cluster.scheduler.after(SECOND, self._read, kind, peer, True)
            session.end(operation, end)

        rows_max = 1 + session.random.randrange(READ_MAX)
        if kind == "tail":
            before = _name(operation.value) if operation.value < END else ""
            session.door.page_back(operation.peer, self.bucket, (before, rows_max), LEVEL, done)
        else:
            session.door.page(operation.peer, self.bucket, ("", "", rows_max), LEVEL, done)

    def _before(self) -> int:
        """Where a tail ends: behind all, or among the oldest."""
        random = self.session.random
        if not self._there or random.randrange(4) == 0:
            return END
        return self._there[random.randrange(min(2 * READ_MAX, len(self._there)))]

    def final(self) -> None:
        """Both ends through every peer."""
        peers = range(len(self.session.cluster.machines))
        self._final_left = 2 * len(peers)
        for peer in peers:
            self._read("head", peer, again=True)
            self._read("tail", peer, again=True)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Each item, in all heads that were read."""
        return judge(self.session.history.operations)[:PROBLEMS_MAX]


def _name(item: int) -> str:
    return f"i{item:010d}"


class _Item:
    """When an item was there for certain, and when it was gone."""

    __slots__ = ("begun", "deleting", "gone", "put", "there")

    def __init__(self) -> None:
        self.begun = self.put = self.deleting = self.gone = 2**63
        """The put began, was acknowledged; its deletion began, was acknowledged or seen."""
        self.there = 2**63
        """When a read that saw it ended."""


def judge(operations: Sequence[Operation]) -> list[Problem]:
    """Judge the ends that were read.

    lost: an item that was acknowledged, or seen, before the read, and whose deletion had not begun when it
    ended, is not there. back: an item is there whose deletion was acknowledged, or which an earlier read did
    not see any more. unexpected: an item that nobody had put. disordered: items that do not rise, or in a
    tail do not fall; one that comes twice, too.
    """
    items: dict[int, _Item] = {}
    for op in operations:
        if op.kind == "put" and op.status != FAIL:
            item = items.setdefault(op.key, _Item())
            item.begun = op.invoked
            if op.status == OK:
                item.put = op.completed
        elif op.kind == "delete" and op.key in items:
            item = items[op.key]
            item.deleting = min(item.deleting, op.invoked)
            if op.status == OK:
                item.gone = min(item.gone, op.completed)
    problems: list[Problem] = []
    reads = [op for op in operations if op.kind in ("head", "tail") and op.status == OK]
    ended = sorted(reads, key=lambda op: op.completed)
    at = 0
    for read in sorted(reads, key=lambda op: op.invoked):
        while at < len(ended) and ended[at].completed < read.invoked:
            _learn(items, ended[at])
            at += 1
        problems += _judge(items, read)
    return problems


def _judge(items: dict[int, _Item], read: Operation) -> list[Problem]:
    seen: tuple[int, ...] = read.result[0]
    problems = []
    if list(seen) != sorted(set(seen), reverse=read.kind == "tail"):
        problems.append(Problem("disordered", repr(read)))
    for number in seen:
        if number >= PROBES_FROM:
            continue
        item = items.get(number)
        if item is None or item.begun > read.completed:
            problems.append(Problem("unexpected", f"item {number} in {read!r}"))
        elif item.gone < read.invoked:
            problems.append(Problem("back", f"item {number} in {read!r}, gone since {item.gone}"))
    for number in _passed(items, read):
        item = items[number]
        if min(item.put, item.there) < read.invoked and item.deleting > read.completed:
            problems.append(Problem("lost", f"item {number} is not in {read!r}"))
    return problems


def _learn(items: dict[int, _Item], read: Operation) -> None:
    """A read that has ended binds those that begin later."""
    for number in read.result[0]:
        if number in items:
            items[number].there = min(items[number].there, read.completed)
    for number in _passed(items, read):
        item = items[number]
        if min(item.put, item.there) < read.invoked and item.deleting < read.completed:
            item.gone = min(item.gone, read.completed)


def _passed(items: dict[int, _Item], read: Operation) -> list[int]:
    """The items that a read would have shown, had they been there."""
    seen, more = read.result
    first, end = 0, END
    if read.kind == "tail":
        end = read.value
        if more:
            first = min(seen, default=end)
    elif more:
        end = max(seen, default=-1) + 1
    return [number for number in items if first <= number < end and number not in seen]
