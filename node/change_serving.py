"""The replica's side of change streams: pages of this peer's log, as it grows.

A question names a table, ranges that we replicate and an offset; the answer is the entries after it, in
order, or, when there are none, silence until there are (or the time is up). Nothing is kept of a subscriber
but the question it waits on, so one that goes away, or reads slowly, costs nothing.

With a page that reaches the end of our log goes how far we have followed the siblings' logs *before* we read
our own: all that is below those offsets is in our log up to the page's end. So whoever has read us up to
there may go on at a sibling from its offset, and misses nothing (DESIGN: a cursor's siblings' offsets).

Where following met a gap (a sibling had forgotten what we never had), our log lacks mutations for good. The
end of our log at that moment is the *hole*, kept in the store: a reader that has to pass it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from core import limits
from core.cell import Cell
from core.commands import (
    AT_END,
    Applied,
    AppliedMany,
    ChangesLogged,
    CounterAdded,
    Failed,
    LogChanges,
    LoggedChange,
    Merged,
    Outcome,
    SystemWrite,
)
from core.expiring import Expired
from core.messages import AskChanges, ChangesTold, Message, OperationFailed
from core.mutation import decode_mutation, encode_mutation
from core.ports import PeerId
from core.row import Row
from lsm.log import REPAIRED, decode_images
from node.log_serving import log_name
from node.serving import refusal
from node.views import lane_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from node.following import Following
    from node.inside import Inside
    from node.metadata import Metadata

ENTRIES_MAX = 200
BYTES_MAX = 256 * limits.KIB
WAITING_MAX = 4_096
"""Questions that wait for news at once."""

WAKE_US = 1_000
WAKE_WAITING = 20
"""The log is read for those who wait as soon as there is news, but so long after the last time, and as long
again for each so many of them: reading for them all is to take a part of the time only.
"""

WAIT_US_MAX = 2 * limits.SECOND_US
ENTRY_BYTES_MAX = limits.FRAME_BYTES_MAX - 4 * limits.MIB
BARE_BYTES_MAX = 16 * limits.KIB
"""Above it a mutation whose rows have images is sent without its values: the images have them."""

HOLE_KEY = b"streams/hole"

Answer = Callable[[Message], None]


@dataclass(slots=True, eq=False)
class _Asked:
    """A question that is being answered: read up to `after`; `until_us` is when to give up waiting."""

    message: AskChanges
    answer: Answer
    after: int
    until_us: int
    changed_epoch: int
    followed: tuple[tuple[int, int], ...] = ()
    reading: bool = False


class ChangeServing:
    """Serves subscribers' coordinators, this peer's own among them."""

    def __init__(
        self, inside: Inside, metadata: Metadata, following: Following, boot: Mapping[bytes, bytes]
    ) -> None:
        """Register. `boot` holds the system records as of the start."""
        self.inside = inside
        self.metadata = metadata
        self.following = following
        self._asked: dict[int, _Asked] = {}
        self._waking = False
        self._woke_us = 0
        record = boot.get(HOLE_KEY)
        self.hole = 0 if record is None else int.from_bytes(record, "big")
        inside.on_message(AskChanges, self._on_ask)
        inside.on_stored("changes_page", self._on_page)
        inside.on_stored("changes_hole", self._on_hole_found)
        inside.on_stored("changes_hole_kept", self._on_hole_kept)
        inside.on_timer("changes_wake", self._on_wake)
        inside.on_timer("changes_wait", self._on_waited)
        following.on_hole = self.note_hole

    @property
    def waiting(self) -> int:
        """Questions under way."""
        return len(self._asked)

    def _on_ask(self, peer: PeerId, message: AskChanges) -> None:
        if message.epoch > self.metadata.state.epoch:
            self.metadata.catch_up(peer, message.epoch, lambda: self._on_ask(peer, message))
            return

        def answer(told: Message) -> None:
            size = 0
            if isinstance(told, ChangesTold):
                size = sum(64 + len(entry.data) + len(entry.images) for entry in told.entries)
            self.inside.world.send(peer, told, lane_for(size))

        self.serve(message, answer)

    def serve(self, message: AskChanges, answer: Answer) -> None:
        """Answer a question; `answer` is called once."""
        refusal = self._refusal(message)
        if refusal is not None:
            answer(refusal)
            return
        number = self.inside.new_op()
        wait_us = max(0, min(message.wait_us, WAIT_US_MAX))
        asked = _Asked(
            message,
            answer,
            message.after,
            self.inside.world.monotonic_us() + wait_us,
            self.metadata.state.tables[message.table].changed_epoch,
        )
        self._asked[number] = asked
        self._read(number, asked)

    def _refusal(self, message: AskChanges) -> Message | None:
        me, op = self.inside.identity.peer, message.op
        refused = refusal(self.metadata, me, op, (message.table, message.epoch), message.ranges)
        if refused is not None:
            return refused
        if len(self._asked) >= WAITING_MAX:
            return OperationFailed(op, "overloaded", "this replica serves as many streams as it can")
        return None

    # --- reading

    def _read(self, number: int, asked: _Asked) -> None:
        message = asked.message
        asked.reading = True
        asked.followed = self._followed()
        command = LogChanges(
            message.table, message.ranges, asked.after, ENTRIES_MAX, BYTES_MAX, message.since_us
        )
        self.inside.submit(("changes_page", number), command)

    def _followed(self) -> tuple[tuple[int, int], ...]:
        """(number, offset) of the siblings that are followed without a gap; not beyond what tells of
        something that ran out, as long as our own log need not (a clock that is behind).
        """
        state, found = self.metadata.state, []
        for peer in state.neighbours(self.inside.identity.peer):
            position, number = self.following.position(peer), state.number_of(peer)
            if number is not None and position.log == log_name(peer) and not position.gap:
                told_us = self.following.told_us
                untold = [offset for offset, at_us in position.expired if at_us > told_us]
                found.append((number, min([position.after, *(offset - 1 for offset in untold)])))
        return tuple(sorted(found))

    def _on_page(self, outcome: Outcome, number: int) -> None:
        asked = self._asked.get(number)
        if asked is None:
            return
        asked.reading = False
        message = asked.message
        table = self.metadata.state.tables.get(message.table)
        has_moved = message.epoch < self.metadata.state.moved_epoch
        if table is None or table.changed_epoch != asked.changed_epoch or has_moved:
            # What a truncated table's successor logged may lie behind this page's end: it must be asked for
            # under the new table. And who gave the range up meanwhile has followed nobody in it since.
            self._end(number, self._refusal(message) or OperationFailed(message.op, "changed", "try again"))
            return
        if not isinstance(outcome, ChangesLogged):
            assert isinstance(outcome, Failed), outcome
            text = f"{self.inside.identity.name}: {outcome.detail}"
            self._end(number, OperationFailed(message.op, outcome.why, text))
            return
        at_end = outcome.next_after >= outcome.end
        is_late = self.inside.world.monotonic_us() >= asked.until_us
        trimmed = message.after != AT_END and outcome.first > asked.after + 1
        if outcome.entries or trimmed or message.after == AT_END or is_late:
            followed = asked.followed if at_end else ()
            entries = tuple(_fitting(entry) for entry in outcome.entries)
            self._end(
                number,
                ChangesTold(message.op, entries, outcome.next_after, outcome.first, followed, self.hole),
            )
            return
        asked.after = outcome.next_after
        if not at_end:
            self._read(number, asked)
            return
        if self.inside.on_logged is None:
            self.inside.on_logged = self._on_logged
        left_us = max(1, asked.until_us - self.inside.world.monotonic_us())
        self.inside.timer(left_us, "changes_wait", number)

    def _end(self, number: int, told: Message) -> None:
        asked = self._asked.pop(number)
        if not self._asked:
            self.inside.on_logged = None
        asked.answer(told)

    # --- waiting

    def _on_logged(self, outcome: Outcome) -> None:
        """The store has done something that may be in the log."""
        if not self._waking and isinstance(outcome, Applied | AppliedMany | CounterAdded | Merged | Expired):
            pause_us = WAKE_US * (1 + len(self._asked) // WAKE_WAITING)
            left_us = self._woke_us + pause_us - self.inside.world.monotonic_us()
            if left_us > 0:
                self._waking = True
                self.inside.timer(left_us, "changes_wake")
            else:  # the store reads after this tick, and so finds all that the same sync made durable
                self._on_wake()

    def _on_wake(self) -> None:
        self._waking = False
        self._woke_us = self.inside.world.monotonic_us()
        for number, asked in tuple(self._asked.items()):
            if not asked.reading:
                self._read(number, asked)

    def _on_waited(self, number: int) -> None:
        asked = self._asked.get(number)
        if asked is not None and not asked.reading:
            self._read(number, asked)

    # --- the hole

    def note_hole(self) -> None:
        """Following met a gap: whatever was logged here by now may lack something."""
        self.inside.submit(("changes_hole",), LogChanges(0, (), AT_END, 1, 1))

    def _on_hole_found(self, outcome: Outcome) -> None:
        if isinstance(outcome, ChangesLogged) and outcome.end > self.hole:
            self.hole = outcome.end
            record = (HOLE_KEY, self.hole.to_bytes(8, "big"))
            self.inside.submit(("changes_hole_kept",), SystemWrite((record,)))

    def _on_hole_kept(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            text = f"that the change log lacks something could not be noted: {outcome.detail}"
            self.inside.log("warning", "stream_hole_not_kept", text)


def _fitting(entry: LoggedChange) -> LoggedChange:
    """An entry as it is sent: bare of values that its images have, and within a frame."""
    if entry.kind >= REPAIRED or len(entry.data) <= BARE_BYTES_MAX:
        return entry
    mutation = decode_mutation(entry.data)
    rows = tuple(
        (suffix, Row(row.deletion, tuple(_bare(cell) for cell in row.cells))) for suffix, row in mutation.rows
    )
    data = encode_mutation(msgspec.structs.replace(mutation, rows=rows))
    images = entry.images
    if len(images) > ENTRY_BYTES_MAX:
        kept = [msgspec.structs.replace(image, before=None) for image in decode_images(images)]
        images = msgspec.msgpack.encode(kept)
    return LoggedChange(entry.offset, entry.kind, entry.token, data, images)


def _bare(cell: Cell) -> Cell:
    return cell if cell.value is None else msgspec.structs.replace(cell, value=b"")
