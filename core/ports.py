"""The boundary between the inside, which decides, and the outside, which has I/O, clocks and entropy.

A `Node` (node/node.py) is a plain object that is called (`on_...`) and calls its `World`. None of these calls
blocks, none raises for what the world does, and none calls the other side back before it returns. server/ and
sim/ construct the same Node, each with a World of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from core.commands import Command, Outcome
    from core.messages import Message
    from core.requests import Answer, Request

PeerId = bytes
"""16 random bytes made with the data directory: who a peer is, whatever its name or address."""

Timer = tuple[Any, ...]
"""Data that comes back in on_timer: its first member names the handler."""

Ticket = tuple[Any, ...]
"""Data that comes back in on_stored or on_done: its first member names the handler."""

TimerId = int

URGENT, SMALL, BULK = 0, 1, 2
"""Lanes: gossip, metadata and Paxos; what fits 64 KiB; the rest on a connection of its own."""


class Event(msgspec.Struct, frozen=True):
    """Something worth a log line (`level` debug, info, warning, error) or only a metric (`level` count).

    `amount` adds to the metric of this name, or is its new value if `name` ends in `_now`.
    """

    name: str
    level: str = "count"
    text: str = ""
    amount: float = 1
    peer: str = ""


class Identity(msgspec.Struct, frozen=True):
    """Who this process is: made with the data directory, except for what cluster.yml says (name, address,
    place).

    `start` counts the starts of this directory, durable before the process first speaks.
    """

    peer: PeerId
    start: int
    name: str
    address: str
    datacentre: str
    rack: str


class InitialPeer(msgspec.Struct, frozen=True):
    """A peer that cluster.yml names; the voters among them must all agree before there is a cluster."""

    name: str
    address: str
    datacentre: str
    rack: str
    voter: bool


class World(Protocol):
    """What a Node is given."""

    def send(self, peer: PeerId, message: Message, lane: int) -> bool:
        """Send, without a promise of delivery.

        False if the lane is full or the peer not known or not reachable.
        """

    def dial(self, address: str) -> None:
        """Try to reach whoever is at this address: answered by on_peer, if ever."""

    def know(self, addresses: Sequence[tuple[PeerId, str]]) -> None:
        """The members and their addresses, as of a new epoch; connections are made when first sent to."""

    def set_timer(self, delay_us: int, timer: Timer) -> TimerId:
        """Call on_timer(timer) after this delay."""

    def cancel_timer(self, timer_id: TimerId) -> None:
        """Forget a timer; one that has fired is no error."""

    def submit(self, ticket: Ticket, command: Command) -> None:
        """Execute a store command: atomic, in order per partition; others may overtake.

        Answered by on_stored.
        """

    def run(self, ticket: Ticket, job: Callable[[], Any]) -> None:
        """Have slow work done beside the event loop; answered by on_done with what it returns.

        A StoreError that it raises is answered as Failed. Jobs run side by side and in any order; a job
        touches nothing that the node touches, too.
        """

    def reply(self, request_id: int, answer: Answer, last: bool) -> None:
        """Answer a request; of a streamed answer only as many parts as on_want gave credit for."""

    def wall_us(self) -> int:
        """The wall clock, which may jump; only the hybrid logical clock reads it."""

    def monotonic_us(self) -> int:
        """A clock that never goes back."""

    def below(self, n: int) -> int:
        """A random integer in [0, n)."""

    def token_bytes(self, n: int) -> bytes:
        """n random bytes."""

    def note(self, event: Event) -> None:
        """The one way to logs, metrics and traces."""


class NodePort(Protocol):
    """What a World calls."""

    def on_start(self) -> None:
        """Begin."""

    def on_message(self, peer: PeerId, message: Message) -> None:
        """A message came from a peer whose hello was accepted."""

    def on_peer(self, peer: PeerId, connected: bool) -> None:
        """A connection to this peer is up, or the last one is gone."""

    def on_timer(self, timer: Timer) -> None:
        """A timer fired."""

    def on_stored(self, ticket: Ticket, outcome: Outcome) -> None:
        """A store command is done, and what it wrote or read is durable."""

    def on_done(self, ticket: Ticket, result: Any) -> None:
        """A job is done."""

    def on_request(self, request_id: int, request: Request, deadline_us: int) -> None:
        """A client asks; `deadline_us` is monotonic."""

    def on_want(self, request_id: int, parts: int) -> None:
        """The client can take so many more parts of a streamed answer."""

    def on_cancel(self, request_id: int) -> None:
        """The client is gone or no longer interested."""

    def on_stop(self) -> None:
        """The process is about to end in order."""


class Batch(Protocol):
    """Writes that an engine makes together or not at all."""

    def put(self, key: bytes, value: bytes) -> None:
        """Write a record."""

    def delete(self, key: bytes) -> None:
        """Remove a record."""


class Engine(Protocol):
    """An ordered map of bytes with atomic batches and an explicit sync. Called by lsm.Store alone.

    Raises StoreError (core/errors.py); never answers "absent" for what it cannot read.
    """

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    def warm(self, keys: Sequence[bytes]) -> bool:
        """Whether all these keys can be read without waiting for a disk. Does no I/O."""

    def near(self, key: bytes) -> tuple[bool, bytes | None]:
        """Whether this key can be read without waiting for a disk, and then its value. Does no I/O."""

    def fetch(self, keys: Sequence[bytes]) -> None:
        """Bring these keys near, from any thread, without holding up other threads."""

    def scan(self, first: bytes, end: bytes, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Records of [first, end) in key order (or reversed).

        Raises CorruptionError rather than end early.
        """

    def write(self, puts: Sequence[tuple[bytes, bytes | None]]) -> int:
        """Put and delete (None) all or nothing; returns the sequence number after it. Not yet durable."""

    def delete_range(self, first: bytes, end: bytes) -> int:
        """Delete [first, end); returns the sequence number after it."""

    def begin_group(self) -> None:
        """Writes that follow are collected, seen by `get` and `warm`, and take effect together at
        `end_group`.

        Until then `scan` must not be asked for what they touch, and nothing else be called that writes.
        """

    def end_group(self) -> None:
        """Write what was collected, all or nothing: if this raises, none of it is there."""

    def written(self) -> int:
        """The sequence number after the last write; within a group, one that its end will have reached."""

    def sync(self) -> None:
        """Make all that was written before the call durable; from any thread, without holding up others."""

    def newest_log(self) -> int | None:
        """The descriptor of a file whose sync, as it is now, does what `sync` does; None if only that does.

        Not while `sync` is under way. Who syncs it tells `log_synced`, and calls `tend` now and then.
        """

    def log_synced(self, sequence: int, error: Exception | None) -> None:
        """The file is synced, and with it what `written` told before that began; or it failed, which raises
        DurabilityError.
        """

    def tend(self) -> None:
        """What syncs lead to besides; from the thread that syncs."""

    def health(self) -> dict[str, int]:
        """Sizes, pending compaction, background errors, memory."""

    def close(self) -> None:
        """Sync and close."""


Entries = Callable[[Any, Any, Any], Sequence[tuple[bytes, bytes | None]]]
"""`entries(schema, before, after)`: what an index adds to a row's batch."""
