"""A lean CQL load: prepared statements over a few connections, each with so many requests in flight at any
time.

That is how drivers use the protocol, and the same shape as the prototype's load. Frames are made by hand from
a template (version 4, no compression) and answers only looked at for their stream and opcode: the load shares
its two cores with what it measures.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final, cast

from bench.load import Figures, figures_of

VERSION: Final = 4
QUORUM: Final = 4
WITH_VALUES: Final = 1
ERROR, STARTUP, READY, QUERY, RESULT, PREPARE, EXECUTE = 0x00, 0x01, 0x02, 0x07, 0x08, 0x09, 0x0A
HEAD: Final = struct.Struct(">BBhBI")
TIMEOUT_S: Final = 60.0
STREAMS: Final = 32_000
IN_FLIGHT_MAX: Final = 1_000
PACE_S: Final = 0.002

Values = Callable[[int], tuple[bytes, ...]]
"""The bound values of the n-th request, as wire bytes."""


def frame(stream: int, opcode: int, body: bytes) -> bytes:
    """A request."""
    return HEAD.pack(VERSION, 0, stream, opcode, len(body)) + body


def execute_body(statement: bytes, values: Sequence[bytes]) -> bytes:
    """EXECUTE at QUORUM."""
    head = (
        struct.pack(">H", len(statement)) + statement + struct.pack(">HBH", QUORUM, WITH_VALUES, len(values))
    )
    return head + b"".join(struct.pack(">i", len(value)) + value for value in values)


class _Connection(asyncio.Protocol):
    """One connection: asks for one thing at a time until `begin`, then keeps its streams busy."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._sent_at: dict[int, float] = {}
        self._next: Callable[[], bytes | None] = lambda: None
        self.latencies_s: list[float] = []
        self.failed = 0
        self.first_failure = b""
        self._closing = False
        self._per_s = 0.0
        self._paced, self._paced_from, self._paced_out = 0, 0.0, False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    async def ask(self, opcode: int, body: bytes) -> bytes:
        """One request and its answer; raises ConnectionError for an ERROR."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(frame(0, opcode, body))
        answered, data = await asyncio.wait_for(self._answer, TIMEOUT_S)
        self._answer = None
        if answered == ERROR:
            raise ConnectionError(data[4:].decode("utf-8", "replace"))
        return data

    def begin(self, in_flight: int, bodies: Callable[[], bytes | None]) -> None:
        """Keep so many requests in flight until there are no more bodies."""
        self._next = bodies
        self._send(range(1, in_flight + 1))

    def begin_paced(self, per_s: float, bodies: Callable[[], bytes | None]) -> None:
        """Send so many requests per second, whatever becomes of them, until there are no more bodies."""
        self._next, self._per_s = bodies, per_s
        self._paced_from, self._paced = time.perf_counter(), 0
        self._pace()

    def _pace(self) -> None:
        due = int((time.perf_counter() - self._paced_from) * self._per_s) - self._paced
        due = min(due, IN_FLIGHT_MAX - len(self._sent_at))  # who falls behind that far is at his limit
        first = self._paced + 1
        self._paced += due
        self._send([number % STREAMS + 1 for number in range(first, first + due)])
        if not self.done.done():
            asyncio.get_running_loop().call_later(PACE_S, self._pace)

    def _send(self, streams: Sequence[int]) -> None:
        now, parts = time.perf_counter(), []
        for stream in streams:
            body = self._next()
            if body is None:
                self._paced_out = True
                break
            self._sent_at[stream] = now
            parts.append(frame(stream, EXECUTE, body))
        assert self._transport is not None
        if parts:
            self._transport.write(b"".join(parts))
        elif not self._sent_at and not self.done.done() and (self._paced_out or not self._per_s):
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, now, free = 0, time.perf_counter(), []
        while len(buffer) - at >= HEAD.size:
            _, _, stream, opcode, length = HEAD.unpack_from(buffer, at)
            end = at + HEAD.size + length
            if end > len(buffer):
                break
            if stream == 0 and self._answer is not None:
                self._answer.set_result((opcode, buffer[at + HEAD.size : end]))
            else:
                self.latencies_s.append(now - self._sent_at.pop(stream))
                if opcode != RESULT:
                    self.failed += 1
                    self.first_failure = self.first_failure or buffer[at + HEAD.size : end][:300]
                free.append(stream)
            at = end
        self._buffer = buffer[at:]
        if free and not self._per_s:
            self._send(free)
        elif free and self._paced_out and not self._sent_at and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done() and not self._closing:
            self.done.set_exception(ConnectionError(f"a peer closed a connection: {exc}"))

    def close(self) -> None:
        """End."""
        self._closing = True
        assert self._transport is not None
        self._transport.close()


async def _opened(address: str, port: int) -> _Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(_Connection, address, port)
    name, version = b"CQL_VERSION", b"3.0.0"
    options = struct.pack(">H", 1) + b"".join(struct.pack(">H", len(text)) + text for text in (name, version))
    await connection.ask(STARTUP, options)
    return connection


def _long_string(text: str) -> bytes:
    return struct.pack(">I", len(text.encode())) + text.encode()


async def run_statements(address: str, port: int, statements: Sequence[str]) -> None:
    """Execute statements one after the other on a connection of their own."""
    connection = await _opened(address, port)
    for text in statements:
        await connection.ask(QUERY, _long_string(text) + struct.pack(">HB", QUORUM, 0))
    connection.close()


async def run_cql_load(
    places: Sequence[tuple[str, int]],
    in_flight: int,
    statement: str,
    values: Values,
    count: int,
    *,
    per_s: float = 0,
) -> tuple[Figures, bytes]:
    """Execute a prepared statement `count` times at QUORUM over one connection to each place.

    So many are in flight on each; or, with `per_s`, so many are sent per second over all of them.

    Returns the figures and the first error's body (b"" if there was none). Raises ConnectionError if a
    connection is lost or the statement cannot be prepared.
    """
    connections = [await _opened(address, port) for address, port in places]
    numbers = iter(range(count))

    def bodies(prepared: bytes) -> Callable[[], bytes | None]:
        def body() -> bytes | None:
            number = next(numbers, None)
            return None if number is None else execute_body(prepared, values(number))

        return body

    makers = []
    for connection in connections:
        answer = await connection.ask(PREPARE, _long_string(statement))
        length = struct.unpack_from(">H", answer, 4)[0]
        makers.append(bodies(answer[6 : 6 + length]))
    began = time.perf_counter()
    for connection, make in zip(connections, makers, strict=True):
        if per_s:
            connection.begin_paced(per_s / len(places), make)
        else:
            connection.begin(in_flight, make)
    await asyncio.gather(*(connection.done for connection in connections))
    seconds = time.perf_counter() - began
    latencies_s = [latency for connection in connections for latency in connection.latencies_s]
    failed = sum(connection.failed for connection in connections)
    failure = next((c.first_failure for c in connections if c.first_failure), b"")
    for connection in connections:
        connection.close()
    return figures_of(latencies_s, seconds, failed), failure
