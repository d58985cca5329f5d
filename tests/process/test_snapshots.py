"""Backup and restore with real peers: three of them into a folder, and back into one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.server.cluster import Cluster, wait_for

pytestmark = pytest.mark.process

SCHEMA = (
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TYPE ks.address (street text, number int)",
    """CREATE TABLE ks.t (k int, c int, s int static, gone text, m map<text, int>, a frozen<address>,
       PRIMARY KEY (k, c)) WITH CLUSTERING ORDER BY (c DESC)""",
    "ALTER TABLE ks.t DROP gone",
    "ALTER TABLE ks.t ADD later text",
    "CREATE INDEX by_later ON ks.t (later)",
    "CREATE TABLE ks.n (k int PRIMARY KEY, n counter)",
)
WRITES = (
    "INSERT INTO ks.t (k, c, s, m, a, later) VALUES (1, 1, 9, {'x': 1}, {street: 'Main', number: 3}, 'here')",
    "UPDATE ks.t SET m['y'] = 2 WHERE k = 1 AND c = 1",
    "INSERT INTO ks.t (k, c, later) VALUES (1, 2, 'deleted')",
    "DELETE FROM ks.t WHERE k = 1 AND c = 2",
    "UPDATE ks.n SET n = n + 5 WHERE k = 1",
    "UPDATE ks.n SET n = n + 2 WHERE k = 1",
)


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Path, str]]:
    """A cluster, the folder with two snapshots of it, and a moment between them."""
    cluster = Cluster(tmp_path_factory.mktemp("from"))
    folder = tmp_path_factory.mktemp("backups")
    try:
        cluster.start()
        for statement in SCHEMA + WRITES:
            cql(cluster, statement)
        for number in range(300):
            put(cluster, number, "first")
        assert film(cluster, "a", "Alien") == 204
        answer = cluster.peers[0].request(
            "PUT", "/v1/docs/films/_indexes/title", b'{"paths": ["title"], "unique": true}'
        )
        assert answer.status in (200, 201), answer.body
        first = sullae(cluster, "snapshot", "create", "first", "--folder", str(folder), "--json")
        assert (first["peers"], first["missing"]) == (["n1", "n2", "n3"], [])
        put(cluster, 0, "second")
        put(cluster, 1_000, "second")
        cql(cluster, "DELETE FROM ks.t WHERE k = 1 AND c = 1")
        time.sleep(0.05)  # the moment lies between two writes by the clock, whatever is waited for
        moment = datetime.now(UTC).isoformat()
        time.sleep(0.05)
        put(cluster, 1, "too late")
        put(cluster, 2_000, "too late")
        last = sullae(cluster, "snapshot", "create", "last", "--folder", str(folder), "--json")
        assert last["new_bytes"] < last["bytes"] / 2, "table files that are there are not brought again"
        yield cluster, folder, moment
    finally:
        cluster.close()


def test_a_moment_between_two_snapshots_comes_back_in_a_cluster_of_another_size(
    backed_up: tuple[Cluster, Path, str], tmp_path: Path
) -> None:
    _, folder, moment = backed_up
    target = Cluster(tmp_path, 1)
    try:
        target.start()
        command = ("snapshot", "restore", "--folder", str(folder), "--until", moment, "--json")
        found = sullae(target, *command)
        assert (found["name"], found["replayed_rows"] > 0) == ("first", True)
        assert [get(target, number) for number in (0, 1, 299, 1_000, 2_000)] == [
            "second", "first", "first", "second", None,
        ]  # fmt: skip
        assert cql(target, "SELECT k, c, s FROM ks.t") == [{"k": 1, "c": None, "s": 9}]
        assert cql(target, "SELECT n FROM ks.n") == [{"n": 7}]
        again = run(target, *command)
        assert again.returncode == 1
        assert "--into-existing" in again.stdout
    finally:
        target.close()


def test_a_snapshot_restores_rows_types_and_indexes(
    backed_up: tuple[Cluster, Path, str], tmp_path: Path
) -> None:
    _, folder, _ = backed_up
    target = Cluster(tmp_path, 1)
    try:
        target.start()
        sullae(target, "snapshot", "restore", "first", "--folder", str(folder), "--json")
        row = {"s": 9, "m": {"x": 1, "y": 2}, "a": {"street": "Main", "number": 3}, "later": "here"}
        assert cql(target, "SELECT s, m, a, later FROM ks.t") == [row]
        wait_for(
            lambda: cql(target, "SELECT c FROM ks.t WHERE later = 'here'") == [{"c": 1}], 20.0, target.logs
        )
        cql(target, "UPDATE ks.n SET n = n + 1 WHERE k = 1")
        assert cql(target, "SELECT n FROM ks.n") == [{"n": 8}]
        index = "/v1/docs/films/_indexes/title"
        wait_for(lambda: target.peers[0].json(index)["built"], 20.0, target.logs)
        assert film(target, "b", "Alien") == 409
        peer = target.peers[0]
        assert json.loads(peer.request("GET", "/v1/docs/films/a").body) == {"title": "Alien"}
    finally:
        target.close()


def test_a_peer_that_is_away_is_said_or_left_out(
    backed_up: tuple[Cluster, Path, str], tmp_path: Path
) -> None:
    cluster, _, _ = backed_up
    cluster.peers[2].kill()
    refused = run(cluster, "snapshot", "create", "without", "--folder", str(tmp_path), "--json")
    assert refused.returncode == 1
    assert "--without n3" in refused.stdout
    assert cluster.peers[0].json("/v1/admin/snapshots") == {"snapshots": []}, "what was begun is forgotten"
    assert cluster.peers[0].request("POST", "/v1/admin/snapshots", b'{"name": "killed"}').status == 201
    found = sullae(
        cluster, "snapshot", "create", "without", "--folder", str(tmp_path), "--without", "n3", "--json"
    )
    assert found["missing"] == ["n3"]
    assert found["left"] == [{"peer": "n1", "name": "killed"}]
    cluster.peers[2].start()
    cluster.wait_ready()
    assert sullae(cluster, "snapshot", "forget", "killed", "--json") == {"name": "killed", "peers": ["n1"]}
    assert cluster.peers[0].json("/v1/admin/snapshots") == {"snapshots": []}
    assert run(cluster, "snapshot", "forget", "killed").returncode == 1


def run(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = f"http://{cluster.peers[0].address}:{cluster.port}"
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments, "--url", url],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def sullae(cluster: Cluster, *arguments: str) -> Any:
    done = run(cluster, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr + cluster.logs()
    return json.loads(done.stdout)


def cql(cluster: Cluster, statement: str) -> Any:
    body = json.dumps({"query": statement}).encode()
    answer = cluster.peers[0].request("POST", "/v1/cql", body, Content_Type="application/json")
    assert answer.status == 200, (statement, answer.body)
    return json.loads(answer.body).get("rows", [])


def put(cluster: Cluster, number: int, value: str) -> None:
    answer = cluster.peers[number % len(cluster.peers)].request("PUT", f"/v1/kv/b/{number}", value.encode())
    assert answer.status in (200, 201, 204), answer.body


def get(cluster: Cluster, number: int) -> str | None:
    answer = cluster.peers[0].request("GET", f"/v1/kv/b/{number}")
    return answer.body.decode() if answer.status == 200 else None


def film(cluster: Cluster, name: str, title: str) -> int:
    body = json.dumps({"title": title}).encode()
    path = f"/v1/docs/films/{name}"
    return cluster.peers[0].request("PUT", path, body, Content_Type="application/json").status
