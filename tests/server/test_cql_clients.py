"""`system_views.clients`: what is told of a connection, in clear and behind TLS."""

from __future__ import annotations

import asyncio
from typing import Any

from cql_lite import wire
from cql_lite.connection import Connection
from cql_lite.frames import FrameWriter
from cql_lite.system import TABLES, Place, virtual_rows
from server.cql_clients import client_row

ADDRESS = ("127.0.0.9", 4711)


class Transport(asyncio.Transport):
    """Knows where it leads to."""

    def __init__(self, **known: Any) -> None:
        super().__init__(known)


def begun(version: int = 5) -> Connection:
    connection = Connection()
    hello = wire.Startup({"CQL_VERSION": "3.0.0", "DRIVER_NAME": "a driver", "DRIVER_VERSION": "1.2"})
    body = wire.encode_request(hello, version)
    data = FrameWriter(responses=False).send(version, 0, 1, hello.opcode, body=body)
    assert connection.receive(data) == []
    return connection


def test_what_is_told_of_a_connection() -> None:
    row = client_row(begun(4), Transport(peername=ADDRESS), 7)
    assert row is not None
    assert (row["address"], row["port"], row["hostname"]) == (b"\x7f\0\0\x09", 4711, "127.0.0.9")
    assert (row["driver_name"], row["driver_version"], row["protocol_version"]) == ("a driver", "1.2", 4)
    assert (row["connection_stage"], row["request_count"], row["username"]) == ("ready", 7, "anonymous")
    assert (row["ssl_enabled"], row["ssl_protocol"]) == (False, None)
    assert row["client_options"]["CQL_VERSION"] == "3.0.0"
    row = client_row(Connection(), Transport(peername=("::1", 5, 0, 0)), 0)
    assert row is not None
    assert (row["address"], row["connection_stage"], row["driver_name"]) == (
        b"\0" * 15 + b"\1", "establishing", None,
    )  # fmt: skip
    assert client_row(Connection(), Transport(), 0) is None, "it has gone"


def test_the_table_has_a_column_for_all_of_it() -> None:
    row = client_row(begun(), Transport(peername=ADDRESS, cipher=("AES", "TLSv1.3", 256)), 1)
    assert row is not None and row["ssl_enabled"]
    computed = TABLES["system_views", "clients"]
    assert set(row) == {column.name for column in computed.table.columns}
    state: Any = None
    (found,) = virtual_rows(computed, state, Place(b"", 0, 0, 0, {}, lambda: [row]))()
    assert found["ssl_protocol"] == b"TLSv1.3"
    assert virtual_rows(computed, state, Place(b"", 0, 0, 0))() == []
