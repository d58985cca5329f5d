"""`GET /v1/docs/{collection}`: documents as NDJSON, streamed no faster than they are taken.

Every line but the last is a document: {"id", "etag", "document"} (without `document` if documents=false).
The last is {"cursor": ...}: null if that was all, else what to give as `after` to go on. A listing that
breaks off ends with a problem that has a cursor, too; one without such an end was cut.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import orjson
from aiohttp import web

from core.requests import Answer, Invalid, RowsRead
from core.settings import Settings
from documents import operations
from documents.collections import Collection
from documents.values import Document
from server.bridge import Bridge
from server.rest.listing import FLUSH_BYTES, NDJSON
from server.rest.problems import ProblemError, invalid, problem_of
from server.rest.targets import Options

SCAN_ROWS_MAX: Final = 2**62


class DocumentsListing:
    """One listing."""

    def __init__(self, bridge: Bridge, collection: Collection, wanted: Options, settings: Settings) -> None:
        self._bridge = bridge
        self._collection = collection
        self._wanted = wanted
        self._timeout_us = wanted.read_timeout_us(settings)

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Stream it; what goes wrong before the first document is an ordinary problem."""
        asked = operations.listing(self._collection, self._wanted.after, SCAN_ROWS_MAX, self._wanted.level)
        if isinstance(asked, Invalid):
            raise invalid(asked)
        response = web.StreamResponse(headers={"Server": "sullae", "Content-Type": NDJSON})
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        async with aclosing(self._bridge.stream(asked, self._timeout_us)) as parts:
            await self._write(request, response, parts)
        return response

    async def _write(
        self, request: web.BaseRequest, response: web.StreamResponse, parts: AsyncIterator[Answer]
    ) -> None:
        left, last_id, buffer = self._wanted.limit, "", bytearray()
        end: dict[str, Any] = {"cursor": None}
        try:
            async for part in parts:
                if not isinstance(part, RowsRead):
                    raise problem_of(part)
                page = operations.listed(self._collection, part)
                for document in page[:left]:
                    buffer += self._line(document)
                    last_id = document.id
                cut = len(page) > left
                left -= min(left, len(page))
                if len(buffer) >= FLUSH_BYTES:
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(bytes(buffer))
                    buffer.clear()
                if cut or left == 0:
                    end = {"cursor": operations.cursor(self._collection, last_id)}
                    break
        except ProblemError as error:
            if not response.prepared and not buffer:
                raise
            at = operations.cursor(self._collection, last_id) if last_id else self._wanted.after or None
            end = {**error.body(), "cursor": at}
        if not response.prepared:
            await response.prepare(request)
        buffer += orjson.dumps(end) + b"\n"
        await response.write_eof(bytes(buffer))

    def _line(self, document: Document) -> bytes:
        line: dict[str, Any] = {"id": document.id, "etag": document.tag}
        if self._wanted.documents:
            line["document"] = orjson.Fragment(one_line(document.text))
        return orjson.dumps(line) + b"\n"


def one_line(text: bytes) -> bytes:
    """JSON text without line breaks, which can only stand between its parts."""
    return text.translate(None, b"\r\n") if b"\n" in text or b"\r" in text else text
