"""Conditional updates: Paxos per partition of a table. Who may begin is here, a round in node/paxos_round.py.

Proposals of one coordinator for one partition queue, so that they do not defeat each other; the next begins
as soon as the one before is decided. A read at SERIAL or LOCAL_SERIAL looks first, outside the queue, and
takes a place in it only if it finds something that has to be finished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from core import limits
from core.commands import Applied, Failed, Outcome, Slice
from core.consistency import Level, valid_for_writes
from core.messages import MutationApplied, OperationFailed, PaxosTold
from core.requests import ConditionalRequest, Invalid, PartRead
from lsm.keys import partition_prefix
from node.paxos_phases import Aim, Phases
from node.paxos_round import CasOperation
from node.scans import SERIAL_LEVELS
from node.writes import no_such_table
from ring.tokens import token_of

if TYPE_CHECKING:
    from core.requests import Answer
    from core.schema import Table
    from core.trace import Trace
    from node.hints import Hints
    from node.inside import Inside
    from node.metadata import Metadata
    from node.reads import Finish
    from node.swim import Swim
    from node.writes import Writes

POINT_BYTES_MAX = limits.FRAME_BYTES_MAX // 2


class Paxos:
    """The coordinator's side of conditional updates and SERIAL reads."""

    def __init__(self, inside: Inside, metadata: Metadata, swim: Swim, hints: Hints, writes: Writes) -> None:
        """Register for the answers of the local store. `writes` gives stamps and mutation ids."""
        self.inside = inside
        self.metadata = metadata
        self.swim = swim
        self.hints = hints
        self.writes = writes
        self.me = inside.identity.peer
        self._turns: dict[bytes, CasOperation] = {}
        self._queues: dict[bytes, deque[CasOperation]] = {}
        self._giving: list[bytes] = []
        self._running: dict[int, CasOperation] = {}
        inside.on_stored("paxos", self._on_local)
        inside.on_timer("paxos", self._on_deadline)
        inside.on_timer("paxos_phase", self._on_phase)
        inside.on_peer(self._on_peer)
        self._moved_epoch = 0
        metadata.on_adopted(self._on_adopted)

    def _on_adopted(self) -> None:
        """Where rows live has changed: a round has one plan."""
        if self.metadata.state.moved_epoch != self._moved_epoch:
            self._moved_epoch = self.metadata.state.moved_epoch
            for operation in list(self._running.values()):
                operation.on_moved()

    # --- what is asked

    def begin(self, request: ConditionalRequest, deadline_us: int, reply: Callable[[Answer], None]) -> None:
        """Decide a conditional update; `reply` is called exactly once."""
        placement = self.metadata.state.placement(request.table)
        refusal = no_such_table() if placement is None else check(request)
        if refusal is not None or placement is None:
            reply(refusal or no_such_table())
            return
        token = token_of(request.partition)
        prefix = partition_prefix(request.table, token, request.partition)
        aim = Aim(
            table=request.table,
            token=token,
            partition=prefix,
            key=request.partition,
            slices=tuple(slice_of(placement.table, prefix, part) for part in request.reads),
            serial_level=request.serial_level,
            level=request.level,
            decide=request.decide,
            trace=request.trace,
            now_us=request.now_us,
            uniques=request.uniques,
        )
        operation = CasOperation(self, aim, deadline_us, reply)
        self._running[operation.number] = operation
        self.queue(operation)

    def read(
        self,
        part: Slice,
        partition: bytes,
        level: Level,
        deadline_us: int,
        finish: Finish,
        *,
        trace: Trace | None = None,
    ) -> None:
        """Read a slice of one partition (its key) at a SERIAL level; `finish` is called exactly once."""
        if self.metadata.state.placement(part.table) is None:  # dropped since the slice before
            finish(no_such_table())
            return
        aim = Aim(
            table=part.table,
            token=token_of(partition),
            partition=partition_prefix(part.table, token_of(partition), partition),
            key=partition,
            slices=(part,),
            serial_level=level,
            level=level,
            decide=None,
            trace=trace,
        )
        operation = CasOperation(self, aim, deadline_us, finish)
        self._running[operation.number] = operation
        operation.look()

    # --- whose turn it is

    def queue(self, operation: CasOperation) -> None:
        """Have an operation's `turn` called when no other of this peer is at work on its partition."""
        key = operation.aim.partition
        waiting = self._queues.setdefault(key, deque())
        if len(waiting) >= limits.PAXOS_QUEUE_MAX:
            operation.shed()
            return
        waiting.append(operation)
        self._give_turn(key)

    def leave(self, operation: Phases) -> None:
        """It is decided, or given up: the next one's turn."""
        key = operation.aim.partition
        if self._turns.get(key) is operation:
            del self._turns[key]
            self._give_turn(key)
            return
        waiting = self._queues.get(key, deque())
        for place, one in enumerate(waiting):
            if one is operation:
                del waiting[place]
                return

    def ended(self, operation: Phases) -> None:
        """Nothing of it is left to do."""
        self._running.pop(operation.number, None)

    def _give_turn(self, key: bytes) -> None:
        """A loop, since a turn may end before it returns."""
        if key in self._giving:
            return
        self._giving.append(key)
        waiting = self._queues[key]
        while waiting and key not in self._turns:
            operation = waiting.popleft()
            self._turns[key] = operation
            operation.turn()
        self._giving.remove(key)
        if key not in self._turns:
            del self._queues[key]

    # --- what happens

    def _on_local(self, outcome: Outcome, op: int) -> None:
        operation = self.inside.operations.get(op)
        if operation is None:
            return
        if isinstance(outcome, Applied):
            operation.on_message(self.me, MutationApplied(op, outcome.newer))
        elif isinstance(outcome, Failed):
            operation.on_message(self.me, OperationFailed(op, outcome.why, outcome.detail))
        else:
            operation.on_message(self.me, PaxosTold(op, outcome))  # type: ignore[arg-type]

    def _on_deadline(self, number: int) -> None:
        operation = self._running.get(number)
        if operation is not None:
            operation.on_deadline()

    def _on_phase(self, number: int, op: int) -> None:
        operation = self._running.get(number)
        if operation is not None:
            operation.on_phase_timer(op)

    def _on_peer(self, peer: bytes, connected: bool) -> None:
        """What was sent to a peer, or its answer, may be lost with the connection: send it again."""
        if connected:
            for operation in list(self._running.values()):
                operation.on_connected(peer)


def check(request: ConditionalRequest) -> Invalid | None:
    """What is wrong with a conditional update, before anything is done about it."""
    if request.serial_level not in SERIAL_LEVELS:
        return Invalid("bad_level", "a condition is decided at SERIAL or LOCAL_SERIAL")
    if not valid_for_writes(request.level):
        return Invalid(
            "bad_level", f"{request.level.name} decides a condition; a write is waited for at another"
        )
    if not 0 < len(request.partition) <= limits.KEY_BYTES_MAX:
        return Invalid("bad_key", f"a partition key has 1 to {limits.KEY_BYTES_MAX} bytes")
    if len(request.reads) > limits.PAXOS_READS_MAX:
        return Invalid(
            "too_large", f"a condition reads at most {limits.PAXOS_READS_MAX} parts of a partition"
        )
    return None


def slice_of(table: Table, prefix: bytes, part: PartRead) -> Slice:
    """The slice of a partition (its key prefix) that a part is."""
    return Slice(
        table=table.id,
        first=prefix + part.first,
        end=b"" if part.point else prefix + part.end,
        partition=prefix if table.has_clustering else b"",
        point=part.point,
        rows_max=1 if part.point else min(part.rows_max, limits.SLICE_ROWS_MAX),
        bytes_max=POINT_BYTES_MAX if part.point else limits.SLICE_BYTES_MAX,
        reverse=part.reverse,
    )
