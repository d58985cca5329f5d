"""Bytes that no client should send to the REST port: a clear answer or the end of that connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct

import pytest

from tests.fuzzing import INPUTS, SEED
from tests.server.harness import run, until
from tests.server.rest_client import door, head

BULK = b"POST /v1/kv/demo/_bulk HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"

CHUNKED = b"PUT /v1/kv/demo/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%s"
MALFORMED = {
    "a frame of the peers' port": b"SULLAE\x01\x00\x00\x00\x00\x05hello",
    "tls": bytes.fromhex("1603010200010001fc0303") + bytes(64),
    "a version of the future": b"GET / HTTP/9.9\r\n\r\n",
    "raw UTF-8 in the path": "GET /v1/kv/demo/가 HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "two lengths": b"PUT /v1/kv/demo/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
    b"Content-Length: 2\r\n\r\nab",
    "a negative length": b"PUT /v1/kv/demo/k HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a length of words": b"PUT /v1/kv/demo/k HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
    "length and chunks": b"PUT /v1/kv/demo/k HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a header too long": b"GET /v1/health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "too many headers": b"GET /v1/health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "a target too long": b"GET /v1/kv/demo/" + b"x" * 2_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header folded": b"GET /v1/health HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "a space before the colon": b"GET /v1/health HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n",
    "a chunk without end": CHUNKED % b"FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n",
    "a chunk beyond all sizes": CHUNKED % b"FFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n",
    "a chunk of a negative size": CHUNKED % b"-1\r\na\r\n0\r\n\r\n",
    "a chunk longer than it says": CHUNKED % b"1\r\nabc\r\n0\r\n\r\n",
}
STATUS = {"a header too long": 431, "too many headers": 431, "a target too long": 414}


@pytest.mark.parametrize("name", list(MALFORMED))
def test_malformed_bytes_cost_one_connection_and_one_line(name: str) -> None:
    async def work() -> None:
        async with door() as ask:
            assert (await ask("PUT", "/v1/kv/demo/there", b"v")).status == 204
            before = dict(ask.node.rows)
            told = await ask.raw(MALFORMED[name])
            assert told is not None, "the connection is still open"
            assert not told or int(told.split(b" ")[1]) == STATUS.get(name, 400), told
            assert not re.search(rb"bytearray|b\\?'|\^", told.partition(b"\r\n\r\n")[2]), "in words"
            assert len(ask.lines) == 1
            assert ask.node.rows == before
            assert (await ask("GET", "/v1/kv/demo/there")).body == b"v"

    run(work())


@pytest.mark.parametrize("size", [b"FFFFFFFFFFFFFFFF", b"0FFFFFFFFFFFFFFFFFF", b"zz", b"5\r\nhello\r\n-1"])
def test_a_body_that_goes_wrong_after_its_head_is_answered_at_once(size: bytes) -> None:
    async def work() -> None:
        async with door() as ask:
            for target in (b"/v1/kv/demo/k", b"/v1/docs/demo/k", b"/v1/kv/demo/_bulk"):
                method = b"POST" if target.endswith(b"bulk") else b"PUT"
                reader, writer = await ask.open()
                writer.write(CHUNKED.replace(b"PUT /v1/kv/demo/k", method + b" " + target) % b"")
                await until(lambda: bool(ask.service._busy), "the head was read")
                writer.write(size + b"\r\nabc\r\n")
                told = await reader.read()
                writer.close()
                if method == b"PUT":
                    assert told.startswith(b"HTTP/1.1 400 ") and told.count(b"HTTP/1.") == 1, told
                    assert b"chunk size" in told and b"b'" not in told, "in words"
                else:  # its answer was begun: the last line says it
                    assert b'"status":400' in told and told.endswith(b"0\r\n\r\n"), told
                await until(lambda: not ask.service._busy, "no request is left over")
            assert len(ask.lines) == 3
            assert not ask.node.rows

    run(work())


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"op":"put","key":"k","json":' + b"[" * 100_000,
        b'{"op":"put","key":"\\ud800","value":"v"}',
        b'{"op":"put","key":"k","value":"\\ud800"}',
        b'{"op":"put","key":"k","json":NaN}',
        b'{"op":"put","key":"k","json":Infinity}',
        b'{"op":"put","key":"k","value":"v","ttl":1e400}',
        b'{"op":"put","key":"k","value":"v","ttl":' + b"9" * 5_000 + b"}",
        b'{"op":"put","key":' + b"9" * 5_000 + b',"value":"v"}',
        b'{"op":"put","key":"","value":"v"}',
        b'{"op":"put","key":"' + b"k" * 1_000_000 + b'","value":"v"}',
        b'\xef\xbb\xbf{"op":"get","key":"k"}',
        '{"op":"get","key":"k"}'.encode("utf-16"),
        b'{"op":"put","key":"\xc0\xaf","value":"v"}',
        b"{" + b",".join(b'"x%d":1' % n for n in range(10_000)) + b"}",
        b'{"op":"put","key":"k","key":"l","value":"v"}',
        b'{"op":"put","key":"k","k\\u0065y":"l","value":"v"}',
        b'{"op":"put","key":"k","value":null,"value":"v"}',
        b'{"op":"put","key":"k","value":"v","ttl":1,"ttl":2}',
        b'{"op":"put","key":"k","json":1,"json":{"op":1}}',
    ],
)
def test_lines_that_are_no_operation_are_told_so(line: bytes) -> None:
    async def work() -> None:
        async with door() as ask:
            body = line + b'\n{"op":"put","key":"after","value":"v"}\n'
            told = await ask("POST", "/v1/kv/demo/_bulk", body)
            *wrong, last = told.lines()
            assert wrong and all(400 <= outcome["status"] < 500 for outcome in wrong), wrong
            assert (last["key"], last["status"]) == ("after", 204)

    run(work())


def test_values_that_are_json_are_kept_as_they_are_written() -> None:
    async def work() -> None:
        async with door() as ask:
            text = '{"z": 1.10, "z": 123456789012345678901234567890, "a": 1e400}'
            line = b'{"op":"put","key":"k","json":%s}' % text.encode()
            assert (await ask("POST", "/v1/kv/demo/_bulk", line)).lines()[0]["status"] == 204
            assert (await ask("GET", "/v1/kv/demo/k")).body.decode() == text

    run(work())


def test_fuzz_of_the_rest_port() -> None:
    """2,000 requests with bytes flipped, cut, doubled, and noise; some ended by a reset."""
    parts = [
        head("PUT", "/v1/kv/demo/a%2Fb?consistency=one&ttl=5", b"12345", {"Content-Type": "a/b"}) + b"12345",
        head("GET", "/v1/kv/demo/a/b", None, {"If-None-Match": '"x"'}),
        head("GET", "/v1/kv/demo?prefix=a&limit=3", None),
        head("DELETE", "/v1/kv/demo/a%00b", None),
        BULK % (36, b'{"op":"put","key":"one","value":"v"}'),
        head("PUT", "/v1/buckets/x", b'{"ordered":true}') + b'{"ordered":true}',
        head("POST", "/v1/admin/status", b"{}") + b"{}",
        head("PUT", "/v1/kv/demo/c", None, {"Transfer-Encoding": "chunked"}) + b"5\r\nhello\r\n0\r\n\r\n",
    ]

    async def one(dice: random.Random, port: int) -> None:
        data = bytearray(b"".join(dice.choices(parts, k=dice.randrange(1, 4))))
        for _ in range(dice.randrange(5)):
            at = dice.randrange(len(data) or 1)
            match dice.randrange(4):
                case 0 if data:
                    data[at] = dice.randrange(256)
                case 1:
                    del data[at : at + dice.randrange(1, 20)]
                case 2:
                    data[at:at] = dice.randbytes(dice.randrange(1, 20))
                case _:
                    data[at:at] = dice.choice(parts)[: dice.randrange(1, 40)]
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        with contextlib.closing(sock), contextlib.suppress(OSError):
            await loop.sock_connect(sock, ("127.0.0.1", port))
            if dice.random() < 0.3:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await loop.sock_sendall(sock, bytes(data))
            if dice.random() < 0.5:
                async with asyncio.timeout(0.02):
                    with contextlib.suppress(TimeoutError):
                        await loop.sock_recv(sock, 65_536)

    async def guarded(dice: random.Random, port: int) -> None:
        with contextlib.suppress(TimeoutError):
            await one(dice, port)

    async def work() -> None:
        async with door() as ask:
            assert (await ask("PUT", "/v1/kv/demo/there", b"v")).status == 204
            dice = random.Random(SEED)
            for _ in range(INPUTS // 40):
                await asyncio.gather(*(guarded(dice, ask.port) for _ in range(40)))
            assert len(ask.lines) > INPUTS // 10
            assert (await ask("GET", "/v1/kv/demo/there")).body == b"v"
            await until(lambda: not ask.service._busy, "no request is left over")

    run(work(), 60 + INPUTS / 100)
