"""A connection from hello to end, in every version, with drivers' habits and worse."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cql_lite import frames, wire
from cql_lite.connection import ALLOWED, Connection, Received, State
from cql_lite.frames import FrameReader, FrameWriter
from tests.cql_lite.test_wire import mutated

QUERY = wire.Query("SELECT", wire.Parameters())


class Client:
    """The other end: writes requests, reads responses, switches to segments as the specification says."""

    def __init__(self, connection: Connection, version: int, *, compressed: bool = False) -> None:
        self.connection = connection
        self.version = version
        self.compressed = compressed
        self.reader = FrameReader(responses=True)
        self.writer = FrameWriter(responses=False)
        self.answers: list[tuple[int, wire.Response]] = []
        self.envelopes: list[frames.Envelope] = []

    def bytes_of(self, request: wire.Request, stream: int = 1, flags: int = 0, prelude: bytes = b"") -> bytes:
        body = prelude + wire.encode_request(request, self.version)
        return self.writer.send(self.version, flags, stream, request.opcode, body=body)

    def send(self, request: wire.Request, stream: int = 1) -> list[Received]:
        received = self.connection.receive(self.bytes_of(request, stream))
        self.read()
        return received

    def read(self) -> list[tuple[int, wire.Response]]:
        self.envelopes = self.reader.receive(self.connection.data_to_send())
        found = []
        for one in self.envelopes:
            end = wire.read_prelude(one.flags, one.body, response=True).end
            found.append((one.stream, wire.decode_response(one.opcode, one.body[end:], one.version)))
        self.answers += found
        return found

    def start(self, **more: str) -> None:
        options = {"CQL_VERSION": "3.0.0", **more} | ({"COMPRESSION": "lz4"} if self.compressed else {})
        assert self.send(wire.Startup(options)) == []
        if self.version >= 5:
            self.reader.begin_segments(self.compressed)
            self.writer.begin_segments(self.compressed)
        elif self.compressed:
            self.writer.begin_compression()


@pytest.fixture(params=[(3, False), (4, True), (5, False), (5, True)], ids=str)
def client(request: Any) -> Client:
    version, compressed = request.param
    client = Client(Connection(), version, compressed=compressed)
    client.start()
    assert client.answers.pop() == (1, wire.Ready())
    return client


def closing(client: Client) -> bool:
    return client.connection.closing


def refusal(client: Client) -> str:
    (stream, answer) = client.answers.pop()
    assert isinstance(answer, wire.ProtocolFault)
    return f"{stream}: {answer.message}"


def test_requests_are_answered_in_any_order(client: Client) -> None:
    data = b"".join(client.bytes_of(QUERY, stream) for stream in range(5))
    requests = client.connection.receive(data)
    assert [(one.stream, one.request) for one in requests] == [(stream, QUERY) for stream in range(5)]
    assert client.connection.in_flight == 5
    for stream in (3, 0, 4):
        client.connection.respond(stream, wire.SetKeyspace("k" * 1000))
    assert [stream for stream, _ in client.read()] == [3, 0, 4]
    client.connection.respond(1, wire.Void())
    assert client.read() == [(1, wire.Void())]
    assert client.connection.in_flight == 1


def test_options_and_registration_are_answered_by_the_connection(client: Client) -> None:
    client.send(wire.Options(), 9)
    stream, answer = client.answers.pop()
    assert isinstance(answer, wire.Supported)
    assert (stream, answer.options["COMPRESSION"]) == (9, ("lz4",))
    assert set(answer.options) == {"COMPRESSION", "CQL_VERSION", "PROTOCOL_VERSIONS"}
    event = wire.StatusChange("UP", bytes(4), 9042)
    assert not client.connection.push(event)
    client.send(wire.Register(("STATUS_CHANGE", "SCHEMA_CHANGE")), 2)
    assert client.answers.pop() == (2, wire.Ready())
    assert client.connection.push(event)
    assert not client.connection.push(wire.TopologyChange("NEW_NODE", bytes(4), 9042))
    assert client.read() == [(-1, wire.Pushed(event))]
    client.send(wire.Register(("WEATHER",)))
    assert "no event type 'WEATHER'" in refusal(client)


def test_tracing_warnings_and_payload(client: Client) -> None:
    prelude = b"\x00\x01\x00\x0csullae-op-id\x00\x00\x00\x02ab"
    (one,) = client.connection.receive(
        client.bytes_of(QUERY, 1, frames.TRACING | frames.CUSTOM_PAYLOAD, prelude)
    )
    assert (one.tracing, one.payload) == (True, {"sullae-op-id": b"ab"})
    client.connection.respond(1, wire.Void(), tracing_id=bytes(16), warnings=("w",), payload={"k": None})
    assert client.read() == [(1, wire.Void())]
    (envelope,) = client.envelopes
    told = wire.read_prelude(envelope.flags, envelope.body, response=True)
    expected = (bytes(16), ("w",), {"k": None}) if client.version >= 4 else (bytes(16), (), {})
    assert told[:3] == expected


def test_what_the_state_does_not_allow_is_refused_and_the_connection_goes_on(client: Client) -> None:
    client.send(wire.Startup({"CQL_VERSION": "3.0.0"}), 4)
    assert refusal(client).startswith("4: a request 0x01 in state ready")
    client.send(wire.AuthResponse(b""), 5)
    assert refusal(client).startswith("5: a request 0x0f in state ready")
    assert client.send(QUERY)


def test_a_malformed_body_costs_an_error_and_a_malformed_frame_the_connection(client: Client) -> None:
    body = b"\x7f\xff\xff\xff"
    assert client.connection.receive(client.writer.send(client.version, 0, 6, 7, body=body)) == []
    client.read()
    assert "6: a message is cut off" in refusal(client)
    assert not closing(client)
    assert client.connection.receive(b"\xff" * 40) == []
    assert closing(client)
    client.read()
    assert refusal(client)
    assert client.connection.receive(client.bytes_of(QUERY)) == []
    assert client.connection.data_to_send() == b""


def test_a_stream_is_used_once_at_a_time(client: Client) -> None:
    data = client.bytes_of(QUERY, 3)
    assert len(client.connection.receive(data + data)) == 1
    assert closing(client)
    with pytest.raises(AssertionError, match="nothing waits"):
        client.connection.respond(4, wire.Void())


@pytest.mark.parametrize("version", [4, 5])
def test_what_comes_beyond_the_requests_in_flight_waits(version: int) -> None:
    connection = Connection(requests_in_flight_max=2)
    client = Client(connection, version)
    client.start()
    data = b"".join(client.bytes_of(QUERY, stream) for stream in range(5))
    assert [received.stream for received in connection.receive(data)] == [0, 1]
    assert connection.full
    assert connection.receive(b"") == []
    connection.respond(1, wire.Void())
    assert [received.stream for received in connection.receive(b"")] == [2]
    for stream in (0, 2):
        connection.respond(stream, wire.Void())
    assert [received.stream for received in connection.receive(b"")] == [3, 4]


def test_who_asks_for_it_is_told_of_overload() -> None:
    client = Client(Connection(requests_in_flight_max=2), 4)
    client.start(THROW_ON_OVERLOAD="1")
    for stream in range(3):
        client.send(QUERY, stream)
    stream, answer = client.answers.pop()
    assert (stream, type(answer)) == (2, wire.Overloaded)
    assert not client.connection.full
    client.connection.respond(0, wire.Void())
    assert len(client.send(QUERY, 2)) == 1


@pytest.mark.parametrize("version", [66, 65, 6, 2])
def test_an_unknown_version_is_answered_in_one_that_drivers_read(version: int) -> None:
    connection = Connection()
    assert connection.receive(bytes((version, 0, 0, 0, 1, 0, 0, 0, 22)) + b"x" * 22) == []
    (envelope,) = FrameReader(responses=True).receive(connection.data_to_send())
    answer = wire.decode_response(envelope.opcode, envelope.body, envelope.version)
    assert isinstance(answer, wire.ProtocolFault)
    assert (answer.code, envelope.version) == (0x0A, 5)
    assert "unsupported protocol version" in answer.message
    assert connection.closing
    assert not connection.is_malformed, "every driver begins so: nobody is to be woken for it"


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01" + b"x" * 20, b"\x84" + b"\0" * 8])
def test_what_is_no_cql_is_called_so(data: bytes) -> None:
    connection = Connection()
    assert connection.receive(data) == []
    assert connection.closing
    assert connection.is_malformed


def test_versions_do_not_mix() -> None:
    client = Client(Connection(), 4)
    client.send(wire.Options())
    client.version = 3
    client.send(wire.Options())
    assert "speaks version 4, not 3" in refusal(client)
    assert closing(client)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "must name a CQL_VERSION"),
        ({"CQL_VERSION": "2.0.0"}, "'2.0.0' is not supported"),
        ({"CQL_VERSION": "three"}, "'three' is not supported"),
        ({"CQL_VERSION": "3.4.5", "COMPRESSION": "snappy"}, "'snappy' is not supported"),
    ],
)
def test_startup_that_cannot_be(options: dict[str, str], said: str) -> None:
    client = Client(Connection(), 5)
    client.send(wire.Startup(options))
    assert said in refusal(client)
    assert client.connection.state is State.NEW
    client.start()
    assert client.answers.pop() == (1, wire.Ready())


@pytest.mark.parametrize("version", [3, 4, 5])
def test_authentication(version: int) -> None:
    client = Client(Connection(authenticator="a.PasswordAuthenticator"), version)
    client.start()
    assert client.answers.pop() == (1, wire.Authenticate("a.PasswordAuthenticator"))
    client.send(QUERY)
    assert "state authenticating" in refusal(client)
    assert len(client.send(wire.AuthResponse(b"\x00u\x00wrong"))) == 1
    client.connection.respond(1, wire.BadCredentials(message="no"))
    assert client.read() == [(1, wire.BadCredentials(message="no"))]
    assert client.connection.state is State.AUTHENTICATING
    assert len(client.send(wire.AuthResponse(b"\x00u\x00p"))) == 1
    client.connection.respond(1, wire.AuthSuccess())
    assert client.read() == [(1, wire.AuthSuccess())]
    assert len(client.send(QUERY)) == 1


@pytest.mark.parametrize("version", ["3.0.0", "3.4.7", "4.0.0", "5.0", "10.1"])
def test_versions_of_cql_that_drivers_name(version: str) -> None:
    """The driver for Rust says 4.0.0, and Cassandra takes whatever is 3 or later."""
    client = Client(Connection(), 4)
    client.start(CQL_VERSION=version)
    assert client.answers == [(1, wire.Ready())]


def test_nothing_but_hello_is_allowed_first() -> None:
    client = Client(Connection(), 5)
    client.send(QUERY)
    assert "0x07 in state new" in refusal(client)
    assert set(State) == set(ALLOWED)


@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_connection_that_refuses_says_so_to_whatever_comes_first(version: int) -> None:
    for first in (wire.Options(), wire.Startup({"CQL_VERSION": "3.0.0"}), QUERY):
        client = Client(Connection(refusing="not here"), version)
        assert client.send(first) == []
        assert client.answers == [(1, wire.ProtocolFault(message="not here"))]
        assert client.connection.closing
    older = Connection(refusing="not here")
    older.receive(b"\x42\x00\x00\x01\x05\x00\x00\x00\x00")
    assert b"unsupported protocol version (66)" in older.data_to_send(), "then it asks with one that is known"


def test_a_request_that_is_too_long_costs_itself_alone(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A protocol error would have drivers end the connection, and take one peer after the other for dead."""
    long = wire.Query("x" * 200_000, wire.Parameters())
    monkeypatch.setattr(client.connection._reader, "_limit", 100_000)
    data = client.bytes_of(QUERY, 1) + client.bytes_of(long, 2) + client.bytes_of(QUERY, 3)
    received = [*client.connection.receive(data[:3000]), *client.connection.receive(data[3000:])]
    assert [one.stream for one in received] == [1, 3]
    ((stream, answer),) = client.read()
    assert stream == 2 and isinstance(answer, wire.Invalid)
    assert "is over the limit of 100000 bytes: send it in smaller parts" in answer.message
    client.connection.receive(client.bytes_of(long, 1))
    assert closing(client), "a second request on the stream of one that is not answered"
    early = Client(Connection(), client.version)
    monkeypatch.setattr(early.connection._reader, "_limit", 100_000)
    early.connection.receive(early.bytes_of(long))
    assert closing(early), "nobody says so much before hello"


def test_requests_that_arrive_with_startup_are_read_as_segments() -> None:
    """No driver does it, but the bytes after STARTUP mean segments whoever sends them when."""
    connection = Connection()
    client = Client(connection, 5)
    hello = client.bytes_of(wire.Startup({"CQL_VERSION": "3.0.0"}))
    client.writer.begin_segments(False)
    assert [one.request for one in connection.receive(hello + client.bytes_of(QUERY, 2))] == [QUERY]
    connection.respond(2, wire.Void())
    data = connection.data_to_send()
    assert client.reader.receive(data[:9])[0].opcode == 2
    client.reader.begin_segments(False)
    assert client.reader.receive(data[9:])[0].stream == 2


def test_mutated_conversations_never_raise() -> None:
    rng = random.Random("conversations")
    closed = 0
    for _ in range(500):
        version = rng.choice((3, 4, 5))
        client = Client(Connection(), version, compressed=rng.random() < 0.5)
        if rng.random() < 0.8:
            client.start()
        data = b"".join(client.bytes_of(QUERY, stream) for stream in range(3))
        for one in client.connection.receive(mutated(data, rng)):
            client.connection.respond(one.stream, wire.Void())
        client.connection.data_to_send()
        closed += client.connection.closing
    assert 50 < closed < 500
