"""Coordinating reads: a slice of rows from one set of replicas, at a level, repaired before it is answered.

One replica sends the rows, the others that the level needs a digest of them. If all agree, that is the
answer. If not, each sends its rows, they are merged, what a replica lacks is written to it and waited for
(*blocking read repair*), and only then does the client see the merge: so a value once read at QUORUM is on a
quorum, and reads never go back.

A slow replica costs a little wait (`speculative_retry_us`) and then another replica is asked for the rows
too; who was slow is asked last for a while.

A slice is cut by limits on each replica. Where one of them has more to say beyond its last row, rows of the
others beyond that are not complete: the *frontier* is the least of the last keys of all that were cut, and
the merge ends there. Whoever wants more goes on after it (node/scans.py), which is all there is to short
reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core import limits
from core.commands import Digest, Failed, MergeRows, Read, Rows, Slice
from core.consistency import Level, Need, need
from core.healing_messages import Repair
from core.messages import DigestRead, MutationApplied, OperationFailed, ReadSlice, SliceRead, Stale
from core.ports import BULK, SMALL, PeerId
from core.requests import Broken, Invalid, Overloaded, Timeout, Unavailable
from lsm.keys import token_of
from node import slices
from node.slices import Lacking, SliceResult, cut_at, merge_slices, result_of, within_range
from node.tally import Needs, Place, Tally, reachable
from node.writes import no_such_table

if TYPE_CHECKING:
    from core.commands import Outcome
    from core.trace import Trace
    from node.inside import Inside
    from node.metadata import Metadata
    from node.metadata_state import TablePlacement
    from node.swim import Swim

SLOW_FOR_US = 1_000_000


ReadFailure = Unavailable | Timeout | Broken | Overloaded | Invalid
Finish = Callable[[SliceResult | ReadFailure], None]


class Reads:
    """The coordinator's side of reads."""

    def __init__(self, inside: Inside, metadata: Metadata, swim: Swim) -> None:
        """Register for the answers of the local store."""
        self.inside = inside
        self.metadata = metadata
        self.swim = swim
        self.me = inside.identity.peer
        self._slow_until_us: dict[PeerId, int] = {}
        inside.on_stored("read", self._on_local)
        inside.on_stored("read_repair", self._on_local_repair)
        inside.on_timer("read", self._on_timer)
        inside.on_timer("read_speculate", self._on_speculate)
        inside.on_peer(self._on_peer)
        self._moved_epoch = 0
        self._needs = Needs()
        metadata.on_adopted(self._on_adopted)

    def _on_adopted(self) -> None:
        """Where rows live has changed: what is under way begins again."""
        if self.metadata.state.moved_epoch != self._moved_epoch:
            self._moved_epoch = self.metadata.state.moved_epoch
            for operation in list(self.inside.operations.values()):
                if isinstance(operation, ReadOperation):
                    operation.on_moved()

    def begin(
        self,
        part: Slice,
        replicas: tuple[PeerId, ...],
        level: Level,
        deadline_us: int,
        finish: Finish,
        *,
        trace: Trace | None = None,
    ) -> None:
        """Read a slice that these replicas hold; `finish` is called exactly once."""
        state = self.metadata.state
        placement = state.placement(part.table)
        if placement is None:  # dropped since the slice before
            finish(no_such_table())
            return
        local = self.inside.identity.datacentre
        beyond = False
        place = (part.table, level, replicas)
        if placement.moving is None:
            wanted = self._needs.of(state, place)
        else:
            token = token_of(part.first)
            replicas, wanted = placement.readers(level, token, local)
            part, beyond = within_range(part, token, placement)
        is_alive = self.swim.is_alive
        alive = [peer for peer in replicas if is_alive(peer)]
        if wanted is None or placement.moving is not None or len(alive) < len(replicas):
            wanted = wanted or need(level, placement.factors, local)
            reach = reachable(wanted, placement, local, alive)
            if not reach.met:
                finish(Unavailable(wanted.total, reach.received, level))
                return
            if placement.moving is None and len(alive) == len(replicas):
                self._needs.note(place, wanted)
        operation = ReadOperation(self, part, placement, level, finish)
        operation.beyond = beyond
        operation.wanted = wanted
        operation.trace = trace
        preferred = self.preferred(alive, placement)
        if wanted.sides:  # who counts in both sets makes the other set's level cost nothing
            (_, old), (_, new) = wanted.sides
            preferred.sort(key=lambda peer: not (peer in old and peer in new))
        operation.send(preferred, deadline_us)

    def known_need(self, state: object, place: Place) -> Need | None:
        """What a level needs of these replicas, if a read has counted it under this state, and all live."""
        return self._needs.of(state, place)

    def preferred(self, alive: list[PeerId], placement: TablePlacement) -> list[PeerId]:
        """In the order of asking: ourselves, our datacentre, the others; who was slow just now comes last."""
        if len(alive) > 1:
            now_us = self.inside.world.monotonic_us()
            slow, local, me = self._slow_until_us, self.inside.identity.datacentre, self.me
            alive.sort(key=lambda p: (slow.get(p, 0) > now_us, p != me, placement.datacentre(p) != local))
        return alive

    def was_slow(self, peer: PeerId) -> None:
        """Ask this peer last for a while."""
        self._slow_until_us[peer] = self.inside.world.monotonic_us() + SLOW_FOR_US

    def _on_local(self, outcome: Outcome, op: int) -> None:
        operation = self.inside.operations.get(op)
        if operation is None:
            return
        if isinstance(outcome, Rows):
            operation.on_message(self.me, _told(op, outcome))
        elif isinstance(outcome, Digest):
            operation.on_message(self.me, DigestRead(op, outcome.digest))
        else:
            assert isinstance(outcome, Failed), outcome
            assert isinstance(operation, ReadOperation)
            self.inside.note_damage(outcome, operation.part)
            operation.on_message(self.me, OperationFailed(op, outcome.why, outcome.detail))

    def _on_local_repair(self, outcome: Outcome, op: int) -> None:
        operation = self.inside.operations.get(op)
        if operation is None:
            return
        if isinstance(outcome, Failed):
            operation.on_message(self.me, OperationFailed(op, outcome.why, outcome.detail))
        else:
            operation.on_message(self.me, MutationApplied(op, None))

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        """What was asked is lost with the connection: ask another at once, and again who is back."""
        for operation in list(self.inside.operations.values()):
            if isinstance(operation, ReadOperation):
                operation.on_peer(peer, connected)

    def _on_timer(self, op: int) -> None:
        operation = self.inside.operations.get(op)
        if operation is not None:
            assert isinstance(operation, ReadOperation)
            operation.on_timeout()

    def _on_speculate(self, op: int) -> None:
        operation = self.inside.operations.get(op)
        if operation is not None:
            assert isinstance(operation, ReadOperation)
            operation.on_slow()


class ReadOperation:
    """One slice on its way from its replicas.

    First answers and digests, then perhaps rows of all and repairs.
    """

    __slots__ = (
        "_asked",
        "_digests",
        "_failed",
        "_finish",
        "_lacking",
        "_left_us",
        "_level",
        "_merged",
        "_op",
        "_others",
        "_parent",
        "_placement",
        "_repaired",
        "_repairing",
        "_rows",
        "_speculate_timer",
        "_timer",
        "_whole",
        "beyond",
        "deadline_us",
        "part",
        "trace",
        "wanted",
    )

    def __init__(
        self, parent: Reads, part: Slice, placement: TablePlacement, level: Level, finish: Finish
    ) -> None:
        """Nobody is asked yet."""
        self._parent = parent
        self.part = part
        self.beyond = False
        """The slice was cut where the range ends whose replicas are asked: more follows for certain."""
        self.deadline_us = 0
        self.trace: Trace | None = None
        self._placement = placement
        self._level = level
        self._finish: Finish | None = finish
        self.wanted = Need(0)
        self._op = parent.inside.new_op()
        self._rows: dict[PeerId, SliceRead] = {}
        self._digests: dict[PeerId, bytes] = {}
        self._asked: list[PeerId] = []
        self._others: list[PeerId] = []
        self._failed: dict[PeerId, OperationFailed] = {}
        self._whole = False
        self._merged: SliceResult | None = None
        self._repaired: Tally | None = None
        self._repairing: list[PeerId] = []
        self._lacking: Lacking = {}
        self._left_us = 0
        self._timer = 0
        self._speculate_timer = 0

    # --- asking

    def send(self, preferred: list[PeerId], deadline_us: int) -> None:
        """Ask the first for rows and as many others as the level needs for digests."""
        inside = self._parent.inside
        inside.operations[self._op] = self
        self.deadline_us = deadline_us
        now_us = inside.world.monotonic_us()
        self._left_us = max(1_000, deadline_us - now_us)
        self._timer = inside.timer(self._left_us, "read", self._op)
        chosen = self._choose(preferred)
        local, where = inside.identity.datacentre, self._placement.datacentre
        self._others = [
            peer for peer in preferred if peer not in chosen and self.wanted.counts(where(peer), local)
        ]
        if self._others:
            self._speculate_timer = inside.timer(
                inside.settings.speculative_retry_us, "read_speculate", self._op
            )
        if self.trace is not None:
            inside.tracing.asks(self.trace, self._op, chosen[:1], "Asking for rows")
            inside.tracing.asks(self.trace, self._op, chosen[1:], "Asking for digests")
        for index, peer in enumerate(chosen):
            if self._finish is None:
                return
            self._ask(peer, digest=index > 0 and not self.part.live_us)  # sums are short, and often differ

    def _choose(self, preferred: list[PeerId]) -> list[PeerId]:
        """As many, and in such datacentres, as the level needs."""
        local = self._parent.inside.identity.datacentre
        tally = Tally(self.wanted, self._placement, local)
        chosen = []
        budget = dict(self.wanted.each)
        for peer in preferred:
            if tally.met:
                break
            where = self._placement.datacentre(peer)
            if self.wanted.sides:
                if not tally.helps(peer):
                    continue
            elif self.wanted.each:
                if budget.get(where, 0) == 0:
                    continue
                budget[where] -= 1
            elif not self.wanted.counts(where, local):
                continue
            chosen.append(peer)
            tally.add(peer)
        return chosen

    def _ask(self, peer: PeerId, digest: bool) -> None:
        parent = self._parent
        if peer not in self._asked:
            self._asked.append(peer)
        if peer == parent.me:
            parent.inside.submit(("read", self._op), Read(self.part, digest))
            return
        message = ReadSlice(self._op, parent.metadata.state.epoch, self.part, digest, self._left_us)
        if not parent.inside.world.send(peer, message, SMALL):
            self._on_failed(
                peer, OperationFailed(self._op, "overloaded", "the connection to the replica is full or gone")
            )

    def on_slow(self) -> None:
        """Someone is slow: ask another one for the rows as well, or have another one repaired."""
        if self._repaired is not None:
            self._repair_another(self._repaired.peers)
            return
        answered = [peer for peer in self._asked if peer in self._rows or peer in self._digests]
        for peer in self._asked:
            if peer not in answered:
                self._parent.was_slow(peer)
        self._ask_another("reads_speculated", answered)
        if self._others and self._finish is not None:
            retry_us = self._parent.inside.settings.speculative_retry_us
            self._speculate_timer = self._parent.inside.timer(retry_us, "read_speculate", self._op)

    def _ask_another(self, why: str, good: list[PeerId]) -> bool:
        """Ask one more; `good` are those who are counted on without it."""
        peer = self._stand_in(good) if self._repaired is None else None
        if peer is None:
            return False
        self._parent.inside.count(why)
        if self.trace is not None:
            self._parent.inside.tracing.asks(
                self.trace, self._op, [peer], "Somebody is slow or gone: asking another for rows as well"
            )
        self._ask(peer, digest=False)
        return True

    def _stand_in(self, good: list[PeerId]) -> PeerId | None:
        """The next that was not asked; for EACH_QUORUM one of a datacentre in which too few are good."""
        where, each = self._placement.datacentre, dict(self.wanted.each)
        for peer in good:
            if each:
                each[where(peer)] -= 1
        for peer in self._others:
            if not each or each.get(where(peer), 0) > 0:
                self._others.remove(peer)
                return peer
        return None

    def on_peer(self, peer: PeerId, connected: bool) -> None:
        """A connection came or went on which we may be waiting for an answer."""
        if self._finish is None:
            return
        if self._repaired is not None:
            if peer in self._repairing:
                if connected:
                    self._send_repair(peer)
                else:
                    self._repair_another([*self._repaired.peers, *(p for p in self._repairing if p != peer)])
        elif peer in self._asked and peer not in self._rows and peer not in self._failed:
            if self._whole or peer not in self._digests:
                if connected:
                    self._ask(peer, digest=False)
                else:
                    good = [p for p in self._asked if p not in self._failed and p != peer]
                    self._ask_another("reads_asked_elsewhere", good)

    # --- answers

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer of a replica that was asked."""
        if self._finish is None or peer not in self._asked:
            return
        kind = type(message)
        if kind is SliceRead:
            if self._repaired is None:
                self._rows[peer] = message
                self._decide()
        elif kind is DigestRead:
            if self._repaired is None:
                self._digests[peer] = message.digest
                self._decide()
        elif kind is MutationApplied:
            self._on_repaired(peer)
        elif kind is Stale:
            self._on_stale(peer)
        elif kind is OperationFailed:
            self._on_failed(peer, message)

    def _decide(self) -> None:
        """Whether the answers there are now will do, and what to do if they disagree."""
        rows, digests = self._rows, self._digests
        if not rows:
            if self._whole or len(digests) < len(self._asked) or self._others:
                return
            self._want_whole()  # only digests are left: whoever was to send the rows does not
            return
        answered = [*rows, *(() if self._whole else (peer for peer in digests if peer not in rows))]
        wanted = self.wanted
        if len(answered) < wanted.total:
            return
        if wanted.local or wanted.each or wanted.sides:
            local = self._parent.inside.identity.datacentre
            if not reachable(wanted, self._placement, local, answered).met:
                return
        if len(answered) > 1 and not self._agree():
            if self._whole or len(rows) == len(answered):
                self._repair()
            else:
                self._want_whole()
            return
        first = next(iter(rows.values()))
        self._end(result_of(self.part, first))

    def _agree(self) -> bool:
        messages = list(self._rows.values())
        first = messages[0]
        same = all(slices.agree(first, message) for message in messages[1:])
        if not same or not self._digests or self._whole:
            return same
        mine = slices.digest_told(first)
        return all(digest == mine for peer, digest in self._digests.items() if peer not in self._rows)

    def _want_whole(self) -> None:
        """Digests differ: ask those who sent one for their rows."""
        self._whole = True
        self._parent.inside.count("reads_mismatched")
        if self.trace is not None:
            late = [peer for peer in self._digests if peer not in self._rows]
            self._parent.inside.tracing.asks(
                self.trace, self._op, late, "Digests differ, a read repair begins: asking for rows"
            )
        for peer in tuple(self._digests):
            if peer not in self._rows and self._finish is not None:
                self._ask(peer, digest=False)

    def _repair(self) -> None:
        """All that count have sent rows: merge them, write to each what it lacks, wait for the level."""
        if any(answer.passed for answer in self._rows.values()):
            self._end(slices.passed_alike(self._rows.values()))
            return
        parent = self._parent
        inside = parent.inside
        has_clustering = self._placement.table.has_clustering
        self._merged, self._lacking = merge_slices(self.part, self._rows, has_clustering)
        if not inside.settings.read_repair:
            self._end(self._merged)
            return
        inside.world.cancel_timer(self._speculate_timer)
        inside.count("read_repairs")
        self._repaired = Tally(self.wanted, self._placement, inside.identity.datacentre)
        for peer in self._rows:
            if peer in self._lacking:
                self._repairing.append(peer)
            else:
                self._repaired.add(peer)
        if self._others:
            retry_us = inside.settings.speculative_retry_us
            self._speculate_timer = inside.timer(retry_us, "read_speculate", self._op)
        if self.trace is not None:
            text = f"Read repair: writing {sum(map(len, self._lacking.values()))} rows to those who lack them"
            inside.tracing.asks(self.trace, self._op, self._lacking, text)
        for peer in tuple(self._lacking):
            if self._finish is None:
                return
            self._send_repair(peer)
        self._end_if_repaired()

    def _send_repair(self, peer: PeerId) -> None:
        parent, rows = self._parent, self._lacking[peer]
        settled_us = min(answer.settled_us for answer in self._rows.values())
        if peer == parent.me:
            parent.inside.submit(("read_repair", self._op), MergeRows(self.part.table, rows, settled_us))
            return
        size = sum(len(data) + len(key) for key, data in rows)
        lane = SMALL if size < limits.SMALL_FRAME_BYTES_MAX // 2 else BULK
        repair = Repair(self._op, parent.metadata.state.epoch, self.part.table, settled_us, rows)
        if not parent.inside.world.send(peer, repair, lane):
            self._on_failed(
                peer, OperationFailed(self._op, "overloaded", "the connection to the replica is full")
            )

    def _repair_another(self, good: list[PeerId]) -> bool:
        """Who is being repaired is slow or gone: give what was merged to a replica that was not asked.

        It counts like any other once it has that: then a quorum holds what the reader is about to see.
        """
        peer = self._stand_in(good) if self._finish is not None else None
        if peer is None:
            return False
        inside = self._parent.inside
        inside.count("reads_repaired_elsewhere")
        nothing = SliceRead(self._op, (), None, False)
        has_clustering = self._placement.table.has_clustering
        _, lacking = merge_slices(self.part, {**self._rows, peer: nothing}, has_clustering)
        self._asked.append(peer)
        self._repairing.append(peer)
        if peer in lacking:
            self._lacking[peer] = lacking[peer]
            self._send_repair(peer)
        else:
            self._on_repaired(peer)
        if self._others and self._finish is not None:
            retry_us = inside.settings.speculative_retry_us
            self._speculate_timer = inside.timer(retry_us, "read_speculate", self._op)
        return True

    def _on_repaired(self, peer: PeerId) -> None:
        if self._repaired is not None and peer in self._repairing:
            self._repairing.remove(peer)
            self._repaired.add(peer)
            self._end_if_repaired()

    def _end_if_repaired(self) -> None:
        if self._repaired is not None and self._repaired.met and self._merged is not None:
            self._end(self._merged)

    def on_moved(self) -> None:
        """Where rows live has changed: what was answered says nothing of the replicas of now."""
        placement = self._parent.metadata.state.placement(self.part.table)
        if self._finish is None or placement is None or placement.same_as(self._placement):
            return
        finish, self._finish = self._finish, None
        self._drop()
        part, level = self.part, self._level
        if self.beyond:
            inner = finish
            first = part.end

            def finish(result: SliceResult | ReadFailure) -> None:
                inner(cut_at(result, first))

        token = token_of(part.first)
        replicas = placement.replicas(token)
        short, beyond = within_range(part, token, placement)
        if beyond and placement.moving is None:
            outer, part = finish, short
            bound = short.end

            def finish(result: SliceResult | ReadFailure) -> None:
                outer(cut_at(result, bound))

        self._parent.begin(part, replicas, level, self.deadline_us, finish, trace=self.trace)

    def _on_stale(self, peer: PeerId) -> None:
        """The epochs that we lacked are adopted by now: ask again under them."""
        if self._parent.metadata.state.placement(self.part.table) is None:
            self._on_failed(peer, OperationFailed(self._op, "no_such_table", "the table was dropped"))
        elif self._repaired is None:
            self._ask(peer, digest=False)
        elif peer in self._repairing:
            self._send_repair(peer)

    def _on_failed(self, peer: PeerId, message: OperationFailed) -> None:
        """A replica cannot: another one, if there is one; else say so at once."""
        self._failed[peer] = message
        if self._finish is None:
            return
        if self._repaired is None:
            self._digests.pop(peer, None)
            possible = [p for p in self._asked if p not in self._failed]
            if self._ask_another("reads_asked_elsewhere", possible):
                return
        else:
            if peer in self._repairing:
                self._repairing.remove(peer)
            possible = [*self._repaired.peers, *self._repairing]
            if self._repair_another(possible):
                return
        local = self._parent.inside.identity.datacentre
        if not reachable(self.wanted, self._placement, local, possible).met:
            text = "; ".join(dict.fromkeys(f.detail for f in self._failed.values()))
            received = len([p for p in self._asked if p in self._rows or p in self._digests])
            self._end(
                Broken(received, self.wanted.total, len(self._failed), text, write=False, unknown=False)
            )
        elif self._repaired is None:
            self._decide()

    def on_timeout(self) -> None:
        """Too few answers in time."""
        if self._repaired is not None:
            received = self._repaired.received
        else:
            received = len([p for p in self._asked if p in self._rows or p in self._digests])
            received = min(received, self.wanted.total - 1)
        self._end(Timeout(received, self.wanted.total, self._level, write=False))

    def _end(self, result: SliceResult | ReadFailure) -> None:
        finish, self._finish = self._finish, None
        if finish is None:
            return
        self._drop()
        finish(cut_at(result, self.part.end) if self.beyond else result)

    def _drop(self) -> None:
        inside = self._parent.inside
        inside.operations.pop(self._op, None)
        inside.world.cancel_timer(self._timer)
        if self._speculate_timer:
            inside.world.cancel_timer(self._speculate_timer)


def _told(op: int, rows: Rows) -> SliceRead:
    """What the own store says, as if another replica had."""
    return SliceRead(op, rows.rows, rows.header, rows.more, rows.settled_us, rows.passed)
