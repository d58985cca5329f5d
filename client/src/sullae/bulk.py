"""Many writes with few requests: operations are gathered into batches, and several batches are under way.

    async with bucket.bulk() as bulk:
        for key, value in much:
            await bulk.put(key, value)      # waits while enough is under way: constant memory

Order is kept where it can be seen: a key is in one batch at a time, and an operation on a key that is under
way waits until that is done. So trying a line again cannot undo a later one of the same writer.

A slow cluster makes a load slow: a batch's outcomes come as its lines are done, and only if none comes for as
long as an operation may take is the batch sent again.

A batch is one request whose lines succeed or fail one by one. Lines that were surely not done, or that may be
repeated without harm, are sent again, at another peer if need be; what may not be repeated (`$inc`) does not
go into batches at all but is a request of its own under an `Idempotency-Key`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from sullae.calls import NDJSON, Call
from sullae.errors import BulkError, BulkFailure, OutcomeUnknown, ServerError, SullaeError, error_of
from sullae.requests import Query, Requests
from sullae.retrying import After, Repeat, refused
from sullae.transport import Transport

BYTES_MAX = 4 * 1024 * 1024
"""A batch is sent when it has so many bytes, however few operations they are."""
LINE_ATTEMPTS_MAX = 8
Self = TypeVar("Self", bound="BulkWriter")


@dataclass(frozen=True)
class Line:
    """One operation."""

    operation: str
    key: str
    data: bytes


@dataclass(frozen=True)
class _Outcome:
    """What came of a line; `is_final` where the whole batch failed after all its attempts."""

    line: Line
    error: SullaeError | None
    is_final: bool = False


class BulkWriter:
    """What writers of keys and of documents share. Use as an async context manager."""

    def __init__(
        self,
        transport: Transport,
        path: str,
        query: Query,
        timeout_s: float | None,
        *,
        target: str,
        batch: int,
        requests: int,
        raise_failures: bool,
    ) -> None:
        if batch < 1 or requests < 1:
            raise ValueError("batch and requests are at least 1")
        self.done = 0
        """Operations that were acknowledged."""
        self.failures: list[BulkFailure] = []
        """Those that were not."""
        self._transport = transport
        self._requests = Requests(transport)
        self._path = path
        self._query = query
        self._timeout_s = timeout_s
        self._target = target
        self._batch = batch
        self._raise_failures = raise_failures
        self._free = asyncio.Semaphore(requests)
        self._lines: list[Line] = []
        self._bytes = 0
        self._under_way: dict[str, asyncio.Event] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._broken: BaseException | None = None
        """What ended a task that nobody foresaw: some operations are then neither done nor failed."""

    async def __aenter__(self: Self) -> Self:
        """The writer."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for all; raises BulkError if an operation failed. After an error of the block: end at once."""
        if error is not None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            return
        await self.flush()
        if self.failures and self._raise_failures:
            raise BulkError(self.failures, self.done)

    async def flush(self) -> None:
        """Send what was gathered, and wait until all outcomes are known."""
        await self._send()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._broken is not None:
            raise self._broken

    # --- gathering

    async def _add(self, line: Line) -> None:
        """Put an operation into the next batch; waits while too much is under way."""
        await self._turn(line.key)
        self._under_way[line.key] = asyncio.Event()
        self._lines.append(line)
        self._bytes += len(line.data)
        if len(self._lines) >= self._batch or self._bytes >= BYTES_MAX:
            await self._send()

    async def _alone(self, operation: str, key: str, act: Callable[[], Awaitable[Any]]) -> None:
        """Have an operation be a request of its own."""
        await self._turn(key)
        self._under_way[key] = asyncio.Event()
        try:
            await self._free.acquire()
        except asyncio.CancelledError:
            self._under_way.pop(key).set()
            raise
        self._start(self._acted(operation, key, act))

    async def _turn(self, key: str) -> None:
        """Wait until nothing about this key is under way."""
        while (there := self._under_way.get(key)) is not None:
            if any(line.key == key for line in self._lines):
                await self._send()
            await there.wait()

    async def _send(self) -> None:
        if not self._lines:
            return
        lines, self._lines, self._bytes = self._lines, [], 0
        try:
            await self._free.acquire()
        except asyncio.CancelledError:  # of whoever put the last of them; the others were promised
            self._lines[:0] = lines
            self._bytes += sum(len(line.data) for line in lines)
            raise
        self._start(self._sent(lines))

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._free.release()
        if not task.cancelled():
            self._broken = self._broken or task.exception()

    # --- sending

    async def _acted(self, operation: str, key: str, act: Callable[[], Awaitable[Any]]) -> None:
        try:
            await act()
            self.done += 1
        except SullaeError as error:
            self.failures.append(BulkFailure(operation, key, error))
        finally:
            self._under_way.pop(key).set()

    async def _sent(self, lines: list[Line]) -> None:
        """Send a batch until each of its lines is done, or has failed for good."""
        left = lines
        unknown: dict[str, None] = {}
        backoff = self._transport.settings.backoff
        attempt = 0
        try:
            while left:
                attempt += 1
                again: list[Line] = []
                for outcome in await self._outcomes(left):
                    line, error = outcome.line, outcome.error
                    if error is None:
                        self.done += 1
                        continue
                    verdict = refused(error, Repeat.HARMLESS, writes=True)
                    if verdict.maybe_done:
                        unknown[line.key] = None
                    if outcome.is_final or verdict.after is After.NEVER or attempt >= LINE_ATTEMPTS_MAX:
                        self.failures.append(
                            BulkFailure(line.operation, line.key, _told(error, maybe=line.key in unknown))
                        )
                    else:
                        again.append(line)
                left = again
                if left:
                    await asyncio.sleep(backoff.pause_s(attempt, 1.0))
        finally:
            for line in lines:
                self._under_way.pop(line.key).set()

    async def _outcomes(self, lines: list[Line]) -> list[_Outcome]:
        body = b"".join(line.data for line in lines)
        call = Call(
            f"{self._path.split('/')[2]}.bulk", "POST", self._path, self._query, body,
            {"Content-Type": NDJSON}, Repeat.HARMLESS, writes=True, target=self._target,
            timeout_s=self._timeout_s, takes_timeout=True, goes_on=True,
        )  # fmt: skip
        try:
            reply = await self._transport.request(call)
            found = [self._requests.parsed(line) for line in reply.body.split(b"\n") if line]
        except SullaeError as error:
            return [_Outcome(line, error, is_final=True) for line in lines]
        answered = [_Outcome(line, _error(one, reply.peer)) for line, one in zip(lines, found, strict=False)]
        cut = OutcomeUnknown("the outcomes were cut off", kind="outcome-unknown", peer=reply.peer)
        return answered + [_Outcome(line, cut) for line in lines[len(found) :]]


def _error(outcome: dict[str, Any], peer: str) -> SullaeError | None:
    status = int(outcome.get("status", 500))
    return None if status < 300 else error_of(status, outcome, peer)


def _told(error: SullaeError, *, maybe: bool) -> SullaeError:
    if not maybe or isinstance(error, (OutcomeUnknown, ServerError)):
        return error
    detail = f"an earlier attempt may have been done; the last: {error.detail}"
    unknown = OutcomeUnknown(detail, peer=error.peer)
    unknown.__cause__ = error
    return unknown
