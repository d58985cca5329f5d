"""Whole simulated runs of the real node: green, live, equal, the same for the same seed, and quick enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from jepsen_like.nemesis import FAULTS
from jepsen_like.run import WORKLOADS, Run, options_of, run, without_later
from jepsen_like.session import SECOND
from jepsen_like.simulate import simulate
from jepsen_like.soak import Line, soak
from sim import options as sim_options
from sim.options import Options
from sim.real import RealSoftware

TOP = Path(__file__).resolve().parents[2]

PAST_SEEDS = [
    ("counter-once", 10_563_864, 60),  # probes fought each other for one counter
    ("register", 402, 25),  # a new stamp above the first newer version heard of, not above the newest
    ("deletes", 407, 25),
    ("set-any", 400, 25),
    ("set", 16, 20),
    ("search", 20, 15),  # peers slower than the time after which another is asked: nobody was ever heard out
    ("changes", 2, 10),  # a heartbeat named the replica that takes over before its RESTART was told
]
"""Seeds that were red once, before some kinds of faults were known."""

NEWER_SEEDS = [
    ("bank", 4_503_260, 60),  # 40 ms each way: what damage took was asked for range by range, for minutes
    ("txn", 4_503_260, 60),
    ("session", 40_308, 90),  # an answer came when all peers had lost their power, and was read as nothing
    ("counter-once", 40_323, 90),  # the last increment was done a second before reads at ONE
    ("index", 1_754, 60),  # a follower missed a round's end, and none was begun again at the same floor
]
"""Seeds that were red once, with all faults that there are."""


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("seed", [11, 12])
def test_fresh_seeds_are_green(workload: str, seed: int) -> None:
    verdict = run(seed, workload, 15)
    assert verdict.green, (verdict.replay(), verdict.problems)
    assert verdict.faults > 0
    assert verdict.rate >= 50
    assert verdict.live_us <= 30 * SECOND
    assert verdict.converged_us <= 60 * SECOND


@pytest.mark.parametrize(("workload", "seed", "seconds"), PAST_SEEDS)
def test_seeds_that_were_red_stay_green(workload: str, seed: int, seconds: int) -> None:
    options = without_later(options_of(seed, workload))  # as it was then
    verdict = run(seed, workload, seconds, options=options)
    assert verdict.green, (verdict.replay(), verdict.problems)


@pytest.mark.parametrize(("workload", "seed", "seconds"), NEWER_SEEDS)
def test_seeds_that_were_red_lately_stay_green(workload: str, seed: int, seconds: int) -> None:
    verdict = run(seed, workload, seconds)
    assert verdict.green, (verdict.replay(), verdict.problems)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_survived_and_undone(fault: str) -> None:
    options = msgspec.structs.replace(Options(seed=7, peers=3), faults=(fault,), fault_period_us=2 * SECOND)
    this = Run(options, "register", RealSoftware(), False)
    assert this.go(8 * SECOND) == []
    assert [name for _, name in this.nemesis.done].count(fault) >= 1
    assert this.cluster.running() == [0, 1, 2]
    assert all(this.cluster.network.passes(a, b) for a in range(3) for b in range(3))


def test_the_options_know_the_faults_that_there_are() -> None:
    assert tuple(FAULTS) == (*sim_options.FAULTS, *sim_options.MORE_FAULTS)


def test_what_a_nemesis_does_is_decided_by_the_seed() -> None:
    def faults() -> list[tuple[int, str]]:
        this = Run(Options.draw(5), "set", RealSoftware(), False)
        this.go(10 * SECOND)
        return this.nemesis.done

    assert faults() == faults() != []


def test_one_seed_is_one_trace_whatever_the_hash_seed() -> None:
    def trace(seed: int, hash_seed: str) -> str:
        code = f"from jepsen_like.run import run; print(run({seed}, 'set', 8, trace=True).trace)"
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(TOP)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=TOP, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    first = trace(21, "1")
    assert first == trace(21, "77")
    assert first != trace(22, "1")


def test_simulate_says_one_line_per_run() -> None:
    said: list[str] = []
    assert simulate("register", range(1, 3), 5, say=said.append)
    assert len(said) == 3
    assert all("seed=" in line and line.startswith("register ok") for line in said[:2])


def test_a_crash_of_the_code_under_test_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(self: object) -> None:
        raise AssertionError("planted")

    monkeypatch.setattr("node.node.Node.on_start", bug)
    said: list[str] = []
    assert not simulate("set", [3], 5, say=said.append)
    assert "crash" in said[1] and "planted" in said[1]
    assert "--workload set --seed 3 --seconds 5" in said[2]


def test_the_ledger_grows_and_seeds_are_not_spent_twice(tmp_path: Path) -> None:
    ledger, said = tmp_path / "ledger.ndjson", list[str]()
    for _ in range(2):
        assert soak(0.001, 1, ledger, said.append, seeds=1, seconds=3), said
    lines = [msgspec.json.decode(line, type=Line) for line in ledger.read_bytes().splitlines()]
    assert [line.workload for line in lines] == [*WORKLOADS, *WORKLOADS]
    assert all(line.verdict == "green" and line.operations >= line.ok > 0 for line in lines)
    assert lines[len(WORKLOADS)].seed_first == lines[0].seed_end
