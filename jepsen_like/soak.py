"""Hours of simulation over fresh seeds, and a ledger of all hours ever simulated.

`python -m jepsen_like.soak --hours 50` goes on after the last seed in the ledger, so no seed is spent twice,
and adds a line to it per workload and batch of seeds: commit, seeds, virtual hours, counts, verdict. A red
seed is printed with the command that does it again, and is in the ledger for ever.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jepsen_like.churn import CHURN
from jepsen_like.run import WORKLOADS, Verdict
from jepsen_like.simulate import Say, verdicts

LEDGER = Path("docs/ledger.ndjson")
SECONDS_PER_SEED = 90
BATCH = 8
"""Seeds of each workload between two looks at how far we are, and between two writings of the ledger."""


class Line(msgspec.Struct, kw_only=True):
    """One workload in one soak."""

    commit: str
    workload: str
    seed_first: int
    seed_end: int
    virtual_hours: float
    operations: int
    ok: int
    faults: int
    moves: int = 0
    kills: int = 0
    power_cuts: int = 0
    real_s: float
    red: list[int]
    verdict: str


def soak(
    hours: float,
    workers: int,
    ledger: Path = LEDGER,
    say: Say = print,
    workloads: Sequence[str] = tuple(WORKLOADS),
) -> bool:
    """Simulate at least so many virtual hours, the workloads in turn; True if all were green."""
    commit, at, done, green = _commit(), _next_seed(ledger), 0.0, True
    while done < hours:
        lines = {name: _empty(commit, name, at) for name in workloads}
        jobs = [(seed, name, SECONDS_PER_SEED, False) for seed in range(at, at + BATCH) for name in workloads]
        for verdict in verdicts(jobs, workers):
            _count(lines[verdict.workload], verdict, say)
        at += BATCH
        done += sum(line.virtual_hours for line in lines.values())
        green = green and not any(line.red for line in lines.values())
        with ledger.open("ab") as file:  # batch by batch, so that who is interrupted keeps what was done
            for line in lines.values():
                file.write(msgspec.json.encode(line) + b"\n")
        say(f"{done:.1f} of {hours:.1f} virtual hours, seeds up to {at - 1}")
    return green


def _empty(commit: str, workload: str, seed: int) -> Line:
    return Line(
        commit=commit,
        workload=workload,
        seed_first=seed,
        seed_end=seed,
        virtual_hours=0.0,
        operations=0,
        ok=0,
        faults=0,
        real_s=0.0,
        red=[],
        verdict="green",
    )


def _count(line: Line, verdict: Verdict, say: Say) -> None:
    line.seed_end = verdict.seed + 1
    line.virtual_hours = round(line.virtual_hours + verdict.virtual_us / 3.6e9, 4)
    line.operations += verdict.operations
    line.ok += sum(counts["ok"] for counts in verdict.counts.values())
    line.faults += verdict.faults
    line.kills += verdict.kills
    line.power_cuts += verdict.power_cuts
    line.moves += sum(verdict.moves.values())
    line.real_s = round(line.real_s + verdict.real_s, 1)
    if not verdict.green:
        line.red.append(verdict.seed)
        line.verdict = "red"
        say(verdict.line())
        for problem in verdict.problems[:5]:
            say(f"    {problem.name}: {problem.text}")
        say(f"    again: {verdict.replay()}")


REAL = "real:"
"""Before the name of a workload in the ledger: it ran against real processes."""


def record(verdict: Verdict, ledger: Path = LEDGER, say: Say = print) -> None:
    """Add a run against real processes to the ledger; one that is invalid counts for nothing."""
    if verdict.invalid:
        return
    line = _empty(_commit(), REAL + verdict.workload, verdict.seed)
    _count(line, verdict, say)
    with ledger.open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def _next_seed(ledger: Path) -> int:
    if not ledger.exists():
        return 1_000
    lines = [msgspec.json.decode(text, type=Line) for text in ledger.read_bytes().splitlines() if text]
    simulated = [line.seed_end for line in lines if not line.workload.startswith(REAL)]
    return max(simulated, default=1_000)


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _is_real(line: Line) -> bool:
    return line.workload.startswith(REAL)


def figures(ledger: Path = LEDGER) -> str:
    """What was ever simulated, workload by workload, as a table of Markdown."""
    lines = [msgspec.json.decode(text, type=Line) for text in ledger.read_bytes().splitlines() if text]
    counted = "operations | faults | moves | kills | power cuts"
    rows = [f"| workload | seeds | virtual hours | {counted} | red seeds | last commit |"]
    rows.append("|---|---:|---:|---:|---:|---:|---:|---:|---|---|")
    names = dict.fromkeys(line.workload for line in lines)
    for name in [*names, ""]:
        chosen = [line for line in lines if line.workload == name or (not name and not _is_real(line))]
        red = [str(seed) for line in chosen for seed in line.red]
        cells = (
            name or "all",
            f"{sum(line.seed_end - line.seed_first for line in chosen):,}",
            f"{sum(line.virtual_hours for line in chosen):.1f}",
            f"{sum(line.operations for line in chosen):,}",
            f"{sum(line.faults for line in chosen):,}",
            *(
                f"{sum(getattr(line, what) for line in chosen):,}"
                for what in ("moves", "kills", "power_cuts")
            ),
            ", ".join(red) or "none",
            chosen[-1].commit if chosen else "",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jepsen_like.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=50.0, help="virtual hours")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--workloads",
        default=",".join(WORKLOADS),
        help="names, separated by commas; NAME+churn for one with churn",
    )
    parser.add_argument("--figures", action="store_true", help="print the sums of the ledger, and do nothing")
    given = parser.parse_args()
    if given.figures:
        print(figures())
        return 0
    names = given.workloads.split(",")
    if unknown := [name for name in names if name.removesuffix(CHURN) not in WORKLOADS]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(WORKLOADS)}")
    return 0 if soak(given.hours, given.workers, workloads=names) else 1


if __name__ == "__main__":
    raise SystemExit(main())
