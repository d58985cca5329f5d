"""An hour of virtual time and more on fresh seeds: drawn from the commit, so that they can be had again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jepsen_like.run import WORKLOADS
from jepsen_like.simulate import simulate

TOP = Path(__file__).resolve().parents[2]
SECONDS = 60
FOUNDATION = ("set", "register", "deletes")
"""What all else stands on: an hour for these, some minutes for each of the others."""

SEEDS_MAX, SEEDS_OTHERS = 20, 3
FRESH_FROM = 1_000_000
"""Below are the seeds of soaks and those with a name."""


def seeds_of_this_commit() -> range:
    """Seeds drawn from the commit's hash; outside a checkout always the same."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=TOP, capture_output=True, text=True, check=False)
    first = FRESH_FROM + int(asked.stdout[:8] or "0", 16) % 1_000_000 * SEEDS_MAX
    return range(first, first + SEEDS_MAX)


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS)
def test_an_hour_of_faults_on_fresh_seeds(workload: str) -> None:
    said: list[str] = []
    seeds = seeds_of_this_commit()[: SEEDS_MAX if workload in FOUNDATION else SEEDS_OTHERS]
    green = simulate(workload, seeds, SECONDS, workers=2, say=said.append)
    assert green, "\n".join(said)
    print(said[-1])
