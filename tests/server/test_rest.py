"""The rest of REST: buckets, health, metrics, its own description, and the life of connections."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

import server
from core.requests import (
    Changed,
    ReadRequest,
    RowsRead,
    Unready,
)
from index.bounds import QueryError
from index.search_body import parse_body
from server.rest import docs_query, service as service_module
from server.rest.openapi import document
from server.rest.problems import TITLES
from tests.server.harness import run, until
from tests.server.rest_client import door, head, problem, read_reply

# --- buckets


def test_buckets_are_made_shown_altered_and_dropped() -> None:
    async def work() -> None:
        async with door() as ask:
            made = await ask("PUT", "/v1/buckets/b", b'{"replication_factor": 1, "default_ttl_s": 5}')
            described = {
                "bucket": "b",
                "table": "kv_rf1.b",
                "replication_factor": 1,
                "default_ttl_s": 5,
                "ordered": False,
                "changes": "none",
            }
            assert (made.status, made.json()) == (201, described)
            again = await ask("PUT", "/v1/buckets/b", b'{"replication_factor": 1, "default_ttl_s": 7}')
            assert (again.status, again.json()["default_ttl_s"]) == (200, 7)
            assert (await ask("GET", "/v1/buckets/b")).json()["default_ttl_s"] == 7
            await ask("PUT", "/v1/kv/b/k", b"v")
            assert ask.node.requests[-1].ttl_s == 7  # type: ignore[union-attr]
            for other in (b'{"ordered": true}', b'{"replication_factor": 2}'):
                assert problem(await ask("PUT", "/v1/buckets/b", other)) == (409, "bucket-exists")
            kept = (await ask("PUT", "/v1/buckets/b", b'{"changes": "new"}')).json()
            assert kept == described | {"default_ttl_s": 7, "changes": "new"}, "what is not said stays"
            assert (await ask("PUT", "/v1/buckets/b")).json() == kept
            assert (await ask("PUT", "/v1/buckets/b", b'{"default_ttl_s": 0}')).json()["default_ttl_s"] == 0
            assert (await ask("PUT", "/v1/buckets/plain")).status == 201
            listed = (await ask("GET", "/v1/buckets")).json()["buckets"]
            assert [bucket["bucket"] for bucket in listed] == ["b", "plain"]
            assert (await ask("DELETE", "/v1/buckets/b")).status == 204
            assert problem(await ask("GET", "/v1/kv/b/k")) == (404, "no-such-bucket")

    run(work())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", (400, "bad-body")),
        (b"[]", (400, "bad-body")),
        (b'{"ttl": 1}', (400, "bad-body")),
        (b'{"replication_factor": "3"}', (400, "bad-body")),
        (b'{"default_ttl_s": 1e400}', (400, "bad-body")),
        (b'{"replication_factor": NaN}', (400, "bad-body")),
        (b'{"default_ttl_s": %s}' % (b"9" * 3_000), (400, "bad-ttl")),
        (b"\xff\xfe{}", (400, "bad-body")),
        (b"[" * 4_000, (400, "bad-body")),
        (b'{"replication_factor": 9}', (400, "bad-replication-factor")),
        (b'{"default_ttl_s": -1}', (400, "bad-ttl")),
        (b" " * 5_000, (413, "body-too-large")),
    ],
)
def test_bucket_descriptions_that_are_refused(body: bytes, expected: tuple[int, str]) -> None:
    async def work() -> None:
        async with door() as ask:
            assert problem(await ask("PUT", "/v1/buckets/b", body)) == expected
            assert problem(await ask("GET", "/v1/buckets/b")) == (404, "no-such-bucket")

    run(work())


def test_a_refused_schema_change_says_why() -> None:
    async def work() -> None:
        async with door() as ask:
            ask.node.answers = [Changed(5, "no room", "already_exists")]
            assert problem(await ask("PUT", "/v1/buckets/b")) == (409, "bucket-exists")
            ask.node.answers = [Unready("the voters' majority is away")]
            assert problem(await ask("PUT", "/v1/buckets/b")) == (503, "not-ready")

    run(work())


# --- everything else


def test_health_cluster_metrics_admin() -> None:
    async def work() -> None:
        async with door() as ask:
            assert (await ask("GET", "/v1/health")).json() == {"live": True, "ready": True, "why_not": ""}
            ask.node.why_not = "there is no cluster yet"
            reply = await ask("GET", "/v1/health")
            assert (reply.status, reply.json()["why_not"]) == (503, "there is no cluster yet")
            ask.node.why_not = ""
            assert (await ask("GET", "/v1/cluster")).json()["peers"] == ["n1", "n2", "n3"]
            status = (await ask("GET", "/v1/admin/status")).json()
            assert (status["name"], status["pid"]) == ("n1", 1)
            told = (await ask("POST", "/v1/admin/status", b'{"deep": [1]}')).json()
            assert told["arguments"] == {"deep": [1]}
            for wrong in (b"[1]", b"{", b"[" * 60_000):
                assert problem(await ask("POST", "/v1/admin/status", wrong)) == (400, "bad-body")
            await ask("PUT", "/v1/kv/demo/k?consistency=one", b"v")
            page = (await ask("GET", "/metrics")).body.decode()
            label = 'level="one",operation="put",status="204"'
            assert f"sullae_request_seconds_count{{{label}}} 1.0" in page
            assert 'le="0.004",level="one",operation="put"' in page

    run(work())


def test_every_problem_that_is_raised_has_a_status() -> None:
    raised = re.compile(r'ProblemError\(\s*"([a-z-]+)"')
    sources = [path.read_text() for path in Path(server.__path__[0]).rglob("*.py")]
    kinds = {kind for source in sources for kind in raised.findall(source)}
    assert len(kinds) > 30
    assert kinds <= set(TITLES)


def test_the_description_is_whole_and_true() -> None:
    api = document()
    assert api["openapi"] == "3.1.0"
    names: set[str] = set()

    def resolve(ref: str) -> Any:
        found: Any = api
        for part in ref.removeprefix("#/").split("/"):
            found = found[part]
        return found

    def check(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                resolve(node["$ref"])
            for child in node.values():
                check(child)
        elif isinstance(node, list):
            for child in node:
                check(child)

    check(api)
    for path, item in api["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            assert operation["operationId"] not in names
            names.add(operation["operationId"])
            assert operation["summary"] and operation["responses"]
            assert "400" in operation["responses"] and "403" in operation["responses"], "any request may"
            given = [
                resolve(p["$ref"])["name"]
                for p in [*item.get("parameters", []), *operation.get("parameters", [])]
            ]
            for word in path.split("/"):
                if word.startswith("{"):
                    assert word.strip("{}") in given
            for status in operation["responses"]:
                assert 200 <= int(status) < 600

    async def work() -> None:
        async with door() as ask:
            assert (await ask("GET", "/openapi.json")).json() == json.loads(json.dumps(api))
            page = (await ask("GET", "/docs")).body.decode()
            assert all(path in page for path in api["paths"])
            assert "<li><code>event</code>" in page, "lists are lists"
            assert "http://" not in page and "https://" not in page  # nothing is fetched from elsewhere
            named = {"{bucket}": "demo", "{key}": "k", "{verb}": "status", "{collection}": "m"}
            for path, item in api["paths"].items():  # every path and method that is described is there
                target = re.sub("{[a-z_]+}", lambda found: named.get(found[0], "a"), path)
                for method in item:
                    if method != "parameters":
                        reply = await ask(method.upper(), target, b"" if method in {"put", "post"} else None)
                        assert str(reply.status) in item[method]["responses"], (method, path, reply)

    run(work())


def test_the_described_bodies_are_those_that_are_taken() -> None:
    shapes = document()["components"]["schemas"]
    names = {"find": "Find", "count": "Filtered", "distinct": "Distinct", "aggregate": "Aggregate"}
    for verb, name in {**names, "update": "Update", "delete": "Delete"}.items():
        assert set(shapes[name]["properties"]) == set(docs_query.MEMBERS[f"_{verb}"]), verb
    refused = parse_body({"nobody knows this": 1}, now_us=0)
    assert isinstance(refused, QueryError)
    members = refused.detail.partition("there are: ")[2].split(", ")
    assert set(shapes["SearchBody"]["properties"]) == {*members, "_source"}


def test_idle_connections_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "IDLE_S", 0.2)
    monkeypatch.setattr(service_module, "SWEEP_S", 0.05)

    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"v")
            nothing, part, body = await ask.open(), await ask.open(), await ask.open()
            part[1].write(b"GET /v1/kv/demo/k HTTP/1.1\r\nHo")
            body[1].write(head("PUT", "/v1/kv/demo/k", bytes(100)) + b"only this")
            for reader, writer in (nothing, part, body):
                assert await reader.read() == b""
                writer.close()
            assert (await ask("GET", "/v1/kv/demo/k")).body == b"v"

    run(work())


def test_stopping_lets_requests_finish() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"v")
            ask.node.silent = True
            reader, writer = await ask.open()
            writer.write(head("GET", "/v1/kv/demo/k", None))
            await until(lambda: isinstance(ask.node.requests[-1], ReadRequest))
            stopping = asyncio.ensure_future(ask.service.stop(5.0))
            await asyncio.sleep(0.05)
            assert not stopping.done()
            with pytest.raises(OSError, match="refused"):
                await ask.open()
            ask.node.on_reply(len(ask.node.requests), RowsRead((), 1, False), True)
            assert problem(await read_reply(reader)) == (404, "no-such-key")
            await stopping
            writer.close()

    run(work())


# --- pages in browsers


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        ("PUT", {"Origin": "http://x"}, True),
        ("PUT", {"Sec-Fetch-Site": "none"}, True),
        ("PUT", {"Origin": "http://evil.example"}, False),
        ("PUT", {"Origin": "null"}, False),
        ("PUT", {"Origin": "http://[no-address"}, False),
        ("DELETE", {"Sec-Fetch-Site": "cross-site"}, False),
        ("GET", {"Sec-Fetch-Site": "cross-site"}, True),
        ("GET", {"Host": "evil.example:8080"}, False),
        ("PUT", {"Host": "evil.example"}, False),
        ("PUT", {"Host": "127.0.0.1:8080"}, True),
        ("PUT", {"Host": "[::1]:8080"}, True),
        ("PUT", {"Host": "sullae.localhost:8080"}, True),
    ],
)
def test_pages_of_elsewhere_neither_write_nor_read_under_their_name(
    method: str, headers: dict[str, str], allowed: bool
) -> None:
    async def work() -> None:
        async with door() as ask:
            assert (await ask("PUT", "/v1/kv/b/k", b"v")).status == 204
            for path in ("/v1/kv/b/k", "/v1/kv/b/k?consistency=one"):
                reply = await ask(method, path, b"w" if method == "PUT" else b"", headers)
                assert reply.status < 300 if allowed else problem(reply) == (403, "not-permitted")

    run(work())


def test_a_peer_that_would_not_start_again_is_not_stopped() -> None:
    async def work() -> None:
        stopped: list[int] = []

        def stop() -> int:
            stopped.append(1)
            return 7

        async with door() as ask:
            ask.service.on_restart = stop
            ask.service.cannot_restart = lambda: "cluster.yml:3: unknown key 'peeers'"
            answer = await ask("POST", "/v1/admin/restart")
            assert problem(answer) == (409, "cannot-restart") and "cluster.yml:3" in answer.json()["detail"]
            assert not stopped
            ask.service.cannot_restart = str
            again = await ask("POST", "/v1/admin/restart")
            assert (again.status, again.json(), stopped) == (202, {"starts": 7}, [1])

    run(work())
