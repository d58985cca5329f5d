"""`GET /v1/kv/{bucket}`: keys as NDJSON, streamed as they are read and no faster than they are taken.

Every line but the last is a key: {"key", "bytes", "content_type", "etag"}. The last is {"cursor": ...}: null
if that was all, else what to give as `after` to go on. A listing that breaks off ends with a problem that has
a cursor, too; one without such an end was cut.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import orjson
from aiohttp import web

from core.requests import Answer, Invalid, ReadRequest, RowsRead, ScanRequest
from core.settings import Settings
from kv import operations as kv
from kv.buckets import Bucket
from server.bridge import Bridge
from server.rest.problems import ProblemError, invalid, problem_of
from server.rest.targets import Options

NDJSON: Final = "application/x-ndjson"
PAGE_ROWS: Final = 200
SCAN_ROWS_MAX: Final = 2**62
FLUSH_BYTES: Final = 64 * 1024


class Listing:
    """One listing."""

    def __init__(self, bridge: Bridge, bucket: Bucket, wanted: Options, settings: Settings) -> None:
        self._bridge = bridge
        self._bucket = bucket
        self._wanted = wanted
        self._timeout_us = wanted.read_timeout_us(settings)

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Stream it; what goes wrong before the first key is an ordinary problem."""
        first = self._request(self._wanted.after)
        response = web.StreamResponse(headers={"Server": "sullae", "Content-Type": NDJSON})
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        async with aclosing(self._keys(first)) as pages:
            await self._write(request, response, pages)
        return response

    async def _write(
        self, request: web.BaseRequest, response: web.StreamResponse, pages: AsyncIterator[list[kv.Listed]]
    ) -> None:
        left, last_key, buffer = self._wanted.limit, "", bytearray()
        end: dict[str, Any] = {"cursor": None}
        try:
            async for page in pages:
                for item in page[:left]:
                    buffer += orjson.dumps(_line(item)) + b"\n"
                    last_key = item.key
                cut = len(page) > left
                left -= min(left, len(page))
                if len(buffer) >= FLUSH_BYTES:
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(bytes(buffer))
                    buffer.clear()
                if cut or left == 0:
                    end = {"cursor": kv.cursor(self._bucket, last_key)}
                    break
        except ProblemError as error:
            if not response.prepared and not buffer:
                raise
            at = kv.cursor(self._bucket, last_key) if last_key else self._wanted.after or None
            end = {**error.body(), "cursor": at}
        if not response.prepared:
            await response.prepare(request)
        buffer += orjson.dumps(end) + b"\n"
        await response.write_eof(bytes(buffer))

    def _request(self, after: str) -> ScanRequest | ReadRequest:
        rows_max = PAGE_ROWS if self._bucket.ordered else SCAN_ROWS_MAX
        wanted = self._wanted
        request = kv.listing(self._bucket, wanted.prefix, after, rows_max, wanted.level)
        if isinstance(request, Invalid):
            raise invalid(request)
        return request

    async def _keys(self, first: ScanRequest | ReadRequest) -> AsyncGenerator[list[kv.Listed], None]:
        """The keys, a page at a time."""
        if isinstance(first, ScanRequest):
            async with aclosing(self._bridge.stream(first, self._timeout_us)) as parts:
                async for answer in parts:
                    yield kv.listed(self._bucket, _rows(answer), self._wanted.prefix)
            return
        request: ScanRequest | ReadRequest = first
        while True:
            rows = _rows(await self._bridge.ask(request, self._timeout_us))
            yield kv.listed(self._bucket, rows, self._wanted.prefix)
            if not rows.more or not rows.rows:
                return
            request = self._request(kv.cursor(self._bucket, kv.key_of(self._bucket, rows.rows[-1].key)))


def _rows(answer: Answer) -> RowsRead:
    if isinstance(answer, RowsRead):
        return answer
    raise problem_of(answer)


def _line(item: kv.Listed) -> dict[str, Any]:
    return {
        "key": item.key,
        "bytes": item.bytes,
        "content_type": item.content_type,
        "etag": kv.etag(item.version),
    }
