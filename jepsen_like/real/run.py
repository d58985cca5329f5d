"""One run against real processes, from birth to verdict: the steps of jepsen_like/run.py in real time.

    with a RealCluster: birth -> the healthy seconds -> load under faults -> everything heals
          -> every peer serves -> load stops; the peers themselves have proven their replicas equal, and no
          hint is left -> final reads -> verdict

Equality is what each peer's anti-entropy says (`/v1/admin/repair`): every table, every sibling, proven
equal at a moment after the load had stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from core.settings import Settings
from jepsen_like.checkers import Problem, stats
from jepsen_like.door import Door
from jepsen_like.history import FAIL, INFO, OK, PENDING
from jepsen_like.nemesis import FAULTS, Nemesis
from jepsen_like.real.cluster import RealCluster
from jepsen_like.real.door import CqlDoor, RealDoor, Statements
from jepsen_like.real.starved import Waiting, why_invalid
from jepsen_like.real.workloads.composite import REAL_ONLY, RealCompositeWorkload
from jepsen_like.run import BIRTH_US, CONVERGENCE_US, HEALTHY_US, Run, Verdict, named
from jepsen_like.session import SECOND, Session
from jepsen_like.workloads import Workload
from sim.cluster import SimCluster
from sim.options import FAULTS as KINDS, MORE_FAULTS, Options

Say = Callable[[str], None]

REAL_WORKLOADS = (
    "set",
    "set-any",
    "register",
    "deletes",
    "cas-register",
    "append",
    "batches",
    "txn",
    "bank",
    "monotonic",
    "queue",
    *REAL_ONLY,
)
"""Those that can be run against real peers, beside a composite one of all."""

REAL_FAULTS = tuple(kind for kind in (*KINDS, *MORE_FAULTS) if kind != "bit_flip")
"""Kinds of faults that a real cluster can be given: bits are flipped by tests of their own."""

NETWORK_FAULTS = (
    "halves",
    "isolate",
    "bridge",
    "ring",
    "one_way",
    "slow_link",
    "loss",
    "reset",
    "clog",
    "delay",
)
PACKET_FAULTS = ("duplicate", "reorder")
LIVE_LINE_US = SECOND
HEALTHY_MAX_US = 12 * SECOND
CLOCK_SKEW_US = 2 * SECOND
PERIOD_US = 10 * SECOND
POWER_EVERY_US = 60 * SECOND
REPAIR_US = SECOND // 10
"""Between two comparisons of replicas; there are a few dozen to make until all are proven equal."""
NEEDED_RATE = 100
"""Operations per second that must have worked before the first fault of a composite run; of one that asks for
less, four fifths of that.
"""


def real_options(
    seed: int, peers: int, rate: int, faults: Sequence[str], period_us: int = PERIOD_US
) -> Options:
    """What a real run is made of; times of faults are real: one in each period, for half of it on average."""
    return Options(
        seed=seed,
        peers=peers,
        voters=5 if peers >= 5 else 3 if peers >= 3 else 1,
        replication=min(3, peers),
        settings=Settings(
            write_timeout_us=2 * SECOND, read_timeout_us=2 * SECOND, anti_entropy_pause_us=REPAIR_US
        ),
        clients=10,
        rate=rate,
        keys=8,
        value_bytes=40,
        faults=tuple(faults),
        fault_period_us=period_us,
        fault_length_us=period_us // 2,
        two_at_once=seed % 4 == 0,
    )


def faults_named(text: str, known: Sequence[str] = tuple(FAULTS)) -> tuple[str, ...]:
    """Kinds of faults: "all", "none", or names with commas; KeyError for one that is not known."""
    if text == "all":
        return tuple(known)
    if text == "none":
        return ()
    names = tuple(text.split(","))
    for name in names:
        if name not in known:
            raise KeyError(name)
    return names


def permitted(options: Options, fabric: str) -> Options:
    """The options without faults that these connections cannot be given."""
    gone: tuple[str, ...] = ()
    if not fabric.startswith("namespaces"):
        gone = PACKET_FAULTS if fabric.startswith("proxies") else (*PACKET_FAULTS, *NETWORK_FAULTS)
    return msgspec.structs.replace(options, faults=tuple(name for name in options.faults if name not in gone))


def undone(
    name: str, hints: dict[str, Any] | None, repair: dict[str, Any] | None, stopped_s: float
) -> list[str]:
    """What a peer says that it has still to do, when the load ended `stopped_s` ago.

    A logged batch that its coordinator did not end is replayed by who keeps it, the second holder only after
    twice the delay: until then its rows may differ, and final reads may see a part of it.
    """
    if hints is None or repair is None:
        return [f"{name} does not answer"]
    wrong: list[str] = []
    owed = {peer: count for peer, count in hints["hints"].items() if count}
    if owed:
        wrong.append(f"{name} keeps hints for {owed}")
    if hints["batches"]:
        wrong.append(f"{name} keeps logged batches, so many: {hints['batches']}")
    for peer, tables in repair["proven_equal_s"].items():
        late = [table for table, age_s in tables.items() if age_s is None or age_s > stopped_s]
        if late:
            wrong.append(f"{name} has not proven {', '.join(late)} equal to {peer}")
    return wrong


def real_named(name: str) -> Workload:
    """A new workload of this name for real peers, or that of a user's file; KeyError, OwnError."""
    if name == "composite":
        return RealCompositeWorkload()
    return REAL_ONLY[name]() if name in REAL_ONLY else named(name)


class RealRun(Run):
    """See the top of the file."""

    def __init__(
        self, cluster: RealCluster, workload: str, say: Say, statements: Statements | None = None
    ) -> None:
        """With `statements` clients speak CQL by these, without over REST."""
        self.real = cluster
        # It has the names of a SimCluster as far as sessions, workloads and faults use them.
        self.cluster = cast("SimCluster", cluster)
        self.name = workload
        self.session = Session(self.cluster, workload)
        self.session.door = cast(
            "Door", RealDoor(cluster) if statements is None else CqlDoor(cluster, statements)
        )
        self.workload = real_named(workload)
        self.nemesis = Nemesis(self.cluster, cluster.ready)
        self.live_us = self.converged_us = -1
        self.rate = 0.0
        self.healthy_rate = 0.0
        self.waiting = Waiting()
        self.phase = "birth"
        self.began_us = self.ended_us = 0
        self._say = say
        self._told = 0

    def go(self, safety_us: int) -> list[Problem]:
        """All steps."""
        problems = self.begin()
        self._ends("birth")
        if problems:
            return problems
        self.began_us = self.cluster.now_us
        self._tell()
        self.phase = "healthy"
        self.session.load(self.workload.step)
        self._be_healthy()
        self._ends("healthy")
        self.phase = "faults"
        if self.cluster.options.faults:
            cuts = "power_all" in self.cluster.options.faults
            self.nemesis.start(safety_us, power_every_us=POWER_EVERY_US if cuts else 0)
        self.cluster.run_for(safety_us)
        self._ends("faults")
        self.phase = "healed"
        self.nemesis.heal()
        problems = self.liveness()
        self._ends("liveness")
        self.session.stop_load()
        self.ended_us = self.cluster.now_us
        self.rate = len(self.session.history.operations) * SECOND / (self.ended_us - self.began_us)
        self.phase = "convergence"
        problems += self.convergence()
        self._ends("convergence")
        self.phase = "final reads"
        problems += self.final()
        self._ends("final reads")
        self.phase = "judging"
        problems += self.workload.problems()
        problems += [Problem("harness", repr(fault)) for fault in self.real.faults]
        return problems + stats(self.session.history, self.workload.kinds)

    def _ends(self, phase: str) -> None:
        self.waiting.end(phase, self.real.processes())

    def _be_healthy(self) -> None:
        """Load without faults, until peers that have just begun are warm: then as much works as must."""
        end_us = self.cluster.now_us + HEALTHY_MAX_US
        while True:
            before, since_us = self._worked(), self.cluster.now_us
            self.cluster.run_for(HEALTHY_US)
            rate = (self._worked() - before) * SECOND / (self.cluster.now_us - since_us)
            self.healthy_rate = max(self.healthy_rate, rate)
            if rate >= self.needed_rate or self.cluster.now_us >= end_us:
                return

    def _worked(self) -> int:
        return sum(op.status == OK for op in self.session.history.operations)

    @property
    def needed_rate(self) -> float:
        """Operations per second that must have worked before the first fault."""
        return min(NEEDED_RATE, self.cluster.options.rate * 4 // 5) if self.name == "composite" else 0

    def begin(self) -> list[Problem]:
        """Start everybody, and what the workload needs."""
        cluster = self.real
        for machine in cluster.machines:
            machine.clock.jump(int(self.nemesis.random.uniform(-CLOCK_SKEW_US, CLOCK_SKEW_US)))
        cluster.start_all()
        everybody = [machine.index for machine in cluster.machines]
        cluster.run_until(
            lambda: bool(cluster.deaths) or all(cluster.ready(index) for index in everybody), BIRTH_US
        )
        if cluster.deaths:
            _, index, why = cluster.deaths[0]
            return [
                Problem(
                    "died", f"n{index + 1} did not start: {why} (all of it: {cluster.machines[index].log})"
                )
            ]
        if down := [index for index in everybody if not cluster.ready(index)]:
            names = ", ".join(cluster.machines[index].place.name for index in down)
            return [Problem("unborn", f"{names} not ready in time; their logs are in {cluster.folder}")]
        if not self.workload.setup(self.session):
            why = self.session.why_not
            return [Problem("setup", f"what is needed could not be made on a healthy cluster: {why}")]
        return []

    def _tell(self) -> None:
        """The live line, once a second while there is load."""
        if self.phase in ("judging", "final reads"):
            return
        counts = dict.fromkeys((OK, FAIL, INFO, PENDING), 0)
        operations = self.session.history.operations
        for operation in operations:
            counts[operation.status] += 1
        more, self._told = len(operations) - self._told, len(operations)
        seconds = (self.cluster.now_us - self.began_us) // SECOND
        active = ",".join(self.nemesis.active()) or "-"
        up = len(self.cluster.running())
        self.waiting.sample(self.real.processes())
        self._say(
            f"{seconds:4d} s  {self.phase:<11}  {more:4d} ops/s  ok {counts[OK]}  fail {counts[FAIL]}  "
            f"info {counts[INFO]}  up {up}/{len(self.cluster.machines)}  fault {active}"
        )
        self.cluster.scheduler.after(LIVE_LINE_US, self._tell)

    # --- convergence

    def convergence(self) -> list[Problem]:
        """No hint, no logged batch is left; every peer has proven its replicas equal since the load ended."""
        began_us, began_s = self.cluster.now_us, time.monotonic()
        wrong: list[str] = []
        while self.cluster.now_us - began_us < CONVERGENCE_US:
            self.cluster.run_for(SECOND // 2)
            wrong = self.real.loop.run_until_complete(self._differences(began_s))
            if not wrong:
                break
        self.converged_us = self.cluster.now_us - began_us
        return [Problem("unproven", text) for text in wrong]

    async def _differences(self, began_s: float) -> list[str]:
        wrong: list[str] = []
        for machine in self.real.machines:
            hints, repair = (
                await self._admin(machine.index, "hints"),
                await self._admin(machine.index, "repair"),
            )
            wrong += undone(machine.place.name, hints, repair, time.monotonic() - began_s)
        return wrong

    async def _admin(self, peer: int, verb: str) -> dict[str, Any] | None:
        door = cast("RealDoor", self.session.door)
        answer = await door._http(peer, "POST", f"/v1/admin/{verb}", b"{}", 5.0)
        return json.loads(answer.body) if answer.status == 200 else None


def run_real(
    workload: str,
    options: Options,
    seconds: int,
    folder: Path,
    *,
    say: Say = print,
    namespaces: bool = True,
    images: bool = True,
    statements: Callable[[int], Statements] | None = None,
) -> tuple[Verdict, RealRun]:
    """One real run, closed at the end whatever happens; its peers' logs and data stay in `folder`.

    `statements` makes who speaks CQL to peers at a port; without it clients use REST.
    """
    began = time.process_time()
    cluster = RealCluster(options, folder, namespaces=namespaces, images=images)
    try:
        cluster.options = options = permitted(options, cluster.fabric.kind)
        for text in cluster.cannot:
            say(f"not here: {text}")
        run = RealRun(cluster, workload, say, None if statements is None else statements(cluster.cql))
        problems = run.go(seconds * SECOND)
        history = run.session.history
        verdict = Verdict(
            seed=options.seed,
            workload=workload,
            options=f"{options.line()} network={cluster.fabric.kind}",
            safety_s=seconds,
            problems=problems[:20],
            problem_count=len(problems),
            operations=len(history.operations),
            rate=run.rate,
            counts=history.counts(),
            virtual_us=cluster.now_us,
            real_s=time.process_time() - began,
            faults=len(run.nemesis.done),
            live_us=run.live_us,
            converged_us=run.converged_us,
            kills=cluster.kills,
            power_cuts=cluster.power_cuts,
            invalid=why_invalid(
                problems,
                run.waiting.starved(),
                run.healthy_rate,
                run.needed_rate,
            ),
        )
        return verdict, run
    finally:
        cluster.close()
