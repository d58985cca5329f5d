"""The majority of the voters of real peers is lost: their metadata is recovered by the operator's command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.process.cluster import Cluster, Known, running, until, write

pytestmark = [pytest.mark.process, pytest.mark.slow]


def sullae(cluster: Cluster, *words: str) -> tuple[int, str]:
    """Exit status and output of `sullae cluster ...`, asked of the peer that remains."""
    url = f"http://{cluster['n3'].address}:{cluster['n3'].rest}"
    done = CliRunner().invoke(app, ["cluster", *words, "--url", url], catch_exceptions=True)
    return done.exit_code, done.output + ("" if done.exception is None else str(done.exception))


def finished(cluster: Cluster) -> bool:
    status, output = sullae(cluster, "status")
    return status == 0 and "nothing moves" in output


def test_two_of_three_are_lost_and_what_the_third_holds_is_the_cluster_again(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        with cluster.client("n1") as client:
            for number in range(50):
                assert write(client, f"k{number}", b"v")[0] is Known.ACKNOWLEDGED
        with cluster.client("n3") as client:
            keys = [f"k{number}" for number in range(50)]
            until(lambda: all(client.get(key, consistency="ONE").status == 200 for key in keys), "n3 has all")
        old = cluster["n1"].data
        cluster.kill("n1", "n2")
        until(lambda: "given up for good: n1, n2" in sullae(cluster, "recover-metadata")[1], "both seem dead")
        status, output = sullae(cluster, "recover-metadata", "--confirm", "another")
        assert status != 0 and "name the cluster" in output
        status, output = sullae(
            cluster, "recover-metadata", "--lost", "n1", "--lost", "n2", "--confirm", "test"
        )
        assert (status, "voters are n3" in output) == (0, True), output
        assert old.exists()

        cluster.start("n1")  # with its directory: it learns that it was given up, and by whom
        until(lambda: "given up for lost" in str(cluster["n1"].health()), "n1 is refused by name")
        cluster.kill("n1")
        shutil.rmtree(cluster["n1"].data)
        cluster.start("n1")
        until(lambda: sullae(cluster, "plan", "replace", "n1")[0] == 0, "n1 waits")
        assert sullae(cluster, "commit")[0] == 0
        until(lambda: finished(cluster), "it is replaced", 60)
        cluster.wait_ready("n1")
        with cluster.client("n1") as client:  # two of three replicas: a quorum, without n2
            for number in range(50):
                assert client.get(f"k{number}").status == 200
            assert write(client, "after", b"w")[0] is Known.ACKNOWLEDGED
