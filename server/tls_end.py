"""The listening end of TLS, by hand: bytes in, bytes out.

An event loop's own TLS is silent about handshakes that fail, to both sides, and keeps no count of those under
way. So this carries a connection's bytes itself: of peers (server/connections.py) and of clients
(server/client_tls.py).
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

_READ_BYTES = 1 << 18

_REASONS: Final = {
    "HTTP_REQUEST": "it speaks plain HTTP where TLS is spoken (https)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "UNEXPECTED_MESSAGE": "it does not speak TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not believe our certificate: another authority than its own signed it",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not believe our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not believe our certificate",
    "UNSUPPORTED_PROTOCOL": "it speaks TLS of a version that is too old",
}


def why(error: BaseException) -> str:
    """Why a handshake failed, in words, as the listening end sees it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {error.verify_message}"
    reason = getattr(error, "reason", None)
    return _REASONS.get(reason or "", f"no TLS as it is spoken here: {reason or error}")


class TlsEnd:
    """One connection; the caller carries the bytes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.secured = False
        """Whether the handshake is through."""
        self.ended = False
        """Whether the other side said that it sends nothing more."""

    def heard(self, data: bytes | bytearray) -> bytes:
        """What these bytes from the network say in clear; raises ssl.SSLError if they are no TLS of ours."""
        self._incoming.write(data)
        try:
            if not self.secured:
                self._object.do_handshake()
                self.secured = True
        except ssl.SSLWantReadError:
            return b""
        clear = []
        try:
            while chunk := self._object.read(_READ_BYTES):
                clear.append(chunk)
            self.ended = True
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLWantReadError:
            pass  # all that came is read
        return b"".join(clear)

    def said(self, data: bytes | bytearray | memoryview) -> bytes:
        """The bytes for the network that say `data`."""
        left = memoryview(data).cast("B")
        while left:
            left = left[self._object.write(left) :]
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        """The bytes for the network that say that nothing more comes."""
        with contextlib.suppress(ssl.SSLError):  # it would wait for the other side's goodbye; we do not
            self._object.unwrap()
        return self._outgoing.read()

    def pending(self) -> bytes:
        """Bytes for the network that belong to TLS itself: its handshake and its alerts."""
        return self._outgoing.read()

    def cipher(self) -> tuple[str, str, int] | None:
        """The cipher in use, the version of TLS and the bits of the key."""
        return self._object.cipher()

    def certificate(self) -> bytes:
        """The other side's certificate (DER), checked by the handshake."""
        return self._object.getpeercert(True) or b""
