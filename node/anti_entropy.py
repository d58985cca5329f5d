"""Anti-entropy: hash trees check that siblings hold the same, and mend what their logs no longer have.

Following (node/following.py) makes replicas equal as long as logs reach back. What is older, or was lost to
damage, is found by comparing hash trees: the leaves are equal slices of the token space, and vnodes end
where leaves end.

A **job** is one sibling, one table, one run of leaves that both replicate. It costs one question and one
answer if nothing differs, and jobs are taken in turn, one every `anti_entropy_pause_us` whatever their
number, so an idle cluster's traffic is constant per peer. Jobs that somebody asked for (a gap in a log,
damaged rows) go first.

Where the hashes differ the sibling's log is followed first, since a mutation under its own id is better
than its state. Then the run descends by `TREE_FANOUT` to leaves, lets what is in flight arrive, and
compares the rows of the leaves that differed: what the sibling lacks is sent to it, what we lack is merged
here, both only where rows differ, and no more than `ROWS_PER_SECOND_MAX` are looked at. A part that is
empty on one side is not descended into.

Every question may be asked again and every repair made twice: merging is idempotent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from core import limits
from core.commands import Failed, Hashes, Outcome, TreeHashes
from core.healing_messages import TreeAnswer, TreeAsk
from core.messages import OperationFailed, Stale
from core.ports import PeerId, TimerId
from node.following import Following
from node.inside import Inside
from node.tree_run import TreeRun
from node.views import MetadataView, SwimView
from ring.tokens import slice_end, slice_of, slice_start

URGENT_PAUSE_US = 50_000
"""Between two jobs that somebody asked for."""

Span = tuple[int, int]
"""Leaves [first, end)."""


@dataclass(slots=True, eq=False)
class Job:
    """Compare the leaves [first, end) of a table with a sibling's; `done` is called when both were made
    equal.
    """

    peer: PeerId
    table: int
    first: int
    end: int
    done: Callable[[], None] | None = None
    urgent: bool = False


class AntiEntropy:
    """Compares with all neighbours in turn, and serves their questions."""

    def __init__(self, inside: Inside, metadata: MetadataView, swim: SwimView, following: Following) -> None:
        """Register, and be the one whom `following` asks to mend gaps."""
        self.inside = inside
        self.metadata = metadata
        self.swim = swim
        self.following = following
        self.me = inside.identity.peer
        self._urgent: deque[Job] = deque()
        self._gaps: dict[PeerId, Callable[[], None]] = {}
        self._mending: dict[PeerId, int] = {}
        self._urgent_failed = False
        self._cycle: deque[Job] = deque()
        self._run: TreeRun | None = None
        self._timer: TimerId | None = None
        self._equal_us: dict[tuple[PeerId, int, int, int], int] = {}
        self._failing: dict[tuple[PeerId, int], str] = {}
        following.on_gap = self.mend_gap
        inside.on_message(TreeAsk, self._on_ask)
        inside.on_timer("tree_next", self._on_next)
        inside.on_timer("tree_step", lambda op: self._with_run(op, TreeRun.on_pause_over))
        inside.on_timer("tree_timeout", lambda op: self._with_run(op, TreeRun.on_timeout))
        inside.on_stored("tree_own", self._on_own)
        inside.on_stored("tree_serve", self._on_served)

    def start(self) -> None:
        """Begin, at a moment of this peer's own."""
        pause_us = self.inside.settings.anti_entropy_pause_us
        if self._timer is None:
            self._timer = self.inside.timer(1 + self.inside.world.below(pause_us), "tree_next")

    def status(self) -> dict[tuple[PeerId, int], int | None]:
        """Per sibling and table: the time (monotonic) since which all shared ranges are proven equal; None:
        not yet.
        """
        found: dict[tuple[PeerId, int], int | None] = {}
        for job in self._all_jobs():
            key = (job.peer, job.table)
            at_us = self._equal_us.get(_key(job))
            before_us = found.get(key, at_us)
            found[key] = None if at_us is None or before_us is None else min(at_us, before_us)
        return found

    def proven(self) -> list[tuple[PeerId, int, int, int, int | None]]:
        """(sibling, table, first and last token, the time (monotonic) since which they are proven equal)."""
        return [
            (
                job.peer,
                job.table,
                slice_start(job.first),
                slice_end(job.end - 1),
                self._equal_us.get(_key(job)),
            )
            for job in self._all_jobs()
        ]

    def compare(self, table: int) -> int:
        """Compare all of a table with all siblings soon; returns how many comparisons that takes."""
        jobs = [job for job in self._all_jobs() if job.table == table]
        for job in jobs:
            self._add_urgent(job)
        return len(jobs)

    # --- asking for a comparison

    def request(self, table: int, first_token: int, last_token: int) -> None:
        """Compare these tokens (inclusive) with every sibling soon: the store has found damage there."""
        first, end = slice_of(first_token), slice_of(last_token) + 1
        for peer in self.metadata.state.neighbours(self.me):
            for a, b in self._spans(peer, table):
                if max(a, first) < min(b, end):
                    self._add_urgent(Job(peer, table, max(a, first), min(b, end), None, urgent=True))

    def mend_gap(self, peer: PeerId, done: Callable[[], None]) -> None:
        """Make all that is shared with this sibling equal, then call `done`.

        Called again for the same sibling before that has begun, the later call takes the place of the
        earlier; what has begun is finished first, so that gaps which keep coming do not pile up.
        """
        self._gaps[peer] = done
        self._hurry()

    def _plan_gaps(self) -> None:
        for peer in [peer for peer in self._gaps if peer not in self._mending]:
            done = self._gaps.pop(peer)
            one_done = partial(self._mended, peer, done)
            jobs = [
                Job(peer, table, first, end, one_done, urgent=True)
                for table in sorted(self.metadata.state.tables)
                for first, end in self._spans(peer, table)
            ]
            if jobs:
                self._mending[peer] = len(jobs)
                self._urgent.extend(jobs)
            else:
                done()

    def _mended(self, peer: PeerId, done: Callable[[], None]) -> None:
        """One of the jobs of a gap is done."""
        self._mending[peer] -= 1
        if not self._mending[peer]:
            del self._mending[peer]
            done()

    def add(self, job: Job) -> None:
        """Have this job, which is urgent, done until it is; its `done` is called then."""
        self._urgent.append(job)
        self._hurry()

    def _add_urgent(self, job: Job) -> None:
        same = _key(job)
        if not any(_key(other) == same for other in self._urgent):
            self._urgent.append(job)
            self._hurry()

    def _hurry(self) -> None:
        """Do not wait for the next turn."""
        if self._run is None and self._timer is not None:
            self.inside.world.cancel_timer(self._timer)
            self._timer = self.inside.timer(URGENT_PAUSE_US, "tree_next")

    # --- taking jobs in turn

    def _spans(self, peer: PeerId, table: int) -> Iterable[Span]:
        placement = self.metadata.state.placement(table)
        ranges = placement.common_ranges(self.me, peer) if placement is not None else ()
        return tuple((slice_of(first), slice_of(last) + 1) for first, last in ranges)

    def _all_jobs(self) -> list[Job]:
        state = self.metadata.state
        if self.metadata.unready:
            return []
        return [
            Job(peer, table, first, end)
            for peer in state.neighbours(self.me)
            for table in sorted(state.tables)
            for first, end in self._spans(peer, table)
        ]

    def _on_next(self) -> None:
        self._timer = None
        job = None
        if not self.metadata.unready:
            self._plan_gaps()
            job = self._take()
        if job is None:
            self._timer = self.inside.timer(self.inside.settings.anti_entropy_pause_us, "tree_next")
            return
        self._run = TreeRun(self, job)
        self._run.begin()

    def _take(self) -> Job | None:
        """The first job that was asked for and can be done now, else the next in turn."""
        urgent = 0 if self._urgent_failed and self._cycle else len(self._urgent)
        self._urgent_failed = False  # what cannot be mended for now takes every second turn only
        for _ in range(urgent):
            job = self._urgent.popleft()
            if self.metadata.state.placement(job.table) is None:
                if job.done is not None:
                    job.done()  # a dropped table has nothing to be mended
            elif self.swim.is_alive(job.peer):
                return job
            elif self.metadata.state.number_of(job.peer) is not None:
                self._urgent.append(job)
        if not self._cycle:
            self._cycle.extend(self._all_jobs())
            kept = {_key(job): None for job in self._cycle}
            self._equal_us = {key: at_us for key, at_us in self._equal_us.items() if key in kept}
        while self._cycle:
            job = self._cycle.popleft()
            if self.swim.is_alive(job.peer) and self.metadata.state.placement(job.table) is not None:
                return job
        return None

    def ended(self, job: Job, equal: bool, failure: str | None) -> None:
        """A run is over: found equal from the first; or made so; or it failed (None: it did not)."""
        self._run = None
        key = (job.peer, job.table)
        if failure is None:
            self._failing.pop(key, None)
            if job.done is not None:
                job.done()
        else:
            if failure and self._failing.get(key) != failure:
                self._failing[key] = failure
                text = f"table {job.table} cannot be compared for now: {failure}"
                self.inside.log("warning", "anti_entropy_failed", text, job.peer.hex())
            if job.urgent:
                self._urgent.append(job)
                self._urgent_failed = True
        if equal:
            self._equal_us[_key(job)] = self.inside.world.monotonic_us()
        urgent = bool(self._urgent or self._gaps) and failure is None
        pause_us = URGENT_PAUSE_US if urgent else self.inside.settings.anti_entropy_pause_us
        self._timer = self.inside.timer(pause_us, "tree_next")

    def _with_run(self, op: int, call: Callable[[TreeRun], None]) -> None:
        if self._run is not None and self._run.op == op:
            call(self._run)

    def _on_own(self, outcome: Outcome, op: int) -> None:
        if self._run is not None and self._run.op == op:
            self._run.on_own(outcome)

    # --- serving

    def _on_ask(self, peer: PeerId, message: TreeAsk) -> None:
        metadata, inside = self.metadata, self.inside
        if message.epoch > metadata.state.epoch:
            metadata.catch_up(peer, message.epoch, lambda: self._on_ask(peer, message))
            return
        lacking = None
        if message.epoch < metadata.state.epoch:
            lacking = metadata.stale_for(message.table, message.epoch)
        if lacking is not None:
            inside.send(peer, Stale(message.op, lacking))
        elif metadata.state.placement(message.table) is None:
            inside.send(peer, OperationFailed(message.op, "no_such_table", "there is no such table here"))
        elif not 0 < message.parts <= limits.TREE_FANOUT or len(message.also) >= limits.TREE_SPANS_MAX:
            inside.send(
                peer, OperationFailed(message.op, "overloaded", "a tree is asked for in too many parts")
            )
        else:
            span = message.first, message.end, message.parts
            command = TreeHashes(message.table, *span, also=message.also)
            inside.submit(("tree_serve", peer, message.op), command)

    def _on_served(self, outcome: Outcome, peer: PeerId, op: int) -> None:
        if isinstance(outcome, Hashes):
            self.inside.send(peer, TreeAnswer(op, outcome.hashes))
        else:
            assert isinstance(outcome, Failed), outcome
            self.inside.send(peer, OperationFailed(op, outcome.why, outcome.detail))


def _key(job: Job) -> tuple[PeerId, int, int, int]:
    """What two jobs have in common that do the same."""
    return job.peer, job.table, job.first, job.end
