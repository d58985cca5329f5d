"""`POST /v1/kv/{bucket}/_bulk`: many operations on one connection, one outcome per line, in the same order.

    {"op": "put", "key": "k", "value": "text"}            as text/plain; charset=utf-8
    {"op": "put", "key": "k", "json": {"any": ["JSON"]}}  as application/json, kept as it was written
    {"op": "put", "key": "k", "base64": "3q2+7w=="}       as application/octet-stream
    {"op": "get", "key": "k"}                             answers `value`, or `base64` where it is no UTF-8
    {"op": "delete", "key": "k"}

A put may have `ttl` (seconds) and a `content_type` of its own. An outcome is {"key", "status", ...} with the
status that the single request would have had, and the members of a problem where it is one. Lines are read as
fast as outcomes are: at most `LINES_AHEAD` lines and `BYTES_AHEAD` bytes are in work at once, so a load of
any size needs constant memory. Operations on different keys run side by side; one on a key that is in work
waits until that is done.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import Counter, deque
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from core.requests import Answer, Invalid, OperationId, ReadRequest, RowsRead, WriteRequest, Written
from core.settings import Settings
from kv import operations as kv
from kv.buckets import Bucket
from query.once import Once
from server.bridge import Bridge
from server.rest.buckets import Buckets
from server.rest.idempotency import fingerprint, key_of
from server.rest.ndjson import FLUSH_BYTES, NDJSON
from server.rest.problems import ProblemError, invalid, problem_of
from server.rest.targets import Options

LINES_AHEAD: Final = 128
BYTES_AHEAD: Final = 32 * 1024 * 1024
LINE_OVERHEAD: Final = 512 * 1024
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One operation."""

    op: str
    key: str
    value: str | None = None
    json: msgspec.Raw = msgspec.Raw(b"")
    base64: str | None = None
    content_type: str | None = None
    ttl: int | None = None


_decoder = msgspec.json.Decoder(Line)


class _InWork(msgspec.Struct):
    """A line whose outcome is awaited: a future of the node's answer, or the problem that it has."""

    key: str | None
    bytes: int
    future: asyncio.Future[Answer] | None = None
    bucket: Bucket | None = None
    problem: ProblemError | None = None
    operation: OperationId | None = None
    once: Once | None = None


class Bulk:
    """One bulk request."""

    def __init__(
        self, bridge: Bridge, buckets: Buckets, bucket_name: str, wanted: Options, settings: Settings
    ) -> None:
        self._bridge = bridge
        self._buckets = buckets
        self._bucket_name = bucket_name
        self._wanted = wanted
        self._settings = settings
        self._key: bytes | None = None
        self._lines_begun = 0
        self._line_bytes_max = settings.value_bytes_max * 4 // 3 + LINE_OVERHEAD
        self._in_work: deque[_InWork] = deque()
        self._keys: Counter[str] = Counter()
        self._bytes = 0
        self._out = bytearray()

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Read lines, write outcomes."""
        if request.headers.get("Expect") is not None and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._key = key_of(request)
        response = web.StreamResponse(headers={"Server": "sullae", "Content-Type": NDJSON})
        await response.prepare(request)
        try:
            async for line in self._lines(request):
                if not line.strip():
                    continue
                while len(self._in_work) >= LINES_AHEAD or (
                    self._in_work and self._bytes + len(line) > BYTES_AHEAD
                ):
                    await self._finish_first(response)
                await self._begin(line, response)
            while self._in_work:
                await self._finish_first(response)
        except ProblemError as error:  # not a line: nothing after it can be understood
            while self._in_work:
                await self._finish_first(response)
            self._out += orjson.dumps({"key": None, **error.body()}) + b"\n"
        finally:
            for item in self._in_work:
                if item.future is not None:
                    item.future.cancel()
        await response.write_eof(bytes(self._out))
        return response

    async def _lines(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        held = bytearray()
        async for part in request.content.iter_any():
            if b"\n" not in part:
                held += part
                if len(held) > self._line_bytes_max:
                    raise self._too_long()
                continue
            lines = part.split(b"\n")
            if held:
                lines[0] = bytes(held) + lines[0]
            held = bytearray(lines.pop())
            for line in lines:
                if len(line) > self._line_bytes_max:
                    raise self._too_long()
                yield line
        if held:
            yield bytes(held)

    def _too_long(self) -> ProblemError:
        limit = self._line_bytes_max
        return ProblemError("body-too-large", f"a line has at most {limit} bytes", limit_bytes=limit)

    async def _begin(self, data: bytes, response: web.StreamResponse) -> None:
        item = _InWork(None, len(data))
        self._lines_begun += 1
        if self._key is not None:
            told = fingerprint("POST", self._bucket_name, "", data)
            line_key = self._key + b"/%d" % self._lines_begun
            item.operation = OperationId(line_key, told, self._settings.operation_ids_us)
        try:
            line = _decoder.decode(data)
            item.key = line.key
            while self._keys[line.key]:
                await self._finish_first(response)
            await self._send(line, item)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            item.problem = ProblemError("bad-body", f"this line is no operation: {error}")
        except ProblemError as error:
            item.problem = error
        self._in_work.append(item)
        self._bytes += item.bytes
        if item.key is not None:
            self._keys[item.key] += 1

    async def _send(self, line: Line, item: _InWork) -> None:
        if line.op == "put":
            item.bucket = self._buckets.find(self._bucket_name) or await self._buckets.used(self._bucket_name)
        else:
            item.bucket = self._buckets.known(self._bucket_name)
        request = self._request(line, item.bucket)
        if isinstance(request, Invalid):
            raise invalid(request)
        wanted, settings = self._wanted, self._settings
        is_read = isinstance(request, ReadRequest)
        timeout_us = wanted.read_timeout_us(settings) if is_read else wanted.write_timeout_us(settings)
        if item.operation is not None and isinstance(request, WriteRequest):
            item.once = Once(request, item.operation)
        item.future = self._bridge.begin(request if item.once is None else item.once.request, timeout_us)

    def _request(self, line: Line, bucket: Bucket) -> WriteRequest | ReadRequest | Invalid:
        level = self._wanted.level
        given = (line.value is not None) + (line.base64 is not None) + bool(bytes(line.json))
        if line.op == "put":
            if given != 1:
                raise ProblemError("bad-body", "a put has exactly one of value, json and base64")
            value, content_type = _value(line)
            if len(value) > self._settings.value_bytes_max:
                limit = self._settings.value_bytes_max
                raise ProblemError("value-too-large", f"at most {limit} bytes are taken", limit_bytes=limit)
            ttl_s = self._wanted.ttl_s if line.ttl is None else line.ttl
            return kv.put(bucket, line.key, value, line.content_type or content_type, level, ttl_s=ttl_s)
        if given or line.content_type is not None or line.ttl is not None:
            raise ProblemError("bad-body", f"a {line.op[:20]} has op and key, nothing else")
        if line.op == "get":
            return kv.get(bucket, line.key, level)
        if line.op == "delete":
            return kv.delete(bucket, line.key, level)
        raise ProblemError("bad-body", f"op is put, get or delete; found {line.op[:60]!r}")

    async def _finish_first(self, response: web.StreamResponse) -> None:
        """Await the oldest line's outcome and write it, many at a time."""
        item = self._in_work[0]
        if item.future is not None and not item.future.done() and self._out:
            await self._flush(response)
        outcome = await _outcome(item)
        self._in_work.popleft()
        self._bytes -= item.bytes
        if item.key is not None:
            self._keys[item.key] -= 1
            if not self._keys[item.key]:
                del self._keys[item.key]
        self._out += orjson.dumps(outcome) + b"\n"
        if len(self._out) >= FLUSH_BYTES:
            await self._flush(response)

    async def _flush(self, response: web.StreamResponse) -> None:
        data = bytes(self._out)
        self._out.clear()
        await response.write(data)


def _value(line: Line) -> tuple[bytes, str]:
    if line.value is not None:
        try:
            return line.value.encode(), TEXT
        except UnicodeEncodeError:
            raise ProblemError("bad-body", "the value holds half of a surrogate pair") from None
    if line.base64 is not None:
        try:
            return base64.b64decode(line.base64, validate=True), kv.OCTETS
        except (binascii.Error, ValueError) as error:
            raise ProblemError("bad-body", f"the base64 cannot be decoded: {error}") from None
    return bytes(line.json), JSON


async def _outcome(item: _InWork) -> dict[str, Any]:
    """What to say of a line."""
    if item.problem is not None:
        return {"key": item.key, **item.problem.body()}
    assert item.future is not None and item.bucket is not None
    answer = await item.future
    if item.once is not None:
        answer = item.once.answer(answer)
    if isinstance(answer, Written):
        return {"key": item.key, "status": 204, "etag": kv.etag(answer.version)}
    if not isinstance(answer, RowsRead):
        return {"key": item.key, **problem_of(answer).body()}
    value = kv.value_of(item.bucket, answer)
    if value is None:
        return {"key": item.key, **ProblemError("no-such-key", "the bucket holds nothing there").body()}
    found = {"key": item.key, "status": 200, "etag": value.etag, "content_type": value.content_type}
    try:
        return {**found, "value": value.value.decode()}
    except UnicodeDecodeError:
        return {**found, "base64": base64.b64encode(value.value).decode()}
