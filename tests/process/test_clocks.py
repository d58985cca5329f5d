"""Clocks that are wrong and jump: reads at QUORUM see what was acknowledged before them all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.cluster import Account, lost, more_writes, running, workers

pytestmark = [pytest.mark.process, pytest.mark.slow]

NAMES = ("n1", "n2", "n3")


def test_reads_see_acknowledged_writes_whatever_the_clocks_say(tmp_path: Path) -> None:
    with running(tmp_path / "cluster", up=False) as cluster:
        for name, offset_s in zip(NAMES, (20.0, 0.0, -20.0), strict=True):
            cluster.set_clock(name, offset_s)
        cluster.up()
        with workers(cluster) as crew:
            more_writes(crew, 60)
            for offsets in ((-20.0, 20.0, 0.0), (5.0, -30.0, 25.0), (0.0, 0.0, 0.0)):
                for name, offset_s in zip(NAMES, offsets, strict=True):
                    cluster.set_clock(name, offset_s)
                more_writes(crew, 60)
            account = Account.of([worker.finish() for worker in crew])
        assert account.wrong == []
        assert account.reads > 100
        assert lost(cluster, account.acknowledged, NAMES) == []
