"""Faults on a schedule, knowing nothing of workloads.

Each kind of fault is a function that does it and returns how to undo it. A nemesis draws from the seed
when, what, on whom and for how long. It sees to it that what it broke is mended in the end (`heal`):
processes started and resumed, cuts and slow links and slow disks gone. Clocks stay as wrong as they are:
they must not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from jepsen_like.more_faults import MORE
from lsm import keys
from lsm.lost import LOST_PREFIX
from sim.cluster import SimCluster
from sim.machine import Machine

SECOND = 1_000_000
CLOCK_JUMP_MAX_US = 288 * SECOND
RESTART_WITHIN_US = 5 * SECOND
LOST = keys.system_key(LOST_PREFIX)
DAMAGEABLE = (
    keys.ROW,
    keys.ROW,
    keys.LOG,
    keys.LOG_BODY,
    keys.MUTATION_ID,
    keys.TREE,
    keys.PAXOS,
    keys.ENTRY,
)
"""Regions in which bits flip; rows twice as often."""

SHORTEST_US = 300_000
"""No fault is shorter."""

Undo = Callable[[], None]
Fault = Callable[["Nemesis"], Undo]


class Nemesis:
    """What goes wrong in one run, and a record of it."""

    def __init__(self, cluster: SimCluster, ready: Callable[[int], bool] | None = None) -> None:
        """`ready` says whether a machine serves; without it, one that runs does."""
        self.cluster = cluster
        self.ready = ready or (lambda index: cluster.machines[index].process is not None)
        self.options = cluster.options
        self.random = Random(f"{cluster.options.seed}:nemesis")
        self.kinds = (*cluster.options.faults, *cluster.options.more_faults)
        self.done: list[tuple[int, str]] = []
        self.ended: dict[int, int] = {}
        """When the fault of that place in `done` was undone."""
        self.spared = False
        """Whether bits flip nowhere now, because a copy is lost already."""
        self._active: dict[int, Undo] = {}
        self._next = 0
        self._running = False

    # --- schedule

    def start(self, duration_us: int, *, power_every_us: int = 20 * SECOND) -> None:
        """Begin to draw faults; the power of all fails at least that often, whatever is drawn (0: no)."""
        self._running = True
        self._draw()
        self._watch()
        cuts = max(1, duration_us // power_every_us) if power_every_us else 0
        for number in range(cuts):
            at_us = int(duration_us * (number + 0.3 + 0.4 * self.random.random())) // cuts
            self.cluster.scheduler.after(at_us, self._scheduled, "power_all")

    def last(self, duration_us: int) -> None:
        """Let things go wrong for so long."""
        self.cluster.run_for(duration_us)

    def stop(self) -> None:
        """No new faults."""
        self._running = False

    def heal(self) -> None:
        """Undo everything: what a nemesis broke works again at once."""
        self.stop()
        for number in list(self._active):
            self._undo(number)
        self.cluster.heal()
        for machine in self.cluster.machines:
            self.cluster.resume(machine.index)
        self.cluster.start_all()

    def _draw(self) -> None:
        if not self._running:
            return
        if not self._active or self.options.two_at_once:
            self.inflict(self.random.choice(self.kinds))
        pause_us = int(self.options.fault_period_us * (0.5 + self.random.random()))
        self.cluster.scheduler.after(pause_us, self._draw)

    def _scheduled(self, name: str) -> None:
        if self._running:
            self.inflict(name)

    def inflict(self, name: str) -> None:
        """Do one fault now, and undo it after a drawn time."""
        number, self._next = self._next, self._next + 1
        self.done.append((self.cluster.now_us, name))
        undo = self.begin(name)
        self._active[number] = undo
        length_us = SHORTEST_US + int(self.options.fault_length_us * 2 * self.random.random())
        self.cluster.scheduler.after(length_us, self._undo, number)

    def active(self) -> list[str]:
        """The kinds of faults that are there now."""
        return [self.done[number][1] for number in self._active]

    def begin(self, name: str) -> Undo:
        """Do one fault; the caller sees to its end."""
        return FAULTS[name](self)

    def _undo(self, number: int) -> None:
        undo = self._active.pop(number, None)
        if undo is not None:
            self.ended[number] = self.cluster.now_us
            undo()

    def _watch(self) -> None:
        """Whoever died of something else (a failed sync) is started again after a while."""
        if not self._running:
            return
        for machine in self.cluster.machines:
            if machine.process is None and not self._active:
                self.cluster.start(machine.index)
        self.cluster.scheduler.after(self.random.randrange(1, RESTART_WITHIN_US), self._watch)

    # --- whom

    def one(self) -> int:
        """Some machine."""
        return self.random.randrange(len(self.cluster.machines))

    def some(self) -> list[int]:
        """One machine or more, all but one at the most."""
        everybody = self.everybody()
        return sorted(self.random.sample(everybody, self.random.randint(1, len(everybody) - 1)))

    def everybody(self) -> list[int]:
        """All machines."""
        return [machine.index for machine in self.cluster.machines]

    def starts(self, indexes: list[int]) -> Undo:
        """Undo a death."""

        def undo() -> None:
            for index in indexes:
                self.cluster.start(index)

        return undo


def kill(nemesis: Nemesis) -> Undo:
    """kill -9 some."""
    victims = nemesis.some()
    for index in victims:
        nemesis.cluster.kill(index)
    return nemesis.starts(victims)


def kill_all(nemesis: Nemesis) -> Undo:
    """kill -9 all."""
    for index in nemesis.everybody():
        nemesis.cluster.kill(index)
    return nemesis.starts(nemesis.everybody())


def power(nemesis: Nemesis) -> Undo:
    """Cut the power of some."""
    return _power(nemesis, nemesis.some())


def power_all(nemesis: Nemesis) -> Undo:
    """Cut the power of all."""
    return _power(nemesis, nemesis.everybody())


def _power(nemesis: Nemesis, victims: list[int]) -> Undo:
    """Cut the power, mostly after a moment in which syncs take long: then there is something to lose."""
    cluster = nemesis.cluster
    machines = [cluster.machines[index] for index in victims]
    if not nemesis.random.randrange(4):
        cluster.power_cut(victims)
        return nemesis.starts(victims)
    moment_us = nemesis.random.randrange(1, SHORTEST_US)
    over: list[bool] = []
    for machine in machines:
        machine.slow_sync_us = SHORTEST_US

    def cut() -> None:
        for machine in machines:
            machine.slow_sync_us = 0
        if not over:
            cluster.power_cut(victims)

    def undo() -> None:
        over.append(True)
        for machine in machines:
            machine.slow_sync_us = 0
        nemesis.starts(victims)()

    cluster.scheduler.after(moment_us, cut)
    return undo


def pause(nemesis: Nemesis) -> Undo:
    """SIGSTOP some."""
    victims = nemesis.some()
    for index in victims:
        nemesis.cluster.pause(index)

    def undo() -> None:
        for index in victims:
            nemesis.cluster.resume(index)

    return undo


def halves(nemesis: Nemesis) -> Undo:
    """Cut the cluster in two."""
    one = nemesis.some()
    nemesis.cluster.cut(one, [index for index in nemesis.everybody() if index not in one])
    return nemesis.cluster.network.unblock_all


def isolate(nemesis: Nemesis) -> Undo:
    """Cut one off."""
    nemesis.cluster.isolate(nemesis.one())
    return nemesis.cluster.network.unblock_all


def bridge(nemesis: Nemesis) -> Undo:
    """Two halves that only one machine hears both of."""
    everybody = nemesis.everybody()
    nemesis.random.shuffle(everybody)
    middle = len(everybody) // 2
    nemesis.cluster.cut(everybody[:middle], everybody[middle + 1 :])
    return nemesis.cluster.network.unblock_all


def ring(nemesis: Nemesis) -> Undo:
    """Everybody hears a majority, each another one."""
    everybody = nemesis.everybody()
    nemesis.random.shuffle(everybody)
    n = len(everybody)
    for at, index in enumerate(everybody):
        heard = [everybody[(at + step) % n] for step in range(-(n // 4) - 1, n // 4 + 2)]
        nemesis.cluster.cut([index], [other for other in everybody if other not in heard])
    return nemesis.cluster.network.unblock_all


def one_way(nemesis: Nemesis) -> Undo:
    """What one group says to the other is lost; it still hears."""
    one = nemesis.some()
    nemesis.cluster.cut(one, [i for i in nemesis.everybody() if i not in one], one_way=True)
    return nemesis.cluster.network.unblock_all


def slow_link(nemesis: Nemesis) -> Undo:
    """Everything to and from one machine takes longer."""
    victim = nemesis.one()
    nemesis.cluster.network.slow(victim, nemesis.random.choice((5, 20, 100)))
    return lambda: nemesis.cluster.network.slow(victim, 1)


def loss(nemesis: Nemesis) -> Undo:
    """Many messages are lost."""
    network = nemesis.cluster.network
    network.loss = nemesis.random.choice((0.1, 0.3, 0.7))

    def undo() -> None:
        network.loss = nemesis.options.network.loss

    return undo


def reset(nemesis: Nemesis) -> Undo:
    """Connections break."""
    for index in nemesis.some():
        for other in nemesis.everybody():
            nemesis.cluster.network.reset(index, other)
    return lambda: None


def clock(nemesis: Nemesis) -> Undo:
    """Some wall clocks jump, by a millisecond or by minutes, forward or back."""
    for index in nemesis.some():
        jump_us = int(CLOCK_JUMP_MAX_US ** nemesis.random.random())
        nemesis.cluster.machines[index].clock.jump(jump_us if nemesis.random.randrange(2) else -jump_us)
    return lambda: None


def slow_disk(nemesis: Nemesis) -> Undo:
    """A disk takes its time."""
    machine = nemesis.cluster.machines[nemesis.one()]
    machine.slow_disk = nemesis.random.choice((10, 100))

    def undo() -> None:
        machine.slow_disk = 1

    return undo


def full_disk(nemesis: Nemesis) -> Undo:
    """Some disks are full for a while."""
    engines = [nemesis.cluster.machines[index].engine for index in nemesis.some()]
    for engine in engines:
        engine.disk_full = True

    def undo() -> None:
        for engine in engines:
            engine.disk_full = False

    return undo


def sync_error(nemesis: Nemesis) -> Undo:
    """The next sync of one disk fails: its process ends, knowing nothing of what it wrote."""
    machine = nemesis.cluster.machines[nemesis.one()]
    machine.engine.sync_fails = True

    def undo() -> None:
        machine.engine.sync_fails = False
        nemesis.cluster.start(machine.index)

    return undo


def bit_flip(nemesis: Nemesis) -> Undo:
    """Bits flip in a record of one disk, and in what lies beside it: rows, logs, hash trees, entries, Paxos.

    As long as something is to be mended at one peer, the next bits flip there: of two replicas that lost the
    same there would be nobody to give it back.
    """
    cluster = nemesis.cluster
    if nemesis.spared:
        return lambda: None
    unmended = [machine.index for machine in cluster.machines if is_damaged(machine)]
    engine = cluster.machines[unmended[0] if unmended else nemesis.one()].engine
    region = nemesis.random.choice(DAMAGEABLE)
    found = engine.keys(region, region + b"\xff" * 64)
    if found:
        at = nemesis.random.randrange(len(found))
        for key in found[at : at + nemesis.random.randint(1, 3)]:
            engine.damage(key)
    return lambda: None


def is_damaged(machine: Machine) -> bool:
    """Whether something is damaged on this disk, or lost and not given back."""
    damaged = machine.damage_met or machine.engine.health()["background_errors"] > 0
    return damaged or bool(machine.engine.keys(LOST, keys.successor(LOST)))


FAULTS: dict[str, Fault] = {
    "kill": kill,
    "kill_all": kill_all,
    "power": power,
    "power_all": power_all,
    "pause": pause,
    "halves": halves,
    "isolate": isolate,
    "bridge": bridge,
    "ring": ring,
    "one_way": one_way,
    "slow_link": slow_link,
    "loss": loss,
    "reset": reset,
    "clock": clock,
    "slow_disk": slow_disk,
    "full_disk": full_disk,
    "sync_error": sync_error,
    "bit_flip": bit_flip,
    **MORE,
}
