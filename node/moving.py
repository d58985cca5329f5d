"""Ranges on their way: what this peer does for a move, whichever part it has in it.

A move is three epochs of the metadata log (node/metadata_moves.py); where rows live under each is
node/moving_ring.py. Here is what happens between the epochs:

    everybody     says, when asked, which epoch it has *durably*, and from then on acknowledges nothing that
                  was planned before it (node/replica.py)
    who is given  merges what enough of the old replicas hold (node/moving_stream.py), and says so durably
    everybody     follows the old replicas to the end of their logs once they hand over: what was
                  acknowledged at ONE by one of them alone is not lost with it
    who has given deletes what it gave up, rows, Paxos state and ids, before it may be given it again
    one voter     asks all these, and proposes the next epoch when its condition holds (`_may_hand_over`,
                  `_may_finish`)

The conditions are facts that cannot become untrue, so it does not matter who finds them true, how often, or
who ends in between: every participant goes on from what is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core import limits
from core.commands import (
    Done,
    Failed,
    LogIds,
    LogRead,
    Outcome,
    Records,
    Swept,
    SystemScan,
    SystemWrite,
)
from core.messages import OperationFailed
from core.metadata import Move, StepMove
from core.moving import DropRange, LogForget
from core.moving_messages import FloorsAsk, FloorsTold, MoveAsk, MoveTold, TailAsk
from core.ports import PeerId
from core.requests import Changed, Unready
from lsm.floors import FLOOR_PREFIX
from node.metadata_moves import nobody_remains
from node.move_runner import Runner
from node.move_waits import Waits, waits
from node.moving_ring import FINISH, HAND_OVER, PREPARE, TokenPair
from node.moving_stream import Pause, Progress, Steps, Stream, meets_quorums, must_merge, own
from node.parking import Parking
from node.views import lane_for

if TYPE_CHECKING:
    from node.batch_log import BatchLog
    from node.following import Following
    from node.hints import Hints
    from node.inside import Inside
    from node.mending import Mending
    from node.metadata import Metadata
    from node.metadata_state import State
    from node.swim import Swim

CLEANED_KEY, MERGED_KEY, FLOORED_KEY = b"move/cleaned", b"move/merged", b"move/floored"
"""System records: up to which epoch nothing is left of what was given up; the moves of which all is merged,
and of which the floors are kept to.
"""

FLOORS_MAX = 100_000

TICK_US = 200_000
ASKED_US = 5 * limits.SECOND_US
"""So long an answer may take; replies over oceans and from slow links take longer than a tick."""
FLOORS_TICK_US = 10_000
"""As long as writes wait for floors to be taken."""
INQUIRE_US = 400_000
RESTART_US = 1_000_000
CLEAN_AFTER_US = 5 * limits.SECOND_US
"""Between giving a range up and deleting it: what was under way to it has arrived by then."""
DRAIN_US = 10 * limits.SECOND_US
DRAINS_MAX = 3
"""So often it is tried; it is a courtesy to what was acknowledged at ONE, and must not hold up a move for
ever.
"""
DROP_ROWS_MAX = 200


class Moving:
    """This peer's part in moves."""

    def __init__(
        self,
        inside: Inside,
        metadata: Metadata,
        swim: Swim,
        following: Following,
        boot: Mapping[bytes, bytes],
    ) -> None:
        """`boot` holds the system records as of the start."""
        self.inside = inside
        self.metadata = metadata
        self.swim = swim
        self.following = following
        self.me = inside.identity.peer
        self.hints: Hints | None = None
        self.batch_log: BatchLog | None = None
        self.mending: Mending | None = None
        self._cleaned = int.from_bytes(boot.get(CLEANED_KEY, b""), "big")
        self._merged = int.from_bytes(boot.get(MERGED_KEY, b""), "big")
        self._floored = int.from_bytes(boot.get(FLOORED_KEY, b""), "big")
        self._drained = 0
        self._draining = 0
        self._drains = 0
        self._adopted_us = 0
        self._moved_epoch = 0
        self._runner: Runner | None = None
        self._progress = Progress()
        """Of this move, since this peer last began with it."""
        self._not_before_us = 0
        self._why, self._why_at = "", 0
        self.told: dict[PeerId, MoveTold] = {}
        self._asked: dict[int, tuple[PeerId, int]] = {}
        """Questions on their way: whom, and when."""
        self._stream: Stream | None = None
        """What was merged for this move stays merged when one that was asked did not answer in the end."""
        self._proposing = False
        self._ticking = False
        self._waits = Waits()
        self._parking = Parking(inside, self._waits_for_floors)
        inside.on_message(MoveAsk, self._on_ask)
        inside.on_message(TailAsk, self._on_tail)
        inside.on_message(FloorsAsk, self._on_floors)
        inside.on_stored("move_floors", self._on_floors_read)
        inside.on_stored("move_tail", self._on_tail_read)
        inside.on_stored("move_own", self._on_own)
        inside.on_timer("move_tick", self._on_tick)
        inside.on_timer("move_inquired", self._on_inquired)
        inside.on_timer("move_timeout", self._on_timeout)
        inside.on_timer("move_pause", self._on_pause)
        metadata.on_adopted(self._on_adopted)

    def start(self) -> None:
        """Go on where this directory was."""
        self._on_adopted()

    def _on_adopted(self) -> None:
        state = self.metadata.state
        if state.moved_epoch == self._moved_epoch:
            return
        self._moved_epoch = state.moved_epoch
        self._adopted_us = self.inside.world.monotonic_us()
        self.told = {}
        self._waits.forget()
        if state.move is None or state.move.phase == PREPARE:
            self._progress = Progress()
        self._stream = None
        self._drains = 0
        self._stop()
        self._arm()
        self._parking.open(self._lacks_floors())
        if state.move is None and self.hints is not None:
            self.hints.members_changed()

    def _is_idle(self) -> bool:
        state = self.metadata.state
        return state.move is None and (state.last_move is None or state.last_move.since <= self._cleaned)

    def _arm(self) -> None:
        """Look again soon, as long as there is anything to be done."""
        if not self._ticking and not self._is_idle():
            self._ticking = True
            tick_us = FLOORS_TICK_US if self._lacks_floors() else TICK_US
            self.inside.timer(tick_us - self.inside.world.below(tick_us // 4), "move_tick")

    def _stop(self) -> None:
        if self._runner is not None:
            self._runner.stop()
            self._runner = None

    # --- what we say

    def tell(self, op: int) -> MoveTold:
        """How far this peer is."""
        log = self.metadata.log
        progress = self._progress
        return MoveTold(
            op,
            min(log.durable, log.state.epoch),
            self._cleaned,
            self._merged,
            self._drained,
            self._owing(),
            progress.bytes_done,
            progress.ranges_done,
            progress.ranges,
            progress.differing,
            progress.why or (self._why if progress.ranges_done == self._why_at else ""),
            self._waits.told(log.state, self.hints, self.inside.world.monotonic_us()),
        )

    def _owing(self) -> int:
        """Writes that this peer alone has promised to deliver."""
        assert self.hints is not None and self.batch_log is not None
        members = self.metadata.state.members
        live = [m.peer for m in members if m.peer != self.me and self.swim.is_alive(m.peer)]
        return sum(self.hints.pending(peer) for peer in live) + self.batch_log.count

    def _on_ask(self, peer: PeerId, message: MoveAsk) -> None:
        if message.epoch > self.metadata.state.epoch:
            self.metadata.catch_up(peer, message.epoch, lambda: self._on_ask(peer, message))
        else:
            self.inside.send(peer, self.tell(message.op))

    def _on_tail(self, peer: PeerId, message: TailAsk) -> None:
        if message.epoch > self.metadata.state.epoch:
            self.metadata.catch_up(peer, message.epoch, lambda: self._on_tail(peer, message))
            return
        command = LogRead(message.after, limits.FOLLOW_IDS_MAX, message.ranges)
        self.inside.submit(("move_tail", peer, message.op), command)

    def _on_tail_read(self, outcome: Outcome, peer: PeerId, op: int) -> None:
        if isinstance(outcome, LogIds):
            self.inside.send(peer, self.following.serving.page(op, outcome))
        else:
            assert isinstance(outcome, Failed), outcome
            self.inside.send(peer, OperationFailed(op, outcome.why, outcome.detail))

    def _on_floors(self, peer: PeerId, message: FloorsAsk) -> None:
        if message.epoch > self.metadata.state.epoch:
            self.metadata.catch_up(peer, message.epoch, lambda: self._on_floors(peer, message))
            return
        scan = SystemScan(FLOOR_PREFIX, b"", FLOORS_MAX, limits.FRAME_BYTES_MAX // 2)
        epoch = min(self.metadata.log.durable, self.metadata.state.epoch)
        self.inside.submit(("move_floors", peer, message.op, epoch), scan)

    def _on_floors_read(self, outcome: Outcome, peer: PeerId, op: int, epoch: int) -> None:
        """`epoch` was adopted before they were read: no round of before comes to its end any more."""
        if isinstance(outcome, Records) and not outcome.more:
            floors = tuple((int.from_bytes(key[-4:], "big"), value) for key, value in outcome.records)
            size = sum(len(value) + 8 for _, value in floors)
            self.inside.send(peer, FloorsTold(op, floors, epoch), lane_for(size))
        else:
            self.inside.send(peer, OperationFailed(op, "floors", f"floors cannot be read: {outcome}"))

    def may_hold(self, table: int, token: int) -> bool:
        """Whether this peer takes writes at a token: a newcomer to a range not before it keeps to its
        floor.
        """
        placement = self.metadata.state.placement(table)
        if placement is None:
            return True
        sides = placement.sides_of(token)
        if sides is None:
            return self.me in placement.replicas(token)
        move = self.metadata.state.move
        return self.me in sides[0] or (self.me in sides[1] and move is not None and self._floored == move.id)

    def _lacks_floors(self) -> bool:
        """Whether we are given ranges whose floors are not kept to yet."""
        state = self.metadata.state
        if state.move is None or state.move.phase != PREPARE or self._floored == state.move.id:
            return False
        rings = state.moving_rings()
        return any(self.me in sides[1] and self.me not in sides[0] for r in rings for _, sides in r.moving())

    def _waits_for_floors(self, table: int, token: int) -> bool:
        """Whether a write at a token is ours to take as soon as its range's floors are kept to."""
        placement = self.metadata.state.placement(table)
        sides = None if placement is None else placement.sides_of(token)
        return sides is not None and self.me in sides[1] and not self.may_hold(table, token)

    # --- what we do

    def _on_tick(self) -> None:
        self._ticking = False
        self._arm()
        state = self.metadata.state
        if self.metadata.unready:
            return
        move = state.move
        now_us = self.inside.world.monotonic_us()
        if move is None:
            ended = state.last_move.since if state.last_move is not None else 0
            if ended > self._cleaned and now_us >= self._adopted_us + CLEAN_AFTER_US:
                self._run(self._clean(state, ended), now_us)
            return
        if self.metadata.log.durable >= move.since:
            if move.phase == PREPARE and self._merged != move.id:
                self._merge(state, move, now_us)
            elif move.phase == HAND_OVER and move.id not in (self._drained, self._draining):
                self._drain(state, move)
        if self._is_driver(state):
            self._drive(state, move)
        else:
            self._waits.forget()

    def _run(self, steps: Steps, now_us: int) -> None:
        if self._runner is None and now_us >= self._not_before_us:
            self._runner = Runner(self, steps)
            self._runner.begin()

    def ended(self, failure: str) -> None:
        """The steps under way have come to their end."""
        self._runner = None
        self._why, self._why_at = failure, self._progress.ranges_done
        if failure:
            self._not_before_us = self.inside.world.monotonic_us() + RESTART_US

    def _merge(self, state: State, move: Move, now_us: int) -> None:
        if self._runner is None and now_us >= self._not_before_us:
            if self._stream is None:
                current = lambda: self.metadata.state  # noqa: E731
                self._stream = Stream(current, self.me, self.inside.settings.move_bytes_per_s)
            self._progress = self._stream.progress
            self._run(self._merged_steps(self._stream, move), now_us)

    def _merged_steps(self, stream: Stream, move: Move) -> Steps:
        yield from stream.floors()
        yield from own(SystemWrite(((FLOORED_KEY, move.id.to_bytes(8, "big")),)), Done)
        self._floored = move.id
        self._parking.open(False)
        yield from stream.steps()
        # What this disk lost is given back by the old replicas: of fewer new ones none may have it any more.
        while self.mending is not None and any(self.mending.is_missing(*one) for one in stream.given()):
            self._progress.why = "waits until other replicas have given back what its disk lost"
            yield Pause(RESTART_US)
        self._progress.why = ""
        yield from own(SystemWrite(((MERGED_KEY, move.id.to_bytes(8, "big")),)), Done)
        self._merged = move.id

    def _drain(self, state: State, move: Move) -> None:
        """Follow those who give something up, now that nothing old is acknowledged by them any more."""
        self._draining = move.id
        old = dict.fromkeys(
            peer
            for ring in state.moving_rings()
            for _, sides in ring.moving()
            if self.me in sides[1]
            for peer in sides[0]
        )
        shared = self.following.serving.shared_with
        peers = [p for p in old if p != self.me and self.swim.is_alive(p) and shared(p)]
        self._drains += 1

        def done(reached: frozenset[PeerId]) -> None:
            everybody = all(peer in reached or not self.swim.is_alive(peer) for peer in peers)
            if everybody or self._drains >= DRAINS_MAX:
                self._drained = move.id
            self._draining = 0

        self.following.follow_now(peers, done, self.inside.world.monotonic_us() + DRAIN_US)

    # --- deleting what was given up

    def _clean(self, state: State, ended: int) -> Steps:
        foreign = []
        for table in sorted(state.tables):
            placement = state.placement(table)
            assert placement is not None
            ranges = complement(placement.common_ranges(self.me, self.me))
            if ranges:
                foreign.append((table, ranges))
        for table, ranges in foreign:
            for first, last in ranges:
                after = b"\1"
                while after:
                    swept: Swept = yield from own(DropRange(table, first, last, DROP_ROWS_MAX), Swept)
                    after = swept.after
                    if swept.removed:
                        yield Pause(1_000)
        offset = 0
        while foreign:
            page: LogIds = yield from own(LogForget(offset, limits.FOLLOW_IDS_MAX, tuple(foreign)), LogIds)
            if page.next_after >= page.end or page.next_after == offset:
                break
            offset = page.next_after
        yield from own(SystemWrite(((CLEANED_KEY, ended.to_bytes(8, "big")),)), Done)
        self._cleaned = ended

    # --- driving

    def _is_driver(self, state: State) -> bool:
        """The first voter that lives, as far as we know; that there are two for a while does no harm."""
        alive = [peer for peer in state.voters if peer == self.me or self.swim.is_alive(peer)]
        return bool(alive) and alive[0] == self.me

    def _drive(self, state: State, move: Move) -> None:
        participants = dict.fromkeys(
            peer
            for ring in state.moving_rings()
            for _, sides in ring.moving()
            for side in sides
            for peer in side
        )
        alive = [m.peer for m in state.members if m.peer == self.me or self.swim.is_alive(m.peer)]
        self._waits.note(waits(state, move, self.told, alive), self.inside.world.monotonic_us())
        self._ask_all(state, (*participants, *(p for p in move.remove if p not in participants)))
        self._propose(state, move)

    def _ask_all(self, state: State, peers: Sequence[PeerId]) -> None:
        """An answer that takes longer than the next question is waited for all the same."""
        self.told[self.me] = self.tell(0)
        now_us = self.inside.world.monotonic_us()
        for op, (_, asked_us) in list(self._asked.items()):
            if now_us >= asked_us + ASKED_US:
                self.inside.operations.pop(op, None)
                del self._asked[op]
        for peer in peers:
            if peer != self.me:
                op = self.inside.new_op()
                self.inside.operations[op] = self
                self._asked[op] = peer, now_us
                self.inside.send(peer, MoveAsk(op, state.epoch))

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer to the driver."""
        asked = self._asked.get(message.op)
        if asked is None or asked[0] != peer:
            return
        del self._asked[message.op]
        self.inside.operations.pop(message.op, None)
        known = self.told.get(peer)
        if isinstance(message, MoveTold) and (known is None or known.op < message.op):
            self.told[peer] = message

    # --- what operators ask

    def inquire(self, done: Callable[[dict[PeerId, MoveTold]], None]) -> None:
        """Ask everybody how far they are, and say what came within a moment."""
        self._ask_all(self.metadata.state, [m.peer for m in self.metadata.state.members])
        self.inside.timer(INQUIRE_US, "move_inquired", done)

    def are_clean(self, peers: Sequence[PeerId], done: Callable[[str], None]) -> None:
        """Whether these members have deleted what they gave up, so that they may be given ranges; "" if
        so.
        """

        def told(answers: dict[PeerId, MoveTold]) -> None:
            state = self.metadata.state
            ended = state.last_move.since if state.last_move is not None else 0
            for peer in peers:
                answer = answers.get(peer)
                name = getattr(state.member(peer), "name", peer.hex())
                if answer is None:
                    done(f"{name} does not answer: who is given ranges has to be up")
                    return
                if answer.cleaned < ended:
                    done(f"{name} still deletes what it gave up last: try again in a moment")
                    return
            done("")

        self.inquire(told)

    def _on_inquired(self, done: Callable[[dict[PeerId, MoveTold]], None]) -> None:
        done({**self.told, self.me: self.tell(0)})

    def _propose(self, state: State, move: Move) -> None:
        phase = ""
        if move.phase == PREPARE and self._may_hand_over(state, move):
            phase = HAND_OVER
        elif move.phase == HAND_OVER and self._may_finish(state, move):
            phase = FINISH
        if phase and not self._proposing:
            self._proposing = True
            deadline_us = self.inside.world.monotonic_us() + 10 * limits.SECOND_US
            self.metadata.change(StepMove(move.id, phase), self._on_proposed, deadline_us)

    def _on_proposed(self, _: Changed | Unready) -> None:
        self._proposing = False

    def _may_hand_over(self, state: State, move: Move) -> bool:
        """One of every quorum of the old replicas is beyond what was before; who must has merged theirs."""
        adopted = [peer for peer, told in self.told.items() if told.epoch >= move.id]
        merged = [peer for peer, told in self.told.items() if told.merged == move.id]
        for ring in state.moving_rings():
            for _, sides in ring.moving():
                targets = [peer for peer in sides[1] if must_merge(peer, sides, ring)]
                if not meets_quorums(adopted, sides[0], ring) or any(peer not in merged for peer in targets):
                    return False
        return True

    def _may_finish(self, state: State, move: Move) -> bool:
        """One of every quorum of the old and of the new replicas reads the new ones, and nobody who lives
        lacks anything.
        """
        if nobody_remains(state.members, (*move.remove, *state.lost)):
            return False
        adopted = [peer for peer, told in self.told.items() if told.epoch >= move.since]
        for ring in state.moving_rings():
            for _, sides in ring.moving():
                for side in sides:
                    if not meets_quorums(adopted, side, ring):
                        return False
                for peer in sides[1]:
                    told = self.told.get(peer)
                    if self.swim.is_alive(peer) and (told is None or told.drained != move.id):
                        return False
        for peer in move.remove:
            told = self.told.get(peer)
            if self.swim.is_alive(peer) and (told is None or told.epoch < move.since or told.owing):
                return False
        return True

    # --- steps

    def _on_own(self, outcome: Outcome, number: int) -> None:
        if self._runner is not None:
            self._runner.on_own(outcome, number)

    def _on_timeout(self, number: int) -> None:
        if self._runner is not None:
            self._runner.on_timeout(number)

    def _on_pause(self, number: int) -> None:
        if self._runner is not None:
            self._runner.on_pause(number)


def complement(ranges: tuple[TokenPair, ...]) -> tuple[TokenPair, ...]:
    """All tokens that are in none of these ascending ranges."""
    found: list[TokenPair] = []
    first = -(2**63)
    for a, b in ranges:
        if a > first:
            found.append((first, a - 1))
        first = b + 1
    if first <= 2**63 - 1:
        found.append((first, 2**63 - 1))
    return tuple(found)
