"""`_bulk` of buckets and of collections: many operations on one connection, one outcome per line, in order.

What a line means is its door's (server/rest/kv_bulk.py, server/rest/documents_bulk.py); here is how lines
are read, done and told. Plain writes that came together go to the node together (core/requests.py
`BulkRequest`). Operations on different names run side by side; one on a name that is in work waits until
that is done.

**A load of any size, on a machine however slow.** Lines are read as fast as they are done and their outcomes
taken: at most `LINES_AHEAD` lines and `BYTES_AHEAD` bytes of a request are in work at once, and of all
requests to a peer together `ROOM_BYTES`, for which they wait in turn. Whoever sends faster is held up by
TCP. A line is given `PATIENCE_US` (or `timeout_ms`), from when it is begun: what the node or a replica has
no time for is tried again meanwhile, plain writes under their ids (node/bulk_writes.py), and what is decided
under an `Idempotency-Key` under that. What is still not known then is told as `outcome-unknown`: the same
line may be sent again if doing it twice does no harm, or under the same key. Outcomes are sent as soon as
there is nothing else to do, so who reads them sees the load go on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Final, Protocol

import msgspec
import orjson
from aiohttp import web

from core.limits import MIB, SECOND_US
from core.requests import (
    Answer,
    Broken,
    BulkAnswered,
    BulkRequest,
    ConditionalRequest,
    OperationId,
    Overloaded,
    ReadRequest,
    Timeout,
    WriteRequest,
    Written,
)
from core.settings import Settings
from query.once import Once
from server.bridge import Bridge
from server.rest.idempotency import fingerprint, key_of
from server.rest.ndjson import FLUSH_BYTES, NDJSON
from server.rest.problems import ProblemError
from server.rest.sessions import Request
from server.rest.targets import Options

LINES_AHEAD: Final = 256
BYTES_AHEAD: Final = 32 * MIB
ROOM_BYTES: Final = 64 * MIB
GROUP_LINES: Final = 128
GROUP_BYTES: Final = MIB
LINE_OVERHEAD: Final = 512 * 1024
PATIENCE_US: Final = 30 * SECOND_US
PAUSE_FIRST_S, PAUSE_MAX_S = 0.02, 1.0
"""Before a request that the node had no room for is tried again; doubled each time."""


class Item(msgspec.Struct):
    """A line in work. `what` is the door's own.

    `answer` is there when it is known; `awaited` is a future of whoever waits for it; `problem` is what the
    line has if it cannot be done at all. `asked` is the number of the request to the node.
    """

    name: str | None = None
    bytes: int = 0
    request: WriteRequest | ReadRequest | ConditionalRequest | None = None
    what: Any = None
    once: Once | None = None
    problem: ProblemError | None = None
    answer: Answer | None = None
    awaited: asyncio.Future[None] | None = None
    until_us: int = 0
    pause_s: float = PAUSE_FIRST_S


class UnmadeError(Exception):
    """The bucket or collection is not there, and this line may make it."""


class Door(Protocol):
    """What lines mean."""

    place: str
    """The name of the bucket or collection."""
    member: str
    """What outcomes call the name of what a line is about."""
    line_bytes_max: int

    def plan(self, data: bytes, item: Item, of: OperationId | None) -> None:
        """Say what a line asks: `name`, `request`, `what`. Raises ProblemError, UnmadeError, and what
        decoding raises. `of` is the line's id, if it has one.
        """

    async def make(self) -> None:
        """Have the bucket or collection be made. Raises ProblemError."""

    def told(self, item: Item, answer: Answer) -> dict[str, Any]:
        """The outcome of a line that was answered."""


class Room:
    """Bytes that lines in work may take, of all requests together; who wants some waits for a turn."""

    def __init__(self, bytes_max: int = ROOM_BYTES) -> None:
        self.bytes_max = bytes_max
        self.taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take_now(self, size: int) -> bool:
        """Take so many, if they are free and nobody has waited longer."""
        if self._waiting or (self.taken and self.taken + size > self.bytes_max):
            return False
        self.taken += size
        return True

    async def take(self, size: int) -> None:
        """Take so many as soon as they are free."""
        if self.take_now(size):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)
            self._wake()
            raise

    def give(self, size: int) -> None:
        """They are free again."""
        self.taken -= size
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()  # it was cancelled
            elif self.taken and self.taken + size > self.bytes_max:
                return
            else:
                self._waiting.popleft()
                self.taken += size
                turn.set_result(None)


class Bulk:
    """One bulk request."""

    def __init__(self, bridge: Bridge, door: Door, room: Room, wanted: Options, settings: Settings) -> None:
        self._bridge = bridge
        self._door = door
        self._room = room
        self._remember_us = settings.operation_ids_us
        self._timeout_us = PATIENCE_US if wanted.timeout_us is None else wanted.timeout_us
        self._key: bytes | None = None
        self._lines_begun = 0
        self._in_work: deque[Item] = deque()
        self._gathered: list[Item] = []
        self._gathered_bytes = 0
        self._asked: dict[int, None] = {}
        self._names: dict[str, None] = {}
        self._bytes = 0
        self._out = bytearray()
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._closed = False
        self._request: Request | None = None

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Read lines, write outcomes."""
        if request.headers.get("Expect") is not None and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._key = key_of(request)
        self._request = request if isinstance(request, Request) else None
        response = web.StreamResponse(headers={"Server": "sullae", "Content-Type": NDJSON})
        await response.prepare(request)
        try:
            parts = self._lines(request)
            while (lines := await self._next(parts, response)) is not None:
                for line in lines:
                    if line.strip():
                        await self._begin(line, response)
                self._send_gathered()
            await self._finish_all(response)
        except ProblemError as error:  # not a line: nothing after it can be understood
            await self._finish_all(response)
            self._out += orjson.dumps({self._door.member: None, **error.body()}) + b"\n"
        finally:
            self._close()
        await response.write_eof(bytes(self._out))
        return response

    def _close(self) -> None:
        self._closed = True
        for number in list(self._asked):
            self._bridge.forget(number)
        for item in self._in_work:
            if item.answer is None and item.problem is None:
                self._room.give(item.bytes)

    # --- reading

    async def _lines(self, request: web.BaseRequest) -> AsyncIterator[list[bytes]]:
        """Whole lines, those together that came together."""
        held = bytearray()
        async for part in request.content.iter_any():
            *lines, rest = part.split(b"\n")
            if lines and held:
                lines[0] = bytes(held) + lines[0]
                held.clear()
            if lines:
                longest = max(map(len, lines))
                if longest > self._door.line_bytes_max:
                    fine = next(at for at, line in enumerate(lines) if len(line) > self._door.line_bytes_max)
                    yield lines[:fine]
                    self._check_length(longest)
                yield lines
            held += rest
            self._check_length(len(held))
        if held:
            yield [bytes(held)]

    async def _next(
        self, parts: AsyncIterator[list[bytes]], response: web.StreamResponse
    ) -> list[bytes] | None:
        """The next lines, None at the end; what is done before they come is told meanwhile."""
        reading = asyncio.ensure_future(anext(parts, None))
        try:
            while self._in_work and not reading.done():
                item = self._in_work[0]
                if item.answer is None and item.problem is None:
                    await self._flush(response)
                    item.awaited = self._loop.create_future()
                    with self._held_up():
                        await asyncio.wait((reading, item.awaited), return_when=asyncio.FIRST_COMPLETED)
                else:
                    await self._finish_first(response)
            if not self._in_work:
                await self._flush(response)
            return await reading
        finally:
            reading.cancel()

    def _check_length(self, size: int) -> None:
        limit = self._door.line_bytes_max
        if size > limit:
            raise ProblemError("body-too-large", f"a line has at most {limit} bytes", limit_bytes=limit)

    async def _begin(self, data: bytes, response: web.StreamResponse) -> None:
        """Take a line into work, once there is room for it."""
        size = len(data)
        while len(self._in_work) >= LINES_AHEAD or (self._in_work and self._bytes + size > BYTES_AHEAD):
            await self._finish_first(response)
        if not self._room.take_now(size):
            self._send_gathered()
            await self._flush(response)
            with self._held_up():
                await self._room.take(size)
        item = Item(bytes=size)
        self._lines_begun += 1
        try:
            await self._plan(data, item)
            while item.name in self._names:
                await self._finish_first(response)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            item.problem = ProblemError("bad-body", f"this line is no operation: {error}")
        except ProblemError as error:
            item.problem = error
        except BaseException:
            self._room.give(size)
            raise
        self._in_work.append(item)
        self._bytes += size
        if item.problem is not None:
            self._room.give(size)
            return
        if item.name is not None:
            self._names[item.name] = None
        self._send(item)

    async def _plan(self, data: bytes, item: Item) -> None:
        of = None
        if self._key is not None:
            told = fingerprint("POST", self._door.place, "", data)
            of = OperationId(self._key + b"/%d" % self._lines_begun, told, self._remember_us)
        try:
            self._door.plan(data, item, of)
        except UnmadeError:
            self._send_gathered()
            await self._door.make()
            try:
                self._door.plan(data, item, of)
            except UnmadeError:
                raise ProblemError("not-ready", f"{self._door.place} was made, and has gone again") from None
        request = item.request
        assert request is not None, "it was planned"
        if of is not None and not isinstance(request, ReadRequest):
            item.once = Once(request, of)
            item.request = item.once.request
        item.until_us = time.monotonic_ns() // 1000 + self._timeout_us

    # --- doing

    def _send(self, item: Item) -> None:
        """Ask the node; plain writes with those that came together."""
        request = item.request
        if type(request) is not WriteRequest:
            self._ask([item])
            return
        gathered = self._gathered
        if gathered and gathered[0].request.table != request.table:  # type: ignore[union-attr]
            self._send_gathered()
        self._gathered.append(item)
        self._gathered_bytes += item.bytes
        if len(self._gathered) >= GROUP_LINES or self._gathered_bytes >= GROUP_BYTES:
            self._send_gathered()

    def _send_gathered(self) -> None:
        if self._gathered:
            items, self._gathered, self._gathered_bytes = self._gathered, [], 0
            self._ask(items)

    def _ask(self, items: list[Item]) -> None:
        """Ask the node for what these want: one of whatever kind, or plain writes to one table.

        A future per line would cost more than what is done with its answer.
        """
        if self._closed:
            return
        number, is_told = 0, False

        def then(answer: Answer) -> None:
            nonlocal is_told
            is_told = True
            self._asked.pop(number, None)
            if isinstance(answer, BulkAnswered):
                for item, one in zip(items, answer.answers, strict=True):
                    self._answered(item, one)
            elif isinstance(answer, Overloaded) and self._again(items):
                return
            else:
                for item in items:
                    self._answered(item, answer)

        left_us = max(1_000, items[0].until_us - time.monotonic_ns() // 1000)
        first = items[0].request
        assert first is not None, "it was planned"
        if type(first) is WriteRequest:
            writes: Any = tuple(item.request for item in items)
            number = self._bridge.call(BulkRequest(first.table, writes, first.level), left_us, then)
        else:
            number = self._bridge.call(first, left_us, then)
        if not is_told:
            self._asked[number] = None

    def _again(self, items: list[Item]) -> bool:
        """Ask again after a pause, if there is time; whether there is."""
        first = items[0]
        if time.monotonic_ns() // 1000 + int(first.pause_s * 1e6) >= first.until_us or self._closed:
            return False
        self._loop.call_later(first.pause_s, self._ask, items, context=self._context)
        for item in items:
            item.pause_s = min(PAUSE_MAX_S, 2 * item.pause_s)
        return True

    def _answered(self, item: Item, answer: Answer) -> None:
        if type(answer) is not Written and _may_again(item, answer) and self._again([item]):
            return
        item.answer = answer
        if not self._closed:
            self._room.give(item.bytes)
        if item.awaited is not None and not item.awaited.done():
            item.awaited.set_result(None)

    # --- telling

    async def _finish_all(self, response: web.StreamResponse) -> None:
        self._send_gathered()
        while self._in_work:
            await self._finish_first(response)

    async def _finish_first(self, response: web.StreamResponse) -> None:
        """Await the oldest line's outcome and write it, many at a time."""
        item = self._in_work[0]
        if item.problem is None and item.answer is None:
            self._send_gathered()
            await self._flush(response)
            if item.answer is None:
                item.awaited = self._loop.create_future()
                with self._held_up():
                    await item.awaited
        outcome = self._outcome(item)
        self._in_work.popleft()
        self._bytes -= item.bytes
        if item.name is not None and item.problem is None:
            self._names.pop(item.name, None)
        self._out += orjson.dumps(outcome) + b"\n"
        if len(self._out) >= FLUSH_BYTES:
            await self._flush(response)

    def _outcome(self, item: Item) -> dict[str, Any]:
        if item.problem is not None:
            return {self._door.member: item.name, **item.problem.body()}
        answer = item.answer
        assert answer is not None, "it was awaited"
        return self._door.told(item, answer if item.once is None else item.once.answer(answer))

    @contextmanager
    def _held_up(self) -> Iterator[None]:
        """Meanwhile it is not the client who does not go on."""
        request = self._request
        if request is None:
            yield
            return
        request.is_held_up = True
        try:
            yield
        finally:
            request.is_held_up = False

    async def _flush(self, response: web.StreamResponse) -> None:
        if self._out:
            data = bytes(self._out)
            self._out.clear()
            await response.write(data)


def _may_again(item: Item, answer: Answer) -> bool:
    """Whether it may do better another time, and that does no harm: it was surely not done, is a read, or
    has an id.
    """
    if isinstance(answer, Overloaded):
        return True
    is_unknown = isinstance(answer, Timeout) or (isinstance(answer, Broken) and answer.unknown)
    return is_unknown and (item.once is not None or isinstance(item.request, ReadRequest))
