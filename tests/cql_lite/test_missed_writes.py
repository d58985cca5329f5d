"""SELECT and modifications where each write was missed by a replica that nobody tells of it: reads at QUORUM
and ALL give what the models say all the same. Hints, following and anti-entropy are off, and replicas differ
for as long as no read mends them.

`MISSED_SEED=n MISSED_CASES=m` draws others, and more.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest

from core.consistency import Level
from core.messages import ApplyMutation
from core.settings import Settings
from sim.options import ClockOptions
from tests.cql_lite.test_select import Case
from tests.cql_lite.test_writes import Run, World, search
from tests.cql_lite.whole import Cql, cluster_of
from tests.models.cql_writes import Shape, Statement

SEED = int(os.environ.get("MISSED_SEED", "1"))
CASES = int(os.environ.get("MISSED_CASES", "3"))
LONG_US = 10**15


class Missing:
    """A network on which what is written does not come to a replica that is drawn for each statement."""

    def __init__(self, random: Random, cluster: Any) -> None:
        self.random = random
        self.victim: int | None = None
        self.peers = len(cluster.machines)
        cluster.network.drop = self.drops

    def drops(self, source: int, target: int, message: object) -> bool:
        """Whether a message is lost."""
        return target == self.victim and isinstance(message, ApplyMutation)

    def draw(self) -> None:
        """Who misses the next statement."""
        self.victim = self.random.choice((None, *range(self.peers)))


def forgetful(peers: int, *, repair: bool) -> Any:
    """A cluster in which only reads mend what a replica missed."""
    settings = Settings(
        hints=False,
        read_repair=repair,
        follow_pause_us=LONG_US,
        follow_idle_us=LONG_US,
        anti_entropy_pause_us=LONG_US,
    )
    return cluster_of(peers, settings=settings, clock=ClockOptions(drift_ppm=0))


class MissedCase(Case):
    """A table whose rows are not on all replicas."""

    missing: Missing

    def run(self, text: str) -> None:
        self.missing.draw()
        self.cql.level = Level.QUORUM
        super().run(text)
        self.missing.victim = None

    def ask(self) -> None:
        for client in self.peers:
            client.level = self.random.choice((Level.QUORUM, Level.ALL))
        super().ask()


@pytest.mark.parametrize("repair", [True, False])
def test_reads_give_what_a_replica_missed(repair: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = forgetful(4, repair=repair)
    cql = Cql(cluster)
    cql.run("USE ks")
    missing = Missing(Random(f"missing:{SEED}"), cluster)
    for number in range(SEED * 1000, SEED * 1000 + CASES):
        with monkeypatch.context() as patched:
            case = MissedCase(cql, number)
            case.missing = missing
            for module, name, value in case.limits():
                patched.setattr(module, name, value)
            case.prepare()
            for _ in range(20):
                case.ask()
            case.drop()


class MissedWorld(World):
    """Histories of which each statement is missed by a replica."""

    def __init__(self, random: Random, *, repair: bool) -> None:
        super().__init__(random, 3, forgetful(3, repair=repair))
        self.missing = Missing(random, self.cql.cluster)

    def run(self, table: Shape) -> Run:
        run = MissedRun(self.doors, table, self.history)
        run.missing = self.missing
        for door in self.doors:
            door.level = self.missing.random.choice((Level.QUORUM, Level.ALL))
        return run


class MissedRun(Run):
    """One history."""

    missing: Missing

    def sent(self, statement: Statement) -> Any:
        levels = [door.level for door in self.doors]
        for door in self.doors:
            door.level = Level.QUORUM
        self.missing.draw()
        try:
            return super().sent(statement)
        finally:
            self.missing.victim = None
            for door, level in zip(self.doors, levels, strict=True):
                door.level = level


@pytest.mark.parametrize("repair", [True, False])
def test_modifications_that_a_replica_missed(repair: bool) -> None:
    search(MissedWorld(Random(f"missed:{SEED}"), repair=repair), CASES * 3, f"missed:{SEED}")
