"""`GET /v1/kv/{bucket}`: keys as NDJSON (server/rest/ndjson.py).

Every line but the last is a key: {"key", "bytes", "content_type", "etag"}.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import orjson
from aiohttp import web

from core.requests import Answer, Invalid, ReadRequest, RowsRead, ScanRequest
from core.settings import Settings
from kv import operations as kv
from kv.buckets import Bucket
from server.bridge import Bridge
from server.rest.ndjson import SCAN_ROWS_MAX, Lines, started, write
from server.rest.problems import invalid, problem_of
from server.rest.targets import Options

PAGE_ROWS: Final = 200


class Listing:
    """One listing."""

    def __init__(self, bridge: Bridge, bucket: Bucket, wanted: Options, settings: Settings) -> None:
        self._bridge = bridge
        self._bucket = bucket
        self._wanted = wanted
        self._timeout_us = wanted.read_timeout_us(settings)

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Stream it."""
        first = self._request(self._wanted.after)
        response = started()
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        lines = Lines(_line, lambda item: kv.cursor(self._bucket, item.key))
        async with aclosing(self._keys(first)) as pages:
            await write(request, response, pages, lines, self._wanted)
        return response

    def _request(self, after: str) -> ScanRequest | ReadRequest:
        wanted = self._wanted
        rows_max = min(PAGE_ROWS, wanted.limit) if self._bucket.ordered else SCAN_ROWS_MAX
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


def _line(item: kv.Listed) -> bytes:
    line = {
        "key": item.key,
        "bytes": item.bytes,
        "content_type": item.content_type,
        "etag": kv.etag(item.version),
    }
    return orjson.dumps(line) + b"\n"
