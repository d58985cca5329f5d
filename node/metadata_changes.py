"""Changes to the schema on their way: at the peer that was asked, and in the queue of a voter.

The peer that was asked (the *origin*) gives the change an id and sends it to the first voter that lives; as
long as it does not see it decided it sends it again, to the next voter. Whatever voter has it proposes it. It
may so be decided twice and is applied once (node/metadata_state.py). At the deadline the origin answers that
the outcome is not known; a voter forgets what no origin has repeated for a while, so an old change does not
come true hours later when a cut heals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from core import limits
from core.limits import SECOND_US
from core.messages import Decided, Propose
from core.metadata import Change, ChangeId, Changes, Proposal
from core.ports import PeerId
from core.requests import Changed, Unready
from node.inside import Inside
from node.metadata_log import SMALL_BYTES_MAX, MetadataLog, lane_of

REPEAT_US: Final = SECOND_US // 2
REPEAT_MAX_US: Final = 4 * SECOND_US
"""How long an origin waits before it turns to the next voter: longer each time, for voters that all propose
the same get into each other's way if their rounds take long.
"""

QUEUED_US: Final = 10 * SECOND_US
CHANGE_TIMEOUT_US: Final = 10 * SECOND_US
"""A client that would wait longer hears after this long that there was no decision."""

ANSWER_AHEAD_US: Final = 20_000
"""How long before a deadline that is said, so that it still reaches the client."""

CHANGES_MAX: Final = 10_000
"""How many changes an origin has under way, and a voter in its queue, at most."""

Done = Callable[[Changed | Unready], None]

_encoder = msgspec.msgpack.Encoder()


class _Pending(msgspec.Struct):
    proposal: Proposal
    done: Done
    sent_us: int
    timer: int


class Origin:
    """Changes that were asked of this peer."""

    def __init__(self, inside: Inside, log: MetadataLog, queue: Queue) -> None:
        self._inside = inside
        self._log = log
        self._queue = queue
        self._me = inside.identity.peer
        self._pending: dict[ChangeId, _Pending] = {}
        self._sequence = 0
        self._turn = 0
        self._repeat_us = REPEAT_US
        self._repeating = False
        self.alive: Callable[[PeerId], bool] = lambda _: True
        inside.on_timer("metadata.repeat", self._on_repeat)
        inside.on_timer("metadata.deadline", self._on_deadline)
        log.on_adopted(self._on_adopted)

    def change(self, change: Change, done: Done, deadline_us: int) -> None:
        """Have a change decided; `done` is called once, a little before the deadline (monotonic) at last."""
        if len(self._pending) >= CHANGES_MAX:
            done(Unready(f"{CHANGES_MAX} schema changes are under way here: try again later"))
            return
        proposal = Proposal(self.next_id(), change)
        now_us = self._inside.world.monotonic_us()
        patience_us = min(deadline_us - ANSWER_AHEAD_US - now_us, CHANGE_TIMEOUT_US)
        timer = self._inside.timer(max(0, patience_us), "metadata.deadline", proposal.id)
        self._pending[proposal.id] = _Pending(proposal, done, now_us, timer)
        self._send([proposal], self._living_voters()[0])
        if not self._repeating:
            self._repeating = True
            self._repeat_us = REPEAT_US
            self._inside.timer(REPEAT_US, "metadata.repeat")

    def next_id(self) -> ChangeId:
        """An id for a change of this peer."""
        number = self._log.state.number_of(self._me)
        assert number is not None
        self._sequence += 1
        return number << 32 | self._inside.identity.start, self._sequence

    def _living_voters(self) -> list[PeerId]:
        voters = self._log.state.voters
        return [voter for voter in voters if voter == self._me or self.alive(voter)] or list(voters)

    def _send(self, proposals: list[Proposal], voter: PeerId) -> None:
        if voter == self._me:
            self._queue.add(proposals)
            return
        for batch in batches(proposals):
            message = Propose(batch)
            self._inside.send(voter, message, lane_of(message))

    def _on_repeat(self) -> None:
        self._repeating = bool(self._pending)
        if not self._pending:
            return
        now_us = self._inside.world.monotonic_us()
        late = [p for p in self._pending.values() if now_us - p.sent_us >= REPEAT_US // 2]
        if late:
            self._turn += 1
            voters = self._living_voters()
            self._send([pending.proposal for pending in late], voters[self._turn % len(voters)])
            self._repeat_us = min(2 * self._repeat_us, REPEAT_MAX_US)
        self._inside.timer(self._repeat_us + self._inside.world.below(REPEAT_US), "metadata.repeat")

    def _on_adopted(self) -> None:
        state = self._log.state
        for change in [change for change in self._pending if state.result(change) is not None]:
            self._repeat_us = REPEAT_US
            pending = self._pending.pop(change)
            self._inside.world.cancel_timer(pending.timer)
            result = state.result(change)
            assert result is not None
            pending.done(result)

    def _on_deadline(self, change: ChangeId) -> None:
        pending = self._pending.pop(change, None)
        if pending is not None:
            state = self._log.state
            names = ", ".join(m.name for m in map(state.member, state.voters) if m is not None)
            pending.done(
                Unready(
                    f"not decided in time: the majority of the voters {names} did not answer, "
                    "and the change may still be made later; reads and writes go on"
                )
            )


class _Queued(msgspec.Struct, frozen=True):
    proposal: Proposal
    until_us: int


class Queue:
    """What a voter is to propose, in the order in which it came."""

    def __init__(self, inside: Inside, log: MetadataLog, wake: Callable[[], None]) -> None:
        """`wake` is called when there is something to propose."""
        self._inside = inside
        self._log = log
        self._wake = wake
        self._queue: dict[ChangeId, _Queued] = {}
        inside.on_message(Propose, self._on_propose)
        log.on_adopted(self._prune)

    def __bool__(self) -> bool:
        self._prune()
        return bool(self._queue)

    def add(self, proposals: list[Proposal] | tuple[Proposal, ...]) -> None:
        """Propose these, or if they wait already, go on doing so."""
        until_us = self._inside.world.monotonic_us() + QUEUED_US
        for proposal in proposals:
            if proposal.id in self._queue or len(self._queue) < CHANGES_MAX:
                self._queue[proposal.id] = _Queued(proposal, until_us)
        self._wake()

    def batch(self) -> Changes | None:
        """The entry to propose now; None if nothing is left to propose."""
        self._prune()
        waiting = [queued.proposal for queued in list(self._queue.values())[: limits.METADATA_BATCH_MAX]]
        return Changes(batches(waiting)[0]) if waiting else None

    def _prune(self) -> None:
        """Drop what is decided, and what no origin wants any more."""
        now_us = self._inside.world.monotonic_us()
        state = self._log.state
        self._queue = {
            change: queued
            for change, queued in self._queue.items()
            if queued.until_us > now_us and state.result(change) is None
        }

    def _on_propose(self, peer: PeerId, message: Propose) -> None:
        state = self._log.state
        if state.member(peer) is None or self._inside.identity.peer not in state.voters:
            return
        fresh: list[Proposal] = []
        decided: dict[int, None] = {}
        for proposal in message.proposals:
            result = state.result(proposal.id)
            if result is None:
                fresh.append(proposal)
            else:
                decided[result.epoch] = None
        for number in list(decided)[: limits.METADATA_ENTRIES_PER_PULL]:
            news = Decided((self._log.epoch(number),))
            self._inside.send(peer, news, lane_of(news))
        if fresh:
            self.add(fresh)


def batches(proposals: list[Proposal]) -> list[tuple[Proposal, ...]]:
    """Cut proposals into parts that fit an epoch and a small frame; each has at least one."""
    parts: list[list[Proposal]] = []
    size = 0
    for proposal in proposals:
        own = len(_encoder.encode(proposal))
        full = not parts or len(parts[-1]) >= limits.METADATA_BATCH_MAX or size + own > SMALL_BYTES_MAX
        if full:
            parts.append([])
            size = 0
        parts[-1].append(proposal)
        size += own
    return [tuple(part) for part in parts]
