"""aiohttp's low-level server, with our answer to what is no HTTP: a problem, a log line, the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from server.rest.problems import ProblemError


class _Connection(RequestHandler):
    """One client's connection."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Called by aiohttp for bytes that are no request, and for what a handler raised."""
        if status != 400 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        text = " ".join((message or str(exc)).split())[:300]
        server = self._manager
        assert isinstance(server, HttpServer)
        server.malformed(f"{request.remote}: {text}; connection closed")
        response = ProblemError("bad-request", text).response()
        response.force_close()
        return response


class HttpServer(web.Server):
    """Makes a `_Connection` for each client; `malformed` is called with a line for the log."""

    def __init__(self, handler: Any, malformed: Callable[[str], None], **options: Any) -> None:
        super().__init__(handler, **options)
        self.malformed = malformed

    def __call__(self) -> RequestHandler:
        """The protocol of a new connection."""
        return _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)
