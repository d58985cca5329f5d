"""Frames on an internode connection: what is believed of bytes from outside, and how soon.

    connection = "SULLAE" version kind, then frames         the side that dialled says the first eight bytes
    frame      = length u32 (big-endian, 1 to the limit), then so many bytes of one message (core.messages)

Nothing is allocated for a length that was merely announced: a frame grows with the bytes that arrive, and a
length over the limit, or a first byte that no peer would send, ends the connection at once. Before its hello
is accepted a connection may send one frame, of at most `HELLO_BYTES_MAX`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from struct import Struct

from core import limits
from core.errors import ProtocolError

SMALL_KIND, BULK_KIND = 0, 1
PREAMBLE = b"SULLAE\x01"
PREAMBLE_BYTES = 8
HELLO_BYTES_MAX = 4 * limits.KIB
LENGTH = Struct(">I")
LENGTH_BYTES = LENGTH.size
LIMITS = (limits.SMALL_FRAME_BYTES_MAX, limits.FRAME_BYTES_MAX)
"""The longest frame on each kind of connection."""

_COPY_BYTES_MAX = 4 * limits.KIB
"""A body up to this is cheaper to copy than to view."""


def preamble(kind: int) -> bytes:
    """The first bytes on a connection of this kind."""
    return PREAMBLE + bytes((kind,))


def kind_of_preamble(data: bytes) -> int | None:
    """The kind of connection, None while bytes are missing; raises ProtocolError at the first wrong byte."""
    if data[:7] != PREAMBLE[: len(data)]:
        raise ProtocolError(f"this is the port for peers; it began with {bytes(data[:16])!r}")
    if len(data) < PREAMBLE_BYTES:
        return None
    if data[7] not in (SMALL_KIND, BULK_KIND):
        raise ProtocolError(f"there is no connection of kind {data[7]}")
    return data[7]


class FrameProtocol(asyncio.Protocol, ABC):
    """Cuts what arrives into frames, for `on_frame`; what cannot be a frame goes to `on_malformed`, once."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.frame_limit = HELLO_BYTES_MAX
        self.closed = False
        self._held = bytearray()
        self._need = LENGTH_BYTES

    @abstractmethod
    def on_frame(self, body: bytes | bytearray | memoryview) -> None:
        """The body of one frame; `body` is valid only during the call."""

    @abstractmethod
    def on_malformed(self, problem: str) -> None:
        """The other side sent what no peer sends; nothing after it is looked at."""

    def data_received(self, data: bytes | bytearray) -> None:
        """Bytes arrived: whole frames are given on, the rest is held until it is whole."""
        if self._held:
            self._held += data
            if len(self._held) < self._need:
                return
            data, self._held = self._held, bytearray()
        at, size = 0, len(data)
        self._need = LENGTH_BYTES
        while size - at >= LENGTH_BYTES and not self.closed:
            (length,) = LENGTH.unpack_from(data, at)
            if not 0 < length <= self.frame_limit:
                self.on_malformed(
                    f"a frame of {length} bytes is announced; 1 to {self.frame_limit} are allowed"
                )
                return
            end = at + LENGTH_BYTES + length
            if end > size:
                self._need = LENGTH_BYTES + length
                break
            if length <= _COPY_BYTES_MAX:
                self.on_frame(data[at + LENGTH_BYTES : end])
            else:
                self.on_frame(memoryview(data)[at + LENGTH_BYTES : end])
            at = end
        if at < size and not self.closed:
            self._held += memoryview(data)[at:]
