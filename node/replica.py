"""The replica's side of writes and reads: check the epoch, give the command to the store, answer when it is
durable.

A message planned under a newer epoch waits until we have pulled it; one planned before an epoch that touched
its table is refused with the epochs its sender lacks. Answers go to whoever asked, and are never kept.

So many commands are given to the store at once; the rest waits here, in order. Of these a plain write or read
is dropped when its turn comes too late: its coordinator waits no more, and has seen to a hint. A replica that
has fallen behind so works on what somebody waits for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from core import limits
from core.bulk_messages import ApplyEach, ApplyMutations, MutationsTold, MutationTold
from core.commands import (
    Applied,
    AppliedMany,
    Apply,
    ApplyMany,
    Digest,
    Failed,
    MergeRows,
    Outcome,
    PaxosAccepted,
    PaxosFetched,
    PaxosOutcome,
    PaxosPrepare,
    PaxosRefused,
    PaxosStep,
    Promised,
    Read,
    Rows,
    Slice,
    Why,
)
from core.healing_messages import Repair
from core.messages import (
    ApplyMutation,
    DigestRead,
    MutationApplied,
    OperationFailed,
    PaxosAsk,
    PaxosTold,
    ReadSlice,
    SliceRead,
    Stale,
)
from core.ports import BULK, SMALL, URGENT, PeerId
from lsm.reading import digest_of

if TYPE_CHECKING:
    from core.commands import Command
    from core.messages import Message
    from node.inside import Inside
    from node.metadata import Metadata

IN_STORE_MAX = 2_048
"""So many commands are with the store at once: far more than are on their way between two syncs."""
TOLD_BYTES_MAX = limits.FRAME_BYTES_MAX - limits.MIB
"""What rows may take in an answer."""
QUEUE_FULL = "this replica has more to do than it can take in"


class Replica:
    """Serves coordinators."""

    def __init__(self, inside: Inside, metadata: Metadata) -> None:
        """Register for messages about data and for the store's outcomes."""
        self._inside = inside
        self._metadata = metadata
        self._queued = 0
        self._in_store = 0
        self._waiting: deque[tuple[int, tuple[Any, ...], Command]] = deque()
        inside.on_message(ApplyMutation, self._on_apply)
        inside.on_message(ApplyEach, self._on_apply_each)
        inside.on_message(ApplyMutations, self._on_apply_many)
        inside.on_message(ReadSlice, self._on_read)
        inside.on_message(Repair, self._on_repair)
        inside.on_message(PaxosAsk, self._on_paxos)
        inside.on_stored("replica_paxos", self._paxos_done)
        inside.on_stored("replica_apply", self._applied)
        inside.on_stored("replica_apply_many", self._applied_many)
        inside.on_stored("replica_read", self._was_read)
        inside.on_stored("replica_repair", self._repaired)

    def _may(self, peer: PeerId, message: Any, table: int) -> bool:
        """Whether to serve now; if not, it is refused, or parked until we have caught up."""
        metadata = self._metadata
        epoch = metadata.state.epoch
        if message.epoch != epoch:
            if message.epoch > epoch:
                handler = self._inside.message_handlers[type(message)]
                metadata.catch_up(peer, message.epoch, lambda: handler(peer, message))
                return False
            lacking = metadata.stale_for(table, message.epoch)
            if lacking is not None:
                self._inside.send(peer, Stale(message.op, lacking))
                return False
        if self._queued >= limits.STORE_QUEUE_MAX:
            self._inside.count("replica_overloaded")
            self._inside.send(peer, OperationFailed(message.op, "overloaded", QUEUE_FULL))
            return False
        if metadata.state.placement(table) is None:
            self._inside.send(
                peer, OperationFailed(message.op, "no_such_table", "there is no such table here")
            )
            return False
        self._queued += 1
        return True

    def _on_apply(self, peer: PeerId, message: ApplyMutation) -> None:
        if self._may(peer, message, message.table):
            ticket = ("replica_apply", peer, message.op, message.epoch)
            self._submit(ticket, Apply(message.mutation), message.left_us)

    def _on_apply_each(self, peer: PeerId, message: ApplyEach) -> None:
        """As so many ApplyMutation; where nothing stands in the way of any, without asking for each."""
        epoch, table, count = message.epoch, message.table, len(message.applies)
        state = self._metadata.state
        is_free = epoch == state.epoch and not self._waiting and self._in_store + count < IN_STORE_MAX
        if not is_free or self._inside.gate is not None or state.placement(table) is None:
            for op, mutation in message.applies:
                self._on_apply(peer, ApplyMutation(op, epoch, table, mutation, message.left_us))
            return
        self._queued += count
        self._in_store += count
        submit = self._inside.world.submit
        for op, mutation in message.applies:
            submit(("replica_apply", peer, op, epoch), Apply(mutation))

    def _on_apply_many(self, peer: PeerId, message: ApplyMutations) -> None:
        if self._may(peer, message, message.table):
            ticket = ("replica_apply_many", peer, message.op, message.epoch)
            self._submit(ticket, ApplyMany(message.mutations), message.left_us)

    def _submit(self, ticket: tuple[Any, ...], command: Command, left_us: int = 0) -> None:
        """To the store, or to the end of what waits for it; `left_us` 0 is for ever."""
        gate = self._inside.gate
        if gate is None or not gate(lambda: self._enqueue(ticket, command, left_us), command, left_us):
            self._enqueue(ticket, command, left_us)

    def _enqueue(self, ticket: tuple[Any, ...], command: Command, left_us: int) -> None:
        if self._in_store < IN_STORE_MAX and not self._waiting:
            self._in_store += 1
            self._inside.world.submit(ticket, command)
        else:
            until_us = self._inside.world.monotonic_us() + left_us if left_us else 0
            self._waiting.append((until_us, ticket, command))

    def _done(self) -> None:
        """The store is through with one: the next that somebody waits for."""
        self._queued -= 1
        self._in_store -= 1
        if not self._waiting:
            return
        now_us = self._inside.world.monotonic_us()
        while self._waiting and self._in_store < IN_STORE_MAX:
            until_us, ticket, command = self._waiting.popleft()
            if 0 < until_us <= now_us:
                self._queued -= 1
                self._inside.count("replica_dropped_late")
            else:
                self._in_store += 1
                self._inside.world.submit(ticket, command)

    def _on_read(self, peer: PeerId, message: ReadSlice) -> None:
        part = message.slice
        if not 0 < part.rows_max <= limits.LIST_KEYS_MAX:
            self._inside.send(peer, OperationFailed(message.op, "overloaded", "a slice of too many rows"))
        elif self._may(peer, message, part.table):
            digest = message.digest
            if digest and (peer, message.op) in self._inside.traces_of_others:
                ticket: tuple[object, ...] = ("replica_read", peer, message.op, part, (message.epoch, True))
                self._submit(ticket, Read(part, False), message.left_us)  # the trace is to tell of its rows
            else:
                ticket = ("replica_read", peer, message.op, part, (message.epoch, False))
                self._submit(ticket, Read(part, digest), message.left_us)

    def _on_repair(self, peer: PeerId, message: Repair) -> None:
        if self._may(peer, message, message.table):
            command = MergeRows(message.table, message.rows, message.settled_us)
            self._submit(("replica_repair", peer, message.op, message.epoch), command)

    def _on_paxos(self, peer: PeerId, message: PaxosAsk) -> None:
        step = message.step
        if isinstance(step, PaxosPrepare) and len(step.slices) > limits.PAXOS_READS_MAX:
            self._inside.send(
                peer, OperationFailed(message.op, "overloaded", "a condition on too many slices")
            )
        elif self._may(peer, message, step.table):
            self._submit(("replica_paxos", peer, message.op, step, message.epoch), step)

    # --- outcomes

    def _is_outdated(self, peer: PeerId, op: int, epoch: int) -> bool:
        """Whether what is done was planned before rows moved, and waited in our queues meanwhile.

        Then it does not count: from the moment at which we say that we know an epoch, nothing is acknowledged
        that was planned before it, and nothing read (node/moving.py).
        """
        metadata = self._metadata
        if epoch >= metadata.state.moved_epoch:
            return False
        self._inside.count("replica_outdated")
        self._inside.send(peer, Stale(op, metadata.epochs_after(epoch)))
        return True

    def _paxos_done(self, outcome: Outcome, peer: PeerId, op: int, step: PaxosStep, epoch: int) -> None:
        self._done()
        if self._is_outdated(peer, op, epoch):
            return
        if isinstance(outcome, Applied):
            self._inside.world.send(peer, MutationApplied(op, outcome.newer), URGENT)
        elif isinstance(outcome, Failed):
            if isinstance(step, PaxosPrepare) and step.slices:
                self._inside.note_damage(outcome, step.slices[0])
            self._failed(outcome, peer, op)
        else:
            assert isinstance(outcome, Promised | PaxosRefused | PaxosAccepted | PaxosFetched), outcome
            size = _bytes_of(outcome)
            if size > TOLD_BYTES_MAX:
                self._too_large(size, peer, op)
                return
            lane = URGENT if size < limits.SMALL_FRAME_BYTES_MAX // 2 else BULK
            self._inside.world.send(peer, PaxosTold(op, outcome), lane)

    def _applied(self, outcome: Outcome, peer: PeerId, op: int, epoch: int) -> None:
        self._done()
        if self._is_outdated(peer, op, epoch):
            return
        if isinstance(outcome, Applied):
            self._inside.world.send(peer, MutationApplied(op, outcome.newer), SMALL)
        else:
            self._failed(outcome, peer, op)

    def _applied_many(self, outcome: Outcome, peer: PeerId, op: int, epoch: int) -> None:
        self._done()
        if self._is_outdated(peer, op, epoch):
            return
        if not isinstance(outcome, AppliedMany):
            self._failed(outcome, peer, op)
        elif is_plain(outcome):
            self._inside.world.send(peer, MutationApplied(op, None), SMALL)
        else:
            name = self._inside.identity.name
            told = tuple(told_of(each, name) for each in outcome.outcomes)
            self._inside.count("replica_failures", sum(bool(each.why) for each in told))
            self._inside.world.send(peer, MutationsTold(op, told), SMALL)

    def _was_read(self, outcome: Outcome, peer: PeerId, op: int, part: Slice, how: tuple[int, bool]) -> None:
        """`how`: the epoch it was planned at, and whether only the digest is wanted of what was read."""
        self._done()
        epoch, digest = how
        if self._is_outdated(peer, op, epoch):
            return
        if digest and isinstance(outcome, Rows):
            outcome = Digest(digest_of(outcome))
        if isinstance(outcome, Digest):
            self._inside.world.send(peer, DigestRead(op, outcome.digest), SMALL)
        elif isinstance(outcome, Rows):
            size = sum(len(key) + len(data) for key, data in outcome.rows) + len(outcome.header or b"")
            if size > TOLD_BYTES_MAX:
                self._too_large(size, peer, op)
                return
            lane = SMALL if size < limits.SMALL_FRAME_BYTES_MAX - 1024 - 16 * len(outcome.rows) else BULK
            answer: Message = SliceRead(
                op, outcome.rows, outcome.header, outcome.more, outcome.settled_us, outcome.passed
            )
            self._inside.world.send(peer, answer, lane)
        else:
            self._inside.note_damage(outcome, part)
            self._failed(outcome, peer, op)

    def _repaired(self, outcome: Outcome, peer: PeerId, op: int, epoch: int) -> None:
        self._done()
        if self._is_outdated(peer, op, epoch):
            return
        if isinstance(outcome, Failed):
            self._failed(outcome, peer, op)
        else:
            self._inside.world.send(peer, MutationApplied(op, None), SMALL)

    def _too_large(self, size: int, peer: PeerId, op: int) -> None:
        """No message takes it: said, and not waited for in vain."""
        text = f"what is asked for takes {size} bytes, and no more than {TOLD_BYTES_MAX} are told at once"
        self._failed(Failed(Why.TOO_LARGE, text), peer, op)

    def _failed(self, outcome: Outcome, peer: PeerId, op: int) -> None:
        assert isinstance(outcome, Failed), outcome
        self._inside.count("replica_failures")
        name = self._inside.identity.name
        failed = OperationFailed(op, outcome.why, f"{name}: {outcome.detail}", outcome.floor_us)
        self._inside.world.send(peer, failed, SMALL)


def is_plain(outcome: AppliedMany) -> bool:
    """Whether all were applied, and none met anything newer."""
    return all(type(each) is Applied and each.newer is None for each in outcome.outcomes)


def told_of(outcome: Applied | Failed, name: str) -> MutationTold:
    """What became of one mutation at the replica of this name."""
    if isinstance(outcome, Applied):
        return MutationTold(outcome.newer)
    return MutationTold(None, outcome.why, f"{name}: {outcome.detail}", outcome.floor_us)


def _bytes_of(outcome: PaxosOutcome) -> int:
    """About what an answer takes on the wire."""
    if isinstance(outcome, PaxosFetched):
        return len(outcome.data or b"")
    if isinstance(outcome, Promised):
        rows = [len(key) + len(data) + 16 for answer in outcome.rows for key, data in answer.rows]
        headers = [len(answer.header or b"") + 16 for answer in outcome.rows]
        return len(outcome.proposal) + sum(rows) + sum(headers)
    return 0
