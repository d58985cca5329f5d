"""Pieces of a read by predicate: tokens that one set of replicas holds, read slice by slice.

Which replica serves a piece, whom it follows first, and who takes over from it is decided here. Pieces that
one replica is to serve are asked for in one message (`Question`). A replica that is
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
from core.messages import FindSlice, FoundPart, OperationFailed, SliceFound, Stale
from core.ports import PeerId, TimerId
from core.requests import Answer, Broken, Invalid, Unavailable
from lsm.keys import partition_prefix
from node.served_work import BUILDING, NOT_FOLLOWED
from node.tally import Tally, reachable

if TYPE_CHECKING:
    from node.finds import Finds
    from node.metadata_state import TablePlacement

PATIENCE_US = 200_000
"""After this (or a third of the time that is left, if that is less; or ten times `speculative_retry_us`, if
that is more) another replica is asked beside one that is silent. After four times as long the silent one is
given up.
"""

HOPELESS = ("corrupt", "disk_full", "stalled", "too_large")
"""Why a replica cannot serve, now or in a moment."""


class Whole(Protocol):
    """The read that pieces are of."""

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

    def answered(self, statics: tuple[tuple[bytes, bytes], ...]) -> None:
        """Some pieces have an answer, or want to be asked for anew."""

    def stale(self) -> None:
        """The epochs that this peer lacked are adopted by now."""

    def failed(self, answer: Answer) -> None:
        """It cannot be done."""


class PieceRead:
    """The slice of a piece that is wanted now, asked for, or answered."""

    def __init__(
        self, parent: Finds, whole: Whole, piece: Piece, beyond: Cursor, replicas: tuple[PeerId, ...]
    ) -> None:
        """`beyond` is what is left after this piece."""
        self.piece = piece
        self.beyond = beyond
        self.replicas = replicas
        self.answer: FoundPart | None = None
        self.wanting = True
        self.questions = 0
        """Those that are under way."""
        self.stuck = False
        """Nobody is left to ask, as long as nothing changes."""
        self.unfit: dict[PeerId, str] = {}
        self._parent = parent
        self._whole = whole
        self._apart: dict[tuple[PeerId, PeerId], bool] = {}
        self._failures: dict[PeerId, OperationFailed] = {}
        self._server: PeerId | None = None

    def go_on(self) -> None:
        """What was answered is taken: the slice after it is wanted."""
        assert self.answer is not None and self.answer.more
        answer, self.answer = self.answer, None
        self.piece = msgspec.structs.replace(self.piece, term=answer.term, key=answer.key)
        self.wanting = True

    # --- asking

    @property
    def is_fresh(self) -> bool:
        """Whether nothing is known yet that would make it choose otherwise than others do."""
        return self._server is None and not self.unfit and not self._apart

    def choose(self) -> tuple[PeerId, tuple[PeerId, ...]] | Answer | None:
        """Who is to serve and whom it has to follow for that; a refusal; or None if nobody can just now.

        Whoever served before goes on, then whoever serves other pieces, then the nearest of those not tried.
        """
        reads, whole = self._parent.reads, self._whole
        alive = [peer for peer in self.replicas if reads.swim.is_alive(peer)]
        reach = reachable(whole.wanted, whole.placement, reads.inside.identity.datacentre, alive)
        if not reach.met:
            return Unavailable(whole.wanted.total, reach.received, whole.request.level)
        order = reads.preferred(alive, whole.placement)
        order.sort(key=lambda peer: (peer != self._server, peer not in whole.followed))
        for server in order:
            if server not in self.unfit:
                siblings = self._siblings(server, order)
                if siblings is not None:
                    return server, siblings
        return self._verdict()

    def serve_by(self, server: PeerId) -> None:
        """This replica is asked."""
        self._server = server

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

    def begin_anew(self) -> None:
        """All replicas are tried again."""
        self.stuck = False
        self.unfit.clear()
        self._apart.clear()
        self._failures.clear()
        self._server = None

    # --- what came of it

    def take(self, place: Piece, part: FoundPart) -> None:
        """An answer to the question for the slice after this place, which may have been answered already."""
        if self.piece is place and self.answer is None:
            self.answer, self.wanting = part, False

    def want_again(self, place: Piece) -> None:
        """A question for this slice ended; if it has no answer it is wanted still."""
        if self.piece is place and self.answer is None:
            self.wanting, self.stuck = True, False

    def refused(self, place: Piece, peer: PeerId, message: OperationFailed) -> None:
        """The replica cannot serve it, or not at this level."""
        if self.piece is not place:
            return
        self.want_again(place)
        if message.why == NOT_FOLLOWED:
            for name in message.detail.split():
                self._apart[peer, bytes.fromhex(name)] = True
        else:
            self._failures[peer] = message
            self.unfit[peer] = message.detail

    def pass_over(self, place: Piece, peer: PeerId, why: str) -> None:
        """The replica says nothing."""
        self.want_again(place)
        self.stuck = False
        self.unfit[peer] = why


class Question:
    """Pieces that are asked of one replica in one message."""

    def __init__(self, parent: Finds, whole: Whole, server: PeerId, pieces: list[PieceRead]) -> None:
        self._parent = parent
        self._whole = whole
        self.server = server
        self._pieces = pieces
        self._places = tuple(piece.piece for piece in pieces)
        self._to_follow: tuple[PeerId, ...] = ()
        self._op = 0
        self._timer: TimerId = 0
        self._patience_us = 0
        self._silent = False

    def ask(self, follow: tuple[PeerId, ...]) -> None:
        """Send it; the replica follows those first that it has not yet followed for this read."""
        inside, whole = self._parent.inside, self._whole
        for piece in self._pieces:
            piece.wanting = False
            piece.questions += 1
        known = whole.followed.get(self.server, ())
        self._to_follow = tuple(peer for peer in dict.fromkeys(follow) if peer not in known)
        left_us = max(1, whole.deadline_us - inside.world.monotonic_us())
        patience_us = max(PATIENCE_US, 10 * inside.settings.speculative_retry_us)
        op = self._op = inside.new_op()
        inside.operations[op] = self
        self._parent.questions[op] = self
        self._patience_us = max(1, min(patience_us, left_us // 3))
        self._timer = inside.timer(self._patience_us, "find_attempt", op)
        epoch, checks = self._parent.reads.metadata.state.epoch, whole.request.checks
        places = self._places
        message = FindSlice(op, epoch, left_us, self._to_follow, self._find(places[0]), places, checks)
        if self.server == self._parent.reads.me:
            self._parent.serving.serve(message, lambda told: self.on_message(self.server, told))
        elif not inside.send(self.server, message):
            self.close()
            self._pass_over("the connection to the replica is full or gone")

    def _find(self, first: Piece) -> Find:
        whole, request = self._whole, self._whole.request
        drive, partition = request.drive, request.partition
        return Find(
            request.table,
            0 if drive is None else drive.index,
            () if drive is None else drive.spans,
            first.first,
            first.last,
            partition_prefix(request.table, first.first, partition) if partition else b"",
            first.term,
            first.key,
            max(1, min(whole.rows_left, limits.SLICE_ROWS_MAX)),
            limits.SLICE_BYTES_MAX,
            whole.now_us,
            whole.expands,
            request.statics,
        )

    def close(self) -> None:
        """Whatever comes now is not wanted."""
        if self._op:
            self._parent.inside.operations.pop(self._op, None)
            self._parent.questions.pop(self._op, None)
            self._parent.inside.world.cancel_timer(self._timer)
            self._op = 0
            for piece in self._pieces:
                piece.questions -= 1
                piece.stuck = False

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer of the replica that was asked."""
        if peer != self.server or message.op != self._op:
            return
        self.close()
        if isinstance(message, SliceFound):
            followed = self._whole.followed
            followed[peer] = tuple(dict.fromkeys((*followed.get(peer, ()), *self._to_follow)))
            for piece, place, part in zip(self._pieces, self._places, message.parts, strict=False):
                piece.take(place, part)
            for piece, place in zip(self._pieces, self._places, strict=True):
                piece.want_again(place)
            self._whole.answered(message.statics)
        elif isinstance(message, Stale):
            self._whole.stale()
        elif isinstance(message, OperationFailed):
            for piece, place in zip(self._pieces, self._places, strict=True):
                piece.refused(place, peer, message)
            self._whole.answered(())

    def _pass_over(self, why: str) -> None:
        self._parent.inside.count("finds_asked_elsewhere")
        self._whole.followed.pop(self.server, None)
        for piece, place in zip(self._pieces, self._places, strict=True):
            piece.pass_over(place, self.server, why)
        self._whole.answered(())

    def on_silence(self) -> None:
        """The replica says nothing yet: others are asked too, and whoever is first is taken."""
        if self._silent:
            self.close()
        else:
            self._silent = True
            self._timer = self._parent.inside.timer(3 * self._patience_us, "find_attempt", self._op)
        self._parent.reads.was_slow(self.server)
        self._pass_over("no answer in time")

    def on_peer(self, peer: PeerId) -> None:
        """A connection came or went: what was asked over it may be lost."""
        if self._op and peer == self.server:
            self.close()
            self._pass_over("the connection was lost")
