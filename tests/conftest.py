"""What all tests share: Hypothesis profiles, and where the project lies.

`HYPOTHESIS_PROFILE=soak` searches longer; the default is quick, and the same examples come in the same order
in every run, so that a red run is red again.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "soak", max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


THE_MACHINE = "the machine"
TAKE_THE_MACHINE = frozenset(["cli", "client", "clients", "golden", "kafka", "process", "server"])
"""Folders whose tests start peers, listen on ports or measure what waits: one after the other, while the rest
runs beside them (pytest-xdist, `--dist loadgroup`).
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have one worker run all that needs the machine for itself."""
    top = Path(__file__).resolve().parent
    for item in items:
        if item.path.relative_to(top).parts[0] in TAKE_THE_MACHINE:
            item.add_marker(pytest.mark.xdist_group(THE_MACHINE))


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's top folder."""
    return Path(__file__).resolve().parent.parent
