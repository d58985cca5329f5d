"""A stage for one coordinator: a world that records, peers that a test plays, metadata of a fixed cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from core.commands import Command
from core.hlc import HybridClock
from core.messages import Message
from core.metadata import Birth, Changes, CreateTable, Epoch, Proposal
from core.ports import Event, Identity, PeerId
from core.requests import Answer
from core.schema import CLUSTERING, PARTITION, REGULAR, Column, Member, TableOptions
from core.settings import Settings
from node.inside import Inside
from node.metadata_state import UNBORN, State, apply
from node.paxos import Paxos
from node.reads import Reads
from node.scans import Scans
from node.stamps import Stamps
from node.writes import Writes
from ring.tokens import MIN_TOKEN

PEERS = tuple(bytes([n]) * 16 for n in (1, 2, 3))
ME, B, C = PEERS
START_US = 1_000_000_000


def cluster_state(datacentres: Sequence[str] = ("dc1", "dc1", "dc1")) -> State:
    """Three peers that replicate everything; tables `flat` (id 1) and, with clustering, `wide` (id 2)."""
    width = 2**64 // len(PEERS)
    members = tuple(
        Member(
            peer, n + 1, f"n{n + 1}", f"127.0.0.{n + 1}", dc, f"r{n + 1}", (MIN_TOKEN + width * (n + 1) - 1,)
        )
        for n, (peer, dc) in enumerate(zip(PEERS, datacentres, strict=True))
    )
    state = apply(UNBORN, Epoch(1, Birth(b"c" * 16, "stage", members, PEERS)))
    value = Column(0, "value", "blob", REGULAR)
    flat = CreateTable("kv", "flat", (Column(0, "key", "text", PARTITION), value), TableOptions())
    columns = (Column(0, "key", "text", PARTITION), Column(0, "at", "text", CLUSTERING), value)
    wide = CreateTable("kv", "wide", columns, TableOptions())
    return apply(state, Epoch(2, Changes((Proposal((1, 1), flat), Proposal((1, 2), wide)))))


class StageMetadata:
    """Metadata that a test sets."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.stale: tuple[Epoch, ...] | None = None
        self.listeners: list[Callable[[], None]] = []

    def on_adopted(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)

    def stale_for(self, table: int, epoch: int) -> tuple[Epoch, ...] | None:
        return self.stale

    def epochs_after(self, epoch: int) -> tuple[Epoch, ...]:
        return self.stale or ()


class StageSwim:
    """Everybody is alive but those named dead."""

    def __init__(self) -> None:
        self.dead: list[PeerId] = []

    def is_alive(self, peer: PeerId) -> bool:
        return peer not in self.dead


class StageHints:
    """Remembers what is owed."""

    def __init__(self) -> None:
        self.owed: list[tuple[PeerId, bytes]] = []
        self.done: list[Callable[[bool], None]] = []

    def add(
        self, peer: PeerId, table: int, mutation: bytes, done: Callable[[bool], None] | None = None
    ) -> None:
        del table
        self.owed.append((peer, mutation))
        if done is not None:
            self.done.append(done)


class Stage:
    """Implements core.ports.World, as far as coordinators need it, and holds one coordinator."""

    def __init__(
        self, settings: Settings | None = None, state: State | None = None, datacentre: str = "dc1"
    ) -> None:
        self.wall = START_US
        self.monotonic = 0
        self.sent: list[tuple[PeerId, Any]] = []
        self.submitted: list[tuple[tuple[Any, ...], Command]] = []
        self.timers: dict[int, tuple[int, tuple[Any, ...]]] = {}
        self.unreachable: list[PeerId] = []
        self.events: list[Event] = []
        identity = Identity(ME, 7, "n1", "127.0.0.1", datacentre, "r1")
        clock = HybridClock(self.wall_us, 0)
        clock.raised(START_US * 1_000)
        self.clock = clock
        self.inside = Inside(
            self, identity, cluster_name="stage", initial=(), settings=settings or Settings(), clock=clock
        )
        self.metadata = cast("Any", StageMetadata(state or cluster_state()))
        self.swim = cast("Any", StageSwim())
        self.hints = cast("Any", StageHints())
        self.stamps = Stamps(self.inside)
        self.writes = Writes(self.inside, self.metadata, self.swim, self.hints, self.stamps)
        self.reads = Reads(self.inside, self.metadata, self.swim)
        self.paxos = Paxos(self.inside, self.metadata, self.swim, self.hints, self.writes)
        self.scans = Scans(self.reads, self.paxos)
        self.answers: list[Any] = []

    # --- World

    def send(self, peer: PeerId, message: Message, lane: int) -> bool:
        del lane
        self.sent.append((peer, message))
        return peer not in self.unreachable

    def dial(self, address: str) -> None:
        raise AssertionError(address)

    def know(self, addresses: Sequence[tuple[PeerId, str]]) -> None:
        raise AssertionError(addresses)

    def set_timer(self, delay_us: int, timer: tuple[Any, ...]) -> int:
        timer_id = len(self.timers) + 1 + len(self.events)
        while timer_id in self.timers:
            timer_id += 1
        self.timers[timer_id] = (self.monotonic + delay_us, timer)
        return timer_id

    def cancel_timer(self, timer_id: int) -> None:
        self.timers.pop(timer_id, None)

    def run(self, ticket: tuple[Any, ...], job: Callable[[], Any]) -> None:
        raise AssertionError("no part here has jobs")

    def submit(self, ticket: tuple[Any, ...], command: Command) -> None:
        self.submitted.append((ticket, command))

    def reply(self, request_id: int, answer: Answer, last: bool) -> None:
        raise AssertionError((request_id, answer, last))

    def wall_us(self) -> int:
        return self.wall

    def monotonic_us(self) -> int:
        return self.monotonic

    def below(self, n: int) -> int:
        return n - 1

    def token_bytes(self, n: int) -> bytes:
        return bytes(n)

    def note(self, event: Event) -> None:
        self.events.append(event)

    # --- what a test does

    def answer(self, value: Any, last: bool = True) -> None:
        """Take an answer to a client."""
        self.answers.append((value, last) if not last else value)

    def message(self, peer: PeerId, message: Any) -> None:
        """A peer answers an operation (late answers find nobody)."""
        operation = self.inside.operations.get(message.op)
        if operation is not None:
            operation.on_message(peer, message)

    def stored(self, outcome: Any, name: str = "") -> None:
        """The store has done the oldest command that is waiting (with this ticket name)."""
        index = next(i for i, (ticket, _) in enumerate(self.submitted) if not name or ticket[0] == name)
        ticket, _ = self.submitted.pop(index)
        self.inside.stored(ticket, outcome)

    def pass_time(self, delay_us: int) -> None:
        """Timers due by then fire, in order."""
        end = self.monotonic + delay_us
        while self.timers:
            timer_id, (due, timer) = min(self.timers.items(), key=lambda item: item[1][0])
            if due > end:
                break
            del self.timers[timer_id]
            self.monotonic = due
            self.inside.timer_fired(timer)
        self.monotonic = end

    def take(self, kind: type) -> list[tuple[PeerId, Any]]:
        """The messages of a kind sent so far, taken."""
        found = [(peer, message) for peer, message in self.sent if type(message) is kind]
        self.sent = [(peer, message) for peer, message in self.sent if type(message) is not kind]
        return found

    @property
    def deadline_us(self) -> int:
        """As of a door whose client does not say how long it waits."""
        return self.monotonic + self.inside.settings.write_timeout_us
