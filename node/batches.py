"""Coordinating batches: one stamp, one mutation per partition, and for logged ones the batch log first.

What a batch promises is that all of it is applied, whoever dies, and that two batches which write the same
cells leave the same one's everywhere: per cell the last writer wins, and all cells of a batch have one
version. It does not isolate partitions from each other: a reader may see one written and another not yet.

    logged:    stamp -> two holders have it durably -> mutations to their replicas -> answer -> holders forget
    unlogged:  stamp -> each mutation is a write of its own, answered when all are
    counters:  each is an increment of its own (node/counters.py), answered when all are
    once:      a logged one under an operation id first decides, by Paxos, which mutations that id means

*Stamped again, as a whole.* If replicas met newer versions, a plain write is made anew above them before it
is acknowledged. If each mutation of a batch did that for itself, one partition could end with this batch's
cells and another with a rival's. So a logged batch waits until every mutation has its level; if any met a
newer version, all of them are made anew above the newest, that attempt replaces the first in the batch log,
and only then is it sent. Whoever replays has either attempt as a whole, and the later one wins everywhere.

*What a client is told.* Before two holders have the batch: `Unavailable` (nothing was tried) or, in time's
absence, `Timeout(write_type=BATCH_LOG)`, for one of them may have it and replay it. Afterwards it is certain
to come: `Timeout(write_type=BATCH)`. A batch that writes one partition is one mutation and needs no log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from core import limits
from core.cell import NO_VERSION
from core.consistency import Level, Need
from core.messages import BatchDone, BatchStore, BatchStored, OperationFailed
from core.mutation import UPDATE, Mutation, decode_mutation, encode_mutation, restamped
from core.ports import PeerId
from core.requests import (
    Answer,
    BatchRequest,
    Broken,
    CounterRequest,
    Invalid,
    Judged,
    Overloaded,
    Timeout,
    Unavailable,
    WriteRequest,
    Written,
)
from core.row import EMPTY_HEADER, merge_headers, merge_rows
from core.schema import Member
from node.batch_log import BatchApply
from node.mutation_building import build
from node.tally import reachable
from node.views import lane_for
from node.writes import WriteOperation, check, no_such_table
from query.once import BatchClaim
from ring.tokens import token_of

if TYPE_CHECKING:
    from core.cell import Version
    from core.trace import Trace
    from node.batch_log import BatchLog
    from node.counters import Counters
    from node.inside import Inside
    from node.metadata import Metadata
    from node.metadata_state import TablePlacement
    from node.paxos import Paxos
    from node.stamps import Stamps
    from node.swim import Swim
    from node.writes import Writes

HOLDERS = 2
"""So many peers keep a logged batch; one in a cluster of one."""

ASK_AGAIN_US = 250_000
"""Holders that have not answered are asked again after this, and one more is."""

Reply = Callable[[Answer], None]


class Part(NamedTuple):
    """What a batch writes to one partition."""

    writes: tuple[WriteRequest, ...]
    token: int
    placement: TablePlacement
    wanted: Need
    alive: list[PeerId]


class Batches:
    """The coordinator's side of batches."""

    def __init__(
        self,
        inside: Inside,
        metadata: Metadata,
        swim: Swim,
        writes: Writes,
        *,
        stamps: Stamps,
        log: BatchLog,
        counters: Counters,
        paxos: Paxos,
    ) -> None:
        """Register for timers."""
        self.inside = inside
        self.metadata = metadata
        self.swim = swim
        self.writes = writes
        self.stamps = stamps
        self.log = log
        self.counters = counters
        self.paxos = paxos
        inside.on_timer("batch_ask", lambda op: self._on_timer(op, LoggedBatch.ask_again))
        inside.on_timer("batch_deadline", lambda op: self._on_timer(op, LoggedBatch.on_deadline))

    def begin(self, request: BatchRequest, deadline_us: int, reply: Reply) -> None:
        """Plan and send; `reply` is called exactly once."""
        counted = [write for write in request.writes if isinstance(write, CounterRequest)]
        if counted:
            self._count(request, counted, deadline_us, reply)
            return
        parts = self._plan(request)
        if not isinstance(parts, list):
            reply(parts)
            return
        if not parts:
            reply(Written(NO_VERSION))
            return
        holders: list[PeerId] = []
        needs_log = request.logged and len(parts) > 1
        if needs_log:
            holders = self._holders()
            required = min(HOLDERS, len(self.metadata.state.members))
            if len(holders) < required:
                reply(Unavailable(required, len(holders), request.level))
                return

        state = self.metadata.state

        def stamped(stamp_us: int) -> None:
            if self.metadata.state is not state:
                self.begin(request, deadline_us, reply)  # it was planned by an older schema
                return
            mutations = self._build(parts, stamp_us)
            if not needs_log:
                self._send_each(request, parts, mutations, deadline_us, reply)
                return
            pairs = tuple((m.table, encode_mutation(m)) for m in mutations)
            of = request.operation
            bytes_max = limits.BATCH_BYTES_MAX if of is None else limits.BATCH_ONCE_BYTES_MAX
            if sum(len(data) for _, data in pairs) > bytes_max:
                what = "a batch" if of is None else "a batch under an operation id"
                reply(Invalid("too_large", f"{what} is limited to {bytes_max} bytes"))
                return
            batch = LoggedBatch(self, request.level, mutations, reply, trace=request.trace)
            if of is None:
                batch.start(holders, pairs, deadline_us)
            else:
                self._start_once(batch, BatchClaim(parts[0].writes[0], of, pairs), holders, deadline_us)

        self.stamps.take(stamped, lambda why: reply(Overloaded(why)))

    def _start_once(
        self, batch: LoggedBatch, claim: BatchClaim, holders: list[PeerId], deadline_us: int
    ) -> None:
        """Begin what is under an id: as it is if it is the first of its id, else as the first was."""

        def on_answer(answer: Answer) -> None:
            if not isinstance(answer, Judged):
                batch.not_claimed(answer)
                return
            pairs, first = claim.mutations(answer)
            if not first:
                batch.become(pairs)
            batch.start(holders, pairs, deadline_us)

        self.paxos.begin(claim.request, deadline_us, on_answer)

    def _count(
        self, request: BatchRequest, counted: list[CounterRequest], deadline_us: int, reply: Reply
    ) -> None:
        """A batch of increments: each is one of its own."""
        if len(counted) < len(request.writes) or len(counted) > limits.BATCH_MUTATIONS_MAX:
            reply(Invalid("bad_batch", "a batch of counters holds nothing else, and not too many"))
            return
        join = Join(len(counted), "COUNTER", reply)
        for increment in counted:
            levelled = msgspec.structs.replace(increment, level=request.level, trace=request.trace)
            self.counters.begin(levelled, deadline_us, join.on_answer)

    def _plan(self, request: BatchRequest) -> list[Part] | Answer:
        """The parts of a batch; or why it cannot be tried."""
        groups: dict[tuple[int, bytes], list[WriteRequest]] = {}
        wall_us = self.inside.clock.bound_us()
        state, local = self.metadata.state, self.inside.identity.datacentre
        for write in request.writes:
            assert isinstance(write, WriteRequest), "increments were taken out before"
            levelled = msgspec.structs.replace(write, level=request.level, trace=request.trace)
            refusal = check(levelled, state.placement(write.table), wall_us)
            if refusal is not None:
                return refusal
            groups.setdefault((write.table, write.partition), []).append(levelled)
        if len(groups) > limits.BATCH_MUTATIONS_MAX:
            text = f"a batch writes at most {limits.BATCH_MUTATIONS_MAX} partitions, not {len(groups)}"
            return Invalid("too_large", text)
        parts: list[Part] = []
        for (table, partition), writes in groups.items():
            placement = state.placement(table)
            if placement is None:
                return no_such_table()
            token = token_of(partition)
            wanted = placement.need(request.level, token, local)
            alive = [peer for peer in placement.writers(token) if self.swim.is_alive(peer)]
            reach = reachable(wanted, placement, local, alive)
            if not reach.met and request.level is not Level.ANY:
                return Unavailable(wanted.total, reach.received, request.level)
            parts.append(Part(tuple(writes), token, placement, wanted, alive))
        return parts

    def _holders(self) -> list[PeerId]:
        """Whom to ask to keep a batch, best first: live peers, ourselves at last."""
        state, me = self.metadata.state, self.inside.identity
        leaving = state.move.remove if state.move is not None else ()
        others = [m for m in state.members if m.peer != me.peer and m.peer not in leaving]
        alive = [m for m in others if self.swim.is_alive(m.peer)]
        if not alive:
            return [me.peer] if len(state.members) == 1 else []
        turn = self.inside.world.below(len(alive))
        return [*holders_of(alive[turn:] + alive[:turn], me.datacentre, me.rack), me.peer]

    def _build(self, parts: Sequence[Part], stamp_us: int) -> list[Mutation]:
        writer = self.writes.writer
        return [
            build_part(part.writes, part.token, (writer, self.writes.next_sequence()), stamp_us)
            for part in parts
        ]

    def _send_each(
        self,
        request: BatchRequest,
        parts: list[Part],
        mutations: list[Mutation],
        deadline_us: int,
        reply: Reply,
    ) -> None:
        join = Join(len(parts), "BATCH" if request.logged else "UNLOGGED_BATCH", reply)
        for part, mutation in zip(parts, mutations, strict=True):
            operation = WriteOperation(
                self.writes,
                part.writes[0],
                mutation,
                placement=part.placement,
                wanted=part.wanted,
                reply=join.on_answer,
            )
            operation.send(part.placement.writers(part.token), part.alive, deadline_us)

    def _on_timer(self, op: int, handle: Callable[[LoggedBatch], None]) -> None:
        operation = self.inside.operations.get(op)
        if isinstance(operation, LoggedBatch):
            handle(operation)


class Join:
    """The answer of several independent writes: good if all are, "nothing was written" if all say so."""

    def __init__(self, count: int, write_type: str, reply: Reply) -> None:
        self._left = count
        self._write_type = write_type
        self._reply = reply
        self._answers: list[Answer] = []

    def on_answer(self, answer: Answer) -> None:
        """One of them is answered."""
        self._answers.append(answer)
        self._left -= 1
        if self._left == 0:
            self._reply(self._joined())

    def _joined(self) -> Answer:
        bad = [answer for answer in self._answers if not isinstance(answer, Written)]
        if not bad:
            return max(self._answers, key=lambda answer: getattr(answer, "version", NO_VERSION))
        uncertain = [a for a in bad if isinstance(a, Timeout) or (isinstance(a, Broken) and a.unknown)]
        worst = (uncertain or bad)[0]
        if isinstance(worst, Timeout | Broken):
            partly = len(bad) < len(self._answers) or bool(uncertain)
            more = {"unknown": partly or worst.unknown} if isinstance(worst, Broken) else {}
            return msgspec.structs.replace(worst, write_type=self._write_type, **more)
        if len(bad) < len(self._answers):  # refused there, written here
            text = str(getattr(worst, "detail", worst))
            return Broken(0, 1, len(bad), text, write=True, unknown=True, write_type=self._write_type)
        return worst


class LoggedBatch:
    """One logged batch: with its holders, then with the replicas, perhaps both once more, then done."""

    def __init__(
        self,
        parent: Batches,
        level: Level,
        mutations: list[Mutation],
        reply: Reply,
        *,
        trace: Trace | None = None,
    ) -> None:
        """Nothing is sent yet."""
        self._parent = parent
        self._level = level
        self._mutations = mutations
        self._trace = trace
        self._reply: Reply | None = reply
        self._batch = (mutations[0].start, mutations[0].sequence)
        self._stamp_us = mutations[0].admitted_us
        self._attempt = 0
        self._again = False
        self._above = False
        self._apply_now: BatchApply | None = None
        self._pairs: tuple[tuple[int, bytes], ...] = ()
        self._needed = min(HOLDERS, len(parent.metadata.state.members))
        self._candidates: list[PeerId] = []
        self._asked: list[PeerId] = []
        self._stored: list[PeerId] = []
        self._deadline_us = 0
        self._op = 0
        self._timers: list[int] = []

    def start(self, holders: list[PeerId], pairs: tuple[tuple[int, bytes], ...], deadline_us: int) -> None:
        """Have the first holders keep it."""
        self._candidates = holders
        self._deadline_us = deadline_us
        self._store(pairs)

    def become(self, pairs: tuple[tuple[int, bytes], ...]) -> None:
        """Be a batch that was begun before. It may have been applied, and others may have written since, so
        it is not stamped again.
        """
        self._mutations = [decode_mutation(data) for _, data in pairs]
        self._batch = (self._mutations[0].start, self._mutations[0].sequence)
        self._stamp_us = self._mutations[0].admitted_us
        self._again = True

    def not_claimed(self, why: Answer) -> None:
        """It could not be known whether it was begun before; nothing of it is sent."""
        if isinstance(why, Timeout):
            why = msgspec.structs.replace(why, level=self._level, write=True, write_type="BATCH_LOG")
        self._answer(why)

    # --- the batch log

    def _store(self, pairs: tuple[tuple[int, bytes], ...]) -> None:
        inside = self._parent.inside
        self._pairs = pairs
        self._stored = []
        self._op = inside.new_op()
        inside.operations[self._op] = self
        left_us = max(1_000, self._deadline_us - inside.world.monotonic_us())
        self._timers = [
            inside.timer(left_us, "batch_deadline", self._op),
            inside.timer(ASK_AGAIN_US, "batch_ask", self._op),
        ]
        for peer in tuple(self._asked):
            self._ask(peer)
        self._ask_more(self._needed - len(self._asked))

    def _ask_more(self, count: int) -> None:
        for _ in range(count):
            if not self._candidates:
                return
            peer = self._candidates.pop(0)
            self._asked.append(peer)
            self._ask(peer)

    def _ask(self, peer: PeerId) -> None:
        parent, op = self._parent, self._op
        rank = self._asked.index(peer)
        if self._trace is not None:
            parent.inside.tracing.asks(self._trace, op, [peer], "Asking to keep the batch in its batch log")
        message = BatchStore(op, self._batch, self._attempt, rank, tuple(self._asked), self._pairs)
        if peer == parent.inside.identity.peer:
            parent.log.store(
                message,
                lambda why: self.on_message(peer, OperationFailed(op, why, "") if why else BatchStored(op)),
            )
        elif not parent.inside.send(peer, message, lane_for(sum(len(data) for _, data in self._pairs))):
            self._ask_more(1)

    def on_message(self, peer: PeerId, message: Any) -> None:
        """A holder's answer."""
        if message.op != self._op or peer in self._stored:
            return
        if type(message) is BatchStored:
            self._stored.append(peer)
            if len(self._stored) == self._needed:
                self._leave_log()
                self._apply()
        else:
            self._ask_more(1)

    def ask_again(self) -> None:
        """Some do not answer: ask them once more, and another."""
        for peer in tuple(self._asked):
            if peer not in self._stored:
                self._ask(peer)
        if self._op in self._parent.inside.operations:
            self._ask_more(1)
            self._timers.append(self._parent.inside.timer(ASK_AGAIN_US, "batch_ask", self._op))

    def on_deadline(self) -> None:
        """Not enough holders in time: what one of them has, it will replay."""
        self._leave_log()
        kind = "BATCH" if self._attempt else "BATCH_LOG"
        received = len(self._stored)
        self._answer(Timeout(received, self._needed, self._level, write=True, write_type=kind))

    def _leave_log(self) -> None:
        inside = self._parent.inside
        inside.operations.pop(self._op, None)
        for timer in self._timers:
            inside.world.cancel_timer(timer)

    # --- the replicas

    def _apply(self) -> None:
        level = self._level
        if level is Level.ANY:
            self._answer(Written(self._version()))
            level = Level.QUORUM
        if self._trace is not None:
            self._trace.tell("The batch is in the batch log: sending its mutations")
        log = self._parent.log
        ended, above = self._on_applied, self._above
        apply = BatchApply(log, level, ended, finally_lost=False, trace=self._trace, above=above)
        self._apply_now = apply
        apply.send(self._mutations, self._deadline_us)

    def _on_applied(self, failure: Answer | None, newer: Version | None) -> None:
        if failure is not None:
            self._answer(self._certain(failure))  # the holders see to it
        elif newer is not None and not self._above and not self._again:
            assert self._apply_now is not None, "who else calls this"
            self._above = self._apply_now.is_seen
            self._stamp_again(newer)
        else:
            self._answer(self._applied())
            self._done()

    def _applied(self) -> Answer:
        """What to say when nothing failed. What was for a table that is gone by now is gone with it."""
        assert self._apply_now is not None, "who else asks"
        gone = self._apply_now.gone
        if gone and all(mutation.table == self._mutations[0].table for mutation in self._mutations):
            return no_such_table()
        if gone:
            text = "a table of the batch was dropped or emptied meanwhile; what is for others is written"
            return Broken(0, 1, gone, text, write=True, unknown=True, write_type="BATCH")
        return Written(self._version())

    def _certain(self, failure: Answer) -> Answer:
        """What to say when a part of a batch that is in the log was not acknowledged."""
        if isinstance(failure, Broken):
            return msgspec.structs.replace(failure, unknown=True, write_type="BATCH")
        if isinstance(failure, Timeout):
            return msgspec.structs.replace(failure, level=self._level, write_type="BATCH")
        text = str(getattr(failure, "detail", failure))
        return Broken(0, 1, 1, text, write=True, unknown=True, write_type="BATCH")

    def _stamp_again(self, newer: Version) -> None:
        """Make all of it anew above what was met, and have the holders replace it before it is sent."""
        parent = self._parent
        parent.inside.clock.observe(newer[0] + 1)

        def stamped(stamp_us: int) -> None:
            self._mutations = [
                restamped(m, self._stamp_us, (stamp_us, m.start)) if m.stamped else m for m in self._mutations
            ]
            self._stamp_us = stamp_us
            self._attempt += 1
            parent.inside.count("batches_stamped_again")
            self._store(tuple((m.table, encode_mutation(m)) for m in self._mutations))

        def refused(why: str) -> None:
            self._answer(Broken(0, 1, 1, why, write=True, unknown=True, write_type="BATCH"))

        parent.stamps.take(stamped, refused)

    def _version(self) -> Version:
        return (self._stamp_us, self._mutations[0].start)

    # --- ending

    def _done(self) -> None:
        parent = self._parent
        for peer in self._asked:
            if peer == parent.inside.identity.peer:
                parent.log.forget(self._batch, self._attempt)
            else:
                parent.inside.send(peer, BatchDone(self._batch, self._attempt))

    def _answer(self, answer: Answer) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply(answer)


def holders_of(others: Sequence[Member], datacentre: str, rack: str) -> list[PeerId]:
    """Whom to ask to keep a batch, best first: here in other racks, one rack after the other; then anybody
    here; then other datacentres. Within that the order given stays.
    """
    racks: dict[str, list[PeerId]] = {}
    near: list[PeerId] = []
    far: list[PeerId] = []
    for member in others:
        if member.datacentre != datacentre:
            far.append(member.peer)
        elif member.rack == rack:
            near.append(member.peer)
        else:
            racks.setdefault(member.rack, []).append(member.peer)
    spread: list[PeerId] = []
    for turn in range(max((len(peers) for peers in racks.values()), default=0)):
        spread += [peers[turn] for peers in racks.values() if turn < len(peers)]
    return spread + near + far


def build_part(
    writes: Sequence[WriteRequest], token: int, origin: tuple[int, int], stamp_us: int
) -> Mutation:
    """The one mutation of writes to one partition; each is at the stamp or at its own timestamp."""
    merged: Mutation | None = None
    for write in writes:
        version = (write.timestamp_us, 0) if write.timestamp_us else (stamp_us, origin[0])
        mutation = build(write, token, origin, version, stamp_us)
        merged = mutation if merged is None else _merged(merged, mutation)
    assert merged is not None, "a part without writes"
    return merged


def _merged(a: Mutation, b: Mutation) -> Mutation:
    """Two mutations of one id as one: what merging both would leave."""
    rows = dict(a.rows)
    for suffix, row in b.rows:
        rows[suffix] = merge_rows(rows[suffix], row) if suffix in rows else row
    header = a.header or b.header
    if a.header is not None and b.header is not None:
        header = merge_headers(merge_headers(EMPTY_HEADER, a.header), b.header)
    return msgspec.structs.replace(
        a,
        stamped=a.stamped or b.stamped,
        operation=a.operation if a.operation == b.operation else UPDATE,
        header=header,
        rows=tuple(rows.items()),
    )
