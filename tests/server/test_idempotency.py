"""`Idempotency-Key` over REST: done once, answered the same, and what the draft says of misuse."""

from __future__ import annotations

import asyncio

import pytest

from core.requests import ConditionalRequest
from server.rest.idempotency import fingerprint
from tests.server.harness import run, until
from tests.server.rest_client import door, problem

KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


def test_a_retry_is_answered_like_the_first_and_writes_nothing() -> None:
    async def work() -> None:
        async with door() as ask:
            first = await ask("PUT", "/v1/kv/demo/k", b"one", KEY)
            assert first.status == 204
            assert (await ask("PUT", "/v1/kv/demo/k", b"two")).status == 204
            again = await ask("PUT", "/v1/kv/demo/k", b"one", KEY)
            assert (again.status, again.headers["etag"]) == (204, first.headers["etag"])
            assert (await ask("GET", "/v1/kv/demo/k")).body == b"two"

    run(work())


def test_a_condition_that_was_false_stays_false() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"one")
            headers = {**KEY, "If-None-Match": "*"}
            first = await ask("PUT", "/v1/kv/demo/k", b"two", headers)
            assert problem(first) == (412, "precondition-failed")
            await ask("DELETE", "/v1/kv/demo/k")
            again = await ask("PUT", "/v1/kv/demo/k", b"two", headers)
            assert problem(again) == (412, "precondition-failed")
            assert again.headers["etag"] == first.headers["etag"]
            assert problem(await ask("GET", "/v1/kv/demo/k")) == (404, "no-such-key")

    run(work())


def test_a_deletion_is_not_repeated() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"one")
            assert (await ask("DELETE", "/v1/kv/demo/k", b"", KEY)).status == 204
            await ask("PUT", "/v1/kv/demo/k", b"two")
            assert (await ask("DELETE", "/v1/kv/demo/k", b"", KEY)).status == 204
            assert (await ask("GET", "/v1/kv/demo/k")).body == b"two"

    run(work())


def test_another_request_under_the_key_is_a_422() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", b"one", KEY)
            for method, path, body, more in (
                ("PUT", "/v1/kv/demo/k", b"two", {}),
                ("PUT", "/v1/kv/demo/k?ttl=5", b"one", {}),
                ("PUT", "/v1/kv/demo/k", b"one", {"Content-Type": "text/plain"}),
                ("PUT", "/v1/kv/demo/k", b"one", {"If-Match": "*"}),
                ("DELETE", "/v1/kv/demo/k", b"", {}),
            ):
                reply = await ask(method, path, body, {**KEY, **more})
                assert problem(reply) == (422, "idempotency-key-reused"), (method, path)
            assert (await ask("GET", "/v1/kv/demo/k")).body == b"one"
            assert (await ask("PUT", "/v1/kv/demo/other", b"two", KEY)).status == 204, "another resource"

    run(work())


def test_a_second_while_the_first_is_under_way_is_a_409() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/warm", b"")
            ask.node.silent = True
            before = len(ask.node.requests)
            first = asyncio.ensure_future(ask("PUT", "/v1/kv/demo/k?timeout_ms=60000", b"one", KEY))
            await until(lambda: len(ask.node.requests) > before)
            assert isinstance(ask.node.requests[-1], ConditionalRequest)
            second = await ask("PUT", "/v1/kv/demo/k?timeout_ms=60000", b"one", KEY)
            assert problem(second) == (409, "idempotency-key-in-use")
            assert second.headers["retry-after"] == "1"
            first.cancel()

    run(work())


@pytest.mark.parametrize("value", ['""', "", '"a', 'a b"', "a, b", '"' + "x" * 129 + '"', '"a"; p=1'])
def test_what_is_no_key(value: str) -> None:
    async def work() -> None:
        async with door() as ask:
            reply = await ask("PUT", "/v1/kv/demo/k", b"one", {"Idempotency-Key": value})
            assert problem(reply) == (400, "bad-idempotency-key")

    run(work())


def test_a_bare_key_and_a_quoted_one_are_the_same() -> None:
    async def work() -> None:
        async with door() as ask:
            first = await ask("PUT", "/v1/kv/demo/k", b"one", {"Idempotency-Key": "abc-1"})
            again = await ask("PUT", "/v1/kv/demo/k", b"one", {"Idempotency-Key": '"abc-1"'})
            assert again.headers["etag"] == first.headers["etag"]

    run(work())


def test_bulk_lines_are_done_once_each() -> None:
    async def work() -> None:
        async with door() as ask:
            body = b'{"op":"put","key":"a","value":"1"}\n{"op":"put","key":"b","value":"2"}\n'
            first = await ask("POST", "/v1/kv/demo/_bulk", body, KEY)
            assert first.status == 200
            await ask("PUT", "/v1/kv/demo/a", b"changed")
            again = await ask("POST", "/v1/kv/demo/_bulk", body, KEY)
            assert again.body == first.body
            assert (await ask("GET", "/v1/kv/demo/a")).body == b"changed"

    run(work())


def test_fingerprints_tell_parts_apart() -> None:
    told = [
        fingerprint("PUT", "/a", "b", b"c", None),
        fingerprint("PUT", "/ab", "", b"c", None),
        fingerprint("PUT", "/a", "b", b"c", ""),
        fingerprint("PUT", "/a", "b", b"", "c"),
    ]
    assert len(dict.fromkeys(told)) == 4
