"""Workloads go on while peers come, go and are replaced, and bugs of moving ranges are caught by them."""

from __future__ import annotations

import pytest

from jepsen_like.churn import PHASES, REPLACING, ChurnRun, shape_of
from jepsen_like.moving_plants import caught, caught_alone, caught_on_tour
from jepsen_like.nemesis import is_damaged
from sim.options import Options
from sim.real import RealSoftware


@pytest.mark.parametrize(
    ("workload", "seed", "kinds"),
    [
        ("set", 12, ("add", "remove")),
        ("register", 8, ("replace", "move")),
        ("append", 3, ("add", "move")),
        ("cas-register", 300, ("replicate", "add")),
        ("changes", 1, ("add",)),  # what a reader from the beginning is owed by a newcomer's log
    ],
)
def test_nothing_is_lost_while_ranges_move(workload: str, seed: int, kinds: tuple[str, ...]) -> None:
    assert caught("", workload, seed, kinds, 12) == []


@pytest.mark.parametrize(
    ("plant", "kinds", "problems"),
    [
        ("kept", ("add",), {"foreign"}),
    ],
)
def test_a_planted_bug_is_caught(plant: str, kinds: tuple[str, ...], problems: set[str]) -> None:
    found: list[str] = []
    for seed in range(1, 9):
        found = caught(plant, "set", seed, kinds, 12)
        if problems & {*found}:
            return
    pytest.fail(f"nothing sees it: {found}")


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        ("at once", ("add", "move")),
        ("nothing is merged", ("elsewhere",)),
        ("one source", ("elsewhere",)),
        ("met among the old", ("move", "add")),
    ],
)
def test_a_bug_that_all_else_makes_good_is_caught_where_there_is_nothing_else(
    plant: str, kinds: tuple[str, ...]
) -> None:
    assert caught_alone("", 1, kinds) == []
    assert "lost" in caught_alone(plant, 1, kinds) or "lost" in caught_alone(plant, 2, kinds)


def test_a_level_met_among_the_new_alone_is_seen_by_who_reads_while_ranges_move() -> None:
    kinds = ("move", "add")
    assert caught_alone("", 2, kinds, workload="register") == []
    assert "stale" in caught_alone("met among the new", 2, kinds, workload="register")


def test_bits_of_one_disk_and_the_rows_of_a_replaced_peer_are_not_lost_at_once() -> None:
    run = ChurnRun(Options.draw(609), "set", RealSoftware(), False)
    churn = run.churn(("replace",))
    assert run.begin() == []
    run.session.load(run.workload.step)
    run.cluster.run_for(1_000_000)
    churn._kind = "replace"
    flipped = []
    for plan in (lambda _: None, None):
        churn._plan = plan
        for _ in range(20):
            run.nemesis.begin("bit_flip")
        flipped.append(any(is_damaged(machine) for machine in run.cluster.machines))
    assert flipped == [False, True]
    churn._begin("replace")
    assert churn.idle, "a peer was emptied although another one has lost something"


def test_a_workload_goes_through_all_kinds_of_moves_with_a_kill_at_each_epoch() -> None:
    verdict = caught_on_tour("", "cas-register", 1)
    assert verdict.green, verdict.problems
    assert verdict.missed == []
    assert {"add", "replace", "elsewhere", "replicate 3>1", "replicate 1>3"} <= {*verdict.moves}
    assert {*verdict.phase_kills} == {*PHASES}


def test_two_moves_at_once_are_seen() -> None:
    verdict = caught_on_tour("two at once", "cas-register", 1)
    assert "overlapped" in [problem.name for problem in verdict.problems]


def test_a_tour_that_did_not_get_far_says_what_it_has_not_seen() -> None:
    run = ChurnRun(Options.draw(1), "set", RealSoftware(), False)
    churn = run.churn(("add",), kill=0.0)
    assert churn.missed == [], "nothing was planned"
    churn.plan_tour()
    churn.done += ["add", "replace", "replicate 3>1"]
    churn.kills["prepare"] = 1
    assert churn.missed == ["elsewhere", "more replicas", "a kill at hand_over", "a kill at finish"]
    orders = set()
    for seed in range(40):
        other = ChurnRun(Options.draw(seed), "set", RealSoftware(), False).churn(("add",), kill=0.0)
        other.plan_tour()
        orders.add(tuple(other.tour))
        kinds = [kind for kind in other.tour if kind != "move"]
        down = kinds.index("replicate")
        assert kinds[down + 1] == "replicate", "no directory is emptied while there is one replica"
        assert sorted(kinds) == ["add", "elsewhere", "replace", "replicate", "replicate"]
    assert len(orders) > 10


def test_no_directory_is_emptied_where_one_disk_s_word_is_enough() -> None:
    for seed in range(20):
        assert not {*REPLACING} & {*shape_of(seed, "set-any+churn").kinds}
    assert any({*REPLACING} & {*shape_of(seed, "set+churn").kinds} for seed in range(20))
    churn = ChurnRun(Options.draw(1), "set-any", RealSoftware(), False).churn(("add",), kill=0.0)
    churn.sights = ("add", "replicate")
    churn.plan_tour()
    assert {*churn.tour} - {"move"} == {"add", "replicate"}
    assert churn.missed[:3] == ["add", "fewer replicas", "more replicas"]
