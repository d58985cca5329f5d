"""A lean HTTP load: many kept connections on one event loop, one request in flight on each.

The load shares its two cores with the peers it measures, so it must cost little: requests are bytes, made in
advance where they can be; answers are parsed by hand (status line and where they end); nothing is a task, a
future or an exception. A full HTTP client costs three times what it measures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, cast

import msgspec

STATUS_AT: Final = len(b"HTTP/1.1 ")
END_OF_HEAD: Final = b"\r\n\r\n"
LENGTH_HEADER: Final = b"content-length:"
CHUNKED_HEADER: Final = b"transfer-encoding: chunked"
LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
CHUNKED: Final = -1
ANSWER_TIMEOUT_S: Final = 60.0
TIMER_LATE_S: Final = 0.002
FAILURE_BYTES_MAX: Final = 64 * 1024
"""What is kept of the first answer that is none of success."""


class Figures(msgspec.Struct, kw_only=True):
    """What a load measured. Latencies in milliseconds."""

    operations: int
    seconds: float
    per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    failed: int
    """Answers with a status other than 2xx."""


def figures_of(latencies_s: list[float], seconds: float, failed: int) -> Figures:
    """Figures of at least one latency; sorts the list."""
    latencies_s.sort()
    count = len(latencies_s)

    def at(quantile: float) -> float:
        return round(latencies_s[min(count - 1, int(count * quantile))] * 1000, 2)

    return Figures(
        operations=count,
        seconds=round(seconds, 2),
        per_s=round(count / seconds, 1),
        p50_ms=at(0.5),
        p99_ms=at(0.99),
        p999_ms=at(0.999),
        max_ms=round(latencies_s[-1] * 1000, 2),
        failed=failed,
    )


class _Load:
    """What the connections of one run share."""

    def __init__(
        self, requests: Iterator[bytes], judge: Callable[[bytes], bool] | None, again_max: int
    ) -> None:
        self.requests = requests
        self.again: list[bytes] = []
        self.again_max = again_max
        self.judge = judge
        self.latencies_s: list[float] = []
        self.failed = 0
        self.busy = 0
        self.first_failure = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next(self) -> bytes | None:
        """The next request, None if there is none."""
        return self.again.pop() if self.again else next(self.requests, None)

    def refused(self, request: bytes, answer: bytes) -> None:
        """An answer is none of success: the request is sent again, if not too many are."""
        self.failed += 1
        self.first_failure = self.first_failure or answer[:FAILURE_BYTES_MAX]
        if self.failed <= self.again_max:
            self.again.append(request)

    def ended(self, error: str = "") -> None:
        """A connection has nothing more to do."""
        self.busy -= 1
        if not self.done.done():
            if error:
                self.done.set_exception(ConnectionError(error))
            elif self.busy == 0:
                self.done.set_result(None)

    def free(self, connection: _Connection) -> None:
        """A connection has its answer."""
        connection.begin()


class _Paced(_Load):
    """A load whose requests begin when they are due."""

    def __init__(self, wanted: int) -> None:
        super().__init__(iter(()), None, 0)
        self.wanted = wanted
        self.idle: list[_Connection] = []

    def free(self, connection: _Connection) -> None:
        """It waits for another."""
        self.idle.append(connection)
        if len(self.latencies_s) == self.wanted and not self.done.done():
            self.done.set_result(None)


class _Connection(asyncio.Protocol):
    """One kept connection."""

    __slots__ = ("_buffer", "_finished", "_load", "_request", "_sent_at", "_transport", "_wanted")

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._buffer = b""
        self._request = b""
        self._wanted = 0
        self._sent_at = 0.0
        self._finished = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def begin(self) -> None:
        """Send the next request, or end."""
        request = self._load.next()
        assert self._transport is not None
        if request is None:
            self.end()
            self._load.ended()
            return
        self.send(request, time.perf_counter())

    def send(self, request: bytes, since: float) -> None:
        """Send a request whose latency counts from `since`."""
        assert self._transport is not None
        self._sent_at = since
        self._request = request
        self._transport.write(request)

    def end(self) -> None:
        """Nothing more is sent."""
        assert self._transport is not None
        self._finished = True
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data if self._buffer else data
        if not self._wanted:
            self._wanted = _answer_bytes(data)
        if self._wanted == CHUNKED:
            if not data.endswith(LAST_CHUNK):
                return
        elif not self._wanted or len(data) < self._wanted:
            return
        load = self._load
        load.latencies_s.append(time.perf_counter() - self._sent_at)
        if data[STATUS_AT] != ord("2") or (load.judge is not None and not load.judge(data)):
            load.refused(self._request, data)
        self._buffer, self._wanted = b"", 0
        load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._finished:
            self._load.ended(f"a peer closed a connection: {exc}")


def _answer_bytes(data: bytes) -> int:
    """How long the answer that begins here is; CHUNKED if that is not said, 0 if its head is not here yet."""
    head_end = data.find(END_OF_HEAD)
    if head_end < 0:
        return 0
    head = data[:head_end].lower()
    at = head.find(LENGTH_HEADER)
    if at < 0:
        return CHUNKED if CHUNKED_HEADER in head else head_end + len(END_OF_HEAD)
    line_end = head.find(b"\r\n", at)
    length = int(head[at + len(LENGTH_HEADER) : line_end if line_end > 0 else None])
    return head_end + len(END_OF_HEAD) + length


async def run_load(
    places: Sequence[tuple[str, int]],
    connections: int,
    requests: Iterator[bytes],
    judge: Callable[[bytes], bool] | None = None,
    *,
    again_max: int = 0,
) -> tuple[Figures, bytes]:
    """Run so many connections to each place, which share the requests, until there are no more of them.

    `judge` looks at a whole answer of 2xx and says whether it is a good one; so many that are not are sent
    again. Returns the figures and the
    first answer that was not a success (b"" if there was none). Raises ConnectionError if a connection is
    lost and TimeoutError if all stand still for too long.
    """
    loop = asyncio.get_running_loop()
    load = _Load(requests, judge, again_max)
    made: list[_Connection] = []
    for address, port in places:
        for _ in range(connections):
            _, connection = await loop.create_connection(lambda: _Connection(load), address, port)
            made.append(connection)
    load.busy = len(made)
    began = time.perf_counter()
    for connection in made:
        connection.begin()
    await _until_done(load)
    return figures_of(load.latencies_s, time.perf_counter() - began, load.failed), load.first_failure


async def _until_done(load: _Load) -> None:
    seen = -1
    while not load.done.done():
        await asyncio.wait([load.done], timeout=ANSWER_TIMEOUT_S)
        if len(load.latencies_s) == seen:
            raise TimeoutError(f"no answer within {ANSWER_TIMEOUT_S} s")
        seen = len(load.latencies_s)
    await load.done


async def _until(due: float) -> None:
    """Wait until the clock shows this. Timers of an event loop are late by up to a millisecond: the last of a
    wait is spent looking at the clock.
    """
    left_s = due - time.perf_counter()
    while left_s > 0:
        await asyncio.sleep(max(0.0, left_s - TIMER_LATE_S))
        left_s = due - time.perf_counter()


async def run_paced(
    places: Sequence[tuple[str, int]], requests: Iterator[bytes], per_s: float, seconds: float
) -> tuple[Figures, bytes]:
    """Begin so many requests a second, each place in turn, whether or not those before are answered.

    Latencies count from when a request was due, so whoever stands still cannot hide it. Returns as
    `run_load` does. Raises ConnectionError if a connection is lost, TimeoutError if some are not answered
    long after the last; there is at least one request for each place.
    """
    loop = asyncio.get_running_loop()
    count = int(seconds * per_s)
    loads = [_Paced(len(range(at, count, len(places)))) for at in range(len(places))]
    began = time.perf_counter()
    for number in range(count):
        at = number % len(places)
        due = began + number / per_s
        await _until(due)
        idle = loads[at].idle
        if not idle:
            _, made = await loop.create_connection(partial(_Connection, loads[at]), *places[at])
            idle.append(made)
        idle.pop().send(next(requests), due)
    await asyncio.wait_for(asyncio.gather(*(load.done for load in loads)), ANSWER_TIMEOUT_S)
    for load in loads:
        for connection in load.idle:
            connection.end()
    latencies_s = [latency for load in loads for latency in load.latencies_s]
    first_failure = next((load.first_failure for load in loads if load.first_failure), b"")
    failed = sum(load.failed for load in loads)
    return figures_of(latencies_s, time.perf_counter() - began, failed), first_failure


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    """The bytes of a request on a kept connection. `path` is encoded already."""
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n"
    if method in {"PUT", "POST"}:
        head += f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body
