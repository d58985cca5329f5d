"""Replicas that keep each other equal, on real stores in memory, over a network that a test makes as bad as
it likes.

Three peers hold all of two tables, `flat` (1) and `wide` (2). Of a node there are only the parts under
test: replica, hints, following, anti-entropy. Metadata and liveness are set by the test. Time is virtual;
one seed decides.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, cast

from core.cell import Cell
from core.commands import Apply, Command, MergeRows, TreeHashes
from core.healing_messages import RowsTold, TreeAnswer
from core.hlc import HybridClock
from core.messages import (
    Fetched,
    Followed,
    Message,
    MutationApplied,
    OperationFailed,
    SliceRead,
    Stale,
    decode_message,
    encode_message,
)
from core.metadata import Epoch
from core.mutation import UPDATE, Mutation, encode_mutation
from core.ports import Event, Identity, PeerId
from core.row import Header, Row
from core.settings import Settings
from lsm import keys
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.memory import MemoryEngine
from lsm.store import Store
from node.anti_entropy import AntiEntropy
from node.following import Following
from node.hints import Hints
from node.inside import Inside
from node.metadata_state import State, apply
from node.replica import Replica
from node.retention import Retention
from ring.tokens import token_of
from tests.node.stage import PEERS, cluster_state

MS, SECOND = 1_000, 1_000_000
FLAT, WIDE = 1, 2
A, B, C = PEERS
WALL_US = 1_700_000_000 * SECOND
ANSWERS = (SliceRead, MutationApplied, OperationFailed, Followed, Fetched, TreeAnswer, RowsTold)


class TestMetadata:
    """Metadata as the test sets it; what a `Stale` brings is adopted."""

    __test__ = False

    def __init__(self, peer: Peer, state: State, epochs: list[Epoch]) -> None:
        self.state = state
        self.unready = ""
        self._peer = peer
        self._epochs = epochs
        """What all peers could know; this one knows the first `state.epoch`."""

    def adopt(self, epochs: Sequence[Epoch]) -> None:
        for epoch in epochs:
            if epoch.number == self.state.epoch + 1:
                self.state = apply(self.state, epoch)

    def stale_for(self, table: int, epoch: int) -> tuple[Epoch, ...] | None:
        known = self.state.tables.get(table)
        if known is not None and known.changed_epoch <= epoch:
            return None
        return tuple(e for e in self._epochs if epoch < e.number <= self.state.epoch)

    def catch_up(self, peer: PeerId, epoch: int, then: Callable[[], None]) -> None:
        self.adopt([e for e in self._epochs if e.number <= epoch])
        assert self.state.epoch >= epoch, "an epoch that the test forgot to make known"
        then()


class TestSwim:
    """Liveness as the test sets it."""

    __test__ = False

    def __init__(self) -> None:
        self.dead: list[PeerId] = []
        self._listeners: list[Callable[[PeerId, int], None]] = []

    def is_alive(self, peer: PeerId) -> bool:
        return peer not in self.dead

    def on_change(self, listener: Callable[[PeerId, int], None]) -> None:
        self._listeners.append(listener)

    def set(self, peer: PeerId, alive: bool) -> None:
        self.dead = [p for p in self.dead if p != peer] + ([] if alive else [peer])
        for listener in self._listeners:
            listener(peer, 0 if alive else 2)


class Peer:
    """One peer: a World for its parts, its store, and the parts themselves while it is up."""

    def __init__(self, world: ReplicaWorld, peer: PeerId) -> None:
        self.world = world
        self.peer = peer
        self.engine = MemoryEngine()
        self.starts = 0
        self.up = False
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []
        self.timers: dict[int, tuple[Any, ...]] = {}
        self.next_timer = 0
        self.state = world.state

    def start(self) -> None:
        self.starts += 1
        self.up = True
        self.swim = TestSwim()
        self.metadata = TestMetadata(self, self.state, self.world.epochs)
        self.store = Store(self.engine, lambda table: self.metadata.state.tables.get(table))
        self.executor = Executor(self.store, Commit())
        self.clock = HybridClock(self.wall_us, 0)
        identity = Identity(self.peer, self.starts, self.peer[:1].hex(), "", "dc1", "r1")
        self.inside = Inside(
            cast("Any", self),
            identity,
            cluster_name="test",
            initial=(),
            settings=self.world.settings,
            clock=self.clock,
        )
        self.replica = Replica(self.inside, cast("Any", self.metadata))
        self.hints = Hints(self.inside, self.metadata, self.swim)
        boot = {key: value for key, value in self.store.boot(b"").items() if not key.startswith(b"hint/")}
        self.following = Following(self.inside, self.metadata, self.swim, boot)
        self.trees = AntiEntropy(self.inside, self.metadata, self.swim, self.following)
        self.retention = Retention(self.inside, cast("Any", self.metadata), lambda done: done([]))
        for kind in ANSWERS:
            self.inside.message_handlers[kind] = self._on_answer
        self.inside.message_handlers[Stale] = self._on_stale
        self.hints.start()

    def run_background(self, *, trees: bool = True, following: bool = True) -> None:
        """Begin what goes on by itself."""
        if following:
            self.following.start()
        if trees:
            self.trees.start()
        self.retention.start()

    def crash(self) -> None:
        """Power is cut: what was not synced is lost."""
        self.up = False
        self.timers.clear()
        self.state = self.metadata.state
        self.engine.crash(0)

    def _on_answer(self, peer: PeerId, message: Any) -> None:
        operation = self.inside.operations.get(message.op)
        if operation is not None:
            operation.on_message(peer, message)

    def _on_stale(self, peer: PeerId, message: Stale) -> None:
        self.metadata.adopt(message.epochs)
        self._on_answer(peer, message)

    # --- core.ports.World

    def send(self, peer: PeerId, message: Message, lane: int) -> bool:
        return self.world.send(self.peer, peer, message)

    def set_timer(self, delay_us: int, timer: tuple[Any, ...]) -> int:
        assert delay_us >= 0
        self.next_timer += 1
        number = self.next_timer
        self.timers[number] = timer
        self.world.at(delay_us, lambda: self._fire(number))
        return number

    def _fire(self, number: int) -> None:
        timer = self.timers.pop(number, None)
        if timer is not None:
            self.inside.timer_fired(timer)

    def cancel_timer(self, timer_id: int) -> None:
        self.timers.pop(timer_id, None)

    def run(self, ticket: tuple[Any, ...], job: Callable[[], Any]) -> None:
        raise AssertionError("no part here has jobs")

    def submit(self, ticket: tuple[Any, ...], command: Command) -> None:
        self.counts[type(command).__name__] += 1
        self.executor.submit(ticket, command)
        self.world.at(self.world.random.randint(10, 200), self._guarded(self._pump))

    def _guarded(self, call: Callable[[], None]) -> Callable[[], None]:
        start = self.starts
        return lambda: call() if self.up and self.starts == start else None

    def _pump(self) -> None:
        self.executor.run()
        sequence = self.executor.begin_sync()
        if sequence is not None:
            token = self.engine.begin_sync()
            self.world.at(
                self.world.random.randint(100, 2 * MS), self._guarded(lambda: self._synced(sequence, token))
            )
        self._release()

    def _synced(self, sequence: int, token: int) -> None:
        self.engine.finish_sync(token)
        self.executor.end_sync(sequence)
        self._pump()

    def _release(self) -> None:
        for ticket, outcome in self.executor.take_released():
            self.inside.stored(ticket, outcome)

    def wall_us(self) -> int:
        return WALL_US + self.world.now_us

    def monotonic_us(self) -> int:
        return self.world.now_us

    def below(self, n: int) -> int:
        return self.world.random.randrange(n)

    def note(self, event: Event) -> None:
        if event.level == "count":
            self.counts[event.name] += int(event.amount)
        else:
            self.lines.append(f"{event.level} {event.name}: {event.text}")

    # --- what tests do and look at

    def apply(self, *mutations: bytes) -> None:
        """Apply at once and durably, as if a coordinator's message had come."""
        for mutation in mutations:
            self.store.execute(Apply(mutation))
        self.engine.sync()

    def merge(self, table: int, rows: Sequence[tuple[bytes, bytes]]) -> None:
        self.store.execute(MergeRows(table, tuple(rows)))
        self.engine.sync()

    def take_store_of(self, other: Peer) -> None:
        """Have a copy of all that it stored, as if all of it had come here, too."""
        self.engine.write(tuple(other.engine.scan(b"", b"\xff")))
        self.engine.sync()
        self.start()

    def rows(self) -> dict[bytes, bytes]:
        """All records of rows and headers."""
        return dict(self.engine.scan(keys.ROW, keys.successor(keys.ROW)))

    def ids(self) -> list[bytes]:
        """All mutation ids that this peer's log has held."""
        return self.engine.keys(keys.MUTATION_ID, keys.successor(keys.MUTATION_ID))

    def root(self, table: int) -> Any:
        return self.store.execute(TreeHashes(table, ((0, 2**18),), 1))


class ReplicaWorld:
    """The peers, the network, time."""

    def __init__(
        self, seed: int = 0, settings: Settings | None = None, peers: Sequence[PeerId] = PEERS
    ) -> None:
        self.random = Random(seed)
        self.now_us = 0
        self.settings = settings or Settings()
        self.state = cluster_state()
        self.epochs: list[Epoch] = []
        self.loss = self.duplication = 0.0
        self.latency_us = (100, 2 * MS)
        self.cut: list[PeerId] = []
        self.sent: Counter[str] = Counter()
        self.bytes_sent = 0
        self.watch: Callable[[PeerId, PeerId, Message], None] | None = None
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._mutations = 0
        self.peers = {peer: Peer(self, peer) for peer in peers}
        for peer in self.peers.values():
            peer.start()

    def __getitem__(self, peer: PeerId) -> Peer:
        return self.peers[peer]

    # --- time

    def at(self, delay_us: int, call: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now_us + delay_us, self._sequence, call))

    def run(self, us: int) -> None:
        """Let so much time pass."""
        end_us = self.now_us + us
        while self._heap and self._heap[0][0] <= end_us:
            self.now_us, _, call = heapq.heappop(self._heap)
            call()
        self.now_us = end_us

    def until(self, condition: Callable[[], bool], limit_us: int, every_us: int = 0) -> int:
        """Let time pass until it holds; fails if it does not within the limit. Returns how long it took.

        A condition that is dear to ask is asked only every so often.
        """
        began_us = asked_us = self.now_us
        while not condition():
            asked_us = max(asked_us + every_us, self.now_us)
            self._one_event()
            while self.now_us < asked_us:
                self._one_event()
            assert self.now_us - began_us < limit_us, "it did not come to pass in time"
        return self.now_us - began_us

    def _one_event(self) -> None:
        assert self._heap, "nothing will ever happen again"
        self.now_us, _, call = heapq.heappop(self._heap)
        call()

    # --- the network

    def send(self, sender: PeerId, peer: PeerId, message: Message) -> bool:
        if sender in self.cut or peer in self.cut or peer not in self.peers:
            return False
        data = encode_message(message)
        self.sent[type(message).__name__] += 1
        self.bytes_sent += len(data)
        if self.watch is not None:
            self.watch(sender, peer, message)
        copies = 1 + (self.random.random() < self.duplication)
        for _ in range(copies):
            if self.random.random() >= self.loss:
                self.at(self.random.randint(*self.latency_us), lambda: self._deliver(sender, peer, data))
        return True

    def _deliver(self, sender: PeerId, peer: PeerId, data: bytes) -> None:
        target = self.peers[peer]
        if target.up and sender not in self.cut and peer not in self.cut:
            message = decode_message(data)
            target.inside.message_handlers[type(message)](sender, message)

    # --- peers

    def down(self, peer: PeerId) -> None:
        """Crash it, and let the others know."""
        self.peers[peer].crash()
        self.tell(peer, alive=False)

    def restart(self, peer: PeerId) -> None:
        """Start it again; the others notice."""
        self.peers[peer].start()
        self.tell(peer, alive=True)

    def tell(self, peer: PeerId, alive: bool) -> None:
        for other in self.peers.values():
            if other.up and other.peer != peer:
                other.swim.set(peer, alive)

    # --- writes

    def mutation(self, key: str, value: str, timestamp_us: int = 0, table: int = FLAT) -> bytes:
        """A write of one cell to one row, under an id of its own."""
        suffix = keys.ROW_SUFFIX + (keys.clustering_text("1") if table == WIDE else b"")
        return self.partition_mutation(key, ((suffix, value),), timestamp_us=timestamp_us, table=table)

    def partition_mutation(
        self,
        key: str,
        rows: Sequence[tuple[bytes, str]],
        *,
        header: Header | None = None,
        timestamp_us: int = 0,
        table: int = WIDE,
    ) -> bytes:
        self._mutations += 1
        at_us = WALL_US + self.now_us
        stamp_us = timestamp_us or at_us + self._mutations
        partition = key.encode()
        cells = tuple(
            (suffix, Row(None, (Cell(1, (), 0, stamp_us, 7, 0, value.encode()),))) for suffix, value in rows
        )
        return encode_mutation(
            Mutation(
                start=7,
                sequence=self._mutations,
                attempt=0,
                admitted_us=at_us,
                stamped=True,
                operation=UPDATE,
                table=table,
                token=token_of(partition),
                partition=partition,
                header=header,
                rows=cells,
            )
        )

    def equal(self) -> bool:
        """Whether all peers that are up hold the same rows."""
        first, *others = [peer.rows() for peer in self.peers.values() if peer.up]
        return all(rows == first for rows in others)
