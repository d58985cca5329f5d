"""CQL sockets: the native protocol on each peer's address, driving cql_lite/connection.py and session.py.

    bytes -> Connection -> requests -> Session -> the node (Bridge) -> response -> Connection -> bytes

There is no task per request: what the node answers goes on where the statement waits, and all that became
ready in one tick leaves in one write per connection. Requests of one connection run side by side; how many is
bounded by the connection, which is not read from until some are answered; how many in all by the node. A
client that does not read is not read from either. Malformed bytes end that one connection, with a line in
the log.

Clients that registered hear of the schema (what changed between two states of the metadata log) and of
peers that died or came back.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from core.ports import PeerId
from core.requests import MetadataRequest, Request, WriteRequest
from core.schema import Keyspace
from cql_lite import wire
from cql_lite.connection import Connection, Received
from cql_lite.planner_schema import CREATED, DROPPED, KEYSPACE, TABLE, TYPE, UPDATED
from cql_lite.running import Answering, Run
from cql_lite.session import QuickRun, Session, Statements
from cql_lite.system import Place, State, address_of
from cql_lite.tracing import TracedRequest, traced as with_trace
from node.node import Node
from node.rumours import ALIVE, DEAD
from server.bridge import Bridge
from server.client_tls import ClientTls, Secured
from server.cql_clients import client_row
from server.cql_traces import Traces, packed_address
from server.descriptors import connections_max
from server.metrics import Metrics

UNSENT_BYTES_MAX: Final = 1 << 20
"""Beyond so many bytes that a client has not taken, nothing more is read from it."""
SCHEMA_TIMEOUT_US: Final = 10_000_000
STOP_POLL_S: Final = 0.01
BUG: Final = "an error of this peer: its log says more"
IN_CLEAR: Final = "TLS is spoken on this port, and this client does not: turn on TLS (SSL) in the client"

Complain = Callable[[str, "BaseException | None"], None]


class CqlService:
    """CQL on one node."""

    def __init__(
        self, node: Node, bridge: Bridge, metrics: Metrics, complain: Complain, ports: tuple[int, int]
    ) -> None:
        """`complain` logs bad input, or an error of ours; `ports` are those of CQL and of peers."""
        self._node = node
        self.bridge = bridge
        self.metrics = metrics
        self.complain = complain
        self._ports = ports
        self.statements = Statements(self)
        self.clients: dict[int, Client] = {}
        self._next_client = 0
        self._connections_max = connections_max()
        self._server: asyncio.Server | None = None
        self._told: State = node.metadata.state
        self._telling = False
        self._down: set[PeerId] = set()
        settings = node.inside.settings
        self._write_us, self._read_us = settings.write_timeout_us, settings.read_timeout_us
        self.traces = Traces(node, bridge, self.statements, complain)
        node.metadata.on_adopted(self._on_adopted)
        node.swim.on_change(self._on_peer)

    # --- what a session needs of the peer

    @property
    def state(self) -> State:
        """The metadata state as it is now."""
        return self._node.metadata.state

    @property
    def place(self) -> Place:
        """Where the peer is."""
        identity = self._node.inside.identity
        known = self._node.peer_epochs.known
        return Place(
            identity.peer, self._ports[0], self._ports[1], identity.start, known, self._rows_of_clients
        )

    def _rows_of_clients(self) -> list[dict[str, Any]]:
        rows = [row for client in self.clients.values() if (row := client.row()) is not None]
        return sorted(rows, key=lambda row: (row["address"], row["port"]))

    @property
    def operation_ids_us(self) -> int:
        """How long operation ids are remembered."""
        return self._node.inside.settings.operation_ids_us

    def now_us(self) -> int:
        """The wall clock."""
        return self._node.inside.world.wall_us()

    def token_bytes(self, n: int) -> bytes:
        """n random bytes."""
        return self._node.inside.world.token_bytes(n)

    # --- life

    async def start(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen, with TLS if it is given; raises OSError if the address or port cannot be had."""
        loop = asyncio.get_running_loop()
        secured = None
        if tls is not None:
            secured = ClientTls(tls, lambda text: self.complain(f"CQL: {text}", None), refused_in_clear)

        def made() -> Client | Secured:
            return Client(self) if secured is None else secured(Client(self))

        self._server = await loop.create_server(made, address, port, backlog=1024, reuse_address=True)

    @property
    def port(self) -> int:
        """The port listened on (of use when 0 was asked for)."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more; let requests in work finish for so long, then end them."""
        if self._server is None:
            return
        self._server.close()
        end_s = time.monotonic() + grace_s
        while any(client.busy for client in self.clients.values()) and time.monotonic() < end_s:  # noqa: ASYNC110 - the end of many
            await asyncio.sleep(STOP_POLL_S)
        for client in list(self.clients.values()):
            client.close()

    def entered(self, client: Client) -> int | None:
        """A connection came; its number, or None if there are too many."""
        if len(self.clients) >= self._connections_max:
            self.metrics.count("cql_connections_refused")
            return None
        self._next_client += 1
        self.clients[self._next_client] = client
        self.metrics.count("cql_connections_now", len(self.clients))
        return self._next_client

    def left(self, number: int) -> None:
        """A connection is gone."""
        del self.clients[number]
        self.metrics.count("cql_connections_now", len(self.clients))

    def timeout_us(self, request: Request) -> int:
        """How long the node may try."""
        if isinstance(request, MetadataRequest):
            return SCHEMA_TIMEOUT_US
        return self._write_us if isinstance(request, WriteRequest) else self._read_us

    # --- events

    def _on_adopted(self) -> None:
        """The node is in the middle of something: tell it later."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell_schema)

    def _tell_schema(self) -> None:
        self._telling = False
        before, self._told = self._told, self._node.metadata.state
        for moved in topology_events(before, self._told, self._ports[0]):
            self._push(moved)
        for event in schema_events(before, self._told):
            self._push(event)

    def _on_peer(self, peer: PeerId, state: int) -> None:
        member = self._node.metadata.state.member(peer)
        if member is None or peer == self._node.inside.identity.peer:
            return
        if state == DEAD and peer not in self._down:
            self._down.add(peer)
            self._push(wire.StatusChange("DOWN", address_of(member), self._ports[0]))
        elif state == ALIVE and peer in self._down:
            self._down.discard(peer)
            self._push(wire.StatusChange("UP", address_of(member), self._ports[0]))

    def _push(self, event: wire.Event) -> None:
        for client in list(self.clients.values()):
            client.push(event)


def refused_in_clear(opening: bytes) -> bytes:
    """What a client is told that speaks CQL in clear where TLS is spoken; b"" if it said too little."""
    connection = Connection(refusing=IN_CLEAR)
    connection.receive(opening)
    return connection.data_to_send()


def topology_events(before: State, after: State, port: int) -> Iterator[wire.TopologyChange]:
    """Who came, went, or moved to other tokens or another address between two states."""
    were = {member.peer: member for member in before.members}
    are = {member.peer: member for member in after.members}
    for peer in sorted({*were, *are}):
        old, new = were.get(peer), are.get(peer)
        if old is not None and (new is None or address_of(new) != address_of(old)):
            yield wire.TopologyChange("REMOVED_NODE", address_of(old), port)
        if new is not None and (old is None or address_of(new) != address_of(old)):
            yield wire.TopologyChange("NEW_NODE", address_of(new), port)
        elif old is not None and new is not None and old.tokens != new.tokens:
            yield wire.TopologyChange("MOVED_NODE", address_of(new), port)


def schema_events(before: State, after: State) -> Iterator[wire.SchemaChange]:
    """What became of the schema between two states."""
    for name in sorted({*before.keyspaces, *after.keyspaces}):
        old, new = before.keyspaces.get(name), after.keyspaces.get(name)
        if old is None or new is None:
            yield wire.SchemaChange(DROPPED if new is None else CREATED, KEYSPACE, name)
        elif (old.replication, old.durable_writes) != (new.replication, new.durable_writes):
            yield wire.SchemaChange(UPDATED, KEYSPACE, name)
        if new is not None and old != new:
            yield from _type_events(old, new)
    tables = [{(t.keyspace, t.name): t for t in state.tables.values()} for state in (before, after)]
    for key in sorted({*tables[0], *tables[1]}):
        was, now = tables[0].get(key), tables[1].get(key)
        if was != now and (now is not None or key[0] in after.keyspaces):
            what = DROPPED if now is None else CREATED if was is None else UPDATED
            yield wire.SchemaChange(what, TABLE, *key)


def _type_events(old: Keyspace | None, new: Keyspace) -> Iterator[wire.SchemaChange]:
    before = {of.name: of for of in (() if old is None else old.types)}
    after = {of.name: of for of in new.types}
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            what = DROPPED if name not in after else UPDATED if name in before else CREATED
            yield wire.SchemaChange(what, TYPE, new.name, name)


class Client(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, service: CqlService) -> None:
        self._service = service
        self._connection = Connection()
        self._session = Session(service.statements)
        self._transport: asyncio.Transport | None = None
        self._number: int | None = None
        self._runs: dict[int, Run[wire.Response] | _QuickRequest] = {}
        self._traced: dict[int, TracedRequest] = {}
        self._address: bytes | None = None
        self._flushing = False
        self._choked = self._held = False
        self._requests = 0
        self._who = ""

    @property
    def busy(self) -> bool:
        """Whether requests wait for their response."""
        return bool(self._runs)

    def row(self) -> dict[str, Any] | None:
        """What is told of it in `system_views.clients`."""
        transport = self._transport
        return None if transport is None else client_row(self._connection, transport, self._requests)

    # --- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        self._transport = transport
        transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        peername = transport.get_extra_info("peername")
        self._who = str(peername)
        self._address = packed_address(peername)
        self._number = self._service.entered(self)
        if self._number is None:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone: nobody waits for what it asked."""
        self._transport = None
        for run in self._runs.values():
            run.abandon()
        self._runs.clear()
        for traced in self._traced.values():
            self._service.traces.dropped(traced)
        self._traced.clear()
        if self._number is not None:
            self._service.left(self._number)

    def pause_writing(self) -> None:
        """The client does not take what we send."""
        self._choked = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It does again."""
        self._choked = False
        self._read_again()

    def _read_again(self) -> None:
        if not (self._choked or self._held or self._transport is None or self._connection.closing):
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Bytes of the client, or none: what was left because too many requests were in flight."""
        connection = self._connection
        requests = connection.receive(bytes(data))
        self._requests += len(requests)
        for received in requests:
            if (
                type(received.request) is not wire.Execute
                or received.tracing
                or received.payload
                or not self._begin_quick(received, received.request)
            ):
                self._begin(received)
        if connection.full:
            self._held = True
            if self._transport is not None:
                self._transport.pause_reading()
        self._flush_soon()

    # --- requests

    def _begin(self, received: Received) -> None:
        stream = received.stream
        begun_ns = time.perf_counter_ns()
        kind = type(received.request).__name__.lower()
        warnings: list[str] = []
        traced = self._service.traces.begin(received.request, self._address) if received.tracing else None

        def done(response: wire.Response) -> None:
            self._runs.pop(stream, None)
            us = (time.perf_counter_ns() - begun_ns) // 1000
            code = response.code if isinstance(response, wire.Error) else 0
            self._service.metrics.latency(f"cql_{kind}", _level_label(received.request), code, us)
            tracing_id = None
            if traced is not None:
                del self._traced[stream]
                tracing_id = traced.trace.id
                self._service.traces.answered(traced)
            if self._transport is not None:
                self._connection.respond(stream, response, tracing_id=tracing_id, warnings=tuple(warnings))
                self._flush_soon()

        answering = self._guarded(received, warnings)
        if traced is not None:
            self._traced[stream] = traced
            answering = with_trace(answering, traced, lambda: self._service.state)
        run = Run(answering, self._ask, done)
        self._runs[stream] = run
        run.start()

    def _begin_quick(self, received: Received, request: wire.Execute) -> bool:
        """Begin an EXECUTE on its quick way, if it has one."""
        stream = received.stream
        try:
            run = self._session.quick(request)
        except Exception as error:  # noqa: BLE001 - one request fails; the log says why, and a test looks there
            self._bug(stream, error)
            return True
        if run is None:
            return False
        waiting = _QuickRequest(self, received, run)
        self._runs[stream] = waiting
        service = self._service
        service.bridge.collect_one(run.asked, service.timeout_us(run.asked), waiting.answered)
        return True

    def answered(self, received: Received, run: QuickRun, answer: Any, begun_ns: int) -> None:
        """What the node says to an EXECUTE on its quick way."""
        stream = received.stream
        self._runs.pop(stream, None)
        if run.is_void(answer):
            self._begin(received)
            return
        try:
            response = run.response(answer)
        except Exception as error:  # noqa: BLE001 - as above
            self._bug(stream, error)
            return
        code = response.code if isinstance(response, wire.Error) else 0
        us = (time.perf_counter_ns() - begun_ns) // 1000
        self._service.metrics.latency("cql_execute", run.asked.level, code, us)
        self._connection.respond(stream, response)
        self._flush_soon()

    def _bug(self, stream: int, error: Exception) -> None:
        self._service.complain(f"{self._who}: CQL Execute", error)
        self._connection.respond(stream, wire.ServerError(message=BUG))
        self._flush_soon()

    def _guarded(self, received: Received, warnings: list[str]) -> Answering:
        """An error of ours costs one request; the log says what it was."""
        try:
            return (yield from self._session.answer(received.request, received.payload, warnings))
        except Exception as error:  # noqa: BLE001 - one request fails; the log says why, and a test looks there
            self._service.complain(f"{self._who}: CQL {type(received.request).__name__}", error)
            return wire.ServerError(message=BUG)

    def _ask(self, request: Request, answered: Callable[[Any], None]) -> None:
        self._service.bridge.collect(request, self._service.timeout_us(request), answered)

    # --- bytes

    def push(self, event: wire.Event) -> None:
        """Tell of an event, if the client asked for such."""
        if self._transport is not None and self._connection.push(event):
            self._flush_soon()

    def close(self) -> None:
        """End the connection after what is ready."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        data = self._connection.data_to_send()
        if data:
            transport.write(data)
        if self._connection.closing:
            if self._connection.is_malformed:
                self._service.metrics.count("cql_malformed")
                self._service.complain(f"{self._who}: no CQL of ours; connection closed", None)
            transport.close()
        elif self._held and not self._connection.full:
            self._held = False
            self.data_received(b"")
            self._read_again()


class _QuickRequest:
    """An EXECUTE on its quick way, while the node works on it."""

    __slots__ = ("_begun_ns", "_client", "_received", "_run")

    def __init__(self, client: Client, received: Received, run: QuickRun) -> None:
        self._client: Client | None = client
        self._received = received
        self._run = run
        self._begun_ns = time.perf_counter_ns()

    def answered(self, answer: Any) -> None:
        """The node has answered."""
        if self._client is not None:
            self._client.answered(self._received, self._run, answer, self._begun_ns)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self._client = None


def _level_label(request: wire.Request) -> str:
    if isinstance(request, (wire.Query, wire.Execute)):
        return request.parameters.consistency.value
    return request.consistency.value if isinstance(request, wire.Batch) else ""
