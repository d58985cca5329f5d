"""One client's connection, without I/O: bytes in, requests out; responses in, bytes out.

    for request in connection.receive(data):    # hand to the planner
        ...
    connection.respond(request.stream, wire.Rows(...))      # whenever, in any order
    transport.write(connection.data_to_send())              # what is ready leaves in one write

The connection itself answers what concerns only itself: OPTIONS, STARTUP and REGISTER, what does not belong
to its state, what cannot be read. Everything else it gives to its caller, who answers each request once.
With as many requests in flight as there may be it is `full`: it keeps what came after them, and goes on with
it at the next `receive` once there is room; a client that asked for THROW_ON_OVERLOAD is refused instead. The
states and what each allows are a table:

    NEW             OPTIONS, STARTUP
    AUTHENTICATING  OPTIONS, AUTH_RESPONSE; READY follows when the caller responds with AuthSuccess
    READY           OPTIONS, QUERY, PREPARE, EXECUTE, BATCH, REGISTER
    CLOSING         nothing is read any more; what is to be sent explains why

The version of the first message is that of the connection. With version 5 what follows STARTUP is read as
segments, and what follows the answer to it is written so. A malformed body and a request that is too long
cost an error, a malformed frame the connection.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import NamedTuple

from core.limits import CQL_REQUESTS_IN_FLIGHT_MAX
from cql_lite import frames, wire
from cql_lite.frames import (
    Envelope,
    FrameReader,
    FrameWriter,
    MalformedError,
    OtherVersionError,
    OversizedError,
)

CQL_VERSION = "3.4.7"
_CQL_VERSIONS = re.compile(r"(?:[3-9]|[1-9]\d)\..*")
"""Those that a client may name: 3 or later, as in Cassandra. There is no 4, but drivers name it."""
LZ4 = "lz4"
EVENT_STREAM = -1

_STARTUP, _OPTIONS, _REGISTER = wire.Startup.opcode, wire.Options.opcode, wire.Register.opcode
_AUTH_RESPONSE = wire.AuthResponse.opcode


class State(enum.Enum):
    """Where a connection stands; see above."""

    NEW = "new"
    AUTHENTICATING = "authenticating"
    READY = "ready"
    CLOSING = "closing"


ALLOWED: Mapping[State, frozenset[int]] = {
    State.NEW: frozenset([_OPTIONS, _STARTUP]),
    State.AUTHENTICATING: frozenset([_OPTIONS, _AUTH_RESPONSE]),
    State.READY: wire.REQUEST_OPCODES - {_STARTUP, _AUTH_RESPONSE},
    State.CLOSING: frozenset(),
}
"""The opcodes that each state allows."""

_WHEN_READY = ALLOWED[State.READY]


class Received(NamedTuple):
    """A request to be answered on its stream; `tracing` asks for a trace, `payload` is the custom payload."""

    stream: int
    request: wire.Request
    tracing: bool
    payload: wire.Payload


_NO_PAYLOAD: wire.Payload = {}


class Connection:
    """See the top of the file.

    `authenticator` is the Java class name of one if clients must authenticate. With `refusing` the first
    message is answered with this text, and the connection ends. `version` is 0 until the first message;
    `options` are those of STARTUP.
    """

    def __init__(
        self,
        *,
        authenticator: str = "",
        requests_in_flight_max: int = CQL_REQUESTS_IN_FLIGHT_MAX,
        refusing: str = "",
    ) -> None:
        self.state = State.NEW
        self.version = 0
        self.options: Mapping[str, str] = {}
        self.registered: tuple[str, ...] = ()
        self._authenticator = authenticator
        self._refusing = refusing
        self._in_flight_max = requests_in_flight_max
        self._in_flight: dict[int, int] = {}
        self._throws = False
        self.is_malformed = False
        """Whether it ends because of what is no CQL, and not because another version is to be tried."""
        self._reader = FrameReader()
        self._writer = FrameWriter()
        self._ready: list[bytes] = []
        self._sent: list[bytes] = []

    # --- in

    @property
    def in_flight(self) -> int:
        """How many requests wait for their response."""
        return len(self._in_flight)

    @property
    def closing(self) -> bool:
        """Whether the connection ends once `data_to_send` is written."""
        return self.state is State.CLOSING

    @property
    def full(self) -> bool:
        """Whether nothing more is read until a response was given: its caller reads no more either."""
        return len(self._in_flight) >= self._in_flight_max and not self._throws

    def receive(self, data: bytes) -> list[Received]:
        """Requests for the caller, in the order they came; never raises for what a client sends.

        With no data: what is left since the connection was full.
        """
        found: list[Received] = []
        if self.state is State.CLOSING:
            return found
        reader = self._reader
        reader.feed(data)
        try:
            while not (self.closing or self.full):
                try:
                    envelope = reader.next()
                except OversizedError as problem:
                    self._on_oversized(problem)
                    continue
                if envelope is None:
                    break
                received = self._on_envelope(envelope)
                if received is not None:
                    found.append(received)
        except MalformedError as problem:
            self._close(problem.stream, str(problem), malformed=not isinstance(problem, OtherVersionError))
        return found

    def _on_envelope(self, envelope: Envelope) -> Received | None:
        version, flags, stream, opcode, body = envelope
        if version != self.version and not self._take_version(version, stream):
            return None
        if stream < 0:
            raise MalformedError(f"a request on the stream {stream}, which is the server's")
        if stream in self._in_flight:
            raise MalformedError(f"a second request on the stream {stream} before the first was answered")
        if self._refusing:
            self._close(stream, self._refusing)
            return None
        if opcode not in (_WHEN_READY if self.state is State.READY else ALLOWED[self.state]):
            self._refuse(stream, self._unexpected(opcode))
            return None
        payload = _NO_PAYLOAD
        try:
            if flags & frames.CUSTOM_PAYLOAD:
                _, _, payload, end = wire.read_prelude(flags, body, response=False)
                body = body[end:]
            request = wire.decode_request(opcode, body, version)
        except MalformedError as problem:
            self._refuse(stream, str(problem))
            return None
        if opcode in (_OPTIONS, _STARTUP, _REGISTER):
            self._answer(stream, request)
            return None
        if len(self._in_flight) >= self._in_flight_max:
            text = f"this connection has {self._in_flight_max} requests in flight; wait for answers"
            self._put(stream, wire.Overloaded(message=text))
            return None
        self._in_flight[stream] = opcode
        return Received(stream, request, bool(flags & frames.TRACING), payload)

    def _on_oversized(self, problem: OversizedError) -> None:
        """A mistake of the request, and not of the protocol, of which drivers say that the peer is down."""
        if self.state is not State.READY or problem.stream < 0 or problem.stream in self._in_flight:
            raise problem
        self._put(problem.stream, wire.Invalid(message=f"{problem}: send it in smaller parts"))

    def _take_version(self, version: int, stream: int) -> bool:
        if self.version == 0:
            self.version = version
            return True
        self._close(stream, f"this connection speaks version {self.version}, not {version}")
        return False

    def _unexpected(self, opcode: int) -> str:
        if opcode not in wire.REQUEST_OPCODES:
            return f"0x{opcode:02x} is no request"
        expected = ", ".join(f"0x{allowed:02x}" for allowed in sorted(ALLOWED[self.state]))
        return f"a request 0x{opcode:02x} in state {self.state.value}; expected one of {expected}"

    # --- what concerns only the connection

    def _answer(self, stream: int, request: wire.Request) -> None:
        if isinstance(request, wire.Options):
            self._put(stream, supported())
        elif isinstance(request, wire.Register):
            self._on_register(stream, request)
        else:
            assert isinstance(request, wire.Startup)
            self._on_startup(stream, request)

    def _on_register(self, stream: int, request: wire.Register) -> None:
        known = tuple(wire.EVENT_TYPES.values())
        unknown = [event for event in request.events if event.upper() not in known]
        if unknown:
            self._refuse(stream, f"there is no event type {unknown[0]!r}; there are {', '.join(known)}")
            return
        asked = [event.upper() for event in request.events]
        self.registered = tuple(event for event in known if event in asked or event in self.registered)
        self._put(stream, wire.Ready())

    def _on_startup(self, stream: int, request: wire.Startup) -> None:
        options = {key.upper(): value for key, value in request.options.items()}
        compression = options.get("COMPRESSION", "").lower()
        if "CQL_VERSION" not in options:
            self._refuse(stream, "STARTUP must name a CQL_VERSION, such as 3.0.0")
            return
        if not _CQL_VERSIONS.fullmatch(options["CQL_VERSION"]):
            self._refuse(stream, f"CQL version {options['CQL_VERSION']!r} is not supported, {CQL_VERSION} is")
            return
        if compression not in ("", LZ4):
            self._refuse(stream, f"compression {compression!r} is not supported, {LZ4} is")
            return
        self.options = options
        self._throws = options.get("THROW_ON_OVERLOAD", "").lower() in ("1", "true")
        compressed = compression == LZ4
        authenticating = bool(self._authenticator)
        self.state = State.AUTHENTICATING if authenticating else State.READY
        self._put(stream, wire.Authenticate(self._authenticator) if authenticating else wire.Ready())
        if self.version >= 5:
            self._flush()
            self._reader.begin_segments(compressed)
            self._writer.begin_segments(compressed)
        elif compressed:
            self._writer.begin_compression()

    # --- out

    def respond(
        self,
        stream: int,
        response: wire.Response,
        *,
        tracing_id: bytes | None = None,
        warnings: tuple[str, ...] = (),
        payload: wire.Payload | None = None,
    ) -> None:
        """Answers a request that `receive` gave; responses may come in any order, each once."""
        opcode = self._in_flight.pop(stream, None)
        assert opcode is not None, f"nothing waits for an answer on stream {stream}"
        if self.state is State.CLOSING:
            return
        if opcode == _AUTH_RESPONSE and isinstance(response, wire.AuthSuccess):
            self.state = State.READY
        self._put(stream, response, tracing_id=tracing_id, warnings=warnings, payload=payload)

    def push(self, event: wire.Event) -> bool:
        """Sends an event if the client registered for its type; whether it did."""
        wanted = self.state is State.READY and wire.EVENT_TYPES[type(event)] in self.registered
        if wanted:
            self._put(EVENT_STREAM, wire.Pushed(event))
        return wanted

    def data_to_send(self) -> bytes:
        """All bytes that are ready, once."""
        self._flush()
        sent, self._sent = self._sent, []
        return sent[0] if len(sent) == 1 else b"".join(sent)

    def _put(
        self,
        stream: int,
        response: wire.Response,
        *,
        tracing_id: bytes | None = None,
        warnings: tuple[str, ...] = (),
        payload: wire.Payload | None = None,
    ) -> None:
        version = self.version or frames.VERSION_MAX
        opcode, body = wire.encode_response(response, version)
        flags = 0
        if tracing_id is not None or warnings or payload:
            flags, prelude = wire.write_prelude(version, tracing_id, warnings, payload)
            body = prelude + body
        self._ready.append(self._writer.envelope(version, flags, stream, opcode, body=body))

    def _flush(self) -> None:
        if self._ready:
            self._sent.append(self._writer.wrap(self._ready))
            self._ready = []

    def _refuse(self, stream: int, problem: str) -> None:
        self._put(stream, wire.ProtocolFault(message=problem))

    def _close(self, stream: int, problem: str, *, malformed: bool = True) -> None:
        self._refuse(stream, problem)
        self.is_malformed = malformed
        self.state = State.CLOSING


def supported() -> wire.Supported:
    """What STARTUP may say here."""
    return wire.Supported(
        {
            "CQL_VERSION": (CQL_VERSION,),
            "COMPRESSION": (LZ4,),
            "PROTOCOL_VERSIONS": tuple(f"{version}/v{version}" for version in frames.VERSIONS),
        }
    )
