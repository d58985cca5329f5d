"""`sullae jepsen`: one run with its live line, then the verdict, the history and the report in a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from jepsen_like.checkers import Problem
from jepsen_like.history import Operation
from jepsen_like.nemesis import FAULTS, Nemesis
from jepsen_like.real.door import Statements
from jepsen_like.real.run import (
    PERIOD_US,
    REAL_FAULTS,
    REAL_WORKLOADS,
    RealRun,
    faults_named,
    real_options,
    run_real,
)
from jepsen_like.report import Told, report
from jepsen_like.run import Run, Verdict, options_of, verdict_of_run
from jepsen_like.saved import FaultSpan, save
from jepsen_like.session import SECOND
from jepsen_like.shortest import shortest
from jepsen_like.workloads import Workload
from sim.real import RealSoftware

Say = Callable[[str], None]

RATE = 130
"""Operations per second of a real run: somewhat more than a composite run needs to be valid."""

SHRINKING = ("register", "register-each", "deletes", "cas-register", "txn", "monotonic", "queue")
"""Workloads that judge nothing but the operations in their history."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be run."""

    workload: str
    nemesis: str = "all"
    seconds: int = 60
    seed: int = 1
    peers: int = 5
    rate: int = RATE
    period_s: float = PERIOD_US / SECOND
    """Of a real run: from one fault to the next, on average."""
    folder: Path
    simulated: bool = False
    namespaces: bool = True
    images: bool = True
    statements: Callable[[int], Statements] | None = None

    def command(self) -> str:
        """The one that does it again."""
        words = ["sullae jepsen", f"--workload {self.workload}", f"--nemesis {self.nemesis}"]
        words += [f"--minutes {self.seconds / 60:g}", f"--seed {self.seed}"]
        words += ["--simulated"] if self.simulated else [f"--peers {self.peers}", f"--rate {self.rate}"]
        if self.period_s * SECOND != PERIOD_US and not self.simulated:
            words.append(f"--period {self.period_s:g}")
        words += ["--door cql"] if self.statements is not None else []
        words += [] if self.namespaces or self.simulated else ["--no-namespaces"]
        words += [] if self.images or self.simulated else ["--no-images"]
        return " ".join(words)


def run_one(asked: Asked, say: Say) -> tuple[Verdict, Path]:
    """Run, judge, and write `report.html`, `history.edn` and `history.json`; the verdict and the report."""
    asked.folder.mkdir(parents=True, exist_ok=True)
    faults = faults_named(asked.nemesis, tuple(FAULTS) if asked.simulated else REAL_FAULTS)
    if asked.simulated:
        options = options_of(asked.seed, asked.workload)
        if asked.nemesis != "all":
            options = msgspec.structs.replace(options, faults=faults, more_faults=())
        began = time.process_time()
        run = Run(options, asked.workload, RealSoftware(), trace=False)
        problems = run.go(asked.seconds * SECOND)
        verdict = verdict_of_run(run, problems, asked.seconds, time.process_time() - began)
        notes: Sequence[str] = ("simulated: times are virtual",)
    else:
        options = real_options(asked.seed, asked.peers, asked.rate, faults, round(asked.period_s * SECOND))
        verdict, run = run_real(
            asked.workload,
            options,
            asked.seconds,
            asked.folder,
            say=say,
            namespaces=asked.namespaces,
            images=asked.images,
            statements=asked.statements,
        )
        notes = _notes(run)
    return verdict, _write(asked, verdict, run, notes)


def _notes(run: RealRun) -> list[str]:
    told = [f"peers are joined by {run.real.fabric.kind}"]
    told += [f"not here: {text}" for text in run.real.cannot]
    told.append(f"{run.healthy_rate:.0f} operations per second worked before the first fault")
    waited = ", ".join(f"{phase} {share:.1%}" for phase, share in run.waiting.shares.items())
    told.append(f"share of the time for which the harness waited for a processor: {waited or 'not known'}")
    told.append(f"{run.real.kills} processes killed, {run.real.power_cuts} power cuts")
    deaths = run.real.deaths
    return told + [f"n{index + 1} ended by itself at {at / 1e6:.1f} s: {why}" for at, index, why in deaths]


def _write(asked: Asked, verdict: Verdict, run: Run, notes: Sequence[str]) -> Path:
    operations, spans = run.session.history.operations, fault_spans(run.nemesis, run.cluster.now_us)
    save(asked.folder, operations, spans)
    failing: list[Operation] = []
    if not verdict.green and verdict.problems:
        failing = failing_part(run.workload, asked.workload, operations, verdict.problems[0])
    page = asked.folder / "report.html"
    page.write_text(report(Told(verdict, operations, spans, failing, asked.command(), notes)))
    return page


def fault_spans(nemesis: Nemesis, end_us: int) -> list[FaultSpan]:
    """What a nemesis did, from when to when."""
    return [
        FaultSpan(name, from_us, nemesis.ended.get(number, end_us))
        for number, (from_us, name) in enumerate(nemesis.done)
    ]


def failing_part(
    workload: Workload, name: str, operations: list[Operation], problem: Problem
) -> list[Operation]:
    """The shortest failing history; of workloads that judge more than operations: what the problem names."""
    if name not in SHRINKING:
        return [op for op in operations if repr(op)[: repr(op).find("]") + 1] in problem.text]
    history = workload.session.history  # type: ignore[attr-defined]

    def judge(part: Sequence[Operation]) -> list[Problem]:
        history.operations = list(part)
        return workload.problems()

    try:
        return shortest(operations, judge, problem.name)
    finally:
        history.operations = operations


__all__ = ["RATE", "REAL_WORKLOADS", "Asked", "run_one"]
