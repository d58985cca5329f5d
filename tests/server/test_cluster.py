"""Three real peers: what one is told all tell, and what was acknowledged outlives kill -9."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsm.rocks import RocksEngine
from server.clock import monotonic_us
from tests.server.cluster import Cluster, wait_for

pytestmark = pytest.mark.process


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_what_one_peer_is_given_all_peers_have(cluster: Cluster) -> None:
    n1, n2, n3 = cluster.peers
    value = os.urandom(1_000_000)
    put = n1.request("PUT", "/v1/kv/demo/a%2Fb", value, Content_Type="image/png")
    assert put.status == 204
    for peer in (n2, n3):
        got = peer.request("GET", "/v1/kv/demo/a%2Fb?consistency=quorum")
        assert (got.status, got.body, got.headers["content-type"]) == (200, value, "image/png")
        assert got.headers["etag"] == put.headers["etag"]
    largest = os.urandom(16 << 20)
    assert n2.request("PUT", "/v1/kv/demo/largest", largest, timeout_s=30.0).status == 204
    assert n3.request("GET", "/v1/kv/demo/largest", timeout_s=30.0).body == largest
    assert n3.request("DELETE", "/v1/kv/demo/a/b").status == 204
    assert n1.request("GET", "/v1/kv/demo/a/b").status == 404
    status = n2.json("/v1/cluster")
    assert [peer["state"] for peer in status["peers"]] == ["up"] * 3
    assert status["epoch"] == 2  # the birth, and one bucket
    page = n1.request("GET", "/metrics").body.decode()
    assert 'operation="put",status="204"' in page
    assert "sullae_peers_connected 2.0" in page


def test_peers_stop_in_order_and_come_back_as_themselves(cluster: Cluster) -> None:
    for n in range(20):
        assert cluster.peers[n % 3].request("PUT", f"/v1/kv/demo/{n}", b"%d" % n).status == 204
    before = [peer.json("/v1/admin/status")["peer"] for peer in cluster.peers]
    for peer in cluster.peers:
        assert peer.stop() == 0
        codes = [line["code"] for line in peer.lines()]
        assert codes[:2] == ["listening", "ready"] and codes[-2:] == ["stopping", "stopped"]
    cluster.start()
    after = [peer.json("/v1/admin/status") for peer in cluster.peers]
    assert [status["peer"] for status in after] == before
    assert [status["starts"] for status in after] == [2, 2, 2]
    for n in range(20):
        assert cluster.peers[(n + 1) % 3].request("GET", f"/v1/kv/demo/{n}").body == b"%d" % n


class Writer(threading.Thread):
    """Writes its own keys through all peers in turn, and remembers what was acknowledged."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, bytes] = {}
        self.attempts = 0
        self.stopping = threading.Event()
        self._cluster = cluster
        self._number = number

    def run(self) -> None:
        while not self.stopping.is_set():
            self.attempts += 1
            key, value = f"w{self._number}-{self.attempts}", b"%d" % self.attempts
            peer = self._cluster.peers[self.attempts % 3]
            try:
                if peer.request("PUT", f"/v1/kv/demo/{key}", value, timeout_s=8.0).status == 204:
                    self.acknowledged[key] = value
            except OSError:
                time.sleep(0.01)


def test_kill_9_of_each_in_turn_loses_nothing_acknowledged(cluster: Cluster) -> None:
    assert cluster.peers[0].request("PUT", "/v1/kv/demo/first", b"x").status == 204
    writers = [Writer(cluster, n) for n in range(4)]
    for writer in writers:
        writer.start()
    for peer in cluster.peers:
        done = sum(len(writer.acknowledged) for writer in writers)
        peer.kill()

        def going_on(done: int = done) -> bool:
            return sum(len(writer.acknowledged) for writer in writers) > done + 50

        wait_for(going_on, 20.0, cluster.logs)
        peer.start()
        cluster.wait_ready()
    for writer in writers:
        writer.stopping.set()
    for writer in writers:
        writer.join(20.0)
    acknowledged = {key: value for writer in writers for key, value in writer.acknowledged.items()}
    assert len(acknowledged) > 150
    for peer in cluster.peers:
        lost = {k: v for k, v in acknowledged.items() if peer.request("GET", f"/v1/kv/demo/{k}").body != v}
        assert not lost


def test_with_one_peer_down_requests_are_answered_soon(cluster: Cluster) -> None:
    n1, n2, n3 = cluster.peers
    assert n1.request("PUT", "/v1/kv/demo/k", b"v").status == 204
    n3.kill()
    end_s = time.monotonic() + 3.0
    while time.monotonic() < end_s:
        for peer in (n1, n2):
            begun_s = time.monotonic()
            assert peer.request("PUT", "/v1/kv/demo/k", b"w").status in {204, 503, 504}
            assert peer.request("GET", "/v1/kv/demo/k").status in {200, 503, 504}
            assert time.monotonic() - begun_s < 2 * 2.5
    assert n1.request("PUT", "/v1/kv/demo/k", b"last").status == 204

    def unavailable() -> bool:
        answer = n2.request("PUT", "/v1/kv/demo/k?consistency=all", b"last")
        assert answer.status in {503, 504}
        return b'"type":"unavailable"' in answer.body and b'"alive":2' in answer.body

    wait_for(unavailable, 20.0, cluster.logs)
    n2.kill()
    wait_for(lambda: n1.request("GET", "/v1/kv/demo/k").status == 503, 20.0, cluster.logs)
    assert n1.request("GET", "/v1/kv/demo/k?consistency=one").body == b"last"


def test_a_wiped_peer_is_refused_and_says_why(cluster: Cluster) -> None:
    n1, _, n3 = cluster.peers
    n3.kill()
    for file in sorted(n3.data.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    n3.start()

    def refused() -> bool:
        try:
            return "identity" in n3.json("/v1/health")["why_not"]
        except OSError:
            return False

    wait_for(refused, 20.0, cluster.logs)
    assert n3.request("PUT", "/v1/kv/demo/k", b"v").status == 503
    assert n1.request("PUT", "/v1/kv/demo/k", b"v").status == 204


def test_a_directory_that_lost_its_end_is_not_opened(cluster: Cluster) -> None:
    n1 = cluster.peers[0]
    assert n1.request("PUT", "/v1/kv/demo/k", b"v").status == 204
    n1.kill()
    logs = sorted(n1.data.glob("db/*.log"), key=lambda file: file.stat().st_size)
    logs[-1].write_bytes(logs[-1].read_bytes()[: logs[-1].stat().st_size // 2])
    assert n1.start().wait(20) == 65
    last = n1.lines()[-1]
    assert (last["code"], last["level"]) == ("store_not_opened", "critical")
    assert f"`sullae cluster plan replace {n1.name}`" in last["event"]


def test_a_port_that_is_taken_and_a_directory_in_use(cluster: Cluster) -> None:
    n1 = cluster.peers[0]
    data = n1.data
    running, n1.process = n1.process, None
    assert n1.start().wait(20) == 65
    assert "in use" in n1.lines()[-1]["event"]
    n1.data = data.with_name("other")
    assert n1.start().wait(20) == 69
    assert n1.lines()[-1]["code"] == "port"
    RocksEngine.open(n1.data, monotonic_us).close()  # it was closed in order
    n1.data, n1.process = data, running
    assert n1.ready()


def test_clocks_may_be_shifted(tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    offset = tmp_path / "offset"
    offset.write_text("0")
    made.environment["SULLAE_CLOCK_OFFSET_FILE"] = str(offset)
    try:
        made.start()
        n1, n2, _ = made.peers
        first = n1.request("PUT", "/v1/kv/demo/k", b"1").headers["etag"]
        offset.write_text(str(-3_600_000_000))
        time.sleep(0.1)  # longer than the file is not looked at
        for n in range(2, 6):
            assert n2.request("PUT", "/v1/kv/demo/k", b"%d" % n).status == 204
            assert n1.request("GET", "/v1/kv/demo/k").body == b"%d" % n  # later writes win all the same
        offset.write_text(str(30_000_000))
        time.sleep(0.1)
        wait_for(lambda: n1.request("PUT", "/v1/kv/demo/k", b"far").status == 204, 10.0, made.logs)
        last = n2.request("GET", "/v1/kv/demo/k")
        assert last.body == b"far"
        stamps = [int(tag.strip('"').split("-")[0], 16) for tag in (first, last.headers["etag"])]
        assert stamps[1] - stamps[0] > 29_000_000
    finally:
        made.close()
