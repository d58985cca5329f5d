"""The replica's side of writes and reads: check the epoch, give the command to the store, answer when it is
durable.

A message planned under a newer epoch waits until we have pulled it; one planned before an epoch that touched
its table is refused with the epochs its sender lacks. Answers go to whoever asked, and are never kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core import limits
from core.commands import (
    Applied,
    Apply,
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
from core.messages import (
    ApplyMutation,
    DigestRead,
    MutationApplied,
    OperationFailed,
    PaxosAsk,
    PaxosTold,
    ReadSlice,
    Repair,
    SliceRead,
    Stale,
)
from core.ports import BULK, SMALL, URGENT, PeerId
from lsm.reading import digest_of

if TYPE_CHECKING:
    from core.messages import Message
    from node.inside import Inside
    from node.metadata import Metadata

QUEUE_FULL = "this replica has more to do than it can take in"


class Replica:
    """Serves coordinators."""

    def __init__(self, inside: Inside, metadata: Metadata) -> None:
        """Register for messages about data and for the store's outcomes."""
        self._inside = inside
        self._metadata = metadata
        self._queued = 0
        inside.on_message(ApplyMutation, self._on_apply)
        inside.on_message(ReadSlice, self._on_read)
        inside.on_message(Repair, self._on_repair)
        inside.on_message(PaxosAsk, self._on_paxos)
        inside.on_stored("replica_paxos", self._paxos_done)
        inside.on_stored("replica_apply", self._applied)
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
            self._inside.world.submit(("replica_apply", peer, message.op), Apply(message.mutation))

    def _on_read(self, peer: PeerId, message: ReadSlice) -> None:
        part = message.slice
        if not 0 < part.rows_max <= limits.LIST_KEYS_MAX:
            self._inside.send(peer, OperationFailed(message.op, "overloaded", "a slice of too many rows"))
        elif self._may(peer, message, part.table):
            digest = message.digest
            if digest and (peer, message.op) in self._inside.traces_of_others:
                ticket: tuple[object, ...] = ("replica_read", peer, message.op, part, True)
                self._inside.world.submit(ticket, Read(part, False))  # the trace is to tell of its rows
            else:
                self._inside.world.submit(("replica_read", peer, message.op, part), Read(part, digest))

    def _on_repair(self, peer: PeerId, message: Repair) -> None:
        if self._may(peer, message, message.table):
            command = MergeRows(message.table, message.rows)
            self._inside.world.submit(("replica_repair", peer, message.op), command)

    def _on_paxos(self, peer: PeerId, message: PaxosAsk) -> None:
        step = message.step
        if isinstance(step, PaxosPrepare) and len(step.slices) > limits.PAXOS_READS_MAX:
            self._inside.send(
                peer, OperationFailed(message.op, "overloaded", "a condition on too many slices")
            )
        elif self._may(peer, message, step.table):
            self._inside.world.submit(("replica_paxos", peer, message.op, step), step)

    # --- outcomes

    def _paxos_done(self, outcome: Outcome, peer: PeerId, op: int, step: PaxosStep) -> None:
        self._queued -= 1
        if isinstance(outcome, Applied):
            self._inside.world.send(peer, MutationApplied(op, outcome.newer), URGENT)
        elif isinstance(outcome, Failed):
            if isinstance(step, PaxosPrepare) and step.slices:
                self._inside.note_damage(outcome, step.slices[0])
            self._failed(outcome, peer, op)
        else:
            assert isinstance(outcome, Promised | PaxosRefused | PaxosAccepted | PaxosFetched), outcome
            size = _bytes_of(outcome)
            if size > limits.FRAME_BYTES_MAX - limits.MIB:
                text = f"what is asked for takes {size} bytes: ask for fewer rows"
                self._failed(Failed(Why.TOO_LARGE, text), peer, op)
                return
            lane = URGENT if size < limits.SMALL_FRAME_BYTES_MAX // 2 else BULK
            self._inside.world.send(peer, PaxosTold(op, outcome), lane)

    def _applied(self, outcome: Outcome, peer: PeerId, op: int) -> None:
        self._queued -= 1
        if isinstance(outcome, Applied):
            self._inside.world.send(peer, MutationApplied(op, outcome.newer), SMALL)
        else:
            self._failed(outcome, peer, op)

    def _was_read(
        self, outcome: Outcome, peer: PeerId, op: int, part: Slice, digest: bool = False
    ) -> None:
        self._queued -= 1
        if digest and isinstance(outcome, Rows):
            outcome = Digest(digest_of(outcome))
        if isinstance(outcome, Digest):
            self._inside.world.send(peer, DigestRead(op, outcome.digest), SMALL)
        elif isinstance(outcome, Rows):
            size = sum(len(key) + len(data) for key, data in outcome.rows) + len(outcome.header or b"")
            lane = SMALL if size < limits.SMALL_FRAME_BYTES_MAX - 1024 - 16 * len(outcome.rows) else BULK
            answer: Message = SliceRead(op, outcome.rows, outcome.header, outcome.more)
            self._inside.world.send(peer, answer, lane)
        else:
            self._inside.note_damage(outcome, part)
            self._failed(outcome, peer, op)

    def _repaired(self, outcome: Outcome, peer: PeerId, op: int) -> None:
        self._queued -= 1
        if isinstance(outcome, Failed):
            self._failed(outcome, peer, op)
        else:
            self._inside.world.send(peer, MutationApplied(op, None), SMALL)

    def _failed(self, outcome: Outcome, peer: PeerId, op: int) -> None:
        assert isinstance(outcome, Failed), outcome
        self._inside.count("replica_failures")
        name = self._inside.identity.name
        self._inside.world.send(peer, OperationFailed(op, outcome.why, f"{name}: {outcome.detail}"), SMALL)


def _bytes_of(outcome: PaxosOutcome) -> int:
    """About what an answer takes on the wire."""
    if isinstance(outcome, PaxosFetched):
        return len(outcome.data or b"")
    if isinstance(outcome, Promised):
        rows = [len(key) + len(data) + 16 for answer in outcome.rows for key, data in answer.rows]
        headers = [len(answer.header or b"") + 16 for answer in outcome.rows]
        return len(outcome.proposal) + sum(rows) + sum(headers)
    return 0
