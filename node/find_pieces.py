"""One piece of a read by predicate: tokens that one set of replicas holds, read slice by slice.

Which replica serves, whom it follows first, and who takes over from it is decided here. A replica that is
found unfit (it is silent, gone, refuses, builds its index) and a pair of replicas of which one cannot follow
the other are passed over; when nobody is left all are tried again a moment later, unless what they said
leaves no hope.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from core import limits
from core.commands import Find
from core.consistency import Need
from core.finding import Cursor, FindRequest, Piece
from core.messages import FindSlice, OperationFailed, SliceFound, Stale
from core.ports import PeerId, TimerId
from core.requests import Answer, Broken, Invalid, Unavailable
from lsm.keys import partition_prefix
from node.find_serving import BUILDING, NOT_FOLLOWED
from node.tally import Tally, reachable

if TYPE_CHECKING:
    from node.finds import Finds
    from node.metadata_state import TablePlacement

ATTEMPT_MIN_US = 200_000
"""A replica is given a third of the time that is left, but not less."""

RETRY_US = 50_000
"""Between two rounds through all replicas of a range, none of which could serve it."""

HOPELESS = ("corrupt", "disk_full", "stalled", "too_large")
"""Why a replica cannot serve, now or in a moment."""


class Whole(Protocol):
    """The read that the piece is of."""

    request: FindRequest
    placement: TablePlacement
    wanted: Need
    now_us: int
    deadline_us: int
    expands: bool
    followed: dict[PeerId, tuple[PeerId, ...]]
    """By the replicas that served: whose logs they followed to the end for this read."""

    @property
    def rows_left(self) -> int:
        """How many rows are still of use."""

    def arrived(self) -> None:
        """A piece has an answer."""

    def stale(self) -> None:
        """The epochs that this peer lacked are adopted by now."""

    def failed(self, answer: Answer) -> None:
        """It cannot be done."""


class PieceRead:
    """The slice of a piece that is asked for now, or was answered."""

    def __init__(
        self, parent: Finds, whole: Whole, piece: Piece, beyond: Cursor, replicas: tuple[PeerId, ...]
    ) -> None:
        """`beyond` is what is left after this piece."""
        self.number = parent.inside.new_op()
        self.piece = piece
        self.beyond = beyond
        self.answer: SliceFound | None = None
        self.replicas = replicas
        self.unfit: dict[PeerId, str] = {}
        self._parent = parent
        self._whole = whole
        self._apart: dict[tuple[PeerId, PeerId], bool] = {}
        self._failures: dict[PeerId, OperationFailed] = {}
        self._server: PeerId | None = None
        self._to_follow: tuple[PeerId, ...] = ()
        self._op = 0
        self._timer: TimerId = 0
        self._over = False

    def close(self) -> None:
        """Nobody wants it any more."""
        self._over = True
        self._forget_question()
        self._parent.pieces.pop(self.number, None)

    def go_on(self) -> None:
        """What was answered is taken: ask for the slice after it."""
        assert self.answer is not None and self.answer.more
        answer, self.answer = self.answer, None
        self.piece = msgspec.structs.replace(self.piece, term=answer.term, key=answer.key)
        self.ask()

    # --- asking

    def ask(self) -> None:
        """Ask a replica for the next slice: the one that served before, or the best of those not tried."""
        if self._over:
            return
        self._parent.pieces[self.number] = self
        reads, whole = self._parent.reads, self._whole
        alive = [peer for peer in self.replicas if reads.swim.is_alive(peer)]
        reach = reachable(whole.wanted, whole.placement, reads.inside.identity.datacentre, alive)
        if not reach.met:
            whole.failed(Unavailable(whole.wanted.total, reach.received, whole.request.level))
            return
        order = reads.preferred(alive, whole.placement)
        order.sort(key=lambda peer: peer != self._server)
        for server in order:
            if server not in self.unfit:
                siblings = self._siblings(server, order)
                if siblings is not None:
                    self._send(server, siblings)
                    return
        self._retry_later()

    def _siblings(self, server: PeerId, order: list[PeerId]) -> tuple[PeerId, ...] | None:
        """Whom this replica is to follow for the level; None if those it is known not to reach are needed."""
        whole = self._whole
        tally = Tally(whole.wanted, whole.placement, self._parent.inside.identity.datacentre)
        tally.add(server)
        siblings = []
        for peer in order:
            if peer != server and not tally.met and (server, peer) not in self._apart:
                before = tally.received
                if tally.add(peer) or tally.received > before:
                    siblings.append(peer)
        return tuple(siblings) if tally.met else None

    def _retry_later(self) -> None:
        """No replica of the range can serve it now: say why, or try all of them again in a moment."""
        failure = self._verdict()
        if failure is not None:
            self._whole.failed(failure)
            return
        self.unfit.clear()
        self._apart.clear()
        self._failures.clear()
        self._server = None
        self._parent.inside.timer(RETRY_US, "find_retry", self.number)

    def _verdict(self) -> Answer | None:
        """What to tell if it is no use to try again."""
        failures = list(self._failures.values())
        details = "; ".join(dict.fromkeys(failure.detail for failure in failures))
        whys = list(dict.fromkeys(failure.why for failure in failures))
        if "malformed" in whys:
            return Invalid("invalid", details)
        if self._apart or not whys or not all(peer in self._failures for peer in self.unfit):
            return None
        if whys == [BUILDING]:
            return Invalid("index_building", f"the index is still being built, try again later: {details}")
        if all(why in HOPELESS for why in whys):
            total = self._whole.wanted.total
            return Broken(0, total, len(failures), details, write=False, unknown=False)
        return None

    def _send(self, server: PeerId, siblings: tuple[PeerId, ...]) -> None:
        inside, whole = self._parent.inside, self._whole
        self._server = server
        known = whole.followed.get(server, ())
        self._to_follow = tuple(peer for peer in siblings if peer not in known)
        left_us = max(1, whole.deadline_us - inside.world.monotonic_us())
        timeout_us = max(ATTEMPT_MIN_US, left_us // 3)
        self._forget_question()
        op = self._op = inside.new_op()
        inside.operations[op] = self
        self._timer = inside.timer(timeout_us, "find_attempt", op)
        epoch, checks = self._parent.reads.metadata.state.epoch, whole.request.checks
        message = FindSlice(op, epoch, timeout_us, self._to_follow, self._find(), checks)
        if server == self._parent.reads.me:
            self._parent.serving.serve(message, lambda told: self._on_own(op, told))
        elif not inside.send(server, message):
            self._pass_over(server, "the connection to the replica is full or gone")

    def _find(self) -> Find:
        request, piece = self._whole.request, self.piece
        drive, partition = request.drive, request.partition
        return Find(
            request.table,
            0 if drive is None else drive.index,
            () if drive is None else drive.spans,
            piece.first,
            piece.last,
            partition_prefix(request.table, piece.first, partition) if partition else b"",
            piece.term,
            piece.key,
            max(1, min(self._whole.rows_left, limits.SLICE_ROWS_MAX)),
            limits.SLICE_BYTES_MAX,
            self._whole.now_us,
            self._whole.expands,
            request.statics,
        )

    def _on_own(self, op: int, told: Any) -> None:
        if op == self._op:
            self.on_message(self._parent.reads.me, told)

    def _forget_question(self) -> None:
        if self._op:
            self._parent.inside.operations.pop(self._op, None)
            self._parent.inside.world.cancel_timer(self._timer)
            self._op = 0

    # --- answers

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer of the replica that was asked."""
        if self._over or peer != self._server or message.op != self._op:
            return
        self._forget_question()
        if isinstance(message, SliceFound):
            followed = self._whole.followed
            followed[peer] = tuple(dict.fromkeys((*followed.get(peer, ()), *self._to_follow)))
            self.answer = message
            self._whole.arrived()
        elif isinstance(message, Stale):
            self._whole.stale()
        elif isinstance(message, OperationFailed):
            self._on_failed(peer, message)

    def _on_failed(self, peer: PeerId, message: OperationFailed) -> None:
        if message.why == NOT_FOLLOWED:
            for name in message.detail.split():
                self._apart[peer, bytes.fromhex(name)] = True
        else:
            self._failures[peer] = message
            self.unfit[peer] = message.detail
        self.ask()

    def _pass_over(self, peer: PeerId, why: str) -> None:
        self._forget_question()
        self._parent.inside.count("finds_asked_elsewhere")
        self.unfit[peer] = why
        self.ask()

    def on_silence(self) -> None:
        """The replica says nothing: another is asked."""
        if self._op and self._server is not None:
            self._parent.reads.was_slow(self._server)
            self._pass_over(self._server, "no answer in time")

    def on_peer(self, peer: PeerId) -> None:
        """A connection came or went: what was asked over it may be lost."""
        if self._op and peer == self._server:
            self._pass_over(peer, "the connection was lost")
