"""Traces of requests: who was asked for what, when each answered, and what it took there.

An operation of a traced request registers its number here when it asks somebody (`asks`). That is noted, and
each replica is sent a `TraceThis` in front of the message itself: it is to tell what the store command that
comes of it took. Its `TraceTold` leaves in front of its answer. So messages about data know nothing of
traces, and where nothing is traced a node looks at an empty dictionary per answer and per outcome.

Traces are for reading, not for deciding: what is lost of one is not repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from core.commands import (
    Applied,
    CounterAdded,
    Digest,
    Failed,
    Merged,
    Outcome,
    PaxosAccepted,
    PaxosFetched,
    PaxosRefused,
    Promised,
    Rows,
)
from core.limits import TRACED_AT_ONCE_MAX
from core.messages import (
    BatchStored,
    CountersAdded,
    DigestRead,
    MutationApplied,
    OperationFailed,
    PaxosTold,
    SliceRead,
    Stale,
    TraceThis,
    TraceTold,
)
from core.ports import SMALL, PeerId
from core.row import decode_header, decode_row, exists
from lsm.keys import HEADER_SUFFIX, prefix_end

if TYPE_CHECKING:
    from core.trace import Trace
    from node.inside import Inside
    from node.metadata import Metadata

TRACED_FOR_US = 10_000_000
"""So long a replica waits for what it is to tell about."""
OWN_FOR_US = 60_000_000
"""So long an operation of our own is told about after it has asked for something last."""
OWN_TICKETS = frozenset({"write", "read", "read_repair", "paxos"})
"""Tickets (name, op) of commands to the own store."""
REPLICA_TICKETS = frozenset({"replica_apply", "replica_read", "replica_repair", "replica_paxos", "counter"})
"""Tickets (name, peer, op, ...) of commands for another coordinator."""


class Tracing:
    """Both sides of traces."""

    def __init__(self, inside: Inside, metadata: Metadata) -> None:
        """Register."""
        self._inside = inside
        self._metadata = metadata
        self._me = inside.identity.peer
        self._own = inside.traces
        self._others = inside.traces_of_others
        inside.tracing = self
        self._forgetting = False
        inside.on_message(TraceThis, self._on_trace_this)
        inside.on_timer("traces_forget", self._forget)
        inside.on_message(TraceTold, self._on_told)

    # --- the coordinator

    def asks(self, trace: Trace, op: int, peers: Iterable[PeerId], what: str) -> None:
        """Operation `op` of a traced request is about to ask these for something."""
        asked = list(peers)
        if not asked:
            return
        trace.tell(f"{what}: {self.names(asked)}")
        if op not in self._own:
            if trace.has_ended or len(self._own) >= TRACED_AT_ONCE_MAX:
                return
            trace.ops.append(op)
        self._own[op] = (trace, self._inside.world.monotonic_us())
        self._forget_later()
        trace.owed.update((op, peer) for peer in asked)
        for peer in asked:
            if peer != self._me:
                self._inside.world.send(peer, TraceThis(op), SMALL)

    def end(self, trace: Trace) -> None:
        """Nothing more of this request is wanted, also of what it asks of others from now on."""
        trace.has_ended = True
        for op in trace.ops:
            self._own.pop(op, None)

    def name(self, peer: PeerId) -> str:
        """How a line names a peer."""
        member = self._metadata.state.member(peer)
        return peer.hex()[:8] if member is None else member.name

    def names(self, peers: Iterable[PeerId]) -> str:
        """How a line names several."""
        return ", ".join(map(self.name, peers)) or "nobody"

    def answered(self, peer: PeerId, message: Any) -> None:
        """An answer came to an operation that may be one of those traced."""
        found = self._own.get(message.op)
        if found is not None:
            found[0].tell(f"{self.name(peer)} answers: {answer_text(message)}")
            found[0].owed.discard((message.op, peer))

    def _on_told(self, peer: PeerId, message: TraceTold) -> None:
        found = self._own.get(message.op)
        if found is not None:
            found[0].told(peer, message.elapsed_us, message.activity)
            found[0].owed.discard((message.op, peer))

    # --- the replica

    def _on_trace_this(self, peer: PeerId, message: TraceThis) -> None:
        while len(self._others) >= TRACED_AT_ONCE_MAX:
            self._others.popitem(last=False)
        self._others[peer, message.op] = self._inside.world.monotonic_us()
        self._forget_later()

    # --- both

    def _forget_later(self) -> None:
        if not self._forgetting:
            self._forgetting = True
            self._inside.timer(TRACED_FOR_US, "traces_forget")

    def _forget(self) -> None:
        """What has not come of it by now will not: the message was lost, or refused; or who asked is gone,
        so that nobody ended the trace.
        """
        now_us = self._inside.world.monotonic_us()
        while self._others and next(iter(self._others.values())) <= now_us - TRACED_FOR_US:
            self._others.popitem(last=False)
        for op in [op for op, (_, asked_us) in self._own.items() if asked_us <= now_us - OWN_FOR_US]:
            del self._own[op]
        self._forgetting = False
        if self._others or self._own:
            self._forget_later()

    def stored(self, ticket: tuple[Any, ...], outcome: Outcome) -> None:
        """A store command is done, which may be one of those traced."""
        now_us = self._inside.world.monotonic_us()
        own = ticket[1] if ticket[0] in OWN_TICKETS else 0
        if ticket[0] in REPLICA_TICKETS and ticket[1] == self._me:  # led by ourselves
            own = ticket[2]
        if own:
            found = self._own.get(own)
            if found is not None:
                found[0].tell(f"{self._outcome(outcome)}, in {now_us - found[1]} us")
                found[0].owed.discard((own, self._me))
        elif ticket[0] in REPLICA_TICKETS:
            since_us = self._others.pop((ticket[1], ticket[2]), None)
            if since_us is not None:
                told = TraceTold(ticket[2], now_us - since_us, self._outcome(outcome))
                self._inside.world.send(ticket[1], told, SMALL)

    def _outcome(self, outcome: Outcome) -> str:
        return outcome_text(outcome, self._inside.clock.now_us())


def answer_text(message: Any) -> str:
    """What a replica's answer says."""
    match message:
        case SliceRead():
            return f"{len(message.rows)} rows{', more follow' if message.more else ''}"
        case DigestRead():
            return "a digest"
        case MutationApplied():
            return "it is durable" if message.newer is None else "it is durable, and met a newer version"
        case OperationFailed():
            return f"it failed ({message.why}): {message.detail}"
        case Stale():
            return "this coordinator lacked an epoch of the schema"
        case BatchStored():
            return "it keeps the batch"
        case CountersAdded():
            return "it has added to its counters"
        case PaxosTold():
            return paxos_text(message.outcome)
    return type(message).__name__


def paxos_text(outcome: Any) -> str:
    """What a step of a conditional update came to."""
    match outcome:
        case Promised():
            return "promised" if outcome.rows else "no rows"
        case PaxosRefused():
            return "refused: a rival has a higher ballot"
        case PaxosAccepted():
            return "accepted"
        case PaxosFetched():
            return "gone on since" if outcome.data is None else "the proposal"
    return type(outcome).__name__


def outcome_text(outcome: Outcome, now_us: int) -> str:
    """What a store command did."""
    match outcome:
        case Rows():
            return rows_text((outcome,), now_us)
        case Promised():
            return f"Promise is durable. {rows_text(outcome.rows, now_us)}"
        case PaxosAccepted():
            return "Accepted, durably"
        case PaxosRefused():
            return "Refused: a higher ballot was promised or committed"
        case Applied():
            return "Mutation applied, logged and durable" if outcome.fresh else "Mutation was here already"
        case Merged():
            return f"Read repair merged: {outcome.changed} rows changed"
        case CounterAdded():
            return "Counters added to, durably"
        case Digest():
            return "Digest computed"
        case Failed():
            return f"Failed ({outcome.why}): {outcome.detail}"
    return type(outcome).__name__


def rows_text(slices: Iterable[Rows], now_us: int) -> str:
    """How many rows and tombstones were read."""
    live, tombstones, size = 0, 0, 0
    for part in slices:
        for key, data in part.rows:
            size += len(key) + len(data)
            if key[prefix_end(key) :] == HEADER_SUFFIX:
                tombstones += header_tombstones(data)
                continue
            row = decode_row(data)
            live += exists(row, now_us)
            tombstones += row.deletion is not None
            tombstones += sum(cell.is_dead(now_us) for cell in row.cells)
        if part.header is not None:
            tombstones += header_tombstones(part.header)
    return f"Read {live} live rows and {tombstones} tombstones, {size} bytes"


def header_tombstones(data: bytes) -> int:
    """How many tombstones a partition's header holds."""
    header = decode_header(data)
    return len(header.ranges) + (header.deletion is not None)
