"""Our codec against the stock driver's, in one process: each reads what the other wrote.

The driver is a package for tests only; where it is absent, these are skipped.
"""

from __future__ import annotations

import datetime
import io
import ipaddress
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from core.consistency import Level
from cql_lite import types, wire
from cql_lite.frames import FrameReader, FrameWriter
from cql_lite.types import Type, parse_type
from tests.cql_lite import values

pytest.importorskip("cassandra", reason="cassandra-driver is not installed")

from cassandra import ConsistencyLevel, ProtocolVersion, WriteType, protocol, segment, util
from cassandra.connection import segment_codec_lz4, segment_codec_no_compression

VERSIONS = [ProtocolVersion.V3, ProtocolVersion.V4, ProtocolVersion.V5]
every_version = pytest.mark.parametrize("version", VERSIONS)


def driver_type(of: Type, version: int) -> Any:
    """The driver's class for a type, read from result metadata as it reads it."""
    return protocol.ResultMessage.read_type(io.BytesIO(of.option(version)), {})


def simple(of: Type, value: Any) -> Any:
    """A Python value of the driver in our form, or one of ours unchanged."""
    if value is None:
        return None
    if isinstance(of, types.ListType | types.SetType | types.VectorType):
        return tuple(simple(of.element, part) for part in value)
    if isinstance(of, types.MapType):
        return tuple((simple(of.keys, key), simple(of.values, part)) for key, part in value.items())
    if isinstance(of, types.Fields):
        return tuple(simple(part_of, part) for part_of, part in zip(of.types, value, strict=True))
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, util.Duration):
        return (value.months, value.days, value.nanoseconds)
    if isinstance(value, util.Date):
        return value.days_from_epoch
    if isinstance(value, util.Time):
        return value.nanosecond_time
    if isinstance(value, datetime.datetime):
        return round(
            (value.replace(tzinfo=datetime.UTC) - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
            / datetime.timedelta(milliseconds=1)
        )
    return ipaddress.ip_address(value).packed if of is types.INET else value


# What the driver can represent; the years of Python's datetime are few.
_TAME: dict[types.Scalar, st.SearchStrategy[Any]] = {types.TIMESTAMP: st.integers(-(10**13), 10**14)}


@pytest.mark.parametrize("of", [of for of in values.SCALARS if of is not types.JSON], ids=str)
@every_version
@given(data=st.data())
@settings(max_examples=30)
def test_the_driver_reads_and_writes_our_scalars(of: types.Scalar, version: int, data: st.DataObject) -> None:
    value = data.draw(_TAME.get(of, values.SCALARS[of]))
    wire_bytes = of.encode(value)
    of_driver = driver_type(of, version)
    read = of_driver.from_binary(wire_bytes, version)
    if value != value:
        assert read != read
        return
    if of is types.DECIMAL:
        assert read == value or Decimal(read).normalize() == value.normalize()
    elif wire_bytes or of in (types.TEXT, types.ASCII, types.BLOB):
        assert simple(of, read) == value
    if of not in (types.DECIMAL, types.TIMESTAMP, types.COUNTER):
        assert of.check(of_driver.to_binary(read, version)) == wire_bytes


@pytest.mark.parametrize(
    ("cql", "value"),
    [
        ("list<frozen<map<text, int>>>", ((("a", 1), ("b", 2)), ())),
        ("set<bigint>", (-5, 1, 7)),
        ("map<uuid, frozen<set<text>>>", ((bytes(16), ("x", "y")),)),
        ("tuple<int, text, date>", (1, None, 3)),
        ("vector<float, 3>", (1.0, 2.5, -0.0)),
        ("vector<text, 2>", ("a", "bc" * 200)),
        ("vector<smallint, 2>", (1, 2)),
        ("frozen<address>", ("x", 7)),
        ("map<text, duration>", (("a", types.Duration(1, 2, 3)),)),
    ],
)
@every_version
def test_the_driver_reads_and_writes_our_nested_types(cql: str, value: Any, version: int) -> None:
    of = parse_type(cql, values.resolve)
    wire_bytes = of.encode(value)
    of_driver = driver_type(of, version)
    read = of_driver.from_binary(wire_bytes, version)
    assert simple(of, read) == value
    assert of.check(of_driver.to_binary(read, version)) == wire_bytes


# --- requests


def sent(message: Any, version: int) -> wire.Request:
    data = protocol.ProtocolHandler.encode_message(message, 7, version, None, False)
    (envelope,) = FrameReader().receive(data)
    assert (envelope.version, envelope.stream) == (version, 7)
    return wire.decode_request(envelope.opcode, envelope.body, version)


@every_version
def test_requests_of_the_driver_are_read(version: int) -> None:
    five = version >= 5
    execute = protocol.ExecuteMessage(
        b"\x01\x02", [b"a", None, b""], ConsistencyLevel.LOCAL_QUORUM, ConsistencyLevel.SERIAL, 100, b"state",
        2**40 - 5, result_metadata_id=b"meta",
    )  # fmt: skip
    parameters = wire.Parameters(
        consistency=Level.LOCAL_QUORUM, values=(b"a", None, b""), page_size=100,
        paging_state=b"state", serial_consistency=Level.SERIAL, timestamp_us=2**40 - 5,
    )  # fmt: skip
    assert sent(execute, version) == wire.Execute(b"\x01\x02", parameters, b"meta" if five else b"")

    query = protocol.QueryMessage("SELECT 한", ConsistencyLevel.ONE, keyspace="ks" if five else None)
    assert sent(query, version) == wire.Query("SELECT 한", wire.Parameters(keyspace="ks" if five else ""))
    prepare = protocol.PrepareMessage("SELECT", keyspace="ks" if five else None)
    assert sent(prepare, version) == wire.Prepare("SELECT", "ks" if five else "")

    batch = protocol.BatchMessage(
        protocol_batch_type(1), [(False, "INSERT", []), (True, b"id", [b"x", None])], ConsistencyLevel.ANY,
        ConsistencyLevel.LOCAL_SERIAL, 5,
    )  # fmt: skip
    statements = (wire.BatchStatement("INSERT", ()), wire.BatchStatement(b"id", (b"x", None)))
    assert sent(batch, version) == wire.Batch(wire.UNLOGGED, statements, Level.ANY, Level.LOCAL_SERIAL, 5)

    startup = protocol.StartupMessage("3.0.0", {"COMPRESSION": "lz4"})
    assert sent(startup, version) == wire.Startup({"COMPRESSION": "lz4", "CQL_VERSION": "3.0.0"})
    assert sent(protocol.OptionsMessage(), version) == wire.Options()
    assert sent(protocol.RegisterMessage(["STATUS_CHANGE"]), version) == wire.Register(("STATUS_CHANGE",))
    assert sent(protocol.AuthResponseMessage(b"\x00u\x00p"), version) == wire.AuthResponse(b"\x00u\x00p")


def protocol_batch_type(value: int) -> Any:
    from cassandra.query import BatchType

    return next(
        kind for kind in (BatchType.LOGGED, BatchType.UNLOGGED, BatchType.COUNTER) if kind.value == value
    )


def test_values_that_are_not_set_are_read() -> None:
    message = protocol.ExecuteMessage(
        b"i", [protocol._UNSET_VALUE], ConsistencyLevel.ONE, result_metadata_id=b""
    )
    read = sent(message, 4)
    assert isinstance(read, wire.Execute)
    assert read.parameters.values == (wire.UNSET,)


# --- responses


def received(response: wire.Response, version: int, *, result_metadata: Any = None) -> Any:
    """What the driver makes of a response."""
    opcode, body = wire.encode_response(response, version)
    flags, prelude = wire.write_prelude(version, bytes(range(16)), ("careful",), {"k": b"v"})
    (envelope,) = FrameReader(responses=True).receive(
        FrameWriter().send(version, flags, 7, opcode, body=prelude + body)
    )
    decode = protocol._ProtocolHandler.decode_message
    message = decode(version, {}, 7, envelope.flags, envelope.opcode, envelope.body, None, result_metadata)
    assert message.trace_id == uuid.UUID(bytes=bytes(range(16)))
    assert message.warnings == (["careful"] if version >= 4 else None)
    assert message.custom_payload == ({"k": b"v"} if version >= 4 else None)
    return message


COLUMNS = wire.Metadata(
    [
        wire.ColumnSpec("ks", "t", name, parse_type(cql, values.resolve))
        for name, cql in [
            ("a", "int"), ("b", "text"), ("c", "map<text, frozen<list<date>>>"), ("d", "vector<float, 2>"),
            ("e", "json"), ("f", "frozen<address>"), ("g", "duration"), ("h", "tuple<tinyint, time>"),
        ]
    ]
)  # fmt: skip
ROW = (1, "x", (("k", (5,)),), (1.0, 2.0), "{}", ("s", 9), types.Duration(1, 2, 3), (4, 5))


def encoded(row: Any) -> tuple[bytes | None, ...]:
    pairs = zip(COLUMNS.columns, row, strict=True)
    return tuple(None if value is None else column.type.encode(value) for column, value in pairs)


@every_version
def test_rows_are_read_by_the_driver(version: int) -> None:
    rows = [encoded(ROW), encoded([None] * 8)]
    message = received(wire.Rows(COLUMNS, rows, b"next"), version)
    assert message.column_names == list("abcdefgh")
    assert message.paging_state == b"next"
    first = zip(COLUMNS.columns, message.parsed_rows[0], strict=True)
    assert tuple(simple(column.type, value) for column, value in first) == ROW
    assert message.parsed_rows[1] == (None,) * 8

    skipped = wire.Rows(COLUMNS, rows, skip_metadata=True)
    again = received(skipped, version, result_metadata=message.column_metadata)
    assert again.parsed_rows == message.parsed_rows
    changed = received(wire.Rows(COLUMNS, rows, skip_metadata=True, metadata_changed=True), 5)
    assert (changed.result_metadata_id, changed.column_names) == (COLUMNS.id, list("abcdefgh"))
    mixed = wire.Metadata([COLUMNS.columns[0], wire.ColumnSpec("other", "u", "z", types.INET)])
    message = received(wire.Rows(mixed, [(None, b"\x7f\x00\x00\x01")]), version)
    assert message.parsed_rows == [(None, "127.0.0.1")]
    assert [column[:3] for column in message.column_metadata] == [("ks", "t", "a"), ("other", "u", "z")]


@every_version
def test_other_results_are_read_by_the_driver(version: int) -> None:
    prepared = received(wire.Prepared(b"id", COLUMNS, COLUMNS, (1, 0)), version)
    assert prepared.query_id == b"id"
    assert prepared.pk_indexes == ([1, 0] if version >= 4 else None)
    assert prepared.result_metadata_id == (COLUMNS.id if version >= 5 else None)
    assert [column.name for column in prepared.bind_metadata] == list("abcdefgh")
    assert [column[2] for column in prepared.column_metadata] == list("abcdefgh")
    assert received(wire.Prepared(b"id", wire.NO_COLUMNS), version).bind_metadata == []
    assert received(wire.SetKeyspace("ks"), version).new_keyspace == "ks"
    assert received(wire.Void(), version).kind == protocol.RESULT_KIND_VOID
    change = received(wire.SchemaChange("CREATED", "TABLE", "ks", "t"), version).schema_change_event
    assert change == {"target_type": "TABLE", "change_type": "CREATED", "keyspace": "ks", "table": "t"}
    assert received(wire.Ready(), version).name == "READY"
    assert received(wire.Authenticate("a.b"), version).authenticator == "a.b"
    assert received(wire.AuthChallenge(b"x"), version).challenge == b"x"
    assert received(wire.AuthSuccess(b""), version).token == ""
    supported = received(wire.Supported({"CQL_VERSION": ("3.4.7",), "COMPRESSION": ("lz4",)}), version)
    assert (supported.cql_versions, supported.options) == (["3.4.7"], {"COMPRESSION": ["lz4"]})


@every_version
def test_events_are_read_by_the_driver(version: int) -> None:
    here = bytes((127, 0, 0, 1))
    pairs: list[tuple[wire.Event, dict[str, Any]]] = [
        (wire.StatusChange("UP", here, 9042), {"change_type": "UP", "address": ("127.0.0.1", 9042)}),
        (
            wire.TopologyChange("NEW_NODE", bytes(15) + b"\x01", 1),
            {"change_type": "NEW_NODE", "address": ("::1", 1)},
        ),
        (
            wire.SchemaChange("DROPPED", "FUNCTION", "ks", "f", ("int",)),
            {"target_type": "FUNCTION", "change_type": "DROPPED", "keyspace": "ks"},
        ),
    ]
    for event, args in pairs:
        message = received(wire.Pushed(event), version)
        assert args.items() <= message.event_args.items()


AT: dict[str, Any] = {"message": "m", "consistency": Level.QUORUM, "received": 1, "required": 2}
FAILED = ((bytes((10, 0, 0, 1)), 0), (bytes(16), 1))


@every_version
@pytest.mark.parametrize(
    ("error", "named", "info"),
    [
        (wire.ServerError(message="m"), "ServerError", None),
        (wire.ProtocolFault(message="m"), "ProtocolException", None),
        (wire.BadCredentials(message="m"), "BadCredentials", None),
        (wire.Overloaded(message="m"), "OverloadedErrorMessage", None),
        (wire.IsBootstrapping(message="m"), "IsBootstrappingErrorMessage", None),
        (wire.TruncateError(message="m"), "TruncateError", None),
        (wire.SyntaxFault(message="m"), "SyntaxException", None),
        (wire.Unauthorized(message="m"), "UnauthorizedErrorMessage", None),
        (wire.Invalid(message="m"), "InvalidRequestException", None),
        (wire.ConfigError(message="m"), "ConfigurationException", None),
        (wire.Unprepared(message="m", id=b"xyz"), "PreparedQueryNotFound", b"xyz"),
        (
            wire.AlreadyExists(message="m", keyspace="k", table="t"),
            "AlreadyExistsException",
            {"keyspace": "k", "table": "t"},
        ),
        (
            wire.Unavailable(message="m", consistency=Level.QUORUM, required=2, alive=1),
            "UnavailableErrorMessage",
            {"consistency": ConsistencyLevel.QUORUM, "required_replicas": 2, "alive_replicas": 1},
        ),
        (
            wire.WriteTimeout(**AT, write_type="CAS", contentions=3),
            "WriteTimeoutErrorMessage",
            {"received_responses": 1, "required_responses": 2, "write_type": WriteType.CAS},
        ),
        (wire.ReadTimeout(**AT, data_present=True), "ReadTimeoutErrorMessage", {"data_retrieved": True}),
        (wire.ReadFailure(**AT, reasons=FAILED, data_present=True), "ReadFailureMessage", {"failures": 2}),
        (wire.WriteFailure(**AT, reasons=FAILED, write_type="BATCH"), "WriteFailureMessage", {"failures": 2}),
        (
            wire.FunctionFailure(message="m", keyspace="k", function="f", argument_types=("int",)),
            "FunctionFailureMessage",
            {"arg_types": ["int"]},
        ),
    ],
)
def test_errors_are_read_by_the_driver(error: wire.Error, named: str, info: Any, version: int) -> None:
    older = {
        "ReadFailureMessage": ("ReadTimeoutErrorMessage", {"data_retrieved": True}),
        "WriteFailureMessage": ("WriteTimeoutErrorMessage", {"write_type": WriteType.BATCH}),
        "FunctionFailureMessage": ("InvalidRequestException", None),
    }
    if version < 4:
        named, info = older.get(named, (named, info))
    message = received(error, version)
    assert (type(message).__name__, message.message) == (named, "m")
    if isinstance(info, dict):
        assert info.items() <= message.info.items()
    else:
        assert message.info == info


def test_an_unknown_outcome_of_a_cas_is_a_timeout_to_older_drivers() -> None:
    message = received(wire.CasWriteUnknown(**AT), 4)
    assert message.info["write_type"] == WriteType.CAS
    assert received(wire.CasWriteUnknown(**AT), 5).code == 0x1700


# --- segments


@pytest.mark.parametrize("compressed", [False, True])
@given(bodies=st.lists(st.binary(max_size=300) | st.integers(0, 400_000).map(bytes), max_size=4))
@settings(max_examples=30)
def test_segments_are_read_both_ways(compressed: bool, bodies: list[bytes]) -> None:
    codec = segment_codec_lz4 if compressed else segment_codec_no_compression
    writer = FrameWriter(responses=False)
    envelopes = [writer.envelope(5, 0, i, 8, body=body) for i, body in enumerate(bodies)]
    theirs = io.BytesIO()
    for envelope in envelopes:
        codec.encode(theirs, envelope)
    reader = FrameReader()
    reader.begin_segments(compressed)
    assert [envelope.body for envelope in reader.receive(theirs.getvalue())] == bodies

    writer.begin_segments(compressed)
    ours = io.BytesIO(writer.wrap(envelopes))
    payloads = b""
    while ours.tell() < len(ours.getvalue()):
        start = ours.tell()
        header = codec.decode_header(ours)
        payloads += codec.decode(ours, header).payload
        assert header.segment_length == ours.tell() - start, "the driver waits for so many bytes"
    assert payloads == b"".join(envelopes)
    assert segment.Segment.MAX_PAYLOAD_LENGTH == 2**17 - 1
