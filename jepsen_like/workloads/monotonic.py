"""Numbers that only grow: neither a reader nor a version may ever go back.

`grow` adds one to a key on the conditional path; reads at QUORUM and at SERIAL must see at least what anybody
had seen or been told before, and a greater number must have a greater version. Beside them chains: a client
writes link after link, the next one only when the last was acknowledged, and readers look for a link and then
for the one before it. Whoever sees a link sees those before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from core.cell import NO_VERSION, Version
from core.consistency import Level
from jepsen_like.checkers import PROBLEMS_MAX, Problem
from jepsen_like.door import End, Then
from jepsen_like.history import FAIL, OK, Operation
from jepsen_like.session import SECOND, Session
from kv.buckets import BucketSpec

KEYS = 4
CHAINS = 4
WAITING_MAX = 5
RECENT = 5

Number = tuple[int, Version]
"""What a read of a growing key brings: (0, NO_VERSION) for nothing."""


class MonotonicWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("grow", "read", "read_serial", "link", "look")

    def __init__(self) -> None:
        self._waiting = dict.fromkeys(range(KEYS), 0)
        self._links = [0] * CHAINS
        self._linking = [False] * CHAINS
        self._final_left = 0

    def setup(self, session: Session) -> bool:
        """One bucket."""
        self.session = session
        factor = session.cluster.options.replication
        bucket = session.make_bucket(BucketSpec("monotonic", None if factor == 3 else factor))
        if bucket is None:
            return False
        self.bucket = bucket
        return True

    def step(self) -> None:
        """Growing, reading, linking, looking."""
        draw = self.session.random.randrange
        key, chain, dice = draw(KEYS), draw(CHAINS), draw(10)
        if dice < 2:
            if self._waiting[key] < WAITING_MAX:
                self._grow("grow", key, -1)
            else:
                self._read("read", key, Level.QUORUM, -1)
        elif dice < 5:
            self._read("read", key, Level.QUORUM, -1)
        elif dice == 5:
            self._read("read_serial", key, Level.SERIAL, -1)
        elif dice < 8:
            if self._linking[chain]:
                self._look("look", chain, max(0, self._links[chain] - draw(RECENT)), -1)
            else:
                self._link(chain)
        else:
            self._look("look", chain, max(0, self._links[chain] - draw(RECENT)), -1)

    def probe(self, peer: int) -> None:
        """A growing key of this peer's own, and a read."""
        self._grow("probe_write", -1 - peer, peer)
        self._read("probe_read", -1 - peer, Level.QUORUM, peer)

    def _grow(self, kind: str, key: int, peer: int) -> None:
        session = self.session
        operation = session.begin(kind, key, None, peer)
        if key in self._waiting:
            self._waiting[key] += 1

        def done(end: End) -> None:
            if key in self._waiting:
                self._waiting[key] -= 1
            session.end(operation, end)

        session.door.update(operation.peer, self.bucket, f"m{key}", _one_more, done)

    def _read(self, kind: str, key: int, level: Level, peer: int, again: bool = False) -> None:
        session = self.session
        operation = session.begin(kind, key, None, peer)

        def done(end: End) -> None:
            if end.status == OK:
                found = end.result
                seen = (0, NO_VERSION) if found is None else (int(found.value), found.version)
                end = end._replace(result=seen)
                self._final_left -= again
            elif again:
                session.cluster.scheduler.after(SECOND, self._read, kind, key, level, peer, True)
            session.end(operation, end)

        session.door.get(operation.peer, self.bucket, f"m{key}", level, done)

    # --- chains

    def _link(self, chain: int) -> None:
        """The next link of a chain, tried until it is acknowledged."""
        session, number = self.session, self._links[chain]
        self._linking[chain] = True
        operation = session.begin("link", ("chain", chain), number)

        def done(end: End) -> None:
            session.end(operation, end)
            self._linking[chain] = False
            self._links[chain] += end.status == OK

        item = (f"c{chain}-{number}", b"%d" % number)
        session.door.put(operation.peer, self.bucket, item, Level.QUORUM, done)

    def _look(self, kind: str, chain: int, number: int, peer: int) -> None:
        """Look for a link and, if it is there, for the one before it."""
        session = self.session
        operation = session.begin(kind, ("chain", chain), number, peer)

        def before(end: End) -> None:
            result = (True, end.result is not None) if end.status == OK else None
            session.end(operation, end._replace(result=result))

        def found(end: End) -> None:
            if end.status != OK or end.result is None or number == 0:
                session.end(operation, end._replace(result=(False, False) if end.status == OK else None))
                return
            self._get(operation.peer, chain, number - 1, before)

        self._get(operation.peer, chain, number, found)

    def _get(self, peer: int, chain: int, number: int, then: Then) -> None:
        self.session.door.get(peer, self.bucket, f"c{chain}-{number}", Level.QUORUM, then)

    # --- the end

    def final(self) -> None:
        """Every growing key through every peer."""
        peers = range(len(self.session.cluster.machines))
        self._final_left = KEYS * len(peers)
        for key in range(KEYS):
            for peer in peers:
                self._read("read", key, Level.QUORUM, peer, again=True)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Each growing key, and the chains."""
        operations = self.session.history.operations
        problems = judge_chains(op for op in operations if op.kind == "look")
        for key in range(KEYS):
            problems += judge_growth(
                [op for op in operations if op.key == key and op.kind in ("grow", "read", "read_serial")]
            )
        return problems[:PROBLEMS_MAX]


def _one_more(value: bytes | None) -> bytes:
    return b"%d" % (int(value or b"0") + 1)


def judge_chains(looks: Iterable[Operation]) -> list[Problem]:
    """`out_of_sequence`: a link was seen and the one before it was not."""
    return [
        Problem("out_of_sequence", repr(look))
        for look in looks
        if look.status == OK and look.result == (True, False)
    ]


def judge_growth(operations: list[Operation]) -> list[Problem]:
    """Judge one key that many `grow` by one and many read.

    back: less than an earlier read, or than the increments acknowledged before it. overcounted: more than the
    increments that may have begun. disordered: of two numbers the greater one has no greater version.
    """
    grows = [op for op in operations if op.kind == "grow" and op.status != FAIL]
    reads = sorted(
        (op for op in operations if op.kind != "grow" and op.status == OK), key=lambda op: op.invoked
    )
    ended = sorted((op for op in operations if op.status == OK), key=lambda op: op.completed)
    problems: list[Problem] = []
    seen = acknowledged = at = 0
    for read in reads:
        while at < len(ended) and ended[at].completed < read.invoked:
            done, at = ended[at], at + 1
            if done.kind == "grow":
                acknowledged += 1
            else:
                seen = max(seen, done.result[0])
        number = read.result[0]
        if number < max(seen, acknowledged):
            text = f"{read!r}, but {seen} had been seen and {acknowledged} acknowledged"
            problems.append(Problem("back", text))
        begun = sum(op.invoked < read.completed for op in grows)
        if number > begun:
            problems.append(Problem("overcounted", f"{read!r}, but only {begun} had begun"))
    ordered = sorted({read.result[::-1] for read in reads})
    for (one_version, one), (other_version, other) in pairwise(ordered):
        if other <= one or other_version == one_version:
            text = f"{one} has version {one_version}, {other} has {other_version}"
            problems.append(Problem("disordered", text))
    return problems
