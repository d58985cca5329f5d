"""Who is connected over CQL: the rows of `system_views.clients`, with Cassandra's columns.

Each peer tells of its own connections only, as Cassandra does: of the one that is asked.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any, Final

from cql_lite.connection import Connection, State
from server.cql_traces import packed_address

STAGES: Final = {State.NEW: "establishing", State.AUTHENTICATING: "authenticating"}
ANONYMOUS: Final = "anonymous"
"""Whoever it is: nobody is asked to log in."""


def client_row(connection: Connection, transport: asyncio.Transport, requests: int) -> dict[str, Any] | None:
    """The row of a connection that was asked so much; None if its other end has no address."""
    peername = transport.get_extra_info("peername")
    address = packed_address(peername)
    if address is None:
        return None
    cipher, protocol, _ = transport.get_extra_info("cipher") or (None, None, 0)
    options = connection.options
    return {
        "address": address,
        "port": int(peername[1]),
        "client_options": dict(sorted(options.items())),
        "connection_stage": STAGES.get(connection.state, "ready"),
        "driver_name": options.get("DRIVER_NAME"),
        "driver_version": options.get("DRIVER_VERSION"),
        "hostname": str(ipaddress.ip_address(address)),
        "protocol_version": connection.version or None,
        "request_count": requests,
        "ssl_cipher_suite": cipher,
        "ssl_enabled": cipher is not None,
        "ssl_protocol": protocol,
        "username": ANONYMOUS,
    }
