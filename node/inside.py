"""What the parts of a node share: the world, who we are, the clock, the metadata, and the tables of handlers.

A part (swim, metadata, writes, reads, hints, following...) is an object that is given this, registers what it
handles, and keeps its own state. Timers and tickets are tuples whose first member names the handler; what
follows is passed on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

import msgspec

from core.commands import Command, Failed, Outcome, Slice, Why
from core.errors import ProtocolError
from core.hlc import HybridClock
from core.lag import AskLag, LagTold
from core.messages import (
    AskChanges,
    ChangesTold,
    FindSlice,
    Gather,
    GatherTold,
    Message,
    Search,
    Searched,
    SliceFound,
)
from core.ports import SMALL, Event, Identity, InitialPeer, PeerId, TimerId, World
from core.settings import Settings
from lsm.keys import TOKEN_MAX, token_of

if TYPE_CHECKING:
    from core.trace import Trace
    from node.tracing import Tracing

M = TypeVar("M")

TOKEN_BYTES_END = 13
"""A row key or bound that is shorter ends before its token: it is the end of a table."""

LOOKS: Final[frozenset[type | str]] = frozenset(
    [
        *(FindSlice, SliceFound, "find", "find_attempt", "find_counted", "find_retry", "find_slice"),
        *(Gather, GatherTold, "gather", "gather_attempt", "gather_retry", "gather_rows", "gather_turn"),
        *(Search, Searched, "inverted_work", "search_attempt", "search_deadline", "search_retry"),
        *(AskChanges, ChangesTold, "changes_page", "changes_beat", "changes_retry", "changes_silence"),
        *(AskLag, LagTold, "group_lag"),
    ]
)
"""Messages, tickets and timers of one question that many rows are looked at for, by what a client wrote, and
that keeps nothing in mind that others need.
"""

MALFORMED: Final = (ProtocolError, msgspec.DecodeError, UnicodeDecodeError)
"""What a message that another peer sent may be: the connection on which it came is closed."""

MessageHandler = Callable[[PeerId, Any], None]
H = TypeVar("H", bound=Callable[..., None])


class Operation(Protocol):
    """Something that waits for answers to messages that carry its number."""

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer, perhaps a late or a repeated one."""


def tokens_of(part: Slice) -> tuple[int, int]:
    """The first and the last token that a slice may touch."""
    first = token_of(part.first)
    if part.point or part.partition:
        return first, first
    return first, token_of(part.end) if len(part.end) >= TOKEN_BYTES_END else TOKEN_MAX


class Inside:
    """Shared by all parts of one node; holds no decisions of its own."""

    def __init__(
        self,
        world: World,
        identity: Identity,
        *,
        cluster_name: str,
        initial: tuple[InitialPeer, ...],
        settings: Settings,
        clock: HybridClock,
    ) -> None:
        """Tables are empty: parts register themselves."""
        self.world = world
        self.identity = identity
        self.cluster_name = cluster_name
        self.initial = initial
        self.settings = settings
        self.clock = clock
        self.message_handlers: dict[type, MessageHandler] = {}
        self.timer_handlers: dict[str, Callable[..., None]] = {}
        self.stored_handlers: dict[str, Callable[..., None]] = {}
        self.done_handlers: dict[str, Callable[..., None]] = {}
        self.peer_listeners: list[Callable[[PeerId, bool], None]] = []
        self.on_damage: Callable[[int, int, int], None] | None = None
        self.on_logged: Callable[[Outcome], None] | None = None
        """Told of every outcome of the store, as long as somebody waits for the log to grow."""
        self.gate: Callable[[Callable[[], None], Command, int], bool] | None = None
        """Asked before a command goes to the store, as long as some have to wait: node/parking.py."""
        self.on_bug: Callable[[str, Exception], None] | None = None
        """Told of an exception in one of LOOKS: that question stays without an answer. Without it is raised:
        in tests and simulations, and anywhere else, where nobody knows what is half done.
        """
        self.operations: dict[int, Operation] = {}
        self.tracing: Tracing
        self.traces: dict[int, tuple[Trace, int]] = {}
        """The traced operations of this coordinator: their trace, and when somebody was last asked."""
        self.traces_of_others: OrderedDict[tuple[PeerId, int], int] = OrderedDict()
        """Operations of other coordinators that are to be told about, and since when we know."""
        self._next_op = identity.start << 40

    # --- registering

    def on_message(self, kind: type[M], handler: Callable[[PeerId, M], None]) -> None:
        """Have messages of this class given to `handler(peer, message)`."""
        assert kind not in self.message_handlers, kind
        self.message_handlers[kind] = self.contained(kind, handler)

    def on_timer(self, name: str, handler: Callable[..., None]) -> None:
        """Have timers `(name, *rest)` given to `handler(*rest)`."""
        assert name not in self.timer_handlers, name
        self.timer_handlers[name] = self.contained(name, handler)

    def on_stored(self, name: str, handler: Callable[..., None]) -> None:
        """Have outcomes of tickets `(name, *rest)` given to `handler(outcome, *rest)`."""
        assert name not in self.stored_handlers, name
        self.stored_handlers[name] = self.contained(name, handler)

    def on_done(self, name: str, handler: Callable[..., None]) -> None:
        """Have results of jobs under tickets `(name, *rest)` given to `handler(result, *rest)`."""
        assert name not in self.done_handlers, name
        self.done_handlers[name] = self.contained(name, handler)

    def contained(self, what: type | str, handler: H) -> H:
        """The handler, whose exceptions end nothing else if it is of LOOKS: whoever asks again, of one peer
        after the other, would else end them all.
        """
        if what not in LOOKS:
            return handler

        def careful(*arguments: Any) -> None:
            try:
                handler(*arguments)
            except Exception as error:
                if not isinstance(what, str) and isinstance(error, MALFORMED):
                    raise
                self.tell_bug(what if isinstance(what, str) else what.__name__, error)

        return cast("H", careful)

    def tell_bug(self, what: str, error: Exception) -> None:
        """One of LOOKS failed by a bug; raised again if nobody is told."""
        if self.on_bug is None:
            raise error
        self.on_bug(what, error)

    def on_peer(self, listener: Callable[[PeerId, bool], None]) -> None:
        """Have connections and their ends told to `listener(peer, connected)`."""
        self.peer_listeners.append(listener)

    # --- short hands

    def new_op(self) -> int:
        """A number for an operation that no earlier start of this peer used."""
        self._next_op += 1
        return self._next_op

    def send(self, peer: PeerId, message: Message, lane: int = SMALL) -> bool:
        """As World.send."""
        return self.world.send(peer, message, lane)

    def submit(self, ticket: tuple[Any, ...], command: Command) -> None:
        """As World.submit; `ticket[0]` must be registered with on_stored."""
        assert ticket[0] in self.stored_handlers, ticket
        if self.gate is None or not self.gate(lambda: self.world.submit(ticket, command), command, 0):
            self.world.submit(ticket, command)

    def run(self, ticket: tuple[Any, ...], job: Callable[[], Any]) -> None:
        """As World.run; `ticket[0]` must be registered with on_done."""
        assert ticket[0] in self.done_handlers, ticket
        self.world.run(ticket, job)

    def timer(self, delay_us: int, *timer: Any) -> TimerId:
        """As World.set_timer; `timer[0]` must be registered with on_timer."""
        assert timer[0] in self.timer_handlers, timer
        return self.world.set_timer(delay_us, timer)

    def log(self, level: str, name: str, text: str, peer: str = "") -> None:
        """A line for the operator."""
        self.world.note(Event(name, level, text, 1, peer))

    def count(self, name: str, amount: float = 1) -> None:
        """Add to a metric (or set it, if the name ends in _now)."""
        self.world.note(Event(name, "count", "", amount))

    def note_damage(self, outcome: Outcome, part: Slice) -> None:
        """If a slice could not be read for damage, have its tokens compared with the siblings'."""
        if isinstance(outcome, Failed) and outcome.why is Why.CORRUPT:
            self.log("error", "damaged_data", outcome.detail)
            if self.on_damage is not None:
                self.on_damage(part.table, *tokens_of(part))

    # --- dispatch (called by Node)

    def stored(self, ticket: tuple[Any, ...], outcome: Outcome) -> None:
        """Give an outcome to the part that asked."""
        if self.traces or self.traces_of_others:
            self.tracing.stored(ticket, outcome)
        self.stored_handlers[ticket[0]](outcome, *ticket[1:])
        if self.on_logged is not None:
            self.on_logged(outcome)

    def job_done(self, ticket: tuple[Any, ...], result: Any) -> None:
        """Give the result of a job to the part that asked."""
        self.done_handlers[ticket[0]](result, *ticket[1:])

    def timer_fired(self, timer: tuple[Any, ...]) -> None:
        """Give a timer to the part that set it."""
        self.timer_handlers[timer[0]](*timer[1:])
