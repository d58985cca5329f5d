"""What all tests share: Hypothesis profiles, how they are shared out, and where the project lies.

`HYPOTHESIS_PROFILE=soak` searches longer; the default is quick, and the same examples come in the same order
in every run, so that a red run is red again.

With `pytest -n 2` one worker takes all tests of the folders in `MACHINE`, one after the other: they start
processes, bind addresses and have deadlines in real time. The other one takes file after file of the rest,
which computes, and gives way to them.
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


MACHINE = ("cli", "client", "clients", "kafka", "process", "server")
HERE = Path(__file__).resolve().parent
NICENESS = 10


def needs_the_machine(item: pytest.Item) -> bool:
    """Whether a test has use of more than a processor."""
    return item.path.relative_to(HERE).parts[0] in MACHINE


def pytest_itemcollected(item: pytest.Item) -> None:
    """Say which tests one worker must run: those that need the machine, else those of one file."""
    group = "machine" if needs_the_machine(item) else str(item.path.relative_to(HERE))
    item.add_marker(pytest.mark.xdist_group(group))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give way to the worker whose tests have deadlines."""
    if "PYTEST_XDIST_WORKER" in os.environ and not needs_the_machine(item):
        os.nice(max(0, NICENESS - os.nice(0)))


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's top folder."""
    return Path(__file__).resolve().parent.parent
