"""Lists: each operation appends a unique element by one conditional update, or reads at SERIAL.

An append that its coordinator gave up as unknown is settled by a SERIAL read through another peer: what that
read does not show must never come.
"""

from __future__ import annotations

from core.consistency import Level
from jepsen_like.append_checker import Settled, appends
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.history import FAIL, INFO, OK, Operation
from jepsen_like.session import SECOND, Session
from kv.buckets import BucketSpec

KEYS_MAX = 5
APPENDS_PER_KEY = 150
WAITING_MAX = 20
TIMED_OUT = "Timeout"


class AppendWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("append", "read")

    def __init__(self) -> None:
        self._waiting: dict[int, int] = {}
        self._used: dict[int, int] = {}
        self._keys: list[int] = []
        self._next_key = self._next = 0
        self._final_left = 0
        self._settled: list[Settled] = []

    def setup(self, session: Session) -> bool:
        """One bucket."""
        self.session = session
        factor = session.cluster.options.replication
        bucket = session.make_bucket(BucketSpec("lists", None if factor == 3 else factor))
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
        """Two appends to a read."""
        draw = self.session.random.randrange
        at = draw(len(self._keys))
        key = self._keys[at]
        if self._waiting[key] >= WAITING_MAX:
            return
        if draw(3) == 0:
            self._read("read", key, -1)
            return
        self._used[key] += 1
        if self._used[key] == APPENDS_PER_KEY:
            self._keys[at] = self._new_key()
        self._append("append", key, -1)

    def probe(self, peer: int) -> None:
        """An append and a read, of keys of their own."""
        self._append("probe_write", -1 - peer, peer)
        self._read("probe_read", -1_001 - peer, peer)

    def _append(self, kind: str, key: int, peer: int) -> None:
        session = self.session
        self._next += 1
        element = self._next
        operation = session.begin(kind, key, element, peer)
        if key in self._waiting:
            self._waiting[key] += 1

        def change(value: bytes | None) -> bytes:
            return (value or b"") + b",%d" % element

        def done(end: End) -> None:
            if key in self._waiting:
                self._waiting[key] -= 1
            if end.status == OK and not end.result:
                end = End(FAIL, None, "not applied")  # there is no condition that could be false
            session.end(operation, end)
            if kind == "append" and end.status == INFO and end.detail == TIMED_OUT:
                self._read("read", key, -1, settles=operation)

        session.door.update(operation.peer, self.bucket, f"l{key}", change, done)

    def _read(
        self, kind: str, key: int, peer: int, again: bool = False, settles: Operation | None = None
    ) -> None:
        operation = self.session.begin(kind, key, None, peer)
        if settles is not None:
            self._settled.append(Settled(settles, operation))

        def done(end: End) -> None:
            if end.status == OK:
                text = b"" if end.result is None else end.result.value
                end = end._replace(result=tuple(int(item) for item in text.split(b",")[1:]))
                self._final_left -= again
            elif again:
                self.session.cluster.scheduler.after(SECOND, self._read, kind, key, peer, True)
            self.session.end(operation, end)

        self.session.door.get(operation.peer, self.bucket, f"l{key}", Level.SERIAL, done)

    def final(self) -> None:
        """Every key that ever was, through some peer, once nobody appends any more."""
        self._final_left = self._next_key
        self._read_all_when_idle()

    def _read_all_when_idle(self) -> None:
        if any(self._waiting.values()):
            self.session.cluster.scheduler.after(SECOND // 5, self._read_all_when_idle)
            return
        peers = len(self.session.cluster.machines)
        for key in range(1, self._next_key + 1):
            self._read("read", key, key % peers, again=True)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Every key judged; probes have keys of their own."""
        by_key: dict[object, list[Operation]] = {}
        for operation in self.session.history.operations:
            if operation.kind in self.kinds:
                by_key.setdefault(operation.key, []).append(operation)
        return appends(by_key, self._settled)
