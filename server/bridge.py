"""Between coroutines and the node: a request in, a future or a stream of parts out.

A door awaits `ask` for one answer, or iterates over `stream`, whose parts come only as fast as they are
taken; or it is called back (`call`; `collect` in a later tick), which costs no future and no task per
request. One that is cancelled (the client is gone) tells the node.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from core.finding import FindRequest
from core.gathering import GatherRequest
from core.requests import Answer, Broken, ReadRequest, Request, ScanRequest
from core.searching import ExpandRequest, SearchRequest
from cql_lite.running import merged

if TYPE_CHECKING:
    from core.ports import NodePort

PARTS_AHEAD = 2
"""Parts of a streamed answer that may wait for who reads them."""
PARTS_OF_CALL_MAX = 1_000_000
"""Parts that `collect` takes: all that a request asks for, as its rows are bounded."""

READS: Final = (ReadRequest, ScanRequest, FindRequest, GatherRequest, SearchRequest, ExpandRequest)
"""What changes nothing."""

_BUG: Final = "a bug of this peer: its log says more"
_NOT_READ: Final = Broken(0, 1, 1, _BUG, write=False, unknown=False)
_UNKNOWN: Final = Broken(0, 1, 1, _BUG, write=True, unknown=True)

Callback = Callable[[Answer], None]

Prepare = Callable[[Request], Request] | None
PREPARE: Final[ContextVar[Prepare]] = ContextVar("prepare", default=None)
"""What a door makes of all requests to the node that belong to one of its own (server/rest/sessions.py)."""


class Bridge:
    """Gives requests their ids, and their answers to whoever waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop, node: NodePort) -> None:
        """`on_reply` must be what the node's World calls."""
        self._loop = loop
        self._node = node
        self.on_bug: Callable[[Request, Exception], None] | None = None
        """Told of an exception of the node where a request begins; without it is raised."""
        self._next_id = 0
        self._futures: dict[int, asyncio.Future[Answer]] = {}
        self._streams: dict[int, asyncio.Queue[tuple[Answer, bool]]] = {}
        self._calls: dict[int, Callable[[Answer], None]] = {}
        self._collects: dict[int, tuple[Callback, list[Answer], Prepare]] = {}
        self._ones: dict[int, Callback] = {}
        self._answered: list[tuple[Callback, Answer, Prepare]] = []

    @property
    def waiting(self) -> int:
        """Requests without their last answer."""
        return (
            len(self._futures) + len(self._streams) + len(self._calls) + len(self._collects) + len(self._ones)
        )

    def on_reply(self, request_id: int, answer: Answer, last: bool) -> None:
        """What the node has to say; for one who is gone, nothing."""
        one = self._ones.pop(request_id, None)
        if one is not None:
            if not self._answered:
                self._loop.call_soon(self._call_back)
            self._answered.append((one, answer, None))
            return
        collected = self._collects.get(request_id)
        if collected is not None:
            collected[1].append(answer)
            if last:
                del self._collects[request_id]
                if not self._answered:
                    self._loop.call_soon(self._call_back)
                self._answered.append((collected[0], merged(collected[1]), collected[2]))
            return
        call = self._calls.pop(request_id, None)
        if call is not None:
            call(answer)
            return
        future = self._futures.pop(request_id, None)
        if future is not None:
            if not future.done():
                future.set_result(answer)
            return
        stream = self._streams.get(request_id)
        if stream is not None:
            stream.put_nowait((answer, last))

    def collect(self, request: Request, timeout_us: int, then: Callback) -> int:
        """Ask, and have `then` called with the answer in a later tick; parts are put together. Gives the
        number.
        """
        self._next_id = request_id = self._next_id + 1
        self._collects[request_id] = (then, [], PREPARE.get())
        self._request(request_id, request, timeout_us)
        if isinstance(request, ScanRequest):
            self._node.on_want(request_id, PARTS_OF_CALL_MAX)
        return request_id

    def collect_one(self, request: Request, timeout_us: int, then: Callback) -> None:
        """As `collect`, for a request that has one answer in one part."""
        self._next_id = request_id = self._next_id + 1
        self._ones[request_id] = then
        self._request(request_id, request, timeout_us)

    def drop(self, request_id: int) -> None:
        """Nobody waits any more for what is collected under this number."""
        if self._collects.pop(request_id, None) is not None:
            self._node.on_cancel(request_id)

    def _call_back(self) -> None:
        answered, self._answered = self._answered, []
        for callback, answer, prepare in answered:
            PREPARE.set(prepare)  # this tick serves many
            callback(answer)

    def begin(self, request: Request, timeout_us: int) -> asyncio.Future[Answer]:
        """Ask, and have a future of the answer. Cancelling it tells the node that nobody waits any more."""
        self._next_id = request_id = self._next_id + 1
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._futures[request_id] = future
        self._request(request_id, request, timeout_us)
        if not future.done():
            future.add_done_callback(lambda done: self._abandoned(request_id, done))
        return future

    def call(self, request: Request, timeout_us: int, then: Callable[[Answer], None]) -> int:
        """Ask, and have `then` called with the one answer, perhaps before this returns; gives the number."""
        self._next_id = request_id = self._next_id + 1
        self._calls[request_id] = then
        self._request(request_id, request, timeout_us)
        return request_id

    def forget(self, request_id: int) -> None:
        """Nobody waits any more for the answer of this `call`."""
        if self._calls.pop(request_id, None) is not None:
            self._node.on_cancel(request_id)

    def _abandoned(self, request_id: int, future: asyncio.Future[Answer]) -> None:
        if future.cancelled() and self._futures.pop(request_id, None) is not None:
            self._node.on_cancel(request_id)

    def _request(self, request_id: int, request: Request, timeout_us: int) -> None:
        """Call the node; an exception of it is a bug that ends this request.

        And not the peer: whoever asks again, of one peer after the other, would else end them all. What else
        than a read was begun may be half done, and is told to be unknown.
        """
        prepare = PREPARE.get()
        if prepare is not None:
            request = prepare(request)
        try:
            self._node.on_request(request_id, request, time.monotonic_ns() // 1000 + timeout_us)
        except Exception as error:
            if self.on_bug is None:
                raise
            self.on_bug(request, error)
            self._node.on_cancel(request_id)
            self.on_reply(request_id, _NOT_READ if isinstance(request, READS) else _UNKNOWN, True)

    async def ask(self, request: Request, timeout_us: int) -> Answer:
        """The answer to a request that has one part."""
        return await self.begin(request, timeout_us)

    async def stream(self, request: Request, timeout_us: int) -> AsyncGenerator[Answer, None]:
        """The parts of a streamed answer; the node reads on only as they are taken."""
        self._next_id = request_id = self._next_id + 1
        parts: asyncio.Queue[tuple[Answer, bool]] = asyncio.Queue()  # bounded by credit
        self._streams[request_id] = parts
        self._request(request_id, request, timeout_us)
        last = False
        try:
            self._node.on_want(request_id, PARTS_AHEAD)
            while not last:
                answer, last = await parts.get()
                yield answer
                self._node.on_want(request_id, 1)
        finally:
            del self._streams[request_id]
            if not last:
                self._node.on_cancel(request_id)
