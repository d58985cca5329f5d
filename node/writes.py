"""Coordinating writes: one small object per request, from the stamp to the last replica's answer.

A write is stamped, encoded once, and sent to all replicas; it is acknowledged when its level is met by
durable answers, and goes on until every replica has it or is owed a hint. Hints are written when the client
is told (for ANY at once, since they count): a hint of what was refused everywhere would bring it back. Two
rules beyond counting:

- *Stamped again.* If replicas met newer versions than ours before we acknowledged, the write is made anew
  above the newest of them, once. The newest is known when the level is met: a single replica may
  have met an older one than the last that was acknowledged, but no quorum can. So whoever reads at QUORUM
  after a QUORUM write sees it, whatever the clocks say. It does not apply to timestamps that clients give:
  those mean what they say. What is admitted below a floor is refused before anything is looked at: it is
  made anew above the floor, and, if it then meets newer versions, once more.
- *Unknown is not failed.* A timeout says that the write may be there. `Broken(unknown=False)` says that no
  replica has it or ever will: only if each one refused definitely, and no earlier attempt was taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core import limits
from core.cell import NO_VERSION
from core.commands import Applied, Apply, Failed, Outcome, Why
from core.consistency import Level, Need, valid_for_writes
from core.messages import ApplyMutation, MutationApplied, MutationsApplied, OperationFailed, Stale
from core.mutation import Mutation, encode_mutation, restamped
from core.ports import BULK, SMALL, PeerId
from core.requests import (
    Answer,
    Broken,
    Invalid,
    Overloaded,
    Timeout,
    Unavailable,
    WriteRequest,
    Written,
)
from node.mutation_building import build as build
from node.tally import Needs, Tally, reachable
from ring.tokens import token_of

if TYPE_CHECKING:
    from core.cell import Version
    from node.hints import Hints
    from node.inside import Inside
    from node.metadata import Metadata
    from node.metadata_state import TablePlacement
    from node.stamps import Stamps
    from node.swim import Swim

SMALL_PAYLOAD_BYTES = limits.SMALL_FRAME_BYTES_MAX - 256
DEFINITE = frozenset(
    {
        Why.CORRUPT,
        Why.DISK_FULL,
        Why.STALLED,
        Why.TOO_LARGE,
        Why.MALFORMED,
        Why.BELOW_FLOOR,
        "overloaded",
        "not_a_replica",
        "no_such_table",
        "unique_index",
    }
)
"""Failures after which a replica certainly does not have the write."""
UNIQUE_NOW = "the table has a unique index: what is written to it is decided as conditional updates are"

Reply = Callable[[Answer], None]


class Writes:
    """The coordinator's side of writes."""

    def __init__(self, inside: Inside, metadata: Metadata, swim: Swim, hints: Hints, stamps: Stamps) -> None:
        """Register for the answers of the local store."""
        self.inside = inside
        self.metadata = metadata
        self.swim = swim
        self.hints = hints
        self.stamps = stamps
        self.me = inside.identity.peer
        self._sequence = 0
        self._needs = Needs()
        inside.on_stored("write", self._on_local)
        inside.on_message(MutationsApplied, self._on_many_applied)
        inside.on_timer("write", self._on_timer)
        inside.on_peer(self._on_peer)
        metadata.on_adopted(self._on_adopted)
        self._moved_epoch = 0
        self._number = 0

    def _on_adopted(self) -> None:
        """Where rows live has changed: what is under way goes on under the plan of now."""
        if self.metadata.state.moved_epoch == self._moved_epoch:
            return
        self._moved_epoch = self.metadata.state.moved_epoch
        for operation in list(self.inside.operations.values()):
            if isinstance(operation, WriteOperation):
                operation.on_moved()

    @property
    def writer(self) -> int:
        """This coordinator's start number: the peer number that the epoch gave, then the start counter."""
        number = self.metadata.state.number_of(self.me) or self._number
        assert number, "only who is a member, or was one, coordinates"
        self._number = number
        return number << 32 | self.inside.identity.start

    def next_sequence(self) -> int:
        """A sequence that no mutation of this start has."""
        self._sequence += 1
        return self._sequence

    def begin(self, request: WriteRequest, deadline_us: int, reply: Reply) -> None:
        """Plan and send; `reply` is called exactly once."""
        state = self.metadata.state
        placement = state.placement(request.table)
        refusal = check(request, placement, self.inside.clock.bound_us())
        if refusal is not None or placement is None:
            reply(refusal or no_such_table())
            return
        token = token_of(request.partition)
        replicas = placement.writers(token)
        is_alive = self.swim.is_alive
        alive = [peer for peer in replicas if is_alive(peer)]
        place = (request.table, request.level, replicas)
        wanted = self._needs.of(state, place) if len(alive) == len(replicas) else None
        if wanted is None:
            local = self.inside.identity.datacentre
            wanted = placement.need(request.level, token, local)
            reach = reachable(wanted, placement, local, alive)
            if not reach.met and request.level is not Level.ANY:
                reply(Unavailable(wanted.total, reach.received, request.level))
                return
            if reach.met and len(alive) == len(replicas) and placement.moving is None:
                self._needs.note(place, wanted)

        def stamped(stamp_us: int) -> None:
            if self.metadata.state is not state:
                self.begin(request, deadline_us, reply)  # it was planned by an older schema
                return
            start = self.writer
            version = (request.timestamp_us, 0) if request.timestamp_us else (stamp_us, start)
            mutation = build(request, token, (start, self.next_sequence()), version, stamp_us)
            operation = WriteOperation(
                self, request, mutation, placement=placement, wanted=wanted, reply=reply
            )
            operation.send(replicas, alive, deadline_us)

        self.stamps.take(stamped, lambda why: reply(Overloaded(why)))

    def _on_local(self, outcome: Outcome, op: int) -> None:
        operation = self.inside.operations.get(op)
        if operation is None:
            return
        if type(outcome) is Applied:
            if type(operation) is WriteOperation and outcome.newer is None:
                operation.on_applied(self.me)
            else:
                operation.on_message(self.me, MutationApplied(op, outcome.newer))
        else:
            assert isinstance(outcome, Failed), outcome
            operation.on_message(self.me, OperationFailed(op, outcome.why, outcome.detail, outcome.floor_us))

    def _on_many_applied(self, peer: PeerId, message: MutationsApplied) -> None:
        """As so many MutationApplied."""
        inside = self.inside
        operations = inside.operations
        for op in message.ops:
            if inside.traces:
                inside.tracing.answered(peer, MutationApplied(op, None))
            operation = operations.get(op)
            if type(operation) is WriteOperation:
                operation.on_applied(peer)
            elif operation is not None:
                operation.on_message(peer, MutationApplied(op, None))

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        """What was sent to a peer, or its answer, may be lost with the connection: send it again."""
        if connected:
            for operation in list(self.inside.operations.values()):
                if isinstance(operation, WriteOperation):
                    operation.on_connected(peer)

    def _on_timer(self, op: int) -> None:
        operation = self.inside.operations.get(op)
        if operation is not None:
            assert isinstance(operation, WriteOperation)
            operation.on_timeout()


class WriteOperation:
    """One write on its way to its replicas."""

    __slots__ = (
        "_above",
        "_alive",
        "_bytes",
        "_failed",
        "_left_us",
        "_mutation",
        "_newer",
        "_op",
        "_owed",
        "_parent",
        "_pending",
        "_placement",
        "_reply",
        "_replicas",
        "_request",
        "_restamping",
        "_sent_twice",
        "_deadline_us",
        "_stamp_us",
        "_tally",
        "_timer",
        "_wanted",
    )

    def __init__(
        self,
        parent: Writes,
        request: WriteRequest,
        mutation: Mutation,
        *,
        placement: TablePlacement,
        wanted: Need,
        reply: Reply,
    ) -> None:
        """Nothing is sent yet."""
        self._parent = parent
        self._request = request
        self._mutation = mutation
        self._stamp_us = mutation.admitted_us
        self._bytes = encode_mutation(mutation)
        self._placement = placement
        self._wanted = wanted
        self._reply: Reply | None = reply
        self._tally = Tally(wanted, placement, parent.inside.identity.datacentre)
        self._pending: list[PeerId] = []
        self._failed: dict[PeerId, OperationFailed] = {}
        self._owed: list[PeerId] = []
        self._op = 0
        self._timer = 0
        self._deadline_us = 0
        self._left_us = 0
        self._restamping = False
        self._sent_twice = False
        self._newer: Version | None = None
        self._above = False  # stamped again above all that replicas had met
        self._replicas: tuple[PeerId, ...] = ()
        self._alive: list[PeerId] = []

    def precount(self, peer: PeerId) -> None:
        """This replica has it already (before anything is sent)."""
        if self._tally.add(peer):
            self._answer(Written(self._version()))

    def send(self, replicas: tuple[PeerId, ...], alive: list[PeerId], deadline_us: int) -> None:
        """Send to the live replicas, owe hints to the others, wait until the deadline."""
        if len(self._bytes) > limits.MUTATION_BYTES_MAX:
            self._answer(Invalid("too_large", f"a write is limited to {limits.MUTATION_BYTES_MAX} bytes"))
            return
        self._alive = alive
        self._replicas = replicas
        self._deadline_us = deadline_us
        self._begin_attempt()

    def _begin_attempt(self) -> None:
        inside = self._parent.inside
        self._op = inside.new_op()
        inside.operations[self._op] = self
        self._left_us = max(1_000, self._deadline_us - inside.world.monotonic_us())
        self._timer = inside.timer(self._wait_us(), "write", self._op)
        self._pending = list(self._alive)
        self._owed.clear()
        if len(self._alive) < len(self._replicas):
            for peer in self._replicas:
                if peer not in self._alive:
                    self._hint(peer)
        self._send_all()

    def _wait_us(self) -> int:
        """After how long an attempt is looked at again."""
        return self._left_us

    def _send_all(self) -> None:
        inside, op = self._parent.inside, self._op
        lane = SMALL if len(self._bytes) <= SMALL_PAYLOAD_BYTES else BULK
        epoch = self._parent.metadata.state.epoch
        message = ApplyMutation(op, epoch, self._request.table, self._bytes, self._left_us)
        me, trace = self._parent.me, self._request.trace
        if trace is not None:
            what = f"Sending a mutation of {len(self._bytes)} bytes, attempt {self._mutation.attempt}, to"
            inside.tracing.asks(trace, op, self._pending, what)
        for peer in tuple(self._pending):
            if peer == me:
                inside.submit(("write", op), Apply(self._bytes))
            elif not inside.world.send(peer, message, lane):
                self.on_message(
                    peer, OperationFailed(op, "overloaded", "the connection to the replica is full or gone")
                )
        if self._op == op and not self._pending:
            self._finish_if_all_answered()

    # --- answers

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer to the present attempt (those to an earlier one are not found)."""
        if message.op != self._op or peer not in self._pending or self._restamping:
            return
        if type(message) is MutationApplied:
            self._on_applied(peer, message.newer)
        elif type(message) is Stale:
            self._on_stale(peer)
        else:
            self._on_failed(peer, message)

    def on_applied(self, peer: PeerId) -> None:
        """The present attempt is durable there, and met nothing newer."""
        if peer in self._pending and not self._restamping:
            self._on_applied(peer, None)

    def _on_applied(self, peer: PeerId, newer: Version | None) -> None:
        self._pending.remove(peer)
        mutation = self._mutation
        if newer is not None and mutation.stamped and not self._above:
            self._newer = newer if self._newer is None else max(self._newer, newer)
        met = self._tally.add(peer)
        if self._reply is None and self._pending:
            return  # the client is told, and others are still to answer
        self._go_on(met)

    def _go_on(self, met: bool) -> None:
        """Answer if the level is met; or give up if it cannot be any more."""
        if met and self._reply is not None:
            if self._newer is not None and not self._above:
                self._above = True
                self._stamp_again(self._newer)
                return
            self._answer(Written(self._version()))
        elif self._failed:
            self._give_up_if_hopeless()
        if not self._pending:
            self._finish_if_all_answered()

    def _stamp_again(self, newer: Version) -> None:
        """Someone's clock was ahead of ours: write the same above it, before anybody is told."""
        parent = self._parent
        parent.inside.clock.observe(newer[0] + 1)  # one more: what is relative to the stamp lies below it
        self._restamping = True  # answers to the attempt before no longer count
        if self._request.trace is not None:
            self._request.trace.tell("A replica met a newer version: the write is stamped again above it")

        def stamped(stamp_us: int) -> None:
            if parent.inside.operations.pop(self._op, None) is None:
                return  # timed out meanwhile
            parent.inside.world.cancel_timer(self._timer)
            self._restamping = False
            self._mutation = restamped(self._mutation, self._stamp_us, (stamp_us, self._mutation.start))
            self._stamp_us = stamp_us
            self._bytes = encode_mutation(self._mutation)
            self._tally = Tally(self._wanted, self._placement, parent.inside.identity.datacentre)
            if self._is_unique_now():
                self._give_up(Broken(0, self._wanted.total, 1, UNIQUE_NOW, write=True, unknown=True))
                return
            self._failed.clear()
            parent.inside.count("writes_stamped_again")
            self._begin_attempt()

        def refused(why: str) -> None:
            if self._op in parent.inside.operations:
                received, required = self._tally.received, self._wanted.total
                self._give_up(Broken(received, required, 1, why, write=True, unknown=True))

        parent.stamps.take(stamped, refused)

    def on_moved(self) -> None:
        """Who is written to has changed: who has the write has it, others are sent it, the level is counted
        anew.
        """
        parent, token = self._parent, self._mutation.token
        placement = parent.metadata.state.placement(self._request.table)
        if self._reply is None or placement is None or placement.same_as(self._placement):
            return
        local = parent.inside.identity.datacentre
        replicas = placement.writers(token)
        new = [peer for peer in replicas if peer not in self._replicas]
        self._placement, self._replicas = placement, replicas
        self._wanted = placement.need(self._request.level, token, local)
        self._alive = [peer for peer in replicas if parent.swim.is_alive(peer)]
        if self._restamping:
            return  # the next attempt is made under the new plan
        acknowledged = self._tally.peers
        self._tally = Tally(self._wanted, placement, local)
        for peer in acknowledged:
            if peer in replicas:
                self._tally.add(peer)
        self._pending = [peer for peer in self._pending if peer in replicas]
        for peer in new:
            if peer in acknowledged:
                continue
            if peer not in self._alive:
                self._hint(peer)
            else:
                self._pending.append(peer)
                if peer == parent.me:
                    parent.inside.submit(("write", self._op), Apply(self._bytes))
                else:
                    self._send_again(peer)
        self._go_on(self._tally.met)

    def _on_stale(self, peer: PeerId) -> None:
        """The epochs that we lacked are adopted by now.

        Ask again under them, if there is still such a table, and it was not given a unique index.
        """
        if self._parent.metadata.state.placement(self._request.table) is None:
            self._answer(no_such_table())
            self._finish()
        elif self._is_logged_otherwise_now():
            self._stamp_again((self._stamp_us, self._mutation.start))
        else:
            self._send_again(peer)

    def _is_logged_otherwise_now(self) -> bool:
        """Whether the table's changes were switched on since this write was planned, so that who took it
        before it knew has logged it without images (node/changes_fence.py).
        """
        placement = self._parent.metadata.state.placement(self._request.table)
        if placement is None or self._reply is None:
            return False
        before, now = self._placement.table.options.changes, placement.table.options.changes
        return now not in ("none", before) and self._mutation.stamped and self._mutation.attempt == 0

    def _is_unique_now(self) -> bool:
        """Whether the table was given a unique index since this write was planned."""
        placement = self._parent.metadata.state.placement(self._request.table)
        return placement is not None and placement.is_unique

    def on_connected(self, peer: PeerId) -> None:
        """A replica is back; one that has the write already answers as if it were new to it."""
        if peer in self._pending and not self._restamping:
            self._sent_twice = True  # what refuses the second may have taken the first
            self._send_again(peer)

    def _send_again(self, peer: PeerId) -> None:
        parent = self._parent
        if self._is_unique_now():
            self._on_failed(peer, OperationFailed(self._op, "unique_index", UNIQUE_NOW))
            return
        lane = SMALL if len(self._bytes) <= SMALL_PAYLOAD_BYTES else BULK
        left_us = max(1_000, self._deadline_us - parent.inside.world.monotonic_us())
        epoch = parent.metadata.state.epoch
        message = ApplyMutation(self._op, epoch, self._request.table, self._bytes, left_us)
        parent.inside.world.send(peer, message, lane)

    def _on_failed(self, peer: PeerId, message: OperationFailed) -> None:
        if message.why == Why.BELOW_FLOOR and self._mutation.attempt == 0 and self._reply is not None:
            met, self._newer = self._newer, None  # nobody has said yet what else is above the floor
            self._stamp_again(max((message.floor_us, 0), met or NO_VERSION))
            return
        self._pending.remove(peer)
        self._failed[peer] = message
        if message.why == "no_such_table" and peer == self._parent.me:
            self._answer(no_such_table())
            self._finish()
            return
        self._hint(peer)
        self._give_up_if_hopeless()
        self._finish_if_all_answered()

    def _give_up_if_hopeless(self) -> None:
        if self._reply is None or self._request.level is Level.ANY:
            return
        local = self._parent.inside.identity.datacentre
        possible = reachable(self._wanted, self._placement, local, [*self._tally.peers, *self._pending])
        if not possible.met:
            too_large = bool(self._failed) and all(f.why == Why.TOO_LARGE for f in self._failed.values())
            if too_large and self._pending:
                return  # the others will most likely say so too, and then it is certain
            taken = bool(self._tally.peers or self._pending or self._mutation.attempt or self._sent_twice)
            unknown = taken or any(f.why not in DEFINITE for f in self._failed.values())
            text = "; ".join(dict.fromkeys(f.detail for f in self._failed.values()))
            if not unknown and all(f.why in ("overloaded", Why.STALLED) for f in self._failed.values()):
                self._answer(Overloaded(text))
                return
            if too_large and not unknown:
                self._answer(Invalid("too_large", text))
                return
            received, required = self._tally.received, self._wanted.total
            self._answer(Broken(received, required, len(self._failed), text, write=True, unknown=unknown))

    def on_timeout(self) -> None:
        """Too few answers in time, unless the client has been told."""
        required = self._wanted.total
        received = min(self._tally.received, required - 1)  # all, if what they had was to be stamped again
        self._give_up(Timeout(received, required, self._request.level, write=True))

    def _give_up(self, answer: Answer) -> None:
        """Answer, if nobody has; and owe a hint to whoever has not answered."""
        self._answer(answer)
        for peer in self._pending:
            self._hint(peer)
        self._finish()

    # --- ending

    def _hint(self, peer: PeerId) -> None:
        if peer == self._parent.me:
            return  # what the own store refused it would refuse as a hint; following brings it
        if self._request.trace is not None:
            name = self._parent.inside.tracing.name(peer)
            self._request.trace.tell(f"{name} does not have the write: a hint is owed to it")
        if self._reply is None:
            self._parent.hints.add(peer, self._request.table, self._bytes)
        elif self._request.level is Level.ANY:
            self._parent.hints.add(peer, self._request.table, self._bytes, self._hinted)
        else:
            self._owed.append(peer)

    def _hinted(self, stored: bool) -> None:
        """A durable hint is all that ANY asks for."""
        if stored:
            self._answer(Written(self._version()))

    def _version(self) -> Version:
        request = self._request
        return (request.timestamp_us, 0) if request.timestamp_us else (self._stamp_us, self._mutation.start)

    def _answer(self, answer: Answer) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if not _says_nowhere(answer):
            for peer in self._owed:
                self._hint(peer)
        self._owed.clear()
        reply(answer)

    def _finish_if_all_answered(self) -> None:
        if not self._pending and (self._reply is None or self._failed):
            if self._request.level is Level.ANY and self._reply is not None:
                return  # a hint may still make it good; else the timer answers
            self._finish()

    def _finish(self) -> None:
        inside = self._parent.inside
        if inside.operations.pop(self._op, None) is not None:
            inside.world.cancel_timer(self._timer)
        assert self._reply is None, "a write that ends without an answer"


def _says_nowhere(answer: Answer) -> bool:
    """Whether this tells a client that its write is nowhere and never will be."""
    return isinstance(answer, Invalid | Overloaded) or (isinstance(answer, Broken) and not answer.unknown)


def no_such_table() -> Invalid:
    """The answer for a table that is not there (any more)."""
    return Invalid("no_such_table", "there is no such table (any more)")


def check(
    request: WriteRequest, placement: TablePlacement | None, wall_us: int, *, decided: bool = False
) -> Invalid | None:
    """What is wrong with a write, before anything is done about it; `decided` says that it was judged."""
    if placement is None:
        return no_such_table()
    if placement.is_unique and not decided:
        return Invalid("unique_index", UNIQUE_NOW)
    if not valid_for_writes(request.level):
        return Invalid(
            "bad_level",
            f"{request.level.name} is for reads and conditional updates: write at QUORUM or another",
        )
    if not 0 < len(request.partition) <= limits.KEY_BYTES_MAX:
        return Invalid(
            "bad_key", f"a partition key has 1 to {limits.KEY_BYTES_MAX} bytes, not {len(request.partition)}"
        )
    if request.timestamp_us > wall_us + limits.FUTURE_TIMESTAMP_US_MAX:
        return Invalid("timestamp_ahead", "the timestamp is more than a minute ahead of this peer's clock")
    if request.timestamp_us < limits.TIMESTAMP_US_MIN:
        return Invalid("bad_timestamp", f"a timestamp is at least {limits.TIMESTAMP_US_MIN} microseconds")
    if not 0 <= request.ttl_s <= limits.TTL_S_MAX:
        return Invalid("bad_ttl", f"a time to live is 1 to {limits.TTL_S_MAX} seconds (0: for ever)")
    return None
