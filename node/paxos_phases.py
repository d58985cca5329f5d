"""One operation in phases: a step of Paxos sent to some replicas, and who has not answered yet.

Here is how a phase is asked, counted and given up; what its answers mean is in node/paxos_round.py. A phase
has an operation number of its own, so late answers to an earlier one find nobody. Prepare and accept of a
ballot carry the epoch under which the ballot was taken; the others the present one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from core.commands import (
    NO_BALLOT,
    PaxosAccept,
    PaxosCommit,
    PaxosPrepare,
    PaxosStep,
    Promised,
    Slice,
)
from core.consistency import Level
from core.messages import OperationFailed, PaxosAsk
from core.ports import BULK, URGENT, PeerId
from core.requests import Invalid, RowsRead, Unavailable, WriteRequest
from core.trace import Trace
from node.tally import Tally, reachable
from node.views import SMALL_PAYLOAD_BYTES
from node.writes import no_such_table

if TYPE_CHECKING:
    from core.consistency import Need
    from node.metadata_state import TablePlacement
    from node.paxos import Paxos

LOOK, CONFIRM, PREPARE, FETCH, CATCH_UP, ACCEPT, COMMIT, WAITING = (
    "look",
    "confirm",
    "prepare",
    "fetch",
    "catch_up",
    "accept",
    "commit",
    "waiting",
)
SAID = {
    LOOK: "Looking at the state of the partition, at",
    CONFIRM: "Looking a second time, at",
    PREPARE: "Paxos prepare: asking for a promise, and the rows",
    FETCH: "Paxos: fetching a proposal from",
    CATCH_UP: "Paxos: giving the last commit to those who lack it",
    ACCEPT: "Paxos accept: proposing to",
    COMMIT: "Paxos commit: sending what was decided to",
}
Decide = Callable[[tuple[RowsRead, ...]], WriteRequest | Invalid | None]


class Aim(msgspec.Struct, frozen=True):
    """What is to be read of a partition (`partition` is its prefix) and, unless `decide` is None, judged."""

    table: int
    token: int
    partition: bytes
    key: bytes
    slices: tuple[Slice, ...]
    serial_level: Level
    level: Level
    decide: Decide | None
    trace: Trace | None = None
    now_us: int = 0
    uniques: tuple[int, ...] = ()


class Phases(ABC):
    """What any round needs. `finish` is called exactly once."""

    def __init__(self, parent: Paxos, aim: Aim, deadline_us: int, finish: Callable[[Any], None]) -> None:
        """Nothing is asked yet, but time runs."""
        inside = parent.inside
        placement = parent.metadata.state.placement(aim.table)
        assert placement is not None, "checked by who begins"
        self.aim = aim
        self.number = inside.new_op()
        self._parent = parent
        self._finish: Callable[[Any], None] | None = finish
        self._deadline_us = deadline_us
        self._timeout_us = max(1_000, deadline_us - inside.world.monotonic_us())
        self._deadline_timer = inside.timer(self._timeout_us, "paxos", self.number)
        self._phase_timer = 0
        self._phase = WAITING
        self._op = 0
        self._step: PaxosStep | None = None
        self._ballot = NO_BALLOT
        self._epoch = 0
        self._began_us = 0
        self._pending: list[PeerId] = []
        self._failed: dict[PeerId, OperationFailed] = {}
        self._promises: dict[PeerId, Promised] = {}
        self._local = inside.identity.datacentre
        self._placement: TablePlacement = placement
        self._replicas: tuple[PeerId, ...] = ()
        self._alive: list[PeerId] = []
        self._targets: list[PeerId] = []
        self._wanted: Need = placement.need(aim.serial_level, aim.token, self._local)
        self._tally = Tally(self._wanted, placement, self._local)

    @abstractmethod
    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer."""

    @abstractmethod
    def on_deadline(self) -> None:
        """Not in time."""

    # --- who is asked

    def _plan(self) -> bool:
        """Who is asked, and under which epoch; False if that ended the operation."""
        parent, aim = self._parent, self.aim
        inside, state = parent.inside, parent.metadata.state
        if self._finish is None:
            self._end(None)  # the client has been told already; what was begun is given up
            return False
        if inside.world.monotonic_us() >= self._deadline_us:
            self._phase = WAITING  # what was asked is given up, and no timer of it is left
            self.on_deadline()
            return False
        placement = state.placement(aim.table)
        if placement is None:
            self._end(no_such_table())
            return False
        if aim.decide is not None and placement.table.uniques != aim.uniques:
            text = "the unique indexes of the table changed meanwhile"
            self._end(self._unsettled(Invalid("unique_changed", f"{text}: try again"), text))
            return False
        self._placement = placement
        self._epoch, self._began_us = state.epoch, inside.world.monotonic_us()
        self._replicas = placement.writers(aim.token)
        self._alive = [peer for peer in self._replicas if parent.swim.is_alive(peer)]
        where = placement.datacentre
        wanted = placement.need(aim.serial_level, aim.token, self._local)
        self._targets = [peer for peer in self._alive if wanted.counts(where(peer), self._local)]
        refusal = self._unavailable(aim.serial_level) or self._unavailable(aim.level)
        if refusal is not None:
            self._end(self._unsettled(refusal, "too few replicas are alive to settle it"))
        return refusal is None

    def _unavailable(self, level: Level) -> Unavailable | None:
        if level is Level.ANY:
            return None
        wanted = self._placement.need(level, self.aim.token, self._local)
        reach = reachable(wanted, self._placement, self._local, self._alive)
        return None if reach.met else Unavailable(wanted.total, reach.received, level)

    @abstractmethod
    def _unsettled(self, refusal: Unavailable | Invalid, why: str) -> Any:
        """What to answer if there can be no other attempt: the refusal, unless something was begun."""

    def is_outdated(self) -> bool:
        """Whether where its rows live has changed since it was planned."""
        placement = self._parent.metadata.state.placement(self.aim.table)
        return placement is not None and not placement.same_as(self._placement)

    # --- asking

    def _pause(self) -> int:
        """Listen to nobody for now."""
        inside = self._parent.inside
        inside.operations.pop(self._op, None)
        inside.world.cancel_timer(self._phase_timer)
        self._op = inside.new_op()
        self._phase = WAITING
        self._pending = []
        return self._op

    def _ask(self, phase: str, step: PaxosStep, peers: list[PeerId]) -> None:
        """Begin a phase: the same step at each of these."""
        inside = self._parent.inside
        inside.operations.pop(self._op, None)
        self._op = op = inside.new_op()
        inside.operations[op] = self
        self._phase, self._step = phase, step
        self._pending = list(peers)
        self._failed = {}
        if phase in (LOOK, CONFIRM, PREPARE):
            self._promises = {}
        if self.aim.trace is not None:
            inside.tracing.asks(self.aim.trace, op, peers, SAID[phase])
        level = self.aim.level if phase == COMMIT else self.aim.serial_level
        self._wanted = self._placement.need(level, self.aim.token, self._local)
        self._tally = Tally(self._wanted, self._placement, self._local)
        if phase != COMMIT:
            self._arm(max(1_000, self._timeout_us // 2))
        for peer in peers:
            if self._op != op or op not in inside.operations:
                return
            self._send(peer)

    def _send(self, peer: PeerId) -> None:
        parent, step = self._parent, self._step
        assert step is not None
        if peer == parent.me:
            parent.inside.submit(("paxos", self._op), step)
            return
        one_epoch = self._phase in (PREPARE, ACCEPT)
        epoch = self._epoch if one_epoch else parent.metadata.state.epoch
        lane = URGENT if _bytes_of(step) <= SMALL_PAYLOAD_BYTES // 2 else BULK
        if not parent.inside.world.send(peer, PaxosAsk(self._op, epoch, step), lane):
            text = "the connection to the replica is full or gone"
            self.on_message(peer, OperationFailed(self._op, "overloaded", text))

    def on_connected(self, peer: PeerId) -> None:
        """A replica is back. What may be asked twice is; a promise comes but once."""
        if self._phase not in (PREPARE, WAITING) and peer in self._pending:
            self._send(peer)

    def _arm(self, delay_us: int) -> None:
        """Begin again after a while, if this phase comes to nothing."""
        inside = self._parent.inside
        inside.world.cancel_timer(self._phase_timer)
        self._phase_timer = inside.timer(delay_us, "paxos_phase", self.number, self._op)

    def _is_hopeless(self) -> bool:
        possible = [*self._tally.peers, *self._pending]
        return not reachable(self._wanted, self._placement, self._local, possible).met

    # --- ending

    def _answer(self, answer: Any) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            finish(answer)

    def _end(self, answer: Any) -> None:
        """Answer, and make room for the next."""
        self._close()
        self._answer(answer)
        self._parent.leave(self)

    def _close(self) -> None:
        inside = self._parent.inside
        inside.operations.pop(self._op, None)
        inside.world.cancel_timer(self._deadline_timer)
        inside.world.cancel_timer(self._phase_timer)
        self._pending = []
        self._parent.ended(self)


def _bytes_of(step: PaxosStep) -> int:
    """About what the parts of a step that may be large take."""
    if isinstance(step, PaxosAccept):
        return len(step.proposal)
    if isinstance(step, PaxosCommit):
        return len(step.mutation)
    if isinstance(step, PaxosPrepare):
        return sum(len(part.first) + len(part.end) + len(part.partition) for part in step.slices)
    return 0
