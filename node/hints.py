"""Hints: writes kept for replicas that did not acknowledge them, and delivered when those are back.

Hints make absent replicas equal *sooner*; that replicas become equal at all is the business of following
and of the hash trees. So hints may be bounded: what exceeds `hint_bytes_max`, or is older than
`hint_window_us`, is dropped and counted.

A hint is a system record `hint/ | peer | sequence`, written once and deleted when the peer has said that
the mutation is durable there. Sequences begin with the start counter, so they never repeat and sort by age.
In memory there are two numbers per peer, how many hints and how many bytes; they are counted once, by a
scan after the start. A hint that is deleted before the scan has come to it was never counted.

A replay takes one peer's hints page by page, oldest first, a page in flight, with a pause between pages.
Each hint is planned anew under the placement of *now*: to its peer if that is still a replica, else to
whoever is; for a table that was dropped, to nobody. A peer that does not answer ends its replay until
later. The same walk, without delivering, deletes what expired for peers that stay away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from core import limits
from core.commands import Applied, Apply, Done, Failed, Outcome, Records, SystemScan, SystemWrite, Why
from core.messages import ApplyMutation, MutationApplied, OperationFailed, Stale
from core.mutation import decode_mutation
from core.ports import PeerId
from node.inside import Inside
from node.views import MetadataView, SwimView, lane_for

PREFIX = b"hint/"

RETRY_US = 2 * limits.SECOND_US
"""After a replay that left something behind, and before hints made for a live peer are tried."""

ANSWER_US = 500_000
"""After this what was not answered is sent again; each time the wait doubles."""

SENDS = 3
FEW = 4
"""So often a hint is sent in one replay, if the peer answers others or so few are left."""

EXPIRE_US = 60 * limits.SECOND_US
"""How often the hints of absent peers are looked through for expired ones."""

_RECORD_BYTES = len(PREFIX) + 16 + 8 + 32
"""What a record holds besides the mutation, for the bookkeeping."""


class Owed(msgspec.Struct, frozen=True, array_like=True):
    """The value of a hint's record."""

    table: int
    token: int
    admitted_us: int
    mutation: bytes


class Refusal(NamedTuple):
    """Why hints kept for a peer are not taken: by whom, since when (monotonic), and one that was not."""

    by: tuple[PeerId, ...]
    why: str
    since_us: int
    table: int
    token: int


@dataclass(slots=True)
class _Shelf:
    """What is kept for one peer, and whether something is being done about it."""

    count: int = 0
    size: int = 0
    replay: _Replay | None = None
    planned: bool = False
    refusal: Refusal | None = None


class Hints:
    """Keeps hints and delivers them."""

    def __init__(self, inside: Inside, metadata: MetadataView, swim: SwimView) -> None:
        """Nothing is read before `start`."""
        self.inside = inside
        self.metadata = metadata
        self.swim = swim
        self.me = inside.identity.peer
        self.size = 0
        self._sequence = 0
        self._counted_to: bytes | None = b""
        self._shelves: dict[PeerId, _Shelf] = {}
        self._relied_on: dict[bytes, int] = {}
        """When the writes at ANY were admitted of which a hint, by its key, may be all there is."""
        self._old_left = 0
        """Hints that earlier starts left."""
        self._adding: dict[int, tuple[PeerId, int, Callable[[bool], None] | None]] = {}
        inside.on_stored("hint_counted", self._on_counted)
        inside.on_stored("hint_added", self._on_added)
        inside.on_stored("hint_page", lambda outcome, peer: self._replay(peer).on_page(outcome))
        inside.on_stored("hint_here", self._on_applied_here)
        inside.on_stored("hint_deleted", lambda outcome, peer: self._replay(peer).on_deleted(outcome))
        inside.on_timer("hint_count", self._count_from)
        inside.on_timer("hint_replay", self._on_replay)
        inside.on_timer("hint_next", lambda peer: self._replay(peer).next_page())
        inside.on_timer("hint_deadline", self._on_deadline)
        inside.on_timer("hint_expire", self._on_expire)
        swim.on_change(self._on_liveness)

    def start(self) -> None:
        """Count what earlier starts left."""
        self._count_from(b"")
        self.inside.timer(EXPIRE_US, "hint_expire")

    def pending(self, peer: PeerId) -> int:
        """How many hints are kept for a peer (of earlier starts only once they are counted)."""
        shelf = self._shelves.get(peer)
        return shelf.count if shelf else 0

    def refusal(self, peer: PeerId) -> Refusal | None:
        """What is wrong with delivering to a peer; None if nothing is kept, or it goes on."""
        shelf = self._shelves.get(peer)
        return None if shelf is None or not shelf.count else shelf.refusal

    def delivered(self, peer: PeerId) -> None:
        """It takes them (again)."""
        self._shelf(peer).refusal = None

    def refused(self, peer: PeerId, refusal: Refusal) -> None:
        """It does not take one, or does not answer: since now, or since before."""
        shelf = self._shelf(peer)
        since_us = self.inside.world.monotonic_us() if shelf.refusal is None else shelf.refusal.since_us
        shelf.refusal = refusal._replace(since_us=since_us)

    def oldest_relied_on_us(self) -> int | None:
        """When the oldest hint was admitted that a client may rely on alone (ANY); None if there is none.

        Of those that earlier starts left it is not known: they count as old as hints become.
        """
        oldest_us = min(self._relied_on.values(), default=None)
        if self._old_left or self._counted_to is not None:
            limit_us = self.inside.clock.now_us() - self.inside.settings.hint_window_us
            return limit_us if oldest_us is None else min(limit_us, oldest_us)
        return oldest_us

    # --- keeping

    def add(
        self, peer: PeerId, table: int, mutation: bytes, done: Callable[[bool], None] | None = None
    ) -> None:
        """Keep a mutation for a peer; `done(True)` once it is durable, `done(False)` if it is not kept."""
        inside = self.inside
        held = decode_mutation(mutation)
        size = len(mutation) + _RECORD_BYTES
        full = self.size + size > inside.settings.hint_bytes_max
        if full or not inside.settings.hints or self.is_expired(held.admitted_us):
            inside.count("hints_dropped")
            if done is not None:
                done(False)
            return
        self._sequence += 1
        sequence = inside.identity.start << 32 | self._sequence
        if done is not None:
            self._relied_on[PREFIX + peer + sequence.to_bytes(8, "big")] = held.admitted_us
        self.size += size
        self._adding[sequence] = (peer, size, done)
        record = msgspec.msgpack.encode(Owed(table, held.token, held.admitted_us, mutation))
        key = PREFIX + peer + sequence.to_bytes(8, "big")
        inside.submit(("hint_added", sequence), SystemWrite(((key, record),)))

    def is_expired(self, admitted_us: int) -> bool:
        """Whether a mutation admitted then is too old for a hint."""
        return self.inside.clock.now_us() - admitted_us > self.inside.settings.hint_window_us

    def _on_added(self, outcome: Outcome, sequence: int) -> None:
        peer, size, done = self._adding.pop(sequence)
        kept = isinstance(outcome, Done)
        if kept:
            shelf = self._shelf(peer)
            shelf.count += 1
            shelf.size += size
            self.inside.count("hints_added")
            self.inside.count("hint_bytes_now", self.size)
            if self.swim.is_alive(peer):
                self._plan(peer, RETRY_US)
        else:
            self.size -= size
            self._relied_on.pop(PREFIX + peer + sequence.to_bytes(8, "big"), None)
            self.inside.count("hints_dropped")
        if done is not None:
            done(kept)

    def forget(self, peer: PeerId, gone: list[tuple[bytes, int]]) -> None:
        """These hints (key, size) of this peer were deleted."""
        shelf = self._shelf(peer)
        for key, size in gone:
            self._relied_on.pop(key, None)
            if self._is_counted(key):
                self._old_left -= not self._is_own(key)
                shelf.count -= 1
                shelf.size -= size
                self.size -= size
        assert min(shelf.count, shelf.size, self.size, self._old_left) >= 0, "more hints deleted than kept"
        self.inside.count("hint_bytes_now", self.size)

    def _is_counted(self, key: bytes) -> bool:
        """Whether a hint is among those counted: one of this start, or one that the scan has passed."""
        return self._is_own(key) or self._counted_to is None or key <= self._counted_to

    def _is_own(self, key: bytes) -> bool:
        """Whether a hint is of this start."""
        return int.from_bytes(key[-8:], "big") >> 32 == self.inside.identity.start

    def _shelf(self, peer: PeerId) -> _Shelf:
        return self._shelves.setdefault(peer, _Shelf())

    # --- counting what is there after a start

    def _count_from(self, after: bytes) -> None:
        page = SystemScan(PREFIX, after, limits.SLICE_ROWS_MAX, limits.SLICE_BYTES_MAX)
        self.inside.submit(("hint_counted", after), page)

    def _on_counted(self, outcome: Outcome, after: bytes) -> None:
        if not isinstance(outcome, Records):
            self.inside.log("warning", "hints_unread", f"the hints kept could not be read: {outcome}")
            self.inside.timer(EXPIRE_US, "hint_count", after)
            return
        for key, value in outcome.records:
            peer, sequence = key[len(PREFIX) : -8], int.from_bytes(key[-8:], "big")
            if sequence >> 32 != self.inside.identity.start:
                shelf = self._shelf(peer)
                self._old_left += 1
                shelf.count += 1
                shelf.size += size_of(value)
                self.size += size_of(value)
        if outcome.more:
            self._counted_to = outcome.records[-1][0]
            self._count_from(self._counted_to)
            return
        self._counted_to = None
        for peer, shelf in self._shelves.items():
            if shelf.count and self.may_deliver(peer):
                self._plan(peer, self.inside.settings.hint_replay_pause_us)

    def members_changed(self) -> None:
        """What is owed to who is a member no more goes to whoever holds its ranges now, soon."""
        for peer, shelf in self._shelves.items():
            if shelf.count and self.metadata.state.number_of(peer) is None:
                self._plan(peer, self.inside.settings.hint_replay_pause_us)

    # --- when to replay

    def _on_liveness(self, peer: PeerId, state: int) -> None:
        if peer in self._shelves and self.swim.is_alive(peer):
            self._plan(peer, self.inside.settings.hint_replay_pause_us)

    def _plan(self, peer: PeerId, delay_us: int) -> None:
        shelf = self._shelf(peer)
        if not shelf.planned and shelf.replay is None:
            shelf.planned = True
            self.inside.timer(delay_us, "hint_replay", peer)

    def _on_replay(self, peer: PeerId) -> None:
        shelf = self._shelf(peer)
        shelf.planned = False
        if shelf.count and shelf.replay is None and self.may_deliver(peer):
            shelf.replay = _Replay(self, peer, deliver=True)
            shelf.replay.next_page()

    def may_deliver(self, peer: PeerId) -> bool:
        """Whether deliveries may be tried: to a peer that lives; what was owed to one that is no member any
        more goes to its successors.
        """
        state = self.metadata.state
        if self.metadata.unready:
            return False
        return self.swim.is_alive(peer) or state.number_of(peer) is None

    def _on_expire(self) -> None:
        for peer, shelf in self._shelves.items():
            if shelf.count and shelf.replay is None:
                shelf.replay = _Replay(self, peer, deliver=self.may_deliver(peer))
                shelf.replay.next_page()
        self.inside.timer(EXPIRE_US, "hint_expire")

    def _replay(self, peer: PeerId) -> _Replay:
        replay = self._shelves[peer].replay
        assert replay is not None, "a replay ends only when nothing of it is under way"
        return replay

    def ended(self, peer: PeerId, again: bool) -> None:
        """A replay is over; what is left, or came meanwhile, is tried `again` after a while."""
        shelf = self._shelf(peer)
        shelf.replay = None
        if shelf.count and again and self.may_deliver(peer):
            self._plan(peer, RETRY_US)

    def _on_deadline(self, peer: PeerId, batch: int) -> None:
        replay = self._shelf(peer).replay
        if replay is not None:
            replay.on_deadline(batch)

    def _on_applied_here(self, outcome: Outcome, op: int) -> None:
        operation = self.inside.operations.get(op)
        if operation is not None:
            applied = isinstance(outcome, Applied)
            why = outcome.why if isinstance(outcome, Failed) else "local"
            failure = OperationFailed(op, why, str(outcome))
            operation.on_message(self.me, MutationApplied(op, None) if applied else failure)


def size_of(record: bytes) -> int:
    """What a hint with this record counts for in the bookkeeping: as when it was added."""
    return len(msgspec.msgpack.decode(record, type=Owed).mutation) + _RECORD_BYTES


@dataclass(slots=True)
class _Letter:
    """One hint under way: it may be deleted when all of `waiting` have applied it."""

    key: bytes
    owed: Owed
    waiting: list[PeerId]


class _Replay:
    """One walk over one peer's hints, a page at a time."""

    __slots__ = (
        "_after",
        "_answered",
        "_batch",
        "_deliver",
        "_gone",
        "_letters",
        "_more",
        "_parent",
        "_peer",
        "_sends",
        "_timer",
    )

    def __init__(self, parent: Hints, peer: PeerId, deliver: bool) -> None:
        """Without `deliver` only expired hints are deleted, up to the first page without any."""
        self._parent = parent
        self._peer = peer
        self._deliver = deliver
        self._after = b""
        self._more = False
        self._batch = 0
        self._timer = 0
        self._sends = 0
        self._answered = False
        self._letters: dict[int, _Letter] = {}
        self._gone: list[tuple[bytes, int]] = []

    def next_page(self) -> None:
        """Read the next page of hints."""
        rows_max, bytes_max = limits.HINT_BATCH_ROWS_MAX, limits.SLICE_BYTES_MAX
        scan = SystemScan(PREFIX + self._peer, self._after, rows_max, bytes_max)
        self._parent.inside.submit(("hint_page", self._peer), scan)

    def on_page(self, outcome: Outcome) -> None:
        """Send what the page owes."""
        inside = self._parent.inside
        if not isinstance(outcome, Records):
            inside.log("warning", "hints_unread", f"hints could not be read: {outcome}")
            self._parent.ended(self._peer, again=False)  # the next look for expired ones tries again
            return
        self._more = outcome.more
        self._gone = []
        for key, value in outcome.records:
            self._after = key
            self._plan(key, msgspec.msgpack.decode(value, type=Owed))
        if not self._letters:
            self._finish_page()
            return
        self._batch += 1
        self._sends = 0
        self._send_all()

    def _send_all(self) -> None:
        wait_us = ANSWER_US << self._sends
        self._sends += 1
        self._answered = False
        self._timer = self._parent.inside.timer(wait_us, "hint_deadline", self._peer, self._batch)
        for op, letter in tuple(self._letters.items()):
            self._send(op, letter)

    def _plan(self, key: bytes, owed: Owed) -> None:
        """Decide anew, under the epoch of now, what becomes of a hint."""
        parent = self._parent
        placement = parent.metadata.state.placement(owed.table)
        if parent.is_expired(owed.admitted_us) or (self._deliver and placement is None):
            parent.inside.count("hints_expired")
            self._gone.append((key, len(owed.mutation) + _RECORD_BYTES))
        elif self._deliver and placement is not None:
            replicas = placement.writers(owed.token)
            targets = [self._peer] if self._peer in replicas else list(replicas)
            op = parent.inside.new_op()
            self._letters[op] = _Letter(key, owed, targets)
            parent.inside.operations[op] = self

    def _send(self, op: int, letter: _Letter) -> None:
        inside, mutation = self._parent.inside, letter.owed.mutation
        message = ApplyMutation(op, self._parent.metadata.state.epoch, letter.owed.table, mutation)
        for peer in tuple(letter.waiting):
            if peer == self._parent.me:
                inside.submit(("hint_here", op), Apply(mutation))
            elif not inside.send(peer, message, lane_for(len(mutation))):
                self._settle(op, applied=False)
                return

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer about one hint."""
        letter = self._letters.get(message.op)
        if letter is None or peer not in letter.waiting:
            return
        if type(message) is MutationApplied or (
            type(message) is OperationFailed and message.why == Why.BELOW_FLOOR  # nobody takes it any more
        ):
            letter.waiting.remove(peer)
            if not letter.waiting:
                self._settle(message.op, applied=True)
        elif type(message) in (
            Stale,
            OperationFailed,
        ):  # the epochs lacking are adopted by now: planned anew next time
            if type(message) is OperationFailed:
                why, owed = f"refuses them: {message.detail or message.why}", letter.owed
                self._parent.refused(self._peer, Refusal((peer,), why, 0, owed.table, owed.token))
            self._settle(message.op, applied=False)

    def _settle(self, op: int, applied: bool) -> None:
        letter = self._letters.pop(op)
        self._parent.inside.operations.pop(op)
        self._answered = True
        if applied:
            self._parent.inside.count("hints_delivered")
            self._parent.delivered(self._peer)
            self._gone.append((letter.key, len(letter.owed.mutation) + _RECORD_BYTES))
        if not self._letters:
            self._parent.inside.world.cancel_timer(self._timer)
            self._finish_page()

    def on_deadline(self, batch: int) -> None:
        """Send again what may be lost; whoever does not answer at all does not get the next page."""
        if batch == self._batch and self._letters:
            if self._sends < SENDS and (self._answered or len(self._letters) <= FEW):
                self._send_all()
                return
            for op, letter in self._letters.items():
                self._parent.inside.operations.pop(op)
                silent, owed = tuple(letter.waiting), letter.owed
                self._parent.refused(
                    self._peer, Refusal(silent, "does not answer", 0, owed.table, owed.token)
                )
            self._letters.clear()
            self._more = False
            self._finish_page()

    def _finish_page(self) -> None:
        if self._gone:
            deletions = tuple((key, None) for key, _ in self._gone)
            self._parent.inside.submit(("hint_deleted", self._peer), SystemWrite(deletions))
            return
        if not self._deliver:
            self._more = False
        self._go_on()

    def on_deleted(self, outcome: Outcome) -> None:
        """What was delivered or expired is gone (if not, it is delivered again, which changes nothing)."""
        if isinstance(outcome, Done):
            self._parent.forget(self._peer, self._gone)
        self._go_on()

    def _go_on(self) -> None:
        inside = self._parent.inside
        if self._more and (not self._deliver or self._parent.may_deliver(self._peer)):
            inside.timer(inside.settings.hint_replay_pause_us, "hint_next", self._peer)
        else:
            self._parent.ended(self._peer, again=True)
