"""Faults made of other faults: storms, rolling restarts, duty cycles, cuts that come one by one.

Like those of jepsen_like/nemesis.py each is a function that begins and returns how to undo it. What goes on
for a while (`Repeated`) ends with its undoing, also in the middle of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jepsen_like.nemesis import Fault, Nemesis

Undo = Callable[[], None]

MS = 1_000
STORM_PAUSE_US = (50 * MS, 600 * MS)
STUTTER_US = (10 * MS, 400 * MS)
STROBE_US = (1 * MS, 500 * MS)
ROLLING_LOOK_US = 100 * MS
ROLLING_DOWN_US = (100 * MS, 1_500 * MS)
CLOG_US = (50 * MS, 400 * MS)
STROBE_MAX_US = 262_000 * MS
AT_ONCE = 3
"""Faults of `all_at_once`."""


class Repeated:
    """Something that is done again and again, at drawn intervals, until it is over."""

    def __init__(self, nemesis: Nemesis, pause_us: tuple[int, int], step: Callable[[], None]) -> None:
        self.over = False
        self._nemesis = nemesis
        self._pause_us = pause_us
        self._step = step
        self._go()

    def _go(self) -> None:
        if self.over:
            return
        self._step()
        low_us, high_us = self._pause_us
        self._nemesis.cluster.scheduler.after(self._nemesis.random.randrange(low_us, high_us), self._go)

    def end(self) -> None:
        """No more steps."""
        self.over = True


def delay(nemesis: Nemesis) -> Undo:
    """Every message takes longer."""
    network = nemesis.cluster.network
    network.delay = nemesis.random.choice((3, 10, 40))

    def undo() -> None:
        network.delay = 1

    return undo


def duplicate(nemesis: Nemesis) -> Undo:
    """Many messages arrive twice."""
    network = nemesis.cluster.network
    network.duplication = nemesis.random.choice((0.1, 0.5, 1.0))

    def undo() -> None:
        network.duplication = nemesis.options.network.duplication

    return undo


def reorder(nemesis: Nemesis) -> Undo:
    """Many messages are overtaken by later ones."""
    network = nemesis.cluster.network
    network.reordering = nemesis.random.choice((0.2, 0.5, 0.9))

    def undo() -> None:
        network.reordering = nemesis.options.network.reordering

    return undo


def clog(nemesis: Nemesis) -> Undo:
    """Peers are cut off one after the other, and let in again in another order (FoundationDB's swizzle)."""
    cluster = nemesis.cluster
    victims = nemesis.some()
    nemesis.random.shuffle(victims)
    back = list(victims)
    nemesis.random.shuffle(back)

    def step() -> None:
        if victims:
            cluster.isolate(victims.pop())
        elif back:
            cluster.network.unblock(back.pop())

    steps = Repeated(nemesis, CLOG_US, step)

    def undo() -> None:
        steps.end()
        cluster.network.unblock_all()

    return undo


def storm(nemesis: Nemesis) -> Undo:
    """Some are killed and started, again and again, faster than they settle."""
    cluster, victims = nemesis.cluster, nemesis.some()

    def step() -> None:
        index = nemesis.random.choice(victims)
        if cluster.machines[index].process is None:
            cluster.start(index)
        else:
            cluster.kill(index)

    steps = Repeated(nemesis, STORM_PAUSE_US, step)

    def undo() -> None:
        steps.end()
        nemesis.starts(victims)()

    return undo


def rolling(nemesis: Nemesis) -> Undo:
    """One after the other is told to stop and started again; the next one's turn comes when it is ready."""
    cluster, waiting = nemesis.cluster, nemesis.everybody()
    nemesis.random.shuffle(waiting)
    everybody = list(waiting)
    out: list[int] = []

    def step() -> None:
        if out and not nemesis.ready(out[0]):
            return
        out.clear()
        if waiting:
            index = waiting.pop()
            out.append(index)
            cluster.stop(index)
            down_us = nemesis.random.randrange(*ROLLING_DOWN_US)
            cluster.scheduler.after(down_us, cluster.start, index)

    steps = Repeated(nemesis, (ROLLING_LOOK_US, 2 * ROLLING_LOOK_US), step)

    def undo() -> None:
        steps.end()
        nemesis.starts(everybody)()

    return undo


def stutter(nemesis: Nemesis) -> Undo:
    """One stands still and goes on, again and again: slow, but never gone."""
    cluster, victim = nemesis.cluster, nemesis.one()
    still: list[bool] = []

    def step() -> None:
        if still:
            still.clear()
            cluster.resume(victim)
        else:
            still.append(True)
            cluster.pause(victim)

    steps = Repeated(nemesis, STUTTER_US, step)

    def undo() -> None:
        steps.end()
        cluster.resume(victim)

    return undo


def strobe(nemesis: Nemesis) -> Undo:
    """Some wall clocks jump to and fro."""
    clocks = [nemesis.cluster.machines[index].clock for index in nemesis.some()]
    by_us = int(4 * MS * (STROBE_MAX_US / (4 * MS)) ** nemesis.random.random())
    ahead: list[bool] = []

    def step() -> None:
        for clock in clocks:
            clock.jump(-by_us if ahead else by_us)
        if ahead:
            ahead.clear()
        else:
            ahead.append(True)

    steps = Repeated(nemesis, STROBE_US, step)

    def undo() -> None:
        steps.end()
        if ahead:
            step()

    return undo


def all_at_once(nemesis: Nemesis) -> Undo:
    """Several other faults together."""
    kinds = [kind for kind in nemesis.kinds if kind != "all_at_once"] or ["kill", "halves", "clock"]
    names = sorted(nemesis.random.sample(kinds, min(AT_ONCE, len(kinds))))
    undos = [nemesis.begin(name) for name in names]

    def undo() -> None:
        for one in undos:
            one()

    return undo


MORE: dict[str, Fault] = {
    "delay": delay,
    "duplicate": duplicate,
    "reorder": reorder,
    "clog": clog,
    "storm": storm,
    "rolling": rolling,
    "stutter": stutter,
    "strobe": strobe,
    "all_at_once": all_at_once,
}
"""By the names of `sim.options.MORE_FAULTS`."""
