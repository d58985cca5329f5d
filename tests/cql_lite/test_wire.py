"""Messages come back from their bytes in every version, and any bytes are a message or a MalformedError."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from core.consistency import Level
from cql_lite import types, wire
from cql_lite.frames import MalformedError
from tests.cql_lite import values

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
VERSION = st.sampled_from([3, 4, 5])
LEVEL = st.sampled_from(wire.LEVELS)
BOUND: st.SearchStrategy[Any] = st.none() | st.just(wire.UNSET) | st.binary(max_size=8)
SERIAL = st.none() | st.sampled_from([Level.SERIAL, Level.LOCAL_SERIAL])
I64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def parameters(draw: st.DrawFn) -> wire.Parameters:
    bound = tuple(draw(st.lists(BOUND, max_size=4)))
    return wire.Parameters(
        consistency=draw(LEVEL),
        values=bound,
        names=tuple(f"n{i}" for i in range(len(bound))) if draw(st.booleans()) else (),
        skip_metadata=draw(st.booleans()),
        page_size=draw(st.integers(0, 2**31 - 1)),
        paging_state=draw(st.none() | st.binary(max_size=8)),
        serial_consistency=draw(SERIAL),
        timestamp_us=draw(st.none() | I64),
        keyspace=draw(TEXT),
        now_s=draw(st.none() | st.integers(-(2**31), 2**31 - 1)),
    )


STATEMENT = st.builds(
    wire.BatchStatement, TEXT | st.binary(max_size=8), st.lists(BOUND, max_size=3).map(tuple)
)
REQUESTS: st.SearchStrategy[Any] = st.one_of(
    st.builds(wire.Query, TEXT, parameters()),
    st.builds(wire.Execute, st.binary(max_size=20), parameters(), st.binary(max_size=20)),
    st.builds(wire.Prepare, TEXT, TEXT),
    st.builds(
        wire.Batch, st.integers(0, 2), st.lists(STATEMENT, max_size=3).map(tuple), LEVEL, SERIAL,
        st.none() | I64, TEXT, st.none() | st.integers(0, 2**31 - 1),
    ),
    st.builds(wire.Startup, st.dictionaries(TEXT, TEXT, max_size=3)),
    st.builds(wire.Register, st.lists(TEXT, max_size=3).map(tuple)),
    st.builds(wire.AuthResponse, st.none() | st.binary(max_size=8)),
    st.just(wire.Options()),
)  # fmt: skip


def as_in(version: int, request: Any) -> Any:
    """The request as an older version can tell it."""
    if version >= 5:
        return request
    if isinstance(request, wire.Execute):
        request = msgspec.structs.replace(request, result_metadata_id=b"")
    if isinstance(request, wire.Execute | wire.Query):
        older = msgspec.structs.replace(request.parameters, keyspace="", now_s=None)
        return msgspec.structs.replace(request, parameters=older)
    if isinstance(request, wire.Batch):
        return msgspec.structs.replace(request, keyspace="", now_s=None)
    return msgspec.structs.replace(request, keyspace="") if isinstance(request, wire.Prepare) else request


@given(REQUESTS, VERSION)
@settings(max_examples=300)
def test_requests_come_back(request: Any, version: int) -> None:
    body = wire.encode_request(request, version)
    assert wire.decode_request(request.opcode, body, version) == as_in(version, request)


COUNT = st.integers(0, 2**31 - 1)
WRITE_TYPE = st.sampled_from(wire.WRITE_TYPES)
REASONS = st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 65535)), max_size=2).map(tuple)
AT: dict[str, Any] = {"message": TEXT, "consistency": LEVEL, "received": COUNT, "required": COUNT}
PLAIN = [wire.ServerError, wire.ProtocolFault, wire.BadCredentials, wire.Overloaded, wire.IsBootstrapping] + [
    wire.TruncateError, wire.SyntaxFault, wire.Unauthorized, wire.Invalid, wire.ConfigError
]  # fmt: skip
ERRORS: st.SearchStrategy[Any] = st.one_of(
    *(st.builds(kind, message=TEXT) for kind in PLAIN),
    st.builds(wire.Unavailable, message=TEXT, consistency=LEVEL, required=COUNT, alive=COUNT),
    st.builds(wire.WriteTimeout, **AT, write_type=WRITE_TYPE),
    st.builds(wire.WriteTimeout, **AT, write_type=st.just("CAS"), contentions=st.integers(0, 65535)),
    st.builds(wire.ReadTimeout, **AT, data_present=st.booleans()),
    st.builds(wire.ReadFailure, **AT, reasons=REASONS, data_present=st.booleans()),
    st.builds(wire.WriteFailure, **AT, reasons=REASONS, write_type=WRITE_TYPE),
    st.builds(wire.CasWriteUnknown, **AT),
    st.builds(
        wire.FunctionFailure, message=TEXT, keyspace=TEXT, function=TEXT,
        argument_types=st.lists(TEXT, max_size=2).map(tuple),
    ),
    st.builds(wire.AlreadyExists, message=TEXT, keyspace=TEXT, table=TEXT),
    st.builds(wire.Unprepared, message=TEXT, id=st.binary(max_size=16)),
)  # fmt: skip

# What a driver cannot tell from result metadata: json is text there, everything is frozen.
PLAIN_TYPES = values.nested().filter(lambda of: "Json(" not in repr(of) and "VectorType(" not in repr(of))
COLUMNS = st.lists(st.builds(wire.ColumnSpec, st.just("ks"), TEXT, TEXT, PLAIN_TYPES), max_size=3)
METADATA = COLUMNS.map(wire.Metadata)


@st.composite
def rows(draw: st.DrawFn) -> wire.Rows:
    metadata = draw(METADATA)
    width = len(metadata.columns)
    row = st.tuples(*[st.none() | st.binary(max_size=5)] * width)
    content = draw(st.lists(row, max_size=3)) if width else []
    return wire.Rows(
        metadata,
        content,
        draw(st.none() | st.binary(max_size=5)),
        False,
        draw(st.booleans()),
    )


ADDRESS = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
CHANGES = st.one_of(
    st.builds(wire.SchemaChange, TEXT, st.just("KEYSPACE"), TEXT),
    st.builds(wire.SchemaChange, TEXT, st.sampled_from(["TABLE", "TYPE"]), TEXT, TEXT),
    st.builds(
        wire.SchemaChange, TEXT, st.just("FUNCTION"), TEXT, TEXT, st.lists(TEXT, max_size=2).map(tuple)
    ),
)
EVENTS = (
    CHANGES
    | st.builds(wire.StatusChange, TEXT, ADDRESS, COUNT)
    | st.builds(wire.TopologyChange, TEXT, ADDRESS, COUNT)
)
RESPONSES: st.SearchStrategy[Any] = st.one_of(
    ERRORS,
    rows(),
    CHANGES,
    st.builds(
        wire.Prepared,
        st.binary(max_size=9),
        METADATA,
        METADATA,
        st.lists(st.integers(0, 9), max_size=2).map(tuple),
    ),
    st.builds(wire.SetKeyspace, TEXT),
    st.builds(wire.Pushed, EVENTS),
    st.builds(wire.Authenticate, TEXT),
    st.builds(wire.AuthChallenge, st.none() | st.binary(max_size=5)),
    st.builds(wire.AuthSuccess, st.none() | st.binary(max_size=5)),
    st.builds(wire.Supported, st.dictionaries(TEXT, st.lists(TEXT, max_size=2).map(tuple), max_size=2)),
    st.just(wire.Void()),
    st.just(wire.Ready()),
)


@given(RESPONSES)
@settings(max_examples=300)
def test_responses_come_back(response: Any) -> None:
    opcode, body = wire.encode_response(response, 5)
    assert wire.decode_response(opcode, body, 5) == response


@given(RESPONSES, st.sampled_from([3, 4]))
def test_responses_of_older_versions_are_read(response: Any, version: int) -> None:
    opcode, body = wire.encode_response(response, version)
    again = wire.decode_response(opcode, body, version)
    assert wire.encode_response(again, version) == (opcode, body) or "duration" in str(response)


def test_columns_left_out() -> None:
    metadata = wire.Metadata([wire.ColumnSpec("ks", "t", "a", types.INT)])
    _, body = wire.encode_response(wire.Rows(metadata, [(b"abcd",)], None, True), 5)
    assert body.hex() == "000000020000000400000001000000010000000461626364"
    again = wire.decode_response(8, body, 5)
    assert again == wire.Rows(wire.NO_COLUMNS, [(b"abcd",)], None, True)
    assert metadata.id != wire.Metadata([wire.ColumnSpec("ks", "t", "a", types.TEXT)]).id


def test_golden_bodies() -> None:
    """Written by hand from sections 3 and 4 of the specification."""
    body = bytes.fromhex("0002 696400040d0001ffffffff000000640008")
    expected = wire.Parameters(Level.QUORUM, (None,), page_size=100, serial_consistency=None)
    read = wire.decode_request(0x0A, body[:13] + b"\x00\x00\x00\x64" + b"\xff\xff\xff\xff", 4)
    assert read == wire.Execute(b"id", expected)
    error = wire.Unavailable(message="no", consistency=Level.ALL, required=3, alive=2)
    assert wire.encode_response(error, 4)[1].hex() == "0000100000026e6f00050000000300000002"


@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        (0x0A, "0002696400"),
        (0x0A, "000269640001 01 0002 00000001 61".replace(" ", "")),
        (0x0A, "000269640001 01 0001 fffffffd".replace(" ", "")),
        (0x0A, "000269640001 01 0001 7fffffff".replace(" ", "")),
        (0x0A, "000269640063 00".replace(" ", "")),
        (0x07, "7fffffff"),
        (0x07, "ffffffff"),
        (0x07, "00000001ff" + "0001" + "00"),
        (0x0D, "03"),
        (0x0D, "00000102"),
        (0x0D, "000000000140"),
        (0x0B, "ffff"),
        (0x04, ""),
        (0x08, ""),
    ],
)
def test_malformed_requests_are_refused(opcode: int, body: str) -> None:
    with pytest.raises(MalformedError) as refused:
        wire.decode_request(opcode, bytes.fromhex(body), 4)
    assert not refused.value.fatal


def test_two_thousand_mutated_messages_are_read_or_refused() -> None:
    """Only MalformedError, whatever the bytes; the seed makes a failure repeatable."""
    rng = random.Random("mutated messages")
    tail = wire.Parameters(
        Level.ONE, (b"abcd", None, wire.UNSET), ("a", "b", "c"), True, 5, b"p", Level.SERIAL, 7, "ks", 9
    )
    statements = (wire.BatchStatement("INSERT", (b"x",)), wire.BatchStatement(b"id", (None,)))
    requests: list[wire.Request] = [
        wire.Query("SELECT", tail), wire.Execute(b"id", tail, b"m"), wire.Prepare("SELECT", "ks"),
        wire.Batch(0, statements, Level.ONE, Level.SERIAL, 5, "ks", 9), wire.Register(("STATUS_CHANGE",)),
        wire.Startup({"CQL_VERSION": "3.0.0"}), wire.AuthResponse(b"token"),
    ]  # fmt: skip
    metadata = wire.Metadata(
        [wire.ColumnSpec("ks", "t", "a", types.parse_type("map<text, frozen<tuple<int, date>>>"))]
    )
    failure = wire.ReadFailure(
        message="", consistency=Level.ONE, received=0, required=1, reasons=((bytes(4), 1),), data_present=True
    )
    responses: list[wire.Response] = [
        wire.Rows(metadata, [(b"abc",)], b"state", False, True), failure,
        wire.Prepared(b"i", metadata, metadata, (0,)), wire.Supported({"COMPRESSION": ("lz4",)}),
        wire.Pushed(wire.StatusChange("UP", bytes(4), 1)),
    ]  # fmt: skip
    refused = 0
    for number in range(2_000):
        version = rng.choice((3, 4, 5))
        response = number % 3 == 0
        if response:
            opcode, body = wire.encode_response(rng.choice(responses), version)
        else:
            request = rng.choice(requests)
            opcode, body = request.opcode, wire.encode_request(request, version)
        damaged = mutated(body, rng)
        try:
            decode: Any = wire.decode_response if response else wire.decode_request
            decode(opcode, damaged, version)
            wire.read_prelude(rng.randrange(16), damaged, response=response)
        except MalformedError:
            refused += 1
    assert 500 < refused < 2_000


def mutated(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(damaged) + 1)
        choice = rng.randrange(3)
        if choice == 0 and at < len(damaged):
            damaged[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif choice == 1:
            del damaged[at : at + rng.randint(1, 8)]
        else:
            damaged[at:at] = rng.randbytes(rng.randint(1, 8))
    return bytes(damaged)
