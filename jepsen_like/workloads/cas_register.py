"""CAS registers: conditional updates, unconditional ones on the same path, and SERIAL reads, per key.

What everybody saw must have one order per key (jepsen_like/linearizable.py). A key is used for so many
operations, then another takes its place, so that the search for that order stays short.
"""

from __future__ import annotations

from core.consistency import Level
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.history import OK, Operation
from jepsen_like.linearizable import Cas, linearizable
from jepsen_like.session import SECOND, Session
from kv.buckets import BucketSpec

VALUES = 5
KEYS_MAX = 5
OPERATIONS_PER_KEY = 100
WAITING_MAX = 20
"""Operations under way on one key."""

KINDS = ("read", "write", "cas")


class CasRegisterWorkload:
    """See above."""

    kinds: tuple[str, ...] = KINDS

    def __init__(self) -> None:
        self._waiting: dict[int, int] = {}
        self._used: dict[int, int] = {}
        self._keys: list[int] = []
        self._next_key = 0
        self._final_left = 0

    def setup(self, session: Session) -> bool:
        """One bucket."""
        self.session = session
        factor = session.cluster.options.replication
        bucket = session.make_bucket(BucketSpec("cas", None if factor == 3 else factor))
        if bucket is None:
            return False
        self.bucket = bucket
        for _ in range(min(KEYS_MAX, session.cluster.options.keys)):
            self._keys.append(self._new_key())
        return True

    def _new_key(self) -> int:
        self._next_key += 1
        self._used[self._next_key] = self._waiting[self._next_key] = 0
        return self._next_key

    def step(self) -> None:
        """Half of the operations read; of the others most are conditional."""
        draw = self.session.random.randrange
        at = draw(len(self._keys))
        key = self._keys[at]
        if self._waiting[key] >= WAITING_MAX:
            return
        self._used[key] += 1
        if self._used[key] == OPERATIONS_PER_KEY:
            self._keys[at] = self._new_key()
        dice = draw(10)
        if dice < 5:
            self._read("read", key, -1)
        elif dice < 7:
            self._write("write", key, -1)
        else:
            self._cas(key, Cas(draw(VALUES), draw(VALUES)))

    def probe(self, peer: int) -> None:
        """A write and a read, of keys of their own."""
        self._write("probe_write", -1 - peer, peer)
        self._read("probe_read", -1_001 - peer, peer)

    def _end(self, operation: Operation, end: End) -> None:
        if operation.key in self._waiting:
            self._waiting[operation.key] -= 1
        self.session.end(operation, end)

    def _begin(self, kind: str, key: int, value: object, peer: int) -> Operation:
        if key in self._waiting:
            self._waiting[key] += 1
        return self.session.begin(kind, key, value, peer)

    def _write(self, kind: str, key: int, peer: int) -> None:
        value = self.session.random.randrange(VALUES)
        operation = self._begin(kind, key, value, peer)
        door, new = self.session.door, str(value).encode()
        door.update(
            operation.peer, self.bucket, f"c{key}", lambda _: new, lambda end: self._end(operation, end)
        )

    def _cas(self, key: int, cas: Cas) -> None:
        operation = self._begin("cas", key, cas, -1)
        old, new = str(cas.old).encode(), str(cas.new).encode()

        def change(value: bytes | None) -> bytes | None:
            return new if value == old else None

        self.session.door.update(
            operation.peer, self.bucket, f"c{key}", change, lambda end: self._end(operation, end)
        )

    def _read(self, kind: str, key: int, peer: int, again: bool = False) -> None:
        operation = self._begin(kind, key, None, peer)

        def done(end: End) -> None:
            if end.status == OK:
                end = end._replace(result=None if end.result is None else int(end.result.value))
                self._final_left -= again
            elif again:
                self.session.cluster.scheduler.after(SECOND, self._read, kind, key, peer, True)
            self._end(operation, end)

        self.session.door.get(operation.peer, self.bucket, f"c{key}", Level.SERIAL, done)

    def final(self) -> None:
        """Every key that is in use, through every peer."""
        peers = range(len(self.session.cluster.machines))
        self._final_left = len(self._keys) * len(peers)
        for key in self._keys:
            for peer in peers:
                self._read("read", key, peer, again=True)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Every key judged; probes have keys of their own."""
        by_key: dict[object, list[Operation]] = {}
        for operation in self.session.history.operations:
            if operation.kind in KINDS:
                by_key.setdefault(operation.key, []).append(operation)
        return linearizable(by_key)
