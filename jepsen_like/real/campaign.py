"""Runs against real processes, one after another, each in the ledger: `python -m jepsen_like.real.campaign`.

Each run is a `sullae jepsen` of its own in a session of its own, before all other work of the machine where
that is permitted (priority.py). A run that is invalid is in the ledger as such and another seed takes its
place, for a while. What a green run left on disk is removed; of the others everything stays. The sums are at
the end, and `python -m jepsen_like.soak --figures` has them for all campaigns.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from jepsen_like.campaign import RATE
from jepsen_like.real import priority
from jepsen_like.real.run import PERIOD_US
from jepsen_like.run import Verdict
from jepsen_like.session import SECOND
from jepsen_like.soak import LEDGER

Say = Callable[[str], None]

TRIES = 3
"""So many runs for each valid one that is wanted, at the most."""
PATIENCE_S = 600
"""More than the faults of a run, its birth, its healing and its reading take."""
HEAPS = ("data", "*.img", "*.cut")
"""The big files of a run's folder."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign."""

    runs: int
    seed: int
    """The first one."""
    workload: str = "composite"
    nemesis: str = "all"
    minutes: float = 1.5
    period_s: float = PERIOD_US / SECOND
    peers: int = 5
    rate: int = RATE
    folder: Path
    ledger: Path = LEDGER

    def command(self, seed: int) -> list[str]:
        """One of its runs."""
        words = [sys.executable, "-m", "cli.main", "jepsen", "--json", "--workload", self.workload]
        words += ["--nemesis", self.nemesis, "--minutes", f"{self.minutes:g}", "--seed", str(seed)]
        words += ["--period", f"{self.period_s:g}", "--peers", str(self.peers), "--rate", str(self.rate)]
        return [*words, "--out", str(self.folder / f"run{seed}"), "--record", str(self.ledger)]


class Told(Verdict, kw_only=True):
    """What `sullae jepsen --json` prints: a verdict, and more that is not looked at."""


class Campaign:
    """See the top of the file."""

    def __init__(self, plan: Plan, say: Say) -> None:
        self.plan = plan
        self.valid = self.invalid = self.kills = self.power_cuts = self.operations = 0
        self.red: list[int] = []
        self._say = say

    def go(self) -> bool:
        """All runs; whether so many were valid, and all of these green."""
        plan = self.plan
        for seed in range(plan.seed, plan.seed + TRIES * plan.runs):
            if self.valid >= plan.runs:
                break
            self._count(seed, self._run(seed))
        return self.valid >= plan.runs and not self.red

    def _run(self, seed: int) -> Verdict | None:
        """One run; None if it had no verdict."""
        folder = self.plan.folder / f"run{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "run.log").open("wb") as log:
            run = subprocess.Popen(
                self.plan.command(seed), stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
            priority.give(run.pid, priority.FIRST)
            try:
                said, _ = run.communicate(timeout=PATIENCE_S)
            except BaseException:  # whoever ends the campaign ends its run, which then cleans up
                run.send_signal(signal.SIGTERM)
                run.wait()
                raise
        try:
            return msgspec.json.decode(said, type=Told)
        except msgspec.DecodeError:
            return None

    def _count(self, seed: int, verdict: Verdict | None) -> None:
        folder = self.plan.folder / f"run{seed}"
        if verdict is None:
            self.invalid += 1
            self._say(f"seed {seed}: no verdict; see {folder / 'run.log'}")
            return
        self._say(f"seed {seed}: {verdict.line()}")
        if verdict.invalid:
            self.invalid += 1
            return
        self.valid += 1
        self.kills += verdict.kills
        self.power_cuts += verdict.power_cuts
        self.operations += verdict.operations
        for problem in verdict.problems[:5]:
            self._say(f"    {problem.name}: {problem.text}")
        if verdict.green:
            tidy(folder)
        else:
            self.red.append(seed)

    def line(self) -> str:
        """The sums."""
        return (
            f"{self.valid} valid runs ({self.invalid} others), {self.operations:,} operations, {self.kills} "
            f"processes killed, {self.power_cuts} power cuts; red: {self.red or 'none'}"
        )


def tidy(folder: Path) -> None:
    """Remove what a green run leaves that is big."""
    for pattern in HEAPS:
        for heap in folder.glob(pattern):
            if heap.is_dir():
                shutil.rmtree(heap, ignore_errors=True)
            else:
                heap.unlink()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jepsen_like.real.campaign", description=__doc__)
    parser.add_argument("--runs", type=int, default=40, help="valid ones that are wanted")
    parser.add_argument("--seed", type=int, default=1_000, help="of the first run")
    parser.add_argument("--workload", default="composite")
    parser.add_argument("--nemesis", default="all", help="all, or kinds with commas")
    parser.add_argument("--minutes", type=float, default=1.5, help="of faults in each run")
    parser.add_argument("--period", type=float, default=PERIOD_US / SECOND, help="seconds between faults")
    parser.add_argument("--peers", type=int, default=5)
    parser.add_argument("--rate", type=int, default=RATE, help="operations per second")
    parser.add_argument(
        "--out", type=Path, default=Path("build/campaign"), help="a folder for each run is in it"
    )
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    given = parser.parse_args()
    plan = Plan(
        runs=given.runs,
        seed=given.seed,
        workload=given.workload,
        nemesis=given.nemesis,
        minutes=given.minutes,
        period_s=given.period,
        peers=given.peers,
        rate=given.rate,
        folder=given.out,
        ledger=given.ledger,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    campaign = Campaign(plan, lambda line: print(line, flush=True))
    try:
        return 0 if campaign.go() else 1
    finally:
        print(campaign.line(), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
