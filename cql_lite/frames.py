"""Frames of the CQL native protocol, versions 3 to 5, without I/O: bytes in, envelopes out, and back.

    envelope   = version u8, flags u8, stream i16, opcode u8, length i32, body      (big-endian)
    segment    = header, crc24 of the header, payload, crc32 of the payload         (little-endian)
    header     = length 17 bits, self-contained 1 bit                               in 3 bytes
    header LZ4 = compressed length 17 bits, length 17 bits, self-contained 1 bit    in 5 bytes

Versions 3 and 4 send envelopes; a body may be compressed, as its flag says: four bytes of length
(big-endian) and an LZ4 block. Version 5 does the same until STARTUP is answered, then puts envelopes into
segments: a self-contained one holds whole envelopes, a longer envelope spans several of the other kind. A
payload with length 0 in the second field of an LZ4 header is not compressed.

Nothing is allocated for a length that was merely announced, and every length is bounded before it is
believed. What cannot be a frame raises MalformedError, which knows the stream to answer on; the reader is
then dead. A request that is only too long raises OversizedError as soon as its length is known, and the
reader goes on behind it: a driver whose connection ends takes the peer for dead, and asks the next one the
same.

Source: native_protocol_v3.spec, native_protocol_v4.spec and native_protocol_v5.spec, sections 1 and 2.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple, NoReturn

import lz4.block

from core.errors import ProtocolError
from core.limits import CQL_DROPPED_BYTES_MAX, CQL_ENVELOPE_BYTES_MAX

VERSIONS = (3, 4, 5)
VERSION_MAX = VERSIONS[-1]
OTHER_VERSIONS = (1, 2, 6, 65, 66)
"""Older and newer ones, and those of DataStax's server, which its driver tries first."""
RESPONSE = 0x80

COMPRESSED = 0x01
TRACING = 0x02
CUSTOM_PAYLOAD = 0x04
WARNING = 0x08
USE_BETA = 0x10
"""Flags of an envelope."""

HEADER_BYTES = 9
SEGMENT_BYTES_MAX = 2**17 - 1
ENVELOPE_COMPRESS_BYTES_MIN = 512
"""Bodies in versions 3 and 4 shorter than this are not worth a block."""

LZ4_RATIO_MAX = 255
"""A byte of an LZ4 block stands for at most this many."""

_header = Struct(">BBhBi")
_u32_le = Struct("<I")
_u32_be = Struct(">I")
_CRC24_POLYNOMIAL = 0x1974F0B
_CRC24_START = 0x875060
_CRC32_START = zlib.crc32(b"\xfa\x2d\x55\xca")
_LENGTH_MASK = SEGMENT_BYTES_MAX


class MalformedError(ProtocolError):
    """Bytes that are no message of the protocol.

    `stream` is where the client waits for an answer (0 if unknown). If `fatal`, what follows cannot be read.
    """

    def __init__(self, problem: str, *, stream: int = 0, fatal: bool = True) -> None:
        super().__init__(problem)
        self.stream = stream
        self.fatal = fatal


class OtherVersionError(MalformedError):
    """A message of a version of the protocol that is not spoken here: its client tries another one next."""


class OversizedError(MalformedError):
    """A request that is too long; it is not kept, and what follows is read."""


class Envelope(NamedTuple):
    """One message; `version` without the direction bit, `body` decompressed."""

    version: int
    flags: int
    stream: int
    opcode: int
    body: bytes


def _crc24_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 16
        for _ in range(8):
            crc = crc << 1 ^ (_CRC24_POLYNOMIAL if crc & 0x800000 else 0)
        table.append(crc & 0xFFFFFF)
    return table


_CRC24 = _crc24_table()


@functools.lru_cache(maxsize=4096)
def crc24(header: int, width: int) -> int:
    """The checksum of a segment's header of `width` bytes (cached: most segments have a common length)."""
    crc = _CRC24_START
    for byte in header.to_bytes(width, "little"):
        crc = crc << 8 & 0xFFFFFF ^ _CRC24[crc >> 16 ^ byte]
    return crc


class FrameReader:
    """Cuts what arrives into envelopes.

    `feed` takes bytes, `next` gives the envelopes one by one, so that the reader of STARTUP can call
    `begin_segments` before the bytes after it are looked at.
    """

    def __init__(self, *, responses: bool = False, limit: int = CQL_ENVELOPE_BYTES_MAX) -> None:
        self._responses = responses
        self._limit = limit
        self._outer = _Bytes()
        self._inner = _Bytes()
        self._source = self._outer
        self._compressed = False
        self._dropping = 0
        """Bytes still to come of a request that was too long."""
        self._dead = False

    def begin_segments(self, compressed: bool) -> None:
        """From here on what arrives is segments (version 5)."""
        assert self._source is self._outer, "segments begin once"
        self._source = self._inner
        self._compressed = compressed

    def feed(self, data: bytes) -> None:
        """Takes bytes as they arrived."""
        self._outer.add(data)

    def receive(self, data: bytes) -> list[Envelope]:
        """`feed`, and all envelopes that are complete; raises MalformedError."""
        self.feed(data)
        found = []
        while (envelope := self.next()) is not None:
            found.append(envelope)
        return found

    def next(self) -> Envelope | None:
        """The next envelope, None while bytes are missing; raises MalformedError."""
        assert not self._dead, "nothing is read after a malformed frame"
        try:
            envelope = self._envelope()
            while envelope is None and self._source is self._inner and self._segment():
                envelope = self._envelope()
        except MalformedError as problem:
            self._dead = problem.fatal
            raise
        return envelope

    def _envelope(self) -> Envelope | None:
        source = self._source
        if self._dropping:
            self._drop()
        available = len(source.data) - source.at
        if available == 0:
            return None
        first = source.data[source.at]
        if first & 0x7F not in VERSIONS or bool(first & RESPONSE) is not self._responses:
            self._wrong_version(first, available)
            return None
        if available < HEADER_BYTES:
            return None
        version, flags, stream, opcode, length = _header.unpack_from(source.data, source.at)
        if not 0 <= length <= self._limit:
            self._too_long(length, stream)
        if available < HEADER_BYTES + length:
            return None
        source.at += HEADER_BYTES
        body = source.take(length)
        version &= 0x7F
        if flags & COMPRESSED and version < 5:
            body = self._decompressed(body, stream)
        return Envelope(version, flags, stream, opcode, body)

    def _too_long(self, length: int, stream: int) -> NoReturn:
        if self._responses or not 0 <= length <= CQL_DROPPED_BYTES_MAX:
            raise MalformedError(self._over(length), stream=stream)
        self._dropping = HEADER_BYTES + length
        self._drop()
        raise OversizedError(self._over(length), stream=stream, fatal=False)

    def _over(self, length: int) -> str:
        return f"a message of {length} bytes is over the limit of {self._limit} bytes"

    def _drop(self) -> None:
        source = self._source
        dropped = min(self._dropping, len(source.data) - source.at)
        source.at += dropped
        self._dropping -= dropped

    def _wrong_version(self, first: int, available: int) -> None:
        """Once the stream is known, raises the error that drivers look for when they try lower versions."""
        version = first & 0x7F
        header_bytes = HEADER_BYTES if version > 2 else 8
        if available < header_bytes:
            return
        if version in VERSIONS:
            raise MalformedError("a message that goes the other way")
        at = self._source.at
        # Versions 1 and 2 had one byte for the stream.
        stream = _header.unpack_from(self._source.data, at)[2] if version > 2 else self._source.data[at + 2]
        supported = ", ".join(f"{known}/v{known}" for known in VERSIONS)
        raised = OtherVersionError if version in OTHER_VERSIONS else MalformedError
        raise raised(
            f"Invalid or unsupported protocol version ({version}); supported versions are ({supported})",
            stream=max(stream, 0),
        )

    def _decompressed(self, body: bytes, stream: int) -> bytes:
        if len(body) < 4:
            raise MalformedError("a compressed message without its length", stream=stream)
        length = _u32_be.unpack_from(body)[0]
        if self._limit < length <= (len(body) - 4) * LZ4_RATIO_MAX and not self._responses:
            raise OversizedError(self._over(length), stream=stream, fatal=False)
        return self._block(body[4:], length, self._limit, stream)

    def _block(self, block: bytes, length: int, limit: int, stream: int) -> bytes:
        if length == 0:
            return b""
        if length > limit or length > len(block) * LZ4_RATIO_MAX:
            raise MalformedError(f"a compressed message claims {length} bytes", stream=stream)
        try:
            data: bytes = lz4.block.decompress(block, uncompressed_size=length)
        except (lz4.block.LZ4BlockError, ValueError) as problem:
            raise MalformedError(f"a damaged LZ4 block: {problem}", stream=stream) from None
        if len(data) != length:
            raise MalformedError(f"an LZ4 block has {len(data)} bytes, not {length}", stream=stream)
        return data

    def _segment(self) -> bool:
        """Moves the payload of the next segment to the inner bytes; whether there was one."""
        outer = self._outer
        width = 5 if self._compressed else 3
        available = len(outer.data) - outer.at
        if available < width + 3:
            return False
        start = outer.at
        header = int.from_bytes(outer.data[start : start + width], "little")
        if crc24(header, width) != int.from_bytes(outer.data[start + width : start + width + 3], "little"):
            raise MalformedError("a frame's header does not match its checksum")
        length = header & _LENGTH_MASK
        if available < width + 3 + length + 4:
            return False
        outer.at += width + 3
        payload = outer.take(length)
        if zlib.crc32(payload, _CRC32_START) != int.from_bytes(outer.take(4), "little"):
            raise MalformedError("a frame's payload does not match its checksum")
        plain_length = header >> 17 & _LENGTH_MASK if self._compressed else 0
        if plain_length:
            payload = self._block(payload, plain_length, SEGMENT_BYTES_MAX, 0)
        self._put(payload, bool(header >> (34 if self._compressed else 17) & 1))
        return True

    def _put(self, payload: bytes, self_contained: bool) -> None:
        inner = self._inner
        if self_contained and (self._dropping or inner.at != len(inner.data)):
            raise MalformedError("a self-contained frame within a message that spans several")
        inner.add(payload)


class _Bytes:
    """Bytes not yet read: what just arrived is read in place, only a rest is copied."""

    __slots__ = ("at", "data")

    def __init__(self) -> None:
        self.data: bytes | bytearray = b""
        self.at = 0

    def add(self, data: bytes) -> None:
        if self.at == len(self.data):
            self.data = data
        elif isinstance(self.data, bytearray):
            del self.data[: self.at]
            self.data += data
        else:
            rest = bytearray(memoryview(self.data)[self.at :])
            rest += data
            self.data = rest
        self.at = 0

    def take(self, length: int) -> bytes:
        start = self.at
        self.at = start + length
        return bytes(self.data[start : self.at])


class FrameWriter:
    """Turns messages into bytes in the way the connection has agreed on."""

    def __init__(self, *, responses: bool = True) -> None:
        self._direction = RESPONSE if responses else 0
        self._compressed = False
        self._segments = False

    def begin_compression(self) -> None:
        """From here on bodies may be compressed (versions 3 and 4)."""
        self._compressed = True

    def begin_segments(self, compressed: bool) -> None:
        """From here on envelopes leave in segments (version 5)."""
        self._segments = True
        self._compressed = compressed

    def envelope(self, version: int, flags: int, stream: int, opcode: int, *, body: bytes) -> bytes:
        """One message as an envelope."""
        if self._compressed and not self._segments and len(body) >= ENVELOPE_COMPRESS_BYTES_MIN:
            block = lz4.block.compress(body, store_size=False)
            if len(block) + 4 < len(body):
                body = _u32_be.pack(len(body)) + block
                flags |= COMPRESSED
        return _header.pack(version | self._direction, flags, stream, opcode, len(body)) + body

    def wrap(self, envelopes: Sequence[bytes]) -> bytes:
        """All these envelopes as they leave, in as few segments as they fit."""
        if not self._segments:
            return b"".join(envelopes)
        segments: list[bytes] = []
        held: list[bytes] = []
        held_bytes = 0
        for envelope in envelopes:
            if held and held_bytes + len(envelope) > SEGMENT_BYTES_MAX:
                segments.append(self._segment(b"".join(held), 1))
                held, held_bytes = [], 0
            if len(envelope) > SEGMENT_BYTES_MAX:
                starts = range(0, len(envelope), SEGMENT_BYTES_MAX)
                segments += [self._segment(envelope[at : at + SEGMENT_BYTES_MAX], 0) for at in starts]
            else:
                held.append(envelope)
                held_bytes += len(envelope)
        if held:
            segments.append(self._segment(b"".join(held), 1))
        return b"".join(segments)

    def send(self, version: int, flags: int, stream: int, opcode: int, *, body: bytes) -> bytes:
        """One message as it leaves."""
        return self.wrap([self.envelope(version, flags, stream, opcode, body=body)])

    def _segment(self, payload: bytes, self_contained: int) -> bytes:
        width = 3
        header = len(payload) | self_contained << 17
        if self._compressed:
            width = 5
            block = lz4.block.compress(payload, store_size=False)
            plain_length = len(payload)
            # A block that does not shrink is sent all the same where it fits: cassandra-driver takes the
            # header of an uncompressed payload for two bytes shorter, and may read a segment too early.
            if len(block) > SEGMENT_BYTES_MAX:
                block, plain_length = payload, 0
            payload = block
            header = len(payload) | plain_length << 17 | self_contained << 34
        head = header.to_bytes(width, "little") + crc24(header, width).to_bytes(3, "little")
        return head + payload + _u32_le.pack(zlib.crc32(payload, _CRC32_START))
