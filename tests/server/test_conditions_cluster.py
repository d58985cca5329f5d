"""Conditions on three real peers: of many who race one wins, and a count kept by If-Match is exact."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server.cluster import Cluster, Peer

pytestmark = pytest.mark.process


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


def add_one(peer: Peer) -> int:
    """Add one to a number by reading it and If-Match; how many attempts that took."""
    for attempt in range(1, 200):
        found = peer.request("GET", "/v1/kv/demo/count?consistency=serial")
        new = b"%d" % (int(found.body) + 1)
        put = peer.request("PUT", "/v1/kv/demo/count", new, If_Match=found.headers["etag"])
        if put.status == 204:
            return attempt
        assert put.status == 412, put.body
    raise AssertionError("200 others came first")


def test_one_of_many_wins_and_a_count_by_conditions_is_exact(cluster: Cluster) -> None:
    peers = cluster.peers
    assert peers[0].request("PUT", "/v1/kv/demo/count", b"0").status == 204
    with ThreadPoolExecutor(6) as pool:
        won = pool.map(
            lambda n: peers[n % 3].request("PUT", "/v1/kv/demo/one", b"%d" % n, If_None_Match="*").status,
            range(12),
        )
        assert sorted(won) == [204] + [412] * 11
        attempts = list(pool.map(add_one, [peers[n % 3] for n in range(30)]))
    assert len(attempts) == 30
    assert peers[1].request("GET", "/v1/kv/demo/count?consistency=serial").body == b"30"
    value = bytes(16 << 20)
    large = "/v1/kv/demo/large?timeout_ms=60000"
    put = peers[0].request("PUT", large, value, timeout_s=60.0, If_None_Match="*")
    assert put.status == 204
    tag = put.headers["etag"]
    again = peers[1].request("PUT", large, value[1:], timeout_s=60.0, If_Match=tag)
    assert again.status == 204, again.body
    assert peers[2].request("DELETE", large, timeout_s=60.0, If_Match=tag).status == 412
    peers[2].kill()
    tag = again.headers["etag"]
    assert peers[0].request("DELETE", large, timeout_s=60.0, If_Match=tag).status == 204


def test_a_write_under_an_idempotency_key_is_done_once_through_whichever_peer(cluster: Cluster) -> None:
    peers = cluster.peers
    key = '"5b7f9c3e"'
    first = peers[0].request("PUT", "/v1/kv/demo/once", b"one", Idempotency_Key=key)
    assert first.status == 204, first.body
    assert peers[1].request("PUT", "/v1/kv/demo/once", b"two").status == 204
    for peer in peers:
        again = peer.request("PUT", "/v1/kv/demo/once", b"one", Idempotency_Key=key)
        assert (again.status, again.headers["etag"]) == (204, first.headers["etag"])
        assert peer.request("PUT", "/v1/kv/demo/once", b"three", Idempotency_Key=key).status == 422
        assert peer.request("GET", "/v1/kv/demo/once").body == b"two"
    with ThreadPoolExecutor(9) as pool:

        def put(number: int) -> int:
            peer = peers[number % 3]
            return peer.request("PUT", "/v1/kv/demo/raced", b"x", Idempotency_Key='"raced"').status

        statuses = list(pool.map(put, range(9)))
    assert set(statuses) <= {204, 409} and 204 in statuses, statuses
    tags = [peer.request("GET", "/v1/kv/demo/raced").headers["etag"] for peer in peers]
    assert len(set(tags)) == 1
