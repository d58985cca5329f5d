"""Bodies of requests: STARTUP, OPTIONS, QUERY, PREPARE, EXECUTE, BATCH, REGISTER, AUTH_RESPONSE.

Decoding EXECUTE is the hot path of the whole store, so values are read in one loop without a reader
object. Lengths are compared with the end of the body once, after the loop; a slice beyond the end is short,
not wrong.

Source: native_protocol_v5.spec, section 4.1; what versions 3 and 4 lack or write in fewer bytes depends on
the `version` given.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import ClassVar, Final

import msgspec
from msgspec import UNSET, UnsetType

from core.consistency import Level
from cql_lite.frames import MalformedError
from cql_lite.wire_parts import (
    LEVEL_BYTES,
    NULL,
    UNSET_LENGTH,
    Reader,
    i32,
    i64,
    level_of,
    long_string,
    short_bytes,
    sized,
    string,
    string_map,
    strings,
    u16,
    u32,
)

STARTUP, OPTIONS, QUERY, PREPARE, EXECUTE = 0x01, 0x05, 0x07, 0x09, 0x0A
REGISTER, BATCH, AUTH_RESPONSE = 0x0B, 0x0D, 0x0F

BoundValue = bytes | None | UnsetType
"""A value as the client bound it: wire bytes, null, or not set."""

_VALUES, _SKIP_METADATA, _PAGE_SIZE, _PAGING_STATE = 0x01, 0x02, 0x04, 0x08
_SERIAL, _TIMESTAMP, _NAMES, _KEYSPACE, _NOW = 0x10, 0x20, 0x40, 0x80, 0x100
_UNSET: Final = i32.pack(UNSET_LENGTH)


class Parameters(msgspec.Struct, frozen=True, gc=False):
    """The parameters of a QUERY or EXECUTE.

    `names`, if any, belong to the values one by one. `page_size` 0 asks for one page of everything.
    `keyspace` (empty if not given) and `now_s` come with version 5 only.
    """

    consistency: Level = Level.ONE
    values: tuple[BoundValue, ...] = ()
    names: tuple[str, ...] = ()
    skip_metadata: bool = False
    page_size: int = 0
    paging_state: bytes | None = None
    serial_consistency: Level | None = None
    timestamp_us: int | None = None
    keyspace: str = ""
    now_s: int | None = None


class Startup(msgspec.Struct, frozen=True):
    """The first request; the options name CQL_VERSION, COMPRESSION, DRIVER_NAME..."""

    options: dict[str, str]
    opcode: ClassVar[int] = STARTUP


class Options(msgspec.Struct, frozen=True):
    """Asks what STARTUP may say."""

    opcode: ClassVar[int] = OPTIONS


class AuthResponse(msgspec.Struct, frozen=True):
    """A token for the authenticator."""

    token: bytes | None
    opcode: ClassVar[int] = AUTH_RESPONSE


class Register(msgspec.Struct, frozen=True):
    """Asks for events of these types."""

    events: tuple[str, ...]
    opcode: ClassVar[int] = REGISTER


class Query(msgspec.Struct, frozen=True):
    """A statement as text."""

    text: str
    parameters: Parameters
    opcode: ClassVar[int] = QUERY


class Prepare(msgspec.Struct, frozen=True):
    """A statement to be prepared; `keyspace` (version 5) is empty if not given."""

    text: str
    keyspace: str = ""
    opcode: ClassVar[int] = PREPARE


class Execute(msgspec.Struct, frozen=True, gc=False):
    """A prepared statement with its values; `result_metadata_id` is what the client knows (version 5)."""

    id: bytes
    parameters: Parameters
    result_metadata_id: bytes = b""
    opcode: ClassVar[int] = EXECUTE


class BatchStatement(msgspec.Struct, frozen=True):
    """A statement of a batch: its text, or the id of a prepared one."""

    statement: str | bytes
    values: tuple[BoundValue, ...]


LOGGED, UNLOGGED, COUNTER_BATCH = 0, 1, 2


class Batch(msgspec.Struct, frozen=True):
    """Several statements; `kind` is LOGGED, UNLOGGED or COUNTER_BATCH."""

    kind: int
    statements: tuple[BatchStatement, ...]
    consistency: Level
    serial_consistency: Level | None = None
    timestamp_us: int | None = None
    keyspace: str = ""
    now_s: int | None = None
    opcode: ClassVar[int] = BATCH


Request = Startup | Options | AuthResponse | Register | Query | Prepare | Execute | Batch


# --- reading


def _values(body: bytes, at: int, named: bool) -> tuple[list[BoundValue], list[str], int]:
    """Values, their names, and the offset after them; struct.error if the body ends before."""
    unpack = i32.unpack_from
    count = u16.unpack_from(body, at)[0]
    at += 2
    values: list[BoundValue] = []
    names: list[str] = []
    for _ in range(count):
        if named:
            reader = Reader(body, at)
            names.append(reader.string())
            at = reader.at
        length = unpack(body, at)[0]
        at += 4
        if length >= 0:
            end = at + length
            values.append(body[at:end])
            at = end
        elif length == -1:
            values.append(None)
        elif length == UNSET_LENGTH:
            values.append(UNSET)
        else:
            raise MalformedError(f"a value of length {length}", fatal=False)
    return values, names, at


def _parameters(body: bytes, at: int, version: int) -> Parameters:
    """<consistency><flags>[values][page size][paging state][serial][timestamp][keyspace][now]."""
    code = u16.unpack_from(body, at)[0]
    if version >= 5:
        flags = u32.unpack_from(body, at + 2)[0]
        at += 6
    else:
        flags = body[at + 2] if at + 2 < len(body) else _cut_off()
        at += 3
    values: list[BoundValue] = []
    names: list[str] = []
    if flags & _VALUES:
        values, names, at = _values(body, at, bool(flags & _NAMES))
    page_size = 0
    if flags & _PAGE_SIZE:
        page_size = max(0, i32.unpack_from(body, at)[0])
        at += 4
    if at > len(body):
        _cut_off()
    skip_metadata = bool(flags & _SKIP_METADATA)
    if not flags & (_PAGING_STATE | _SERIAL | _TIMESTAMP | _KEYSPACE | _NOW):
        return Parameters(level_of(code), tuple(values), tuple(names), skip_metadata, page_size)
    reader = Reader(body, at)
    paging_state = reader.sized() if flags & _PAGING_STATE else None
    return Parameters(
        level_of(code),
        tuple(values),
        tuple(names),
        skip_metadata,
        page_size,
        paging_state,
        *_tail(reader, flags, version),
    )


def _tail(reader: Reader, flags: int, version: int) -> tuple[Level | None, int | None, str, int | None]:
    """What ends the parameters of QUERY and EXECUTE as well as a BATCH."""
    serial = reader.consistency() if flags & _SERIAL else None
    timestamp_us = reader.long() if flags & _TIMESTAMP else None
    keyspace = reader.string() if flags & _KEYSPACE and version >= 5 else ""
    now_s = reader.int32() if flags & _NOW and version >= 5 else None
    return serial, timestamp_us, keyspace, now_s


def _cut_off() -> int:
    raise MalformedError("a message is cut off", fatal=False)


def _read_execute(body: bytes, version: int) -> Execute:
    end = 2 + u16.unpack_from(body)[0]
    if version < 5:
        return Execute(body[2:end], _parameters(body, end, version))
    at = end + 2
    metadata_end = at + u16.unpack_from(body, end)[0]
    return Execute(body[2:end], _parameters(body, metadata_end, version), body[at:metadata_end])


def _read_query(body: bytes, version: int) -> Query:
    reader = Reader(body)
    text = reader.long_string()
    return Query(text, _parameters(body, reader.at, version))


def _read_prepare(body: bytes, version: int) -> Prepare:
    reader = Reader(body)
    text = reader.long_string()
    # Some drivers of version 5 leave out flags they do not set.
    flags = reader.flags() if version >= 5 and reader.at < len(body) else 0
    return Prepare(text, reader.string() if flags & 0x01 else "")


def _read_batch(body: bytes, version: int) -> Batch:
    reader = Reader(body)
    kind = reader.byte()
    if kind not in (LOGGED, UNLOGGED, COUNTER_BATCH):
        raise MalformedError(f"a batch of type {kind}", fatal=False)
    statements = []
    for _ in range(reader.short()):
        prepared = reader.byte()
        if prepared > 1:
            raise MalformedError(f"a statement of kind {prepared} in a batch", fatal=False)
        statement = reader.short_bytes() if prepared else reader.long_string()
        values, _, reader.at = _values(body, reader.at, False)
        statements.append(BatchStatement(statement, tuple(values)))
    consistency = reader.consistency()
    flags = reader.flags() if version >= 5 else reader.byte()
    if flags & _NAMES:
        raise MalformedError("values in a batch cannot have names: the protocol leaves no place", fatal=False)
    return Batch(kind, tuple(statements), consistency, *_tail(reader, flags, version))


_READERS: dict[int, Callable[[bytes, int], Request]] = {
    EXECUTE: _read_execute,
    QUERY: _read_query,
    PREPARE: _read_prepare,
    BATCH: _read_batch,
    STARTUP: lambda body, _: Startup(Reader(body).string_map()),
    OPTIONS: lambda _body, _: Options(),
    REGISTER: lambda body, _: Register(Reader(body).strings()),
    AUTH_RESPONSE: lambda body, _: AuthResponse(Reader(body).sized()),
}

REQUEST_OPCODES: Final = frozenset(_READERS)


def decode_request(opcode: int, body: bytes, version: int) -> Request:
    """The request in a body; raises MalformedError."""
    read = _READERS.get(opcode)
    if read is None:
        raise MalformedError(f"0x{opcode:02x} is no request", fatal=False)
    try:
        return read(body, version)
    except struct.error:
        raise MalformedError("a message is cut off", fatal=False) from None


# --- writing


def _value_bytes(value: BoundValue) -> bytes:
    if isinstance(value, UnsetType):
        return _UNSET
    return NULL if value is None else i32.pack(len(value)) + value


def _flags_bytes(flags: int, version: int) -> bytes:
    return u32.pack(flags) if version >= 5 else bytes((flags & 0xFF,))


def _tail_bytes(request: Parameters | Batch, version: int) -> tuple[int, bytes]:
    flags, parts = 0, b""
    if request.serial_consistency is not None:
        flags, parts = flags | _SERIAL, parts + LEVEL_BYTES[request.serial_consistency]
    if request.timestamp_us is not None:
        flags, parts = flags | _TIMESTAMP, parts + i64.pack(request.timestamp_us)
    if request.keyspace and version >= 5:
        flags, parts = flags | _KEYSPACE, parts + string(request.keyspace)
    if request.now_s is not None and version >= 5:
        flags, parts = flags | _NOW, parts + i32.pack(request.now_s)
    return flags, parts


def _parameters_bytes(parameters: Parameters, version: int) -> bytes:
    flags, tail = _tail_bytes(parameters, version)
    parts = b""
    if parameters.values:
        flags |= _VALUES | (_NAMES if parameters.names else 0)
        names = [string(name) for name in parameters.names] or [b""] * len(parameters.values)
        pairs = zip(names, parameters.values, strict=True)
        parts += u16.pack(len(names)) + b"".join(name + _value_bytes(value) for name, value in pairs)
    if parameters.skip_metadata:
        flags |= _SKIP_METADATA
    if parameters.page_size:
        flags, parts = flags | _PAGE_SIZE, parts + i32.pack(parameters.page_size)
    if parameters.paging_state is not None:
        flags, parts = flags | _PAGING_STATE, parts + sized(parameters.paging_state)
    return LEVEL_BYTES[parameters.consistency] + _flags_bytes(flags, version) + parts + tail


def _batch_bytes(batch: Batch, version: int) -> bytes:
    parts = [bytes((batch.kind,)), u16.pack(len(batch.statements))]
    for one in batch.statements:
        if isinstance(one.statement, bytes):
            parts.append(b"\x01" + short_bytes(one.statement))
        else:
            parts.append(b"\x00" + long_string(one.statement))
        parts.append(u16.pack(len(one.values)) + b"".join(map(_value_bytes, one.values)))
    flags, tail = _tail_bytes(batch, version)
    return b"".join(parts) + LEVEL_BYTES[batch.consistency] + _flags_bytes(flags, version) + tail


def encode_request(request: Request, version: int) -> bytes:
    """The body of a request."""
    match request:
        case Execute():
            known = short_bytes(request.result_metadata_id) if version >= 5 else b""
            return short_bytes(request.id) + known + _parameters_bytes(request.parameters, version)
        case Query():
            return long_string(request.text) + _parameters_bytes(request.parameters, version)
        case Prepare():
            text = long_string(request.text)
            if version < 5:
                return text
            keyspace = string(request.keyspace) if request.keyspace else b""
            return text + u32.pack(1 if keyspace else 0) + keyspace
        case Batch():
            return _batch_bytes(request, version)
        case Startup():
            return string_map(request.options)
        case Register():
            return strings(request.events)
        case AuthResponse():
            return sized(request.token)
        case Options():
            return b""
