"""Planted bugs of healing are caught."""

from __future__ import annotations

import pytest

from jepsen_like.healing_plants import HEALING_PLANTS
from jepsen_like.plants import Plant, catch, verdict_of


@pytest.mark.parametrize(
    "plant", HEALING_PLANTS, ids=[plant.name.replace(" ", "-") for plant in HEALING_PLANTS]
)
def test_a_planted_bug_is_caught(plant: Plant) -> None:
    verdict = catch(plant)
    assert verdict is not None, f"nothing sees: {plant.name}"
    without = verdict_of(plant, verdict.seed, with_bug=False)
    assert without.green, without.problems
