"""One value at a time over REST: what comes back, what a node refuses, what is asked wrongly."""

from __future__ import annotations

import asyncio

import pytest

from core import limits
from core.consistency import Level
from core.metadata import CreateTable
from core.requests import (
    Answer,
    Broken,
    ConditionalRequest,
    Invalid,
    MetadataRequest,
    Overloaded,
    ReadRequest,
    Timeout,
    Unavailable,
    Unready,
    WriteRequest,
)
from core.schema import Column, TableOptions
from tests.server.fake_node import with_value_limit
from tests.server.harness import run, until
from tests.server.rest_client import door, head, problem, read_reply

# --- values


@pytest.mark.parametrize(
    ("put_as", "get_as"),
    [
        ("a%2Fb", "a/b"),
        ("a/b", "a%2fb"),
        ("%2e%2e/x", "../x"),
        ("..%2f..%2fetc", "../../etc"),
        ("a//b/", "a//b/"),
        ("%EA%B0%80", "%ea%b0%80"),
        ("a%00b", "a%00b"),
        ("a+b%20c%3F%23%25", "a%2Bb c%3f%23%25".replace(" ", "%20")),
        ("_bulk", "_bulk"),
    ],
)
def test_a_value_comes_back_byte_for_byte_under_its_key(put_as: str, get_as: str) -> None:
    async def work() -> None:
        async with door() as ask:
            value = bytes(range(256)) * 9
            reply = await ask("PUT", f"/v1/kv/demo/{put_as}", value, {"Content-Type": "x/y; z=1"})
            assert (reply.status, reply.headers["server"]) == (204, "sullae")
            found = await ask("GET", f"/v1/kv/demo/{get_as}")
            assert (found.status, found.body) == (200, value)
            assert found.headers["content-type"] == "x/y; z=1"
            assert found.headers["etag"] == reply.headers["etag"]
            only_head = await ask("HEAD", f"/v1/kv/demo/{get_as}")
            assert (only_head.status, only_head.headers["content-length"]) == (200, str(len(value)))
            assert (await ask("DELETE", f"/v1/kv/demo/{get_as}")).status == 204
            assert problem(await ask("GET", f"/v1/kv/demo/{put_as}")) == (404, "no-such-key")

    run(work())


def test_an_empty_value_without_a_type_and_an_endless_one() -> None:
    async def work() -> None:
        async with door(with_value_limit(100_000)) as ask:
            assert (await ask("PUT", "/v1/kv/demo/k", b"")).status == 204
            found = await ask("GET", "/v1/kv/demo/k")
            assert (found.body, found.headers["content-type"]) == (b"", "application/octet-stream")
            assert (await ask("PUT", "/v1/kv/demo/k", bytes(100_000))).status == 204
            reply = await ask("PUT", "/v1/kv/demo/k", bytes(100_001))
            assert problem(reply) == (413, "value-too-large")
            assert reply.json()["limit_bytes"] == 100_000
            chunk = b"1000\r\n" + bytes(0x1000) + b"\r\n"
            text = head("PUT", "/v1/kv/demo/k", None, {"Transfer-Encoding": "chunked", "Connection": "close"})
            told = await ask.raw(text + chunk * 3 + b"0\r\n\r\n")
            assert (told or b"").startswith(b"HTTP/1.1 204")
            told = await ask.raw(text + chunk * 100)
            assert (told or b"").startswith(b"HTTP/1.1 413")
            assert len((await ask("GET", "/v1/kv/demo/k")).body) == 3 * 0x1000

    run(work())


def test_sixteen_mebibytes_and_an_expectation() -> None:
    async def work() -> None:
        async with door() as ask:
            value = bytes(limits.VALUE_BYTES_MAX - 1) + b"!"
            reader, writer = await ask.open()
            writer.write(head("PUT", "/v1/kv/demo/k", value, {"Expect": "100-continue"}))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(value)
            assert (await read_reply(reader)).status == 204
            writer.close()
            assert (await ask("GET", "/v1/kv/demo/k")).body == value
            assert problem(await ask("PUT", "/v1/kv/demo/k", b"x", {"Expect": "tea"})) == (
                417,
                "expectation-failed",
            )
            reader, writer = await ask.open()
            writer.write(
                head("PUT", "/v1/kv/demo/k", bytes(limits.VALUE_BYTES_MAX + 1), {"Expect": "100-continue"})
            )
            assert problem(await read_reply(reader)) == (413, "value-too-large")
            writer.close()

    run(work())


def test_parameters_reach_the_node() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k?consistency=ALL&ttl=60&timeout_ms=500", b"v")
            write = ask.node.requests[-1]
            assert isinstance(write, WriteRequest)
            assert (write.level, write.ttl_s) == (Level.ALL, 60)
            waited_us = ask.node.deadlines_us[-1] - ask.node.deadlines_us[-2]
            assert -10_000_000 < waited_us - 500_000 < 0  # the bucket's creation, before, was given 10 s
            await ask("GET", "/v1/kv/demo/k?consistency=local_one")
            read = ask.node.requests[-1]
            assert isinstance(read, ReadRequest)
            assert read.level is Level.LOCAL_ONE
            await ask("GET", "/v1/kv/demo/k")
            assert ask.node.requests[-1].level is Level.QUORUM  # type: ignore[union-attr]

    run(work())


@pytest.mark.parametrize(
    ("method", "target", "headers", "expected"),
    [
        ("GET", "/v1/kv/demo/k?level=one", {}, (400, "bad-query")),
        ("GET", "/v1/kv/demo/k?consistency=one&consistency=one", {}, (400, "bad-query")),
        ("GET", "/v1/kv/demo/k?consistency=most", {}, (400, "bad-level")),
        ("GET", "/v1/kv/demo/k?ttl=1", {}, (400, "bad-query")),
        ("GET", "/v1/kv/demo/k?%zz=1", {}, (400, "bad-query")),
        ("PUT", "/v1/kv/demo/k?ttl=-1", {}, (400, "bad-ttl")),
        ("PUT", "/v1/kv/demo/k?ttl=x", {}, (400, "bad-ttl")),
        ("PUT", "/v1/kv/demo/k?ttl=99999999999", {}, (400, "bad-ttl")),
        ("PUT", "/v1/kv/demo/k?timeout_ms=0", {}, (400, "bad-timeout")),
        ("PUT", "/v1/kv/demo/k?timeout_ms=999999999", {}, (400, "bad-timeout")),
        ("PUT", "/v1/kv/demo/", {}, (400, "bad-key")),
        ("PUT", "/v1/kv/demo/%ff", {}, (400, "bad-path")),
        ("PUT", "/v1/kv/demo/%c0%af", {}, (400, "bad-path")),
        ("PUT", "/v1/kv/demo/%ed%a0%80", {}, (400, "bad-path")),
        ("PUT", "/v1/kv/demo/%zz", {}, (400, "bad-path")),
        ("PUT", "/v1/kv/demo/" + "k" * 65_536, {}, (400, "bad-key")),
        ("PUT", "/v1/kv/../k", {}, (400, "bad-bucket-name")),
        ("PUT", "/v1/kv/a.b/k", {}, (400, "bad-bucket-name")),
        ("PUT", "/v1/kv/%2fetc/k", {}, (400, "bad-bucket-name")),
        ("PUT", "/v1/kv//k", {}, (400, "bad-bucket-name")),
        ("PUT", "/v1/kv/demo/k", {"If-Match": '"x"'}, (412, "precondition-failed")),
        ("PUT", "/v1/kv/demo/k", {"If-Match": "*"}, (412, "precondition-failed")),
        ("PUT", "/v1/kv/demo/k", {"If-Match": "x"}, (400, "bad-request")),
        ("PUT", "/v1/kv/demo/k", {"If-Match": ""}, (400, "bad-request")),
        ("PUT", "/v1/kv/demo/k", {"If-Match": '"x", *'}, (400, "bad-request")),
        ("PUT", "/v1/kv/demo/k", {"If-None-Match": '"x" "y"'}, (400, "bad-request")),
        ("PUT", "/v1/kv/demo/k", {"If-Match": ",".join(['"x"'] * 101)}, (400, "bad-request")),
        ("PUT", "/v1/kv/demo/there", {"If-None-Match": "*"}, (412, "precondition-failed")),
        ("DELETE", "/v1/kv/demo/there", {"If-Match": '"x"'}, (412, "precondition-failed")),
        ("DELETE", "/v1/kv/demo/k", {"If-Match": "*"}, (412, "precondition-failed")),
        (
            "PUT",
            "/v1/kv/demo/k",
            {"If-Unmodified-Since": "Sat, 29 Oct 1994 19:43:31 GMT"},
            (501, "conditional-not-supported"),
        ),
        ("PUT", "/v1/kv/demo/k", {"Content-Encoding": "gzip"}, (415, "content-encoding-not-supported")),
        ("PUT", "/v1/kv/demo/k", {"Content-Encoding": "\udcff"}, (415, "content-encoding-not-supported")),
        ("PUT", "/v1/kv/demo/k", {"Content-Range": "bytes 0-0/2"}, (400, "bad-request")),
        ("BREW", "/v1/kv/demo/k", {}, (501, "unknown-method")),
        ("get", "/v1/kv/demo/k", {}, (501, "unknown-method")),
        ("PUT", "/v1/kv/demo/k", {"Content-Type": "a/" + "b" * 300}, (400, "bad-content-type")),
        ("GET", "/v1/kv/nope/k", {}, (404, "no-such-bucket")),
        ("DELETE", "/v1/kv/nope/k", {}, (404, "no-such-bucket")),
        ("GET", "/v1/kv/nope", {}, (404, "no-such-bucket")),
        ("GET", "/v1/buckets/nope", {}, (404, "no-such-bucket")),
        ("DELETE", "/v1/buckets/nope", {}, (404, "no-such-bucket")),
        ("GET", "/v1/kv/demo?limit=0", {}, (400, "bad-limit")),
        ("GET", "/v1/kv/demo?limit=99999999999", {}, (400, "bad-limit")),
        ("GET", "/v1/kv/demo?after=xyz", {}, (400, "bad-cursor")),
        ("GET", "/v1/kv", {}, (404, "not-found")),
        ("GET", "/", {}, (404, "not-found")),
        ("GET", "/v1/admin/explode", {}, (404, "no-such-verb")),
        ("PATCH", "/v1/kv/demo/k", {}, (405, "method-not-allowed")),
        ("POST", "/v1/kv/demo/k", {"X-HTTP-Method-Override": "PUT"}, (405, "method-not-allowed")),
        ("POST", "/v1/kv/demo", {}, (405, "method-not-allowed")),
        ("DELETE", "/v1/health", {}, (405, "method-not-allowed")),
        ("PUT", "/v1/admin/status", {}, (405, "method-not-allowed")),
        ("POST", "/v1/buckets", {}, (405, "method-not-allowed")),
    ],
)
def test_what_is_asked_wrongly(
    method: str, target: str, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/there", b"v")
            before = dict(ask.node.rows)
            body = b"v" if method in {"PUT", "POST"} else None
            assert problem(await ask(method, target, body, headers)) == expected
            assert ask.node.rows == before

    run(work())


def test_a_condition_is_decided_with_the_write() -> None:
    async def work() -> None:
        async with door() as ask:
            path = "/v1/kv/demo/k"
            first = await ask("PUT", path, b"1", {"If-None-Match": "*"})
            assert first.status == 204
            tag = first.headers["etag"]
            again = await ask("PUT", path, b"x", {"If-None-Match": "*"})
            assert (again.status, again.headers["etag"]) == (412, tag)
            weak = await ask("PUT", path, b"x", {"If-Match": f"W/{tag}"})
            assert (weak.status, weak.headers["etag"]) == (412, tag)
            second = await ask("PUT", path, b"2", {"If-Match": f'"no" ,, {tag}', "If-None-Match": '"other"'})
            assert second.status == 204 and second.headers["etag"] != tag
            assert (
                await ask("PUT", path, b"x", {"If-None-Match": f"W/{second.headers['etag']}"})
            ).status == 412
            found = await ask("GET", path + "?consistency=serial")
            assert (found.body, found.headers["etag"]) == (b"2", second.headers["etag"])
            assert (await ask("DELETE", path, None, {"If-Match": tag})).status == 412
            assert (await ask("DELETE", path, None, {"If-Match": second.headers["etag"]})).status == 204
            gone = await ask("PUT", path, b"x", {"If-Match": "*"})
            assert gone.status == 412 and "etag" not in gone.headers

    run(work())


@pytest.mark.parametrize(
    ("asked", "levels"),
    [
        ("", (Level.QUORUM, Level.SERIAL)),
        ("?consistency=all", (Level.ALL, Level.SERIAL)),
        ("?consistency=serial", (Level.QUORUM, Level.SERIAL)),
        ("?consistency=local_serial", (Level.LOCAL_QUORUM, Level.LOCAL_SERIAL)),
    ],
)
def test_which_levels_decide_a_condition_and_wait_for_it(asked: str, levels: tuple[Level, Level]) -> None:
    async def work() -> None:
        async with door() as ask:
            assert (await ask("PUT", "/v1/kv/demo/k" + asked, b"1", {"If-None-Match": "*"})).status == 204
            request = ask.node.requests[-1]
            assert isinstance(request, ConditionalRequest)
            assert (request.level, request.serial_level) == levels

    run(work())


def test_who_is_left_in_doubt_is_told_how_to_settle_it() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/there", b"v")
            ask.node.answers.append(Timeout(1, 2, Level.SERIAL, write=True, write_type="CAS"))
            ask.node.answers.append(Timeout(1, 2, Level.SERIAL, write=False, write_type="CAS"))
            reply = await ask("PUT", "/v1/kv/demo/k", b"1", {"If-Match": "*"})
            assert problem(reply) == (504, "outcome-unknown") and b"consistency=serial" in reply.body
            reply = await ask("PUT", "/v1/kv/demo/k", b"1", {"If-Match": "*"})
            assert problem(reply) == (504, "timeout")

    run(work())


REFUSALS: list[tuple[Answer, tuple[int, str], tuple[int, str]]] = [
    (Unavailable(2, 1, Level.QUORUM), (503, "unavailable"), (503, "unavailable")),
    (Overloaded("too much"), (503, "overloaded"), (503, "overloaded")),
    (Unready("no cluster yet"), (503, "not-ready"), (503, "not-ready")),
    (Invalid("no_such_table", "gone"), (404, "no-such-bucket"), (404, "no-such-bucket")),
    (Invalid("bad_level", "not that"), (400, "bad-level"), (400, "bad-level")),
    (Invalid("something_new", "what"), (400, "bad-request"), (400, "bad-request")),
    (Timeout(1, 2, Level.QUORUM, True), (504, "outcome-unknown"), (504, "outcome-unknown")),
    (Timeout(1, 2, Level.QUORUM, False), (504, "timeout"), (504, "timeout")),
    (Broken(1, 2, 1, "disk full", True, unknown=True), (504, "outcome-unknown"), (504, "outcome-unknown")),
    (Broken(1, 2, 1, "disk full", True, unknown=False), (503, "replicas-failed"), (503, "replicas-failed")),
]


@pytest.mark.parametrize(("answer", "put", "get"), REFUSALS)
def test_what_the_node_refuses(answer: Answer, put: tuple[int, str], get: tuple[int, str]) -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"v")
            for method, expected in (("PUT", put), ("DELETE", put), ("GET", get)):
                ask.node.answers = [answer]
                reply = await ask(method, "/v1/kv/demo/k", b"v" if method == "PUT" else None)
                assert problem(reply) == expected
                assert ("retry-after" in reply.headers) == (reply.status == 503)
                for name in ("required", "alive", "received"):
                    if hasattr(answer, name):
                        assert reply.json()[name] == getattr(answer, name)

    run(work())


def test_entity_tags_on_reads() -> None:
    async def work() -> None:
        async with door() as ask:
            tag = (await ask("PUT", "/v1/kv/demo/k", b"v")).headers["etag"]
            for same in (tag, "*", f'"x", {tag}', f"W/{tag}"):
                reply = await ask("GET", "/v1/kv/demo/k", None, {"If-None-Match": same})
                assert (reply.status, reply.headers["etag"]) == (304, tag)
                reply = await ask("GET", "/v1/kv/demo/k", None, {"If-Match": same})
                assert reply.status == (412 if same.startswith("W/") else 200)  # strong and weak comparison
            spread = [("If-None-Match", '"x"'), ("If-None-Match", tag)]  # two lines are one list
            reader, writer = await ask.open()
            lines = "".join(f"{name}: {value}\r\n" for name, value in spread)
            writer.write(f"GET /v1/kv/demo/k HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
            assert (await read_reply(reader)).status == 304
            writer.close()
            for wrong in ("x", "", '"x" "y"'):
                for name in ("If-Match", "If-None-Match"):
                    refused = await ask("GET", "/v1/kv/demo/k", None, {name: wrong})
                    assert problem(refused) == (400, "bad-request")
            assert (await ask("GET", "/v1/kv/demo/k", None, {"If-None-Match": '"x"'})).status == 200
            reply = await ask("GET", "/v1/kv/demo/k", None, {"If-Match": '"x"'})
            assert problem(reply) == (412, "precondition-failed")

    run(work())


def test_first_use_makes_one_bucket_and_says_so_when_it_cannot() -> None:
    async def work() -> None:
        async with door() as ask:
            ask.node.answers = [Timeout(0, 2, Level.QUORUM, True)]
            reply = await ask("PUT", "/v1/kv/new/k", b"v")
            assert problem(reply) == (503, "bucket-not-created")
            assert not ask.node.rows
            replies = await asyncio.gather(*(ask("PUT", f"/v1/kv/new/{n}", b"v") for n in range(20)))
            assert {reply.status for reply in replies} == {204}
            assert sum(isinstance(request, MetadataRequest) for request in ask.node.requests) <= 3
            change = CreateTable("kv", "cql", (Column(0, "id", "int", "partition"),), TableOptions())
            assert not ask.node.change(change).error
            assert problem(await ask("PUT", "/v1/kv/cql/k", b"v")) == (409, "bucket-exists")
            ask.node.why_not = "no cluster yet"
            assert problem(await ask("GET", "/v1/kv/nope/k")) == (503, "not-ready")

    run(work())


def test_a_client_that_goes_cancels_its_request() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"v")
            ask.node.silent = True
            _, writer = await ask.open()
            writer.write(head("GET", "/v1/kv/demo/k", None))
            await until(lambda: isinstance(ask.node.requests[-1], ReadRequest))
            writer.close()
            await until(lambda: ask.node.cancelled)

    run(work())
