"""Clients of a cluster and their operations: what every workload needs and no workload should write again.

A session issues operations at a steady rate, each by an idle client (a new one if all are waiting), records
them in a history, and retires the process of a client whose operation ended in info.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from core.consistency import Level
from jepsen_like.door import Door, End, Then
from jepsen_like.history import INFO, OK, History, Operation
from kv.buckets import Bucket, BucketSpec
from sim.cluster import SimCluster

PROBES = "probes"
"""A bucket for `probe_update`."""

SECOND = 1_000_000
CLIENTS_MAX = 2_000


class Session:
    """The clients of one run."""

    def __init__(self, cluster: SimCluster, name: str, also: History | None = None) -> None:
        """`also` is another history in which everything is told."""
        self.cluster = cluster
        self.door = Door(cluster)
        self.history = History(also)
        self.random = Random(f"{cluster.options.seed}:workload:{name}")
        self._idle = deque(self.history.new_process() for _ in range(cluster.options.clients))
        self._loading = False
        self.waiting = 0
        self.why_not = ""
        """Why the last bucket that was asked for was not made."""
        self.skipped = 0

    def sibling(self, name: str) -> Session:
        """Clients of their own, with a history of their own, at the same cluster and the same door.

        What they do is in this session's history, too.
        """
        other = Session(self.cluster, name, self.history)
        other.door = self.door
        return other

    # --- operations

    def begin(self, kind: str, key: Any, value: Any = None, peer: int = -1) -> Operation:
        """An idle client invokes an operation at a peer (-1: any, alive or not)."""
        if peer < 0:
            peer = self.random.randrange(len(self.cluster.machines))
        process = self._idle.popleft() if self._idle else self.history.new_process()
        self.waiting += 1
        return self.history.invoke(Operation(process, kind, key, value, peer), self.cluster.now_us)

    def end(self, operation: Operation, end: End) -> None:
        """It ended; its client is free again."""
        self.history.complete(operation, end.status, self.cluster.now_us, end.result)
        operation.detail = end.detail
        self.waiting -= 1
        self._idle.append(self.history.new_process() if end.status == INFO else operation.process)

    # --- load

    def load(self, step: Callable[[], None]) -> None:
        """Call `step` at the options' rate until `stop_load`."""
        self._loading = True
        self._tick(step)

    @property
    def loading(self) -> bool:
        """Whether there is load now."""
        return self._loading

    def stop_load(self) -> None:
        """No more steps."""
        self._loading = False

    def _tick(self, step: Callable[[], None]) -> None:
        if not self._loading:
            return
        if self.waiting < CLIENTS_MAX:
            step()
        else:
            self.skipped += 1
        self.cluster.scheduler.after(SECOND // self.cluster.options.rate, self._tick, step)

    # --- probes on the conditional path

    def probe_update(self, bucket: Bucket, peer: int) -> None:
        """A conditional write and a SERIAL read at this peer, of a key of its own.

        Workloads in which many fight for few partitions probe here: else a probe shows how long fights take,
        and not whether the peer serves.
        """
        write = self.begin("probe_write", ("probe", peer), None, peer)
        self.door.update(peer, bucket, f"p{peer}", _one_more, lambda end: self.end(write, end))
        read = self.begin("probe_read", ("probe", peer), None, peer)
        self.door.get(peer, bucket, f"p{peer}", Level.SERIAL, lambda end: self.end(read, end))

    # --- things that are tried until they work

    def make_bucket(self, spec: BucketSpec, timeout_us: int = 60 * SECOND) -> Bucket | None:
        """Create a bucket; None if that does not work in time."""
        made: list[bool] = []

        def attempt(ask: Callable[[int, Then], None], at: int) -> None:
            peer = at % len(self.cluster.machines)

            def judge(end: End) -> None:
                if end.status == OK:
                    made.append(True)
                else:
                    self.why_not = end.detail
                    self.cluster.scheduler.after(SECOND // 5, attempt, ask, at + 1)

            if peer in self.cluster.running():
                ask(peer, judge)
            else:
                self.cluster.scheduler.after(SECOND // 5, attempt, ask, at + 1)

        attempt(lambda peer, then: self.door.create_bucket(peer, spec, then), 0)
        self.cluster.run_until(lambda: bool(made), timeout_us)
        return self.door.bucket(spec.name) if made else None


def _one_more(value: bytes | None) -> bytes:
    return b"%d" % (int(value or b"0") + 1)
