"""Messages of the CQL native protocol, used as `from cql_lite import wire`: their bodies, not their frames.

    request = wire.decode_request(opcode, body, version)
    opcode, body = wire.encode_response(wire.Rows(metadata, rows), version)

and, for clients and tests, `encode_request` and `decode_response`. The structs and their codecs are in
`wire_requests`, `wire_responses` and `wire_errors`, the notations in `wire_parts`, types in metadata in
`wire_options`. What precedes a message in its body, as the envelope's flags say, is `read_prelude` and
`write_prelude`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import UNSET

from cql_lite import frames
from cql_lite.wire_errors import (
    WRITE_TYPES,
    AlreadyExists,
    BadCredentials,
    CasWriteUnknown,
    ConfigError,
    Error,
    FunctionFailure,
    Invalid,
    IsBootstrapping,
    Overloaded,
    ProtocolFault,
    ReadFailure,
    ReadTimeout,
    ServerError,
    SyntaxFault,
    TruncateError,
    Unauthorized,
    Unavailable,
    Unprepared,
    WriteFailure,
    WriteTimeout,
)
from cql_lite.wire_parts import LEVELS, UUID_BYTES, Reader, bytes_map, strings
from cql_lite.wire_requests import (
    COUNTER_BATCH,
    LOGGED,
    REQUEST_OPCODES,
    UNLOGGED,
    AuthResponse,
    Batch,
    BatchStatement,
    BoundValue,
    Execute,
    Options,
    Parameters,
    Prepare,
    Query,
    Register,
    Request,
    Startup,
    decode_request,
    encode_request,
)
from cql_lite.wire_responses import (
    EVENT_TYPES,
    NO_COLUMNS,
    AuthChallenge,
    Authenticate,
    AuthSuccess,
    ColumnSpec,
    Event,
    Metadata,
    Prepared,
    Pushed,
    Ready,
    Response,
    Result,
    Rows,
    SchemaChange,
    SetKeyspace,
    StatusChange,
    Supported,
    TopologyChange,
    Void,
    decode_response,
    encode_response,
)

Payload = Mapping[str, bytes | None]


class Prelude(NamedTuple):
    """What precedes a message: trace id, warnings, custom payload; and where the message begins."""

    tracing_id: bytes | None
    warnings: tuple[str, ...]
    payload: Payload
    end: int


def read_prelude(flags: int, body: bytes, *, response: bool) -> Prelude:
    """What the envelope's flags announce; raises MalformedError. Of these a request has only a payload."""
    reader = Reader(body)
    tracing_id = reader.take(UUID_BYTES) if response and flags & frames.TRACING else None
    warnings = reader.strings() if response and flags & frames.WARNING else ()
    payload = reader.bytes_map() if flags & frames.CUSTOM_PAYLOAD else {}
    return Prelude(tracing_id, warnings, payload, reader.at)


def write_prelude(
    version: int, tracing_id: bytes | None, warnings: Sequence[str], payload: Payload | None
) -> tuple[int, bytes]:
    """The flags and bytes of what precedes a response; version 3 has no warnings and no payload."""
    flags, body = 0, b""
    if tracing_id is not None:
        flags, body = frames.TRACING, tracing_id
    if warnings and version >= 4:
        flags, body = flags | frames.WARNING, body + strings(warnings)
    if payload and version >= 4:
        flags, body = flags | frames.CUSTOM_PAYLOAD, body + bytes_map(payload)
    return flags, body


__all__ = [
    "COUNTER_BATCH", "EVENT_TYPES", "LEVELS", "LOGGED", "NO_COLUMNS", "REQUEST_OPCODES", "UNLOGGED", "UNSET",
    "WRITE_TYPES", "AlreadyExists", "AuthChallenge", "AuthResponse", "AuthSuccess", "Authenticate",
    "BadCredentials", "Batch", "BatchStatement", "BoundValue", "CasWriteUnknown", "ColumnSpec",
    "ConfigError", "Error", "Event", "Execute", "FunctionFailure", "Invalid", "IsBootstrapping",
    "Metadata", "Options", "Overloaded", "Parameters", "Payload", "Prelude", "Prepare", "Prepared",
    "ProtocolFault", "Pushed", "Query", "ReadFailure", "ReadTimeout", "Ready", "Register", "Request",
    "Response", "Result", "Rows", "SchemaChange", "ServerError", "SetKeyspace", "Startup", "StatusChange",
    "Supported", "SyntaxFault", "TopologyChange", "TruncateError", "Unauthorized", "Unavailable",
    "Unprepared", "Void", "WriteFailure", "WriteTimeout", "decode_request", "decode_response",
    "encode_request", "encode_response", "read_prelude", "write_prelude",
]  # fmt: skip
