"""Listings and bulk requests over REST: in pages, streamed, in order, with bounded work."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from core.consistency import Level
from core.requests import (
    Answer,
    BulkRequest,
    ReadRequest,
    ScanRequest,
    Unavailable,
    Unready,
)
from server.rest.bulk import LINES_AHEAD
from tests.server.fake_node import with_value_limit
from tests.server.harness import run, until
from tests.server.rest_client import Door, door, head, problem

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

            def in_work() -> int:
                asked = ask.node.requests[before:]
                return sum(len(each.writes) for each in asked if isinstance(each, BulkRequest))

            await until(lambda: in_work() == LINES_AHEAD)
            await asyncio.sleep(0.05)
            assert in_work() == LINES_AHEAD  # the others wait, unread or unsent
            writer.close()
            await until(lambda: len(ask.node.cancelled) == len(ask.node.requests) - before)
            ask.node.silent = False
            reader, writer = await ask.open()
            writer.write(head("POST", "/v1/kv/demo/_bulk", None, {"Transfer-Encoding": "chunked"}))
            await reader.readuntil(b"\r\n\r\n")
            line = b'{"op":"put","key":"one","value":"v"}\n'
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
            await until(lambda: ask.node.requests[-1].writes[0].partition == b"one")  # type: ignore[union-attr]
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
