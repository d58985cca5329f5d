"""A small deterministic world for failure detectors alone: a heap of events, loss, cuts, crashes, pauses.

It has no connections: messages are datagrams, and nobody is told that a process died. So what is shown here
holds without the help of a transport.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from random import Random
from typing import Any

from core.hlc import HybridClock
from core.messages import Message, encode_message
from core.ports import Event, Identity, PeerId, Timer, TimerId
from core.schema import Member
from core.settings import Settings
from node.inside import Inside
from node.rumours import ALIVE, DEAD
from node.swim import Swim

SECOND = 1_000_000


class FakeState:
    def __init__(self, epoch: int, members: tuple[Member, ...]) -> None:
        self.epoch = epoch
        self.members = members
        self._numbers = {member.peer: member.number for member in members}
        self._peers = {member.number: member.peer for member in members}

    def number_of(self, peer: PeerId) -> int | None:
        return self._numbers.get(peer)

    def peer_of(self, number: int) -> PeerId | None:
        return self._peers.get(number)


class FakeMetadata:
    def __init__(self, state: FakeState) -> None:
        self.state = state
        self.told: list[tuple[PeerId, int]] = []
        self.callbacks: list[Any] = []

    def behind(self, peer: PeerId, epoch: int) -> None:
        self.told.append((peer, epoch))

    def on_adopted(self, callback: Any) -> None:
        self.callbacks.append(callback)

    def adopt(self, state: FakeState) -> None:
        self.state = state
        for callback in self.callbacks:
            callback()


class Process:
    """One incarnation of a peer: the World of its Swim. `backlog` holds what happens while it is stopped."""

    def __init__(self, cluster: Cluster, member: Member, start: int, state: FakeState) -> None:
        self.cluster = cluster
        self.member = member
        self.running = True
        self.backlog: list[Any] | None = None
        self.bytes_sent = 0
        self.messages_sent = 0
        self.last_sent: tuple[int, Message] | None = None
        self.events: list[Event] = []
        self._random = Random(f"{cluster.seed}:{member.number}:{start}")
        self._timers: dict[TimerId, Timer] = {}
        self._timer_id = 0
        identity = Identity(member.peer, start, member.name, member.address, "dc1", "r1")
        clock = HybridClock(self.monotonic_us, 0)
        world: Any = self
        self.inside = Inside(
            world, identity, cluster_name="test", initial=(), settings=cluster.settings, clock=clock
        )
        self.metadata = FakeMetadata(state)
        self.swim = Swim(self.inside, self.metadata)
        self.changes: list[tuple[int, int, int]] = []
        self.swim.on_change(lambda peer, s: self.changes.append((cluster.now_us, cluster.number(peer), s)))

    def send(self, peer: PeerId, message: Message, lane: int) -> bool:
        self.messages_sent += 1
        self.last_sent = (self.cluster.number(peer), message)
        if self.cluster.count_bytes:
            self.bytes_sent += len(encode_message(message))
        self.cluster.carry(self.member.number, self.cluster.number(peer), message)
        return True

    def set_timer(self, delay_us: int, timer: Timer) -> TimerId:
        self._timer_id += 1
        self._timers[self._timer_id] = timer
        self.cluster.after(delay_us, self.call, self._fire, self._timer_id)
        return self._timer_id

    def cancel_timer(self, timer_id: TimerId) -> None:
        self._timers.pop(timer_id, None)

    def _fire(self, timer_id: TimerId) -> None:
        timer = self._timers.pop(timer_id, None)
        if timer is not None:
            self.inside.timer_fired(timer)

    def call(self, what: Any, *arguments: Any) -> None:
        if not self.running:
            return
        if self.backlog is not None:
            self.backlog.append((what, arguments))
        else:
            what(*arguments)

    def deliver(self, peer: PeerId, message: Message) -> None:
        self.inside.message_handlers[type(message)](peer, message)

    def monotonic_us(self) -> int:
        return self.cluster.now_us

    def below(self, n: int) -> int:
        return int(self._random.random() * n)

    def note(self, event: Event) -> None:
        self.events.append(event)


class Cluster:
    """`size` peers with numbers from 1, all started at once."""

    def __init__(
        self,
        size: int,
        seed: int = 0,
        loss: float = 0.0,
        settings: Settings | None = None,
        count_bytes: bool = False,
    ) -> None:
        self.seed = seed
        self.loss = loss
        self.settings = settings or Settings()
        self.count_bytes = count_bytes
        self.now_us = 0
        self.cut_pairs: set[tuple[int, int]] = set()
        self._heap: list[Any] = []
        self._sequence = 0
        self._random = Random(f"{seed}:network")
        self.carried: dict[tuple[int, type], int] = {}
        members = tuple(
            Member(number.to_bytes(16, "big"), number, f"n{number}", f"10.0.0.{number}:1", "dc1", "r1", ())
            for number in range(1, size + 1)
        )
        self.state = FakeState(1, members)
        self.members = members
        self.starts = dict.fromkeys(range(1, size + 1), 0)
        self.peers: dict[int, Process] = {}
        for number in range(1, size + 1):
            self.start(number)

    @staticmethod
    def number(peer: PeerId) -> int:
        return int.from_bytes(peer, "big")

    # --- time and network

    def after(self, delay_us: int, call: Any, *arguments: Any) -> None:
        self._sequence += 1
        heappush(self._heap, (self.now_us + delay_us, self._sequence, call, arguments))

    def run(self, seconds: float) -> None:
        end_us = self.now_us + round(seconds * SECOND)
        heap = self._heap
        while heap and heap[0][0] <= end_us:
            self.now_us, _, call, arguments = heappop(heap)
            call(*arguments)
        self.now_us = end_us

    def run_until(self, predicate: Any, seconds: float) -> float:
        """Seconds until it held, looked at every 50 ms; fails if it does not."""
        begun_us = self.now_us
        while not predicate():
            assert self.now_us - begun_us < seconds * SECOND, f"not within {seconds} s"
            self.run(0.05)
        return (self.now_us - begun_us) / SECOND

    def carry(self, source: int, target: int, message: Message) -> None:
        kind = (target, type(message))
        self.carried[kind] = self.carried.get(kind, 0) + 1
        if (source, target) in self.cut_pairs or self._random.random() < self.loss:
            return
        delay_us = 200 + int(self._random.random() * 800)
        self.after(delay_us, self._arrive, source, target, message)

    def _arrive(self, source: int, target: int, message: Message) -> None:
        process = self.peers.get(target)
        if process is not None:
            process.call(process.deliver, self.members[source - 1].peer, message)

    # --- faults

    def start(self, number: int) -> Process:
        self.starts[number] += 1
        process = Process(self, self.members[number - 1], self.starts[number], self.state)
        self.peers[number] = process
        process.swim.start()
        return process

    def crash(self, number: int) -> None:
        self.peers.pop(number).running = False

    def pause(self, number: int) -> None:
        self.peers[number].backlog = []

    def resume(self, number: int, timers_first: bool = False) -> None:
        """All that happened meanwhile happens now; some event loops run timers before they read sockets."""
        process = self.peers[number]
        backlog, process.backlog = process.backlog or [], None
        if timers_first:
            backlog.sort(key=lambda entry: entry[0] == process.deliver)
        for what, arguments in backlog:
            what(*arguments)

    def cut(self, one: Iterable[int], other: Iterable[int], one_way: bool = False) -> None:
        pairs = [(a, b) for a in one for b in other]
        self.cut_pairs.update(pairs)
        if not one_way:
            self.cut_pairs.update((b, a) for a, b in pairs)

    def heal(self) -> None:
        self.cut_pairs.clear()

    # --- what is believed

    def view(self, number: int) -> Mapping[int, int]:
        swim = self.peers[number].swim
        return {member.number: swim.state_of(member.peer) for member in self.members}

    def all_believe(self, number: int, state: int, among: Iterable[int] | None = None) -> bool:
        peer = self.members[number - 1].peer
        watchers = self.peers if among is None else among
        return all(self.peers[w].swim.state_of(peer) == state for w in watchers if w != number)

    def all_alive(self) -> bool:
        return all(self.all_believe(number, ALIVE) for number in self.peers)

    def deaths(self) -> list[tuple[int, int, int]]:
        """(time, by whom, who) of everybody who was ever declared dead."""
        return sorted(
            (time_us, watcher, number)
            for watcher, process in self.peers.items()
            for time_us, number, state in process.changes
            if state == DEAD
        )

    def validate(self) -> None:
        for process in self.peers.values():
            process.swim.validate()
