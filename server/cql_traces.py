"""Traces of CQL requests on one node: begun with the request, written some moments after its answer.

Until then replicas that were not waited for may tell what they did; once all have, nothing is waited for, as
drivers soon give up looking for a trace (that for Java after 15 ms). A trace is written with requests like
those of a client, which nobody waits for. How many are gathered at once is bounded: beyond that a request has
its tracing id, and no trace is ever found under it.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any, Final

from core.requests import Answer, MetadataRequest, Request
from cql_lite import tracing, wire
from cql_lite.running import Run
from cql_lite.session import Statements
from cql_lite.tracing import Keeping, TracedRequest
from node.node import Node
from server.bridge import Bridge

GATHERING_S: Final = 0.05
GATHERING_STEP_S: Final = 0.002
"""So often it is looked whether all have told."""
GATHERED_AT_ONCE_MAX: Final = 256
WRITE_TIMEOUT_US: Final = 2_000_000
SCHEMA_TIMEOUT_US: Final = 10_000_000


class Traces:
    """The traces of one node."""

    def __init__(
        self,
        node: Node,
        bridge: Bridge,
        statements: Statements,
        complain: Callable[[str, BaseException | None], None],
    ) -> None:
        """`complain` logs an error of ours."""
        self._node = node
        self._bridge = bridge
        self._statements = statements
        self._complain = complain
        self._gathered = 0

    def begin(self, request: wire.Request, client: bytes | None) -> TracedRequest:
        """A client wants this request traced."""
        clock = self._node.inside.world.monotonic_us
        return tracing.begin(request, client, self._statements, clock)

    def answered(self, of: TracedRequest) -> None:
        """The client gets its answer now."""
        of.trace.answered()
        if self._gathered >= GATHERED_AT_ONCE_MAX:
            self._node.tracing.end(of.trace)
            return
        self._gathered += 1
        loop = asyncio.get_running_loop()
        loop.call_later(GATHERING_STEP_S, self._gather, of, loop.time() + GATHERING_S)

    def dropped(self, of: TracedRequest) -> None:
        """The client has gone, and waits for no answer: nothing is kept."""
        self._node.tracing.end(of.trace)

    def _gather(self, of: TracedRequest, until_s: float) -> None:
        """Keep it if nobody owes it anything, or it is late."""
        loop = asyncio.get_running_loop()
        if of.trace.owed and loop.time() < until_s:
            loop.call_later(GATHERING_STEP_S, self._gather, of, until_s)
            return
        self._node.tracing.end(of.trace)
        Run(self._guarded(of), self._ask, self._kept).start()

    def _guarded(self, of: TracedRequest) -> Keeping:
        try:
            yield from tracing.keep(of, self._statements, self._statements.peer)
        except Exception as error:  # noqa: BLE001 - a trace is lost; the log says why, and a test looks there
            self._complain("a trace could not be kept", error)

    def _kept(self, _: None) -> None:
        self._gathered -= 1

    def _ask(self, request: Request, answered: Callable[[Answer], None]) -> None:
        timeout_us = SCHEMA_TIMEOUT_US if isinstance(request, MetadataRequest) else WRITE_TIMEOUT_US
        self._bridge.collect(request, timeout_us, answered)


def packed_address(peername: Any) -> bytes | None:
    """The address of a socket's other end as 4 or 16 bytes, if it has one."""
    if not isinstance(peername, tuple):
        return None
    return ipaddress.ip_address(str(peername[0]).partition("%")[0]).packed
