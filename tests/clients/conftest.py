"""One cluster of three real peers for all clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.process.cluster import Cluster, running


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("clients")) as cluster:
        yield cluster
