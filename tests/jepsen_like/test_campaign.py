"""An hour of virtual time on fresh seeds, drawn from the commit so that they can be had again, for what all
else stands on. The other workloads run recorded seeds; fresh ones are what `make soak` is for.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jepsen_like.run import WORKLOADS
from jepsen_like.simulate import simulate

TOP = Path(__file__).resolve().parents[2]
SECONDS = 60
FOUNDATION = ("set", "register", "deletes")
"""What all else stands on."""

SEEDS_MAX = 20
RECORDED = (4_503_261, 4_503_262)
"""The second: a search was served where damaged rows were still to be given back."""

FRESH_FROM = 1_000_000
"""Below are the seeds of soaks and those with a name."""


def seeds_of_this_commit() -> range:
    """Seeds drawn from the commit's hash; outside a checkout always the same."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=TOP, capture_output=True, text=True, check=False)
    first = FRESH_FROM + int(asked.stdout[:8] or "0", 16) % 1_000_000 * SEEDS_MAX
    return range(first, first + SEEDS_MAX)


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS)
def test_faults_on_fresh_and_on_recorded_seeds(workload: str) -> None:
    said: list[str] = []
    seeds = seeds_of_this_commit() if workload in FOUNDATION else RECORDED
    green = simulate(workload, seeds, SECONDS, workers=2, say=said.append)
    assert green, "\n".join(said)
    print(said[-1])
