"""Planted bugs of sessions are caught, and the same run without them is green."""

from __future__ import annotations

import pytest

from jepsen_like.plants import Plant, catch, verdict_of
from jepsen_like.session_plants import SESSION_PLANTS


@pytest.mark.parametrize(
    "plant", SESSION_PLANTS, ids=[each.name.replace(" ", "-") for each in SESSION_PLANTS]
)
def test_a_planted_bug_is_caught(plant: Plant) -> None:
    verdict = catch(plant)
    assert verdict is not None, f"nothing sees: {plant.name}"
    without = verdict_of(plant, verdict.seed, with_bug=False)
    assert without.green, without.problems
