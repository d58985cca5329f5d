"""Registers: plain QUORUM writes of unique values and QUORUM reads, under whatever clocks there are.

The coordinator stamps, so a read must see the last acknowledged write even where its coordinator's clock is
behind, and reads of one key never go back.
"""

from __future__ import annotations

from functools import partial

from core.cell import NO_VERSION
from core.consistency import Level
from jepsen_like.checkers import Problem, Seen, register
from jepsen_like.door import End
from jepsen_like.history import OK
from jepsen_like.session import SECOND, Session
from kv.buckets import BucketSpec


class RegisterWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("write", "read")
    monotonic = True
    """Whether the levels promise that a read never goes back behind another."""

    def __init__(self, levels: tuple[Level, Level] = (Level.QUORUM, Level.QUORUM)) -> None:
        """`levels` for writes and reads."""
        self.write_level, self.read_level = levels
        self._next = 0
        self._final_left = 0

    def setup(self, session: Session) -> bool:
        """One bucket."""
        self.session = session
        factor = session.cluster.options.replication
        bucket = session.make_bucket(BucketSpec("registers", None if factor == 3 else factor))
        if bucket is None:
            return False
        self.bucket = bucket
        return True

    def step(self) -> None:
        """As many writes as reads."""
        key = self.session.random.randrange(self.session.cluster.options.keys)
        if self.session.random.randrange(2):
            self._write("write", key, self.peer_for(key))
        else:
            self._read("read", key, self.peer_for(key))

    def peer_for(self, key: int) -> int:
        """Through whom a key is written and read; -1: anybody."""
        return -1

    def probe(self, peer: int) -> None:
        """A write and a read of a key of its own."""
        self._write("probe_write", -1 - peer, peer)
        self._read("probe_read", -1 - peer, peer)

    def _write(self, kind: str, key: int, peer: int) -> None:
        session = self.session
        self._next += 1
        operation = session.begin(kind, key, self._next, peer)
        value = str(self._next).encode().rjust(session.cluster.options.value_bytes, b".")
        session.door.put(
            operation.peer, self.bucket, (f"r{key}", value), self.write_level, partial(session.end, operation)
        )

    def _read(self, kind: str, key: int, peer: int, again: bool = False) -> None:
        operation = self.session.begin(kind, key, None, peer)

        def done(end: End) -> None:
            if end.status == OK:
                found = end.result
                seen = Seen(None, NO_VERSION)
                if found is not None:
                    seen = Seen(int(found.value.lstrip(b".")), found.version)
                end = end._replace(result=seen)
                self._final_left -= again
            elif again:
                self.session.cluster.scheduler.after(SECOND, self._read, kind, key, peer, True)
            self.session.end(operation, end)

        self.session.door.get(operation.peer, self.bucket, f"r{key}", self.read_level, done)

    def final(self) -> None:
        """Every key through every peer."""
        cluster = self.session.cluster
        keys, peers = range(cluster.options.keys), range(len(cluster.machines))
        self._final_left = len(keys) * len(peers)
        for key in keys:
            for peer in peers:
                self._read("read", key, peer, again=True)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Every key judged; probes have keys of their own."""
        operations = [op for op in self.session.history.operations if op.kind in ("write", "read")]
        return register(operations, self.monotonic)
