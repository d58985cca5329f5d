"""Planted bugs of consumer groups are caught, and the same run without them is green."""

from __future__ import annotations

import pytest

from jepsen_like.group_plants import GROUP_PLANTS
from jepsen_like.plants import Plant, catch, verdict_of


@pytest.mark.parametrize("plant", GROUP_PLANTS, ids=[each.name.replace(" ", "-") for each in GROUP_PLANTS])
def test_a_planted_bug_is_caught(plant: Plant) -> None:
    verdict = catch(plant)
    assert verdict is not None, f"nothing sees: {plant.name}"
    without = verdict_of(plant, verdict.seed, with_bug=False)
    assert without.green, without.problems
