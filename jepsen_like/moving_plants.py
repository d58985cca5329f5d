"""Bugs of moving ranges, planted one at a time: a workload under churn (jepsen_like/churn.py) catches each.

A plant is a function that breaks one rule in the classes of the node, and returns how to mend it again.

Some rules are there for what nothing else would make good. Whoever is given ranges also follows its siblings,
and is compared with them, so that a bug of merging shows only if these are late; `caught_alone` leaves a
cluster nothing but its moves: each write is lost on its way to some replicas, nobody follows, compares or
drains, no hints. That Paxos state moves shows in a single interleaving, which is counterexample 30 in
tests/scenarios/test_counterexamples_moving.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from zlib import crc32

import msgspec

from core.consistency import Level, Need, need
from core.messages import ApplyMutation, Message
from core.metadata import BeginMove
from core.ports import PeerId
from core.settings import Settings
from jepsen_like.checkers import Problem
from jepsen_like.churn import CHURN, ChurnRun, run_with_churn
from jepsen_like.plants import forget_states
from jepsen_like.run import Verdict
from jepsen_like.workloads.set_workload import PLAIN, SetWorkload
from node import moving_stream
from node.metadata_moves import MembersDraft
from node.moving import Moving
from node.moving_ring import MovingRing, Replicas, Sides
from node.moving_stream import Stream
from sim.options import NetworkOptions, Options
from sim.real import RealSoftware

Undo = Callable[[], None]
SECOND = 1_000_000
NEVER_US = 3_600 * SECOND


def _patch(owner: Any, name: str, value: Any) -> Undo:
    before = getattr(owner, name)
    setattr(owner, name, value)
    return lambda: setattr(owner, name, before)


def nothing_is_merged() -> Undo:
    """The newcomer says that it holds everything, and has asked nobody."""

    def steps(_: Stream) -> Any:
        yield from ()

    return _patch(Stream, "steps", steps)


def one_source() -> Undo:
    """A newcomer that takes the place of a lost peer is filled from one of the others."""
    whole = moving_stream.choose_sources

    def choose(me: PeerId, sides: Sides, adopted: Sequence[PeerId], placement: Any) -> Replicas | None:
        found = whole(me, sides, adopted, placement)
        return None if found is None else found[:1]

    return _patch(moving_stream, "choose_sources", choose)


def met_among_the_new() -> Undo:
    """While both are written, a level is met among the new replicas alone."""

    def only_new(self: MovingRing, level: Level, token: int, local: str) -> Need:
        sides = self.sides_of(token)
        if sides is None:
            return need(level, self.old.factors, local)
        wanted = need(level, self.new.factors, local), sides[1]
        return Need(wanted[0].total, sides=(wanted, wanted))

    return _patch(MovingRing, "need", only_new)


def met_among_the_old() -> Undo:
    """While both are written, a level is met among the old replicas alone."""

    def only_old(self: MovingRing, level: Level, token: int, local: str) -> Need:
        sides = self.sides_of(token)
        wanted = need(level, self.old.factors, local)
        return wanted if sides is None else Need(wanted.total, sides=((wanted, sides[0]), (wanted, sides[0])))

    return _patch(MovingRing, "need", only_old)


def paxos_stays() -> Undo:
    """Rows move, what was promised and accepted does not."""

    def nothing(*_: Any) -> Any:
        yield from ()

    undo = [_patch(Stream, "_paxos_of_all", nothing), _patch(Stream, "_paxos", nothing)]

    def mend() -> None:
        for one in undo:
            one()

    return mend


def at_once() -> Undo:
    """Each next phase begins without waiting for anybody."""
    undo = [
        _patch(Moving, "_may_hand_over", lambda *_: True),
        _patch(Moving, "_may_finish", lambda *_: True),
    ]

    def mend() -> None:
        for one in undo:
            one()

    return mend


def kept() -> Undo:
    """What was given up is never deleted."""

    def nothing(self: Moving, _: Any, ended: int) -> Any:
        self._cleaned = ended
        yield from ()

    return _patch(Moving, "_clean", nothing)


def two_at_once() -> Undo:
    """A move may begin while another one is under way."""
    whole = MembersDraft._begin

    def begin(self: MembersDraft, change: BeginMove) -> None:
        self.move = None
        whole(self, msgspec.structs.replace(change, base=self._base))

    undo = _patch(MembersDraft, "_begin", begin)
    forget_states()

    def mend() -> None:
        undo()
        forget_states()

    return mend


def undrained() -> Undo:
    """Nobody follows the old replicas once more under hand-over: that is for what ONE acknowledged."""

    def at_once(self: Moving, _: Any, move: Any) -> None:
        self._drained = move.id

    return _patch(Moving, "_drain", at_once)


PLANTS: Final[dict[str, Callable[[], Undo]]] = {
    "nothing is merged": nothing_is_merged,
    "one source": one_source,
    "met among the new": met_among_the_new,
    "met among the old": met_among_the_old,
    "at once": at_once,
    "kept": kept,
    "two at once": two_at_once,
}


def caught(plant: str, workload: str, seed: int, kinds: tuple[str, ...], seconds: int = 15) -> list[str]:
    """The names of the problems that a run finds with this bug ("" for no plant)."""
    undo = PLANTS[plant]() if plant else (lambda: None)
    try:
        options = Options.draw(seed)
        run = ChurnRun(options, workload, RealSoftware(), False)
        run.churn(kinds, kill=0.5)
        return [problem.name for problem in run.go(seconds * SECOND)]
    finally:
        undo()


def caught_on_tour(plant: str, workload: str, seed: int) -> Verdict:
    """A run of all kinds of moves (jepsen_like/churn.py) with this bug ("" for no plant)."""
    undo = PLANTS[plant]() if plant else (lambda: None)
    try:
        return run_with_churn(seed, workload + CHURN, 1)
    finally:
        undo()


ALONE: Final = Settings(
    hints=False,
    follow_pause_us=NEVER_US,
    follow_idle_us=NEVER_US,
    anti_entropy_pause_us=NEVER_US,
    purge_interval_us=0,
    scrub_every_us=0,
    write_timeout_us=SECOND,
    read_timeout_us=SECOND,
)
LOST_SHARE = 30
"""So many of a hundred writes never reach a replica."""


class _Adds(SetWorkload):
    """Elements are added and, until the end, not read: reading repairs."""

    kinds: tuple[str, ...] = ("add",)

    def step(self) -> None:
        """An add."""
        self._add(PLAIN, "add", -1)

    def final(self) -> None:
        """Everything through each peer."""
        self._final_left = peers = len(self.session.cluster.machines)
        for peer in range(peers):
            self._final_page(PLAIN, self.read_level, peer, [])


class _OnlyMoves(ChurnRun):
    """Replicas are not equal in the end, and not waited for."""

    def liveness(self) -> list[Problem]:
        """Not looked at."""
        return []

    def convergence(self) -> list[Problem]:
        """Not looked at."""
        return []


def _is_lost(source: int, target: int, message: Message) -> bool:
    """Whether a write never gets there, however often it is sent."""
    if source == target or not isinstance(message, ApplyMutation):
        return False
    return crc32(message.mutation + bytes([target])) % 100 < LOST_SHARE


def caught_alone(
    plant: str, seed: int, kinds: tuple[str, ...], seconds: int = 12, *, workload: str = "adds"
) -> list[str]:
    """As `caught`, of a cluster whose replicas become equal by moves alone; "adds" are a set that is read
    in the end only.
    """
    undo = [undrained()] + ([PLANTS[plant]()] if plant else [])
    network = NetworkOptions(jitter_us=2_000)
    try:
        options = Options(
            seed=seed, peers=4, settings=ALONE, network=network, rate=100, faults=("slow_link",)
        )
        run = _OnlyMoves(options, "set" if workload == "adds" else workload, RealSoftware(), False)
        if workload == "adds":
            run.workload = _Adds()
        run.churn(kinds, kill=0.0)
        run.cluster.network.drop = _is_lost
        return [problem.name for problem in run.go(seconds * SECOND)]
    finally:
        for one in reversed(undo):
            one()
