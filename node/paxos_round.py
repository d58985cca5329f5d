"""One conditional update, or one SERIAL read, from its first promise to its answer.

    look ----------------------------------------> answered (a read that found nothing to finish)
    prepare -> fetch -> catch up ----------------> prepare   a replica lacked the last commit
            -> accept ---------------------------> prepare   somebody's proposal was not finished
            -> accept (empty) -------------------> answered  condition false, or read
            -> accept (ours) -> commit ----------> answered  applied

Each phase is one message to every live replica and a quorum of answers (a `view`, see node/paxos_view.py). It
has an operation number of its own, so late answers to an earlier one find nobody. The rules:

- *What is decided stays what it was.* An unfinished proposal is finished as it is: its bytes, with their
  mutation id and version, under our ballot.
- *A false condition is a decision too.* It is answered at once only if the quorum shows nothing newer than
  its last commit: no ballot promised, no row written. Otherwise an empty proposal goes first, which ends what
  else was under way below its ballot. The same for reads; and a read looks, without a promise and without
  writing anything, before it takes a ballot. If all it found in the way are rows newer than the last commit
  (written without conditions), it looks again: if nobody has begun anything meanwhile, what it read at
  different times from different replicas was one state.
- *We know our own.* A proposal of ours that got lost in a fight may be finished by a rival. Each further
  prepare asks whether one of them is in the replica's log: whatever is decided is applied on every replica of
  a promise quorum before anything newer is proposed, so a settled view tells for certain. A ballot that then
  wins kills what was not decided. So `applied` is exact, however often it was tried.
- *A timeout is unknown* if something of ours was proposed, and then a SERIAL read settles it: our promises
  are newer than the last commit in every quorum, so the read finishes the proposal or ends it.

Who lost to a rival waits a random time, which grows with each defeat, and begins again above the ballot that
defeated it. (A request cannot be handed to another coordinator: its condition is a function.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from core import limits
from core.cell import Version
from core.commands import (
    NO_BALLOT,
    Ballot,
    PaxosAccept,
    PaxosAccepted,
    PaxosCommit,
    PaxosFetch,
    PaxosFetched,
    PaxosPrepare,
    PaxosRefused,
    Promised,
    Slice,
    Why,
)
from core.errors import unforeseen
from core.messages import MutationApplied, OperationFailed, SliceRead, Stale
from core.mutation import MutationId, encode_mutation
from core.ports import PeerId
from core.requests import (
    Broken,
    Decide,
    Invalid,
    Judged,
    Overloaded,
    ReadRow,
    RowsRead,
    Timeout,
    Unavailable,
    WriteRequest,
)
from core.row import OPERATION_SUFFIX, exists
from node.mutation_building import build
from node.paxos_phases import (
    ACCEPT,
    CATCH_UP,
    COMMIT,
    CONFIRM,
    FETCH,
    LOOK,
    PREPARE,
    WAITING,
    Aim,
    Phases,
)
from node.paxos_view import View, newest_read, view_of
from node.slices import SliceResult, merge_slices
from node.tally import Tally
from node.writes import check as check_write, no_such_table

if TYPE_CHECKING:
    from node.paxos import Paxos

LOOKS_MAX = 3
"""So often a read looks and finds replicas that differ before it takes a ballot."""
BACK_OFF_MAX_US = 300_000
OURS_MAX = 64
"""So many proposals of its own an operation makes at most; each prepare asks for all of them."""


class Proposal(msgspec.Struct, frozen=True):
    """A mutation of ours that was proposed, and what it was judged by."""

    ballot: Ballot
    id: MutationId
    version: Version
    data: bytes
    reads: tuple[RowsRead, ...]


class CasOperation(Phases):
    """See above. `finish` is called with Judged, with a SliceResult for a read, or with a refusal."""

    def __init__(self, parent: Paxos, aim: Aim, deadline_us: int, finish: Callable[[Any], None]) -> None:
        """As Phases."""
        super().__init__(parent, aim, deadline_us, finish)
        self._defeats = 0
        self._looks = 0
        self._looked = NO_BALLOT
        self._queued = False
        self._ours: list[Proposal] = []
        self._proposing: Proposal | None = None
        self._result: Any = None
        self._view: View | None = None

    @property
    def _reading(self) -> bool:
        return self.aim.decide is None

    # --- beginning

    def look(self) -> None:
        """A read begins: nothing is promised."""
        if self._plan():
            self._looks += 1
            self._ask(LOOK, self._prepare_step(NO_BALLOT, self.aim.slices), self._targets)

    def turn(self) -> None:
        """No other operation of this peer is at work on the partition."""
        self._again()

    def shed(self) -> None:
        """There was no place in the queue."""
        text = f"{limits.PAXOS_QUEUE_MAX} conditional updates of this partition wait already: try again"
        self._end(Overloaded(text))

    def _again(self) -> None:
        """A new ballot, above all that was seen."""
        if not self._plan():
            return
        if len(self._ours) >= OURS_MAX:
            self._phase = WAITING
            self.on_deadline()
            return
        op = self._pause()
        self._arm(max(1_000, self._timeout_us // 2))

        def stamped(stamp_us: int) -> None:
            if self._op == op and self.is_outdated():
                self._again()
            elif self._op == op and self._finish is not None:
                self._ballot = self._new_ballot(stamp_us)
                step = self._prepare_step(self._ballot, self.aim.slices)
                self._ask(PREPARE, step, self._targets)

        self._parent.writes.stamps.take(stamped, self._no_stamp)

    def _new_ballot(self, stamp_us: int) -> Ballot:
        return (stamp_us, self._parent.writes.writer)

    def _no_stamp(self, why: str) -> None:
        if self._finish is not None and self._phase != COMMIT:
            self._end(self._broken(why) if self._ours else Overloaded(why))

    def _prepare_step(self, ballot: Ballot, slices: tuple[Slice, ...]) -> PaxosPrepare:
        ids = tuple(proposal.id for proposal in self._ours)
        return PaxosPrepare(self.aim.table, self.aim.partition, ballot, slices, ids)

    def on_phase_timer(self, op: int) -> None:
        """Too few have answered, or it is time to try again."""
        if op == self._op and self._phase != COMMIT:
            self._restart()

    def _restart(self) -> None:
        if self._queued or not self._reading:
            self._again()
        else:
            self.look()

    # --- answers

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer to the present phase (those to an earlier one are not found)."""
        if message.op != self._op or peer not in self._pending:
            return
        kind = type(message)
        if kind is Stale:
            self._on_stale(peer)
            return
        outcome = getattr(message, "outcome", None)
        if isinstance(outcome, PaxosRefused) and self._phase == PREPARE and outcome.promised == self._ballot:
            return  # the message was doubled: the promise is on its way
        self._pending.remove(peer)
        if kind is OperationFailed:
            self._on_failed(peer, message)
        elif kind is MutationApplied:
            self._on_applied(peer)
        elif isinstance(outcome, PaxosRefused):
            self._on_refused(outcome)
        elif isinstance(outcome, Promised):
            self._promises[peer] = outcome
            if self._tally.add(peer):
                self._on_view()
        elif isinstance(outcome, PaxosAccepted):
            if self._tally.add(peer):
                self._on_decided()
        elif isinstance(outcome, PaxosFetched):
            self._on_fetched(outcome.data)

    def _on_stale(self, peer: PeerId) -> None:
        """The epochs that we lacked are adopted by now: what is promised and accepted needs one epoch."""
        if self._phase in (PREPARE, ACCEPT):
            self._again()
        elif self._parent.metadata.state.placement(self.aim.table) is None:
            self._end(no_such_table())
        else:
            self._send(peer)

    def _on_failed(self, peer: PeerId, message: OperationFailed) -> None:
        self._failed[peer] = message
        if self._phase == COMMIT:
            self._hint(peer)
        elif message.why == "no_such_table" and peer == self._parent.me:
            self._end(no_such_table())
            return
        self._give_up_if_hopeless()

    def _on_refused(self, refusal: PaxosRefused) -> None:
        """Somebody is ahead of this ballot: above it next time."""
        self._parent.inside.clock.observe(max(refusal.promised, refusal.committed)[0])
        if self._is_hopeless():
            if refusal.promised <= refusal.committed:
                self._again()  # our clock was behind; there is no rival
            else:
                self._back_off()

    def on_moved(self) -> None:
        """Where rows live has changed: a round has one plan; a commit is brought to whom it concerns now."""
        if not self.is_outdated() or self._phase == WAITING:
            return
        if self._phase != COMMIT:
            self._restart()
            return
        parent, aim = self._parent, self.aim
        placement = parent.metadata.state.placement(aim.table)
        assert placement is not None, "it is outdated"
        before, self._replicas = self._replicas, placement.writers(aim.token)
        self._placement = placement
        self._wanted = placement.need(aim.level, aim.token, self._local)
        acknowledged, self._tally = self._tally.peers, Tally(self._wanted, placement, self._local)
        for peer in acknowledged:
            if peer in self._replicas:
                self._tally.add(peer)
        self._pending = [peer for peer in self._pending if peer in self._replicas]
        for peer in self._replicas:
            if peer in before or peer in acknowledged:
                continue
            if parent.swim.is_alive(peer):
                self._pending.append(peer)
                self._send(peer)
            else:
                self._hint(peer)
        if self._tally.met:
            self._applied()
        self._close_if_all_answered()

    def _give_up_if_hopeless(self) -> None:
        """Failures, not rivals, leave too few replicas for this phase."""
        if self._phase in (FETCH, CATCH_UP):
            self._back_off()
            return
        text = "; ".join(dict.fromkeys(f.detail for f in self._failed.values()))
        hopeless = not self._tally.met and self._is_hopeless()
        if self._phase == COMMIT:
            if hopeless and self._finish is not None:
                self._answer(self._broken(text))
            self._close_if_all_answered()
        elif hopeless:
            shed = all(f.why in ("overloaded", Why.STALLED) for f in self._failed.values())
            self._end(Overloaded(text) if shed and not self._ours else self._broken(text))

    def _unsettled(self, refusal: Unavailable | Invalid, why: str) -> Broken | Unavailable | Invalid:
        return self._broken(why) if self._ours else refusal

    def _broken(self, text: str) -> Broken:
        unknown = bool(self._ours)
        received, required = self._tally.received, self._wanted.total
        return Broken(received, required, len(self._failed), text, write=not self._reading, unknown=unknown)

    def _back_off(self) -> None:
        """Wait for a random time, longer after each defeat, in measures of how long an attempt takes."""
        inside = self._parent.inside
        if self._finish is None:
            self._end(None)
            return
        inside.count("paxos_defeats")
        if self.aim.trace is not None:
            self.aim.trace.tell("A rival's ballot is higher, or a replica failed: trying again after a pause")
        spent_us = inside.world.monotonic_us() - self._began_us + 1_000
        self._defeats += 1
        most_us = min(spent_us << min(self._defeats, 6), BACK_OFF_MAX_US)
        self._pause()
        self._arm(1 + inside.world.below(most_us))

    # --- what a quorum says

    def _on_view(self) -> None:
        self._pending = []  # who comes late is not heard
        self._view = view = view_of(self._promises)
        if self._phase == CONFIRM:
            self._on_confirmed(view)
            return
        for index, proposal in enumerate(self._ours):
            if any(promise.holds[index] for promise in self._promises.values()):
                self._won(proposal, proposal.ballot)  # a rival has finished it for us
                return
        if self._phase == LOOK and not (view.quiet and (view.settled or self._looks < LOOKS_MAX)):
            self._take_ballot()
        elif view.unfinished != NO_BALLOT:
            told = self._promises[view.holder].proposal
            if told:
                self._finish_for(told)
            else:
                self._fetch(view.unfinished, view.holder, committed=False)
        elif view.behind:
            self._fetch(view.committed, view.ahead, committed=True)
        else:
            self._judge(view)

    def _take_ballot(self) -> None:
        """A read has found something that only a ballot can settle."""
        if self._queued:
            self._again()
            return
        self._queued = True
        self._pause()
        self._parent.queue(self)

    def _fetch(self, ballot: Ballot, peer: PeerId, committed: bool) -> None:
        self._ask(FETCH, PaxosFetch(self.aim.table, self.aim.partition, ballot, committed), [peer])

    def _on_fetched(self, data: bytes | None) -> None:
        step, view = self._step, self._view
        assert isinstance(step, PaxosFetch) and view is not None
        if data is None:
            self._restart()  # it has gone on since
        elif step.committed:
            self._parent.inside.count("paxos_caught_up")
            commit = PaxosCommit(self.aim.table, self.aim.partition, step.ballot, data)
            self._ask(CATCH_UP, commit, list(view.behind))
        else:
            self._finish_for(data)

    def _finish_for(self, data: bytes) -> None:
        """A proposal that may have been decided, ours or another's: as it is, under our ballot."""
        ours = next((proposal for proposal in self._ours if proposal.data == data), None)
        self._parent.inside.count("paxos_finished")
        self._propose(data, ours, again=True)

    # --- judging

    def _judge(self, view: View) -> None:
        """Everything that was decided is in these rows."""
        newest = newest_read(rows for promise in self._promises.values() for rows in promise.rows)
        clock = self._parent.inside.clock
        clock.observe(max(newest, view.version)[0] + 1)  # one more: a row's tombstone lies below its cells
        calm = view.quiet and newest <= view.version and not self._ours
        results = [self._merged(index) for index in range(len(self.aim.slices))]
        if self.aim.decide is None:
            self._result = results[0]
            if not calm and self._phase == LOOK:
                self._looked = view.committed
                self._ask(CONFIRM, self._prepare_step(NO_BALLOT, ()), self._targets)
            else:
                self._say(calm)
            return
        now_us = self.aim.now_us or clock.now_us()
        reads = tuple(_rows_read(result, now_us, self.aim.partition) for result in results)
        decision = self._decided(self.aim.decide, reads)
        if isinstance(decision, WriteRequest):
            assert decision.table == self.aim.table and decision.partition == self.aim.key
            wanted = msgspec.structs.replace(decision, level=self.aim.level, timestamp_us=0)
            invalid = check_write(wanted, self._placement, clock.bound_us(), decided=True)
            if invalid is None:
                self._write(wanted, reads, calm)
                return
            decision = invalid
        self._result = decision or Judged(False, reads, None)
        self._say(calm)

    def _decided(self, decide: Decide, reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
        """What a request makes of what was read. The function is the request's own, with what a stranger
        wants computed: what it ends with ends the request, and not the peer, nor the next one that is asked.
        """
        try:
            return decide(reads)
        except Exception as error:  # noqa: BLE001 - one request fails, and the log says why
            self._parent.inside.log("error", "not_decided", unforeseen(error))
            return Invalid("not_decided", unforeseen(error))

    def _say(self, calm: bool) -> None:
        """Answer `_result`: at once if nothing is newer than the last commit, else after an empty round."""
        if calm:
            self._end(self._result)
        else:
            self._propose(b"", None)

    def _on_confirmed(self, view: View) -> None:
        """Whether nothing was begun from before the first row was read until after the last."""
        if view.quiet and view.settled and view.committed == self._looked:
            self._end(self._result)
        else:
            self._take_ballot()

    def _merged(self, index: int) -> SliceResult:
        answers = {}
        for peer, promise in self._promises.items():
            rows = promise.rows[index]
            answers[peer] = SliceRead(0, rows.rows, rows.header, rows.more)
        return merge_slices(self.aim.slices[index], answers, self._placement.table.has_clustering)[0]

    def _write(self, request: WriteRequest, reads: tuple[RowsRead, ...], calm: bool) -> None:
        """Propose to write this, at a version above everything read."""
        ballot, op, writes = self._ballot, self._op, self._parent.writes

        def stamped(stamp_us: int) -> None:
            if self._finish is None or self._op != op:
                return  # timed out meanwhile
            start, sequence = writes.writer, writes.next_sequence()
            version = (stamp_us, start)
            mutation = build(request, self.aim.token, (start, sequence), version, stamp_us)
            mutation = msgspec.structs.replace(mutation, stamped=False)
            data = encode_mutation(mutation)
            if len(data) > limits.MUTATION_BYTES_MAX:
                self._result = Invalid(
                    "too_large", f"a write is limited to {limits.MUTATION_BYTES_MAX} bytes"
                )
                self._say(calm)
                return
            self._propose(data, Proposal(ballot, mutation.id, version, data, reads))

        writes.stamps.take(stamped, self._no_stamp)

    # --- proposing

    def _propose(self, data: bytes, ours: Proposal | None, again: bool = False) -> None:
        parent, aim = self._parent, self.aim
        if parent.inside.world.monotonic_us() >= self._deadline_us:
            self.on_deadline()
            return
        if parent.metadata.stale_for(aim.table, self._epoch) is not None:
            self._again()  # one epoch for a ballot
            return
        if ours is not None and ours not in self._ours:
            self._ours.append(ours)
        self._proposing = ours
        accept = PaxosAccept(aim.table, aim.partition, self._ballot, data, again)
        self._ask(ACCEPT, accept, self._targets)

    def _on_decided(self) -> None:
        """A quorum has accepted it."""
        step = self._step
        assert isinstance(step, PaxosAccept)
        if self._proposing is not None:
            self._won(self._proposing, self._ballot)
        elif not step.proposal:
            self._end(self._result)
        else:
            # Nobody waits for the answers: on each connection the commit precedes what is asked next.
            self._pause()
            self._step = PaxosCommit(self.aim.table, self.aim.partition, self._ballot, step.proposal)
            for peer in self._alive:
                self._send(peer)
            self._after_settling()

    def _won(self, proposal: Proposal, ballot: Ballot) -> None:
        """Ours is decided: all replicas are to have it, and the client's level waits for it."""
        parent, aim = self._parent, self.aim
        parent.inside.world.cancel_timer(self._phase_timer)
        if self._finish is None:
            self._deadline_timer = parent.inside.timer(self._timeout_us, "paxos", self.number)
        self._proposing = proposal
        for peer in self._replicas:
            if peer not in self._alive:
                self._hint(peer)
        self._ask(COMMIT, PaxosCommit(aim.table, aim.partition, ballot, proposal.data), self._alive)
        parent.leave(self)

    # --- committing

    def _on_applied(self, peer: PeerId) -> None:
        if self._phase == COMMIT:
            if self._tally.add(peer):
                self._applied()
            self._close_if_all_answered()
        elif self._phase == CATCH_UP and not self._pending:
            self._restart()

    def _applied(self) -> None:
        proposal = self._proposing
        assert proposal is not None
        self._answer(Judged(True, proposal.reads, proposal.version))

    def _after_settling(self) -> None:
        """Somebody's proposal is decided. A read may find that this was all."""
        if self._reading:
            self.look()
        else:
            self._again()

    def _hint(self, peer: PeerId) -> None:
        proposal = self._proposing
        assert proposal is not None
        if peer != self._parent.me:
            self._parent.hints.add(peer, self.aim.table, proposal.data)

    def _close_if_all_answered(self) -> None:
        if not self._pending and self._finish is None:
            self._close()

    # --- ending

    def on_deadline(self) -> None:
        """Not in time. It is unknown only if something of ours was proposed.

        What is being accepted goes on without the client, so that short deadlines cannot leave everybody with
        something to finish first, for ever.
        """
        if self._phase == COMMIT:
            for peer in self._pending:
                self._hint(peer)
            if self._finish is not None:
                required = self._wanted.total
                received = min(self._tally.received, required - 1)
                self._answer(Timeout(received, required, self.aim.level, write=True))
            self._close()
            return
        required = self._placement.need(self.aim.serial_level, self.aim.token, self._local).total
        received = min(self._tally.received, required - 1)
        unknown = bool(self._ours)
        answer = Timeout(received, required, self.aim.serial_level, write=unknown, write_type="CAS")
        if self._phase == ACCEPT:
            self._answer(answer)
        else:
            self._end(answer)


def _rows_read(result: SliceResult, now_us: int, partition: bytes) -> RowsRead:
    """The rows that exist, and records of operation ids, which never do."""
    record = partition + OPERATION_SUFFIX
    rows = tuple(
        ReadRow(key, row) for key, row in result.rows if exists(row, now_us) or key.startswith(record)
    )
    return RowsRead(rows, now_us, result.more, result.end)
