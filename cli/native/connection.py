"""One connection to one peer on asyncio: opened, authenticated, then requests side by side.

`open_connection` tries version 5 first, and the version below where the peer does not speak one. Errors of
the peer are answers (`wire.Error`), raised as `RefusedError` by `ask`; a connection that cannot be made or
that broke is `LostError`, which says whether what was asked may have been done.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cli.https import reason_of
from cli.native.protocol import ClientProtocol, Reply
from cql_lite import wire
from cql_lite.frames import VERSIONS, MalformedError

CONNECT_TIMEOUT_S: Final = 5.0
CQL_VERSION: Final = "3.0.0"


class LostError(Exception):
    """No connection, or it broke; `sent` says that the request may have been received."""

    def __init__(self, where: str, reason: str, *, sent: bool) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason
        self.sent = sent


class RefusedError(Exception):
    """The peer answered with an error."""

    def __init__(self, error: wire.Error) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Access:
    """How to be let in: TLS, and who one is."""

    tls: ssl.SSLContext | None = None
    username: str = ""
    password: str = ""
    version: int = VERSIONS[-1]


OnEvent = Callable[[wire.Event], None]


class Connection(asyncio.Protocol):
    """See the top of the file; made by `open_connection`."""

    def __init__(self, where: str, version: int, on_event: OnEvent | None) -> None:
        self.where = where
        self.protocol = ClientProtocol(version)
        self.lost: LostError | None = None
        self._on_event = on_event
        self._is_heard = False
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._room = asyncio.Event()
        self._room.set()

    @property
    def version(self) -> int:
        """The version of the protocol that is spoken."""
        return self.protocol.version

    # --- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, and nobody will answer."""
        if isinstance(exc, ssl.SSLError):
            self._lose(_reason(exc))
        elif self._is_heard:
            self._lose(str(exc) if exc is not None else "the peer closed the connection")
        else:
            plain = self._transport is None or self._transport.get_extra_info("ssl_object") is None
            asked = "does it speak TLS (--ssl)?" if plain else "does it want a certificate (--ssl-cert)?"
            self._lose(f"the peer closed the connection before it said anything: {asked}")

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer."""
        self._is_heard = True
        try:
            replies = self.protocol.receive(bytes(data))
        except MalformedError as problem:
            self._lose(f"what it sent is not the CQL protocol: {problem}")
            if self._transport is not None:
                self._transport.abort()
            return
        for reply in replies:
            future = self._waiting.pop(reply.stream, None)
            if future is not None and not future.done():
                future.set_result(reply)
            elif isinstance(reply.response, wire.Pushed) and self._on_event is not None:
                self._on_event(reply.response.event)
        if replies:
            self._room.set()

    def _lose(self, reason: str) -> None:
        if self.lost is None:
            self.lost = LostError(self.where, reason, sent=True)
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(LostError(self.where, reason, sent=True))
        self._room.set()

    # --- requests

    async def request(
        self, request: wire.Request, *, tracing: bool = False, payload: wire.Payload | None = None
    ) -> Reply:
        """The answer, an error included; raises LostError. Cancelling it only stops waiting."""
        while self.protocol.full and self.lost is None:
            self._room.clear()
            await self._room.wait()
        if self.lost is not None or self._transport is None or self._transport.is_closing():
            raise LostError(self.where, self.lost.reason if self.lost else "closed", sent=False)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        stream = self.protocol.send(request, tracing=tracing, payload=payload)
        self._waiting[stream] = future
        self._transport.write(self.protocol.data_to_send())
        return await future

    async def ask(self, request: wire.Request) -> wire.Response:
        """The answer; raises RefusedError if it is an error, and LostError."""
        response = (await self.request(request)).response
        if isinstance(response, wire.Error):
            raise RefusedError(response)
        return response

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()

    # --- beginning

    async def begin(self, access: Access) -> None:
        """STARTUP, and authentication where the peer wants it."""
        options = {"CQL_VERSION": CQL_VERSION, "DRIVER_NAME": "sullae shell", "DRIVER_VERSION": "1"}
        response = await self.ask(wire.Startup(options))
        if isinstance(response, wire.Authenticate):
            if not access.username:
                text = f"{self.where} wants to know who you are: give --username"
                raise RefusedError(wire.BadCredentials(message=text))
            token = f"\0{access.username}\0{access.password}".encode()
            await self.ask(wire.AuthResponse(token))


async def open_connection(
    host: str, port: int, access: Access, on_event: OnEvent | None = None
) -> Connection:
    """A connection that is ready; raises LostError, or RefusedError if the peer does not let us in."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    version = access.version
    while True:
        connection = await _dial(host, port, access, Connection(where, version, on_event))
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await connection.begin(access)
            return connection
        except RefusedError as refused:
            connection.close()
            too_new = isinstance(refused.error, wire.ProtocolFault) and version > VERSIONS[0]
            if not too_new:
                raise
            version -= 1
        except TimeoutError:
            connection.close()
            reason = f"connected, but it does not answer CQL within {CONNECT_TIMEOUT_S:.0f} s"
            raise LostError(where, reason, sent=False) from None
        except BaseException:
            connection.close()
            raise


async def _dial(host: str, port: int, access: Access, connection: Connection) -> Connection:
    loop = asyncio.get_running_loop()
    name = host if access.tls is not None else None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await loop.create_connection(lambda: connection, host, port, ssl=access.tls, server_hostname=name)
    except TimeoutError:
        reason = f"no connection within {CONNECT_TIMEOUT_S:.0f} s"
        raise LostError(connection.where, reason, sent=False) from None
    except OSError as error:
        raise LostError(connection.where, _reason(error), sent=False) from None
    return connection


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return reason_of(error)
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    return error.strerror or str(error)
