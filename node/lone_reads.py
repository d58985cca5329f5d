"""Reading a row that this peer alone holds: there is nobody to compare with, to ask instead, or to repair.

So it takes one command to the own store and no operation with timers and tallies of its own, which is half of
what a read costs its coordinator. Whatever is out of the ordinary is left to `node/reads.py`: it is asked
before anything is done where the level is not known to be met by this replica alone, or rows are moving, and
once more for what the store could not read, or read before rows began to move.

Deadlines are looked at together, every `LOOK_US`: only a store that hangs lets one pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from core.commands import Outcome, Read, Rows, Slice
from core.consistency import Level
from core.requests import Timeout
from core.row import decode_row
from lsm.keys import token_of
from node.slices import SliceResult

if TYPE_CHECKING:
    from core.ports import PeerId
    from node.metadata_state import TablePlacement
    from node.reads import Finish, Reads

LOOK_US = 20_000


class _Waiting(NamedTuple):
    part: Slice
    level: Level
    deadline_us: int
    moved_epoch: int
    finish: Finish


class LoneReads:
    """Reads of single rows that only this peer holds."""

    def __init__(self, reads: Reads) -> None:
        """Register for the answers of the own store."""
        self._reads = reads
        self._inside = reads.inside
        self._alone = (reads.me,)
        self._waiting: dict[int, _Waiting] = {}
        self._looking = False
        reads.inside.on_stored("lone_read", self._on_read)
        reads.inside.on_timer("lone_read", self._look)

    def begin(
        self,
        part: Slice,
        placement: TablePlacement,
        replicas: tuple[PeerId, ...],
        *,
        level: Level,
        deadline_us: int,
        finish: Finish,
    ) -> bool:
        """Read the row if it is one of these; else nothing is done, and it says False."""
        if replicas != self._alone or placement.moving is not None:
            return False
        state = self._reads.metadata.state
        wanted = self._reads.known_need(state, (part.table, level, replicas))
        if wanted is None or wanted.total != 1:
            return False
        inside = self._inside
        op = inside.new_op()
        self._waiting[op] = _Waiting(part, level, deadline_us, state.moved_epoch, finish)
        if not self._looking:
            self._looking = True
            inside.timer(LOOK_US, "lone_read")
        inside.submit(("lone_read", op), Read(part, False))
        return True

    def _on_read(self, outcome: Outcome, op: int) -> None:
        waiting = self._waiting.pop(op, None)
        if waiting is None:
            return  # timed out
        if type(outcome) is Rows and waiting.moved_epoch == self._reads.metadata.state.moved_epoch:
            rows = tuple([(key, decode_row(data)) for key, data in outcome.rows])
            waiting.finish(SliceResult(rows, False, b""))
        else:
            part, level, deadline_us, _, finish = waiting
            placement = self._reads.metadata.state.placement(part.table)
            replicas = () if placement is None else placement.replicas(token_of(part.first))
            self._reads.begin(part, replicas, level, deadline_us, finish)

    def _look(self) -> None:
        """Give up what is past its deadline."""
        now_us = self._inside.world.monotonic_us()
        late = [op for op, waiting in self._waiting.items() if waiting.deadline_us <= now_us]
        for op in late:
            waiting = self._waiting.pop(op)
            waiting.finish(Timeout(0, 1, waiting.level, write=False))
        self._looking = bool(self._waiting)
        if self._looking:
            self._inside.timer(LOOK_US, "lone_read")
