from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.fake import FakeCluster, fake_cluster


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """A cluster of one, in memory."""
    with fake_cluster() as cluster:
        yield cluster
