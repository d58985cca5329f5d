"""Coordinating reads by predicate: range after range of the ring, each from one replica that has caught up.

Asking several replicas and merging what each *found* is wrong, however many are asked: a row of which one
replica has one half and another the other is found by neither, and a stale row that only one still finds has
nobody to contradict it. So one replica per range is asked, and before it looks it follows as many siblings as
the level needs, to the ends that their logs have now (node/following.py; one round serves all that wait). It
then holds every write that was acknowledged at a quorum before, and judges its own merged rows.

A replica that dies, is slow, cannot reach a sibling or is still building its index is passed over: another
one follows, and goes on from the place where the first stopped. Places are made of terms and keys
(core/finding.py), not of anything that a replica remembers, so nothing is given twice and nothing is missing,
and a page may be continued by any peer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from core import limits
from core.commands import Find
from core.consistency import need
from core.finding import Cursor, FindRequest, Found, FoundRow, Piece, decode_cursor, encode_cursor
from core.messages import FindSlice, OperationFailed, SliceFound, Stale
from core.ports import PeerId
from core.requests import Answer, Broken, Invalid, Timeout, Unavailable
from core.row import Row, decode_row
from core.schema import STATIC
from lsm.keys import TOKEN_MAX, partition_prefix
from node.find_serving import BUILDING, NOT_FOLLOWED
from node.scans import check_level, joined_ranges
from node.tally import Tally, reachable
from node.writes import no_such_table
from ring.tokens import token_of

if TYPE_CHECKING:
    from node.find_serving import FindServing
    from node.metadata_state import TablePlacement
    from node.reads import Reads

ATTEMPT_MIN_US = 200_000
"""A replica is given a third of the time that is left, but not less."""

RETRY_US = 50_000
"""Between two rounds through all replicas of a range, none of which could serve it."""

Ranges = list[tuple[int, int, tuple[PeerId, ...]]]


class Finds:
    """The coordinator's side of reads by predicate."""

    def __init__(self, reads: Reads, serving: FindServing) -> None:
        """Register."""
        self.reads = reads
        self.serving = serving
        self.inside = reads.inside
        self.inside.on_timer("find", self._on_deadline)
        self.inside.on_timer("find_attempt", self._on_attempt)
        self.inside.on_timer("find_retry", self._on_retry)
        self.inside.on_peer(self._on_peer)
        self.under_way: dict[int, FindOperation] = {}

    def begin(self, request: FindRequest, deadline_us: int, reply: Callable[[Answer], None]) -> None:
        """Find rows; `reply` is called exactly once."""
        placement = self.reads.metadata.state.placement(request.table)
        refusal = check_level(request.level)
        cursor = _start(request)
        if placement is None or refusal is not None:
            reply(refusal or no_such_table())
        elif cursor is None:
            reply(Invalid("bad_cursor", "the cursor is damaged: ask again from the beginning"))
        else:
            operation = FindOperation(self, request, placement, cursor, reply=reply)
            self.under_way[operation.number] = operation
            operation.start(deadline_us)

    def _on_deadline(self, number: int) -> None:
        operation = self.under_way.get(number)
        if operation is not None:
            operation.on_deadline()

    def _on_attempt(self, op: int) -> None:
        operation = self.inside.operations.get(op)
        if isinstance(operation, FindOperation):
            operation.on_silence()

    def _on_retry(self, number: int) -> None:
        operation = self.under_way.get(number)
        if operation is not None:
            operation.ask()

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        for operation in tuple(self.under_way.values()):
            operation.on_peer(peer)


def _start(request: FindRequest) -> Cursor | None:
    if request.cursor:
        return decode_cursor(request.cursor)
    if request.partition:
        token = token_of(request.partition)
        return Cursor((Piece(token, token),), None)
    return Cursor((), request.first_token) if request.first_token <= request.last_token else Cursor((), None)


class FindOperation:
    """One request: pieces of the ring in their order, slices of each, until there are rows enough."""

    def __init__(
        self,
        parent: Finds,
        request: FindRequest,
        placement: TablePlacement,
        cursor: Cursor,
        *,
        reply: Callable[[Answer], None],
    ) -> None:
        self.number = parent.inside.new_op()
        self._parent = parent
        self._request = request
        self._placement = placement
        self._reply: Callable[[Answer], None] | None = reply
        self._ranges: Ranges = joined_ranges(placement)
        self._cursor = cursor
        self._now_us = parent.inside.clock.now_us()
        self._rows: list[FoundRow] = []
        self._statics: dict[bytes, Row] = {}
        self._stages: list[Cursor] = []
        self._size = 0
        # the slice under way
        self._replicas: tuple[PeerId, ...] = ()
        self._op = 0
        self._server: PeerId | None = None
        self._asked_to_follow: tuple[PeerId, ...] = ()
        self._timer = 0
        self._deadline_us = 0
        self._deadline_timer = 0
        self._followed: dict[PeerId, tuple[PeerId, ...]] = {}
        self._unfit: dict[PeerId, str] = {}
        self._apart: dict[tuple[PeerId, PeerId], bool] = {}
        self._failures: dict[PeerId, OperationFailed] = {}

    @property
    def _wanted(self) -> Any:
        return need(self._request.level, self._placement.factors, self._parent.inside.identity.datacentre)

    def start(self, deadline_us: int) -> None:
        """Begin with the first piece."""
        inside = self._parent.inside
        self._deadline_us = deadline_us
        delay_us = max(1, deadline_us - inside.world.monotonic_us())
        self._deadline_timer = inside.timer(delay_us, "find", self.number)
        self._next_piece()

    # --- pieces

    def _next_piece(self) -> None:
        """Make the next piece one that one set of replicas holds, and ask for it."""
        pieces, rest = self._cursor.pieces, self._cursor.rest
        if not pieces and rest is not None:
            last = self._request.last_token
            at = self._range_of(rest)
            pieces = (Piece(rest, min(at[1], last)),)
            rest = at[1] + 1 if at[1] < min(last, TOKEN_MAX) else None
        if not pieces:
            self._end_with_rows(more=False)
            return
        _, last, replicas = self._range_of(pieces[0].first)
        if pieces[0].last > last:
            here = msgspec.structs.replace(pieces[0], last=last)
            beyond = msgspec.structs.replace(pieces[0], first=last + 1)
            pieces = (here, beyond, *pieces[1:])
        self._cursor = Cursor(pieces, rest)
        self._stages.append(self._cursor)
        self._replicas = replicas
        self._unfit.clear()
        self._apart.clear()
        self._failures.clear()
        self.ask()

    def _range_of(self, token: int) -> tuple[int, int, tuple[PeerId, ...]]:
        return next(entry for entry in self._ranges if entry[0] <= token <= entry[1])

    # --- asking

    def ask(self) -> None:
        """Ask a replica for the next slice: the one that served before, or the best of those not tried."""
        if self._reply is None:
            return
        reads = self._parent.reads
        alive = [peer for peer in self._replicas if reads.swim.is_alive(peer)]
        local, wanted = reads.inside.identity.datacentre, self._wanted
        reach = reachable(wanted, self._placement, local, alive)
        if not reach.met:
            self._end(Unavailable(wanted.total, reach.received, self._request.level))
            return
        order = reads.preferred(alive, self._placement)
        order.sort(key=lambda peer: peer != self._server)
        for server in order:
            if server not in self._unfit:
                siblings = self._siblings(server, order)
                if siblings is not None:
                    self._send(server, siblings)
                    return
        self._retry_later()

    def _siblings(self, server: PeerId, order: list[PeerId]) -> tuple[PeerId, ...] | None:
        """Whom this replica is to follow for the level; None if those it is known not to reach are needed."""
        tally = Tally(self._wanted, self._placement, self._parent.inside.identity.datacentre)
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
            self._end(failure)
            return
        self._unfit.clear()
        self._apart.clear()
        self._failures.clear()
        self._server = None
        self._parent.inside.timer(RETRY_US, "find_retry", self.number)

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

    def _send(self, server: PeerId, siblings: tuple[PeerId, ...]) -> None:
        inside, request, piece = self._parent.inside, self._request, self._cursor.pieces[0]
        self._server = server
        known = self._followed.get(server, ())
        self._asked_to_follow = tuple(peer for peer in siblings if peer not in known)
        left_us = max(1, self._deadline_us - inside.world.monotonic_us())
        timeout_us = max(ATTEMPT_MIN_US, left_us // 3)
        drive = request.drive
        find = Find(
            request.table,
            0 if drive is None else drive.index,
            () if drive is None else drive.spans,
            piece.first,
            piece.last,
            partition_prefix(request.table, piece.first, request.partition) if request.partition else b"",
            piece.term,
            piece.key,
            max(1, min(request.rows_max - len(self._rows), limits.SLICE_ROWS_MAX)),
            limits.SLICE_BYTES_MAX,
            self._now_us,
            self._expands(),
            request.statics,
        )
        self._forget_question()
        self._op = inside.new_op()
        inside.operations[self._op] = self
        self._timer = inside.timer(timeout_us, "find_attempt", self._op)
        epoch = self._parent.reads.metadata.state.epoch
        message = FindSlice(self._op, epoch, timeout_us, self._asked_to_follow, find, request.checks)
        if server == self._parent.reads.me:
            op = self._op
            self._parent.serving.serve(message, lambda told: self._on_own(op, told))
        elif not inside.send(server, message):
            self._pass_over(server, "the connection to the replica is full or gone")

    def _expands(self) -> bool:
        """Whether the index that drives is on a static column."""
        table, drive = self._placement.table, self._request.drive
        index = next((one for one in table.indexes if drive is not None and one.id == drive.index), None)
        column = None if index is None else table.column(index.column)
        return column is not None and column.kind == STATIC

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
        if self._reply is None or peer != self._server or message.op != self._op:
            return
        self._forget_question()
        if isinstance(message, SliceFound):
            self._followed[peer] = (*self._followed.get(peer, ()), *self._asked_to_follow)
            self._take(message)
        elif isinstance(message, Stale):
            self._on_stale()
        elif isinstance(message, OperationFailed):
            self._on_failed(peer, message)

    def _take(self, message: SliceFound) -> None:
        stage = len(self._stages) - 1
        for term, key, data in message.rows:
            self._rows.append(FoundRow(key, decode_row(data), term, stage))
            self._size += len(key) + len(data)
        for key, data in message.statics:
            if key not in self._statics:
                self._statics[key] = decode_row(data)
        pieces = self._cursor.pieces
        if message.more:
            here = msgspec.structs.replace(pieces[0], term=message.term, key=message.key)
            self._cursor = Cursor((here, *pieces[1:]), self._cursor.rest)
        else:
            self._cursor = Cursor(pieces[1:], self._cursor.rest)
        if len(self._rows) >= self._request.rows_max or self._size >= limits.FETCH_BYTES_MAX:
            self._end_with_rows(more=bool(self._cursor.pieces) or self._cursor.rest is not None)
        elif message.more:
            self.ask()
        else:
            self._next_piece()

    def _on_stale(self) -> None:
        """The epochs that we lacked are adopted by now: plan anew under them, from where we are."""
        placement = self._parent.reads.metadata.state.placement(self._request.table)
        drive = self._request.drive
        if placement is None:
            self._end(no_such_table())
        elif drive is not None and not any(one.id == drive.index for one in placement.table.indexes):
            self._end(Invalid("no_such_index", "the index was dropped meanwhile: ask again"))
        else:
            self._placement, self._ranges = placement, joined_ranges(placement)
            self._next_piece()

    def _on_failed(self, peer: PeerId, message: OperationFailed) -> None:
        if message.why == NOT_FOLLOWED:
            for name in message.detail.split():
                self._apart[peer, bytes.fromhex(name)] = True
        else:
            self._failures[peer] = message
            self._unfit[peer] = message.detail
        self.ask()

    def _pass_over(self, peer: PeerId, why: str) -> None:
        self._forget_question()
        self._parent.inside.count("finds_asked_elsewhere")
        self._unfit[peer] = why
        self.ask()

    def on_silence(self) -> None:
        """The replica says nothing: another is asked."""
        if self._server is not None:
            self._parent.reads.was_slow(self._server)
            self._pass_over(self._server, "no answer in time")

    def on_peer(self, peer: PeerId) -> None:
        """A connection came or went: what was asked over it may be lost."""
        if self._op and peer == self._server:
            self._pass_over(peer, "the connection was lost")

    # --- the end

    def on_deadline(self) -> None:
        """Too late."""
        wanted = self._wanted.total
        received = max(0, min(wanted - 1, len(self._replicas) - len(self._unfit)))
        self._end(Timeout(received, wanted, self._request.level, write=False))

    def _end_with_rows(self, more: bool) -> None:
        cursor = encode_cursor(self._cursor) if more else b""
        rows, statics = tuple(self._rows), tuple(self._statics.items())
        self._end(Found(rows, statics, self._now_us, more, cursor, tuple(self._stages)))

    def _end(self, answer: Answer) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        self._forget_question()
        self._parent.inside.world.cancel_timer(self._deadline_timer)
        self._parent.under_way.pop(self.number, None)
        reply(answer)
