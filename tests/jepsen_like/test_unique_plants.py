"""Planted bugs of unique indexes are caught, and the same run without them is green."""

from __future__ import annotations

import pytest

from jepsen_like.history import FAIL, NEVER, OK, Operation
from jepsen_like.plants import Plant, catch, verdict_of
from jepsen_like.unique_plants import UNIQUE_PLANTS
from jepsen_like.workloads.unique import two_holders


@pytest.mark.parametrize("plant", UNIQUE_PLANTS, ids=[each.name.replace(" ", "-") for each in UNIQUE_PLANTS])
def test_a_planted_bug_is_caught(plant: Plant) -> None:
    verdict = catch(plant)
    assert verdict is not None, f"nothing sees: {plant.name}"
    without = verdict_of(plant, verdict.seed, with_bug=False)
    assert without.green, without.problems


def sighting(invoked: int, completed: int) -> Operation:
    operation = Operation(1, "read", "d", None, 0)
    operation.invoked, operation.completed = invoked, completed
    operation.status = FAIL if completed == NEVER else OK
    return operation


def test_two_hold_a_name_only_if_they_certainly_did_at_one_time() -> None:
    """A document held it from the end of the first sighting to the beginning of the last."""
    one, two = ("d0", "v", 1), ("d1", "v", 2)
    apart = {one: [sighting(1, 3), sighting(5, 6)], two: [sighting(5, 6), sighting(8, 9)]}
    assert two_holders(apart) == []
    overlapping = {one: [sighting(1, 3), sighting(7, 9)], two: [sighting(4, 5), sighting(8, 9)]}
    assert [each.name for each in two_holders(overlapping)] == ["two_hold"]
    once = {one: [sighting(1, 9)], two: [sighting(2, 8)]}
    assert two_holders(once) == [], "nobody knows when"
    again = {one: [sighting(1, 2), sighting(8, 9)], ("d0", "v", 3): [sighting(3, 4), sighting(6, 7)]}
    assert two_holders(again) == [], "it is one document"
