"""The suite sees bugs of transactions, schemas, clocks and disks: planted they are caught, else all is green.

The seeds are the first from 1 on that catch, found by running each plant over the seeds from 1 to 30.
"""

from __future__ import annotations

import pytest

from jepsen_like.more_plants import MORE_PLANTS
from jepsen_like.plants import Plant, catch, verdict_of


@pytest.mark.parametrize("plant", MORE_PLANTS, ids=[plant.name.replace(" ", "-") for plant in MORE_PLANTS])
def test_a_planted_bug_is_caught(plant: Plant) -> None:
    verdict = catch(plant)
    assert verdict is not None, f"nothing sees: {plant.name}"
    without = verdict_of(plant, verdict.seed, with_bug=False)
    assert without.green, without.problems
