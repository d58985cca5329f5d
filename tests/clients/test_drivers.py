"""The unmodified drivers of Cassandra and of Scylla against three real peers: the same suite in both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.environments import driver_python, run_suite
from tests.process.cluster import Cluster

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.mark.parametrize("driver", ["cassandra-driver", "scylla-driver"])
def test_the_suite_of_drivers(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    python = driver_python(driver)
    cluster: Cluster = request.getfixturevalue("cluster")
    status, said = run_suite(python, cluster, tmp_path)
    print(said)
    assert status == 0, f"the suite of {driver} failed; its report is above"
    assert " skipped" not in said, "an environment that is there has what the suite needs"
