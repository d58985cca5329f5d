"""Anti-entropy: hash trees check that siblings hold the same, and mend what their logs no longer have.

Following (node/following.py) makes replicas equal as long as logs reach back. What is older, or was lost to
damage, is found by comparing hash trees: the leaves are equal slices of the token space, and vnodes end
where leaves end.

A **job** is one sibling, one table, and all runs of leaves that both replicate. It costs a question and an
answer or two if nothing differs, and jobs are taken in turn, one every `anti_entropy_pause_us` whatever their
number, so an idle cluster's traffic is constant per peer. (One job per run of leaves would take twenty times
as long until everything was compared once: hours for some dozens of tables.)

Jobs that somebody asked for (a gap in a log, damaged rows) go first. Where round trips are long these would
take minutes one by one, so `RUNS_MAX` of them, of different tables, are under way at once (of one table the
second sibling has nothing left to send when the first was merged). One that fails waits for its next try
without being in the way of the others, in single runs of leaves, of which one that is refused holds up no
other.

Where the hashes differ the sibling's log is followed first, since a mutation under its own id is better
than its state. Then the run descends to parts that hold few rows, lets what is in flight arrive, and
compares these by the hashes of their rows: what the sibling lacks is sent to it, what we lack is merged
here, both only where rows differ, and no more than `ROWS_PER_SECOND_MAX` are looked at. A part that is
empty on one side is not descended into.

Every question may be asked again and every repair made twice: merging is idempotent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from core import limits
from core.commands import Failed, Hashes, Outcome, Rows, TreeHashes, Why
from core.healing import ReadLeaves
from core.healing_messages import RowsAsk, RowsTold, TreeAnswer, TreeAsk
from core.messages import OperationFailed, Stale
from core.ports import PeerId, TimerId
from node.comparing import Span, pack_hashes, told_rows, unpack_spans
from node.following import Following
from node.inside import Inside
from node.tree_run import TreeRun
from node.views import MetadataView, SwimView, lane_for
from ring.tokens import slice_end, slice_of, slice_start

URGENT_PAUSE_US = 50_000
"""Between two jobs that somebody asked for."""

RUNS_MAX = 4
"""Comparisons under way at once; the rate of the rows looked at is shared by them."""


@dataclass(slots=True, eq=False)
class Job:
    """Compare leaves of a table with a sibling's; `done` is called with the spans that were made equal, with
    all at once or with one after the other, until it was called with each.
    """

    peer: PeerId
    table: int
    spans: tuple[Span, ...]
    done: Callable[[Sequence[Span]], None] | None = None
    urgent: bool = False
    again_us: int = 0
    """Not to be tried before this time (monotonic)."""

    def pieces(self) -> Iterable[tuple[PeerId, int, int, int]]:
        """Sibling, table, and leaves, of each span."""
        return ((self.peer, self.table, first, end) for first, end in self.spans)


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
        self._cycle: deque[Job] = deque()
        self._runs: list[TreeRun] = []
        self._timer: TimerId | None = None
        self._due_us = 0
        self._equal_us: dict[tuple[PeerId, int, int, int], int] = {}
        self._failing: dict[tuple[PeerId, int], str] = {}
        following.on_gap = self.mend_gap
        inside.on_message(TreeAsk, self._on_ask)
        inside.on_message(RowsAsk, self._on_rows_ask)
        inside.on_timer("tree_next", self._on_next)
        inside.on_timer("tree_step", lambda op: self._with_run(op, TreeRun.on_pause_over))
        inside.on_timer("tree_timeout", lambda op: self._with_run(op, TreeRun.on_timeout))
        inside.on_stored("tree_own", self._on_own)
        inside.on_stored("tree_serve", self._on_served)
        inside.on_stored("tree_rows_serve", self._on_rows_served)

    def start(self) -> None:
        """Begin, at a moment of this peer's own."""
        pause_us = self.inside.settings.anti_entropy_pause_us
        if self._timer is None:
            self._wait(1 + self.inside.world.below(pause_us))

    def status(self) -> dict[tuple[PeerId, int], int | None]:
        """Per sibling and table: the time (monotonic) since which all shared ranges are proven equal; None:
        not yet.
        """
        found: dict[tuple[PeerId, int], int | None] = {}
        for peer, table, _, _, at_us in self.proven():
            key = (peer, table)
            before_us = found.get(key, at_us)
            found[key] = None if at_us is None or before_us is None else min(at_us, before_us)
        return found

    def proven(self) -> list[tuple[PeerId, int, int, int, int | None]]:
        """(sibling, table, first and last token, the time (monotonic) since which they are proven equal)."""
        return [
            (*piece[:2], slice_start(piece[2]), slice_end(piece[3] - 1), self._equal_us.get(piece))
            for job in self._all_jobs()
            for piece in job.pieces()
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
            shared = self.spans(peer, table)
            spans = [(max(a, first), min(b, end)) for a, b in shared if max(a, first) < min(b, end)]
            if spans:
                self._add_urgent(Job(peer, table, tuple(spans), urgent=True))

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
                Job(peer, table, spans, one_done, urgent=True)
                for table in sorted(self.metadata.state.tables)
                if (spans := self.spans(peer, table))
            ]
            if jobs:
                self._mending[peer] = sum(len(job.spans) for job in jobs)
                self._urgent.extend(jobs)
            else:
                done()

    def _mended(self, peer: PeerId, done: Callable[[], None], spans: Sequence[Span]) -> None:
        """Some spans of a gap are done."""
        self._mending[peer] -= len(spans)
        if not self._mending[peer]:
            del self._mending[peer]
            done()

    def add(self, job: Job) -> None:
        """Have this job, which is urgent, done until it is; its `done` is called then."""
        self._urgent.append(job)
        self._hurry()

    def _add_urgent(self, job: Job) -> None:
        if not any((job.peer, job.table, job.spans) == (o.peer, o.table, o.spans) for o in self._urgent):
            self._urgent.append(job)
            self._hurry()

    def _hurry(self) -> None:
        """Do not wait for the next turn."""
        soon_us = self.inside.world.monotonic_us() + URGENT_PAUSE_US
        if self._timer is not None and self._due_us > soon_us:
            self.inside.world.cancel_timer(self._timer)
            self._wait(URGENT_PAUSE_US)

    def _wait(self, pause_us: int) -> None:
        self._due_us = self.inside.world.monotonic_us() + pause_us
        self._timer = self.inside.timer(pause_us, "tree_next")

    # --- taking jobs in turn

    def spans(self, peer: PeerId, table: int) -> tuple[Span, ...]:
        """Runs of leaves of a table that this sibling and we are written to."""
        placement = self.metadata.state.placement(table)
        ranges = placement.common_ranges(self.me, peer) if placement is not None else ()
        return tuple((slice_of(first), slice_of(last) + 1) for first, last in ranges)

    def _all_jobs(self) -> list[Job]:
        state = self.metadata.state
        if self.metadata.unready:
            return []
        return [
            Job(peer, table, spans)
            for peer in state.neighbours(self.me)
            for table in sorted(state.tables)
            if (spans := self.spans(peer, table))
        ]

    def _on_next(self) -> None:
        pause_us = self.inside.settings.anti_entropy_pause_us
        if not self.metadata.unready and len(self._runs) < RUNS_MAX:
            self._plan_gaps()
            job = self._take_urgent()
            if job is not None:
                pause_us = URGENT_PAUSE_US
            elif not self._runs:
                job = self._take_in_turn()
            if job is not None:
                run = TreeRun(self, job)
                self._runs.append(run)
                run.begin()
        self._wait(pause_us)

    def _take_urgent(self) -> Job | None:
        """The first job that was asked for and can be done now."""
        now_us = self.inside.world.monotonic_us()
        busy = [run.job.table for run in self._runs]
        for _ in range(len(self._urgent)):
            job = self._urgent.popleft()
            if self.metadata.state.placement(job.table) is None:
                if job.done is not None:
                    job.done(job.spans)  # a dropped table has nothing to be mended
            elif self.metadata.state.number_of(job.peer) is not None:
                if self.swim.is_alive(job.peer) and job.again_us <= now_us and job.table not in busy:
                    return job
                self._urgent.append(job)
        return None

    def _take_in_turn(self) -> Job | None:
        """The next job of the cycle over all."""
        if not self._cycle:
            self._cycle.extend(self._all_jobs())
            kept = {key: None for job in self._cycle for key in job.pieces()}
            self._equal_us = {key: at_us for key, at_us in self._equal_us.items() if key in kept}
        while self._cycle:
            job = self._cycle.popleft()
            if self.swim.is_alive(job.peer) and self.metadata.state.placement(job.table) is not None:
                return job
        return None

    def ended(self, run: TreeRun, equal: Sequence[Span], failure: str | None) -> None:
        """A run is over: these spans were found equal, others made so; or it failed (None: it did not)."""
        self._runs.remove(run)
        job, key = run.job, (run.job.peer, run.job.table)
        if failure is None:
            self._failing.pop(key, None)
            if job.done is not None:
                job.done(job.spans)
        else:
            if failure and self._failing.get(key) != failure:
                self._failing[key] = failure
                text = f"table {job.table} cannot be compared for now: {failure}"
                self.inside.log("warning", "anti_entropy_failed", text, job.peer.hex())
            if job.urgent:
                self._again(job, refused=bool(failure))
        now_us = self.inside.world.monotonic_us()
        self._equal_us.update(((job.peer, job.table, *span), now_us) for span in equal)
        if self._urgent or self._gaps:
            self._hurry()

    def _again(self, job: Job, refused: bool) -> None:
        """Try a job again, after a while; span by span if something in it was refused."""
        again_us = self.inside.world.monotonic_us() + self.inside.settings.anti_entropy_pause_us
        parts = [(span,) for span in job.spans] if refused else [job.spans]
        self._urgent.extend(Job(job.peer, job.table, spans, job.done, True, again_us) for spans in parts)

    @property
    def runs(self) -> int:
        """How many comparisons are under way."""
        return len(self._runs)

    def _with_run(self, op: int, call: Callable[[TreeRun], None]) -> None:
        for whole in self._runs:
            for run in (whole, *whole.lanes):
                if run.op == op:
                    call(run)
                    return

    def _on_own(self, outcome: Outcome, op: int) -> None:
        self._with_run(op, lambda run: run.on_own(outcome))

    # --- serving

    def _is_served(self, peer: PeerId, message: TreeAsk | RowsAsk) -> bool:
        """Whether to answer now; if not, it is refused, or parked until we have caught up."""
        metadata, inside = self.metadata, self.inside
        if message.epoch > metadata.state.epoch:
            handler = inside.message_handlers[type(message)]
            metadata.catch_up(peer, message.epoch, lambda: handler(peer, message))
            return False
        lacking = None
        if message.epoch < metadata.state.epoch:
            lacking = metadata.stale_for(message.table, message.epoch)
        if lacking is not None:
            inside.send(peer, Stale(message.op, lacking))
        elif metadata.state.placement(message.table) is None:
            inside.send(peer, OperationFailed(message.op, "no_such_table", "there is no such table here"))
        elif len(message.spans) > 2 * limits.TREE_SPANS_MAX:
            self._refuse(peer, message.op, "a tree is asked for in too many parts")
        else:
            return True
        return False

    def _refuse(self, peer: PeerId, op: int, text: str) -> None:
        self.inside.send(peer, OperationFailed(op, "overloaded", text))

    def _on_ask(self, peer: PeerId, message: TreeAsk) -> None:
        if self._is_served(peer, message):
            try:
                spans = unpack_spans(message.spans)
                if not 0 < message.parts <= limits.TREE_FANOUT:
                    raise ValueError("a tree is asked for in too many parts")
            except ValueError as error:
                self._refuse(peer, message.op, str(error))
                return
            ticket = "tree_serve", peer, message.op, message.salt
            self.inside.submit(ticket, TreeHashes(message.table, spans, message.parts))

    def _on_served(self, outcome: Outcome, peer: PeerId, op: int, salt: int) -> None:
        if isinstance(outcome, Hashes):
            self.inside.send(peer, TreeAnswer(op, pack_hashes(outcome.hashes, salt)))
        else:
            self._failed(outcome, peer, op)

    def _on_rows_ask(self, peer: PeerId, message: RowsAsk) -> None:
        if self._is_served(peer, message):
            try:
                spans = unpack_spans(message.spans)
            except ValueError as error:
                self._refuse(peer, message.op, str(error))
                return
            command = ReadLeaves(message.table, spans, message.after, message.until)
            self.inside.submit(("tree_rows_serve", peer, message), command)

    def _on_rows_served(self, outcome: Outcome, peer: PeerId, asked: RowsAsk) -> None:
        metadata, op, lacking_epochs = self.metadata, asked.op, None
        if asked.epoch < metadata.state.epoch:
            lacking_epochs = metadata.stale_for(asked.table, asked.epoch)
        if lacking_epochs is not None:  # rows moved while this waited in our queues
            self.inside.send(peer, Stale(op, lacking_epochs))
        elif isinstance(outcome, Rows):
            until = outcome.rows[-1][0] if outcome.more else b""
            rows, lacking = told_rows(outcome.rows, asked.hashes, asked.salt)
            size = sum(len(key) + len(data) + 16 for key, data in rows)
            told = RowsTold(op, rows, lacking, until, outcome.settled_us)
            self.inside.send(peer, told, lane_for(size))
        else:
            assert isinstance(outcome, Failed), outcome
            if outcome.why is Why.CORRUPT and self.inside.on_damage is not None:
                spans = unpack_spans(asked.spans)
                self.inside.log("error", "damaged_data", outcome.detail)
                self.inside.on_damage(asked.table, slice_start(spans[0][0]), slice_end(spans[-1][1] - 1))
            self._failed(outcome, peer, op)

    def _failed(self, outcome: Outcome, peer: PeerId, op: int) -> None:
        assert isinstance(outcome, Failed), outcome
        self.inside.send(peer, OperationFailed(op, outcome.why, outcome.detail))
