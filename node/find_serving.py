"""The replica's side of reads by predicate: follow, then look, then judge.

A slice is served only by a replica of all its tokens (else it is refused: an ex-owner must never answer
"nothing there"), only when the siblings named have been followed to the end that their logs had after the
question came, and only by an index that is built here. Then rows come from the store in bounded commands and
are judged here (index/secondary.py), so that only what is found travels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from core.commands import Candidates, Find
from core.finding import Piece
from core.messages import FindSlice, FoundPart, Message, OperationFailed, SliceFound
from core.ports import PeerId
from core.row import EMPTY_ROW, Row, decode_row
from index.secondary import Judge, is_its_turn
from lsm.keys import STATIC_SUFFIX, prefix_end, token_of
from node.served_work import Answer, Serving, Work
from node.serving import refusal
from node.views import lane_for

if TYPE_CHECKING:
    from core.schema import Table
    from index.entries import Indexed
    from node.following import Following
    from node.index_building import IndexBuilding
    from node.inside import Inside
    from node.metadata import Metadata

SERVED_MAX = 1_000
"""Slices served at once."""

CUT_SHORT_MAX = 8
"""Store commands for one answer that did not reach the end of their range: after these it says how far it
looked, found or not.
"""

PIECES_MAX = 64
"""Pieces looked through by one store command, where rows come by token."""

class FindServing(Serving):
    """Serves coordinators, this peer's own among them."""

    def __init__(
        self,
        inside: Inside,
        metadata: Metadata,
        following: Following,
        building: IndexBuilding,
        indexed: Indexed,
    ) -> None:
        """Register."""
        super().__init__(inside, metadata, following, building, indexed)
        inside.on_message(FindSlice, self._on_find)
        inside.on_stored("find_slice", self.on_candidates)

    def _on_find(self, peer: PeerId, message: FindSlice) -> None:
        if message.epoch > self.metadata.state.epoch:
            self.metadata.catch_up(peer, message.epoch, lambda: self._on_find(peer, message))
            return

        def answer(told: Message) -> None:
            size = 0
            if isinstance(told, SliceFound):
                size = 64 * len(told.parts)
                size += sum(len(t) + len(k) + len(d) + 24 for part in told.parts for t, k, d in part.rows)
                size += sum(len(k) + len(d) + 16 for k, d in told.statics)
            self.inside.world.send(peer, told, lane_for(size))

        self.serve(message, answer)

    def serve(self, message: FindSlice, answer: Answer) -> None:
        """Look for rows; `answer` is called once."""
        me, op, table = self.inside.identity.peer, message.op, message.find.table
        pieces = ((piece.first, piece.last) for piece in message.pieces)
        refused = refusal(self.metadata, me, op, (table, message.epoch), pieces)
        if refused is not None:
            answer(refused)
            return
        if len(self.runs) >= SERVED_MAX:
            answer(OperationFailed(op, "overloaded", "this replica serves as many slices as it can"))
            return
        try:
            run = _Slice(self, self.metadata.state.tables[table], message, answer)
        except ValueError as error:
            answer(OperationFailed(op, "malformed", str(error)))
            return
        self.begin(run)


class _Slice(Work):
    """One slice."""

    def __init__(self, parent: FindServing, table: Table, message: FindSlice, answer: Answer) -> None:
        """Raises ValueError for an index or a check that this peer does not understand."""
        find = message.find
        super().__init__(parent, message, parent.index_of(table, find.index), answer)
        self._message = message
        self._judge = Judge(table, parent.indexed.types(table), message.checks)
        wants = find.statics or find.expand or self._judge.wants_static
        self._find: Find = msgspec.structs.replace(find, statics=wants)
        self._by_token = not find.index or not any(end for _, end in find.spans)
        self._pieces = list(message.pieces)
        self._looking: list[Piece] = []
        self._parts: list[FoundPart] = []
        self._rows: list[tuple[bytes, bytes, bytes]] = []
        self._count = 0
        self._statics: dict[bytes, bytes] = {}
        self._size = 0
        self._cut_short = 0

    @property
    def asked_of_store(self) -> Find:
        """The last command."""
        return self._find

    def look(self) -> None:
        """Look through the next pieces, or answer if that is enough."""
        if not self._pieces or (self._parts and (self._is_full() or self._cut_short >= CUT_SHORT_MAX)):
            self._tell()
            return
        count = 1
        while self._by_token and count < min(len(self._pieces), PIECES_MAX) and not self._pieces[count].key:
            count += 1
        self._looking, self._pieces = self._pieces[:count], self._pieces[count:]
        first = self._looking[0]
        self._find = msgspec.structs.replace(
            self._find,
            first_token=first.first,
            last_token=first.last,
            term=first.term,
            key=first.key,
            rows_max=max(1, self._message.find.rows_max - self._count),
            also=tuple((piece.first, piece.last) for piece in self._looking[1:]),
        )
        self._parent.inside.submit(("find_slice", self.number), self._find)

    def _is_full(self) -> bool:
        wanted = self._message.find
        return self._count >= wanted.rows_max or self._size >= wanted.bytes_max

    def take(self, found: Candidates) -> None:
        """What the store found: judge it, and look on if that is not enough."""
        rows = self._judged(found)
        at = len(self._looking)
        if found.more:
            at = self._piece_of(found.key)
        for number, piece in enumerate(self._looking[: at + 1]):
            self._rows += [row for row in rows if self._piece_of(row[1]) == number]
            if number < at:
                self._close_part(FoundPart(tuple(self._rows), b"", b"", False))
            else:
                self._cut(msgspec.structs.replace(piece, term=found.term, key=found.key))
                return
        self.look()

    def _piece_of(self, key: bytes) -> int:
        """Which of the pieces looked through a row is in."""
        if len(self._looking) == 1:
            return 0
        token = token_of(key)
        return next(i for i, piece in enumerate(self._looking) if piece.first <= token <= piece.last)

    def _cut(self, piece: Piece) -> None:
        """The store stopped within a piece: look on from there, or leave it to whoever asked."""
        self._cut_short += 1
        if self._is_full() or self._cut_short >= CUT_SHORT_MAX:
            self._close_part(FoundPart(tuple(self._rows), piece.term, piece.key, True))
            self._tell()
        else:
            at = self._piece_of(piece.key)
            self._pieces = [piece, *self._looking[at + 1 :], *self._pieces]
            self.look()

    def _close_part(self, part: FoundPart) -> None:
        self._parts.append(part)
        self._rows = []

    def _tell(self) -> None:
        self._end(SliceFound(self._message.op, tuple(self._parts), tuple(self._statics.items())))

    def _judged(self, outcome: Candidates) -> list[tuple[bytes, bytes, bytes]]:
        """Those of the rows for which all checks hold."""
        find, statics = self._message.find, dict(outcome.statics)
        found = []
        for term, key, data in outcome.rows:
            end = prefix_end(key)
            if key[end:] == STATIC_SUFFIX and not find.statics:
                continue
            static = statics.get(key[:end] + STATIC_SUFFIX)
            row = decode_row(data)
            beside = EMPTY_ROW if static is None else decode_row(static)
            if not self._judge.accepts(key, row, beside, find.now_us):
                continue
            if self._index is not None and not self._is_its_turn(key, row, beside, term):
                continue
            found.append((term, key, data))
            self._count += 1
            self._size += len(key) + len(data)
            if find.statics and static is not None and key[:end] + STATIC_SUFFIX not in self._statics:
                self._statics[key[:end] + STATIC_SUFFIX] = static
                self._size += len(static)
        return found

    def _is_its_turn(self, key: bytes, row: Row, static: Row, term: bytes) -> bool:
        assert self._index is not None
        if self._find.expand:
            key, row = key[: prefix_end(key)] + STATIC_SUFFIX, static
        return is_its_turn(self._index, self._find.spans, key, row, term)
