"""A few nodes' metadata parts on a heap of virtual-time events, with faults drawn from a seed.

So the log is tested without the whole node, thousands of short runs in seconds. Messages may be lost, doubled
and reordered; writes are durable a while later and in order, or fail; a crash keeps a random prefix of those
that were not durable; a wipe makes a new identity. Other parts can be added to `Process` by their `Inside`.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from core.commands import Command, Done, Failed, SystemWrite, Why
from core.hlc import HybridClock
from core.limits import SECOND_US
from core.messages import Hello, Message, decode_message, encode_message
from core.metadata import Change, Epoch
from core.ports import Event, Identity, InitialPeer, PeerId, Ticket, Timer
from core.requests import Answer, Changed, Unready
from core.settings import Settings
from node.inside import Inside
from node.metadata import Metadata

MS = 1_000
CLUSTER_NAME = "tiny"


@dataclass
class Faults:
    """Probabilities and delays."""

    loss: float = 0.0
    doubled: float = 0.0
    delay_us: tuple[int, int] = (1 * MS, 3 * MS)
    sync_us: tuple[int, int] = (1 * MS, 4 * MS)
    codec: bool = True
    disk_full: float = 0.0


class Machine:
    """What outlives a process: identity, disk."""

    def __init__(self, cluster: TinyCluster, index: int, initial: InitialPeer) -> None:
        self.cluster = cluster
        self.index = index
        self.initial = initial
        self.disk: dict[bytes, bytes] = {}
        self.start = 0
        self.peer: PeerId = b""
        self.process: Process | None = None
        self.wipe()

    def wipe(self) -> None:
        """Another, empty directory."""
        assert self.process is None
        self.disk = {}
        self.start = 0
        self.peer = self.cluster.random.randbytes(16)


class Process:
    """One start of a machine: the World of its parts."""

    def __init__(self, machine: Machine, configuration: tuple[InitialPeer, ...]) -> None:
        cluster = machine.cluster
        machine.start += 1
        self.machine = machine
        self.cluster = cluster
        self.alive = True
        self.peer = machine.peer
        self.links: dict[PeerId, Process] = {}
        self.addresses: dict[PeerId, str] = {}
        self.unsynced: list[tuple[Ticket, SystemWrite]] = []
        self.syncing = False
        self.timers: dict[int, None] = {}
        self.events: list[Event] = []
        me = machine.initial
        identity = Identity(machine.peer, machine.start, me.name, me.address, me.datacentre, me.rack)
        self.inside = Inside(
            self,
            identity,
            cluster_name=CLUSTER_NAME,
            initial=configuration,
            settings=cluster.settings,
            clock=HybridClock(self.wall_us, 0),
        )
        self.metadata = Metadata(self.inside, dict(machine.disk))
        self.metadata.on_adopted(self._check_log)

    def _check_log(self) -> None:
        last = self.metadata.state.last
        assert last is not None
        known = self.cluster.decided.setdefault(last.number, last)
        assert known == last, f"two epochs {last.number}"

    # --- World

    def send(self, peer: PeerId, message: Message, lane: int) -> bool:
        if peer == self.peer:
            raise AssertionError("a peer does not write to itself")
        if peer not in self.links:
            if peer not in self.addresses:
                return False
            self.cluster.connect(self, self.addresses[peer])
            if peer not in self.links:
                return False
        self.cluster.transmit(self, self.links[peer], message)
        return True

    def dial(self, address: str) -> None:
        self.cluster.later(1 * MS, self, lambda: self.cluster.connect(self, address))

    def know(self, addresses: Sequence[tuple[PeerId, str]]) -> None:
        self.addresses = dict(addresses)

    def set_timer(self, delay_us: int, timer: Timer) -> int:
        number = next(self.cluster.numbers)
        self.timers[number] = None

        def fire() -> None:
            if number in self.timers:
                del self.timers[number]
                self.inside.timer_fired(timer)

        self.cluster.later(delay_us, self, fire)
        return number

    def cancel_timer(self, timer_id: int) -> None:
        self.timers.pop(timer_id, None)

    def run(self, ticket: tuple[Any, ...], job: Callable[[], Any]) -> None:
        raise AssertionError("no part here has jobs")

    def submit(self, ticket: Ticket, command: Command) -> None:
        assert isinstance(command, SystemWrite)
        self.unsynced.append((ticket, command))
        if not self.syncing:
            self.syncing = True
            self.cluster.later(self.cluster.random.randint(*self.cluster.faults.sync_us), self, self._synced)

    def _synced(self) -> None:
        self.syncing = False
        failed: list[Ticket] = []
        if self.cluster.random.random() < self.cluster.faults.disk_full:
            failed.append(self.unsynced.pop(self.cluster.random.randrange(len(self.unsynced)))[0])
        done = self.make_durable(len(self.unsynced))
        for ticket, _ in done:
            self.inside.stored(ticket, Done())
        for ticket in failed:
            self.inside.stored(ticket, Failed(Why.DISK_FULL, "no space"))

    def make_durable(self, count: int) -> list[tuple[Ticket, SystemWrite]]:
        done, self.unsynced = self.unsynced[:count], self.unsynced[count:]
        for _, command in done:
            for key, value in command.puts:
                if value is None:
                    self.machine.disk.pop(key, None)
                else:
                    self.machine.disk[key] = value
        return done

    def reply(self, request_id: int, answer: Answer, last: bool) -> None:
        raise AssertionError("no part here answers requests")

    def wall_us(self) -> int:
        return self.cluster.now_us

    def monotonic_us(self) -> int:
        return self.cluster.now_us

    def below(self, n: int) -> int:
        return self.cluster.random.randrange(n)

    def token_bytes(self, n: int) -> bytes:
        return self.cluster.random.randbytes(n)

    def note(self, event: Event) -> None:
        if event.level != "count":
            self.events.append(event)
            self.cluster.events.append((self.machine.initial.name, event))


@dataclass(order=True)
class _Planned:
    at_us: int
    serial: int
    process: Process | None = field(compare=False)
    action: Callable[[], None] = field(compare=False)


def configuration(count: int, voters: int) -> tuple[InitialPeer, ...]:
    """Peers n1, n2, ... in one datacentre on three racks; the first `voters` vote."""
    return tuple(
        InitialPeer(f"n{i}", f"10.0.0.{i}", "dc1", f"r{i % 3}", i <= voters) for i in range(1, count + 1)
    )


class TinyCluster:
    """Machines, the network between them, and virtual time."""

    def __init__(self, seed: int, peers: int = 3, voters: int = 3, faults: Faults | None = None) -> None:
        self.random = Random(f"{seed}:tiny")
        self.faults = faults or Faults()
        self.settings = Settings()
        self.now_us = 0
        self.numbers = itertools.count(1)
        self.heap: list[_Planned] = []
        self.decided: dict[int, Epoch] = {}
        self.events: list[tuple[str, Event]] = []
        self.cuts: set[tuple[int, int]] = set()
        self.drop: Callable[[int, int, Message], bool] = lambda source, target, message: False
        """Whether a message (from and to these machines) is lost, on top of all else."""
        self.configurations = [configuration(peers, voters)] * peers
        self.machines = [Machine(self, i, self.configurations[i][i]) for i in range(peers)]
        self.every(300 * MS, self._gossip)

    # --- time

    def later(self, delay_us: int, process: Process | None, action: Callable[[], None]) -> None:
        heapq.heappush(self.heap, _Planned(self.now_us + delay_us, next(self.numbers), process, action))

    def every(self, pause_us: int, action: Callable[[], None]) -> None:
        def again() -> None:
            action()
            self.later(pause_us, None, again)

        self.later(pause_us, None, again)

    def run_until(self, condition: Callable[[], bool], seconds: float = 60) -> bool:
        """Let things happen until the condition holds; False if it does not in that (virtual) time."""
        end_us = self.now_us + int(seconds * SECOND_US)
        while not condition():
            if not self.heap or self.heap[0].at_us > end_us:
                self.now_us = end_us
                return False
            planned = heapq.heappop(self.heap)
            self.now_us = planned.at_us
            if planned.process is None or planned.process.alive:
                planned.action()
        return True

    def run(self, seconds: float) -> None:
        """Let things happen for that long."""
        self.run_until(lambda: False, seconds)

    # --- processes

    def start(self, *indexes: int) -> None:
        for index in indexes or range(len(self.machines)):
            machine = self.machines[index]
            assert machine.process is None
            machine.process = process = Process(machine, self.configurations[index])
            process.metadata.start()

    def crash(self, index: int) -> None:
        """Power off: of what is not durable a random prefix survives."""
        machine = self.machines[index]
        process = machine.process
        assert process is not None
        process.alive = False
        machine.process = None
        process.make_durable(self.random.randint(0, len(process.unsynced)))
        for other in list(process.links.values()):
            self._unlink(other, process)

    def node(self, index: int) -> Process:
        process = self.machines[index].process
        assert process is not None
        return process

    @property
    def running(self) -> list[Process]:
        return [m.process for m in self.machines if m.process is not None]

    # --- network

    def cut(self, left: Sequence[int], right: Sequence[int], one_way: bool = False) -> None:
        for a, b in itertools.product(left, right):
            self.cuts.add((a, b))
            if not one_way:
                self.cuts.add((b, a))

    def heal(self) -> None:
        self.cuts.clear()

    def passes(self, source: Process, target: Process) -> bool:
        return (source.machine.index, target.machine.index) not in self.cuts

    def connect(self, source: Process, address: str) -> None:
        """Exchange hellos with whoever is at the address."""
        for target in self.running:
            if target.machine.initial.address == address and target is not source:
                if self.passes(source, target) and self.passes(target, source):
                    if source.peer not in target.links:
                        self._shake_hands(source, target)
                return

    def _shake_hands(self, source: Process, target: Process) -> None:
        for one, other in ((source, target), (target, source)):
            hello = decode_message(encode_message(one.metadata.identity.hello()))
            assert isinstance(hello, Hello)
            refused = other.metadata.identity.on_hello(hello)
            if refused is not None:
                one.metadata.identity.on_refused(other.machine.initial.name, refused)
                return
        for one, other in ((source, target), (target, source)):
            one.links[other.peer] = other
        for one, other in ((source, target), (target, source)):
            for listener in one.inside.peer_listeners:
                listener(other.peer, True)

    def _unlink(self, process: Process, gone: Process) -> None:
        if process.links.get(gone.peer) is gone:
            del process.links[gone.peer]
            for listener in process.inside.peer_listeners:
                listener(gone.peer, False)

    def transmit(self, source: Process, target: Process, message: Message) -> None:
        if self.faults.codec:
            message = decode_message(encode_message(message))
        if self.drop(source.machine.index, target.machine.index, message):
            return
        copies = 2 if self.random.random() < self.faults.doubled else 1
        for _ in range(copies):
            if self.random.random() < self.faults.loss or not self.passes(source, target):
                continue

            def deliver() -> None:
                if self.passes(source, target):
                    handler = target.inside.message_handlers[type(message)]
                    handler(source.peer, message)

            self.later(self.random.randint(*self.faults.delay_us), target, deliver)

    def _gossip(self) -> None:
        """Instead of pings: tell a random peer our epoch."""
        for process in self.running:
            if process.metadata.born:
                others = [m.peer for m in process.metadata.state.members if m.peer != process.peer]
                if others:
                    self._tell_epoch(process, self.random.choice(others))

    def _tell_epoch(self, source: Process, peer: PeerId) -> None:
        if peer not in source.links and peer in source.addresses:
            self.connect(source, source.addresses[peer])
        target = source.links.get(peer)
        if target is None or not self.passes(source, target) or self.random.random() < self.faults.loss:
            return
        epoch = source.metadata.state.epoch
        behind = target.metadata.behind
        self.later(2 * MS, target, lambda: behind(source.peer, epoch))

    # --- what tests ask

    def born(self) -> bool:
        return all(process.metadata.born for process in self.running)

    def all_equal(self) -> bool:
        """Whether all running nodes have adopted all that any has."""
        last = max(self.decided, default=0)
        return all(process.metadata.state.epoch == last for process in self.running)

    def change(self, index: int, change: Change, seconds: float = 10) -> list[Changed | Unready]:
        """Ask a node for a change; the list gets the answer when there is one."""
        answers: list[Changed | Unready] = []
        self.node(index).metadata.change(change, answers.append, self.now_us + int(seconds * SECOND_US))
        return answers

    def said(self, text: str, **about: Any) -> bool:
        """Whether some node logged a line with this text."""
        return any(
            text in event.text and all(getattr(event, k) == v for k, v in about.items())
            for _, event in self.events
        )
