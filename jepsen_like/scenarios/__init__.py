"""Named, deterministic scenarios: a few lines that tell a story, with everything else quiet and exact.

    s = Scenario(peers=3)
    s.start()                                    # all peers, until they serve
    kv = s.bucket("b")
    s.lose(lambda source, target, message: target == 2)
    s.put("b", "k", b"1", at=0)                  # waits for the end; `.status` is ok, fail or info
    s.power_cut(0, 1)
    s.start()
    assert s.get("b", "k", at=2).result.value == b"1"
    assert s.equal_within(60)

No loss, no jitter, no skew, quick disks: only what the story says goes wrong, so a scenario is about one
interleaving. Peers are numbered from 0. Times are virtual seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from core.consistency import Level
from core.messages import Message
from core.requests import Request
from core.settings import Settings
from jepsen_like import convergence
from jepsen_like.door import Door, End, Then
from jepsen_like.history import OK
from kv.buckets import Bucket, BucketSpec
from node.metadata_state import State
from node.node import Node
from sim.cluster import Reply, SimCluster
from sim.options import ClockOptions, DiskOptions, NetworkOptions, Options
from sim.real import RealSoftware, node_of

SECOND = 1_000_000
QUORUM = Level.QUORUM
PATIENCE_S = 30.0


class Scenario:
    """A cluster for one story. What it offers is what the story needs; the rest is at `cluster`."""

    def __init__(
        self, peers: int = 3, seed: int = 1, settings: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """`settings` change core.settings.Settings, `options` sim.options.Options."""
        quiet = Options(
            seed=seed,
            peers=peers,
            network=NetworkOptions(latency_min_us=1_000, latency_max_us=1_000, jitter_us=0),
            disk=DiskOptions(execute_min_us=50, execute_max_us=50, sync_min_us=1_000, sync_max_us=1_000),
            clock=ClockOptions(skew_us=0, drift_ppm=0),
            settings=Settings(**(settings or {})),
        )
        self.cluster = SimCluster(msgspec.structs.replace(quiet, **options), RealSoftware(), trace=True)
        self.door = Door(self.cluster)
        self.buckets: dict[str, Bucket] = {}

    # --- processes

    def start(self, *peers: int, serving: bool = True) -> None:
        """Start these peers (all that do not run, if none is named) and wait until they serve."""
        chosen = peers or tuple(machine.index for machine in self.cluster.machines)
        for peer in chosen:
            self.cluster.start(peer)
        if serving:
            assert self.until(lambda: all(self.node(peer).ready()[0] for peer in chosen)), [
                self.node(peer).ready() for peer in chosen
            ]
            assert self.until(lambda: all(self.sees_all(peer) for peer in chosen)), "not all are seen alive"

    def kill(self, *peers: int) -> None:
        """kill -9."""
        for peer in peers:
            self.cluster.kill(peer)

    def power_cut(self, *peers: int) -> None:
        """Cut the power: everything that was not synced is lost, to the last batch."""
        for peer in peers:
            engine = self.cluster.machines[peer].engine
            self.cluster.kill(peer)
            engine.crash(keep=0)

    def wipe(self, *peers: int) -> None:
        """Kill and empty the directory."""
        for peer in peers:
            self.cluster.wipe(peer)

    def pause(self, *peers: int) -> None:
        """SIGSTOP."""
        for peer in peers:
            self.cluster.pause(peer)

    def resume(self, *peers: int) -> None:
        """SIGCONT."""
        for peer in peers:
            self.cluster.resume(peer)

    def node(self, peer: int) -> Node:
        """The node itself."""
        return node_of(self.cluster, peer)

    def state(self, peer: int) -> State:
        """The metadata as this peer knows it."""
        return self.node(peer).metadata.state

    def sees_all(self, peer: int) -> bool:
        """Whether a peer takes all running peers for alive."""
        ids = [self.cluster.machines[index].peer for index in self.cluster.running()]
        return all(self.node(peer).swim.is_alive(other) for other in ids)

    def sees_dead(self, peer: int, *others: int) -> bool:
        """Whether a peer takes these for not alive."""
        return not any(self.node(peer).swim.is_alive(self.cluster.machines[other].peer) for other in others)

    # --- network, disks, clocks

    def cut(self, one: list[int], other: list[int], one_way: bool = False) -> None:
        """Cut two groups from each other."""
        self.cluster.cut(one, other, one_way)

    def heal(self) -> None:
        """End cuts, losses and slowness."""
        self.cluster.network.drop = None
        self.cluster.heal()

    def lose(self, which: Callable[[int, int, Message], bool]) -> None:
        """Lose the messages for which `which(source, target, message)` holds, until `heal`."""
        self.cluster.network.drop = which

    def hold_syncs(self, peer: int, seconds: float = 3_600.0) -> None:
        """Syncs of a peer's disk take so long from now on (0: as before)."""
        self.cluster.machines[peer].slow_sync_us = int(seconds * SECOND)

    def set_clock(self, peer: int, ahead_s: float) -> None:
        """This peer's wall clock is so far ahead of the truth."""
        self.cluster.machines[peer].clock.offset_us = int(ahead_s * SECOND)

    # --- time

    def run(self, seconds: float) -> None:
        """Let things happen."""
        self.cluster.run_for(int(seconds * SECOND))

    def until(self, predicate: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
        """Let things happen until it holds; False if it does not in time."""
        return self.cluster.run_until(predicate, int(timeout_s * SECOND))

    # --- clients

    def wait(self, begin: Callable[[Then], None], timeout_s: float = PATIENCE_S) -> End:
        """Begin an operation of the door and let things happen until it has ended."""
        ends: list[End] = []
        begin(ends.append)
        assert self.until(lambda: bool(ends), timeout_s), "an operation never ended"
        return ends[0]

    def ask(self, request: Request, at: int = 0, timeout_s: float = PATIENCE_S) -> Reply:
        """Any request of core/requests.py, to the peer `at`."""
        replies: list[Reply] = []
        self.cluster.request(at, request, int(timeout_s * SECOND), replies.append)
        assert self.until(lambda: bool(replies), timeout_s + 1), "a client always hears in the end"
        return replies[0]

    def bucket(
        self,
        name: str,
        at: int = 0,
        ordered: bool = False,
        factor: int | None = None,
        *,
        changes: str | None = None,
    ) -> Bucket:
        """Create a bucket, known to all running peers, and remember it by its name."""
        spec = BucketSpec(name, factor, 0, ordered=ordered, changes=changes)
        end = self.wait(lambda then: self.door.create_bucket(at, spec, then))
        assert end.status == OK, end
        found = self.door.bucket(name)
        assert found is not None
        self.buckets[name] = found
        table = found.table
        assert self.until(lambda: all(table in self.state(peer).tables for peer in self.cluster.running()))
        return found

    def put(self, bucket: str, key: str, value: bytes, at: int = 0, level: Level = QUORUM) -> End:
        """Write a key through the peer `at`; ok brings the version."""
        return self.wait(lambda then: self.door.put(at, self.buckets[bucket], (key, value), level, then))

    def delete(self, bucket: str, key: str, at: int = 0, level: Level = QUORUM) -> End:
        """Delete a key."""
        return self.wait(lambda then: self.door.delete(at, self.buckets[bucket], key, level, then))

    def delete_partition(self, bucket: str, at: int = 0, level: Level = QUORUM) -> End:
        """Delete all of an ordered bucket."""
        return self.wait(lambda then: self.door.delete_many(at, self.buckets[bucket], ("", ""), level, then))

    def get(self, bucket: str, key: str, at: int = 0, level: Level = QUORUM) -> End:
        """Read a key; ok brings a Found or None."""
        return self.wait(lambda then: self.door.get(at, self.buckets[bucket], key, level, then))

    # --- what disks hold

    def stored(self, peer: int, bucket: str) -> dict[bytes, bytes]:
        """All rows and headers of a bucket on one disk, by their keys."""
        return convergence.rows_of(self.cluster, peer, self.buckets[bucket].table)

    def equal_within(self, seconds: float = 60.0) -> bool:
        """Whether all replicas come to hold the same, with no help."""
        for _ in range(int(seconds)):
            if not convergence.differences(self.cluster):
                return True
            self.run(1)
        return not convergence.differences(self.cluster)
