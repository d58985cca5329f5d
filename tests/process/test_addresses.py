"""Peers that are started at other addresses, with the directories that they had, are who they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.cluster import running, until

pytestmark = pytest.mark.process


def test_all_peers_at_other_addresses_are_the_same_cluster(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        with cluster.client("n1") as client:
            assert client.put("k", b"kept").status in (200, 201, 204)
        cluster.stop()
        text = cluster.config.read_text()
        for number, peer in enumerate(cluster.peers, start=1):
            moved = f"127.0.1.{number}"
            text = text.replace(f"address: {peer.address},", f"address: {moved},")
            peer.address = moved
        cluster.config.write_text(text)
        cluster.up()

        def known() -> bool:
            with cluster.client("n2") as client:
                members = client.request("GET", "/v1/cluster").body.decode()
            return all(peer.address in members for peer in cluster.peers)

        until(known, "the cluster knows where its peers are")
        for peer in cluster.peers:
            with cluster.client(peer.name) as client:
                until(lambda client=client: client.get("k", consistency="all").body == b"kept", "all answer")  # type: ignore[misc]
