"""aiohttp's low-level server, with our answer to what is no HTTP: a problem, a log line, the end.

And with a short way past it (server/rest/quick.py) for what is certainly one whole plain request. The two
take turns on a connection, one request at a time: what arrives while one is in work here waits, unread. Once
aiohttp was given anything of which it is not certain where it ends, the connection stays with aiohttp.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from server.client_tls import ClientTls, Secured
from server.rest.problems import ProblemError
from server.rest.quick import Quick, Verdict, split

_OTHER_METHOD: Final = re.compile(r"nvalid method[^\n]*\n+\s*b['\"][A-Za-z-]{1,32} [/*h]")
"""What the parser says of a request whose method it does not know; other bytes are no request."""
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_ENDLESS: Final = re.compile(rb"0*[1-9a-fA-F][0-9a-fA-F]{10,}[;\r]")
"""A chunk of a tebibyte or more: nobody means to send one, and no body may have one."""
_BEYOND: Final = b"F" * 17 + b"\r\n"
"""What the parser itself refuses as too large for a chunk."""


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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there; of too many, until the oldest idle ones are let go, this one is not taken."""
        super().connection_made(transport)
        if len(self._manager_of().connections) > self._manager_of().connections_max:
            assert self.transport is not None
            self.transport.abort()

    # --- the short way

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of several, or of none."""
        if self._long_way or not data:  # aiohttp calls this itself, with nothing, to parse what it holds
            self._parse(data)
        elif self._asked is not None or self._paused:
            self._behind += data
            assert self.transport is not None
            self.transport.pause_reading()
        elif not self._is_idle():
            self._long_way = split(data) is None
            self._parse(data)
        else:
            self._take(data)

    def _parse(self, data: bytes) -> None:
        """Have aiohttp do it, and end a body in which the parser lost its way."""
        at = self._endless_at(data)
        super().data_received(data if at is None else data[:at] + _BEYOND)
        wrong = getattr(self._messages[-1][0], "exc", None) if self._messages else None
        if wrong is None:
            return
        before = self._messages[-2][1] if len(self._messages) > 1 else None
        if before is None and self._current_request is not None:
            before = self._current_request.content
        if before is not None and not before.is_eof():  # this body would never end
            before.set_exception(self._told(wrong, wrong.message), wrong)
            before.feed_eof()

    def _endless_at(self, data: bytes) -> int | None:
        """Where in `data` the first chunk of a body begins, if it says that it does not end."""
        request, at = self._current_request, 0
        if request is None:
            end = data.find(b"\r\n\r\n")
            if end < 0 or _CHUNKED.search(data, 0, end + 2) is None:
                return None
            at = end + 4
        elif request.content.total_bytes or request.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return None
        return None if _ENDLESS.match(data, at) is None else at

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
        self._parse(data)

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
        """The request in work is for aiohttp after all: in a later tick, up to which it stays in work."""
        self._loop.call_soon(self._give, request)

    def _give(self, request: bytes) -> None:
        if self._asked is None:  # the client is gone
            return
        self._asked = None
        self._manager_of().ended(self)
        self._parse(request)
        if self._closes:
            super().close()
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
        response = self._told(exc, message or str(exc)).response()
        response.force_close()
        return response

    def _told(self, wrong: BaseException | None, message: str) -> ProblemError:
        """The problem of bytes that are no HTTP; the log hears of it, with some of the bytes."""
        server, peer = self._manager_of(), None
        if self.transport is not None:
            peer = self.transport.get_extra_info("peername")
        text = " ".join(message.split())[:300]
        server.malformed(f"{peer[0] if peer else 'a client'}: {text}; connection closed")
        return problem_of_bytes(wrong, message, server.target_bytes_max)


def problem_of_bytes(wrong: BaseException | None, message: str, target_bytes_max: int) -> ProblemError:
    """What to tell the sender of bytes that the parser refused, in words without those bytes."""
    if isinstance(wrong, LineTooLong):
        limit = wrong.args[1]
        if limit == target_bytes_max:
            detail = f"the request's target (path and query) has more than {limit} bytes"
            return ProblemError("target-too-long", detail, limit_bytes=limit)
        detail = f"a header has more than {limit} bytes"
        return ProblemError("headers-too-large", detail, limit_bytes=limit)
    if message.startswith("Too many headers"):
        return ProblemError("headers-too-large", "the request has too many headers")
    if _OTHER_METHOD.search(message):
        return ProblemError("unknown-method", "there are: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
    words = message.replace("Bad status line:", "").partition(":\n")[0].partition(": b'")[0]
    text = " ".join(words.split())[:200]
    return ProblemError("bad-request", f"this is no HTTP request: {text[:1].lower()}{text[1:]}")


class HttpServer(web.Server):
    """Makes a `_Connection` for each client; `malformed` is called with a line for the log.

    `began` and `ended` are called around each request that goes the short way; beyond `connections_max` no
    further connection is taken.
    """

    def __init__(
        self,
        handler: Any,
        malformed: Callable[[str], None],
        *,
        quick: Quick,
        tls: ClientTls | None = None,
        connections_max: int,
        began: Callable[[object], None],
        ended: Callable[[object], None],
        **options: Any,
    ) -> None:
        super().__init__(handler, **options)
        self.malformed = malformed
        self.target_bytes_max: int = options["max_line_size"]
        self.quick = quick
        self.tls = tls
        self.connections_max = connections_max
        self.began = began
        self.ended = ended

    def __call__(self) -> RequestHandler | Secured:  # type: ignore[override]
        """The protocol of a new connection."""
        connection = _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)
        return connection if self.tls is None else self.tls(connection)
