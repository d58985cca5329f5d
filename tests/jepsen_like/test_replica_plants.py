"""Planted bugs of hints, repairs, hash trees and of streams are caught, and the same run without them is
green.
"""

from __future__ import annotations

import pytest

from jepsen_like.plants import Plant, catch, verdict_of
from jepsen_like.replica_plants import REPLICA_PLANTS


@pytest.mark.parametrize(
    "plant", REPLICA_PLANTS, ids=[plant.name.replace(" ", "-") for plant in REPLICA_PLANTS]
)
def test_a_planted_bug_is_caught(plant: Plant) -> None:
    verdict = catch(plant)
    assert verdict is not None, f"nothing sees: {plant.name}"
    without = verdict_of(plant, verdict.seed, with_bug=False)
    assert without.green, without.problems
