"""The suite sees bugs of logged batches and counters: planted they are caught, without them all is green."""

from __future__ import annotations

import pytest

from jepsen_like.batch_plants import BATCH_PLANTS
from jepsen_like.plants import Plant, catch, verdict_of


@pytest.mark.parametrize("plant", BATCH_PLANTS, ids=[plant.name.replace(" ", "-") for plant in BATCH_PLANTS])
def test_a_planted_bug_is_caught(plant: Plant) -> None:
    verdict = catch(plant)
    assert verdict is not None, f"nothing sees: {plant.name}"
    without = verdict_of(plant, verdict.seed, with_bug=False)
    assert without.green, without.problems
