"""The replica's side of gathers: follow, then run a program over rows where they are, in bounded steps.

Rows come from the store by the command that reads by predicate use too (lsm/finding.py), at most ROWS_MAX
at once, and a program runs over them for TURN_US at a time: in between everything else that waits gets its
turn, so a costly program is slow by itself and for nobody else. After PIECE_US or as many rows as it
was asked to look at a peer answers with what the program made of them and where it stopped; whoever asked
goes on from there or does not.

A piece is served only by a replica of all its tokens, only when the siblings named have been followed to the
ends that their logs had after the question came, and only by an index that is built here.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from core import limits
from core.commands import Candidates, Find
from core.messages import Gather, GatherTold, Message, OperationFailed
from core.ports import PeerId
from core.row import decode_row
from documents.programs import Runner, start_program
from index.secondary import is_its_turn
from lsm.keys import STATIC_SUFFIX, prefix_end
from node.served_work import Answer, Serving, Work
from node.serving import refusal
from node.views import lane_for

if TYPE_CHECKING:
    from index.entries import Compiled, Indexed
    from node.following import Following
    from node.index_building import IndexBuilding
    from node.inside import Inside
    from node.metadata import Metadata

SERVED_MAX = 64
"""Pieces served at once."""

PIECE_US = 250_000
"""After so long a piece is answered."""

ROWS_MAX = 200
ROWS_MIN = 4
TURN_US = 2_000
PAUSE_US = 1_000
"""A program that ran so long lets others have their turn for a moment, and gets fewer rows the next time."""

Ranges = tuple[tuple[int, int, bytes, bytes], ...]


class GatherServing(Serving):
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
        inside.on_message(Gather, self._on_gather)
        inside.on_stored("gather_rows", self.on_candidates)
        inside.on_timer("gather_turn", self._on_turn)

    def _on_gather(self, peer: PeerId, message: Gather) -> None:
        if message.epoch > self.metadata.state.epoch:
            self.metadata.catch_up(peer, message.epoch, lambda: self._on_gather(peer, message))
            return

        def answer(told: Message) -> None:
            size = 32 * len(message.ranges)
            if isinstance(told, GatherTold):
                size = len(told.part) + sum(40 + len(term) + len(key) for _, _, term, key in told.ranges)
            self.inside.world.send(peer, told, lane_for(size))

        self.serve(message, answer)

    def serve(self, message: Gather, answer: Answer) -> None:
        """Run a program; `answer` is called once."""
        refusal = self._refusal(message)
        if refusal is not None:
            answer(refusal)
            return
        state = self.metadata.state
        table = state.tables[message.table]
        below = self.inside.world.below
        runner = start_program(message.program, table, state.keyspaces[table.keyspace], below)
        if isinstance(runner, str):
            answer(OperationFailed(message.op, "malformed", runner))
            return
        try:
            index = self.index_of(table, message.index)
        except ValueError as error:
            answer(OperationFailed(message.op, "malformed", str(error)))
            return
        self.begin(_Piece(self, message, runner, index, answer))

    def _refusal(self, message: Gather) -> Message | None:
        me, op = self.inside.identity.peer, message.op
        ranges = ((first, last) for first, last, _, _ in message.ranges)
        refused = refusal(self.metadata, me, op, (message.table, message.epoch), ranges)
        if refused is not None:
            return refused
        if len(self.runs) >= SERVED_MAX:
            return OperationFailed(op, "overloaded", "this replica computes as much as it can")
        return None

    def _on_turn(self, number: int) -> None:
        piece = self.runs.get(number)
        if piece is not None:
            self.step(piece, piece.work)


class _Piece(Work):
    """One message's work."""

    def __init__(
        self, parent: GatherServing, message: Gather, runner: Runner, index: Compiled | None, answer: Answer
    ) -> None:
        super().__init__(parent, message, index, answer)
        self._message = message
        self._runner = runner
        self._find: Find | None = None
        self._ranges: list[tuple[int, int, bytes, bytes]] = list(message.ranges)
        self._rows_max = ROWS_MAX // 2
        self._waiting: deque[tuple[bytes, bytes, bytes]] = deque()
        self._after: tuple[bytes, bytes] | None = None
        self._turns = 0
        self._examined = 0
        self._began_us = parent.inside.world.monotonic_us()
        self._working_since_us = self._began_us

    @property
    def asked_of_store(self) -> Find:
        """The last command."""
        assert self._find is not None, "something was asked"
        return self._find

    def look(self) -> None:
        """Read the next rows of the first range, or answer."""
        message = self._message
        if self._find is None:  # what went before was waiting
            self._working_since_us = self._parent.inside.world.monotonic_us()
        room = message.examined_max - self._examined
        elapsed_us = self._parent.inside.world.monotonic_us() - self._working_since_us
        if not self._ranges or room <= 0 or elapsed_us >= PIECE_US:
            self._end_with_part()
            return
        first, last, term, key = self._ranges[0]
        self._find = Find(
            message.table,
            message.index,
            message.spans,
            first,
            last,
            b"",
            term,
            key,
            max(1, min(self._rows_max, room)),
            limits.SLICE_BYTES_MAX,
            message.now_us,
        )
        self._parent.inside.submit(("gather_rows", self.number), self._find)

    def take(self, found: Candidates) -> None:
        """Rows: run the program over them."""
        self._waiting.extend(found.rows)
        self._after = (found.term, found.key) if found.more else None
        self._turns = 0
        self.work()

    def work(self) -> None:
        """Run the program over rows that wait, for one turn; then read on, or go on in the next turn."""
        inside = self._parent.inside
        begun_us = inside.world.monotonic_us()
        took_us = 0
        while self._waiting:
            if not self._give(*self._waiting.popleft()):
                self._waiting.clear()
                self._ranges.clear()
                self._end_with_part()
                return
            if self._runner.range_over:
                self._runner.range_over = False
                self._waiting.clear()
                self._after = None
            took_us = inside.world.monotonic_us() - begun_us
            if took_us > TURN_US and self._waiting:
                self._turns += 1
                inside.timer(PAUSE_US, "gather_turn", self.number)
                return
        if self._turns:
            self._rows_max = max(ROWS_MIN, self._rows_max // (2 * self._turns))
        elif took_us < TURN_US // 4:
            self._rows_max = min(ROWS_MAX, self._rows_max * 2)
        if self._after is None:
            del self._ranges[0]
        else:
            first, last, _, _ = self._ranges[0]
            self._ranges[0] = (first, last, *self._after)
        self.look()

    def _give(self, term: bytes, key: bytes, data: bytes) -> bool:
        """Give a row to the program; False if it wants no more."""
        message, index = self._message, self._index
        if key[prefix_end(key) :] == STATIC_SUFFIX:
            return True
        row = decode_row(data)
        if index is not None and not is_its_turn(index, message.spans, key, row, term):
            return True
        self._examined += 1
        return self._runner.take(key, row, message.now_us)

    def _end_with_part(self) -> None:
        part = self._runner.part()
        took_us = self._parent.inside.world.monotonic_us() - self._began_us
        ranges = tuple(self._ranges)
        self._end(GatherTold(self._message.op, part, ranges, self._examined, took_us))
