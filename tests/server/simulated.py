"""REST on every peer of a simulated cluster: real services and sockets, in front of nodes in virtual time.

Whoever waits for an answer drives both, the event loop, and the cluster while a node owes somebody an answer.
"""

from __future__ import annotations

import asyncio
import json
import time
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import uvloop

from core.requests import Answer, Request
from server.bridge import Bridge
from server.metrics import Metrics
from server.rest.service import RestService
from sim.cluster import SimCluster
from sim.options import ClockOptions, Options
from sim.real import RealSoftware, node_of
from sim.world import SimWorld
from tests.server.rest_client import Reply, head, read_reply

SECOND = 1_000_000
FIRST_ID = 1 << 40
"""Requests of doors have numbers from here on, those of the cluster's own clients lower ones."""
EVENTS = 40
"""So many things happen in the cluster between two looks at the sockets."""
STEP_US = 5_000
"""Nor does more time pass there."""
WAIT_S = 60.0


class Wired(SimCluster):
    """A cluster whose answers to requests of doors go to their bridges."""

    def __init__(self, options: Options) -> None:
        super().__init__(options, RealSoftware())
        self.bridges: list[Bridge] = []

    def answered(self, world: SimWorld, request_id: int, answer: Answer, last: bool) -> None:
        if request_id >= FIRST_ID:
            self.bridges[world.index].on_reply(request_id - FIRST_ID, answer, last)
        else:
            super().answered(world, request_id, answer, last)


class Door:
    """A peer's node, as its REST service has it."""

    def __init__(self, cluster: Wired, index: int) -> None:
        self._cluster = cluster
        self._index = index

    def __getattr__(self, name: str) -> Any:
        return getattr(node_of(self._cluster, self._index), name)

    def on_request(self, request_id: int, request: Request, deadline_us: int) -> None:
        until_us = self._cluster.now_us + deadline_us - time.monotonic_ns() // 1000
        node_of(self._cluster, self._index).on_request(FIRST_ID + request_id, request, until_us)

    def on_want(self, request_id: int, parts: int) -> None:
        node_of(self._cluster, self._index).on_want(FIRST_ID + request_id, parts)

    def on_cancel(self, request_id: int) -> None:
        node_of(self._cluster, self._index).on_cancel(FIRST_ID + request_id)


class Peers:
    """A cluster and its doors; to be used as a context manager, whose end tells bugs that were met."""

    def __init__(self, peers: int = 3, seed: int = 1, clock: ClockOptions | None = None) -> None:
        options = Options(seed=seed, peers=peers, voters=min(peers, 3), clock=clock or ClockOptions())
        self.cluster = Wired(options)
        self.bugs: list[tuple[str, BaseException]] = []
        self._count = peers
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._open: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        self._services: list[RestService] = []

    def __enter__(self) -> Self:
        self.cluster.start_all()
        every = range(self._count)
        ready = lambda: all(node_of(self.cluster, n).ready()[0] for n in every)  # noqa: E731
        assert self.cluster.run_until(ready, 60 * SECOND)
        self._runner.run(self._start())
        return self

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        for index in range(self._count):
            node: Any = Door(self.cluster, index)
            bridge = Bridge(loop, node)
            self.cluster.bridges.append(bridge)
            service = RestService(node, bridge, Metrics(), self._complain, dict)
            await service.start("127.0.0.1", 0)
            self._services.append(service)

    def _complain(self, text: str, error: BaseException | None) -> None:
        if error is not None:
            self.bugs.append((text, error))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._stop())
        self._runner.close()
        if kind is None:
            assert not self.bugs, self.bugs
            assert not self.cluster.deaths, self.cluster.deaths

    async def _stop(self) -> None:
        for _, writer in self._open.values():
            writer.close()
        for service in self._services:
            await service.stop(0.1)

    def settle(self) -> None:
        """Let every peer adopt what was decided."""
        nodes = [node_of(self.cluster, n) for n in range(self._count)]
        same = lambda: len({node.metadata.state.epoch for node in nodes}) == 1  # noqa: E731
        assert self.cluster.run_until(same, 60 * SECOND)

    def kill(self, peer: int) -> None:
        """kill -9; the others go on."""
        self.cluster.kill(peer)

    def revive(self, peer: int) -> None:
        """Start it again, and wait until it serves; what it missed it may still lack."""
        assert self.cluster.start(peer)
        assert self.cluster.run_until(lambda: node_of(self.cluster, peer).ready()[0], 60 * SECOND)

    def ask(
        self, peer: int, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request to a peer, and its answer; a body that is not bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return self._runner.run(self._asked(peer, method, target, data, headers))

    async def _asked(
        self, peer: int, method: str, target: str, body: bytes | None, headers: dict[str, str] | None
    ) -> Reply:
        if peer not in self._open:
            port = self._services[peer].port
            self._open[peer] = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
        reader, writer = self._open[peer]
        writer.write(head(method, target, body, headers) + (body or b""))
        reply: Reply = await self.driven(read_reply(reader, method))
        if reply.headers.get("connection") == "close":
            writer.close()
            del self._open[peer]
        return reply

    def lines(self, peer: int, target: str, quiet: int = 3) -> list[dict[str, Any]]:
        """The lines of a change stream, until it says nothing but so many heartbeats, or ends."""
        return self._runner.run(self._lines(peer, target, quiet))

    async def _lines(self, peer: int, target: str, quiet: int) -> list[dict[str, Any]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._services[peer].port, limit=1 << 26)
        writer.write(head("GET", target, None))
        found: list[dict[str, Any]] = []
        try:
            first = await self.driven(reader.readuntil(b"\r\n\r\n"))
            assert b" 200 " in first.split(b"\r\n")[0], first + await reader.read(1000)
            while any(line["type"] != "heartbeat" for line in found[-quiet:]) or len(found) < quiet:
                size = int(await self.driven(reader.readline()), 16)
                part = await self.driven(reader.readexactly(size + 2))
                if not size:
                    break
                found += [json.loads(line, parse_float=Decimal) for line in part.splitlines() if line]
        finally:
            writer.close()
        return found

    async def driven(self, work: Any) -> Any:
        """What a coroutine gives, with the cluster driven meanwhile."""
        task = asyncio.ensure_future(work)
        end_s = time.monotonic() + WAIT_S
        while not task.done():
            assert time.monotonic() < end_s, "no answer"
            if any(bridge.waiting for bridge in self.cluster.bridges):
                self._step()
            await asyncio.sleep(0)
        return task.result()

    def _step(self) -> None:
        waiting = [bridge.waiting for bridge in self.cluster.bridges]
        left = [EVENTS]

        def enough() -> bool:
            left[0] -= 1
            return left[0] < 0 or [bridge.waiting for bridge in self.cluster.bridges] != waiting

        self.cluster.run_until(enough, STEP_US)
