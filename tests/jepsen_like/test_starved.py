"""A machine that has no time makes a run invalid; what is wrong is wrong on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jepsen_like.checkers import Problem
from jepsen_like.real.starved import Waiting, why_invalid
from jepsen_like.run import Verdict
from jepsen_like.soak import figures, read_ledger, record

LATE, LOST = Problem("unproven", "n1 has not proven t equal to n2"), Problem("lost", "an element")


@pytest.mark.parametrize(
    ("problems", "starved", "rate", "invalid"),
    [
        ([], "", 200, False),
        ([], "convergence (60%)", 200, False),
        ([LATE], "convergence (60%)", 200, True),
        ([LATE], "", 200, False),
        ([LATE, LOST], "convergence (60%)", 200, False),
        ([LOST], "faults (90%)", 20, False),
        ([], "", 20, True),
    ],
)
def test_only_lateness_is_excused(problems: list[Problem], starved: str, rate: float, invalid: bool) -> None:
    assert bool(why_invalid(problems, starved, rate, 100)) is invalid


def waited(proc: Path, process: int | str, seconds: float) -> None:
    (proc / str(process)).mkdir(exist_ok=True)
    (proc / str(process) / "schedstat").write_text(f"1 {int(seconds * 1e9)} 1\n")


def test_phases_in_which_we_or_a_peer_waited_long_are_named(tmp_path: Path) -> None:
    waited(tmp_path, "self", 0)
    waited(tmp_path, 7, 0)
    waiting = Waiting(tmp_path)
    waiting.end("healthy", {"n1": 7})
    waited(tmp_path, "self", 60)
    waiting.end("convergence", {"n1": 7})
    assert waiting.shares["healthy"] == 0.0 and waiting.starved().startswith("convergence (")
    waited(tmp_path, 7, 60)
    waiting.end("final reads", {"n1": 7})
    assert "final reads of n1 (" in waiting.starved()


def test_a_process_that_took_the_place_of_another_has_not_waited_for_it(tmp_path: Path) -> None:
    for process, seconds in (("self", 0), (7, 0), (8, 900)):
        waited(tmp_path, process, seconds)
    waiting = Waiting(tmp_path)
    waiting.sample({"n1": 7})
    waiting.end("faults", {"n1": 8})
    waiting.end("final reads", {})
    assert waiting.starved() == ""


def test_where_the_kernel_does_not_count_nothing_is_excused(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path / "none")
    waiting.end("healthy", {"n1": 7})
    assert waiting.starved() == ""


def test_real_runs_are_in_the_ledger_with_their_kills_and_of_invalid_ones_nothing_counts(
    tmp_path: Path,
) -> None:
    ledger = tmp_path / "ledger.ndjson"

    def ran(seed: int, **told: Any) -> None:
        verdict = Verdict(
            seed=seed,
            workload="composite",
            options="peers=5 network=namespaces",
            safety_s=60,
            operations=9_000,
            kills=7,
            power_cuts=3,
            **told,
        )
        record(verdict, ledger, commit="abc", say=lambda _: None)

    ran(5)
    ran(6, invalid="starved")
    ran(7, problems=[LOST], problem_count=1)
    lines = read_ledger(ledger)
    assert [line.verdict for line in lines] == ["green", "invalid", "red"]
    first = lines[0]
    assert (first.workload, first.kills, first.power_cuts) == ("real:composite", 7, 3)
    assert (first.commit, first.network) == ("abc", "namespaces")
    assert "| composite | abc | 2 | 0.0 | 18,000 | 0 | 0 | 14 | 6 | 7 | 1 |" in figures(ledger)
    assert "\n| all |  | 2 | 0.0 | 18,000 | 0 | 0 | 14 | 6 | 7 | 1 |" in figures(ledger)
