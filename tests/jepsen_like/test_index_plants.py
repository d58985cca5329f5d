"""The suite sees bugs of reads by predicate: planted they are caught; without them all is well."""

from __future__ import annotations

import pytest

from jepsen_like.checkers import Problem
from jepsen_like.history import FAIL, INFO, OK, History, Operation
from jepsen_like.index_checker import judge_answers
from jepsen_like.index_plants import INDEX_PLANTS
from jepsen_like.plants import Plant, catch, verdict_of
from jepsen_like.run import run


@pytest.mark.parametrize("plant", INDEX_PLANTS, ids=[plant.name.replace(" ", "-") for plant in INDEX_PLANTS])
def test_a_planted_bug_is_caught(plant: Plant) -> None:
    verdict = catch(plant)
    assert verdict is not None, f"nothing sees: {plant.name}"
    without = verdict_of(plant, verdict.seed, with_bug=False)
    assert without.green, without.problems


def test_one_seed_is_one_trace() -> None:
    assert run(3, "index", 5, trace=True).trace == run(3, "index", 5, trace=True).trace


# --- the judge itself

Step = tuple[str, str, object]
"""(kind, how it ended, what was written or found); a kind of `find` with `begin` first spans what follows."""


def judged(*steps: Step) -> list[str]:
    """Names of problems of a history of one row `r`; reads ask for the state "x"."""
    history, open_read = History(), None
    writes, reads = [], []
    for kind, how, what in steps:
        if kind == "begin":
            open_read = history.invoke(Operation(1, "find", "x", None, 0), 0)
            continue
        if kind == "find":
            read = open_read or history.invoke(Operation(1, "find", "x", None, 0), 0)
            open_read = None
            history.complete(read, how, 0, what)
            reads.append(read)
        else:
            write = history.invoke(Operation(2, "write", "r", what, 0), 0)
            history.complete(write, how, 0)
            writes.append(write)
    problems: list[Problem] = judge_answers(writes, reads, lambda read, state: state == read.key)
    return [problem.name for problem in problems]


FOUND: list[tuple[str, str]] = [("r", "x")]
NOTHING: list[tuple[str, str]] = []


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        ([("write", OK, "x"), ("find", OK, FOUND)], []),
        ([("write", OK, "x"), ("find", OK, NOTHING)], ["missing"]),
        ([("write", OK, "x"), ("write", OK, "y"), ("find", OK, FOUND)], ["stale"]),
        ([("write", OK, "x"), ("write", OK, None), ("find", OK, FOUND)], ["stale"]),
        ([("write", OK, "x"), ("write", INFO, "y"), ("find", OK, FOUND)], []),
        ([("write", OK, "x"), ("write", INFO, "y"), ("find", OK, NOTHING)], []),
        ([("write", OK, "x"), ("write", FAIL, "y"), ("find", OK, NOTHING)], ["missing"]),
        ([("begin", OK, None), ("write", OK, "x"), ("find", OK, NOTHING)], []),
        ([("begin", OK, None), ("write", OK, "x"), ("find", OK, FOUND)], []),
        ([("write", INFO, "x"), ("write", OK, "y"), ("find", OK, FOUND)], []),
        ([("find", OK, FOUND)], ["phantom"]),
        ([("write", OK, "y"), ("find", OK, [("r", "y")])], ["wrong"]),
        ([("write", OK, "x"), ("find", OK, FOUND * 2)], ["duplicated"]),
        ([("write", OK, "x"), ("find", FAIL, None)], []),
    ],
)
def test_the_judge_knows_what_an_answer_must_hold(steps: list[Step], names: list[str]) -> None:
    assert judged(*steps) == names
