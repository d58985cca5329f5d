"""The replica's side of reads by predicate: follow, then look, then judge.

A slice is served only by a replica of all its tokens (else it is refused: an ex-owner must never answer
"nothing there"), only when the siblings named have been followed to the end that their logs had after the
question came, and only by an index that is built here. Then rows come from the store in bounded commands and
are judged here (index/secondary.py), so that only what is found travels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from core.commands import Candidates, EntriesDamaged, Failed, Find, Outcome, Why
from core.finding import Piece
from core.messages import FindSlice, FoundPart, Message, OperationFailed, SliceFound
from core.ports import PeerId
from core.row import EMPTY_ROW, Row, decode_row
from index.secondary import Judge, is_its_turn
from lsm.keys import STATIC_SUFFIX, prefix_end, token_of
from node.serving import refusal
from node.views import lane_for

if TYPE_CHECKING:
    from core.schema import Table
    from index.entries import Compiled, Indexed
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

NOT_FOLLOWED, BUILDING = "not_followed", "index_building"

PIECES_MAX = 64
"""Pieces looked through by one store command, where rows come by token."""

Answer = Callable[[Message], None]


class FindServing:
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
        self.inside = inside
        self.metadata = metadata
        self.following = following
        self.building = building
        self.indexed = indexed
        self.runs: dict[int, _Serving] = {}
        inside.on_message(FindSlice, self._on_find)
        inside.on_stored("find_slice", self._on_candidates)

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
            run = _Serving(self, self.metadata.state.tables[table], message, answer)
        except ValueError as error:
            answer(OperationFailed(op, "malformed", str(error)))
            return
        self.runs[run.number] = run
        run.start()

    def _on_candidates(self, outcome: Outcome, number: int) -> None:
        run = self.runs.get(number)
        if run is not None:
            run.on_candidates(outcome)


class _Serving:
    """One slice."""

    def __init__(self, parent: FindServing, table: Table, message: FindSlice, answer: Answer) -> None:
        """Raises ValueError for an index or a check that this peer does not understand."""
        self.number = parent.inside.new_op()
        self._parent = parent
        self._message = message
        self._answer = answer
        self._index: Compiled | None = None
        find = message.find
        if find.index:
            self._index = next((one for one in parent.indexed.of(table) if one.id == find.index), None)
            if self._index is None:
                raise ValueError("this peer does not know the index, or not how to read it")
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

    def start(self) -> None:
        """Wait for the index to be built, then follow."""
        parent = self._parent
        if self._index is None:
            self._follow()
            return
        until_us = parent.inside.world.monotonic_us() + self._message.timeout_us
        parent.building.when_built(self._index.id, until_us, self._is_built)

    def _is_built(self, why_not: str) -> None:
        if why_not:
            self._end(OperationFailed(self._message.op, BUILDING, why_not))
        else:
            self._follow()

    def _follow(self) -> None:
        until_us = self._parent.inside.world.monotonic_us() + self._message.timeout_us
        self._parent.following.follow_now(self._message.follow, self._followed, until_us)

    def _followed(self, reached: frozenset[PeerId]) -> None:
        missing = [peer.hex() for peer in self._message.follow if peer not in reached]
        if missing:
            self._end(OperationFailed(self._message.op, NOT_FOLLOWED, " ".join(missing)))
        else:
            self._next_pieces()

    def _next_pieces(self) -> None:
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

    def on_candidates(self, outcome: Outcome) -> None:
        """What the store found: judge it, and look on if that is not enough."""
        if not isinstance(outcome, Candidates):
            assert isinstance(outcome, Failed), outcome
            self._parent.inside.count("replica_failures")
            self._have_mended(outcome)
            name = self._parent.inside.identity.name
            self._end(OperationFailed(self._message.op, outcome.why, f"{name}: {outcome.detail}"))
            return
        found = self._judged(outcome)
        at = len(self._looking)
        if outcome.more:
            at = self._piece_of(outcome.key)
        for number, piece in enumerate(self._looking[: at + 1]):
            self._rows += [row for row in found if self._piece_of(row[1]) == number]
            if number < at:
                self._close_part(FoundPart(tuple(self._rows), b"", b"", False))
            else:
                self._cut(msgspec.structs.replace(piece, term=outcome.term, key=outcome.key))
                return
        self._next_pieces()

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
            self._next_pieces()

    def _close_part(self, part: FoundPart) -> None:
        self._parts.append(part)
        self._rows = []

    def _have_mended(self, outcome: Failed) -> None:
        """Entries that cannot be read are made anew, rows compared with the siblings'."""
        find, on_damage = self._find, self._parent.inside.on_damage
        if isinstance(outcome, EntriesDamaged):
            self._parent.building.rebuild(find.index)
        elif outcome.why is Why.CORRUPT and on_damage is not None:
            on_damage(find.table, find.first_token, find.last_token)

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
            if find.statics and static is not None:
                self._statics[key[:end] + STATIC_SUFFIX] = static
        return found

    def _is_its_turn(self, key: bytes, row: Row, static: Row, term: bytes) -> bool:
        assert self._index is not None
        if self._find.expand:
            key, row = key[: prefix_end(key)] + STATIC_SUFFIX, static
        return is_its_turn(self._index, self._find.spans, key, row, term)

    def _end(self, told: Message) -> None:
        self._parent.runs.pop(self.number, None)
        self._answer(told)
