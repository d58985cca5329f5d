"""`GET /v1/docs/{collection}`: documents as NDJSON (server/rest/ndjson.py).

Every line but the last is a document: {"id", "etag", "document"} (without `document` if documents=false).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from aiohttp import web

from core.requests import Invalid, RowsRead, ScanRequest
from core.settings import Settings
from documents import operations
from documents.collections import Collection
from documents.values import Document
from server.bridge import Bridge
from server.rest.ndjson import SCAN_ROWS_MAX, Lines, started, write
from server.rest.problems import invalid, problem_of
from server.rest.targets import Options


class DocumentsListing:
    """One listing."""

    def __init__(self, bridge: Bridge, collection: Collection, wanted: Options, settings: Settings) -> None:
        self._bridge = bridge
        self._collection = collection
        self._wanted = wanted
        self._timeout_us = wanted.read_timeout_us(settings)

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Stream it."""
        asked = operations.listing(self._collection, self._wanted.after, SCAN_ROWS_MAX, self._wanted.level)
        if isinstance(asked, Invalid):
            raise invalid(asked)
        response = started()
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        lines = Lines(self._line, lambda document: operations.cursor(self._collection, document.id))
        async with aclosing(self._pages(asked)) as pages:
            await write(request, response, pages, lines, self._wanted)
        return response

    async def _pages(self, asked: ScanRequest) -> AsyncGenerator[list[Document], None]:
        async with aclosing(self._bridge.stream(asked, self._timeout_us)) as parts:
            async for part in parts:
                if not isinstance(part, RowsRead):
                    raise problem_of(part)
                yield operations.listed(self._collection, part)

    def _line(self, document: Document) -> bytes:
        line: dict[str, Any] = {"id": document.id, "etag": document.tag}
        if self._wanted.documents:
            line["document"] = orjson.Fragment(one_line(document.text))
        return orjson.dumps(line) + b"\n"


def one_line(text: bytes) -> bytes:
    """JSON text without line breaks, which can only stand between its parts."""
    return text.translate(None, b"\r\n") if b"\n" in text or b"\r" in text else text
