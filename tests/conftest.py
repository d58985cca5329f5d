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


TAKE_THE_MACHINE = frozenset(["cli", "client", "clients", "golden", "kafka", "process", "server"])
"""Folders whose tests start peers, listen on ports or measure what waits: one after the other, while the rest
runs beside them (pytest-xdist, `--dist loadgroup`), a file at a time.
"""
TESTS = Path(__file__).resolve().parent


def pytest_itemcollected(item: pytest.Item) -> None:
    """Say with which others a test has to run."""
    parts = item.path.relative_to(TESTS).parts
    group = "machine" if parts[0] in TAKE_THE_MACHINE else "/".join(parts)
    item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's top folder."""
    return Path(__file__).resolve().parent.parent
