"""The header `Sullae-Session`: read your own writes, through whichever peer (core/session.py says how).

A request with the header waits until this peer knows all epochs that its session has seen, and is done at a
level that the session needs; the answer has the header again, for the session's next request. `new` begins
a session. Who does several things at once names the tokens of all answers, with commas between them. An
answer to what changed the schema has the header unasked: it makes the change visible at the next peer, and
nothing else.

What a session makes of a request's own requests to the node goes in a context variable from here to the
bridge: between them lie all routes, which need not know. The answer's header is written when its head is
(`Request`), so that streams have it too; what a stream does to the schema after its head is out is not in it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage

from core.requests import MetadataRequest, Request as NodeRequest
from core.session import Token, decode_tokens, encode_token
from server.bridge import PREPARE
from server.rest.problems import ProblemError

if TYPE_CHECKING:
    from node.node import Node

HEADER: Final = "Sullae-Session"
REACH_US: Final = 3_000_000
"""So long a request waits for a schema change that its session has seen elsewhere."""

_DEFINITIONS: Final = ("/v1/buckets/", "/v1/collections/")
"""Who is told here that something is so already wants it to be so elsewhere, too."""


_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)


class Session:
    """The session of one request."""

    def __init__(self, node: Node, token: Token | None, *, is_about_schema: bool) -> None:
        """`token` None: the request named no session."""
        self._node = node
        self._token = token
        self._changes_schema = is_about_schema

    def prepared(self, request: NodeRequest) -> NodeRequest:
        """What to ask of the node instead."""
        if isinstance(request, MetadataRequest):
            self._changes_schema = True
        if self._token is None:
            return request
        request, self._token = self._node.sessions.prepared(request, self._token)
        return request

    def header(self) -> str | None:
        """The answer's header, if it is to have one."""
        token = self._token
        if token is None or not token.full:
            if not self._changes_schema:
                return None
            token = Token(full=False)
        return encode_token(token.seen(self._node.metadata.state.epoch))


class Request(web.BaseRequest):
    """A request whose answer carries its session."""

    session: Session | None = None
    is_held_up: bool = False
    """Whether it is us who do not go on: what it waits for is the node."""
    authority: str | None = None
    """Whom the target names, if it is in absolute form; it counts instead of `Host` (RFC 9112, 3.2.2)."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers["X-Content-Type-Options"] = "nosniff"
        header = None if self.session is None else self.session.header()
        if header is not None:
            response.headers[HEADER] = header


def request_factory(
    message: RawRequestMessage, payload: object, protocol: object, writer: object, task: asyncio.Task[None]
) -> web.BaseRequest:
    """As aiohttp's own, of our class."""
    loop = asyncio.get_running_loop()
    authority = None
    absolute = _ABSOLUTE.match(message.path)
    if absolute is not None:
        authority, target = absolute[1], message.path[absolute.end() :]
        message = message._replace(path=target if target[:1] == "/" else "/" + target)
    found = Request(message, payload, protocol, writer, task, loop)  # type: ignore[arg-type]
    found.authority = authority
    return found


@asynccontextmanager
async def session_of(request: web.BaseRequest, node: Node) -> AsyncIterator[None]:
    """While this is open the request is done in its session; raises ProblemError, also if this peer lacks
    what the session has seen.
    """
    text = request.headers.get(HEADER)
    token = None if text is None else decode_tokens(text)
    if text is not None and token is None:
        raise ProblemError("bad-session", f"{HEADER} is `new`, or what an earlier answer had in this header")
    if token is not None and token.epoch > node.metadata.state.epoch:
        ready, why = node.ready()
        if not ready:
            raise ProblemError("not-ready", why)
        await _reach(node, token.epoch)
    is_about_schema = request.method == "PUT" and request.path.startswith(_DEFINITIONS)
    session = Session(node, token, is_about_schema=is_about_schema)
    if isinstance(request, Request):
        request.session = session
    before = PREPARE.set(session.prepared)
    try:
        yield
    finally:
        PREPARE.reset(before)


async def _reach(node: Node, epoch: int) -> None:
    reached: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def then(is_there: bool) -> None:
        if not reached.done():
            reached.set_result(is_there)

    node.sessions.reach(epoch, time.monotonic_ns() // 1000 + REACH_US, then)
    if not await reached:
        detail = (
            "this session has seen a schema change that this peer has not heard of yet, nor has anybody whom "
            "it reaches: try again, or another peer"
        )
        raise ProblemError("not-ready", detail)
