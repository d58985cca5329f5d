"""Every plant of every file is caught by a test, and docs/reliability.md says how many there are."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import jepsen_like
from jepsen_like import moving_plants
from jepsen_like.plants import Plant

HERE = Path(jepsen_like.__file__).parent
TESTS = Path(__file__).parent


def plants_of(module: ModuleType) -> list[Plant]:
    """The plants of its lists."""
    lists = [value for value in vars(module).values() if isinstance(value, tuple)]
    return [plant for one in lists for plant in one if isinstance(plant, Plant)]


def test_each_plant_is_told_and_each_list_of_plants_has_its_test() -> None:
    found: list[Plant] = []
    for path in sorted(HERE.glob("*plants.py")):
        module = import_module(f"jepsen_like.{path.stem}")
        own = [plant for plant in plants_of(module) if plant.name not in [one.name for one in found]]
        found += own
        imported = f"jepsen_like.{path.stem} "
        tests = [test.name for test in TESTS.glob("test_*.py") if imported in test.read_text()]
        assert tests, f"nobody catches what {path.name} plants"
    text = (HERE.parent / "docs" / "reliability.md").read_text()
    moving = len(moving_plants.PLANTS)
    told = f"Of these {len(found)} are found by a workload in a run like any other, and {moving} by churn"
    assert told in text, told
