"""Documents on three real peers: edits of all kinds at once, none lost, after a kill -9, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server.cluster import Cluster, Peer

pytestmark = pytest.mark.process

UPDATE = "application/vnd.sullae.update+json"
MERGE = "application/merge-patch+json"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


def edit(peer: Peer, number: int) -> int:
    """Edit one document in one of three ways; how often that took an attempt."""
    kind, body = [
        (MERGE, {"fields": {f"f{number}": number}}),
        (UPDATE, {"$set": {f"fields.f{number}": number}}),
        (UPDATE, {"$inc": {"count": 1}, "$push": {"list": number}}),
    ][number % 3]
    for attempt in range(1, 50):
        reply = peer.request(
            "PATCH",
            "/v1/docs/demo/d",
            json.dumps(body).encode(),
            Content_Type=kind,
            Idempotency_Key=f'"{number}"',
        )
        if reply.status == 204:
            return attempt
        assert reply.status in {503, 504}, reply.body
    raise AssertionError("never done")


def test_edits_of_all_kinds_at_once_are_all_there(cluster: Cluster) -> None:
    peers = cluster.peers
    text = b'{ "big": 123456789012345678901234567890, "n": 1.10 }'
    put = peers[0].request("PUT", "/v1/docs/demo/d", text, Content_Type="application/json")
    assert put.status == 204, put.body
    assert [peer.request("GET", "/v1/docs/demo/d").body for peer in peers] == [text] * 3
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: edit(peers[number % 3], number), range(60)))
    peers[2].kill()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: edit(peers[number % 2], number), range(60, 75)))
    peers[2].start()
    cluster.wait_ready()
    found = peers[2].request("GET", "/v1/docs/demo/d?consistency=serial")
    document = json.loads(found.body)
    assert b'"big":123456789012345678901234567890' in found.body
    assert document["fields"] == {f"f{n}": n for n in range(75) if n % 3 < 2}
    assert document["count"] == 25
    assert sorted(document["list"]) == [n for n in range(75) if n % 3 == 2]
    others = [peer.request("GET", "/v1/docs/demo/d") for peer in peers]
    assert [(reply.body, reply.headers["etag"]) for reply in others] == [
        (found.body, found.headers["etag"])
    ] * 3
    large = json.dumps({"x": "y" * 1_000_000}).encode()
    created = peers[1].request("POST", "/v1/docs/demo", large, Content_Type="application/json")
    assert created.status == 201
    assert peers[2].request("GET", created.headers["location"]).body == large
