"""Counters: the coordinator finds a leader among the replicas, the leader adds to its own shard.

    coordinator  -AddToCounters->  leader: read, add, write as one store command, durable, logged under the id
                 <-CountersAdded-          with the mutation that it became
                 -ApplyMutation->  the other replicas, as any write; the leader counts as one answer

A shard is written by its replica alone (core/counter.py), so increments through several leaders never meet.
What leaves the leader is durable there, so it never issues a count that it may forget.

*An increment is not idempotent*, and is tried a second time only where that is exact. Asking the same leader
again (its connection broke) is: the id tells it that it has added already, and it answers as before. Another
leader is asked only if the one before refused definitely; a leader remembers whom it refused, so that a
message that comes twice is not refused first and then taken. Everything else is *unknown*: a client that is
told so and tries again may count twice. (Increments that carry an idempotency key are conditional updates,
and not here.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from core import limits
from core.cell import VALUE, Cell
from core.commands import CounterAdd, CounterAdded, Failed, Outcome
from core.consistency import Level, Need
from core.counter import encode_count
from core.messages import AddToCounters, CountersAdded, OperationFailed, Stale
from core.mutation import UPDATE, Mutation, decode_mutation, encode_mutation
from core.ports import PeerId
from core.requests import (
    Answer,
    Broken,
    CounterRequest,
    Invalid,
    Overloaded,
    Timeout,
    Unavailable,
    WriteRequest,
)
from core.row import Row
from node.tally import reachable
from node.views import lane_for
from node.writes import DEFINITE, WriteOperation, check, no_such_table
from ring.tokens import token_of

if TYPE_CHECKING:
    from node.inside import Inside
    from node.metadata import Metadata
    from node.metadata_state import TablePlacement
    from node.stamps import Stamps
    from node.swim import Swim
    from node.writes import Writes

LEADERS_MAX = 8
"""So many replicas are asked to lead one increment, one after the other."""

MOVED = "moved"
"""Not definite: an increment that was done, and that its coordinator would count among the wrong replicas."""

REFUSALS_MAX = 4_096
"""So many refusals a leader remembers."""

_DELTA_BYTES = 48
"""About what a row's increment takes in a message, beside its key."""

Reply = Callable[[Answer], None]
Message = CountersAdded | OperationFailed | Stale


class Counters:
    """Both sides of increments."""

    def __init__(
        self, inside: Inside, metadata: Metadata, swim: Swim, writes: Writes, *, stamps: Stamps
    ) -> None:
        """Register."""
        self.inside = inside
        self.metadata = metadata
        self.swim = swim
        self.writes = writes
        self.stamps = stamps
        self.me = inside.identity.peer
        self._leading = 0
        self._refused: OrderedDict[tuple[PeerId, int], OperationFailed] = OrderedDict()
        inside.on_message(AddToCounters, self._on_add)
        inside.on_stored("counter", self._added)
        inside.on_timer("counter", self._on_timer)
        inside.on_peer(self._on_peer)

    # --- coordinating

    def begin(self, request: CounterRequest, deadline_us: int, reply: Reply) -> None:
        """Find a leader and have it counted; `reply` is called exactly once."""
        placement = self.metadata.state.placement(request.table)
        refusal = check_increment(request, placement, self.inside.clock.bound_us())
        if refusal is not None or placement is None:
            reply(refusal or no_such_table())
            return
        CounterOperation(self, request, reply).start(placement, deadline_us)

    def _on_timer(self, op: int) -> None:
        operation = self.inside.operations.get(op)
        if isinstance(operation, CounterOperation):
            operation.on_timeout()

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        if connected:
            for operation in list(self.inside.operations.values()):
                if isinstance(operation, CounterOperation):
                    operation.on_connected(peer)

    # --- leading

    def _on_add(self, peer: PeerId, message: AddToCounters) -> None:
        metadata = self.metadata
        epoch = metadata.state.epoch
        if message.epoch > epoch:
            metadata.catch_up(peer, message.epoch, lambda: self._on_add(peer, message))
            return
        lacking = metadata.stale_for(message.table, message.epoch) if message.epoch < epoch else None
        if lacking is not None:
            self.inside.send(peer, Stale(message.op, lacking))
            return
        self.lead(peer, message)

    def lead(self, peer: PeerId, message: AddToCounters) -> None:
        """Add to our shards; the answer goes to `peer`, which may be ourselves."""
        before = self._refused.get((peer, message.op))
        if before is not None:
            self._answer(peer, before)
            return
        token = token_of(message.partition)
        placement = self.metadata.state.placement(message.table)
        if placement is None:
            self._refuse(peer, message.op, "no_such_table", "there is no such table here")
        elif self.me not in placement.replicas(token):
            self._refuse(peer, message.op, "not_a_replica", "this peer does not replicate the counter")
        elif self._leading >= limits.STORE_QUEUE_MAX:
            self._refuse(peer, message.op, "overloaded", "this replica leads too many increments already")
        else:
            self._leading += 1

            def stamped(stamp_us: int) -> None:
                increments = increments_of(message, token, self.me, (stamp_us, self.writes.writer))
                ticket = ("counter", peer, message.op, message.epoch)
                self.inside.submit(ticket, CounterAdd(encode_mutation(increments)))

            def refused(why: str) -> None:
                self._leading -= 1
                self._refuse(peer, message.op, "overloaded", why)

            self.stamps.take(stamped, refused)

    def _added(self, outcome: Outcome, peer: PeerId, op: int, epoch: int) -> None:
        self._leading -= 1
        if isinstance(outcome, CounterAdded):
            if peer != self.me and epoch < self.metadata.state.moved_epoch:
                # What was planned before rows moved is not acknowledged (node/replica.py), but it is done.
                self._answer(peer, OperationFailed(op, MOVED, "added, while rows began to move"))
            else:
                self._answer(peer, CountersAdded(op, outcome.mutation))
            return
        assert isinstance(outcome, Failed), outcome
        self._refuse(peer, op, outcome.why, f"{self.inside.identity.name}: {outcome.detail}")

    def _refuse(self, peer: PeerId, op: int, why: str, detail: str) -> None:
        failed = OperationFailed(op, why, detail)
        self._refused[peer, op] = failed
        if len(self._refused) > REFUSALS_MAX:
            self._refused.popitem(last=False)
        self._answer(peer, failed)

    def _answer(self, peer: PeerId, message: Message) -> None:
        if peer != self.me:
            size = len(message.mutation) if isinstance(message, CountersAdded) else 0
            self.inside.send(peer, message, lane_for(size))
            return
        operation = self.inside.operations.get(message.op)
        if operation is not None:
            operation.on_message(peer, message)


class CounterOperation:
    """One increment, until its leader has it; then it is a write like others."""

    def __init__(self, parent: Counters, request: CounterRequest, reply: Reply) -> None:
        """Nothing is sent yet."""
        self._parent = parent
        self._request = request
        self._reply: Reply | None = reply
        self._start = parent.writes.writer
        self._sequence = parent.writes.next_sequence()
        self._token = token_of(request.partition)
        self._leaders: list[PeerId] = []
        self._leader: PeerId = b""
        self._message: AddToCounters | None = None
        self._op = 0
        self._tries = 0
        self._sent_twice = False
        self._refusals: list[OperationFailed] = []
        self._deadline_us = 0
        self._timer = 0
        self._wanted = Need(0)

    def start(self, placement: TablePlacement, deadline_us: int) -> None:
        """Ask the best leader, if the level can be reached at all."""
        inside = self._parent.inside
        datacentre = inside.identity.datacentre
        self._wanted = placement.need(self._request.level, self._token, datacentre)
        is_alive = self._parent.swim.is_alive
        alive = [p for p in placement.replicas(self._token) if is_alive(p)]
        reach = reachable(
            self._wanted, placement, datacentre, filter(is_alive, placement.writers(self._token))
        )
        if not reach.met or not alive:
            self._answer(Unavailable(self._wanted.total, reach.received, self._request.level))
            return
        self._deadline_us = deadline_us
        self._leaders = self._ordered(placement, alive)
        self._next_leader()

    def _ordered(self, placement: TablePlacement, alive: list[PeerId]) -> list[PeerId]:
        """Ourselves, then those here in random order, then those elsewhere."""
        turn = self._parent.inside.world.below(len(alive))
        turned = alive[turn:] + alive[:turn]
        here = self._parent.inside.identity.datacentre
        return sorted(turned, key=lambda p: (p != self._parent.me, placement.datacentre(p) != here))

    def _next_leader(self) -> None:
        parent, request = self._parent, self._request
        inside = parent.inside
        self._drop_op()
        if not self._leaders or self._tries == LEADERS_MAX:
            self._give_up()
            return
        self._leader = self._leaders.pop(0)
        self._tries += 1
        self._op = inside.new_op()
        inside.operations[self._op] = self
        left_us = max(1_000, self._deadline_us - inside.world.monotonic_us())
        self._timer = inside.timer(left_us, "counter", self._op)
        mutation_id = (self._start, self._sequence, self._tries)
        epoch = parent.metadata.state.epoch
        self._message = AddToCounters(
            self._op, epoch, request.table, request.partition, mutation_id, request.rows
        )
        if request.trace is not None:
            inside.tracing.asks(request.trace, self._op, [self._leader], "Asking to lead the increment")
        if self._leader == parent.me:
            parent.lead(parent.me, self._message)
        elif not inside.send(self._leader, self._message, lane_for(size_of(request))):
            text = "the connection to the replica is full or gone"
            self.on_message(self._leader, OperationFailed(self._op, "overloaded", text))

    def on_connected(self, peer: PeerId) -> None:
        """The leader is back: if it has added already, it says so and does not do it again."""
        if peer == self._leader and self._message is not None:
            self._sent_twice = True  # what refuses the second may have taken the first
            self._parent.inside.send(peer, self._message, lane_for(size_of(self._request)))

    def on_message(self, peer: PeerId, message: Any) -> None:
        """The leader's answer."""
        if message.op != self._op or peer != self._leader:
            return
        if type(message) is CountersAdded:
            self._drop_op()
            self._replicate(decode_mutation(message.mutation))
        elif self._sent_twice:
            self._drop_op()
            self._answer(self._broken(str(getattr(message, "detail", "stale")), unknown=True))
        elif type(message) is Stale:
            self._on_stale()
        elif message.why in DEFINITE:
            self._refusals.append(message)
            self._next_leader()
        else:
            self._drop_op()
            self._answer(self._broken(message.detail, unknown=True))

    def _on_stale(self) -> None:
        """Nothing was added; the epochs that we lacked are adopted by now."""
        placement = self._parent.metadata.state.placement(self._request.table)
        if placement is None:
            self._drop_op()
            self._answer(no_such_table())
            return
        alive = [p for p in placement.replicas(self._token) if self._parent.swim.is_alive(p)]
        self._leaders = self._ordered(placement, alive) if alive else []
        self._next_leader()

    def _replicate(self, mutation: Mutation) -> None:
        """The leader has it: the rest is a write that one replica has acknowledged."""
        parent, request = self._parent, self._request
        placement = parent.metadata.state.placement(request.table)
        if placement is None:
            self._answer(no_such_table())
            return
        local = parent.inside.identity.datacentre
        self._wanted = placement.need(request.level, self._token, local)
        write = WriteOperation(
            parent.writes,
            WriteRequest(request.table, request.partition, (), request.level, UPDATE, trace=request.trace),
            mutation,
            placement=placement,
            wanted=self._wanted,
            reply=self._answer,
        )
        if self._leader in placement.writers(self._token):
            write.precount(self._leader)
        replicas = tuple(p for p in placement.writers(self._token) if p != self._leader)
        alive = [p for p in replicas if parent.swim.is_alive(p)]
        write.send(replicas, alive, self._deadline_us)

    # --- ending

    def on_timeout(self) -> None:
        """The leader may have added, or may still."""
        self._drop_op()
        level, required = self._request.level, self._wanted.total
        self._answer(Timeout(0, required, level, write=True))

    def _give_up(self) -> None:
        """Every leader has refused, definitely."""
        text = "; ".join(dict.fromkeys(f.detail for f in self._refusals)) or "no replica can lead"
        if any(f.why == "no_such_table" for f in self._refusals):
            self._answer(no_such_table())
        elif all(f.why in ("overloaded", "stalled") for f in self._refusals):
            self._answer(Overloaded(text))
        else:
            self._answer(self._broken(text, unknown=False))

    def _broken(self, text: str, *, unknown: bool) -> Broken:
        return Broken(0, self._wanted.total, max(1, len(self._refusals)), text, write=True, unknown=unknown)

    def _drop_op(self) -> None:
        inside = self._parent.inside
        if inside.operations.pop(self._op, None) is not None:
            inside.world.cancel_timer(self._timer)
        self._message = None

    def _answer(self, answer: Answer) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if isinstance(answer, Timeout | Broken):
            answer = msgspec.structs.replace(answer, write_type="COUNTER")
        reply(answer)


def size_of(request: CounterRequest) -> int:
    """About how many bytes an increment takes."""
    rows = sum(len(suffix) + _DELTA_BYTES * (1 + len(deltas)) for suffix, deltas in request.rows)
    return len(request.partition) + rows


def check_increment(
    request: CounterRequest, placement: TablePlacement | None, wall_us: int
) -> Invalid | None:
    """What is wrong with an increment, before anything is done about it."""
    write = WriteRequest(request.table, request.partition, (), request.level, UPDATE)
    refusal = check(write, placement, wall_us)
    if refusal is not None:
        return refusal
    if request.level is Level.ANY:
        return Invalid("bad_level", "an increment needs a replica to count it: not ANY, but ONE or more")
    pairs = [pair for _, deltas in request.rows for pair in deltas]
    if not 0 < len(pairs) <= limits.COUNTERS_MAX:
        return Invalid(
            "too_large", f"1 to {limits.COUNTERS_MAX} counters are added to at once, not {len(pairs)}"
        )
    if not all(-(2**63) <= delta < 2**63 for _, delta in pairs):
        return Invalid("bad_increment", "an increment is a signed 64-bit integer")
    return None


def increments_of(message: AddToCounters, token: int, shard: PeerId, version: tuple[int, int]) -> Mutation:
    """What to add, in the form of a mutation whose cells hold deltas at a replica's shards."""
    stamp_us, writer = version
    rows = tuple(
        (
            suffix,
            Row(
                None,
                tuple(
                    Cell(column, (shard,), VALUE, stamp_us, writer, 0, encode_count(delta))
                    for column, delta in sorted(deltas)
                ),
            ),
        )
        for suffix, deltas in message.rows
    )
    start, sequence, attempt = message.id
    return Mutation(
        start=start,
        sequence=sequence,
        attempt=attempt,
        admitted_us=stamp_us,
        stamped=False,
        operation=UPDATE,
        table=message.table,
        token=token,
        partition=message.partition,
        header=None,
        rows=rows,
    )
