"""The two ends of an internode connection: who dialled speaks, who was dialled listens; both say hello first.

Whatever does not belong where it comes (a message before the hello, a second hello, anything at all towards
who dialled, a frame that holds no message) ends this connection with one line in the log and touches nothing
else.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, cast

import msgspec

from core import limits
from core.bulk_messages import ApplyEach
from core.errors import ProtocolError
from core.messages import (
    Hello,
    Message,
    MutationsApplied,
    Refused,
    decode_message,
    encode_message,
)
from core.ports import PeerId
from server.frames import (
    LENGTH_BYTES,
    LIMITS,
    PREAMBLE_BYTES,
    SMALL_KIND,
    FrameProtocol,
    kind_of_preamble,
    preamble,
)
from server.tls_end import TlsEnd, why

if TYPE_CHECKING:
    from server.link import Link
    from server.transport import Transport

HANDSHAKE_S = 5.0
BACKOFF_REFUSED_S = 5.0
WRITE_BUFFER_BYTES = (512 * limits.KIB, 4 * limits.MIB)
LINGER_S = 2.0
"""How long a closed connection may still write what it had."""
UNACKNOWLEDGED_MS = 15_000
"""After so long without an acknowledgement from the other machine the kernel gives a connection up."""


class Connection(FrameProtocol):
    """What both ends of a connection do: count, wait for a hello, close on nonsense."""

    def __init__(self, owner: Transport, kind: int) -> None:
        super().__init__()
        self.owner = owner
        self.kind = kind
        self.accepted = False
        self._hello_timer: asyncio.TimerHandle | None = None

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """TCP (and TLS) is there: a hello must come soon."""
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES[self.kind])
        _tune(transport.get_extra_info("socket"))
        self._hello_timer = self.owner.loop.call_later(HANDSHAKE_S, self._too_slow)

    def remote(self) -> str:
        """Who is at the other end, for the log."""
        name = self.transport.get_extra_info("peername") if self.transport is not None else None
        return f"{name[0]}:{name[1]}" if name else "a peer that is gone"

    def write_message(self, message: Message) -> None:
        """Write one frame at once (hellos and refusals)."""
        assert self.transport is not None
        body = encode_message(message)
        self.transport.write(self.protected(len(body).to_bytes(LENGTH_BYTES, "big") + body))

    def protected(self, data: bytes) -> bytes:
        """What to write so that the other side hears `data`."""
        return data

    def certificate(self) -> bytes | None:
        """The other side's certificate (DER), None without TLS."""
        assert self.transport is not None
        tls = self.transport.get_extra_info("ssl_object")
        return None if tls is None else tls.getpeercert(True) or b""

    def decoded(self, body: bytes | bytearray | memoryview) -> Message | None:
        """The message in a frame, or None if it is none (then the connection is closed)."""
        try:
            return decode_message(body)  # type: ignore[arg-type]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.on_malformed(f"a frame holds no message: {error}")
            return None

    def established(self) -> None:
        """The hello is accepted: longer frames are too."""
        self.accepted = True
        self.frame_limit = LIMITS[self.kind]
        if self._hello_timer is not None:
            self._hello_timer.cancel()

    def _too_slow(self) -> None:
        if not self.accepted and not self.closed:
            self.owner.log("info", "no_hello", f"{self.remote()}: no hello in {HANDSHAKE_S:.0f} s; closed")
            self.close()

    def on_malformed(self, problem: str) -> None:
        """One line, and the end of this connection."""
        if not self.closed:
            self.owner.counters.malformed += 1
            self.owner.log("warning", "malformed_frame", f"{self.remote()}: {problem}; connection closed")
            self.close()

    def close(self) -> None:
        """End the connection once what was written has left; what arrives meanwhile is not looked at."""
        if not self.closed:
            self.closed = True
            if self._hello_timer is not None:
                self._hello_timer.cancel()
            if self.transport is not None:
                self.transport.close()
                if self.transport.get_write_buffer_size():
                    self.owner.loop.call_later(LINGER_S, self.transport.abort)

    def abort(self) -> None:
        """End the connection now; what was not written is lost."""
        self.close()
        if self.transport is not None:
            self.transport.abort()


class Outgoing(Connection):
    """A connection that we dialled: we speak, and hear nothing but the answer to our hello."""

    def __init__(self, owner: Transport, link: Link, kind: int) -> None:
        super().__init__(owner, kind)
        self.paused = False
        self._link = link
        self._pause_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self.opened(transport)
        assert self.transport is not None
        self.transport.write(preamble(self.kind))
        self.write_message(self.owner.hooks.hello())
        self._link.opened(self)

    def on_frame(self, body: bytes | bytearray | memoryview) -> None:
        """A hello or a refusal."""
        message = self.decoded(body)
        if message is None:
            return
        assert self.transport is not None
        if isinstance(message, Refused):
            self._refused(message)
        elif not isinstance(message, Hello) or self.accepted:
            self.on_malformed(f"a {type(message).__name__} came where only a hello or a refusal may")
        else:
            refused = self.owner.judge(message, self.certificate(), self._link.expected)
            if refused is None:
                self.established()
                self._link.accepted(self, message)
            else:
                self._pause_s = BACKOFF_REFUSED_S
                self.write_message(refused)
                self.owner.refusing(self.remote(), message, refused)
                self.close()

    def _refused(self, refused: Refused) -> None:
        self._pause_s = BACKOFF_REFUSED_S
        self.owner.counters.refused += 1
        self.close()
        self.owner.hooks.on_refused(self._link.address, refused)

    def pause_writing(self) -> None:
        """The buffer before the kernel is full: what comes next waits in its lane."""
        self.paused = True

    def resume_writing(self) -> None:
        """There is room again."""
        self.paused = False
        self._link.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The link decides when to dial again."""
        self.closed = True
        self.accepted = False
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self._link.gone(self, self._pause_s)


class Incoming(Connection):
    """A connection that somebody dialled to us: they speak, and hear nothing but our hello or a refusal."""

    def __init__(self, owner: Transport) -> None:
        super().__init__(owner, SMALL_KIND)
        self.peer: PeerId | None = None
        self._preamble: bytes | None = b""
        self._tls = TlsEnd(owner.options.tls[0]) if owner.options.tls else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A stranger, until it has said hello."""
        self.opened(transport)
        self.owner.stranger(self)

    def protected(self, data: bytes) -> bytes:
        """Encrypted if there is TLS."""
        return data if self._tls is None else self._tls.said(data)

    def certificate(self) -> bytes | None:
        """The other side's certificate."""
        return None if self._tls is None else self._tls.certificate()

    def data_received(self, data: bytes | bytearray) -> None:
        """The preamble first, then frames."""
        self.owner.counters.bytes_received += len(data)
        if self._tls is not None:
            data = self._deciphered(self._tls, data)
        if self._preamble is not None:
            self._preamble += data
            try:
                kind = kind_of_preamble(self._preamble)
            except ProtocolError as error:
                self.on_malformed(str(error))
                return
            if kind is None:
                return
            self.kind = kind
            data, self._preamble = self._preamble[PREAMBLE_BYTES:], None
        if not self.closed:
            super().data_received(data)

    def _deciphered(self, tls: TlsEnd, data: bytes | bytearray) -> bytes:
        assert self.transport is not None
        try:
            clear = tls.heard(data)
        except ssl.SSLError as error:
            self.transport.write(tls.pending())
            if not self.closed:
                text = f"{self.remote()}: not TLS as this cluster's peers speak it: {why(error)}"
                self.owner.counters.malformed += 1
                self.owner.log("warning", "tls_refused", f"{text}; connection closed")
                self.close()
            return b""
        pending = tls.pending()
        if pending:
            self.transport.write(pending)
        return clear

    def on_frame(self, body: bytes | bytearray | memoryview) -> None:
        """The hot path in: a message for the node; before it, once, a hello."""
        message = self.decoded(body)
        if message is None:
            return
        kind = type(message)
        if self.accepted and kind is not Hello and kind is not Refused:
            owner, peer = self.owner, self.peer
            assert peer is not None
            try:
                if kind is MutationsApplied:
                    owner.counters.received += len(message.ops)  # type: ignore[union-attr]
                elif kind is ApplyEach:
                    owner.counters.received += len(message.applies)  # type: ignore[union-attr]
                else:
                    owner.counters.received += 1
                owner.hooks.on_message(peer, message)
            except (ProtocolError, msgspec.DecodeError, UnicodeDecodeError) as error:
                self.on_malformed(f"a {type(message).__name__} that makes no sense: {error}")
        else:
            self._greeted(message)

    def _greeted(self, message: Message) -> None:
        if isinstance(message, Refused):
            text = f"{self.remote()} dialled us and refuses us: {message.reason}"
            self.owner.log("warning", "refused_by_peer", text)
            self.close()
            return
        if self.accepted or not isinstance(message, Hello):
            self.on_malformed(f"a {type(message).__name__} came where it may not")
            return
        refused = self.owner.judge(message, self.certificate(), None)
        if refused is not None:
            self.owner.refusing(self.remote(), message, refused)
            self.write_message(refused)
            self.close()
            return
        self.peer = message.peer
        self.write_message(self.owner.hooks.hello())
        self.established()
        self.owner.heard(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer will dial again if it lives."""
        self.closed = True
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self.owner.incoming_gone(self)

    def close(self) -> None:
        """End it, and be no stranger any more."""
        super().close()
        self.owner.incoming_gone(self)


def _tune(sock: socket.socket | None) -> None:
    """Have the kernel notice a machine that vanished; uvloop has set TCP_NODELAY."""
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
