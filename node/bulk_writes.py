"""Coordinating many plain writes at once: one message to each replica, one answer from each.

A `BulkOperation` is the straight way of writes that share nothing but their table: stamped together, encoded
one by one, sent to each replica as one message, counted once per set of replicas. It knows no trouble. At the
first answer that is not plain (something newer was met, a refusal, an epoch that we lack), at a connection
that is back, a range that moves or a deadline it is *unfolded*: each mutation goes on as a `WriteOperation`
of its own, under its id, from where it is, and is told what its replicas have answered so far and answer
later. So all that may happen to a write is decided in one place (node/writes.py).

**Patience.** A load is no place for haste: a replica that has no time (a full queue, a connection that is
full, no answer within the write timeout) is asked again with the very same mutation, which does nothing
where it is already, until the request's deadline. So a slow machine makes a load slow, not wrong: whoever
sends lines is held up by their answers (server/rest/bulk.py).

**Held up.** A load writes faster than an inverted index can follow for ever, and the log that it follows is
bounded. So bulk writes to a table whose index here is far behind are refused as overload: whoever sends
them tries again, until it has caught up. Writes one by one never are.

A range that moves, and replicas of which some are not alive, take the single way from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core import limits
from core.bulk_messages import ApplyMutations, MutationsTold, MutationTold
from core.commands import AppliedMany, Apply, ApplyMany, Failed, Outcome, Why
from core.consistency import Level
from core.messages import MutationApplied, OperationFailed, Stale
from core.mutation import decode_mutation, encode_mutation
from core.ports import BULK, SMALL, PeerId
from core.requests import (
    Answer,
    BulkAnswered,
    BulkRequest,
    Invalid,
    Overloaded,
    Unavailable,
    WriteRequest,
    Written,
)
from node.mutation_building import build
from node.replica import is_plain, told_of
from node.tally import Needs, Tally, reachable
from node.writes import SMALL_PAYLOAD_BYTES, WriteOperation, check
from ring.tokens import token_of

if TYPE_CHECKING:
    from core.consistency import Need
    from node.metadata_state import TablePlacement
    from node.uniques import Uniques
    from node.writes import Reply, Writes

MESSAGE_BYTES_MAX: Final = 4 * limits.MIB
"""About what one message holds at most."""
BEHIND_MAX: Final = 200_000
"""Entries of the log that an index may be behind for its table to be written to in bulk."""
AGAIN_US: Final = limits.SECOND_US // 4
"""When a replica that had no time is asked again."""
BUSY: Final = frozenset({"overloaded", Why.STALLED})

Told = Callable[[int, Answer], None]


class BulkWrites:
    """The coordinator's side of bulk writes."""

    def __init__(self, writes: Writes, uniques: Uniques) -> None:
        """Register for what stores, timers and connections say."""
        self.writes = writes
        self.inside = writes.inside
        self._uniques = uniques
        self._needs = Needs()
        self._sets: dict[tuple[PeerId, ...], tuple[PeerId, ...]] = {}
        self._moved_epoch = 0
        self.behind: Callable[[int], int] | None = None
        """How many entries of the log the inverted index of a table is behind, where there are any."""
        self.inside.on_stored("bulk_write", self._on_local)
        self.inside.on_timer("bulk_write", self._on_timer)
        self.inside.on_timer("bulk_again", self._on_again)
        self.inside.on_peer(self._on_peer)
        writes.metadata.on_adopted(self._on_adopted)

    def begin(self, request: BulkRequest, deadline_us: int, reply: Reply) -> None:
        """Plan and send; `reply` is called once, when each write has its answer."""
        gathered = _Gathered(len(request.writes), reply)
        behind = 0 if self.behind is None else self.behind(request.table)
        if not request.writes:
            reply(BulkAnswered(()))
        elif behind > BEHIND_MAX:
            self.inside.count("bulk_writes_held_up")
            reply(Overloaded(f"the inverted index is {behind} writes behind: it has to catch up first"))
        elif self._uniques.concern(request.writes[0]):
            for at, write in enumerate(request.writes):
                self._uniques.begin(_at_level(write, request), deadline_us, gathered.taker(at))
        else:
            self._begin(request, list(enumerate(request.writes)), deadline_us, gathered.told)

    def _begin(
        self, request: BulkRequest, wanted: list[tuple[int, WriteRequest]], deadline_us: int, told: Told
    ) -> None:
        state = self.writes.metadata.state
        placement = state.placement(request.table)
        bound_us = self.inside.clock.bound_us()
        good: list[tuple[int, WriteRequest]] = []
        for at, write in wanted:
            write = _at_level(write, request)
            refusal = check(write, placement, bound_us)
            if refusal is None:
                good.append((at, write))
            else:
                told(at, refusal)
        if not good or placement is None:
            return
        placed = placement

        def stamped(stamp_us: int) -> None:
            if self.writes.metadata.state is not state:
                self._begin(request, good, deadline_us, told)  # it was planned by an older schema
            else:
                self._send(placed, good, stamp_us, deadline_us, told=told)

        def refused(why: str) -> None:
            for at, _ in good:
                told(at, Overloaded(why))

        self.writes.stamps.take(stamped, refused)

    def _send(
        self,
        placement: TablePlacement,
        wanted: list[tuple[int, WriteRequest]],
        stamp_us: int,
        deadline_us: int,
        *,
        told: Told,
    ) -> None:
        writes, start = self.writes, self.writes.writer
        groups: dict[tuple[PeerId, ...], list[_One]] = {}
        for at, write in wanted:
            token = token_of(write.partition)
            version = (write.timestamp_us, 0) if write.timestamp_us else (stamp_us, start)
            mutation = build(write, token, (start, writes.next_sequence()), version, stamp_us)
            data = encode_mutation(mutation)
            if len(data) > limits.MUTATION_BYTES_MAX:
                text = f"a write is limited to {limits.MUTATION_BYTES_MAX} bytes"
                told(at, Invalid("too_large", text))
                continue
            groups.setdefault(self._set_of(placement.writers(token)), []).append(_One(at, write, data, token))
        for replicas, ones in groups.items():
            need = self._need(placement, replicas, ones[0])
            for part in _parts(ones):
                if need is not None:
                    operation = BulkOperation(self, placement, need, replicas, told=told)
                    operation.send(part, stamp_us, deadline_us)
                else:
                    for one in part:
                        self._start_alone(placement, one, deadline_us, told)

    def _set_of(self, replicas: tuple[PeerId, ...]) -> tuple[PeerId, ...]:
        """The same replicas in one order."""
        found = self._sets.get(replicas)
        if found is None:
            if len(self._sets) >= SETS_MAX:
                self._sets.clear()
            found = self._sets[replicas] = tuple(sorted(replicas))
        return found

    def _need(self, placement: TablePlacement, replicas: tuple[PeerId, ...], one: _One) -> Need | None:
        """What the level needs of these replicas if they take the straight way; else None."""
        writes = self.writes
        if placement.moving is not None or not all(map(writes.swim.is_alive, replicas)):
            return None
        place = (placement.table.id, one.request.level, replicas)
        need = self._needs.of(writes.metadata.state, place)
        if need is None:
            need = placement.need(one.request.level, one.token, self.inside.identity.datacentre)
            if need.total > len(replicas) or need.sides:
                return None
            self._needs.note(place, need)
        return need

    def _start_alone(self, placement: TablePlacement, one: _One, deadline_us: int, told: Told) -> None:
        """One write that takes the single way."""
        writes, level = self.writes, one.request.level
        replicas = placement.writers(one.token)
        alive = [peer for peer in replicas if writes.swim.is_alive(peer)]
        local = self.inside.identity.datacentre
        need = placement.need(level, one.token, local)
        reach = reachable(need, placement, local, alive)
        if not reach.met and level is not Level.ANY:
            told(one.at, Unavailable(need.total, reach.received, level))
        else:
            self.alone(placement, one, told).start(replicas, alive, deadline_us)

    def alone(self, placement: TablePlacement, one: _One, told: Told) -> PatientWrite:
        """One write as an operation of its own."""
        need = placement.need(one.request.level, one.token, self.inside.identity.datacentre)
        at = one.at
        return PatientWrite(
            self.writes,
            one.request,
            decode_mutation(one.data),
            placement=placement,
            wanted=need,
            reply=lambda answer: told(at, answer),
        )

    # --- what is told to operations

    def _operations(self) -> list[BulkOperation]:
        return [each for each in self.inside.operations.values() if isinstance(each, BulkOperation)]

    def _on_local(self, outcome: Outcome, op: int) -> None:
        operation = self.inside.operations.get(op)
        if operation is None:
            return
        me = self.writes.me
        if isinstance(outcome, AppliedMany):
            if is_plain(outcome):
                operation.on_message(me, MutationApplied(op, None))
            else:
                name = self.inside.identity.name
                told = tuple(told_of(each, name) for each in outcome.outcomes)
                operation.on_message(me, MutationsTold(op, told))
        else:
            assert isinstance(outcome, Failed), outcome
            operation.on_message(me, OperationFailed(op, outcome.why, outcome.detail, outcome.floor_us))

    def _on_timer(self, op: int) -> None:
        operation = self.inside.operations.get(op)
        if operation is not None:
            assert isinstance(operation, BulkOperation | _Router)
            operation.on_timeout()

    def _on_again(self, op: int, peer: PeerId) -> None:
        operation = self.inside.operations.get(op)
        if operation is not None:
            assert isinstance(operation, PatientWrite)
            operation.ask_again(peer)

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        """What was sent to a peer, or its answer, may be lost with the connection."""
        if connected:
            for operation in self._operations():
                operation.on_connected(peer)

    def _on_adopted(self) -> None:
        state = self.writes.metadata.state
        if state.moved_epoch == self._moved_epoch:
            return
        self._moved_epoch = state.moved_epoch
        for operation in self._operations():
            operation.on_moved()


SETS_MAX: Final = 10_000


class _One(msgspec.Struct, frozen=True):
    """One write of a bulk: its place in the request, and its mutation's bytes."""

    at: int
    request: WriteRequest
    data: bytes
    token: int


class _Gathered:
    """Answers that are told when all are there."""

    def __init__(self, count: int, reply: Reply) -> None:
        self._answers: list[Answer | None] = [None] * count
        self._left = count
        self._reply = reply

    def told(self, at: int, answer: Answer) -> None:
        """One of them; what comes again is not counted again."""
        if self._answers[at] is None:
            self._answers[at] = answer
            self._left -= 1
            if not self._left:
                self._reply(BulkAnswered(tuple(self._answers)))

    def taker(self, at: int) -> Reply:
        """What takes the answer at this place."""
        return lambda answer: self.told(at, answer)


def _at_level(write: WriteRequest, request: BulkRequest) -> WriteRequest:
    assert write.table == request.table, "one table"
    return write if write.level is request.level else msgspec.structs.replace(write, level=request.level)


def _parts(ones: list[_One]) -> list[list[_One]]:
    """Cut so that each part fits a message."""
    parts: list[list[_One]] = [[]]
    size = 0
    for one in ones:
        size += len(one.data)
        if size > MESSAGE_BYTES_MAX and parts[-1]:
            parts.append([])
            size = len(one.data)
        parts[-1].append(one)
    return parts


class BulkOperation:
    """Writes with one set of replicas, on their straight way."""

    __slots__ = (
        "_deadline_us",
        "_need",
        "_ones",
        "_op",
        "_parent",
        "_pending",
        "_placement",
        "_replicas",
        "_tally",
        "_timer",
        "_told",
        "_version",
    )

    def __init__(
        self,
        parent: BulkWrites,
        placement: TablePlacement,
        need: Need,
        replicas: tuple[PeerId, ...],
        *,
        told: Told,
    ) -> None:
        """Nothing is sent yet."""
        self._parent = parent
        self._placement = placement
        self._need = need
        self._replicas = replicas
        self._told = told
        self._tally = Tally(need, placement, parent.inside.identity.datacentre)
        self._pending: list[PeerId] = list(replicas)
        self._ones: list[_One] = []
        self._op = self._timer = self._deadline_us = 0
        self._version = (0, 0)

    def send(self, ones: list[_One], stamp_us: int, deadline_us: int) -> None:
        """One message to each replica."""
        inside = self._parent.inside
        self._ones, self._deadline_us = ones, deadline_us
        self._version = (stamp_us, self._parent.writes.writer)
        op = self._op = inside.new_op()
        inside.operations[op] = self
        left_us = max(1_000, deadline_us - inside.world.monotonic_us())
        self._timer = inside.timer(min(left_us, inside.settings.write_timeout_us), "bulk_write", op)
        mutations = tuple(one.data for one in ones)
        epoch = self._parent.writes.metadata.state.epoch
        message = ApplyMutations(op, epoch, self._placement.table.id, mutations, left_us)
        lane = SMALL if sum(map(len, mutations)) + 8 * len(mutations) <= SMALL_PAYLOAD_BYTES else BULK
        for peer in self._replicas:
            if peer == self._parent.writes.me:
                inside.submit(("bulk_write", op), ApplyMany(mutations))
            elif not inside.world.send(peer, message, lane):
                text = "the connection to the replica is full or gone"
                inside.operations[op].on_message(peer, OperationFailed(op, "overloaded", text))

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer of a replica."""
        if peer not in self._pending:
            return
        if type(message) is not MutationApplied or message.newer is not None:
            self._unfold().on_message(peer, message)
            return
        self._pending.remove(peer)
        was_met = self._tally.met
        if self._tally.add(peer) and not was_met:
            for one in self._ones:
                self._told(one.at, Written(self._version_of(one)))
        if not self._pending:
            self._finish()

    def _version_of(self, one: _One) -> tuple[int, int]:
        return (one.request.timestamp_us, 0) if one.request.timestamp_us else self._version

    def on_timeout(self) -> None:
        """Somebody has not answered."""
        for part in self._unfold().parts:
            part.on_timeout()

    def on_connected(self, peer: PeerId) -> None:
        """A replica is back."""
        if peer in self._pending:
            for part in self._unfold().parts:
                part.on_connected(peer)

    def on_moved(self) -> None:
        """Who is written to has changed."""
        for part in self._unfold().parts:
            part.on_moved()

    # --- trouble

    def _unfold(self) -> _Router:
        """Each goes on by itself, as sent and answered so far; what is answered later is given to them."""
        parent, inside = self._parent, self._parent.inside
        inside.world.cancel_timer(self._timer)
        inside.count("bulk_writes_unfolded")
        router = _Router(parent.writes, self._op, list(self._pending))
        inside.operations[self._op] = router
        left_us = max(1_000, self._deadline_us - inside.world.monotonic_us())
        inside.timer(left_us, "bulk_write", self._op)
        for one in self._ones:
            part = parent.alone(self._placement, one, self._told)
            router.parts.append(part)
            router.ops.append(part.take_over(self._replicas, self._tally.peers, self._deadline_us))
        return router

    def _finish(self) -> None:
        inside = self._parent.inside
        if inside.operations.pop(self._op, None) is not None:
            inside.world.cancel_timer(self._timer)


class _Router:
    """Gives the answers to one message to the operations that its mutations have become.

    `ops` are the numbers that these had then: one that is stamped again has another, and what is answered to
    the attempt before is not its.
    """

    __slots__ = ("_op", "_pending", "_writes", "ops", "parts")

    def __init__(self, writes: Writes, op: int, pending: list[PeerId]) -> None:
        self.parts: list[PatientWrite] = []
        self.ops: list[int] = []
        self._writes = writes
        self._op = op
        self._pending = pending

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer of a replica to them all."""
        if peer not in self._pending:
            return
        self._pending.remove(peer)
        for at, (part, op) in enumerate(zip(self.parts, self.ops, strict=True)):
            if isinstance(message, MutationsTold):
                if at < len(message.told):
                    part.on_message(peer, _message_of(op, message.told[at]))
            elif isinstance(message, MutationApplied):
                part.on_message(peer, MutationApplied(op, message.newer))
            elif isinstance(message, Stale):
                part.on_message(peer, Stale(op, message.epochs))
            else:
                part.on_message(peer, OperationFailed(op, message.why, message.detail, message.floor_us))
        if not self._pending:
            self.on_timeout()

    def on_timeout(self) -> None:
        """There is nothing to give any more."""
        self._writes.inside.operations.pop(self._op, None)


def _message_of(op: int, told: MutationTold) -> MutationApplied | OperationFailed:
    if told.why:
        return OperationFailed(op, told.why, told.detail, told.floor_us)
    return MutationApplied(op, told.newer)


class PatientWrite(WriteOperation):
    """A write that asks replicas again that had no time, until the request's deadline."""

    __slots__ = ()

    def start(self, replicas: tuple[PeerId, ...], alive: list[PeerId], deadline_us: int) -> None:
        """Take the single way from the start."""
        self._replicas, self._alive, self._deadline_us = replicas, alive, deadline_us
        self._begin_attempt()

    def take_over(self, replicas: tuple[PeerId, ...], applied: list[PeerId], deadline_us: int) -> int:
        """Go on from where all were sent it, and these have applied it; gives the number of this attempt."""
        inside = self._parent.inside
        self._replicas, self._alive, self._deadline_us = replicas, list(replicas), deadline_us
        op = self._op = inside.new_op()
        inside.operations[op] = self
        self._left_us = max(1_000, deadline_us - inside.world.monotonic_us())
        self._timer = inside.timer(self._wait_us(), "write", op)
        self._pending = list(replicas)
        for peer in applied:
            self._on_applied(peer, None)
        return op

    def _wait_us(self) -> int:
        return min(self._left_us, self._parent.inside.settings.write_timeout_us)

    def on_timeout(self) -> None:
        """Wait on for those without which it is not acknowledged."""
        inside = self._parent.inside
        left_us = self._deadline_us - inside.world.monotonic_us()
        if self._reply is None or self._restamping or left_us <= 0:
            super().on_timeout()
            return
        self._left_us = left_us
        self._timer = inside.timer(self._wait_us(), "write", self._op)

    def _on_failed(self, peer: PeerId, message: OperationFailed) -> None:
        inside = self._parent.inside
        left_us = self._deadline_us - inside.world.monotonic_us()
        if message.why in BUSY and self._reply is not None and left_us > AGAIN_US:
            inside.timer(AGAIN_US, "bulk_again", self._op, peer)
        else:
            super()._on_failed(peer, message)

    def ask_again(self, peer: PeerId) -> None:
        """It had no time."""
        if peer not in self._pending or self._restamping:
            return
        if peer == self._parent.me:
            self._parent.inside.submit(("write", self._op), Apply(self._bytes))
        else:
            self._send_again(peer)
