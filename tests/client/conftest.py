"""One real cluster for the tests of this folder that want one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.process.cluster import Cluster, running


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("client")) as cluster:
        yield cluster


@pytest.fixture
def urls(cluster: Cluster) -> str:
    """The addresses of its peers, all of which run."""
    down = [peer.name for peer in cluster.peers if not peer.running]
    if down:
        cluster.up(*down)
    return ",".join(f"http://{peer.address}:{peer.rest}" for peer in cluster.peers)
