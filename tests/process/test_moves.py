"""Ranges of real peers move under load, while those who take part are killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.process.cluster import (
    Account,
    Cluster,
    Known,
    lost,
    more_writes,
    running,
    until,
    workers,
    write,
)

pytestmark = [pytest.mark.process, pytest.mark.slow]

ROWS, VALUE = 100, bytes(range(256)) * 40


def sullae(cluster: Cluster, *words: str) -> dict[str, Any]:
    """What `sullae cluster ... --json` says; asked of whichever of the first three peers answers."""
    urls = [word for peer in cluster.peers[:3] for word in ("--url", f"http://{peer.address}:{peer.rest}")]
    done = CliRunner().invoke(app, ["cluster", *words, *urls, "--json"])
    found = (
        json.loads(done.stdout.strip().splitlines()[-1])
        if done.exit_code == 0
        else {"failed": done.exit_code}
    )
    assert isinstance(found, dict)
    return found


def phase(cluster: Cluster) -> str:
    """How far the move is, as n2 knows it; "" if nothing moves."""
    _, body = cluster["n2"].request("/v1/admin/moves")
    move = json.loads(body)["move"]
    return "" if move is None else str(move["phase"])


def test_a_peer_joins_under_load_while_it_and_who_it_is_given_rows_by_are_killed(tmp_path: Path) -> None:
    with running(tmp_path, settings={"move_throughput": "256KiB"}) as cluster:
        with cluster.client("n1") as client:
            for number in range(ROWS):
                assert write(client, f"k{number}", VALUE)[0] is Known.ACKNOWLEDGED
        cluster.add()
        cluster.start("n4")
        until(lambda: "plan" in sullae(cluster, "plan", "add", "n4"), "n4 waits to be admitted")
        with workers(cluster, pause_s=0.02) as crew:
            assert "epoch" in sullae(cluster, "commit")
            cluster.kill("n4")
            more_writes(crew, 20)
            assert phase(cluster) == "prepare", "without it nothing can be handed over"
            cluster.start("n4")
            cluster.kill("n1")
            more_writes(crew, 20)
            cluster.start("n1")
            until(lambda: phase(cluster) != "prepare", "it is merged", 60)
            cluster.kill("n3")
            more_writes(crew, 10)
            cluster.up("n3")
            until(lambda: phase(cluster) == "", "it is finished", 60)
            cluster.wait_ready("n1", "n4")
            more_writes(crew, 20)
            account = Account.of([worker.finish() for worker in crew])
        assert account.wrong == []
        known = account.acknowledged | {f"k{number}": VALUE for number in range(ROWS)}
        assert lost(cluster, known, ("n4",)) == []
        with cluster.client("n4") as client:  # and of what it is a replica it holds itself
            here = sum(client.get(key, consistency="ONE").status == 200 for key in known)
        assert here == len(known)
