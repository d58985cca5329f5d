"""Sinks of real peers whose owner is killed with -9: another goes on, and the files have every event."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.process.cluster import Cluster, LostError, running, until

pytestmark = [pytest.mark.process, pytest.mark.slow]

JSON = "application/json"


def asked(cluster: Cluster, peer: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    with cluster.client(peer) as client:
        reply = client.request(method, path, None if body is None else json.dumps(body).encode(), JSON)
        return reply.status, json.loads(reply.body) if reply.body else None


def test_the_owner_is_killed(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    with running(tmp_path) as cluster:
        assert asked(cluster, "n1", "PUT", "/v1/collections/films", {"changes": "new"})[0] in (200, 201)
        wanted = {"table": "docs.films", "kind": "parquet", "from": "start", "every_s": 0.5}
        assert asked(cluster, "n2", "PUT", "/v1/sinks/films", wanted)[0] == 201
        acknowledged: dict[str, int] = {}

        def write(count: int, peer: str) -> None:
            for _ in range(count):
                number = len(acknowledged)
                status, _body = asked(cluster, peer, "PUT", f"/v1/docs/films/f{number}", {"n": number})
                assert status in (200, 201, 204)
                acknowledged[f"f{number}"] = number

        def sink(peer: str) -> dict[str, Any]:
            try:
                status, found = asked(cluster, peer, "GET", "/v1/sinks/films")
            except LostError:
                return {"owner": "", "delivered": -1}
            return dict(found) if status == 200 else {"owner": "", "delivered": -1}

        write(40, "n1")
        until(lambda: sink("n1")["delivered"] >= 40, lambda: str(sink("n1")))
        owner = sink("n1")["owner"]
        others = [name for name in ("n1", "n2", "n3") if name != owner]
        write(40, others[0])
        began = time.monotonic()
        cluster.kill(owner)  # in the middle of a batch: its events come again from its successor
        write(40, others[1])
        until(lambda: sink(others[0])["owner"] in others, lambda: str(sink(others[0])), 40)
        moved_s = time.monotonic() - began
        places = tmp_path.glob("data/*/sinks/films/date=*/*.parquet")
        query = f"SELECT DISTINCT id, key, after FROM '{tmp_path}/data/*/sinks/films/date=*/[0-9]*.parquet'"

        def union() -> dict[str, int]:
            return {key: json.loads(after)["n"] for _, key, after in duckdb.sql(query).fetchall()}

        until(lambda: union() == acknowledged, lambda: f"{len(union())} of {len(acknowledged)}", 40)
        assert {path.parents[3].name for path in places} >= {owner, sink(others[0])["owner"]}
        assert len(duckdb.sql(query).fetchall()) == len(acknowledged)
        assert moved_s < 30
        wanted = {"table": "docs.films", "kind": "ndjson", "from": "snapshot", "every_s": 0.2}
        assert asked(cluster, others[0], "PUT", "/v1/sinks/copy", wanted)[0] == 201

        def copied() -> dict[str, int]:
            files = sorted(tmp_path.glob("data/*/sinks/copy/date=*/*.ndjson"))
            lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
            return {line["key"]: line["after"]["n"] for line in lines}

        until(lambda: copied() == acknowledged, lambda: f"{len(copied())} of {len(acknowledged)}", 40)
        assert asked(cluster, others[0], "DELETE", "/v1/sinks/copy")[0] == 204
        hook = {"table": "docs.films", "kind": "webhook", "url": "http://127.0.0.1:1/"}
        hook["secret"] = "env:SULLAE_SINK_HOOK"
        status, told = asked(cluster, others[0], "PUT", "/v1/sinks/hook", hook)
        assert status == 400 and "private" in told["detail"]
        status, told = asked(
            cluster, others[0], "PUT", "/v1/sinks/hook", hook | {"url": "https://x.invalid/", "paused": True}
        )
        assert status == 201 and told["secret"] == "env:SULLAE_SINK_HOOK"
        assert asked(cluster, others[1], "DELETE", "/v1/sinks/hook")[0] == 204
        assert asked(cluster, others[0], "DELETE", "/v1/sinks/films")[0] == 204
        assert asked(cluster, others[1], "GET", "/v1/sinks") == (200, {"sinks": []})
        assert (
            asked(cluster, others[1], "PUT", "/v1/sinks/x", {"table": "docs.no", "kind": "ndjson"})[0] == 404
        )
        assert (
            asked(cluster, others[1], "PUT", "/v1/sinks/x", {"table": "docs.films", "kind": "csv"})[0] == 400
        )
