"""Many seeds, one line each: what `sullae simulate` and `python -m jepsen_like.simulate` do.

A red seed is followed by what was wrong and by the one command that does it again. With several workers seeds
run in processes of their own; the output does not depend on how many.
"""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from jepsen_like.checkers import Problem
from jepsen_like.churn import CHURN, run_with_churn
from jepsen_like.own import OwnError
from jepsen_like.run import WORKLOADS, Verdict, named, run
from sim.options import Options

Say = Callable[[str], None]


def judge(job: tuple[int, str, int, bool]) -> Verdict:
    """One run (seed, workload, seconds of faults, trace); a bug of ours that stops a node is red too."""
    seed, workload, seconds, trace = job
    try:
        go = run_with_churn if workload.endswith(CHURN) else run
        return go(seed, workload, seconds, trace)
    except Exception as error:  # noqa: BLE001  (a crash of the code under test is a verdict, not our end)
        where = "".join(traceback.format_exception(error)[-6:])
        return Verdict(
            seed=seed,
            workload=workload,
            options=Options.draw(seed).line(),
            safety_s=seconds,
            problems=[Problem("crash", where)],
            problem_count=1,
        )


def verdicts(jobs: Iterable[tuple[int, str, int, bool]], workers: int) -> Iterator[Verdict]:
    """The verdicts in the order of the jobs."""
    if workers <= 1:
        yield from map(judge, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(judge, jobs)


def names_of(workload: str) -> list[str]:
    """What is run for a name: itself, or for "all" and "all+churn" each workload.

    KeyError for no such one, OwnError for a file that is none.
    """
    plain = workload.removesuffix(CHURN)
    if plain == "all":
        return [name + workload[len(plain) :] for name in WORKLOADS]
    named(plain)
    return [workload]


def simulate(
    workload: str,
    seeds: Iterable[int],
    seconds: int,
    *,
    trace: bool = False,
    workers: int = 1,
    say: Say = print,
) -> bool:
    """Run a workload ("all" or "all+churn" for each of them, or a file of one's own) over seeds; True if all
    are green.

    KeyError for no such one, OwnError for a file that is none.
    """
    jobs = [(seed, name, seconds, trace) for seed in seeds for name in names_of(workload)]
    red = virtual_us = operations = 0
    real_s = 0.0
    for verdict in verdicts(jobs, workers):
        say(verdict.line())
        virtual_us += verdict.virtual_us
        operations += verdict.operations
        real_s += verdict.real_s
        if not verdict.green:
            red += 1
            for problem in verdict.problems[:5]:
                say(f"    {problem.name}: {problem.text}")
            say(f"    again: {verdict.replay()}")
    speed = virtual_us / 1e6 / real_s if real_s else 0.0
    say(
        f"{len(jobs) - red} of {len(jobs)} green; {virtual_us / 60e6:.1f} virtual minutes, "
        f"{operations} operations, "
        f"{speed:.0f} times real time"
    )
    return red == 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jepsen_like.simulate", description=__doc__)
    parser.add_argument(
        "--workload", default="all", metavar="NAME[+churn]|FILE.py|all", help=", ".join(WORKLOADS)
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument("--seconds", type=int, default=60, help="virtual seconds with faults")
    parser.add_argument("--trace", action="store_true", help="print the hash over everything that happened")
    parser.add_argument("--workers", type=int, default=1, help="processes to run seeds in")
    given = parser.parse_args()
    seeds = range(given.seed, given.seed + given.seeds)
    try:
        green = simulate(given.workload, seeds, given.seconds, trace=given.trace, workers=given.workers)
    except KeyError:
        parser.error(f"unknown workload {given.workload}; known are {', '.join(WORKLOADS)}")
    except OwnError as error:
        parser.error(str(error))
    return 0 if green else 1


if __name__ == "__main__":
    raise SystemExit(main())
