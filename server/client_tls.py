"""TLS towards clients, on REST and CQL: the handshake first, and only then the protocol behind it begins.

By hand, as between peers (server/tls_end.py): an event loop's own TLS neither tells a client why it is
refused nor us. Who is refused gets TLS's own alert and is one line in the log. Who begins in clear was not
told of TLS and would not understand an alert: the protocol says what it gets instead. Who connects and does
not get through the handshake within `HANDSHAKE_S` is let go, and the protocol has never heard of him.

To the protocol behind it this is a transport like any other: what is written is encrypted and goes straight
to the connection below, whose buffer and whose wish to pause are passed on as they are.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from server.descriptors import connections_max
from server.tls_end import TlsEnd, why

HANDSHAKE_S: Final = 5.0
"""So long a client may take until it has shown what it has to."""
_TLS_HANDSHAKE: Final = 0x16
"""The first byte of who begins with TLS."""
_OPENING_BYTES_MAX: Final = 1024
"""So much is kept of how a client began."""


def _no_answer(_: bytes) -> bytes:
    return b""


class ClientTls:
    """What connections of one port have in common."""

    def __init__(
        self,
        context: ssl.SSLContext,
        complain: Callable[[str], None],
        in_clear: Callable[[bytes], bytes] = _no_answer,
    ) -> None:
        """`complain` is called with a line for the log; `in_clear` says what a client is told that began with
        these bytes, which are no TLS (b"": it gets an alert)."""
        self.context = context
        self.complain = complain
        self.in_clear = in_clear
        self.handshaking = 0
        """Connections that the protocol has not heard of: it cannot bound them."""
        self.handshakes_max = connections_max() // 4

    def __call__(self, inner: asyncio.Protocol) -> Secured:
        """The protocol of a new connection, which becomes `inner`'s when the handshake is through."""
        return Secured(self, inner)


class Secured(asyncio.Protocol):
    """One client's connection, from below."""

    def __init__(self, owner: ClientTls, inner: asyncio.Protocol) -> None:
        self._owner = owner
        self._inner = inner
        self._end = TlsEnd(owner.context)
        self._transport: asyncio.Transport | None = None
        self._above: _Above | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._refused = self._heard = False
        self._opening = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        self._owner.handshaking += 1
        if self._owner.handshaking > self._owner.handshakes_max:
            self._refused = True
            self._transport.abort()
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_S, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """Bytes of TLS: of the handshake, or what the client says in them."""
        transport = self._transport
        if transport is None or self._refused:
            return
        self._heard = True
        if self._above is None:
            self._opening = (self._opening + data)[:_OPENING_BYTES_MAX]
        try:
            clear = self._end.heard(data)
        except ssl.SSLError as error:
            self._refuse(error)
            return
        if pending := self._end.pending():
            transport.write(pending)
        if self._above is None and self._end.secured:
            self._begin(transport)
        if clear:
            self._inner.data_received(clear)
        if self._end.ended and self._above is not None and not self._above.is_closing():
            self._above.close()  # it said that it sends nothing more

    def _begin(self, transport: asyncio.Transport) -> None:
        assert self._timer is not None
        self._timer.cancel()
        self._owner.handshaking -= 1
        self._opening = b""
        self._above = _Above(transport, self._end, self._owner.context, self._inner)
        self._inner.connection_made(self._above)

    def _refuse(self, error: ssl.SSLError) -> None:
        """Tell the client, in clear if that is how it speaks or by TLS's own alert, and the log."""
        assert self._transport is not None
        self._refused = True
        self._complain(self._transport, why(error))
        alert = self._end.pending()
        if self._opening and self._opening[0] != _TLS_HANDSHAKE:
            alert = self._owner.in_clear(self._opening) or alert
        if alert:
            self._transport.write(alert)
        if self._above is not None:
            self._above.lost()  # nothing can be encrypted any more
        self._transport.close()

    def _complain(self, transport: asyncio.Transport, text: str) -> None:
        peer = transport.get_extra_info("peername")
        self._owner.complain(f"{peer[0] if peer else 'a client'}: {text}; connection closed")

    def _too_slow(self) -> None:
        if self._transport is not None:
            if self._heard:
                self._complain(self._transport, f"no handshake within {HANDSHAKE_S:.0f} s")
            self._refused = True
            self._transport.abort()

    def eof_received(self) -> bool | None:
        """The client sends nothing more."""
        return None if self._above is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        if self._above is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        if self._above is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self._transport is not None and self._above is None and self._heard and not self._refused:
            self._complain(self._transport, "it left within the handshake; does it believe our certificate?")
        if self._transport is not None and self._above is None:
            self._owner.handshaking -= 1
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._above is not None:
            self._above.lost()
            self._inner.connection_lost(exc)


class _Above(asyncio.Transport):
    """The same connection as the protocol sees it: in clear."""

    def __init__(
        self, below: asyncio.Transport, end: TlsEnd, context: ssl.SSLContext, protocol: asyncio.BaseProtocol
    ) -> None:
        super().__init__()
        self._below = below
        self._end = end
        self._context = context
        self._protocol = protocol
        self._closing = False

    def lost(self) -> None:
        """What is written from now on goes nowhere."""
        self._closing = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it, encrypted."""
        if data and not self._closing:
            self._below.write(self._end.said(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """The same of several, as one."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """TLS ends in both directions."""
        return False

    def close(self) -> None:
        """Say the end, and close when what was written has left."""
        if not self._closing:
            self._closing = True
            self._below.write(self._end.goodbye())
            self._below.close()

    def abort(self) -> None:
        """Close now."""
        self._closing = True
        self._below.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing or self._below.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the connection below knows of itself, and how it is secured."""
        if name == "cipher":
            return self._end.cipher()
        return self._context if name == "sslcontext" else self._below.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Nobody changes protocols here."""
        raise NotImplementedError("a secured connection keeps its protocol")

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who reads."""
        return self._protocol

    def pause_reading(self) -> None:
        """Take nothing more for now."""
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Go on."""
        self._below.resume_reading()

    def is_reading(self) -> bool:
        """Whether it does."""
        return self._below.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When to ask the protocol to pause."""
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes that have not left."""
        return self._below.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The limits set."""
        return self._below.get_write_buffer_limits()
