"""aiohttp's low-level server, with our answer to what is no HTTP: a problem, a log line, the end.

And with a short way past it (server/rest/quick.py) for what is certainly one whole plain request. The two
take turns on a connection, one request at a time: what arrives while one is in work here waits, unread. Once
aiohttp was given anything of which it is not certain where it ends, the connection stays with aiohttp.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from server.rest.problems import ProblemError
from server.rest.quick import Quick, Verdict, split


class _Connection(RequestHandler):
    """One client's connection."""

    __slots__ = ("_asked", "_behind", "_closes", "_long_way", "_quick")

    def __init__(self, manager: HttpServer, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._quick = manager.quick
        self._asked: int | None = None
        self._behind = b""
        self._long_way = False
        self._closes = False

    # --- the short way

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of several, or of none."""
        if self._long_way or not data:  # aiohttp calls this itself, with nothing, to parse what it holds
            super().data_received(data)
        elif self._asked is not None or self._paused:
            self._behind += data
            assert self.transport is not None
            self.transport.pause_reading()
        elif not self._is_idle():
            self._long_way = split(data) is None
            super().data_received(data)
        else:
            self._take(data)

    def _is_idle(self) -> bool:
        """Whether aiohttp has answered all it was given."""
        waiter = self._waiter
        waits = waiter is not None and not waiter.done()
        return (waits or not self._request_count) and not self._messages and not self._close

    def _take(self, data: bytes) -> None:
        self._asked = 0
        self._manager_of().began(self)
        verdict, number = self._quick.begin(self, data)
        if verdict is Verdict.TAKEN:
            if self._asked is not None:
                self._asked = number
                if self._keepalive_handle is not None:  # aiohttp's idea of idleness; the service has its own
                    self._keepalive_handle.cancel()
                    self._keepalive_handle = None
            return
        self._asked = None
        self._manager_of().ended(self)
        self._long_way = verdict is Verdict.OTHER
        super().data_received(data)

    def _manager_of(self) -> HttpServer:
        manager = self._manager
        assert isinstance(manager, HttpServer)
        return manager

    def answered(self, data: bytes) -> None:
        """The request in work has its answer."""
        self._asked = None
        if self.transport is None:
            return
        self._manager_of().ended(self)
        self.transport.write(data)
        if self._closes:
            super().close()
        elif self._behind:
            self._loop.call_soon(self._go_on)

    def declined(self, request: bytes) -> None:
        """The request in work is for aiohttp after all."""
        self._asked = None
        if self.transport is not None:
            self._manager_of().ended(self)
            self._loop.call_soon(self._give, request)

    def _give(self, request: bytes) -> None:
        super().data_received(request)
        if self._behind:
            self._long_way = True
            self._go_on()

    def _go_on(self) -> None:
        """What arrived meanwhile."""
        if self.transport is not None and not (self._paused and not self._long_way):
            data, self._behind = self._behind, b""
            self.transport.resume_reading()
            self.data_received(data)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._behind and self._asked is None:
            self._loop.call_soon(self._go_on)

    def close(self) -> None:
        """Close when what is in work is answered."""
        if self._asked is None:
            super().close()
        else:
            self._closes = True

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        if self._asked is not None:
            self._quick.bridge.forget(self._asked)
            self._asked = None
            self._manager_of().ended(self)
        super().connection_lost(exc)

    # --- aiohttp's

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
    """Makes a `_Connection` for each client; `malformed` is called with a line for the log.

    `began` and `ended` are called around each request that goes the short way.
    """

    def __init__(
        self,
        handler: Any,
        malformed: Callable[[str], None],
        *,
        quick: Quick,
        began: Callable[[object], None],
        ended: Callable[[object], None],
        **options: Any,
    ) -> None:
        super().__init__(handler, **options)
        self.malformed = malformed
        self.quick = quick
        self.began = began
        self.ended = ended

    def __call__(self) -> RequestHandler:
        """The protocol of a new connection."""
        return _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)
