"""Rounds that raise floors, and the purge below them: how deletions end (lsm/floors.py says what a floor is).

A *group* is what one set of replicas holds: ranges of tables. The replica with the least number leads its
rounds. Every `purge_interval_us` it looks whether anything in them is dead (a deletion, something expired);
if not, nobody hears of it. Else:

    bounds    every member says up to when it keeps nothing that it is to deliver later, and never will:
    logged
              batches, hints that a client relies on; and is a little behind its clock. The least is the
              floor.
    promise   all replicas: never again a mutation admitted by then
    settle    all replicas follow all others' logs to their end
    end       all have: what is dead by then may go

The next step begins when *all* replicas, which must be alive and know the same epoch, have taken the one
before; else the floor waits, and says for what. Members that are no replicas and are down are waited for as
long as hints live (`hint_window_us`). A round may stop anywhere and is begun anew: what was promised stays
promised. A member that missed its end asks for another, at the same floor if clocks allow no higher one.

A partition with a proposal that was accepted and neither committed nor given up blocks the round: the replica
that has it reads the partition at SERIAL, which ends it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core import limits
from core.commands import Done, Failed, Outcome, Slice, SystemWrite
from core.consistency import Level
from core.healing import (
    FloorBlocked,
    FloorParts,
    FloorStep,
    GarbageDue,
    IsDue,
    Purge,
    Purged,
    RaiseFloor,
)
from core.healing_messages import BoundAsk, BoundTold, FloorAsk, FloorTold, FloorWanted
from core.ports import PeerId
from lsm import keys
from node.views import lane_for

if TYPE_CHECKING:
    from node.batch_log import BatchLog
    from node.following import Following
    from node.hints import Hints
    from node.inside import Inside
    from node.metadata import Metadata
    from node.paxos import Paxos
    from node.swim import Swim

BOUND_KEY = b"floors/bound"
BOUND_US = 1 * limits.SECOND_US
"""How long members may take to say their bound."""

STEP_US = 10 * limits.SECOND_US
"""How long all replicas may take for a step; following makes the second the longest."""

AGAIN_US = 3 * limits.SECOND_US
"""After this a step is asked for again."""

MOVING = "its ranges move to other replicas"
WANTED_MAX = 1_000

PURGE_ROWS_PER_S = 20_000
"""Notes of garbage looked at: a million deletions are gone in less than a minute, and nobody waits for it."""

PURGE_ROWS = 500
"""Notes looked at by one command, at 7 us each; it is waited for until it is durable, which takes longer."""

Say = Callable[[str], None]


@dataclass(slots=True, eq=False)
class Group:
    """What one set of replicas holds: per table the inclusive ranges of tokens."""

    replicas: tuple[PeerId, ...]
    ranges: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    floor_us: int = 0
    heights: tuple[int, int, int] = (0, 0, 0)
    waiting: str = ""
    """For what its floor waits."""
    since_us: int = 0
    """Since when (monotonic)."""
    unended: tuple[int, int, int] = (0, 0, 0)
    """The heights here as of the last look, if the end of a round was missing."""

    def wait(self, why: str, now_us: int) -> None:
        """Its floor waits for this, perhaps ("") until the round that is tried now ends."""
        self.waiting = why
        if why and not self.since_us:
            self.since_us = now_us

    def go_on(self) -> None:
        """It waits for nothing."""
        self.waiting, self.since_us = "", 0

    @property
    def parts(self) -> FloorParts:
        """As store commands have it."""
        return tuple((table, tuple(pairs)) for table, pairs in self.ranges.items())


class _Asked:
    """A question to several peers: done when all have answered, or one cannot, or it takes too long."""

    __slots__ = ("answers", "done", "missing", "op", "timer")

    def __init__(self, op: int, missing: list[PeerId], done: Callable[[_Asked, str], None]) -> None:
        self.op = op
        self.missing = missing
        self.done = done
        self.answers: dict[PeerId, int] = {}
        self.timer = 0


class FloorRounds:
    """Leads the rounds of its groups, takes part in those of others, and purges."""

    def __init__(
        self,
        inside: Inside,
        metadata: Metadata,
        swim: Swim,
        following: Following,
        *,
        hints: Hints,
        batch_log: BatchLog,
        paxos: Paxos,
        boot: Mapping[bytes, bytes],
    ) -> None:
        """`boot` holds the system records as of the start; the bound once told is among them."""
        self._inside = inside
        self._metadata = metadata
        self._swim = swim
        self._following = following
        self._hints = hints
        self._batch_log = batch_log
        self._paxos = paxos
        self._me = inside.identity.peer
        self._bound_us = int.from_bytes(boot.get(BOUND_KEY, b""), "big")
        self._durable_us = self._bound_us
        """What of it is durable, and may be told."""
        self.is_uncompared: Callable[[PeerId], bool] = lambda _: False
        """Whether what a sibling logged may be missing here though its log is followed (node/compared.py)."""
        batch_log.bound_us = self._bound_us
        self._asked: dict[int, _Asked] = {}
        self._groups: list[Group] = []
        self._others: list[Group] = []
        self._moving: dict[tuple[PeerId, ...], Group] = {}
        """What moves to other replicas: its floors wait until it has."""
        self._epoch = 0
        self._wanted: dict[tuple[PeerId, ...], None] = {}
        """Groups in which another replica has something to purge."""
        self._todo: deque[Group] = deque()
        self._to_purge: OrderedDict[tuple[int, int, int], None] = OrderedDict()
        self._purging = False
        self._purge_began_us = 0
        self._finishing: dict[bytes, None] = {}
        inside.on_message(BoundAsk, lambda peer, m: self._tell_bound(peer, m.op))
        inside.on_message(BoundTold, lambda peer, m: self._on_answer(peer, m.op, m.bound_us, ""))
        inside.on_message(FloorAsk, self._on_ask)
        inside.on_message(FloorWanted, lambda _, m: self._on_wanted(m.replicas))
        inside.on_message(FloorTold, lambda peer, m: self._on_answer(peer, m.op, 0, m.why))
        inside.on_timer("floors", self._begin)
        inside.on_timer("floors_late", self._on_late)
        inside.on_timer("floors_again", self._again)
        inside.on_timer("purge", self._purge)
        inside.on_stored("floors_due", self._on_due)
        inside.on_stored("floor_due", self._on_group_due)
        inside.on_stored("floor_late", self._on_others_due)
        inside.on_stored("floor_bound", self._on_bound_written)
        inside.on_stored("floor_step", self._on_step)
        inside.on_stored("purged", self._on_purged)

    def start(self) -> None:
        """The first look comes at a moment of this peer's own."""
        interval_us = self._inside.settings.purge_interval_us
        if interval_us:
            own = int.from_bytes(self._me[:8], "big")
            self._inside.timer(1 + own % interval_us, "floors")

    def status(self) -> list[Group]:
        """The groups that this peer leads."""
        return [*self._groups, *(group for group in self._moving.values() if group.replicas[0] == self._me)]

    # --- a pass

    def _next_pass(self) -> None:
        self._inside.count("floors_waiting_now", sum(bool(group.waiting) for group in self.status()))
        self._inside.timer(self._inside.settings.purge_interval_us, "floors")

    def _begin(self) -> None:
        if self._metadata.unready:
            self._next_pass()
            return
        if self._metadata.state.epoch != self._epoch:
            self._epoch = self._metadata.state.epoch
            everything = self._all_groups()
            self._groups = [group for group in everything if group.replicas[0] == self._me]
            self._others = [group for group in everything if group.replicas[0] != self._me]
        parts = tuple(part for group in (*self._groups, *self._others) for part in group.parts)
        until_us = self._inside.clock.now_us() - self._inside.settings.purge_slack_us
        # a clock that was set back is behind what was promised: what is dead by that is due all the same
        self._inside.submit(("floors_due",), GarbageDue(max(until_us, self._bound_us), parts))

    def _all_groups(self) -> list[Group]:
        """The groups that this peer is in; of each the first replica, that with the least number, leads."""
        state = self._metadata.state
        found: dict[tuple[PeerId, ...], Group] = {}
        self._moving = {}
        numbers = {member.peer: member.number for member in state.members}
        for table in sorted(state.tables):
            placement = state.placement(table)
            if placement is None:
                continue
            for (first, last), holders in placement.ranges():
                if self._me not in holders:
                    continue
                replicas = tuple(sorted(holders, key=lambda peer: numbers.get(peer, 0)))
                into = found if placement.sides_of(first) is None else self._moving
                group = into.setdefault(replicas, Group(replicas))
                group.ranges.setdefault(table, []).append((first, last))
        for group in self._moving.values():
            group.wait(MOVING, self._inside.world.monotonic_us())
        return list(found.values())

    def _on_due(self, outcome: Outcome) -> None:
        """Whether there is anything to do at all."""
        if isinstance(outcome, IsDue) and outcome.due:
            late_us = self._inside.settings.purge_slack_us + 2 * self._inside.settings.purge_interval_us
            until_us = self._inside.clock.now_us() - late_us
            for group in self._others:
                self._inside.submit(("floor_late", group), GarbageDue(until_us, group.parts))
        elif not (isinstance(outcome, IsDue) and self._wanted):
            for group in self._groups:
                group.go_on()
                if not isinstance(outcome, IsDue):
                    group.wait(str(outcome), self._inside.world.monotonic_us())
            self._next_pass()
            return
        members = [member.peer for member in self._metadata.state.members]
        alive = [peer for peer in members if peer == self._me or self._swim.is_alive(peer)]
        asked = self._ask(alive, self._on_bounds, BOUND_US)
        for peer in alive:
            if peer == self._me:
                self._tell_bound(peer, asked.op)
            else:
                self._inside.send(peer, BoundAsk(asked.op))

    def _on_others_due(self, outcome: Outcome, group: Group) -> None:
        """What is dead here for long: its leader may know of nothing, or we did not hear of a round's end.

        How long is no question of clocks alone, which may have been set back: what was settled and not
        ended at two looks waits for nothing else.
        """
        if not isinstance(outcome, IsDue):
            return
        _, settled_us, floor_us = outcome.heights
        heights = outcome.heights if settled_us > floor_us else (0, 0, 0)
        is_unended = heights == group.unended != (0, 0, 0)
        group.unended = heights
        if outcome.due:
            self._plan_purge(group.parts)
        if outcome.due or is_unended:
            self._inside.send(group.replicas[0], FloorWanted(group.replicas))

    def _on_wanted(self, replicas: tuple[PeerId, ...]) -> None:
        if len(self._wanted) < WANTED_MAX:
            self._wanted[replicas] = None

    def _on_bounds(self, asked: _Asked, why: str) -> None:
        """Who has not said its bound by now is taken for down."""
        del why
        state, now_us = self._metadata.state, self._inside.clock.now_us()
        silent = [member for member in state.members if member.peer not in asked.answers]
        least_us = min(asked.answers.values(), default=0)
        if silent:
            least_us = min(least_us, now_us - self._inside.settings.hint_window_us)
        for group in self._groups:
            down = [member.name for member in silent if member.peer in group.replicas]
            group.floor_us = min(asked.answers.values(), default=0) if not silent else least_us
            why = f"{', '.join(down)} down: all replicas have to take part" if down else ""
            group.wait(why, self._inside.world.monotonic_us())
        self._todo = deque(group for group in self._groups if not group.waiting)
        self._next_group()

    def _next_group(self) -> None:
        if not self._todo:
            self._next_pass()
            return
        group = self._todo.popleft()
        self._inside.submit(("floor_due", group), GarbageDue(group.floor_us, group.parts))

    def _on_group_due(self, outcome: Outcome, group: Group) -> None:
        if isinstance(outcome, IsDue):
            group.heights = outcome.heights
            if outcome.due:
                self._plan_purge(group.parts)  # what an earlier start did not come to
            wanted = group.replicas in self._wanted
            self._wanted.pop(group.replicas, None)
            higher = group.floor_us > outcome.heights[2]
            if (outcome.due and higher) or (wanted and group.floor_us >= outcome.heights[2]):
                self._step(group, FloorStep.PROMISE)
                return
            group.go_on()
        self._next_group()

    def _step(self, group: Group, step: FloorStep) -> None:
        """Have all replicas take a step, then the next one."""

        def done(_: _Asked, why: str) -> None:
            if why:
                group.wait(why, self._inside.world.monotonic_us())
                self._inside.count("floor_rounds_stopped")
            elif step is FloorStep.END:
                group.heights = (group.floor_us,) * 3
                group.go_on()
                self._inside.count("floor_rounds")
            else:
                self._step(group, FloorStep(step + 1))
                return
            self._next_group()

        asked = self._ask(list(group.replicas), done, STEP_US)
        epoch = self._metadata.state.epoch
        ask = FloorAsk(asked.op, epoch, step, group.floor_us, group.replicas, group.parts)
        self._inside.timer(AGAIN_US, "floors_again", ask)
        for peer in group.replicas:
            if peer == self._me:
                self._on_ask(peer, ask)
            elif not self._send_step(peer, ask):
                self._on_answer(peer, asked.op, 0, f"{self._name(peer)} is not reached")

    def _send_step(self, peer: PeerId, ask: FloorAsk) -> bool:
        return self._inside.send(peer, ask, lane_for(32 * sum(len(pairs) + 1 for _, pairs in ask.parts)))

    def _again(self, ask: FloorAsk) -> None:
        """A question or its answer may be lost: whoever has not answered is asked again."""
        asked = self._asked.get(ask.op)
        if asked is not None:
            for peer in asked.missing:
                if peer != self._me:
                    self._send_step(peer, ask)
            self._inside.timer(AGAIN_US, "floors_again", ask)

    # --- questions

    def _ask(self, peers: list[PeerId], done: Callable[[_Asked, str], None], timeout_us: int) -> _Asked:
        asked = _Asked(self._inside.new_op(), peers, done)
        self._asked[asked.op] = asked
        asked.timer = self._inside.timer(timeout_us, "floors_late", asked.op)
        return asked

    def _on_answer(self, peer: PeerId, op: int, value: int, why: str) -> None:
        asked = self._asked.get(op)
        if asked is None or peer not in asked.missing:
            return
        asked.missing = [other for other in asked.missing if other != peer]
        asked.answers[peer] = value
        if why or not asked.missing:
            self._close(asked, why)

    def _on_late(self, op: int) -> None:
        asked = self._asked.get(op)
        if asked is not None:
            names = ", ".join(self._name(peer) for peer in asked.missing)
            self._close(asked, f"{names} did not answer in time")

    def _close(self, asked: _Asked, why: str) -> None:
        del self._asked[asked.op]
        self._inside.world.cancel_timer(asked.timer)
        asked.done(asked, why)

    def _name(self, peer: PeerId) -> str:
        return next((m.name for m in self._metadata.state.members if m.peer == peer), peer.hex())

    # --- bounds

    def _tell_bound(self, peer: PeerId, op: int) -> None:
        """Say it when it is durable; what comes to be kept is measured against it from now on."""
        bound_us = self._inside.clock.now_us() - self._inside.settings.purge_slack_us
        for oldest_us in (self._batch_log.oldest_admitted_us, self._hints.oldest_relied_on_us()):
            if oldest_us is not None:
                bound_us = min(bound_us, oldest_us - 1)
        if bound_us <= self._durable_us or not self._batch_log.is_known:
            self._told(peer, op)
            return
        self._bound_us = self._batch_log.bound_us = bound_us = max(bound_us, self._bound_us)
        record = (BOUND_KEY, bound_us.to_bytes(8, "big"))
        self._inside.submit(("floor_bound", peer, op, bound_us), SystemWrite((record,)))

    def _on_bound_written(self, outcome: Outcome, peer: PeerId, op: int, bound_us: int) -> None:
        if isinstance(outcome, Done):
            self._durable_us = max(self._durable_us, bound_us)
            self._told(peer, op)

    def _told(self, peer: PeerId, op: int) -> None:
        if peer == self._me:
            self._on_answer(peer, op, self._durable_us, "")
        else:
            self._inside.send(peer, BoundTold(op, self._durable_us))

    # --- taking part

    def _on_ask(self, peer: PeerId, message: FloorAsk) -> None:
        metadata = self._metadata
        if message.epoch > metadata.state.epoch:
            metadata.catch_up(peer, message.epoch, lambda: self._on_ask(peer, message))
            return

        def say(why: str) -> None:
            text = f"{self._inside.identity.name}: {why}" if why else ""
            if peer == self._me:
                self._on_answer(peer, message.op, 0, text)
            else:
                self._inside.send(peer, FloorTold(message.op, text))

        if message.epoch < metadata.state.epoch or not self._is_ours(message):
            say("the placement has changed")
        elif message.step == FloorStep.SETTLE:
            self._settle(message, say)
        else:
            self._take(message, say)

    def _is_ours(self, message: FloorAsk) -> bool:
        """Whether exactly these replicas hold these ranges."""
        for table, pairs in message.parts:
            placement = self._metadata.state.placement(table)
            if placement is None:
                return False
            for first, _ in pairs:
                if placement.sides_of(first) is not None:
                    return False
                if sorted(placement.replicas(first)) != sorted(message.replicas):
                    return False
        return True

    def _settle(self, message: FloorAsk, say: Say) -> None:
        others = [peer for peer in message.replicas if peer != self._me]

        def followed(reached: frozenset[PeerId]) -> None:
            behind = [self._name(peer) for peer in others if peer not in reached]
            uncompared = [self._name(peer) for peer in others if self.is_uncompared(peer)]
            if behind:
                say(f"cannot follow the log of {', '.join(behind)} to its end")
            elif uncompared:
                names = ", ".join(uncompared)
                say(f"since ranges moved, or were damaged, rows have still to be compared with {names}")
            else:
                self._take(message, say)

        deadline_us = self._inside.world.monotonic_us() + STEP_US * 3 // 4
        self._following.follow_now(others, followed, deadline_us)

    def _take(self, message: FloorAsk, say: Say) -> None:
        command = RaiseFloor(FloorStep(message.step), message.floor_us, message.parts)
        self._inside.submit(("floor_step", command, say), command)

    def _on_step(self, outcome: Outcome, command: RaiseFloor, say: Say) -> None:
        if isinstance(outcome, FloorBlocked):
            for table, prefix in outcome.partitions:
                self._finish(table, prefix)
            say("a conditional update is not finished")
        elif isinstance(outcome, Failed):
            say(outcome.detail)
        else:
            say("")
            if command.step is FloorStep.END:
                self._plan_purge(command.parts)

    def _finish(self, table: int, prefix: bytes) -> None:
        """End what was begun in a partition, by reading it at SERIAL."""
        if prefix in self._finishing:
            return
        self._finishing[prefix] = None

        def finished(_: Any) -> None:
            del self._finishing[prefix]

        row = prefix + keys.ROW_SUFFIX
        part = Slice(table, row, b"", b"", True, 1, limits.MIB)
        partition = keys.unescaped(prefix, keys.PARTITION_AT)[0]
        deadline_us = self._inside.world.monotonic_us() + STEP_US
        self._inside.count("floors_finished_proposals")
        self._paxos.read(part, partition, Level.SERIAL, deadline_us, finished)

    # --- purging

    def _plan_purge(self, parts: FloorParts) -> None:
        for table, pairs in parts:
            for first, last in pairs:
                self._to_purge.setdefault((table, first, last))
        if not self._purging and self._to_purge:
            self._purging = True
            self._inside.timer(1, "purge", b"")

    def _purge(self, after: bytes) -> None:
        table, first, last = next(iter(self._to_purge))
        self._purge_began_us = self._inside.world.monotonic_us()
        command = Purge(table, first, last, after, PURGE_ROWS)
        self._inside.submit(("purged",), command)

    def _on_purged(self, outcome: Outcome) -> None:
        after = b""
        pause_us = 1
        if isinstance(outcome, Purged):
            after = outcome.after
            self._inside.count("purged_records", outcome.changed)
            spent_us = self._inside.world.monotonic_us() - self._purge_began_us
            pause_us = max(1, outcome.looked_at * limits.SECOND_US // PURGE_ROWS_PER_S - spent_us)
        elif isinstance(outcome, Failed):
            self._inside.log("warning", "not_purged", f"deletions stay for now: {outcome.detail}")
        if not after:
            self._to_purge.popitem(last=False)
        self._purging = bool(self._to_purge)
        if self._purging:
            self._inside.timer(pause_us, "purge", after)
