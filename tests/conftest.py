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
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

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
NICENESS = 10


def group_of(nodeid: str) -> str:
    """Which tests one worker must run: "machine" (they need more than a processor), else a file."""
    path = nodeid.split("::", 1)[0]
    return "machine" if path.split("/")[1] in MACHINE else path


class Shared(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out groups as wholes (marks of groups do not survive every version of pytest)."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shared:
    """How `-n` shares the tests out."""
    return Shared(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give way to the worker whose tests have deadlines."""
    if "PYTEST_XDIST_WORKER" in os.environ and group_of(item.nodeid) != "machine":
        os.nice(max(0, NICENESS - os.nice(0)))


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's top folder."""
    return Path(__file__).resolve().parent.parent
