"""What tests of the real world share: an event loop like the product's, own addresses, waiting."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
import uvloop

from core.messages import Hello, Message, Refused
from core.ports import Event, PeerId
from server.log_syncs import is_preloaded
from server.transport import Transport, TransportOptions

T = TypeVar("T")

WAIT_S = 10.0

needs_the_kernel = pytest.mark.skipif(
    sys.platform != "linux" or is_preloaded(), reason="needs Linux, and nothing preloaded"
)
"""For tests of syncs that the kernel carries out."""


def run(work: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
    """Run a test's coroutine on uvloop; what an event-loop callback raised fails the test."""
    raised: list[dict[str, Any]] = []

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: raised.append(context))
        async with asyncio.timeout(timeout_s):
            return await work

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(guarded())
    finally:
        assert not raised, raised


async def until(condition: Callable[[], Any], what: str = "", timeout_s: float = WAIT_S) -> None:
    """Wait for a condition."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while not condition():
        assert loop.time() < end, f"not within {timeout_s} s: {what or condition}"
        await asyncio.sleep(0.002)


def addresses(count: int) -> list[str]:
    """Loopback addresses of this process alone."""
    pid = os.getpid()
    return [f"127.{64 + pid // 250 % 128}.{1 + pid % 250}.{n}" for n in range(1, count + 1)]


def free_port(address: str) -> int:
    """A port nobody listens on now."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


class StubNode:
    """The transport's side of a node: remembers, refuses whom it is told to refuse."""

    def __init__(self, number: int, address: str, name: str = "") -> None:
        self.peer: PeerId = bytes([number]) * 16
        self.name = name or f"n{number}"
        self.address = address
        self.messages: list[tuple[PeerId, Message]] = []
        self.peers: list[tuple[PeerId, bool]] = []
        self.refusals: list[tuple[str, Refused]] = []
        self.refuse: dict[PeerId, Refused] = {}

    def hello(self) -> Hello:
        return Hello(1, 1, "test", b"", self.peer, 1, self.name, self.address, "dc1", "r1", 0)

    def on_hello(self, hello: Hello) -> Refused | None:
        return self.refuse.get(hello.peer)

    def on_refused(self, who: str, refused: Refused) -> None:
        self.refusals.append((who, refused))

    def on_message(self, peer: PeerId, message: Message) -> None:
        self.messages.append((peer, message))

    def on_peer(self, peer: PeerId, connected: bool) -> None:
        self.peers.append((peer, connected))


class Station:
    """A stub node on a real transport."""

    def __init__(self, number: int, address: str, port: int, tls: Any = None) -> None:
        self.node = StubNode(number, address)
        self.notes: list[Event] = []
        options = TransportOptions(address, port, "test", tls)
        self.transport = Transport(asyncio.get_running_loop(), options, self.node, self.notes.append)

    @property
    def peer(self) -> PeerId:
        return self.node.peer

    def lines(self, name: str) -> list[str]:
        """The log lines of this name."""
        return [note.text for note in self.notes if note.name == name]


async def stations(count: int, tls: Any = None) -> list[Station]:
    """So many, listening on one port of addresses of their own."""
    places = addresses(count)
    port = free_port(places[0])
    made = [Station(n, address, port, tls) for n, address in enumerate(places, 1)]
    for station in made:
        await station.transport.start()
    return made


def introduce(*every: Station) -> None:
    """Let all know where all are."""
    known = [(station.peer, station.node.address) for station in every]
    for station in every:
        station.transport.know(known)


async def meet(*every: Station) -> None:
    """Introduce them and wait until all are connected to all."""
    introduce(*every)
    for station in every:
        for other in every:
            if other is not station:
                station.transport.dial(other.node.address)
    count = len(every) - 1
    await until(lambda: all(s.transport.connected() == count for s in every), "all connected")
