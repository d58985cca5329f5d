"""CQL clients that leave while the node works for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from core.consistency import Level
from core.requests import ReadRequest
from core.trace import Trace
from cql_lite import frames, wire
from cql_lite.frames import FrameWriter
from node.tracing import Tracing
from server.cql import Client
from server.cql_traces import Traces
from tests.server.harness import run


class Transport(asyncio.Transport):
    """Takes all."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.9", 4711)})

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass


class Service:
    """Of a node that does not answer, which remembers what is traced."""

    def __init__(self) -> None:
        self.asked: list[Callable[[Any], None]] = []
        self.under_way: list[object] = []
        self.state: Any = SimpleNamespace(tables={}, members=())
        self.bridge = SimpleNamespace(collect=lambda request, timeout_us, then: self.asked.append(then))
        self.statements = SimpleNamespace(peer=SimpleNamespace(token_bytes=bytes, now_us=lambda: 0))
        self.metrics = SimpleNamespace(latency=lambda *_: None)
        node: Any = SimpleNamespace(
            tracing=SimpleNamespace(end=self.under_way.remove),
            inside=SimpleNamespace(world=SimpleNamespace(monotonic_us=lambda: 0)),
        )
        self.traces = Traces(node, self.bridge, self.statements, lambda *_: None)  # type: ignore[arg-type]
        begin = self.traces.begin

        def begun(request: wire.Request, client: bytes | None) -> Any:
            found = begin(request, client)
            self.under_way.append(found.trace)
            return found

        self.traces.begin = begun  # type: ignore[method-assign]

    def entered(self, _: Client) -> int:
        return 1

    def left(self, _: int) -> None:
        pass

    def timeout_us(self, _: object) -> int:
        return 1


def sent(stream: int, flags: int, request: wire.Request) -> bytes:
    body = wire.encode_request(request, 4)
    return FrameWriter(responses=False).send(4, flags, stream, request.opcode, body=body)


def test_what_is_traced_for_a_client_that_leaves_is_not_traced_for_ever() -> None:
    """Only so much is traced at once: what was never ended would leave no room for anything."""

    async def work() -> None:
        service = Service()
        client = Client(service)  # type: ignore[arg-type]

        def answer(*_: object) -> Iterator[Any]:
            yield (ReadRequest(1, b"k", b"", b"", True, Level.ONE),)

        client._session = SimpleNamespace(answer=answer, quick=lambda _: None)  # type: ignore[assignment]
        client.connection_made(Transport())
        client.data_received(sent(1, 0, wire.Startup({"CQL_VERSION": "3.0.0"})))
        query = wire.Query("SELECT * FROM ks.t", wire.Parameters(Level.ONE))
        client.data_received(sent(2, frames.TRACING, query))
        assert len(service.asked) == 1 and len(service.under_way) == 1
        client.connection_lost(None)
        assert not service.under_way

    run(work())


def test_what_is_asked_for_a_trace_that_has_ended_is_not_remembered() -> None:
    """An operation goes on when its client was answered, or has gone: it repairs what it read."""
    traces: dict[int, object] = {}
    world = SimpleNamespace(monotonic_us=lambda: 0, send=lambda *_: True)
    inside: Any = SimpleNamespace(
        identity=SimpleNamespace(peer=b"1"), traces=traces, traces_of_others={}, world=world,
        on_message=lambda *_: None, on_timer=lambda *_: None, timer=lambda *_: None,
    )  # fmt: skip
    metadata: Any = SimpleNamespace(state=SimpleNamespace(member=lambda _: None))
    tracing, trace = Tracing(inside, metadata), Trace(bytes(16), lambda: 0)
    tracing.asks(trace, 7, [b"2"], "Asking")
    assert list(traces) == [7]
    tracing.end(trace)
    tracing.asks(trace, 7, [b"2"], "Asking once more")
    tracing.asks(trace, 8, [b"2"], "Repairing")
    assert not traces
