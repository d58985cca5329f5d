"""The suite sees what it is there to see: a planted bug is caught, and the same run without it is green."""

from __future__ import annotations

import pytest

from jepsen_like.plants import PLANTS, Plant, catch, planted, verdict_of


@pytest.mark.parametrize("plant", PLANTS, ids=[plant.name.replace(" ", "-") for plant in PLANTS])
def test_a_planted_bug_is_caught(plant: Plant) -> None:
    verdict = catch(plant)
    assert verdict is not None, f"nothing sees: {plant.name}"
    without = verdict_of(plant, verdict.seed, with_bug=False)
    assert without.green, without.problems


def test_a_plant_is_gone_afterwards() -> None:
    plant = PLANTS[0]
    owner, name, _ = plant.patches[0]
    before = owner.__dict__[name]
    with planted(plant):
        assert owner.__dict__[name] is not before
    assert owner.__dict__[name] is before
