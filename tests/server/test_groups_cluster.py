"""A consumer group over REST at three real peers: three members, one killed, a peer killed and started again,
one more member; nothing is lost, and parts are handed over within five seconds.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from tests.server.cluster import Cluster, wait_for
from tests.server.test_changes_cluster import make, put

pytestmark = pytest.mark.process

Line = dict[str, Any]
HAND_OVER_S = 5.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("groups")
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


class Member:
    """Reads in a thread, and acknowledges what it has read at whichever peer it reads from."""

    def __init__(self, cluster: Cluster, at: int, name: str, table: str, query: str = "") -> None:
        self.peer, self.port, self.table = cluster.peers[at], cluster.port, table
        self.connection = http.client.HTTPConnection(self.peer.address, self.port, timeout=10)
        path = f"/v1/changes/{table}?group=etl&member={name}&parts=6&from=start{query}"
        self.connection.request("GET", path)
        self.socket = self.connection.sock
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        self.keys: list[str] = []
        self.parts: list[int] = []
        self.ack = self.session = ""
        self.last: Line = {}
        self.acknowledged = 0
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        while True:
            try:
                line = json.loads(self.answer.readline() or b"{}")
            except (OSError, ValueError, AttributeError, http.client.HTTPException):
                return
            if not line:
                return
            self.last = line
            if line["type"] == "event":
                self.keys.append(line["key"])
            if line["type"] == "assigned":
                self.parts, self.session = line["parts"], line["session"]
            if "ack" in line:
                self.ack = line["ack"]
                answer = self.post("ack", {"ack": self.ack})
                self.acknowledged += answer is not None and answer[0] == 200

    def post(self, verb: str, body: Line) -> tuple[int, Line] | None:
        connection = http.client.HTTPConnection(self.peer.address, self.port, timeout=5)
        try:
            connection.request("POST", f"/v1/streams/{self.table}/etl/{verb}", json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        except OSError:
            return None
        finally:
            connection.close()

    def die(self) -> None:
        """The connection breaks, nothing more is acknowledged."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.answer.close()
        self.connection.close()


def group(cluster: Cluster, table: str, at: int = 0) -> Line:
    answer = cluster.peers[at].request("GET", f"/v1/streams/{table}/etl")
    assert answer.status == 200, answer.body
    found: Line = json.loads(answer.body)
    return found


def command(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> str:
    """What `sullae streams` says."""
    url = f"http://{cluster.peers[1].address}:{cluster.port}"
    monkeypatch.setattr(sys, "argv", ["sullae", "streams", *arguments, "--url", url])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return capsys.readouterr().out


def shared(members: list[Member]) -> bool:
    return sorted(part for member in members for part in member.parts) == list(range(6))


def what_the_command_tells(cluster: Cluster, table: str, sullae: Callable[..., str]) -> None:
    wait_for(lambda: group(cluster, table)["lag"]["events"] == 0, 10, cluster.logs)
    shown = sullae("show", table, "etl")
    assert "m1" in shown and "m3" in shown and "n1" in shown
    listed = json.loads(sullae("list", "--json"))["groups"]
    assert [each["group"] for each in listed] == ["etl"] and listed[0]["lag"]["events"] == 0
    assert sullae("list").splitlines()[1].split() == ["kv.shared", "etl", "2", "6", "0", "0", "0.0"]


def test_a_group_survives_its_members_and_peers(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(cluster, "buckets", "shared")
    table, written = "kv.shared", 0

    def write(count: int, at: int = 0) -> None:
        nonlocal written
        for _ in range(count):
            put(cluster, f"/v1/kv/shared/k{written}", written, at)
            written += 1

    write(20)
    members = [Member(cluster, at, f"m{at}", table) for at in range(3)]
    wait_for(lambda: shared(members), 15, cluster.logs)

    def seen() -> set[str]:
        return {key for member in everyone for key in member.keys}

    def complete() -> bool:
        return seen() == {f"k{number}" for number in range(written)}

    everyone = list(members)
    wait_for(complete, 10, cluster.logs)
    told = group(cluster, table)
    assert [member["member"] for member in told["members"]] == ["m0", "m1", "m2"]
    told_lag = 'sullae_group_lag_events{group="etl",table="kv.shared"}'

    def is_measured() -> bool:
        return any(told_lag in peer.request("GET", "/metrics").body.decode() for peer in cluster.peers)

    wait_for(is_measured, 10, cluster.logs)
    # one member dies
    members[0].die()
    began_s = time.monotonic()
    wait_for(lambda: shared(members[1:]), 10, cluster.logs)
    assert time.monotonic() - began_s < HAND_OVER_S
    write(20)
    wait_for(complete, 10, cluster.logs)
    # the peer of another one is killed
    cluster.peers[2].kill()
    began_s = time.monotonic()
    wait_for(lambda: shared(members[1:2]), 10, cluster.logs)
    assert time.monotonic() - began_s < HAND_OVER_S
    write(20)
    wait_for(complete, 10, cluster.logs)
    # it comes back, and another member
    cluster.peers[2].start()
    everyone.append(Member(cluster, 0, "m3", table))
    wait_for(lambda: shared([members[1], everyone[-1]]), 10, cluster.logs)
    write(20, at=1)
    wait_for(complete, 10, cluster.logs)
    what_the_command_tells(cluster, table, partial(command, cluster, capsys, monkeypatch))
    for member in everyone:
        member.die()
    command(cluster, capsys, monkeypatch, "forget", table, "etl")
    assert cluster.peers[0].request("GET", f"/v1/streams/{table}/etl").status == 404
