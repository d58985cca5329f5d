"""Load on the prototype: `in_flight` writes of 1 KiB at any time on one connection to each replica."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from typing import Final, cast

from bench.load import Figures, figures_of
from bench.prototype.server import HEAD, REPLICAS, WRITE

VALUE_BYTES: Final = 1024
DONE_BYTES: Final = HEAD.size


class _Writer(asyncio.Protocol):
    def __init__(self, number: int, writes: int, in_flight: int, latencies_s: list[float]) -> None:
        self._number, self._writes, self._in_flight = number, writes, in_flight
        self._latencies_s = latencies_s
        self._value = os.urandom(VALUE_BYTES)
        self._sent = self._answered = 0
        self._buffer = b""
        self._began: dict[int, float] = {}
        self._transport: asyncio.Transport | None = None
        self.lost = False
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def begin(self) -> None:
        self._send(self._in_flight)

    def _send(self, count: int) -> None:
        now, parts = time.perf_counter(), []
        for _ in range(min(count, self._writes - self._sent)):
            key = b"u%d-%08d" % (self._number, self._sent)
            payload = bytes((len(key),)) + key + self._value
            parts.append(HEAD.pack(9 + len(payload), WRITE, self._sent) + payload)
            self._began[self._sent] = now
            self._sent += 1
        if parts:
            assert self._transport is not None
            self._transport.write(b"".join(parts))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        count, now = len(buffer) // DONE_BYTES, time.perf_counter()
        for index in range(count):
            write = HEAD.unpack_from(buffer, index * DONE_BYTES)[2]
            self._latencies_s.append(now - self._began.pop(write))
        self._buffer = buffer[count * DONE_BYTES :]
        self._answered += count
        if self._answered == self._writes:
            self.done.set_result(None)
        else:
            self._send(count)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.lost = True
            self.done.set_result(None)


async def run_prototype_load(port: int, writes: int, in_flight: int) -> Figures:
    """`writes` per replica; `port` is the first of the clients' ports. Raises ConnectionError."""
    loop = asyncio.get_running_loop()
    latencies_s: list[float] = []
    writers = []
    for number in range(REPLICAS):
        make = partial(_Writer, number, writes, in_flight, latencies_s)
        _, writer = await loop.create_connection(make, "127.0.0.1", port + number)
        writers.append(writer)
    began = time.perf_counter()
    for writer in writers:
        writer.begin()
    await asyncio.gather(*(writer.done for writer in writers))
    if any(writer.lost for writer in writers):
        raise ConnectionError("the prototype closed a connection")
    seconds = time.perf_counter() - began
    return figures_of(latencies_s, seconds, 0)
