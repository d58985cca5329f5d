"""Planted bugs of documents are caught, and the same run without them is green."""

from __future__ import annotations

import pytest

from jepsen_like.document_plants import DOCUMENT_PLANTS
from jepsen_like.plants import Plant, catch, verdict_of


@pytest.mark.parametrize(
    "plant", DOCUMENT_PLANTS, ids=[each.name.replace(" ", "-") for each in DOCUMENT_PLANTS]
)
def test_a_planted_bug_is_caught(plant: Plant) -> None:
    verdict = catch(plant)
    assert verdict is not None, f"nothing sees: {plant.name}"
    without = verdict_of(plant, verdict.seed, with_bug=False)
    assert without.green, without.problems
