"""The listening end of TLS, by hand: bytes in, bytes out.

An event loop's own TLS is silent about handshakes that fail and keeps no count of those under way. A peer
that is dialled hears much and says one hello, so this is all it takes to have both.
"""

from __future__ import annotations

import ssl

_READ_BYTES = 1 << 18


class TlsEnd:
    """One connection; the caller carries the bytes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._secured = False

    def heard(self, data: bytes | bytearray) -> bytes:
        """What these bytes from the network say in clear; raises ssl.SSLError if they are no TLS of ours."""
        self._incoming.write(data)
        try:
            if not self._secured:
                self._object.do_handshake()
                self._secured = True
        except ssl.SSLWantReadError:
            return b""
        clear = []
        try:
            while chunk := self._object.read(_READ_BYTES):
                clear.append(chunk)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # all that came is read
        return b"".join(clear)

    def said(self, data: bytes) -> bytes:
        """The bytes for the network that say `data`."""
        self._object.write(data)
        return self._outgoing.read()

    def pending(self) -> bytes:
        """Bytes for the network that belong to TLS itself: its handshake and its alerts."""
        return self._outgoing.read()

    def certificate(self) -> bytes:
        """The other side's certificate (DER), checked by the handshake."""
        return self._object.getpeercert(True) or b""
