"""Bodies of ERROR: a code, a message, and for some codes what a driver's retry policy wants to know.

Versions before 4 know no failures and versions before 5 no unknown outcome of a conditional update; they are
told the nearest thing they know: a timeout.

Source: native_protocol_v5.spec, section 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import msgspec

from core.consistency import Level
from cql_lite.wire_parts import (
    LEVEL_BYTES,
    Reader,
    i32,
    inet_address,
    short_bytes,
    string,
    strings,
    u16,
)

WRITE_TYPES = ("SIMPLE", "BATCH", "UNLOGGED_BATCH", "COUNTER", "BATCH_LOG", "CAS", "VIEW", "CDC")


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """The root of errors; `message` is for people."""

    message: str
    code: ClassVar[int] = 0x0000


class ServerError(Error, frozen=True):
    """A fault of ours."""


class ProtocolFault(Error, frozen=True):
    """The client broke the protocol."""

    code = 0x000A


class BadCredentials(Error, frozen=True):
    """Authentication failed."""

    code = 0x0100


class Unavailable(Error, frozen=True, kw_only=True):
    """Too few replicas live for the level; nothing was tried."""

    code = 0x1000
    consistency: Level
    required: int
    alive: int


class Overloaded(Error, frozen=True):
    """Refused for now: too much to do."""

    code = 0x1001


class IsBootstrapping(Error, frozen=True):
    """Refused: this peer does not serve yet."""

    code = 0x1002


class TruncateError(Error, frozen=True):
    """TRUNCATE failed."""

    code = 0x1003


class WriteTimeout(Error, frozen=True, kw_only=True):
    """Too few acknowledgements in time; `contentions` counts lost ballots of a CAS (version 5)."""

    code = 0x1100
    consistency: Level
    received: int
    required: int
    write_type: str
    contentions: int = 0


class ReadTimeout(Error, frozen=True, kw_only=True):
    """Too few answers in time; `data_present` says whether one of them had data and not a digest."""

    code = 0x1200
    consistency: Level
    received: int
    required: int
    data_present: bool


class ReadFailure(Error, frozen=True, kw_only=True):
    """Replicas failed; `reasons` are (address, code) of each that did."""

    code = 0x1300
    consistency: Level
    received: int
    required: int
    reasons: tuple[tuple[bytes, int], ...]
    data_present: bool


class FunctionFailure(Error, frozen=True, kw_only=True):
    """A function failed."""

    code = 0x1400
    keyspace: str
    function: str
    argument_types: tuple[str, ...]


class WriteFailure(Error, frozen=True, kw_only=True):
    """Replicas failed to write; `reasons` are (address, code) of each that did."""

    code = 0x1500
    consistency: Level
    received: int
    required: int
    reasons: tuple[tuple[bytes, int], ...]
    write_type: str


class CasWriteUnknown(Error, frozen=True, kw_only=True):
    """A conditional update may or may not have been decided; a SERIAL read settles it (version 5)."""

    code = 0x1700
    consistency: Level
    received: int
    required: int


class SyntaxFault(Error, frozen=True):
    """The statement cannot be parsed."""

    code = 0x2000


class Unauthorized(Error, frozen=True):
    """The role may not do this."""

    code = 0x2100


class Invalid(Error, frozen=True):
    """The statement is well-formed but wrong."""

    code = 0x2200


class ConfigError(Error, frozen=True):
    """The statement asks for what cannot be configured."""

    code = 0x2300


class AlreadyExists(Error, frozen=True, kw_only=True):
    """What CREATE names exists; `table` is empty for a keyspace."""

    code = 0x2400
    keyspace: str
    table: str = ""


class Unprepared(Error, frozen=True, kw_only=True):
    """The peer does not know this prepared statement (any more)."""

    code = 0x2500
    id: bytes


def _older(error: Error, version: int) -> Error:
    """The error in words that the version knows."""
    if isinstance(error, CasWriteUnknown) and version < 5:
        return WriteTimeout(
            message=error.message,
            consistency=error.consistency,
            received=error.received,
            required=error.required,
            write_type="CAS",
        )
    if version >= 4:
        return error
    if isinstance(error, ReadFailure):
        return ReadTimeout(
            message=error.message,
            consistency=error.consistency,
            received=error.received,
            required=error.required,
            data_present=error.data_present,
        )
    if isinstance(error, WriteFailure):
        return WriteTimeout(
            message=error.message,
            consistency=error.consistency,
            received=error.received,
            required=error.required,
            write_type=error.write_type,
        )
    return Invalid(message=error.message) if isinstance(error, FunctionFailure) else error


def _counts(error: WriteTimeout | ReadTimeout | ReadFailure | WriteFailure | CasWriteUnknown) -> bytes:
    return LEVEL_BYTES[error.consistency] + i32.pack(error.received) + i32.pack(error.required)


def _reasons(reasons: tuple[tuple[bytes, int], ...], version: int) -> bytes:
    count = i32.pack(len(reasons))
    if version < 5:
        return count
    return count + b"".join(inet_address(address) + u16.pack(code) for address, code in reasons)


def encode_error(error: Error, version: int) -> bytes:
    """The body of an ERROR."""
    error = _older(error, version)
    return i32.pack(error.code) + string(error.message) + _details(error, version)


def _details(error: Error, version: int) -> bytes:
    match error:
        case Unavailable():
            return LEVEL_BYTES[error.consistency] + i32.pack(error.required) + i32.pack(error.alive)
        case WriteTimeout():
            body = _counts(error) + string(error.write_type)
            return body + u16.pack(error.contentions) if version >= 5 and error.write_type == "CAS" else body
        case ReadTimeout():
            return _counts(error) + bytes((error.data_present,))
        case ReadFailure():
            return _counts(error) + _reasons(error.reasons, version) + bytes((error.data_present,))
        case WriteFailure():
            return _counts(error) + _reasons(error.reasons, version) + string(error.write_type)
        case CasWriteUnknown():
            return _counts(error)
        case FunctionFailure():
            return string(error.keyspace) + string(error.function) + strings(error.argument_types)
        case AlreadyExists():
            return string(error.keyspace) + string(error.table)
        case Unprepared():
            return short_bytes(error.id)
        case _:
            return b""


# --- reading, for the shell


def _read_reasons(reader: Reader, version: int) -> tuple[tuple[bytes, int], ...]:
    count = reader.int32()
    if version < 5:
        return ((b"", 0),) * min(max(count, 0), 1000)
    return tuple((reader.inet_address(), reader.short()) for _ in range(count))


def _read_write_timeout(message: str, reader: Reader, version: int) -> Error:
    consistency, received, required = reader.consistency(), reader.int32(), reader.int32()
    write_type = reader.string()
    contended = version >= 5 and write_type == "CAS" and reader.at < len(reader.data)
    return WriteTimeout(
        message=message,
        consistency=consistency,
        received=received,
        required=required,
        write_type=write_type,
        contentions=reader.short() if contended else 0,
    )


def _read_read_timeout(message: str, reader: Reader, _version: int) -> Error:
    return ReadTimeout(
        message=message,
        consistency=reader.consistency(),
        received=reader.int32(),
        required=reader.int32(),
        data_present=bool(reader.byte()),
    )


def _read_read_failure(message: str, reader: Reader, version: int) -> Error:
    return ReadFailure(
        message=message,
        consistency=reader.consistency(),
        received=reader.int32(),
        required=reader.int32(),
        reasons=_read_reasons(reader, version),
        data_present=bool(reader.byte()),
    )


def _read_write_failure(message: str, reader: Reader, version: int) -> Error:
    return WriteFailure(
        message=message,
        consistency=reader.consistency(),
        received=reader.int32(),
        required=reader.int32(),
        reasons=_read_reasons(reader, version),
        write_type=reader.string(),
    )


def _read_unavailable(message: str, reader: Reader, _version: int) -> Error:
    return Unavailable(
        message=message, consistency=reader.consistency(), required=reader.int32(), alive=reader.int32()
    )


def _read_unknown(message: str, reader: Reader, _version: int) -> Error:
    return CasWriteUnknown(
        message=message, consistency=reader.consistency(), received=reader.int32(), required=reader.int32()
    )


def _read_function_failure(message: str, reader: Reader, _version: int) -> Error:
    return FunctionFailure(
        message=message, keyspace=reader.string(), function=reader.string(), argument_types=reader.strings()
    )


_DETAILED: dict[int, Callable[[str, Reader, int], Error]] = {
    Unavailable.code: _read_unavailable,
    WriteTimeout.code: _read_write_timeout,
    ReadTimeout.code: _read_read_timeout,
    ReadFailure.code: _read_read_failure,
    WriteFailure.code: _read_write_failure,
    CasWriteUnknown.code: _read_unknown,
    FunctionFailure.code: _read_function_failure,
    AlreadyExists.code: lambda message, reader, _: AlreadyExists(
        message=message, keyspace=reader.string(), table=reader.string()
    ),
    Unprepared.code: lambda message, reader, _: Unprepared(message=message, id=reader.short_bytes()),
}

_PLAIN: dict[int, type[Error]] = {
    of.code: of
    for of in (
        ServerError,
        ProtocolFault,
        BadCredentials,
        Overloaded,
        IsBootstrapping,
        TruncateError,
        SyntaxFault,
        Unauthorized,
        Invalid,
        ConfigError,
    )
}


def decode_error(body: bytes, version: int) -> Error:
    """The error in a body, one of an unknown code as ServerError; raises MalformedError."""
    reader = Reader(body)
    code = reader.int32()
    message = reader.string()
    if code in _DETAILED:
        return _DETAILED[code](message, reader, version)
    return _PLAIN.get(code, ServerError)(message=message)
