"""Every route of REST, every refusal of a node, and every way to ask wrongly, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from core import limits
from core.consistency import Level
from core.metadata import CreateTable
from core.requests import (
    Answer,
    Broken,
    Changed,
    Invalid,
    MetadataRequest,
    Overloaded,
    ReadRequest,
    RowsRead,
    ScanRequest,
    Timeout,
    Unavailable,
    Unready,
    WriteRequest,
)
from core.schema import Column, TableOptions
from server.rest import service as service_module
from server.rest.openapi import document
from server.rest.problems import TITLES
from tests.server.fake_node import with_value_limit
from tests.server.harness import run, until
from tests.server.rest_client import Door, door, head, read_reply


def problem(reply: Any) -> tuple[int, str]:
    """Status and type, after checking that it is a whole problem."""
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["status"] == reply.status
    assert body["title"] and body["detail"]
    assert TITLES[body["type"]][0] == reply.status
    return reply.status, body["type"]


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
        ("PUT", "/v1/kv/demo/k", {"If-Match": '"x"'}, (501, "conditional-not-supported")),
        ("PUT", "/v1/kv/demo/k", {"If-None-Match": "*"}, (501, "conditional-not-supported")),
        ("DELETE", "/v1/kv/demo/k", {"If-Match": '"x"'}, (501, "conditional-not-supported")),
        ("PUT", "/v1/kv/demo/k", {"Content-Encoding": "gzip"}, (415, "content-encoding-not-supported")),
        ("PUT", "/v1/kv/demo/k", {"Content-Range": "bytes 0-0/2"}, (400, "bad-request")),
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
                assert (await ask("GET", "/v1/kv/demo/k", None, {"If-Match": same})).status == 200
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


# --- listings


async def fill(ask: Door, bucket: str, count: int) -> list[str]:
    names = [f"key/{n:03}" for n in range(count)]
    for name in names:
        assert (await ask("PUT", f"/v1/kv/{bucket}/{name}", name.encode())).status == 204
    return names


@pytest.mark.parametrize("ordered", [False, True])
def test_a_listing_in_pages_is_the_whole(ordered: bool) -> None:
    async def work() -> None:
        async with door() as ask:
            body = json.dumps({"ordered": ordered}).encode()
            assert (await ask("PUT", "/v1/buckets/b", body)).status == 201
            names = await fill(ask, "b", 25)
            whole = (await ask("GET", "/v1/kv/b")).lines()
            assert whole[-1] == {"cursor": None}
            listed = [line["key"] for line in whole[:-1]]
            assert sorted(listed) == names
            assert (listed == names) == ordered
            assert whole[0]["bytes"] == 7
            paged, after = [], ""
            for _ in range(30):
                lines = (await ask("GET", f"/v1/kv/b?limit=4&after={after}")).lines()
                assert len(lines) <= 5
                paged += [line["key"] for line in lines[:-1]]
                after = lines[-1]["cursor"] or ""
                if not after:
                    break
            assert paged == listed
            some = (await ask("GET", "/v1/kv/b?prefix=key/01")).lines()
            assert sorted(line["key"] for line in some[:-1]) == names[10:20]

    run(work())


def test_a_listing_that_breaks_off_ends_with_a_problem_and_a_cursor() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/buckets/b", b'{"ordered": true}')
            names = await fill(ask, "b", 250)
            ask.node.answers = [Unavailable(2, 1, Level.QUORUM)]
            assert problem(await ask("GET", "/v1/kv/b")) == (503, "unavailable")
            answers: list[Answer] = []
            original = ask.node.on_request

            def second_fails(request_id: int, request: Any, deadline_us: int) -> None:
                if isinstance(request, ReadRequest):
                    answers.append(Unready("x"))
                    if len(answers) == 2:
                        ask.node.answers = [Unavailable(2, 1, Level.QUORUM)]
                original(request_id, request, deadline_us)

            ask.node.on_request = second_fails  # type: ignore[method-assign]
            lines = (await ask("GET", "/v1/kv/b")).lines()
            assert [line["key"] for line in lines[:-1]] == names[:200]
            assert (lines[-1]["type"], lines[-1]["status"]) == ("unavailable", 503)
            rest = (await ask("GET", f"/v1/kv/b?after={lines[-1]['cursor']}")).lines()
            assert [line["key"] for line in rest[:-1]] == names[200:]

    run(work())


def test_a_limited_listing_stops_the_scan() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask, "b", 30)
            lines = (await ask("GET", "/v1/kv/b?limit=3")).lines()
            assert len(lines) == 4
            assert isinstance(ask.node.requests[-1], ScanRequest)
            await until(lambda: len(ask.node.cancelled) == 1)

    run(work())


# --- bulk


def test_bulk_outcomes_come_in_order() -> None:
    async def work() -> None:
        async with door() as ask:
            lines = [
                {"op": "put", "key": "t", "value": "가"},
                {"op": "put", "key": "j", "json": {"b": [1, 2.50]}, "ttl": 9},
                {
                    "op": "put",
                    "key": "x",
                    "base64": base64.b64encode(b"\xff\x00").decode(),
                    "content_type": "i/p",
                },
                {"op": "get", "key": "t"},
                {"op": "get", "key": "j"},
                {"op": "get", "key": "x"},
                {"op": "delete", "key": "t"},
                {"op": "get", "key": "t"},
                {"op": "put", "key": "n"},
                {"op": "put", "key": "n", "value": "a", "json": 1},
                {"op": "put", "key": "n", "base64": "*"},
                {"op": "put", "key": "", "value": "a"},
                {"op": "put", "key": "n", "value": "a", "ttl": -1},
                {"op": "get", "key": "n", "value": "a"},
                {"op": "explode", "key": "n"},
                {"op": "put", "key": "n", "value": "a", "more": 1},
            ]
            body = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines).encode()
            reply = await ask("POST", "/v1/kv/demo/_bulk", body + b"\n\n{not json\n[]\n" + b'"\xff"')
            assert reply.headers["content-type"] == "application/x-ndjson"
            told = reply.lines()
            statuses = [204] * 3 + [200] * 3 + [204, 404] + [400] * 11
            assert [line["status"] for line in told] == statuses
            assert told[3]["value"] == "가"
            assert (told[4]["value"], told[4]["content_type"]) == ('{"b":[1,2.5]}', "application/json")
            assert (told[5]["base64"], told[5]["content_type"]) == ("/wA=", "i/p")
            assert all(line["detail"] for line in told[8:])

    run(work())


def test_bulk_is_streamed_with_bounded_work() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"v")
            ask.node.silent = True
            reader, writer = await ask.open()
            writer.write(head("POST", "/v1/kv/demo/_bulk", None, {"Transfer-Encoding": "chunked"}))
            lines = b"".join(b'{"op":"put","key":"%d","value":"v"}\n' % n for n in range(1_000))
            writer.write(b"%x\r\n%s\r\n" % (len(lines), lines))
            before = len(ask.node.requests)
            await until(lambda: len(ask.node.requests) - before == 128)
            await asyncio.sleep(0.05)
            assert len(ask.node.requests) - before == 128  # the others wait, unread or unsent
            writer.close()
            await until(lambda: len(ask.node.cancelled) == 128)
            ask.node.silent = False
            reader, writer = await ask.open()
            writer.write(head("POST", "/v1/kv/demo/_bulk", None, {"Transfer-Encoding": "chunked"}))
            await reader.readuntil(b"\r\n\r\n")
            line = b'{"op":"put","key":"one","value":"v"}\n'
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
            await until(lambda: ask.node.requests[-1].partition == b"one")  # type: ignore[union-attr]
            writer.write(b"0\r\n\r\n")
            assert json.loads((await reader.readuntil(b"\n0\r\n\r\n")).split(b"\r\n")[1])["status"] == 204
            writer.close()

    run(work())


def test_bulk_of_thousands_and_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with door(with_value_limit(1_000)) as ask:
            lines = b"".join(b'{"op":"put","key":"%d","value":"v"}\n' % (n % 700) for n in range(5_000))
            told = (await ask("POST", "/v1/kv/demo/_bulk", lines)).lines()
            assert [line["key"] for line in told] == [str(n % 700) for n in range(5_000)]
            assert {line["status"] for line in told} == {204}
            text = b'{"op":"put","key":"a","value":"v"}\n' + b'{"op":"put","key":"b","value":"'
            told = (await ask("POST", "/v1/kv/demo/_bulk", text + b"x" * 600_000)).lines()
            assert [line["status"] for line in told] == [204, 413]

    run(work())


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
            }
            assert (made.status, made.json()) == (201, described)
            again = await ask("PUT", "/v1/buckets/b", b'{"replication_factor": 1, "default_ttl_s": 7}')
            assert (again.status, again.json()["default_ttl_s"]) == (200, 7)
            assert (await ask("GET", "/v1/buckets/b")).json()["default_ttl_s"] == 7
            await ask("PUT", "/v1/kv/b/k", b"v")
            assert ask.node.requests[-1].ttl_s == 7  # type: ignore[union-attr]
            for other in (b'{"ordered": true}', b'{"replication_factor": 2}'):
                assert problem(await ask("PUT", "/v1/buckets/b", other)) == (409, "bucket-exists")
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
            assert "http://" not in page and "https://" not in page  # nothing is fetched from elsewhere
            for path, item in api["paths"].items():  # every path and method that is described is there
                target = path.format(bucket="demo", key="k", verb="status")
                for method in item:
                    if method != "parameters":
                        reply = await ask(method.upper(), target, b"" if method in {"put", "post"} else None)
                        assert str(reply.status) in item[method]["responses"], (method, path, reply)

    run(work())


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
