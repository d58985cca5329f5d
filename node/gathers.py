"""Coordinating gathers: a program run over all rows of a table, at the peers that hold them, folded here.

The ring's ranges are divided among the fewest peers that hold them all, each serving ranges of which it is
a replica. Before it begins, a peer follows as many siblings as the level needs, to the ends that their logs
have now: it then holds every write that was acknowledged at a quorum before (see node/finds.py for why
nothing less will do). Each peer works piece by piece and says after each where it stopped, so what a peer
that dies leaves undone is begun exactly there by another, and a client that goes away ends the work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.consistency import Need, need
from core.gathering import Gathered, GatherRequest, Served
from core.messages import Gather, GatherTold, OperationFailed, Stale
from core.ports import PeerId, TimerId
from core.requests import Answer, Broken, Invalid, Timeout, Unavailable
from lsm.keys import TERM_BYTES_MAX, token_of as token_of_key
from node.scans import check_level, joined_ranges
from node.served_work import BUILDING, NOT_FOLLOWED
from node.tally import Tally, reachable
from node.writes import no_such_table

if TYPE_CHECKING:
    from node.gather_serving import GatherServing
    from node.metadata_state import TablePlacement
    from node.reads import Reads

FOLLOW_MIN_US = 200_000
FOLLOW_MAX_US = 1_500_000
"""A peer is given a third of the time that is left to follow its siblings, within these bounds."""

WORK_US = 3_000_000
"""After that it has so long for a piece, which takes a tenth of it unless the peer has much else to do."""

RETRY_US = 50_000
"""Between two rounds through all replicas of a range, none of which could serve it."""

PIECE_ROWS_MAX = 5_000
"""Rows that a peer looks at before it answers."""

Piece = tuple[int, int, bytes, bytes]
"""First token, last token, and the term and key up to which everything was looked at."""


@dataclass(slots=True, eq=False)
class _Share:
    """What one peer does."""

    server: PeerId
    pieces: tuple[Piece, ...]
    follow: tuple[PeerId, ...]
    timer: TimerId = 0


class Gathers:
    """The coordinator's side of gathers."""

    def __init__(self, reads: Reads, serving: GatherServing) -> None:
        """Register."""
        self.reads = reads
        self.serving = serving
        self.inside = reads.inside
        self.under_way: dict[int, GatherOperation] = {}
        self.inside.on_timer("gather", self._on_deadline)
        self.inside.on_timer("gather_attempt", self._on_attempt)
        self.inside.on_timer("gather_retry", self._on_retry)
        self.inside.on_peer(self._on_peer)

    def begin(
        self, request_id: int, request: GatherRequest, deadline_us: int, reply: Callable[[Answer], None]
    ) -> None:
        """Gather; `reply` is called at most once, and not after `cancel`."""
        placement = self.reads.metadata.state.placement(request.table)
        refusal = check_level(request.level)
        if placement is None or refusal is not None:
            reply(refusal or no_such_table())
            return
        operation = GatherOperation(self, request_id, request, placement, reply)
        self.under_way[request_id] = operation
        operation.start(deadline_us)

    def cancel(self, request_id: int) -> None:
        """The client is gone: nothing more is asked."""
        operation = self.under_way.get(request_id)
        if operation is not None:
            operation.cancel()

    def _on_deadline(self, request_id: int) -> None:
        operation = self.under_way.get(request_id)
        if operation is not None:
            operation.on_deadline()

    def _on_attempt(self, op: int) -> None:
        operation = self.inside.operations.get(op)
        if isinstance(operation, GatherOperation):
            operation.on_silence(op)

    def _on_retry(self, request_id: int) -> None:
        operation = self.under_way.get(request_id)
        if operation is not None:
            operation.retry()

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        del connected
        for operation in tuple(self.under_way.values()):
            operation.on_peer(peer)


class GatherOperation:
    """One request: what is left of the ring, and who does which part of it."""

    def __init__(
        self,
        parent: Gathers,
        request_id: int,
        request: GatherRequest,
        placement: TablePlacement,
        reply: Callable[[Answer], None],
    ) -> None:
        self._parent = parent
        self._request_id = request_id
        self._request = request
        self._placement = placement
        self._reply: Callable[[Answer], None] | None = reply
        self._now_us = parent.inside.clock.now_us()
        self._left = _beginning(request, placement)
        self._shares: dict[int, _Share] = {}
        self._served: dict[PeerId, Served] = {}
        self._followed: dict[PeerId, tuple[PeerId, ...]] = {}
        self._unfit: dict[PeerId, str] = {}
        self._apart: dict[tuple[PeerId, PeerId], bool] = {}
        self._failures: dict[PeerId, OperationFailed] = {}
        self._deadline_us = 0
        self._deadline_timer: TimerId = 0
        self._waits = False

    @property
    def _wanted(self) -> Need:
        local = self._parent.inside.identity.datacentre
        return need(self._request.level, self._placement.factors, local)

    def start(self, deadline_us: int) -> None:
        """Divide the ring and ask."""
        inside = self._parent.inside
        self._deadline_us = deadline_us
        delay_us = max(1, deadline_us - inside.world.monotonic_us())
        self._deadline_timer = inside.timer(delay_us, "gather", self._request_id)
        self._divide()

    # --- dividing

    def _divide(self) -> None:
        """Give what is left to peers, the fewest that can serve it."""
        waiting = _within(self._left, joined_ranges(self._placement))
        self._left = []
        options = []
        for piece, replicas in waiting:
            found = self._servers(replicas)
            if found is None:
                return  # told
            options.append((piece, replicas, found))
        while options:
            server = self._best([found for _, _, found in options])
            if server is None:
                self._left += [piece for piece, _, _ in options]
                self._retry_later()
                return
            mine = [entry for entry in options if server in entry[2]]
            options = [entry for entry in options if server not in entry[2]]
            follow: dict[PeerId, None] = {}
            for _, _, found in mine:
                follow.update(dict.fromkeys(found[server]))
            self._send(_Share(server, tuple(piece for piece, _, _ in mine), tuple(follow)))
            if self._reply is None:
                return
        if not self._shares and not self._left and not self._waits:
            self._finish()

    def _servers(self, replicas: tuple[PeerId, ...]) -> dict[PeerId, tuple[PeerId, ...]] | None:
        """Who can serve a range, best first, and whom each has to follow; None if the level is out of
        reach.
        """
        reads, local, wanted = self._parent.reads, self._parent.inside.identity.datacentre, self._wanted
        alive = [peer for peer in replicas if reads.swim.is_alive(peer)]
        reach = reachable(wanted, self._placement, local, alive)
        if not reach.met:
            self._end(Unavailable(wanted.total, reach.received, self._request.level))
            return None
        order = reads.preferred(alive, self._placement)
        found = {}
        for server in order:
            siblings = None if server in self._unfit else self._siblings(server, order)
            if siblings is not None:
                found[server] = siblings
        return found

    def _siblings(self, server: PeerId, order: list[PeerId]) -> tuple[PeerId, ...] | None:
        """Whom this peer is to follow for the level; None if those it is known not to reach are needed."""
        tally = Tally(self._wanted, self._placement, self._parent.inside.identity.datacentre)
        tally.add(server)
        siblings = []
        for peer in order:
            if peer != server and not tally.met and (server, peer) not in self._apart:
                before = tally.received
                if tally.add(peer) or tally.received > before:
                    siblings.append(peer)
        return tuple(siblings) if tally.met else None

    def _best(self, options: list[dict[PeerId, tuple[PeerId, ...]]]) -> PeerId | None:
        """The peer that can serve most; among equals the one preferred first."""
        if not all(options):
            return None
        counts: dict[PeerId, int] = {}
        for found in options:
            for peer in found:
                counts[peer] = counts.get(peer, 0) + 1
        return max(counts, key=lambda peer: counts[peer])

    def _retry_later(self) -> None:
        """Some range can be served by none of its replicas now: say why, or try all of them again soon."""
        failure = self._verdict()
        if failure is not None:
            self._end(failure)
        elif not self._waits:
            self._waits = True
            self._parent.inside.timer(RETRY_US, "gather_retry", self._request_id)

    def retry(self) -> None:
        """Nobody is unfit any more."""
        self._waits = False
        self._unfit.clear()
        self._apart.clear()
        self._failures.clear()
        if self._reply is None:
            return
        if self._parent.reads.metadata.state.placement(self._request.table) is None:
            self._end(no_such_table())
        else:
            self._divide()

    def _verdict(self) -> Answer | None:
        """What to tell if it is no use to try again."""
        failures = list(self._failures.values())
        details = "; ".join(dict.fromkeys(failure.detail for failure in failures))
        whys = {failure.why: True for failure in failures}
        if self._apart or not failures or not all(peer in self._failures for peer in self._unfit):
            return None
        if list(whys) == [BUILDING]:
            return Invalid("index_building", f"the index is still being built, try again later: {details}")
        if "malformed" in whys:
            return Invalid("invalid", details)
        if all(why in ("corrupt", "disk_full", "stalled", "too_large") for why in whys):
            return Broken(0, self._wanted.total, len(failures), details, write=False, unknown=False)
        return None

    # --- asking

    def _send(self, share: _Share) -> None:
        inside, request = self._parent.inside, self._request
        known = self._followed.get(share.server, ())
        follow = tuple(peer for peer in share.follow if peer not in known)
        left_us = max(1, self._deadline_us - inside.world.monotonic_us())
        timeout_us = min(max(FOLLOW_MIN_US, left_us // 3), FOLLOW_MAX_US)
        op = inside.new_op()
        room = PIECE_ROWS_MAX
        if request.examined_max:
            room = min(room, request.examined_max - self._examined() + 1)
        drive = request.drive
        message = Gather(
            op,
            self._parent.reads.metadata.state.epoch,
            timeout_us,
            request.table,
            follow,
            share.pieces,
            0 if drive is None else drive.index,
            () if drive is None else drive.spans,
            max(1, room),
            self._now_us,
            request.fold.program(share.server),
        )
        inside.operations[op] = self
        self._shares[op] = share
        share.timer = inside.timer(timeout_us + WORK_US, "gather_attempt", op)
        me = self._parent.reads.me
        if share.server == me:
            self._parent.serving.serve(message, lambda told: self.on_message(me, told))
        elif not inside.send(share.server, message):
            self._pass_over(op, "the connection to the replica is full or gone")

    def _take_share(self, op: int) -> _Share | None:
        share = self._shares.pop(op, None)
        if share is not None:
            self._parent.inside.operations.pop(op, None)
            self._parent.inside.world.cancel_timer(share.timer)
        return share

    def _examined(self) -> int:
        return sum(served.examined for served in self._served.values())

    # --- answers

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer of a peer that was asked."""
        share = self._shares.get(message.op)
        if self._reply is None or share is None or peer != share.server:
            return
        self._take_share(message.op)
        if isinstance(message, GatherTold):
            self._on_told(share, message)
        elif isinstance(message, Stale):
            self._left += share.pieces
            self._on_stale()
        else:
            assert isinstance(message, OperationFailed), message
            self._on_failed(share, message)

    def _on_told(self, share: _Share, told: GatherTold) -> None:
        server, request = share.server, self._request
        self._note(share, told)
        if request.examined_max and self._examined() > request.examined_max:
            detail = (
                f"this would look at more than {request.examined_max} documents, as no index fits: "
                'make one, match by fewer, or give "allow_scan": true'
            )
            self._end(Invalid("scan_refused", detail))
            return
        goes_on = request.fold.absorb(server, told.part)
        if request.fold.done():
            self._finish()
        elif goes_on and told.ranges:
            self._send(_Share(server, told.ranges, share.follow))
        elif not self._shares and not self._left and not self._waits:
            self._finish()

    def _note(self, share: _Share, told: GatherTold) -> None:
        server = share.server
        followed = dict.fromkeys((*self._followed.get(server, ()), *share.follow))
        self._followed[server] = tuple(followed)
        before = self._served.get(server) or Served(server, 0, (), 0, 0, 0, 0)
        self._served[server] = Served(
            server,
            max(before.ranges, len(share.pieces)),
            self._followed[server],
            before.examined + told.examined,
            before.part_bytes + len(told.part),
            before.pieces + 1,
            before.took_us + told.took_us,
        )

    def _on_stale(self) -> None:
        """The epochs that we lacked are adopted by now: plan anew what is left."""
        placement = self._parent.reads.metadata.state.placement(self._request.table)
        drive = self._request.drive
        if placement is None:
            self._end(no_such_table())
        elif drive is not None and not any(one.id == drive.index for one in placement.table.indexes):
            self._end(Invalid("no_such_index", "the index was dropped meanwhile: ask again"))
        else:
            self._placement = placement
            self._divide()

    def _on_failed(self, share: _Share, message: OperationFailed) -> None:
        if message.why == NOT_FOLLOWED:
            for name in message.detail.split():
                self._apart[share.server, bytes.fromhex(name)] = True
        else:
            self._failures[share.server] = message
            self._unfit[share.server] = message.detail
        self._left += share.pieces
        self._divide()

    def _pass_over(self, op: int, why: str) -> None:
        share = self._take_share(op)
        if share is None:
            return
        self._parent.inside.count("gathers_asked_elsewhere")
        self._unfit[share.server] = why
        self._left += share.pieces
        self._divide()

    def on_silence(self, op: int) -> None:
        """A peer says nothing: another is asked."""
        share = self._shares.get(op)
        if share is not None:
            self._parent.reads.was_slow(share.server)
            self._pass_over(op, "no answer in time")

    def on_peer(self, peer: PeerId) -> None:
        """A connection came or went: what was asked over it may be lost."""
        for op in [op for op, share in self._shares.items() if share.server == peer]:
            self._pass_over(op, "the connection was lost")

    # --- the end

    def on_deadline(self) -> None:
        """Too late."""
        wanted = self._wanted.total
        self._end(Timeout(max(0, wanted - 1), wanted, self._request.level, write=False))

    def cancel(self) -> None:
        """Nobody waits for it."""
        self._reply = lambda answer: None  # noqa: ARG005
        self._finish()

    def _finish(self) -> None:
        self._end(Gathered(tuple(self._served.values()), self._now_us))

    def _end(self, answer: Answer) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        for op in tuple(self._shares):
            self._take_share(op)
        self._parent.inside.world.cancel_timer(self._deadline_timer)
        self._parent.under_way.pop(self._request_id, None)
        reply(answer)


def _beginning(request: GatherRequest, placement: TablePlacement) -> list[Piece]:
    """All ranges, or the tokens named, in token order, from the key on after which the request begins."""
    drive, after = request.drive, request.after
    one_term = drive is not None and len(drive.spans) == 1 and not drive.spans[0][1]
    pieces: list[Piece] = [(first, last, b"", b"") for first, last, _ in joined_ranges(placement)]
    if request.tokens:
        pieces = [(token, token, b"", b"") for token in request.tokens]
    if not after or (drive is not None and not one_term):
        return pieces
    token = token_of_key(after)
    term = drive.spans[0][0][:TERM_BYTES_MAX] if drive is not None else b""
    found: list[Piece] = []
    for first, last, _, _ in pieces:
        if last > token or last == token:
            found.append(
                (max(first, token), last, term, after) if first <= token else (first, last, b"", b"")
            )
    return found


def _within(
    pieces: list[Piece], ranges: list[tuple[int, int, tuple[PeerId, ...]]]
) -> list[tuple[Piece, tuple[PeerId, ...]]]:
    """The pieces cut at the bounds of ranges, each with its replicas."""
    found = []
    for first, last, term, key in pieces:
        for begin, end, replicas in ranges:
            if begin <= last and end >= first:
                found.append(((max(first, begin), min(last, end), term, key), replicas))
    return found
