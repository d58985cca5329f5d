"""One simulated run, from birth to verdict.

    birth -> a healthy second or two -> safety phase: load under faults -> everything heals
          -> liveness: every peer serves a write and a read within 30 virtual seconds
          -> load stops; replicas are equal within 60 virtual seconds, with no help
          -> final reads -> verdict

What a run is, the seed decides. A final read that does not come makes the verdict unknown, and that is red.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from core.consistency import Level
from jepsen_like import convergence
from jepsen_like.checkers import Problem, stats
from jepsen_like.history import OK
from jepsen_like.nemesis import Nemesis
from jepsen_like.own import SUFFIX, own_workload
from jepsen_like.session import SECOND, Session
from jepsen_like.workloads import Workload
from jepsen_like.workloads.append import AppendWorkload
from jepsen_like.workloads.bank import BankWorkload
from jepsen_like.workloads.batches import BatchesWorkload
from jepsen_like.workloads.batches_once import OnceBatchesWorkload
from jepsen_like.workloads.cas_register import CasRegisterWorkload
from jepsen_like.workloads.changes import ChangesWorkload
from jepsen_like.workloads.changes_later import ChangesLaterWorkload
from jepsen_like.workloads.composite import CompositeWorkload
from jepsen_like.workloads.counter import CounterWorkload
from jepsen_like.workloads.counter_once import OnceCounterWorkload
from jepsen_like.workloads.deletes import DeletesWorkload
from jepsen_like.workloads.documents import DocumentsWorkload
from jepsen_like.workloads.each_quorum import EachQuorumWorkload
from jepsen_like.workloads.groups import GroupsWorkload
from jepsen_like.workloads.index import IndexWorkload
from jepsen_like.workloads.local_quorum import LocalQuorumWorkload
from jepsen_like.workloads.metadata import MetadataWorkload
from jepsen_like.workloads.monotonic import MonotonicWorkload
from jepsen_like.workloads.queue import QueueWorkload
from jepsen_like.workloads.register import RegisterWorkload
from jepsen_like.workloads.schema import SchemaWorkload
from jepsen_like.workloads.search import SearchWorkload
from jepsen_like.workloads.session import SessionWorkload
from jepsen_like.workloads.set_workload import SetWorkload
from jepsen_like.workloads.txn import TxnWorkload
from jepsen_like.workloads.unique import UniqueWorkload
from sim.cluster import SimCluster
from sim.options import LATER, Options
from sim.real import RealSoftware, node_of
from sim.software import Software

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "set": SetWorkload,
    "set-any": lambda: SetWorkload((Level.ANY, Level.QUORUM), immediate=False),
    "register": RegisterWorkload,
    "register-each": EachQuorumWorkload,
    "register-local": LocalQuorumWorkload,
    "deletes": DeletesWorkload,
    "metadata": MetadataWorkload,
    "cas-register": CasRegisterWorkload,
    "append": AppendWorkload,
    "batches": BatchesWorkload,
    "batches-once": OnceBatchesWorkload,
    "counter": CounterWorkload,
    "counter-once": OnceCounterWorkload,
    "index": IndexWorkload,
    "search": SearchWorkload,
    "documents": DocumentsWorkload,
    "unique": UniqueWorkload,
    "changes": ChangesWorkload,
    "changes-later": ChangesLaterWorkload,
    "groups": GroupsWorkload,
    "txn": TxnWorkload,
    "bank": BankWorkload,
    "monotonic": MonotonicWorkload,
    "queue": QueueWorkload,
    "session": SessionWorkload,
    "schema": SchemaWorkload,
    "composite": CompositeWorkload,
}

TWO_DATACENTRES: dict[str, Any] = {"peers": 6, "datacentres": 2, "voters": 3, "replication": 3}
SHAPES: dict[str, dict[str, Any]] = {
    "register-each": TWO_DATACENTRES | {"keys": 2, "rate": 150},
    "register-local": TWO_DATACENTRES,
    "session": {"rate": 80},
}
"""Workloads that need a cluster of their own shape; the rest of the options is drawn as ever."""

DROPPING = ("schema",)
"""Workloads that drop tables. What was on its way to one is dropped too, so logs need not hold the same."""

BIRTH_US = 120 * SECOND
HEALTHY_US = 2 * SECOND
LIVENESS_US = 30 * SECOND
CONVERGENCE_US = 60 * SECOND
FINAL_US = 180 * SECOND
FINAL_PER_OPERATION_US = SECOND // 50
"""What a long run has written is read page by page, and of a hundred pages some are asked for twice."""


def named(workload: str) -> Workload:
    """A new workload of this name, or that of a file of the user's own (jepsen_like/own.py).

    KeyError for no such name, OwnError for a file that is none.
    """
    if workload.endswith(SUFFIX):
        return own_workload(workload)
    return WORKLOADS[workload]()


class Verdict(msgspec.Struct, kw_only=True):
    """What came of a run. `problems` empty is green."""

    seed: int
    workload: str
    options: str
    safety_s: int
    problems: list[Problem] = []
    problem_count: int = 0
    operations: int = 0
    rate: float = 0.0
    """Client operations per virtual second while there was load."""
    counts: dict[str, dict[str, int]] = {}
    virtual_us: int = 0
    real_s: float = 0.0
    """Seconds of one core: what it takes on a machine that has nothing else to do."""
    events: int = 0
    messages: int = 0
    faults: int = 0
    kills: int = 0
    power_cuts: int = 0
    """Of real processes, each counted."""
    invalid: str = ""
    """Why it says nothing, neither green nor red (jepsen_like/real/starved.py)."""
    moves: dict[str, int] = {}
    """Moves of ranges that ended, by kind."""
    phase_kills: dict[str, int] = {}
    """How many were killed as each phase of a move began (jepsen_like/churn.py)."""
    missed: list[str] = []
    """What churn has to see in each run, and did not get to in this one."""
    live_us: int = -1
    converged_us: int = -1
    trace: str = ""

    @property
    def green(self) -> bool:
        """Whether nothing was wrong."""
        return self.problem_count == 0 and not self.invalid

    def line(self) -> str:
        """One line for people."""
        virtual_s = self.virtual_us / SECOND
        speed = virtual_s / self.real_s if self.real_s else 0.0
        what = (
            f"INVALID ({self.invalid})"
            if self.invalid
            else "ok"
            if self.green
            else f"RED {self.problem_count} {self.problems[0].name if self.problems else ''}"
        )
        live_s, equal_s = self.live_us / SECOND, self.converged_us / SECOND
        return (
            f"{self.workload} {what} | {self.operations} ops {self.rate:.0f}/s"
            f" | {virtual_s:.0f} s at {speed:.0f}x"
            f" | {self.faults} faults, live {live_s:.1f} s, equal {equal_s:.1f} s"
            f"{self._churn()} | {self.options}" + (f" | trace {self.trace}" if self.trace else "")
        )

    def _churn(self) -> str:
        if not self.moves and not self.phase_kills and not self.missed:
            return ""
        moves = ", ".join(f"{count} {kind}" for kind, count in self.moves.items()) or "none"
        kills = ", ".join(f"{count} at {phase}" for phase, count in self.phase_kills.items()) or "none"
        missed = f"; NOT REACHED: {', '.join(self.missed)}" if self.missed else ""
        return f" | moves: {moves}; kills: {kills}{missed}"

    def replay(self) -> str:
        """The one command that does it again."""
        what = f"--workload {self.workload} --seed {self.seed} --seconds {self.safety_s}"
        return f"python -m jepsen_like.simulate {what}"


class Run:
    """The steps of one run; each gives what was wrong, and the first that finds something ends it."""

    def __init__(self, options: Options, workload: str, software: Software, trace: bool) -> None:
        self.cluster = SimCluster(options, software, trace)
        self.name = workload
        self.session = Session(self.cluster, workload)
        self.workload = named(workload)
        self.nemesis = Nemesis(self.cluster, self._ready)
        self.live_us = self.converged_us = -1
        self.rate = 0.0

    def go(self, safety_us: int) -> list[Problem]:
        """All steps."""
        problems = self.begin()
        if problems:
            return problems
        began_us = self.cluster.now_us
        self.session.load(self.workload.step)
        self.cluster.run_for(HEALTHY_US)
        self.nemesis.start(safety_us)
        self.nemesis.last(safety_us)
        self.nemesis.heal()
        problems = self.liveness()
        self.session.stop_load()
        self.rate = len(self.session.history.operations) * SECOND / (self.cluster.now_us - began_us)
        problems += self.convergence()
        problems += self.final()
        problems += self.workload.problems()
        return problems + stats(self.session.history, self.workload.kinds)

    def begin(self) -> list[Problem]:
        """Birth, and what the workload needs."""
        cluster = self.cluster
        cluster.start_all()
        everybody = [machine.index for machine in cluster.machines]
        if not cluster.run_until(lambda: all(node_of(cluster, i).ready()[0] for i in everybody), BIRTH_US):
            return [Problem("unborn", f"{[node_of(cluster, i).ready() for i in everybody]}")]
        if not self.workload.setup(self.session):
            why = self.session.why_not
            return [Problem("setup", f"what is needed could not be made on a healthy cluster: {why}")]
        return []

    def _ready(self, index: int) -> bool:
        process = self.cluster.machines[index].process
        return process is not None and process.running and node_of(self.cluster, index).ready()[0]

    def liveness(self) -> list[Problem]:
        """Every peer serves both kinds of requests soon after everything healed."""
        cluster, history = self.cluster, self.session.history
        began_us, first = cluster.now_us, len(history.operations)
        missing = {(m.index, kind): True for m in cluster.machines for kind in ("probe_write", "probe_read")}
        at = first
        while missing and cluster.now_us < began_us + LIVENESS_US:
            for peer in {peer: True for peer, _ in missing}:
                self.workload.probe(peer)
            cluster.run_for(SECOND // 2)
            for operation in history.operations[first:]:
                if operation.status == OK:
                    missing.pop((operation.peer, operation.kind), None)
        self.live_us = cluster.now_us - began_us
        if not missing:
            return []
        last = [op for op in history.operations[at:] if op.kind.startswith("probe")][-3:]
        return [Problem("not_live", f"{list(missing)} did not work in {LIVENESS_US // SECOND} s: {last}")]

    def convergence(self) -> list[Problem]:
        """All replicas are equal soon after the load stopped."""
        cluster = self.cluster
        began_us, pause_us = cluster.now_us, SECOND
        while True:
            cluster.run_for(pause_us)
            problems = convergence.differences(cluster, logs=self.name not in DROPPING)
            self.converged_us = cluster.now_us - began_us
            if not problems or self.converged_us >= CONVERGENCE_US:
                return problems
            pause_us = min(2 * pause_us, CONVERGENCE_US - self.converged_us)

    def final(self) -> list[Problem]:
        """The final reads."""
        self.workload.final()
        patience_us = FINAL_US + FINAL_PER_OPERATION_US * len(self.session.history.operations)
        if self.cluster.run_until(self.workload.finished, patience_us):
            return []
        return [Problem("unknown", "a final read did not come")]


def options_of(seed: int, workload: str) -> Options:
    """What the seed draws, in the shape that the workload needs."""
    return msgspec.structs.replace(Options.draw(seed), **SHAPES.get(workload, {}))


def without_later(options: Options) -> Options:
    """The options without faults of kinds that came later: what a recorded seed was when it was recorded."""
    faults = tuple(name for name in options.faults if name not in LATER)
    return msgspec.structs.replace(options, faults=faults or options.faults, more_faults=())


def run(
    seed: int,
    workload: str,
    virtual_seconds: int = 60,
    trace: bool = False,
    options: Options | None = None,
) -> Verdict:
    """Simulate one seed; `virtual_seconds` is the length of the phase with faults."""
    if options is None:
        options = options_of(seed, workload)
    began = time.process_time()
    this = Run(options, workload, RealSoftware(), trace)
    problems = this.go(virtual_seconds * SECOND)
    return verdict_of_run(this, problems, virtual_seconds, time.process_time() - began)


def verdict_of_run(this: Run, problems: list[Problem], safety_s: int, real_s: float = 0.0) -> Verdict:
    """What came of a simulated run that found these problems."""
    cluster, history = this.cluster, this.session.history
    return Verdict(
        seed=cluster.options.seed,
        workload=this.name,
        options=cluster.options.line(),
        safety_s=safety_s,
        problems=problems[:20],
        problem_count=len(problems),
        operations=len(history.operations),
        rate=this.rate,
        counts=history.counts(),
        virtual_us=cluster.now_us,
        real_s=real_s,
        events=cluster.scheduler.events,
        messages=cluster.network.counts.sent,
        faults=len(this.nemesis.done),
        live_us=this.live_us,
        converged_us=this.converged_us,
        trace=cluster.trace.digest() if cluster.trace is not None else "",
    )
