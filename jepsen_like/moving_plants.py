"""Bugs of moving ranges, planted one at a time: a workload under churn (jepsen_like/churn.py) catches each.

A plant is a function that breaks one rule in the classes of the node, and returns how to mend it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from core.consistency import Level, Need, need
from core.ports import PeerId
from jepsen_like.churn import ChurnRun
from node import moving_stream
from node.moving import Moving
from node.moving_ring import MovingRing, Replicas, Sides
from node.moving_stream import Stream
from sim.options import Options
from sim.real import RealSoftware

Undo = Callable[[], None]
SECOND = 1_000_000


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

    return _patch(Stream, "_paxos", nothing)


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


PLANTS: Final[dict[str, Callable[[], Undo]]] = {
    "nothing is merged": nothing_is_merged,
    "one source": one_source,
    "met among the new": met_among_the_new,
    "met among the old": met_among_the_old,
    "Paxos stays": paxos_stays,
    "at once": at_once,
    "kept": kept,
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
