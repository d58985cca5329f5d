"""A machine that has no time makes a run invalid; what is wrong is wrong on any machine."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from jepsen_like.checkers import Problem
from jepsen_like.real.starved import Waiting, why_invalid
from jepsen_like.run import Verdict
from jepsen_like.soak import Line, figures, record

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


def test_phases_in_which_we_waited_long_are_named(tmp_path: Path) -> None:
    stat = tmp_path / "schedstat"
    stat.write_text("1 0 1\n")
    waiting = Waiting(stat)
    waiting.end("healthy")
    stat.write_text("1 60000000000 1\n")
    waiting.end("convergence")
    assert waiting.shares["healthy"] == 0.0 and waiting.starved().startswith("convergence (")


def test_where_the_kernel_does_not_count_nothing_is_excused(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path / "none")
    waiting.end("healthy")
    assert waiting.starved() == ""


def test_real_runs_are_in_the_ledger_with_their_kills_and_invalid_ones_are_not(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.ndjson"
    verdict = Verdict(
        seed=5, workload="composite", options="", safety_s=60, operations=9_000, kills=7, power_cuts=3
    )
    record(verdict, ledger, lambda _: None)
    record(Verdict(seed=6, workload="composite", options="", safety_s=60, invalid="starved"), ledger)
    (line,) = [msgspec.json.decode(each, type=Line) for each in ledger.read_bytes().splitlines()]
    assert (line.workload, line.kills, line.power_cuts, line.verdict) == ("real:composite", 7, 3, "green")
    assert "| real:composite | 1 | 0.0 | 9,000 | 0 | 0 | 7 | 3 | none |" in figures(ledger)
