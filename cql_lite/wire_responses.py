"""Bodies of responses: READY, AUTHENTICATE, SUPPORTED, RESULT, EVENT, AUTH_CHALLENGE, AUTH_SUCCESS.

Encoding a small page of rows is the hot path: what describes the columns is encoded once per statement and
version (`Metadata` keeps it), values are copied as they came from the store. ERROR is in `wire_errors`.

Source: native_protocol_v5.spec, section 4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import ClassVar

import msgspec

from cql_lite.frames import MalformedError
from cql_lite.types import Type
from cql_lite.wire_errors import Error, decode_error, encode_error
from cql_lite.wire_options import read_option
from cql_lite.wire_parts import (
    NULL,
    Reader,
    i32,
    inet_address,
    short_bytes,
    sized,
    string,
    string_multimap,
    strings,
    u16,
)

ERROR, READY, AUTHENTICATE, SUPPORTED, RESULT = 0x00, 0x02, 0x03, 0x06, 0x08
EVENT, AUTH_CHALLENGE, AUTH_SUCCESS = 0x0C, 0x0E, 0x10

_VOID, _ROWS, _SET_KEYSPACE, _PREPARED, _SCHEMA_CHANGE = (i32.pack(kind) for kind in range(1, 6))
_GLOBAL_TABLE, _MORE_PAGES, _NO_METADATA, _METADATA_CHANGED = 0x1, 0x2, 0x4, 0x8
_METADATA_ID_BYTES = 16


class ColumnSpec(msgspec.Struct, frozen=True):
    """A column of a result, or a variable of a prepared statement."""

    keyspace: str
    table: str
    name: str
    type: Type


class Metadata:
    """The columns of a result, with their encodings kept. `id` changes when they do."""

    __slots__ = ("_encoded", "_id", "columns")

    def __init__(self, columns: Sequence[ColumnSpec] = ()) -> None:
        self.columns = tuple(columns)
        self._encoded: dict[int, tuple[int, bytes]] = {}
        self._id = b""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metadata) and self.columns == other.columns

    def __hash__(self) -> int:
        return hash(self.columns)

    def __repr__(self) -> str:
        return f"Metadata({self.columns!r})"

    @property
    def id(self) -> bytes:
        """16 bytes that name these columns, for clients that keep metadata (version 5)."""
        if not self._id:
            self._id = hashlib.blake2b(self.encoded(5)[1], digest_size=_METADATA_ID_BYTES).digest()
        return self._id

    def encoded(self, version: int) -> tuple[int, bytes]:
        """The flag of a common table, and [<global_table_spec>]<col_spec>... in that version."""
        found = self._encoded.get(version)
        if found is None:
            found = self._encoded[version] = self._encode(version)
        return found

    def _encode(self, version: int) -> tuple[int, bytes]:
        tables = {(column.keyspace, column.table): None for column in self.columns}
        common = len(tables) == 1
        parts = [string(keyspace) + string(table) for keyspace, table in tables] if common else []
        for column in self.columns:
            if not common:
                parts.append(string(column.keyspace) + string(column.table))
            parts.append(string(column.name) + column.type.option(version))
        return _GLOBAL_TABLE if common else 0, b"".join(parts)


NO_COLUMNS = Metadata()


class Ready(msgspec.Struct, frozen=True):
    """The connection is ready."""

    opcode: ClassVar[int] = READY


class Authenticate(msgspec.Struct, frozen=True):
    """The client must authenticate with this authenticator (a Java class name, as drivers know it)."""

    authenticator: str
    opcode: ClassVar[int] = AUTHENTICATE


class AuthChallenge(msgspec.Struct, frozen=True):
    """A token for the client to answer."""

    token: bytes | None
    opcode: ClassVar[int] = AUTH_CHALLENGE


class AuthSuccess(msgspec.Struct, frozen=True):
    """Authentication succeeded."""

    token: bytes | None = None
    opcode: ClassVar[int] = AUTH_SUCCESS


class Supported(msgspec.Struct, frozen=True):
    """What STARTUP may say."""

    options: dict[str, tuple[str, ...]]
    opcode: ClassVar[int] = SUPPORTED


class Void(msgspec.Struct, frozen=True):
    """Done; nothing to tell."""

    opcode: ClassVar[int] = RESULT


class Rows(msgspec.Struct, frozen=True):
    """A page of rows; each row has a wire value or None per column.

    `skip_metadata` leaves the columns out, as the request may ask; with `metadata_changed` they are told all
    the same, with their new id (version 5).
    """

    metadata: Metadata
    rows: Sequence[Sequence[bytes | None]]
    paging_state: bytes | None = None
    skip_metadata: bool = False
    metadata_changed: bool = False
    opcode: ClassVar[int] = RESULT


class SetKeyspace(msgspec.Struct, frozen=True):
    """USE succeeded."""

    keyspace: str
    opcode: ClassVar[int] = RESULT


class Prepared(msgspec.Struct, frozen=True):
    """PREPARE succeeded.

    `key_indexes` are the variables that make the partition key, in order, or none if they cannot.
    """

    id: bytes
    variables: Metadata
    result: Metadata = NO_COLUMNS
    key_indexes: tuple[int, ...] = ()
    opcode: ClassVar[int] = RESULT


class SchemaChange(msgspec.Struct, frozen=True):
    """CREATED, UPDATED or DROPPED a KEYSPACE, TABLE, TYPE, FUNCTION or AGGREGATE; a result and an event.

    `name` is empty for a keyspace; `arguments` are types, of functions and aggregates.
    """

    change: str
    target: str
    keyspace: str
    name: str = ""
    arguments: tuple[str, ...] = ()
    opcode: ClassVar[int] = RESULT


class TopologyChange(msgspec.Struct, frozen=True):
    """NEW_NODE or REMOVED_NODE; the address has 4 or 16 bytes."""

    change: str
    address: bytes
    port: int


class StatusChange(msgspec.Struct, frozen=True):
    """UP or DOWN; the address has 4 or 16 bytes."""

    change: str
    address: bytes
    port: int


Event = TopologyChange | StatusChange | SchemaChange


class Pushed(msgspec.Struct, frozen=True):
    """An event as a message, which has no request."""

    event: Event
    opcode: ClassVar[int] = EVENT


EVENT_TYPES: dict[type, str] = {
    TopologyChange: "TOPOLOGY_CHANGE",
    StatusChange: "STATUS_CHANGE",
    SchemaChange: "SCHEMA_CHANGE",
}

Result = Void | Rows | SetKeyspace | Prepared | SchemaChange
Response = Error | Ready | Authenticate | AuthChallenge | AuthSuccess | Supported | Result | Pushed


# --- writing


def _rows_bytes(result: Rows, version: int) -> bytes:
    """<kind><metadata><rows_count><rows_content>."""
    columns = result.metadata.columns
    flags, described = 0, b""
    changed = result.metadata_changed and version >= 5
    if result.skip_metadata and not changed:
        flags = _NO_METADATA
    else:
        flags, described = result.metadata.encoded(version)
        if changed:
            flags |= _METADATA_CHANGED
            described = short_bytes(result.metadata.id) + described
    pack = i32.pack
    parts = [_ROWS, b"", described, pack(len(result.rows))]
    if result.paging_state is None:
        parts[1] = pack(flags) + pack(len(columns))
    else:
        parts[1] = pack(flags | _MORE_PAGES) + pack(len(columns)) + sized(result.paging_state)
    for row in result.rows:
        for value in row:
            if value is None:
                parts.append(NULL)
            else:
                parts += (pack(len(value)), value)
    return b"".join(parts)


def _prepared_bytes(result: Prepared, version: int) -> bytes:
    parts = [_PREPARED, short_bytes(result.id)]
    if version >= 5:
        parts.append(short_bytes(result.result.id))
    flags, described = result.variables.encoded(version)
    parts.append(i32.pack(flags) + i32.pack(len(result.variables.columns)))
    if version >= 4:
        parts.append(i32.pack(len(result.key_indexes)))
        parts += [u16.pack(index) for index in result.key_indexes]
    parts.append(described)
    if result.result.columns:
        flags, described = result.result.encoded(version)
        parts.append(i32.pack(flags) + i32.pack(len(result.result.columns)) + described)
    else:
        parts.append(i32.pack(_NO_METADATA) + i32.pack(0))
    return b"".join(parts)


def _schema_change_bytes(change: SchemaChange) -> bytes:
    body = string(change.change) + string(change.target) + string(change.keyspace)
    if change.target != "KEYSPACE":
        body += string(change.name)
    return body + strings(change.arguments) if change.target in ("FUNCTION", "AGGREGATE") else body


def _event_bytes(event: Event) -> bytes:
    kind = string(EVENT_TYPES[type(event)])
    if isinstance(event, SchemaChange):
        return kind + _schema_change_bytes(event)
    return kind + string(event.change) + inet_address(event.address) + i32.pack(event.port)


_WRITERS: dict[type, Callable[..., bytes]] = {
    Rows: _rows_bytes,
    Void: lambda _result, _version: _VOID,
    Prepared: _prepared_bytes,
    SetKeyspace: lambda result, _: _SET_KEYSPACE + string(result.keyspace),
    SchemaChange: lambda result, _: _SCHEMA_CHANGE + _schema_change_bytes(result),
    Pushed: lambda pushed, _: _event_bytes(pushed.event),
    Ready: lambda _response, _version: b"",
    Authenticate: lambda response, _: string(response.authenticator),
    AuthChallenge: lambda response, _: sized(response.token),
    AuthSuccess: lambda response, _: sized(response.token),
    Supported: lambda response, _: string_multimap(response.options),
}


def encode_response(response: Response, version: int) -> tuple[int, bytes]:
    """The opcode and body of a response."""
    write = _WRITERS.get(type(response))
    if write is not None:
        opcode: int = response.opcode  # type: ignore[union-attr]  # all but Error have one
        return opcode, write(response, version)
    assert isinstance(response, Error)
    return ERROR, encode_error(response, version)


# --- reading, for the shell and tests


def _read_columns(reader: Reader, flags: int, count: int) -> Metadata:
    common = (reader.string(), reader.string()) if flags & _GLOBAL_TABLE else None
    columns = []
    for _ in range(count):
        keyspace, table = common or (reader.string(), reader.string())
        columns.append(ColumnSpec(keyspace, table, reader.string(), read_option(reader)))
    return Metadata(columns)


def _read_rows(reader: Reader, _version: int) -> Rows:
    flags, count = reader.int32(), reader.int32()
    paging_state = reader.sized() if flags & _MORE_PAGES else None
    changed = bool(flags & _METADATA_CHANGED)
    if changed:
        reader.short_bytes()
    skipped = bool(flags & _NO_METADATA)
    metadata = NO_COLUMNS if skipped else _read_columns(reader, flags, count)
    row_count = reader.int32()
    if min(count, row_count) < 0 or count * row_count * 4 > len(reader.data) - reader.at:
        raise MalformedError(f"a result claims {row_count} rows of {count} columns", fatal=False)
    rows = [tuple(reader.sized() for _ in range(count)) for _ in range(row_count if count else 0)]
    return Rows(metadata, rows, paging_state, skipped, changed)


def _read_prepared(reader: Reader, version: int) -> Prepared:
    prepared_id = reader.short_bytes()
    if version >= 5:
        reader.short_bytes()
    flags, count = reader.int32(), reader.int32()
    indexes: tuple[int, ...] = ()
    if version >= 4:
        indexes = tuple(reader.short() for _ in range(reader.int32()))
    variables = _read_columns(reader, flags, count)
    flags, count = reader.int32(), reader.int32()
    result = NO_COLUMNS if flags & _NO_METADATA else _read_columns(reader, flags, count)
    return Prepared(prepared_id, variables, result, indexes)


def _read_schema_change(reader: Reader) -> SchemaChange:
    change, target, keyspace = reader.string(), reader.string(), reader.string()
    name = "" if target == "KEYSPACE" else reader.string()
    arguments = reader.strings() if target in ("FUNCTION", "AGGREGATE") else ()
    return SchemaChange(change, target, keyspace, name, arguments)


def _read_result(reader: Reader, version: int) -> Result:
    kind = i32.pack(reader.int32())
    if kind == _VOID:
        return Void()
    if kind == _ROWS:
        return _read_rows(reader, version)
    if kind == _SET_KEYSPACE:
        return SetKeyspace(reader.string())
    if kind == _PREPARED:
        return _read_prepared(reader, version)
    if kind == _SCHEMA_CHANGE:
        return _read_schema_change(reader)
    raise MalformedError("a result of an unknown kind", fatal=False)


def _read_event(reader: Reader, _version: int) -> Pushed:
    kind = reader.string()
    if kind == "SCHEMA_CHANGE":
        return Pushed(_read_schema_change(reader))
    if kind not in ("TOPOLOGY_CHANGE", "STATUS_CHANGE"):
        raise MalformedError(f"an event of unknown type {kind}", fatal=False)
    change, address, port = reader.string(), reader.inet_address(), reader.int32()
    topology = kind == "TOPOLOGY_CHANGE"
    return Pushed(TopologyChange(change, address, port) if topology else StatusChange(change, address, port))


_READERS: dict[int, Callable[[Reader, int], Response]] = {
    ERROR: lambda reader, version: decode_error(reader.data[reader.at :], version),
    READY: lambda _reader, _version: Ready(),
    AUTHENTICATE: lambda reader, _: Authenticate(reader.string()),
    SUPPORTED: lambda reader, _: Supported(reader.string_multimap()),
    RESULT: _read_result,
    EVENT: _read_event,
    AUTH_CHALLENGE: lambda reader, _: AuthChallenge(reader.sized()),
    AUTH_SUCCESS: lambda reader, _: AuthSuccess(reader.sized()),
}


def decode_response(opcode: int, body: bytes, version: int) -> Response:
    """The response in a body (after tracing id, warnings and payload); raises MalformedError."""
    read = _READERS.get(opcode)
    if read is None:
        raise MalformedError(f"0x{opcode:02x} is no response", fatal=False)
    return read(Reader(body), version)
