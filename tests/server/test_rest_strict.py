"""What a REST request may not be, or may be in an unusual way, wherever it is sent."""

from __future__ import annotations

import gzip
import time
from typing import Any

import pytest

from core.limits import MIB
from index.bounds import QueryError
from index.search_body import parse_body
from server.rest.changes_wanted import wanted_of
from server.rest.problems import ProblemError
from server.rest.targets import BOUNDS, PER_MIB_US, number
from tests.server.harness import run
from tests.server.rest_client import Door, door, head, problem, read_reply

JSON = {"Content-Type": "application/json"}


def at_door(work: Any) -> None:
    """Run `work` with a service."""

    async def opened() -> None:
        async with door() as ask:
            await work(ask)

    run(opened())


# --- targets in absolute form


def test_a_target_may_name_the_server_too() -> None:
    async def work(ask: Door) -> None:
        absolute = f"http://127.0.0.1:{ask.port}"
        assert (await ask("PUT", f"{absolute}/v1/kv/demo/a//b%2F", b"v")).status == 204
        assert (await ask("GET", "/v1/kv/demo/a//b%2F")).body == b"v"
        other = f"HTTP://localhost:{ask.port}/v1/kv/demo/a//b%2F?consistency=one"
        assert (await ask("GET", other)).body == b"v"
        assert problem(await ask("GET", absolute)) == (404, "not-found")
        assert problem(await ask("GET", absolute + "?x=1"))[0] == 404
        assert (await ask("GET", absolute + "/v1/health")).status == 200

    at_door(work)


def test_whom_the_target_names_counts_and_not_the_host_header() -> None:
    async def work(ask: Door) -> None:
        refused = await ask("GET", "http://evil.example.com/v1/cluster", None, {"Host": "localhost"})
        assert problem(refused) == (403, "not-permitted")
        named = await ask("GET", "http://localhost/v1/health", None, {"Host": "evil.example.com"})
        assert named.status == 200
        page = {"Origin": "http://localhost", "Host": "evil.example.com"}
        assert (await ask("PUT", "http://localhost/v1/kv/demo/k", b"v", page)).status == 204

    at_door(work)


# --- bodies


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", "/v1/buckets/b", b'{"default_ttl_s": 1, "default_ttl_s": 2}'),
        ("PUT", "/v1/buckets/b", b'{"default_ttl_s": 1, "default_ttl\\u005fs": 2}'),
        ("PUT", "/v1/collections/c", b'{"default_ttl_s": 1, "default_ttl_s": 2}'),
        ("PUT", "/v1/collections/c", b'{"mapping": {"fields": {"a": {"type": "text"}, "a": {}}}}'),
        ("PUT", "/v1/collections/c/indexes/i", b'{"fields": ["a"], "fields": ["b"]}'),
        ("POST", "/v1/admin/status", b'{"a": 1, "a": 1}'),
        ("POST", "/v1/docs/there/_find", b'{"filter": {"a": 1}, "filter": {}}'),
        ("POST", "/v1/docs/there/_find", b'{"filter": {"a": 1, "a": 2}}'),
        ("POST", "/v1/search/there", b'{"size": 1, "size": 2}'),
        ("PUT", "/v1/docs/there/a", b'{"a": 1, "a": 2}'),
        ("PATCH", "/v1/docs/there/a", b'{"a": 1, "a": 2}'),
        ("PATCH", "/v1/docs/there/a", b'{"$set": {"a": 1}, "$set": {"b": 2}}'),
    ],
)
def test_a_name_that_is_twice_in_a_body_is_refused(method: str, target: str, body: bytes) -> None:
    async def work(ask: Door) -> None:
        assert (await ask("PUT", "/v1/docs/there/x", b"{}", JSON)).status == 204
        before = len(ask.node.requests)
        told = await ask(method, target, body, JSON)
        assert told.status == 400 and "twice" in told.json()["detail"], told
        assert len(ask.node.requests) == before, "the node was not asked"

    at_door(work)


def test_a_document_line_with_a_name_twice_is_refused() -> None:
    async def work(ask: Door) -> None:
        lines = [
            b'{"op":"put","id":"a","id":"b","document":{}}',
            b'{"op":"put","id":"a","document":{"a":1},"document":{}}',
            b'{"op":"put","id":"a","document":{"a":1,"a":2}}',
            b'{"op":"put","id":"a","document":{"id":"x","op":["op","a \\" b"]}}',
        ]
        told = (await ask("POST", "/v1/docs/c/_bulk", b"\n".join(lines))).lines()
        assert [one["status"] for one in told] == [400, 400, 400, 204]
        assert all("twice" in one["detail"] for one in told[:3])

    at_door(work)


@pytest.mark.parametrize("target", ["/v1/kv/b/_bulk", "/v1/docs/c/_bulk", "/v1/docs/c", "/v1/search/c"])
def test_compressed_bodies_are_refused_as_a_whole(target: str) -> None:
    async def work(ask: Door) -> None:
        body = gzip.compress(b'{"op":"put","key":"k","value":"v"}\n' * 1_000)
        for encoding in ("gzip", "deflate", "zstd", "GZIP, identity"):
            told = await ask("POST", target, body, {"Content-Encoding": encoding})
            assert problem(told) == (415, "content-encoding-not-supported")
            assert told.headers["accept-encoding"] == "identity"
        assert not ask.node.rows

    at_door(work)


# --- answers that browsers take as they are told


def test_a_body_in_a_coding_that_nobody_undoes_is_refused() -> None:
    async def work() -> None:
        async with door() as ask:
            coded = head("PUT", "/v1/kv/demo/k", None, {"Transfer-Encoding": "gzip, chunked"})
            reader, writer = await ask.open()
            writer.write(coded + b"0\r\n\r\n")
            assert problem(await read_reply(reader)) == (501, "transfer-coding-not-supported")
            assert not ask.node.rows
            writer.close()

    run(work())


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/v1/kv/demo/k", "DELETE, GET, HEAD, PUT"),
        ("/v1/kv/demo", "GET, HEAD"),
        ("/v1/health", "GET, HEAD"),
        ("*", "DELETE, GET, HEAD, PATCH, POST, PUT"),
    ],
)
def test_options_tells_the_methods_and_lets_no_page_of_elsewhere_in(target: str, allowed: str) -> None:
    async def work() -> None:
        async with door() as ask:
            preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
            for headers in ({}, preflight):
                reply = await ask("OPTIONS", target, None, headers)
                assert (reply.status, reply.headers["allow"]) == (204, allowed)
                assert not [name for name in reply.headers if name.startswith("access-control")]
            assert (await ask("OPTIONS", "/nothing")).status == 404

    run(work())


def test_browsers_take_stored_pages_for_what_they_are_and_run_no_scripts() -> None:
    async def work(ask: Door) -> None:
        page = {"Content-Type": "text/html"}
        await ask("PUT", "/v1/kv/demo/page", b"<script>1</script>", page)
        for way in ({}, {"X": "y"}):
            told = await ask("GET", "/v1/kv/demo/page", None, way)
            assert told.headers["content-type"] == "text/html"
            assert told.headers["content-security-policy"] == "sandbox"
        for target in ("/v1/kv/demo/page", "/v1/kv/demo/none", "/docs", "/v1/health", "/none", "/v1/kv/demo"):
            for way in ({}, {"X": "y"}):
                told = await ask("GET", target, None, way)
                assert told.headers["x-content-type-options"] == "nosniff"
        reader, writer = await ask.open()
        writer.write(b"NO HTTP\r\n\r\n")
        assert (await read_reply(reader)).headers["x-content-type-options"] == "nosniff"
        writer.close()

    at_door(work)


# --- numbers and times


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/v1/kv/demo/k?{}={}", "timeout_ms"),
        ("/v1/kv/demo?{}={}", "timeout_ms"),
        ("/v1/kv/demo?{}={}", "limit"),
        ("/v1/docs/c/k?{}={}", "timeout_ms"),
        ("/v1/docs/c?{}={}", "limit"),
        ("/v1/search/c?q=x&{}={}", "timeout_ms"),
        ("/v1/search/c?q=x&{}={}", "size"),
        ("/v1/search/c?q=x&{}={}", "from"),
    ],
)
def test_every_number_of_a_query_has_its_bounds(target: str, name: str) -> None:
    async def work(ask: Door) -> None:
        await ask("PUT", "/v1/kv/demo/k", b"v")
        await ask("PUT", "/v1/collections/c")
        _, least, most = BOUNDS[name]
        for wrong in (least - 1, most + 1, -1, 10**20, "", "x", "1.5", "0x10", "१", "1e3", "NaN"):
            told = await ask("GET", target.format(name, str(wrong).replace("१", "%E0%A5%A7")))
            assert told.status == 400 and name in told.json()["detail"], (wrong, told)

    at_door(work)


@pytest.mark.parametrize(("rest", "name"), [("", "limit"), ("group=g&", "session"), ("group=g&", "parts")])
def test_every_number_of_a_subscription_has_its_bounds(rest: str, name: str) -> None:
    _, least, most = BOUNDS[name]
    for wrong in (least - 1, most + 1, -1, 10**20, "", "x"):
        with pytest.raises(ProblemError, match=f"{name} must be a whole number from {least} to {most}"):
            wanted_of(f"{rest}{name}={wrong}", {}, 0)
    wanted_of(f"{rest}{name}={most}", {}, 0)


@pytest.mark.parametrize("body", [{"timeout_ms": 0}, {"timeout": "0s"}, {"timeout_ms": -1}])
def test_a_search_that_may_take_no_time_is_refused(body: dict[str, Any]) -> None:
    assert isinstance(parse_body(body, now_us=0), QueryError)
    assert parse_body({}, now_us=0).timeout_ms == 0, "none was said"  # type: ignore[union-attr]
    assert parse_body({"timeout": "1ms"}, now_us=0).timeout_ms == 1  # type: ignore[union-attr]


def test_bounds_are_themselves_allowed() -> None:
    for name, (_, least, most) in BOUNDS.items():
        assert (number(name, str(least)), number(name, str(most))) == (least, most)


def test_a_large_body_has_more_time() -> None:
    async def work(ask: Door) -> None:
        usual_us = ask.node.inside.settings.write_timeout_us
        for target, query, size, wanted_us in (
            ("/v1/kv/demo/k", "", 10, usual_us),
            ("/v1/kv/demo/k", "", 16 * MIB, usual_us + 16 * PER_MIB_US),
            ("/v1/kv/demo/k", "?timeout_ms=700", 3 * MIB, 700_000),
        ):
            before_us = time.monotonic_ns() // 1000
            assert (await ask("PUT", target + query, bytes(size))).status == 204
            since_us = time.monotonic_ns() // 1000 - before_us
            assert wanted_us <= ask.node.deadlines_us[-1] - before_us <= wanted_us + since_us

    at_door(work)
