"""Questions about documents to three real peers: all answer alike, and cursors outlive who gave them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.cluster import Answer, Cluster, Peer, wait_for

pytestmark = pytest.mark.process
COUNT = 2_500
TEXT = "abcab" * 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("docs-query")
    cluster = Cluster(folder, settings="settings: {max_documents_scanned: 2000}\n")
    try:
        cluster.start()
        fill(cluster.peers[0], "movies", COUNT)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(autouse=True)
def all_up(cluster: Cluster) -> None:
    """Each test begins with three peers."""
    cluster.start()


def fill(peer: Peer, collection: str, count: int) -> None:
    lines = [
        json.dumps(
            {"op": "put", "id": f"m{n}", "document": {"n": n, "even": n % 2 == 0, "g": n % 7, "t": TEXT}}
        )
        for n in range(count)
    ]
    answer = peer.request("POST", f"/v1/docs/{collection}/_bulk", "\n".join(lines).encode(), timeout_s=60.0)
    outcomes = [json.loads(line) for line in answer.body.splitlines()]
    assert len(outcomes) >= count, outcomes[-3:]
    assert all(outcome.get("status", 200) < 300 for outcome in outcomes), outcomes[:3]


def post(peer: Peer, operation: str, body: Any, collection: str = "movies") -> Any:
    answer: Answer = peer.request(
        "POST", f"/v1/docs/{collection}/{operation}", json.dumps(body).encode(), timeout_s=30.0
    )
    return {**json.loads(answer.body), "_status": answer.status}


def test_every_peer_answers_alike(cluster: Cluster) -> None:
    for peer in cluster.peers:
        assert post(peer, "_count", {"filter": {"even": True}, "allow_scan": True})["count"] == COUNT // 2
        first = post(peer, "_find", {"sort": {"n": -1}, "limit": 3, "allow_scan": True})
        assert [one["document"]["n"] for one in first["documents"]] == [2499, 2498, 2497]
        stages = [{"$group": {"_id": "$g", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
        groups = post(peer, "_aggregate", {"pipeline": stages, "allow_scan": True})["documents"]
        assert [group["n"] for group in groups] == [358, 357, 357, 357, 357, 357, 357]
        assert post(peer, "_count", {"filter": {"even": True}})["type"] == "scan-refused"
        told = post(peer, "_count", {"allow_scan": True, "explain": True})["explain"]
        assert told["examined"] == COUNT
        assert len(told["peers"][0]["followed"]) == 1


def test_bad_filters_hold_nobody_up(cluster: Cluster) -> None:
    peer = cluster.peers[0]
    heavy = {"$or": [{"t": {"$regex": f"(a|b{n}|[bc]+)*x"}} for n in range(90)]}
    took: list[float] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            begun_s = time.monotonic()
            assert post(peer, "_count", {"filter": heavy, "allow_scan": True})["count"] == 0
            took.append(time.monotonic() - begun_s)
            for bad in ({"$where": "1"}, {"$or": [{"a": 1}] * 10_000}, {"a": {"$regex": "(a{999}){999}"}}):
                assert post(peer, "_count", {"filter": bad})["_status"] == 400

    thread = threading.Thread(target=load)
    thread.start()
    try:
        waits = []
        for n in range(60):
            begun_s = time.monotonic()
            assert peer.request("GET", f"/v1/docs/movies/m{n}").status == 200
            waits.append(time.monotonic() - begun_s)
    finally:
        stop.set()
        thread.join()
    assert took, "a heavy question was asked meanwhile"
    print(
        f"heavy {min(took):.2f} to {max(took):.2f} s, beside it {sorted(waits)[30]:.3f}, {max(waits):.3f} s"
    )
    assert sorted(waits)[30] < 0.5


def test_an_index_makes_a_scan_unnecessary(cluster: Cluster) -> None:
    path = "/v1/docs/movies/_indexes/by_n"
    made = cluster.peers[0].request("PUT", path, json.dumps({"paths": {"n": 1}}).encode())
    assert made.status == 201, made.body
    wait_for(lambda: all(peer.json(path).get("built") for peer in cluster.peers), 20.0, cluster.logs)
    for peer in cluster.peers:
        found = post(peer, "_find", {"filter": {"n": {"$in": [7, 1_234]}}, "sort": {"n": 1}, "explain": True})
        assert [one["id"] for one in found["documents"]] == ["m7", "m1234"]
        assert found["explain"]["plan"]["index"] == "by_n"
        assert found["explain"]["examined"] == 2
    assert cluster.peers[1].request("DELETE", path).status == 204


def test_updates_and_deletes_by_filter(cluster: Cluster) -> None:
    first, peer, other = cluster.peers
    fill(first, "changed", 200)
    update = {"filter": {"n": {"$lt": 40}}, "update": {"$inc": {"seen": 1}}, "allow_scan": True}
    done = post(peer, "_update", update, "changed")
    assert (done["matched"], done["modified"], done["cursor"]) == (40, 40, None)
    assert post(other, "_count", {"filter": {"seen": 1}, "allow_scan": True}, "changed")["count"] == 40
    deleted = post(peer, "_delete", {"filter": {"n": {"$gte": 190}}, "allow_scan": True}, "changed")
    assert deleted["deleted"] == 10
    assert post(first, "_count", {"allow_scan": True}, "changed")["count"] == 190


def test_pages_go_on_when_their_coordinator_is_killed(cluster: Cluster) -> None:
    first = post(cluster.peers[2], "_find", {"limit": 100, "sort": {"n": 1}, "allow_scan": True})
    cluster.peers[2].kill()

    def goes_on() -> Any:
        body = {"limit": 100, "sort": {"n": 1}, "cursor": first["cursor"], "allow_scan": True}
        found = post(cluster.peers[0], "_find", body)
        return found if found["_status"] == 200 else None

    wait_for(goes_on, 20.0, cluster.logs)
    second = goes_on()
    numbers = [one["document"]["n"] for one in (*first["documents"], *second["documents"])]
    assert numbers == list(range(200))
