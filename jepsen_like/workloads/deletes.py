"""Deletes: rows of a few partitions are written, deleted one by one, by range and by partition, and read.

What was deleted must not come back, what was written must not be hidden by an older delete, and all replicas
must end with the same tombstones and the same rows, in whatever order things reached them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from core.cell import NO_VERSION
from core.consistency import Level
from jepsen_like.checkers import Problem, Seen, registers
from jepsen_like.door import End
from jepsen_like.history import OK, Operation
from jepsen_like.session import SECOND, Session
from kv.buckets import Bucket, BucketSpec

PARTITIONS = 3
KEYS = 12
LEVEL = Level.QUORUM


class DeletesWorkload:
    """See above. The key of an operation is (partition, first key, end key)."""

    kinds: tuple[str, ...] = ("write", "delete", "read")

    def __init__(self) -> None:
        self.buckets: list[Bucket] = []
        self._next = 0
        self._final_left = 0

    def setup(self, session: Session) -> bool:
        """A bucket for each partition."""
        self.session = session
        factor = session.cluster.options.replication
        for number in range(PARTITIONS):
            spec = BucketSpec(f"deletes-{number}", None if factor == 3 else factor, ordered=True)
            bucket = session.make_bucket(spec)
            if bucket is None:
                return False
            self.buckets.append(bucket)
        return True

    def step(self) -> None:
        """Mostly writes and reads; of the deletes most are of one row."""
        draw = self.session.random.randrange
        partition, key, dice = draw(PARTITIONS), draw(KEYS), draw(20)
        if dice < 8:
            self._write("write", partition, key, -1)
        elif dice < 15:
            self._read("read", partition, key, -1)
        elif dice < 18:
            self._delete(partition, key, key + 1)
        elif dice < 19:
            self._delete(partition, key, min(KEYS, key + 1 + draw(KEYS)))
        else:
            self._delete(partition, 0, KEYS)

    def probe(self, peer: int) -> None:
        """A write and a read beside the keys that are judged."""
        self._write("probe_write", 0, KEYS + peer, peer)
        self._read("probe_read", 0, KEYS + peer, peer)

    def _write(self, kind: str, partition: int, key: int, peer: int) -> None:
        session = self.session
        self._next += 1
        operation = session.begin(kind, (partition, key, key + 1), self._next, peer)
        item = (_name(key), str(self._next).encode())
        session.door.put(
            operation.peer, self.buckets[partition], item, LEVEL, partial(session.end, operation)
        )

    def _delete(self, partition: int, first: int, end: int) -> None:
        session, bucket = self.session, self.buckets[partition]
        operation = session.begin("delete", (partition, first, end))
        done: Callable[[End], None] = partial(session.end, operation)
        if end == first + 1:
            session.door.delete(operation.peer, bucket, _name(first), LEVEL, done)
        else:
            window = ("", "") if end - first == KEYS else (_name(first), _name(end))
            session.door.delete_many(operation.peer, bucket, window, LEVEL, done)

    def _read(self, kind: str, partition: int, key: int, peer: int, again: bool = False) -> None:
        operation = self.session.begin(kind, (partition, key, key + 1), None, peer)

        def done(end: End) -> None:
            if end.status == OK:
                found = end.result
                seen = Seen(None, NO_VERSION) if found is None else Seen(int(found.value), found.version)
                end = end._replace(result=seen)
                self._final_left -= again
            elif again:
                self.session.cluster.scheduler.after(SECOND, self._read, kind, partition, key, peer, True)
            self.session.end(operation, end)

        self.session.door.get(operation.peer, self.buckets[partition], _name(key), LEVEL, done)

    def final(self) -> None:
        """Every key through one peer after the other."""
        peers = len(self.session.cluster.machines)
        self._final_left = PARTITIONS * KEYS
        for partition in range(PARTITIONS):
            for key in range(KEYS):
                self._read("read", partition, key, (partition + key) % peers, again=True)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Each key with all that touched it; the keys of probes are not judged."""
        by_key: dict[object, list[Operation]] = {}
        for operation in self.session.history.operations:
            if operation.kind in self.kinds:
                partition, first, end = operation.key
                for key in range(first, end):
                    by_key.setdefault((partition, key), []).append(operation)
        return registers(by_key)


def _name(key: int) -> str:
    return f"k{key:03d}"
