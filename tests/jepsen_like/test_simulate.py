"""What names of workloads mean on the command line, and what a verdict and the ledger say of churn."""

from __future__ import annotations

import pytest

from cli.output import Failure
from cli.simulate import simulate
from jepsen_like.churn import shape_of
from jepsen_like.run import WORKLOADS, Verdict
from jepsen_like.simulate import names_of
from jepsen_like.soak import _count, _empty


def test_each_workload_has_a_name_with_churn() -> None:
    assert names_of("txn+churn") == ["txn+churn"]
    assert names_of("all+churn") == [f"{name}+churn" for name in WORKLOADS]
    assert names_of("all") == list(WORKLOADS)
    with pytest.raises(KeyError):
        names_of("nothing+churn")


def test_the_command_says_which_names_there_are() -> None:
    with pytest.raises(Failure, match=r"nothing\+churn; there are set, .* each with \+churn"):
        simulate("nothing+churn", [1], 1, trace=False, workers=1, as_json=False)


def test_moves_and_kills_of_a_run_are_in_its_line_and_in_the_ledger() -> None:
    verdict = Verdict(
        seed=1,
        workload="set+churn",
        options="",
        safety_s=60,
        moves={"replicate 1>3": 1, "replicate 3>1": 2},
        phase_kills={"prepare": 2, "hand_over": 1},
    )
    assert "moves: 1 replicate 1>3, 2 replicate 3>1; kills: 2 at prepare, 1 at hand_over" in verdict.line()
    assert "NOT REACHED" not in verdict.line()
    verdict.missed = ["elsewhere", "a kill at finish"]
    assert "; NOT REACHED: elsewhere, a kill at finish" in verdict.line()
    line = _empty("abc", "set+churn", 1)
    for _ in range(2):
        _count(line, verdict, lambda _: None)
    assert (line.moves, line.moved["replicate 3>1"], line.phase_kills["prepare"]) == (6, 4, 4)
    assert line.missed == [1, 1]


def test_a_machine_that_is_removed_may_come_back() -> None:
    shapes = [shape_of(seed, "set") for seed in range(200)]
    assert all("add" in shape.kinds for shape in shapes if "remove" in shape.kinds)
    assert all(shape.kill > 0 for shape in shapes)
