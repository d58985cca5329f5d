"""Coordinating reads by predicate: range after range of the ring, each from one replica that has caught up.

Asking several replicas and merging what each *found* is wrong, however many are asked: a row of which one
replica has one half and another the other is found by neither, and a stale row that only one still finds has
nobody to contradict it. So one replica per range is asked, and before it looks it follows as many siblings as
the level needs, to the ends that their logs have now (node/following.py; one round serves all that wait). It
then holds every write that was acknowledged at a quorum before, and judges its own merged rows.

A replica that dies, is slow, cannot reach a sibling or is still building its index is passed over
(node/find_pieces.py): another one follows, and goes on from the place where the first stopped. Places are
made of terms and keys (core/finding.py), not of anything that a replica remembers, so nothing is given twice
and nothing is missing, and a page may be continued by any peer.

Many ranges are asked for at once, of as few replicas as hold them, and handed on in their order. Of an answer
that holds more than was wanted the rest is dropped: the next page asks again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from core import limits
from core.commands import EntriesCounted, EntryCount, Outcome
from core.consistency import need
from core.finding import Cursor, Drive, FindRequest, Found, FoundRow, Piece, decode_cursor, encode_cursor
from core.ports import PeerId
from core.requests import Answer, Invalid, Timeout
from core.row import Row, decode_row
from core.schema import STATIC
from lsm.keys import STATIC_SUFFIX, TOKEN_MAX, TOKEN_MIN, prefix_end, split_row_key
from node.find_pieces import PieceRead, Question
from node.scans import check_level, joined_ranges
from node.writes import no_such_table
from ring.tokens import token_of

if TYPE_CHECKING:
    from node.find_serving import FindServing
    from node.metadata_state import TablePlacement
    from node.reads import Reads

AHEAD_MAX = 256
"""Pieces of one request that are read at once."""

COUNT_MAX = 128
"""Entries that are counted of each index that might drive: enough to tell the rare from the common."""

CURSOR_PIECES_MAX = 1_000
"""A cursor of ours has a piece or two, and one more for each time that the ring changed between pages."""

RETRY_US = 50_000
"""Between two rounds through all replicas of a range, none of which could serve it."""


_ranges_of = lru_cache(maxsize=64)(joined_ranges)


class Finds:
    """The coordinator's side of reads by predicate."""

    def __init__(self, reads: Reads, serving: FindServing) -> None:
        """Register."""
        self.reads = reads
        self.serving = serving
        self.inside = reads.inside
        self.under_way: dict[int, FindOperation] = {}
        self.questions: dict[int, Question] = {}
        self._choosing: dict[int, tuple[FindRequest, Cursor, int, Callable[[Answer], None]]] = {}
        self.inside.on_stored("find_counted", self._on_counted)
        self.inside.on_timer("find", self._on_deadline)
        self.inside.on_timer("find_attempt", self._on_attempt)
        self.inside.on_timer("find_retry", self._on_retry)
        self.inside.on_peer(self._on_peer)

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
            self._choose(request, cursor, deadline_us, reply)

    def _choose(
        self, request: FindRequest, cursor: Cursor, deadline_us: int, reply: Callable[[Answer], None]
    ) -> None:
        """Have the index drive that led here before, or else the one with the fewest entries on this peer."""
        drives = () if request.drive is None else (request.drive, *request.others)
        before = next((drive for drive in drives if drive.index == cursor.index), None)
        if before is None and len(drives) > 1:
            number = self.inside.new_op()
            self._choosing[number] = (request, cursor, deadline_us, reply)
            asked = tuple((drive.index, drive.spans) for drive in drives)
            self.inside.submit(("find_counted", number), EntryCount(request.table, asked, COUNT_MAX))
            return
        self._start(request, before or request.drive, cursor, deadline_us, reply)

    def _on_counted(self, outcome: Outcome, number: int) -> None:
        request, cursor, deadline_us, reply = self._choosing.pop(number)
        drives = () if request.drive is None else (request.drive, *request.others)
        chosen = request.drive
        if isinstance(outcome, EntriesCounted):
            fewest = min(outcome.counts)
            chosen = drives[outcome.counts.index(fewest)]
        self._start(request, chosen, cursor, deadline_us, reply)

    def _start(
        self,
        request: FindRequest,
        drive: Drive | None,
        cursor: Cursor,
        deadline_us: int,
        reply: Callable[[Answer], None],
    ) -> None:
        placement = self.reads.metadata.state.placement(request.table)
        if placement is None:
            reply(no_such_table())
            return
        request = msgspec.structs.replace(request, drive=drive)
        operation = FindOperation(self, request, placement, deadline_us, reply=reply)
        operation.start(cursor)

    def _on_deadline(self, number: int) -> None:
        operation = self.under_way.get(number)
        if operation is not None:
            operation.on_deadline()

    def _on_attempt(self, op: int) -> None:
        question = self.questions.get(op)
        if question is not None:
            question.on_silence()

    def _on_retry(self, number: int) -> None:
        operation = self.under_way.get(number)
        if operation is not None:
            operation.on_retry()

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        for question in tuple(self.questions.values()):
            question.on_peer(peer)


def _start(request: FindRequest) -> Cursor | None:
    """Where to begin; None if the cursor is none of ours."""
    if request.cursor:
        cursor = decode_cursor(request.cursor)
        return cursor if cursor is not None and _is_sound(cursor, request.table) else None
    if request.partition:
        token = token_of(request.partition)
        return Cursor((Piece(token, token),), None)
    return Cursor((), request.first_token if request.first_token <= request.last_token else None)


def _is_sound(cursor: Cursor, table: int) -> bool:
    """Whether a cursor names places of this table: its checksum is no secret, so anybody can make one."""
    rest = TOKEN_MIN if cursor.rest is None else cursor.rest
    if len(cursor.pieces) > CURSOR_PIECES_MAX or not TOKEN_MIN <= rest <= TOKEN_MAX:
        return False
    try:
        return all(
            TOKEN_MIN <= piece.first <= piece.last <= TOKEN_MAX
            and (not piece.key or split_row_key(piece.key)[0] == table)
            for piece in cursor.pieces
        )
    except ValueError:
        return False


class FindOperation:
    """One request: pieces of the ring in their order, until there are rows enough."""

    def __init__(
        self,
        parent: Finds,
        request: FindRequest,
        placement: TablePlacement,
        deadline_us: int,
        *,
        reply: Callable[[Answer], None],
    ) -> None:
        self.number = parent.inside.new_op()
        self.request = request
        self.deadline_us = deadline_us
        self.now_us = request.now_us or parent.inside.clock.now_us()
        self.followed: dict[PeerId, tuple[PeerId, ...]] = {}
        self._parent = parent
        self._reply: Callable[[Answer], None] | None = reply
        self._timer = 0
        self._ahead: deque[PieceRead] = deque()
        self._questions: list[Question] = []
        self._retrying = False
        self._left = Cursor((), None)
        """What no piece was made of yet."""
        self._here = Cursor((), None)
        """What was not handed on yet."""
        self._rows: list[FoundRow] = []
        self._statics: dict[bytes, bytes] = {}
        self._given: dict[bytes, Row] = {}
        """Static rows of the partitions that rows are of; of others they came too early."""
        self._stages: list[Cursor] = []
        self._size = 0
        self._index = 0 if request.drive is None else request.drive.index
        self._plan(placement)

    def _plan(self, placement: TablePlacement) -> None:
        self.placement = placement
        self.wanted = need(self.request.level, placement.factors, self._parent.inside.identity.datacentre)
        self._ranges = _ranges_of(placement)
        self._firsts = [entry[0] for entry in self._ranges]
        table, drive = placement.table, self.request.drive
        index = next((one for one in table.indexes if drive is not None and one.id == drive.index), None)
        column = None if index is None else table.column(index.column)
        self.expands = column is not None and column.kind == STATIC

    @property
    def rows_left(self) -> int:
        """How many rows are still of use."""
        return self.request.rows_max - len(self._rows)

    def start(self, cursor: Cursor) -> None:
        """Begin with the first piece."""
        inside = self._parent.inside
        self._parent.under_way[self.number] = self
        delay_us = max(1, self.deadline_us - inside.world.monotonic_us())
        self._timer = inside.timer(delay_us, "find", self.number)
        self._here = self._left = cursor
        self._go_on()

    def _go_on(self) -> None:
        """Hand on what there is, and ask for what is wanted."""
        self._hand_on()
        if self._reply is None:
            return
        if self._is_full() or not (self._ahead or self._left.pieces or self._left.rest is not None):
            self._end_with_rows()
            return
        while len(self._ahead) < AHEAD_MAX and (self._left.pieces or self._left.rest is not None):
            self._next_piece()
        self._ask()

    def _ask(self) -> None:
        """Ask for all pieces that are wanted: one message per replica that is to serve some."""
        serve: dict[PeerId, list[PieceRead]] = {}
        follow: dict[PeerId, list[PeerId]] = {}
        known: dict[tuple[PeerId, ...], tuple[PeerId, tuple[PeerId, ...]] | Answer | None] = {}
        for piece in self._ahead:
            if not piece.wanting or piece.stuck:
                continue
            if not piece.is_fresh:
                chosen = piece.choose()
            elif piece.replicas in known:
                chosen = known[piece.replicas]
            else:
                chosen = known[piece.replicas] = piece.choose()
            if isinstance(chosen, tuple):
                piece.serve_by(chosen[0])
                serve.setdefault(chosen[0], []).append(piece)
                follow.setdefault(chosen[0], []).extend(chosen[1])
            elif chosen is not None:
                self._end(chosen)
                return
            else:
                piece.stuck = True
                if not piece.questions:
                    self._retry_later()
        for server, pieces in serve.items():
            wanted = [piece for piece in pieces if piece.wanting]
            if self._reply is not None and wanted:
                question = Question(self._parent, self, server, wanted)
                self._questions.append(question)
                if self.request.trace is not None:
                    names = self._parent.inside.tracing.names
                    siblings = names(dict.fromkeys(follow[server]))
                    self.request.trace.tell(
                        f"Asking {names([server])} for {len(wanted)} ranges, when it has followed: {siblings}"
                    )
                question.ask(tuple(follow[server]))

    def _retry_later(self) -> None:
        """No replica of some range can serve it now: all of them are tried again in a moment."""
        if not self._retrying:
            self._retrying = True
            self._parent.inside.timer(RETRY_US, "find_retry", self.number)

    def on_retry(self) -> None:
        """The moment is over."""
        self._retrying = False
        if self._parent.reads.metadata.state.placement(self.request.table) is None:
            self._end(no_such_table())
            return
        for piece in self._ahead:
            if piece.wanting and not piece.questions:
                piece.begin_anew()
        self._go_on()

    def _is_full(self) -> bool:
        return self.rows_left <= 0 or self._size >= limits.FETCH_BYTES_MAX

    # --- pieces

    def _next_piece(self) -> None:
        """Make the next piece: one that one set of replicas holds."""
        pieces, rest = self._left.pieces, self._left.rest
        if not pieces:
            assert rest is not None
            last = min(self._range_of(rest)[1], self.request.last_token)
            pieces = (Piece(rest, last),)
            rest = last + 1 if last < min(self.request.last_token, TOKEN_MAX) else None
        _, last, replicas = self._range_of(pieces[0].first)
        if pieces[0].last > last:
            here = msgspec.structs.replace(pieces[0], last=last)
            pieces = (here, msgspec.structs.replace(pieces[0], first=last + 1), *pieces[1:])
        self._left = Cursor(pieces[1:], rest)
        self._ahead.append(PieceRead(self._parent, self, pieces[0], self._left, replicas))

    def _range_of(self, token: int) -> tuple[int, int, tuple[PeerId, ...]]:
        return self._ranges[bisect_right(self._firsts, token) - 1]

    def answered(self, statics: tuple[tuple[bytes, bytes], ...]) -> None:
        """Some pieces have an answer, or want to be asked for anew."""
        if self._reply is None:
            return
        for key, data in statics:
            self._statics.setdefault(key, data)
        self._go_on()

    def _hand_on(self) -> None:
        while self._ahead and self._ahead[0].answer is not None and not self._is_full():
            first = self._ahead[0]
            if not self._take(first):
                return
            if first.answer is not None and first.answer.more:
                self._here = _from(first, first.answer.term, first.answer.key)
                first.go_on()
                return
            self._here = first.beyond
            self._ahead.popleft()

    def _take(self, piece: PieceRead) -> bool:
        """Take the rows of an answer; False if the page was full before its end."""
        message = piece.answer
        assert message is not None
        if self.request.trace is not None:
            part = piece.piece
            text = f"{len(message.rows)} rows of the tokens {part.first} to {part.last}"
            self.request.trace.tell(text + (", more follow" if message.more else ""))
        begun = _from(piece, piece.piece.term, piece.piece.key)
        self._stages.append(msgspec.structs.replace(begun, index=self._index))
        stage = len(self._stages) - 1
        for term, key, data in message.rows:
            if self.rows_left <= 0:
                return False
            self._rows.append(FoundRow(key, decode_row(data), term, stage))
            self._size += len(key) + len(data)
            self._give_static(key[: prefix_end(key)] + STATIC_SUFFIX)
            self._here = _from(piece, term, key)
        return True

    def _give_static(self, key: bytes) -> None:
        data = self._statics.get(key)
        if data is not None and key not in self._given:
            self._given[key] = decode_row(data)
            self._size += len(data)

    def stale(self) -> None:
        """Plan anew under the epochs that we lacked, from where we are."""
        placement = self._parent.reads.metadata.state.placement(self.request.table)
        drive = self.request.drive
        if placement is None:
            self._end(no_such_table())
        elif drive is not None and not any(one.id == drive.index for one in placement.table.indexes):
            self._end(Invalid("no_such_index", "the index was dropped meanwhile: ask again"))
        else:
            self._close_pieces()
            self._plan(placement)
            self._left = self._here
            self._go_on()

    # --- the end

    def on_deadline(self) -> None:
        """Too late."""
        wanted = self.wanted.total
        first = self._ahead[0] if self._ahead else None
        answering = 0 if first is None else len(first.replicas) - len(first.unfit)
        self._end(Timeout(max(0, min(wanted - 1, answering)), wanted, self.request.level, write=False))

    def failed(self, answer: Answer) -> None:
        """A piece cannot be read."""
        self._end(answer)

    def _end_with_rows(self) -> None:
        more = bool(self._here.pieces) or self._here.rest is not None
        cursor = encode_cursor(msgspec.structs.replace(self._here, index=self._index)) if more else b""
        rows, statics = tuple(self._rows), tuple(self._given.items())
        self._end(Found(rows, statics, self.now_us, more, cursor, tuple(self._stages)))

    def _close_pieces(self) -> None:
        for question in self._questions:
            question.close()
        self._questions.clear()
        self._ahead.clear()

    def _end(self, answer: Answer) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        self._close_pieces()
        self._parent.inside.world.cancel_timer(self._timer)
        self._parent.under_way.pop(self.number, None)
        reply(answer)


def _from(piece: PieceRead, term: bytes, key: bytes) -> Cursor:
    """What is left when a piece was handed on up to a place."""
    here = msgspec.structs.replace(piece.piece, term=term, key=key)
    return Cursor((here, *piece.beyond.pieces), piece.beyond.rest)
