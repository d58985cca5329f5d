"""Claims: how a value comes to belong to one document, and never to two.

A unique index keeps a table of *reservations*: one row for each value, under its hash, which names the
document that holds it and the *fence* under which that was claimed. The fence of a document is a number in a
hidden record of its partition: a microsecond, 0 if there is none, that only grows. All steps are conditional
updates of one partition, of a value V or a document D:

    read      what D holds and its fence f
    reserve   V := (D, f), if V is free or D's already under an older fence
    write     D := the new document, if its fence is still f         (node/uniques.py)

    take over V from D2, which does not hold the value:
    fence     D2's fence := greater, if D2 still does not hold the value; g is what it is then
    reserve   V := (D, f), if V is still D2's, under a fence below g

    release   after a write that took the value away and raised D's fence to g:
    free      V := nobody's, if it is still D's, under a fence below g

So of a writer that has claimed and is about to write, and a claimant who finds the document without the
value, one loses: the fence stops the write, or the write is seen. Why it holds: while a write under f may
still be done (D's fence is f), V stays (D, f) from its reserve on. Whoever changes V from there either read a
greater fence at D, or raised it, and then the write fails. And a document that holds a value loses it only by
a write that is seen: `fence` looks at D itself. So V names D for as long as D holds the value.

Nothing of it has to be finished. Who dies in between leaves a reservation that nobody uses, and the next
claimant takes it over; what timed out is settled by the step that looks at D, as every conditional update
settles what is unfinished. A claimant that finds a reservation which may be in use waits first, about as long
as its holder would need: else two claimants of one value would for ever fence each other.

*Clocks.* A document's value may expire, which the fastest clock sees first. A fence is not below the clock of
who raised it, and nobody judges a document as of a time before its fence: so a slower clock does not bring
back what was taken over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from core.cell import ROW_MARKER_COLUMN, VALUE
from core.consistency import Level
from core.mutation import DELETE, UPDATE
from core.requests import (
    Answer,
    ConditionalRequest,
    Invalid,
    Judged,
    PartRead,
    RowsRead,
    RowWrite,
    Write,
    WriteRequest,
)
from core.row import EMPTY_ROW, OPERATION_SUFFIX, Row
from index.entries import Term
from index.uniqueness import UniqueIndex
from lsm.keys import ROW_SUFFIX

if TYPE_CHECKING:
    from node.uniques import Uniques

FENCE_SUFFIX: Final = OPERATION_SUFFIX + b"\x00fence"
"""The record of a document's fence. Ids of operations do not begin with a zero byte."""
_FENCE_COLUMN: Final = 2**31 - 2
HOLDER_COLUMN, HELD_FENCE_COLUMN, NOTE_COLUMN = 1, 2, 3
HASH_BYTES: Final = 32
PATIENCE_MIN_US: Final = 20_000
PATIENCE_PART: Final = 10
"""A claimant waits for another at most so small a part of the time that a write may take (or twice that)."""
RETRY_PAUSE_US: Final = 2_000

DECIDED: Final = Level.ONE
"""What a claim is waited for after it was decided: whoever comes next sees to the rest."""

DONE, AGAIN = "done", "again"
"""What came of a claim: the value is reserved; the document's fence was raised, so read it again."""


class Taken(Invalid, frozen=True):
    """Another document, `holder`, holds the value."""

    holder: bytes = b""


class _Held(Invalid, frozen=True):
    """The reservation names this document, under this fence."""

    holder: bytes = b""
    fence: int = 0


class _MayWrite(Invalid, frozen=True):
    """The holder does not hold the value, but may be about to."""


Ended = Callable[[str | Answer], None]
"""Given DONE, AGAIN, a Taken, or why the node could not tell."""


def fence_of(reads: RowsRead) -> int:
    """The fence in what was read of a document's partition."""
    for item in reads.rows:
        for cell in item.row.cells:
            if cell.column == _FENCE_COLUMN and cell.value is not None:
                return int.from_bytes(cell.value, "big")
    return 0


def fence_write(fence: int) -> RowWrite:
    """What raises the fence of a document."""
    write = Write(_FENCE_COLUMN, (), VALUE, fence.to_bytes(8, "big"), worthless=True)
    return RowWrite(FENCE_SUFFIX, (write,))


def raised(fence: int, now_us: int) -> int:
    """A greater fence, not below the clock."""
    return max(fence + 1, now_us)


def row_of(reads: RowsRead) -> Row:
    """The one row that was read, or the empty one."""
    return reads.rows[0].row if reads.rows else EMPTY_ROW


def hash_of(term: Term) -> bytes:
    """Where the reservation of a value lies in its index's table."""
    return hashlib.blake2b(term, digest_size=HASH_BYTES).digest()


def reservation_of(reads: RowsRead) -> tuple[bytes, int]:
    """The holder of a value and the fence it was claimed under; (b"", 0) if it is free."""
    found = {cell.column: cell.value for cell in row_of(reads).cells if not cell.is_dead(reads.now_us)}
    return found.get(HOLDER_COLUMN) or b"", int.from_bytes(found.get(HELD_FENCE_COLUMN) or b"", "big")


def _reserved(index: UniqueIndex, term: Term, holder: bytes, fence: int) -> WriteRequest:
    writes = (
        Write(ROW_MARKER_COLUMN, (), VALUE, b""),
        Write(HOLDER_COLUMN, (), VALUE, holder),
        Write(HELD_FENCE_COLUMN, (), VALUE, fence.to_bytes(8, "big")),
    )
    rows = (RowWrite(ROW_SUFFIX, writes),)
    return WriteRequest(index.reservations, hash_of(term), rows, Level.QUORUM, UPDATE)


def on_reservation(
    index: UniqueIndex, term: Term, decide: Callable[[tuple[RowsRead, ...]], WriteRequest | Invalid | None]
) -> ConditionalRequest:
    """A conditional update of a value's reservation."""
    part = (PartRead(ROW_SUFFIX),)
    return ConditionalRequest(index.reservations, hash_of(term), part, decide, DECIDED)


def release(index: UniqueIndex, term: Term, holder: bytes, fence: int) -> ConditionalRequest:
    """Free a value that `holder` gave up by a write that raised its fence to `fence`."""

    def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | None:
        named, claimed_under = reservation_of(reads[0])
        if named != holder or claimed_under >= fence:
            return None
        rows = (RowWrite(ROW_SUFFIX, (), replace=True),)
        return WriteRequest(index.reservations, hash_of(term), rows, Level.QUORUM, DELETE)

    return on_reservation(index, term, decide)


class Claim:
    """One value, to be reserved for one document as of its fence."""

    def __init__(
        self,
        parent: Uniques,
        what: tuple[int, UniqueIndex, Term],
        claimant: tuple[bytes, int],
        deadline_us: int,
        ended: Ended,
    ) -> None:
        """`what` is the documents' table, the index and the value; the claimant a partition key and fence."""
        self._parent = parent
        self._table, self._index, self._term = what
        self._me, self._fence = claimant
        self._deadline_us = deadline_us
        self._ended = ended
        self._over: tuple[bytes, int] | None = None
        self._patient = True
        self._began_us = 0

    def start(self) -> None:
        """Reserve; what stands in the way is looked at."""
        self._began_us = self._parent.inside.world.monotonic_us()
        request = on_reservation(self._index, self._term, self._reserve)
        self._parent.decide(request, self._deadline_us, self._on_reserved)

    def _reserve(self, reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
        holder, fence = reservation_of(reads[0])
        if holder == self._me:
            if fence > self._fence:
                return _Held("held", "", (), holder, fence)
            if fence == self._fence:
                return None
        elif holder:
            over = self._over
            if over is None or over[0] != holder or fence >= over[1]:
                return _Held("held", "", (), holder, fence)
        return _reserved(self._index, self._term, self._me, self._fence)

    def _on_reserved(self, answer: Answer) -> None:
        if isinstance(answer, Judged):
            self._ended(DONE)
        elif isinstance(answer, _Held):
            self._look(answer.holder, answer.fence)
        else:
            self._ended(answer)

    # --- the document that is named

    def _look(self, holder: bytes, fence: int) -> None:
        """Fence the holder, unless it holds the value; or ourselves, if our own fence was overtaken."""
        parent, of_old = self._parent, holder == self._me
        place = (self._index, self._term, fence)
        wait = self._patient and not of_old

        def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
            row, now_us, there = row_of(reads[0]), reads[0].now_us, fence_of(reads[1])
            index, term, claimed_under = place
            if of_old:
                if there >= claimed_under:
                    return None
            elif term in index.values(holder, row, max(now_us, there)):
                return Taken("unique_violation", "another document has this value", (), holder)
            elif wait and there <= claimed_under:
                return _MayWrite("may_write", "")
            rows = (fence_write(raised(max(there, claimed_under), now_us)),)
            return WriteRequest(self._table, holder, rows, Level.QUORUM, UPDATE)

        def looked(answer: Answer) -> None:
            if isinstance(answer, _MayWrite):
                self._wait()
            elif isinstance(answer, Judged) and of_old:
                self._ended(AGAIN)
            elif isinstance(answer, Judged):
                there = fence_of(answer.reads[1])
                self._over = (holder, raised(max(there, fence), answer.reads[0].now_us))
                self.start()
            else:
                self._ended(answer)

        parent.decide(parent.on_document(self._table, holder, decide), self._deadline_us, looked)

    def _wait(self) -> None:
        """Whoever has claimed it may be about to write: give it the time that we ourselves would need."""
        world = self._parent.inside.world
        took_us = world.monotonic_us() - self._began_us
        most_us = self._parent.inside.settings.write_timeout_us // PATIENCE_PART
        least_us = min(max(PATIENCE_MIN_US, 2 * took_us), most_us)
        self._patient = False
        self._parent.later(least_us + world.below(least_us), self.start)
