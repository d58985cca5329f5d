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
    moved: dict[str, int] = {}
    """By kind."""
    phase_kills: dict[str, int] = {}
    missed: list[int] = []
    """Seeds of runs with churn that did not get to all of it, though they lasted longer for that."""
    kills: int = 0
    power_cuts: int = 0
    real_s: float
    red: list[int]
    verdict: str
    network: str = ""
    """Of real processes: by what they were joined."""


def soak(
    hours: float,
    workers: int,
    ledger: Path = LEDGER,
    say: Say = print,
    workloads: Sequence[str] = tuple(WORKLOADS),
    *,
    seeds: int = BATCH,
    seconds: int = SECONDS_PER_SEED,
) -> bool:
    """Simulate at least so many virtual hours, the workloads in turn, so many seeds of each at a time; True
    if all were green.
    """
    commit, at, done, green = _commit(), _next_seed(ledger), 0.0, True
    while done < hours:
        lines = {name: _empty(commit, name, at) for name in workloads}
        jobs = [(seed, name, seconds, False) for seed in range(at, at + seeds) for name in workloads]
        for verdict in verdicts(jobs, workers):
            _count(lines[verdict.workload], verdict, say)
        at += seeds
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
    for sums, counts in ((line.moved, verdict.moves), (line.phase_kills, verdict.phase_kills)):
        for name, count in counts.items():
            sums[name] = sums.get(name, 0) + count
    line.missed += [verdict.seed] * bool(verdict.missed)
    line.real_s = round(line.real_s + verdict.real_s, 1)
    if verdict.missed and verdict.green:
        say(verdict.line())
    if not verdict.green:
        line.red.append(verdict.seed)
        line.verdict = "red"
        say(verdict.line())
        for problem in verdict.problems[:5]:
            say(f"    {problem.name}: {problem.text}")
        say(f"    again: {verdict.replay()}")


REAL = "real:"
"""Before the name of a workload in the ledger: it ran against real processes."""

INVALID = "invalid"
"""The verdict of a run that says nothing: the machine had no time for it."""


def record(verdict: Verdict, ledger: Path = LEDGER, *, commit: str = "", say: Say = print) -> None:
    """Add a run against real processes to the ledger, at this commit or that which is checked out.

    One that is invalid is there too, but counts for nothing. Two campaigns may write to one ledger.
    """
    line = _empty(commit or _commit(), REAL + verdict.workload, verdict.seed)
    _count(line, verdict, say)
    if verdict.invalid:
        line.red, line.verdict = [], INVALID
    line.network = verdict.options.rpartition("network=")[2]
    with ledger.open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def _next_seed(ledger: Path) -> int:
    if not ledger.exists():
        return 1_000
    simulated = [line.seed_end for line in read_ledger(ledger) if not _is_real(line)]
    return max(simulated, default=1_000)


def _commit() -> str:
    """What is checked out where this code lies; that the ledger itself was added to changes no code."""
    source = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", source, *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){LEDGER}")
    return (git("describe", "--always") or "unknown") + ("-dirty" if changed else "")


def _is_real(line: Line) -> bool:
    return line.workload.startswith(REAL)


def read_ledger(ledger: Path = LEDGER) -> list[Line]:
    """All lines."""
    return [msgspec.json.decode(text, type=Line) for text in ledger.read_bytes().splitlines() if text]


def figures(ledger: Path = LEDGER) -> str:
    """What was ever run by workload, as tables of Markdown: of simulations, and of real processes."""
    lines = read_ledger(ledger)
    simulated = [line for line in lines if not _is_real(line)]
    real = [line for line in lines if _is_real(line)]
    tables = [_simulated_figures(simulated), *([_real_figures(real)] if real else [])]
    return "\n\n".join(tables)


def _simulated_figures(lines: list[Line]) -> str:
    counted = "operations | faults | moves | kills | power cuts"
    rows = [f"| workload | seeds | virtual hours | {counted} | red seeds | last commit |"]
    rows.append("|---|---:|---:|---:|---:|---:|---:|---:|---|---|")
    names = dict.fromkeys(line.workload for line in lines)
    for name in [*names, ""]:
        chosen = [line for line in lines if line.workload == name or not name]
        cells = (
            name or "all",
            f"{sum(line.seed_end - line.seed_first for line in chosen):,}",
            f"{sum(line.virtual_hours for line in chosen):.1f}",
            *_sums(chosen, ("operations", "faults", "moves")),
            f"{sum(line.kills + sum(line.phase_kills.values()) for line in chosen):,}",
            *_sums(chosen, ("power_cuts",)),
            _red(chosen),
            chosen[-1].commit if chosen else "",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _real_figures(lines: list[Line]) -> str:
    """Runs that are not valid are told, and nothing of them is counted."""
    counted = "hours | operations | acknowledged | faults | kills | power cuts"
    rows = [f"| workload | commit | valid runs | {counted} | red seeds | invalid runs |"]
    rows.append("|---|---|---:|---:|---:|---:|---:|---:|---:|---|---:|")
    groups = dict.fromkeys((line.workload, line.commit) for line in lines)
    for group in [*groups, None]:
        chosen = [line for line in lines if group in (None, (line.workload, line.commit))]
        valid = [line for line in chosen if line.verdict != INVALID]
        cells = (
            *((group[0].removeprefix(REAL), group[1]) if group else ("all", "")),
            f"{len(valid):,}",
            f"{sum(line.virtual_hours for line in valid):.1f}",
            *_sums(valid, ("operations", "ok", "faults", "kills", "power_cuts")),
            _red(valid),
            f"{len(chosen) - len(valid):,}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _sums(lines: Sequence[Line], what: Sequence[str]) -> list[str]:
    return [f"{sum(getattr(line, name) for line in lines):,}" for name in what]


def _red(lines: Sequence[Line]) -> str:
    return ", ".join(str(seed) for line in lines for seed in line.red) or "none"


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
    parser.add_argument("--seeds", type=int, default=BATCH, help="of each workload at a time")
    parser.add_argument("--seconds", type=int, default=SECONDS_PER_SEED, help="of faults under each seed")
    parser.add_argument("--figures", action="store_true", help="print the sums of the ledger, and do nothing")
    given = parser.parse_args()
    if given.figures:
        print(figures())
        return 0
    names = given.workloads.split(",")
    if unknown := [name for name in names if name.removesuffix(CHURN) not in WORKLOADS]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(WORKLOADS)}")
    green = soak(given.hours, given.workers, workloads=names, seeds=given.seeds, seconds=given.seconds)
    return 0 if green else 1


if __name__ == "__main__":
    raise SystemExit(main())
