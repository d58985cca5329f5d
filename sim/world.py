"""The World of one simulated process: what a node is given, from its start to its end.

A machine (sim/machine.py) outlives its processes; a process never comes back. Whatever was under way when
it ended (timers, messages, store outcomes, answers) finds `running` False and is dropped. A paused process
(SIGSTOP) is not running either, but what happens to it is kept, in order, and happens when it is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from core.commands import Command, Outcome
from core.jobs import result_of
from core.messages import Hello, Message, Refused
from core.ports import Event, Identity, NodePort, PeerId, Ticket, Timer, TimerId
from core.requests import Answer
from sim.network import QUEUE_WHILE_CONNECTING_MAX, REDIAL_PAUSE_US, Link, Network
from sim.scheduler import Scheduler

if TYPE_CHECKING:
    from sim.disk import SimDisk
    from sim.machine import Machine

JOB_MIN_US = 500
JOB_MAX_US = 10_000
"""How long a job takes."""


class SimNode(NodePort, Protocol):
    """What the simulated transport asks of a node beyond NodePort."""

    def hello(self) -> Hello:
        """What this node says first on a connection."""

    def on_hello(self, hello: Hello) -> Refused | None:
        """Judge the other side's hello; None accepts it."""

    def on_refused(self, peer_name_or_address: str, refused: Refused) -> None:
        """The other side did not accept us."""


class Surroundings(Protocol):
    """What a process needs of the cluster that it is simulated in."""

    scheduler: Scheduler
    network: Network

    def answered(self, world: SimWorld, request_id: int, answer: Answer, last: bool) -> None:
        """A part of the answer to a client leaves the process."""

    def noted(self, world: SimWorld, event: Event) -> None:
        """The process notes an event."""

    def stored(self, world: SimWorld, ticket: Ticket, outcome: Outcome) -> None:
        """An outcome reaches the node (for traces)."""

    def failed(self, world: SimWorld) -> None:
        """The process must end: its disk failed."""


class SimWorld:
    """One incarnation: implements core.ports.World."""

    node: SimNode
    disk: SimDisk

    def __init__(self, surroundings: Surroundings, machine: Machine, identity: Identity, seed: int) -> None:
        self.index = machine.index
        self.machine = machine
        self.identity = identity
        self.peer: PeerId = identity.peer
        self.running = True
        self.paused = False
        self.backlog: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.links: dict[PeerId, Link] = {}
        self.bytes_sent = 0
        self.refusals: list[tuple[str, Refused]] = []
        self._surroundings = surroundings
        self._scheduler = surroundings.scheduler
        self._network = surroundings.network
        self._random = Random(f"{seed}:node:{machine.index}:{identity.start}")
        self._job_random = Random(f"{seed}:jobs:{machine.index}:{identity.start}")
        self._timers: dict[TimerId, Timer] = {}
        self._next_timer = 0
        self._addresses: dict[PeerId, str] = {}
        self._dialling: dict[str, list[tuple[PeerId, Message, int]]] = {}
        self._not_before_us: dict[str, int] = {}

    @property
    def alive(self) -> bool:
        """Whether the process exists, paused or not."""
        return self.running or self.paused

    # --- World

    def send(self, peer: PeerId, message: Message, lane: int) -> bool:
        """Send on the connection, or make one and send then."""
        link = self.links.get(peer)
        if link is not None and link.up:
            self._network.transmit(link, message, lane)
            return True
        address = self._addresses.get(peer)
        if address is None or peer == self.peer:
            return False
        waiting = self._dialling.get(address)
        if waiting is None:
            if self._not_before_us.get(address, 0) > self._scheduler.now_us:
                return False
            self._dialling[address] = waiting = []
            self._network.dial(self, address, peer)
        if len(waiting) >= QUEUE_WHILE_CONNECTING_MAX:
            return False
        waiting.append((peer, message, lane))
        return True

    def dial(self, address: str) -> None:
        """Connect, unless that is under way already."""
        if address not in self._dialling:
            self._dialling[address] = []
            self._network.dial(self, address, None)

    def know(self, addresses: Sequence[tuple[PeerId, str]]) -> None:
        """Where the members are."""
        for peer, address in addresses:
            if self._addresses.get(peer) != address:
                self._not_before_us.pop(address, None)  # one of us was not a member when it was tried last
        self._addresses = dict(addresses)

    def set_timer(self, delay_us: int, timer: Timer) -> TimerId:
        """A timer; a cancelled one is found missing when its event comes."""
        self._next_timer = timer_id = self._next_timer + 1
        self._timers[timer_id] = timer
        self._scheduler.after(delay_us, self._fire, timer_id)
        return timer_id

    def cancel_timer(self, timer_id: TimerId) -> None:
        """Forget it."""
        self._timers.pop(timer_id, None)

    def submit(self, ticket: Ticket, command: Command) -> None:
        """Give a command to the simulated disk."""
        self.disk.submit(ticket, command)

    def run(self, ticket: Ticket, job: Callable[[], Any]) -> None:
        """Do a job after a drawn while, at once as the others see it."""
        delay_us = JOB_MIN_US + int(self._job_random.random() * (JOB_MAX_US - JOB_MIN_US))
        self._scheduler.after(delay_us * self.machine.slow_disk, self._do, ticket, job)

    def _do(self, ticket: Ticket, job: Callable[[], Any]) -> None:
        if not self.held(self._do, ticket, job):
            self.node.on_done(ticket, result_of(job))

    def reply(self, request_id: int, answer: Answer, last: bool) -> None:
        """Send an answer to the client."""
        self._surroundings.answered(self, request_id, answer, last)

    def wall_us(self) -> int:
        """The machine's clock."""
        return self.machine.clock.read_us()

    def monotonic_us(self) -> int:
        """Virtual time."""
        return self._scheduler.now_us

    def below(self, n: int) -> int:
        """A random integer in [0, n)."""
        return int(self._random.random() * n) if n < 1 << 40 else self._random.randrange(n)

    def token_bytes(self, n: int) -> bytes:
        """n random bytes."""
        return self._random.randbytes(n)

    def note(self, event: Event) -> None:
        """Pass it on."""
        self._surroundings.noted(self, event)

    # --- called by the network and the cluster

    def hello(self) -> Hello:
        """The node's hello."""
        return self.node.hello()

    def on_hello(self, hello: Hello) -> Refused | None:
        """The node's verdict on a hello."""
        return self.node.on_hello(hello)

    def on_refused(self, address: str, refused: Refused) -> None:
        """Somebody refused us."""
        if self.held(self.on_refused, address, refused):
            return
        self.refusals.append((address, refused))
        self.node.on_refused(address, refused)

    def link_up(self, peer: PeerId, link: Link) -> None:
        """A connection is there."""
        self.links[peer] = link
        self.node.on_peer(peer, True)

    def link_down(self, link: Link) -> None:
        """A connection is gone."""
        if self.held(self.link_down, link):
            return
        peer = link.target.peer
        if self.links.get(peer) is link:
            del self.links[peer]
            self.node.on_peer(peer, False)

    def dial_done(self, address: str, peer: PeerId) -> None:
        """What waited for this connection leaves; what was meant for another peer is dropped."""
        link = self.links.get(peer)
        for meant_for, message, lane in self._dialling.pop(address, ()):
            if meant_for == peer and link is not None and link.up:
                self._network.transmit(link, message, lane)

    def dial_failed(self, address: str, peer: PeerId | None) -> None:
        """What waited for this connection is lost; another attempt is made after a pause."""
        if self._dialling.pop(address, None) is not None:
            self._not_before_us[address] = self._scheduler.now_us + REDIAL_PAUSE_US

    def on_stored(self, ticket: Ticket, outcome: Outcome) -> None:
        """The disk is done with a command."""
        if self.running:
            self._surroundings.stored(self, ticket, outcome)
            self.node.on_stored(ticket, outcome)
        else:
            self.held(self.on_stored, ticket, outcome)

    def failed(self) -> None:
        """The disk failed: the process ends."""
        self._surroundings.failed(self)

    def held(self, call: Callable[..., Any], *arguments: Any) -> bool:
        """Whether this must not happen now; if the process is paused it happens later."""
        if self.running:
            return False
        if self.paused:
            self.backlog.append((call, arguments))
        return True

    def pause(self) -> None:
        """SIGSTOP."""
        if self.running:
            self.running, self.paused = False, True

    def resume(self) -> None:
        """SIGCONT: everything that happened meanwhile happens now, in order."""
        if not self.paused:
            return
        self.running, self.paused = True, False
        backlog, self.backlog = self.backlog, []
        for call, arguments in backlog:
            call(*arguments)  # a call may end the process; the rest then finds it not running

    def end(self, others_told_us: Callable[[Link], int]) -> None:
        """The process is gone; the other ends of its connections find out after `others_told_us`."""
        self.running = self.paused = False
        self.backlog.clear()
        self._timers.clear()
        for link in self.links.values():
            link.up = False
            if link.back is not None:
                self._network.break_link(link, others_told_us(link))
        self.links.clear()

    def _fire(self, timer_id: TimerId) -> None:
        if self.running:
            timer = self._timers.pop(timer_id, None)
            if timer is not None:
                self.node.on_timer(timer)
        elif self.paused:
            self.backlog.append((self._fire, (timer_id,)))
